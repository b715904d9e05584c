//! The contract's cases, as `build.rs` writes them.

use core::time::Duration;

use failfast::{Config, Consecutive, LastCalls, LastTime, OnMaxWait, Outcome, Reason, State};

use crate::replay::{Way, Wrong, run};

include!(concat!(env!("OUT_DIR"), "/cases.rs"));

pub struct Case {
    pub id: &'static str,
    /// Replays it on a breaker with its policy.
    pub run: fn(&Case, Way) -> Result<(), Wrong>,
    pub config: Config,
    pub steps: &'static [Step],
}

pub struct Step {
    pub op: Op,
    pub expect: &'static [Expect],
}

#[derive(Clone, Copy)]
#[allow(dead_code, reason = "a small board does not replay every case")]
pub enum Op {
    Call { outcome: Outcome, ms: u64, times: u32 },
    Mix { times: u32, success_every: u32 },
    Acquire(usize),
    Settle { place: usize, outcome: Outcome, ms: u64 },
    Cancel(usize),
    Advance(i64),
    Open,
    OpenFor(Duration),
    Close,
    HalfOpen,
    ForceOpen,
    Disable,
    MetricsOnly,
    Reset,
    Look,
}

#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "as above")]
pub enum Expect {
    State(State),
    Permitted(bool),
    RetryAfterMs(Option<u64>),
    IllegalTransition,
    TripReason(Option<Reason>),
    Count(Count, Option<f64>),
    Event(Event, Option<f64>),
    BuildError(bool),
}

#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "the cases that fit a small board do not have all of them")]
pub enum Count {
    Buffered,
    Failed,
    Succeeded,
    Slow,
    ConsecutiveFailures,
    FailureRate,
    SlowRate,
}

#[derive(Clone, Copy, Debug)]
pub enum Event {
    StateTransition,
    Opened,
    HalfOpened,
    Closed,
    WouldTrip,
    Ignored,
}
