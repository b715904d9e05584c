//! Policies against a sequential model of them that is too plain to be wrong: a queue of outcomes, and each question
//! answered by counting.

#![cfg(all(feature = "std", not(failfast_loom)))]

use std::collections::VecDeque;
use std::thread;
use std::time::Duration;

use failfast::{
    CircuitBreaker, Consecutive, CountWindow, IntoPolicy, LastCalls, ManualClock, Outcome, Permit, Policy, Reason,
    Rule, Spec, State, TimeWindow, Window,
};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

#[derive(Clone, Copy, Debug)]
enum Over {
    Streak,
    Calls(u32),
    Time { buckets: u32, stripes: u32 },
}

/// The thresholds of a policy, rates in units of 0.000001 %.
#[derive(Clone, Copy, Debug)]
struct Limits {
    min_calls: u32,
    failures: Option<u32>,
    failure_rate: Option<u32>,
    /// Longer than so many ticks is slow.
    slow: Option<(u32, u32)>,
}

#[derive(Clone, Debug)]
enum Step {
    /// A whole call of so many ticks.
    Call(u32, End),
    Begin,
    /// Ends the call that began first.
    End(End),
    Advance(u32),
    Back(u32),
    /// So many times the length of the longest window, and so many ticks.
    Jump(u32, u32),
    Reset,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Success,
    Failure,
    /// On a thread of its own, which has another stripe.
    SuccessElsewhere,
    Ignored,
    Dropped,
}

/// A bucket is four ticks long, so that calls begin and end at its edges and between them.
const TICKS: u32 = 4;

struct Model {
    over: Over,
    limits: Limits,
    bucket: u64,
    slow_limit: Duration,
    /// Bucket, failed, slow.
    outcomes: VecDeque<(u64, bool, bool)>,
}

impl Model {
    fn new(over: Over, limits: Limits, tick: Duration) -> Self {
        let slow_limit = tick * limits.slow.map_or(0, |(ticks, _)| ticks);
        Self { over, limits, bucket: nanos(tick * TICKS), slow_limit, outcomes: VecDeque::new() }
    }

    fn record(&mut self, now: u64, failed: bool, took: Duration) {
        if matches!(self.over, Over::Streak) && !failed {
            self.outcomes.clear();
        } else {
            let slow = self.limits.slow.is_some() && took > self.slow_limit;
            self.outcomes.push_back((now / self.bucket, failed, slow));
        }
        self.age(now);
    }

    fn age(&mut self, now: u64) {
        match self.over {
            Over::Streak => {}
            Over::Calls(calls) => _ = self.outcomes.drain(..self.outcomes.len().saturating_sub(calls as usize)),
            Over::Time { buckets, .. } => {
                let latest = now / self.bucket;
                self.outcomes.retain(|(bucket, ..)| bucket + u64::from(buckets) > latest);
            }
        }
    }

    fn counts(&self) -> Counted {
        let total = self.outcomes.len();
        let failed = self.outcomes.iter().filter(|(_, failed, _)| *failed).count();
        let slow = self.limits.slow.map(|_| self.outcomes.iter().filter(|(.., slow)| *slow).count());
        let known = !matches!(self.over, Over::Streak) && total > 0 && total >= self.limits.min_calls as usize;
        let rate = |count: usize| known.then(|| count as f64 * 100.0 / total as f64);
        Counted { total, failed, slow, failure_rate: rate(failed), slow_call_rate: slow.and_then(rate) }
    }

    fn causes(&self) -> Vec<Reason> {
        let Counted { total, failed, slow, .. } = self.counts();
        let many = |limit: Option<u32>| limit.is_some_and(|limit| failed >= limit as usize);
        let reaches = |rate: Option<u32>, count: usize| {
            let enough = total >= self.limits.min_calls as usize;
            enough && rate.is_some_and(|rate| count * 100_000_000 >= rate as usize * total)
        };
        let causes = match self.over {
            Over::Streak => vec![(Reason::ConsecutiveFailures, many(self.limits.failures))],
            _ => vec![
                (Reason::Failures, many(self.limits.failures)),
                (Reason::FailureRate, reaches(self.limits.failure_rate, failed)),
                (Reason::SlowCallRate, reaches(self.limits.slow.map(|(_, rate)| rate), slow.unwrap_or(0))),
            ],
        };
        causes.into_iter().filter_map(|(reason, holds)| holds.then_some(reason)).collect()
    }
}

fn nanos(duration: Duration) -> u64 {
    duration.as_nanos() as u64
}

/// What both sides say that a policy has counted.
#[derive(Debug, PartialEq)]
struct Counted {
    total: usize,
    failed: usize,
    slow: Option<usize>,
    failure_rate: Option<f64>,
    slow_call_rate: Option<f64>,
}

impl From<failfast::Counts> for Counted {
    fn from(counts: failfast::Counts) -> Self {
        Self {
            total: counts.total() as usize,
            failed: counts.failed() as usize,
            slow: counts.slow().map(|slow| slow as usize),
            failure_rate: counts.failure_rate(),
            slow_call_rate: counts.slow_call_rate(),
        }
    }
}

type Breaker<'a, P> = CircuitBreaker<P, &'a ManualClock>;

/// A breaker and the models of its policies, which take the same steps.
struct Pair<'a, P: Policy> {
    breaker: &'a Breaker<'a, P>,
    clock: &'a ManualClock,
    /// In which it begins, and to which it is brought back.
    state: State,
    models: Vec<Model>,
    tick: Duration,
    lap: Duration,
    /// Where the clock stands, and the latest time at which the breaker has looked at it.
    now: i64,
    seen: u64,
    /// The calls out, each with when it began and whether it began in this generation.
    calls: VecDeque<(Permit<&'a Breaker<'a, P>>, u64, bool)>,
}

impl<P: Policy> Pair<'_, P> {
    fn take(&mut self, step: &Step) {
        match *step {
            Step::Call(ticks, end) => {
                let since = self.calls.len();
                self.begin();
                self.advance(self.tick * ticks);
                self.end(since, end);
            }
            Step::Begin => self.begin(),
            Step::End(end) => self.end(0, end),
            Step::Advance(ticks) => self.advance(self.tick * ticks),
            Step::Jump(laps, ticks) => self.advance(self.lap * laps + self.tick * ticks),
            Step::Back(ticks) => {
                self.clock.step_back(self.tick * ticks);
                self.now -= nanos(self.tick * ticks) as i64;
            }
            Step::Reset => {
                self.breaker.reset();
                if self.state == State::MetricsOnly {
                    self.breaker.metrics_only();
                }
                self.renew();
            }
        }
        self.look();
    }

    fn begin(&mut self) {
        self.calls.push_back((self.breaker.try_acquire().unwrap(), self.seen, true));
    }

    fn advance(&mut self, by: Duration) {
        self.clock.advance(by);
        self.now += nanos(by) as i64;
    }

    fn end(&mut self, call: usize, end: End) {
        let Some((permit, began, current)) = self.calls.remove(call) else { return };
        match end {
            End::Success => permit.success(),
            End::Failure => permit.failure(),
            End::SuccessElsewhere => thread::scope(|scope| scope.spawn(|| permit.success()).join().unwrap()),
            End::Ignored => permit.settle(Outcome::Ignored),
            End::Dropped => drop(permit),
        }
        self.look();
        if !current || matches!(end, End::Ignored | End::Dropped) {
            return;
        }
        let took = Duration::from_nanos(self.seen - began);
        self.models.iter_mut().for_each(|model| model.record(self.seen, end == End::Failure, took));
        if self.state == State::Closed {
            self.trip();
        }
        assert_eq!(self.breaker.state(), self.state);
    }

    /// Any step ends with a reading of the clock, so that both sides have seen the same times.
    fn look(&mut self) {
        _ = self.breaker.state();
        self.seen = self.seen.max(self.now.max(0) as u64);
        self.models.iter_mut().for_each(|model| model.age(self.seen));
    }

    /// It has opened if, and only if, a cause holds; the first one in the policies' order is the reason.
    fn trip(&mut self) {
        let snapshot = self.breaker.snapshot();
        let first = self.models.iter().find_map(|model| Some((model.causes().first().copied()?, model.counts())));
        assert_eq!(snapshot.state(), if first.is_some() { State::Open } else { State::Closed });
        let trip = snapshot.trip().map(|trip| (trip.reason(), trip.counts().unwrap().into()));
        assert_eq!(trip, first);
        if first.is_some() {
            self.compare();
            self.breaker.close();
            self.renew();
        }
    }

    fn renew(&mut self) {
        self.calls.iter_mut().for_each(|(.., current)| *current = false);
        self.models.iter_mut().for_each(|model| model.outcomes.clear());
    }

    fn compare(&self) {
        let snapshot = self.breaker.snapshot();
        let counted: Vec<_> = snapshot.windows().map(Counted::from).collect();
        assert_eq!(counted, self.models.iter().map(Model::counts).collect::<Vec<_>>());
    }
}

#[derive(Clone, Debug)]
struct Plot {
    origin: Duration,
    tick: Duration,
    steps: Vec<Step>,
}

fn run<S: IntoPolicy>(policy: S, models: &[(Over, Limits)], state: State, plot: &Plot) {
    let Plot { origin, tick, steps } = plot;
    let clock = ManualClock::new();
    clock.advance(*origin);
    let breaker = CircuitBreaker::builder().policy(policy).initial_state(state).clock(&clock).build().unwrap();
    let buckets = models.iter().filter_map(|(over, _)| match over {
        Over::Time { buckets, .. } => Some(*buckets),
        _ => None,
    });
    let mut pair = Pair {
        breaker: &breaker,
        clock: &clock,
        state,
        models: models.iter().map(|(over, limits)| Model::new(*over, *limits, *tick)).collect(),
        tick: *tick,
        lap: *tick * TICKS * buckets.max().unwrap_or(1),
        now: nanos(*origin) as i64,
        seen: 0,
        calls: VecDeque::new(),
    };
    pair.look();
    for step in steps {
        pair.take(step);
        pair.compare();
    }
}

impl Limits {
    fn set<P: Window>(self, mut spec: Spec<P>, tick: Duration) -> Spec<P> {
        let percent = |rate: u32| f64::from(rate) / 1e6;
        spec = spec.min_calls(self.min_calls);
        if let Some(failures) = self.failures {
            spec = spec.failures(failures);
        }
        if let Some(rate) = self.failure_rate {
            spec = spec.failure_rate(percent(rate));
        }
        if let Some((ticks, rate)) = self.slow {
            spec = spec.slow_calls(tick * ticks, percent(rate));
        }
        spec
    }
}

fn streak(limits: Limits) -> Spec<Consecutive> {
    Consecutive::new(limits.failures.unwrap())
}

fn count_window(calls: u32, limits: Limits, tick: Duration) -> Spec<CountWindow> {
    limits.set(CountWindow::over(calls), tick)
}

fn time_window(buckets: u32, stripes: u32, limits: Limits, tick: Duration) -> Spec<TimeWindow> {
    limits.set(TimeWindow::over(tick * TICKS * buckets, buckets).stripes(stripes), tick)
}

fn run_alone(policy: (Over, Limits), state: State, plot: &Plot) {
    let (over, limits) = policy;
    match over {
        Over::Streak => run(streak(limits), &[policy], state, plot),
        Over::Calls(calls) => run(count_window(calls, limits, plot.tick), &[policy], state, plot),
        Over::Time { buckets, stripes } => {
            run(time_window(buckets, stripes, limits, plot.tick), &[policy], state, plot);
        }
    }
}

fn run_inline(window: (Over, Limits), state: State, plot: &Plot) {
    macro_rules! run_on {
        ($($calls:literal)+) => {
            match window.0 {
                $(Over::Calls($calls) => {
                    run(window.1.set(LastCalls::<$calls>::new(), plot.tick), &[window], state, plot);
                })+
                other => unreachable!("{other:?}"),
            }
        };
    }
    run_on!(1 2 6 7 8 13 21 64 100);
}

fn run_joined(policies: &[(Over, Limits)], state: State, plot: &Plot) {
    let rule = |(over, limits): &(Over, Limits)| -> Rule {
        match *over {
            Over::Streak => streak(*limits).into(),
            Over::Calls(calls) => count_window(calls, *limits, plot.tick).into(),
            Over::Time { buckets, stripes } => time_window(buckets, stripes, *limits, plot.tick).into(),
        }
    };
    run(policies.iter().map(rule).collect::<Vec<_>>(), policies, state, plot);
}

fn any_end() -> impl Strategy<Value = End> {
    prop_oneof![
        20 => Just(End::Success),
        14 => Just(End::Failure),
        2 => Just(End::SuccessElsewhere),
        1 => Just(End::Ignored),
        1 => Just(End::Dropped),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let laps = prop_oneof![3 => 0..3_u32, 1 => 3..20_000_u32, 1 => 65_534..65_539_u32];
    prop_oneof![
        60 => (0..12_u32, any_end()).prop_map(|(ticks, end)| Step::Call(ticks, end)),
        60 => any_end().prop_map(|end| Step::Call(0, end)),
        10 => Just(Step::Begin),
        10 => any_end().prop_map(Step::End),
        15 => (0..20_u32).prop_map(Step::Advance),
        5 => (0..40_u32).prop_map(Step::Back),
        2 => (laps, 0..48_u32).prop_map(|(laps, ticks)| Step::Jump(laps, ticks)),
        2 => Just(Step::Reset),
    ]
}

prop_compose! {
    fn any_plot()(
        // From the clock's first moment on, within its first laps, and from 1970 on.
        origin in prop_oneof![Just(0_u64), 0..2_000_000_000_u64, Just(1_790_000_000_123_456_789)],
        // The last one does not divide milliseconds.
        tick in prop_oneof![Just(1_000_000_u64), Just(25_000), Just(123_457)],
        steps in prop::collection::vec(any_step(), 0..=300),
    ) -> Plot {
        Plot { origin: Duration::from_nanos(origin), tick: Duration::from_nanos(tick), steps }
    }
}

fn any_limits(most: u32) -> impl Strategy<Value = Limits> {
    let rate =
        || prop_oneof![Just(100_000_000), Just(50_000_000), Just(20_000_000), Just(33_333_333), 1..=100_000_000_u32];
    let failures = prop::option::of(1..=most);
    let thresholds = (failures, prop::option::of(rate()), prop::option::of((1..10_u32, rate())));
    let thresholds = thresholds.prop_filter("a window needs a threshold", |(failures, rate, slow)| {
        failures.is_some() || rate.is_some() || slow.is_some()
    });
    (1..=most, thresholds).prop_map(|(min_calls, (failures, failure_rate, slow))| Limits {
        min_calls,
        failures,
        failure_rate,
        slow,
    })
}

fn any_streak() -> impl Strategy<Value = (Over, Limits)> {
    let limits = |failures| Limits { min_calls: 0, failures: Some(failures), failure_rate: None, slow: None };
    (1..8_u32).prop_map(move |failures| (Over::Streak, limits(failures)))
}

fn any_count_window() -> impl Strategy<Value = (Over, Limits)> {
    (1..=200_u32).prop_flat_map(|calls| (Just(Over::Calls(calls)), any_limits(calls)))
}

fn any_time_window() -> impl Strategy<Value = (Over, Limits)> {
    let over = (1..=12_u32, 1..=4_u32).prop_map(|(buckets, stripes)| Over::Time { buckets, stripes });
    (over, any_limits(30))
}

/// One more and one less than whole chunks of 7, and what is often asked for.
const INLINE: [u32; 9] = [1, 2, 6, 7, 8, 13, 21, 64, 100];

fn any_inline_window() -> impl Strategy<Value = (Over, Limits)> {
    prop::sample::select(&INLINE[..]).prop_flat_map(|calls| (Just(Over::Calls(calls)), any_limits(calls)))
}

fn any_list() -> impl Strategy<Value = Vec<(Over, Limits)>> {
    prop::collection::vec(prop_oneof![any_streak(), any_count_window(), any_time_window()], 1..=4)
}

fn config() -> ProptestConfig {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/windows.proptest-regressions");
    let failure_persistence = FileFailurePersistence::Direct(path);
    ProptestConfig { failure_persistence: Some(Box::new(failure_persistence)), ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_streak_counts_as_its_model(policy in any_streak(), plot in any_plot()) {
        run_alone(policy, State::MetricsOnly, &plot);
    }

    #[test]
    fn a_streak_opens_exactly_when_its_model_says_so(policy in any_streak(), plot in any_plot()) {
        run_alone(policy, State::Closed, &plot);
    }

    #[test]
    fn an_inline_count_window_counts_as_its_model(policy in any_inline_window(), plot in any_plot()) {
        run_inline(policy, State::MetricsOnly, &plot);
    }

    #[test]
    fn an_inline_count_window_opens_exactly_when_its_model_says_so(policy in any_inline_window(), plot in any_plot()) {
        run_inline(policy, State::Closed, &plot);
    }

    #[test]
    fn a_count_window_counts_as_its_model(policy in any_count_window(), plot in any_plot()) {
        run_alone(policy, State::MetricsOnly, &plot);
    }

    #[test]
    fn a_count_window_opens_exactly_when_its_model_says_so(policy in any_count_window(), plot in any_plot()) {
        run_alone(policy, State::Closed, &plot);
    }

    #[test]
    fn a_time_window_counts_as_its_model(policy in any_time_window(), plot in any_plot()) {
        run_alone(policy, State::MetricsOnly, &plot);
    }

    #[test]
    fn a_time_window_opens_exactly_when_its_model_says_so(policy in any_time_window(), plot in any_plot()) {
        run_alone(policy, State::Closed, &plot);
    }

    #[test]
    fn a_list_of_policies_counts_as_its_model(policies in any_list(), plot in any_plot()) {
        run_joined(&policies, State::MetricsOnly, &plot);
    }

    #[test]
    fn a_list_of_policies_opens_exactly_when_its_model_says_so(policies in any_list(), plot in any_plot()) {
        run_joined(&policies, State::Closed, &plot);
    }
}
