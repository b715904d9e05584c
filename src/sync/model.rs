//! The atomics of a scheduler that explores interleavings, with faults that a model can ask for to show that it can fail.
//!
//! Loom's follow the orderings that they are given. Shuttle's ignore them and are sequentially consistent: it explores
//! schedules only, of more threads and steps than loom can.

use core::cell::Cell;

#[cfg(failfast_loom)]
use loom::{sync::atomic, thread_local};
#[cfg(not(failfast_loom))]
use shuttle::{sync::atomic, thread_local};

use super::{Ordering, const_fn};

std::thread_local! {
    static FAULT: Cell<Fault> = const { Cell::new(Fault::None) };
}

thread_local! {
    static NUMBER: Cell<usize> = Cell::new(0);
}

/// Which stripe this thread of a model counts in, if it says so: schedulers run all threads on one of the system's.
#[doc(hidden)]
pub fn number_thread(number: usize) {
    NUMBER.with(|own| own.set(number));
}

pub(crate) fn thread_number() -> usize {
    NUMBER.with(Cell::get)
}

/// What is wrong with every atomic of the crate. All threads of a model run on the thread that asked for it.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// A compare-and-swap compares, and then swaps.
    SplitCas,
    /// A compare-and-swap does not compare.
    BlindCas,
    /// A compare-and-swap does not compare the upper 20 bits, where all words but the gate keep their generation.
    UntaggedCas,
    /// Nothing is ordered.
    Relaxed,
}

/// What lies below a word's generation.
const UNTAGGED: u64 = u64::MAX >> 20;

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

    /// What becomes of an ordering.
    fn order(order: Ordering) -> Ordering {
        if Self::current() == Self::Relaxed { Ordering::Relaxed } else { order }
    }
}

#[doc(hidden)]
#[derive(Debug)]
pub struct AtomicU64(atomic::AtomicU64);

impl AtomicU64 {
    const_fn! {
        pub(crate) fn new(value: u64) -> Self {
            Self(atomic::AtomicU64::new(value))
        }
    }

    pub(crate) fn load(&self, order: Ordering) -> u64 {
        self.0.load(Fault::order(order))
    }

    pub(crate) fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, Fault::order(order));
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
            Fault::Relaxed => self.0.compare_exchange(current, new, Ordering::Relaxed, Ordering::Relaxed),
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
            Fault::UntaggedCas => {
                let mut expected = current;
                loop {
                    match self.0.compare_exchange(expected, new, success, failure) {
                        Err(found) if (found ^ current) & UNTAGGED == 0 => expected = found,
                        result => return result.map(|_| current),
                    }
                }
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
        self.0.fetch_add(value, Fault::order(order))
    }

    pub(crate) fn fetch_max(&self, value: u64, order: Ordering) -> u64 {
        self.0.fetch_max(value, Fault::order(order))
    }
}
