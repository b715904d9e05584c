//! The only file that names where atomics come from.

#[cfg(failfast_loom)]
mod model;

#[cfg(failfast_loom)]
#[allow(unreachable_pub, reason = "the models ask for faults")]
pub use model::{AtomicU64, Fault};
/// For counts that nothing hangs on: loom need not see them.
pub(crate) use portable_atomic::AtomicU32;
#[cfg(not(failfast_loom))]
pub(crate) use portable_atomic::AtomicU64;

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
