//! What gRPC's status codes and retry pushback say about the callee.
//!
//! It needs no crate of gRPC's: a code is its number (`tonic::Code as i32`).

use core::time::Duration;

use crate::outcome::Outcome;

/// The metadata in which a server says how long to wait before the next attempt, in milliseconds.
///
/// ```
/// assert_eq!(failfast::grpc::RETRY_PUSHBACK, "grpc-retry-pushback-ms");
/// ```
pub const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// UNAVAILABLE, which a rejected call ends with.
pub(crate) const UNAVAILABLE: i32 = 14;
/// UNKNOWN, which a call without a status ends with.
pub(crate) const UNKNOWN: i32 = 2;

/// What a call counts as that ended with this status code and this retry pushback.
///
/// | code | outcome |
/// |---|---|
/// | OK | success |
/// | UNAVAILABLE, DEADLINE_EXCEEDED, INTERNAL, UNKNOWN, DATA_LOSS | failure; open for the pushback, if there is one |
/// | RESOURCE_EXHAUSTED | ignored; open for the pushback, if there is one |
/// | CANCELLED, and the client's errors: INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, UNAUTHENTICATED, FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE, UNIMPLEMENTED | ignored |
/// | a number that gRPC does not know | as UNKNOWN, as gRPC demands |
///
/// RESOURCE_EXHAUSTED is what an overloaded server sends, but also what a caller gets that has used up its own quota,
/// and what the libraries themselves raise when a message is too large. Only the pushback tells the first from the
/// others.
///
/// A pushback is taken as it is, up to the configured maximum, also where it is shorter than the breaker's own wait.
///
/// ```
/// use failfast::{Outcome, grpc};
/// use std::time::Duration;
///
/// # struct Status(i32);
/// # impl Status { fn code(&self) -> i32 { self.0 } }
/// // With tonic: `status.code() as i32`.
/// let classify = |result: &Result<(), Status>| match result {
///     Ok(_) => Outcome::Success,
///     Err(status) => grpc::outcome_of(status.code(), None),
/// };
/// let breaker = failfast::CircuitBreaker::builder().failures(1).build()?;
/// _ = breaker.call_with(classify, || Err(Status(5))); // NOT_FOUND
/// assert!(breaker.try_acquire().is_ok());
/// _ = breaker.call_with(classify, || Err(Status(13))); // INTERNAL
/// assert!(breaker.try_acquire().is_err());
///
/// let pushback = Some(Duration::from_secs(3));
/// assert_eq!(grpc::outcome_of(8, pushback), Outcome::OpenFor(pushback)); // RESOURCE_EXHAUSTED
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[must_use]
pub const fn outcome_of(code: i32, pushback: Option<Duration>) -> Outcome {
    match (code, pushback) {
        (0, _) => Outcome::Success,
        (1 | 3 | 5..=7 | 9..=12 | 16, _) | (8, None) => Outcome::Ignored,
        (_, None) => Outcome::Failure,
        (_, Some(_)) => Outcome::OpenFor(pushback),
    }
}

/// The wait that a value of [`RETRY_PUSHBACK`] asks for. None if it is 0 (try again at once), or says not to try this
/// call again: negative, or no number.
///
/// ```
/// use failfast::grpc::pushback;
/// use std::time::Duration;
///
/// assert_eq!(pushback(b"1500"), Some(Duration::from_millis(1500)));
/// assert_eq!(pushback(b"0"), None);
/// assert_eq!(pushback(b"-1"), None);
/// assert_eq!(pushback(b"soon"), None);
/// ```
#[must_use]
pub fn pushback(value: &[u8]) -> Option<Duration> {
    let millis: i32 = core::str::from_utf8(value).ok()?.parse().ok()?;
    u64::try_from(millis).ok().filter(|&millis| millis > 0).map(Duration::from_millis)
}
