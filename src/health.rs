//! Whether anything is wrong: one answer for several breakers.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Deref;

use crate::breaker::CircuitBreaker;
use crate::clock::Clock;
use crate::observer::Observer;
use crate::policy::Policy;
use crate::snapshot::{Snapshot, State};

/// Breakers that can be looked at by name: one with its name, a list of them, a registry. A [`Health`] is made of them.
///
/// ```
/// use failfast::{CircuitBreaker, LastCalls, Monitored};
/// use std::sync::Arc;
///
/// let payments = Arc::new(CircuitBreaker::builder().build()?);
/// let search = Arc::new(CircuitBreaker::builder().policy(LastCalls::<100>::new().failures(10)).build()?);
///
/// let all: Vec<Box<dyn Monitored>> = vec![Box::new(("payments", payments)), Box::new(("search", search))];
/// all.each(&mut |name, snapshot| println!("{name}: {snapshot}"));
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is nothing that can be monitored",
    note = "one breaker is monitored as `(name, breaker)`, where `breaker` is a `&CircuitBreaker` or an `Arc` of one"
)]
pub trait Monitored: Send + Sync {
    /// Shows each breaker's name, and what it looks like now.
    fn each(&self, see: &mut dyn FnMut(&str, &Snapshot));
}

impl<N, H, P, C, O> Monitored for (N, H)
where
    N: AsRef<str> + Send + Sync,
    H: Deref<Target = CircuitBreaker<P, C, O>> + Send + Sync,
    P: Policy,
    C: Clock,
    O: Observer,
{
    fn each(&self, see: &mut dyn FnMut(&str, &Snapshot)) {
        see(self.0.as_ref(), &self.1.snapshot());
    }
}

impl<T: Monitored> Monitored for [T] {
    fn each(&self, see: &mut dyn FnMut(&str, &Snapshot)) {
        self.iter().for_each(|breakers| breakers.each(see));
    }
}

macro_rules! forward {
    ($([$($parameter:tt)*] $type:ty),+ $(,)?) => {$(
        impl<$($parameter)*> Monitored for $type {
            fn each(&self, see: &mut dyn FnMut(&str, &Snapshot)) {
                (**self).each(see);
            }
        }
    )+};
}
forward!([T: Monitored + ?Sized] &T, [T: Monitored + ?Sized] Box<T>, [T: Monitored + ?Sized] Arc<T>, [T: Monitored] Vec<T>);

impl<T: Monitored, const N: usize> Monitored for [T; N] {
    fn each(&self, see: &mut dyn FnMut(&str, &Snapshot)) {
        self.as_slice().each(see);
    }
}

#[cfg(feature = "registry")]
impl<P: Policy, C: Clock + Clone, O: Observer> Monitored for crate::registry::Registry<P, C, O> {
    fn each(&self, see: &mut dyn FnMut(&str, &Snapshot)) {
        self.iter().for_each(|breaker| see(breaker.key(), &breaker.snapshot()));
    }
}

/// Several breakers at one moment: degraded when any of them is open.
///
/// Its `Display` is one line, the names escaped.
///
/// Half-open and forced open count as open: they reject calls too. Disabled and metrics-only breakers do not.
///
/// **Degraded is not dead.** The instance does what it was built for, it fails fast; so answer a load balancer's or an
/// orchestrator's check with success, and show this beside it. Otherwise one dependency's outage takes every instance
/// out of service.
///
/// ```
/// use failfast::{CircuitBreaker, Health, State};
/// use std::sync::Arc;
///
/// let breaker = || CircuitBreaker::builder().failures(1).build().map(Arc::new);
/// let breakers = [("payments", breaker()?), ("search", breaker()?)];
/// assert_eq!(Health::of(&breakers).to_string(), "healthy: 2 breakers");
///
/// breakers[1].1.try_acquire()?.failure();
/// let health = Health::of(&breakers);
/// assert!(health.is_degraded());
/// assert_eq!((health.breakers(), health.count(State::Open)), (2, 1));
/// let (name, snapshot) = health.degraded().next().unwrap();
/// assert_eq!((name, snapshot.state()), ("search", State::Open));
/// // degraded: 1 of 2 breakers; search open since 0 ms: 1 call failed in a row (limit 1); probes in 30.0 s
/// assert!(health.to_string().starts_with("degraded: 1 of 2 breakers; search open since "));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Health {
    states: [usize; State::ALL.len()],
    degraded: Vec<(Box<str>, Snapshot)>,
}

impl Health {
    /// Looks at each of them.
    #[must_use]
    pub fn of(breakers: &(impl Monitored + ?Sized)) -> Self {
        let mut health = Self { states: [0; State::ALL.len()], degraded: Vec::new() };
        breakers.each(&mut |name, snapshot| {
            let state = snapshot.state();
            health.states[state as usize] += 1;
            if matches!(state, State::Open | State::HalfOpen | State::ForcedOpen) {
                health.degraded.push((name.into(), *snapshot));
            }
        });
        health.degraded.sort_by(|a, b| a.0.cmp(&b.0));
        health
    }

    /// Whether any breaker is open, half-open or forced open.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        !self.degraded.is_empty()
    }

    /// `degraded` or `healthy`.
    #[must_use]
    pub fn status(&self) -> &'static str {
        if self.is_degraded() { "degraded" } else { "healthy" }
    }

    /// The breakers that make it degraded, by name.
    pub fn degraded(&self) -> impl Iterator<Item = (&str, &Snapshot)> {
        self.degraded.iter().map(|(name, snapshot)| (&**name, snapshot))
    }

    /// How many breakers there are.
    #[must_use]
    pub fn breakers(&self) -> usize {
        self.states.iter().sum()
    }

    /// How many of them are in this state.
    #[must_use]
    pub fn count(&self, state: State) -> usize {
        self.states[state as usize]
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.breakers() == 1 { "" } else { "s" };
        write!(f, "{}: ", self.status())?;
        if self.is_degraded() {
            write!(f, "{} of ", self.degraded.len())?;
        }
        write!(f, "{} breaker{plural}", self.breakers())?;
        self.degraded().try_for_each(|(name, snapshot)| write!(f, "; {} {snapshot}", name.escape_debug()))
    }
}
