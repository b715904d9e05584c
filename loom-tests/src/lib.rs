//! What the models share. Each is explored by loom, and by shuttle. Run them with
//! `RUSTFLAGS="--cfg failfast_loom" CARGO_TARGET_DIR=target/loom cargo test --profile loom -p loom-tests`, and with
//! `failfast_shuttle` in the place of `failfast_loom`.
//!
//! Loom goes through all orders of a few threads, and through what the memory orderings allow. Shuttle draws schedules, by a
//! seed: it takes more threads and larger windows, but its atomics are sequentially consistent, whatever ordering they are
//! given, so a schedule is all that it can find fault with. `FAILFAST_SHUTTLE_TIMES=<n>` makes it draw so many times as many;
//! `FAILFAST_SHUTTLE_REPLAY=<schedule>`, with the name of one test, runs what a failure has printed.
//!
//! A thread that only reads is never the first thread of a model. Loom 0.7 remembers one last access of each atomic, so
//! a thread's own load hides another thread's earlier load from its compare-and-swap, and the order in which that load
//! comes later is not explored. A spawned reader is: its load finds the first thread's store. Where both threads read before
//! they write, some orders are left to shuttle.
#![cfg(any(failfast_loom, failfast_shuttle))]

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use failfast::{Clock, Fault, Observer, State, Timestamp, Transition, WouldTrip};
#[cfg(failfast_loom)]
pub use loom::thread;
#[cfg(not(failfast_loom))]
pub use shuttle::thread;

#[cfg(failfast_loom)]
use loom::thread_local;
#[cfg(not(failfast_loom))]
use shuttle::thread_local;

/// Time is an input of the models, not something that they explore: it lies outside the scheduler.
#[derive(Default)]
pub struct Time(AtomicU64);

impl Time {
    pub fn set(&self, millis: u64) {
        self.0.store(millis, SeqCst);
    }
}

impl Clock for Time {
    const MONOTONIC: bool = true;

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(SeqCst) * 1_000_000)
    }
}

thread_local! {
    static NOW: Cell<u64> = Cell::new(0);
}

/// Each thread has its own time: one that is behind has read the clock and slept since.
pub struct OwnTime;

impl OwnTime {
    pub fn set(millis: u64) {
        NOW.with(|now| now.set(millis));
    }
}

impl Clock for OwnTime {
    const MONOTONIC: bool = true;

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(NOW.with(Cell::get) * 1_000_000)
    }
}

/// Keeps what it is told, outside the scheduler.
#[derive(Default)]
pub struct Log {
    transitions: Mutex<Vec<Transition>>,
    would_trip: AtomicUsize,
}

impl Observer for Log {
    fn observes_calls(&self) -> bool {
        false
    }

    fn on_transition(&self, transition: &Transition) {
        self.transitions.lock().unwrap().push(*transition);
    }

    fn on_would_trip(&self, _: &WouldTrip) {
        self.would_trip.fetch_add(1, SeqCst);
    }
}

impl Log {
    /// The transitions by their generations, each told once.
    pub fn transitions(&self) -> Vec<Transition> {
        let mut log = self.transitions.lock().unwrap().clone();
        log.sort_by(|a, b| {
            if a.generation().is_after(b.generation()) { std::cmp::Ordering::Greater } else { std::cmp::Ordering::Less }
        });
        for pair in log.windows(2) {
            assert_ne!(pair[0].generation(), pair[1].generation(), "a transition was told twice");
        }
        log
    }

    /// The states that the breaker went through, after `first`: each transition told once, and the generations in one
    /// chain.
    pub fn states(&self, first: State) -> Vec<State> {
        let log = self.transitions();
        let mut state = first;
        for transition in &log {
            assert_eq!(transition.from(), state, "a transition does not follow the one before it: {log:?}");
            state = transition.to();
        }
        log.iter().map(Transition::to).collect()
    }

    /// How often a metrics-only breaker would have tripped.
    pub fn would_trip(&self) -> usize {
        self.would_trip.load(SeqCst)
    }
}

/// How many threads beside the first preempt each other in how many places. Shuttle has its own measure.
#[derive(Clone, Copy)]
pub enum Orders {
    All,
    Bound(usize),
}

/// Explores a model, and then shows that it fails with each of the faults.
pub fn explore(name: &str, orders: Orders, faults: &[Fault], model: impl Fn() + Sync + Send + Clone + 'static) {
    let check = |fault: Fault| {
        let runs = Arc::new(AtomicUsize::new(0));
        let (counted, model) = (runs.clone(), model.clone());
        let run = move || {
            counted.fetch_add(1, SeqCst);
            model();
        };
        let start = std::time::Instant::now();
        let scheduled = std::panic::AssertUnwindSafe(|| fault.with(|| schedule(orders, fault, run)));
        let result = std::panic::catch_unwind(scheduled);
        Fault::None.with(|| ());
        (result, runs.load(SeqCst), start.elapsed())
    };
    let (result, runs, time) = check(Fault::None);
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
    println!("{name}: {runs} permutations in {time:.1?}");
    // What shuttle does not look at, it cannot miss.
    for &fault in faults.iter().filter(|&&fault| cfg!(failfast_loom) || fault != Fault::Relaxed) {
        let (result, runs, time) = check(fault);
        assert!(result.is_err(), "{name}: the fault {fault:?} is not seen in {runs} permutations");
        println!("{name}: {fault:?} is seen after {runs} permutations, {time:.1?}");
    }
}

#[cfg(failfast_loom)]
fn schedule(orders: Orders, _: Fault, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = match orders {
        Orders::All => None,
        Orders::Bound(bound) => Some(bound),
    };
    builder.check(run);
}

/// Half of the schedules are random at every step, half have up to 3 preemptions (PCT) somewhere.
#[cfg(not(failfast_loom))]
fn schedule(_: Orders, fault: Fault, run: impl Fn() + Sync + Send + 'static) {
    use shuttle::Runner;
    use shuttle::scheduler::{PctScheduler, RandomScheduler};

    const SEED: u64 = 0x0fa1_1fa5;
    const EACH: usize = 10_000;

    if let Ok(schedule) = std::env::var("FAILFAST_SHUTTLE_REPLAY") {
        return shuttle::replay(run, &schedule);
    }
    let times = std::env::var("FAILFAST_SHUTTLE_TIMES").map_or(1, |times| times.parse().unwrap());
    let mut config = shuttle::Config::new();
    config.silence_warnings = true;
    if fault != Fault::None {
        config.failure_persistence = shuttle::FailurePersistence::None;
    }
    let run = Arc::new(run);
    for round in 0..times {
        let seed = SEED + round;
        let random = RandomScheduler::new_from_seed(seed, EACH);
        let again = run.clone();
        Runner::new(random, config.clone()).run(move || again());
        let pct = PctScheduler::new_from_seed(seed, 3, EACH);
        let again = run.clone();
        Runner::new(pct, config.clone()).run(move || again());
    }
}
