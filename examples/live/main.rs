//! What an operator sees: a page that shows each breaker of a registry live, and moves them by hand if it may.
//!
//! ```text
//! cargo run --example live --features registry
//! cargo run --example live --features registry -- --writable
//! ```
//!
//! `demo.rs` calls a few dependencies that have their troubles, so that there is something to see. The rest is what a
//! service would take: `seen.rs` (each breaker's observer), `view.rs` (what the page shows), `control.rs` (the hand),
//! `guard.rs` (who may ask), `events.rs` and `server.rs`, and the page itself.

mod control;
mod demo;
mod events;
mod guard;
mod seen;
mod server;
mod view;

use std::error::Error;
use std::io::Write;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use server::Live;

const HELP: &str = "\
A page that shows circuit breakers live, with a few troubled dependencies to look at.

Usage: cargo run --example live --features registry -- [--port N] [--writable] [--seconds N]

  --port N      the port on 127.0.0.1, 0 for a free one (default 7878)
  --writable    lets the page move breakers by hand; without it nothing can be changed
  --seconds N   ends after so long, from 1 to 86400 (default: when it is interrupted)
  --help        print this

The address is printed to stdout.
";

fn main() -> ExitCode {
    let options = match parse(std::env::args_os().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            let written = std::io::stdout().write_all(HELP.as_bytes());
            return written.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS);
        }
        Err(problem) => {
            eprintln!("live: {problem}");
            return ExitCode::from(2);
        }
    };
    match live(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("live: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Options {
    port: u16,
    writable: bool,
    lasts: Option<Duration>,
}

/// `None` asks for the help.
fn parse(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Result<Option<Options>, String> {
    let mut options = Options { port: 7878, writable: false, lasts: None };
    let mut arguments = arguments.into_iter().map(|argument| argument.to_string_lossy().into_owned());
    while let Some(argument) = arguments.next() {
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (argument.as_str(), None),
        };
        match (name, value) {
            ("--help" | "-h", None) => return Ok(None),
            ("--writable", None) => options.writable = true,
            ("--port", value) => options.port = number(name, value.or_else(|| arguments.next()), 0, u16::MAX)?,
            ("--seconds", value) => {
                let seconds: u32 = number(name, value.or_else(|| arguments.next()), 1, 86_400)?;
                options.lasts = Some(Duration::from_secs(seconds.into()));
            }
            _ => {
                let legal = "legal are --port N, --writable, --seconds N and --help";
                return Err(format!("unknown argument `{argument}`: {legal}"));
            }
        }
    }
    Ok(Some(options))
}

fn number<N>(name: &str, value: Option<String>, from: N, to: N) -> Result<N, String>
where
    N: std::str::FromStr + PartialOrd + std::fmt::Display,
{
    let value = value.ok_or_else(|| format!("{name} needs a value: a number from {from} to {to}"))?;
    let number = value.parse().ok().filter(|number| *number >= from && *number <= to);
    number.ok_or_else(|| format!("{name} is `{value}`: must be a whole number from {from} to {to}"))
}

fn live(options: &Options) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let served = runtime.block_on(async {
        let breakers = Arc::new(demo::breakers()?);
        // Loopback only: whoever reaches it may look, and with --writable move breakers.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))
            .await
            .map_err(|error| format!("cannot listen on 127.0.0.1:{}: {error}", options.port))?;
        let may = if options.writable { "writable" } else { "read-only, --writable to move breakers by hand" };
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "http://{}/ ({may})", listener.local_addr()?)?;
        drop(stdout);
        demo::call(&breakers);
        let serving = server::serve(listener, Live::new(breakers, options.writable));
        match options.lasts {
            Some(time) => tokio::time::timeout(time, serving).await.unwrap_or(Ok(())),
            None => serving.await,
        }
        .map_err(Box::<dyn Error>::from)
    });
    runtime.shutdown_background();
    served
}
