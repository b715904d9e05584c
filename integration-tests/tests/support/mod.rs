//! What the tests of services have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32};

use failfast::{CircuitBreaker, Consecutive, ManualClock};

type Breaker = CircuitBreaker<Consecutive, Arc<ManualClock>>;

/// Two failures in a row open it, for 30 s; one probe closes it.
pub fn breaker() -> (Arc<Breaker>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let builder = CircuitBreaker::builder().failures(2).probes(1).clock(clock.clone());
    (Arc::new(builder.build().unwrap()), clock)
}

/// What the service answers, and how often it was asked.
#[derive(Default)]
pub struct Backend {
    pub status: AtomicU16,
    pub calls: AtomicU32,
}
