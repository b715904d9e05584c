//! Random configurations and sequences of calls, clock steps and moves by hand against a sequential model of the
//! contract.
//!
//! `FAILFAST_CASES=<n>` (or `PROPTEST_CASES`) runs more or fewer than the 10,000 cases of a release build.

#![cfg(all(feature = "std", not(failfast_loom)))]

#[path = "model/mod.rs"]
mod model;

use model::plot::{HEAD, MOST_STEPS, Plot, STEP};
use model::run::run;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

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
