//! What is logged of transitions, and that nothing is of calls.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use failfast::tracing::Events;
use failfast::{CircuitBreaker, LastCalls, ManualClock};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::with_default;
use tracing::{Event, Level, Metadata, Subscriber};

/// An event: its level and fields, as text.
type Seen = (Level, BTreeMap<&'static str, String>);

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Seen>>>);

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "failfast"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.0.lock().unwrap().push((*event.metadata().level(), fields.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[derive(Default)]
struct Fields(BTreeMap<&'static str, String>);

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

/// What is logged while `act` runs.
fn logged(act: impl FnOnce()) -> Vec<Seen> {
    let log = Log::default();
    with_default(log.clone(), act);
    let mut seen = log.0.lock().unwrap();
    std::mem::take(&mut seen)
}

fn fields<const N: usize>(fields: [(&'static str, &str); N]) -> BTreeMap<&'static str, String> {
    fields.into_iter().map(|(name, value)| (name, value.to_owned())).collect()
}

#[test]
fn an_outage_is_logged_once_per_transition() {
    let clock = ManualClock::new();
    let policy = LastCalls::<10>::new().min_calls(2).failure_rate(50.0).slow_calls(Duration::from_secs(1), 100.0);
    let builder = CircuitBreaker::builder().policy(policy).clock(&clock).observer(Events::new("payments"));
    let breaker = builder.build().unwrap();
    let seen = logged(|| {
        breaker.try_acquire().unwrap().success();
        breaker.try_acquire().unwrap().failure();
        assert!(breaker.try_acquire().is_err());
        clock.advance(Duration::from_secs(30));
        for _ in 0..2 {
            breaker.try_acquire().unwrap().success();
        }
    });
    let opened = fields([
        ("message", "circuit payments: closed -> open (1 of the last 2 calls failed (limit 50 %))"),
        ("name", "payments"),
        ("from", "closed"),
        ("to", "open"),
        ("reason", "failure_rate"),
        ("generation", "1"),
        ("total", "2"),
        ("failed", "1"),
        ("slow", "0"),
        ("retry_after", "30.0"),
    ]);
    let half_opened = fields([
        ("message", "circuit payments: open -> half_open"),
        ("name", "payments"),
        ("from", "open"),
        ("to", "half_open"),
        ("reason", "wait_over"),
        ("generation", "2"),
    ]);
    let closed = fields([
        ("message", "circuit payments: half_open -> closed"),
        ("name", "payments"),
        ("from", "half_open"),
        ("to", "closed"),
        ("reason", "probes_succeeded"),
        ("generation", "3"),
    ]);
    assert_eq!(seen, [(Level::WARN, opened), (Level::INFO, half_opened), (Level::INFO, closed)]);
}

#[test]
fn the_level_says_how_bad_it_is() {
    let breaker = CircuitBreaker::builder().observer(Events::new(String::from("x"))).build().unwrap();
    let seen = logged(|| {
        breaker.open();
        breaker.half_open().unwrap();
        breaker.force_open();
        breaker.disable();
        breaker.metrics_only();
        breaker.close();
    });
    let levels: Vec<_> = seen.iter().map(|(level, fields)| (fields["to"].as_str(), *level)).collect();
    let expected = [
        ("open", Level::WARN),
        ("half_open", Level::INFO),
        ("forced_open", Level::WARN),
        ("disabled", Level::WARN),
        ("metrics_only", Level::WARN),
        ("closed", Level::INFO),
    ];
    assert_eq!(levels, expected);
    assert!(seen.iter().all(|(_, fields)| fields["reason"] == "by_hand"));
}

#[test]
fn a_would_trip_is_logged() {
    let breaker = CircuitBreaker::builder().failures(2).observer(Events::new("x")).build().unwrap();
    breaker.metrics_only();
    let seen = logged(|| (0..2).for_each(|_| breaker.try_acquire().unwrap().failure()));
    let expected = fields([
        ("message", "circuit x would have opened: 2 calls failed in a row (limit 2)"),
        ("name", "x"),
        ("would_trip", "true"),
        ("reason", "consecutive_failures"),
        ("total", "2"),
        ("failed", "2"),
    ]);
    assert_eq!(seen, [(Level::WARN, expected)]);
}

#[test]
fn a_name_cannot_forge_a_line() {
    let breaker = CircuitBreaker::builder().observer(Events::new("a\nb")).build().unwrap();
    let seen = logged(|| breaker.open());
    assert_eq!(seen[0].1["message"], r"circuit a\nb: closed -> open (opened by hand)");
    assert_eq!(seen[0].1["name"], "a\nb");
}

#[test]
fn calls_are_not_logged() {
    let breaker = CircuitBreaker::builder().observer(Events::new("x")).build().unwrap();
    breaker.force_open();
    assert_eq!(logged(|| assert!(breaker.try_acquire().is_err())), []);
}
