//! An outage, twice: a real HTTP service on loopback is healthy, slows down, hangs and recovers,
//! while many concurrent callers ask it, first bare and then behind a circuit breaker.
//!
//! ```text
//! cargo run --release --example outage -- --seconds 20
//! ```
//!
//! The breaker is built and used in `load.rs`; everything else is the stage around it.

mod load;
#[path = "../shared/numbers.rs"]
mod numbers;
#[path = "../shared/pieces.rs"]
mod pieces;
mod plan;
mod progress;
mod report;
mod service;
mod svg;

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use load::{Run, Side};
use plan::Plan;
use progress::Progress;
use report::Figures;

const HELP: &str = "\
A service's outage as its callers live it, first bare, then behind a circuit breaker.

Usage: cargo run --release --example outage -- [--seconds N] [--json]

  --seconds N   length of both runs together, from 6 to 600 (default 20);
                timeouts and waits scale with it
  --json        print the figures as one JSON object instead of the table
  --help        print this

Progress goes to stderr, the figures to stdout, the picture to target/outage.svg.
";

fn main() -> ExitCode {
    let options = match parse(std::env::args_os().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            let written = std::io::stdout().write_all(HELP.as_bytes());
            return written.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
        }
        Err(problem) => {
            eprintln!("outage: {problem}");
            return ExitCode::from(2);
        }
    };
    match outage(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("outage: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Debug, PartialEq)]
struct Options {
    seconds: f64,
    json: bool,
}

/// `None` asks for the help.
fn parse(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Option<Options>, String> {
    let mut options = Options { seconds: 20.0, json: false };
    let mut arguments = arguments.into_iter().map(|a| a.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--json" => options.json = true,
            "--seconds" => {
                let value = arguments.next().ok_or("--seconds needs a value: a number from 6 to 600")?;
                options.seconds = seconds(&value)?;
            }
            other => match other.strip_prefix("--seconds=") {
                Some(value) => options.seconds = seconds(value)?,
                None => {
                    return Err(format!("unknown argument `{other}`: legal are --seconds N, --json and --help"));
                }
            },
        }
    }
    Ok(Some(options))
}

fn seconds(value: &str) -> Result<f64, String> {
    value
        .parse()
        .ok()
        .filter(|seconds| (6.0..=600.0).contains(seconds))
        .ok_or_else(|| format!("--seconds is `{value}`: must be a number from 6 to 600"))
}

fn outage(options: &Options) -> Result<(), Box<dyn Error>> {
    let plan = Plan::lasting(options.seconds / 2.0);
    let (progress, printer) = Progress::start();
    progress.line(plan.to_string());
    let runs = both(&plan, &progress);
    progress.finish();
    let _ = printer.join();
    let (bare, breaker) = runs?;

    let figures = [Figures::of(&bare), Figures::of(&breaker)];
    let picture = picture_path();
    if let Some(folder) = picture.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&picture, svg::draw(&plan, [(&bare, &figures[0]), (&breaker, &figures[1])]))
        .map_err(|error| format!("cannot write {}: {error}", picture.display()))?;

    let text = if options.json {
        report::json(&figures)
    } else {
        let mut text = report::table(&plan, &figures, &breaker);
        text.push_str(&format!("Picture: {}\n", picture.display()));
        text
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

fn both(plan: &Plan, progress: &Progress) -> Result<(Run, Run), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let bare = load::run(plan, Side::Bare, progress).await?;
        let breaker = load::run(plan, Side::Breaker, progress).await?;
        Ok((bare, breaker))
    })
}

/// Beside cargo's other outputs, from whatever folder `cargo run` was called.
fn picture_path() -> PathBuf {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(PathBuf::new, PathBuf::from);
    root.join("target").join("outage.svg")
}
