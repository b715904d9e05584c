//! What it costs to read the time.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod floor;

use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use failfast::{Clock, CoarseClock, ManualClock};

fn clocks(c: &mut Criterion) {
    let mut group = c.benchmark_group("clock");
    floor::rows(&mut group);
    let manual = ManualClock::new();
    group.bench_function("manual", |b| b.iter(|| manual.now()));
    group.bench_function("coarse, without its thread", |b| b.iter(|| CoarseClock.now()));
    let upkeep = CoarseClock::start(Duration::from_millis(1)).unwrap();
    group.bench_function("coarse", |b| b.iter(|| CoarseClock.now()));
    upkeep.stop();
    group.bench_function("the standard library's", |b| b.iter(Instant::now));
    group.finish();
}

criterion_group!(benches, clocks);
criterion_main!(benches);
