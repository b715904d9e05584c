//! Who wants to know what the breaker does.

use core::fmt;
use core::time::Duration;

use crate::error::Rejected;
use crate::outcome::Settled;
use crate::raw::gate::Kind;
use crate::snapshot::{Generation, Reason, State, Trip};
use crate::time::Timestamp;

/// Is told of what a breaker does: on the thread that did it, after it took effect, outside any lock.
///
/// Every method does nothing unless implemented. An observer may call the breaker. Each transition is told exactly
/// once, by the thread that won it; callbacks of different threads may overlap and arrive out of order, so order
/// them by [`Transition::generation`] (or use [`History`](crate::History)), and read a gauge from
/// [`state`](crate::CircuitBreaker::state) rather than build it from events.
///
/// With the feature `std` a panic in an observer is caught and counted
/// ([`observer_panics`](crate::CircuitBreaker::observer_panics)); without it observers must not panic.
///
/// `&T`, `Arc<T>` (feature `alloc`) and tuples of observers are observers.
///
/// ```
/// use failfast::{CircuitBreaker, Observer, Rejected, Transition};
/// use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
///
/// #[derive(Default)]
/// struct Counts { transitions: AtomicU64, rejected: AtomicU64 }
///
/// impl Observer for Counts {
///     fn on_transition(&self, _: &Transition) { self.transitions.fetch_add(1, Relaxed); }
///     fn on_rejected(&self, _: &Rejected) { self.rejected.fetch_add(1, Relaxed); }
/// }
///
/// let counts = Counts::default();
/// let breaker = CircuitBreaker::builder().failures(1).observer(&counts).build()?;
/// breaker.try_acquire()?.failure();
/// assert!(breaker.try_acquire().is_err());
/// assert_eq!(counts.transitions.load(Relaxed), 1);
/// assert_eq!(counts.rejected.load(Relaxed), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an observer",
    note = "a closure is one as `OnTransition::new(closure)`, or by `Builder::on_transition`"
)]
pub trait Observer: Send + Sync {
    /// Whether [`on_outcome`](Self::on_outcome) or [`on_rejected`](Self::on_rejected) does anything. Answer `false`
    /// where neither does: then they are not called, and no call pays for them.
    #[inline]
    fn observes_calls(&self) -> bool {
        true
    }

    /// Whether [`on_outcome`](Self::on_outcome) wants to know how long calls took ([`SettledCall::elapsed`]). Answer the
    /// same each time. Default `false`: then no clock is read for it.
    #[inline]
    fn times_calls(&self) -> bool {
        false
    }

    /// The breaker has changed its state.
    fn on_transition(&self, transition: &Transition) {
        _ = transition;
    }

    /// A call was rejected.
    fn on_rejected(&self, rejected: &Rejected) {
        _ = rejected;
    }

    /// A call was settled. Not told while the breaker is disabled.
    fn on_outcome(&self, outcome: &SettledCall) {
        _ = outcome;
    }

    /// In [`State::MetricsOnly`]: a cause to trip has begun to hold.
    fn on_would_trip(&self, would_trip: &WouldTrip) {
        _ = would_trip;
    }
}

/// A change of state.
///
/// ```
/// use failfast::{Cause, CircuitBreaker, State, Transition};
/// use std::sync::Mutex;
///
/// let seen = Mutex::new(Vec::new());
/// let breaker = CircuitBreaker::builder()
///     .failures(1)
///     .on_transition(|transition: &Transition| seen.lock().unwrap().push(*transition))
///     .build()?;
/// breaker.try_acquire()?.failure();
/// breaker.close();
///
/// let seen = seen.lock().unwrap();
/// assert_eq!((seen[0].from(), seen[0].to()), (State::Closed, State::Open));
/// assert_eq!(seen[0].to_string(), "closed -> open (1 call failed in a row (limit 1))");
/// assert_eq!(seen[0].retry_after().unwrap().as_secs_f64().round(), 30.0);
/// assert_eq!(seen[1].to_string(), "open -> closed");
/// assert_eq!(seen[1].cause(), Cause::ByHand);
/// assert!(seen[0].at() <= seen[1].at());
/// assert_ne!(seen[0].generation(), seen[1].generation());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transition {
    pub(crate) from: State,
    pub(crate) to: State,
    pub(crate) cause: Cause,
    pub(crate) trip: Option<Trip>,
    pub(crate) generation: Generation,
    pub(crate) at: Timestamp,
    pub(crate) retry_after: Option<Duration>,
}

impl Transition {
    /// The state before.
    #[must_use]
    pub const fn from(&self) -> State {
        self.from
    }

    /// The state after.
    #[must_use]
    pub const fn to(&self) -> State {
        self.to
    }

    /// Why.
    #[must_use]
    pub const fn cause(&self) -> Cause {
        self.cause
    }

    /// Why, if it opened.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.trip.map(|trip| trip.reason())
    }

    /// Why, if it opened, with the counts that made it.
    #[must_use]
    pub const fn trip(&self) -> Option<Trip> {
        self.trip
    }

    /// The generation that began with it.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.generation
    }

    /// When, by the breaker's clock.
    #[must_use]
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// How long it will be open, if it opened. A [`History`](crate::History) does not keep it.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.from, self.to)?;
        self.trip.map_or(Ok(()), |trip| write!(f, " ({trip})"))
    }
}

/// Why a breaker changed its state.
///
/// ```
/// use failfast::{Cause, Reason};
///
/// assert_eq!(Cause::Opened(Reason::FailureRate).to_string(), "failure_rate");
/// assert_eq!(Cause::WaitOver.to_string(), "wait_over");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// It opened, for this reason.
    Opened(Reason),
    /// To half-open: a call came after the wait.
    WaitOver,
    /// To closed: enough probes succeeded.
    ProbesSucceeded,
    /// To closed: the probes did not decide in time ([`OnMaxWait::Close`](crate::OnMaxWait::Close)).
    ProbeTimeout,
    /// Any other move by hand.
    ByHand,
}

impl Cause {
    /// In the order of their indices.
    pub(crate) const ALL: [Self; 12] = [
        Self::Opened(Reason::ConsecutiveFailures),
        Self::Opened(Reason::Failures),
        Self::Opened(Reason::FailureRate),
        Self::Opened(Reason::SlowCallRate),
        Self::Opened(Reason::Requested),
        Self::Opened(Reason::ProbeFailed),
        Self::Opened(Reason::ProbeTimeout),
        Self::Opened(Reason::ByHand),
        Self::WaitOver,
        Self::ProbesSucceeded,
        Self::ProbeTimeout,
        Self::ByHand,
    ];

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Opened(reason) => reason as usize,
            Self::WaitOver => 8,
            Self::ProbesSucceeded => 9,
            Self::ProbeTimeout => 10,
            Self::ByHand => 11,
        }
    }

    /// Why `kind`, which is open, was opened.
    pub(crate) fn opened(kind: Kind) -> Self {
        Reason::of(kind).map_or(Self::ByHand, Self::Opened)
    }

    pub(crate) const fn reason(self) -> Option<Reason> {
        match self {
            Self::Opened(reason) => Some(reason),
            _ => None,
        }
    }

    /// The cause's name: that of the reason if it opened, else `wait_over`, `probes_succeeded`, `probe_timeout` or
    /// `by_hand`.
    ///
    /// ```
    /// assert_eq!(failfast::Cause::ByHand.as_str(), "by_hand");
    /// ```
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened(reason) => reason.as_str(),
            Self::WaitOver => "wait_over",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::ProbeTimeout => "probe_timeout",
            Self::ByHand => "by_hand",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A call that was settled.
///
/// ```
/// use failfast::{CircuitBreaker, Observer, Outcome, Settled, SettledCall};
///
/// struct Print;
/// impl Observer for Print {
///     fn on_outcome(&self, call: &SettledCall) {
///         assert_eq!(call.settled(), Settled::With(Outcome::Success));
///         assert!(call.counted());
///     }
/// }
/// let breaker = CircuitBreaker::builder().observer(Print).build()?;
/// breaker.try_acquire()?.success();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledCall {
    pub(crate) settled: Settled,
    pub(crate) counted: bool,
    pub(crate) elapsed: Option<Duration>,
}

impl SettledCall {
    /// How it ended.
    #[must_use]
    pub const fn settled(&self) -> Settled {
        self.settled
    }

    /// Whether it ended in the generation in which it was admitted. A straggler did not, and changed nothing.
    #[must_use]
    pub const fn counted(&self) -> bool {
        self.counted
    }

    /// How long it took, by the breaker's clock. Known if the observer asks for it ([`Observer::times_calls`]).
    ///
    /// ```
    /// use failfast::{CircuitBreaker, ManualClock, Observer, SettledCall};
    /// use std::time::Duration;
    ///
    /// struct Time;
    /// impl Observer for Time {
    ///     fn times_calls(&self) -> bool { true }
    ///     fn on_outcome(&self, call: &SettledCall) {
    ///         assert_eq!(call.elapsed(), Some(Duration::from_millis(7)));
    ///     }
    /// }
    /// let clock = ManualClock::new();
    /// let breaker = CircuitBreaker::builder().clock(&clock).observer(Time).build()?;
    /// let permit = breaker.try_acquire()?;
    /// clock.advance(Duration::from_millis(7));
    /// permit.success();
    /// # assert_eq!(breaker.observer_panics(), 0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub const fn elapsed(&self) -> Option<Duration> {
        self.elapsed
    }
}

/// A trip that [`State::MetricsOnly`] only reports.
///
/// ```
/// use failfast::{CircuitBreaker, Observer, Reason, WouldTrip};
///
/// struct Shadow;
/// impl Observer for Shadow {
///     fn on_would_trip(&self, would_trip: &WouldTrip) {
///         assert_eq!(would_trip.reason(), Reason::ConsecutiveFailures);
///         assert_eq!(would_trip.trip().to_string(), "1 call failed in a row (limit 1)");
///     }
/// }
/// let breaker = CircuitBreaker::builder().failures(1).observer(Shadow).build()?;
/// breaker.metrics_only();
/// breaker.try_acquire()?.failure();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WouldTrip {
    pub(crate) trip: Trip,
}

impl WouldTrip {
    /// Why it would have opened.
    #[must_use]
    pub const fn reason(&self) -> Reason {
        self.trip.reason()
    }

    /// Why, with the counts.
    #[must_use]
    pub const fn trip(&self) -> Trip {
        self.trip
    }
}

/// No observer, at no cost.
impl Observer for () {
    #[inline]
    fn observes_calls(&self) -> bool {
        false
    }
}

/// A closure or `fn` that is told of transitions.
///
/// ```
/// use failfast::{CircuitBreaker, History, OnTransition};
///
/// let print = OnTransition::new(|transition| println!("{transition}"));
/// let breaker = CircuitBreaker::builder().observer((History::<8>::new(), print)).build()?;
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct OnTransition<F>(F);

impl<F: Fn(&Transition) + Send + Sync> OnTransition<F> {
    /// Tells `f` of transitions.
    #[must_use]
    pub const fn new(f: F) -> Self {
        Self(f)
    }
}

impl<F: Fn(&Transition) + Send + Sync> Observer for OnTransition<F> {
    #[inline]
    fn observes_calls(&self) -> bool {
        false
    }

    fn on_transition(&self, transition: &Transition) {
        (self.0)(transition);
    }
}

macro_rules! forward {
    ($($pointer:ty),+) => {$(
        impl<T: Observer + ?Sized> Observer for $pointer {
            #[inline]
            fn observes_calls(&self) -> bool {
                (**self).observes_calls()
            }

            #[inline]
            fn times_calls(&self) -> bool {
                (**self).times_calls()
            }

            fn on_transition(&self, transition: &Transition) {
                (**self).on_transition(transition);
            }

            fn on_rejected(&self, rejected: &Rejected) {
                (**self).on_rejected(rejected);
            }

            fn on_outcome(&self, outcome: &SettledCall) {
                (**self).on_outcome(outcome);
            }

            fn on_would_trip(&self, would_trip: &WouldTrip) {
                (**self).on_would_trip(would_trip);
            }
        }
    )+};
}
forward!(&T);
#[cfg(feature = "alloc")]
forward!(alloc::sync::Arc<T>, alloc::boxed::Box<T>);

/// Several observers, each told of everything: a panic in one does not keep it from the next.
macro_rules! observe_all {
    ($($name:ident)+) => {
        #[allow(non_snake_case, reason = "the macro names each variable after its type")]
        impl<$($name: Observer),+> Observer for ($($name,)+) {
            #[inline]
            fn observes_calls(&self) -> bool {
                let ($($name,)+) = self;
                $($name.observes_calls())||+
            }

            #[inline]
            fn times_calls(&self) -> bool {
                let ($($name,)+) = self;
                $($name.times_calls())||+
            }

            fn on_transition(&self, transition: &Transition) {
                let ($($name,)+) = self;
                tell_all([$(&|| $name.on_transition(transition)),+]);
            }

            fn on_rejected(&self, rejected: &Rejected) {
                let ($($name,)+) = self;
                tell_all([$(&|| $name.on_rejected(rejected)),+]);
            }

            fn on_outcome(&self, outcome: &SettledCall) {
                let ($($name,)+) = self;
                tell_all([$(&|| $name.on_outcome(outcome)),+]);
            }

            fn on_would_trip(&self, would_trip: &WouldTrip) {
                let ($($name,)+) = self;
                tell_all([$(&|| $name.on_would_trip(would_trip)),+]);
            }
        }
    };
}
observe_all!(A B);
observe_all!(A B C);
observe_all!(A B C D);

#[cfg(feature = "std")]
fn tell_all<const N: usize>(callbacks: [&dyn Fn(); N]) {
    let panics = callbacks.map(|callback| std::panic::catch_unwind(std::panic::AssertUnwindSafe(callback)).err());
    if let Some(panic) = panics.into_iter().flatten().next() {
        std::panic::resume_unwind(panic);
    }
}

#[cfg(not(feature = "std"))]
fn tell_all<const N: usize>(callbacks: [&dyn Fn(); N]) {
    callbacks.into_iter().for_each(|callback| callback());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_in_order() {
        assert!(State::ALL.iter().enumerate().all(|(index, state)| *state as usize == index));
        assert!(Cause::ALL.iter().enumerate().all(|(index, cause)| cause.index() == index));
    }
}
