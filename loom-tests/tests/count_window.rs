//! The count window: outcomes that meet where a chunk is finished and the next one begins.
#![cfg(any(failfast_loom, failfast_shuttle))]

use std::sync::Arc;

use failfast::{CircuitBreaker, CountWindow, Fault, State};
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
