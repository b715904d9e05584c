//! Putting a client together.

use core::fmt;
use core::time::Duration;
use std::boxed::Box;
use std::sync::Arc;

use reqwest::Response;

use super::classify;
use super::client::Client;
use super::ejection::{Ejected, MaxEjection};
use super::guard::{Classify, Guard};
use super::timeout::Timeout;
use crate::registry::{Registry, WhenFull};
use crate::{Clock, Config, ConfigError, Consecutive, DefaultClock, Observer, Outcome, Policy};

/// Puts a client together; [`Client::builder`] begins one.
///
/// | what | default | why |
/// |---|---|---|
/// | [`timeout`](Self::timeout) | 5 s, unless the wrapped client or the request has one | a host that hangs must fail |
/// | [`classify`](Self::classify) | [`classify`](super::classify()) | |
/// | [`breakers`](Self::breakers) | 10,000 hosts; beyond that, requests pass unguarded | URLs may come from users |
/// | each breaker | [`Config::new`] with a `max_open` of an hour | no `Retry-After` locks a host out for a year |
/// | [`max_ejection`](Self::max_ejection) | none | its hosts are different services |
///
/// ```
/// use failfast::http::Client;
/// use failfast::{Config, LastCalls, Registry};
/// use std::time::Duration;
///
/// let breakers = Registry::builder()
///     .capacity(1_000)
///     .default_policy(LastCalls::<100>::new().failure_rate(50.0))
///     .policy_for("https://search.example.com", LastCalls::<100>::new().failure_rate(20.0))
///     .config_for("https://payments.example.com", Config::new().open_for(Duration::from_secs(5)))
///     .build()?;
/// let http = Client::builder(reqwest::Client::new())
///     .breakers(breakers)
///     .timeout(Duration::from_secs(1))
///     .build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a builder does nothing until it builds"]
pub struct ClientBuilder<P: Policy = Consecutive, C: Clock = DefaultClock, O: Observer = ()> {
    client: reqwest::Client,
    breakers: Arc<Registry<P, C, O>>,
    classify: Classify,
    timeout: Timeout,
    max_ejection: Option<MaxEjection>,
}

impl ClientBuilder {
    pub(super) fn new(client: reqwest::Client) -> Self {
        let config = Config::new().max_open(Duration::from_secs(60 * 60));
        let breakers = Registry::builder().when_full(WhenFull::PassUnguarded).default_config(config).build();
        Self {
            timeout: Timeout::unless_of(&client),
            client,
            breakers: Arc::new(breakers.expect("the defaults are legal")),
            classify: Box::new(classify),
            max_ejection: None,
        }
    }
}

impl<P: Policy, C: Clock, O: Observer> ClientBuilder<P, C, O> {
    /// The registry of the breakers, by [host](super::host_key), with policies, configurations, clock and observers of
    /// its own. Its keys are written as `host_key` writes them: without a path, and without a port that is the scheme's
    /// own. Several clients may share one: give each the `Arc`.
    ///
    /// What it does when it is full, and its breakers' [`max_open`](Config::max_open), which limits what a `Retry-After`
    /// can ask for, are its own too.
    pub fn breakers<Q: Policy, D: Clock, N: Observer>(
        self,
        breakers: impl Into<Arc<Registry<Q, D, N>>>,
    ) -> ClientBuilder<Q, D, N> {
        let Self { client, classify, timeout, max_ejection, .. } = self;
        ClientBuilder { client, breakers: breakers.into(), classify, timeout, max_ejection }
    }

    /// How long a request may take, from its sending to the end of its answer's body: more than 0, at most 3650 days.
    /// It overrides the wrapped client's timeout, and gives way to a request's own.
    ///
    /// Default 5 s, but none if the wrapped client has a total or a read timeout.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.timeout = Timeout::of(Some(limit));
        self
    }

    /// No timeout of its own: only what the wrapped client and the request have.
    pub fn no_timeout(mut self) -> Self {
        self.timeout = Timeout::of(None);
        self
    }

    /// What an answer, or an error, says about its host. Default [`classify`](super::classify()), which a closure can fall
    /// back on.
    ///
    /// An [`Outcome::OpenFor`] opens for no less than the breaker's own wait.
    pub fn classify<F>(mut self, f: F) -> Self
    where
        F: Fn(Result<&Response, &reqwest::Error>) -> Outcome + Send + Sync + 'static,
    {
        self.classify = Box::new(f);
        self
    }

    /// The share of the hosts that may be rejected at once. Default none: all of them.
    pub fn max_ejection(mut self, max: MaxEjection) -> Self {
        self.max_ejection = Some(max);
        self
    }

    /// Checks every number, and builds the client.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that is out of its range, its value and the range.
    ///
    /// ```
    /// use failfast::http::Client;
    /// use std::time::Duration;
    ///
    /// let error = Client::builder(reqwest::Client::new()).timeout(Duration::ZERO).build().unwrap_err();
    /// assert_eq!(error.to_string(), "http.timeout is 0ns: must be more than 0 and at most 3650 days");
    /// ```
    pub fn build(self) -> Result<Client<P, C, O>, ConfigError> {
        let Self { client, breakers, classify, timeout, max_ejection } = self;
        timeout.check()?;
        max_ejection.map_or(Ok(()), |max| max.check())?;
        let ejected = max_ejection.map(Ejected::new);
        Ok(Client::from_parts(client, Guard { breakers, classify, timeout, ejected }))
    }
}

impl<P: Policy, C: Clock, O: Observer> fmt::Debug for ClientBuilder<P, C, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("timeout", &self.timeout)
            .field("max_ejection", &self.max_ejection)
            .finish_non_exhaustive()
    }
}
