//! What the programs for the boards share.

#![no_std]

pub mod machine;
pub mod size;
