//! The count window: outcomes that meet where a chunk is finished and the next one begins.
#![cfg(failfast_loom)]

use std::sync::Arc;

use failfast::{CircuitBreaker, CountWindow, Fault};
use loom::thread;
use loom_tests::{Orders, Time, explore};

/// A failure meets a success in a window of 8 calls that holds 6, and one of them has to write down the finished chunk.
/// Both are counted; 8 successes later the failure has fallen out, and nothing is left of it.
#[test]
fn two_outcomes_across_a_chunk() {
    explore("two outcomes across a chunk", Orders::Bound(3), &[Fault::SplitCas, Fault::BlindCas], || {
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
    explore("two outcomes in a window of two", Orders::Bound(3), &[Fault::SplitCas, Fault::BlindCas], || {
        let breaker = CircuitBreaker::builder()
            .policy(CountWindow::over(2).failures(2))
            .clock(Arc::new(Time::default()))
            .build()
            .unwrap();
        let breaker = Arc::new(breaker);
        (0..7).for_each(|_| breaker.try_acquire().unwrap().success());
        let succeeding = {
            let permit = breaker.try_acquire_owned().unwrap();
            thread::spawn(move || permit.success())
        };
        breaker.try_acquire().unwrap().failure();
        succeeding.join().unwrap();
        assert_eq!(breaker.snapshot().window().failed(), 1);
        breaker.try_acquire().unwrap().success();
        breaker.try_acquire().unwrap().success();
        assert_eq!(breaker.snapshot().window().failed(), 0);
    });
}

/// A helper that writes down a finished chunk, and sleeps across a reset, does not spoil the chunk of the next
/// generation: 7 failures are followed by 8 successes, and are gone.
#[test]
fn a_finished_chunk_across_a_reset() {
    explore("a finished chunk across a reset", Orders::Bound(2), &[Fault::BlindCas], || {
        let breaker = CircuitBreaker::builder()
            .policy(CountWindow::over(8).failures(8))
            .clock(Arc::new(Time::default()))
            .build()
            .unwrap();
        let breaker = Arc::new(breaker);
        (0..7).for_each(|_| breaker.try_acquire().unwrap().success());
        let sleeping = {
            let permit = breaker.try_acquire_owned().unwrap();
            thread::spawn(move || permit.failure())
        };
        breaker.reset();
        (0..7).for_each(|_| breaker.try_acquire().unwrap().failure());
        breaker.try_acquire().unwrap().success();
        sleeping.join().unwrap();
        (0..7).for_each(|_| breaker.try_acquire().unwrap().success());
        assert_eq!(breaker.snapshot().window().failed(), 0);
    });
}
