//! One answer for several breakers.

use std::sync::Arc;
use std::time::Duration;

use failfast::{CircuitBreaker, Config, Consecutive, Health, LastCalls, ManualClock, Monitored, Snapshot, State};

#[test]
fn only_what_rejects_degrades() {
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::builder().clock(&clock).build().unwrap();
    let health = || Health::of(&("x", &breaker));
    assert!(!health().is_degraded());
    breaker.open();
    assert!(health().is_degraded());
    // Nobody knows yet whether it is well again.
    clock.advance(Duration::from_secs(30));
    assert_eq!((health().is_degraded(), health().count(State::HalfOpen)), (true, 1));
    breaker.force_open();
    assert!(health().is_degraded());
    breaker.disable();
    assert!(!health().is_degraded());
    breaker.metrics_only();
    assert_eq!((health().status(), health().count(State::MetricsOnly)), ("healthy", 1));
    breaker.close();
    assert_eq!(health().to_string(), "healthy: 1 breaker");
}

#[test]
fn breakers_of_any_kind_are_asked_together() {
    static MAIL: CircuitBreaker = CircuitBreaker::new(Consecutive::new(5), Config::new());
    let clock = Arc::new(ManualClock::new());
    let search = CircuitBreaker::builder().policy(LastCalls::<10>::new().failures(3)).clock(clock.clone()).build();
    let search = Arc::new(search.unwrap());
    let all: Vec<Box<dyn Monitored>> = vec![
        Box::new(("search", search.clone())),
        Box::new([("mail", &MAIL), ("more mail", &MAIL)]),
        Box::new(("a\nb", search.clone())),
    ];
    assert_eq!(Health::of(&all).to_string(), "healthy: 4 breakers");
    search.open();
    let health = Health::of(&all);
    let degraded: Vec<_> = health.degraded().map(|(name, snapshot)| (name, snapshot.state())).collect();
    assert_eq!(degraded, [("a\nb", State::Open), ("search", State::Open)]);
    let line = "degraded: 2 of 4 breakers; a\\nb open since 0 ms: opened by hand; probes in 30.0 s; \
                search open since 0 ms: opened by hand; probes in 30.0 s";
    assert_eq!(health.to_string(), line);
}

#[test]
fn nothing_is_healthy() {
    struct Nothing;
    impl Monitored for Nothing {
        fn each(&self, _: &mut dyn FnMut(&str, &Snapshot)) {}
    }
    assert_eq!(Health::of(&Nothing).to_string(), "healthy: 0 breakers");
}
