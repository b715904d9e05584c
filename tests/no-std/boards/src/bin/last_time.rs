//! Calls through a breaker over the last 10 s in 10 buckets.

#![no_std]
#![no_main]

static BREAKER: boards::size::LastTimeBreaker = boards::size::last_time();

boards::size_program!(|read: fn() -> Result<u32, u32>| BREAKER.call(read));
