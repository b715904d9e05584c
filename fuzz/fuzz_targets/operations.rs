//! Any bytes as a configuration and its steps: breaker and model must agree.

#![no_main]

#[path = "../../tests/model/mod.rs"]
mod model;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    model::run::run(&model::plot::Plot::read(bytes));
});
