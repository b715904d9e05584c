//! The client.

use core::fmt;
use std::sync::Arc;

use reqwest::{IntoUrl, Method, Request, Response, Url};

use super::builder::ClientBuilder;
use super::error::Error;
use super::guard::Guard;
use super::request::RequestBuilder;
use crate::registry::Registry;
use crate::{Clock, Consecutive, DefaultClock, Observer, Outcome, Policy};

/// A [`reqwest::Client`] with a breaker for each host. See the [module](super).
///
/// It is cheap to clone, and its clones share their breakers. `P`, `C` and `O` are policy, clock and observer of the
/// breakers, as in [`Registry`].
///
/// ```no_run
/// use failfast::http::Client;
///
/// #[derive(serde::Deserialize)]
/// struct Quote { price: f64 }
///
/// # async fn quote() -> Result<(), failfast::http::Error> {
/// let http = Client::new(reqwest::Client::new());
/// let quote = http.get("https://api.example.com/quote").send().await?.json::<Quote>().await?;
/// println!("{}", quote.price);
/// # Ok(())
/// # }
/// ```
pub struct Client<P: Policy = Consecutive, C: Clock = DefaultClock, O: Observer = ()> {
    client: reqwest::Client,
    guard: Arc<Guard<P, C, O>>,
}

impl Client {
    /// Wraps a client, with the defaults: see [`ClientBuilder`].
    ///
    /// ```
    /// let http = failfast::http::Client::new(reqwest::Client::new());
    /// assert!(http.breakers().is_empty());
    /// ```
    #[must_use]
    pub fn new(client: reqwest::Client) -> Self {
        Self::builder(client).build().expect("the defaults are legal")
    }

    /// Begins to wrap a client, with numbers of one's own.
    ///
    /// ```
    /// use failfast::http::Client;
    /// use std::time::Duration;
    ///
    /// let http = Client::builder(reqwest::Client::new()).timeout(Duration::from_secs(1)).build()?;
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    pub fn builder(client: reqwest::Client) -> ClientBuilder {
        ClientBuilder::new(client)
    }
}

impl<P: Policy, C: Clock, O: Observer> Client<P, C, O> {
    pub(super) fn from_parts(client: reqwest::Client, guard: Guard<P, C, O>) -> Self {
        Self { client, guard: Arc::new(guard) }
    }

    #[cfg(feature = "reqwest-middleware")]
    pub(super) fn guard(&self) -> &Arc<Guard<P, C, O>> {
        &self.guard
    }

    /// The breakers, by [host](super::host_key): to look at them, or to move them by hand.
    ///
    /// ```
    /// # let http = failfast::http::Client::new(reqwest::Client::new());
    /// for host in http.breakers().iter() {
    ///     println!("{}: {}", host.key(), host.snapshot());
    /// }
    /// // Not today.
    /// http.breakers().get("https://api.example.com").breaker().unwrap().force_open();
    /// ```
    #[must_use]
    pub fn breakers(&self) -> &Arc<Registry<P, C, O>> {
        &self.guard.breakers
    }

    /// The client that it wraps. Its requests ask no breaker.
    #[must_use]
    pub fn get_ref(&self) -> &reqwest::Client {
        &self.client
    }
}

macro_rules! methods {
    ($($name:ident $method:ident),+) => {$(
        #[doc = concat!("Begins a `", stringify!($method), "` request. See [`request`](Self::request).")]
        pub fn $name<U: IntoUrl>(&self, url: U) -> RequestBuilder<P, C, O> {
            self.request(Method::$method, url)
        }
    )+};
}

impl<P: Policy, C: Clock + Clone, O: Observer> Client<P, C, O> {
    methods!(get GET, post POST, put PUT, patch PATCH, delete DELETE, head HEAD);

    /// Begins a request. A URL that makes no sense is an error when it is sent.
    ///
    /// ```
    /// # let http = failfast::http::Client::new(reqwest::Client::new());
    /// let request = http.request(reqwest::Method::OPTIONS, "https://api.example.com/").build()?;
    /// # Ok::<(), reqwest::Error>(())
    /// ```
    pub fn request<U: IntoUrl>(&self, method: Method, url: U) -> RequestBuilder<P, C, O> {
        RequestBuilder::new(self.clone(), self.client.request(method, url))
    }

    /// Sends a request that was made elsewhere, if its host's breaker lets it.
    ///
    /// The breaker is told what came of it when the response's head is there, or an error; a future that is dropped before
    /// is a cancelled call, see [`OnCancel`](crate::OnCancel).
    ///
    /// # Errors
    /// [`Error::Rejected`] if it was not sent, [`Error::Failed`] with reqwest's own error if it was, or if it is none that
    /// can be.
    ///
    /// ```no_run
    /// # async fn run(http: failfast::http::Client) -> Result<(), Box<dyn std::error::Error>> {
    /// let request = reqwest::Request::new(reqwest::Method::GET, "https://api.example.com/".parse()?);
    /// let response = http.execute(request).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn execute(&self, request: Request) -> Result<Response, Error> {
        let sent = self.guard.send(request, |error| Some(error), |request| self.client.execute(request));
        Ok(sent.await??)
    }

    /// Records for the host of a URL what the client did not see: an answer whose body did not come, for example.
    ///
    /// It asks for a permit and settles it, and does nothing where there is none.
    ///
    /// ```no_run
    /// # async fn run(http: failfast::http::Client) -> Result<(), failfast::http::Error> {
    /// use failfast::http::classify_error;
    ///
    /// let response = http.get("https://api.example.com/export").send().await?;
    /// let url = response.url().clone();
    /// let export = response.text().await.inspect_err(|error| http.record(&url, classify_error(error)))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn record(&self, url: &Url, outcome: Outcome) {
        self.guard.record(url, outcome);
    }
}

impl<P: Policy, C: Clock, O: Observer> Clone for Client<P, C, O> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone(), guard: self.guard.clone() }
    }
}

/// Without the wrapped client, which shows its headers.
impl<P: Policy, C: Clock + Clone, O: Observer> fmt::Debug for Client<P, C, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("breakers", &self.guard.breakers).finish_non_exhaustive()
    }
}
