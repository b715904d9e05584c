//! Fallbacks by operation: what to answer instead, registered once, by name.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, ready};

use pin_project_lite::pin_project;

use crate::error::{CallError, InShort, Rejected};

type Answer<Q, T, E> = dyn Fn(&Q, &CallError<E>) -> Result<T, E> + Send + Sync;
type Pending<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;
type AsyncAnswer<Q, T, E> = dyn Fn(&Q, &CallError<E>) -> Pending<T, E> + Send + Sync;

/// A table of fallbacks by the name of an operation: asked when its call was rejected, or, for those registered so, also
/// when it failed.
///
/// `Q` is what a fallback needs to know of the request, `T` and `E` are value and error of the operation's calls; where
/// operations have different ones, each has a table of its own, and none can answer with a wrong type. A table is filled
/// once, and then shared. For a fallback in one place only, a closure does:
/// [`call_or_else`](crate::CircuitBreaker::call_or_else).
///
/// A fallback sees the request and why it is asked. What it gives is not recorded by the breaker, and its panic goes on
/// to the caller.
///
/// ```
/// use failfast::{CallError, CircuitBreaker, FallbackError, Fallbacks};
/// use std::io::{Error, ErrorKind};
///
/// struct Item(u32);
///
/// let quotes = Fallbacks::new()
///     .on_rejected("quote", |item: &Item, _: &CallError<Error>| Ok(item.0 * 100))
///     .on_error("stock", |_, _| Ok(0));
///
/// let breaker = CircuitBreaker::builder().build()?;
/// let live = |_: &Item| Err::<u32, Error>(ErrorKind::ConnectionRefused.into());
/// let item = Item(7);
///
/// // The stock's fallback also answers a failed call, the quote's only a rejected one.
/// assert_eq!(quotes.resolve("stock", &item, breaker.call(|| live(&item)))?, 0);
/// assert!(quotes.resolve("quote", &item, breaker.call(|| live(&item))).is_err());
/// breaker.open();
/// assert_eq!(quotes.resolve("quote", &item, breaker.call(|| live(&item)))?, 700);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Fallbacks<Q, T, E> {
    answers: BTreeMap<Box<str>, Fallback<Answer<Q, T, E>>>,
    async_answers: BTreeMap<Box<str>, Fallback<AsyncAnswer<Q, T, E>>>,
}

struct Fallback<F: ?Sized> {
    /// Whether it stands in for a failed call too.
    for_failed: bool,
    answer: Box<F>,
}

impl<F: ?Sized> Fallback<F> {
    fn stands_in_for<E>(&self, cause: &CallError<E>) -> bool {
        self.for_failed || matches!(cause, CallError::Rejected(_))
    }
}

impl<Q, T, E> Fallbacks<Q, T, E> {
    /// An empty table.
    #[must_use]
    pub const fn new() -> Self {
        Self { answers: BTreeMap::new(), async_answers: BTreeMap::new() }
    }

    /// Registers a fallback for rejected calls of this operation, sync and async. A second one replaces the first.
    #[must_use]
    pub fn on_rejected(
        self,
        operation: &str,
        answer: impl Fn(&Q, &CallError<E>) -> Result<T, E> + Send + Sync + 'static,
    ) -> Self {
        self.with(operation, false, Box::new(answer))
    }

    /// Registers a fallback for rejected and for failed calls of this operation, sync and async. A second one replaces
    /// the first.
    #[must_use]
    pub fn on_error(
        self,
        operation: &str,
        answer: impl Fn(&Q, &CallError<E>) -> Result<T, E> + Send + Sync + 'static,
    ) -> Self {
        self.with(operation, true, Box::new(answer))
    }

    /// [`on_rejected`](Self::on_rejected), with a future: for async calls only, which ask it rather than one that was
    /// registered without. The future takes what it needs of request and cause with it.
    ///
    /// ```
    /// use failfast::{CallError, CircuitBreaker, Fallbacks};
    ///
    /// let quotes = Fallbacks::new().on_rejected_async("quote", |item: &u32, _: &CallError<()>| {
    ///     let item = *item;
    ///     async move { Ok(item * 100) }
    /// });
    /// let breaker = CircuitBreaker::builder().build()?;
    /// breaker.open();
    /// # pollster::block_on(async {
    /// assert_eq!(quotes.resolve_async("quote", &7, breaker.call_async(|| async { Ok(1) })).await, Ok(700));
    /// # });
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    #[must_use]
    pub fn on_rejected_async<Fut>(
        self,
        operation: &str,
        answer: impl Fn(&Q, &CallError<E>) -> Fut + Send + Sync + 'static,
    ) -> Self
    where
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.with_async(operation, false, Box::new(move |request, cause| Box::pin(answer(request, cause))))
    }

    /// [`on_error`](Self::on_error), with a future: as [`on_rejected_async`](Self::on_rejected_async).
    #[must_use]
    pub fn on_error_async<Fut>(
        self,
        operation: &str,
        answer: impl Fn(&Q, &CallError<E>) -> Fut + Send + Sync + 'static,
    ) -> Self
    where
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        self.with_async(operation, true, Box::new(move |request, cause| Box::pin(answer(request, cause))))
    }

    fn with(mut self, operation: &str, for_failed: bool, answer: Box<Answer<Q, T, E>>) -> Self {
        self.answers.insert(operation.into(), Fallback { for_failed, answer });
        self
    }

    fn with_async(mut self, operation: &str, for_failed: bool, answer: Box<AsyncAnswer<Q, T, E>>) -> Self {
        self.async_answers.insert(operation.into(), Fallback { for_failed, answer });
        self
    }

    /// The names of the operations that have a fallback, in order: those of an async one alone too.
    ///
    /// ```
    /// use failfast::{CallError, Fallbacks};
    ///
    /// let quotes = Fallbacks::new().on_rejected("quote", |_: &(), _: &CallError<()>| Ok(41));
    /// assert!(quotes.operations().eq(["quote"]));
    /// ```
    pub fn operations(&self) -> impl Iterator<Item = &str> {
        let only_async = self.async_answers.keys().filter(|operation| !self.answers.contains_key(*operation));
        let mut names: alloc::vec::Vec<&str> = self.answers.keys().chain(only_async).map(|name| &**name).collect();
        names.sort_unstable();
        names.into_iter()
    }

    /// The value of a call, or that of its operation's fallback. It takes the result of any call: through a
    /// [`CircuitBreaker`](crate::CircuitBreaker), with a classifier or without, or a breaker of a registry.
    ///
    /// # Errors
    /// [`FallbackError::Call`] if no fallback stood in, [`FallbackError::Fallback`] if that failed too.
    ///
    /// ```
    /// use failfast::{CallError, CircuitBreaker, Fallbacks};
    /// use std::io::{Error, ErrorKind};
    ///
    /// let quotes: Fallbacks<(), u32, Error> =
    ///     Fallbacks::new().on_rejected("quote", |_, _| Err(ErrorKind::ConnectionRefused.into()));
    /// let breaker = CircuitBreaker::builder().build()?;
    /// breaker.force_open();
    /// let error = quotes.resolve("quote", &(), breaker.call(|| Ok(42))).unwrap_err();
    /// let text = "fallback for \"quote\" failed after the call was rejected (circuit forced open by hand): ";
    /// assert_eq!(error.to_string(), format!("{text}connection refused"));
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    #[inline]
    pub fn resolve(
        &self,
        operation: &str,
        request: &Q,
        result: Result<T, CallError<E>>,
    ) -> Result<T, FallbackError<E>> {
        result.or_else(|cause| self.answer(operation, request, cause))
    }

    #[cold]
    fn answer(&self, operation: &str, request: &Q, cause: CallError<E>) -> Result<T, FallbackError<E>> {
        match self.answers.get(operation).filter(|fallback| fallback.stands_in_for(&cause)) {
            Some(fallback) => {
                (fallback.answer)(request, &cause).map_err(|error| FallbackError::failed(operation, cause, error))
            }
            None => Err(FallbackError::Call(cause)),
        }
    }

    /// [`resolve`](Self::resolve) for the future of a call. Nothing is allocated unless an async fallback is asked.
    ///
    /// # Errors
    /// As for `resolve`.
    ///
    /// ```
    /// use failfast::{CallError, CircuitBreaker, Fallbacks};
    ///
    /// let quotes = Fallbacks::new().on_error("quote", |_: &(), _: &CallError<&str>| Ok(41));
    /// let breaker = CircuitBreaker::builder().build()?;
    /// # pollster::block_on(async {
    /// let price = quotes.resolve_async("quote", &(), breaker.call_async(|| async { Err("down") })).await;
    /// assert_eq!(price, Ok(41));
    /// # });
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    #[inline]
    pub fn resolve_async<'a, Call>(
        &'a self,
        operation: &'a str,
        request: &'a Q,
        call: Call,
    ) -> ResolveFuture<'a, Call, Q, T, E>
    where
        Call: Future<Output = Result<T, CallError<E>>>,
    {
        ResolveFuture { fallbacks: self, operation, request, call, asked: None }
    }
}

impl<Q, T, E> Default for Fallbacks<Q, T, E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<Q, T, E> fmt::Debug for Fallbacks<Q, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.operations()).finish()
    }
}

pin_project! {
    /// A call in progress, or its operation's fallback: what [`Fallbacks::resolve_async`] gives.
    ///
    /// ```
    /// use failfast::{CallError, Fallbacks, ResolveFuture};
    /// use std::future::{Ready, ready};
    ///
    /// type Call = Ready<Result<u32, CallError<String>>>;
    /// let quotes: Fallbacks<(), u32, String> = Fallbacks::new();
    /// let quote: ResolveFuture<'_, Call, (), u32, String> = quotes.resolve_async("quote", &(), ready(Ok(42)));
    /// assert_eq!(pollster::block_on(quote), Ok(42));
    /// ```
    #[must_use = "futures do nothing unless polled"]
    pub struct ResolveFuture<'a, Call, Q, T, E> {
        fallbacks: &'a Fallbacks<Q, T, E>,
        operation: &'a str,
        request: &'a Q,
        #[pin]
        call: Call,
        asked: Option<Asked<T, E>>,
    }
}

/// An async fallback that is on its way, and what it stands in for.
struct Asked<T, E> {
    cause: CallError<E>,
    answer: Pending<T, E>,
}

impl<Call, Q, T, E> Future for ResolveFuture<'_, Call, Q, T, E>
where
    Call: Future<Output = Result<T, CallError<E>>>,
{
    type Output = Result<T, FallbackError<E>>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if this.asked.is_none() {
            let cause = match ready!(this.call.poll(context)) {
                Ok(value) => return Poll::Ready(Ok(value)),
                Err(cause) => cause,
            };
            let fallbacks = *this.fallbacks;
            let found = fallbacks.async_answers.get(*this.operation);
            let Some(fallback) = found.filter(|fallback| fallback.stands_in_for(&cause)) else {
                return Poll::Ready(fallbacks.answer(this.operation, this.request, cause));
            };
            let answer = (fallback.answer)(this.request, &cause);
            *this.asked = Some(Asked { cause, answer });
        }
        let asked = this.asked.as_mut().expect("set above");
        let answer = ready!(asked.answer.as_mut().poll(context));
        Poll::Ready(answer.map_err(|error| {
            let asked = this.asked.take().expect("set above");
            FallbackError::failed(this.operation, asked.cause, error)
        }))
    }
}

/// A call that got no value, also not from a fallback.
///
/// ```
/// use failfast::{CallError, CircuitBreaker, FallbackError, Fallbacks};
///
/// let quotes = Fallbacks::new().on_error("quote", |_: &(), _: &CallError<&str>| Err::<u32, _>("no cached quote"));
/// let breaker = CircuitBreaker::builder().build()?;
/// match quotes.resolve("quote", &(), breaker.call(|| Err("timed out"))) {
///     Err(FallbackError::Fallback(failed)) => {
///         assert_eq!(failed.operation(), "quote");
///         assert_eq!(failed.cause(), &CallError::Failed("timed out"));
///         assert_eq!(failed.error(), &"no cached quote");
///     }
///     Err(FallbackError::Call(CallError::Rejected(_))) => println!("rejected, and there is no fallback"),
///     other => println!("{other:?}"),
/// }
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum FallbackError<E> {
    /// No fallback stood in for the call. This is its error, untouched.
    Call(CallError<E>),
    /// The fallback failed as well.
    Fallback(FailedFallback<E>),
}

/// A fallback that failed, and what it was asked for. See [`FallbackError`].
#[derive(Clone, Debug, PartialEq)]
pub struct FailedFallback<E>(Box<Failed<E>>);

/// In a box, so that who has no fallback does not carry two errors around.
#[derive(Clone, Debug, PartialEq)]
struct Failed<E> {
    operation: Box<str>,
    cause: CallError<E>,
    error: E,
}

impl<E> FailedFallback<E> {
    /// The operation's name.
    #[must_use]
    pub fn operation(&self) -> &str {
        &self.0.operation
    }

    /// Why the fallback was asked: the call's rejection, or its own error.
    #[must_use]
    pub fn cause(&self) -> &CallError<E> {
        &self.0.cause
    }

    /// The fallback's error.
    #[must_use]
    pub fn error(&self) -> &E {
        &self.0.error
    }
}

impl<E> FallbackError<E> {
    fn failed(operation: &str, cause: CallError<E>, error: E) -> Self {
        Self::Fallback(FailedFallback(Box::new(Failed { operation: operation.into(), cause, error })))
    }

    /// Why there is no value in the first place: the call's rejection, or its own error.
    #[must_use]
    pub fn cause(&self) -> &CallError<E> {
        match self {
            Self::Call(cause) => cause,
            Self::Fallback(failed) => failed.cause(),
        }
    }

    /// The call's own error, the rejection, or the fallback's error as one: as [`CallError::flatten`], for error types
    /// such as `anyhow::Error` and `Box<dyn Error>`. What the fallback's error came after is lost.
    ///
    /// ```
    /// use failfast::{CircuitBreaker, FallbackError, Fallbacks};
    ///
    /// fn quote() -> Result<u32, Box<dyn std::error::Error>> {
    ///     let quotes = Fallbacks::new().on_rejected("quote", |(), _| Err("no cached quote".into()));
    ///     let breaker = CircuitBreaker::builder().build()?;
    ///     breaker.force_open();
    ///     quotes.resolve("quote", &(), breaker.call(|| Ok("42".parse()?))).map_err(FallbackError::flatten)
    /// }
    /// assert_eq!(quote().unwrap_err().to_string(), "no cached quote");
    /// ```
    pub fn flatten(self) -> E
    where
        E: From<Rejected>,
    {
        match self {
            Self::Call(error) => error.flatten(),
            Self::Fallback(failed) => failed.0.error,
        }
    }
}

impl<E: fmt::Display> fmt::Display for FallbackError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::Fallback(failed) => failed.fmt(f),
        }
    }
}

impl<E: fmt::Display> fmt::Display for FailedFallback<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fallback for {:?} failed after the call ", self.operation())?;
        match self.cause() {
            CallError::Rejected(rejected) => write!(f, "was rejected ({})", InShort(rejected))?,
            CallError::Failed(error) => write!(f, "failed ({error})")?,
        }
        write!(f, ": {}", self.error())
    }
}

/// Without a fallback it has the source of the call's error.
impl<E: core::error::Error + 'static> core::error::Error for FallbackError<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Call(error) => error.source(),
            Self::Fallback(failed) => failed.source(),
        }
    }
}

/// Its source is the fallback's error.
impl<E: core::error::Error + 'static> core::error::Error for FailedFallback<E> {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(self.error())
    }
}
