//! failfast and other circuit breakers at the same work in the same run.
//!
//! `cargo run --release` prints a table as Markdown and draws a chart; `--help` says what can be chosen.

mod floor;
mod measure;
mod ours;
mod peers;
mod report;
mod row;
mod svg;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, exit};
use std::time::Duration;
use std::{env, fs, panic};

use failfast::{CoarseClock, DefaultClock};

use crate::measure::{Bench, Visit, counts_switches, gap_steps};
use crate::report::{Kind, Machine, Measured, Report};
use crate::row::{Group, Row};

const HELP: &str = "\
cargo run --release -- [options]

  --quick           about 20 s instead of 2 minutes
  --threads 1,2,4   how many threads share a breaker (default: 1 and 2)
  --svg FILE        where the chart goes (default: target/peers.svg of the repository)
  --json FILE       the figures, with quartiles, for a program

The table goes to standard output, progress to standard error.";

struct Options {
    total: Duration,
    rounds: u32,
    threads: Vec<usize>,
    svg: PathBuf,
    json: Option<PathBuf>,
}

fn main() -> ExitCode {
    // The other threads of a visit would wait forever for one that is gone.
    let report_panic = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        report_panic(info);
        exit(1);
    }));
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let Some(options) = options(env::args().skip(1), cores.len())? else {
        println!("{HELP}");
        return Ok(());
    };
    if !counts_switches() {
        eprintln!("this system does not count involuntary context switches: no batch will be thrown away");
    }
    DefaultClock::init();
    let gap = gap_steps(cores[0]);
    let most = options.threads.iter().copied().max().unwrap_or(1);
    let rows: Vec<Row> = floor::rows().into_iter().chain(ours::rows(most)).chain(peers::rows()).collect();
    let mut table = Vec::new();
    for row in &rows {
        check(row)?;
        table.push(Measured::new(row, &options.threads));
    }

    let visits: usize = table.iter().map(|measured| measured.cells.len()).sum();
    let budget = options.total / (visits as u32 * options.rounds);
    // Each row has its turn in every round: what disturbs the machine for a while disturbs all rows alike.
    for round in 1..=options.rounds {
        for (row, measured) in rows.iter().zip(&mut table) {
            eprint!("\r\x1b[Kround {round} of {}: {}", options.rounds, row.label());
            let _upkeep = row.coarse_clock.then(|| CoarseClock::start(Duration::from_millis(1))).transpose()?;
            for cell in &mut measured.cells {
                let gap = if cell.kind == Kind::Spaced { gap } else { 0 };
                if let Some(subject) = cell.kind.subject(row) {
                    cell.samples.add(subject.run(&Visit { cores: &cores[..cell.threads], gap, budget }));
                }
            }
        }
    }
    eprintln!("\r\x1b[K");

    let report = Report { machine: Machine::read(), threads: options.threads, rows: table };
    print!("{}", report.markdown());
    write(&options.svg, &svg::draw(&report))?;
    if let Some(path) = &options.json {
        write(path, &report.json())?;
    }
    Ok(())
}

/// None if help is wanted.
fn options(mut arguments: impl Iterator<Item = String>, cores: usize) -> Result<Option<Options>, Box<dyn Error>> {
    let mut options = Options {
        total: Duration::from_secs(110),
        rounds: 8,
        threads: vec![1, 2.min(cores)],
        svg: Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/peers.svg"),
        json: None,
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--quick" => (options.total, options.rounds) = (Duration::from_secs(18), 3),
            "--threads" => options.threads = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--svg" => options.svg = value()?.into(),
            "--json" => options.json = Some(value()?.into()),
            _ => return Err(format!("no such option: {argument}\n\n{HELP}").into()),
        }
    }
    options.threads.sort_unstable();
    options.threads.dedup();
    // More threads than cores would measure the scheduler.
    match options.threads.iter().find(|threads| !(1..=cores).contains(threads)) {
        Some(threads) => Err(format!("--threads {threads}: must be from 1 to the number of cores ({cores})").into()),
        None => Ok(Some(options)),
    }
}

/// A row that does not do what it says would be measured all the same.
fn check(row: &Row) -> Result<(), String> {
    let admits = |subject: &Option<Box<dyn Bench>>| subject.as_ref().map(|subject| subject.admits());
    if row.group != Group::Floor && admits(&row.closed) == Some(false) {
        return Err(format!("{} is closed, and rejects", row.label()));
    }
    if admits(&row.rejecting) == Some(true) {
        return Err(format!("{} is open, and admits", row.label()));
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Box<dyn Error>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()).into())
}
