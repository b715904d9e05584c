//! Replays the contract's cases, as `tests/scenarios.rs` does: each by permit, by `call` and by `call_async`, on inline
//! storage.

use core::pin::pin;
use core::task::{Context, Poll, Waker};
use core::time::Duration;

use failfast::{
    CallError, CircuitBreaker, IntoPolicy, ManualClock, Observer, Outcome, Permit, Policy, Rejected, Settled,
    SettledCall, Snapshot, State, Transition, WouldTrip,
};
use portable_atomic::{AtomicU32, Ordering::Relaxed};

use crate::cases::{CASES, CUT, Case, Count, Event, Expect, LEFT_OUT, Op, PERMITS, Step, TOTAL};
use boards::println;

use crate::Tally;

/// The ways in which a whole call can be made.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    Permit,
    Call,
    CallAsync,
}

/// Where a case went wrong.
pub struct Wrong {
    step: usize,
    what: &'static str,
    expected: Option<Expect>,
}

pub fn replay(tally: &mut Tally) {
    let mut steps = 0;
    let before = tally.failed;
    for case in CASES {
        let mut passed = true;
        for way in [Way::Permit, Way::Call, Way::CallAsync] {
            if let Err(Wrong { step, what, expected }) = (case.run)(case, way) {
                passed = false;
                println!("FAILED {} [{way:?}] step {step}: {what}, expected {expected:?}", case.id);
            }
        }
        steps += case.steps.len();
        tally.count(passed);
    }
    let failed = tally.failed - before;
    println!(
        "cases: {} of {TOTAL} replayed ({steps} steps, {CUT} up to their first panic), {failed} failed",
        CASES.len()
    );
    for (cases, why) in LEFT_OUT {
        println!("  left out: {cases} {why}");
    }
}

pub fn run<I: IntoPolicy>(case: &Case, way: Way, policy: I) -> Result<(), Wrong> {
    let clock = ManualClock::new();
    let events = Events::default();
    let builder = CircuitBreaker::builder().policy(policy).config(case.config).clock(&clock).observer(&events);
    let expected = case.steps.iter().flat_map(|step| step.expect).find_map(|expect| match expect {
        Expect::BuildError(error) => Some(*error),
        _ => None,
    });
    match builder.build() {
        Err(_) if expected == Some(true) => Ok(()),
        Err(_) => Err(Wrong { step: 0, what: "it does not build", expected: None }),
        Ok(_) if expected == Some(true) => Err(Wrong { step: 0, what: "it builds", expected: None }),
        Ok(breaker) => {
            let held = [const { None }; PERMITS];
            play(case, &clock, &events, &mut Guarded { breaker: &breaker, clock: &clock, way, held })
        }
    }
}

/// How often each event was seen.
#[derive(Default)]
struct Events([AtomicU32; 6]);

impl Events {
    fn add(&self, event: Event) {
        self.0[event as usize].fetch_add(1, Relaxed);
    }
}

impl Observer for &Events {
    fn on_transition(&self, transition: &Transition) {
        self.add(Event::StateTransition);
        match transition.to() {
            State::Open => self.add(Event::Opened),
            State::HalfOpen => self.add(Event::HalfOpened),
            State::Closed => self.add(Event::Closed),
            _ => {}
        }
    }

    fn on_outcome(&self, call: &SettledCall) {
        if call.settled() == Settled::With(Outcome::Ignored) {
            self.add(Event::Ignored);
        }
    }

    fn on_would_trip(&self, _: &WouldTrip) {
        self.add(Event::WouldTrip);
    }
}

/// What a case does to a breaker, whatever its policy: one replay for all, since flash is small.
trait Replayed {
    fn call(&self, outcome: Outcome, ms: u64) -> Option<Rejected>;
    fn acquire(&mut self, place: usize) -> Option<Rejected>;
    fn settle(&mut self, place: usize, outcome: Outcome, ms: u64);
    fn cancel(&mut self, place: usize);
    /// Whether it was legal.
    fn by_hand(&self, op: Op) -> bool;
    fn snapshot(&self) -> Snapshot;
    fn state(&self) -> State;
}

type Watched<'a, P> = CircuitBreaker<P, &'a ManualClock, &'a Events>;

struct Guarded<'a, P: Policy> {
    breaker: &'a Watched<'a, P>,
    clock: &'a ManualClock,
    way: Way,
    held: [Option<Permit<&'a Watched<'a, P>>>; PERMITS],
}

impl<P: Policy> Guarded<'_, P> {
    fn pass(&self, ms: u64) {
        self.clock.advance(Duration::from_millis(ms));
        // A breaker knows of a time only what it has seen of it.
        _ = self.breaker.state();
    }
}

impl<P: Policy> Replayed for Guarded<'_, P> {
    fn call(&self, outcome: Outcome, ms: u64) -> Option<Rejected> {
        let work = || {
            self.pass(ms);
            if outcome == Outcome::Success { Ok(()) } else { Err(()) }
        };
        let classify = |_: &Result<(), ()>| outcome;
        let plain = matches!(outcome, Outcome::Success | Outcome::Failure);
        let result = match self.way {
            Way::Permit => match self.breaker.try_acquire() {
                Ok(permit) => {
                    let result = work();
                    permit.settle(outcome);
                    result.map_err(CallError::Failed)
                }
                Err(rejected) => Err(CallError::Rejected(rejected)),
            },
            Way::Call if plain => self.breaker.call(work),
            Way::Call => self.breaker.call_with(classify, work),
            Way::CallAsync if plain => ready(self.breaker.call_async(|| async { work() })),
            Way::CallAsync => ready(self.breaker.call_async_with(classify, || async { work() })),
        };
        result.err().and_then(|error| error.rejected().copied())
    }

    fn acquire(&mut self, place: usize) -> Option<Rejected> {
        let (permit, rejected) = match self.breaker.try_acquire() {
            Ok(permit) => (Some(permit), None),
            Err(rejected) => (None, Some(rejected)),
        };
        self.held[place] = permit;
        rejected
    }

    fn settle(&mut self, place: usize, outcome: Outcome, ms: u64) {
        if let Some(permit) = self.held[place].take() {
            self.pass(ms);
            permit.settle(outcome);
        }
    }

    fn cancel(&mut self, place: usize) {
        drop(self.held[place].take());
    }

    fn by_hand(&self, op: Op) -> bool {
        match op {
            Op::Open => self.breaker.open(),
            Op::OpenFor(wait) => self.breaker.open_for(wait),
            Op::Close => self.breaker.close(),
            Op::HalfOpen => return self.breaker.half_open().is_ok(),
            Op::ForceOpen => self.breaker.force_open(),
            Op::Disable => self.breaker.disable(),
            Op::MetricsOnly => self.breaker.metrics_only(),
            Op::Reset => self.breaker.reset(),
            _ => unreachable!(),
        }
        true
    }

    fn snapshot(&self) -> Snapshot {
        self.breaker.snapshot()
    }

    fn state(&self) -> State {
        self.breaker.state()
    }
}

/// The result of a future that never waits.
fn ready<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => output,
        Poll::Pending => unreachable!(),
    }
}

/// What the last step showed.
#[derive(Default)]
struct Seen {
    permitted: Option<bool>,
    rejected: Option<Rejected>,
    illegal: bool,
}

impl Seen {
    fn asked(rejected: Option<Rejected>) -> Self {
        Self { permitted: Some(rejected.is_none()), rejected, illegal: false }
    }
}

fn play(case: &Case, clock: &ManualClock, events: &Events, breaker: &mut dyn Replayed) -> Result<(), Wrong> {
    for (index, step) in case.steps.iter().enumerate() {
        let mut seen = Seen::default();
        match step.op {
            Op::Call { outcome, ms, times } => {
                for _ in 0..times {
                    seen = Seen::asked(breaker.call(outcome, ms));
                }
            }
            Op::Mix { times, success_every } => {
                for i in 0..times {
                    let outcome = if i % success_every == 0 { Outcome::Success } else { Outcome::Failure };
                    seen = Seen::asked(breaker.call(outcome, 0));
                }
            }
            Op::Acquire(place) => seen = Seen::asked(breaker.acquire(place)),
            Op::Settle { place, outcome, ms } => breaker.settle(place, outcome, ms),
            Op::Cancel(place) => breaker.cancel(place),
            Op::Advance(ms) => {
                let by = Duration::from_millis(ms.unsigned_abs());
                if ms < 0 {
                    clock.step_back(by)
                } else {
                    clock.advance(by)
                }
                // A breaker knows of a time only what it has seen of it.
                _ = breaker.state();
            }
            Op::Look => {}
            by_hand => seen.illegal = !breaker.by_hand(by_hand),
        }
        compare(step, &seen, events, breaker).map_err(|(what, expected)| Wrong { step: index, what, expected })?;
    }
    Ok(())
}

fn compare(
    step: &Step,
    seen: &Seen,
    events: &Events,
    breaker: &dyn Replayed,
) -> Result<(), (&'static str, Option<Expect>)> {
    let snapshot = breaker.snapshot();
    let mut may_be_illegal = false;
    for &expect in step.expect {
        let holds = match expect {
            Expect::State(state) => breaker.state() == state && snapshot.state() == state,
            Expect::Permitted(permitted) => seen.permitted == Some(permitted),
            Expect::RetryAfterMs(ms) => {
                let wait = seen.rejected.and_then(|rejected| rejected.retry_after());
                wait.map(|wait| wait.as_millis() as u64) == ms
            }
            Expect::IllegalTransition => {
                may_be_illegal = true;
                seen.illegal
            }
            Expect::TripReason(reason) => {
                let of_rejection = seen.rejected.map(|rejected| rejected.reason());
                snapshot.trip().map(|trip| trip.reason()) == reason && of_rejection.is_none_or(|it| it == reason)
            }
            Expect::Count(which, expected) => same(expected, count(&snapshot, which)),
            Expect::Event(which, expected) => same(expected, Some(events.0[which as usize].load(Relaxed).into())),
            Expect::BuildError(error) => !error,
        };
        if !holds {
            return Err(("it is not so", Some(expect)));
        }
    }
    if seen.illegal && !may_be_illegal { Err(("an illegal transition", None)) } else { Ok(()) }
}

fn count(snapshot: &Snapshot, which: Count) -> Option<f64> {
    let window = snapshot.window();
    let count = match which {
        Count::Buffered => Some(window.total()),
        Count::Failed => Some(window.failed()),
        Count::Succeeded => Some(window.succeeded()),
        Count::Slow => window.slow(),
        Count::ConsecutiveFailures => snapshot.consecutive_failures(),
        Count::FailureRate => return window.failure_rate(),
        Count::SlowRate => return window.slow_call_rate(),
    };
    count.map(|count| count as f64)
}

/// Numbers are equal to 0.01, as far as the cases give them.
fn same(expected: Option<f64>, got: Option<f64>) -> bool {
    match (expected, got) {
        (Some(expected), Some(got)) => (-0.01..=0.01).contains(&(expected - got)),
        (expected, got) => expected.is_none() && got.is_none(),
    }
}
