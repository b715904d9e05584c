//! Any bytes as a file of settings: it is refused, or builds and is written as it was read.

#![no_main]

#[path = "../../tests/settings/any.rs"]
mod any;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    any::run(bytes);
});
