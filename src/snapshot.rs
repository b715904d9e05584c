//! What a breaker looks like from outside.

use core::fmt;
use core::num::NonZeroU64;
use core::time::Duration;

use crate::policy::Tally;
use crate::raw::gate::{Kind, Probes};
use crate::time::Timestamp;

/// The state of a breaker.
///
/// ```
/// assert_eq!(failfast::State::HalfOpen.to_string(), "half_open");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum State {
    /// Calls go through, and their outcomes decide whether it trips.
    Closed,
    /// Every call is rejected until the wait is over.
    Open,
    /// A few probes are let through, and their outcomes decide what comes next.
    HalfOpen,
    /// By hand: every call is rejected until the hand moves it on.
    ForcedOpen,
    /// By hand: every call goes through, nothing is recorded.
    Disabled,
    /// By hand: every call goes through and is recorded; a trip is only reported.
    MetricsOnly,
}

impl State {
    /// The state's name: `closed`, `open`, `half_open`, `forced_open`, `disabled` or `metrics_only`.
    ///
    /// ```
    /// assert_eq!(failfast::State::MetricsOnly.as_str(), "metrics_only");
    /// ```
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics_only",
        }
    }

    pub(crate) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Closed => Self::Closed,
            Kind::MetricsOnly => Self::MetricsOnly,
            Kind::Disabled => Self::Disabled,
            Kind::ForcedOpen => Self::ForcedOpen,
            Kind::HalfOpen => Self::HalfOpen,
            _ => Self::Open,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why a breaker opened.
///
/// ```
/// assert_eq!(failfast::Reason::SlowCallRate.to_string(), "slow_call_rate");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// So many calls failed in a row.
    ConsecutiveFailures,
    /// So many calls in the window failed.
    Failures,
    /// So large a share of the calls in the window failed.
    FailureRate,
    /// So large a share of the calls in the window was slow.
    SlowCallRate,
    /// The callee asked for it: an outcome "open for".
    Requested,
    /// Half-open, so many probes failed that the rest could not close it.
    ProbeFailed,
    /// Half-open, the probes did not decide in time.
    ProbeTimeout,
    /// By hand.
    ByHand,
}

impl Reason {
    /// The reason's name, for example `failure_rate`.
    ///
    /// ```
    /// assert_eq!(failfast::Reason::ByHand.as_str(), "by_hand");
    /// ```
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::Failures => "failures",
            Self::FailureRate => "failure_rate",
            Self::SlowCallRate => "slow_call_rate",
            Self::Requested => "requested",
            Self::ProbeFailed => "probe_failed",
            Self::ProbeTimeout => "probe_timeout",
            Self::ByHand => "by_hand",
        }
    }

    /// None unless the kind is open.
    #[inline]
    pub(crate) const fn of(kind: Kind) -> Option<Self> {
        // The kinds that are open are the last ones, in this order.
        const OPEN: [Reason; 10] = [
            Reason::ConsecutiveFailures,
            Reason::Failures,
            Reason::FailureRate,
            Reason::SlowCallRate,
            Reason::Requested,
            Reason::ByHand,
            Reason::ProbeFailed,
            Reason::ProbeTimeout,
            Reason::Requested,
            Reason::ByHand,
        ];
        let (kind, first) = (kind as usize, Kind::ConsecutiveFailures as usize);
        if kind < first { None } else { Some(OPEN[kind - first]) }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Which life of a breaker: it counts every transition, renewal of a half-open period, and reset.
///
/// It is 20 bits wide and wraps: compare two of them only when fewer than half a million lie between.
///
/// ```
/// let breaker = failfast::CircuitBreaker::builder().build()?;
/// let before = breaker.snapshot().generation();
/// breaker.reset();
/// let after = breaker.snapshot().generation();
/// assert!(after.is_after(before) && !before.is_after(after));
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Generation(pub(crate) u64);

impl Generation {
    /// Whether this one came after `other`.
    #[must_use]
    pub const fn is_after(self, other: Self) -> bool {
        let ahead = crate::raw::bits::generations_between(other.0, self.0);
        ahead != 0 && ahead < 1 << (crate::raw::bits::GENERATION_BITS - 1)
    }
}

/// A duration as a person reads it: `6.9 s`, `80 ms`.
pub(crate) struct Seconds(pub(crate) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs_f64() {
            seconds if seconds >= 1.0 => write!(f, "{seconds:.1} s"),
            seconds => write!(f, "{:.0} ms", seconds * 1e3),
        }
    }
}

/// A number of things.
struct Plural(u64, &'static str);

impl fmt::Display for Plural {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} {}{plural}", self.0, self.1)
    }
}

/// A rate or a percentage as its limit was given: in units of 0.000001 %.
pub(crate) const HUNDRED_PERCENT: u32 = 100_000_000;

/// What a policy counts over.
///
/// ```
/// use failfast::{CircuitBreaker, Span, TimeWindow};
/// use std::time::Duration;
///
/// let breaker = CircuitBreaker::builder().policy(TimeWindow::standard()).build()?;
/// assert_eq!(breaker.snapshot().window().span(), Span::Time(Duration::from_secs(10)));
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Span {
    /// Failures in a row.
    Streak,
    /// The last so many calls.
    Calls(u32),
    /// The last so much time.
    Time(Duration),
}

/// A [`Span`] in one word, so that a rejection is small: it is made in nanoseconds, and read seldom.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PackedSpan(NonZeroU64);

impl PackedSpan {
    pub(crate) const STREAK: Self = Self::pack(0, 1);

    pub(crate) const fn calls(calls: u32) -> Self {
        Self::pack(calls as u64, 2)
    }

    /// At most ten years, which is below 2^62 nanoseconds.
    pub(crate) const fn time(nanos: u64) -> Self {
        Self::pack(nanos, 3)
    }

    const fn pack(length: u64, kind: u64) -> Self {
        // The kind is never 0.
        Self(NonZeroU64::MIN.saturating_add((length << 2 | kind) - 1))
    }

    const fn get(self) -> Span {
        let length = self.0.get() >> 2;
        match self.0.get() & 3 {
            1 => Span::Streak,
            2 => Span::Calls(length as u32),
            _ => Span::Time(Duration::from_nanos(length)),
        }
    }
}

impl fmt::Debug for PackedSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

/// The counts of one policy.
///
/// ```
/// use failfast::{CircuitBreaker, LastCalls, Span};
///
/// let breaker = CircuitBreaker::builder()
///     .policy(LastCalls::<10>::new().min_calls(2).failure_rate(60.0))
///     .build()?;
/// breaker.try_acquire()?.failure();
/// assert_eq!(breaker.snapshot().window().failure_rate(), None);
/// breaker.try_acquire()?.success();
/// let window = breaker.snapshot().window();
/// assert_eq!((window.total(), window.failed(), window.succeeded()), (2, 1, 1));
/// assert_eq!(window.failure_rate(), Some(50.0));
/// assert_eq!(window.slow(), None);
/// assert_eq!(window.span(), Span::Calls(10));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    span: PackedSpan,
    pub(crate) total: u64,
    pub(crate) failed: u64,
    slow: u64,
    min_calls: u32,
}

/// Where nothing is known to be slow.
const UNTIMED: u64 = u64::MAX;

impl Counts {
    #[inline]
    pub(crate) const fn new(span: PackedSpan, min_calls: u32, total: u64, failed: u64, slow: Option<u64>) -> Self {
        let slow = match slow {
            Some(slow) => slow,
            None => UNTIMED,
        };
        Self { span, total, failed, slow, min_calls }
    }

    #[inline]
    pub(crate) const fn streak(failures: u64) -> Self {
        Self::new(PackedSpan::STREAK, 0, failures, failures, None)
    }

    /// These counts as they were found by a policy.
    fn holding(self, tally: Tally) -> Self {
        let slow = self.slow().map_or(UNTIMED, |_| tally.slow);
        Self { total: tally.total, failed: tally.failed, slow, ..self }
    }

    /// What is counted over.
    #[must_use]
    pub const fn span(&self) -> Span {
        self.span.get()
    }

    /// Calls in the window. For a streak, the failures in a row.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Calls in the window that failed. For a streak, the failures in a row.
    #[must_use]
    pub const fn failed(&self) -> u64 {
        self.failed
    }

    /// Calls in the window that succeeded.
    #[must_use]
    pub const fn succeeded(&self) -> u64 {
        self.total - self.failed
    }

    /// Calls in the window that were slow, failed ones too; none without a slow-call limit.
    #[must_use]
    pub const fn slow(&self) -> Option<u64> {
        if self.slow == UNTIMED { None } else { Some(self.slow) }
    }

    /// The share of failed calls in percent; none while there are fewer than `min_calls`, and for a streak.
    #[must_use]
    pub fn failure_rate(&self) -> Option<f64> {
        self.rate(self.failed)
    }

    /// The share of slow calls in percent; none without a slow-call limit, while there are fewer than `min_calls`,
    /// and for a streak.
    #[must_use]
    pub fn slow_call_rate(&self) -> Option<f64> {
        self.rate(self.slow()?)
    }

    fn rate(&self, count: u64) -> Option<f64> {
        let known = self.span != PackedSpan::STREAK && self.total > 0 && self.total >= u64::from(self.min_calls);
        known.then(|| count as f64 * 100.0 / self.total as f64)
    }
}

/// The most policies that can be joined in one breaker.
pub(crate) const MAX_POLICIES: usize = 8;

/// The counts of all policies of a breaker, in their order. Public only for the sealed trait of policies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CountsList([Option<Counts>; MAX_POLICIES]);

impl CountsList {
    pub(crate) fn push(&mut self, counts: Counts) {
        if let Some(free) = self.0.iter_mut().find(|slot| slot.is_none()) {
            *free = Some(counts);
        }
    }

    pub(crate) fn get(&self, index: usize) -> Option<Counts> {
        self.0.get(index).copied().flatten()
    }

    /// The same, where the policy at `index` has found `tally`.
    pub(crate) fn holding(mut self, index: usize, tally: Tally) -> Self {
        if let Some(slot) = self.0.get_mut(index) {
            *slot = slot.map(|counts| counts.holding(tally));
        }
        self
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Counts> {
        self.0.into_iter().flatten()
    }
}

/// Why a breaker opened, and the counts that made it.
///
/// ```
/// use failfast::{CircuitBreaker, CountWindow, Reason};
///
/// let breaker = CircuitBreaker::builder()
///     .policy(CountWindow::over(100).min_calls(4).failure_rate(50.0))
///     .build()?;
/// for _ in 0..2 { breaker.try_acquire()?.success(); }
/// for _ in 0..2 { breaker.try_acquire()?.failure(); }
///
/// let trip = breaker.snapshot().trip().unwrap();
/// assert_eq!(trip.reason(), Reason::FailureRate);
/// assert_eq!(trip.counts().unwrap().failed(), 2);
/// assert_eq!(trip.to_string(), "2 of the last 4 calls failed (limit 50 %)");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trip {
    pub(crate) reason: Reason,
    pub(crate) counts: Option<Counts>,
    pub(crate) limit: u32,
}

impl Trip {
    /// None for a kind of gate that is not an opening.
    pub(crate) fn of(kind: Kind, limit: u32, counts: Option<Counts>) -> Option<Self> {
        Some(Self { reason: Reason::of(kind)?, counts, limit })
    }

    /// Why.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.reason
    }

    /// The counts, as they were when the outage began, of the policy that tripped (of the first one if none did: when
    /// it was requested, or by hand). None while the thread that opened it has not yet published them, and in the
    /// event of opening again from half-open.
    #[must_use]
    pub const fn counts(&self) -> Option<Counts> {
        self.counts
    }
}

impl fmt::Display for Trip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = f64::from(self.limit) * 100.0 / f64::from(HUNDRED_PERCENT);
        let counts = match self.reason {
            Reason::ConsecutiveFailures | Reason::Failures | Reason::FailureRate | Reason::SlowCallRate => self.counts,
            _ => None,
        };
        let Some(counts) = counts else {
            return f.write_str(match self.reason {
                Reason::ConsecutiveFailures => "too many calls failed in a row",
                Reason::Failures | Reason::FailureRate => "too many calls failed",
                Reason::SlowCallRate => "too many calls were slow",
                Reason::Requested => "the callee asked for a pause",
                Reason::ProbeFailed => "too many probes failed",
                Reason::ProbeTimeout => "the probes took too long",
                Reason::ByHand => "opened by hand",
            });
        };
        if self.reason == Reason::ConsecutiveFailures {
            return write!(f, "{} failed in a row (limit {})", Plural(counts.failed, "call"), self.limit);
        }
        let (count, what) = match self.reason {
            Reason::SlowCallRate if counts.slow == 1 => (1, "was slow"),
            Reason::SlowCallRate => (counts.slow, "were slow"),
            _ => (counts.failed, "failed"),
        };
        let total = Plural(counts.total, "call");
        match counts.span() {
            Span::Time(length) => write!(f, "{count} of {total} in the last {} {what}", Seconds(length))?,
            _ => write!(f, "{count} of the last {total} {what}")?,
        }
        match self.reason {
            Reason::Failures => write!(f, " (limit {})", self.limit),
            _ => write!(f, " (limit {percent} %)"),
        }
    }
}

/// The probes of a half-open period.
///
/// ```
/// use failfast::CircuitBreaker;
///
/// let breaker = CircuitBreaker::builder().probes(3).successes(2).build()?;
/// breaker.open();
/// breaker.half_open()?;
/// breaker.try_acquire()?.success();
/// let out = breaker.try_acquire()?;
/// let probes = breaker.snapshot().probes().unwrap();
/// assert_eq!((probes.admitted(), probes.succeeded(), probes.failed()), (2, 1, 0));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeCounts(pub(crate) Probes);

impl ProbeCounts {
    /// Probes admitted: those in flight and those that ended.
    #[must_use]
    pub const fn admitted(&self) -> u32 {
        self.0.admitted as u32
    }

    /// Probes that succeeded.
    #[must_use]
    pub const fn succeeded(&self) -> u32 {
        self.0.succeeded as u32
    }

    /// Probes that failed, or were slow.
    #[must_use]
    pub const fn failed(&self) -> u32 {
        self.0.failed as u32
    }
}

/// A breaker at one moment: its effective state, and what led to it.
///
/// Its `Display` is one line for a log.
///
/// ```
/// use failfast::{CircuitBreaker, ManualClock, State};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let breaker = CircuitBreaker::builder().failures(2).clock(&clock).build()?;
/// assert_eq!(breaker.snapshot().to_string(), "closed since 0 ms: 0 calls failed in a row");
/// for _ in 0..2 { breaker.try_acquire()?.failure(); }
/// clock.advance(Duration::from_millis(3_100));
///
/// let snapshot = breaker.snapshot();
/// assert_eq!(snapshot.state(), State::Open);
/// assert_eq!(snapshot.retry_after(), Some(Duration::from_millis(26_900)));
/// assert_eq!(
///     snapshot.to_string(),
///     "open since 3.1 s: 2 calls failed in a row (limit 2); probes in 26.9 s",
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Snapshot {
    pub(crate) state: State,
    pub(crate) generation: Generation,
    pub(crate) now: Timestamp,
    pub(crate) since: Option<Timestamp>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) trip: Option<Trip>,
    pub(crate) counts: CountsList,
    pub(crate) probes: Option<Probes>,
}

impl Snapshot {
    /// The effective state, as [`CircuitBreaker::state`](crate::CircuitBreaker::state) gives it.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The generation of the last transition, renewal or reset.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// For how long it has been in this state, to the millisecond; a renewal of a half-open period and a reset begin it
    /// anew. None in the instant in which the thread that opened it has not yet published the time.
    #[must_use]
    pub fn since(&self) -> Option<Duration> {
        self.since.map(|since| self.now - since)
    }

    /// How long until probes are admitted, while open.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Why it opened, from then until it closes, half-open included.
    #[must_use]
    pub const fn trip(&self) -> Option<Trip> {
        self.trip
    }

    /// The counts of the first window, or of the streak if there is no window.
    ///
    /// From a trip, or an opening by hand, until the breaker closes, these are the counts as they were then. Empty
    /// while forced open or disabled, and while the thread that opened it has not yet published them.
    #[must_use]
    pub fn window(&self) -> Counts {
        let window = self.counts.iter().find(|counts| counts.span != PackedSpan::STREAK);
        window.or_else(|| self.counts.get(0)).unwrap_or(Counts::streak(0))
    }

    /// The failures in a row, if a policy counts them; as for [`window`](Self::window) while it is not closed, and none
    /// where that is empty.
    ///
    /// ```
    /// let breaker = failfast::CircuitBreaker::builder().failures(3).build()?;
    /// breaker.try_acquire()?.failure();
    /// assert_eq!(breaker.snapshot().consecutive_failures(), Some(1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn consecutive_failures(&self) -> Option<u64> {
        self.counts.iter().find(|counts| counts.span == PackedSpan::STREAK).map(|counts| counts.failed)
    }

    /// The counts of every policy, in their order; as for [`window`](Self::window) while it is not closed, and none at all
    /// where that is empty.
    ///
    /// ```
    /// use failfast::{CircuitBreaker, Consecutive, LastCalls};
    ///
    /// let policy = (Consecutive::new(5), LastCalls::<64>::new().failures(10));
    /// let breaker = CircuitBreaker::builder().policy(policy).build()?;
    /// assert_eq!(breaker.snapshot().windows().count(), 2);
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    pub fn windows(&self) -> impl Iterator<Item = Counts> {
        self.counts.iter()
    }

    /// The probes, while half-open: none admitted yet before the first call after the wait.
    #[must_use]
    pub fn probes(&self) -> Option<ProbeCounts> {
        self.probes.map(ProbeCounts)
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.state)?;
        if let Some(since) = self.since() {
            write!(f, " since {}", Seconds(since))?;
        }
        if let Some(trip) = self.trip {
            write!(f, ": {trip}")?;
        } else if matches!(self.state, State::Closed | State::MetricsOnly) {
            let counts = self.window();
            match counts.span() {
                Span::Streak => write!(f, ": {} failed in a row", Plural(counts.failed, "call"))?,
                Span::Calls(_) => write!(f, ": {} of the last {} failed", counts.failed, Plural(counts.total, "call"))?,
                Span::Time(length) => {
                    let calls = Plural(counts.total, "call");
                    write!(f, ": {} of {calls} in the last {} failed", counts.failed, Seconds(length))?;
                }
            }
        }
        if let Some(Probes { admitted, succeeded, failed }) = self.probes {
            let admitted = Plural(u64::from(admitted), "probe");
            write!(f, "; {admitted} admitted, {succeeded} succeeded, {failed} failed")?;
        }
        self.retry_after.map_or(Ok(()), |wait| write!(f, "; probes in {}", Seconds(wait)))
    }
}
