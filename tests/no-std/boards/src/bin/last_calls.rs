//! Calls through a breaker over the last 20 calls.

#![no_std]
#![no_main]

static BREAKER: boards::size::LastCallsBreaker = boards::size::last_calls();

boards::size_program!(|read: fn() -> Result<u32, u32>| BREAKER.call(read));
