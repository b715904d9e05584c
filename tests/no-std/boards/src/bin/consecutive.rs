//! Calls through a breaker over failures in a row.

#![no_std]
#![no_main]

static BREAKER: boards::size::ConsecutiveBreaker = boards::size::consecutive();

boards::size_program!(|read: fn() -> Result<u32, u32>| BREAKER.call(read));
