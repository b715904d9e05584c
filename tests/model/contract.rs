//! The breaker's contract as a sequential program: a list of outcomes, and each question answered by counting. Nothing
//! here is packed, shared or fast; time is in nanoseconds since the clock's origin.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use failfast::{Cause, OnMaxWait, Outcome, Reason, Settled, Span, State};

use super::plot::{Cancel, DAY, MILLI, Over, Rule, Setup};

/// A time, or a length of time.
pub type Nanos = u128;

const LONGEST: Nanos = (3650 * DAY) as Nanos;

#[derive(Clone, Debug)]
pub struct Model {
    pub setup: Setup,
    /// The latest time seen: a clock that steps back reads as no time passed.
    pub now: Nanos,
    pub gate: Gate,
    /// When this generation began.
    pub since: Nanos,
    /// Counts every transition, renewal and reset.
    pub generation: u64,
    /// Moves from half-open to open that were not by hand.
    k: u32,
    calls: Vec<Call>,
    /// The causes that held after the last outcome: the policy's index, and which.
    held: Vec<(usize, Reason)>,
    outage: Option<Outage>,
    /// The end of the wait that an expired half-open period has become, as far as it is known.
    expired: Option<End>,
    pub told: Told,
    /// How often it came to what.
    pub met: BTreeMap<&'static str, u32>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Gate {
    Closed,
    Open(End),
    HalfOpen { until: Nanos, probes: Probes },
    ForcedOpen,
    Disabled,
    MetricsOnly,
}

/// The end of an open wait: not before the first and not after the second. They differ where the contract leaves it
/// open (by jitter, or by less than a nanosecond for each factor), until it is seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct End(pub Nanos, pub Nanos);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Probes {
    pub admitted: u32,
    pub succeeded: u32,
    pub failed: u32,
}

/// An outcome that was recorded.
#[derive(Clone, Debug)]
struct Call {
    at: Nanos,
    failed: bool,
    took: Nanos,
}

#[derive(Clone, Debug)]
struct Outage {
    reason: Reason,
    /// Whose counts are the trip's.
    policy: usize,
    counts: Vec<Counts>,
}

/// What one policy has counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counts {
    pub span: Span,
    pub total: u64,
    pub failed: u64,
    pub slow: Option<u64>,
    /// Whether there are rates.
    pub rated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trip {
    pub reason: Reason,
    pub counts: Option<Counts>,
}

/// The right to make a call.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    generation: u64,
    pub began: Nanos,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rejected {
    pub state: State,
    pub retry_after: Option<Nanos>,
    pub trip: Option<Trip>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Transition {
    pub from: State,
    pub to: State,
    pub cause: Cause,
    pub trip: Option<Trip>,
    pub generation: u64,
    pub at: Nanos,
    /// When an open wait is over, at the earliest and at the latest.
    pub end: Option<(Nanos, Nanos)>,
}

/// What an observer is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    pub transitions: Vec<Transition>,
    pub rejected: Vec<Rejected>,
    pub would_trip: Vec<Trip>,
    /// How it ended, whether it counted, and how long it took.
    pub settled: Vec<(Settled, bool, Option<Nanos>)>,
}

/// What a snapshot shows.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    pub state: State,
    pub generation: u64,
    pub since: Nanos,
    pub retry_after: Option<Nanos>,
    pub trip: Option<Trip>,
    pub windows: Vec<Counts>,
    pub probes: Option<Probes>,
}

/// Times are kept in whole milliseconds, rounded up.
fn whole_millis(time: Nanos) -> Nanos {
    time.div_ceil(MILLI.into()) * Nanos::from(MILLI)
}

fn nanos(wait: Option<Duration>) -> Option<Nanos> {
    wait.map(|wait| wait.as_nanos())
}

impl Gate {
    fn state(&self) -> State {
        match self {
            Self::Closed => State::Closed,
            Self::Open(_) => State::Open,
            Self::HalfOpen { .. } => State::HalfOpen,
            Self::ForcedOpen => State::ForcedOpen,
            Self::Disabled => State::Disabled,
            Self::MetricsOnly => State::MetricsOnly,
        }
    }
}

impl Rule {
    fn is_slow(&self, took: Nanos) -> bool {
        self.slow.is_some_and(|(limit, _)| took > Nanos::from(limit))
    }

    /// Rule 5. Of the calls since the last reset, those in the window.
    fn window<'a>(&self, calls: &'a [Call], now: Nanos) -> Vec<&'a Call> {
        let newest_first = calls.iter().rev();
        match self.over {
            Over::Streak => newest_first.take_while(|call| call.failed).collect(),
            Over::Calls(calls) => newest_first.take(calls as usize).collect(),
            Over::Time { bucket, buckets, .. } => {
                let number = |time: Nanos| time / Nanos::from(bucket);
                newest_first.filter(|call| number(call.at) + Nanos::from(buckets) > number(now)).collect()
            }
        }
    }

    fn counts(&self, calls: &[Call], now: Nanos) -> Counts {
        let window = self.window(calls, now);
        let total = window.len() as u64;
        Counts {
            span: match self.over {
                Over::Streak => Span::Streak,
                Over::Calls(calls) => Span::Calls(calls),
                Over::Time { bucket, buckets, .. } => Span::Time(Duration::from_nanos(bucket * u64::from(buckets))),
            },
            total,
            failed: window.iter().filter(|call| call.failed).count() as u64,
            slow: self.slow.map(|_| window.iter().filter(|call| self.is_slow(call.took)).count() as u64),
            rated: !matches!(self.over, Over::Streak) && total > 0 && total >= u64::from(self.min_calls),
        }
    }

    /// Rules 2 and 3.
    fn causes(&self, calls: &[Call], now: Nanos) -> Vec<Reason> {
        let counts = self.counts(calls, now);
        let many = self.failures.is_some_and(|failures| counts.failed >= u64::from(failures));
        let reaches = |count: u64, millionths: u64| {
            counts.rated && u128::from(count) * 100_000_000 >= u128::from(millionths) * u128::from(counts.total)
        };
        if matches!(self.over, Over::Streak) {
            return Vec::from_iter(many.then_some(Reason::ConsecutiveFailures));
        }
        let failing = self.failure_rate.is_some_and(|rate| reaches(counts.failed, rate));
        let slow = self.slow.is_some_and(|(_, rate)| reaches(counts.slow.unwrap(), rate));
        let causes = [(Reason::Failures, many), (Reason::FailureRate, failing), (Reason::SlowCallRate, slow)];
        causes.into_iter().filter_map(|(reason, holds)| holds.then_some(reason)).collect()
    }
}

impl Model {
    pub fn new(setup: &Setup) -> Self {
        let now = Nanos::from(setup.origin);
        let mut model = Self {
            setup: setup.clone(),
            now,
            gate: Gate::Closed,
            since: now,
            generation: 0,
            k: 0,
            calls: Vec::new(),
            held: Vec::new(),
            outage: None,
            expired: None,
            told: Told::default(),
            met: BTreeMap::new(),
        };
        match setup.initial {
            State::Open => {
                model.gate = Gate::Open(model.wait(now, None));
                // There has been nothing to count yet.
                model.outage = Some(Outage { reason: Reason::ByHand, policy: 0, counts: Vec::new() });
            }
            State::ForcedOpen => model.gate = Gate::ForcedOpen,
            State::Disabled => model.gate = Gate::Disabled,
            State::MetricsOnly => model.gate = Gate::MetricsOnly,
            _ => {}
        }
        model
    }

    fn meet(&mut self, what: &'static str) {
        *self.met.entry(what).or_default() += 1;
    }

    /// Rule 17.
    pub fn look(&mut self, now: Nanos) {
        if now < self.now {
            self.meet("a clock that stepped back");
        }
        self.now = self.now.max(now);
    }

    // ---- moves ----

    fn enter(&mut self, gate: Gate, at: Nanos, cause: Cause, trip: Option<Trip>) {
        let from = self.gate.state();
        self.generation += 1;
        (self.gate, self.since, self.expired) = (gate, at, None);
        if !matches!(gate, Gate::Open(_) | Gate::HalfOpen { .. }) {
            self.forget();
        }
        let to = gate.state();
        let end = match gate {
            Gate::Open(End(first, last)) => Some((first, last)),
            _ => None,
        };
        self.told.transitions.push(Transition { from, to, cause, trip, generation: self.generation, at, end });
    }

    /// Rule 15: "a move to closed or to a hand-set state starts with an empty window and k = 0".
    fn forget(&mut self) {
        self.calls.clear();
        self.held.clear();
        (self.outage, self.k) = (None, 0);
    }

    fn all_counts(&self) -> Vec<Counts> {
        self.setup.rules.iter().map(|rule| rule.counts(&self.calls, self.now)).collect()
    }

    fn all_causes(&self) -> Vec<(usize, Reason)> {
        let causes = |(policy, rule): (usize, &Rule)| {
            rule.causes(&self.calls, self.now).into_iter().map(move |reason| (policy, reason)).collect::<Vec<_>>()
        };
        self.setup.rules.iter().enumerate().flat_map(causes).collect()
    }

    /// Opens a gate that is neither open nor half-open. Rule 16.
    fn begin_outage(&mut self, reason: Reason, policy: usize, wait: Option<Nanos>) {
        self.meet(reason.as_str());
        let outage = Outage { reason, policy, counts: self.all_counts() };
        let trip = Trip { reason, counts: Some(outage.counts[policy]) };
        let end = self.wait(self.now, wait);
        self.enter(Gate::Open(end), self.now, Cause::Opened(reason), Some(trip));
        self.calls.clear();
        self.k = 0;
        self.outage = Some(outage);
    }

    /// Opens a half-open gate, as of `at`.
    fn reopen(&mut self, reason: Reason, at: Nanos, wait: Option<Nanos>) {
        self.meet(match reason {
            Reason::ProbeTimeout => "probe_timeout",
            Reason::ByHand => "re-opened by hand",
            Reason::Requested => "re-opened as requested",
            _ => "probe_failed",
        });
        if reason != Reason::ByHand {
            self.k += 1;
        }
        let end = self.expired.take().unwrap_or_else(|| self.wait(at, wait));
        self.outage.as_mut().unwrap().reason = reason;
        self.enter(Gate::Open(end), at, Cause::Opened(reason), Some(Trip { reason, counts: None }));
    }

    /// Rules 9 and 10: when a wait from `at` on is over, `asked` for or not.
    fn wait(&self, at: Nanos, asked: Option<Nanos>) -> End {
        let max = self.setup.max.map_or(LONGEST, Nanos::from);
        if let Some(asked) = asked {
            let end = whole_millis(at + asked.min(max));
            return End(end, end);
        }
        let base = Nanos::from(self.setup.base);
        let (mut low, mut high) = (base, base);
        for _ in 0..self.k {
            low = (low * Nanos::from(self.setup.multiplier) / 1_000_000).min(LONGEST * 1_000_000);
            high = (high * Nanos::from(self.setup.multiplier)).div_ceil(1_000_000).min(LONGEST * 1_000_000);
        }
        let jitter = Nanos::from(self.setup.jitter);
        low = low * (100_000_000 - jitter) / 100_000_000;
        high = (high * (100_000_000 + jitter)).div_ceil(100_000_000);
        End(whole_millis(at + low.min(max)), whole_millis(at + high.min(max)))
    }

    fn half_open(&mut self) {
        let until = whole_millis(self.now + Nanos::from(self.setup.max_wait));
        let cause = match self.gate {
            Gate::Open(End(_, end)) if self.now < end => Cause::ByHand,
            _ => Cause::WaitOver,
        };
        self.enter(Gate::HalfOpen { until, probes: Probes::default() }, self.now, cause, None);
    }

    /// Rules 12 and 14: what time has decided, whoever notices when.
    fn catch_up(&mut self) {
        match self.gate {
            Gate::HalfOpen { until, .. } if self.now >= until => match self.setup.on_max_wait {
                OnMaxWait::Open => self.reopen(Reason::ProbeTimeout, until, None),
                OnMaxWait::Close => {
                    self.meet("closed by max_wait");
                    self.enter(Gate::Closed, until, Cause::ProbeTimeout, None);
                }
                _ => {}
            },
            _ => {}
        }
    }

    /// Half-open, and its time is over, but no call has yet renewed it.
    fn is_sealed(&self) -> bool {
        matches!(self.gate, Gate::HalfOpen { until, .. } if self.now >= until)
    }

    // ---- calls ----

    pub fn ask(&mut self) -> Result<Pass, Rejected> {
        self.catch_up();
        match self.gate {
            Gate::Open(End(_, end)) if self.now >= end => {
                self.meet("half-opened by a call");
                self.half_open();
            }
            Gate::HalfOpen { .. } if self.is_sealed() => {
                self.meet("renewed");
                let until = whole_millis(self.now + Nanos::from(self.setup.max_wait));
                self.gate = Gate::HalfOpen { until, probes: Probes::default() };
                self.generation += 1;
                self.since = self.now;
            }
            _ => {}
        }
        let probes = self.setup.probes;
        match &mut self.gate {
            Gate::Closed | Gate::Disabled | Gate::MetricsOnly => {}
            Gate::HalfOpen { probes: Probes { admitted, .. }, .. } if *admitted < probes => *admitted += 1,
            gate => {
                let state = gate.state();
                let retry_after = match gate {
                    Gate::Open(End(end, _)) => Some(*end - self.now),
                    _ => None,
                };
                self.meet(match state {
                    State::Open => "rejected: open",
                    State::HalfOpen => "rejected: half-open",
                    _ => "rejected: forced open",
                });
                let rejected = Rejected { state, retry_after, trip: self.trip() };
                self.told.rejected.push(rejected);
                return Err(rejected);
            }
        }
        Ok(Pass { generation: self.generation, began: self.now })
    }

    pub fn settle(&mut self, pass: Pass, settled: Settled) {
        self.catch_up();
        // Rule 15: disabled, it "records nothing, sends nothing but its own transition".
        if self.gate == Gate::Disabled {
            self.meet("settled while disabled");
            return;
        }
        // Rules 12 and 13.
        let counted = pass.generation == self.generation && !self.is_sealed();
        let took = self.now - pass.began;
        self.told.settled.push((settled, counted, Some(took)));
        if !counted {
            self.meet("a straggler");
            return;
        }
        // Rule 6.
        let outcome = match (settled, self.setup.on_cancel) {
            (Settled::With(outcome), _) => outcome,
            (_, Cancel::Neutral) => Outcome::Ignored,
            (_, Cancel::FailureAfter(limit)) if took < Nanos::from(limit) => Outcome::Ignored,
            _ => {
                self.meet("cancelled as a failure");
                Outcome::Failure
            }
        };
        match self.gate {
            Gate::HalfOpen { .. } => self.settle_probe(outcome, took),
            _ => self.record(outcome, took),
        }
    }

    /// Rule 11.
    fn settle_probe(&mut self, outcome: Outcome, took: Nanos) {
        let slow = self.setup.rules.iter().any(|rule| rule.is_slow(took));
        let Gate::HalfOpen { probes, .. } = &mut self.gate else { unreachable!() };
        match outcome {
            Outcome::Ignored => probes.admitted -= 1,
            Outcome::Success if !slow => probes.succeeded += 1,
            _ => probes.failed += 1,
        }
        let Probes { succeeded, failed, .. } = *probes;
        match outcome {
            Outcome::Ignored => self.meet("a probe's place given back"),
            Outcome::Success if slow => self.meet("a slow probe"),
            _ => {}
        }
        if let Outcome::OpenFor(wait) = outcome {
            self.reopen(Reason::Requested, self.now, nanos(wait));
        } else if succeeded >= self.setup.successes {
            self.meet("closed by probes");
            self.enter(Gate::Closed, self.now, Cause::ProbesSucceeded, None);
        } else if self.setup.probes - failed < self.setup.successes {
            self.reopen(Reason::ProbeFailed, self.now, None);
        }
    }

    /// Rules 1, 10 and 15.
    fn record(&mut self, outcome: Outcome, took: Nanos) {
        if outcome == Outcome::Ignored {
            self.meet("ignored");
            return;
        }
        // A cause that time alone has ended since the last outcome, and that holds again with this one, has begun anew.
        let lasting = self.all_causes();
        let before: Vec<_> = self.held.iter().copied().filter(|cause| lasting.contains(cause)).collect();
        self.calls.push(Call { at: self.now, failed: outcome != Outcome::Success, took });
        self.meet_windows();
        self.held = self.all_causes();
        if self.gate == Gate::MetricsOnly {
            for (policy, reason) in self.held.clone() {
                if !before.contains(&(policy, reason)) {
                    self.would_trip(policy, reason);
                }
            }
            if let Outcome::OpenFor(_) = outcome {
                self.would_trip(0, Reason::Requested);
            }
        } else if let Outcome::OpenFor(wait) = outcome {
            self.begin_outage(Reason::Requested, 0, nanos(wait));
        } else if let Some((policy, reason)) = self.held.first().copied() {
            if outcome == Outcome::Success {
                self.meet("tripped by a success");
            }
            self.begin_outage(reason, policy, None);
        }
    }

    fn would_trip(&mut self, policy: usize, reason: Reason) {
        self.meet("would trip");
        let counts = self.setup.rules[policy].counts(&self.calls, self.now);
        self.told.would_trip.push(Trip { reason, counts: Some(counts) });
    }

    fn meet_windows(&mut self) {
        for index in 0..self.setup.rules.len() {
            let rule = self.setup.rules[index];
            let gone = self.calls.len() - rule.window(&self.calls, self.now).len();
            match rule.over {
                Over::Calls(calls) if gone >= calls as usize => self.meet("a count window round once more"),
                Over::Time { .. } if gone > 0 => self.meet("a time window that has lost some"),
                _ => {}
            }
        }
    }

    // ---- the hand, rule 15 ----

    pub fn open(&mut self, wait: Option<Nanos>) {
        self.catch_up();
        match self.gate {
            Gate::Open(_) => {
                self.meet("open put off by hand");
                self.gate = Gate::Open(self.wait(self.now, wait));
            }
            Gate::HalfOpen { .. } => self.reopen(Reason::ByHand, self.now, wait),
            _ => self.begin_outage(Reason::ByHand, 0, wait),
        }
    }

    /// Closes it, or sets it by hand.
    pub fn set(&mut self, gate: Gate) {
        self.catch_up();
        if self.gate != gate {
            self.enter(gate, self.now, Cause::ByHand, None);
        }
    }

    pub fn reset(&mut self) {
        self.catch_up();
        if self.gate == Gate::Closed {
            self.meet("reset while closed");
            self.generation += 1;
            self.since = self.now;
            self.forget();
        } else {
            self.enter(Gate::Closed, self.now, Cause::ByHand, None);
        }
    }

    pub fn half_open_by_hand(&mut self) -> Result<(), State> {
        self.catch_up();
        match self.gate {
            Gate::Open(_) => self.half_open(),
            Gate::HalfOpen { .. } => {}
            _ => return Err(self.gate.state()),
        }
        Ok(())
    }

    // ---- looking ----

    fn trip(&self) -> Option<Trip> {
        self.outage
            .as_ref()
            .map(|outage| Trip { reason: outage.reason, counts: outage.counts.get(outage.policy).copied() })
    }

    /// Rule 14: reading changes nothing, so time is caught up with on a copy.
    fn caught_up(&self) -> Cow<'_, Self> {
        let mut model = Cow::Borrowed(self);
        if self.is_sealed() {
            model.to_mut().catch_up();
        }
        model
    }

    pub fn view(&self) -> View {
        let model = self.caught_up();
        let mut since = model.since;
        let (mut state, mut retry_after, mut probes) = (model.gate.state(), None, None);
        match model.gate {
            Gate::Open(End(_, end)) if model.now >= end => {
                (state, probes) = (State::HalfOpen, Some(Probes::default()));
                since = end;
            }
            Gate::Open(End(_, end)) => retry_after = Some(end - model.now),
            // The next call is the first of a new period.
            Gate::HalfOpen { .. } if model.is_sealed() => probes = Some(Probes::default()),
            Gate::HalfOpen { probes: counted, .. } => probes = Some(counted),
            _ => {}
        }
        let windows = match (&model.outage, model.gate) {
            (Some(outage), _) => outage.counts.clone(),
            // Nothing is counted.
            (_, Gate::ForcedOpen | Gate::Disabled) => Vec::new(),
            _ => model.all_counts(),
        };
        View {
            state,
            // What time has decided gets its generation when it is applied.
            generation: self.generation,
            since: model.now - since,
            retry_after,
            trip: model.trip(),
            windows,
            probes,
        }
    }

    /// Takes note of when an open wait is over, where the contract leaves that open.
    pub fn learn(&mut self, seen: Nanos) {
        let Gate::Open(End(first, last)) = self.caught_up().gate else { return };
        let known = if first == last { first } else { seen };
        assert!((first..=last).contains(&known), "the wait is over at {known}, not in {first}..={last}");
        self.remember(End(known, known));
    }

    fn remember(&mut self, end: End) {
        match &mut self.gate {
            Gate::Open(known) => *known = end,
            _ => self.expired = Some(end),
        }
    }
}
