use core::time::Duration;

use super::engine::{Call, Engine};
use super::{Causes, Found, Period, Policy, Spec, Tally};
use crate::error::{ConfigError, Value};
use crate::raw::bits::{Field, GENERATION_BITS};
use crate::raw::gate::Kind;
use crate::raw::published::Published;
use crate::snapshot::{Counts, CountsList};
use crate::sync::{AtomicU32, AtomicU64, Ordering, const_fn};
use crate::time::Timestamp;

// [ generation 20 | failures in a row 44 ]
const STREAK: Field = Field::first(u64::BITS - GENERATION_BITS);
const TAG: Field = STREAK.then(GENERATION_BITS);

/// Trips after so many failures in a row. A success starts it anew; it knows no time.
///
/// ```
/// use failfast::{CircuitBreaker, Consecutive, State};
///
/// let breaker = CircuitBreaker::builder().policy(Consecutive::new(2)).build()?;
/// breaker.try_acquire()?.failure();
/// breaker.try_acquire()?.success();
/// breaker.try_acquire()?.failure();
/// assert_eq!(breaker.state(), State::Closed);
/// breaker.try_acquire()?.failure();
/// assert_eq!(breaker.state(), State::Open);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Consecutive {
    streak: AtomicU64,
    /// What turns the limit that it was built with into the one that it has now, by exclusive or.
    changed: AtomicU32,
    published: Published,
}

impl Consecutive {
    /// So many failures in a row: from 1 to 4294967295.
    #[allow(clippy::new_ret_no_self, reason = "a policy is made from its checked numbers")]
    #[must_use]
    pub const fn new(failures: u32) -> Spec<Self> {
        let rules = if failures == 0 {
            Err(ConfigError::new("consecutive.failures", Value::Count(0), "must be from 1 to 4294967295"))
        } else {
            Ok(failures)
        };
        Spec { draft: (), rules, timed: false }
    }

    const_fn! {
        fn empty() -> Self {
            Self { streak: AtomicU64::new(0), changed: AtomicU32::new(0), published: Published::new() }
        }
    }

    #[inline]
    fn limit(&self, built: u32) -> u32 {
        // ORDERING: Relaxed, the number stands alone.
        built ^ self.changed.load(Ordering::Relaxed)
    }

    fn streak(&self, generation: u64) -> u64 {
        // ORDERING: Acquire, pairs with the Release of `update`.
        let word = self.streak.load(Ordering::Acquire);
        if TAG.get(word) == generation { STREAK.get(word) } else { 0 }
    }

    #[inline]
    fn add_failure(&self, period: Period<'_>) -> u64 {
        self.update(period, |streak| (streak + 1).min(STREAK.max()))
    }

    #[cold]
    #[inline(never)]
    fn restart(&self, period: Period<'_>) {
        self.update(period, |_| 0);
    }

    /// Moves the streak from whatever it was, in this period, to `next` of that.
    fn update(&self, period: Period<'_>, next: impl Fn(u64) -> u64) -> u64 {
        // ORDERING: Acquire, so that the gate, where it is asked, is read after it.
        let mut word = self.streak.load(Ordering::Acquire);
        loop {
            let ours = TAG.get(word) == period.generation();
            if !ours && !period.is_current() {
                return 0;
            }
            let streak = next(if ours { STREAK.get(word) } else { 0 });
            let new = TAG.put(period.generation()) | STREAK.put(streak);
            // ORDERING: Release, so that who reads the streak sees what its writer did before; Acquire as above.
            match self.streak.compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return streak,
                Err(current) => word = current,
            }
        }
    }
}

#[inline]
fn found(streak: u64, limit: u32) -> Found {
    let causes = Causes::CONSECUTIVE.when(streak >= u64::from(limit));
    causes.found_in(Tally { total: streak, failed: streak, slow: 0 })
}

impl Engine for Consecutive {
    type Draft = ();
    type Rules = u32;

    const COUNT: usize = 1;

    fn is_slow(&self, _: &u32, _: Duration) -> bool {
        false
    }

    #[inline(always)]
    fn record(&self, limit: &u32, period: Period<'_>, failed: bool, _: &impl Call) -> Found {
        if failed {
            return found(self.add_failure(period), self.limit(*limit));
        }
        // ORDERING: Relaxed, nothing follows from a streak of 0 or of another generation, and the CAS decides
        // otherwise.
        let word = self.streak.load(Ordering::Relaxed);
        if STREAK.get(word) != 0 && TAG.get(word) == period.generation() {
            self.restart(period);
        }
        Found::NOTHING
    }

    fn begin(&self, period: Period<'_>) {
        // ORDERING: Relaxed, the CAS decides.
        if TAG.get(self.streak.load(Ordering::Relaxed)) != period.generation() {
            self.update(period, |streak| streak);
        }
        self.published.keep_recent(period.generation());
    }

    fn live(&self, limit: &u32, generation: u64, _: Timestamp, list: &mut CountsList) -> Causes {
        let streak = self.streak(generation);
        list.push(Counts::streak(streak));
        found(streak, self.limit(*limit)).causes()
    }

    fn publish(&self, generation: u64, list: &mut dyn Iterator<Item = Counts>) {
        if let Some(counts) = list.next() {
            self.published.publish(generation, counts.failed);
        }
    }

    fn published(&self, _: &u32, generation: u64, _: usize) -> Option<Counts> {
        self.published.read(generation).map(Counts::streak)
    }

    fn admits(&self, _: &u32, _: &Self, _: &u32) -> Result<(), ConfigError> {
        Ok(())
    }

    fn set_thresholds(&self, built: &u32, _: &Self, limit: &u32) {
        // ORDERING: Relaxed, as in `limit`.
        self.changed.store(built ^ limit, Ordering::Relaxed);
    }

    fn limit(&self, built: &u32, _: usize, _: Kind) -> u32 {
        self.limit(*built)
    }
}

impl Policy for Consecutive {}

#[cfg(not(failfast_loom))]
impl super::InlinePolicy for Consecutive {
    const EMPTY: Self = Self::empty();
}

impl super::engine::Allocate for Consecutive {
    fn allocate((): &()) -> Self {
        Self::empty()
    }
}
