//! Calls of gRPC, whose status comes in the trailers: the permit moves into the response's body. Feature `tower-http`.
//!
//! ```
//! use failfast::{CircuitBreaker, tower::{CircuitBreakerLayer, grpc}};
//! use tower::ServiceBuilder;
//!
//! # use std::convert::Infallible;
//! # let channel = tower::service_fn(|_: http::Request<String>| async { Ok::<_, Infallible>(http::Response::new(String::new())) });
//! // Around tonic's `Channel`, for a generated client; or as a layer of tonic's server.
//! let layer = CircuitBreakerLayer::new(CircuitBreaker::builder().build()?)
//!     .classify(grpc::ByStatus::new())
//!     .on_rejected(grpc::unavailable);
//! let service = ServiceBuilder::new().layer(layer).service(channel);
//! # fn check(_: impl tower::Service<http::Request<String>, Error = Infallible>) {}
//! # check(service);
//! # Ok::<(), failfast::ConfigError>(())
//! ```

use alloc::string::String;
use core::fmt::Write;
use core::ops::Deref;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use ::http::{HeaderMap, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;

use super::classify::Classify;
use super::unwinding::Unwinding;
use crate::error::Rejected;
use crate::integrations::grpc::{RETRY_PUSHBACK, UNAVAILABLE, UNKNOWN, outcome_of, pushback};
use crate::outcome::Outcome;
use crate::permit::{Breaker, Permit};

const STATUS: &str = "grpc-status";
const MESSAGE: &str = "grpc-message";

/// The outcome of a status code and its retry pushback.
type OutcomeOf = fn(i32, Option<Duration>) -> Outcome;

/// A [`Classify`] by gRPC's status, wherever it is: in the trailers, or in the head of a response that has nothing
/// else. What a status counts as says [`failfast::grpc::outcome_of`](outcome_of), unless [`outcomes`](Self::outcomes)
/// does.
///
/// - The call lasts until the body ends: that is when it is settled, and how long it took for a slow-call rate, its
///   reader's time included.
/// - A body that is dropped before its end is a cancelled call, as [`OnCancel`](crate::OnCancel) says.
/// - A body that breaks off with an error is a failure, or what [`on_body_error`](Self::on_body_error) says.
/// - A response without a status counts as the code that gRPC makes of its HTTP status; one with 200 as UNKNOWN.
/// - An error instead of a response is a failure.
///
/// It is for services of gRPC alone: a page that a router serves beside them has no status, either. A layer that makes
/// gRPC-Web of gRPC goes outside, since gRPC-Web has its trailers among the data.
///
/// ```
/// use failfast::{Outcome, grpc::outcome_of, tower::grpc::ByStatus};
///
/// // This service answers NOT_FOUND when its database is away.
/// let by_status = ByStatus::new()
///     .outcomes(|code, pushback| match code {
///         5 => Outcome::Failure,
///         _ => outcome_of(code, pushback),
///     })
///     .on_body_error(Outcome::Ignored);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct ByStatus {
    outcomes: OutcomeOf,
    on_body_error: Outcome,
}

impl ByStatus {
    /// By [`outcome_of`]; a body's error is a failure.
    #[must_use]
    pub const fn new() -> Self {
        Self { outcomes: outcome_of, on_body_error: Outcome::Failure }
    }

    /// What a status code and its retry pushback count as. Default [`outcome_of`].
    #[must_use]
    pub const fn outcomes(mut self, outcomes: OutcomeOf) -> Self {
        self.outcomes = outcomes;
        self
    }

    /// What it counts as when the body breaks off with an error. Default [`Outcome::Failure`].
    #[must_use]
    pub const fn on_body_error(mut self, outcome: Outcome) -> Self {
        self.on_body_error = outcome;
        self
    }

    /// By the status in a head or in trailers, if there is one.
    fn status(&self, headers: &HeaderMap) -> Option<Outcome> {
        let code = headers.get(STATUS)?.to_str().ok().and_then(|code| code.parse().ok());
        let wait = headers.get(RETRY_PUSHBACK).and_then(|value| pushback(value.as_bytes()));
        Some((self.outcomes)(code.unwrap_or(UNKNOWN), wait))
    }

    fn without_status(&self) -> Outcome {
        (self.outcomes)(UNKNOWN, None)
    }
}

impl Default for ByStatus {
    fn default() -> Self {
        Self::new()
    }
}

impl<B, E, H> Classify<Response<B>, E, H> for ByStatus
where
    B: http_body::Body,
    H: Deref,
    H::Target: Breaker,
{
    type Response = Response<Body<B, H>>;

    fn classify(&self, result: &Result<Response<B>, E>) -> Option<Outcome> {
        let Ok(response) = result else { return Some(Outcome::Failure) };
        self.status(response.headers()).or_else(|| match response.status() {
            StatusCode::OK if response.body().is_end_stream() => Some(self.without_status()),
            StatusCode::OK => None,
            status => Some((self.outcomes)(code_of(status), None)),
        })
    }

    fn respond(&self, response: Response<B>, permit: Option<Permit<H>>) -> Self::Response {
        response.map(|body| Body { body, permit, by: *self })
    }
}

/// The code of a response that is not gRPC's, from a proxy for example: gRPC's mapping from HTTP.
const fn code_of(status: StatusCode) -> i32 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

pin_project! {
    /// A response's body that settles the call when it ends: what [`ByStatus`] makes of the inner service's.
    ///
    /// ```
    /// use failfast::{CircuitBreaker, tower::grpc::Body};
    /// use std::sync::Arc;
    ///
    /// // The responses of a service of `Response<String>`, behind a breaker.
    /// type Response = http::Response<Body<String, Arc<CircuitBreaker>>>;
    /// let empty = Response::default();
    /// ```
    #[derive(Debug)]
    pub struct Body<B, H>
    where
        H: Deref,
        H::Target: Breaker,
    {
        #[pin]
        body: B,
        permit: Option<Permit<H>>,
        by: ByStatus,
    }
}

/// Of a response that is nobody's call, such as a rejection's.
impl<B, H> Default for Body<B, H>
where
    B: Default,
    H: Deref,
    H::Target: Breaker,
{
    fn default() -> Self {
        Self { body: B::default(), permit: None, by: ByStatus::default() }
    }
}

impl<B, H> http_body::Body for Body<B, H>
where
    B: http_body::Body,
    H: Deref,
    H::Target: Breaker,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let mut this = self.project();
        if this.permit.is_none() {
            return this.body.poll_frame(context);
        }
        let unwinding = Unwinding::new(this.permit);
        let polled = this.body.as_mut().poll_frame(context);
        let outcome = match &polled {
            Poll::Ready(Some(Ok(frame))) => match frame.trailers_ref() {
                Some(trailers) => Some(this.by.status(trailers).unwrap_or_else(|| this.by.without_status())),
                // Who sees that it has ended may not ask for another frame.
                None => this.body.is_end_stream().then(|| this.by.without_status()),
            },
            Poll::Ready(Some(Err(_))) => Some(this.by.on_body_error),
            Poll::Ready(None) => Some(this.by.without_status()),
            Poll::Pending => None,
        };
        unwinding.over();
        let Some(outcome) = outcome else { return polled };
        if let Some(permit) = this.permit.take() {
            permit.settle(outcome);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// UNAVAILABLE without a body, the rejection as its message, and retry pushback while the wait is known (the breaker
/// is open, not half-open or forced open), in milliseconds, rounded up.
///
/// The message has the numbers of failed calls. A server that must not tell them replaces it:
///
/// ```
/// use failfast::{CircuitBreaker, ManualClock, tower::grpc::unavailable};
///
/// let clock = ManualClock::new();
/// let breaker = CircuitBreaker::builder().clock(&clock).build()?;
/// breaker.open();
/// let rejected = breaker.try_acquire().unwrap_err();
/// let mut response: http::Response<String> = unavailable(&rejected);
/// assert_eq!(response.headers()["grpc-status"], "14");
/// assert_eq!(response.headers()["grpc-message"], "circuit open: opened by hand; retry in 30.0 s");
/// assert_eq!(response.headers()["grpc-retry-pushback-ms"], "30000");
/// response.headers_mut().insert("grpc-message", "try later".parse()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn unavailable<B: Default>(rejected: &Rejected) -> Response<B> {
    let mut message = Encoded(String::new());
    _ = write!(message, "{rejected}");
    let mut response = Response::new(B::default());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(STATUS, HeaderValue::from(UNAVAILABLE));
    headers.insert(MESSAGE, HeaderValue::try_from(message.0).expect("it is encoded"));
    if let Some(wait) = rejected.retry_after() {
        let millis = wait.as_nanos().div_ceil(1_000_000).clamp(1, i32::MAX as u128);
        headers.insert(RETRY_PUSHBACK, HeaderValue::from(millis as i32));
    }
    response
}

/// A message as gRPC's headers have it: printable ASCII but `%`, everything else percent-encoded.
struct Encoded(String);

impl Write for Encoded {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        text.bytes().try_for_each(|byte| match byte {
            b'%' => self.0.write_str("%25"),
            b' '..=b'~' => self.0.write_char(byte.into()),
            _ => write!(self.0, "%{byte:02X}"),
        })
    }
}
