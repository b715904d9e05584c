//! The futures of asynchronous calls, written by hand: they hold the call's parts, and nothing else but the permit.

use core::ops::Deref;
use core::pin::Pin;
use core::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use crate::error::{CallError, Rejected};
use crate::outcome::Outcome;
use crate::permit::{Breaker, IfDropped, Permit};

/// A classifier without captured variables, such as the default one, [`Outcome::of`].
///
/// ```
/// use failfast::{Classifier, Outcome};
///
/// const NOT_FOUND_IS_FINE: Classifier<String, u16> = |result| match result {
///     Err(404) => Outcome::Ignored,
///     other => Outcome::of(other),
/// };
/// let breaker = failfast::CircuitBreaker::builder().failures(1).build()?;
/// assert!(breaker.call_with(NOT_FOUND_IS_FINE, || Err(404)).is_err());
/// assert!(breaker.try_acquire().is_ok());
/// # Ok::<(), failfast::ConfigError>(())
/// ```
pub type Classifier<T, E> = fn(&Result<T, E>) -> Outcome;

pin_project! {
    /// A call in progress: what [`call_async`](crate::CircuitBreaker::call_async) gives. It is `Send` when its parts
    /// are.
    ///
    /// ```
    /// use failfast::{CallFuture, CircuitBreaker, Classifier};
    /// use std::future::{Ready, ready};
    ///
    /// type Quote = Ready<Result<u32, String>>;
    /// struct Quotes<'a> {
    ///     pending: CallFuture<&'a CircuitBreaker, fn() -> Quote, Quote, Classifier<u32, String>>,
    /// }
    /// let breaker = CircuitBreaker::builder().build()?;
    /// let quotes = Quotes { pending: breaker.call_async(|| ready(Ok(42))) };
    /// assert_eq!(pollster::block_on(quotes.pending), Ok(42));
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    #[must_use = "futures do nothing unless polled"]
    pub struct CallFuture<H, F, Fut, K>
    where
        H: Deref,
        H::Target: Breaker,
    {
        #[pin]
        state: State<H, F, Fut, K>,
    }
}

pin_project! {
    #[project = StateProjection]
    #[project_replace = StateOwned]
    enum State<H, F, Fut, K>
    where
        H: Deref,
        H::Target: Breaker,
    {
        Waiting { holder: H, f: F, classify: K },
        Running { permit: Permit<H>, #[pin] future: Fut, classify: Option<K> },
        Over,
    }
}

impl<H, F, Fut, K> CallFuture<H, F, Fut, K>
where
    H: Deref,
    H::Target: Breaker,
{
    #[inline]
    pub(crate) fn new(holder: H, f: F, classify: K) -> Self {
        Self { state: State::Waiting { holder, f, classify } }
    }
}

impl<H, F, Fut, K, T, E> Future for CallFuture<H, F, Fut, K>
where
    H: Deref,
    H::Target: Breaker,
    F: FnOnce() -> Fut,
    Fut: Future<Output = Result<T, E>>,
    K: FnOnce(&Result<T, E>) -> Outcome,
{
    type Output = Result<T, CallError<E>>;

    /// # Panics
    /// When it is polled again after it was ready, or after it panicked.
    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        if matches!(*state, State::Waiting { .. }) {
            if let StateOwned::Waiting { holder, f, classify } = state.as_mut().project_replace(State::Over) {
                let pass = holder.ask()?;
                let mut permit = Permit::new(holder, pass);
                permit.if_dropped(IfDropped::Failure);
                let future = f();
                state.set(State::Running { permit, future, classify: Some(classify) });
            }
        }
        // Ends the call, and settles its permit, when it is ready, and when the poll or the classifier unwinds.
        let mut over = Over(state);
        let StateProjection::Running { permit, future, classify } = over.0.as_mut().project() else {
            panic!("polled after it was ready");
        };
        permit.if_dropped(IfDropped::Failure);
        match future.poll(context) {
            Poll::Pending => {
                // Dropped between two polls it is cancelled.
                permit.if_dropped(IfDropped::Cancelled);
                core::mem::forget(over);
                Poll::Pending
            }
            Poll::Ready(result) => {
                if let Some(classify) = classify.take() {
                    permit.settle_in_place(classify(&result));
                }
                Poll::Ready(result.map_err(CallError::Failed))
            }
        }
    }
}

struct Over<'a, H, F, Fut, K>(Pin<&'a mut State<H, F, Fut, K>>)
where
    H: Deref,
    H::Target: Breaker;

impl<H, F, Fut, K> Drop for Over<'_, H, F, Fut, K>
where
    H: Deref,
    H::Target: Breaker,
{
    #[inline]
    fn drop(&mut self) {
        self.0.set(State::Over);
    }
}

pin_project! {
    /// A call in progress, or its fallback: what
    /// [`call_async_or_else`](crate::CircuitBreaker::call_async_or_else) gives.
    ///
    /// ```
    /// use failfast::{CircuitBreaker, Rejected};
    /// use std::future::ready;
    ///
    /// let breaker = CircuitBreaker::builder().build()?;
    /// let price = breaker.call_async_or_else(|| ready("42".parse()), |_: Rejected| ready(Ok(41)));
    /// assert_eq!(pollster::block_on(price), Ok::<u32, std::num::ParseIntError>(42));
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    #[must_use = "futures do nothing unless polled"]
    pub struct OrElseFuture<Call, G, Fallback> {
        #[pin]
        call: Call,
        fallback: Option<G>,
        #[pin]
        running: Option<Fallback>,
    }
}

impl<Call, G, Fallback> OrElseFuture<Call, G, Fallback> {
    #[inline]
    pub(crate) fn new(call: Call, fallback: G) -> Self {
        Self { call, fallback: Some(fallback), running: None }
    }
}

impl<Call, G, Fallback, T, E> Future for OrElseFuture<Call, G, Fallback>
where
    Call: Future<Output = Result<T, CallError<E>>>,
    G: FnOnce(Rejected) -> Fallback,
    Fallback: Future<Output = Result<T, E>>,
{
    type Output = Result<T, E>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if this.running.is_none() {
            match ready!(this.call.poll(context)) {
                Ok(value) => return Poll::Ready(Ok(value)),
                Err(CallError::Failed(error)) => return Poll::Ready(Err(error)),
                Err(CallError::Rejected(rejected)) => {
                    let fallback = this.fallback.take().expect("a call is ready once");
                    this.running.set(Some(fallback(rejected)));
                }
            }
        }
        this.running.as_pin_mut().expect("set above").poll(context)
    }
}
