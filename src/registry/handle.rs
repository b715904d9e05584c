//! A breaker of a registry, and the hold on it.

use core::fmt;
use core::num::NonZeroU32;
use core::ops::Deref;
use std::sync::Arc;

use crate::breaker::CircuitBreaker;
use crate::clock::{Clock, DefaultClock};
use crate::error::{CallError, Rejected};
use crate::future::{CallFuture, Classifier, OrElseFuture};
use crate::observer::Observer;
use crate::outcome::{Outcome, Settled};
use crate::permit::{Breaker, Pass, Permit};
use crate::policy::{Consecutive, Policy};
use crate::snapshot::{Snapshot, State};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::time::Timestamp;

/// A hold on a breaker of a [`Registry`](super::Registry), which is not evicted while it is held. It derefs to the
/// [`Keyed`] breaker, and can be cloned, stored, and sent to other threads and tasks.
///
/// ```
/// use failfast::Registry;
/// use failfast::registry::Handle;
///
/// /// Calls one host often: looks its breaker up once.
/// struct Payments {
///     breaker: Handle,
/// }
/// let hosts = Registry::builder().build()?;
/// let payments = Payments { breaker: hosts.get("payments") };
/// assert_eq!(payments.breaker.call(|| "42".parse::<u32>()), Ok(42));
/// # Ok::<(), failfast::registry::BuildError>(())
/// ```
pub struct Handle<P: Policy = Consecutive, C: Clock = DefaultClock, O: Observer = ()> {
    keyed: Arc<Keyed<P, C, O>>,
    /// Whether letting it go counts as a use.
    uses: bool,
}

impl<P: Policy, C: Clock, O: Observer> Handle<P, C, O> {
    #[inline]
    pub(super) fn of(keyed: Arc<Keyed<P, C, O>>) -> Self {
        Self { keyed, uses: true }
    }

    pub(super) fn to_look_at(keyed: Arc<Keyed<P, C, O>>) -> Self {
        Self { keyed, uses: false }
    }

    /// [`try_acquire`](Keyed::try_acquire) for a permit that holds the breaker itself.
    ///
    /// # Errors
    /// As for `try_acquire`.
    ///
    /// ```
    /// # let hosts = failfast::Registry::builder().build()?;
    /// let permit = hosts.get("payments").try_acquire_owned()?;
    /// std::thread::spawn(move || permit.success()).join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_acquire_owned(self) -> Result<Permit<Self>, Rejected> {
        let pass = self.ask()?;
        Ok(Permit::new(self, pass))
    }

    /// [`call_async`](Keyed::call_async) as a future that holds the breaker itself, to be spawned or stored.
    ///
    /// # Errors
    /// As for `call`.
    ///
    /// ```
    /// # let hosts = failfast::Registry::builder().build()?;
    /// let quote = hosts.get("payments").call_async_owned(|| async { "42".parse::<u32>() });
    /// let task = std::thread::spawn(move || pollster::block_on(quote));
    /// assert_eq!(task.join().unwrap(), Ok(42));
    /// # Ok::<(), failfast::registry::BuildError>(())
    /// ```
    #[inline]
    pub fn call_async_owned<F, T, E, Fut>(self, f: F) -> CallFuture<Self, F, Fut, Classifier<T, E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.call_async_owned_with(Outcome::of, f)
    }

    /// [`call_async_with`](Keyed::call_async_with) as a future that holds the breaker itself.
    ///
    /// # Errors
    /// As for `call`.
    ///
    /// ```
    /// # let hosts = failfast::Registry::builder().build()?;
    /// let neutral = |_: &Result<u32, std::num::ParseIntError>| failfast::Outcome::Ignored;
    /// let quote = hosts.get("payments").call_async_owned_with(neutral, || async { "x".parse() });
    /// assert!(pollster::block_on(quote).is_err());
    /// # Ok::<(), failfast::registry::BuildError>(())
    /// ```
    #[inline]
    pub fn call_async_owned_with<K, F, T, E, Fut>(self, classify: K, f: F) -> CallFuture<Self, F, Fut, K>
    where
        K: FnOnce(&Result<T, E>) -> Outcome,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        CallFuture::new(self, f, classify)
    }
}

impl<P: Policy, C: Clock, O: Observer> Deref for Handle<P, C, O> {
    type Target = Keyed<P, C, O>;

    #[inline]
    fn deref(&self) -> &Self::Target {
        &self.keyed
    }
}

impl<P: Policy, C: Clock, O: Observer> Clone for Handle<P, C, O> {
    fn clone(&self) -> Self {
        Self { keyed: self.keyed.clone(), uses: self.uses }
    }
}

/// The breaker is idle from when its last handle was let go.
impl<P: Policy, C: Clock, O: Observer> Drop for Handle<P, C, O> {
    #[inline]
    fn drop(&mut self) {
        if self.uses {
            self.keyed.touch();
        }
    }
}

impl<P: Policy, C: Clock, O: Observer> fmt::Debug for Handle<P, C, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

/// A breaker of a [`Registry`](super::Registry) and its key: what a [`Handle`] derefs to. It calls as
/// [`CircuitBreaker`] does.
///
/// Where the registry had no place for the breaker, it is one that rejects every call, or lets every call pass and
/// records nothing; see [`WhenFull`](super::WhenFull).
///
/// ```
/// use failfast::Registry;
/// use failfast::registry::Keyed;
///
/// fn show(breaker: &Keyed) {
///     println!("{} is {}", breaker.key(), breaker.state());
/// }
/// let hosts = Registry::builder().build()?;
/// show(&hosts.get("payments"));
/// # Ok::<(), failfast::registry::BuildError>(())
/// ```
pub struct Keyed<P: Policy = Consecutive, C: Clock = DefaultClock, O: Observer = ()> {
    /// Apart, so that what every look-up writes (the counts of this, and `used`) and what every call reads are different
    /// cache lines; and shared with the registry, which can so tell whether anybody holds this and yet keep the breaker.
    breaker: Arc<CircuitBreaker<P, C, O>>,
    clock: C,
    key: Arc<str>,
    /// When its last handle was let go, or it was made.
    used: AtomicU64,
    removed: AtomicU32,
    /// Where it stands for the breakers that a full registry has no place for: its capacity.
    stands_in: Option<NonZeroU32>,
}

impl<P: Policy, C: Clock, O: Observer> Keyed<P, C, O> {
    pub(super) fn new(breaker: Arc<CircuitBreaker<P, C, O>>, clock: C, key: Arc<str>) -> Self {
        let used = AtomicU64::new(clock.now().as_nanos());
        Self { breaker, clock, key, used, removed: AtomicU32::new(0), stands_in: None }
    }

    /// The one for keys that a full registry of this capacity has no place for.
    pub(super) fn overflow(
        breaker: Arc<CircuitBreaker<P, C, O>>,
        clock: C,
        key: Arc<str>,
        capacity: NonZeroU32,
    ) -> Self {
        Self { stands_in: Some(capacity), ..Self::new(breaker, clock, key) }
    }

    /// Its key; that of none, `(full)`, if the registry had no place for it.
    pub fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn shared_key(&self) -> Arc<str> {
        self.key.clone()
    }

    /// The breaker itself, to move it by hand for example. None if the registry had no place for it.
    ///
    /// ```
    /// # let hosts = failfast::Registry::builder().build()?;
    /// let payments = hosts.get("payments");
    /// payments.breaker().unwrap().force_open();
    /// assert_eq!(payments.state(), failfast::State::ForcedOpen);
    /// # Ok::<(), failfast::registry::BuildError>(())
    /// ```
    pub fn breaker(&self) -> Option<&CircuitBreaker<P, C, O>> {
        self.stands_in.is_none().then_some(&self.breaker)
    }

    /// Whether it was [removed](super::Registry::remove) from the registry, which may have another one by the same key
    /// since.
    pub fn is_removed(&self) -> bool {
        // ORDERING: Acquire, pairs with `mark_removed`; what it says is final.
        self.removed.load(Ordering::Acquire) != 0
    }

    pub(super) fn mark_removed(&self) {
        // ORDERING: Release, pairs with `is_removed`.
        self.removed.store(1, Ordering::Release);
    }

    /// What the registry's map keeps of it.
    pub(super) fn shared(&self) -> Arc<CircuitBreaker<P, C, O>> {
        self.breaker.clone()
    }

    pub(super) fn last_used(&self) -> Timestamp {
        // ORDERING: Relaxed. Once nobody holds it, letting the last handle go has ordered this (the `Arc`'s Release);
        // before, it need not be the latest.
        Timestamp::from_nanos(self.used.load(Ordering::Relaxed))
    }

    #[inline]
    fn touch(&self) {
        let now = self.clock.now().as_nanos();
        // ORDERING: Relaxed, as in `last_used`. Of two that overlap the earlier may stay: by the length of the overlap.
        if now > self.used.load(Ordering::Relaxed) {
            // ORDERING: Relaxed, as above.
            self.used.store(now, Ordering::Relaxed);
        }
    }

    /// The effective state. See [`CircuitBreaker::state`].
    ///
    /// ```
    /// # let hosts = failfast::Registry::builder().build()?;
    /// assert_eq!(hosts.get("payments").state(), failfast::State::Closed);
    /// # Ok::<(), failfast::registry::BuildError>(())
    /// ```
    pub fn state(&self) -> State {
        self.breaker.state()
    }

    /// The state, its counts, and what led to it. See [`CircuitBreaker::snapshot`].
    ///
    /// ```
    /// # let hosts = failfast::Registry::builder().build()?;
    /// println!("{}", hosts.get("payments").snapshot());
    /// # Ok::<(), failfast::registry::BuildError>(())
    /// ```
    pub fn snapshot(&self) -> Snapshot {
        self.breaker.snapshot()
    }

    /// Of a stand-in, that the registry is full.
    fn explain(&self, rejected: Rejected) -> Rejected {
        self.stands_in.map_or(rejected, Rejected::full)
    }
}

/// Calls, as those of [`CircuitBreaker`].
impl<P: Policy, C: Clock, O: Observer> Keyed<P, C, O> {
    /// Asks for a permit to make one call. See [`CircuitBreaker::try_acquire`].
    ///
    /// # Errors
    /// [`Rejected`] if the call must not be made.
    ///
    /// ```
    /// # let hosts = failfast::Registry::builder().build()?;
    /// let payments = hosts.get("payments");
    /// let permit = payments.try_acquire()?;
    /// permit.settle_by(&"42".parse::<u32>());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<&Self>, Rejected> {
        self.ask().map(|pass| Permit::new(self, pass))
    }

    /// Calls `f` if the breaker lets it. See [`CircuitBreaker::call`].
    ///
    /// # Errors
    /// [`CallError::Rejected`] if it was not called, [`CallError::Failed`] with its own error if it was.
    ///
    /// ```
    /// # let hosts = failfast::Registry::builder().build()?;
    /// assert_eq!(hosts.get("payments").call(|| "42".parse::<u32>()), Ok(42));
    /// # Ok::<(), failfast::registry::BuildError>(())
    /// ```
    #[inline]
    pub fn call<T, E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<T, CallError<E>> {
        self.call_with(Outcome::of, f)
    }

    /// [`call`](Self::call), with a classifier that says what a result counts as. See [`CircuitBreaker::call_with`].
    ///
    /// # Errors
    /// As for `call`.
    ///
    /// ```
    /// # let hosts = failfast::Registry::builder().build()?;
    /// let neutral = |_: &Result<u32, std::num::ParseIntError>| failfast::Outcome::Ignored;
    /// assert!(hosts.get("payments").call_with(neutral, || "x".parse()).is_err());
    /// # Ok::<(), failfast::registry::BuildError>(())
    /// ```
    #[inline]
    pub fn call_with<T, E>(
        &self,
        classify: impl FnOnce(&Result<T, E>) -> Outcome,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, CallError<E>> {
        match self.breaker.call_with(classify, f) {
            Err(CallError::Rejected(rejected)) => Err(CallError::Rejected(self.explain(rejected))),
            result => result,
        }
    }

    /// [`call`](Self::call), with a fallback that is asked instead when the call is rejected. See
    /// [`CircuitBreaker::call_or_else`].
    ///
    /// # Errors
    /// The call's own error, or the fallback's.
    ///
    /// ```
    /// # let hosts = failfast::Registry::builder().build()?;
    /// let price = hosts.get("payments").call_or_else(|| "42".parse::<u32>(), |_rejected| Ok(41));
    /// assert_eq!(price, Ok(42));
    /// # Ok::<(), failfast::registry::BuildError>(())
    /// ```
    #[inline]
    pub fn call_or_else<T, E>(
        &self,
        f: impl FnOnce() -> Result<T, E>,
        fallback: impl FnOnce(Rejected) -> Result<T, E>,
    ) -> Result<T, E> {
        self.call(f).or_else(|error| error.or_else(fallback))
    }

    /// [`call`](Self::call) for a future, on any runtime or none. See [`CircuitBreaker::call_async`].
    ///
    /// # Errors
    /// As for `call`.
    ///
    /// ```
    /// # let hosts = failfast::Registry::builder().build()?;
    /// # pollster::block_on(async {
    /// assert_eq!(hosts.get("payments").call_async(|| async { "42".parse::<u32>() }).await, Ok(42));
    /// # });
    /// # Ok::<(), failfast::registry::BuildError>(())
    /// ```
    #[inline]
    pub fn call_async<F, T, E, Fut>(&self, f: F) -> CallFuture<&Self, F, Fut, Classifier<T, E>>
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        self.call_async_with(Outcome::of, f)
    }

    /// [`call_with`](Self::call_with) for a future. See [`CircuitBreaker::call_async_with`].
    ///
    /// # Errors
    /// As for `call`.
    ///
    /// ```
    /// # let hosts = failfast::Registry::builder().build()?;
    /// # pollster::block_on(async {
    /// let neutral = |_: &Result<u32, std::num::ParseIntError>| failfast::Outcome::Ignored;
    /// assert!(hosts.get("payments").call_async_with(neutral, || async { "x".parse() }).await.is_err());
    /// # });
    /// # Ok::<(), failfast::registry::BuildError>(())
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

    /// [`call_or_else`](Self::call_or_else) for futures. See [`CircuitBreaker::call_async_or_else`].
    ///
    /// # Errors
    /// The call's own error, or the fallback's.
    ///
    /// ```
    /// # let hosts = failfast::Registry::builder().build()?;
    /// # pollster::block_on(async {
    /// let payments = hosts.get("payments");
    /// let price = payments.call_async_or_else(|| async { "42".parse::<u32>() }, |_| async { Ok(41) }).await;
    /// assert_eq!(price, Ok(42));
    /// # });
    /// # Ok::<(), failfast::registry::BuildError>(())
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

impl<P: Policy, C: Clock, O: Observer> Breaker for Keyed<P, C, O> {
    #[inline]
    fn ask_closed(&self) -> Option<Pass> {
        self.breaker.ask_closed()
    }

    #[inline]
    fn ask_open(&self) -> Option<Rejected> {
        self.breaker.ask_open()
    }

    fn ask_gate(&self) -> Result<Pass, Rejected> {
        self.breaker.ask_gate().map_err(|rejected| self.explain(rejected))
    }

    #[inline]
    fn settle(&self, pass: Pass, settled: Settled) {
        self.breaker.settle(pass, settled);
    }

    #[inline]
    fn may_reject(&self) -> bool {
        self.breaker.may_reject()
    }
}

impl<P: Policy, C: Clock, O: Observer> fmt::Debug for Keyed<P, C, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.snapshot())
    }
}
