//! Mistakes that were made once, or nearly: each has the test that keeps it from coming back.

#![cfg(all(feature = "std", not(failfast_loom)))]

mod preempted;

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use failfast::{
    Builder, CircuitBreaker, Clock, Config, Consecutive, CountWindow, History, InlinePolicy, IntoPolicy, LastCalls,
    LastTime, ManualClock, Observer, OnCancel, OnMaxWait, OnTransition, Outcome, Reason, Rule, Settled, SettledCall,
    Spec, State, TimeWindow, Timestamp, Transition, WouldTrip,
};
use preempted::{Other, Preempted};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Some time in 2026.
const UNIX_TIME: Duration = Duration::from_secs(1_790_000_000);

mod windows {
    use super::*;

    #[test]
    fn a_would_trip_is_told_again_when_time_has_ended_its_cause() {
        struct Told(AtomicU32);
        impl Observer for Told {
            fn on_would_trip(&self, _: &WouldTrip) {
                self.0.fetch_add(1, SeqCst);
            }
        }
        let clock = ManualClock::new();
        let policy = TimeWindow::over(SECOND, 10).failures(1);
        let builder = CircuitBreaker::builder().policy(policy).clock(&clock).observer(Told(0.into()));
        let breaker = builder.build().unwrap();
        breaker.metrics_only();
        for (told, then) in [(1, SECOND / 2), (1, 2 * SECOND), (2, 2 * SECOND), (3, SECOND)] {
            breaker.try_acquire().unwrap().failure();
            assert_eq!(breaker.observer().0.load(SeqCst), told, "{}", breaker.snapshot());
            clock.advance(then);
        }
    }

    #[test]
    fn a_time_window_trips_after_ten_quiet_days() {
        for origin in [Duration::ZERO, UNIX_TIME] {
            let clock = ManualClock::new();
            clock.advance(origin);
            let policy = TimeWindow::over(SECOND, 10).failures(2);
            let breaker = CircuitBreaker::builder().policy(policy).clock(&clock).build().unwrap();
            breaker.try_acquire().unwrap().failure();
            clock.advance(10 * DAY);
            breaker.try_acquire().unwrap().failure();
            assert_eq!(breaker.state(), State::Closed, "one failure in the window, from {origin:?} on");
            breaker.try_acquire().unwrap().failure();
            assert_eq!(breaker.state(), State::Open, "two failures in the window, from {origin:?} on");
        }
    }

    #[test]
    fn a_time_window_trips_after_as_many_quiet_buckets_as_its_words_can_tell_apart() {
        let quiet = (20..=26).flat_map(|bits| [(1 << bits) - 20, (1 << bits) - 1, 1 << bits, (1 << bits) + 5]);
        for buckets in quiet {
            let clock = ManualClock::new();
            let policy = TimeWindow::over(SECOND, 10).failures(2);
            let breaker = CircuitBreaker::builder().policy(policy).clock(&clock).build().unwrap();
            breaker.try_acquire().unwrap().failure();
            clock.advance(100 * MILLI * buckets);
            breaker.try_acquire().unwrap().failure();
            assert_eq!(breaker.state(), State::Closed, "one failure after {buckets} buckets");
            breaker.try_acquire().unwrap().failure();
            assert_eq!(breaker.state(), State::Open, "two failures after {buckets} buckets");
        }
    }

    /// What the window would show again if it mistook one lap for another, and tell whose it is: 7 successes and 40
    /// failures, of which 3 slow.
    fn fill(clock: &ManualClock, buckets: u32) -> CircuitBreaker<TimeWindow, &ManualClock> {
        let policy = TimeWindow::over(100 * MILLI, buckets).stripes(2).failures(41).slow_calls(10 * MILLI, 100.0);
        let builder = CircuitBreaker::builder().policy(policy).clock(clock).initial_state(State::MetricsOnly);
        let breaker = builder.build().unwrap();
        let slow = [(); 3].map(|()| breaker.try_acquire().unwrap());
        clock.advance(11 * MILLI);
        slow.into_iter().for_each(|permit| permit.failure());
        (0..37).for_each(|_| breaker.try_acquire().unwrap().failure());
        (0..7).for_each(|_| breaker.try_acquire().unwrap().success());
        assert_eq!(counts(&breaker), (47, 40, Some(3)));
        breaker
    }

    fn counts(breaker: &CircuitBreaker<TimeWindow, &ManualClock>) -> (u64, u64, Option<u64>) {
        let window = breaker.snapshot().window();
        (window.total(), window.failed(), window.slow())
    }

    fn steady(buckets: u32, outcome: Outcome) {
        let clock = ManualClock::new();
        let breaker = fill(&clock, buckets);
        let buckets = u64::from(buckets);
        let failed = if outcome == Outcome::Failure { buckets } else { 0 };
        for bucket in 1..=((1 << 16) + 1) * buckets {
            clock.advance(100 * MILLI / buckets as u32);
            breaker.try_acquire().unwrap().settle(outcome);
            if bucket >= buckets {
                assert_eq!(counts(&breaker), (buckets, failed, Some(0)), "bucket {bucket}");
            }
        }
    }

    #[test]
    fn old_failures_do_not_come_back_after_65536_laps_of_successes() {
        steady(1, Outcome::Success);
        steady(2, Outcome::Success);
    }

    #[test]
    fn old_successes_do_not_come_back_after_65536_laps_of_failures() {
        steady(1, Outcome::Failure);
    }

    #[test]
    fn old_counts_do_not_come_back_when_only_a_snapshot_looks_after_65536_idle_laps() {
        for buckets in [1, 2, 10] {
            for laps in [1, (1 << 16) - 1, 1 << 16, (1 << 16) + 1, 1 << 17] {
                let clock = ManualClock::new();
                let breaker = fill(&clock, buckets);
                clock.advance(100 * MILLI * laps);
                assert_eq!(counts(&breaker), (0, 0, Some(0)), "{buckets} buckets, {laps} laps");
            }
        }
    }
}

mod clocks {
    use super::*;

    /// A wall clock: nanoseconds since 1970.
    struct WallClock {
        nanos: AtomicU64,
        reads: AtomicU32,
    }

    impl WallClock {
        fn new() -> Self {
            Self { nanos: AtomicU64::new(UNIX_TIME.as_nanos() as u64), reads: AtomicU32::new(0) }
        }

        fn advance(&self, by: Duration) {
            self.nanos.fetch_add(by.as_nanos() as u64, SeqCst);
        }
    }

    impl Clock for WallClock {
        fn now(&self) -> Timestamp {
            // A breaker that goes round in circles asks for the time again and again: this makes it fail, not hang.
            assert!(self.reads.fetch_add(1, SeqCst) < 1000, "an endless loop");
            Timestamp::from_nanos(self.nanos.load(SeqCst))
        }
    }

    #[test]
    fn a_breaker_on_a_wall_clock_trips_waits_probes_and_closes() {
        let clock = WallClock::new();
        let breaker = CircuitBreaker::builder().failures(1).clock(&clock).build().unwrap();
        breaker.try_acquire().unwrap().failure();
        let rejected = breaker.try_acquire().unwrap_err();
        assert_eq!((rejected.state(), rejected.retry_after()), (State::Open, Some(30 * SECOND)));
        clock.advance(30 * SECOND - MILLI);
        assert_eq!(breaker.try_acquire().unwrap_err().retry_after(), Some(MILLI));
        clock.advance(MILLI);
        assert_eq!(breaker.state(), State::HalfOpen);
        breaker.try_acquire().unwrap().success();
        breaker.try_acquire().unwrap().success();
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn a_half_open_period_on_a_wall_clock_lasts_its_max_wait() {
        for (on_max_wait, then) in
            [(OnMaxWait::Renew, State::HalfOpen), (OnMaxWait::Open, State::Open), (OnMaxWait::Close, State::Closed)]
        {
            let clock = WallClock::new();
            let builder = CircuitBreaker::builder().failures(1).on_max_wait(on_max_wait).clock(&clock);
            let breaker = builder.build().unwrap();
            breaker.try_acquire().unwrap().failure();
            clock.advance(30 * SECOND);
            let _probes = [breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap()];
            clock.advance(60 * SECOND - MILLI);
            assert_eq!(breaker.try_acquire().unwrap_err().state(), State::HalfOpen, "{on_max_wait:?}");
            clock.advance(MILLI);
            assert_eq!(breaker.state(), then, "{on_max_wait:?}");
            assert_eq!(breaker.try_acquire().is_ok(), then != State::Open, "{on_max_wait:?}");
        }
    }

    #[test]
    fn a_clock_that_steps_back_while_open_reads_as_no_time_passed() {
        let clock = ManualClock::new();
        clock.advance(HOUR);
        let breaker = CircuitBreaker::builder().failures(1).clock(&clock).build().unwrap();
        breaker.try_acquire().unwrap().failure();
        clock.advance(20 * SECOND);
        assert_eq!(breaker.snapshot().retry_after(), Some(10 * SECOND));
        clock.step_back(25 * SECOND);
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.retry_after(), snapshot.since()), (Some(10 * SECOND), Some(20 * SECOND)));
        clock.advance(25 * SECOND);
        assert_eq!(breaker.snapshot().retry_after(), Some(10 * SECOND));
        clock.advance(10 * SECOND);
        assert_eq!(breaker.state(), State::HalfOpen);
        clock.step_back(HOUR);
        assert_eq!(breaker.state(), State::HalfOpen);
        assert!(breaker.try_acquire().is_ok());
    }

    #[test]
    fn a_clock_that_steps_back_leaves_a_time_window_where_it_was() {
        let clock = ManualClock::new();
        clock.advance(HOUR);
        let policy = TimeWindow::over(10 * SECOND, 10).failures(3);
        let breaker = CircuitBreaker::builder().policy(policy).clock(&clock).build().unwrap();
        let failed = || breaker.snapshot().window().failed();
        breaker.try_acquire().unwrap().failure();
        clock.step_back(HOUR / 2);
        breaker.try_acquire().unwrap().failure();
        assert_eq!(failed(), 2);
        clock.advance(HOUR / 2 + 10 * SECOND - MILLI);
        assert_eq!(failed(), 2);
        clock.advance(MILLI);
        assert_eq!(failed(), 0);
    }
}

mod races {
    use super::*;

    type Raced = CircuitBreaker<Consecutive, Arc<Preempted>>;

    /// Lets `other` come in at each of the clock's readings in `act`, one after another.
    fn at_each_reading(other: impl Fn(&Arc<Raced>) -> Other, act: impl Fn(&Raced)) {
        for reading in 0.. {
            let clock = Arc::new(Preempted::default());
            let builder = CircuitBreaker::builder().failures(1).probes(1).successes(1);
            let breaker = Arc::new(builder.clock(clock.clone()).build().unwrap());
            let other = other(&breaker);
            *clock.other.lock().unwrap() = Some((reading, other));
            act(&breaker);
            let unused = clock.other.lock().unwrap().take();
            if unused.is_some() {
                assert!(reading > 0, "the clock was not read");
                return;
            }
        }
    }

    fn failing_call(breaker: &Arc<Raced>) -> Other {
        let permit = breaker.try_acquire_owned().unwrap();
        Box::new(|| permit.failure())
    }

    fn failing_probe(breaker: &Arc<Raced>) -> Other {
        breaker.open();
        breaker.half_open().unwrap();
        failing_call(breaker)
    }

    fn closing_probe(breaker: &Arc<Raced>) -> Other {
        breaker.open();
        breaker.half_open().unwrap();
        let permit = breaker.try_acquire_owned().unwrap();
        Box::new(|| permit.success())
    }

    #[test]
    fn open_for_an_hour_is_not_lost_to_another_threads_trip() {
        for other in [failing_call, failing_probe] {
            at_each_reading(other, |breaker| {
                breaker.open_for(HOUR);
                assert_eq!(breaker.snapshot().retry_after(), Some(HOUR));
            });
        }
    }

    #[test]
    fn open_is_not_lost_to_a_probe_that_closes() {
        at_each_reading(closing_probe, |breaker| {
            breaker.open();
            assert_eq!(breaker.snapshot().retry_after(), Some(30 * SECOND));
        });
    }

    #[test]
    fn a_rejection_has_a_reason_whatever_the_other_thread_does() {
        for other in [failing_probe, closing_probe] {
            at_each_reading(other, |breaker| {
                if let Err(rejected) = breaker.try_acquire() {
                    assert!(rejected.reason().is_some(), "{rejected}");
                }
            });
        }
    }

    #[test]
    fn a_snapshot_has_a_reason_whatever_the_other_thread_does() {
        for other in [failing_call, failing_probe, closing_probe] {
            at_each_reading(other, |breaker| {
                let snapshot = breaker.snapshot();
                assert_eq!(snapshot.trip().is_some(), snapshot.state() != State::Closed, "{snapshot}");
            });
        }
    }

    type React = Box<dyn Fn(&Transition) + Send + Sync>;
    type Reentrant = CircuitBreaker<Consecutive, Arc<ManualClock>, OnTransition<React>>;

    fn on_half_open(clock: &Arc<ManualClock>, react: impl Fn(&Reentrant) + Send + Sync + 'static) -> Arc<Reentrant> {
        Arc::new_cyclic(|breaker: &Weak<Reentrant>| {
            let breaker = breaker.clone();
            let react: React = Box::new(move |transition| {
                if transition.to() == State::HalfOpen {
                    react(&breaker.upgrade().unwrap());
                }
            });
            CircuitBreaker::builder().clock(clock.clone()).on_transition(react).build().unwrap()
        })
    }

    #[test]
    fn half_open_returns_though_an_observer_opens_at_once() {
        let half_opened = Arc::new(AtomicU32::new(0));
        let count = half_opened.clone();
        let breaker = on_half_open(&Arc::default(), move |breaker| {
            // Bounded, so that this ends even where `half_open` would try for ever.
            if count.fetch_add(1, SeqCst) < 100 {
                breaker.open();
            }
        });
        breaker.open();
        assert_eq!(breaker.half_open(), Ok(()));
        assert_eq!((half_opened.load(SeqCst), breaker.state()), (1, State::Open));
    }

    #[test]
    fn a_call_is_rejected_when_an_observer_forces_the_breaker_open_as_it_half_opens() {
        let clock = Arc::new(ManualClock::new());
        let breaker = on_half_open(&clock, |breaker| breaker.force_open());
        breaker.open();
        clock.advance(30 * SECOND);
        assert_eq!(breaker.try_acquire().unwrap_err().state(), State::ForcedOpen);
    }

    #[test]
    fn a_history_of_one_keeps_the_newer_transition_when_the_older_one_comes_late() {
        for origin in [Duration::ZERO, UNIX_TIME] {
            let clock = ManualClock::new();
            clock.advance(origin);
            let seen = Mutex::new(Vec::new());
            let note = |transition: &Transition| seen.lock().unwrap().push(*transition);
            let breaker = CircuitBreaker::builder().clock(&clock).on_transition(note).build().unwrap();
            breaker.open();
            breaker.close();
            let seen = seen.lock().unwrap();
            let history = History::<1>::new();
            history.on_transition(&seen[1]);
            history.on_transition(&seen[0]);
            assert_eq!(history.recent().map(|kept| kept.generation()).collect::<Vec<_>>(), [seen[1].generation()]);
        }
    }
}

mod words {
    use super::*;

    #[test]
    fn an_opening_without_a_threshold_does_not_quote_one() {
        let clock = ManualClock::new();
        let told = Mutex::new(Vec::new());
        let tell = |transition: &Transition| told.lock().unwrap().push(transition.to_string());
        let policy = CountWindow::over(10).failures(3);
        let builder = CircuitBreaker::builder().policy(policy).probes(1).successes(1).on_max_wait(OnMaxWait::Open);
        let breaker = builder.clock(&clock).on_transition(tell).build().unwrap();
        let check = |from: &str, reason: &str| {
            assert_eq!(told.lock().unwrap().last(), Some(&format!("{from} -> open ({reason})")));
            let rejected = breaker.try_acquire().unwrap_err();
            assert_eq!(rejected.to_string(), format!("circuit open: {reason}; retry in 30.0 s"));
            assert_eq!(breaker.snapshot().to_string(), format!("open since 0 ms: {reason}; probes in 30.0 s"));
            assert_eq!(breaker.snapshot().trip().unwrap().to_string(), reason);
        };

        breaker.try_acquire().unwrap().failure();
        breaker.open();
        check("closed", "opened by hand");
        breaker.close();
        breaker.try_acquire().unwrap().open_for(None);
        check("closed", "the callee asked for a pause");
        breaker.half_open().unwrap();
        breaker.try_acquire().unwrap().failure();
        check("half_open", "too many probes failed");
        breaker.half_open().unwrap();
        clock.advance(60 * SECOND);
        assert!(breaker.try_acquire().is_err());
        check("half_open", "the probes took too long");
        breaker.half_open().unwrap();
        breaker.try_acquire().unwrap().open_for(None);
        check("half_open", "the callee asked for a pause");
        breaker.half_open().unwrap();
        breaker.open();
        check("half_open", "opened by hand");
    }

    type Manual<'a> = CircuitBreaker<Consecutive, &'a ManualClock>;
    type Open<'a> = &'a dyn Fn(&Manual, &ManualClock);

    #[test]
    fn whoever_opened_it_a_rejection_and_the_snapshot_say_why() {
        let reopen = |breaker: &Manual, outcome| {
            breaker.open();
            breaker.half_open().unwrap();
            breaker.try_acquire().unwrap().settle(outcome);
        };
        let ways: [(Reason, Open); 6] = [
            (Reason::ConsecutiveFailures, &|breaker, _| breaker.try_acquire().unwrap().failure()),
            (Reason::Requested, &|breaker, _| breaker.try_acquire().unwrap().open_for(SECOND)),
            (Reason::ByHand, &|breaker, _| breaker.open()),
            (Reason::ProbeFailed, &|breaker, _| reopen(breaker, Outcome::Failure)),
            (Reason::Requested, &|breaker, _| reopen(breaker, Outcome::OpenFor(None))),
            (Reason::ProbeTimeout, &|breaker, clock| {
                reopen(breaker, Outcome::Ignored);
                clock.advance(60 * SECOND);
            }),
        ];
        for (reason, open) in ways {
            let clock = ManualClock::new();
            let builder = CircuitBreaker::builder().failures(1).probes(1).successes(1).on_max_wait(OnMaxWait::Open);
            let breaker = builder.clock(&clock).build().unwrap();
            let check = |state| {
                let rejected = breaker.try_acquire().unwrap_err();
                assert_eq!((rejected.state(), rejected.reason()), (state, Some(reason)));
                let snapshot = breaker.snapshot();
                assert_eq!((snapshot.state(), snapshot.trip().map(|trip| trip.reason())), (state, Some(reason)));
            };
            open(&breaker, &clock);
            check(State::Open);
            breaker.half_open().unwrap();
            let _probe = breaker.try_acquire().unwrap();
            check(State::HalfOpen);
        }
    }

    #[test]
    fn a_breaker_that_begins_open_says_why_and_since_when() {
        for origin in [Duration::ZERO, HOUR, UNIX_TIME] {
            let clock = ManualClock::new();
            clock.advance(origin);
            let builder = CircuitBreaker::builder().initial_state(State::Open).clock(&clock);
            let breaker = builder.build().unwrap();
            assert_eq!(breaker.snapshot().since(), Some(Duration::ZERO));
            clock.advance(10 * SECOND);
            let snapshot = breaker.snapshot();
            assert_eq!((snapshot.since(), snapshot.retry_after()), (Some(10 * SECOND), Some(20 * SECOND)));
            assert_eq!(breaker.try_acquire().unwrap_err().reason(), Some(Reason::ByHand));
        }
    }
}

mod calls {
    use super::*;

    #[derive(Default)]
    struct Calls(Mutex<Vec<Settled>>);

    impl Observer for Calls {
        fn on_outcome(&self, call: &SettledCall) {
            self.0.lock().unwrap().push(call.settled());
        }
    }

    fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn panics<T>(f: impl FnOnce() -> T) -> bool {
        catch_unwind(AssertUnwindSafe(f)).is_err()
    }

    #[test]
    fn a_future_whose_poll_panics_is_a_failure_at_once_and_is_not_polled_again() {
        let calls = Calls::default();
        let breaker = CircuitBreaker::builder().failures(1).observer(&calls).build().unwrap();
        let polls = AtomicU32::new(0);
        let mut future = Box::pin(breaker.call_async(|| {
            poll_fn(|_| -> Poll<Result<(), ()>> {
                polls.fetch_add(1, SeqCst);
                panic!("on purpose")
            })
        }));
        assert!(panics(|| poll(future.as_mut())));
        assert_eq!(breaker.state(), State::Open);
        assert!(panics(|| poll(future.as_mut())));
        drop(future);
        assert_eq!(polls.load(SeqCst), 1);
        assert_eq!(*calls.0.lock().unwrap(), [Settled::With(Outcome::Failure)]);
    }

    #[test]
    fn a_future_that_is_dropped_before_its_first_poll_was_no_call() {
        let calls = Calls::default();
        let builder = CircuitBreaker::builder().failures(1).on_cancel(OnCancel::Failure).observer(&calls);
        let breaker = builder.build().unwrap();
        let future = breaker.call_async(|| -> std::future::Ready<Result<(), ()>> { unreachable!("it was not polled") });
        drop(future);
        assert_eq!(*calls.0.lock().unwrap(), []);
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn a_future_that_is_dropped_between_two_polls_is_what_on_cancel_says() {
        for (on_cancel, ran, then) in [
            (OnCancel::Neutral, HOUR, State::Closed),
            (OnCancel::Failure, Duration::ZERO, State::Open),
            (OnCancel::FailureAfter(SECOND), SECOND - Duration::from_nanos(1), State::Closed),
            (OnCancel::FailureAfter(SECOND), SECOND, State::Open),
        ] {
            let clock = ManualClock::new();
            let calls = Calls::default();
            let builder = CircuitBreaker::builder().failures(1).on_cancel(on_cancel).clock(&clock);
            let breaker = builder.observer(&calls).build().unwrap();
            let mut future = Box::pin(breaker.call_async(std::future::pending::<Result<(), ()>>));
            clock.advance(HOUR);
            assert!(poll(future.as_mut()).is_pending());
            clock.advance(ran);
            drop(future);
            assert_eq!(breaker.state(), then, "{on_cancel:?} after {ran:?}");
            assert_eq!(*calls.0.lock().unwrap(), [Settled::Cancelled]);
        }
    }

    #[test]
    fn a_cancelled_probe_gives_its_place_back_or_fails() {
        for (on_cancel, then) in [(OnCancel::Neutral, State::HalfOpen), (OnCancel::Failure, State::Open)] {
            let builder = CircuitBreaker::builder().probes(1).successes(1).on_cancel(on_cancel);
            let breaker = builder.clock(ManualClock::new()).build().unwrap();
            breaker.open();
            breaker.half_open().unwrap();
            let mut future = Box::pin(breaker.call_async(std::future::pending::<Result<(), ()>>));
            assert!(poll(future.as_mut()).is_pending());
            assert!(breaker.try_acquire().is_err());
            drop(future);
            assert_eq!(breaker.state(), then, "{on_cancel:?}");
            assert_eq!(breaker.try_acquire().is_ok(), then == State::HalfOpen, "{on_cancel:?}");
        }
    }

    type Manual = CircuitBreaker<Consecutive, ManualClock>;

    fn classify(_: &Result<(), ()>) -> Outcome {
        panic!("on purpose")
    }

    fn call(breaker: &Manual) -> bool {
        panics(|| breaker.call_with(classify, || Ok(())))
    }

    fn call_async(breaker: &Manual) -> bool {
        let mut future = Box::pin(breaker.call_async_with(classify, || async { Ok(()) }));
        let panicked = panics(|| poll(future.as_mut()));
        // Held until here, so that it is the panic that settles the call, and not the drop.
        assert_ne!(breaker.state(), State::Closed);
        panicked
    }

    #[test]
    fn a_classifier_that_panics_is_a_failure() {
        for call in [call, call_async] {
            let breaker = CircuitBreaker::builder().failures(1).clock(ManualClock::new()).build().unwrap();
            assert!(call(&breaker));
            assert_eq!(breaker.snapshot().trip().unwrap().reason(), Reason::ConsecutiveFailures);
        }
    }

    #[test]
    fn a_classifier_that_panics_does_not_lose_a_probes_place() {
        for call in [call, call_async] {
            let breaker = CircuitBreaker::builder().successes(1).clock(ManualClock::new()).build().unwrap();
            breaker.open();
            breaker.half_open().unwrap();
            assert!(call(&breaker));
            let probes = breaker.snapshot().probes().unwrap();
            assert_eq!((probes.admitted(), probes.failed()), (1, 1));
            assert!(call(&breaker));
            assert_eq!(breaker.snapshot().trip().unwrap().reason(), Reason::ProbeFailed);
        }
    }
}

mod numbers {
    use super::*;

    fn check<S: IntoPolicy>(builder: Builder<S>, text: &str) {
        let error = builder.build().err().unwrap_or_else(|| panic!("no error: {text}"));
        assert_eq!(error.to_string(), text);
        assert!(text.starts_with(&format!("{} is ", error.field())), "{}: {text}", error.field());
        assert!(text.contains(error.legal()), "{}: {text}", error.legal());
    }

    fn check_policy<S: IntoPolicy>(policy: S, text: &str) {
        check(CircuitBreaker::builder().policy(policy), text);
    }

    #[test]
    fn a_bad_configuration_names_the_field_the_value_and_the_range() {
        let builder = CircuitBreaker::builder;
        check(builder().open_for(Duration::ZERO), "open.for is 0ns: must be more than 0 and at most 3650 days");
        check(builder().backoff(0.999), "open.backoff is 0.999: must be from 1 to 4000");
        check(builder().backoff(4000.5), "open.backoff is 4000.5: must be from 1 to 4000");
        check(builder().backoff(f64::NAN), "open.backoff is NaN: must be from 1 to 4000");
        check(
            builder().max_open(29 * SECOND),
            "open.max is 29s: must be at most 3650 days and at least open.for (30s)",
        );
        check(
            builder().max_open(Duration::ZERO),
            "open.max is 0ns: must be at most 3650 days and at least open.for (30s)",
        );
        check(builder().jitter(-0.1), "open.jitter is -0.1 %: must be from 0 % to 100 %");
        check(builder().jitter(100.5), "open.jitter is 100.5 %: must be from 0 % to 100 %");
        check(builder().probes(0), "half_open.probes is 0: must be from 1 to 16383");
        check(builder().probes(16384), "half_open.probes is 16384: must be from 1 to 16383");
        check(builder().successes(0), "half_open.successes is 0: must be from 1 to half_open.probes (2)");
        check(builder().probes(3).successes(4), "half_open.successes is 4: must be from 1 to half_open.probes (3)");
        check(
            builder().max_wait(Duration::ZERO),
            "half_open.max_wait is 0ns: must be more than 0 and at most 3650 days",
        );
        check(
            builder().on_cancel(OnCancel::FailureAfter(Duration::ZERO)),
            "on_cancel.failure_after is 0ns: must be more than 0",
        );
        check(
            builder().initial_state(State::HalfOpen),
            "initial_state is half_open: must be closed, open, forced_open, disabled or metrics_only",
        );
    }

    #[test]
    fn a_bad_policy_names_the_field_the_value_and_the_range() {
        check_policy(Consecutive::new(0), "consecutive.failures is 0: must be from 1 to 4294967295");
        check_policy(CountWindow::over(0).failures(1), "window.calls is 0: must be from 1 to 1000000");
        check_policy(CountWindow::over(1_000_001).failures(1), "window.calls is 1000001: must be from 1 to 1000000");
        check_policy(TimeWindow::over(SECOND, 0).failures(1), "window.buckets is 0: must be from 1 to 65535");
        check_policy(TimeWindow::over(SECOND, 65_536).failures(1), "window.buckets is 65536: must be from 1 to 65535");
        check_policy(
            TimeWindow::over(SECOND, 10).stripes(0).failures(1),
            "window.stripes is 0: must be from 1 to 1024",
        );
        check_policy(
            TimeWindow::over(SECOND, 10).stripes(1025).failures(1),
            "window.stripes is 1025: must be from 1 to 1024",
        );
        check_policy(
            TimeWindow::over(Duration::ZERO, 10).failures(1),
            "window.length is 0ns: must be from 100µs to 3650 days and divide evenly by window.buckets (10)",
        );
        check_policy(
            TimeWindow::over(SECOND, 3).failures(1),
            "window.length is 1s: must be from 100µs to 3650 days and divide evenly by window.buckets (3)",
        );
        check_policy(
            CountWindow::over(5).min_calls(0).failures(1),
            "window.min_calls is 0: must be from 1 to window.calls (5)",
        );
        check_policy(
            CountWindow::over(5).min_calls(6).failures(1),
            "window.min_calls is 6: must be from 1 to window.calls (5)",
        );
        check_policy(
            TimeWindow::over(SECOND, 10).min_calls(0).failures(1),
            "window.min_calls is 0: must be from 1 to 4294967295",
        );
        check_policy(CountWindow::over(5).failures(0), "window.failures is 0: must be from 1 to window.calls (5)");
        check_policy(CountWindow::over(5).failures(6), "window.failures is 6: must be from 1 to window.calls (5)");
        check_policy(TimeWindow::over(SECOND, 10).failures(0), "window.failures is 0: must be from 1 to 4294967295");
        check_policy(
            CountWindow::over(5),
            "window is without a threshold: must have failures, failure_rate or slow_call_rate",
        );
        check_policy(
            CountWindow::over(5).slow_calls(Duration::ZERO, 50.0),
            "window.slow_call_limit is 0ns: must be more than 0",
        );
        check_policy(
            CountWindow::over(5).slow_call_rate(50.0),
            "window.slow_call_limit is not set: must be set with window.slow_call_rate (50 %)",
        );
        check_policy(
            CountWindow::over(5).slow_call_limit(SECOND),
            "window.slow_call_rate is not set: must be set with window.slow_call_limit (1s)",
        );
        check_policy(Vec::<Rule>::new(), "policies is 0: must be from 1 to 8");
        check_policy(vec![Rule::from(Consecutive::new(1)); 9], "policies is 9: must be from 1 to 8");
    }

    #[test]
    fn the_ends_of_the_ranges_are_legal() {
        let time = |length, buckets| TimeWindow::over(length, buckets).failures(1);
        let rules = [
            CountWindow::over(1).min_calls(1).failures(1).into(),
            CountWindow::over(1_000_000).min_calls(1_000_000).failures(1_000_000).failure_rate(100.0).into(),
            time(SECOND, 1).into(),
            time(65_535 * MILLI, 65_535).stripes(1024).into(),
            time(MILLI / 10, 1).into(),
            time(3650 * DAY, 1).failure_rate(0.000_001).into(),
            Consecutive::new(1).into(),
            Consecutive::new(u32::MAX).into(),
        ];
        for rule in &rules {
            assert_eq!(Rule::check(rule), Ok(()));
        }
        let small = vec![rules[6]; 8];
        assert!(CircuitBreaker::builder().policy(small).build().is_ok());
        let error = Rule::from(Consecutive::new(0)).check().unwrap_err();
        assert_eq!(error.field(), "consecutive.failures");
    }

    #[test]
    fn a_bad_rate_names_the_field_the_value_and_the_range() {
        for (percent, text) in [
            (0.0, "0 %"),
            (-1.0, "-1 %"),
            (0.000_000_4, "0.0000004 %"),
            (100.000_001, "100.000001 %"),
            (f64::INFINITY, "inf %"),
            (f64::NAN, "NaN %"),
        ] {
            let legal = "must be at least 0.000001 % and at most 100 %";
            let policy = CountWindow::over(5);
            check_policy(policy.failure_rate(percent), &format!("window.failure_rate is {text}: {legal}"));
            check_policy(policy.slow_calls(SECOND, percent), &format!("window.slow_call_rate is {text}: {legal}"));
        }
    }

    fn fails<P: InlinePolicy>(policy: Spec<P>, config: Config)
    where
        Spec<P>: IntoPolicy<Policy = P>,
    {
        let error = CircuitBreaker::builder().policy(policy).config(config).build().unwrap_err();
        let constant = AssertUnwindSafe(|| CircuitBreaker::new(policy, config));
        let panic = catch_unwind(constant).unwrap_err();
        let message = panic.downcast_ref::<&str>().unwrap();
        assert!(message.starts_with(&format!("{}: ", error.field())), "{error}, but as a constant {message}");
    }

    #[test]
    fn a_bad_constant_names_the_field() {
        let config = |config| fails(Consecutive::new(1), config);
        config(Config::new().open_for(Duration::ZERO));
        config(Config::new().backoff(0.5));
        config(Config::new().max_open(MILLI));
        config(Config::new().jitter(101.0));
        config(Config::new().probes(0));
        config(Config::new().successes(3));
        config(Config::new().max_wait(Duration::ZERO));
        config(Config::new().on_cancel(OnCancel::FailureAfter(Duration::ZERO)));
        config(Config::new().initial_state(State::HalfOpen));
        fails(Consecutive::new(0), Config::new());
        fails(LastCalls::<5>::new(), Config::new());
        fails(LastCalls::<5>::new().failures(6), Config::new());
        fails(LastCalls::<5>::new().min_calls(6).failures(1), Config::new());
        fails(LastCalls::<5>::new().failure_rate(0.0), Config::new());
        fails(LastCalls::<5>::new().slow_calls(SECOND, 0.0), Config::new());
        fails(LastCalls::<5>::new().slow_calls(Duration::ZERO, 1.0), Config::new());
        fails(LastTime::<3>::new(SECOND).failures(1), Config::new());
        fails(LastTime::<0>::new(SECOND).failures(1), Config::new());
    }

    #[test]
    fn a_wait_of_584_billion_years_is_an_error_and_no_panic() {
        let builder = CircuitBreaker::builder;
        check(
            builder().open_for(Duration::MAX),
            "open.for is 18446744073709551615.999999999s: must be more than 0 and at most 3650 days",
        );
        check(
            builder().max_open(Duration::MAX),
            "open.max is 18446744073709551615.999999999s: must be at most 3650 days and at least open.for (30s)",
        );
        check(
            builder().max_wait(Duration::MAX),
            "half_open.max_wait is 18446744073709551615.999999999s: must be more than 0 and at most 3650 days",
        );
        check_policy(
            TimeWindow::over(Duration::MAX, 10).failures(1),
            "window.length is 18446744073709551615.999999999s: must be from 100µs to 3650 days and divide evenly by \
             window.buckets (10)",
        );
    }

    #[test]
    fn a_limit_of_584_billion_years_is_never_reached() {
        let clock = ManualClock::new();
        let policy = CountWindow::over(1).slow_calls(Duration::MAX, 100.0);
        let builder = CircuitBreaker::builder().policy(policy).on_cancel(OnCancel::FailureAfter(Duration::MAX));
        let breaker = builder.clock(&clock).build().unwrap();
        let (slow, cancelled) = (breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap());
        clock.advance(Duration::MAX);
        slow.success();
        drop(cancelled);
        let window = breaker.snapshot().window();
        assert_eq!((window.total(), window.failed(), window.slow()), (1, 0, Some(0)));
    }

    #[test]
    fn a_pause_of_584_billion_years_is_the_longest_wait() {
        let clock = ManualClock::new();
        clock.advance(UNIX_TIME);
        let breaker = CircuitBreaker::builder().clock(&clock).build().unwrap();
        breaker.open_for(Duration::MAX);
        assert_eq!(breaker.snapshot().retry_after(), Some(3650 * DAY));
        breaker.open_for(Duration::MAX);
        assert_eq!(breaker.snapshot().retry_after(), Some(3650 * DAY));
        breaker.close();
        breaker.try_acquire().unwrap().open_for(Duration::MAX);
        assert_eq!(breaker.snapshot().retry_after(), Some(3650 * DAY));
    }

    #[test]
    fn jitter_does_not_pull_a_wait_far_above_the_cap_below_it() {
        for seed in 0..20 {
            let clock = ManualClock::new();
            let builder = CircuitBreaker::builder().failures(1).probes(1).successes(1);
            let builder = builder.open_for(SECOND).backoff(2.0).max_open(60 * SECOND).jitter(50.0).seed(seed);
            let breaker = builder.clock(&clock).build().unwrap();
            breaker.try_acquire().unwrap().failure();
            for reopened in 1..=40 {
                clock.advance(60 * SECOND);
                breaker.try_acquire().unwrap().failure();
                // 2^7 s less 50 % is the first that cannot be below 60 s.
                if reopened >= 7 {
                    let wait = breaker.snapshot().retry_after();
                    assert_eq!(wait, Some(60 * SECOND), "seed {seed}, re-opened {reopened} times");
                }
            }
        }
    }
}

#[test]
fn old_failures_do_not_come_back_with_the_first_call_after_65536_idle_laps() {
    for (laps, more) in [(65_535, 0), (65_535, 900), (65_536, 0), (65_536, 100), (65_537, 0)] {
        let clock = ManualClock::new();
        let policy = TimeWindow::over(Duration::from_secs(1), 10).failures(41);
        let breaker = CircuitBreaker::builder().policy(policy).clock(&clock).build().unwrap();
        clock.advance(Duration::from_millis(500));
        (0..40).for_each(|_| breaker.try_acquire().unwrap().failure());
        clock.advance(Duration::from_secs(laps) + Duration::from_millis(more));
        breaker.try_acquire().unwrap().failure();
        assert_eq!(breaker.snapshot().window().failed(), 1, "{laps} laps and {more} ms");
    }
}

#[test]
fn a_bad_constant_names_its_stripes() {
    let policy = LastTime::<10, 0>::new(Duration::from_secs(1)).failures(1);
    let panic = std::panic::catch_unwind(|| CircuitBreaker::new(policy, Config::new())).err().unwrap();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"window.stripes: must be from 1 to 1024"));
}

#[test]
fn a_clock_at_its_end_does_not_hang_a_call() {
    struct End;
    impl Clock for End {
        fn now(&self) -> Timestamp {
            Timestamp::from_nanos(u64::MAX)
        }
    }
    let breaker = CircuitBreaker::builder().failures(1).clock(End).build().unwrap();
    breaker.try_acquire().unwrap().failure();
    assert_eq!(breaker.state(), State::Open);
    assert!(breaker.try_acquire().is_err());
    breaker.half_open().unwrap();
    breaker.try_acquire().unwrap().success();
    breaker.try_acquire().unwrap().success();
    assert_eq!(breaker.state(), State::Closed);
}

mod constants {
    use super::*;

    /// Half a second later each time that it is read.
    #[derive(Default)]
    struct Ticks(AtomicU64);

    impl Clock for &Ticks {
        fn now(&self) -> Timestamp {
            Timestamp::from_nanos(self.0.fetch_add(1, SeqCst) * 500_000_000)
        }
    }

    /// How often the clock was read for a success, and whether two of them opened the breaker for being slow.
    fn successes<P: InlinePolicy>(policy: Spec<P>) -> (u64, State) {
        let clock = Ticks::default();
        let breaker = CircuitBreaker::new_with(policy, Config::new(), &clock, ());
        let before = clock.0.load(SeqCst);
        breaker.try_acquire().unwrap().success();
        let readings = clock.0.load(SeqCst) - before;
        breaker.try_acquire().unwrap().success();
        (readings, breaker.state())
    }

    #[test]
    fn calls_are_timed_if_one_of_the_policies_asks_for_it_and_only_then() {
        const STREAK: Spec<Consecutive> = Consecutive::new(5);
        const SLOW: Spec<LastCalls<2>> = LastCalls::new().slow_calls(Duration::from_millis(400), 100.0);
        assert_eq!(successes(STREAK), (0, State::Closed));
        assert_eq!(successes(SLOW), (2, State::Open));
        assert_eq!(successes(STREAK.and(SLOW)), (2, State::Open));
        assert_eq!(successes(SLOW.and(STREAK)), (2, State::Open));
    }
}
