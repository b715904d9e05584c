//! What happens when: every length follows from the length of one run.

use std::fmt;
use std::time::Duration;

pub(crate) const MIN_CALLS: u32 = 20;
pub(crate) const FAILURE_RATE: f64 = 50.0;
pub(crate) const SLOW_RATE: f64 = 80.0;
pub(crate) const PROBES: u32 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Healthy,
    Slow,
    Down,
    Recovered,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Phase::Healthy => "healthy",
            Phase::Slow => "slow",
            Phase::Down => "down",
            Phase::Recovered => "recovered",
        })
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub run: Duration,
    pub callers: u32,
    /// Callers pause between two calls, so that a rejection does not make them spin.
    pub think: (Duration, Duration),
    /// How long the client waits for an answer.
    pub timeout: Duration,
    /// The breaker's time window. No longer than the client's timeout: the first timeouts then
    /// meet a window that has already forgotten the healthy calls.
    pub window: Duration,
    pub slow_call: Duration,
    pub open_for: Duration,
    pub max_wait: Duration,
    pub healthy_latency: (Duration, Duration),
    pub slow_latency: (Duration, Duration),
}

impl Plan {
    pub(crate) fn lasting(seconds: f64) -> Plan {
        let run = Duration::from_secs_f64(seconds);
        let ms = Duration::from_millis;
        // A window must divide into its ten buckets: count in steps of 10 ms.
        let timeout_ms = (seconds * 6.0).round() as u64 * 10;
        let timeout = ms(timeout_ms);
        Plan {
            run,
            callers: 64,
            think: (ms(10), ms(30)),
            timeout,
            window: timeout,
            slow_call: timeout / 2,
            open_for: ms(timeout_ms * 7 / 6),
            // A probe that hangs is settled by the client's timeout; this is the second net.
            max_wait: timeout * 2,
            healthy_latency: (ms(3), ms(8)),
            // One answer in five is slower than the breaker's limit: not enough to trip.
            slow_latency: (timeout / 10, timeout * 6 / 10),
        }
    }

    /// The phases with their begin and end, counted from the start of the run.
    pub(crate) fn phases(&self) -> [(Phase, Duration, Duration); 4] {
        let at = |share: f64| self.run.mul_f64(share);
        [
            (Phase::Healthy, at(0.0), at(0.20)),
            (Phase::Slow, at(0.20), at(0.35)),
            (Phase::Down, at(0.35), at(0.70)),
            (Phase::Recovered, at(0.70), at(1.0)),
        ]
    }

    pub(crate) fn latency(&self, phase: Phase) -> (Duration, Duration) {
        match phase {
            Phase::Slow => self.slow_latency,
            Phase::Healthy | Phase::Down | Phase::Recovered => self.healthy_latency,
        }
    }

    pub(crate) fn breaker(&self) -> String {
        format!(
            "Breaker: over the last {} ms, from {MIN_CALLS} calls on, opens at {FAILURE_RATE} % failed \
             or {SLOW_RATE} % slower than {} ms; open wait {} ms, then {PROBES} probes.",
            self.window.as_millis(),
            self.slow_call.as_millis(),
            self.open_for.as_millis(),
        )
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Load: {} concurrent callers, each pausing {} to {} ms between its calls; \
             client timeout {} ms. Two runs of {:.1} s.",
            self.callers,
            self.think.0.as_millis(),
            self.think.1.as_millis(),
            self.timeout.as_millis(),
            self.run.as_secs_f64(),
        )
    }
}
