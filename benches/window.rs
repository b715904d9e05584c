//! What a window costs, against its length and its buckets.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod floor;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use failfast::{CircuitBreaker, CountWindow, ManualClock, Outcome, TimeWindow};

fn count_window(c: &mut Criterion) {
    let mut group = c.benchmark_group("count window");
    floor::rows(&mut group);
    for calls in [10, 100, 1_000, 10_000, 100_000, 1_000_000] {
        let policy = CountWindow::over(calls).failure_rate(100.0);
        let breaker = CircuitBreaker::builder().policy(policy).build().unwrap();
        let record = |outcome| breaker.try_acquire().unwrap().settle(outcome);
        (0..calls).for_each(|_| record(Outcome::Success));
        group.bench_function(BenchmarkId::new("success, spotless", calls), |b| b.iter(|| record(Outcome::Success)));
        record(Outcome::Failure);
        group.bench_function(BenchmarkId::new("success, a failure in 7", calls), |b| {
            let mut i = 0;
            b.iter(|| {
                i += 1;
                record(if i % 7 == 0 { Outcome::Failure } else { Outcome::Success });
            });
        });
    }
    group.finish();
}

fn time_window(c: &mut Criterion) {
    let mut group = c.benchmark_group("time window");
    floor::rows(&mut group);
    for buckets in [1, 10, 100, 1_000] {
        for stripes in [1, 16] {
            let clock = ManualClock::new();
            let policy = TimeWindow::over(Duration::from_secs(1000), buckets).stripes(stripes).failure_rate(100.0);
            let breaker = CircuitBreaker::builder().policy(policy).clock(&clock).build().unwrap();
            let record = |outcome| breaker.try_acquire().unwrap().settle(outcome);
            let size = format!("{buckets} buckets, {stripes} stripes");
            group.bench_function(BenchmarkId::new("success", &size), |b| b.iter(|| record(Outcome::Success)));
            group.bench_function(BenchmarkId::new("failure, with a verdict", &size), |b| {
                b.iter(|| record(Outcome::Failure));
            });
            let bucket = Duration::from_secs(1000) / buckets;
            group.bench_function(BenchmarkId::new("success in a new bucket", &size), |b| {
                b.iter(|| {
                    clock.advance(bucket);
                    record(Outcome::Success);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, count_window, time_window);
criterion_main!(benches);
