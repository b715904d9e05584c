//! How a call ended.

use core::time::Duration;

/// How a call ended, as far as the breaker is concerned.
///
/// ```
/// use failfast::Outcome;
///
/// assert_eq!(Outcome::of(&Ok::<_, ()>(1)), Outcome::Success);
/// assert_eq!(Outcome::of(&Err::<(), _>("down")), Outcome::Failure);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It worked.
    Success,
    /// It failed, and the callee is to blame.
    Failure,
    /// It says nothing about the callee's health (the caller's own mistake, for example): neutral.
    Ignored,
    /// A failure whose callee asked for a pause (`Retry-After`, for example): opens at once, for this long (at most
    /// the configured maximum), or without a duration for the configured wait.
    OpenFor(Option<Duration>),
}

impl Outcome {
    /// Success for `Ok`, failure for `Err`: what [`call`](crate::CircuitBreaker::call) uses.
    pub const fn of<T, E>(result: &Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Success,
            Err(_) => Self::Failure,
        }
    }
}

/// How a permit ended: with an outcome, or dropped without one. An [`Observer`](crate::Observer) is told.
///
/// ```
/// use failfast::{Outcome, Settled, SettledCall};
///
/// fn label(call: &SettledCall) -> &'static str {
///     match call.settled() {
///         Settled::With(Outcome::Success) => "success",
///         Settled::With(Outcome::Ignored) => "ignored",
///         Settled::With(_) => "failure",
///         _ => "cancelled",
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Settled {
    /// With this outcome.
    With(Outcome),
    /// Dropped unsettled: a cancelled future, an early return.
    Cancelled,
}
