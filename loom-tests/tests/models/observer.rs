//! What is told: each transition once, each beginning of a cause, and a history that is read while it is written.

use std::sync::Arc;
use std::time::Duration;

use failfast::{CircuitBreaker, Consecutive, Fault, History, IntoPolicy, Policy, State, TimeWindow};
use loom_tests::{Log, Orders, Time, explore, thread};

/// Two hands at once: their transitions are one chain, and each is told once.
#[test]
fn two_hands() {
    explore("two hands", Orders::All, &[Fault::SplitCas, Fault::BlindCas], || {
        let (time, log) = (Arc::new(Time::default()), Arc::new(Log::default()));
        let breaker =
            Arc::new(CircuitBreaker::builder().failures(1).clock(time).observer(log.clone()).build().unwrap());
        let other = {
            let breaker = breaker.clone();
            thread::spawn(move || breaker.disable())
        };
        breaker.force_open();
        other.join().unwrap();
        let mut states = log.states(State::Closed);
        assert_eq!(states.last(), Some(&breaker.state()));
        states.sort_by_key(|&state| state as u8);
        assert_eq!(states, [State::ForcedOpen, State::Disabled]);
    });
}

/// A history of one place: who writes late does not replace a newer transition, and a reader sees whole ones only.
#[test]
fn a_history_read_while_written() {
    explore("a history read while written", Orders::Bound(3), &[Fault::SplitCas, Fault::BlindCas], || {
        let time = Arc::new(Time::default());
        let breaker = CircuitBreaker::builder().clock(time.clone()).observer(History::<1>::new()).build().unwrap();
        let breaker: Arc<CircuitBreaker<Consecutive, Arc<Time>, History<1>>> = Arc::new(breaker);
        let start = breaker.snapshot().generation();
        let writing = {
            let breaker = breaker.clone();
            thread::spawn(move || breaker.disable())
        };
        let reading = {
            let breaker = breaker.clone();
            thread::spawn(move || {
                for transition in breaker.observer().recent() {
                    assert!(transition.generation().is_after(start));
                    assert_ne!(transition.from(), transition.to());
                }
            })
        };
        breaker.force_open();
        writing.join().unwrap();
        reading.join().unwrap();
        let newest = breaker.observer().recent().last().expect("the last transition is kept");
        let snapshot = breaker.snapshot();
        assert_eq!((newest.generation(), newest.to()), (snapshot.generation(), snapshot.state()));
    });
}

type Breaker<P> = CircuitBreaker<P, Arc<Time>, Arc<Log>>;

fn metrics_only<S: IntoPolicy>(policy: S, time: &Arc<Time>) -> (Arc<Breaker<S::Policy>>, Arc<Log>) {
    let log = Arc::new(Log::default());
    let builder = CircuitBreaker::builder().policy(policy).initial_state(State::MetricsOnly);
    (Arc::new(builder.clock(time.clone()).observer(log.clone()).build().unwrap()), log)
}

fn streak(failures: u32) -> (Arc<Breaker<Consecutive>>, Arc<Log>) {
    metrics_only(Consecutive::new(failures), &Arc::default())
}

fn two_failures<P: Policy + 'static>(breaker: &Arc<Breaker<P>>) {
    let permit = breaker.try_acquire_owned().unwrap();
    let failing = thread::spawn(move || permit.failure());
    breaker.try_acquire().unwrap().failure();
    failing.join().unwrap();
}

/// Metrics-only: the second of two failures brings a cause about, whichever that is, and it is told once; and once more
/// after it has ended.
#[test]
fn a_cause_begins_once() {
    explore("a cause begins once", Orders::All, &[Fault::SplitCas, Fault::BlindCas], || {
        let (breaker, log) = streak(2);
        two_failures(&breaker);
        assert_eq!(log.would_trip(), 1);
        breaker.try_acquire().unwrap().success();
        (0..2).for_each(|_| breaker.try_acquire().unwrap().failure());
        assert_eq!(log.would_trip(), 2);
    });
}

/// The same when either of them brings it about alone.
#[test]
fn a_cause_that_two_bring_about_begins_once() {
    explore("a cause that two bring about begins once", Orders::All, &[Fault::SplitCas, Fault::BlindCas], || {
        let (breaker, log) = streak(1);
        two_failures(&breaker);
        assert_eq!(log.would_trip(), 1);
    });
}

/// A cause lasts from the second failure on: the third does not bring it about.
#[test]
fn a_cause_that_lasts_is_not_told_again() {
    explore("a cause that lasts is not told again", Orders::All, &[Fault::SplitCas, Fault::BlindCas], || {
        let (breaker, log) = streak(2);
        two_failures(&breaker);
        breaker.try_acquire().unwrap().failure();
        assert_eq!(log.would_trip(), 1);
    });
}

/// Time has ended a cause, and two failures bring it about again: it is told once more, and once.
#[test]
fn a_cause_that_time_has_ended_begins_once_more() {
    let faults = [Fault::SplitCas, Fault::BlindCas];
    explore("a cause that time has ended begins once more", Orders::Bound(3), &faults, || {
        let time = Arc::new(Time::default());
        let window = TimeWindow::over(Duration::from_millis(2), 2).failures(1);
        let (breaker, log) = metrics_only(window, &time);
        breaker.try_acquire().unwrap().failure();
        time.set(2);
        two_failures(&breaker);
        assert_eq!(log.would_trip(), 2);
    });
}

/// A failure from before a reset does not undo the note of what was told after it.
#[test]
fn a_late_note() {
    explore("a late note", Orders::All, &[Fault::SplitCas, Fault::BlindCas], || {
        let (breaker, log) = streak(1);
        let straggler = {
            let permit = breaker.try_acquire_owned().unwrap();
            thread::spawn(move || permit.failure())
        };
        breaker.reset();
        breaker.metrics_only();
        (0..2).for_each(|_| breaker.try_acquire().unwrap().failure());
        straggler.join().unwrap();
        // One after the reset, and the straggler's if that was not too late.
        assert!((1..=2).contains(&log.would_trip()), "{}", log.would_trip());
    });
}
