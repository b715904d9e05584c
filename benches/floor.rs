//! The floor rows: what the hardware asks for, in the same run, so that every other result reads as a ratio to it.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use criterion::BenchmarkGroup;
use criterion::measurement::WallTime;
use crossbeam_utils::CachePadded;
use failfast::{Clock, DefaultClock};

/// The guarded work: a call that is not inlined, and does next to nothing.
#[inline(never)]
pub(crate) fn work(x: u64) -> Result<u64, u64> {
    black_box(Ok(x.wrapping_mul(3)))
}

pub(crate) fn rows(group: &mut BenchmarkGroup<'_, WallTime>) {
    DefaultClock::init();
    let shared = AtomicU64::new(0);
    let own = CachePadded::new(AtomicU64::new(0));
    group.bench_function("floor: the bare call", |b| b.iter(|| work(black_box(1)).is_ok()));
    group.bench_function("floor: a relaxed load", |b| b.iter(|| shared.load(Relaxed)));
    group.bench_function("floor: a shared fetch_add", |b| b.iter(|| shared.fetch_add(1, Relaxed)));
    group.bench_function("floor: an own-cell fetch_add", |b| b.iter(|| own.fetch_add(1, Relaxed)));
    group.bench_function("floor: a clock read", |b| b.iter(|| DefaultClock.now()));
}
