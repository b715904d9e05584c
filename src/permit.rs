//! The right to make one call.

use core::fmt;
use core::ops::Deref;
use core::time::Duration;

use crate::error::Rejected;
use crate::outcome::{Outcome, Settled};
use crate::raw::gate::Word;
use crate::time::Timestamp;

/// What a call was admitted with: the gate's word, by which a straggler is known, and when it started, if anybody
/// wants to know.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    pub(crate) word: Word,
    pub(crate) started: Timestamp,
}

/// What a permit or a future needs of the breaker that it holds. Every [`CircuitBreaker`](crate::CircuitBreaker) is one.
///
/// ```
/// use failfast::{Breaker, CircuitBreaker, Permit};
/// use std::ops::Deref;
///
/// /// Takes permits of any breaker, however they hold it.
/// fn give_up<H>(permit: Permit<H>)
/// where
///     H: Deref,
///     H::Target: Breaker,
/// {
///     permit.ignore();
/// }
/// let breaker = CircuitBreaker::builder().build()?;
/// give_up(breaker.try_acquire()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Breaker {
    /// The answer of a closed breaker.
    #[doc(hidden)]
    fn ask_closed(&self) -> Option<Pass>;

    /// The answer of one whose open wait is not over: while the callee is down, the answer to nearly every call.
    #[doc(hidden)]
    fn ask_open(&self) -> Option<Rejected>;

    /// The answer of one that is not closed.
    #[doc(hidden)]
    fn ask_gate(&self) -> Result<Pass, Rejected>;

    #[doc(hidden)]
    #[inline]
    fn ask(&self) -> Result<Pass, Rejected> {
        match self.ask_closed() {
            Some(pass) => Ok(pass),
            None => self.ask_gate(),
        }
    }

    #[doc(hidden)]
    fn settle(&self, pass: Pass, settled: Settled);

    /// Whether it may reject a call that is made now: it is open, half-open or forced open.
    #[doc(hidden)]
    fn may_reject(&self) -> bool;
}

/// The right to make one call, and the duty to say how it ended.
///
/// Settling consumes it. Dropped unsettled (an early return, a cancelled future, unwinding) it counts as a cancelled
/// call: by default nothing, see [`OnCancel`](crate::OnCancel). `H` is how it holds its breaker: `&CircuitBreaker<…>`
/// or `Arc<CircuitBreaker<…>>`.
///
/// ```
/// use failfast::CircuitBreaker;
///
/// let breaker = CircuitBreaker::builder().build()?;
/// breaker.try_acquire()?.success();
/// breaker.try_acquire()?.failure();
/// breaker.try_acquire()?.ignore();
/// drop(breaker.try_acquire()?); // cancelled
/// assert_eq!(breaker.snapshot().consecutive_failures(), Some(1));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use = "a permit that is dropped at once is a cancelled call"]
pub struct Permit<H>
where
    H: Deref,
    H::Target: Breaker,
{
    holder: H,
    pass: Pass,
    if_dropped: IfDropped,
}

/// What it means that a permit is dropped. A byte of its own, since every future of a call carries it.
#[derive(Clone, Copy)]
pub(crate) enum IfDropped {
    /// The call was cancelled.
    Cancelled,
    /// The call unwound.
    Failure,
    /// Nothing, it has been settled.
    Settled,
}

impl<H> Permit<H>
where
    H: Deref,
    H::Target: Breaker,
{
    #[inline]
    pub(crate) fn new(holder: H, pass: Pass) -> Self {
        Self { holder, pass, if_dropped: IfDropped::Cancelled }
    }

    /// Asks the breaker that is held this way, and holds it once more if it admits:
    /// [`try_acquire`](crate::CircuitBreaker::try_acquire) whatever the holder.
    ///
    /// # Errors
    /// As for `try_acquire`.
    ///
    /// ```
    /// use failfast::{Breaker, CircuitBreaker, Permit};
    /// use std::{ops::Deref, sync::Arc};
    ///
    /// struct Connection<H>(H);
    ///
    /// impl<H: Deref<Target: Breaker> + Clone> Connection<H> {
    ///     fn ping(&self) -> Result<(), failfast::Rejected> {
    ///         let permit = Permit::try_acquire(&self.0)?;
    ///         permit.success();
    ///         Ok(())
    ///     }
    /// }
    /// static BREAKER: CircuitBreaker =
    ///     CircuitBreaker::new(failfast::Consecutive::new(5), failfast::Config::new());
    /// Connection(&BREAKER).ping()?;
    /// Connection(Arc::new(CircuitBreaker::builder().build()?)).ping()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_acquire(holder: &H) -> Result<Self, Rejected>
    where
        H: Clone,
    {
        holder.ask().map(|pass| Self::new(holder.clone(), pass))
    }

    /// From now on being dropped means this.
    #[inline]
    pub(crate) fn if_dropped(&mut self, what: IfDropped) {
        self.if_dropped = what;
    }

    /// [`settle`](Self::settle) for one that stays where it is.
    #[inline]
    pub(crate) fn settle_in_place(&mut self, outcome: Outcome) {
        self.if_dropped = IfDropped::Settled;
        self.holder.settle(self.pass, Settled::With(outcome));
    }

    /// Not inlined, so that a drop after it was settled costs next to nothing.
    #[cold]
    #[inline(never)]
    fn drop_unsettled(&self) {
        let settled = match self.if_dropped {
            IfDropped::Cancelled => Settled::Cancelled,
            _ => Settled::With(Outcome::Failure),
        };
        self.holder.settle(self.pass, settled);
    }

    /// The call succeeded.
    #[inline]
    pub fn success(self) {
        self.settle(Outcome::Success);
    }

    /// The call failed.
    #[inline]
    pub fn failure(self) {
        self.settle(Outcome::Failure);
    }

    /// The call says nothing about the callee.
    #[inline]
    pub fn ignore(self) {
        self.settle(Outcome::Ignored);
    }

    /// The call failed, and the callee asked for a pause: opens at once, for this long (at most the configured
    /// maximum), or with `None` for the configured wait.
    ///
    /// ```
    /// use failfast::{CircuitBreaker, State};
    /// use std::time::Duration;
    ///
    /// let breaker = CircuitBreaker::builder().build()?;
    /// breaker.try_acquire()?.open_for(Duration::from_secs(7));
    /// assert_eq!(breaker.state(), State::Open);
    /// assert_eq!(breaker.snapshot().retry_after().unwrap().as_secs_f64().round(), 7.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_for(self, wait: impl Into<Option<Duration>>) {
        self.settle(Outcome::OpenFor(wait.into()));
    }

    /// Success for `Ok`, failure for `Err`.
    #[inline]
    pub fn settle_by<T, E>(self, result: &Result<T, E>) {
        self.settle(Outcome::of(result));
    }

    /// Settles it with any outcome.
    ///
    /// ```
    /// # let breaker = failfast::CircuitBreaker::builder().build()?;
    /// breaker.try_acquire()?.settle(failfast::Outcome::Failure);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn settle(mut self, outcome: Outcome) {
        self.settle_in_place(outcome);
    }
}

impl<H> Drop for Permit<H>
where
    H: Deref,
    H::Target: Breaker,
{
    #[inline]
    fn drop(&mut self) {
        if !matches!(self.if_dropped, IfDropped::Settled) {
            self.drop_unsettled();
        }
    }
}

impl<H> fmt::Debug for Permit<H>
where
    H: Deref,
    H::Target: Breaker,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("pass", &self.pass).finish_non_exhaustive()
    }
}
