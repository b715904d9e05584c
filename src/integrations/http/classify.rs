//! What an answer, or the lack of one, says about the host.

use core::error::Error as StdError;

use reqwest::header::HeaderMap;
use reqwest::{Response, StatusCode};

use super::retry_after;
use crate::Outcome;

/// The client's classification, unless [another](super::ClientBuilder::classify) was given: [`classify_status`] of a
/// response, [`classify_error`] of an error.
///
/// ```
/// use failfast::http::{self, Client};
/// use failfast::Outcome;
///
/// // As ever, but that a host that has lost its pages is as bad as one that is down.
/// let http = Client::builder(reqwest::Client::new())
///     .classify(|answer| match answer {
///         Ok(response) if response.status() == 404 => Outcome::Failure,
///         other => http::classify(other),
///     })
///     .build()?;
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[must_use]
pub fn classify(answer: Result<&Response, &reqwest::Error>) -> Outcome {
    match answer {
        Ok(response) => classify_status(response.status(), response.headers()),
        Err(error) => classify_error(error),
    }
}

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
/// use failfast::http::classify_status;
/// use failfast::Outcome;
/// use reqwest::StatusCode;
/// use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
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

/// What an error of reqwest says about the host: a failure (not found by name, refused, reset, timed out, an answer that
/// is no HTTP), unless it is the request that is to blame, which is ignored: one that could not be built, too many
/// redirects, a body that failed to be read on its way out.
///
/// ```
/// use failfast::Outcome;
///
/// let error = reqwest::Client::new().get("no url").build().unwrap_err();
/// assert_eq!(failfast::http::classify_error(&error), Outcome::Ignored);
/// ```
#[must_use]
pub fn classify_error(error: &reqwest::Error) -> Outcome {
    let ours = error.is_builder() || error.is_redirect() || error.is_decode() || is_own_body(error);
    if ours { Outcome::Ignored } else { Outcome::Failure }
}

/// Whether the request's body is what failed: of a request that was being sent, it is found among the sources.
fn is_own_body(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source().filter(|_| error.is_request());
    while let Some(error) = cause {
        if error.downcast_ref().is_some_and(reqwest::Error::is_body) {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use reqwest::header::{HeaderValue, RETRY_AFTER};

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
