//! What the models share. Run them with
//! `RUSTFLAGS="--cfg failfast_loom" CARGO_TARGET_DIR=target/loom cargo test --profile loom -p loom-tests`.
//!
//! A thread that only reads is never the first thread of a model. Loom 0.7 remembers one last access of each atomic, so
//! a thread's own load hides another thread's earlier load from its compare-and-swap, and the order in which that load
//! comes later is not explored. A spawned reader is: its load finds the first thread's store.
#![cfg(failfast_loom)]

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};

use failfast::{Clock, Fault, Observer, State, Timestamp, Transition};
use std::sync::Arc;

/// Time is an input of the models, not something that they explore: it lies outside loom.
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

/// Keeps every transition, outside loom.
#[derive(Default)]
pub struct Log(Mutex<Vec<Transition>>);

impl Observer for Log {
    fn observes_calls(&self) -> bool {
        false
    }

    fn on_transition(&self, transition: &Transition) {
        self.0.lock().unwrap().push(*transition);
    }
}

impl Log {
    /// The states that the breaker went through, after `first`: each transition told once, and the generations in one
    /// chain.
    pub fn states(&self, first: State) -> Vec<State> {
        let mut log = self.0.lock().unwrap().clone();
        log.sort_by(|a, b| {
            if a.generation().is_after(b.generation()) { std::cmp::Ordering::Greater } else { std::cmp::Ordering::Less }
        });
        let mut state = first;
        for pair in log.windows(2) {
            assert_ne!(pair[0].generation(), pair[1].generation(), "a transition was told twice");
        }
        for transition in &log {
            assert_eq!(transition.from(), state, "a transition does not follow the one before it: {log:?}");
            state = transition.to();
        }
        log.iter().map(Transition::to).collect()
    }
}

/// How many threads beside the first preempt each other in how many places.
#[derive(Clone, Copy)]
pub enum Orders {
    All,
    Bound(usize),
}

/// Explores a model, and then shows that it fails with each of the faults.
pub fn explore(name: &str, orders: Orders, faults: &[Fault], model: impl Fn() + Sync + Send + Clone + 'static) {
    let check = |fault: Fault| {
        let runs = Arc::new(AtomicUsize::new(0));
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = match orders {
            Orders::All => None,
            Orders::Bound(bound) => Some(bound),
        };
        let (counted, model) = (runs.clone(), model.clone());
        let run = move || {
            counted.fetch_add(1, SeqCst);
            model();
        };
        let start = std::time::Instant::now();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| fault.with(|| builder.check(run))));
        Fault::None.with(|| ());
        (result, runs.load(SeqCst), start.elapsed())
    };
    let (result, runs, time) = check(Fault::None);
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
    println!("{name}: {runs} permutations in {time:.1?}");
    for &fault in faults {
        let (result, runs, time) = check(fault);
        assert!(result.is_err(), "{name}: loom does not see the fault {fault:?} in {runs} permutations");
        println!("{name}: {fault:?} is seen after {runs} permutations, {time:.1?}");
    }
}
