//! What was measured, as Markdown and as JSON.

use std::fmt::Write;
use std::fs;
use std::thread::available_parallelism;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::floor::BARE;
use crate::measure::{Bench, Samples};
use crate::row::{Group, Row};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    BackToBack,
    Spaced,
    Rejected,
}

impl Kind {
    pub(crate) fn subject(self, row: &Row) -> Option<&dyn Bench> {
        match self {
            Self::BackToBack | Self::Spaced => row.closed.as_deref(),
            Self::Rejected => row.rejecting.as_deref(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::BackToBack => "back to back",
            Self::Spaced => "spaced",
            Self::Rejected => "rejected",
        }
    }
}

pub(crate) struct Cell {
    pub kind: Kind,
    pub threads: usize,
    pub samples: Samples,
}

/// A row, measured.
pub(crate) struct Measured {
    pub group: Group,
    pub name: String,
    pub setting: String,
    pub note: Option<&'static str>,
    pub charted: bool,
    pub cells: Vec<Cell>,
    bytes: Option<usize>,
    allocations: Option<f64>,
}

impl Measured {
    /// The cells that this row can have, still empty.
    pub(crate) fn new(row: &Row, threads: &[usize]) -> Self {
        let columns = columns(threads).into_iter().filter(|(kind, _)| kind.subject(row).is_some());
        Self {
            group: row.group,
            name: row.name.clone(),
            setting: row.setting.clone(),
            note: row.note,
            charted: row.charted && row.closed.is_some(),
            cells: columns.map(|(kind, threads)| Cell { kind, threads, samples: Samples::default() }).collect(),
            bytes: row.closed.as_ref().map(|subject| subject.bytes()),
            allocations: row.closed.as_ref().map(|subject| subject.allocations()),
        }
    }

    pub(crate) fn median(&self, kind: Kind, threads: usize) -> Option<f64> {
        let cell = self.cells.iter().find(|cell| (cell.kind, cell.threads) == (kind, threads))?;
        cell.samples.median()
    }

    fn label(&self) -> String {
        if self.setting.is_empty() { self.name.clone() } else { format!("{}: {}", self.name, self.setting) }
    }
}

/// Spaced calls are only told apart from the others where threads share a breaker.
fn columns(threads: &[usize]) -> Vec<(Kind, usize)> {
    let all = |kind| threads.iter().map(move |&threads| (kind, threads));
    let shared = |&(_, threads): &(Kind, usize)| threads > 1;
    all(Kind::BackToBack).chain(all(Kind::Spaced).filter(shared)).chain(all(Kind::Rejected)).collect()
}

pub(crate) struct Machine {
    pub date: String,
    pub processor: String,
    pub cores: usize,
}

impl Machine {
    pub(crate) fn read() -> Self {
        let about = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = about.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self {
            date: date(seconds / 86_400),
            processor: model.map_or(std::env::consts::ARCH, |(_, model)| model).trim().into(),
            cores: available_parallelism().map_or(1, usize::from),
        }
    }

    pub(crate) fn line(&self) -> String {
        format!("{}, {} with {} cores, {}", self.date, self.processor, self.cores, std::env::consts::OS)
    }
}

/// The civil date, so many days after the beginning of 1970.
fn date(days: u64) -> String {
    // Years begin in March here, so that a leap day is a year's last.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year)
}

pub(crate) struct Report {
    pub machine: Machine,
    pub threads: Vec<usize>,
    pub rows: Vec<Measured>,
}

impl Report {
    fn group(&self, group: Group) -> impl Iterator<Item = &Measured> {
        self.rows.iter().filter(move |row| row.group == group)
    }

    /// The guarded work without a breaker.
    pub(crate) fn bare(&self, kind: Kind, threads: usize) -> Option<f64> {
        // A rejected call does no work, but saves it too: compared with the bare call all the same.
        let kind = if kind == Kind::Rejected { Kind::BackToBack } else { kind };
        self.rows.iter().find(|row| row.name == BARE)?.median(kind, threads)
    }

    pub(crate) fn markdown(&self) -> String {
        let mut text = String::new();
        let mut notes = Vec::new();
        let of_threads = columns(&self.threads);
        let closed: Vec<_> = of_threads.iter().copied().filter(|(kind, _)| *kind != Kind::Rejected).collect();
        _ = writeln!(text, "{}. Nanoseconds a call and thread, medians.\n", self.machine.line());

        head(&mut text, "floor", &closed, &[]);
        for row in self.group(Group::Floor) {
            let cells = closed.iter().map(|&(kind, threads)| figure(row.median(kind, threads)));
            line(&mut text, &row.label(), cells);
        }

        _ = writeln!(text);
        head(&mut text, "breaker", &of_threads, &["bytes", "allocations"]);
        let peers = self.group(Group::Peer);
        for row in self.group(Group::Ours).chain(peers) {
            let cells = of_threads.iter().map(|&(kind, threads)| figure(row.median(kind, threads)));
            let bytes = row.bytes.map_or(NONE.into(), |bytes| bytes.to_string());
            let allocations = row.allocations.map_or(NONE.into(), |count| format!("{count:.0}"));
            let mark = row.note.map_or(String::new(), |note| {
                notes.push(note);
                format!(" <sup>{}</sup>", notes.len())
            });
            line(&mut text, &(row.label() + &mark), cells.chain([bytes, allocations]));
        }

        _ = writeln!(text);
        head(&mut text, "above the bare call", &of_threads, &[]);
        for row in self.group(Group::Ours) {
            let above = |&(kind, threads)| match kind {
                // Is so already.
                Kind::Spaced => row.median(kind, threads),
                _ => Some(row.median(kind, threads)? - self.bare(kind, threads)?),
            };
            let cells = of_threads.iter().map(|column| above(column).map_or(NONE.into(), signed));
            line(&mut text, &row.label(), cells);
        }

        _ = writeln!(
            text,
            "\nT: threads, each pinned to a core, that call one breaker without a pause. Spaced: the same with about \
             200 ns of private work between calls; what the calls add to bare ones. Rejected: the breaker is open. Bytes: the \
             breaker, and what it puts on the heap when it is made. Allocations: of one successful call. Batches in \
             which a thread was switched out involuntarily do not count: {}. Asynchronous breakers are polled with a \
             ready future.",
            self.thrown_away()
        );
        for (place, note) in notes.iter().enumerate() {
            _ = writeln!(text, "\n<sup>{}</sup> {note}", place + 1);
        }
        text
    }

    fn thrown_away(&self) -> String {
        let samples = || self.rows.iter().flat_map(|row| &row.cells).map(|cell| &cell.samples);
        let thrown_away: usize = samples().map(|samples| samples.thrown_away).sum();
        let all = thrown_away + samples().map(|samples| samples.kept.len()).sum::<usize>();
        format!("{thrown_away} of {all}")
    }

    pub(crate) fn json(&self) -> String {
        let cell = |cell: &Cell| {
            let quantile = |share| cell.samples.quantile(share);
            json!({
                "kind": cell.kind.name(),
                "threads": cell.threads,
                "median_ns": quantile(0.5),
                "quartiles_ns": [quantile(0.25), quantile(0.75)],
                "batches": cell.samples.kept.len(),
                "thrown_away": cell.samples.thrown_away,
            })
        };
        let row = |row: &Measured| {
            json!({
                "group": format!("{:?}", row.group).to_lowercase(),
                "name": row.name,
                "setting": row.setting,
                "bytes": row.bytes,
                "allocations": row.allocations,
                "note": row.note,
                "cells": row.cells.iter().map(cell).collect::<Vec<_>>(),
            })
        };
        let Machine { date, processor, cores } = &self.machine;
        let rows: Vec<Value> = self.rows.iter().map(row).collect();
        format!("{:#}\n", json!({ "date": date, "processor": processor, "cores": cores, "rows": rows }))
    }
}

const NONE: &str = "–";

fn head(text: &mut String, title: &str, columns: &[(Kind, usize)], more: &[&str]) {
    let name = |&(kind, threads)| match kind {
        Kind::BackToBack => format!("{threads}T"),
        _ => format!("{} {threads}T", Kind::name(kind)),
    };
    line(text, title, columns.iter().map(name).chain(more.iter().map(|&name| name.into())));
    let rule = "---:|".repeat(columns.len() + more.len());
    _ = writeln!(text, "|---|{rule}");
}

fn line(text: &mut String, label: &str, cells: impl Iterator<Item = String>) {
    _ = write!(text, "| {label} |");
    for cell in cells {
        _ = write!(text, " {cell} |");
    }
    _ = writeln!(text);
}

fn figure(nanos: Option<f64>) -> String {
    nanos.map_or(NONE.into(), short)
}

/// As many digits as there is something in.
pub(crate) fn short(nanos: f64) -> String {
    let digits = if nanos.abs() < 9.95 { 1 } else { 0 };
    let text = format!("{:.digits$}", nanos.abs());
    let is_zero = text.trim_matches(['0', '.']).is_empty();
    if nanos < 0.0 && !is_zero { format!("−{text}") } else { text }
}

fn signed(nanos: f64) -> String {
    let text = short(nanos);
    if text.starts_with('−') { text } else { format!("+{text}") }
}
