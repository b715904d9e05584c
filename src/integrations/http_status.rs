//! What HTTP's status and `Retry-After` say about the callee. Feature `http` or `tower-http`.

mod retry_after;

pub use retry_after::retry_after;

use ::http::{HeaderMap, StatusCode};

use crate::outcome::Outcome;

/// What a status says about its host.
///
/// | status | outcome |
/// |---|---|
/// | 429 and 503 with a legible `Retry-After` | [open for](Outcome::OpenFor) what it asks for |
/// | 5xx, 408 and 429 otherwise | failure |
/// | other 4xx | ignored: the request is to blame |
/// | the rest | success |
///
/// gRPC answers with a status of its own behind HTTP's 200: [`grpc`](crate::grpc) (feature `tower-http`) knows those.
///
/// ```
/// use failfast::http_status::classify_status;
/// use failfast::Outcome;
/// use http::StatusCode;
/// use http::header::{HeaderMap, HeaderValue, RETRY_AFTER};
/// use std::time::Duration;
///
/// let mut headers = HeaderMap::new();
/// assert_eq!(classify_status(StatusCode::NOT_FOUND, &headers), Outcome::Ignored);
/// assert_eq!(classify_status(StatusCode::SERVICE_UNAVAILABLE, &headers), Outcome::Failure);
///
/// headers.insert(RETRY_AFTER, HeaderValue::from_static("7"));
/// let asked = Outcome::OpenFor(Some(Duration::from_secs(7)));
/// assert_eq!(classify_status(StatusCode::SERVICE_UNAVAILABLE, &headers), asked);
/// ```
#[must_use]
pub fn classify_status(status: StatusCode, headers: &HeaderMap) -> Outcome {
    let may_ask = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    if let Some(pause) = retry_after(headers).filter(|_| may_ask) {
        return Outcome::OpenFor(Some(pause));
    }
    if may_ask || status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        Outcome::Failure
    } else if status.is_client_error() {
        Outcome::Ignored
    } else {
        Outcome::Success
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::header::{HeaderValue, RETRY_AFTER};
    use core::time::Duration;

    fn with(retry_after: Option<&'static str>, status: u16) -> Outcome {
        let mut headers = HeaderMap::new();
        if let Some(value) = retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
        }
        classify_status(StatusCode::from_u16(status).unwrap(), &headers)
    }

    #[test]
    fn every_status() {
        for status in 100..=599 {
            let expected = match status {
                408 | 429 | 500.. => Outcome::Failure,
                400.. => Outcome::Ignored,
                _ => Outcome::Success,
            };
            assert_eq!(with(None, status), expected, "{status}");
        }
    }

    #[test]
    fn only_429_and_503_can_ask_for_a_pause_and_only_legibly() {
        for status in 100..=599 {
            let expected = match status {
                429 | 503 => Outcome::OpenFor(Some(Duration::from_secs(9))),
                _ => with(None, status),
            };
            assert_eq!(with(Some("9"), status), expected, "{status}");
            assert_eq!(with(Some("soon"), status), with(None, status), "{status}");
        }
    }
}
