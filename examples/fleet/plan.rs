//! What happens when: every length follows from the length of one run.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use failfast::redis::Agreement;

pub(crate) const FAILURES: u32 = 10;
pub(crate) const PROBES: u32 = 2;
/// Of the open wait, in percent.
pub(crate) const JITTER: f64 = 20.0;
pub(crate) const CALLERS: u32 = 4;

/// The node that cannot reach the service for a while, though all others can: not the busiest, which would
/// hide that it is only one.
pub(crate) const CUT_OFF: usize = 1;

/// How the nodes' breakers agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Alone,
    Any,
    Quorum,
}

impl Side {
    pub(crate) const ALL: [Side; 3] = [Side::Alone, Side::Any, Side::Quorum];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Side::Alone => "alone",
            Side::Any => "any",
            Side::Quorum => "quorum",
        }
    }

    pub(crate) fn agreement(self) -> Option<Agreement> {
        match self {
            Side::Alone => None,
            Side::Any => Some(Agreement::Any),
            Side::Quorum => Some(Agreement::Quorum(2)),
        }
    }

    /// How many of the nodes have to trip before all open.
    pub(crate) fn needed(self, nodes: usize) -> usize {
        match self {
            Side::Alone => nodes,
            Side::Any => 1,
            // Besides the two, a share of the live nodes: 20 % unless set.
            Side::Quorum => nodes.div_ceil(5).max(2),
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    CutOff,
    Reachable,
    Down,
    StoreGone,
    StoreBack,
    Recovered,
}

/// From when to when, counted from the start of the run.
pub(crate) type Span = (Duration, Duration);

#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub run: Duration,
    pub nodes: usize,
    pub open_for: Duration,
    pub latency: (Duration, Duration),
    pub cut_off: Span,
    pub down: Span,
    pub store_gone: Span,
}

impl Plan {
    pub(crate) fn new(run: Duration, nodes: usize) -> Plan {
        let at = |share: f64| run.mul_f64(share);
        Plan {
            run,
            nodes,
            open_for: at(0.05),
            latency: (Duration::from_millis(3), Duration::from_millis(8)),
            cut_off: (at(0.08), at(0.20)),
            down: (at(0.30), at(0.80)),
            store_gone: (at(0.42), at(0.54)),
        }
    }

    pub(crate) fn steps(&self) -> [(Duration, Step); 6] {
        [
            (self.cut_off.0, Step::CutOff),
            (self.cut_off.1, Step::Reachable),
            (self.down.0, Step::Down),
            (self.store_gone.0, Step::StoreGone),
            (self.store_gone.1, Step::StoreBack),
            (self.down.1, Step::Recovered),
        ]
    }

    /// Between two calls of a caller. Fleets have busy nodes and quiet ones: of each five the second gets half
    /// of what the first gets, the third a third.
    pub(crate) fn pause(&self, node: usize) -> (Duration, Duration) {
        let mean = self.run * CALLERS * (node % 5 + 1) as u32 / 480;
        (mean / 2, mean * 3 / 2)
    }

    /// Roughly, of a node.
    fn rate(&self, node: usize) -> f64 {
        let (low, high) = self.pause(node);
        let (fast, slow) = self.latency;
        f64::from(CALLERS) * 2.0 / (low + high + fast + slow).as_secs_f64()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} nodes, {:.0} to {:.0} calls a second each. Breakers open after {FAILURES} failures in a row, for {} ms \
             ± {JITTER} %, then {PROBES} probes. Runs of {:.1} s.",
            self.nodes,
            self.rate(self.nodes.min(5) - 1),
            self.rate(0),
            self.open_for.as_millis(),
            self.run.as_secs_f64(),
        )
    }
}

/// The start of a run, for all processes the same.
#[derive(Clone, Copy)]
pub(crate) struct Start(Duration);

impl Start {
    pub(crate) fn soon() -> Start {
        Start(now() + Duration::from_millis(50))
    }

    pub(crate) fn from_nanos(nanos: u64) -> Start {
        Start(Duration::from_nanos(nanos))
    }

    pub(crate) fn as_nanos(self) -> u64 {
        self.0.as_nanos() as u64
    }

    pub(crate) fn elapsed(self) -> Duration {
        now().saturating_sub(self.0)
    }

    /// How long until a moment of the run.
    pub(crate) fn until(self, at: Duration) -> Duration {
        (self.0 + at).saturating_sub(now())
    }
}

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
