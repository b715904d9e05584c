//! What the pictures of an outage have in common: panels one above the other, time to the right, and in each a bar for
//! every hundredth of the run.

use std::fmt::Write;
use std::time::Duration;

use failfast::State;

use crate::numbers::{grouped, round_up};
use crate::pieces::{FAILED, FAINT, GRID, HALF_OPEN, INK, SUCCEEDED, page, rect, text};

pub(crate) const LEFT: f64 = 92.0;
pub(crate) const RIGHT: f64 = 976.0;

/// Offsets below a panel's top.
const TITLE: f64 = 14.0;
const SUMMARY: f64 = 33.0;
pub(crate) const PHASES: f64 = 43.0;

const BUCKETS: usize = 100;

pub(crate) fn begin(height: f64, title: &str, plan: &str) -> String {
    let mut svg = page((1000.0, height), title);
    text(&mut svg, (24.0, 56.0), "", FAINT, plan);
    svg
}

/// With what the axes below the last panel, at `axis`, are in.
pub(crate) fn end(mut svg: String, axis: f64) -> String {
    let middle = ((LEFT + RIGHT) / 2.0, axis + 22.0);
    text(&mut svg, middle, "text-anchor=\"middle\"", FAINT, "seconds since the start of the run");
    svg.push_str("</svg>\n");
    svg
}

/// A name for each fill, and how far it is to the next one. Gives where the row ends.
pub(crate) fn legend(svg: &mut String, fills: &[(&str, &str, f64)]) -> f64 {
    let mut x = 24.0;
    for (fill, label, advance) in fills {
        rect(svg, (x, 72.0), (12.0, 12.0), fill, "rx=\"2\"");
        text(svg, (x + 18.0, 82.5), "", INK, label);
        x += advance;
    }
    x
}

pub(crate) fn headline(svg: &mut String, top: f64, name: &str, summary: &str) {
    text(svg, (24.0, top + TITLE), "font-size=\"15\" font-weight=\"600\"", INK, name);
    text(svg, (24.0, top + SUMMARY), "", FAINT, summary);
}

/// A breaker's states in the order of time, each from its x to the next one's.
pub(crate) fn states(moves: impl Iterator<Item = (f64, State)>, mut draw: impl FnMut(State, f64, f64)) {
    let (mut from, mut state) = (LEFT, State::Closed);
    for (to, next) in moves.chain([(RIGHT, State::Closed)]) {
        draw(state, from, (to - from).max(0.0));
        (from, state) = (to, next);
    }
}

pub(crate) fn shade(state: State) -> &'static str {
    match state {
        State::Closed => SUCCEEDED,
        State::HalfOpen => HALF_OPEN,
        _ => FAILED,
    }
}

pub(crate) fn tick(svg: &mut String, y: f64, label: &str) {
    let _ = writeln!(svg, "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{RIGHT}\" y2=\"{y:.1}\" stroke=\"{GRID}\"/>");
    text(svg, (LEFT - 8.0, y + 4.0), "text-anchor=\"end\" font-size=\"11\"", FAINT, label);
}

/// What an axis from `from` to `to` is of, upwards beside it.
pub(crate) fn unit(svg: &mut String, top: f64, (from, to): (f64, f64), name: &str) {
    let y = top + (from + to) / 2.0;
    let turned = format!("text-anchor=\"middle\" font-size=\"11\" transform=\"rotate(-90 34 {y:.1})\"");
    text(svg, (34.0, y), &turned, FAINT, name);
}

/// The axes that all panels share.
pub(crate) struct Axes {
    run: Duration,
    /// The bars' highest rate per second, and where they stand below a panel's top.
    rate: f64,
    bars: (f64, f64),
}

impl Axes {
    /// High enough for a bar of so many.
    pub(crate) fn new(run: Duration, busiest: usize, factors: &[f64], bars: (f64, f64)) -> Axes {
        let rate = round_up(busiest as f64 / bucket(run).as_secs_f64(), factors);
        Axes { run, rate, bars }
    }

    pub(crate) fn x(&self, at: Duration) -> f64 {
        let share = at.as_secs_f64() / self.run.as_secs_f64();
        LEFT + (RIGHT - LEFT) * share.min(1.0)
    }

    /// A stretch of the run: its x and its width.
    pub(crate) fn stretch(&self, (begin, end): (Duration, Duration)) -> (f64, f64) {
        (self.x(begin), self.x(end) - self.x(begin))
    }

    /// The ground behind a stretch of the run, down to `bottom`, with its name.
    pub(crate) fn phase(
        &self,
        svg: &mut String,
        (top, bottom): (f64, f64),
        span: (Duration, Duration),
        name: &str,
        (ground, ink): (&str, &str),
    ) {
        let (x, width) = self.stretch(span);
        rect(svg, (x, top + PHASES), (width, bottom - PHASES), ground, "");
        let middle = (x + width / 2.0, top + PHASES + 14.0);
        text(svg, middle, "text-anchor=\"middle\" font-weight=\"600\"", ink, name);
    }

    pub(crate) fn rates(&self, svg: &mut String, top: f64, name: &str) {
        for share in [0.0, 0.5, 1.0] {
            let y = self.bars.1 - share * (self.bars.1 - self.bars.0);
            tick(svg, top + y, &grouped((self.rate * share) as usize));
        }
        unit(svg, top, self.bars, name);
    }

    /// For each bucket how many of each fill, the first ones lowest.
    pub(crate) fn bars<const N: usize>(
        &self,
        svg: &mut String,
        top: f64,
        buckets: impl Iterator<Item = [(usize, &'static str); N]>,
    ) {
        let length = bucket(self.run);
        for (index, bucket) in buckets.enumerate() {
            let (x, width) = self.stretch((length * index as u32, length * (index as u32 + 1)));
            let mut y = top + self.bars.1;
            for (count, fill) in bucket.into_iter().filter(|(count, _)| *count > 0) {
                let rate = count as f64 / length.as_secs_f64();
                let height = rate / self.rate * (self.bars.1 - self.bars.0);
                y -= height;
                rect(svg, (x + 0.5, y), (width - 1.0, height), fill, "");
            }
        }
    }

    pub(crate) fn seconds(&self, svg: &mut String, y: f64) {
        let run = self.run.as_secs_f64();
        let step = round_up(run / 12.0, &[1.0, 2.0, 2.5, 5.0]);
        let mut at = 0.0;
        while at <= run * 1.000_1 {
            let x = self.x(Duration::from_secs_f64(at));
            let label = format!("{}", (at * 100.0).round() / 100.0);
            text(svg, (x, y), "text-anchor=\"middle\" font-size=\"11\"", FAINT, &label);
            at += step;
        }
    }
}

/// One for each bar.
pub(crate) fn buckets<B: Default>() -> Vec<B> {
    (0..BUCKETS).map(|_| B::default()).collect()
}

/// Which of them a moment of the run belongs to; after the run to none.
pub(crate) fn bucket_of(at: Duration, run: Duration) -> usize {
    (at.as_nanos() / bucket(run).as_nanos()) as usize
}

/// How long it is.
pub(crate) fn bucket(run: Duration) -> Duration {
    run / BUCKETS as u32
}
