//! Why there is no response.

use core::fmt;
use core::time::Duration;
use std::sync::Arc;

use crate::snapshot::Seconds;
use crate::{Reason, Rejected, State};

/// A request that was not sent, because its host's breaker does not let it: which host, in what state, and how long to
/// wait. Its [`source`](core::error::Error::source) is the breaker's [`Rejected`], which says why.
///
/// ```
/// use failfast::State;
/// use failfast::http::{Client, Error};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
///
/// let http = Client::new(reqwest::Client::new());
/// http.breakers().get("http://localhost:9").breaker().unwrap().open();
///
/// let Err(Error::Rejected(rejection)) = http.get("http://localhost:9/quotes").send().await else { panic!() };
/// assert_eq!((rejection.host(), rejection.state()), ("http://localhost:9", State::Open));
/// assert!(rejection.retry_after().unwrap().as_secs() <= 30);
/// assert!(rejection.to_string().starts_with("http://localhost:9 not called: circuit open; retry in "));
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Rejection {
    host: Arc<str>,
    rejected: Rejected,
}

impl Rejection {
    pub(super) fn new(host: Arc<str>, rejected: Rejected) -> Self {
        Self { host, rejected }
    }

    /// The key of the host's breaker: see [`host_key`](super::host_key).
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The state of the host's breaker: open, half-open (all probes' places are taken) or forced open.
    #[must_use]
    pub const fn state(&self) -> State {
        self.rejected.state()
    }

    /// How long to wait before a request can be sent; known while the breaker is open.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        self.rejected.retry_after()
    }

    /// Why the breaker opened; none when it was forced open, or when there is no place for it in the registry.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        self.rejected.reason()
    }

    /// The breaker's own rejection, with the counts that opened it.
    #[must_use]
    pub const fn rejected(&self) -> &Rejected {
        &self.rejected
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, rejected } = self;
        if rejected.full_registry().is_some() {
            return write!(f, "{host} not called: no place for its breaker");
        }
        let state = match rejected.state() {
            State::HalfOpen => "half-open",
            State::ForcedOpen => "forced open",
            _ => "open",
        };
        write!(f, "{host} not called: circuit {state}")?;
        match rejected.retry_after() {
            Some(wait) => write!(f, "; retry in {}", Seconds(wait)),
            None => Ok(()),
        }
    }
}

impl core::error::Error for Rejection {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(&self.rejected)
    }
}

/// Why there is no response: the request was not sent, or it failed with reqwest's own error.
///
/// ```no_run
/// use failfast::http::{Client, Error};
/// # async fn quote(http: Client) -> Result<String, Error> {
///
/// match http.get("https://api.example.com/quote").send().await {
///     Ok(response) => Ok(response.text().await?),
///     Err(Error::Rejected(rejection)) => Ok(format!("a cached quote, since {rejection}")),
///     Err(Error::Failed(error)) if error.is_timeout() => Ok("a cached quote".to_owned()),
///     Err(other) => Err(other),
/// }
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// It was not sent: its host's breaker does not let it.
    Rejected(Rejection),
    /// It was sent, or could not be made. This is reqwest's error, untouched.
    Failed(reqwest::Error),
}

impl Error {
    /// The rejection, if it was one.
    #[must_use]
    pub const fn rejection(&self) -> Option<&Rejection> {
        match self {
            Self::Rejected(rejection) => Some(rejection),
            Self::Failed(_) => None,
        }
    }

    /// reqwest's error, if the request was not rejected.
    #[must_use]
    pub fn into_failed(self) -> Option<reqwest::Error> {
        match self {
            Self::Rejected(_) => None,
            Self::Failed(error) => Some(error),
        }
    }
}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

/// So that `?` does for `send()` and for what reads the body.
impl From<reqwest::Error> for Error {
    fn from(error: reqwest::Error) -> Self {
        Self::Failed(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejection) => rejection.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

/// Transparent: it reads, and has the source, of what it holds.
impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Rejected(rejection) => rejection.source(),
            Self::Failed(error) => error.source(),
        }
    }
}
