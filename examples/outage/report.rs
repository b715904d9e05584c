//! The figures of a run, as a table and as JSON.

use std::fmt::Write;
use std::time::Duration;

use failfast::State;
use serde_json::{Value, json};

use crate::load::{Ending, Run, Sample};
use crate::numbers::{grouped, ms, percentile, s, short, us};
use crate::plan::Plan;

pub(crate) struct Figures {
    pub requests: usize,
    pub succeeded: usize,
    pub failed: usize,
    pub rejected: usize,
    pub p50: Option<Duration>,
    pub p99: Option<Duration>,
    pub rejected_p50: Option<Duration>,
    pub rejected_p99: Option<Duration>,
    /// The time that all callers together spent in calls.
    pub waited: Duration,
    pub waited_while_down: Duration,
    pub reached_while_down: usize,
    /// Of these, the ones that came after the first rejection.
    pub reached_after_detect: Option<usize>,
    /// Of these, the ones that the breaker let through to look.
    pub probes_while_down: usize,
    /// From the start of the outage to the first rejection.
    pub detect: Option<Duration>,
    /// From the service's recovery to the first success.
    pub recover: Option<Duration>,
    /// From the service's recovery to the breaker's move to closed.
    pub closed: Option<Duration>,
}

impl Figures {
    pub(crate) fn of(run: &Run) -> Figures {
        let count = |ending| run.samples.iter().filter(|s| s.ending == ending).count();
        let first_end = |ending, from: Duration| {
            let mut ends = run.samples.iter().filter(|s| s.ending == ending);
            ends.find(|s| s.end >= from).map(|s| s.end)
        };
        let all = latencies(&run.samples, |_| true);
        let rejections = latencies(&run.samples, |s| s.ending == Ending::Rejected);
        let detected_at = first_end(Ending::Rejected, run.down_at);
        let while_down = |sample: &Sample| {
            let end = sample.end.min(run.recovered_at);
            end.saturating_sub(sample.begin.max(run.down_at))
        };
        let arrived_after = |moment| run.arrivals.iter().filter(|a| a.0 > moment).count();
        let closing = run.changes.iter().find(|change| change.to == State::Closed && change.at >= run.recovered_at);
        Figures {
            requests: run.samples.len(),
            succeeded: count(Ending::Succeeded),
            failed: count(Ending::Failed),
            rejected: count(Ending::Rejected),
            p50: percentile(&all, 50),
            p99: percentile(&all, 99),
            rejected_p50: percentile(&rejections, 50),
            rejected_p99: percentile(&rejections, 99),
            waited: all.iter().sum(),
            waited_while_down: run.samples.iter().map(while_down).sum(),
            reached_while_down: run.arrivals.len(),
            reached_after_detect: detected_at.map(arrived_after),
            probes_while_down: run.arrivals.iter().filter(|a| a.1.probe).count(),
            detect: detected_at.map(|at| at - run.down_at),
            recover: first_end(Ending::Succeeded, run.recovered_at).map(|at| at - run.recovered_at),
            closed: closing.map(|change| change.at - run.recovered_at),
        }
    }
}

/// Sorted.
fn latencies(samples: &[Sample], wanted: impl Fn(&Sample) -> bool) -> Vec<Duration> {
    let wanted = samples.iter().filter(|sample| wanted(sample));
    let mut latencies: Vec<_> = wanted.map(Sample::latency).collect();
    latencies.sort_unstable();
    latencies
}

pub(crate) fn table(plan: &Plan, [bare, breaker]: &[Figures; 2], run: &Run) -> String {
    let time = |d: Option<Duration>| d.map_or_else(|| "-".to_owned(), short);
    let probes = |f: &Figures| f.detect.map_or_else(|| "-".to_owned(), |_| grouped(f.probes_while_down));
    let after = |f: &Figures| f.reached_after_detect.map_or_else(|| "-".to_owned(), grouped);
    let row = |name: &str, show: &dyn Fn(&Figures) -> String| {
        format!("{name:<34} {:>12} {:>12}\n", show(bare), show(breaker))
    };
    let mut text = format!("\n{:<34} {:>12} {:>12}\n", "", "bare", "breaker");
    text += &row("requests", &|f| grouped(f.requests));
    text += &row("  succeeded", &|f| grouped(f.succeeded));
    text += &row("  failed", &|f| grouped(f.failed));
    text += &row("  rejected", &|f| grouped(f.rejected));
    text += &row("latency of all requests, p50", &|f| time(f.p50));
    text += &row("                         p99", &|f| time(f.p99));
    text += &row("latency of rejections,   p50", &|f| time(f.rejected_p50));
    text += &row("                         p99", &|f| time(f.rejected_p99));
    text += &row("callers waited, all together", &|f| format!("{:.1} s", f.waited.as_secs_f64()));
    text += &row("  of this while down", &|f| format!("{:.1} s", f.waited_while_down.as_secs_f64()));
    text += &row("reached the service while down", &|f| grouped(f.reached_while_down));
    text += &row("  of these after detection", &after);
    text += &row("  of these probes", &probes);
    text += &row("time to detect", &|f| time(f.detect));
    text += &row("time to recover: first success", &|f| time(f.recover));
    text += &row("                 breaker closed", &|f| time(f.closed));
    text.push('\n');

    let tripped = run.changes.iter().find(|change| change.to == State::Open);
    if let Some(change) = tripped {
        let _ = writeln!(text, "Tripped: {}", change.text);
    }
    if let Some(rejection) = &run.first_rejection {
        let _ = writeln!(text, "First rejection: {rejection}");
    }
    let wait = short(plan.open_for);
    let _ = match breaker.closed {
        Some(closed) if closed <= plan.open_for => writeln!(
            text,
            "Closed again {} after the service's recovery, within one open wait ({wait}).",
            short(closed),
        ),
        Some(closed) => writeln!(
            text,
            "Closed again {} after the service's recovery, later than one open wait ({wait}).",
            short(closed),
        ),
        None => writeln!(text, "Not closed again before the end of the run."),
    };
    let _ = writeln!(text, "{plan}\n{}", plan.breaker());
    text
}

pub(crate) fn json(figures: &[Figures; 2]) -> Value {
    let [bare, breaker] = figures.each_ref().map(object);
    json!({ "bare": bare, "breaker": breaker })
}

fn object(f: &Figures) -> Value {
    json!({
        "requests": f.requests,
        "succeeded": f.succeeded,
        "failed": f.failed,
        "rejected": f.rejected,
        "p50_ms": ms(f.p50),
        "p99_ms": ms(f.p99),
        "waited_s": s(f.waited),
        "waited_while_down_s": s(f.waited_while_down),
        "reached_while_down": f.reached_while_down,
        "detect_ms": ms(f.detect),
        "recover_ms": ms(f.recover),
        "closed_ms": ms(f.closed),
        "rejected_p50_us": us(f.rejected_p50),
        "rejected_p99_us": us(f.rejected_p99),
        "reached_after_detect": f.reached_after_detect,
        "probes_while_down": f.probes_while_down,
    })
}
