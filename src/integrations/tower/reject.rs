//! What a caller gets whose call was rejected.

use crate::error::{CallError, Rejected};

/// What a rejected caller gets: an error, or a response that a closure or `fn` makes of the rejection. Then the
/// service's error is the inner service's, untouched.
///
/// ```
/// use failfast::{CallError, Rejected, tower::Reject};
///
/// /// One error for all that a service does.
/// #[derive(Clone)]
/// struct AsIo;
///
/// impl<T> Reject<T, std::io::Error> for AsIo {
///     type Error = std::io::Error;
///
///     fn reject(&self, rejected: &Rejected) -> Result<T, std::io::Error> {
///         Err(std::io::Error::other(*rejected))
///     }
///
///     fn fail(&self, error: std::io::Error) -> std::io::Error {
///         error
///     }
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not make a `{T}` of a rejection",
    note = "a closure does as `|rejected: &Rejected| -> Response`, for exactly the response that the breaker's service has"
)]
pub trait Reject<T, E> {
    /// The service's error.
    type Error;

    /// Instead of the call.
    ///
    /// # Errors
    /// Where a rejection is an error.
    fn reject(&self, rejected: &Rejected) -> Result<T, Self::Error>;

    /// The inner service's error as the service's.
    fn fail(&self, error: E) -> Self::Error;
}

impl<T, E, F: Fn(&Rejected) -> T> Reject<T, E> for F {
    type Error = E;

    fn reject(&self, rejected: &Rejected) -> Result<T, E> {
        Ok(self(rejected))
    }

    fn fail(&self, error: E) -> E {
        error
    }
}

/// A rejection is an error: the service's is [`CallError`].
///
/// ```
/// use failfast::{CircuitBreaker, tower::{AsError, ByResult, CircuitBreakerLayer}};
/// use std::sync::Arc;
///
/// struct Stack {
///     breaker: CircuitBreakerLayer<Arc<CircuitBreaker>, ByResult, AsError>, // the defaults
/// }
/// let stack = Stack { breaker: CircuitBreakerLayer::new(CircuitBreaker::builder().build()?) };
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct AsError;

impl<T, E> Reject<T, E> for AsError {
    type Error = CallError<E>;

    fn reject(&self, rejected: &Rejected) -> Result<T, CallError<E>> {
        Err(CallError::Rejected(*rejected))
    }

    fn fail(&self, error: E) -> CallError<E> {
        CallError::Failed(error)
    }
}
