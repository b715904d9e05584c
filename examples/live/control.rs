//! The hand: what the page's buttons do.

use failfast::{IllegalTransition, State};
use serde::Deserialize;

use crate::view::Breakers;

/// What is asked for, as JSON: `{"breaker": "payments", "action": "force_open"}`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Control {
    breaker: String,
    action: Action,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Open,
    HalfOpen,
    Close,
    Reset,
    ForceOpen,
    Disable,
    MetricsOnly,
}

pub(crate) enum Refused {
    NoSuchBreaker(String),
    Illegal(IllegalTransition),
}

impl Control {
    /// Does it, and says in what state that has left the breaker.
    pub(crate) fn apply(&self, breakers: &Breakers) -> Result<State, Refused> {
        let handle = breakers.peek(&self.breaker);
        let Some(breaker) = handle.as_ref().and_then(|handle| handle.breaker()) else {
            return Err(Refused::NoSuchBreaker(self.breaker.clone()));
        };
        match self.action {
            Action::Open => breaker.open(),
            Action::HalfOpen => breaker.half_open().map_err(Refused::Illegal)?,
            Action::Close => breaker.close(),
            Action::Reset => breaker.reset(),
            Action::ForceOpen => breaker.force_open(),
            Action::Disable => breaker.disable(),
            Action::MetricsOnly => breaker.metrics_only(),
        }
        Ok(breaker.state())
    }
}
