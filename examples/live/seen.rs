//! What a breaker's observer keeps for the page: the last transitions, and how many calls ended how.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use failfast::{
    Clock, DefaultClock, History, Observer, Outcome, Rejected, Settled, SettledCall, Timestamp, Transition, WouldTrip,
};
use serde::Serialize;

/// So many transitions are kept. They also make the timeline: where they do not reach back far enough, it begins later.
pub(crate) const KEPT: usize = 64;

pub(crate) struct Seen {
    pub(crate) history: History<KEPT>,
    pub(crate) since: Timestamp,
    succeeded: AtomicU64,
    failed: AtomicU64,
    neutral: AtomicU64,
    rejected: AtomicU64,
    would_trip: AtomicU64,
}

/// Since the breaker was made.
#[derive(Serialize)]
pub(crate) struct Totals {
    succeeded: u64,
    failed: u64,
    /// Ignored or cancelled.
    neutral: u64,
    rejected: u64,
    would_trip: u64,
}

impl Seen {
    pub(crate) fn new() -> Self {
        Self {
            history: History::new(),
            since: DefaultClock.now(),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            neutral: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            would_trip: AtomicU64::new(0),
        }
    }

    pub(crate) fn totals(&self) -> Totals {
        Totals {
            succeeded: self.succeeded.load(Relaxed),
            failed: self.failed.load(Relaxed),
            neutral: self.neutral.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            would_trip: self.would_trip.load(Relaxed),
        }
    }
}

impl Observer for Seen {
    fn on_transition(&self, transition: &Transition) {
        self.history.on_transition(transition);
    }

    fn on_outcome(&self, call: &SettledCall) {
        let count = match call.settled() {
            Settled::With(Outcome::Success) => &self.succeeded,
            Settled::With(Outcome::Failure | Outcome::OpenFor(_)) => &self.failed,
            _ => &self.neutral,
        };
        count.fetch_add(1, Relaxed);
    }

    fn on_rejected(&self, _: &Rejected) {
        self.rejected.fetch_add(1, Relaxed);
    }

    fn on_would_trip(&self, _: &WouldTrip) {
        self.would_trip.fetch_add(1, Relaxed);
    }
}
