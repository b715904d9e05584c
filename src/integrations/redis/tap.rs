use alloc::sync::Arc;
use std::sync::OnceLock;

use crossbeam_utils::CachePadded;
use tokio::sync::Notify;

use crate::sync::{AtomicU64, Ordering, thread_number};
use crate::{Observer, Outcome, Settled, SettledCall, Transition};

/// Outcomes are counted in so many places, one for each thread of as many.
const STRIPES: usize = 16;

/// An observer through which a fleet learns of a breaker's transitions at once, and of its outcomes.
///
/// Build the breaker with one of its own, and join it with [`join_tapped`](super::Fleet::join_tapped). Without it the
/// fleet looks at the breaker every 10 ms, and [`Agreement::Rates`](super::Agreement::Rates) cannot be had. An outcome
/// costs one addition to a cell of the thread's own; nothing of it waits, allocates, or sends anything.
///
/// ```
/// use failfast::CircuitBreaker;
/// use failfast::redis::Tap;
///
/// let tap = Tap::new();
/// let breaker = CircuitBreaker::builder().observer(tap.clone()).build()?;
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Tap(Arc<Inner>);

struct Inner {
    stripes: [CachePadded<Stripe>; STRIPES],
    /// Wakes the fleet's task, once it has been joined.
    task: OnceLock<Arc<Notify>>,
}

#[derive(Default)]
struct Stripe {
    calls: AtomicU64,
    failures: AtomicU64,
}

impl Tap {
    /// A tap for one breaker.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Inner { stripes: core::array::from_fn(|_| CachePadded::default()), task: OnceLock::new() }))
    }

    /// Calls and failures so far.
    pub(super) fn counts(&self) -> (u64, u64) {
        let sum = |(calls, failures): (u64, u64), stripe: &CachePadded<Stripe>| {
            // ORDERING: Relaxed, counts that nothing hangs on. Failures first, so that they are not more than calls.
            let failed = stripe.failures.load(Ordering::Relaxed);
            // ORDERING: Relaxed, as above.
            (calls.wrapping_add(stripe.calls.load(Ordering::Relaxed)), failures.wrapping_add(failed))
        };
        self.0.stripes.iter().fold((0, 0), sum)
    }

    /// Whom to wake. Only the first is woken: a tap is of one breaker in one fleet.
    pub(super) fn wakes(&self, task: &Arc<Notify>) {
        _ = self.0.task.set(task.clone());
    }
}

impl Default for Tap {
    fn default() -> Self {
        Self::new()
    }
}

impl core::fmt::Debug for Tap {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let (calls, failures) = self.counts();
        f.debug_struct("Tap").field("calls", &calls).field("failures", &failures).finish()
    }
}

impl Observer for Tap {
    fn on_transition(&self, _: &Transition) {
        if let Some(task) = self.0.task.get() {
            task.notify_one();
        }
    }

    fn on_outcome(&self, call: &SettledCall) {
        let failed = match call.settled() {
            _ if !call.counted() => return,
            Settled::With(Outcome::Success) => 0,
            Settled::With(Outcome::Failure | Outcome::OpenFor(_)) => 1,
            _ => return,
        };
        let stripe = &self.0.stripes[thread_number() % STRIPES];
        // ORDERING: Relaxed, as in `counts`.
        stripe.calls.fetch_add(1, Ordering::Relaxed);
        if failed > 0 {
            // ORDERING: Relaxed, as in `counts`.
            stripe.failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}
