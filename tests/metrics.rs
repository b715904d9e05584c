//! What the metrics say, by metrics-exporter-prometheus.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use failfast::metrics::{BUCKETS, CALL_DURATION, Metrics, OTHER};
use failfast::{
    CircuitBreaker, Clock, Consecutive, IntoPolicy, LastCalls, ManualClock, OnMaxWait, Outcome, Policy, Registry,
    State, TimeWindow, Timestamp,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

const CALLS: &str = "circuit_breaker_calls_total";
const STATE: &str = "circuit_breaker_state";
const TRANSITIONS: &str = "circuit_breaker_transitions_total";
const FAILURE_RATE: &str = "circuit_breaker_failure_rate";
const SLOW_CALL_RATE: &str = "circuit_breaker_slow_call_rate";

/// A monitoring system of one test's own.
struct Prometheus {
    metrics: Metrics,
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

/// The series of one scrape: name and labels, and the value.
struct Scrape(BTreeMap<(String, BTreeMap<String, String>), f64>);

impl Prometheus {
    fn new(metrics: Metrics) -> Self {
        let builder = PrometheusBuilder::new();
        let builder = builder.set_buckets_for_metric(Matcher::Full(CALL_DURATION.into()), &BUCKETS).unwrap();
        let recorder = builder.build_recorder();
        Self { metrics, handle: recorder.handle(), recorder }
    }

    fn scrape(&self) -> Scrape {
        metrics::with_local_recorder(&self.recorder, || self.metrics.collect());
        let text = self.handle.render();
        let samples = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        Scrape(samples.map(parse).collect())
    }
}

/// Of `name{label="value",…} 1`.
fn parse(line: &str) -> ((String, BTreeMap<String, String>), f64) {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let (name, labels) = series.split_once('{').unwrap();
    let labels = labels.trim_end_matches('}').split("\",").map(|label| {
        let (label, value) = label.split_once("=\"").unwrap();
        (label.to_owned(), value.trim_end_matches('"').to_owned())
    });
    ((name.to_owned(), labels.collect()), value.parse().unwrap())
}

impl Scrape {
    fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let labels = labels.iter().map(|&(label, value)| (label.to_owned(), value.to_owned())).collect();
        self.0.get(&(name.to_owned(), labels)).copied()
    }

    fn calls(&self, name: &str) -> [f64; 5] {
        ["success", "failure", "ignored", "cancelled", "rejected"]
            .map(|outcome| self.get(CALLS, &[("name", name), ("outcome", outcome)]).unwrap())
    }

    /// How many are in each state, the six in their order.
    fn states(&self, name: &str) -> [f64; 6] {
        ["closed", "open", "half_open", "forced_open", "disabled", "metrics_only"]
            .map(|state| self.get(STATE, &[("name", name), ("state", state)]).unwrap())
    }

    fn transitions(&self, from: &str, to: &str, cause: &str) -> Option<f64> {
        self.get(TRANSITIONS, &[("name", "x"), ("from", from), ("to", to), ("cause", cause)])
    }

    fn rate(&self, metric: &str) -> Option<f64> {
        self.get(metric, &[("name", "x")])
    }
}

fn fail<P: Policy, C: Clock, O: failfast::Observer>(breaker: &CircuitBreaker<P, C, O>) {
    breaker.try_acquire().unwrap().failure();
}

#[test]
fn every_call_is_counted_by_its_outcome() {
    let prometheus = Prometheus::new(Metrics::new());
    let breaker = CircuitBreaker::builder().failures(9).observer(prometheus.metrics.observer("x")).build().unwrap();
    assert_eq!(prometheus.scrape().calls("x"), [0.0; 5]);

    for _ in 0..3 {
        breaker.try_acquire().unwrap().success();
    }
    fail(&breaker);
    breaker.try_acquire().unwrap().ignore();
    drop(breaker.try_acquire().unwrap());
    let straggler = breaker.try_acquire().unwrap();
    breaker.try_acquire().unwrap().settle(Outcome::OpenFor(None));
    for _ in 0..4 {
        assert!(breaker.try_acquire().is_err());
    }
    straggler.success();
    assert_eq!(prometheus.scrape().calls("x"), [4.0, 2.0, 1.0, 1.0, 4.0]);
    assert_eq!(prometheus.scrape().calls("x"), [4.0, 2.0, 1.0, 1.0, 4.0]);

    breaker.disable();
    breaker.try_acquire().unwrap().success();
    assert_eq!(prometheus.scrape().calls("x"), [4.0, 2.0, 1.0, 1.0, 4.0]);
}

#[test]
fn the_state_is_one_of_six_and_read_when_it_is_scraped() {
    let prometheus = Prometheus::new(Metrics::new());
    let clock = Arc::new(ManualClock::new());
    let breaker = Arc::new(CircuitBreaker::builder().clock(clock.clone()).build().unwrap());
    prometheus.metrics.watch(("x", breaker.clone()));

    let at = |state: State| {
        let mut states = [0.0; 6];
        states[state as usize] = 1.0;
        states
    };
    assert_eq!(prometheus.scrape().states("x"), at(State::Closed));
    breaker.open();
    assert_eq!(prometheus.scrape().states("x"), at(State::Open));
    clock.advance(Duration::from_secs(30));
    assert_eq!(prometheus.scrape().states("x"), at(State::HalfOpen));
    breaker.force_open();
    assert_eq!(prometheus.scrape().states("x"), at(State::ForcedOpen));
    breaker.disable();
    assert_eq!(prometheus.scrape().states("x"), at(State::Disabled));
    breaker.metrics_only();
    assert_eq!(prometheus.scrape().states("x"), at(State::MetricsOnly));

    // Nobody counts its calls, so nobody says that there were none.
    assert_eq!(prometheus.scrape().get(CALLS, &[("name", "x"), ("outcome", "success")]), None);
}

#[test]
fn each_transition_has_its_cause() {
    let prometheus = Prometheus::new(Metrics::new());
    let clock = ManualClock::new();
    let builder = CircuitBreaker::builder().failures(1).clock(&clock).on_max_wait(OnMaxWait::Close);
    let breaker = builder.observer(prometheus.metrics.observer("x")).build().unwrap();
    let before = prometheus.scrape();
    let outage = [
        ("closed", "open", "consecutive_failures"),
        ("open", "half_open", "wait_over"),
        ("half_open", "open", "probe_failed"),
        ("half_open", "closed", "probes_succeeded"),
    ];
    for (from, to, cause) in outage {
        assert_eq!(before.transitions(from, to, cause), Some(0.0), "{from} {to} {cause}");
    }
    assert_eq!(before.transitions("closed", "disabled", "by_hand"), None);

    fail(&breaker);
    clock.advance(Duration::from_secs(30));
    fail(&breaker);
    clock.advance(Duration::from_secs(30));
    for _ in 0..2 {
        breaker.try_acquire().unwrap().success();
    }
    // Half-open before the wait is over, and after it; closed by the hand, and by time.
    breaker.open();
    breaker.half_open().unwrap();
    breaker.close();
    breaker.open();
    clock.advance(Duration::from_secs(30));
    drop(breaker.try_acquire().unwrap());
    clock.advance(Duration::from_secs(60));
    breaker.try_acquire().unwrap().success();
    breaker.disable();
    breaker.metrics_only();
    breaker.open();
    breaker.force_open();
    breaker.reset();

    let after = prometheus.scrape();
    let seen = [
        ("closed", "open", "consecutive_failures", 1.0),
        ("closed", "open", "by_hand", 2.0),
        ("open", "half_open", "wait_over", 3.0),
        ("open", "half_open", "by_hand", 1.0),
        ("half_open", "open", "probe_failed", 1.0),
        ("half_open", "closed", "probes_succeeded", 1.0),
        ("half_open", "closed", "by_hand", 1.0),
        ("half_open", "closed", "probe_timeout", 1.0),
        ("closed", "disabled", "by_hand", 1.0),
        ("disabled", "metrics_only", "by_hand", 1.0),
        ("metrics_only", "open", "by_hand", 1.0),
        ("open", "forced_open", "by_hand", 1.0),
        ("forced_open", "closed", "by_hand", 1.0),
    ];
    for (from, to, cause, count) in seen {
        assert_eq!(after.transitions(from, to, cause), Some(count), "{from} {to} {cause}");
    }
    let all: f64 = after.0.iter().filter(|((name, _), _)| name == TRANSITIONS).map(|(_, value)| value).sum();
    assert_eq!(all, seen.iter().map(|(.., count)| count).sum::<f64>());
}

#[test]
fn a_rate_is_absent_until_it_is_known() {
    let prometheus = Prometheus::new(Metrics::new());
    let clock = Arc::new(ManualClock::new());
    let window = LastCalls::<10>::new().min_calls(4).failure_rate(75.0).slow_calls(Duration::from_millis(100), 90.0);
    let breaker = CircuitBreaker::builder().policy((Consecutive::new(100), window)).clock(clock.clone());
    let breaker = Arc::new(breaker.build().unwrap());
    prometheus.metrics.watch(("x", breaker.clone()));

    let slow = breaker.try_acquire().unwrap();
    clock.advance(Duration::from_millis(101));
    slow.success();
    for _ in 0..2 {
        fail(&breaker);
    }
    let scrape = prometheus.scrape();
    assert_eq!((scrape.rate(FAILURE_RATE), scrape.rate(SLOW_CALL_RATE)), (None, None));
    breaker.try_acquire().unwrap().success();
    let scrape = prometheus.scrape();
    assert_eq!((scrape.rate(FAILURE_RATE), scrape.rate(SLOW_CALL_RATE)), (Some(50.0), Some(25.0)));

    // Open, it is that of the trip; closed again, there is none, and never a stale one.
    for _ in 0..4 {
        fail(&breaker);
    }
    assert_eq!(prometheus.scrape().rate(FAILURE_RATE), Some(75.0));
    breaker.close();
    assert!(prometheus.scrape().rate(FAILURE_RATE).unwrap().is_nan());
}

#[test]
fn a_breaker_without_a_window_has_no_rate() {
    let prometheus = Prometheus::new(Metrics::new());
    let breaker = Arc::new(CircuitBreaker::builder().build().unwrap());
    prometheus.metrics.watch(("x", breaker.clone()));
    fail(&breaker);
    assert_eq!(prometheus.scrape().rate(FAILURE_RATE), None);
}

#[test]
fn durations_are_in_their_buckets_and_their_sum_is_exact() {
    let prometheus = Prometheus::new(Metrics::new());
    let clock = ManualClock::new();
    let breaker = CircuitBreaker::builder().clock(&clock).observer(prometheus.metrics.observer("x")).build().unwrap();
    let call = |micros| {
        let permit = breaker.try_acquire().unwrap();
        clock.advance(Duration::from_micros(micros));
        permit.success();
    };
    let below = |scrape: &Scrape, le: &str| {
        scrape.get(&format!("{CALL_DURATION}_bucket"), &[("name", "x"), ("le", le)]).unwrap()
    };
    assert_eq!(below(&prometheus.scrape(), "+Inf"), 0.0);

    for micros in [0, 500, 25_000, 25_000, 25_001, 30_000_001] {
        call(micros);
    }
    let scrape = prometheus.scrape();
    let counts = ["0.0005", "0.001", "0.01", "0.025", "0.05", "30", "+Inf"].map(|le| below(&scrape, le));
    assert_eq!(counts, [2.0, 2.0, 2.0, 4.0, 5.0, 5.0, 6.0]);
    let sum = |scrape: &Scrape| scrape.get(&format!("{CALL_DURATION}_sum"), &[("name", "x")]).unwrap();
    assert!((sum(&scrape) - 30.075_502).abs() < 1e-9, "{}", sum(&scrape));

    // What has been published is not published again.
    assert_eq!(below(&prometheus.scrape(), "+Inf"), 6.0);
    call(60_000);
    let scrape = prometheus.scrape();
    assert_eq!((below(&scrape, "0.05"), below(&scrape, "0.1")), (5.0, 6.0));
    assert!((sum(&scrape) - 30.135_502).abs() < 1e-9);

    // A cancelled call took time, a rejected one none.
    drop(breaker.try_acquire().unwrap());
    breaker.open();
    assert!(breaker.try_acquire().is_err());
    assert_eq!(below(&prometheus.scrape(), "+Inf"), 8.0);
}

/// A clock that counts how often it is read.
#[derive(Default)]
struct Counting(AtomicU64);

impl Clock for Counting {
    const MONOTONIC: bool = true;

    fn now(&self) -> Timestamp {
        self.0.fetch_add(1, Relaxed);
        Timestamp::ORIGIN
    }
}

/// How often one call reads the clock.
fn reads(policy: impl IntoPolicy, metrics: &Metrics) -> u64 {
    let clock = Counting::default();
    let builder = CircuitBreaker::builder().policy(policy).clock(&clock);
    let breaker = builder.observer(metrics.observer("x")).build().unwrap();
    let before = clock.0.load(Relaxed);
    assert_eq!(breaker.call(|| Ok::<_, ()>(())), Ok(()));
    clock.0.load(Relaxed) - before
}

#[test]
fn durations_read_the_clock_twice_a_call_unless_the_policy_does() {
    let (timing, counting) = (Metrics::new(), Metrics::builder().durations(false).build().unwrap());
    let slow_calls = || TimeWindow::over(Duration::from_secs(10), 10).slow_calls(Duration::from_secs(1), 50.0);
    assert_eq!((reads(Consecutive::new(5), &counting), reads(Consecutive::new(5), &timing)), (0, 2));
    assert_eq!((reads(slow_calls(), &counting), reads(slow_calls(), &timing)), (2, 2));

    let prometheus = Prometheus::new(counting);
    let scrape = prometheus.scrape();
    assert_eq!(scrape.calls("x")[0], 2.0);
    assert!(scrape.0.keys().all(|(name, _)| !name.starts_with(CALL_DURATION)));
}

#[test]
fn names_beyond_the_capacity_share_one() {
    let prometheus = Prometheus::new(Metrics::builder().capacity(2).build().unwrap());
    let breakers: Vec<_> = (0..5)
        .map(|n| {
            let name = format!("n{n}");
            let builder = CircuitBreaker::builder().failures(1).observer(prometheus.metrics.observer(&name));
            (name, Arc::new(builder.build().unwrap()))
        })
        .collect();
    for (name, breaker) in &breakers {
        prometheus.metrics.watch((name.clone(), breaker.clone()));
        fail(breaker);
    }
    breakers[4].1.close();
    let scrape = prometheus.scrape();
    assert_eq!(scrape.calls("n1"), [0.0, 1.0, 0.0, 0.0, 0.0]);
    assert_eq!(scrape.calls(OTHER), [0.0, 3.0, 0.0, 0.0, 0.0]);
    assert_eq!(scrape.states("n1"), [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(scrape.states(OTHER), [1.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(scrape.get(STATE, &[("name", "n2"), ("state", "open")]), None);
}

#[test]
fn a_registry_is_watched_by_its_keys_and_what_leaves_it_is_in_no_state() {
    let prometheus = Prometheus::new(Metrics::new());
    let hosts = Registry::builder().observer(prometheus.metrics.observers()).build().unwrap();
    let hosts = Arc::new(hosts);
    prometheus.metrics.watch(hosts.clone());
    for host in ["a", "b"] {
        hosts.get(host).try_acquire().unwrap().success();
    }
    hosts.get("b").breaker().unwrap().open();
    assert!(hosts.get("b").try_acquire().is_err());
    let scrape = prometheus.scrape();
    assert_eq!((scrape.calls("a"), scrape.calls("b")), ([1.0, 0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 1.0]));
    assert_eq!(scrape.states("b"), [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);

    hosts.remove("b");
    let scrape = prometheus.scrape();
    assert_eq!(scrape.states("b"), [0.0; 6]);
    assert_eq!(scrape.calls("b"), [1.0, 0.0, 0.0, 0.0, 1.0]);

    // Back again, it goes on where it was.
    hosts.get("b").try_acquire().unwrap().success();
    let scrape = prometheus.scrape();
    assert_eq!(scrape.calls("b"), [2.0, 0.0, 0.0, 0.0, 1.0]);
    assert_eq!(scrape.states("b"), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn what_a_full_registry_rejects_is_counted_apart() {
    let prometheus = Prometheus::new(Metrics::new());
    let hosts = Registry::builder().capacity(1).observer(prometheus.metrics.observers()).build().unwrap();
    let _held = hosts.get("a");
    assert!(hosts.get("b").call(|| Ok::<_, ()>(())).is_err());
    assert_eq!(prometheus.scrape().calls("(full)"), [0.0, 0.0, 0.0, 0.0, 1.0]);
}

#[test]
fn no_call_is_lost_or_counted_twice_while_it_is_scraped() {
    const THREADS: u64 = 4;
    const CALLS_EACH: u64 = 20_000;
    let prometheus = Prometheus::new(Metrics::builder().stripes(2).build().unwrap());
    let breaker =
        CircuitBreaker::builder().failures(u32::MAX).observer(prometheus.metrics.observer("x")).build().unwrap();
    let seen = |scrape: &Scrape| {
        let count = scrape.get(&format!("{CALL_DURATION}_count"), &[("name", "x")]).unwrap();
        let [success, failure, ..] = scrape.calls("x");
        assert_eq!(count, success + failure);
        count
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for call in 0..CALLS_EACH {
                    _ = breaker.call(|| if call % 2 == 0 { Ok(()) } else { Err(()) });
                }
            });
        }
        let mut last = 0.0;
        while last < (THREADS * CALLS_EACH) as f64 {
            let now = seen(&prometheus.scrape());
            assert!(now >= last);
            last = now;
        }
    });
    let half = (THREADS * CALLS_EACH / 2) as f64;
    assert_eq!(prometheus.scrape().calls("x"), [half, half, 0.0, 0.0, 0.0]);
}

#[test]
fn bad_numbers_are_refused() {
    let message = |builder: failfast::metrics::MetricsBuilder| builder.build().unwrap_err().to_string();
    assert_eq!(message(Metrics::builder().capacity(100_001)), "metrics.capacity is 100001: must be from 1 to 100000");
    assert_eq!(message(Metrics::builder().stripes(0)), "metrics.stripes is 0: must be from 1 to 1024");
}
