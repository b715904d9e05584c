//! The picture: the runs one above the other, on the same axes; of each run a lane a node, and what reached the service.

use std::fmt::Write;
use std::time::Duration;

use failfast::State;

use crate::numbers::{grouped, round_up, short};
use crate::pieces::{FAILED, FAINT, GRID, HALF_OPEN, INK, SUCCEEDED, page, rect, text};
use crate::plan::{Plan, Side, Span};
use crate::report::Figures;
use crate::run::Run;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 1026.0;
const LEFT: f64 = 92.0;
const RIGHT: f64 = 976.0;
const FIRST_PANEL: f64 = 112.0;
const PANEL: f64 = 300.0;

/// Offsets below a panel's top.
const TITLE: f64 = 14.0;
const SUMMARY: f64 = 33.0;
const PHASES: f64 = 43.0;
const LANES: (f64, f64) = (64.0, 164.0);
const STORE: (f64, f64) = (167.0, 181.0);
const BARS: (f64, f64) = (188.0, 254.0);
const AXIS: f64 = 270.0;

const BUCKETS: usize = 100;

const PROBE: &str = "#1f4e9e";
const STORE_GONE: &str = "#5b6673";

pub(crate) fn draw(plan: &Plan, runs: &[Run; 3], figures: &[Figures; 3]) -> String {
    let buckets = runs.each_ref().map(|run| bucketed(plan, run));
    let busiest = buckets.iter().flatten().map(Bucket::total).max().unwrap_or(0) as f64;
    let axes = Axes {
        run: plan.run,
        rate: round_up(busiest / bucket_length(plan).as_secs_f64(), &[1.0, 1.2, 1.6, 2.0, 3.0, 4.0, 6.0, 8.0]),
    };
    let mut svg = page((WIDTH, HEIGHT), "One outage of a service, seen by a fleet of processes");
    text(&mut svg, (24.0, 56.0), "", FAINT, &plan.to_string());
    legend(&mut svg);
    for (index, ((run, figures), buckets)) in runs.iter().zip(figures).zip(&buckets).enumerate() {
        panel(&mut svg, plan, &axes, FIRST_PANEL + PANEL * index as f64, run, figures, buckets);
    }
    let below = FIRST_PANEL + PANEL * 2.0 + AXIS + 22.0;
    text(
        &mut svg,
        ((LEFT + RIGHT) / 2.0, below),
        "text-anchor=\"middle\"",
        FAINT,
        "seconds since the start of the run",
    );
    svg.push_str("</svg>\n");
    svg
}

#[derive(Clone, Default)]
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

fn bucket_length(plan: &Plan) -> Duration {
    plan.run / BUCKETS as u32
}

/// By the moment of the arrival; the few after the run are left out.
fn bucketed(plan: &Plan, run: &Run) -> Vec<Bucket> {
    let length = bucket_length(plan).as_nanos();
    let mut buckets = vec![Bucket::default(); BUCKETS];
    for arrival in &run.arrivals {
        if let Some(bucket) = buckets.get_mut((arrival.at.as_nanos() / length) as usize) {
            *match arrival.at {
                _ if arrival.probe => &mut bucket.probes,
                at if (run.down.0..run.down.1).contains(&at) => &mut bucket.failed,
                _ => &mut bucket.healthy,
            } += 1;
        }
    }
    buckets
}

struct Axes {
    run: Duration,
    rate: f64,
}

impl Axes {
    fn x(&self, at: Duration) -> f64 {
        let share = at.as_secs_f64() / self.run.as_secs_f64();
        LEFT + (RIGHT - LEFT) * share.min(1.0)
    }

    /// Above the panel's zero line, in pixels.
    fn height(&self, rate: f64) -> f64 {
        rate / self.rate * (BARS.1 - BARS.0)
    }
}

fn panel(svg: &mut String, plan: &Plan, axes: &Axes, top: f64, run: &Run, figures: &Figures, buckets: &[Bucket]) {
    let name = match run.side {
        Side::Alone => "Each breaker alone".to_owned(),
        Side::Any => "Shared: any node's trip opens all".to_owned(),
        Side::Quorum => format!("Shared: {} nodes' trips open all", run.side.needed(plan.nodes)),
    };
    text(svg, (24.0, top + TITLE), "font-size=\"15\" font-weight=\"600\"", INK, &name);
    text(svg, (24.0, top + SUMMARY), "", FAINT, &summary(figures));
    phases(svg, axes, top, run);
    lanes(svg, plan, axes, top, run);
    if run.side != Side::Alone {
        store(svg, axes, top, run, figures);
    }
    bars(svg, plan, axes, top, buckets);
    seconds(svg, axes, top);
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

fn phases(svg: &mut String, axes: &Axes, top: f64, run: &Run) {
    const WELL: (&str, &str) = ("#eef6f2", "#0b6b50");
    for (label, (begin, end), (ground, ink)) in [
        ("well", (Duration::ZERO, run.cut_off.0), WELL),
        ("node 2 cut off", run.cut_off, ("#fdf4dc", "#7a5c00")),
        ("well", (run.cut_off.1, run.down.0), WELL),
        ("the service fails", run.down, ("#fbe6e0", "#a33b00")),
        ("well", (run.down.1, axes.run), WELL),
    ] {
        let (x, width) = (axes.x(begin), axes.x(end) - axes.x(begin));
        rect(svg, (x, top + PHASES), (width, BARS.1 - PHASES), ground, "");
        let middle = (x + width / 2.0, top + PHASES + 14.0);
        text(svg, middle, "text-anchor=\"middle\" font-weight=\"600\"", ink, label);
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
        let mut state = State::Closed;
        let mut from = axes.x(Duration::ZERO);
        let moves = run.moves.iter().filter(|moved| moved.node == node);
        for (to, next) in moves.map(|moved| (axes.x(moved.at), moved.to)).chain([(RIGHT, State::Closed)]) {
            let fill = match state {
                State::Closed => SUCCEEDED,
                State::HalfOpen => HALF_OPEN,
                _ => FAILED,
            };
            rect(svg, (from, y), ((to - from).max(0.0), height), fill, "");
            (state, from) = (next, to);
        }
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
    let (begin, end): Span = run.store_gone;
    let y = top + STORE.0;
    text(svg, (LEFT - 8.0, y + 11.0), "text-anchor=\"end\" font-size=\"11\"", FAINT, "store");
    rect(svg, (LEFT, y), (RIGHT - LEFT, STORE.1 - STORE.0), "#bfe7da", "");
    let (x, width) = (axes.x(begin), axes.x(end) - axes.x(begin));
    if let Some(mended) = figures.mended {
        let back = axes.x(end + mended);
        rect(svg, (x, y), (back - x, STORE.1 - STORE.0), "#adb3bb", "");
    }
    rect(svg, (x, y), (width, STORE.1 - STORE.0), STORE_GONE, "");
    let middle = (x + width / 2.0, y + 11.0);
    text(svg, middle, "text-anchor=\"middle\" font-size=\"10\"", "#ffffff", "gone");
}

fn bars(svg: &mut String, plan: &Plan, axes: &Axes, top: f64, buckets: &[Bucket]) {
    for share in [0.0, 0.5, 1.0] {
        let y = top + BARS.1 - axes.height(axes.rate * share);
        let _ = writeln!(svg, "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\" stroke=\"{GRID}\"/>");
        let label = grouped((axes.rate * share) as usize);
        text(svg, (LEFT - 8.0, y + 4.0), "text-anchor=\"end\" font-size=\"11\"", FAINT, &label);
    }
    let y = top + (BARS.0 + BARS.1) / 2.0;
    let turned = format!("text-anchor=\"middle\" font-size=\"11\" transform=\"rotate(-90 34 {y:.1})\"");
    text(svg, (34.0, y), &turned, FAINT, "requests/s");
    let length = bucket_length(plan);
    let width = axes.x(length) - axes.x(Duration::ZERO);
    for (index, bucket) in buckets.iter().enumerate() {
        let x = axes.x(length * index as u32);
        let mut y = top + BARS.1;
        for (count, fill) in [(bucket.healthy, SUCCEEDED), (bucket.failed, FAILED), (bucket.probes, PROBE)] {
            if count > 0 {
                let height = axes.height(count as f64 / length.as_secs_f64());
                y -= height;
                rect(svg, (x + 0.5, y), (width - 1.0, height), fill, "");
            }
        }
    }
}

fn seconds(svg: &mut String, axes: &Axes, top: f64) {
    let run = axes.run.as_secs_f64();
    let step = round_up(run / 12.0, &[1.0, 2.0, 2.5, 5.0]);
    let mut at = 0.0;
    while at <= run * 1.000_1 {
        let x = axes.x(Duration::from_secs_f64(at));
        let label = format!("{}", (at * 100.0).round() / 100.0);
        text(svg, (x, top + AXIS), "text-anchor=\"middle\" font-size=\"11\"", FAINT, &label);
        at += step;
    }
}

fn legend(svg: &mut String) {
    let mut x = 24.0;
    for (fill, label, advance) in [
        (SUCCEEDED, "closed / answered", 140.0),
        (FAILED, "open / answered by an error", 208.0),
        (HALF_OPEN, "half-open", 90.0),
        (PROBE, "probe", 70.0),
        (STORE_GONE, "no store; paler: on the way back to all", 0.0),
    ] {
        rect(svg, (x, 72.0), (12.0, 12.0), fill, "rx=\"2\"");
        text(svg, (x + 18.0, 82.5), "", INK, label);
        x += advance;
    }
}
