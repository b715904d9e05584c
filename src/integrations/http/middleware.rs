//! The same for stacks of reqwest-middleware.

use core::error::Error as StdError;
use core::fmt;
use std::boxed::Box;
use std::sync::Arc;

use ::http::Extensions;
use async_trait::async_trait;
use reqwest::{Request, Response};
use reqwest_middleware::{Error, Middleware, Next};

use super::client::Client;
use super::error::Rejection;
use super::guard::Guard;
use crate::{Clock, Consecutive, DefaultClock, Observer, Policy};

/// Asks the host's breaker in a stack of [`reqwest_middleware`]; [`Client::middleware`] makes one.
///
/// A rejection is an [`Error::Middleware`], in which [`Rejection::find`] finds it. The order matters: behind a middleware
/// that retries, the breaker sees each attempt, and a rejection is not retried; in front of it, one call is all attempts
/// together. An error of another middleware behind it is neutral, unless there is an error of reqwest's among its sources.
///
/// ```
/// use failfast::http::{Client, Rejection};
/// use reqwest_middleware::ClientBuilder;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
///
/// let client = reqwest::Client::new();
/// let http = Client::new(client.clone());
/// let stack = ClientBuilder::new(client).with(http.middleware()).build();
///
/// http.breakers().get("http://localhost:9").breaker().unwrap().open();
/// let error = stack.get("http://localhost:9/").send().await.unwrap_err();
/// assert_eq!(Rejection::find(&error).unwrap().host(), "http://localhost:9");
/// # });
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct BreakerMiddleware<P: Policy = Consecutive, C: Clock = DefaultClock, O: Observer = ()> {
    guard: Arc<Guard<P, C, O>>,
}

impl<P: Policy, C: Clock, O: Observer> Client<P, C, O> {
    /// A middleware for stacks around the same [`reqwest::Client`], with this client's breakers, classification, timeout
    /// and ejection. It is for the same client because a timeout gives way to that client's, which a middleware cannot see.
    #[must_use]
    pub fn middleware(&self) -> BreakerMiddleware<P, C, O> {
        BreakerMiddleware { guard: self.guard().clone() }
    }
}

#[async_trait]
impl<P, C, O> Middleware for BreakerMiddleware<P, C, O>
where
    P: Policy + 'static,
    C: Clock + Clone + 'static,
    O: Observer + 'static,
{
    async fn handle(&self, request: Request, extensions: &mut Extensions, next: Next<'_>) -> Result<Response, Error> {
        let sent = self.guard.send(request, find, |request| next.run(request, extensions));
        sent.await.unwrap_or_else(|rejection| Err(Error::middleware(rejection)))
    }
}

impl Rejection {
    /// The rejection in a stack's error, whatever other middlewares have put around it.
    ///
    /// ```
    /// use failfast::http::Rejection;
    ///
    /// fn is_rejection(error: &reqwest_middleware::Error) -> bool {
    ///     Rejection::find(error).is_some()
    /// }
    /// ```
    #[must_use]
    pub fn find(error: &Error) -> Option<&Self> {
        find(error)
    }
}

/// The first `T` in an error. Another stack's error among its sources shows its own sources, not what it is.
fn find<T: StdError + 'static>(error: &Error) -> Option<&T> {
    match error {
        Error::Reqwest(error) => (error as &dyn StdError).downcast_ref(),
        Error::Middleware(error) => error
            .chain()
            .find_map(|cause| cause.downcast_ref().or_else(|| cause.downcast_ref::<Error>().and_then(find))),
    }
}

impl<P: Policy, C: Clock, O: Observer> Clone for BreakerMiddleware<P, C, O> {
    fn clone(&self) -> Self {
        Self { guard: self.guard.clone() }
    }
}

impl<P: Policy, C: Clock + Clone, O: Observer> fmt::Debug for BreakerMiddleware<P, C, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerMiddleware").field("breakers", &self.guard.breakers).finish_non_exhaustive()
    }
}
