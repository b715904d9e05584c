//! The breaker against a sequential model of its contract: `plot` reads a configuration and its steps from bytes,
//! `contract` is the model, and `run` lets both take the steps and compares everything that can be seen.

// The fuzz target is another crate that has this module.
#![allow(unreachable_pub)]

pub mod contract;
pub mod plot;
pub mod run;
