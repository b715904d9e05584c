//! One call, alone: each policy, clock and outcome, sync and async, with and without an observer.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod floor;

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use failfast::{
    CircuitBreaker, Clock, CoarseClock, Config, Consecutive, DefaultClock, IntoPolicy, LastCalls, LastTime, Observer,
    Policy, SettledCall,
};
use floor::work;

/// Never trips by itself, so that it can be measured failing.
const PATIENT: f64 = 100.0;

fn build<I: IntoPolicy, C: Clock>(policy: I, clock: C) -> CircuitBreaker<I::Policy, C> {
    CircuitBreaker::builder().policy(policy).clock(clock).build().unwrap()
}

fn call<P: Policy, C: Clock, O: Observer>(breaker: &CircuitBreaker<P, C, O>, fails: bool) -> bool {
    breaker.call(|| if fails { work(black_box(1)).and(Err(1)) } else { work(black_box(1)) }).is_ok()
}

/// Successes, one failure in 64 calls, one in two.
fn rows<P: Policy, C: Clock>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, breaker: &CircuitBreaker<P, C>) {
    (0..200).for_each(|_| _ = call(breaker, false));
    group.bench_function(format!("{name}: success"), |b| b.iter(|| call(breaker, false)));
    let mut calls = 0_u64;
    for every in [64, 2] {
        group.bench_function(format!("{name}: 1 failure in {every}"), |b| {
            b.iter(|| {
                calls += 1;
                call(breaker, calls % every == 0)
            });
        });
    }
}

fn policies(c: &mut Criterion) {
    let mut group = c.benchmark_group("call");
    floor::rows(&mut group);
    let length = Duration::from_secs(10);
    rows(&mut group, "consecutive", &build(Consecutive::new(5), DefaultClock));
    rows(&mut group, "last 100", &build(LastCalls::<100>::new().failure_rate(PATIENT), DefaultClock));
    let slow = LastCalls::<100>::new().failure_rate(PATIENT).slow_calls(length, PATIENT);
    rows(&mut group, "last 100, slow calls", &build(slow, DefaultClock));
    rows(&mut group, "10 x 1 s", &build(LastTime::<10>::new(length).failure_rate(PATIENT), DefaultClock));
    let joined = (Consecutive::new(5), LastCalls::<100>::new().failure_rate(PATIENT));
    rows(&mut group, "consecutive and last 100", &build(joined, DefaultClock));

    let upkeep = CoarseClock::start(Duration::from_millis(1)).unwrap();
    let coarse = build(LastTime::<10>::new(length).failure_rate(PATIENT), CoarseClock);
    rows(&mut group, "10 x 1 s, coarse clock", &coarse);
    let open = build(Consecutive::new(1), CoarseClock);
    open.open();
    group.bench_function("rejected, coarse clock", |b| b.iter(|| call(&open, false)));
    upkeep.stop();

    let failing = build(Consecutive::new(u32::MAX), DefaultClock);
    group.bench_function("consecutive: failure", |b| b.iter(|| call(&failing, true)));
    let open = build(Consecutive::new(1), DefaultClock);
    open.open_for(Duration::from_secs(86_400));
    group.bench_function("rejected", |b| b.iter(|| call(&open, false)));
    group.finish();
}

fn futures(c: &mut Criterion) {
    let mut group = c.benchmark_group("async call");
    floor::rows(&mut group);
    let breaker = CircuitBreaker::builder().build().unwrap();
    let mut context = Context::from_waker(Waker::noop());
    group.bench_function("a ready future, bare", |b| {
        b.iter(|| pin!(async { work(black_box(1)) }).poll(&mut context).is_ready());
    });
    group.bench_function("a ready future, consecutive", |b| {
        b.iter(|| pin!(breaker.call_async(|| async { work(black_box(1)) })).poll(&mut context).is_ready());
    });
    let last = build(LastCalls::<100>::new().failure_rate(PATIENT), DefaultClock);
    (0..200).for_each(|_| _ = call(&last, false));
    group.bench_function("a ready future, last 100", |b| {
        b.iter(|| pin!(last.call_async(|| async { work(black_box(1)) })).poll(&mut context).is_ready());
    });
    let open = build(Consecutive::new(1), DefaultClock);
    open.open_for(Duration::from_secs(86_400));
    group.bench_function("rejected", |b| {
        b.iter(|| pin!(open.call_async(|| async { work(black_box(1)) })).poll(&mut context).is_ready());
    });
    group.finish();
}

fn observers(c: &mut Criterion) {
    struct Count(std::sync::atomic::AtomicU64);
    impl Observer for Count {
        fn on_outcome(&self, _: &SettledCall) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let mut group = c.benchmark_group("observer");
    floor::rows(&mut group);
    let none = CircuitBreaker::builder().build().unwrap();
    group.bench_function("none", |b| b.iter(|| call(&none, false)));
    let transitions = CircuitBreaker::builder().on_transition(|_| ()).build().unwrap();
    group.bench_function("of transitions", |b| b.iter(|| call(&transitions, false)));
    let outcomes = CircuitBreaker::builder().observer(Count(0.into())).build().unwrap();
    group.bench_function("of outcomes", |b| b.iter(|| call(&outcomes, false)));
    group.finish();
}

/// By const, as in a static.
fn constants(c: &mut Criterion) {
    static BREAKER: CircuitBreaker = CircuitBreaker::new(Consecutive::new(5), Config::new());
    let mut group = c.benchmark_group("static");
    floor::rows(&mut group);
    group.bench_function("consecutive", |b| b.iter(|| call(&BREAKER, false)));
    group.finish();
}

criterion_group!(benches, policies, futures, observers, constants);
criterion_main!(benches);
