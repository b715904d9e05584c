use core::time::Duration;

use super::Clock;
use crate::sync::{AtomicU64, Ordering, const_fn};
use crate::time::{Timestamp, saturating_nanos};

/// A clock that stands still until it is told to move: time in tests is the test's own.
///
/// It can be a `static`, can be shared by reference, and can step back.
///
/// ```
/// use failfast::{CircuitBreaker, Clock, ManualClock, State};
/// use std::time::Duration;
///
/// static CLOCK: ManualClock = ManualClock::new();
///
/// let breaker = CircuitBreaker::builder().failures(1).clock(&CLOCK).build()?;
/// breaker.try_acquire()?.failure();
/// CLOCK.advance(Duration::from_secs(29));
/// assert_eq!(breaker.state(), State::Open);
/// CLOCK.advance(Duration::from_secs(1));
/// assert_eq!(breaker.state(), State::HalfOpen);
///
/// CLOCK.step_back(Duration::from_secs(10));
/// assert_eq!(CLOCK.now().as_nanos(), 20_000_000_000);
/// assert_eq!(breaker.state(), State::HalfOpen); // no time passed
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ManualClock(
    /// Nanoseconds, signed.
    AtomicU64,
);

impl ManualClock {
    const_fn! {
        /// A clock that stands at its origin.
        #[must_use]
        pub fn new() -> Self {
            Self(AtomicU64::new(0))
        }
    }

    /// Moves it forward. It stops after 292 years.
    pub fn advance(&self, by: Duration) {
        self.update(|nanos| nanos.saturating_add_unsigned(saturating_nanos(by)));
    }

    /// Moves it back. Before its origin it reads as its origin.
    pub fn step_back(&self, by: Duration) {
        self.update(|nanos| nanos.saturating_sub_unsigned(saturating_nanos(by)));
    }

    fn update(&self, step: impl Fn(i64) -> i64) {
        let step = |nanos: u64| Some(step(nanos as i64) as u64);
        // ORDERING: AcqRel, so that who sees the new time sees what happened before it was set, as with any event
        // that takes time.
        _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, step);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        // ORDERING: Acquire, pairs with `update`.
        Timestamp::from_nanos((self.0.load(Ordering::Acquire) as i64).max(0) as u64)
    }
}
