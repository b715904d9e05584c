//! An outage, twice: a real HTTP service on loopback is healthy, slows down, hangs and recovers,
//! while many concurrent callers ask it, first bare and then behind a circuit breaker.
//!
//! ```text
//! cargo run --release --example outage -- --seconds 20
//! ```
//!
//! The breaker is built and used in `load.rs`; everything else is the stage around it.

#[path = "../shared/chart.rs"]
mod chart;
#[path = "../shared/command.rs"]
mod command;
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
use std::process::ExitCode;

use command::{Arguments, Command, Instead};
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

const COMMAND: Command = Command { name: "outage", help: HELP, legal: "--seconds N, --json and --help" };

fn main() -> ExitCode {
    COMMAND.run(parse, outage)
}

struct Options {
    seconds: f64,
    json: bool,
}

fn parse(arguments: &mut Arguments) -> Result<Options, Instead> {
    let mut options = Options { seconds: 20.0, json: false };
    while let Some(name) = arguments.next()? {
        match name {
            "--seconds" => options.seconds = arguments.number(6.0, 600.0)?,
            "--json" => options.json = true,
            _ => return Err(arguments.unknown()),
        }
    }
    Ok(options)
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
    let picture = pieces::save("outage.svg", &svg::draw(&plan, [(&bare, &figures[0]), (&breaker, &figures[1])]))?;
    let text = if options.json {
        format!("{}\n", report::json(&figures))
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
