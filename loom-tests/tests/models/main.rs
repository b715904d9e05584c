//! The models, in one binary so that long ones run beside each other.
#![cfg(any(failfast_loom, failfast_shuttle))]

mod consecutive;
mod count_window;
mod gate;
mod observer;
mod time_window;

/// More threads, and windows as large as in service.
#[cfg(failfast_shuttle)]
mod many;
