//! Counting on the path of a call.

use core::array;
use std::boxed::Box;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use crate::error::Rejected;
use crate::observer::{Cause, Observer, SettledCall, Transition};
use crate::outcome::{Outcome, Settled};
use crate::snapshot::State;
use crate::sync::{AtomicU32, AtomicU64, Ordering, thread_number};
use crate::time::saturating_nanos;

/// The upper bounds of the histogram's buckets, in seconds; a bound is in its bucket.
///
/// ```
/// use failfast::metrics::BUCKETS;
///
/// assert_eq!((BUCKETS[0], BUCKETS[14]), (0.0005, 30.0));
/// ```
pub const BUCKETS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The same in nanoseconds, and what is above the last.
pub(super) const BOUNDS: [u64; BUCKETS.len() + 1] = {
    let mut bounds = [u64::MAX; BUCKETS.len() + 1];
    let mut i = 0;
    while i < BUCKETS.len() {
        bounds[i] = (BUCKETS[i] * 1e9) as u64;
        i += 1;
    }
    bounds
};

/// By the position of a duration's highest bit: the first bucket that such a duration can be in. No two bounds share their
/// highest bit, so it is in that one or in the next.
const FIRST: [u8; 64] = {
    let mut first = [0; 64];
    let mut bit = 0;
    while bit < 64 {
        while BOUNDS[first[bit] as usize] < 1 << bit {
            first[bit] += 1;
        }
        bit += 1;
    }
    first
};

#[inline]
fn bucket_of(nanos: u64) -> usize {
    let first = usize::from(FIRST[(nanos | 1).ilog2() as usize]);
    first + usize::from(nanos > BOUNDS[first])
}

/// What calls are counted by; rejected ones come after these.
pub(super) const OUTCOMES: [&str; 4] = ["success", "failure", "ignored", "cancelled"];

/// What is counted under one name.
pub(super) struct Cells {
    timed: bool,
    stripes: Box<[CachePadded<Stripe>]>,
    /// By from, to and cause.
    transitions: [[[AtomicU32; Cause::ALL.len()]; State::ALL.len()]; State::ALL.len()],
}

/// What some of the threads have counted.
struct Stripe {
    /// By outcome and bucket; all in the first bucket if calls are not timed.
    settled: [[AtomicU64; BOUNDS.len()]; OUTCOMES.len()],
    /// By bucket, how long its calls took in all. It may wrap.
    nanos: [AtomicU64; BOUNDS.len()],
    rejected: AtomicU64,
}

/// All stripes together.
#[derive(Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) settled: [u64; OUTCOMES.len()],
    pub(super) rejected: u64,
    /// By bucket: how many calls, and how long they took in all.
    pub(super) durations: [(u64, u64); BOUNDS.len()],
}

impl Cells {
    /// `stripes` is a power of two.
    pub(super) fn new(timed: bool, stripes: usize) -> Self {
        let stripe = || Stripe {
            settled: array::from_fn(|_| array::from_fn(|_| AtomicU64::new(0))),
            nanos: array::from_fn(|_| AtomicU64::new(0)),
            rejected: AtomicU64::new(0),
        };
        Self {
            timed,
            stripes: (0..stripes).map(|_| CachePadded::new(stripe())).collect(),
            transitions: array::from_fn(|_| array::from_fn(|_| array::from_fn(|_| AtomicU32::new(0)))),
        }
    }

    #[inline]
    fn stripe(&self) -> &Stripe {
        &self.stripes[thread_number() & (self.stripes.len() - 1)]
    }

    pub(super) fn is_timed(&self) -> bool {
        self.timed
    }

    pub(super) fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        for stripe in &self.stripes {
            // ORDERING: Relaxed, a count that nothing hangs on.
            sums.rejected += stripe.rejected.load(Ordering::Relaxed);
            for (outcome, buckets) in stripe.settled.iter().enumerate() {
                for (bucket, count) in buckets.iter().enumerate() {
                    // ORDERING: Acquire, pairs with `on_outcome`: the time of each call that is counted here is read below.
                    let count = count.load(Ordering::Acquire);
                    sums.settled[outcome] += count;
                    sums.durations[bucket].0 += count;
                }
            }
            for (bucket, nanos) in stripe.nanos.iter().enumerate() {
                // ORDERING: Relaxed, it was ordered above.
                sums.durations[bucket].1 = sums.durations[bucket].1.wrapping_add(nanos.load(Ordering::Relaxed));
            }
        }
        sums
    }

    pub(super) fn transitions(&self, from: State, to: State, cause: Cause) -> u32 {
        // ORDERING: Relaxed, a count that nothing hangs on.
        self.transitions[from as usize][to as usize][cause.index()].load(Ordering::Relaxed)
    }

    /// The transitions that there have been.
    pub(super) fn each_transition(&self, mut see: impl FnMut((State, State, Cause), u32)) {
        for from in State::ALL {
            for to in State::ALL {
                for cause in Cause::ALL {
                    match self.transitions(from, to, cause) {
                        0 => {}
                        count => see((from, to, cause), count),
                    }
                }
            }
        }
    }
}

/// The observer that counts a breaker's calls and transitions: what [`Metrics::observer`](super::Metrics::observer) gives.
/// Clones count together.
///
/// ```
/// use failfast::metrics::{CallMetrics, Metrics};
/// use failfast::{CircuitBreaker, Consecutive, DefaultClock};
///
/// struct Client {
///     breaker: CircuitBreaker<Consecutive, DefaultClock, CallMetrics>,
/// }
/// let metrics = Metrics::new();
/// let client = Client { breaker: CircuitBreaker::builder().observer(metrics.observer("payments")).build()? };
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct CallMetrics {
    cells: Arc<Cells>,
}

impl CallMetrics {
    pub(super) fn new(cells: Arc<Cells>) -> Self {
        Self { cells }
    }
}

impl Observer for CallMetrics {
    #[inline]
    fn times_calls(&self) -> bool {
        self.cells.timed
    }

    fn on_transition(&self, transition: &Transition) {
        let cell = &self.cells.transitions[transition.from() as usize][transition.to() as usize];
        // ORDERING: Relaxed, a count that nothing hangs on.
        cell[transition.cause().index()].fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    fn on_rejected(&self, _: &Rejected) {
        // ORDERING: Relaxed, as above.
        self.cells.stripe().rejected.fetch_add(1, Ordering::Relaxed);
    }

    #[inline]
    fn on_outcome(&self, call: &SettledCall) {
        let outcome = match call.settled() {
            Settled::With(Outcome::Success) => 0,
            Settled::With(Outcome::Failure | Outcome::OpenFor(_)) => 1,
            Settled::With(Outcome::Ignored) => 2,
            Settled::Cancelled => 3,
        };
        let stripe = self.cells.stripe();
        let mut bucket = 0;
        if let (true, Some(elapsed)) = (self.cells.timed, call.elapsed()) {
            let nanos = saturating_nanos(elapsed);
            bucket = bucket_of(nanos);
            // ORDERING: Relaxed, it comes before the count, which is read before it.
            stripe.nanos[bucket].fetch_add(nanos, Ordering::Relaxed);
        }
        // ORDERING: Release, pairs with `sums`.
        stripe.settled[outcome][bucket].fetch_add(1, Ordering::Release);
    }
}

impl core::fmt::Debug for CallMetrics {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("CallMetrics").field("settled", &self.cells.sums().settled).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_in_the_first_bucket_whose_bound_is_not_below_it() {
        let around = BOUNDS.iter().flat_map(|&bound| [bound - 1, bound, bound.saturating_add(1)]);
        let powers = (0..64).flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for nanos in around.chain(powers) {
            assert_eq!(bucket_of(nanos), BOUNDS.partition_point(|&bound| bound < nanos), "{nanos}");
        }
    }

    #[test]
    fn the_bounds_are_whole_nanoseconds() {
        assert!(BUCKETS.iter().zip(BOUNDS).all(|(&seconds, nanos)| nanos as f64 / 1e9 == seconds));
    }
}
