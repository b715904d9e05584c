//! One service's outage as a fleet of processes lives it: first each alone, then with what they know shared through Redis,
//! which has an outage of its own.
//!
//! ```text
//! cargo run --release --features redis --example fleet -- --nodes 5
//! ```
//!
//! The breaker joins its fleet in `node.rs`; everything else is the stage around it.

mod crew;
mod door;
mod message;
mod node;
#[path = "../shared/numbers.rs"]
mod numbers;
#[path = "../shared/pieces.rs"]
mod pieces;
mod plan;
mod process;
mod report;
mod run;
mod service;
mod store;
mod svg;

use std::error::Error;
use std::fmt::Display;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use plan::{Plan, Side};
use report::Figures;
use store::Store;

const HELP: &str = "\
A service's outage as a fleet of processes lives it: each alone, then sharing what they know through Redis.

Usage: cargo run --release --features redis --example fleet -- [--nodes N] [--seconds N] [--redis URL] [--json]

  --nodes N     processes, from 3 to 32 (default 5)
  --seconds N   length of all three runs together, from 18 to 600 (default 36)
  --redis URL   a server on loopback that runs already, redis://[user:password@]127.0.0.1[:port][/db];
                otherwise redis-server is started on a free port
  --json        print the figures as one JSON object instead of the table
  --help        print this

Progress goes to stderr, the figures to stdout, the picture to target/fleet.svg.
";

const LEGAL: &str = "legal are --nodes N, --seconds N, --redis URL, --json and --help";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    let result = match arguments.split_first() {
        Some((role, orders)) if role == node::ROLE => node::main(orders),
        Some((role, orders)) if role == store::ROLE => store::keep(orders),
        _ => match parse(arguments) {
            Ok(Some(options)) => fleet(&options),
            Ok(None) => std::io::stdout().write_all(HELP.as_bytes()).map_err(Into::into),
            Err(problem) => {
                eprintln!("fleet: {problem}");
                return ExitCode::from(2);
            }
        },
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleet: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    nodes: usize,
    seconds: f64,
    redis: Option<String>,
    json: bool,
}

/// `None` asks for the help.
fn parse(arguments: Vec<String>) -> Result<Option<Options>, String> {
    let mut options = Options { nodes: 5, seconds: 36.0, redis: None, json: false };
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        let value = |arguments: &mut std::vec::IntoIter<String>| {
            value.clone().or_else(|| arguments.next()).ok_or_else(|| format!("{name} needs a value: {LEGAL}"))
        };
        match name {
            "--help" | "-h" => return Ok(None),
            "--json" => options.json = true,
            "--nodes" => options.nodes = number(name, &value(&mut arguments)?, 3, 32)?,
            "--seconds" => options.seconds = number(name, &value(&mut arguments)?, 18.0, 600.0)?,
            "--redis" => options.redis = Some(value(&mut arguments)?),
            _ => return Err(format!("unknown argument `{argument}`: {LEGAL}")),
        }
    }
    Ok(Some(options))
}

fn number<N: FromStr + PartialOrd + Display>(name: &str, value: &str, least: N, most: N) -> Result<N, String> {
    let number = value.parse().ok().filter(|number| (&least..=&most).contains(&number));
    number.ok_or_else(|| format!("{name} is `{value}`: must be a number from {least} to {most}"))
}

fn fleet(options: &Options) -> Result<(), Box<dyn Error>> {
    let plan = Plan::new(Duration::from_secs_f64(options.seconds / 3.0), options.nodes);
    // A closed stderr is no reason not to run.
    let _ = writeln!(std::io::stderr(), "{plan}");
    let mut store = match &options.redis {
        None => Store::start()?,
        Some(url) => Store::given(url)?,
    };
    let mut run = |side| run::run(&plan, side, &mut store);
    let runs = [run(Side::Alone)?, run(Side::Any)?, run(Side::Quorum)?];
    let figures = runs.each_ref().map(|run| Figures::of(&plan, run));

    let picture = picture_path();
    if let Some(folder) = picture.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::write(&picture, svg::draw(&plan, &runs, &figures))
        .map_err(|error| format!("cannot write {}: {error}", picture.display()))?;

    let text = if options.json {
        report::json(&plan, &figures)
    } else {
        format!("{}Picture: {}\n", report::table(&plan, &figures), picture.display())
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}

/// Beside cargo's other outputs, from whatever folder `cargo run` was called.
fn picture_path() -> PathBuf {
    let root = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(PathBuf::new, PathBuf::from);
    root.join("target").join("fleet.svg")
}
