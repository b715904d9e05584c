//! What the two kinds of windows have in common: their thresholds.

use core::time::Duration;

use super::engine::{Call, Engine};
use super::{Causes, Found, Policy, Spec, Tally};
use crate::config::LONGEST;
use crate::error::{ConfigError, Value};
use crate::raw::bits::Field;
use crate::raw::gate::Kind;
use crate::raw::published::Published;
use crate::snapshot::{Counts, HUNDRED_PERCENT, PackedSpan};
use crate::sync::{AtomicNumber, Ordering, const_fn};
use crate::time::saturating_nanos;

/// The default of `min_calls`: below ten calls a rate says little.
const DEFAULT_MIN_CALLS: u32 = 10;

/// No threshold; as one, 0 is not legal.
const NONE: u32 = 0;

/// The shortest time window, so that the number of its laps since the clock's origin fits its position.
const SHORTEST: Duration = Duration::from_micros(100);

/// A policy that counts over a window: a [`CountWindow`](crate::CountWindow) or a [`TimeWindow`](crate::TimeWindow).
///
/// ```
/// use failfast::{LastCalls, Spec, TimeWindow, Window};
///
/// /// The team's thresholds, for any window.
/// fn ours<P: Window>(spec: Spec<P>) -> Spec<P> {
///     spec.min_calls(20).failure_rate(50.0)
/// }
/// ours(LastCalls::<100>::new());
/// ours(TimeWindow::standard());
/// ```
pub trait Window: Policy + Engine<Draft = WindowDraft, Rules = WindowRules> {}

/// What the thresholds were set to.
#[derive(Clone, Copy, Debug)]
pub struct WindowDraft {
    pub(super) size: Size,
    min_calls: Option<u32>,
    failures: Option<u32>,
    failure_rate: Option<f64>,
    slow_call_limit: Option<Duration>,
    slow_call_rate: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Size {
    Calls(u32),
    Time { length: Duration, buckets: u32, stripes: u32 },
}

impl Size {
    pub(super) fn calls(self) -> u32 {
        match self {
            Self::Calls(calls) => calls,
            Self::Time { .. } => 0,
        }
    }

    /// How many buckets, and in how many stripes.
    pub(super) fn buckets(self) -> (u32, u32) {
        match self {
            Self::Calls(_) => (0, 0),
            Self::Time { buckets, stripes, .. } => (buckets, stripes),
        }
    }
}

/// The checked numbers of a window.
#[derive(Clone, Copy, Debug)]
pub struct WindowRules {
    /// The length of a time window's bucket in nanoseconds, 0 for a count window.
    pub(super) bucket: u64,
    /// A count window's calls, a time window's buckets.
    pub(super) size: u32,
    failures: u32,
    failure_rate: Rate,
    slow_call_rate: Rate,
    /// In nanoseconds; without a limit, no call takes longer.
    slow_call_limit: u64,
}

/// The rate at which to trip, and the calls from which on it is known: `[min_calls 32 | limit 32]`.
#[derive(Clone, Copy)]
struct Rate(u64);

const LIMIT: Field = Field::first(u32::BITS);
const MIN_CALLS: Field = LIMIT.then(u32::BITS);

impl Rate {
    const fn new(limit: u32, min_calls: u32) -> Self {
        Self(LIMIT.put(limit as u64) | MIN_CALLS.put(min_calls as u64))
    }

    const fn limit(self) -> u32 {
        LIMIT.get(self.0) as u32
    }

    const fn min_calls(self) -> u32 {
        MIN_CALLS.get(self.0) as u32
    }

    fn reached(self, count: u64, total: u64) -> bool {
        self.limit() != NONE
            && total >= u64::from(self.min_calls())
            && u128::from(count) * u128::from(HUNDRED_PERCENT) >= u128::from(self.limit()) * u128::from(total)
    }
}

impl core::fmt::Debug for Rate {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Rate").field("limit", &self.limit()).field("min_calls", &self.min_calls()).finish()
    }
}

/// What the thresholds were changed to since the breaker was built: each as what turns the old number into the new one by
/// exclusive or, so that it is 0 for a constant, and costs the hot path no branch. Numbers that stand alone, except that a
/// rate and its `min_calls` must agree, and so share one.
pub(super) struct Changed {
    failures: AtomicNumber,
    failure_rate: AtomicNumber,
    slow_call_rate: AtomicNumber,
    slow_call_limit: AtomicNumber,
}

impl Changed {
    pub(super) const fn nothing() -> Self {
        Self {
            failures: AtomicNumber::new(0),
            failure_rate: AtomicNumber::new(0),
            slow_call_rate: AtomicNumber::new(0),
            slow_call_limit: AtomicNumber::new(0),
        }
    }

    pub(super) fn set(&self, built: &WindowRules, new: &WindowRules) {
        // ORDERING: Relaxed, as in `read`.
        self.failures.store(u64::from(built.failures ^ new.failures), Ordering::Relaxed);
        self.failure_rate.store(built.failure_rate.0 ^ new.failure_rate.0, Ordering::Relaxed);
        self.slow_call_rate.store(built.slow_call_rate.0 ^ new.slow_call_rate.0, Ordering::Relaxed);
        self.slow_call_limit.store(built.slow_call_limit ^ new.slow_call_limit, Ordering::Relaxed);
    }

    /// The rules that a window was built with, with the thresholds that they have now. Whether a call is slow is asked of
    /// [`is_slow`](Self::is_slow).
    #[inline]
    pub(super) fn over(&self, built: &WindowRules) -> WindowRules {
        let mut rules = *built;
        rules.failures ^= Self::read(&self.failures) as u32;
        rules.failure_rate.0 ^= Self::read(&self.failure_rate);
        if built.is_timed() {
            rules.slow_call_rate.0 ^= Self::read(&self.slow_call_rate);
        }
        rules
    }

    #[inline]
    pub(super) fn is_slow(&self, built: &WindowRules, elapsed: Duration) -> bool {
        saturating_nanos(elapsed) > built.slow_call_limit ^ Self::read(&self.slow_call_limit)
    }

    /// Whether a call that was timed was slow. It may have been timed for another policy, and only that one reads the
    /// clock once more.
    #[inline(always)]
    pub(super) fn was_slow(&self, built: &WindowRules, call: &impl Call) -> bool {
        call.is_timed() && built.is_timed() && self.is_slow(built, call.elapsed())
    }

    #[inline]
    fn read(number: &AtomicNumber) -> u64 {
        // ORDERING: Relaxed, each number is right by itself, the old one or the new one.
        number.load(Ordering::Relaxed)
    }
}

/// The most calls that a count window can hold; [`CountWindow`](crate::CountWindow) has the fields that say so.
pub(super) const MAX_CALLS: u32 = 1_000_000;

/// The most buckets that a time window can have; its position has the field that says so.
pub(super) const MAX_BUCKETS: u32 = 65_535;

/// The setters of the thresholds. A window needs at least one: a number of failures, a failure rate or a slow-call
/// rate; they are checked in this order.
impl<P: Window> Spec<P> {
    /// No rate is known below so many calls. At least 1, for a count window at most its calls. Default 10, or a
    /// smaller count window's calls. [`failures`](Self::failures) does not wait for it.
    #[must_use]
    pub const fn min_calls(mut self, calls: u32) -> Self {
        self.draft.min_calls = Some(calls);
        self.checked()
    }

    /// Trips when so many calls of the window have failed. At least 1, for a count window at most its calls.
    #[must_use]
    pub const fn failures(mut self, failures: u32) -> Self {
        self.draft.failures = Some(failures);
        self.checked()
    }

    /// Trips when this share of the window's calls has failed, in percent: above 0, at most 100, kept in steps of
    /// 0.000001 %. At the threshold it trips.
    #[must_use]
    pub const fn failure_rate(mut self, percent: f64) -> Self {
        self.draft.failure_rate = Some(percent);
        self.checked()
    }

    /// Trips when this share of the window's calls, failed ones too, took *longer* than `limit`, in percent: above
    /// 0, at most 100, kept in steps of 0.000001 %.
    #[must_use]
    pub const fn slow_calls(self, limit: Duration, percent: f64) -> Self {
        self.slow_call_limit(limit).slow_call_rate(percent)
    }

    /// The first half of [`slow_calls`](Self::slow_calls): a call is slow when it took longer than this.
    #[must_use]
    pub const fn slow_call_limit(mut self, limit: Duration) -> Self {
        self.draft.slow_call_limit = Some(limit);
        self.checked()
    }

    /// The second half of [`slow_calls`](Self::slow_calls): the share of slow calls at which it trips.
    #[must_use]
    pub const fn slow_call_rate(mut self, percent: f64) -> Self {
        self.draft.slow_call_rate = Some(percent);
        self.checked()
    }

    pub(super) const fn of_calls(calls: u32) -> Self {
        Self::of_size(Size::Calls(calls))
    }

    pub(super) const fn of_time(length: Duration, buckets: u32, stripes: u32) -> Self {
        Self::of_size(Size::Time { length, buckets, stripes })
    }

    const fn of_size(size: Size) -> Self {
        let draft = WindowDraft {
            size,
            min_calls: None,
            failures: None,
            failure_rate: None,
            slow_call_limit: None,
            slow_call_rate: None,
        };
        Spec { draft, rules: draft.check(), timed: false }
    }

    #[cfg(feature = "alloc")]
    pub(super) const fn striped(mut self, count: u32) -> Self {
        if let Size::Time { stripes, .. } = &mut self.draft.size {
            *stripes = count;
        }
        self.checked()
    }

    const fn checked(self) -> Self {
        let rules = self.draft.check();
        let timed = matches!(rules, Ok(rules) if rules.is_timed());
        Spec { draft: self.draft, rules, timed }
    }
}

impl WindowDraft {
    const fn check(&self) -> Result<WindowRules, ConfigError> {
        use Value::{Count, Missing, Percent, Time};
        let Self { min_calls, failures, failure_rate, slow_call_limit, slow_call_rate, .. } = *self;

        let (size, most, bucket) = match self.size {
            Size::Calls(calls) => {
                if calls == 0 || calls > MAX_CALLS {
                    return Err(ConfigError::new("window.calls", Count(calls as u64), "must be from 1 to 1000000"));
                }
                (calls, calls, 0)
            }
            Size::Time { length, buckets, stripes } => {
                if buckets == 0 || buckets > MAX_BUCKETS {
                    return Err(ConfigError::new("window.buckets", Count(buckets as u64), "must be from 1 to 65535"));
                }
                if stripes == 0 || stripes > 1024 {
                    return Err(ConfigError::new("window.stripes", Count(stripes as u64), "must be from 1 to 1024"));
                }
                let nanos = length.as_nanos();
                let in_range = nanos >= SHORTEST.as_nanos() && nanos <= LONGEST.as_nanos();
                let nanos = saturating_nanos(length);
                if !in_range || nanos % buckets as u64 != 0 {
                    let legal = "must be from 100µs to 3650 days and divide evenly by window.buckets";
                    let error = ConfigError::new("window.length", Time(length), legal);
                    return Err(error.bound(Count(buckets as u64)));
                }
                (buckets, u32::MAX, nanos / buckets as u64)
            }
        };

        let min_calls = match min_calls {
            Some(calls) => calls,
            None if most < DEFAULT_MIN_CALLS => most,
            None => DEFAULT_MIN_CALLS,
        };
        if min_calls == 0 || min_calls > most {
            return Err(out_of(most, "window.min_calls", min_calls));
        }
        let failures = match failures {
            Some(failures) if failures == 0 || failures > most => {
                return Err(out_of(most, "window.failures", failures));
            }
            Some(failures) => failures,
            None => NONE,
        };
        let failure_rate = match failure_rate {
            Some(percent) => match rate(percent) {
                Some(rate) => rate,
                None => return Err(bad_rate("window.failure_rate", percent)),
            },
            None => NONE,
        };
        let (slow_call_limit, slow_call_rate) = match (slow_call_limit, slow_call_rate) {
            (None, None) => (u64::MAX, NONE),
            (Some(limit), _) if limit.is_zero() => {
                return Err(ConfigError::new("window.slow_call_limit", Time(limit), "must be more than 0"));
            }
            (Some(limit), Some(percent)) => match rate(percent) {
                Some(rate) => (saturating_nanos(limit), rate),
                None => return Err(bad_rate("window.slow_call_rate", percent)),
            },
            (None, Some(percent)) => {
                let legal = "must be set with window.slow_call_rate";
                return Err(ConfigError::new("window.slow_call_limit", Missing, legal).bound(Percent(percent)));
            }
            (Some(limit), None) => {
                let legal = "must be set with window.slow_call_limit";
                return Err(ConfigError::new("window.slow_call_rate", Missing, legal).bound(Time(limit)));
            }
        };
        if failures == NONE && failure_rate == NONE && slow_call_rate == NONE {
            let legal = "must have failures, failure_rate or slow_call_rate";
            return Err(ConfigError::new("window", Value::NoThreshold, legal));
        }
        let failure_rate = Rate::new(failure_rate, min_calls);
        let slow_call_rate = Rate::new(slow_call_rate, min_calls);
        Ok(WindowRules { bucket, size, failures, failure_rate, slow_call_rate, slow_call_limit })
    }
}

const fn out_of(most: u32, field: &'static str, value: u32) -> ConfigError {
    let value = Value::Count(value as u64);
    if most == u32::MAX {
        ConfigError::new(field, value, "must be from 1 to 4294967295")
    } else {
        ConfigError::new(field, value, "must be from 1 to window.calls").bound(Value::Count(most as u64))
    }
}

const fn bad_rate(field: &'static str, percent: f64) -> ConfigError {
    ConfigError::new(field, Value::Percent(percent), "must be at least 0.000001 % and at most 100 %")
}

/// A percentage in millionths, none if it is out of range or would round to 0.
const fn rate(percent: f64) -> Option<u32> {
    let rate = percent * (HUNDRED_PERCENT / 100) as f64 + 0.5;
    if rate >= 1.0 && percent <= 100.0 { Some(rate as u32) } else { None }
}

impl WindowRules {
    #[inline]
    pub(super) const fn is_timed(&self) -> bool {
        self.slow_call_rate.limit() != NONE
    }

    /// Whether the thresholds of a window built with these rules can become those of `new`: it counts over the same, and
    /// times calls if it needs that.
    pub(super) fn admits(&self, new: &Self) -> Result<(), ConfigError> {
        let fixed = |field, [built, new]: [Value; 2]| Err(ConfigError::fixed(field, new, built));
        let sizes = [self.size, new.size].map(|size| Value::Count(size.into()));
        let lengths = [self, new].map(|rules| Value::Time(Duration::from_nanos(rules.length())));
        match self.bucket {
            0 if self.size != new.size => fixed("window.calls", sizes),
            _ if self.length() != new.length() => fixed("window.length", lengths),
            _ if self.size != new.size => fixed("window.buckets", sizes),
            _ => Ok(()),
        }?;
        if new.is_timed() && !self.is_timed() {
            let legal = "must not be set: the breaker was built without, and does not time its calls";
            let percent = f64::from(new.slow_call_rate.limit()) * 100.0 / f64::from(HUNDRED_PERCENT);
            return Err(ConfigError::new("window.slow_call_rate", Value::Percent(percent), legal));
        }
        Ok(())
    }

    /// The length of a time window in nanoseconds.
    fn length(&self) -> u64 {
        self.bucket * u64::from(self.size)
    }

    /// Which thresholds these counts have reached.
    pub(super) fn judge(&self, tally: Tally) -> Found {
        match self.causes(tally) {
            Causes::NONE => Found::NOTHING,
            causes => causes.found_in(tally),
        }
    }

    /// The same, without the counts.
    pub(super) fn causes(&self, tally: Tally) -> Causes {
        let failures = Causes::FAILURES.when(self.too_many(tally.failed));
        let failure_rate = Causes::FAILURE_RATE.when(self.failure_rate.reached(tally.failed, tally.total));
        let slow_call_rate = Causes::SLOW_CALL_RATE.when(self.slow_call_rate.reached(tally.slow, tally.total));
        failures.and(failure_rate).and(slow_call_rate)
    }

    fn too_many(&self, failed: u64) -> bool {
        self.failures != NONE && failed >= u64::from(self.failures)
    }

    /// Whether with so many failed and slow calls any cause can hold, however many succeeded: a rate is highest at the
    /// fewest calls of which it is known.
    pub(super) fn may_hold(&self, failed: u64, slow: u64) -> bool {
        let at_its_highest = |rate: Rate, count| rate.reached(count, u64::from(rate.min_calls()));
        self.too_many(failed) || at_its_highest(self.failure_rate, failed) || at_its_highest(self.slow_call_rate, slow)
    }

    /// Whether more successes alone cannot make one of these counts a cause, if none is one now: rates only sink from
    /// `min_calls` on.
    pub(super) fn only_sinks(&self, tally: Tally) -> bool {
        tally.total >= u64::from(self.failure_rate.min_calls().max(self.slow_call_rate.min_calls()))
    }

    pub(super) fn limit(&self, kind: Kind) -> u32 {
        match kind {
            Kind::Failures => self.failures,
            Kind::SlowCallRate => self.slow_call_rate.limit(),
            _ => self.failure_rate.limit(),
        }
    }

    pub(super) fn counts(&self, tally: Tally) -> Counts {
        let Tally { total, failed, slow } = tally;
        let span = match self.bucket {
            0 => PackedSpan::calls(self.size),
            _ => PackedSpan::time(self.length()),
        };
        Counts::new(span, self.failure_rate.min_calls(), total, failed, self.is_timed().then_some(slow))
    }
}

/// A window's tally as it was when an outage began.
pub(super) struct Evidence {
    total: Published,
    failed: Published,
    slow: Published,
}

impl Evidence {
    const_fn! {
        pub(super) fn new() -> Self {
            Self { total: Published::new(), failed: Published::new(), slow: Published::new() }
        }
    }

    pub(super) fn publish(&self, generation: u64, counts: Option<Counts>) {
        if let Some(counts) = counts {
            self.total.publish(generation, counts.total);
            self.failed.publish(generation, counts.failed);
            self.slow.publish(generation, counts.slow().unwrap_or(0));
        }
    }

    pub(super) fn read(&self, generation: u64) -> Option<Tally> {
        let total = self.total.read(generation)?;
        Some(Tally { total, failed: self.failed.read(generation)?, slow: self.slow.read(generation)? })
    }

    pub(super) fn keep_recent(&self, generation: u64) {
        self.total.keep_recent(generation);
        self.failed.keep_recent(generation);
        self.slow.keep_recent(generation);
    }
}

#[cfg(all(test, not(failfast_loom)))]
mod tests {
    use super::*;
    use crate::LastCalls;

    #[test]
    fn changed_rules_are_the_new_ones_whatever_bits_they_share_with_the_old() {
        let millis = Duration::from_millis;
        let [built, new] =
            [(3, 7, 30.0, 7, 60.0), (6, 6, 35.0, 6, 55.0)].map(|(min, failures, rate, slow, slow_rate)| {
                let spec = LastCalls::<20>::new().min_calls(min).failures(failures).failure_rate(rate);
                spec.slow_calls(millis(slow), slow_rate).rules().unwrap()
            });
        let changed = Changed::nothing();
        changed.set(&built, &new);
        let now = changed.over(&built);
        assert_eq!(now.failures, new.failures);
        assert_eq!(now.failure_rate.0, new.failure_rate.0);
        assert_eq!(now.slow_call_rate.0, new.slow_call_rate.0);
        assert_eq!([6, 7].map(|time| changed.is_slow(&built, millis(time))), [false, true]);
    }
}
