//! A permit while somebody else's code runs.

use core::mem;
use core::ops::Deref;

use crate::permit::{Breaker, Permit};

/// Dropped, it has been unwound, and the call has failed. It leaves the permit where it is: moving it costs more than all
/// that a closed breaker does.
pub(super) struct Unwinding<'a, H>(&'a mut Option<Permit<H>>)
where
    H: Deref,
    H::Target: Breaker;

impl<'a, H> Unwinding<'a, H>
where
    H: Deref,
    H::Target: Breaker,
{
    #[inline]
    pub(super) fn new(permit: &'a mut Option<Permit<H>>) -> Self {
        Self(permit)
    }

    /// It has returned.
    #[inline]
    pub(super) fn over(self) {
        mem::forget(self);
    }
}

impl<H> Drop for Unwinding<'_, H>
where
    H: Deref,
    H::Target: Breaker,
{
    #[cold]
    fn drop(&mut self) {
        if let Some(permit) = self.0.take() {
            permit.failure();
        }
    }
}
