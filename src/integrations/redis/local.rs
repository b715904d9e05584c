//! A node's own breaker, whatever its type.

use core::ops::Deref;
use core::time::Duration;

use super::command::millis;
use super::member::{Act, View};
use super::tap::Tap;
use crate::{CircuitBreaker, Clock, Observer, Policy, State};

pub(super) trait Local: Send + Sync {
    /// The effective state, cheaply.
    fn state(&self) -> State;
    fn view(&self, tap: Option<&Tap>) -> View;
    fn apply(&self, act: Act);
}

/// Whatever points to a breaker.
pub(super) struct Held<H>(pub(super) H);

impl<H, P, C, O> Local for Held<H>
where
    H: Deref<Target = CircuitBreaker<P, C, O>> + Send + Sync,
    P: Policy,
    C: Clock,
    O: Observer,
{
    fn state(&self) -> State {
        self.0.state()
    }

    fn view(&self, tap: Option<&Tap>) -> View {
        let (calls, failures) = tap.map_or((0, 0), Tap::counts);
        let snapshot = self.0.snapshot();
        View {
            state: snapshot.state(),
            generation: snapshot.generation(),
            retry_after: snapshot.retry_after().map_or(0, millis),
            reason: snapshot.trip().map(|trip| trip.reason()),
            admitted: snapshot.probes().map_or(0, |probes| probes.admitted()),
            calls,
            failures,
        }
    }

    fn apply(&self, act: Act) {
        match act {
            Act::Open(Some(wait)) => self.0.open_for(Duration::from_millis(wait)),
            Act::Open(None) => self.0.open(),
            // It may have closed since it was looked at: then there is nothing to probe.
            Act::HalfOpen => _ = self.0.half_open(),
            Act::Close => self.0.close(),
            Act::Reset => self.0.reset(),
            Act::Set(State::ForcedOpen) => self.0.force_open(),
            Act::Set(State::Disabled) => self.0.disable(),
            Act::Set(_) => self.0.metrics_only(),
        }
    }
}
