//! The picture: both runs one above the other, on the same axes.

use std::fmt::Write;
use std::time::Duration;

use failfast::State;

use crate::load::{Ending, Run, Sample, Side};
use crate::numbers::{grouped, percentile, round_up, short};
use crate::pieces::{FAILED, FAINT, GRID, HALF_OPEN, INK, SUCCEEDED, page, rect, text};
use crate::plan::{Phase, Plan};
use crate::report::Figures;

const WIDTH: f64 = 1000.0;
const HEIGHT: f64 = 884.0;
const LEFT: f64 = 92.0;
const RIGHT: f64 = 976.0;
const PANEL_TOP: [f64; 2] = [108.0, 490.0];

/// Offsets below a panel's top.
const TITLE: f64 = 14.0;
const SUMMARY: f64 = 33.0;
const PHASES: f64 = 43.0;
const BARS: (f64, f64) = (63.0, 203.0);
const LATENCY: (f64, f64) = (221.0, 311.0);
const RIBBON: (f64, f64) = (319.0, 335.0);
const AXIS: f64 = 351.0;

const BUCKETS: usize = 100;
/// The latency axis: from 0.1 µs up, in powers of ten of seconds.
const LOWEST: f64 = -7.0;

const REJECTED: &str = "#9aa7b5";
const P99: &str = "#1f4e9e";

pub(crate) fn draw(plan: &Plan, runs: [(&Run, &Figures); 2]) -> String {
    let buckets = runs.map(|(run, _)| bucketed(plan, run));
    let busiest = buckets.iter().flatten().map(Bucket::total).max();
    let busiest = busiest.unwrap_or(0) as f64;
    let slowest = buckets.iter().flatten().filter_map(|bucket| bucket.p99).max();
    let axes = Axes {
        run: plan.run,
        rate: round_up(busiest / bucket_length(plan).as_secs_f64(), &[1.0, 2.0, 4.0, 6.0, 8.0]),
        highest: slowest.map_or(0.0, |d| d.as_secs_f64().log10().ceil()),
    };
    let mut svg = page((WIDTH, HEIGHT), "One outage, bare and behind a circuit breaker");
    text(&mut svg, (24.0, 56.0), "", FAINT, &plan.to_string());
    legend(&mut svg);
    for (((run, figures), buckets), top) in runs.into_iter().zip(&buckets).zip(PANEL_TOP) {
        panel(&mut svg, plan, &axes, top, run, figures, buckets);
    }
    let below = PANEL_TOP[1] + AXIS + 26.0;
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

#[derive(Default)]
struct Bucket {
    succeeded: usize,
    failed: usize,
    rejected: usize,
    p99: Option<Duration>,
}

impl Bucket {
    fn total(&self) -> usize {
        self.succeeded + self.failed + self.rejected
    }
}

fn bucket_length(plan: &Plan) -> Duration {
    plan.run / BUCKETS as u32
}

/// By the moment at which the call ended; the few that end after the run are left out.
fn bucketed(plan: &Plan, run: &Run) -> Vec<Bucket> {
    let length = bucket_length(plan).as_nanos();
    let index = |sample: &Sample| (sample.end.as_nanos() / length) as usize;
    let mut buckets: Vec<_> = (0..BUCKETS).map(|_| Bucket::default()).collect();
    // The samples are in the order of their ends.
    for calls in run.samples.chunk_by(|a, b| index(a) == index(b)) {
        let Some(bucket) = buckets.get_mut(index(&calls[0])) else {
            break;
        };
        let count = |ending| calls.iter().filter(|call| call.ending == ending).count();
        bucket.succeeded = count(Ending::Succeeded);
        bucket.failed = count(Ending::Failed);
        bucket.rejected = count(Ending::Rejected);
        let mut latencies: Vec<_> = calls.iter().map(Sample::latency).collect();
        latencies.sort_unstable();
        bucket.p99 = percentile(&latencies, 99);
    }
    buckets
}

struct Axes {
    run: Duration,
    rate: f64,
    highest: f64,
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

    /// Below the panel's top, in pixels.
    fn depth(&self, latency: Duration) -> f64 {
        let power = latency.as_secs_f64().log10().max(LOWEST);
        LATENCY.1 - (power - LOWEST) / (self.highest - LOWEST) * (LATENCY.1 - LATENCY.0)
    }
}

fn panel(svg: &mut String, plan: &Plan, axes: &Axes, top: f64, run: &Run, figures: &Figures, buckets: &[Bucket]) {
    let name = match run.side {
        Side::Bare => "Bare",
        Side::Breaker => "Behind the breaker",
    };
    text(svg, (24.0, top + TITLE), "font-size=\"15\" font-weight=\"600\"", INK, name);
    text(svg, (24.0, top + SUMMARY), "", FAINT, &summary(figures));
    phases(svg, plan, axes, top);
    scales(svg, axes, top);
    bars(svg, plan, axes, top, buckets);
    latency_line(svg, plan, axes, top, buckets);
    ribbon(svg, axes, top, run);
    seconds(svg, axes, top);
}

fn summary(figures: &Figures) -> String {
    let mut text = format!(
        "{} ok, {} failed, {} rejected; callers waited {:.0} s; {} reached the service while down",
        grouped(figures.succeeded),
        grouped(figures.failed),
        grouped(figures.rejected),
        figures.waited.as_secs_f64(),
        grouped(figures.reached_while_down),
    );
    if let Some(detect) = figures.detect {
        let _ = write!(text, "; detected in {}", short(detect));
    }
    if let Some(closed) = figures.closed {
        let _ = write!(text, "; closed {} after recovery", short(closed));
    }
    text
}

fn phases(svg: &mut String, plan: &Plan, axes: &Axes, top: f64) {
    for (phase, begin, end) in plan.phases() {
        let (x, width) = (axes.x(begin), axes.x(end) - axes.x(begin));
        let (ground, label) = match phase {
            Phase::Healthy | Phase::Recovered => ("#eef6f2", "#0b6b50"),
            Phase::Slow => ("#fdf4dc", "#7a5c00"),
            Phase::Down => ("#fbe6e0", "#a33b00"),
        };
        rect(svg, (x, top + PHASES), (width, LATENCY.1 - PHASES), ground, "");
        let middle = (x + width / 2.0, top + PHASES + 14.0);
        text(svg, middle, "text-anchor=\"middle\" font-weight=\"600\"", label, &phase.to_string());
    }
}

fn scales(svg: &mut String, axes: &Axes, top: f64) {
    for share in [0.0, 0.5, 1.0] {
        let y = top + BARS.1 - axes.height(axes.rate * share);
        tick(svg, y, &grouped((axes.rate * share) as usize));
    }
    for (power, label) in [(-6.0, "1 µs"), (-3.0, "1 ms"), (0.0, "1 s")] {
        if power <= axes.highest {
            let y = top + axes.depth(Duration::from_secs_f64(10_f64.powf(power)));
            tick(svg, y, label);
        }
    }
    for (name, (from, to)) in [("calls/s", BARS), ("p99", LATENCY)] {
        let y = top + (from + to) / 2.0;
        let turned = format!("text-anchor=\"middle\" transform=\"rotate(-90 34 {y:.1})\"");
        text(svg, (34.0, y), &turned, FAINT, name);
    }
    text(svg, (LEFT - 8.0, top + RIBBON.1 - 4.0), "text-anchor=\"end\"", FAINT, "breaker");
}

fn tick(svg: &mut String, y: f64, label: &str) {
    let _ = writeln!(svg, "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\" stroke=\"{GRID}\"/>");
    text(svg, (LEFT - 8.0, y + 4.0), "text-anchor=\"end\" font-size=\"11\"", FAINT, label);
}

fn bars(svg: &mut String, plan: &Plan, axes: &Axes, top: f64, buckets: &[Bucket]) {
    let length = bucket_length(plan);
    let width = axes.x(length) - axes.x(Duration::ZERO);
    for (index, bucket) in buckets.iter().enumerate() {
        let x = axes.x(length * index as u32);
        let mut y = top + BARS.1;
        for (count, fill) in [(bucket.succeeded, SUCCEEDED), (bucket.failed, FAILED), (bucket.rejected, REJECTED)] {
            if count > 0 {
                let height = axes.height(count as f64 / length.as_secs_f64());
                y -= height;
                rect(svg, (x + 0.5, y), (width - 1.0, height), fill, "");
            }
        }
    }
}

fn latency_line(svg: &mut String, plan: &Plan, axes: &Axes, top: f64, buckets: &[Bucket]) {
    let length = bucket_length(plan);
    let mut points = String::new();
    for (index, bucket) in buckets.iter().enumerate() {
        if let Some(p99) = bucket.p99 {
            let x = axes.x(length * index as u32 + length / 2);
            let _ = write!(points, "{x:.1},{:.1} ", top + axes.depth(p99));
        }
    }
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{P99}\" stroke-width=\"1.8\" \
         stroke-linejoin=\"round\"/>",
        points.trim_end()
    );
}

fn ribbon(svg: &mut String, axes: &Axes, top: f64, run: &Run) {
    let height = RIBBON.1 - RIBBON.0;
    if run.side == Side::Bare {
        let middle = ((LEFT + RIGHT) / 2.0, top + RIBBON.1 - 4.0);
        text(svg, middle, "text-anchor=\"middle\" font-size=\"11\"", FAINT, "none");
        return;
    }
    let mut state = State::Closed;
    let mut from = axes.x(Duration::ZERO);
    let ends = run.changes.iter().map(|change| (axes.x(change.at), change.to));
    for (to, next) in ends.chain([(RIGHT, State::Closed)]) {
        let (fill, ink) = match state {
            State::Closed => (SUCCEEDED, "#ffffff"),
            State::HalfOpen => (HALF_OPEN, INK),
            _ => (FAILED, "#ffffff"),
        };
        rect(svg, (from, top + RIBBON.0), (to - from, height), fill, "");
        let label = state.as_str();
        // A label that would not fit is left to the legend.
        if to - from > 5.6 * label.len() as f64 {
            let middle = ((from + to) / 2.0, top + RIBBON.1 - 4.0);
            text(svg, middle, "text-anchor=\"middle\" font-size=\"10\"", ink, label);
        }
        (state, from) = (next, to);
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
        (SUCCEEDED, "succeeded / closed", 146.0),
        (FAILED, "failed / open", 112.0),
        (REJECTED, "rejected", 86.0),
        (HALF_OPEN, "half_open", 92.0),
    ] {
        rect(svg, (x, 72.0), (12.0, 12.0), fill, "rx=\"2\"");
        text(svg, (x + 18.0, 82.5), "", INK, label);
        x += advance;
    }
    let _ =
        writeln!(svg, "<line x1=\"{x}\" y1=\"78\" x2=\"{}\" y2=\"78\" stroke=\"{P99}\" stroke-width=\"2\"/>", x + 18.0);
    text(svg, (x + 24.0, 82.5), "", INK, "p99 latency of all calls, rejections included (log scale)");
}
