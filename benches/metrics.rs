//! What an observer adds to a call: none, one that counts, one that also times.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod floor;

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use failfast::metrics::Metrics;
use failfast::{CircuitBreaker, Clock, CoarseClock, Consecutive, Observer, Policy, TimeWindow};
use floor::work;

fn call<P: Policy, C: Clock, O: Observer>(breaker: &CircuitBreaker<P, C, O>) -> bool {
    breaker.call(|| work(black_box(1))).is_ok()
}

/// One breaker, by one thread and by two.
fn row<P: Policy, C: Clock, O: Observer>(c: &mut Criterion, name: &str, breaker: &CircuitBreaker<P, C, O>) {
    let mut group = c.benchmark_group("metrics");
    group.bench_function(name, |b| b.iter(|| call(breaker)));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                call(breaker);
            }
        });
        group.bench_function(format!("{name}, beside another thread"), |b| b.iter(|| call(breaker)));
        stop.store(true, Relaxed);
    });
    group.finish();
}

fn rows(c: &mut Criterion) {
    let mut group = c.benchmark_group("metrics");
    floor::rows(&mut group);
    group.finish();

    let counting = Metrics::builder().durations(false).build().unwrap();
    let timing = Metrics::new();
    row(c, "consecutive, no observer", &CircuitBreaker::builder().build().unwrap());
    row(c, "consecutive, calls", &CircuitBreaker::builder().observer(counting.observer("a")).build().unwrap());
    row(
        c,
        "consecutive, calls and durations",
        &CircuitBreaker::builder().observer(timing.observer("a")).build().unwrap(),
    );
    let upkeep = CoarseClock::start(Duration::from_millis(1)).unwrap();
    let coarse = CircuitBreaker::builder().clock(CoarseClock);
    row(c, "consecutive, calls and durations, coarse clock", &coarse.observer(timing.observer("b")).build().unwrap());
    upkeep.stop();
    let slow = || {
        let window = TimeWindow::over(Duration::from_secs(10), 10).stripes(2).failure_rate(100.0);
        CircuitBreaker::builder().policy(window.slow_calls(Duration::from_secs(1), 100.0))
    };
    row(c, "10 x 1 s with slow calls, no observer", &slow().build().unwrap());
    row(c, "10 x 1 s with slow calls, calls and durations", &slow().observer(timing.observer("c")).build().unwrap());

    let open = CircuitBreaker::builder().policy(Consecutive::new(1)).open_for(Duration::from_secs(86_400));
    let bare = open.clone().build().unwrap();
    bare.open();
    row(c, "rejected, no observer", &bare);
    let counted = open.observer(timing.observer("d")).build().unwrap();
    counted.open();
    row(c, "rejected, calls", &counted);
}

/// What a scrape costs beside: for each name, and for each call since the last one.
fn collect(c: &mut Criterion) {
    let mut group = c.benchmark_group("collect");
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    for names in [1, 100] {
        let metrics = Metrics::new();
        let observers: Vec<_> = (0..names).map(|name| metrics.observer(&name.to_string())).collect();
        group.bench_function(format!("{names} names, no calls"), |b| {
            b.iter(|| metrics::with_local_recorder(&recorder, || metrics.collect()));
        });
        drop(observers);
    }
    let metrics = Metrics::new();
    let breaker = CircuitBreaker::builder().observer(metrics.observer("x")).build().unwrap();
    group.bench_function("1 name, 10,000 calls", |b| {
        b.iter_batched(
            || {
                recorder.handle().run_upkeep();
                (0..10_000).for_each(|_| _ = call(&breaker));
            },
            |()| metrics::with_local_recorder(&recorder, || metrics.collect()),
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, rows, collect);
criterion_main!(benches);
