//! What observers are told, beside the contract's events: why, how long, and for how long.

use std::sync::Mutex;
use std::time::Duration;

use failfast::{Cause, CircuitBreaker, History, ManualClock, Observer, OnMaxWait, Reason, SettledCall, Transition};

#[derive(Default)]
struct Seen {
    transitions: Mutex<Vec<Transition>>,
    calls: Mutex<Vec<SettledCall>>,
}

impl Observer for Seen {
    fn times_calls(&self) -> bool {
        true
    }

    fn on_transition(&self, transition: &Transition) {
        self.transitions.lock().unwrap().push(*transition);
    }

    fn on_outcome(&self, call: &SettledCall) {
        self.calls.lock().unwrap().push(*call);
    }
}

const WAIT: Duration = Duration::from_secs(30);

/// The causes of what `act` makes of a breaker that opens after one failure.
fn causes(
    on_max_wait: OnMaxWait,
    act: impl FnOnce(&ManualClock, &CircuitBreaker<failfast::Consecutive, &ManualClock, (&Seen, History<16>)>),
) -> Vec<Cause> {
    let clock = ManualClock::new();
    let seen = Seen::default();
    let builder = CircuitBreaker::builder().failures(1).on_max_wait(on_max_wait).clock(&clock);
    let breaker = builder.observer((&seen, History::new())).build().unwrap();
    act(&clock, &breaker);
    let told: Vec<_> = seen.transitions.lock().unwrap().iter().map(Transition::cause).collect();
    let kept: Vec<_> = breaker.observer().1.recent().map(|transition| transition.cause()).collect();
    assert_eq!(told, kept);
    told
}

#[test]
fn an_outage_has_its_causes() {
    let causes = causes(OnMaxWait::Renew, |clock, breaker| {
        breaker.try_acquire().unwrap().failure();
        clock.advance(WAIT);
        breaker.try_acquire().unwrap().failure();
        clock.advance(WAIT);
        breaker.try_acquire().unwrap().open_for(WAIT);
        clock.advance(WAIT);
        (0..2).for_each(|_| breaker.try_acquire().unwrap().success());
    });
    let opened = Cause::Opened;
    let expected = [
        opened(Reason::ConsecutiveFailures),
        Cause::WaitOver,
        opened(Reason::ProbeFailed),
        Cause::WaitOver,
        opened(Reason::Requested),
        Cause::WaitOver,
        Cause::ProbesSucceeded,
    ];
    assert_eq!(causes, expected);
}

#[test]
fn time_that_decides_is_a_cause() {
    for (on_max_wait, cause) in
        [(OnMaxWait::Open, Cause::Opened(Reason::ProbeTimeout)), (OnMaxWait::Close, Cause::ProbeTimeout)]
    {
        let causes = causes(on_max_wait, |clock, breaker| {
            breaker.open();
            clock.advance(WAIT);
            drop(breaker.try_acquire());
            clock.advance(Duration::from_secs(60));
            drop(breaker.try_acquire());
        });
        assert_eq!(causes, [Cause::Opened(Reason::ByHand), Cause::WaitOver, cause]);
    }
}

#[test]
fn probes_that_decide_in_the_last_moment_are_the_cause() {
    let causes = causes(OnMaxWait::Close, |clock, breaker| {
        breaker.open();
        clock.advance(WAIT);
        let probes = [breaker.try_acquire().unwrap(), breaker.try_acquire().unwrap()];
        clock.advance(Duration::from_millis(59_999));
        probes.into_iter().for_each(|probe| probe.success());
    });
    assert_eq!(causes.last(), Some(&Cause::ProbesSucceeded));
}

#[test]
fn the_hand_is_a_cause() {
    let causes = causes(OnMaxWait::Renew, |clock, breaker| {
        breaker.open();
        breaker.half_open().unwrap();
        breaker.reset();
        breaker.open();
        // Half-open it is already, by time.
        clock.advance(WAIT);
        breaker.half_open().unwrap();
        breaker.force_open();
        breaker.disable();
        breaker.metrics_only();
        breaker.close();
    });
    let by_hand = Cause::Opened(Reason::ByHand);
    assert_eq!(causes[..5], [by_hand, Cause::ByHand, Cause::ByHand, by_hand, Cause::WaitOver]);
    assert_eq!(causes[5..], [Cause::ByHand; 4]);
}

#[test]
fn who_opens_says_for_how_long() {
    let clock = ManualClock::new();
    let seen = Seen::default();
    let builder = CircuitBreaker::builder().open_for(WAIT).max_open(2 * WAIT).clock(&clock).observer(&seen);
    let breaker = builder.build().unwrap();
    breaker.open();
    breaker.close();
    breaker.open_for(3 * WAIT);
    let waits: Vec<_> = seen.transitions.lock().unwrap().iter().map(Transition::retry_after).collect();
    assert_eq!(waits, [Some(WAIT), None, Some(2 * WAIT)]);
}

#[test]
fn a_call_s_time_is_told_however_it_ends_and_only_to_who_asks() {
    struct Untimed(Mutex<Vec<Option<Duration>>>);
    impl Observer for Untimed {
        fn on_outcome(&self, call: &SettledCall) {
            self.0.lock().unwrap().push(call.elapsed());
        }
    }
    let clock = ManualClock::new();
    let seen = Seen::default();
    let breaker = CircuitBreaker::builder().failures(2).clock(&clock).observer((&seen, ())).build().unwrap();
    let untimed = Untimed(Mutex::default());
    let alone = CircuitBreaker::builder().clock(&clock).observer(&untimed).build().unwrap();
    clock.advance(WAIT);

    let permits: [_; 4] = std::array::from_fn(|_| breaker.try_acquire().unwrap());
    let permit = alone.try_acquire().unwrap();
    clock.advance(Duration::from_millis(7));
    let [success, ignored, cancelled, straggler] = permits;
    success.success();
    ignored.ignore();
    drop(cancelled);
    breaker.reset();
    straggler.failure();
    permit.success();
    let times: Vec<_> = seen.calls.lock().unwrap().iter().map(SettledCall::elapsed).collect();
    assert_eq!(times, [Some(Duration::from_millis(7)); 4]);
    assert_eq!(*untimed.0.lock().unwrap(), [None]);
}
