//! Lets the breaker and the model take the same steps, and compares all that can be seen of them after each.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use failfast::{
    CallError, CircuitBreaker, Consecutive, CountWindow, Generation, IntoPolicy, LastCalls, LastTime, ManualClock,
    Observer, OnCancel, Outcome, Permit, Policy, Settled, SettledCall, Spec, TimeWindow, Window, WouldTrip,
};

use super::contract::{Counts, End as WaitEnd, Gate, Model, Nanos, Pass, Probes, Rejected, Told, Transition, Trip};
use super::plot::{self, Cancel, DAY, End, Hand, Jump, MILLI, Over, Plot, Rule, Setup, Step, Storage, Way};

/// Takes all steps of the plot, and tells how often it came to what.
///
/// # Panics
/// When breaker and model disagree.
pub fn run(plot: &Plot) -> BTreeMap<&'static str, u32> {
    let setup = &plot.setup;
    let rules = &setup.rules[..];
    let list = || run_on(plot, rules.iter().map(Rule::any).collect::<Vec<failfast::Rule>>());
    match (setup.storage, rules) {
        (Storage::Tuple, [one]) => match one.over {
            Over::Streak => run_on(plot, one.streak()),
            Over::Calls(_) => run_on(plot, one.calls()),
            Over::Time { .. } => run_on(plot, one.time()),
        },
        (Storage::Tuple, [one, two]) => match (one.over, two.over) {
            (Over::Streak, Over::Calls(_)) => run_on(plot, (one.streak(), two.calls())),
            (Over::Calls(_), Over::Time { .. }) => run_on(plot, (one.calls(), two.time())),
            (Over::Time { .. }, Over::Streak) => run_on(plot, (one.time(), two.streak())),
            _ => list(),
        },
        (Storage::Tuple, [one, two, three]) => match (one.over, two.over, three.over) {
            (Over::Streak, Over::Calls(_), Over::Time { .. }) => {
                run_on(plot, (one.streak(), two.calls(), three.time()))
            }
            (Over::Time { .. }, Over::Calls(_), Over::Calls(_)) => {
                run_on(plot, (one.time(), two.calls(), three.calls()))
            }
            _ => list(),
        },
        (Storage::Inline, [one]) => match one.over {
            Over::Calls(1) => run_on(plot, one.set(LastCalls::<1>::new())),
            Over::Calls(7) => run_on(plot, one.set(LastCalls::<7>::new())),
            Over::Calls(8) => run_on(plot, one.set(LastCalls::<8>::new())),
            Over::Calls(20) => run_on(plot, one.set(LastCalls::<20>::new())),
            Over::Time { bucket, buckets: 1, .. } => run_on(plot, one.set(LastTime::<1>::new(nanos(bucket)))),
            Over::Time { bucket, buckets: 4, .. } => run_on(plot, one.set(LastTime::<4, 2>::new(nanos(4 * bucket)))),
            _ => list(),
        },
        _ => list(),
    }
}

impl Rule {
    fn any(&self) -> failfast::Rule {
        match self.over {
            Over::Streak => self.streak().into(),
            Over::Calls(_) => self.calls().into(),
            Over::Time { .. } => self.time().into(),
        }
    }

    fn streak(&self) -> Spec<Consecutive> {
        Consecutive::new(self.failures.unwrap())
    }

    fn calls(&self) -> Spec<CountWindow> {
        let Over::Calls(calls) = self.over else { unreachable!() };
        self.set(CountWindow::over(calls))
    }

    fn time(&self) -> Spec<TimeWindow> {
        let Over::Time { bucket, buckets, stripes } = self.over else { unreachable!() };
        self.set(TimeWindow::over(nanos(bucket * u64::from(buckets)), buckets).stripes(stripes))
    }

    fn set<P: Window>(&self, mut spec: Spec<P>) -> Spec<P> {
        spec = spec.min_calls(self.min_calls);
        if let Some(failures) = self.failures {
            spec = spec.failures(failures);
        }
        if let Some(rate) = self.failure_rate {
            spec = spec.failure_rate(millionths(rate));
        }
        if let Some((limit, rate)) = self.slow {
            spec = spec.slow_calls(nanos(limit), millionths(rate));
        }
        spec
    }
}

fn millionths(of: u64) -> f64 {
    of as f64 / 1e6
}

fn nanos(of: u64) -> Duration {
    Duration::from_nanos(of)
}

type Core<P> = CircuitBreaker<P, Arc<ManualClock>, Arc<Listener>>;

/// Writes down what it is told.
struct Listener {
    heard: Mutex<Heard>,
    wants: plot::Observer,
}

#[derive(Debug, Default)]
struct Heard {
    transitions: Vec<failfast::Transition>,
    rejected: Vec<failfast::Rejected>,
    would_trip: Vec<WouldTrip>,
    settled: Vec<(Settled, bool, Option<Nanos>)>,
}

impl Listener {
    fn hear(&self, what: impl FnOnce(&mut Heard)) {
        what(&mut self.heard.lock().unwrap());
        if self.wants.panics {
            // Without the hook, which would print it.
            resume_unwind(Box::new(()));
        }
    }
}

impl Observer for Listener {
    fn observes_calls(&self) -> bool {
        self.wants.observes_calls
    }

    fn times_calls(&self) -> bool {
        self.wants.times_calls
    }

    fn on_transition(&self, transition: &failfast::Transition) {
        self.hear(|heard| heard.transitions.push(*transition));
    }

    fn on_rejected(&self, rejected: &failfast::Rejected) {
        self.hear(|heard| heard.rejected.push(*rejected));
    }

    fn on_outcome(&self, call: &SettledCall) {
        let elapsed = call.elapsed().map(|elapsed| elapsed.as_nanos());
        self.hear(|heard| heard.settled.push((call.settled(), call.counted(), elapsed)));
    }

    fn on_would_trip(&self, would_trip: &WouldTrip) {
        self.hear(|heard| heard.would_trip.push(*would_trip));
    }
}

type Result = std::result::Result<(), CallError<()>>;

/// A call in flight.
enum InFlight<P: Policy> {
    Permit(Permit<Arc<Core<P>>>, Pass),
    /// It ends at the poll after its end was set. It has no pass before its first poll.
    Future(Pin<Box<dyn Future<Output = Result>>>, Rc<Cell<Option<End>>>, Option<Pass>),
}

impl<P: Policy> InFlight<P> {
    fn pass(&self) -> Option<Pass> {
        match self {
            Self::Permit(_, pass) => Some(*pass),
            Self::Future(_, _, pass) => *pass,
        }
    }
}

struct Run<P: Policy> {
    core: Arc<Core<P>>,
    model: Model,
    clock: Arc<ManualClock>,
    listener: Arc<Listener>,
    /// Where the clock stands, which may step back, and how far it may go: a breaker knows times modulo 34 years.
    time: i128,
    furthest: i128,
    in_flight: Vec<InFlight<P>>,
    /// The breaker's name for each of the model's generations.
    generations: BTreeMap<u64, Generation>,
    told: u64,
}

fn outcome(end: End) -> Outcome {
    match end {
        End::Success => Outcome::Success,
        End::Ignored => Outcome::Ignored,
        End::OpenFor(wait) => Outcome::OpenFor(wait.map(nanos)),
        End::Failure | End::Panic | End::Dropped => Outcome::Failure,
    }
}

fn run_on<S: IntoPolicy>(plot: &Plot, policy: S) -> BTreeMap<&'static str, u32>
where
    S::Policy: 'static,
{
    let Setup { origin, observer, .. } = plot.setup;
    let clock = Arc::new(ManualClock::new());
    clock.advance(nanos(origin));
    let listener = Arc::new(Listener { heard: Mutex::default(), wants: observer });
    let core = build(&plot.setup, policy, clock.clone(), listener.clone());
    let mut run = Run {
        core: Arc::new(core),
        model: Model::new(&plot.setup),
        clock,
        listener,
        time: origin.into(),
        furthest: i128::from(origin) + i128::from(16 * 365 * DAY),
        in_flight: Vec::new(),
        generations: BTreeMap::new(),
        told: 0,
    };
    run.compare();
    for step in &plot.steps {
        run.take(*step);
    }
    // What is still in flight is dropped, one after the other.
    while !run.in_flight.is_empty() {
        run.take(Step::End(0, End::Dropped));
    }
    run.model.met
}

fn build<S: IntoPolicy>(setup: &Setup, policy: S, clock: Arc<ManualClock>, listener: Arc<Listener>) -> Core<S::Policy> {
    let mut builder = CircuitBreaker::builder()
        .policy(policy)
        .open_for(nanos(setup.base))
        .backoff(millionths(setup.multiplier))
        .jitter(millionths(setup.jitter))
        .seed(setup.seed)
        .probes(setup.probes)
        .successes(setup.successes)
        .max_wait(nanos(setup.max_wait))
        .on_max_wait(setup.on_max_wait)
        .on_cancel(match setup.on_cancel {
            Cancel::Neutral => OnCancel::Neutral,
            Cancel::Failure => OnCancel::Failure,
            Cancel::FailureAfter(limit) => OnCancel::FailureAfter(nanos(limit)),
        })
        .initial_state(setup.initial)
        .clock(clock)
        .observer(listener);
    if let Some(max) = setup.max {
        builder = builder.max_open(nanos(max));
    }
    builder.build().unwrap()
}

impl<P: Policy + 'static> Run<P> {
    fn take(&mut self, step: Step) {
        match step {
            Step::Call(way, end, jump, times) => {
                for _ in 0..times {
                    self.call(way, end, jump);
                    self.compare();
                }
            }
            Step::Acquire => self.acquire(),
            Step::Spawn => self.spawn(),
            Step::Poll(index) => {
                if let Some(index) = self.choose(index, |call| matches!(call, InFlight::Future(..))) {
                    self.poll(index);
                }
            }
            Step::End(index, end) => {
                if let Some(index) = self.choose(index, |_| true) {
                    self.end(index, end);
                }
            }
            Step::Advance(jump) => {
                let by = self.resolve(jump, None);
                self.advance(by);
            }
            Step::Back(by) => {
                self.clock.step_back(nanos(by));
                self.time -= i128::from(by);
                self.look();
            }
            Step::Hand(hand) => self.hand(hand),
        }
        self.compare();
    }

    fn choose(&self, index: u8, fits: impl Fn(&InFlight<P>) -> bool) -> Option<usize> {
        let fitting: Vec<_> = (0..self.in_flight.len()).filter(|index| fits(&self.in_flight[*index])).collect();
        fitting.get(usize::from(index) % fitting.len().max(1)).copied()
    }

    // ---- time ----

    /// A breaker knows of a time only what it has seen of it.
    fn look(&mut self) {
        _ = self.core.state();
        self.model.look(self.time.max(0) as Nanos);
    }

    fn advance(&mut self, by: u64) {
        self.clock.advance(nanos(by));
        self.time += i128::from(by);
        self.look();
    }

    /// For a call that begins now, or for the first of those in flight.
    fn resolve(&self, jump: Jump, call: Option<Pass>) -> u64 {
        let to = |time: Option<Nanos>, offset: i64| {
            let by = time.map_or(0, |time| time as i128 + i128::from(offset) - self.time);
            by.max(0)
        };
        let window = self.model.setup.rules.iter().find_map(|rule| match rule.over {
            Over::Time { bucket, buckets, .. } => Some((Nanos::from(bucket), buckets)),
            _ => None,
        });
        let by = match jump {
            Jump::By(nanos) => nanos.into(),
            Jump::ToDeadline(offset) => match self.model.gate {
                Gate::Open(WaitEnd(_, end)) => to(Some(end), offset),
                Gate::HalfOpen { until, .. } => to(Some(until), offset),
                _ => (i128::from(MILLI) + i128::from(offset)).max(0),
            },
            Jump::ToEdge(offset) => to(window.map(|(bucket, _)| (self.model.now / bucket + 1) * bucket), offset),
            Jump::ByWindow(offset) => {
                to(window.map(|(bucket, buckets)| self.model.now + bucket * Nanos::from(buckets)), offset)
            }
            Jump::ToLimit(offset) => {
                let pass = call.or_else(|| self.in_flight.iter().find_map(InFlight::pass));
                let began = pass.map_or(self.model.now, |pass| pass.began);
                let cancelled = match self.model.setup.on_cancel {
                    Cancel::FailureAfter(limit) => Some(limit),
                    _ => None,
                };
                let slow = self.model.setup.rules.iter().find_map(|rule| rule.slow).map(|(limit, _)| limit);
                to(slow.or(cancelled).map(|limit| began + Nanos::from(limit)), offset)
            }
        };
        by.min(self.furthest - self.time).max(0) as u64
    }

    // ---- calls ----

    fn call(&mut self, way: Way, end: End, jump: Jump) {
        let asked = self.model.ask();
        let by = asked.map_or(0, |pass| self.resolve(jump, Some(pass)));
        let (clock, core) = (self.clock.clone(), self.core.clone());
        let work = || {
            clock.advance(nanos(by));
            _ = core.state();
            match end {
                End::Success => Ok(()),
                End::Panic => resume_unwind(Box::new("on purpose")),
                _ => Err(()),
            }
        };
        let classify = |_: &std::result::Result<(), ()>| outcome(end);
        let plain = matches!(end, End::Success | End::Failure);
        let result = match way {
            Way::Permit => self.core.try_acquire().map_err(CallError::Rejected).map(|permit| {
                clock.advance(nanos(by));
                _ = core.state();
                match end {
                    // Unwound, it is cancelled.
                    End::Panic => {
                        let unwound = catch_unwind(AssertUnwindSafe(|| {
                            let _permit = permit;
                            resume_unwind(Box::new("on purpose"))
                        }));
                        unwound.unwrap_or(())
                    }
                    End::Success => permit.success(),
                    End::Failure => permit.failure(),
                    End::Ignored => permit.ignore(),
                    End::OpenFor(wait) => permit.open_for(wait.map(nanos)),
                    End::Dropped => drop(permit),
                }
            }),
            // Only a permit or a future can be dropped.
            Way::CallAsync => {
                let mut polled = false;
                let mut future = Box::pin(self.core.call_async_with(classify, || {
                    poll_fn(|_| {
                        if end == End::Dropped && !polled {
                            polled = true;
                            _ = work();
                            return Poll::Pending;
                        }
                        Poll::Ready(work())
                    })
                }));
                let ended = catch_unwind(AssertUnwindSafe(|| poll(future.as_mut())));
                match ended {
                    Ok(Poll::Ready(result)) => result,
                    _ => Ok(()),
                }
            }
            Way::CallOrElse if plain => {
                let rejected = Cell::new(None);
                let instead = |why| {
                    rejected.set(Some(why));
                    Err(())
                };
                let result = self.core.call_or_else(work, instead);
                rejected.take().map_or(result.map_err(CallError::Failed), |why| Err(CallError::Rejected(why)))
            }
            Way::Call if plain => self.core.call(work),
            _ => catch_unwind(AssertUnwindSafe(|| self.core.call_with(classify, work)))
                .unwrap_or(Err(CallError::Failed(()))),
        };
        self.time += i128::from(by);
        self.model.look(self.time.max(0) as Nanos);
        self.compare_rejection(asked.err(), result.err().and_then(|error| error.rejected().copied()));
        let Ok(pass) = asked else { return };
        let settled = match (way, end) {
            (Way::Permit, End::Panic | End::Dropped) | (Way::CallAsync, End::Dropped) => Settled::Cancelled,
            _ => Settled::With(outcome(end)),
        };
        self.model.settle(pass, settled);
    }

    fn acquire(&mut self) {
        let asked = self.model.ask();
        match (self.core.try_acquire_owned(), asked) {
            (Ok(permit), Ok(pass)) => self.in_flight.push(InFlight::Permit(permit, pass)),
            (got, expected) => self.compare_rejection(expected.err(), got.err()),
        }
    }

    fn spawn(&mut self) {
        let end = Rc::new(Cell::new(None));
        let (ended, classified) = (end.clone(), end.clone());
        let classify = move |_: &std::result::Result<(), ()>| outcome(classified.get().unwrap());
        let work = move || {
            poll_fn(move |_| match ended.get() {
                None => Poll::Pending,
                Some(End::Panic) => resume_unwind(Box::new("on purpose")),
                Some(_) => Poll::Ready(Ok(())),
            })
        };
        let future = self.core.call_async_owned_with(classify, work);
        self.in_flight.push(InFlight::Future(Box::pin(future), end, None));
    }

    /// Polls a future, at the first poll of which the breaker is asked.
    fn poll(&mut self, index: usize) {
        let InFlight::Future(future, end, pass) = &mut self.in_flight[index] else { unreachable!() };
        let mut rejected = None;
        if pass.is_none() {
            match self.model.ask() {
                Ok(given) => *pass = Some(given),
                Err(why) => rejected = Some(why),
            }
        }
        let polled = catch_unwind(AssertUnwindSafe(|| poll(future.as_mut())));
        let (end, pass) = (end.get(), *pass);
        let over = match polled {
            Ok(Poll::Pending) => {
                assert!(end.is_none() && rejected.is_none(), "pending, though {end:?}, {rejected:?}");
                return;
            }
            Ok(Poll::Ready(result)) => result.err().and_then(|error| error.rejected().copied()),
            Err(_) => {
                assert_eq!(end, Some(End::Panic));
                None
            }
        };
        self.compare_rejection(rejected, over);
        if rejected.is_none() {
            self.model.settle(pass.unwrap(), Settled::With(outcome(end.unwrap())));
        }
        self.in_flight.remove(index);
    }

    fn end(&mut self, index: usize, how: End) {
        match &self.in_flight[index] {
            InFlight::Future(_, end, _) if how != End::Dropped => {
                end.set(Some(how));
                self.poll(index);
            }
            _ => match (self.in_flight.remove(index), how) {
                (InFlight::Permit(permit, pass), End::Panic | End::Dropped) => {
                    drop(permit);
                    self.model.settle(pass, Settled::Cancelled);
                }
                (InFlight::Permit(permit, pass), _) => {
                    permit.settle(outcome(how));
                    self.model.settle(pass, Settled::With(outcome(how)));
                }
                (InFlight::Future(future, _, pass), _) => {
                    drop(future);
                    // Dropped before its first poll, it was no call.
                    if let Some(pass) = pass {
                        self.model.settle(pass, Settled::Cancelled);
                    }
                }
            },
        }
    }

    fn hand(&mut self, hand: Hand) {
        let Self { core, model, .. } = self;
        match hand {
            Hand::Open => (core.open(), model.open(None)),
            Hand::OpenFor(wait) => (core.open_for(nanos(wait)), model.open(Some(wait.into()))),
            Hand::Close => (core.close(), model.set(Gate::Closed)),
            Hand::Reset => (core.reset(), model.reset()),
            Hand::ForceOpen => (core.force_open(), model.set(Gate::ForcedOpen)),
            Hand::Disable => (core.disable(), model.set(Gate::Disabled)),
            Hand::MetricsOnly => (core.metrics_only(), model.set(Gate::MetricsOnly)),
            Hand::HalfOpen => {
                let error = core.half_open().map_err(|error| error.from());
                assert_eq!(error, model.half_open_by_hand(), "half_open");
                ((), ())
            }
        };
    }

    // ---- what is seen ----

    fn compare_rejection(&self, expected: Option<Rejected>, got: Option<failfast::Rejected>) {
        assert_eq!(got.as_ref().map(rejected), expected, "the rejection");
    }

    fn compare(&mut self) {
        let snapshot = self.core.snapshot();
        // An expired wait reads as half-open since it was over.
        let over = match snapshot.retry_after() {
            Some(wait) => self.model.now + wait.as_nanos(),
            None => self.model.now - snapshot.since().map_or(0, |since| since.as_nanos()),
        };
        self.model.learn(over);
        let view = self.model.view();
        assert_eq!(self.core.state(), view.state, "the state");
        assert_eq!(snapshot.state(), view.state, "the snapshot's state");
        assert_eq!(snapshot.trip().as_ref().map(trip), view.trip, "the trip");
        assert_eq!(snapshot.retry_after().map(|wait| wait.as_nanos()), view.retry_after, "retry_after");
        let probes = snapshot.probes().map(|probes| Probes {
            admitted: probes.admitted(),
            succeeded: probes.succeeded(),
            failed: probes.failed(),
        });
        assert_eq!(probes, view.probes, "the probes");
        let windows: Vec<_> = snapshot.windows().map(|counts| counted(&counts)).collect();
        assert_eq!(windows, view.windows, "the windows");
        let streak = view.windows.iter().find(|counts| counts.span == failfast::Span::Streak);
        assert_eq!(snapshot.consecutive_failures(), streak.map(|counts| counts.failed), "the streak");
        let first = view.windows.iter().find(|counts| counts.span != failfast::Span::Streak).or(streak);
        match first {
            Some(first) => assert_eq!(counted(&snapshot.window()), *first, "the first window"),
            None => assert_eq!(snapshot.window().total(), 0, "a window while nothing is counted"),
        }
        // The contract does not say how exactly: to a millisecond.
        let since = snapshot.since().unwrap().as_nanos();
        assert!(since.abs_diff(view.since) < MILLI.into(), "since: {since}, expected {}", view.since);
        self.compare_generation(view.generation, snapshot.generation());
        self.compare_told();
    }

    fn compare_told(&mut self) {
        let heard = std::mem::take(&mut *self.listener.heard.lock().unwrap());
        let mut told = std::mem::take(&mut self.model.told);
        let wants = self.listener.wants;
        if !wants.observes_calls {
            told.rejected.clear();
            told.settled.clear();
        }
        if !wants.times_calls {
            told.settled.iter_mut().for_each(|(_, _, elapsed)| *elapsed = None);
        }
        assert_eq!(heard.transitions.len(), told.transitions.len(), "the transitions: {heard:?}, expected {told:?}");
        for (got, expected) in heard.transitions.iter().zip(&told.transitions) {
            self.compare_generation(expected.generation, got.generation());
        }
        let transitions = heard.transitions.iter().zip(&told.transitions);
        let heard = Told {
            transitions: transitions.map(|(transition, expected)| transitioned(transition, *expected)).collect(),
            rejected: heard.rejected.iter().map(rejected).collect(),
            would_trip: heard.would_trip.iter().map(|would| trip(&would.trip())).collect(),
            settled: heard.settled,
        };
        assert_eq!(heard, told, "what the observer was told");
        let Told { transitions, rejected, would_trip, settled } = told;
        self.told += (transitions.len() + rejected.len() + would_trip.len() + settled.len()) as u64;
        let panics = if wants.panics { self.told } else { 0 };
        assert_eq!(u64::from(self.core.observer_panics()), panics, "the observer's panics");
    }

    /// Each generation has a name of its own, that comes after those before it.
    fn compare_generation(&mut self, number: u64, generation: Generation) {
        let before = self.generations.range(..number).next_back();
        assert!(before.is_none_or(|(_, before)| generation.is_after(*before)), "{generation:?} after {before:?}");
        let known = *self.generations.entry(number).or_insert(generation);
        assert_eq!(known, generation, "generation {number}");
    }
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn counted(counts: &failfast::Counts) -> Counts {
    let (total, failed, slow) = (counts.total(), counts.failed(), counts.slow());
    let rate = |rate: Option<f64>, count: u64| {
        let Some(rate) = rate else { return false };
        assert_eq!(rate, count as f64 * 100.0 / total as f64, "a rate of {counts:?}");
        true
    };
    let rated = rate(counts.failure_rate(), failed);
    if let Some(slow) = slow {
        assert_eq!(rate(counts.slow_call_rate(), slow), rated, "one rate without the other: {counts:?}");
    } else {
        assert_eq!(counts.slow_call_rate(), None);
    }
    if !matches!(counts.span(), failfast::Span::Streak) {
        assert_eq!(counts.succeeded(), total - failed);
    }
    Counts { span: counts.span(), total, failed, slow, rated }
}

fn trip(trip: &failfast::Trip) -> Trip {
    Trip { reason: trip.reason(), counts: trip.counts().as_ref().map(counted) }
}

fn rejected(rejected: &failfast::Rejected) -> Rejected {
    assert_eq!(rejected.reason(), rejected.trip().map(|trip| trip.reason()));
    Rejected {
        state: rejected.state(),
        retry_after: rejected.retry_after().map(|wait| wait.as_nanos()),
        trip: rejected.trip().as_ref().map(trip),
    }
}

/// `expected`, but for what the breaker told otherwise.
fn transitioned(transition: &failfast::Transition, expected: Transition) -> Transition {
    assert_eq!(transition.reason(), transition.trip().map(|trip| trip.reason()));
    let at = Nanos::from(transition.at().as_nanos());
    let end = transition.retry_after().map(|wait| at + wait.as_nanos());
    assert_eq!(end.is_some(), transition.to() == failfast::State::Open, "{transition}");
    Transition {
        from: transition.from(),
        to: transition.to(),
        cause: transition.cause(),
        trip: transition.trip().as_ref().map(trip),
        at,
        end: expected.end.filter(|(first, last)| end.is_some_and(|end| (*first..=*last).contains(&end))),
        ..expected
    }
}
