//! Mistakes that other breakers have made, each with the crate or library that made it and a test that this one does
//! not. Our own are in `regressions.rs`, which also has: a probe that a cancelled future leaks (Resilience4j,
//! opossum), in `a_cancelled_probe_gives_its_place_back_or_fails`.

#![cfg(all(feature = "std", not(failfast_loom)))]

mod preempted;

use std::mem::needs_drop;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;

use failfast::{
    CircuitBreaker, Consecutive, CountWindow, IntoPolicy, LastCalls, LastTime, ManualClock, Observer, OnMaxWait,
    Outcome, Reason, Rejected, SettledCall, State, TimeWindow, Transition,
};
use preempted::Preempted;

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

type Manual<'a, P = Consecutive> = CircuitBreaker<P, &'a ManualClock>;

fn breaker<S: IntoPolicy>(policy: S, clock: &ManualClock) -> Manual<'_, S::Policy> {
    CircuitBreaker::builder().policy(policy).clock(clock).build().unwrap()
}

fn half_open(clock: &ManualClock, probes: u32) -> Manual<'_> {
    let builder = CircuitBreaker::builder().failures(1).probes(probes).successes(probes).clock(clock);
    let breaker = builder.build().unwrap();
    breaker.open();
    breaker.half_open().unwrap();
    breaker
}

/// Asks until it is rejected, and at most 100,000 times; gives how many were admitted. All permits are leaked.
fn admitted<P: failfast::Policy>(breaker: &Manual<P>) -> u32 {
    let ask = || breaker.try_acquire().map(std::mem::forget);
    (0..100_000).take_while(|_| ask().is_ok()).count() as u32
}

/// circuitbreaker-rs: load, compare, subtract.
#[test]
fn the_last_place_is_not_given_to_two_probes() {
    for by_hand in [true, false] {
        for reading in 0.. {
            let clock = Arc::new(Preempted::default());
            let builder = CircuitBreaker::builder().failures(1).probes(1).successes(1).clock(clock.clone());
            let breaker = Arc::new(builder.build().unwrap());
            breaker.open();
            if by_hand {
                breaker.half_open().unwrap()
            } else {
                clock.time.advance(30 * SECOND)
            }
            let (admitted, inside) = (Arc::new(AtomicU32::new(0)), breaker.clone());
            let count = admitted.clone();
            let ask =
                move || _ = inside.try_acquire().map(|permit| (count.fetch_add(1, SeqCst), std::mem::forget(permit)));
            *clock.other.lock().unwrap() = Some((reading, Box::new(ask.clone())));
            ask();
            assert_eq!(admitted.load(SeqCst), 1);
            if clock.other.lock().unwrap().take().is_some() {
                assert!(reading > 0, "the clock was not read");
                break;
            }
        }
    }
}

/// circuitbreaker-rs: a count of free places that goes below 0 and is then 4 billion.
#[test]
fn places_given_back_late_or_after_the_verdict_are_not_free_twice() {
    let clock = ManualClock::new();
    let breaker = half_open(&clock, 3);
    let stale: Vec<_> = (0..3).map(|_| breaker.try_acquire().unwrap()).collect();
    clock.advance(60 * SECOND);
    let renewed = breaker.try_acquire().unwrap();
    drop(stale);
    assert_eq!(admitted(&breaker), 2);
    drop(renewed);
    assert_eq!(admitted(&breaker), 1);

    let breaker = half_open(&clock, 3);
    let [failed, ignored, dropped] = [(); 3].map(|()| breaker.try_acquire().unwrap());
    failed.failure();
    assert_eq!(breaker.state(), State::Open);
    ignored.ignore();
    drop(dropped);
    breaker.half_open().unwrap();
    assert_eq!(admitted(&breaker), 3);
}

/// circuitbreaker-rs, mx-core: whoever saw the new state with the old time did not wait, or waited for ever.
#[test]
fn an_opening_is_never_seen_without_its_end() {
    struct Look(Mutex<Vec<Option<Duration>>>, Mutex<Weak<Watched>>);
    type Watched = CircuitBreaker<Consecutive, ManualClock, Look>;
    impl Observer for Look {
        fn on_transition(&self, transition: &Transition) {
            let breaker = self.1.lock().unwrap().upgrade().unwrap();
            if transition.to() == State::Open {
                // On another thread, which has seen nothing but the gate.
                let seen = thread::scope(|scope| scope.spawn(|| breaker.snapshot()).join().unwrap());
                assert_eq!(seen.retry_after(), breaker.try_acquire().unwrap_err().retry_after());
                self.0.lock().unwrap().push(seen.retry_after());
            }
        }
    }
    let clock = ManualClock::new();
    clock.advance(20 * YEAR);
    let look = Look(Mutex::default(), Mutex::default());
    let builder = CircuitBreaker::builder().failures(1).probes(1).successes(1).backoff(2.0);
    let breaker = Arc::new(builder.clock(clock).observer(look).build().unwrap());
    *breaker.observer().1.lock().unwrap() = Arc::downgrade(&breaker);
    breaker.try_acquire().unwrap().failure();
    for _ in 0..2 {
        breaker.half_open().unwrap();
        breaker.try_acquire().unwrap().failure();
    }
    assert_eq!(*breaker.observer().0.lock().unwrap(), [30, 60, 120].map(|seconds| Some(seconds * SECOND)));
    assert_eq!(breaker.observer_panics(), 0);
}

/// nobreak, ferryman.
#[test]
fn a_late_failure_does_not_extend_the_open_time() {
    let clock = ManualClock::new();
    let breaker = breaker(Consecutive::new(1), &clock);
    let [first, late, asked, panicked] = [(); 4].map(|()| breaker.try_acquire().unwrap());
    first.failure();
    clock.advance(20 * SECOND);
    late.failure();
    asked.open_for(HOUR);
    drop(panicked);
    assert_eq!(breaker.snapshot().retry_after(), Some(10 * SECOND));
    clock.advance(10 * SECOND);
    assert_eq!(breaker.state(), State::HalfOpen);
}

/// recloser: a pin held across the user's call keeps what was retired since from being freed.
#[test]
fn a_call_in_flight_keeps_no_garbage() {
    // There is nothing to free, and so nothing to defer.
    assert!(!needs_drop::<CircuitBreaker<(Consecutive, (LastCalls<100>, LastTime<10>)), ManualClock>>());

    let clock = ManualClock::new();
    let breaker = breaker(LastCalls::<10>::new().failures(3), &clock);
    let outer = breaker.call(|| {
        for _ in 0..10_000 {
            (0..3).for_each(|_| breaker.try_acquire().unwrap().failure());
            assert_eq!(breaker.state(), State::Open);
            breaker.close();
        }
        Err::<(), _>("late")
    });
    assert!(outer.is_err());
    assert_eq!(breaker.snapshot().window().total(), 0);
}

/// failsafe: a window shorter than its clock's tick has 0 of them.
#[test]
fn a_window_however_short_is_an_error_or_a_window() {
    let mut built = 0;
    for nanos in (0..=18).flat_map(|power| [(1 << power) - 1, 1 << power, 100 << power]) {
        for buckets in [1, 2, 10, 1000, 65_535] {
            let clock = ManualClock::new();
            let length = Duration::from_nanos(nanos);
            let policy = TimeWindow::over(length, buckets).failures(2);
            let Ok(breaker) = CircuitBreaker::builder().policy(policy).clock(&clock).build() else { continue };
            built += 1;
            breaker.try_acquire().unwrap().failure();
            clock.advance(length);
            assert_eq!(breaker.snapshot().window().total(), 0);
            (0..2).for_each(|_| breaker.try_acquire().unwrap().failure());
            assert_eq!(breaker.state(), State::Open, "{length:?} in {buckets} buckets");
        }
    }
    assert!(built > 10);
}

/// tower-resilience.
#[test]
fn time_does_not_undo_what_the_hand_has_forced() {
    for on_max_wait in [OnMaxWait::Renew, OnMaxWait::Open, OnMaxWait::Close] {
        let clock = ManualClock::new();
        let builder = CircuitBreaker::builder().failures(1).on_max_wait(on_max_wait).clock(&clock);
        let breaker = builder.build().unwrap();
        // From each of: closed, open, open with its wait over, half-open.
        for from in 0..4 {
            breaker.close();
            if from > 0 {
                breaker.open();
            }
            if from > 1 {
                clock.advance(30 * SECOND);
            }
            let probe = (from > 2).then(|| breaker.try_acquire().unwrap());
            breaker.force_open();
            clock.advance(30 * SECOND);
            assert!(breaker.try_acquire().is_err());
            probe.into_iter().for_each(|probe| probe.success());
            clock.advance(YEAR);
            assert_eq!(breaker.try_acquire().unwrap_err().state(), State::ForcedOpen);
            assert_eq!(breaker.state(), State::ForcedOpen);
        }
    }
}

/// failsafe, recloser, Stoplight, purgatory.
#[test]
fn half_open_does_not_admit_everyone() {
    for probes in [1, 2, 3, 100] {
        let clock = ManualClock::new();
        let breaker = half_open(&clock, probes);
        assert_eq!(admitted(&breaker), probes);
        breaker.open();
        clock.advance(30 * SECOND);
        assert_eq!(admitted(&breaker), probes);
    }
}

/// Resilience4j, opossum: half-open for good, since a probe never came back.
#[test]
fn a_probe_that_never_ends_does_not_keep_it_half_open() {
    for (on_max_wait, then) in
        [(OnMaxWait::Renew, State::HalfOpen), (OnMaxWait::Open, State::Open), (OnMaxWait::Close, State::Closed)]
    {
        let clock = ManualClock::new();
        let builder = CircuitBreaker::builder().failures(1).on_max_wait(on_max_wait).clock(&clock);
        let breaker = builder.build().unwrap();
        breaker.open();
        clock.advance(30 * SECOND);
        assert_eq!(admitted(&breaker), 2);
        clock.advance(60 * SECOND);
        assert_eq!(breaker.state(), then);
        clock.advance(30 * SECOND);
        while breaker.state() != State::Closed {
            breaker.try_acquire().unwrap().success();
        }
        assert!(breaker.try_acquire().is_ok());
    }
}

/// Resilience4j, Polly, Hystrix.
#[test]
fn stragglers_do_not_decide_recovery() {
    for outcome in [Outcome::Success, Outcome::Failure, Outcome::OpenFor(Some(HOUR)), Outcome::Ignored] {
        let clock = ManualClock::new();
        let breaker = breaker(Consecutive::new(1), &clock);
        let of_closed = [(); 3].map(|()| breaker.try_acquire().unwrap());
        breaker.open();
        breaker.half_open().unwrap();
        let of_earlier_probes = [(); 2].map(|()| breaker.try_acquire().unwrap());
        breaker.open();
        breaker.half_open().unwrap();
        let probes = [(); 2].map(|()| breaker.try_acquire().unwrap());
        let before = breaker.snapshot();
        of_closed.into_iter().chain(of_earlier_probes).for_each(|straggler| straggler.settle(outcome));
        assert_eq!(breaker.snapshot(), before, "{outcome:?}");
        probes.into_iter().for_each(|probe| probe.success());
        assert_eq!(breaker.state(), State::Closed);
    }
}

/// tower-resilience 0.14: after 1000 successes it takes 1001 failures.
#[test]
fn a_window_slides() {
    let clock = ManualClock::new();
    let breaker = breaker(CountWindow::over(1000).failure_rate(50.0), &clock);
    (0..1000).for_each(|_| breaker.try_acquire().unwrap().success());
    (0..499).for_each(|_| breaker.try_acquire().unwrap().failure());
    assert_eq!(breaker.state(), State::Closed);
    breaker.try_acquire().unwrap().failure();
    assert_eq!(breaker.state(), State::Open);
}

/// failsafe-go, Hystrix: 66.67 % is reported as 66, and 0.6 % as 1.
#[test]
fn a_rate_is_neither_rounded_nor_truncated() {
    for (failures, calls, percent, trips) in [
        (2, 3, 66.666_666, true),
        (2, 3, 66.666_667, false),
        (1, 3, 33.333_333, true),
        (1, 3, 33.333_334, false),
        (199, 200, 99.5, true),
        (199, 200, 99.500_001, false),
        (1, 1000, 0.1, true),
        (1, 1001, 0.1, false),
        (1, 100_000, 0.001, true),
        (1, 100_001, 0.001, false),
    ] {
        let clock = ManualClock::new();
        let check = |breaker: &dyn Fn(Outcome) -> State| {
            (failures..calls).for_each(|_| _ = breaker(Outcome::Success));
            (1..failures).for_each(|_| _ = breaker(Outcome::Failure));
            let then = if trips { State::Open } else { State::Closed };
            assert_eq!(breaker(Outcome::Failure), then, "{failures} of {calls} at {percent} %");
        };
        let count = breaker(CountWindow::over(200_000).min_calls(calls).failure_rate(percent), &clock);
        check(&|outcome| {
            count.try_acquire().unwrap().settle(outcome);
            count.state()
        });
        let time = breaker(TimeWindow::over(SECOND, 10).min_calls(calls).failure_rate(percent), &clock);
        check(&|outcome| {
            time.try_acquire().unwrap().settle(outcome);
            time.state()
        });
    }
}

/// failsafe-go: only a call ages the window.
#[test]
fn an_idle_hour_empties_a_time_window() {
    let clock = ManualClock::new();
    let breaker = breaker(TimeWindow::over(10 * SECOND, 10).min_calls(1).failures(3), &clock);
    (0..2).for_each(|_| breaker.try_acquire().unwrap().failure());
    assert_eq!(breaker.snapshot().window().failure_rate(), Some(100.0));
    clock.advance(HOUR);
    let window = breaker.snapshot().window();
    assert_eq!((window.total(), window.failed(), window.failure_rate()), (0, 0, None));
    breaker.try_acquire().unwrap().failure();
    assert_eq!((breaker.state(), breaker.snapshot().window().failed()), (State::Closed, 1));
}

/// gobreaker: a listener that asks the breaker anything deadlocks. Here each asks on another thread, and waits.
#[test]
fn no_listener_is_called_under_a_lock() {
    #[derive(Default)]
    struct Asks {
        breaker: Mutex<Weak<CircuitBreaker<Consecutive, ManualClock, Asks>>>,
        told: AtomicU32,
    }
    impl Asks {
        fn ask(&self) {
            // What it does itself is told too, and must end.
            if self.told.fetch_add(1, SeqCst) > 20 {
                return;
            }
            let breaker = self.breaker.lock().unwrap().upgrade().unwrap();
            let all = || {
                _ = (breaker.state(), breaker.snapshot(), breaker.observer_panics());
                _ = breaker.try_acquire();
                _ = breaker.call(|| Err::<(), _>(()));
                _ = breaker.half_open();
                breaker.open_for(SECOND);
                breaker.reset();
            };
            thread::scope(|scope| _ = scope.spawn(all).join());
        }
    }
    impl Observer for Asks {
        fn on_transition(&self, _: &Transition) {
            self.ask();
        }

        fn on_rejected(&self, _: &Rejected) {
            self.ask();
        }

        fn on_outcome(&self, _: &SettledCall) {
            self.ask();
        }
    }
    type Act = fn(&CircuitBreaker<Consecutive, ManualClock, Asks>);
    let acts: [Act; 3] = [
        |breaker| breaker.open(),
        |breaker| breaker.try_acquire().unwrap().failure(),
        |breaker| {
            breaker.observer().told.store(100, SeqCst);
            breaker.force_open();
            breaker.observer().told.store(0, SeqCst);
            assert!(breaker.try_acquire().is_err());
        },
    ];
    for act in acts {
        let builder = CircuitBreaker::builder().failures(1).clock(ManualClock::new()).observer(Asks::default());
        let breaker = Arc::new(builder.build().unwrap());
        *breaker.observer().breaker.lock().unwrap() = Arc::downgrade(&breaker);
        act(&breaker);
        assert!(breaker.observer().told.load(SeqCst) > 20);
        assert_eq!(breaker.observer_panics(), 0);
    }
}

/// A `fetch_add` on a packed word carries into the next field.
#[test]
fn the_most_probes_do_not_bleed_into_each_others_counts() {
    const MOST: u32 = 16_383;
    let clock = ManualClock::new();
    let builder = CircuitBreaker::builder().probes(MOST).successes(MOST / 2).clock(&clock);
    let breaker = builder.build().unwrap();
    breaker.open();
    breaker.half_open().unwrap();
    let generation = breaker.snapshot().generation();
    let mut probes: Vec<_> = (0..MOST).map(|_| breaker.try_acquire().unwrap()).collect();
    (0..100).for_each(|_| assert!(breaker.try_acquire().is_err()));
    let check = |admitted, succeeded, failed| {
        let snapshot = breaker.snapshot();
        let probes = snapshot.probes().unwrap();
        assert_eq!((probes.admitted(), probes.succeeded(), probes.failed()), (admitted, succeeded, failed));
        assert_eq!((snapshot.state(), snapshot.generation()), (State::HalfOpen, generation));
    };
    check(MOST, 0, 0);
    probes.drain(..MOST as usize / 2 - 1).for_each(|probe| probe.success());
    check(MOST, MOST / 2 - 1, 0);
    probes.drain(..MOST as usize - MOST as usize / 2).for_each(|probe| probe.failure());
    check(MOST, MOST / 2 - 1, MOST - MOST / 2);
    probes.pop().unwrap().success();
    assert_eq!((breaker.state(), probes.len()), (State::Closed, 0));
}

/// The same, of the number of re-openings, which 12 bits hold.
#[test]
fn more_reopenings_than_are_counted_do_not_bleed_into_the_reason() {
    let clock = ManualClock::new();
    let builder = CircuitBreaker::builder().failures(1).probes(1).successes(1).backoff(1.001);
    let breaker = builder.open_for(MILLI).clock(&clock).build().unwrap();
    breaker.try_acquire().unwrap().failure();
    let mut waited = Duration::ZERO;
    for _ in 0..5000 {
        let snapshot = breaker.snapshot();
        assert!(snapshot.retry_after().unwrap() >= waited, "{snapshot}");
        waited = snapshot.retry_after().unwrap();
        clock.advance(waited);
        breaker.try_acquire().unwrap().failure();
        let rejected = breaker.try_acquire().unwrap_err();
        assert_eq!((rejected.state(), rejected.reason()), (State::Open, Some(Reason::ProbeFailed)));
    }
    assert_eq!(breaker.snapshot().consecutive_failures(), Some(1));
}

/// The same, of the generation, which 20 bits hold.
#[test]
fn generations_that_wrap_do_not_bleed_into_the_state() {
    let clock = ManualClock::new();
    let breaker = breaker((Consecutive::new(9), CountWindow::over(9).failures(9)), &clock);
    let straggler = breaker.try_acquire().unwrap();
    (1..1 << 20).for_each(|_| breaker.reset());
    straggler.failure();
    for _ in 0..3 {
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(breaker.snapshot().windows().map(|window| window.failed()).collect::<Vec<_>>(), [0, 0]);
        breaker.try_acquire().unwrap().failure();
        assert_eq!(breaker.snapshot().windows().map(|window| window.failed()).collect::<Vec<_>>(), [1, 1]);
        breaker.reset();
    }
}
