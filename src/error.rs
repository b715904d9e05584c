//! What can go wrong: a configuration, a call, a move by hand.

use core::fmt;
use core::time::Duration;

use crate::snapshot::{Reason, State, Trip};

/// A configuration that makes no sense. It names the field, the value and the legal range.
///
/// ```
/// use failfast::CircuitBreaker;
///
/// let error = CircuitBreaker::builder().probes(3).successes(4).build().err().unwrap();
/// assert_eq!(error.to_string(), "half_open.successes is 4: must be from 1 to half_open.probes (3)");
/// assert_eq!(error.field(), "half_open.successes");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConfigError {
    field: &'static str,
    value: Value,
    legal: &'static str,
    bound: Option<Value>,
}

/// A value as its field counts it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    Missing,
    NoThreshold,
    Count(u64),
    Percent(f64),
    Factor(f64),
    Time(Duration),
    State(State),
    /// Of a policy; only a list of them can have another one.
    #[cfg(feature = "alloc")]
    Kind(&'static str),
}

impl ConfigError {
    pub(crate) const fn new(field: &'static str, value: Value, legal: &'static str) -> Self {
        Self { field, value, legal, bound: None }
    }

    /// What a live breaker cannot change.
    pub(crate) const fn fixed(field: &'static str, new: Value, built: Value) -> Self {
        Self::new(field, new, "must be what the breaker was built with").bound(built)
    }

    /// Adds the value of the other field that `legal` ends with.
    pub(crate) const fn bound(mut self, bound: Value) -> Self {
        self.bound = Some(bound);
        self
    }

    /// The field's path, for example `half_open.successes`: the setter's name behind its group, and the key in a file.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        self.field
    }

    /// What the field may be, for example `must be from 1 to half_open.probes`.
    #[must_use]
    pub const fn legal(&self) -> &'static str {
        self.legal
    }

    /// Fails the compilation of a constant. A constant's message can only be put together from literals, so it is
    /// one for each field.
    #[cfg(not(failfast_loom))]
    pub(crate) const fn fail(&self) -> ! {
        // A match on strings is not const; the paths differ in length or in one byte.
        macro_rules! fail_with {
            ($($field:literal => $message:literal),+ $(,)?) => {
                $(if same(self.field, $field) { panic!($message) })+
            };
        }
        fail_with! {
            "consecutive.failures" => "consecutive.failures: must be from 1 to 4294967295",
            "window.calls" => "window.calls: must be from 1 to 1000000",
            "window.buckets" => "window.buckets: must be from 1 to 65535",
            "window.stripes" => "window.stripes: must be from 1 to 1024",
            "window.length" => "window.length: must be from 100 us to 3650 days, and divide evenly by window.buckets",
            "window.min_calls" => "window.min_calls: must be at least 1, and no more than a count window's calls",
            "window.failures" => "window.failures: must be at least 1, and no more than a count window's calls",
            "window.failure_rate" => "window.failure_rate: must be above 0 % (at least 0.000001 %) and at most 100 %",
            "window.slow_call_rate" => "window.slow_call_rate: must be above 0 % and at most 100 %, and have a slow_call_limit",
            "window.slow_call_limit" => "window.slow_call_limit: must be more than 0, and have a slow_call_rate",
            "window" => "window: must have failures, failure_rate or slow_call_rate",
            "open.for" => "open.for: must be more than 0 and at most 3650 days",
            "open.backoff" => "open.backoff: must be from 1 to 4000",
            "open.max" => "open.max: must be at least open.for and at most 3650 days",
            "open.jitter" => "open.jitter: must be from 0 % to 100 %",
            "half_open.probes" => "half_open.probes: must be from 1 to 16383",
            "half_open.successes" => "half_open.successes: must be from 1 to half_open.probes",
            "half_open.max_wait" => "half_open.max_wait: must be more than 0 and at most 3650 days",
            "on_cancel.failure_after" => "on_cancel.failure_after: must be more than 0",
            "initial_state" => "initial_state: must be closed, open, forced_open, disabled or metrics_only",
        }
        panic!("a value is out of its range")
    }
}

#[cfg(not(failfast_loom))]
const fn same(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, value, legal, bound } = self;
        write!(f, "{field} is {value}: {legal}")?;
        bound.map_or(Ok(()), |bound| write!(f, " ({bound})"))
    }
}

impl core::error::Error for ConfigError {}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("not set"),
            Self::NoThreshold => f.write_str("without a threshold"),
            Self::Count(count) => count.fmt(f),
            Self::Percent(percent) => write!(f, "{percent} %"),
            Self::Factor(factor) => factor.fmt(f),
            Self::Time(time) => write!(f, "{time:?}"),
            Self::State(state) => state.fmt(f),
            #[cfg(feature = "alloc")]
            Self::Kind(kind) => f.write_str(kind),
        }
    }
}

/// A call that was not made: why, and how long to wait.
///
/// ```
/// use failfast::{CircuitBreaker, Reason, State};
/// use std::time::Duration;
///
/// let breaker = CircuitBreaker::builder().failures(1).open_for(Duration::from_secs(30)).build()?;
/// breaker.try_acquire()?.failure();
///
/// let rejected = breaker.try_acquire().unwrap_err();
/// assert_eq!(rejected.state(), State::Open);
/// assert_eq!(rejected.reason(), Some(Reason::ConsecutiveFailures));
/// assert_eq!(rejected.retry_after().unwrap().as_secs_f64().round(), 30.0);
/// assert!(rejected.to_string().starts_with("circuit open: 1 call failed in a row (limit 1); retry in "));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rejected {
    state: State,
    trip: Option<Trip>,
    /// In nanoseconds; only an open breaker's is known. Of a full registry, which rejects as if forced open: its
    /// capacity.
    retry_after: u64,
}

impl Rejected {
    #[inline]
    pub(crate) const fn open(retry_after: u64, trip: Option<Trip>) -> Self {
        Self { state: State::Open, trip, retry_after }
    }

    pub(crate) const fn half_open(trip: Trip) -> Self {
        Self { state: State::HalfOpen, trip: Some(trip), retry_after: 0 }
    }

    pub(crate) const FORCED_OPEN: Self = Self { state: State::ForcedOpen, trip: None, retry_after: 0 };

    /// By a full registry.
    #[cfg(feature = "registry")]
    pub(crate) fn full(capacity: core::num::NonZeroU32) -> Self {
        Self { retry_after: u64::from(capacity.get()), ..Self::FORCED_OPEN }
    }

    /// The capacity of the registry that had no place for the breaker, if that is why.
    #[must_use]
    pub const fn full_registry(&self) -> Option<u64> {
        match self.state {
            State::ForcedOpen if self.retry_after > 0 => Some(self.retry_after),
            _ => None,
        }
    }

    /// The state that rejected the call: open, half-open (all probes' places are taken) or forced open. A registry that
    /// is full rejects as if forced open.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// How long to wait before a call can be admitted; known while the breaker is open, not while it is half-open
    /// or forced open.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self.state {
            State::Open => Some(Duration::from_nanos(self.retry_after)),
            _ => None,
        }
    }

    /// Why the breaker opened; none when it was forced open.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.trip.map(|trip| trip.reason())
    }

    /// Why the breaker opened, with the counts that made it.
    #[must_use]
    pub const fn trip(&self) -> Option<Trip> {
        self.trip
    }
}

impl Rejected {
    /// The state alone, without what led to it.
    fn write_state(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.state, self.full_registry()) {
            (State::HalfOpen, _) => f.write_str("circuit half-open, all probes are out"),
            (State::ForcedOpen, None) => f.write_str("circuit forced open by hand"),
            (_, Some(capacity)) => write!(f, "circuit registry full: {capacity} of {capacity} breakers are in use"),
            _ => f.write_str("circuit open"),
        }
    }

    fn write_wait(&self, f: &mut fmt::Formatter<'_>, separator: &str) -> fmt::Result {
        match self.retry_after() {
            Some(wait) => write!(f, "{separator} retry in {}", crate::snapshot::Seconds(wait)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_state(f)?;
        if let Some(trip) = self.trip {
            write!(f, ": {trip}")?;
        }
        self.write_wait(f, ";")
    }
}

/// A rejection in few words, for another error's text.
#[cfg(feature = "alloc")]
pub(crate) struct InShort<'a>(pub(crate) &'a Rejected);

#[cfg(feature = "alloc")]
impl fmt::Display for InShort<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write_state(f)?;
        self.0.write_wait(f, ",")
    }
}

impl core::error::Error for Rejected {}

/// A call that did not succeed: it was rejected, or it failed with an error of its own.
///
/// ```
/// use failfast::{CallError, CircuitBreaker};
///
/// let breaker = CircuitBreaker::builder().failures(1).build()?;
/// let failed = breaker.call(|| "x".parse::<u32>());
/// assert!(matches!(failed, Err(CallError::Failed(_))));
/// let rejected = breaker.call(|| "1".parse::<u32>());
/// assert!(matches!(rejected, Err(CallError::Rejected(_))));
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CallError<E> {
    /// The breaker did not let the call through.
    Rejected(Rejected),
    /// The call was made. This is its own error, untouched.
    Failed(E),
}

impl<E> CallError<E> {
    /// The rejection, if it was one.
    ///
    /// ```
    /// # let breaker = failfast::CircuitBreaker::builder().build()?;
    /// breaker.force_open();
    /// let error = breaker.call(|| "1".parse::<u32>()).unwrap_err();
    /// assert_eq!(error.rejected().unwrap().state(), failfast::State::ForcedOpen);
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    pub fn rejected(&self) -> Option<&Rejected> {
        match self {
            Self::Rejected(rejected) => Some(rejected),
            Self::Failed(_) => None,
        }
    }

    /// The call's own error, if it was made.
    ///
    /// ```
    /// # let breaker = failfast::CircuitBreaker::builder().build()?;
    /// let error = breaker.call(|| "x".parse::<u32>()).unwrap_err();
    /// assert_eq!(error.into_failed(), "x".parse::<u32>().err());
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    pub fn into_failed(self) -> Option<E> {
        match self {
            Self::Rejected(_) => None,
            Self::Failed(error) => Some(error),
        }
    }
}

impl<E> CallError<E> {
    /// The call's own error, or the rejection as one: for an error type that a rejection can be made into, such as
    /// `anyhow::Error`, `Box<dyn Error>`, or an enum of your own. There a rejection is found by downcasting to
    /// [`Rejected`], and the call's own error as ever.
    ///
    /// ```
    /// use failfast::{CallError, Rejected};
    ///
    /// fn fetch() -> Result<u32, Box<dyn std::error::Error>> { Ok("42".parse()?) }
    ///
    /// fn guarded() -> Result<u32, Box<dyn std::error::Error>> {
    ///     let breaker = failfast::CircuitBreaker::builder().build()?;
    ///     breaker.force_open();
    ///     breaker.call(fetch).map_err(CallError::flatten)
    /// }
    /// assert!(guarded().unwrap_err().is::<Rejected>());
    /// ```
    pub fn flatten(self) -> E
    where
        E: From<Rejected>,
    {
        match self {
            Self::Rejected(rejected) => rejected.into(),
            Self::Failed(error) => error,
        }
    }

    /// A fallback for a rejected call, after the call: for those that have no `…or_else` of their own.
    ///
    /// # Errors
    /// The call's own error, or the fallback's.
    ///
    /// ```
    /// use failfast::Outcome;
    ///
    /// let breaker = failfast::CircuitBreaker::builder().build()?;
    /// breaker.force_open();
    /// let price = breaker
    ///     .call_with(Outcome::of, || "42".parse::<u32>())
    ///     .or_else(|error| error.or_else(|_rejected| Ok(41)));
    /// assert_eq!(price, Ok(41));
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    pub fn or_else<T>(self, fallback: impl FnOnce(Rejected) -> Result<T, E>) -> Result<T, E> {
        match self {
            Self::Rejected(rejected) => fallback(rejected),
            Self::Failed(error) => Err(error),
        }
    }
}

impl<E> From<Rejected> for CallError<E> {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejected) => rejected.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

/// A failed call is transparent: it reads, and has the source, of the call's own error.
impl<E: core::error::Error> core::error::Error for CallError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Rejected(_) => None,
            Self::Failed(error) => error.source(),
        }
    }
}

/// A move by hand that the state does not allow.
///
/// ```
/// let breaker = failfast::CircuitBreaker::builder().build()?;
/// let error = breaker.half_open().unwrap_err();
/// assert_eq!(error.to_string(), "cannot half-open a closed breaker: it must be open");
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IllegalTransition {
    pub(crate) from: State,
}

impl IllegalTransition {
    /// The state that the breaker is in.
    #[must_use]
    pub const fn from(&self) -> State {
        self.from
    }
}

impl fmt::Display for IllegalTransition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot half-open a {} breaker: it must be open", self.from)
    }
}

impl core::error::Error for IllegalTransition {}
