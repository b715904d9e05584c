//! The response of a service behind a breaker.

use core::ops::Deref;
use core::pin::Pin;
use core::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::classify::{Classify, settle};
use super::reject::Reject;
use super::unwinding::Unwinding;
use crate::error::Rejected;
use crate::permit::{Breaker, Permit};

pin_project! {
    /// A call of a [`CircuitBreakerService`](super::CircuitBreakerService). It holds the call's permit: dropped before
    /// it is ready, it is a cancelled call, even if it was never polled, since the inner service has been called.
    ///
    /// It is `Send` when its parts are.
    ///
    /// ```
    /// use failfast::{CircuitBreaker, OnCancel, tower::CircuitBreakerLayer};
    /// use std::future::pending;
    /// use tower::{Layer, Service, service_fn};
    ///
    /// let breaker = CircuitBreaker::builder().failures(1).on_cancel(OnCancel::Failure).build()?;
    /// let hangs = service_fn(|()| pending::<Result<(), String>>());
    /// let mut service = CircuitBreakerLayer::new(breaker).layer(hangs);
    /// drop(service.call(()));
    /// assert_eq!(service.breaker().state(), failfast::State::Open);
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    #[must_use = "futures do nothing unless polled"]
    pub struct ResponseFuture<S, R, H, K, F>
    where
        S: Service<R>,
        H: Deref,
        H::Target: Breaker,
    {
        #[pin]
        state: State<S, S::Future, R>,
        permit: Option<Permit<H>>,
        classify: K,
        reject: F,
    }
}

pin_project! {
    #[project = StateProjection]
    pub(super) enum State<S, Fut, R> {
        Rejected { rejected: Rejected },
        Readying { inner: S, request: Option<R> },
        Running { #[pin] future: Fut },
    }
}

impl<S, R, H, K, F> ResponseFuture<S, R, H, K, F>
where
    S: Service<R>,
    H: Deref,
    H::Target: Breaker,
{
    pub(super) fn new(state: State<S, S::Future, R>, permit: Option<Permit<H>>, classify: K, reject: F) -> Self {
        Self { state, permit, classify, reject }
    }
}

impl<S, R, H, K, F> Future for ResponseFuture<S, R, H, K, F>
where
    S: Service<R>,
    H: Deref,
    H::Target: Breaker,
    K: Classify<S::Response, S::Error, H>,
    F: Reject<K::Response, S::Error>,
{
    type Output = Result<K::Response, F::Error>;

    /// # Panics
    /// When an admitted call is polled again after it was ready, or after it panicked.
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let StateProjection::Rejected { rejected } = this.state.as_mut().project() {
            return Poll::Ready(this.reject.reject(rejected));
        }
        assert!(this.permit.is_some(), "polled after it was ready");
        let unwinding = Unwinding::new(this.permit);
        let polled = poll_call(this.state, context);
        unwinding.over();
        let Poll::Ready(result) = polled else { return Poll::Pending };
        settle(this.permit, &*this.classify, &result);
        Poll::Ready(match result {
            Ok(response) => Ok(this.classify.respond(response, this.permit.take())),
            Err(error) => {
                drop(this.permit.take());
                Err(this.reject.fail(error))
            }
        })
    }
}

/// Makes the inner service ready if it is not, calls it, and waits for its response.
fn poll_call<S: Service<R>, R>(
    mut state: Pin<&mut State<S, S::Future, R>>,
    context: &mut Context<'_>,
) -> Poll<Result<S::Response, S::Error>> {
    loop {
        match state.as_mut().project() {
            StateProjection::Readying { inner, request } => {
                core::task::ready!(inner.poll_ready(context))?;
                let request = request.take().expect("called once");
                let future = inner.call(request);
                state.set(State::Running { future });
            }
            StateProjection::Running { future } => return future.poll(context),
            StateProjection::Rejected { .. } => unreachable!("it was never called"),
        }
    }
}
