//! Transitions as [tracing] events: who opened, why, and for how long (feature `tracing`).
//!
//! ```
//! use failfast::CircuitBreaker;
//! use failfast::tracing::Events;
//!
//! let breaker = CircuitBreaker::builder().observer(Events::new("payments")).build()?;
//! breaker.open();
//! // WARN failfast: circuit payments: closed -> open (opened by hand) name="payments" from="closed" to="open"
//! //      reason="by_hand" generation=1 total=0 failed=0 retry_after=30.0
//! # Ok::<(), failfast::ConfigError>(())
//! ```
//!
//! Nothing happens on the path of a call: an event is made when the state changes, by the thread that changed it.
//! Outcomes and rejections make none; the feature `metrics` counts them.
//!
//! # Events
//!
//! The target is `failfast`, so that `RUST_LOG=failfast=info` shows all of them.
//!
//! | what | level | why |
//! |---|---|---|
//! | to open | `WARN` | a dependency is down, and calls are rejected |
//! | to forced open, disabled, metrics only | `WARN` | somebody has overruled the breaker, until somebody ends that |
//! | to half-open | `INFO` | it is being tried |
//! | to closed | `INFO` | it is well again |
//! | a would-trip | `WARN` | it would have opened, were it not metrics-only |
//!
//! | field | type | in which | what |
//! |---|---|---|---|
//! | `message` | text | all | for a person: what follows in one line, the name escaped |
//! | `name` | text | all | the breaker's |
//! | `from`, `to` | text | transitions | [`State::as_str`](crate::State::as_str) |
//! | `would_trip` | bool | would-trips | `true` |
//! | `reason` | text | all | [`Cause::as_str`](crate::Cause::as_str), of a would-trip [`Reason::as_str`](crate::Reason::as_str) |
//! | `generation` | text | transitions | orders transitions of one breaker: callbacks of different threads may overlap |
//! | `total`, `failed`, `slow` | number | to open from closed, and would-trips | the counts that made it; `slow` with a slow-call limit |
//! | `retry_after` | number | to open | seconds that it will be open |

use ::tracing::{Level, event};

use crate::observer::{Observer, Transition, WouldTrip};
use crate::snapshot::State;

/// An observer that makes a tracing event of every transition and would-trip. See the [module](self) for what is in it.
///
/// `N` is the breaker's name: a `&'static str`, a `String`, an `Arc<str>`.
///
/// ```
/// use failfast::tracing::Events;
/// use failfast::{CircuitBreaker, Config, Consecutive, DefaultClock};
///
/// static MAIL: CircuitBreaker<Consecutive, DefaultClock, Events> =
///     CircuitBreaker::new_with(Consecutive::new(5), Config::new(), DefaultClock, Events::new("mail"));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Events<N = &'static str> {
    name: N,
}

impl<N: AsRef<str> + Send + Sync> Events<N> {
    /// Of the breaker of this name.
    #[must_use]
    pub const fn new(name: N) -> Self {
        Self { name }
    }
}

impl<N: AsRef<str> + Send + Sync> Observer for Events<N> {
    #[inline]
    fn observes_calls(&self) -> bool {
        false
    }

    fn on_transition(&self, transition: &Transition) {
        let name = self.name.as_ref();
        let escaped = name.escape_debug();
        let counts = transition.trip().and_then(|trip| trip.counts());
        // An event's level is part of its call site, so there is one for each.
        macro_rules! emit {
            ($level:expr) => {
                event!(
                    target: "failfast",
                    $level,
                    name,
                    from = transition.from().as_str(),
                    to = transition.to().as_str(),
                    reason = transition.cause().as_str(),
                    generation = %transition.generation(),
                    total = counts.map(|counts| counts.total()),
                    failed = counts.map(|counts| counts.failed()),
                    slow = counts.and_then(|counts| counts.slow()),
                    retry_after = transition.retry_after().map(|wait| wait.as_secs_f64()),
                    "circuit {escaped}: {transition}"
                )
            };
        }
        match transition.to() {
            State::Closed | State::HalfOpen => emit!(Level::INFO),
            _ => emit!(Level::WARN),
        }
    }

    fn on_would_trip(&self, would_trip: &WouldTrip) {
        let name = self.name.as_ref();
        let trip = would_trip.trip();
        let counts = trip.counts();
        event!(
            target: "failfast",
            Level::WARN,
            name,
            would_trip = true,
            reason = trip.reason().as_str(),
            total = counts.map(|counts| counts.total()),
            failed = counts.map(|counts| counts.failed()),
            slow = counts.and_then(|counts| counts.slow()),
            "circuit {} would have opened: {trip}",
            name.escape_debug()
        );
    }
}
