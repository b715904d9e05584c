//! The figures of a run, as a table and as JSON.

use std::time::Duration;

use failfast::State;
use serde_json::{Value, json};

use crate::message::{Call, Ending};
use crate::numbers::{grouped, ms, percentile, s, short, us};
use crate::plan::{CUT_OFF, Plan, Side, Span};
use crate::run::{Move, Run};

pub(crate) struct Figures {
    pub side: Side,
    pub calls: usize,
    pub succeeded: usize,
    pub failed: usize,
    pub rejected: usize,

    /// While one node could not reach the service, and until the service itself failed.
    pub opened_by_cut_off: usize,
    pub rejected_on_others: usize,

    /// From the first failure that the service's outage can have caused to the first trip.
    pub first_trip: Option<Duration>,
    /// From the first trip to the last node's.
    pub all_rejecting: Option<Duration>,
    /// The same from the trip that decided for all; none where there is no such.
    pub shared: Option<Duration>,
    pub reached_while_down: usize,
    /// Of these, those that came once all were rejecting.
    pub reached_after: Option<usize>,
    pub probes_while_down: usize,
    /// Of these, those that came while the store was gone, or not yet there for all.
    pub probes_without_store: usize,
    /// The most nodes that were half-open at the same time while the store was there for all.
    pub probing_at_once: usize,
    /// The most probes of one half-open period of one node: the breaker's budget.
    pub probes_of_a_period: usize,

    /// How long a rejection took, with the store, and while it was gone.
    pub rejection: Percentiles,
    pub rejection_without_store: Percentiles,
    /// Calls that failed for neither the service nor the node that was cut off.
    pub unexplained: usize,
    /// From the store's return until all nodes had it again.
    pub mended: Option<Duration>,

    /// From the service's recovery until all were closed.
    pub closed: Option<Duration>,
    pub probes_at_recovery: usize,

    /// To the store, a node and second.
    pub commands: f64,
}

#[derive(Clone, Copy)]
pub(crate) struct Percentiles {
    pub p50: Option<Duration>,
    pub p99: Option<Duration>,
}

impl Figures {
    pub(crate) fn of(plan: &Plan, run: &Run) -> Figures {
        let ended = |ending| run.calls.iter().filter(|(_, call)| call.ending == ending).count();
        let Run { side, down, store_gone, .. } = *run;
        let needed = side.needed(plan.nodes);

        let opened = firsts(plan, run, State::Open, down);
        let first = opened.first().copied();
        let all = (opened.len() == plan.nodes).then(|| opened[plan.nodes - 1]);
        let decided = opened.get(needed - 1).copied().filter(|_| needed < plan.nodes);
        let closed = firsts(plan, run, State::Closed, (down.1, plan.run));
        let all_closed = (closed.len() == plan.nodes).then(|| closed[plan.nodes - 1]);

        let mended = mended(plan, run);
        let without_store = (store_gone.0, mended.unwrap_or(store_gone.1));
        let with_store = [(down.0, store_gone.0), (without_store.1, plan.run)];
        let arrived = |span: Span| run.arrivals.iter().filter(move |arrival| within(span, arrival.at));
        let probes = |span| arrived(span).filter(|arrival| arrival.probe).count();
        let shares = side.agreement().is_some();

        Figures {
            side,
            calls: run.calls.len(),
            succeeded: ended(Ending::Succeeded),
            failed: ended(Ending::Failed) + ended(Ending::Unreached),
            rejected: ended(Ending::Rejected),
            opened_by_cut_off: firsts(plan, run, State::Open, (run.cut_off.0, down.0)).len(),
            rejected_on_others: calls(run, (run.cut_off.0, down.0), Ending::Rejected)
                .filter(|(node, _)| *node != CUT_OFF)
                .count(),
            first_trip: first.map(|at| at - down.0),
            all_rejecting: first.zip(all).map(|(first, all)| all - first),
            shared: decided.zip(all).map(|(decided, all)| all - decided),
            reached_while_down: arrived(down).count(),
            reached_after: all.map(|all| arrived((all, down.1)).count()),
            probes_while_down: probes(down),
            probes_without_store: probes((without_store.0, without_store.1.min(down.1))),
            probing_at_once: with_store.into_iter().map(|span| probing_at_once(plan, run, span)).max().unwrap_or(0),
            probes_of_a_period: probes_of_a_period(run),
            rejection: rejections(run, &with_store),
            rejection_without_store: rejections(run, &[store_gone]),
            unexplained: run.calls.iter().filter(|(node, call)| is_unexplained(run, *node, call)).count(),
            mended: mended.filter(|_| shares).map(|at| at.saturating_sub(store_gone.1)),
            closed: all_closed.map(|at| at - down.1),
            probes_at_recovery: probes((down.1, all_closed.unwrap_or(plan.run))),
            commands: run.commands as f64 / plan.nodes as f64 / plan.run.as_secs_f64(),
        }
    }
}

fn within((from, to): Span, at: Duration) -> bool {
    (from..to).contains(&at)
}

/// When each node moved to the state for the first time in a span, in the order of time.
fn firsts(plan: &Plan, run: &Run, to: State, span: Span) -> Vec<Duration> {
    let first = |node| {
        let mut moves = run.moves.iter().filter(|moved| moved.node == node && moved.to == to);
        moves.find(|moved| within(span, moved.at)).map(|moved| moved.at)
    };
    let mut firsts: Vec<_> = (0..plan.nodes).filter_map(first).collect();
    firsts.sort_unstable();
    firsts
}

/// When all nodes had the store again.
fn mended(plan: &Plan, run: &Run) -> Option<Duration> {
    let back = |node| {
        let links = run.links.iter().filter(|link| link.node == node && link.up);
        links.map(|link| link.at).find(|at| *at >= run.store_gone.0)
    };
    (0..plan.nodes).map(back).collect::<Option<Vec<_>>>()?.into_iter().max()
}

fn probing_at_once(plan: &Plan, run: &Run, span: Span) -> usize {
    let mut probing = vec![false; plan.nodes];
    let mut most = 0;
    for &Move { at, node, to } in &run.moves {
        probing[node] = to == State::HalfOpen;
        if within(span, at) {
            most = most.max(probing.iter().filter(|probing| **probing).count());
        }
    }
    most
}

fn probes_of_a_period(run: &Run) -> usize {
    let begins: Vec<_> = run.moves.iter().filter(|moved| moved.to == State::HalfOpen).collect();
    let mut probes = vec![0; begins.len()];
    for arrival in run.arrivals.iter().filter(|arrival| arrival.probe) {
        // It may arrive when the period is over already.
        let period = begins.iter().rposition(|begin| begin.node == arrival.node && begin.at <= arrival.at);
        if let Some(period) = period {
            probes[period] += 1;
        }
    }
    probes.into_iter().max().unwrap_or(0)
}

fn calls(run: &Run, span: Span, ending: Ending) -> impl Iterator<Item = &(usize, Call)> {
    run.calls.iter().filter(move |(_, call)| call.ending == ending && within(span, call.begin))
}

fn rejections(run: &Run, spans: &[Span]) -> Percentiles {
    let rejections = spans.iter().flat_map(|span| calls(run, *span, Ending::Rejected));
    let mut took: Vec<_> = rejections.map(|(_, call)| call.took).collect();
    took.sort_unstable();
    Percentiles { p50: percentile(&took, 50), p99: percentile(&took, 99) }
}

fn is_unexplained(run: &Run, node: usize, call: &Call) -> bool {
    match call.ending {
        Ending::Succeeded | Ending::Rejected => false,
        Ending::Unreached => node != CUT_OFF || !within(run.cut_off, call.begin),
        Ending::Failed => call.begin + call.took < run.down.0 || call.begin > run.down.1,
    }
}

pub(crate) fn table(plan: &Plan, figures: &[Figures; 3]) -> String {
    let time = |d: Option<Duration>| d.map_or_else(|| "-".to_owned(), short);
    let shared = |f: &Figures, words: String| if f.side == Side::Alone { "-".to_owned() } else { words };
    let pair = |p: &Percentiles| match (p.p50, p.p99) {
        (Some(p50), Some(p99)) => format!("{}, {}", short(p50), short(p99)),
        _ => "-".to_owned(),
    };
    let [alone, any, quorum] = figures;
    let row = |name: &str, show: &dyn Fn(&Figures) -> String| {
        format!("{name:<46} {:>18} {:>18} {:>18}\n", show(alone), show(any), show(quorum))
    };
    let mut text = format!("\n{plan}\n\n");
    text += &row("", &|f| match f.side {
        Side::Alone => "each alone".to_owned(),
        Side::Any => "any one opens all".to_owned(),
        Side::Quorum => format!("{} open all", f.side.needed(plan.nodes)),
    });
    text += &row("calls", &|f| grouped(f.calls));
    text += &row("  succeeded", &|f| grouped(f.succeeded));
    text += &row("  failed", &|f| grouped(f.failed));
    text += &row("  rejected", &|f| grouped(f.rejected));
    text += "one node cannot reach the service, which is well\n";
    text += &row("  nodes that opened", &|f| grouped(f.opened_by_cut_off));
    text += &row("  calls rejected on the others", &|f| grouped(f.rejected_on_others));
    text += "the service fails\n";
    text += &row("  until the first node trips", &|f| time(f.first_trip));
    text += &row("  from then until all reject", &|f| time(f.all_rejecting));
    text += &row("  from the deciding trip until all reject", &|f| time(f.shared));
    text += &row("  requests that reached it while it failed", &|f| grouped(f.reached_while_down));
    text += &row("    after all rejected", &|f| f.reached_after.map_or_else(|| "-".to_owned(), grouped));
    text += &row("    probes", &|f| grouped(f.probes_while_down));
    text += &row("      of these while the store was gone", &|f| shared(f, grouped(f.probes_without_store)));
    text += &row("  nodes probing at the same time, at most", &|f| grouped(f.probing_at_once));
    text += &row("  probes of one half-open period, at most", &|f| grouped(f.probes_of_a_period));
    text += "the store is gone in the midst of it\n";
    text += &row("  a rejection with it, p50, p99", &|f| pair(&f.rejection));
    text += &row("  a rejection without it, p50, p99", &|f| shared(f, pair(&f.rejection_without_store)));
    text += &row("  calls that failed for it", &|f| shared(f, grouped(f.unexplained)));
    text += &row("  from its return until all have it again", &|f| time(f.mended));
    text += "the service is well again\n";
    text += &row("  until all are closed", &|f| time(f.closed));
    text += &row("  probes for that", &|f| grouped(f.probes_at_recovery));
    text += &row("commands to the store, a node and second", &|f| shared(f, format!("{:.1}", f.commands)));
    text.push('\n');
    text
}

pub(crate) fn json(plan: &Plan, figures: &[Figures; 3]) -> Value {
    let [alone, any, quorum] = figures.each_ref().map(object);
    json!({ "nodes": plan.nodes, "run_s": s(plan.run), "alone": alone, "any": any, "quorum": quorum })
}

fn object(f: &Figures) -> Value {
    json!({
        "calls": f.calls,
        "succeeded": f.succeeded,
        "failed": f.failed,
        "rejected": f.rejected,
        "opened_by_cut_off": f.opened_by_cut_off,
        "rejected_on_others": f.rejected_on_others,
        "first_trip_ms": ms(f.first_trip),
        "all_rejecting_ms": ms(f.all_rejecting),
        "shared_ms": ms(f.shared),
        "reached_while_down": f.reached_while_down,
        "reached_after_all_rejecting": f.reached_after,
        "probes_while_down": f.probes_while_down,
        "probes_without_store": f.probes_without_store,
        "probing_at_once": f.probing_at_once,
        "probes_of_a_period": f.probes_of_a_period,
        "rejected_p50_us": us(f.rejection.p50),
        "rejected_p99_us": us(f.rejection.p99),
        "rejected_without_store_p50_us": us(f.rejection_without_store.p50),
        "rejected_without_store_p99_us": us(f.rejection_without_store.p99),
        "unexplained_failures": f.unexplained,
        "mended_ms": ms(f.mended),
        "closed_ms": ms(f.closed),
        "probes_at_recovery": f.probes_at_recovery,
        "commands_per_node_s": (f.commands * 100.0).round() / 100.0,
    })
}
