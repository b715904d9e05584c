//! Looking a breaker up and calling through it, by number of keys and threads; and what a million keys take.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod floor;

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use failfast::registry::Registry;
use failfast::{Clock, CoarseClock, Consecutive, DefaultClock};
use floor::work;

fn filled<C: Clock + Clone>(clock: C, keys: usize) -> (Registry<Consecutive, C>, Vec<String>) {
    let hosts = Registry::builder().capacity(2_000_000).clock(clock).build().unwrap();
    let keys: Vec<_> = (0..keys).map(|key| format!("host-{key:07}.example")).collect();
    for key in &keys {
        hosts.get(key);
    }
    (hosts, keys)
}

fn call<C: Clock + Clone>(hosts: &Registry<Consecutive, C>, key: &str) -> bool {
    hosts.get(key).call(|| work(black_box(1))).is_ok()
}

fn look_up(c: &mut Criterion) {
    let mut group = c.benchmark_group("registry");
    floor::rows(&mut group);
    let upkeep = CoarseClock::start(Duration::from_millis(1)).unwrap();
    for count in [1, 64, 1_000, 1_000_000] {
        let (hosts, keys) = filled(DefaultClock, count);
        let mut next = 0;
        // In an order that no prefetcher knows.
        group.bench_function(BenchmarkId::new("get and call", count), |b| {
            b.iter(|| {
                next = (next + 7_919) % count;
                call(&hosts, &keys[next])
            });
        });
    }
    let (hosts, keys) = filled(CoarseClock, 64);
    let mut next = 0;
    group.bench_function("get and call, coarse clock/64", |b| {
        b.iter(|| {
            next = (next + 1) % 64;
            call(&hosts, &keys[next])
        });
    });
    let held = hosts.get(&keys[0]);
    group.bench_function("call by a held handle", |b| b.iter(|| held.call(|| work(black_box(1))).is_ok()));
    group.finish();
    upkeep.stop();
}

/// Two threads, on one key and on keys of their own.
fn contended(c: &mut Criterion) {
    let mut group = c.benchmark_group("registry, 2 threads");
    floor::rows(&mut group);
    let (hosts, keys) = filled(DefaultClock, 64);
    let held = hosts.get(&keys[0]);
    type Act<'a> = &'a (dyn Fn(usize) + Sync);
    let acts: [(&str, Act<'_>); 3] = [
        ("get and call, one key", &|_| _ = call(&hosts, &keys[0])),
        ("get and call, a key each", &|thread| _ = call(&hosts, &keys[thread * 32])),
        ("call by a held handle", &|_| _ = held.call(|| work(black_box(1)))),
    ];
    for (name, act) in acts {
        group.bench_function(name, |b| {
            b.iter_custom(|iterations| {
                let barrier = Barrier::new(2);
                let slowest = AtomicU64::new(0);
                std::thread::scope(|scope| {
                    for thread in 0..2 {
                        let (barrier, slowest) = (&barrier, &slowest);
                        scope.spawn(move || {
                            barrier.wait();
                            let start = Instant::now();
                            (0..iterations).for_each(|_| act(thread));
                            slowest.fetch_max(start.elapsed().as_nanos() as u64, Relaxed);
                        });
                    }
                });
                Duration::from_nanos(slowest.into_inner())
            });
        });
    }
    group.finish();
}

/// What this process has in memory, where the system tells.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1_024)
}

/// Not timed: the memory of a million breakers, and how long a sweep of them takes.
fn a_million(_: &mut Criterion) {
    let keys: Vec<_> = (0..1_000_000).map(|key| format!("host-{key:07}.example")).collect();
    let hosts = Registry::builder().capacity(1_000_000).idle_time(Duration::from_nanos(1)).build().unwrap();
    let before = resident();
    let start = Instant::now();
    // Held, or they would make place for each other.
    let held: Vec<_> = keys.iter().map(|key| hosts.get(key)).collect();
    let filled = start.elapsed();
    let handles = (held.capacity() * size_of_val(&held[0])) as u64;
    if let (Some(before), Some(after)) = (before, resident()) {
        println!("a million keys: {} MB resident, filled in {filled:.1?}", (after - before - handles) / 1_000_000);
    }
    drop(held);
    let start = Instant::now();
    let evicted = hosts.sweep();
    println!("a sweep that evicts {evicted}: {:.1?}", start.elapsed());
}

criterion_group!(benches, a_million, look_up, contended);
criterion_main!(benches);
