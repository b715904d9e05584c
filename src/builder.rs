//! Putting a breaker together.

use core::time::Duration;

use crate::breaker::CircuitBreaker;
use crate::clock::{Clock, DefaultClock};
use crate::config::{Config, OnCancel, OnMaxWait};
use crate::error::ConfigError;
use crate::observer::{Observer, OnTransition, Transition};
use crate::policy::engine::Engine;
use crate::policy::{Consecutive, IntoPolicy, Made, Spec};
use crate::snapshot::{MAX_POLICIES, State};
#[cfg(not(failfast_loom))]
use crate::time::Timestamp;

impl CircuitBreaker {
    /// Begins a breaker with the defaults: 5 failures in a row, a fixed wait of 30 s, 2 successes of 2 probes,
    /// `max_wait` 60 s.
    ///
    /// ```
    /// use failfast::CircuitBreaker;
    /// use std::time::Duration;
    ///
    /// let breaker = CircuitBreaker::builder().failures(3).open_for(Duration::from_secs(10)).build()?;
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    pub const fn builder() -> Builder {
        Builder { policy: Consecutive::new(5), config: Config::new(), clock: DefaultClock, observer: () }
    }
}

#[cfg(not(failfast_loom))]
impl<P: crate::policy::InlinePolicy> CircuitBreaker<P> {
    /// A breaker as a constant, for a `static`: no lazy initialization, no allocation.
    ///
    /// # Panics
    /// When a number is out of its range, which for a constant is a compile error that names the field and its range.
    ///
    /// ```
    /// use failfast::{CircuitBreaker, Config, Consecutive};
    /// use std::time::Duration;
    ///
    /// static MAIL: CircuitBreaker =
    ///     CircuitBreaker::new(Consecutive::new(3), Config::new().open_for(Duration::from_secs(10)));
    ///
    /// assert_eq!(MAIL.call(|| "42".parse()), Ok(42));
    /// ```
    #[must_use]
    pub const fn new(policy: Spec<P>, config: Config) -> Self {
        Self::new_with(policy, config, DefaultClock, ())
    }
}

#[cfg(not(failfast_loom))]
impl<P: crate::policy::InlinePolicy, C, O> CircuitBreaker<P, C, O> {
    /// [`new`](CircuitBreaker::new) with a clock and an observer (`()` for none).
    ///
    /// # Panics
    /// As `new`.
    ///
    /// ```
    /// use failfast::{CircuitBreaker, Config, History, LastCalls, ManualClock};
    ///
    /// static CLOCK: ManualClock = ManualClock::new();
    /// static SENSOR: CircuitBreaker<LastCalls<20>, &ManualClock, History<8>> =
    ///     CircuitBreaker::new_with(LastCalls::new().failures(4), Config::new(), &CLOCK, History::new());
    ///
    /// SENSOR.open();
    /// assert_eq!(SENSOR.observer().recent().count(), 1);
    /// ```
    #[must_use]
    pub const fn new_with(policy: Spec<P>, config: Config, clock: C, observer: O) -> Self {
        const { assert!(P::COUNT <= MAX_POLICIES, "at most 8 policies can be joined") }
        // A const function may not drop them, which it would when it panics below.
        let (clock, observer) = (core::mem::ManuallyDrop::new(clock), core::mem::ManuallyDrop::new(observer));
        let rules = match policy.rules() {
            Ok(rules) => rules,
            Err(error) => error.fail(),
        };
        if let Err(error) = config.check() {
            error.fail();
        }
        let clock = core::mem::ManuallyDrop::into_inner(clock);
        let observer = core::mem::ManuallyDrop::into_inner(observer);
        Self::from_parts(P::EMPTY, rules, policy.is_timed(), &config, clock, observer, Timestamp::ORIGIN)
    }
}

/// Puts a breaker together at run time; [`CircuitBreaker::builder`] begins one.
///
/// ```
/// use failfast::{CircuitBreaker, LastCalls, ManualClock, State};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let breaker = CircuitBreaker::builder()
///     .policy(LastCalls::<100>::new().min_calls(20).failure_rate(50.0))
///     .open_for(Duration::from_secs(10))
///     .clock(&clock)
///     .on_transition(|transition| println!("{transition}"))
///     .build()?;
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder<S = Spec<Consecutive>, C = DefaultClock, O = ()> {
    policy: S,
    config: Config,
    clock: C,
    observer: O,
}

impl<C, O> Builder<Spec<Consecutive>, C, O> {
    /// Trips after so many failures in a row: from 1 to 4294967295. Default 5. [`policy`](Self::policy) replaces it.
    pub fn failures(self, failures: u32) -> Self {
        self.policy(Consecutive::new(failures))
    }
}

/// The setters of [`Config`] set one part of it.
macro_rules! config_setters {
    ($($(#[$attribute:meta])* $name:ident: $type:ty),+ $(,)?) => {$(
        #[doc = concat!("See [`Config::", stringify!($name), "`].")]
        pub fn $name(mut self, value: $type) -> Self {
            self.config = self.config.$name(value);
            self
        }
    )+};
}

impl<S, C, O> Builder<S, C, O> {
    /// When to trip: a [`Spec`], a tuple of them, or a list of [`Rule`](crate::Rule)s.
    pub fn policy<T: IntoPolicy>(self, policy: T) -> Builder<T, C, O> {
        Builder { policy, config: self.config, clock: self.clock, observer: self.observer }
    }

    /// Everything else at once. It replaces what was set before.
    pub fn config(mut self, config: Config) -> Self {
        self.config = config;
        self
    }

    config_setters! {
        open_for: Duration,
        backoff: f64,
        max_open: Duration,
        jitter: f64,
        seed: u64,
        probes: u32,
        successes: u32,
        max_wait: Duration,
        on_max_wait: OnMaxWait,
        on_cancel: OnCancel,
        initial_state: State,
    }

    /// Where the time comes from. Default [`DefaultClock`].
    pub fn clock<D: Clock>(self, clock: D) -> Builder<S, D, O> {
        Builder { policy: self.policy, config: self.config, clock, observer: self.observer }
    }

    /// Who is told of what happens. Default nobody. A tuple tells several; a second observer replaces the first.
    pub fn observer<N: Observer>(self, observer: N) -> Builder<S, C, N> {
        Builder { policy: self.policy, config: self.config, clock: self.clock, observer }
    }

    /// Tells a closure of transitions: [`observer`](Self::observer) with an [`OnTransition`].
    ///
    /// A closure has no name, and so the breaker's type has none. To keep the breaker in a struct, give a `fn`, a box,
    /// or an [`Observer`] of your own:
    ///
    /// ```
    /// use failfast::{CircuitBreaker, Consecutive, DefaultClock, OnTransition, Transition};
    ///
    /// struct Client {
    ///     breaker: CircuitBreaker<Consecutive, DefaultClock, OnTransition<fn(&Transition)>>,
    /// }
    /// fn log(transition: &Transition) {
    ///     println!("{transition}");
    /// }
    /// let breaker = CircuitBreaker::builder().on_transition(log as fn(&Transition)).build()?;
    /// let client = Client { breaker };
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    pub fn on_transition<F>(self, f: F) -> Builder<S, C, OnTransition<F>>
    where
        F: Fn(&Transition) + Send + Sync,
    {
        self.observer(OnTransition::new(f))
    }

    /// Checks every number, and builds the breaker.
    ///
    /// # Errors
    /// [`ConfigError`] names the first field that is out of its range, its value and the range.
    pub fn build(self) -> Result<CircuitBreaker<S::Policy, C, O>, ConfigError>
    where
        S: IntoPolicy,
        C: Clock,
        O: Observer,
    {
        const { assert!(<S::Policy as Engine>::COUNT <= MAX_POLICIES, "at most 8 policies can be joined") }
        let Made { policy, rules, timed } = self.policy.into_policy()?;
        self.config.check()?;
        let now = self.clock.now();
        Ok(CircuitBreaker::from_parts(policy, rules, timed, &self.config, self.clock, self.observer, now))
    }
}
