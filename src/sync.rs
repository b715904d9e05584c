//! The only file that names where atomics, and the numbers of threads, come from.

#[cfg(any(failfast_loom, failfast_shuttle))]
mod model;

#[cfg(any(failfast_loom, failfast_shuttle))]
pub(crate) use model::thread_number;
#[cfg(any(failfast_loom, failfast_shuttle))]
#[allow(unreachable_pub, reason = "the models ask for faults")]
pub use model::{AtomicU64, Fault, number_thread};
#[cfg(not(any(failfast_loom, failfast_shuttle)))]
pub(crate) use portable_atomic::AtomicU64;
/// For counts that nothing hangs on, and numbers that each stand alone: the models need not see them.
pub(crate) use portable_atomic::{AtomicU16, AtomicU32, AtomicU64 as AtomicNumber};

pub(crate) use core::sync::atomic::Ordering;

/// Whether the 64-bit atomics that a breaker is made of are lock-free on this target.
///
/// `true` wherever the processor has them (x86-64, AArch64, most 32-bit application cores). Where it has not,
/// [portable-atomic](https://docs.rs/portable-atomic) stands in: with `portable_atomic_unsafe_assume_single_core` it
/// masks interrupts for a few instructions, which nothing can wait for, so this is `true` too; otherwise it is `false`,
/// and what it does depends on its options. See [what to set](crate::docs::embedded).
///
/// ```
/// # #[cfg(target_arch = "x86_64")]
/// assert!(failfast::LOCK_FREE);
/// ```
pub const LOCK_FREE: bool = portable_atomic::AtomicU64::is_always_lock_free();

/// Declares a function that is `const`, except under loom, whose atomics cannot be made at compile time.
macro_rules! const_fn {
    ($(#[$attribute:meta])* $visibility:vis fn $($rest:tt)*) => {
        #[cfg(not(failfast_loom))]
        $(#[$attribute])*
        $visibility const fn $($rest)*

        #[cfg(failfast_loom)]
        $(#[$attribute])*
        $visibility fn $($rest)*
    };
}
pub(crate) use const_fn;

/// Threads are numbered as they come.
#[cfg(all(feature = "std", not(any(failfast_loom, failfast_shuttle))))]
#[inline]
pub(crate) fn thread_number() -> usize {
    static THREADS: AtomicU64 = AtomicU64::new(0);
    std::thread_local! {
        static NUMBER: core::cell::Cell<u64> = const { core::cell::Cell::new(u64::MAX) };
    }
    // A thread that is being torn down has lost its number; any will do.
    let number = NUMBER.try_with(|number| {
        if number.get() == u64::MAX {
            // ORDERING: Relaxed, only that numbers differ.
            number.set(THREADS.fetch_add(1, Ordering::Relaxed));
        }
        number.get()
    });
    number.unwrap_or(0) as usize
}

/// Without threads to tell apart, there is one.
#[cfg(not(any(feature = "std", failfast_loom, failfast_shuttle)))]
#[inline]
pub(crate) fn thread_number() -> usize {
    0
}
