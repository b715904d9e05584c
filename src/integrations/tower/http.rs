//! Rejections as HTTP responses: 503 with `Retry-After`. Feature `tower-http`.
//!
//! ```
//! use failfast::{CircuitBreaker, tower::{CircuitBreakerLayer, http}};
//! use std::convert::Infallible;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # use ::http::{Request, Response};
//! # pollster::block_on(async {
//! let layer = CircuitBreakerLayer::new(CircuitBreaker::builder().build()?).on_rejected(http::unavailable);
//! let handler = service_fn(|_: Request<String>| async { Ok::<_, Infallible>(Response::new(String::from("hello"))) });
//! let service = ServiceBuilder::new().layer(&layer).service(handler);
//!
//! layer.breaker().open();
//! let response = service.oneshot(Request::default()).await?; // its error is the handler's
//! assert_eq!(response.status(), 503);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

use ::http::{HeaderValue, Response, StatusCode, header::RETRY_AFTER};

use crate::error::Rejected;

/// 503 with an empty body, and with `Retry-After` while the wait is known (the breaker is open, not half-open or
/// forced open): in seconds, rounded up, at least 1.
///
/// ```
/// use failfast::{CircuitBreaker, ManualClock, tower::http::unavailable};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let breaker = CircuitBreaker::builder().open_for(Duration::from_secs(10)).clock(&clock).build()?;
/// breaker.open();
/// clock.advance(Duration::from_millis(2500));
/// let rejected = breaker.try_acquire().unwrap_err();
/// let response = unavailable::<()>(&rejected).map(|()| format!("try later: {rejected}"));
/// assert_eq!(response.status(), 503);
/// assert_eq!(response.headers()["retry-after"], "8");
/// assert_eq!(response.body(), "try later: circuit open: opened by hand; retry in 7.5 s");
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[must_use]
pub fn unavailable<B: Default>(rejected: &Rejected) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    if let Some(wait) = rejected.retry_after() {
        let seconds = wait.as_nanos().div_ceil(1_000_000_000).max(1);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds as u64));
    }
    response
}
