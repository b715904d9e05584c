//! The picture: the runs one above the other, on the same axes; of each run a lane a node, and what reached the service.

use std::fmt::Write;
use std::time::Duration;

use crate::chart::{Axes, LEFT, RIGHT, begin, bucket_of, buckets, end, headline, legend, shade, states};
use crate::numbers::{grouped, short};
use crate::pieces::{FAILED, FAINT, HALF_OPEN, SUCCEEDED, rect, text};
use crate::plan::{Plan, Side};
use crate::report::Figures;
use crate::run::Run;

const FIRST_PANEL: f64 = 112.0;
const PANEL: f64 = 300.0;

/// Offsets below a panel's top.
const LANES: (f64, f64) = (64.0, 164.0);
const STORE: (f64, f64) = (167.0, 181.0);
const BARS: (f64, f64) = (188.0, 254.0);
const AXIS: f64 = 270.0;

const PROBE: &str = "#1f4e9e";
const STORE_GONE: &str = "#5b6673";

pub(crate) fn draw(plan: &Plan, runs: &[Run; 3], figures: &[Figures; 3]) -> String {
    let buckets = runs.each_ref().map(|run| bucketed(plan, run));
    let busiest = buckets.iter().flatten().map(Bucket::total).max().unwrap_or(0);
    let axes = Axes::new(plan.run, busiest, &[1.0, 1.2, 1.6, 2.0, 3.0, 4.0, 6.0, 8.0], BARS);
    let mut svg = begin(1026.0, "One outage of a service, seen by a fleet of processes", &plan.to_string());
    let fills = [
        (SUCCEEDED, "closed / answered", 140.0),
        (FAILED, "open / answered by an error", 208.0),
        (HALF_OPEN, "half-open", 90.0),
        (PROBE, "probe", 70.0),
        (STORE_GONE, "no store; paler: on the way back to all", 0.0),
    ];
    legend(&mut svg, &fills);
    for (index, ((run, figures), buckets)) in runs.iter().zip(figures).zip(&buckets).enumerate() {
        panel(&mut svg, plan, &axes, FIRST_PANEL + PANEL * index as f64, run, figures, buckets);
    }
    end(svg, FIRST_PANEL + PANEL * 2.0 + AXIS)
}

#[derive(Default)]
struct Bucket {
    healthy: usize,
    failed: usize,
    probes: usize,
}

impl Bucket {
    fn total(&self) -> usize {
        self.healthy + self.failed + self.probes
    }
}

/// By the moment of the arrival; the few after the run are left out.
fn bucketed(plan: &Plan, run: &Run) -> Vec<Bucket> {
    let mut buckets: Vec<Bucket> = buckets();
    for arrival in &run.arrivals {
        if let Some(bucket) = buckets.get_mut(bucket_of(arrival.at, plan.run)) {
            *match arrival.at {
                _ if arrival.probe => &mut bucket.probes,
                at if (run.down.0..run.down.1).contains(&at) => &mut bucket.failed,
                _ => &mut bucket.healthy,
            } += 1;
        }
    }
    buckets
}

fn panel(svg: &mut String, plan: &Plan, axes: &Axes, top: f64, run: &Run, figures: &Figures, buckets: &[Bucket]) {
    let name = match run.side {
        Side::Alone => "Each breaker alone".to_owned(),
        Side::Any => "Shared: any node's trip opens all".to_owned(),
        Side::Quorum => format!("Shared: {} nodes' trips open all", run.side.needed(plan.nodes)),
    };
    headline(svg, top, &name, &summary(figures));
    phases(svg, plan, axes, top, run);
    lanes(svg, plan, axes, top, run);
    if run.side != Side::Alone {
        store(svg, axes, top, run, figures);
    }
    axes.rates(svg, top, "requests/s");
    let stack = |bucket: &Bucket| [(bucket.healthy, SUCCEEDED), (bucket.failed, FAILED), (bucket.probes, PROBE)];
    axes.bars(svg, top, buckets.iter().map(stack));
    axes.seconds(svg, top + AXIS);
}

fn summary(figures: &Figures) -> String {
    let mut text = String::new();
    if let Some(all) = figures.all_rejecting {
        let _ = write!(text, "all reject {} after the first trip", short(all));
    }
    if figures.side == Side::Quorum {
        if let Some(shared) = figures.shared {
            let _ = write!(text, " ({} after the deciding one)", short(shared));
        }
    }
    let _ = write!(
        text,
        "; {} requests reached the failing service; {} probes at recovery; {} needless rejections",
        grouped(figures.reached_while_down),
        grouped(figures.probes_at_recovery),
        grouped(figures.rejected_on_others),
    );
    text
}

fn phases(svg: &mut String, plan: &Plan, axes: &Axes, top: f64, run: &Run) {
    const WELL: (&str, &str) = ("#eef6f2", "#0b6b50");
    for (name, span, colours) in [
        ("well", (Duration::ZERO, run.cut_off.0), WELL),
        ("node 2 cut off", run.cut_off, ("#fdf4dc", "#7a5c00")),
        ("well", (run.cut_off.1, run.down.0), WELL),
        ("the service fails", run.down, ("#fbe6e0", "#a33b00")),
        ("well", (run.down.1, plan.run), WELL),
    ] {
        axes.phase(svg, (top, BARS.1), span, name, colours);
    }
}

fn lanes(svg: &mut String, plan: &Plan, axes: &Axes, top: f64, run: &Run) {
    let pitch = (LANES.1 - LANES.0) / plan.nodes as f64;
    let height = (pitch - 3.0).max(pitch * 0.7);
    let r = (height * 0.6).min(2.6);
    for node in 0..plan.nodes {
        let y = top + LANES.0 + pitch * node as f64;
        // Of many, every fifth has a name.
        if plan.nodes <= 8 || node % 5 == 0 {
            let label = format!("node {}", node + 1);
            text(svg, (LEFT - 8.0, y + height / 2.0 + 4.0), "text-anchor=\"end\" font-size=\"11\"", FAINT, &label);
        }
        let moves = run.moves.iter().filter(|moved| moved.node == node);
        states(moves.map(|moved| (axes.x(moved.at), moved.to)), |state, x, width| {
            rect(svg, (x, y), (width, height), shade(state), "");
        });
        for arrival in run.arrivals.iter().filter(|arrival| arrival.node == node && arrival.probe) {
            let x = axes.x(arrival.at);
            let y = y + height / 2.0;
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{r:.1}\" fill=\"{PROBE}\" stroke=\"#ffffff\" stroke-width=\"{:.1}\"/>",
                r * 0.4
            );
        }
    }
}

/// From the store's end to its return, and on to the moment when all had it again.
fn store(svg: &mut String, axes: &Axes, top: f64, run: &Run, figures: &Figures) {
    let y = top + STORE.0;
    text(svg, (LEFT - 8.0, y + 11.0), "text-anchor=\"end\" font-size=\"11\"", FAINT, "store");
    rect(svg, (LEFT, y), (RIGHT - LEFT, STORE.1 - STORE.0), "#bfe7da", "");
    let (x, width) = axes.stretch(run.store_gone);
    if let Some(mended) = figures.mended {
        let back = axes.x(run.store_gone.1 + mended);
        rect(svg, (x, y), (back - x, STORE.1 - STORE.0), "#adb3bb", "");
    }
    rect(svg, (x, y), (width, STORE.1 - STORE.0), STORE_GONE, "");
    let middle = (x + width / 2.0, y + 11.0);
    text(svg, middle, "text-anchor=\"middle\" font-size=\"10\"", "#ffffff", "gone");
}
