//! Many threads on one breaker: back to back, and spaced by about 200 ns of private work.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod floor;

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use crossbeam_utils::CachePadded;
use failfast::{CircuitBreaker, CoarseClock, Consecutive, CountWindow, TimeWindow};
use floor::work;

/// Private work between two calls.
#[inline(never)]
fn pause(rounds: u64) {
    let mut x = rounds;
    for _ in 0..rounds {
        x = black_box(x.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    }
}

fn rounds_for(time: Duration) -> u64 {
    let start = Instant::now();
    pause(1_000_000);
    (time.as_secs_f64() / start.elapsed().as_secs_f64() * 1e6) as u64
}

/// The time in which each of `threads` threads did `iterations` rounds of `act`.
fn at_once(threads: usize, iterations: u64, act: &(dyn Fn(usize, u64) + Sync)) -> Duration {
    let barrier = Barrier::new(threads);
    let slowest = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let (barrier, slowest) = (&barrier, &slowest);
            scope.spawn(move || {
                barrier.wait();
                let start = Instant::now();
                act(thread, iterations);
                slowest.fetch_max(start.elapsed().as_nanos() as u64, Relaxed);
            });
        }
    });
    Duration::from_nanos(slowest.into_inner())
}

fn contended(c: &mut Criterion) {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let upkeep = CoarseClock::start(Duration::from_millis(1)).unwrap();
    let spaced = rounds_for(Duration::from_nanos(200));
    for (name, rounds) in [("back to back", 0), ("spaced by 200 ns", spaced)] {
        let mut group = c.benchmark_group(format!("contended, {name}"));
        floor::rows(&mut group);
        let mut threads = 1;
        while threads <= 2 * cores {
            let stripes = threads as u32;
            let shared = AtomicU64::new(0);
            let own: Vec<_> = (0..threads).map(|_| CachePadded::new(AtomicU64::new(0))).collect();
            let consecutive = CircuitBreaker::builder().build().unwrap();
            let failing = CircuitBreaker::builder().policy(Consecutive::new(u32::MAX)).build().unwrap();
            let last = CircuitBreaker::builder().policy(CountWindow::over(100).failure_rate(100.0)).build().unwrap();
            (0..200).for_each(|_| last.try_acquire().unwrap().success());
            let mixed = CircuitBreaker::builder().policy(CountWindow::over(100).failure_rate(100.0)).build().unwrap();
            let policy = TimeWindow::standard().stripes(stripes);
            let time = CircuitBreaker::builder().policy(policy).clock(CoarseClock).build().unwrap();
            let open = CircuitBreaker::builder().clock(CoarseClock).build().unwrap();
            open.open_for(Duration::from_secs(86_400));

            type Act<'a> = &'a (dyn Fn(usize, u64) + Sync);
            let acts: [(&str, Act<'_>); 9] = [
                ("floor: the bare call", &|_, _| _ = work(black_box(1))),
                ("floor: a shared fetch_add", &|_, _| _ = shared.fetch_add(1, Relaxed)),
                ("floor: an own-cell fetch_add", &|thread, _| _ = own[thread].fetch_add(1, Relaxed)),
                ("consecutive, success", &|_, _| _ = consecutive.call(|| work(black_box(1)))),
                ("consecutive, failure", &|_, _| _ = failing.call(|| work(black_box(1)).and(Err::<u64, _>(1)))),
                ("last 100, success", &|_, _| _ = last.call(|| work(black_box(1)))),
                ("last 100, 1 failure in 64", &|_, i| {
                    _ = mixed.call(|| work(black_box(1)).and_then(|x| if i % 64 == 0 { Err(1) } else { Ok(x) }));
                }),
                ("10 x 1 s, striped, coarse clock", &|_, _| _ = time.call(|| work(black_box(1)))),
                ("rejected, coarse clock", &|_, _| _ = open.call(|| work(black_box(1)))),
            ];
            for (what, act) in acts {
                group.bench_function(BenchmarkId::new(what, threads), |b| {
                    b.iter_custom(|iterations| {
                        at_once(threads, iterations, &|thread, iterations| {
                            for i in 0..iterations {
                                act(thread, i);
                                pause(rounds);
                            }
                        })
                    });
                });
            }
            threads *= 2;
        }
        group.finish();
    }
    upkeep.stop();
}

criterion_group!(benches, contended);
criterion_main!(benches);
