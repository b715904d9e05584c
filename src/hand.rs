//! The hand: what an operator does to a breaker.

use core::time::Duration;

use crate::breaker::CircuitBreaker;
use crate::clock::Clock;
use crate::error::IllegalTransition;
use crate::observer::{Cause, Observer};
use crate::policy::Policy;
use crate::raw::gate::{Kind, Word};
use crate::snapshot::State;
use crate::time::Timestamp;

/// By hand. Each takes effect at once; setting the state that the breaker is in already changes nothing.
impl<P: Policy, C: Clock, O: Observer> CircuitBreaker<P, C, O> {
    /// Opens it for a full wait from now, also when it is open already (then without a transition).
    ///
    /// ```
    /// # let breaker = failfast::CircuitBreaker::builder().build()?;
    /// breaker.open();
    /// assert_eq!(breaker.state(), failfast::State::Open);
    /// assert_eq!(breaker.snapshot().trip().unwrap().reason(), failfast::Reason::ByHand);
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    pub fn open(&self) {
        self.open_by_hand(None);
    }

    /// [`open`](Self::open), for this long instead of the configured wait, but at most its maximum.
    ///
    /// ```
    /// use std::time::Duration;
    /// # let breaker = failfast::CircuitBreaker::builder().build()?;
    /// breaker.open_for(Duration::from_secs(3600));
    /// assert!(breaker.snapshot().retry_after().unwrap() > Duration::from_secs(3500));
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    pub fn open_for(&self, wait: Duration) {
        self.open_by_hand(Some(wait));
    }

    fn open_by_hand(&self, wait: Option<Duration>) {
        self.by_hand(|word, now| match word.kind() {
            Kind::HalfOpen => self.reopen(word, Kind::ProbeByHand, now, wait),
            kind if kind.is_open() => {
                let Some(outage) = self.gate.outage(word) else { return false };
                let end = self.deadline(now, wait, outage.reopened, word.generation());
                self.gate.exchange(word, word.until(end))
            }
            _ => self.open_anew(word, Kind::ByHand, None, now, wait),
        });
    }

    /// Closes it, with empty windows. A closed one stays as it is.
    ///
    /// ```
    /// # let breaker = failfast::CircuitBreaker::builder().build()?;
    /// breaker.open();
    /// breaker.close();
    /// assert_eq!(breaker.state(), failfast::State::Closed);
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    pub fn close(&self) {
        self.set(Kind::Closed);
    }

    /// Closes it with empty windows, also when it is closed already (then without a transition): calls in flight
    /// become stragglers.
    ///
    /// ```
    /// # let breaker = failfast::CircuitBreaker::builder().build()?;
    /// breaker.try_acquire()?.failure();
    /// breaker.reset();
    /// assert_eq!(breaker.snapshot().consecutive_failures(), Some(0));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn reset(&self) {
        self.by_hand(|word, now| self.move_to(word, Kind::Closed, now));
    }

    /// Lets an open breaker's probes through now. A half-open one stays as it is.
    ///
    /// # Errors
    /// [`IllegalTransition`] from any other state.
    ///
    /// ```
    /// # let breaker = failfast::CircuitBreaker::builder().build()?;
    /// assert!(breaker.half_open().is_err());
    /// breaker.open();
    /// breaker.half_open()?;
    /// assert_eq!(breaker.state(), failfast::State::HalfOpen);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn half_open(&self) -> Result<(), IllegalTransition> {
        loop {
            let word = self.catch_up();
            match word.kind() {
                Kind::HalfOpen => return Ok(()),
                kind if kind.is_open() => {
                    if self.begin_half_open(word, self.now()) {
                        return Ok(());
                    }
                }
                kind => return Err(IllegalTransition { from: State::of(kind) }),
            }
        }
    }

    /// Rejects every call until the hand moves it on; time does not.
    ///
    /// ```
    /// # let breaker = failfast::CircuitBreaker::builder().build()?;
    /// breaker.force_open();
    /// assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), None);
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    pub fn force_open(&self) {
        self.set(Kind::ForcedOpen);
    }

    /// Lets every call through and records nothing, until the hand moves it on.
    ///
    /// ```
    /// # let breaker = failfast::CircuitBreaker::builder().failures(1).build()?;
    /// breaker.disable();
    /// breaker.try_acquire()?.failure();
    /// assert!(breaker.try_acquire().is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn disable(&self) {
        self.set(Kind::Disabled);
    }

    /// Lets every call through and records it, but only reports a trip
    /// ([`Observer::on_would_trip`]), each time that a cause begins to hold. For trying out thresholds.
    ///
    /// ```
    /// # let breaker = failfast::CircuitBreaker::builder().failures(1).build()?;
    /// breaker.metrics_only();
    /// breaker.try_acquire()?.failure();
    /// assert_eq!(breaker.snapshot().consecutive_failures(), Some(1));
    /// assert!(breaker.try_acquire().is_ok());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn metrics_only(&self) {
        self.set(Kind::MetricsOnly);
    }

    fn set(&self, kind: Kind) {
        self.by_hand(|word, now| word.kind() == kind || self.move_to(word, kind, now));
    }

    fn move_to(&self, word: Word, kind: Kind, now: Timestamp) -> bool {
        self.exchange(word, word.next(kind, now.as_millis()), now, Cause::ByHand)
    }

    /// Tries a move from whatever the gate holds until it is made. Each failure is another thread's move.
    fn by_hand(&self, attempt: impl Fn(Word, Timestamp) -> bool) {
        let backoff = crossbeam_utils::Backoff::new();
        while !attempt(self.catch_up(), self.now()) {
            backoff.spin();
        }
    }
}
