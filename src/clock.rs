//! Where the time comes from.

mod default;
mod manual;

#[cfg(all(feature = "std", not(failfast_loom)))]
mod coarse;

#[cfg(all(feature = "std", not(failfast_loom)))]
pub use coarse::{CoarseClock, Upkeep};
pub use default::DefaultClock;
pub use manual::ManualClock;

use crate::time::Timestamp;

/// Tells the time: nanoseconds since an origin of its own.
///
/// A breaker reads its clock only where the answer needs it: not to ask a closed breaker, and not for a streak or a
/// window of calls without a slow-call limit; once a call for a time window; twice with a slow-call limit.
///
/// Any origin will do, also one long ago (Unix time, say): a breaker knows times modulo 34 years, so only one that has
/// not been called for 17 years can mistake a time that is over for one to come.
///
/// `&C` and `Arc<C>` (feature `alloc`) are clocks.
///
/// ```
/// use failfast::{CircuitBreaker, Clock, State, Timestamp};
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
///
/// /// Counts a timer's ticks of 1 ms, as an interrupt handler would.
/// struct Ticks(AtomicU64);
///
/// impl Clock for Ticks {
///     fn now(&self) -> Timestamp {
///         Timestamp::from_nanos(self.0.load(Relaxed) * 1_000_000)
///     }
/// }
///
/// let ticks = Ticks(AtomicU64::new(0));
/// let breaker = CircuitBreaker::builder().failures(1).clock(&ticks).build()?;
/// breaker.try_acquire()?.failure();
/// ticks.0.store(30_000, Relaxed);
/// assert_eq!(breaker.state(), State::HalfOpen);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a clock",
    note = "without the feature `std` there is no default clock: name your own in `CircuitBreaker<P, MyClock>`"
)]
pub trait Clock: Send + Sync {
    /// Whether the clock never steps back. Where it might (the default), each breaker keeps the latest time that it
    /// has seen, and a step back reads as no time passed until the clock has caught up.
    const MONOTONIC: bool = false;

    /// The time now.
    fn now(&self) -> Timestamp;
}

impl<C: Clock + ?Sized> Clock for &C {
    const MONOTONIC: bool = C::MONOTONIC;

    #[inline]
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}

#[cfg(feature = "alloc")]
impl<C: Clock + ?Sized> Clock for alloc::sync::Arc<C> {
    const MONOTONIC: bool = C::MONOTONIC;

    #[inline]
    fn now(&self) -> Timestamp {
        (**self).now()
    }
}
