//! Publishing, when somebody is about to look.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::vec::Vec;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use super::calls::{BOUNDS, Cells, OUTCOMES};
use super::{CALL_DURATION, Metrics};
use crate::health::Monitored;
use crate::observer::Cause;
use crate::snapshot::{Counts, Reason, Snapshot, State};

const CALLS: &str = "circuit_breaker_calls_total";
const STATE: &str = "circuit_breaker_state";
const TRANSITIONS: &str = "circuit_breaker_transitions_total";
const FAILURE_RATE: &str = "circuit_breaker_failure_rate";
const SLOW_CALL_RATE: &str = "circuit_breaker_slow_call_rate";

type RateOf = fn(&Counts) -> Option<f64>;

const RATES: [(&str, RateOf); 2] = [(FAILURE_RATE, Counts::failure_rate), (SLOW_CALL_RATE, Counts::slow_call_rate)];

/// What has been published under each name, as far as the next time depends on it.
#[derive(Default)]
pub(super) struct Published(HashMap<Arc<str>, Before>);

#[derive(Default)]
struct Before {
    /// By bucket: how many calls, and how long they took in all.
    durations: [(u64, u64); BOUNDS.len()],
    /// Whether there were breakers of this name, and which rates have ever been known.
    seen: bool,
    rates: [bool; RATES.len()],
}

/// What the breakers of one name look like together.
#[derive(Default)]
struct Look {
    /// How many are in each state.
    states: [u32; State::ALL.len()],
    /// The highest of each.
    rates: [Option<f64>; RATES.len()],
}

impl Look {
    fn add(&mut self, snapshot: &Snapshot) {
        self.states[snapshot.state() as usize] += 1;
        for (highest, (_, rate_of)) in self.rates.iter_mut().zip(RATES) {
            let rate = snapshot.windows().find_map(|window| rate_of(&window));
            *highest = [*highest, rate].into_iter().flatten().reduce(f64::max);
        }
    }
}

impl Metrics {
    /// Publishes everything to the recorder: the global one, or the local one inside of `metrics::with_local_recorder`.
    ///
    /// Call it right before what was recorded is rendered, or, where the exporter cannot be told, every few seconds. It
    /// takes time in proportion to the number of names, and, with durations, to the number of calls since the last
    /// time. Install the recorder before the first call: a histogram's samples are recorded once.
    ///
    /// ```
    /// use failfast::CircuitBreaker;
    /// use failfast::metrics::Metrics;
    /// use metrics_exporter_prometheus::PrometheusBuilder;
    ///
    /// let recorder = PrometheusBuilder::new().build_recorder();
    /// let prometheus = recorder.handle();
    /// let metrics = Metrics::new();
    /// let breaker = CircuitBreaker::builder().observer(metrics.observer("payments")).build()?;
    /// breaker.try_acquire()?.success();
    ///
    /// // A service calls `PrometheusBuilder::install_recorder` instead, and then just `metrics.collect()`.
    /// metrics::with_local_recorder(&recorder, || metrics.collect());
    /// let text = prometheus.render();
    /// assert!(text.contains(r#"circuit_breaker_calls_total{name="payments",outcome="success"} 1"#));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn collect(&self) {
        let looks = self.look();
        let shared = &self.shared;
        let mut entries: Vec<_> =
            shared.names.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        entries.push(shared.other.clone());

        let mut published = shared.published.lock().unwrap_or_else(PoisonError::into_inner);
        describe();
        for entry in entries {
            let look = looks.get(&entry.name);
            let cells = entry.cells.get();
            if look.is_none() && cells.is_none() && !published.0.contains_key(&entry.name) {
                continue;
            }
            let before = published.0.entry(entry.name.clone()).or_default();
            if let Some(cells) = cells {
                publish_counts(&entry.name, cells, before);
            }
            publish_look(&entry.name, look, before);
        }
    }

    /// What all breakers that are watched look like, by the name that they are published under.
    fn look(&self) -> HashMap<Arc<str>, Look> {
        let watched = self.shared.watched.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut looks = HashMap::<Arc<str>, Look>::new();
        watched.each(&mut |name, snapshot| looks.entry(self.entry(name).name.clone()).or_default().add(snapshot));
        looks
    }
}

fn describe() {
    use metrics::Unit;
    describe_counter!(CALLS, Unit::Count, "Calls through a circuit breaker by outcome, rejected ones included.");
    describe_gauge!(STATE, "1 for the state that the circuit breaker is in, 0 for the others.");
    describe_counter!(TRANSITIONS, Unit::Count, "Changes of the circuit breaker's state, by cause.");
    describe_gauge!(FAILURE_RATE, "Percent of the window's calls that failed; absent or NaN while it has no rate.");
    describe_gauge!(
        SLOW_CALL_RATE,
        "Percent of the window's calls that were slow; absent or NaN while it has no rate."
    );
    describe_histogram!(CALL_DURATION, Unit::Seconds, "How long calls took that the circuit breaker let through.");
}

/// The transitions of an outage, without anybody's hand.
const OUTAGE: [(State, State, Cause); 10] = [
    (State::Closed, State::Open, Cause::Opened(Reason::ConsecutiveFailures)),
    (State::Closed, State::Open, Cause::Opened(Reason::Failures)),
    (State::Closed, State::Open, Cause::Opened(Reason::FailureRate)),
    (State::Closed, State::Open, Cause::Opened(Reason::SlowCallRate)),
    (State::Closed, State::Open, Cause::Opened(Reason::Requested)),
    (State::Open, State::HalfOpen, Cause::WaitOver),
    (State::HalfOpen, State::Open, Cause::Opened(Reason::ProbeFailed)),
    (State::HalfOpen, State::Open, Cause::Opened(Reason::ProbeTimeout)),
    (State::HalfOpen, State::Open, Cause::Opened(Reason::Requested)),
    (State::HalfOpen, State::Closed, Cause::ProbesSucceeded),
];

fn publish_counts(name: &Arc<str>, cells: &Cells, before: &mut Before) {
    let sums = cells.sums();
    for (outcome, count) in OUTCOMES.into_iter().zip(sums.settled).chain([("rejected", sums.rejected)]) {
        counter!(CALLS, "name" => name.clone(), "outcome" => outcome).absolute(count);
    }
    for (from, to, cause) in OUTAGE {
        publish_transitions(name, (from, to, cause), cells.transitions(from, to, cause));
    }
    cells.each_transition(|transition, count| publish_transitions(name, transition, count));
    if cells.is_timed() {
        let samples = histogram!(CALL_DURATION, "name" => name.clone());
        for (bucket, (now, then)) in sums.durations.into_iter().zip(&mut before.durations).enumerate() {
            let count = now.0 - then.0;
            if count == 0 {
                continue;
            }
            // A call that is being counted has left its time, but not yet itself: what it must not change now, it changes the
            // next time.
            let calls = i64::try_from(count).unwrap_or(i64::MAX);
            let least = bucket.checked_sub(1).map_or(0, |below| BOUNDS[below] as i64 + 1).saturating_mul(calls);
            let most = i64::try_from(BOUNDS[bucket]).unwrap_or(i64::MAX).saturating_mul(calls);
            let nanos = (now.1.wrapping_sub(then.1) as i64).clamp(least, most);
            samples.record_many(nanos as f64 / count as f64 / 1e9, count as usize);
            *then = (now.0, then.1.wrapping_add(nanos as u64));
        }
    }
}

fn publish_transitions(name: &Arc<str>, (from, to, cause): (State, State, Cause), count: u32) {
    let (from, to, cause) = (from.as_str(), to.as_str(), cause.as_str());
    counter!(TRANSITIONS, "name" => name.clone(), "from" => from, "to" => to, "cause" => cause).absolute(count.into());
}

fn publish_look(name: &Arc<str>, look: Option<&Look>, before: &mut Before) {
    if look.is_none() && !before.seen {
        return;
    }
    before.seen = true;
    for state in State::ALL {
        let count = look.map_or(0, |look| look.states[state as usize]);
        gauge!(STATE, "name" => name.clone(), "state" => state.as_str()).set(count);
    }
    for (index, (metric, _)) in RATES.into_iter().enumerate() {
        let rate = look.and_then(|look| look.rates[index]);
        before.rates[index] |= rate.is_some();
        if before.rates[index] {
            gauge!(metric, "name" => name.clone()).set(rate.unwrap_or(f64::NAN));
        }
    }
}
