//! Random configurations and sequences of calls, clock steps and moves by hand against a sequential model of the
//! contract.
//!
//! `FAILFAST_CASES=<n>` (or `PROPTEST_CASES`) runs more or fewer than the 10,000 cases of a release build.

#![cfg(all(feature = "std", not(failfast_loom)))]

#[path = "model/mod.rs"]
mod model;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use model::plot::{HEAD, MOST_STEPS, Plot, STEP};
use model::run::run;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{FileFailurePersistence, TestRunner};

fn any_plot() -> impl Strategy<Value = Plot> {
    let head = prop::collection::vec(any::<u8>(), HEAD);
    let steps = prop::collection::vec(any::<[u8; STEP]>(), 0..=MOST_STEPS);
    (head, steps).prop_map(|(head, steps)| Plot::read(&[head, steps.concat()].concat()))
}

fn config() -> ProptestConfig {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/model.proptest-regressions");
    let failure_persistence = Some(Box::new(FileFailurePersistence::Direct(path)) as _);
    let asked = ["FAILFAST_CASES", "PROPTEST_CASES"].iter().find_map(|name| std::env::var(name).ok()?.parse().ok());
    let cases = asked.unwrap_or(if cfg!(debug_assertions) { 1_000 } else { 10_000 });
    ProptestConfig { cases, failure_persistence, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_breaker_does_what_the_contract_says(plot in any_plot()) {
        run(&plot);
    }
}

/// How often, at least, 300 plots come to what: without these the comparison above says little.
#[test]
fn the_plots_come_to_everything_that_matters() {
    let mut met = BTreeMap::<&str, u32>::new();
    let mut runner = TestRunner::deterministic();
    for _ in 0..300 {
        let plot = any_plot().new_tree(&mut runner).unwrap().current();
        for (what, times) in run(&plot) {
            *met.entry(what).or_default() += times;
        }
    }
    let rare: Vec<_> = OFTEN.iter().filter(|(what, least)| met.get(what).is_none_or(|times| times < least)).collect();
    assert!(rare.is_empty(), "too rare: {rare:?} in {met:#?}");
}

const OFTEN: &[(&str, u32)] = &[
    ("a clock that stepped back", 1000),
    ("a count window round once more", 400),
    ("a probe's place given back", 80),
    ("a slow probe", 12),
    ("a straggler", 500),
    ("a time window that has lost some", 1000),
    ("by_hand", 60),
    ("cancelled as a failure", 60),
    ("closed by max_wait", 40),
    ("closed by probes", 100),
    ("consecutive_failures", 60),
    ("failure_rate", 50),
    ("failures", 60),
    ("half-opened by a call", 300),
    ("ignored", 300),
    ("open put off by hand", 60),
    ("probe_failed", 120),
    ("probe_timeout", 40),
    ("re-opened as requested", 20),
    ("re-opened by hand", 10),
    ("rejected: forced open", 500),
    ("rejected: half-open", 400),
    ("rejected: open", 5000),
    ("renewed", 60),
    ("requested", 30),
    ("reset while closed", 10),
    ("settled while disabled", 400),
    ("slow_call_rate", 20),
    ("tripped by a success", 15),
    ("would trip", 200),
];

/// Found by fuzzing: fuzz/corpus, each file a plot as its bytes.
#[test]
fn the_fuzzing_corpus_does_what_the_contract_says() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/operations");
    let mut files: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let plot = Plot::read(&std::fs::read(&file).unwrap());
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(&plot))) {
            println!("{}: {plot:?}", file.display());
            resume_unwind(panic);
        }
    }
}
