//! What an answer, or the lack of one, says about the host.

use core::error::Error as StdError;

use reqwest::Response;

use super::classify_status;
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
