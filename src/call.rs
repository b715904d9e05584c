//! Calls through the breaker, sync and async, and what to do instead of a rejected one.

use crate::breaker::CircuitBreaker;
use crate::clock::Clock;
use crate::error::{CallError, Rejected};
use crate::future::{CallFuture, Classifier, OrElseFuture};
use crate::observer::Observer;
use crate::outcome::{Outcome, Settled};
use crate::permit::{Breaker, IfDropped, Pass, Permit};
use crate::policy::Policy;

/// Calls. A panic in the call, or in a classifier, counts as a failure and goes on to the caller.
impl<P: Policy, C: Clock, O: Observer> CircuitBreaker<P, C, O> {
    /// Calls `f` if the breaker lets it: `Ok` is a success, `Err` a failure.
    ///
    /// # Errors
    /// [`CallError::Rejected`] if it was not called, [`CallError::Failed`] with its own error if it was.
    ///
    /// ```
    /// # let breaker = failfast::CircuitBreaker::builder().build()?;
    /// assert_eq!(breaker.call(|| "42".parse::<u32>()), Ok(42));
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    #[inline(always)]
    pub fn call<T, E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<T, CallError<E>> {
        self.call_with(Outcome::of, f)
    }

    /// [`call`](Self::call), with a classifier that says what a result counts as.
    ///
    /// # Errors
    /// As for `call`. The classifier changes what is recorded, not what is returned.
    ///
    /// ```
    /// use failfast::{CircuitBreaker, Outcome};
    /// use std::time::Duration;
    ///
    /// struct Response { status: u16, retry_after: Option<Duration> }
    ///
    /// let breaker = CircuitBreaker::builder().build()?;
    /// let response = breaker.call_with(
    ///     |result: &Result<Response, std::num::ParseIntError>| match result {
    ///         Ok(response) if response.status == 503 => Outcome::OpenFor(response.retry_after),
    ///         Ok(response) if response.status >= 500 => Outcome::Failure,
    ///         Ok(response) if response.status >= 400 => Outcome::Ignored,
    ///         other => Outcome::of(other),
    ///     },
    ///     || Ok(Response { status: "503".parse()?, retry_after: Some(Duration::from_secs(7)) }),
    /// );
    /// assert_eq!(response.unwrap().status, 503);
    /// assert_eq!(breaker.snapshot().trip().unwrap().reason(), failfast::Reason::Requested);
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    #[inline(always)]
    pub fn call_with<T, E>(
        &self,
        classify: impl FnOnce(&Result<T, E>) -> Outcome,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, CallError<E>> {
        match self.ask_closed() {
            Some(pass) => self.call_admitted(pass, classify, f),
            None => self.call_gate(classify, f),
        }
    }

    /// The whole call once more, apart, so that the closed path keeps nothing for it.
    #[cold]
    #[inline(never)]
    fn call_gate<T, E>(
        &self,
        classify: impl FnOnce(&Result<T, E>) -> Outcome,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, CallError<E>> {
        if let Some(rejected) = self.ask_open() {
            return Err(CallError::Rejected(rejected));
        }
        let pass = self.ask_gate()?;
        self.call_admitted(pass, classify, f)
    }

    #[inline(always)]
    fn call_admitted<T, E>(
        &self,
        pass: Pass,
        classify: impl FnOnce(&Result<T, E>) -> Outcome,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, CallError<E>> {
        let mut unwinding = Permit::new(self, pass);
        unwinding.if_dropped(IfDropped::Failure);
        let result = f();
        let outcome = classify(&result);
        core::mem::forget(unwinding);
        self.settle(pass, Settled::With(outcome));
        result.map_err(CallError::Failed)
    }

    /// [`call`](Self::call), with a fallback that is asked instead when the call is rejected, and sees why.
    ///
    /// # Errors
    /// The call's own error, or the fallback's.
    ///
    /// ```
    /// use failfast::{CircuitBreaker, Rejected};
    ///
    /// let breaker = CircuitBreaker::builder().build()?;
    /// let cached = |rejected: Rejected| {
    ///     println!("a cached price, since {rejected}");
    ///     Ok::<_, std::num::ParseIntError>(41)
    /// };
    /// assert_eq!(breaker.call_or_else(|| "42".parse(), cached), Ok(42));
    /// breaker.force_open();
    /// assert_eq!(breaker.call_or_else(|| "42".parse(), cached), Ok(41));
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    #[inline]
    pub fn call_or_else<T, E>(
        &self,
        f: impl FnOnce() -> Result<T, E>,
        fallback: impl FnOnce(Rejected) -> Result<T, E>,
    ) -> Result<T, E> {
        self.call(f).or_else(|error| error.or_else(fallback))
    }

    /// [`call`](Self::call) for a future, on any runtime or none. `f` makes the future, and is called, with the
    /// permit taken, at the first poll; a future that is dropped before that was no call. One that is dropped later
    /// is a cancelled call: `timeout(1 s, breaker.call_async(f))` cancels, so it counts as
    /// [`OnCancel`](crate::OnCancel) says (by default as nothing), while a timeout inside `f` is an error like any
    /// other.
    ///
    /// # Errors
    /// As for `call`.
    ///
    /// ```
    /// # let breaker = failfast::CircuitBreaker::builder().build()?;
    /// # pollster::block_on(async {
    /// assert_eq!(breaker.call_async(|| async { "42".parse::<u32>() }).await, Ok(42));
    /// # });
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    #[inline]
    pub fn call_async<F, T, E, Fut>(&self, f: F) -> CallFuture<&Self, F, Fut, Classifier<T, E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.call_async_with(Outcome::of, f)
    }

    /// [`call_with`](Self::call_with) for a future.
    ///
    /// # Errors
    /// As for `call`.
    ///
    /// ```
    /// use failfast::{CircuitBreaker, Outcome};
    ///
    /// let breaker = CircuitBreaker::builder().failures(1).build()?;
    /// # pollster::block_on(async {
    /// let empty_is_bad = |result: &Result<String, std::io::Error>| match result {
    ///     Ok(text) if text.is_empty() => Outcome::Failure,
    ///     other => Outcome::of(other),
    /// };
    /// let text = breaker.call_async_with(empty_is_bad, || async { Ok(String::new()) }).await;
    /// assert_eq!(text.unwrap(), "");
    /// assert!(breaker.try_acquire().is_err());
    /// # });
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    #[inline]
    pub fn call_async_with<K, F, T, E, Fut>(&self, classify: K, f: F) -> CallFuture<&Self, F, Fut, K>
    where
        K: FnOnce(&Result<T, E>) -> Outcome,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        CallFuture::new(self, f, classify)
    }

    /// [`call_async`](Self::call_async) as a future that owns its breaker, to be spawned or stored.
    ///
    /// # Errors
    /// As for `call`.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// let breaker = Arc::new(failfast::CircuitBreaker::builder().build()?);
    /// let quote = breaker.call_async_owned(|| async { "42".parse::<u32>() });
    /// let task = std::thread::spawn(move || pollster::block_on(quote));
    /// assert_eq!(task.join().unwrap(), Ok(42));
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    #[cfg(feature = "alloc")]
    #[inline]
    pub fn call_async_owned<F, T, E, Fut>(
        self: &alloc::sync::Arc<Self>,
        f: F,
    ) -> CallFuture<alloc::sync::Arc<Self>, F, Fut, Classifier<T, E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.call_async_owned_with(Outcome::of, f)
    }

    /// [`call_async_with`](Self::call_async_with) as a future that owns its breaker.
    ///
    /// # Errors
    /// As for `call`.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// let breaker = Arc::new(failfast::CircuitBreaker::builder().build()?);
    /// let neutral = |_: &Result<u32, std::num::ParseIntError>| failfast::Outcome::Ignored;
    /// let quote = breaker.call_async_owned_with(neutral, || async { "x".parse() });
    /// assert!(pollster::block_on(quote).is_err());
    /// assert_eq!(breaker.snapshot().consecutive_failures(), Some(0));
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    #[cfg(feature = "alloc")]
    #[inline]
    pub fn call_async_owned_with<K, F, T, E, Fut>(
        self: &alloc::sync::Arc<Self>,
        classify: K,
        f: F,
    ) -> CallFuture<alloc::sync::Arc<Self>, F, Fut, K>
    where
        K: FnOnce(&Result<T, E>) -> Outcome,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        CallFuture::new(self.clone(), f, classify)
    }

    /// [`call_or_else`](Self::call_or_else) for futures.
    ///
    /// # Errors
    /// The call's own error, or the fallback's.
    ///
    /// ```
    /// # let breaker = failfast::CircuitBreaker::builder().build()?;
    /// breaker.force_open();
    /// # pollster::block_on(async {
    /// let price = breaker.call_async_or_else(|| async { "42".parse::<u32>() }, |_| async { Ok(41) }).await;
    /// assert_eq!(price, Ok(41));
    /// # });
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    #[inline]
    pub fn call_async_or_else<F, T, E, Fut, G, Fallback>(
        &self,
        f: F,
        fallback: G,
    ) -> OrElseFuture<CallFuture<&Self, F, Fut, Classifier<T, E>>, G, Fallback>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        G: FnOnce(Rejected) -> Fallback,
        Fallback: Future<Output = Result<T, E>>,
    {
        OrElseFuture::new(self.call_async(f), fallback)
    }
}
