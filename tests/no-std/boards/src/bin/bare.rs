//! Calls without a breaker: what the others are compared with.

#![no_std]
#![no_main]

boards::size_program!(|read: fn() -> Result<u32, u32>| read());
