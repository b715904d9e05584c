//! How long to stay open, how to probe, what a cancelled call means.

use core::time::Duration;

use crate::error::{ConfigError, Value};
use crate::raw::gate::{Kind, MAX_PROBES, Quota, Word};
use crate::snapshot::State;
use crate::time::{Timestamp, saturating_nanos};

/// Multipliers and jitter are kept as integers of this resolution.
const ONE: u32 = 1_000_000;

/// Waits and windows can be as long as this: ten years, well below what the gate can tell.
pub(crate) const LONGEST: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// What happens when a half-open period has had no verdict for `max_wait`.
///
/// ```
/// use failfast::{CircuitBreaker, ManualClock, OnMaxWait, State};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let breaker = CircuitBreaker::builder().clock(&clock).on_max_wait(OnMaxWait::Close).build()?;
/// breaker.open();
/// breaker.half_open()?;
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(breaker.state(), State::Closed);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum OnMaxWait {
    /// The next call begins a new half-open period, with all its probes. Lost probes cannot keep a healthy
    /// dependency locked out, which is why this is the default.
    #[default]
    Renew,
    /// It has been open since that moment, and its wait runs from there.
    Open,
    /// It has been closed since that moment.
    Close,
}

/// What a permit that is dropped unsettled counts as: a cancelled future, an early return.
///
/// ```
/// use failfast::{CircuitBreaker, OnCancel};
/// use std::time::Duration;
///
/// // A timeout of 1 s around the call cancels it: count that. The timeout's time begins when it is made, the call's
/// // at its first poll, so the limit stays well below it. Better still, put the timeout inside the call.
/// let on_cancel = OnCancel::FailureAfter(Duration::from_millis(800));
/// let breaker = CircuitBreaker::builder().failures(1).on_cancel(on_cancel).build()?;
/// drop(breaker.try_acquire()?);
/// assert_eq!(breaker.snapshot().consecutive_failures(), Some(0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnCancel {
    /// Nothing; a probe's place is free again. The default: who cancels says nothing about the callee.
    #[default]
    Neutral,
    /// A failure.
    Failure,
    /// A failure if the call had run for at least this long, else nothing.
    FailureAfter(Duration),
}

/// Everything about a breaker but its policy, clock and observer.
///
/// It is `Copy`, and its setters are `const`. Values are checked when a breaker is built from it.
///
/// ```
/// use failfast::{CircuitBreaker, Config};
/// use std::time::Duration;
///
/// const CONFIG: Config = Config::new()
///     .open_for(Duration::from_secs(5))
///     .backoff(2.0)
///     .max_open(Duration::from_secs(60))
///     .probes(3)
///     .successes(2);
/// let breaker = CircuitBreaker::builder().config(CONFIG).build()?;
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Config {
    base: Duration,
    multiplier: f64,
    max: Option<Duration>,
    jitter: f64,
    seed: u64,
    probes: u32,
    successes: Option<u32>,
    max_wait: Duration,
    on_max_wait: OnMaxWait,
    on_cancel: OnCancel,
    initial_state: State,
}

impl Config {
    /// The defaults: a fixed wait of 30 s, 2 successes of 2 probes, `max_wait` 60 s with
    /// [`OnMaxWait::Renew`], cancelled calls neutral, closed.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            base: Duration::from_secs(30),
            multiplier: 1.0,
            max: None,
            jitter: 0.0,
            seed: 0,
            probes: 2,
            successes: None,
            max_wait: Duration::from_secs(60),
            on_max_wait: OnMaxWait::Renew,
            on_cancel: OnCancel::Neutral,
            initial_state: State::Closed,
        }
    }

    /// How long it stays open before it lets probes through: more than 0, at most 3650 days. Default 30 s. The end
    /// is rounded up to a whole millisecond.
    #[must_use]
    pub const fn open_for(mut self, wait: Duration) -> Self {
        self.base = wait;
        self
    }

    /// Multiplies the wait by this for each time that probes failed in a row: from 1 (the default: a fixed wait) to
    /// 4000, in steps of 0.000001. Without [`max_open`](Self::max_open) the wait grows up to 3650 days. From 4095 times
    /// on it grows no more.
    #[must_use]
    pub const fn backoff(mut self, multiplier: f64) -> Self {
        self.multiplier = multiplier;
        self
    }

    /// The longest wait, also for an outcome "open for": at least the wait of [`open_for`](Self::open_for), at most
    /// 3650 days (the default).
    #[must_use]
    pub const fn max_open(mut self, max: Duration) -> Self {
        self.max = Some(max);
        self
    }

    /// Spreads each wait evenly within ± this many percent, from 0 (the default) to 100, so that many breakers do
    /// not probe in step; [`max_open`](Self::max_open) cuts off what is above it. It is a pure function of [`seed`](Self::seed) and the generation.
    #[must_use]
    pub const fn jitter(mut self, percent: f64) -> Self {
        self.jitter = percent;
        self
    }

    /// What the jitter is computed from. Give each instance its own. Default 0.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// How many calls are admitted while half-open, in flight and ended together: from 1 to 16383. Default 2.
    #[must_use]
    pub const fn probes(mut self, probes: u32) -> Self {
        self.probes = probes;
        self
    }

    /// How many of the probes must succeed to close it: from 1 to [`probes`](Self::probes). A probe that was slow for any
    /// window counts as failed. Default 2, or 1 of 1.
    #[must_use]
    pub const fn successes(mut self, successes: u32) -> Self {
        self.successes = Some(successes);
        self
    }

    /// How long it may stay half-open without a verdict: more than 0, at most 3650 days. Default 60 s.
    #[must_use]
    pub const fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = wait;
        self
    }

    /// What happens after [`max_wait`](Self::max_wait). Default [`OnMaxWait::Renew`].
    #[must_use]
    pub const fn on_max_wait(mut self, what: OnMaxWait) -> Self {
        self.on_max_wait = what;
        self
    }

    /// What a cancelled call counts as. Default [`OnCancel::Neutral`].
    #[must_use]
    pub const fn on_cancel(mut self, what: OnCancel) -> Self {
        self.on_cancel = what;
        self
    }

    /// The state to begin in: any but half-open. Default [`State::Closed`]. An open one waits in full from when it
    /// is built (as a constant: from its clock's origin).
    #[must_use]
    pub const fn initial_state(mut self, state: State) -> Self {
        self.initial_state = state;
        self
    }

    /// Checks every number, as building a breaker from it does.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that is out of its range, its value and the range.
    ///
    /// ```
    /// let error = failfast::Config::new().probes(0).check().unwrap_err();
    /// assert_eq!(error.to_string(), "half_open.probes is 0: must be from 1 to 16383");
    /// ```
    pub const fn check(&self) -> Result<(), ConfigError> {
        use Value::{Count, Factor, Percent, State as StateValue, Time};
        let Self { base, multiplier, jitter, probes, max_wait, .. } = *self;
        if !is_wait(base) {
            return Err(ConfigError::new("open.for", Time(base), "must be more than 0 and at most 3650 days"));
        }
        if !(multiplier >= 1.0 && multiplier <= 4000.0) {
            return Err(ConfigError::new("open.backoff", Factor(multiplier), "must be from 1 to 4000"));
        }
        let max = self.max_or_default();
        if !is_wait(max) || max.as_nanos() < base.as_nanos() {
            let error = ConfigError::new("open.max", Time(max), "must be at most 3650 days and at least open.for");
            return Err(error.bound(Time(base)));
        }
        if !(jitter >= 0.0 && jitter <= 100.0) {
            return Err(ConfigError::new("open.jitter", Percent(jitter), "must be from 0 % to 100 %"));
        }
        if probes == 0 || probes > MAX_PROBES {
            return Err(ConfigError::new("half_open.probes", Count(probes as u64), "must be from 1 to 16383"));
        }
        let successes = self.successes_or_default();
        if successes == 0 || successes > probes {
            let legal = "must be from 1 to half_open.probes";
            let error = ConfigError::new("half_open.successes", Count(successes as u64), legal);
            return Err(error.bound(Count(probes as u64)));
        }
        if !is_wait(max_wait) {
            let legal = "must be more than 0 and at most 3650 days";
            return Err(ConfigError::new("half_open.max_wait", Time(max_wait), legal));
        }
        match self.on_cancel {
            OnCancel::FailureAfter(after) if after.is_zero() => {
                return Err(ConfigError::new("on_cancel.failure_after", Time(after), "must be more than 0"));
            }
            _ => {}
        }
        if matches!(self.initial_state, State::HalfOpen) {
            let legal = "must be closed, open, forced_open, disabled or metrics_only";
            return Err(ConfigError::new("initial_state", StateValue(self.initial_state), legal));
        }
        Ok(())
    }

    /// This, which has been checked, in the units that the breaker works in.
    pub(crate) const fn plan(&self) -> Plan {
        Plan {
            base: saturating_nanos(self.base),
            max: saturating_nanos(self.max_or_default()),
            max_wait: saturating_nanos(self.max_wait),
            failed_after: match self.on_cancel {
                OnCancel::Neutral => NEVER,
                OnCancel::Failure => 0,
                OnCancel::FailureAfter(after) => saturating_nanos(after),
            },
            multiplier: (self.multiplier * ONE as f64 + 0.5) as u32,
            jitter: (self.jitter / 100.0 * ONE as f64 + 0.5) as u32,
        }
    }

    /// As for `plan`.
    pub(crate) const fn probing(&self) -> (Quota, OnMaxWait) {
        (Quota { probes: self.probes as u16, successes: self.successes_or_default() as u16 }, self.on_max_wait)
    }

    /// What the jitter is computed from, besides the generation: as much of the seed as a wait can show.
    pub(crate) const fn mixed_seed(&self) -> u32 {
        mix(self.seed) as u32
    }

    const fn successes_or_default(&self) -> u32 {
        match self.successes {
            Some(successes) => successes,
            None if self.probes == 1 => 1,
            None => 2,
        }
    }

    const fn max_or_default(&self) -> Duration {
        match self.max {
            Some(max) => max,
            None => LONGEST,
        }
    }

    /// The gate's first word.
    pub(crate) const fn first(&self, now: Timestamp) -> Word {
        match self.initial_state {
            State::Closed | State::HalfOpen => Word::first(Kind::Closed, now.as_millis()),
            State::ForcedOpen => Word::first(Kind::ForcedOpen, now.as_millis()),
            State::Disabled => Word::first(Kind::Disabled, now.as_millis()),
            State::MetricsOnly => Word::first(Kind::MetricsOnly, now.as_millis()),
            // Without jitter, so that it can be a constant.
            State::Open => Word::first(Kind::ByHand, now.millis_after(saturating_nanos(self.base))),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

const fn is_wait(wait: Duration) -> bool {
    !wait.is_zero() && wait.as_nanos() <= LONGEST.as_nanos()
}

/// Of a cancelled call: no call runs as long.
const NEVER: u64 = u64::MAX;

/// The times of a checked [`Config`], in the units that the breaker works in: nanoseconds, and millionths for factors.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    base: u64,
    max: u64,
    max_wait: u64,
    /// For how long a cancelled call must have run to be a failure.
    failed_after: u64,
    multiplier: u32,
    jitter: u32,
}

impl Plan {
    /// The wait of an opening in `generation` after `reopened` moves from half-open to open: base times multiplier
    /// to the power of that, spread by the jitter, at most the maximum.
    pub(crate) fn wait(&self, reopened: u64, generation: u64, seed: u32) -> Duration {
        // 16 bits for the fraction: what is cut off stays far below a nanosecond, and is made up for by rounding up.
        const FRACTION: u32 = 16;
        let max = u128::from(self.max) << FRACTION;
        let mut wait = u128::from(self.base) << FRACTION;
        if self.multiplier > ONE {
            for _ in 0..reopened {
                // A wait so far above the maximum stays above it, whatever the jitter.
                if wait >= max << FRACTION {
                    break;
                }
                wait = wait * u128::from(self.multiplier) / u128::from(ONE);
            }
        }
        if self.jitter > 0 {
            let spread = wait / u128::from(ONE) * u128::from(self.jitter);
            let random = u128::from(mix(u64::from(seed) ^ mix(generation)) >> 32);
            wait = wait - spread + ((spread * 2) >> 32) * random;
        }
        Duration::from_nanos((wait.min(max).div_ceil(1 << FRACTION)) as u64)
    }

    /// A wait that somebody asked for, at most the maximum.
    pub(crate) fn capped(&self, wait: Duration) -> Duration {
        wait.min(Duration::from_nanos(self.max))
    }

    pub(crate) const fn max_wait(&self) -> u64 {
        self.max_wait
    }

    /// Whether what a cancelled call counts as depends on how long it ran.
    pub(crate) const fn times_cancelled(&self) -> bool {
        self.failed_after != NEVER && self.failed_after != 0
    }

    /// Whether a call that was cancelled after `elapsed` counts as a failure.
    pub(crate) fn is_failure_if_cancelled(&self, elapsed: Duration) -> bool {
        self.failed_after != NEVER && saturating_nanos(elapsed) >= self.failed_after
    }
}

/// SplitMix64's finalizer (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(config: Config) -> [u64; 5] {
        config.check().unwrap();
        let plan = config.plan();
        [0, 1, 2, 3, 4].map(|reopened| plan.wait(reopened, 0, 0).as_micros() as u64)
    }

    #[test]
    fn the_wait_is_exact_and_capped() {
        let base = Config::new().open_for(Duration::from_millis(1000));
        assert_eq!(waits(base), [1_000_000; 5]);
        assert_eq!(waits(base.backoff(1.5)), [1_000_000, 1_500_000, 2_250_000, 3_375_000, 5_062_500]);
        let capped = base.backoff(1.1).max_open(Duration::from_millis(1300));
        assert_eq!(waits(capped), [1_000_000, 1_100_000, 1_210_000, 1_300_000, 1_300_000]);
        let plan = base.backoff(4000.0).plan();
        assert_eq!(plan.wait(u64::from(u32::MAX), 0, 0), LONGEST);
    }

    #[test]
    fn jitter_spreads_evenly_within_its_bounds_and_is_a_function_of_seed_and_generation() {
        let config = |seed| Config::new().open_for(Duration::from_secs(10)).jitter(20.0).seed(seed);
        let wait = |seed, generation| config(seed).plan().wait(0, generation, config(seed).mixed_seed());
        let mut tenths = [0; 10];
        for generation in 0..10_000 {
            let drawn = wait(7, generation);
            assert_eq!(drawn, wait(7, generation));
            let offset = drawn.as_secs_f64() - 8.0;
            assert!((0.0..=4.0).contains(&offset), "{drawn:?}");
            tenths[((offset / 0.4) as usize).min(9)] += 1;
        }
        assert!(tenths.iter().all(|count| (850..1150).contains(count)), "{tenths:?}");
        assert_ne!(wait(1, 0), wait(2, 0));
    }
}
