//! The streak: failures that meet each other, a success, and a period that they do not belong to.

use std::sync::Arc;

use failfast::{CircuitBreaker, Consecutive, Fault, State};
use loom_tests::{Log, Orders, Time, explore, thread};

type Breaker = CircuitBreaker<Consecutive, Arc<Time>, Arc<Log>>;

fn breaker(failures: u32) -> (Arc<Breaker>, Arc<Log>) {
    let log = Arc::new(Log::default());
    let breaker = CircuitBreaker::builder()
        .failures(failures)
        .clock(Arc::new(Time::default()))
        .observer(log.clone())
        .build()
        .unwrap();
    (Arc::new(breaker), log)
}

fn fail(breaker: &Breaker) {
    breaker.try_acquire().unwrap().failure();
}

/// Three failures in three threads are three in a row.
#[test]
fn three_failures_are_a_streak() {
    explore("three failures are a streak", Orders::All, &[Fault::SplitCas, Fault::BlindCas], || {
        let (breaker, log) = breaker(3);
        let others = [(); 2].map(|()| breaker.try_acquire_owned().unwrap());
        let others = others.map(|permit| thread::spawn(move || permit.failure()));
        fail(&breaker);
        others.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(log.states(State::Closed), [State::Open]);
        assert_eq!(log.transitions()[0].trip().unwrap().counts().unwrap().failed(), 3);
    });
}

/// A success comes before, between or after two failures. Before, it leaves nothing of what it found; the failures
/// after it all count.
#[test]
fn a_success_among_failures() {
    explore("a success among failures", Orders::All, &[Fault::SplitCas, Fault::BlindCas], || {
        let (breaker, log) = breaker(3);
        fail(&breaker);
        let succeeding = {
            let permit = breaker.try_acquire_owned().unwrap();
            thread::spawn(move || permit.success())
        };
        fail(&breaker);
        succeeding.join().unwrap();
        // The success was last, or the second failure was: or that came in between, and the success has lost nothing.
        let streak = breaker.snapshot().consecutive_failures().unwrap();
        assert!(streak <= 1, "a success was lost");
        (streak..3).for_each(|_| fail(&breaker));
        assert_eq!(log.states(State::Closed), [State::Open]);
    });
}

/// A failure from before a reset counts in no streak after it, and takes nothing from it.
#[test]
fn a_straggler_around_a_reset() {
    explore("a straggler around a reset", Orders::All, &[Fault::UntaggedCas, Fault::BlindCas], || {
        let (breaker, log) = breaker(2);
        let straggler = {
            let permit = breaker.try_acquire_owned().unwrap();
            thread::spawn(move || permit.failure())
        };
        fail(&breaker);
        breaker.reset();
        fail(&breaker);
        straggler.join().unwrap();
        let states = log.states(State::Closed);
        // Either both failures came before the reset, or the straggler was one.
        assert!(states.is_empty() || states == [State::Open, State::Closed], "{states:?}");
        assert_eq!(breaker.snapshot().consecutive_failures(), Some(1));
    });
}

/// Who trips publishes the counts that it tripped on, and may come to it late: when the breaker is closed again, and has
/// tripped anew.
#[test]
fn late_evidence() {
    explore("late evidence", Orders::Bound(3), &[Fault::SplitCas, Fault::BlindCas], || {
        let (breaker, log) = breaker(1);
        let tripping = {
            let permit = breaker.try_acquire_owned().unwrap();
            thread::spawn(move || permit.failure())
        };
        breaker.reset();
        fail(&breaker);
        tripping.join().unwrap();
        assert_eq!(breaker.state(), State::Open);
        let snapshot = breaker.snapshot();
        assert_eq!(snapshot.consecutive_failures(), Some(1));
        assert_eq!(snapshot.trip().unwrap().counts().unwrap().failed(), 1);
        assert!(snapshot.since().is_some());
        let states = log.states(State::Closed);
        assert!(states == [State::Open] || states == [State::Open, State::Closed, State::Open], "{states:?}");
    });
}

/// A success restarts the streak between the failure that completes it and what is told of the trip: the evidence is what
/// the failure found, and not what the success has left of it.
#[test]
fn a_success_behind_the_last_failure() {
    explore("a success behind the last failure", Orders::Bound(3), &[Fault::SplitCas, Fault::BlindCas], || {
        let (breaker, log) = breaker(1);
        let failing = breaker.try_acquire_owned().unwrap();
        let [succeeding, also_failing] = [(); 2].map(|()| breaker.try_acquire_owned().unwrap());
        let others = [thread::spawn(move || succeeding.success()), thread::spawn(move || also_failing.failure())];
        failing.failure();
        others.into_iter().for_each(|other| other.join().unwrap());
        assert_eq!(log.states(State::Closed), [State::Open]);
        let told = log.transitions()[0].trip().unwrap().counts().unwrap().failed();
        assert!((1..=2).contains(&told), "{told}");
        assert_eq!(breaker.snapshot().consecutive_failures(), Some(told));
    });
}
