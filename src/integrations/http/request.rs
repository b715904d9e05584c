//! A request in the making.

use core::fmt;
use core::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Body, Request, Response, Version};
use serde::Serialize;

use super::client::Client;
use super::error::Error;
use crate::{Clock, Consecutive, DefaultClock, Observer, Policy};

/// A request in the making: reqwest's builder, whose `send` asks the host's breaker.
///
/// ```no_run
/// use std::time::Duration;
///
/// #[derive(serde::Serialize)]
/// struct Order<'a> { symbol: &'a str, count: u32 }
///
/// # async fn order(http: failfast::http::Client) -> Result<(), failfast::http::Error> {
/// let response = http
///     .post("https://api.example.com/orders")
///     .bearer_auth("token")
///     .json(&Order { symbol: "X", count: 3 })
///     .timeout(Duration::from_secs(2))
///     .send()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "a request does nothing until it is sent"]
pub struct RequestBuilder<P: Policy = Consecutive, C: Clock = DefaultClock, O: Observer = ()> {
    client: Client<P, C, O>,
    request: reqwest::RequestBuilder,
}

/// As reqwest's. What is missing here, or needs one of reqwest's features, [`map`](Self::map) has.
impl<P: Policy, C: Clock + Clone, O: Observer> RequestBuilder<P, C, O> {
    pub(super) fn new(client: Client<P, C, O>, request: reqwest::RequestBuilder) -> Self {
        Self { client, request }
    }

    /// Anything that reqwest's own builder can.
    ///
    /// ```
    /// # let http = failfast::http::Client::new(reqwest::Client::new());
    /// let request = http.get("https://api.example.com/").map(|request| request.bearer_auth("token")).build()?;
    /// # Ok::<(), reqwest::Error>(())
    /// ```
    pub fn map(mut self, f: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder) -> Self {
        self.request = f(self.request);
        self
    }

    /// Adds a header. One that is illegal is an error when the request is sent.
    pub fn header<K, V>(self, name: K, value: V) -> Self
    where
        HeaderName: TryFrom<K, Error: Into<::http::Error>>,
        HeaderValue: TryFrom<V, Error: Into<::http::Error>>,
    {
        self.map(|request| request.header(name, value))
    }

    /// Sets headers: of each name those in `headers` and no others.
    pub fn headers(self, headers: HeaderMap) -> Self {
        self.map(|request| request.headers(headers))
    }

    /// Basic authentication.
    pub fn basic_auth(self, user: impl fmt::Display, password: Option<impl fmt::Display>) -> Self {
        self.map(|request| request.basic_auth(user, password))
    }

    /// Authentication by a token.
    pub fn bearer_auth(self, token: impl fmt::Display) -> Self {
        self.map(|request| request.bearer_auth(token))
    }

    /// The body, which may be a stream.
    pub fn body(self, body: impl Into<Body>) -> Self {
        self.map(|request| request.body(body))
    }

    /// A JSON body, and the `Content-Type` that says so unless there is one. A value that cannot be written as JSON is
    /// an error when the request is sent, and neutral.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Self {
        self.map(|request| request.json(value))
    }

    /// How long this request may take, from its sending to the end of its answer's body, whatever client and wrapped
    /// client say. `Duration::MAX` for an answer that never ends.
    pub fn timeout(self, limit: Duration) -> Self {
        self.map(|request| request.timeout(limit))
    }

    /// The HTTP version.
    pub fn version(self, version: Version) -> Self {
        self.map(|request| request.version(version))
    }

    /// A copy; none if the body is a stream.
    #[must_use]
    pub fn try_clone(&self) -> Option<Self> {
        Some(Self { client: self.client.clone(), request: self.request.try_clone()? })
    }

    /// The request, for [`Client::execute`].
    ///
    /// # Errors
    /// reqwest's, if it makes no sense.
    pub fn build(self) -> Result<Request, reqwest::Error> {
        self.request.build()
    }

    /// Sends it, if its host's breaker lets it. See [`Client::execute`].
    ///
    /// # Errors
    /// As for `execute`.
    pub async fn send(self) -> Result<Response, Error> {
        self.client.execute(self.request.build()?).await
    }
}

impl<P: Policy, C: Clock, O: Observer> fmt::Debug for RequestBuilder<P, C, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.request.fmt(f)
    }
}
