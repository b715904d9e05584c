//! More threads than cores on one breaker, of every policy: what must add up does, whatever the schedule was.
//!
//! Inputs are seeded, time is the test's own. `FAILFAST_STRESS=<factor>` runs longer (or shorter: 0.1).

#![cfg(all(feature = "std", not(failfast_loom)))]

use std::array::from_fn;
use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::hint::spin_loop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use failfast::{
    CircuitBreaker, Consecutive, CountWindow, Generation, IntoPolicy, LastCalls, LastTime, ManualClock, Observer,
    OnMaxWait, Outcome, Permit, Policy, Rejected, Rule, Settled, SettledCall, Snapshot, Span, State, TimeWindow,
    Transition, WouldTrip,
};

const THREADS: u32 = 6;
const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);

fn rounds(usual: u32) -> u32 {
    let factor = match std::env::var("FAILFAST_STRESS") {
        Ok(factor) => factor.parse().expect("FAILFAST_STRESS is a factor"),
        Err(_) if cfg!(debug_assertions) => 0.2,
        Err(_) => 1.0,
    };
    ((f64::from(usual) * factor) as u32).max(1)
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u32) -> u32 {
        (self.next() % u64::from(end)) as u32
    }

    fn one_in(&mut self, times: u32) -> bool {
        self.below(times) == 0
    }
}

/// One of the threads that run together.
struct Worker<'a> {
    thread: u32,
    random: Random,
    meeting: &'a Meeting,
}

impl Worker<'_> {
    /// Waits for all others. The last to come does `what`, while all others wait.
    fn meet(&self, what: impl FnOnce()) {
        self.meeting.wait(what);
    }

    fn leads(&self) -> bool {
        self.thread == 0
    }
}

/// Where threads wait for each other. They spin: a futex would let them go one after another.
#[derive(Default)]
struct Meeting {
    here: AtomicU32,
    held: AtomicU32,
    /// A thread has failed, and will not come.
    over: AtomicBool,
}

impl Meeting {
    fn wait(&self, what: impl FnOnce()) {
        let held = self.held.load(SeqCst);
        if self.here.fetch_add(1, SeqCst) + 1 == THREADS {
            what();
            self.here.store(0, SeqCst);
            self.held.fetch_add(1, SeqCst);
        }
        for spins in 1_u32.. {
            if self.held.load(SeqCst) != held {
                return;
            }
            assert!(!self.over.load(SeqCst), "another thread has failed");
            if spins % 64 == 0 { thread::yield_now() } else { spin_loop() }
        }
    }
}

fn together(seed: u64, work: impl Fn(&mut Worker) + Sync) {
    struct Failing<'a>(&'a AtomicBool);
    impl Drop for Failing<'_> {
        fn drop(&mut self) {
            self.0.fetch_or(thread::panicking(), SeqCst);
        }
    }
    let (meeting, work) = (&Meeting::default(), &work);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || {
                let _failing = Failing(&meeting.over);
                let random = Random(seed << 32 | u64::from(thread));
                meeting.wait(|| ());
                work(&mut Worker { thread, random, meeting });
            });
        }
    });
}

/// All breakers count their generations alike, so that another breaker's say how far apart two are.
fn ordinal(generation: Generation) -> usize {
    static ORDINALS: LazyLock<HashMap<Generation, usize>> = LazyLock::new(|| {
        let breaker = CircuitBreaker::builder().clock(ManualClock::new()).build().unwrap();
        let next = |ordinal| {
            let generation = breaker.snapshot().generation();
            breaker.reset();
            (generation, ordinal)
        };
        (0..GENERATIONS).map(next).collect()
    });
    *ORDINALS.get(&generation).expect("a chaos is too long")
}

const GENERATIONS: usize = 100_000;

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Success,
    Failure,
    Ignored,
    OpenFor,
    Cancelled,
}

const ENDS: usize = 5;

impl End {
    fn of(settled: Settled) -> Self {
        match settled {
            Settled::With(Outcome::Success) => Self::Success,
            Settled::With(Outcome::Failure) => Self::Failure,
            Settled::With(Outcome::Ignored) => Self::Ignored,
            Settled::With(Outcome::OpenFor(_)) => Self::OpenFor,
            Settled::Cancelled => Self::Cancelled,
            other => panic!("{other:?}"),
        }
    }

    fn is_neutral(self) -> bool {
        matches!(self, Self::Ignored | Self::Cancelled)
    }
}

/// A number for each way in which a call ends.
#[derive(Default)]
struct Ends([AtomicU64; ENDS]);

impl Ends {
    fn add(&self, end: End) {
        self.0[end as usize].fetch_add(1, SeqCst);
    }

    fn all(&self) -> [u64; ENDS] {
        from_fn(|end| self.0[end].load(SeqCst))
    }
}

/// Counts what it is told, and makes trouble if asked to: looks at the breaker, calls it, panics.
#[derive(Default)]
struct Watch {
    transitions: Mutex<Vec<Transition>>,
    counted: Ends,
    stragglers: Ends,
    rejected: AtomicU64,
    would_trip: AtomicU64,
    told: AtomicU32,
    panics_each: Option<u32>,
    panics: AtomicU32,
    reenter: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

impl Watch {
    fn act(&self) {
        if let Some(each) = self.panics_each {
            if self.told.fetch_add(1, SeqCst) % each == each - 1 {
                self.panics.fetch_add(1, SeqCst);
                // No hook prints this one.
                resume_unwind(Box::new("on purpose"));
            }
        }
    }
}

impl Observer for Watch {
    fn on_transition(&self, transition: &Transition) {
        self.transitions.lock().unwrap().push(*transition);
        self.reenter.get().inspect(|reenter| reenter());
        self.act();
    }

    fn on_rejected(&self, rejected: &Rejected) {
        check_rejected(rejected);
        self.rejected.fetch_add(1, SeqCst);
        self.act();
    }

    fn on_outcome(&self, call: &SettledCall) {
        let ends = if call.counted() { &self.counted } else { &self.stragglers };
        ends.add(End::of(call.settled()));
        self.act();
    }

    fn on_would_trip(&self, _: &WouldTrip) {
        self.would_trip.fetch_add(1, SeqCst);
        self.act();
    }
}

type Breaker<P> = CircuitBreaker<P, Arc<ManualClock>, Arc<Watch>>;
type Owned<P> = Permit<Arc<Breaker<P>>>;

fn check_rejected(rejected: &Rejected) {
    let (reason, wait) = match rejected.state() {
        State::Open => (true, true),
        State::HalfOpen => (true, false),
        State::ForcedOpen => (false, false),
        state => panic!("rejected while {state}"),
    };
    assert_eq!((rejected.reason().is_some(), rejected.retry_after().is_some()), (reason, wait), "{rejected}");
}

fn check_snapshot(snapshot: &Snapshot, policies: usize, probes: u32) {
    let state = snapshot.state();
    let windows: Vec<_> = snapshot.windows().collect();
    match state {
        State::Closed | State::MetricsOnly => assert_eq!(windows.len(), policies, "{snapshot}"),
        State::Open | State::HalfOpen => assert!([0, policies].contains(&windows.len()), "{snapshot}"),
        _ => assert!(windows.is_empty(), "{snapshot}"),
    }
    assert_eq!(snapshot.trip().is_some(), matches!(state, State::Open | State::HalfOpen), "{snapshot}");
    assert_eq!(snapshot.retry_after().is_some(), state == State::Open, "{snapshot}");
    assert_eq!(snapshot.probes().is_some(), state == State::HalfOpen, "{snapshot}");
    if let Some(seen) = snapshot.probes() {
        assert!(seen.admitted() <= probes && seen.succeeded() + seen.failed() <= seen.admitted(), "{snapshot}");
    }
    for window in windows {
        assert!(window.failed() <= window.total() && window.slow().is_none_or(|slow| slow <= window.total()));
        if let Span::Calls(calls) = window.span() {
            assert!(window.total() <= u64::from(calls), "{snapshot}");
        }
    }
}

/// The ways to make a call that ends as `end`. Gives whether it was admitted.
fn call<P: Policy>(breaker: &Breaker<P>, random: &mut Random, end: End) -> bool {
    let classify = |_: &Result<(), ()>| match end {
        End::Success => Outcome::Success,
        End::Failure => Outcome::Failure,
        End::OpenFor => Outcome::OpenFor(Some(20 * MILLI)),
        End::Ignored | End::Cancelled => Outcome::Ignored,
    };
    let context = &mut Context::from_waker(Waker::noop());
    let panicking = end == End::Failure && random.one_in(2);
    match random.below(4) {
        0 if end != End::Cancelled => {
            let run = || if panicking { resume_unwind(Box::new("on purpose")) } else { Ok(()) };
            match catch_unwind(AssertUnwindSafe(|| breaker.call_with(classify, run))) {
                Ok(result) => result.is_ok(),
                Err(_) => true,
            }
        }
        1 => {
            // Pending once, then dropped, or ready, or it panics.
            let mut polls = 0;
            let running = poll_fn(move |_| {
                polls += 1;
                match polls {
                    1 => Poll::Pending,
                    _ if panicking => resume_unwind(Box::new("on purpose")),
                    _ => Poll::Ready(Ok(())),
                }
            });
            let mut future = Box::pin(breaker.call_async_with(classify, || running));
            let admitted = future.as_mut().poll(context).is_pending();
            if admitted && end != End::Cancelled {
                _ = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context).is_ready()));
            }
            admitted
        }
        _ => breaker.try_acquire().map(|permit| settle(permit, random, end)).is_ok(),
    }
}

fn settle<H>(permit: Permit<H>, random: &mut Random, end: End)
where
    H: std::ops::Deref,
    H::Target: failfast::Breaker,
{
    match end {
        End::Success => permit.success(),
        End::Failure => permit.failure(),
        End::Ignored => permit.ignore(),
        End::OpenFor => permit.open_for(20 * MILLI),
        End::Cancelled if random.one_in(2) => {
            let unwinding = || {
                let _permit = permit;
                resume_unwind(Box::new("on purpose"))
            };
            _ = catch_unwind(AssertUnwindSafe(unwinding)).map(|(): ()| ());
        }
        End::Cancelled => drop(permit),
    }
}

macro_rules! on_every {
    ($test:ident: $($name:ident = $policy:expr),+ $(,)?) => {
        mod $test {
            use super::*;

            $(#[test]
            fn $name() {
                super::$test($policy);
            })+
        }
    };
}

// Conservation: windows that hold all outcomes from one reset to the next, and never trip.

const SLOW: Duration = Duration::from_millis(10);

on_every! {
    every_outcome_is_counted_once_or_dropped_as_a_straggler:
    streak = Consecutive::new(u32::MAX),
    count_window = CountWindow::over(10_000).min_calls(10_000).failures(10_000).slow_calls(SLOW, 100.0),
    time_window = TimeWindow::over(SECOND, 100).stripes(1).min_calls(u32::MAX).slow_calls(SLOW, 100.0),
    striped_time_window = TimeWindow::over(SECOND, 50).stripes(3).min_calls(u32::MAX).slow_calls(SLOW, 100.0),
    inline_time_window = LastTime::<100, 2>::new(SECOND).min_calls(u32::MAX).slow_calls(SLOW, 100.0),
    tuple = (
        CountWindow::over(10_000).failures(10_000),
        Consecutive::new(u32::MAX),
        TimeWindow::over(SECOND, 100).min_calls(u32::MAX).slow_calls(SLOW, 100.0),
    ),
    boxed = vec![
        Rule::from(Consecutive::new(u32::MAX)),
        CountWindow::over(10_000).min_calls(10_000).slow_calls(SLOW, 100.0).into(),
        TimeWindow::over(SECOND, 100).stripes(1).failures(u32::MAX).into(),
    ],
}

/// What the windows must show.
#[derive(Default)]
struct Expected {
    succeeded: AtomicU64,
    failed: AtomicU64,
    slow: AtomicU64,
    streak: AtomicU64,
}

impl Expected {
    fn add(&self, end: End, slow: bool) {
        match end {
            End::Success => _ = self.succeeded.fetch_add(1, SeqCst),
            End::Failure => _ = self.failed.fetch_add(1, SeqCst),
            _ => return,
        }
        self.slow.fetch_add(u64::from(slow), SeqCst);
    }

    fn clear(&self) {
        [&self.succeeded, &self.failed, &self.slow, &self.streak].iter().for_each(|count| count.store(0, SeqCst));
    }

    /// The streak only where it does not depend on the order.
    fn check(&self, snapshot: &Snapshot, streak: bool) {
        let [succeeded, failed, slow] = [&self.succeeded, &self.failed, &self.slow].map(|count| count.load(SeqCst));
        for window in snapshot.windows() {
            match window.span() {
                Span::Streak if streak => assert_eq!(window.failed(), self.streak.load(SeqCst)),
                Span::Streak => {}
                _ => {
                    assert_eq!((window.succeeded(), window.failed()), (succeeded, failed), "{snapshot}");
                    assert!(window.slow().is_none_or(|seen| seen == slow), "{snapshot}, not {slow} slow");
                }
            }
        }
    }
}

fn every_outcome_is_counted_once_or_dropped_as_a_straggler<S: IntoPolicy + Clone>(policy: S)
where
    S::Policy: 'static,
{
    const CALLS: u32 = 60;
    for (seed, state) in [(1, State::Closed), (2, State::MetricsOnly)] {
        let (clock, watch) = (Arc::new(ManualClock::new()), Arc::new(Watch::default()));
        let builder = CircuitBreaker::builder().policy(policy.clone()).initial_state(state).clock(clock.clone());
        let breaker: Arc<Breaker<S::Policy>> = Arc::new(builder.observer(watch.clone()).build().unwrap());
        let policies = breaker.snapshot().windows().count();
        let expected = Expected::default();
        let (counted, stragglers) = (Ends::default(), Ends::default());
        let handed_on = Mutex::new(Vec::<(Owned<S::Policy>, End)>::new());
        let any = |random: &mut Random| match random.below(8) {
            0 => End::Ignored,
            1 => End::Cancelled,
            2..5 => End::Failure,
            _ => End::Success,
        };
        let settle_handed_on = |random: &mut Random| {
            let taken = handed_on.lock().unwrap().pop();
            if let Some((permit, end)) = taken {
                settle(permit, random, end);
            }
        };
        together(seed, |worker| {
            for round in 0..rounds(300) {
                let is_reset = round % 3 == 0;
                // Those that a reset makes stragglers, then those that become slow.
                let stale: Vec<_> = (0..8).map(|_| breaker.try_acquire().unwrap()).collect();
                worker.meet(|| {
                    if is_reset {
                        if state == State::Closed {
                            breaker.reset();
                        } else {
                            breaker.close();
                            breaker.metrics_only();
                        }
                        expected.clear();
                    }
                });
                let slow: Vec<_> = (0..8).map(|_| breaker.try_acquire().unwrap()).collect();
                worker.meet(|| clock.advance(SLOW + MILLI));
                let mut held: Vec<_> = stale.into_iter().map(|permit| (permit, is_reset)).collect();
                held.extend(slow.into_iter().map(|permit| (permit, false)));
                for number in 0..CALLS {
                    // Buckets turn in the middle of it, and no call is slow for that.
                    if worker.leads() && number % (CALLS / 4) == 0 {
                        clock.advance(MILLI);
                    }
                    let end = any(&mut worker.random);
                    if number % 3 == 0 {
                        if let Some((permit, is_straggler)) = held.pop() {
                            if is_straggler {
                                stragglers.add(end);
                            } else {
                                counted.add(end);
                                expected.add(end, true);
                            }
                            settle(permit, &mut worker.random, end);
                            continue;
                        }
                    }
                    counted.add(end);
                    expected.add(end, false);
                    if number % 7 == 1 {
                        let permit = breaker.try_acquire_owned().unwrap();
                        handed_on.lock().unwrap().push((permit, end));
                    } else {
                        assert!(call(&breaker, &mut worker.random, end));
                    }
                    if number % 5 == 1 {
                        settle_handed_on(&mut worker.random);
                    }
                    if number % 16 == 5 {
                        check_snapshot(&breaker.snapshot(), policies, 0);
                    }
                }
                assert!(held.is_empty());
                while !handed_on.lock().unwrap().is_empty() {
                    settle_handed_on(&mut worker.random);
                }
                worker.meet(|| {
                    expected.check(&breaker.snapshot(), false);
                    // From here on failures only: a streak that does not depend on the order.
                    breaker.try_acquire().unwrap().success();
                    counted.add(End::Success);
                    expected.add(End::Success, false);
                    expected.streak.store(0, SeqCst);
                });
                for _ in 0..CALLS / 4 {
                    let end = any(&mut worker.random);
                    let end = if end.is_neutral() { end } else { End::Failure };
                    counted.add(end);
                    expected.add(end, false);
                    expected.streak.fetch_add(u64::from(end == End::Failure), SeqCst);
                    assert!(call(&breaker, &mut worker.random, end));
                }
                worker.meet(|| {
                    expected.check(&breaker.snapshot(), true);
                    assert_eq!(watch.counted.all(), counted.all(), "counted, of {}", breaker.snapshot());
                    assert_eq!(watch.stragglers.all(), stragglers.all(), "stragglers");
                });
            }
        });
        assert_eq!((breaker.state(), watch.would_trip.load(SeqCst), breaker.observer_panics()), (state, 0, 0));
    }
}

on_every! {
    a_reset_leaves_nothing_of_calls_in_flight:
    streak = Consecutive::new(u32::MAX),
    small_count_window = CountWindow::over(5).failures(5),
    count_window = CountWindow::over(1000).failures(1000).slow_calls(SLOW, 100.0),
    time_window = TimeWindow::over(SECOND, 10).stripes(1).failures(u32::MAX).slow_calls(SLOW, 100.0),
    striped_time_window = TimeWindow::over(SECOND, 4).stripes(3).failures(u32::MAX),
    tuple = (Consecutive::new(u32::MAX), CountWindow::over(50).failures(50), LastTime::<4>::new(SECOND).failures(99)),
    boxed = vec![Rule::from(TimeWindow::over(SECOND, 4).failures(u32::MAX)), CountWindow::over(8).failures(8).into()],
}

/// Whenever it comes: they were all admitted before it.
fn a_reset_leaves_nothing_of_calls_in_flight<S: IntoPolicy>(policy: S) {
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::builder().policy(policy).clock(&clock).initial_state(State::MetricsOnly).build();
    let breaker = breaker.unwrap();
    together(13, |worker| {
        for round in 0..rounds(600) {
            worker.meet(|| if round % 2 == 0 { breaker.close() } else { breaker.metrics_only() });
            // Fewer than any threshold of a closed breaker in all.
            let calls = if round % 2 == 0 { u32::from(worker.thread < 4) } else { 9 };
            let held: Vec<_> = (0..calls).map(|_| breaker.try_acquire().unwrap()).collect();
            worker.meet(|| clock.advance(worker.thread % 2 * (SLOW + MILLI)));
            for (number, permit) in held.into_iter().enumerate() {
                if worker.leads() && number == 0 {
                    if round % 2 == 0 { breaker.reset() } else { breaker.close() }
                }
                permit.failure();
            }
            worker.meet(|| {
                let left: Vec<_> = breaker.snapshot().windows().map(|window| window.total()).collect();
                assert!(left.iter().all(|left| *left == 0), "{left:?} in round {round}");
                breaker.try_acquire().unwrap().failure();
                breaker.snapshot().windows().for_each(|window| assert_eq!((window.total(), window.failed()), (1, 1)));
            });
        }
    });
}

// The last N calls, exactly.

on_every! {
    a_count_window_that_has_gone_round_holds_exactly_the_last_calls:
    of_1 = (CountWindow::over(1).failures(1), 1),
    of_5 = (CountWindow::over(5).failures(5), 5),
    of_7 = (CountWindow::over(7).failures(7), 7),
    of_8 = (CountWindow::over(8).failures(8), 8),
    of_100 = (CountWindow::over(100).failures(100), 100),
    of_1000 = (CountWindow::over(1000).failures(1000), 1000),
    inline_64 = (LastCalls::<64>::new().failures(64), 64),
}

fn a_count_window_that_has_gone_round_holds_exactly_the_last_calls<S: IntoPolicy + Clone>((policy, size): (S, u32)) {
    for (seed, state) in [(3, State::Closed), (4, State::MetricsOnly)] {
        let builder = CircuitBreaker::builder().policy(policy.clone()).clock(ManualClock::new());
        let breaker = builder.initial_state(state).build().unwrap();
        // The calls that are left to make, whoever makes them.
        let left = AtomicI64::new(0);
        let before = |random: &mut Random| i64::from(size + random.below(size));
        let failures = |random: &mut Random| {
            let most = if state == State::Closed { size - 1 } else { size };
            i64::from(random.below(most + 1))
        };
        let failed = AtomicI64::new(0);
        together(seed, |worker| {
            let mut plot = Random(seed);
            let make = |worker: &mut Worker, calls: i64, outcome: Outcome| {
                worker.meet(|| left.store(calls, SeqCst));
                while left.fetch_sub(1, SeqCst) > 0 {
                    breaker.try_acquire().unwrap().settle(outcome);
                }
                worker.meet(|| ());
            };
            for _ in 0..rounds(20_000 / (size + 20)) {
                make(worker, before(&mut plot), Outcome::Success);
                let fails = failures(&mut plot);
                make(worker, fails, Outcome::Failure);
                worker.meet(|| {
                    failed.store(fails, SeqCst);
                    let window = breaker.snapshot().window();
                    assert_eq!((window.total(), window.failed()), (u64::from(size), fails as u64));
                });
                // So many successes push out nothing but successes, and one more the first failure.
                make(worker, i64::from(size) - fails, Outcome::Success);
                worker.meet(|| assert_eq!(breaker.snapshot().window().failed(), fails as u64));
                make(worker, fails.min(1), Outcome::Success);
                worker.meet(|| assert_eq!(breaker.snapshot().window().failed(), (fails - 1).max(0) as u64));
            }
        });
    }
}

// Probes.

/// Half-open, with the same probes each round.
fn probed(probes: u32, successes: u32) -> (Arc<ManualClock>, Arc<Watch>, Breaker<Consecutive>) {
    let (clock, watch) = (Arc::new(ManualClock::new()), Arc::new(Watch::default()));
    let builder = CircuitBreaker::builder().failures(1).probes(probes).successes(successes).clock(clock.clone());
    (clock, watch.clone(), builder.observer(watch).build().unwrap())
}

#[test]
fn a_half_open_period_admits_exactly_its_probes_and_ends_once() {
    for (seed, probes, successes) in [(5, 1, 1), (6, 2, 2), (7, 3, 2), (8, 20, 13)] {
        let (clock, watch, breaker) = probed(probes, successes);
        let admitted = AtomicU32::new(0);
        together(seed, |worker| {
            for round in 0..rounds(2_000) {
                worker.meet(|| {
                    breaker.open();
                    // Half-opened by the hand, or by whoever asks first.
                    if round % 2 == 0 {
                        breaker.half_open().unwrap()
                    } else {
                        clock.advance(30 * SECOND)
                    }
                    watch.transitions.lock().unwrap().clear();
                    admitted.store(0, SeqCst);
                });
                let mut held = Vec::new();
                let rejected = loop {
                    match breaker.try_acquire() {
                        Ok(permit) => held.push(permit),
                        Err(rejected) => break rejected,
                    }
                };
                assert_eq!(rejected.state(), State::HalfOpen);
                admitted.fetch_add(held.len() as u32, SeqCst);
                worker.meet(|| {
                    assert_eq!(admitted.load(SeqCst), probes);
                    assert_eq!(breaker.snapshot().probes().unwrap().admitted(), probes);
                });
                let end = if round % 3 == 0 { End::Failure } else { End::Success };
                held.into_iter().for_each(|permit| settle(permit, &mut worker.random, end));
                worker.meet(|| {
                    let then = if end == End::Success { State::Closed } else { State::Open };
                    assert_eq!(breaker.state(), then);
                    let seen: Vec<_> = watch.transitions.lock().unwrap().drain(..).map(|seen| seen.to()).collect();
                    let first = (round % 2 == 1).then_some(State::HalfOpen);
                    assert_eq!(seen, first.into_iter().chain([then]).collect::<Vec<_>>());
                    breaker.close();
                });
            }
        });
    }
}

#[test]
fn a_probes_place_that_is_given_back_is_free_again_and_only_once() {
    for (seed, probes) in [(9, 1), (10, 2), (11, 5)] {
        let (_, _, breaker) = probed(probes, probes);
        let running = AtomicI64::new(0);
        together(seed, |worker| {
            for _ in 0..rounds(200) {
                worker.meet(|| {
                    breaker.close();
                    breaker.open();
                    breaker.half_open().unwrap();
                });
                for _ in 0..50 {
                    if let Ok(permit) = breaker.try_acquire() {
                        assert!(running.fetch_add(1, SeqCst) < i64::from(probes), "more than {probes} probes");
                        let end = if worker.random.one_in(2) { End::Ignored } else { End::Cancelled };
                        running.fetch_sub(1, SeqCst);
                        settle(permit, &mut worker.random, end);
                    }
                }
                worker.meet(|| {
                    let free: Vec<_> = (0..=probes).map_while(|_| breaker.try_acquire().ok()).collect();
                    assert_eq!(free.len() as u32, probes, "{}", breaker.snapshot());
                    free.into_iter().for_each(|permit| permit.success());
                    assert_eq!(breaker.state(), State::Closed);
                });
            }
        });
    }
}

#[test]
fn a_place_given_back_as_its_period_ends_is_none_of_the_next() {
    let (clock, _, breaker) = probed(THREADS, 1);
    together(14, |worker| {
        for round in 0..rounds(4_000) {
            worker.meet(|| {
                breaker.open();
                breaker.half_open().unwrap();
            });
            let place = breaker.try_acquire().unwrap();
            worker.meet(|| ());
            if worker.leads() {
                match round % 3 {
                    0 => drop(breaker.try_acquire()),
                    1 => breaker.open(),
                    _ => clock.advance(60 * SECOND),
                }
                // Renewed, or half-opened again.
                _ = breaker.half_open();
                _ = breaker.try_acquire();
            }
            let end = if worker.random.one_in(2) { End::Ignored } else { End::Cancelled };
            settle(place, &mut worker.random, end);
            worker.meet(|| {
                let free: Vec<_> = (0..=THREADS).map_while(|_| breaker.try_acquire().ok()).collect();
                assert_eq!(free.len() as u32, THREADS, "{}", breaker.snapshot());
                assert_eq!(breaker.snapshot().probes().unwrap().admitted(), THREADS);
            });
        }
    });
}

#[test]
fn of_threads_that_trip_at_once_one_does_and_tells_of_it() {
    let (_, watch, breaker) = probed(1, 1);
    together(12, |worker| {
        for _ in 0..rounds(5_000) {
            let permit = breaker.try_acquire().unwrap();
            worker.meet(|| watch.transitions.lock().unwrap().clear());
            permit.failure();
            worker.meet(|| {
                let seen = watch.transitions.lock().unwrap().clone();
                assert_eq!(
                    seen.iter().map(|seen| (seen.from(), seen.to())).collect::<Vec<_>>(),
                    [(State::Closed, State::Open)]
                );
                breaker.close();
            });
        }
    });
}

// All at once.

on_every! {
    a_chaos_keeps_one_chain_of_generations_and_recovers:
    streak = Consecutive::new(3),
    count_window_of_1 = CountWindow::over(1).failures(1),
    small_count_window = CountWindow::over(5).failures(3),
    large_count_window = CountWindow::over(1000).min_calls(30).failure_rate(40.0).slow_calls(SLOW, 60.0),
    inline_count_window = LastCalls::<64>::new().min_calls(10).failure_rate(50.0),
    time_window = TimeWindow::over(SECOND, 10).stripes(1).min_calls(10).failure_rate(40.0),
    striped_time_window = TimeWindow::over(SECOND, 4).stripes(3).min_calls(10).failure_rate(40.0).slow_calls(SLOW, 60.0),
    one_bucket = LastTime::<1>::new(100 * MILLI).failures(8),
    tuple = (Consecutive::new(4), CountWindow::over(20).failures(9), TimeWindow::over(SECOND, 10).failures(30)),
    boxed = vec![
        Rule::from(TimeWindow::over(SECOND, 10).min_calls(10).failure_rate(50.0)),
        Consecutive::new(5).into(),
        CountWindow::over(100).min_calls(10).slow_calls(SLOW, 50.0).into(),
    ],
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Hand {
    None,
    /// All that an operator can do, but to disable it: a disabled breaker tells of no outcome.
    Enabled,
    All,
}

fn a_chaos_keeps_one_chain_of_generations_and_recovers<S: IntoPolicy + Clone>(policy: S)
where
    S::Policy: 'static,
{
    let mut trips = 0;
    for seed in 0..u64::from(rounds(200).max(6)) {
        let hand = [Hand::None, Hand::Enabled, Hand::All][(seed % 3) as usize];
        let on_max_wait = [OnMaxWait::Open, OnMaxWait::Renew, OnMaxWait::Close][(seed % 4 % 3) as usize];
        trips += Chaos::new(policy.clone(), hand, on_max_wait, seed).run(seed);
    }
    assert!(trips > 20, "{trips} trips are no chaos");
}

struct Chaos<P: Policy> {
    clock: Arc<ManualClock>,
    watch: Arc<Watch>,
    breaker: Arc<Breaker<P>>,
    hand: Hand,
    on_max_wait: OnMaxWait,
    policies: usize,
    settled: Arc<Ends>,
    rejected: Arc<AtomicU64>,
    resets: AtomicU64,
    /// By generation: how many probes it has admitted that did not give their place back.
    probes: Vec<AtomicI64>,
    handed_on: Mutex<Vec<Held<P>>>,
}

struct Held<P: Policy> {
    permit: Owned<P>,
    end: End,
    /// Of a probe, where that is certain.
    generation: Option<usize>,
}

impl<P: Policy + 'static> Chaos<P> {
    const PROBES: u32 = 3;

    fn new<S: IntoPolicy<Policy = P>>(policy: S, hand: Hand, on_max_wait: OnMaxWait, seed: u64) -> Self {
        let panics_each = (seed % 2 == 1).then_some(7);
        let (clock, watch) = (Arc::new(ManualClock::new()), Arc::new(Watch { panics_each, ..Watch::default() }));
        let builder = CircuitBreaker::builder().policy(policy).probes(Self::PROBES).successes(2);
        let builder = builder.open_for(100 * MILLI).backoff(1.5).max_open(SECOND).jitter(20.0).seed(seed);
        let builder = builder.max_wait(300 * MILLI).on_max_wait(on_max_wait).clock(clock.clone());
        let breaker: Arc<Breaker<P>> = Arc::new(builder.observer(watch.clone()).build().unwrap());
        let policies = breaker.snapshot().windows().count();
        let rejected = Arc::new(AtomicU64::new(0));
        let settled = Arc::new(Ends::default());
        let (inside, refused, dropped) = (Arc::downgrade(&breaker), rejected.clone(), settled.clone());
        let reenter = move || {
            let Some(breaker) = inside.upgrade() else { return };
            check_snapshot(&breaker.snapshot(), policies, Self::PROBES);
            match breaker.try_acquire() {
                Ok(_permit) => dropped.add(End::Cancelled),
                Err(_) => _ = refused.fetch_add(1, SeqCst),
            }
        };
        assert!(watch.reenter.set(Box::new(reenter)).is_ok());
        Self {
            clock,
            watch,
            breaker,
            hand,
            on_max_wait,
            policies,
            settled,
            rejected,
            resets: AtomicU64::new(0),
            probes: (0..GENERATIONS).map(|_| AtomicI64::new(0)).collect(),
            handed_on: Mutex::default(),
        }
    }

    /// Gives the number of trips.
    fn run(self, seed: u64) -> usize {
        together(100 + seed, |worker| {
            let mut held = Vec::new();
            for number in 0..1_500 {
                // Outages come and go.
                let failures = [10, 80][number / 250 % 2];
                self.step(&mut worker.random, failures, &mut held);
            }
            held.into_iter().for_each(|held| self.settle(&mut worker.random, held));
        });
        let mut random = Random(seed);
        self.handed_on.lock().unwrap().drain(..).for_each(|held| self.settle(&mut random, held));
        self.check_told();
        let trips = self.check_chain();
        self.check_recovery();
        trips
    }

    fn step(&self, random: &mut Random, failures: u32, held: &mut Vec<Held<P>>) {
        let end = match random.below(100) {
            0..5 => End::Ignored,
            5..10 => End::Cancelled,
            10 => End::OpenFor,
            _ if random.below(100) < failures => End::Failure,
            _ => End::Success,
        };
        match random.below(100) {
            0..40 => {
                if call(&self.breaker, random, end) {
                    self.settled.add(end);
                } else {
                    self.rejected.fetch_add(1, SeqCst);
                }
            }
            40..70 => {
                if let Some(new) = self.acquire(end) {
                    match random.below(4) {
                        0 => held.push(new),
                        1 => self.handed_on.lock().unwrap().push(new),
                        _ => self.settle(random, new),
                    }
                }
            }
            70..80 => {
                let from = if random.one_in(2) { None } else { self.handed_on.lock().unwrap().pop() };
                if let Some(held) = from.or_else(|| held.pop()) {
                    self.settle(random, held);
                }
            }
            80..90 => match random.below(20) {
                0 => self.clock.step_back(50 * MILLI),
                1 => self.clock.advance(400 * MILLI),
                2..6 => self.clock.advance(60 * MILLI),
                6..12 => self.clock.advance(11 * MILLI),
                _ => self.clock.advance(MILLI),
            },
            90..98 => {
                check_snapshot(&self.breaker.snapshot(), self.policies, Self::PROBES);
                _ = self.breaker.state();
            }
            _ => self.by_hand(random),
        }
    }

    fn by_hand(&self, random: &mut Random) {
        let breaker = &self.breaker;
        if self.hand == Hand::None {
            return;
        }
        match random.below(16) {
            0..2 => breaker.open(),
            2..4 => breaker.open_for(50 * MILLI),
            4..9 => breaker.close(),
            9..11 => {
                self.resets.fetch_add(1, SeqCst);
                breaker.reset();
            }
            11..13 => {
                let illegal = breaker.half_open().err().map(|error| error.from());
                assert!(illegal.is_none_or(|from| !matches!(from, State::Open | State::HalfOpen)));
            }
            13 => breaker.force_open(),
            14 => breaker.metrics_only(),
            _ if self.hand == Hand::All => breaker.disable(),
            _ => breaker.close(),
        }
    }

    /// A probe's generation is certain if it did not change around the asking.
    fn acquire(&self, end: End) -> Option<Held<P>> {
        let before = self.breaker.snapshot().generation();
        let Ok(permit) = self.breaker.try_acquire_owned() else {
            self.rejected.fetch_add(1, SeqCst);
            return None;
        };
        let after = self.breaker.snapshot();
        let is_certain = after.state() == State::HalfOpen && after.generation() == before;
        let generation = is_certain.then(|| ordinal(before));
        if let Some(generation) = generation {
            let admitted = self.probes[generation].fetch_add(1, SeqCst) + 1;
            assert!(admitted <= i64::from(Self::PROBES), "{admitted} probes of one half-open period");
        }
        Some(Held { permit, end, generation })
    }

    fn settle(&self, random: &mut Random, Held { permit, end, generation }: Held<P>) {
        if let Some(generation) = generation.filter(|_| end.is_neutral()) {
            // Before its place is free.
            self.probes[generation].fetch_sub(1, SeqCst);
        }
        self.settled.add(end);
        settle(permit, random, end);
    }

    fn check_told(&self) {
        let watch = &self.watch;
        assert_eq!(watch.rejected.load(SeqCst), self.rejected.load(SeqCst), "rejections");
        assert_eq!(self.breaker.observer_panics(), watch.panics.load(SeqCst));
        let (counted, stragglers) = (watch.counted.all(), watch.stragglers.all());
        let (told, settled) = (from_fn::<_, ENDS, _>(|end| counted[end] + stragglers[end]), self.settled.all());
        if self.hand == Hand::All {
            assert!(told.iter().zip(settled).all(|(told, settled)| *told <= settled), "{told:?} of {settled:?}");
        } else {
            assert_eq!(told, settled, "outcomes");
        }
    }

    /// Each transition was told once, and begins where the one before has ended. Generations between two of them were
    /// resets of a closed breaker or renewals of a half-open one.
    fn check_chain(&self) -> usize {
        let mut chain = self.watch.transitions.lock().unwrap().clone();
        let distinct: HashSet<_> = chain.iter().map(|transition| transition.generation()).collect();
        assert_eq!(distinct.len(), chain.len(), "a transition was told twice");
        chain.sort_by_key(|transition| ordinal(transition.generation()));
        let (mut state, mut generation, mut resets) = (State::Closed, 0, 0);
        let mut skip = |state: State, skipped: usize| match state {
            State::Closed => resets += skipped as u64,
            State::HalfOpen if self.on_max_wait == OnMaxWait::Renew => {}
            _ => assert_eq!(skipped, 0, "a transition from {state} was not told"),
        };
        for transition in &chain {
            let next = ordinal(transition.generation());
            assert_eq!(transition.from(), state, "{transition} in generation {next}");
            assert_ne!(transition.from(), transition.to());
            assert_eq!(transition.trip().is_some(), transition.to() == State::Open, "{transition}");
            skip(state, next - generation - 1);
            (state, generation) = (transition.to(), next);
        }
        let last = self.breaker.snapshot();
        skip(state, ordinal(last.generation()) - generation);
        assert!(resets <= self.resets.load(SeqCst), "{resets} unexplained generations");
        // What time alone has made of it is not yet a transition.
        let by_time = matches!(state, State::Open | State::HalfOpen);
        assert!(last.state() == state || by_time, "{last} after {state}");
        chain.iter().filter(|transition| transition.from() == State::Closed).count()
    }

    /// Nothing is in flight, and nothing was lost: it closes as one that has seen nothing, and its windows are whole.
    fn check_recovery(&self) {
        let breaker = &self.breaker;
        if matches!(breaker.state(), State::ForcedOpen | State::Disabled | State::MetricsOnly) {
            breaker.open();
        }
        self.clock.advance(HOUR);
        // A closed one may trip by the next success, which completes `min_calls`: it is well as it is.
        let mut calls = 0;
        while breaker.state() != State::Closed {
            breaker.try_acquire().unwrap_or_else(|rejected| panic!("{rejected}")).success();
            calls += 1;
        }
        assert!(calls <= 2, "{calls} calls to recover");

        breaker.open();
        breaker.half_open().unwrap();
        let free: Vec<_> = (0..=Self::PROBES).map_while(|_| breaker.try_acquire().ok()).collect();
        assert_eq!(free.len() as u32, Self::PROBES, "{}", breaker.snapshot());
        free.into_iter().for_each(|permit| permit.success());
        assert_eq!(breaker.state(), State::Closed);

        breaker.metrics_only();
        (0..3).for_each(|_| breaker.try_acquire().unwrap().failure());
        for window in breaker.snapshot().windows() {
            let seen = if let Span::Calls(calls) = window.span() { calls.min(3) } else { 3 };
            assert_eq!((window.total(), window.failed()), (u64::from(seen), u64::from(seen)));
        }
    }
}
