//! One service's outage as a fleet of processes lives it: first each alone, then with what they know shared through Redis,
//! which has an outage of its own.
//!
//! ```text
//! cargo run --release --features redis --example fleet -- --nodes 5
//! ```
//!
//! The breaker joins its fleet in `node.rs`; everything else is the stage around it.

#[path = "../shared/chart.rs"]
mod chart;
#[path = "../shared/command.rs"]
mod command;
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
use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use command::{Arguments, Command, Instead};
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

const COMMAND: Command =
    Command { name: "fleet", help: HELP, legal: "--nodes N, --seconds N, --redis URL, --json and --help" };

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    match arguments.split_first() {
        Some((role, orders)) if role == node::ROLE => COMMAND.ended(node::main(orders)),
        Some((role, orders)) if role == store::ROLE => COMMAND.ended(store::keep(orders)),
        _ => COMMAND.run(parse, fleet),
    }
}

struct Options {
    nodes: usize,
    seconds: f64,
    redis: Option<String>,
    json: bool,
}

fn parse(arguments: &mut Arguments) -> Result<Options, Instead> {
    let mut options = Options { nodes: 5, seconds: 36.0, redis: None, json: false };
    while let Some(name) = arguments.next()? {
        match name {
            "--nodes" => options.nodes = arguments.number(3, 32)?,
            "--seconds" => options.seconds = arguments.number(18.0, 600.0)?,
            "--redis" => options.redis = Some(arguments.value("the URL of a server on loopback")?),
            "--json" => options.json = true,
            _ => return Err(arguments.unknown()),
        }
    }
    Ok(options)
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

    let picture = pieces::save("fleet.svg", &svg::draw(&plan, &runs, &figures))?;
    let text = if options.json {
        format!("{}\n", report::json(&plan, &figures))
    } else {
        format!("{}Picture: {}\n", report::table(&plan, &figures), picture.display())
    };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}
