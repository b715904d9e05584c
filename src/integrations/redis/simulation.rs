//! Fleets of up to 1000 nodes, with everything that can go wrong, by a seed.
//!
//! Nodes are real breakers on clocks of their own with members beside them, the store is its twin (store.rs), and all
//! that happens between them is drawn from a seed: messages that are lost, late, doubled or out of order, nodes that are
//! cut off, frozen or restarted, clocks that are off and run at other rates, and a server that is paused, killed, flushed,
//! or replaced by one with older data and another clock. So every run can be had again:
//! `FAILFAST_SIM_SEED=<seed>` (and `FAILFAST_SIM_NODES=<n>`) runs one seed and prints its trace,
//! `FAILFAST_SIM_SEEDS=<n>` draws as many.
//!
//! What must hold is in oracle.rs. That each of it can fail is shown by flaws that are put in on purpose.

mod node;
mod oracle;
mod plan;
mod server;
mod world;

use alloc::vec::Vec;
use std::println;
use std::time::Instant;

use super::member::Terms;
use oracle::{Rule, Violation};
use plan::{Data, Ending, Incident, MS, Plan, S};
use world::{Stats, World};

/// What is done wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    /// Of the store: it grants more leases than there are.
    PlacesIgnored,
    /// It takes every command for one of the current epoch.
    EpochIgnored,
    /// It takes a trip for one of the current epoch.
    LateOpenAccepted,
    /// It lets everybody close and open again.
    LeaseIgnored,
    ReleaseLost,
    /// Leases do not end.
    LeaseForever,
    RestoreIgnored,
    /// What was set by hand ends without it.
    HandOverruled,
    OneVoteEnough,
    FailuresDoubled,
    /// Of a node: it lets its breaker go on by itself while the store is there.
    HoldLost,
    /// It probes without waiting for a lease.
    LeaseNotAwaited,
    /// It probes for longer than its lease lets it.
    SecondPeriod,
    /// It does not learn that it is connected again.
    ReconnectUnseen,
    /// Its calls ask the store.
    CallsAsk,
}

fn run(plan: Plan, flaw: Flaw) -> Result<Stats, Violation> {
    World::new(plan, flaw, false).run()
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a whole number"))
}

fn expect_sound(seed: u64, nodes: usize) -> Stats {
    run(Plan::draw(seed, nodes), Flaw::None).unwrap_or_else(|violation| {
        let Violation { rule, what } = violation;
        panic!("{rule:?}: {what}\nFAILFAST_SIM_SEED={seed} FAILFAST_SIM_NODES={nodes} shows how it came to that")
    })
}

fn size(seed: u64) -> usize {
    3 + (seed * 7 % 28) as usize
}

#[test]
fn whatever_goes_wrong_the_rules_hold() {
    if let Some(seed) = variable("FAILFAST_SIM_SEED") {
        let nodes = variable("FAILFAST_SIM_NODES").map_or(size(seed), |nodes| nodes as usize);
        let plan = Plan::draw(seed, nodes);
        println!("{:?}", Plan { incidents: Vec::new(), ..plan.clone() });
        let result = World::new(plan, Flaw::None, true).run();
        println!("{:#?}", result.expect("the rules hold"));
        return;
    }
    let seeds = variable("FAILFAST_SIM_SEEDS").unwrap_or(if cfg!(debug_assertions) { 100 } else { 1_000 });
    let (start, mut sum) = (Instant::now(), Stats::default());
    for seed in 0..seeds {
        let stats = expect_sound(seed, size(seed));
        sum.events += stats.events;
        sum.calls += stats.calls;
        sum.probes += stats.probes;
        sum.epochs += stats.epochs;
        sum.leases += stats.leases;
        sum.restores += stats.restores;
    }
    println!(
        "{seeds} fleets: {} events, {} calls, {} probes, {} epochs, {} leases, {} restores, in {:.1?}",
        sum.events,
        sum.calls,
        sum.probes,
        sum.epochs,
        sum.leases,
        sum.restores,
        start.elapsed()
    );
}

#[test]
fn a_seed_is_a_run() {
    for seed in [1, 2] {
        let [one, two] = [(); 2].map(|()| alloc::format!("{:?}", run(Plan::draw(seed, 8), Flaw::None)));
        assert_eq!(one, two);
    }
}

/// Each rule can fail, and is seen to: with a flaw it does so within a few seeds.
#[test]
fn every_flaw_is_seen() {
    use Flaw::*;
    type Draw = fn(u64, usize) -> Plan;
    let flaws: [(Flaw, Draw, &[Rule]); 15] = [
        (PlacesIgnored, Plan::draw, &[Rule::Leases]),
        (EpochIgnored, Plan::draw, &[Rule::Epoch, Rule::Leases]),
        (LateOpenAccepted, Plan::draw, &[Rule::Epoch]),
        (LeaseIgnored, Plan::draw, &[Rule::Leases]),
        (ReleaseLost, Plan::draw, &[Rule::Leases]),
        (LeaseForever, Plan::outage, &[Rule::Convergence]),
        (RestoreIgnored, Plan::draw, &[Rule::Learning, Rule::Convergence]),
        (HandOverruled, Plan::draw, &[Rule::Hand]),
        (OneVoteEnough, Plan::draw, &[Rule::Quorum]),
        (FailuresDoubled, Plan::draw, &[Rule::Rates]),
        (HoldLost, Plan::draw, &[Rule::Budget]),
        (LeaseNotAwaited, Plan::draw, &[Rule::Budget]),
        (SecondPeriod, Plan::outage, &[Rule::Budget]),
        (ReconnectUnseen, Plan::draw, &[Rule::Learning, Rule::Convergence]),
        (CallsAsk, Plan::draw, &[Rule::Calls]),
    ];
    for (flaw, draw, rules) in flaws {
        let small = |seed| 3 + seed as usize % 6;
        let seen = (0..200).find_map(|seed| run(draw(seed, small(seed)), flaw).err().map(|seen| (seed, seen)));
        let (seed, seen) = seen.unwrap_or_else(|| panic!("{flaw:?} is not seen"));
        println!("{flaw:?} is seen with seed {seed}: {:?}", seen.rule);
        assert!(rules.contains(&seen.rule), "{flaw:?}: {seen:?}");
    }
}

#[test]
fn a_dying_prober_and_a_store_that_refuses_delay_but_do_not_break() {
    for seed in 0..if cfg!(debug_assertions) { 10 } else { 200 } {
        let result = run(Plan::outage(seed, size(seed)), Flaw::None);
        assert!(result.is_ok(), "seed {seed}: {result:?}");
    }
}

#[test]
fn a_thousand_nodes_keep_the_rules() {
    for seed in if cfg!(debug_assertions) { 5..6 } else { 0..10 } {
        let start = Instant::now();
        let Stats { events, probes, epochs, .. } = expect_sound(seed, 1_000);
        println!("1000 nodes, seed {seed}: {events} events, {probes} probes, {epochs} epochs, {:.1?}", start.elapsed());
    }
}

#[test]
fn one_node_with_a_bad_network_opens_only_itself() {
    for seed in 0..5 {
        let mut plan = Plan::calm(seed, 20, Terms::Quorum { nodes: 2, share: 20_000_000 });
        plan.incidents.push((5 * S, Incident::Callee { whom: [3].into(), failing: 1_000 }));
        let stats = run(plan, Flaw::None).expect("the rules hold");
        assert_eq!((stats.opened, stats.epochs), (None, 0));
        assert!(stats.probes > 0, "it opened itself");
    }
}

#[test]
fn fifty_nodes_see_together_what_none_sees_alone() {
    let terms = Terms::Rates { min_calls: 100, rate: 50_000_000, bucket: 1_000, buckets: 10, flush: 500 };
    for (failing, opens) in [(300, false), (1_000, true)] {
        let mut plan = Plan::calm(7, 50, terms);
        plan.period.fill(500 * MS);
        plan.local.failures = 1_000;
        plan.incidents.push((20 * S, Incident::Callee { whom: (0..50).collect(), failing }));
        let stats = run(plan, Flaw::None).expect("the rules hold");
        assert_eq!(stats.opened.is_some(), opens);
        if let Some(opened) = stats.opened {
            println!("50 nodes, 2 calls/s each: all down is seen after {:.1} s", (opened - 20 * S) as f64 / S as f64);
            assert!(opened <= 30 * S, "{opened}");
        }
    }
}

/// A call makes no command, and a hundred times as many calls make no more.
#[test]
fn commands_do_not_come_of_calls() {
    let commands = |period| {
        let mut plan = Plan::calm(3, 10, Terms::Any);
        plan.period.fill(period);
        run(plan, Flaw::None).expect("the rules hold").commands as f64
    };
    let (few, many) = (commands(500 * MS), commands(5 * MS));
    assert!((few / many - 1.0).abs() < 0.03, "{few} and {many}");
}

#[test]
fn a_thousand_nodes_learn_of_a_trip() {
    let mut plan = Plan::calm(1, 1_000, Terms::Any);
    plan.incidents.push((10 * S, Incident::Callee { whom: [0, 1].into(), failing: 1_000 }));
    plan.healed = 11 * S;
    let stats = run(plan, Flaw::None).expect("the rules hold");
    let (opened, all) = (stats.opened.expect("it opens"), stats.all_open.expect("all open"));
    println!("1000 nodes are open {:.2} ms after the store", (all - opened) as f64 / MS as f64);
    assert!(all - opened < 50 * MS);
}

#[test]
fn without_a_store_they_do_not_probe_in_step() {
    let mut plan = Plan::calm(1, 1_000, Terms::Any);
    plan.local.wait = 10_000;
    plan.incidents.push((10 * S, Incident::Callee { whom: (0..1_000).collect(), failing: 1_000 }));
    plan.incidents.push((13 * S, Incident::Crash { during: 60 * S, data: Data::Lost }));
    (plan.healed, plan.end, plan.ending) = (15 * S, 30 * S, Ending::StoreDown);
    let stats = run(plan, Flaw::None).expect("the rules hold");
    let mut alone = stats.alone;
    alone.sort_unstable();
    let within =
        |at: u64| alone.partition_point(|&other| other < at + 100 * MS) - alone.partition_point(|&other| other < at);
    let most = alone.iter().map(|&at| within(at)).max().unwrap_or(0);
    println!("{} nodes probe by themselves, at most {most} of them within 100 ms", alone.len());
    assert_eq!(alone.len(), 1_000);
    assert!(most < 150, "{most}");
}

/// What a fleet costs its server, and that it is the same for each instance however many there are.
#[test]
fn what_a_fleet_costs() {
    let quorum = Terms::Quorum { nodes: 2, share: 20_000_000 };
    let rates = Terms::Rates { min_calls: 100, rate: 50_000_000, bucket: 1_000, buckets: 10, flush: 500 };
    let per_second = |name: &str, terms: Terms, nodes: usize, breakers: usize, is_down: bool| {
        let mut plan = Plan::calm(1, nodes, terms);
        let seconds = 20;
        (plan.breakers, plan.measured, plan.tapped) = (breakers, true, matches!(terms, Terms::Rates { .. }));
        plan.period.fill(if is_down { 200 * MS } else { 2_000 * MS });
        // What is counted is counted from the healing on, when all have begun.
        (plan.healed, plan.end, plan.ending) = (5 * S, (5 + seconds) * S, Ending::Healthy);
        if is_down {
            plan.incidents.push((S, Incident::Callee { whom: (0..nodes).collect(), failing: 1_000 }));
            plan.ending = Ending::CalleeDown;
        }
        let stats = run(plan, Flaw::None).expect("the rules hold");
        let each = |count: u64| count as f64 / (nodes as u64 * seconds) as f64;
        let cost = (each(stats.commands), each(stats.bytes.0), each(stats.bytes.1));
        println!(
            "{name:<8} {:<6} {nodes:>5} {breakers:>4}  {:>8.2} {:>9.0} {:>9.0}",
            if is_down { "outage" } else { "peace" },
            cost.0,
            cost.1,
            cost.2
        );
        cost
    };
    println!("for each instance and second: commands, bytes to the server and from it");
    println!("agreed   state  nodes  breakers  commands  bytes to  bytes from");
    let all: &[usize] = if cfg!(debug_assertions) { &[1] } else { &[1, 10, 100] };
    for &breakers in all {
        let few = per_second("quorum", quorum, 10, breakers, false);
        let many = per_second("quorum", quorum, 1_000, breakers, false);
        let near = |one: f64, other: f64| (one / other - 1.0).abs() < 0.1;
        assert!(near(few.0, many.0) && near(few.1, many.1) && near(few.2, many.2), "{few:?} and {many:?}");
        // One look in 5 s.
        assert!((0.19..0.21).contains(&(many.0 / breakers as f64)), "{many:?}");
    }
    per_second("any", Terms::Any, 1_000, 1, false);
    per_second("rates", rates, 1_000, 1, false);
    per_second("quorum", quorum, 10, 1, true);
    per_second("quorum", quorum, 1_000, 1, true);
}
