//! What results count as.

use core::ops::Deref;

use super::unwinding::Unwinding;
use crate::outcome::Outcome;
use crate::permit::{Breaker, Permit};

/// What a service's results count as: a closure or `fn` over the result, or a type of your own where the outcome is
/// known only later than the response.
///
/// ```
/// use failfast::{Breaker, CircuitBreaker, Outcome, Permit};
/// use failfast::tower::{CircuitBreakerLayer, Classify};
/// use std::ops::Deref;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// /// A job that has been accepted is no success yet: who waits for it settles the permit.
/// #[derive(Clone)]
/// struct WhenDone;
///
/// struct Job<H: Deref<Target: Breaker>> {
///     permit: Option<Permit<H>>,
/// }
///
/// impl<E, H: Deref<Target: Breaker>> Classify<(), E, H> for WhenDone {
///     type Response = Job<H>;
///
///     fn classify(&self, result: &Result<(), E>) -> Option<Outcome> {
///         result.is_err().then_some(Outcome::Failure)
///     }
///
///     fn respond(&self, (): (), permit: Option<Permit<H>>) -> Job<H> {
///         Job { permit }
///     }
/// }
///
/// # pollster::block_on(async {
/// let layer = CircuitBreakerLayer::new(CircuitBreaker::builder().failures(1).build()?).classify(WhenDone);
/// let submit = ServiceBuilder::new().layer(&layer).service(service_fn(|()| async { Ok::<_, String>(()) }));
/// let job = submit.oneshot(()).await.unwrap();
/// job.permit.unwrap().failure();
/// assert_eq!(layer.breaker().state(), failfast::State::Open);
/// # Ok::<(), failfast::ConfigError>(())
/// # }).unwrap();
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not classify results with the response `{T}` and the error `{E}`",
    note = "a closure is a classifier as `|result: &Result<Response, Error>| -> Outcome`, for exactly the inner service's types"
)]
pub trait Classify<T, E, H>
where
    H: Deref,
    H::Target: Breaker,
{
    /// What the caller gets.
    type Response;

    /// What the result counts as, if that is known now. An error of which it is not known is a cancelled call.
    fn classify(&self, result: &Result<T, E>) -> Option<Outcome>;

    /// Passes a response on, with the permit if it has not been settled.
    fn respond(&self, response: T, permit: Option<Permit<H>>) -> Self::Response;
}

impl<T, E, H, F> Classify<T, E, H> for F
where
    H: Deref,
    H::Target: Breaker,
    F: Fn(&Result<T, E>) -> Outcome,
{
    type Response = T;

    #[inline]
    fn classify(&self, result: &Result<T, E>) -> Option<Outcome> {
        Some(self(result))
    }

    #[inline]
    fn respond(&self, response: T, _: Option<Permit<H>>) -> T {
        response
    }
}

/// Success for `Ok`, failure for `Err`: [`Outcome::of`] for services whose types are not known yet.
///
/// ```
/// use failfast::{CircuitBreaker, tower::{ByResult, CircuitBreakerLayer}};
/// use std::sync::Arc;
///
/// struct Stack {
///     breaker: CircuitBreakerLayer<Arc<CircuitBreaker>, ByResult>, // the default
/// }
/// let stack = Stack { breaker: CircuitBreakerLayer::new(CircuitBreaker::builder().build()?) };
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct ByResult;

impl<T, E, H> Classify<T, E, H> for ByResult
where
    H: Deref,
    H::Target: Breaker,
{
    type Response = T;

    #[inline]
    fn classify(&self, result: &Result<T, E>) -> Option<Outcome> {
        Some(Outcome::of(result))
    }

    #[inline]
    fn respond(&self, response: T, _: Option<Permit<H>>) -> T {
        response
    }
}

/// Settles the permit if its outcome is known now.
#[inline]
pub(super) fn settle<T, E, H, K>(permit: &mut Option<Permit<H>>, classify: &K, result: &Result<T, E>)
where
    H: Deref,
    H::Target: Breaker,
    K: Classify<T, E, H>,
{
    let unwinding = Unwinding::new(permit);
    let outcome = classify.classify(result);
    unwinding.over();
    let Some(outcome) = outcome else { return };
    if let Some(permit) = permit.take() {
        permit.settle(outcome);
    }
}
