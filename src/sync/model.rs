//! Loom's atomics, with faults that a model can ask for to show that it can fail.

use core::cell::Cell;

use super::Ordering;

std::thread_local! {
    static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
}

/// What is wrong with every atomic of the crate. Loom runs all threads of a model on the thread that asked for it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// A compare-and-swap compares, and then swaps.
    SplitCas,
    /// A compare-and-swap does not compare.
    BlindCas,
}

impl Fault {
    pub fn with<R>(self, f: impl FnOnce() -> R) -> R {
        FAULT.set(self);
        let result = f();
        FAULT.set(Fault::None);
        result
    }

    fn current() -> Self {
        FAULT.get()
    }
}

#[doc(hidden)]
#[derive(Debug)]
pub struct AtomicU64(loom::sync::atomic::AtomicU64);

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        Self(loom::sync::atomic::AtomicU64::new(value))
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    pub(crate) fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, order);
    }

    pub(crate) fn compare_exchange(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        match Fault::current() {
            Fault::None => self.0.compare_exchange(current, new, success, failure),
            Fault::SplitCas => {
                let found = self.0.load(Ordering::Acquire);
                if found != current {
                    return Err(found);
                }
                self.0.store(new, Ordering::Release);
                Ok(found)
            }
            Fault::BlindCas => {
                self.0.swap(new, Ordering::AcqRel);
                Ok(current)
            }
        }
    }

    pub(crate) fn compare_exchange_weak(
        &self,
        current: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.compare_exchange(current, new, success, failure)
    }

    pub(crate) fn fetch_update(
        &self,
        success: Ordering,
        failure: Ordering,
        mut f: impl FnMut(u64) -> Option<u64>,
    ) -> Result<u64, u64> {
        let mut old = self.load(failure);
        while let Some(new) = f(old) {
            match self.compare_exchange(old, new, success, failure) {
                Ok(old) => return Ok(old),
                Err(current) => old = current,
            }
        }
        Err(old)
    }

    pub(crate) fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_add(value, order)
    }

    pub(crate) fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_max(value, order)
    }
}
