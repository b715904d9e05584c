//! Thresholds that change while the breaker lives.

use std::time::Duration;

use failfast::{
    BoxPolicy, CircuitBreaker, ConfigError, Consecutive, CountWindow, LastCalls, ManualClock, Observer, Policy, Reason,
    Rule, State, TimeWindow, WouldTrip,
};

const MILLI: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn fail<P: Policy, O: Observer>(breaker: &CircuitBreaker<P, &ManualClock, O>, times: usize) {
    (0..times).for_each(|_| breaker.try_acquire().unwrap().failure());
}

fn succeed<P: Policy, O: Observer>(breaker: &CircuitBreaker<P, &ManualClock, O>, times: usize) {
    (0..times).for_each(|_| breaker.try_acquire().unwrap().success());
}

/// Ends a call that took so long as a success.
fn slow<P: Policy>(breaker: &CircuitBreaker<P, &ManualClock>, clock: &ManualClock, took: Duration) {
    let permit = breaker.try_acquire().unwrap();
    clock.advance(took);
    permit.success();
}

#[test]
fn a_streak_goes_on_under_its_new_limit() {
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::builder().failures(3).clock(&clock).build().unwrap();
    fail(&breaker, 2);
    breaker.set_thresholds(Consecutive::new(10)).unwrap();
    fail(&breaker, 4);
    assert_eq!(breaker.snapshot().consecutive_failures(), Some(6));
    breaker.set_thresholds(Consecutive::new(5)).unwrap();
    assert_eq!(breaker.state(), State::Closed, "the change itself moves nothing");
    fail(&breaker, 1);
    assert_eq!(breaker.snapshot().trip().unwrap().to_string(), "7 calls failed in a row (limit 5)");
    breaker.set_thresholds(Consecutive::new(3)).unwrap();
    breaker.close();
    fail(&breaker, 3);
    assert_eq!(breaker.state(), State::Open, "back to what it was built with");
}

#[test]
fn a_count_window_keeps_what_it_holds() {
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::builder()
        .policy(LastCalls::<100>::new().min_calls(20).failure_rate(50.0))
        .clock(&clock)
        .build()
        .unwrap();
    succeed(&breaker, 7);
    fail(&breaker, 3);
    // The rate is known from 10 calls on now, and they are there; the next outcome is judged by it, a success too.
    breaker.set_thresholds(LastCalls::<100>::new().min_calls(10).failure_rate(25.0)).unwrap();
    succeed(&breaker, 1);
    let trip = breaker.snapshot().trip().unwrap();
    assert_eq!(trip.to_string(), "3 of the last 11 calls failed (limit 25 %)");
}

#[test]
fn a_full_window_is_judged_with_the_next_failure() {
    let clock = ManualClock::new();
    let breaker =
        CircuitBreaker::builder().policy(CountWindow::over(10).failure_rate(90.0)).clock(&clock).build().unwrap();
    fail(&breaker, 8);
    succeed(&breaker, 7);
    breaker.set_thresholds(CountWindow::over(10).failure_rate(30.0)).unwrap();
    fail(&breaker, 1);
    assert_eq!(breaker.snapshot().trip().unwrap().to_string(), "3 of the last 10 calls failed (limit 30 %)");
}

#[test]
fn a_time_window_takes_other_thresholds_and_other_kinds_of_them() {
    let clock = ManualClock::new();
    let over = || TimeWindow::over(10 * SECOND, 10);
    let breaker = CircuitBreaker::builder().policy(over().failures(3)).clock(&clock).build().unwrap();
    fail(&breaker, 2);
    succeed(&breaker, 18);
    breaker.set_thresholds(over().min_calls(20).failure_rate(10.0)).unwrap();
    // A success that finds the old thresholds quiet finds the new ones not.
    succeed(&breaker, 1);
    assert_eq!(breaker.state(), State::Closed);
    fail(&breaker, 1);
    assert_eq!(breaker.snapshot().trip().unwrap().reason(), Reason::FailureRate);
}

#[test]
fn a_success_is_judged_by_a_time_windows_new_thresholds_too() {
    let clock = ManualClock::new();
    let over = || TimeWindow::over(10 * SECOND, 10);
    let breaker = CircuitBreaker::builder().policy(over().failure_rate(90.0)).clock(&clock).build().unwrap();
    fail(&breaker, 8);
    succeed(&breaker, 12);
    breaker.set_thresholds(over().failure_rate(30.0)).unwrap();
    succeed(&breaker, 1);
    assert_eq!(breaker.snapshot().trip().unwrap().to_string(), "8 of 21 calls in the last 10.0 s failed (limit 30 %)");
}

#[test]
fn what_is_slow_changes_for_the_calls_that_end_from_now_on() {
    let clock = ManualClock::new();
    let over = || CountWindow::over(10).min_calls(4);
    let breaker = CircuitBreaker::builder().policy(over().slow_calls(100 * MILLI, 50.0)).clock(&clock).build().unwrap();
    slow(&breaker, &clock, 101 * MILLI);
    breaker.set_thresholds(over().slow_calls(200 * MILLI, 75.0)).unwrap();
    slow(&breaker, &clock, 150 * MILLI);
    assert_eq!(breaker.snapshot().window().slow(), Some(1), "what was slow then still is");
    slow(&breaker, &clock, 201 * MILLI);
    slow(&breaker, &clock, 201 * MILLI);
    assert_eq!(breaker.snapshot().trip().unwrap().to_string(), "3 of the last 4 calls were slow (limit 75 %)");
    breaker.close();
    // Without the rate a slow call trips nothing, and a slow probe is none.
    breaker.set_thresholds(over().failures(10)).unwrap();
    (0..10).for_each(|_| slow(&breaker, &clock, SECOND));
    assert_eq!(breaker.state(), State::Closed);
    breaker.set_thresholds(over().slow_calls(200 * MILLI, 75.0)).unwrap();
    slow(&breaker, &clock, SECOND);
    (0..8).for_each(|_| _ = breaker.try_acquire().map(|permit| permit.success()));
    assert_eq!(breaker.snapshot().window().slow(), Some(1));
}

#[test]
fn a_running_deadline_and_the_evidence_stay() {
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::builder().failures(2).open_for(10 * SECOND).clock(&clock).build().unwrap();
    fail(&breaker, 2);
    clock.advance(4 * SECOND);
    let (before, rejected) = (breaker.snapshot(), breaker.try_acquire().unwrap_err());
    breaker.set_thresholds(Consecutive::new(7)).unwrap();
    assert_eq!(breaker.snapshot(), before);
    assert_eq!(breaker.try_acquire().unwrap_err(), rejected);
    assert_eq!(rejected.to_string(), "circuit open: 2 calls failed in a row (limit 2); retry in 6.0 s");
    clock.advance(6 * SECOND);
    assert_eq!(breaker.state(), State::HalfOpen);
}

#[test]
fn of_joined_policies_all_change_or_none() {
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::builder()
        .policy((Consecutive::new(5), CountWindow::over(20).failures(10)))
        .clock(&clock)
        .build()
        .unwrap();
    let error = breaker.set_thresholds((Consecutive::new(1), CountWindow::over(21).failures(10))).unwrap_err();
    assert_eq!(error.to_string(), "window.calls is 21: must be what the breaker was built with (20)");
    fail(&breaker, 4);
    assert_eq!(breaker.state(), State::Closed);
    breaker.set_thresholds((Consecutive::new(6), CountWindow::over(20).failures(5))).unwrap();
    fail(&breaker, 1);
    assert_eq!(breaker.snapshot().trip().unwrap().reason(), Reason::Failures);
}

#[test]
fn a_list_of_policies_takes_a_list_of_the_same_kinds() {
    let clock = ManualClock::new();
    let rules =
        |limit: u32| -> Vec<Rule> { vec![Consecutive::new(limit).into(), CountWindow::over(20).failures(10).into()] };
    let breaker: CircuitBreaker<BoxPolicy, _> =
        CircuitBreaker::builder().policy(rules(5)).clock(&clock).build().unwrap();
    breaker.set_thresholds(rules(2)).unwrap();
    let says = |rules: Vec<Rule>| breaker.set_thresholds(rules).unwrap_err().to_string();
    assert_eq!(says(vec![Consecutive::new(5).into()]), "policies is 1: must be what the breaker was built with (2)");
    assert_eq!(
        says(vec![Consecutive::new(5).into(), TimeWindow::standard().into()]),
        "policy.kind is a time window: must be what the breaker was built with (a count window)"
    );
    fail(&breaker, 2);
    assert_eq!(breaker.snapshot().trip().unwrap().to_string(), "2 calls failed in a row (limit 2)");
}

#[test]
fn what_cannot_change_is_named() {
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::builder().policy(TimeWindow::standard()).clock(&clock).build().unwrap();
    let says = |spec| breaker.set_thresholds(spec).map_err(|error: ConfigError| error.to_string()).unwrap_err();
    let over = |seconds, buckets| TimeWindow::over(seconds * SECOND, buckets).failure_rate(50.0);
    assert_eq!(says(over(20, 10)), "window.length is 20s: must be what the breaker was built with (10s)");
    assert_eq!(says(over(10, 5)), "window.buckets is 5: must be what the breaker was built with (10)");
    assert_eq!(
        says(over(10, 10).slow_calls(SECOND, 12.5)),
        "window.slow_call_rate is 12.5 %: must not be set: the breaker was built without, and does not time its calls"
    );
    assert_eq!(
        says(over(10, 10).failure_rate(101.0)),
        "window.failure_rate is 101 %: must be at least 0.000001 % and at most 100 %"
    );
}

#[test]
fn metrics_only_tells_of_what_a_change_would_trip() {
    #[derive(Default)]
    struct Told(std::sync::Mutex<Vec<String>>);
    impl Observer for Told {
        fn on_would_trip(&self, event: &WouldTrip) {
            self.0.lock().unwrap().push(event.trip().to_string());
        }
    }
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::builder()
        .policy(CountWindow::over(20).failures(10))
        .initial_state(State::MetricsOnly)
        .clock(&clock)
        .observer(Told::default())
        .build()
        .unwrap();
    fail(&breaker, 3);
    breaker.set_thresholds(CountWindow::over(20).failures(5)).unwrap();
    fail(&breaker, 4);
    assert_eq!(*breaker.observer().0.lock().unwrap(), ["5 of the last 5 calls failed (limit 5)"]);
}
