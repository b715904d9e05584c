//! A permit while somebody else's code runs.

use core::ops::Deref;

use crate::permit::{Breaker, Permit};

/// Dropped, it has been unwound, and the call has failed.
pub(super) struct Unwinding<H>(Option<Permit<H>>)
where
    H: Deref,
    H::Target: Breaker;

impl<H> Unwinding<H>
where
    H: Deref,
    H::Target: Breaker,
{
    pub(super) fn new(permit: Permit<H>) -> Self {
        Self(Some(permit))
    }

    /// It has returned.
    pub(super) fn over(mut self) -> Permit<H> {
        self.0.take().expect("taken once")
    }
}

impl<H> Drop for Unwinding<H>
where
    H: Deref,
    H::Target: Breaker,
{
    fn drop(&mut self) {
        if let Some(permit) = self.0.take() {
            permit.failure();
        }
    }
}
