//! The chart: a bar for each row and number of threads, on a logarithmic scale.

use std::fmt::Write;

use crate::report::{Kind, Measured, Report, short};
use crate::row::Group;

const TITLE: &str = "What a call through a closed circuit breaker takes";
const WIDTH: f64 = 1000.0;
const LEFT: f64 = 400.0;
const RIGHT: f64 = 930.0;
const TOP: f64 = 96.0;
const BAR: f64 = 10.0;
const BETWEEN_BARS: f64 = 1.0;
const BETWEEN_ROWS: f64 = 9.0;
const BOTTOM: f64 = 44.0;

const INK: &str = "#1c2530";
const FAINT: &str = "#5b6673";
const FAINT_TEXT: &str = "fill=\"#5b6673\"";
const GRID: &str = "#dfe4e9";
/// From few threads to many.
const OURS: [&str; 3] = ["#7ccfb5", "#009e73", "#00614a"];
const PEERS: [&str; 3] = ["#c3ccd5", "#7f8c9a", "#4a5663"];

pub(crate) fn draw(report: &Report) -> String {
    let threads = shown(&report.threads);
    let mut rows: Vec<&Measured> = report.rows.iter().filter(|row| row.charted).collect();
    let most = threads.last().copied().unwrap_or(1);
    let slowness = |row: &Measured| row.median(Kind::BackToBack, most).unwrap_or(f64::MAX);
    rows.sort_by(|a, b| slowness(a).total_cmp(&slowness(b)));

    let cells = || rows.iter().flat_map(|row| threads.iter().filter_map(|&n| row.median(Kind::BackToBack, n)));
    let (lowest, highest) = cells().fold((1.0_f64, 10.0_f64), |(low, high), cell| (low.min(cell), high.max(cell)));
    let scale = Scale { lowest: (lowest * 0.7).log10(), highest: (highest * 1.1).log10() };
    let row_height = threads.len() as f64 * (BAR + BETWEEN_BARS) + BETWEEN_ROWS;
    let end = TOP + rows.len() as f64 * row_height;
    let height = end + BOTTOM;

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"system-ui, sans-serif\" font-size=\"12\" role=\"img\">\n\
         <title>{TITLE}</title>\n"
    );
    // Its own ground: the ink stays readable on a dark page.
    rect(&mut svg, (0.0, 0.0), (WIDTH, height), "#ffffff", " rx=\"8\"");
    text(&mut svg, (24.0, 34.0), "font-size=\"18\" font-weight=\"600\"", TITLE);
    let about =
        "Nanoseconds a call and thread, median, the guarded work included; logarithmic. All threads call one breaker.";
    text(&mut svg, (24.0, 54.0), FAINT_TEXT, about);
    text(&mut svg, (24.0, 72.0), FAINT_TEXT, &report.machine.line());
    legend(&mut svg, &threads);

    for power in scale.lowest.ceil() as i32..=scale.highest.floor() as i32 {
        let x = scale.place(10_f64.powi(power));
        upright(&mut svg, x, TOP - 4.0, end, &format!("stroke=\"{GRID}\""));
        text(
            &mut svg,
            (x, end + 16.0),
            &format!("text-anchor=\"middle\" {FAINT_TEXT}"),
            &format!("{} ns", 10_f64.powi(power)),
        );
    }
    for (place, row) in rows.iter().enumerate() {
        let top = TOP + place as f64 * row_height + BETWEEN_ROWS / 2.0;
        let ours = row.group == Group::Ours;
        let middle = top + (row_height - BETWEEN_ROWS) / 2.0 + 4.0;
        let weight = if ours { "600" } else { "400" };
        let name = format!(
            "{} <tspan fill=\"{FAINT}\" font-weight=\"400\">{}</tspan>",
            escaped(&row.name),
            escaped(&row.setting)
        );
        _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{middle}\" text-anchor=\"end\" fill=\"{INK}\" font-weight=\"{weight}\">{name}</text>",
            LEFT - 10.0
        );
        for (index, &threads) in threads.iter().enumerate() {
            let Some(nanos) = row.median(Kind::BackToBack, threads) else { continue };
            let y = top + index as f64 * (BAR + BETWEEN_BARS);
            let colors = if ours { OURS } else { PEERS };
            rect(&mut svg, (LEFT, y), (scale.place(nanos) - LEFT, BAR), colors[index], "");
            let at = (scale.place(nanos) + 5.0, y + BAR - 0.5);
            text(&mut svg, at, &format!("font-size=\"10\" fill=\"{INK}\""), &short(nanos));
        }
    }
    if let Some(bare) = report.bare(Kind::BackToBack, 1) {
        let x = scale.place(bare);
        upright(&mut svg, x, TOP - 4.0, end, &format!("stroke=\"{INK}\" stroke-dasharray=\"3 3\""));
        text(
            &mut svg,
            (x, end + 32.0),
            &format!("text-anchor=\"middle\" fill=\"{INK}\""),
            &format!("bare call, {}", short(bare)),
        );
    }
    svg + "</svg>\n"
}

/// At most three numbers of threads: the bars of a row stay readable.
fn shown(threads: &[usize]) -> Vec<usize> {
    match threads {
        [one, two, .., most] if threads.len() > 3 => vec![*one, *two, *most],
        _ => threads.to_vec(),
    }
}

struct Scale {
    lowest: f64,
    highest: f64,
}

impl Scale {
    fn place(&self, nanos: f64) -> f64 {
        let share = (nanos.max(1e-3).log10() - self.lowest) / (self.highest - self.lowest);
        LEFT + share.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }
}

fn legend(svg: &mut String, threads: &[usize]) {
    for (index, count) in threads.iter().enumerate() {
        let x = WIDTH - 24.0 - 88.0 * (threads.len() - index) as f64;
        rect(svg, (x, 24.0), (8.0, 10.0), OURS[index], "");
        rect(svg, (x + 8.0, 24.0), (8.0, 10.0), PEERS[index], "");
        let plural = if *count == 1 { "" } else { "s" };
        text(svg, (x + 22.0, 33.0), FAINT_TEXT, &format!("{count} thread{plural}"));
    }
}

fn rect(svg: &mut String, (x, y): (f64, f64), (width, height): (f64, f64), fill: &str, more: &str) {
    _ = writeln!(
        svg,
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\"{more}/>"
    );
}

fn upright(svg: &mut String, x: f64, from: f64, to: f64, style: &str) {
    _ = writeln!(svg, "<line x1=\"{x:.1}\" y1=\"{from:.1}\" x2=\"{x:.1}\" y2=\"{to:.1}\" {style}/>");
}

fn text(svg: &mut String, (x, y): (f64, f64), style: &str, content: &str) {
    _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" {style}>{}</text>", escaped(content));
}

fn escaped(content: &str) -> String {
    content.replace('`', "").replace('&', "&amp;").replace('<', "&lt;")
}
