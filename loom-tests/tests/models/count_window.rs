//! The count window: outcomes that meet where a chunk is finished and the next one begins.

use std::sync::Arc;
use std::time::Duration;

use failfast::{CircuitBreaker, CountWindow, Fault, HeapCalls, State};
use loom_tests::{Orders, Time, explore, thread};

/// A failure meets a success in a window of 8 calls that holds 6, and one of them has to write down the finished chunk.
/// Both are counted; 8 successes later the failure has fallen out, and nothing is left of it.
#[test]
fn two_outcomes_across_a_chunk() {
    explore("two outcomes across a chunk", Orders::All, &[Fault::SplitCas, Fault::BlindCas], || {
        let breaker = CircuitBreaker::builder()
            .policy(CountWindow::over(8).failures(8))
            .clock(Arc::new(Time::default()))
            .build()
            .unwrap();
        let breaker = Arc::new(breaker);
        let record = |times: usize| (0..times).for_each(|_| breaker.try_acquire().unwrap().success());
        record(6);
        let succeeding = {
            let permit = breaker.try_acquire_owned().unwrap();
            thread::spawn(move || permit.success())
        };
        breaker.try_acquire().unwrap().failure();
        succeeding.join().unwrap();
        let window = breaker.snapshot().window();
        assert_eq!((window.total(), window.failed()), (8, 1));
        record(6);
        let window = breaker.snapshot().window();
        assert_eq!((window.total(), window.failed()), (8, 1));
        record(2);
        let window = breaker.snapshot().window();
        assert_eq!((window.total(), window.failed()), (8, 0));
    });
}

/// The same in a window smaller than a chunk, whose outcomes fall out of the chunk that they are in.
#[test]
fn two_outcomes_in_a_window_of_two() {
    explore("two outcomes in a window of two", Orders::All, &[Fault::SplitCas, Fault::BlindCas], || {
        let breaker = CircuitBreaker::builder()
            .policy(CountWindow::over(2).failures(2))
            .initial_state(State::MetricsOnly)
            .clock(Arc::new(Time::default()))
            .build()
            .unwrap();
        let breaker = Arc::new(breaker);
        (0..6).for_each(|_| breaker.try_acquire().unwrap().success());
        let failing = {
            let permit = breaker.try_acquire_owned().unwrap();
            thread::spawn(move || permit.failure())
        };
        breaker.try_acquire().unwrap().failure();
        failing.join().unwrap();
        assert_eq!(breaker.snapshot().window().failed(), 2);
        breaker.try_acquire().unwrap().success();
        assert_eq!(breaker.snapshot().window().failed(), 1);
        breaker.try_acquire().unwrap().success();
        assert_eq!(breaker.snapshot().window().failed(), 0);
    });
}

/// A slow failure meets a slow success where a chunk ends: each slow call is counted once, by whichever of them turns it.
#[test]
fn two_slow_calls_across_a_chunk() {
    explore("two slow calls across a chunk", Orders::All, &[Fault::SplitCas, Fault::BlindCas], || {
        let time = Arc::new(Time::default());
        let breaker = CircuitBreaker::builder()
            .policy(CountWindow::over(8).failures(8).slow_calls(Duration::from_millis(1), 100.0))
            .clock(time.clone())
            .build()
            .unwrap();
        let breaker = Arc::new(breaker);
        record(&breaker, &[false; 6]);
        let slow = [(); 2].map(|()| breaker.try_acquire_owned().unwrap());
        time.set(2);
        let [failing, succeeding] = slow;
        let others = [thread::spawn(move || failing.failure()), thread::spawn(move || succeeding.success())];
        others.into_iter().for_each(|other| other.join().unwrap());
        let slow_and_failed = || {
            let window = breaker.snapshot().window();
            (window.slow(), window.failed())
        };
        assert_eq!(slow_and_failed(), (Some(2), 1));
        record(&breaker, &[false; 6]);
        assert_eq!(slow_and_failed(), (Some(2), 1));
        record(&breaker, &[false; 2]);
        assert_eq!(slow_and_failed(), (Some(0), 0));
    });
}

type Breaker = CircuitBreaker<CountWindow<HeapCalls>, Arc<Time>>;

/// A window in which nothing trips, and which has seen these outcomes.
fn window(calls: u32, outcomes: &[bool]) -> Arc<Breaker> {
    let breaker = CircuitBreaker::builder()
        .policy(CountWindow::over(calls).failures(calls))
        .clock(Arc::new(Time::default()))
        .build()
        .unwrap();
    record(&breaker, outcomes);
    Arc::new(breaker)
}

fn record(breaker: &Breaker, failed: &[bool]) {
    for &failed in failed {
        let permit = breaker.try_acquire().unwrap();
        if failed { permit.failure() } else { permit.success() }
    }
}

fn ends(failed: bool, breaker: &Arc<Breaker>) -> thread::JoinHandle<()> {
    let permit = breaker.try_acquire_owned().unwrap();
    thread::spawn(move || if failed { permit.failure() } else { permit.success() })
}

fn counts(breaker: &Breaker) -> (u64, u64) {
    let window = breaker.snapshot().window();
    (window.total(), window.failed())
}

const CHUNK: [bool; 7] = [true, false, false, false, false, true, false];

/// A window of one chunk that has seen the same chunk until the ring holds nothing else, so that turning it writes
/// nothing: two calls turn it at once. What they leave is what the last 7 calls were, until they have fallen out.
#[test]
fn a_turn_that_writes_nothing() {
    explore("a turn that writes nothing", Orders::All, &[Fault::SplitCas, Fault::BlindCas], || {
        let breaker = window(7, &CHUNK.repeat(4));
        let other = ends(true, &breaker);
        record(&breaker, &[true]);
        other.join().unwrap();
        // Of FSSSSFS the two have pushed out FS.
        assert_eq!(counts(&breaker), (7, 3));
        record(&breaker, &[false; 3]);
        assert_eq!(counts(&breaker), (7, 3));
        record(&breaker, &[false]);
        assert_eq!(counts(&breaker), (7, 2));
        record(&breaker, &[false, true]);
        assert_eq!(counts(&breaker), (7, 2));
    });
}

/// One call turns the chunk that differs from what the ring holds, while another goes on into the next.
#[test]
fn a_turn_against_the_next() {
    explore("a turn against the next", Orders::All, &[Fault::SplitCas, Fault::BlindCas], || {
        let mut outcomes = CHUNK.repeat(3);
        outcomes.extend([true, true, false, false, false, false, false]);
        let breaker = window(8, &outcomes);
        let other = ends(false, &breaker);
        record(&breaker, &[true]);
        other.join().unwrap();
        // Of the last 8, SFFSSSSS, the two have pushed out SF.
        assert_eq!(counts(&breaker), (8, 2));
        record(&breaker, &[false]);
        assert_eq!(counts(&breaker), (8, 1));
        record(&breaker, &[false; 6]);
        // The failure is the first or the second of the two.
        assert!(counts(&breaker).1 <= 1);
        record(&breaker, &[false]);
        assert_eq!(counts(&breaker), (8, 0));
    });
}

/// A failure that goes on in the chunk that a success has begun sees what the chunks before it have left behind: it is the
/// third of the last 9, whichever comes first.
#[test]
fn a_verdict_behind_a_turn() {
    explore("a verdict behind a turn", Orders::All, &[Fault::Relaxed], || {
        let breaker = CircuitBreaker::builder()
            .policy(CountWindow::over(9).failures(3))
            .clock(Arc::new(Time::default()))
            .build()
            .unwrap();
        let breaker = Arc::new(breaker);
        record(&breaker, &CHUNK);
        let succeeding = breaker.try_acquire().unwrap();
        let failing = ends(true, &breaker);
        succeeding.success();
        failing.join().unwrap();
        assert_eq!(breaker.state(), State::Open);
    });
}

/// Three calls turn a chunk: all are counted, and none twice.
#[test]
fn three_turn_a_chunk() {
    let faults = &[Fault::SplitCas, Fault::BlindCas];
    explore("three turn a chunk", Orders::Bound(3), faults, || {
        let breaker = window(7, &CHUNK);
        let others = [ends(true, &breaker), ends(true, &breaker)];
        record(&breaker, &[true]);
        others.into_iter().for_each(|thread| thread.join().unwrap());
        // Of FSSSSFS the three have pushed out the first three.
        assert_eq!(counts(&breaker), (7, 4));
        record(&breaker, &[false; 4]);
        assert_eq!(counts(&breaker), (7, 3));
        record(&breaker, &[false; 3]);
        assert_eq!(counts(&breaker), (7, 0));
    });
}

/// One who turns a chunk sleeps through a reset, and the same words are written for the next period, or are left as they
/// were: it puts nothing in their place.
fn a_turn_through_a_reset(before: &[bool], after: &[bool], window_of: u32) {
    let breaker = window(window_of, before);
    let late = ends(true, &breaker);
    breaker.reset();
    record(&breaker, after);
    late.join().unwrap();
    let last = after.len().saturating_sub(window_of as usize);
    let failed = after[last..].iter().filter(|&&failed| failed).count() as u64;
    assert_eq!(counts(&breaker), ((after.len() - last) as u64, failed));
}

#[test]
fn a_turn_through_a_reset_of_another_chunk() {
    let after = [false, false, true, false, false, false, false, true];
    let model = move || a_turn_through_a_reset(&CHUNK, &after, 8);
    explore("a turn through a reset, another chunk", Orders::Bound(3), &[Fault::BlindCas], model);
}

#[test]
fn a_turn_through_a_reset_of_the_same_chunk() {
    let after: Vec<bool> = CHUNK.iter().copied().chain([true]).collect();
    let model = move || a_turn_through_a_reset(&CHUNK.repeat(2), &after, 7);
    explore("a turn through a reset, the same chunk", Orders::Bound(3), &[Fault::BlindCas], model);
}
