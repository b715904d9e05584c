//! The gate: who trips, who probes, who settles, who wins against the hand.

use std::sync::Arc;
use std::time::Duration;

use failfast::{CircuitBreaker, Consecutive, Fault, OnMaxWait, Permit, Rejected, State};
use loom_tests::{Log, Orders, Time, explore, thread};

type Breaker = CircuitBreaker<Consecutive, Arc<Time>, Arc<Log>>;

struct Setup {
    breaker: Arc<Breaker>,
    time: Arc<Time>,
    log: Arc<Log>,
}

/// 1 failure trips, it waits 100 ms, and a half-open period lasts 1000 ms.
fn setup(probes: u32, successes: u32, on_max_wait: OnMaxWait) -> Setup {
    let (time, log) = (Arc::new(Time::default()), Arc::new(Log::default()));
    let breaker = CircuitBreaker::builder()
        .failures(1)
        .open_for(Duration::from_millis(100))
        .probes(probes)
        .successes(successes)
        .max_wait(Duration::from_millis(1000))
        .on_max_wait(on_max_wait)
        .clock(time.clone())
        .observer(log.clone())
        .build()
        .unwrap();
    Setup { breaker: Arc::new(breaker), time, log }
}

/// The first of them in this thread, each other in one of its own.
fn at_once<const N: usize>(breaker: &Arc<Breaker>, acts: [fn(&Arc<Breaker>); N]) {
    let threads = acts.map(|act| {
        let breaker = breaker.clone();
        move || act(&breaker)
    });
    let mut threads = threads.into_iter();
    let first = threads.next();
    let others: Vec<_> = threads.map(thread::spawn).collect();
    first.into_iter().for_each(|act| act());
    others.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Takes a place for a call that stays in flight, and says whether there was one.
fn takes_a_place(permit: Result<Permit<Arc<Breaker>>, Rejected>) -> bool {
    permit.map(core::mem::forget).is_ok()
}

fn fail(breaker: &Arc<Breaker>) {
    if let Ok(permit) = breaker.try_acquire() {
        permit.failure();
    }
}

#[test]
fn two_failures_trip_once() {
    explore("two failures trip once", Orders::All, &[Fault::SplitCas, Fault::BlindCas], || {
        let Setup { breaker, log, .. } = setup(1, 1, OnMaxWait::Renew);
        at_once(&breaker, [fail, fail]);
        assert_eq!(log.states(State::Closed), [State::Open]);
        assert_eq!(breaker.state(), State::Open);
    });
}

/// Lets `threads` ask at once when the wait is over.
fn stampede(threads: usize, probes: u32) {
    let Setup { breaker, time, log } = setup(probes, probes, OnMaxWait::Renew);
    breaker.open();
    time.set(100);
    let others: Vec<_> = (1..threads)
        .map(|_| {
            let breaker = breaker.clone();
            thread::spawn(move || takes_a_place(breaker.try_acquire_owned()))
        })
        .collect();
    let mut admitted = u32::from(takes_a_place(breaker.try_acquire_owned()));
    for thread in others {
        admitted += u32::from(thread.join().unwrap());
    }
    assert_eq!(admitted, probes);
    assert_eq!(log.states(State::Closed), [State::Open, State::HalfOpen]);
    assert_eq!(breaker.snapshot().probes().unwrap().admitted(), probes);
}

#[test]
fn two_callers_one_probe() {
    explore("two callers, one probe", Orders::All, &[Fault::SplitCas, Fault::BlindCas], || stampede(2, 1));
}

#[test]
fn three_callers_two_probes() {
    explore("three callers, two probes", Orders::Bound(3), &[Fault::SplitCas], || stampede(3, 2));
}

/// A probe's success against a caller that finds the half-open period over: it is counted and closes the breaker, or
/// it is a straggler of a period that has ended. It never counts in the next one.
fn settle_against_the_end(on_max_wait: OnMaxWait) {
    let Setup { breaker, time, log } = setup(1, 1, on_max_wait);
    breaker.open();
    time.set(100);
    let probe = breaker.try_acquire_owned().unwrap();
    let late = {
        let breaker = breaker.clone();
        thread::spawn(move || {
            time.set(1100);
            takes_a_place(breaker.try_acquire_owned())
        })
    };
    probe.success();
    let admitted = late.join().unwrap();
    let states = log.states(State::Closed);
    let snapshot = breaker.snapshot();
    let (common, rest) = states.split_at(2);
    assert_eq!(common, [State::Open, State::HalfOpen]);
    match (on_max_wait, rest) {
        // Closed by the probe or, with `Close`, by time.
        (_, [State::Closed]) => assert!(admitted),
        (OnMaxWait::Renew, []) => {
            let probes = snapshot.probes().unwrap();
            assert_eq!((probes.admitted(), probes.succeeded(), probes.failed()), (1, 0, 0));
            assert!(admitted && breaker.try_acquire().is_err(), "one place, and it is taken");
        }
        (OnMaxWait::Open, [State::Open]) => assert!(!admitted),
        other => panic!("{other:?}"),
    }
}

#[test]
fn settle_against_renewal() {
    let model = || settle_against_the_end(OnMaxWait::Renew);
    explore("settle against renewal", Orders::All, &[Fault::SplitCas, Fault::BlindCas], model);
}

#[test]
fn settle_against_reopening() {
    let model = || settle_against_the_end(OnMaxWait::Open);
    explore("settle against re-opening", Orders::All, &[Fault::BlindCas], model);
}

#[test]
fn settle_against_closing() {
    let model = || settle_against_the_end(OnMaxWait::Close);
    explore("settle against closing", Orders::All, &[Fault::BlindCas], model);
}

/// Two probes of two succeed at once: the breaker closes once, whoever counts the second.
#[test]
fn two_successes_close_once() {
    explore("two successes close once", Orders::All, &[Fault::SplitCas], || {
        let Setup { breaker, time, log } = setup(2, 2, OnMaxWait::Renew);
        breaker.open();
        time.set(100);
        breaker.half_open().unwrap();
        let (one, other) = (breaker.try_acquire_owned().unwrap(), breaker.try_acquire_owned().unwrap());
        let thread = thread::spawn(move || other.success());
        one.success();
        thread.join().unwrap();
        assert_eq!(log.states(State::Closed), [State::Open, State::HalfOpen, State::Closed]);
    });
}

/// A cancelled probe gives its place back, and nobody else's.
#[test]
fn cancelled_against_admission() {
    explore("a cancelled probe against admission", Orders::All, &[Fault::SplitCas, Fault::BlindCas], || {
        let Setup { breaker, time, log } = setup(2, 2, OnMaxWait::Renew);
        breaker.open();
        time.set(100);
        let probe = breaker.try_acquire_owned().unwrap();
        let other = {
            let breaker = breaker.clone();
            thread::spawn(move || takes_a_place(breaker.try_acquire_owned()))
        };
        drop(probe);
        let admitted = other.join().unwrap();
        assert_eq!(breaker.snapshot().probes().unwrap().admitted(), u32::from(admitted));
        assert_eq!(log.states(State::Closed), [State::Open, State::HalfOpen]);
    });
}

#[test]
fn the_hand_against_a_trip() {
    explore("the hand against a trip", Orders::All, &[Fault::SplitCas, Fault::BlindCas], || {
        let Setup { breaker, log, .. } = setup(1, 1, OnMaxWait::Renew);
        at_once(&breaker, [fail, |breaker| breaker.force_open()]);
        let states = log.states(State::Closed);
        assert!(states == [State::ForcedOpen] || states == [State::Open, State::ForcedOpen], "{states:?}");
        assert_eq!(breaker.state(), State::ForcedOpen);
    });
}
