//! The picture: both runs one above the other, on the same axes.

use std::fmt::Write;
use std::time::Duration;

use failfast::State;

use crate::chart::{
    Axes, LEFT, RIGHT, begin, bucket, bucket_of, buckets, end, headline, legend, shade, states, tick, unit,
};
use crate::load::{Ending, Run, Sample, Side};
use crate::numbers::{grouped, percentile, short};
use crate::pieces::{FAILED, FAINT, HALF_OPEN, INK, SUCCEEDED, rect, text};
use crate::plan::{Phase, Plan};
use crate::report::Figures;

const PANEL_TOP: [f64; 2] = [108.0, 490.0];

/// Offsets below a panel's top.
const BARS: (f64, f64) = (63.0, 203.0);
const LATENCY: (f64, f64) = (221.0, 311.0);
const RIBBON: (f64, f64) = (319.0, 335.0);
const AXIS: f64 = 351.0;

/// The latency axis: from 0.1 µs up, in powers of ten of seconds.
const LOWEST: f64 = -7.0;

const REJECTED: &str = "#9aa7b5";
const P99: &str = "#1f4e9e";

pub(crate) fn draw(plan: &Plan, runs: [(&Run, &Figures); 2]) -> String {
    let buckets = runs.map(|(run, _)| bucketed(plan, run));
    let busiest = buckets.iter().flatten().map(Bucket::total).max().unwrap_or(0);
    let slowest = buckets.iter().flatten().filter_map(|bucket| bucket.p99).max();
    let axes = Axes::new(plan.run, busiest, &[1.0, 2.0, 4.0, 6.0, 8.0], BARS);
    let latencies = Latencies { highest: slowest.map_or(0.0, |d| d.as_secs_f64().log10().ceil()) };
    let mut svg = begin(880.0, "One outage, bare and behind a circuit breaker", &plan.to_string());
    explain(&mut svg);
    for (((run, figures), buckets), top) in runs.into_iter().zip(&buckets).zip(PANEL_TOP) {
        let name = match run.side {
            Side::Bare => "Bare",
            Side::Breaker => "Behind the breaker",
        };
        headline(&mut svg, top, name, &summary(figures));
        phases(&mut svg, plan, &axes, top);
        axes.rates(&mut svg, top, "calls/s");
        let stack = |b: &Bucket| [(b.succeeded, SUCCEEDED), (b.failed, FAILED), (b.rejected, REJECTED)];
        axes.bars(&mut svg, top, buckets.iter().map(stack));
        latencies.scale(&mut svg, top);
        latencies.line(&mut svg, plan, &axes, top, buckets);
        ribbon(&mut svg, &axes, top, run);
        axes.seconds(&mut svg, top + AXIS);
    }
    end(svg, PANEL_TOP[1] + AXIS)
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

/// By the moment at which the call ended; the few that end after the run are left out.
fn bucketed(plan: &Plan, run: &Run) -> Vec<Bucket> {
    let index = |sample: &Sample| bucket_of(sample.end, plan.run);
    let mut buckets: Vec<Bucket> = buckets();
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

/// The axis of the latencies: in powers of ten of seconds.
struct Latencies {
    highest: f64,
}

impl Latencies {
    /// Below the panel's top, in pixels.
    fn y(&self, latency: Duration) -> f64 {
        let power = latency.as_secs_f64().log10().max(LOWEST);
        LATENCY.1 - (power - LOWEST) / (self.highest - LOWEST) * (LATENCY.1 - LATENCY.0)
    }

    fn scale(&self, svg: &mut String, top: f64) {
        for (power, label) in [(-6.0, "1 µs"), (-3.0, "1 ms"), (0.0, "1 s")] {
            if power <= self.highest {
                tick(svg, top + self.y(Duration::from_secs_f64(10_f64.powf(power))), label);
            }
        }
        unit(svg, top, LATENCY, "p99");
    }

    fn line(&self, svg: &mut String, plan: &Plan, axes: &Axes, top: f64, buckets: &[Bucket]) {
        let length = bucket(plan.run);
        let mut points = String::new();
        for (index, bucket) in buckets.iter().enumerate() {
            if let Some(p99) = bucket.p99 {
                let x = axes.x(length * index as u32 + length / 2);
                let _ = write!(points, "{x:.1},{:.1} ", top + self.y(p99));
            }
        }
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{P99}\" stroke-width=\"1.8\" \
             stroke-linejoin=\"round\"/>",
            points.trim_end()
        );
    }
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
        let colours = match phase {
            Phase::Healthy | Phase::Recovered => ("#eef6f2", "#0b6b50"),
            Phase::Slow => ("#fdf4dc", "#7a5c00"),
            Phase::Down => ("#fbe6e0", "#a33b00"),
        };
        axes.phase(svg, (top, LATENCY.1), (begin, end), &phase.to_string(), colours);
    }
}

fn ribbon(svg: &mut String, axes: &Axes, top: f64, run: &Run) {
    let height = RIBBON.1 - RIBBON.0;
    let words = top + RIBBON.1 - 4.0;
    text(svg, (LEFT - 8.0, words), "text-anchor=\"end\" font-size=\"11\"", FAINT, "breaker");
    if run.side == Side::Bare {
        let middle = ((LEFT + RIGHT) / 2.0, words);
        text(svg, middle, "text-anchor=\"middle\" font-size=\"11\"", FAINT, "none");
        return;
    }
    states(run.changes.iter().map(|change| (axes.x(change.at), change.to)), |state, x, width| {
        rect(svg, (x, top + RIBBON.0), (width, height), shade(state), "");
        let label = state.as_str();
        // A label that would not fit is left to the legend.
        if width > 5.6 * label.len() as f64 {
            let ink = if state == State::HalfOpen { INK } else { "#ffffff" };
            text(svg, (x + width / 2.0, words), "text-anchor=\"middle\" font-size=\"10\"", ink, label);
        }
    });
}

fn explain(svg: &mut String) {
    let fills = [
        (SUCCEEDED, "succeeded / closed", 146.0),
        (FAILED, "failed / open", 112.0),
        (REJECTED, "rejected", 86.0),
        (HALF_OPEN, "half_open", 92.0),
    ];
    let x = legend(svg, &fills);
    let _ =
        writeln!(svg, "<line x1=\"{x}\" y1=\"78\" x2=\"{}\" y2=\"78\" stroke=\"{P99}\" stroke-width=\"2\"/>", x + 18.0);
    text(svg, (x + 24.0, 82.5), "", INK, "p99 latency of all calls, rejections included (log scale)");
}
