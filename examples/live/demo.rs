//! What there is to see: dependencies with their troubles, each called by a few callers through its breaker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use failfast::registry::BuildError;
use failfast::{Config, Consecutive, CountWindow, Outcome, Registry, Rule, TimeWindow};

use crate::seen::Seen;
use crate::view::Breakers;

const CALLERS: u64 = 4;

/// Callers pause between two calls.
const PAUSE: (Duration, Duration) = (Duration::from_millis(60), Duration::from_millis(140));

const HEALTHY: Mood = Mood { latency_ms: (5, 30), failing: 0.004, pause: None };

/// How a dependency behaves for a while.
#[derive(Clone, Copy)]
struct Mood {
    latency_ms: (u64, u64),
    /// The share of its calls that fail.
    failing: f64,
    /// It is overloaded, and asks its callers to stay away for so long.
    pause: Option<Duration>,
}

/// A dependency that is healthy, and in each period once in another mood.
#[derive(Clone, Copy)]
struct Dependency {
    name: &'static str,
    period: u64,
    /// From this second of each period to that one.
    trouble: (u64, u64),
    mood: Mood,
}

const DEPENDENCIES: [Dependency; 6] = [
    // It is down in waves: what calls it waits, and fails.
    Dependency {
        name: "checkout",
        period: 45,
        trouble: (4, 18),
        mood: Mood { latency_ms: (300, 700), failing: 1.0, pause: None },
    },
    // New thresholds are tried out: its breaker rejects nothing, and counts how often it would have opened.
    Dependency { name: "mailer", period: 30, trouble: (12, 20), mood: Mood { failing: 0.9, ..HEALTHY } },
    Dependency {
        name: "quotes",
        period: 50,
        trouble: (20, 22),
        mood: Mood { pause: Some(Duration::from_secs(7)), ..HEALTHY },
    },
    Dependency { name: "search", period: 70, trouble: (25, 45), mood: Mood { latency_ms: (250, 600), ..HEALTHY } },
    // Some calls fail all the time, but not so many that it would open.
    Dependency { name: "stock", period: 60, trouble: (0, 60), mood: Mood { failing: 0.1, ..HEALTHY } },
    Dependency { name: "users", period: 60, trouble: (0, 0), mood: HEALTHY },
];

enum Failure {
    Unavailable,
    Overloaded(Duration),
}

/// One breaker for each dependency, made with its first call.
pub(crate) fn breakers() -> Result<Breakers, BuildError> {
    let last_ten_seconds = TimeWindow::standard().min_calls(20).failure_rate(50.0);
    let standard: Vec<Rule> = vec![last_ten_seconds.slow_calls(Duration::from_millis(200), 60.0).into()];
    let checkout: Vec<Rule> = vec![CountWindow::over(40).min_calls(20).failure_rate(50.0).into()];
    let stock: Vec<Rule> =
        vec![CountWindow::over(100).min_calls(20).failure_rate(30.0).into(), Consecutive::new(5).into()];
    let config = Config::new().open_for(Duration::from_secs(5)).probes(3).successes(2);
    Registry::builder()
        .default_policy(standard)
        .policy_for("stock", stock)
        .policy_for("checkout", checkout)
        .default_config(config)
        .config_for("mailer", config.initial_state(failfast::State::MetricsOnly))
        .observer(|_| Seen::new())
        .build()
}

/// Calls every dependency, for as long as the runtime lives.
pub(crate) fn call(breakers: &Arc<Breakers>) {
    let start = Instant::now();
    for dependency in DEPENDENCIES {
        let calls = Arc::new(AtomicU64::new(0));
        for _ in 0..CALLERS {
            let (breakers, calls) = (breakers.clone(), calls.clone());
            tokio::spawn(async move {
                loop {
                    let number = calls.fetch_add(1, Relaxed);
                    let mood = dependency.mood_after(start.elapsed());
                    let breaker = breakers.get(dependency.name);
                    // A service would answer from a cache, or say that it cannot, when it is rejected.
                    _ = breaker.call_async_with(classify, || mood.answer(number)).await;
                    drop(breaker);
                    tokio::time::sleep(between(random(number, 0), PAUSE)).await;
                }
            });
        }
    }
}

fn classify(result: &Result<(), Failure>) -> Outcome {
    match result {
        Err(Failure::Overloaded(pause)) => Outcome::OpenFor(Some(*pause)),
        other => Outcome::of(other),
    }
}

impl Dependency {
    fn mood_after(&self, elapsed: Duration) -> Mood {
        let (from, to) = self.trouble;
        if (from..to).contains(&(elapsed.as_secs() % self.period)) { self.mood } else { HEALTHY }
    }
}

impl Mood {
    async fn answer(self, number: u64) -> Result<(), Failure> {
        let (fastest, slowest) = self.latency_ms;
        let latency = (Duration::from_millis(fastest), Duration::from_millis(slowest));
        tokio::time::sleep(between(random(number, 1), latency)).await;
        match self.pause {
            Some(pause) => Err(Failure::Overloaded(pause)),
            None if random(number, 2) < self.failing => Err(Failure::Unavailable),
            None => Ok(()),
        }
    }
}

fn between(share: f64, (low, high): (Duration, Duration)) -> Duration {
    low + (high - low).mul_f64(share)
}

/// From 0 up to 1, the same in every run: the finalizer of splitmix64, of which neighbouring numbers come out unrelated.
fn random(number: u64, what: u64) -> f64 {
    let mut bits = (number * 3 + what + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^= bits >> 31;
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}
