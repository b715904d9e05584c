//! Packed words and their transitions. Time is an argument here: no clock, no allocation.

pub(crate) mod bits;
pub(crate) mod gate;
pub(crate) mod published;
