//! A [`Layer`] that puts a breaker around any tower service.
//!
//! ```
//! use failfast::{CircuitBreaker, tower::CircuitBreakerLayer};
//! use std::convert::Infallible;
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//!
//! # pollster::block_on(async {
//! let breaker = CircuitBreaker::builder().failures(5).build()?;
//! let inner = service_fn(|name: &'static str| async move { Ok::<_, Infallible>(format!("hello {name}")) });
//! let mut service = ServiceBuilder::new().layer(CircuitBreakerLayer::new(breaker)).service(inner);
//!
//! assert_eq!(service.ready().await?.call("tower").await?, "hello tower");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```
//!
//! - **The breaker is asked in `call`.** `poll_ready` reserves nothing: while the breaker is closed it is the inner
//!   service's, and else it is ready at once, so that a rejection never waits for the inner service. A call that is
//!   then admitted makes the inner service ready as its first step, in its response future.
//! - **The permit is in the response future**, which may be dropped at any time. It needs no runtime.
//! - **Every clone, and every service of a layer and its clones, shares one breaker.**
//! - **What counts** is a [`Classify`]: an error is a failure unless [`classify`](CircuitBreakerLayer::classify) says
//!   otherwise. An inner service that fails to become ready has failed a call, too.
//! - **A rejection is an error**, [`CallError::Rejected`], unless [`on_rejected`](CircuitBreakerLayer::on_rejected) makes
//!   a response of it. Where the inner service's error is a box, `map_err(CallError::flatten)` above the breaker makes
//!   the box the only error again, and a rejection in it is found by `error.is::<Rejected>()`.
//!
//! What it makes of other layers, of dropped futures and of services that never become ready, and how it goes with
//! axum, tonic and hyper, is on [a page of its own](crate::docs::tower).
//!
//! With the feature `tower-http` there are [`http`], whose functions make a rejection a response, and [`grpc`], whose
//! calls last until their trailers are there.

// The documentation is written with all features.
#![cfg_attr(not(feature = "tower-http"), allow(rustdoc::broken_intra_doc_links))]

mod classify;
mod future;
#[cfg(feature = "tower-http")]
pub mod grpc;
#[cfg(feature = "tower-http")]
pub mod http;
mod reject;
mod unwinding;

pub use classify::{ByResult, Classify};
pub use future::ResponseFuture;
pub use reject::{AsError, Reject};

use alloc::sync::Arc;
use core::mem;
use core::ops::Deref;
use core::task::{Context, Poll, ready};

use tower_layer::Layer;
use tower_service::Service;

use self::classify::settle;
use self::future::State;
use self::unwinding::Unwinding;
use crate::breaker::CircuitBreaker;
#[cfg(doc)]
use crate::error::CallError;
use crate::permit::{Breaker, Permit};
use crate::policy::Policy;

/// What a layer can be made of: a [`CircuitBreaker`], or a handle to one that can be cloned, such as an
/// `Arc<CircuitBreaker>` or a `&'static CircuitBreaker`.
///
/// Each call holds the breaker. Through an `Arc` that counts up and down, which all its users share; a `static` costs
/// nothing.
///
/// ```
/// use failfast::{CircuitBreaker, Config, Consecutive, tower::CircuitBreakerLayer};
/// use std::sync::Arc;
///
/// static MAIL: CircuitBreaker = CircuitBreaker::new(Consecutive::new(3), Config::new());
/// let mail = CircuitBreakerLayer::new(&MAIL);
///
/// let shared = Arc::new(CircuitBreaker::builder().build()?);
/// let search = CircuitBreakerLayer::new(shared.clone());
/// shared.force_open(); // by hand, from anywhere
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a circuit breaker",
    note = "give a `CircuitBreaker`, an `Arc<CircuitBreaker>`, or a `&'static CircuitBreaker`"
)]
pub trait IntoShared {
    /// How it is held.
    type Shared: Deref<Target: Breaker> + Clone;

    /// Makes it one that can be held by many.
    fn into_shared(self) -> Self::Shared;
}

impl<P: Policy, C, O> IntoShared for CircuitBreaker<P, C, O>
where
    Self: Breaker,
{
    type Shared = Arc<Self>;

    fn into_shared(self) -> Arc<Self> {
        Arc::new(self)
    }
}

impl<H: Deref<Target: Breaker> + Clone> IntoShared for H {
    type Shared = H;

    fn into_shared(self) -> H {
        self
    }
}

/// Puts a breaker around services. See [the module](self).
///
/// `H` is how the breaker is held, `K` what results count as, `F` what a rejected caller gets.
///
/// ```
/// use failfast::{CircuitBreaker, Outcome, tower::CircuitBreakerLayer};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # pollster::block_on(async {
/// let layer = CircuitBreakerLayer::new(CircuitBreaker::builder().failures(1).build()?)
///     .classify(|result: &Result<u16, String>| match result {
///         Ok(500..) => Outcome::Failure,
///         Ok(400..) => Outcome::Ignored,
///         other => Outcome::of(other),
///     });
/// let service = ServiceBuilder::new().layer(&layer).service(service_fn(|status: u16| async move { Ok(status) }));
///
/// assert_eq!(service.clone().oneshot(404).await, Ok(404));
/// assert_eq!(service.clone().oneshot(503).await, Ok(503)); // what is returned does not change
/// assert!(service.clone().oneshot(200).await.unwrap_err().rejected().is_some());
/// println!("{}", layer.breaker().snapshot()); // open since 12 us: 1 call failed in a row (limit 1); probes in 30 s
/// # Ok::<(), failfast::ConfigError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Copy, Debug)]
pub struct CircuitBreakerLayer<H, K = ByResult, F = AsError> {
    breaker: H,
    classify: K,
    reject: F,
}

impl<H> CircuitBreakerLayer<H> {
    /// A layer of this breaker, for which an error is a failure, and a rejection an error.
    pub fn new<B: IntoShared<Shared = H>>(breaker: B) -> Self {
        Self { breaker: breaker.into_shared(), classify: ByResult, reject: AsError }
    }
}

impl<H, K, F> CircuitBreakerLayer<H, K, F> {
    /// What results count as: a closure, `fn` or value that is a [`Classify`]. It replaces what was set before.
    pub fn classify<L>(self, classify: L) -> CircuitBreakerLayer<H, L, F> {
        CircuitBreakerLayer { breaker: self.breaker, classify, reject: self.reject }
    }

    /// What a rejected caller gets: a response, by a closure or `fn`, or what another [`Reject`] makes of it. It replaces
    /// what was set before.
    ///
    /// ```
    /// use failfast::{CircuitBreaker, Rejected, tower::CircuitBreakerLayer};
    /// use tower::{ServiceBuilder, ServiceExt, service_fn};
    ///
    /// # pollster::block_on(async {
    /// let layer = CircuitBreakerLayer::new(CircuitBreaker::builder().build()?)
    ///     .on_rejected(|rejected: &Rejected| format!("a cached quote, since {rejected}"));
    /// let quotes = service_fn(|()| async { Ok::<_, std::io::Error>(String::from("a quote")) });
    /// let service = ServiceBuilder::new().layer(&layer).service(quotes);
    ///
    /// layer.breaker().force_open();
    /// assert_eq!(service.oneshot(()).await?, "a cached quote, since circuit forced open by hand");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn on_rejected<G>(self, reject: G) -> CircuitBreakerLayer<H, K, G> {
        CircuitBreakerLayer { breaker: self.breaker, classify: self.classify, reject }
    }

    /// The breaker, to look at it or to move it by hand.
    pub const fn breaker(&self) -> &H {
        &self.breaker
    }
}

impl<S, H: Clone, K: Clone, F: Clone> Layer<S> for CircuitBreakerLayer<H, K, F> {
    type Service = CircuitBreakerService<S, H, K, F>;

    fn layer(&self, inner: S) -> Self::Service {
        CircuitBreakerService { inner, readiness: Readiness::Unasked, rules: self.clone() }
    }
}

/// A service behind a breaker: what a [`CircuitBreakerLayer`] makes. See [the module](self).
///
/// ```
/// use failfast::{CircuitBreaker, tower::{CircuitBreakerLayer, CircuitBreakerService}};
/// use std::sync::Arc;
/// use tower::Layer;
///
/// struct Gateway<S> {
///     quotes: CircuitBreakerService<S, Arc<CircuitBreaker>>,
/// }
/// # fn connect() -> impl Clone {}
/// let quotes = CircuitBreakerLayer::new(CircuitBreaker::builder().build()?).layer(connect());
/// let gateway = Gateway { quotes };
/// assert_eq!(gateway.quotes.breaker().state(), failfast::State::Closed);
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[derive(Debug)]
pub struct CircuitBreakerService<S, H, K = ByResult, F = AsError> {
    inner: S,
    readiness: Readiness,
    rules: CircuitBreakerLayer<H, K, F>,
}

/// What the inner service has answered since it was last called.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Readiness {
    /// It was not asked.
    Unasked,
    /// That it is not ready. It may have been promised a place since, and who waits behind it waits for that place.
    Waiting,
    Ready,
}

impl<S, H, K, F> CircuitBreakerService<S, H, K, F> {
    /// The breaker, to look at it or to move it by hand.
    pub const fn breaker(&self) -> &H {
        self.rules.breaker()
    }
}

/// The clone's inner service has not been made ready.
impl<S: Clone, H: Clone, K: Clone, F: Clone> Clone for CircuitBreakerService<S, H, K, F> {
    fn clone(&self) -> Self {
        self.rules.layer(self.inner.clone())
    }
}

impl<S, R, H, K, F> Service<R> for CircuitBreakerService<S, H, K, F>
where
    S: Service<R> + Clone,
    H: Deref<Target: Breaker> + Clone,
    K: Classify<S::Response, S::Error, H> + Clone,
    F: Reject<K::Response, S::Error> + Clone,
{
    type Response = K::Response;
    type Error = F::Error;
    type Future = ResponseFuture<S, R, H, K, F>;

    /// Ready at once unless the breaker is closed (or disabled, or metrics-only): then the inner service's.
    ///
    /// # Errors
    /// The inner service's, which has been counted as a call's.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        let CircuitBreakerLayer { breaker, classify, reject } = &self.rules;
        if breaker.may_reject() {
            return Poll::Ready(Ok(()));
        }
        self.readiness = Readiness::Waiting;
        match ready!(self.inner.poll_ready(context)) {
            Ok(()) => {
                self.readiness = Readiness::Ready;
                Poll::Ready(Ok(()))
            }
            Err(error) => {
                let result = Err(error);
                settle(&mut Permit::try_acquire(breaker).ok(), classify, &result);
                Poll::Ready(result.map(drop).map_err(|error| reject.fail(error)))
            }
        }
    }

    /// Asks the breaker, and calls the inner service if it lets it.
    fn call(&mut self, request: R) -> Self::Future {
        let CircuitBreakerLayer { breaker, classify, reject } = &self.rules;
        let readiness = mem::replace(&mut self.readiness, Readiness::Unasked);
        let (state, permit) = match Permit::try_acquire(breaker) {
            Err(rejected) => {
                if readiness != Readiness::Unasked {
                    // What the inner service has reserved for this call, or would have, is free again.
                    self.inner = self.inner.clone();
                }
                (State::Rejected { rejected }, None)
            }
            Ok(permit) if readiness == Readiness::Ready => {
                let mut permit = Some(permit);
                let unwinding = Unwinding::new(&mut permit);
                let future = self.inner.call(request);
                unwinding.over();
                (State::Running { future }, permit)
            }
            Ok(permit) => {
                let next = self.inner.clone();
                let inner = mem::replace(&mut self.inner, next);
                (State::Readying { inner, request: Some(request) }, Some(permit))
            }
        };
        ResponseFuture::new(state, permit, classify.clone(), reject.clone())
    }
}
