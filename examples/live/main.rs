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

#[path = "../shared/command.rs"]
mod command;
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

use command::{Arguments, Command, Instead};
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

const COMMAND: Command = Command { name: "live", help: HELP, legal: "--port N, --writable, --seconds N and --help" };

fn main() -> ExitCode {
    COMMAND.run(parse, live)
}

struct Options {
    port: u16,
    writable: bool,
    lasts: Option<Duration>,
}

fn parse(arguments: &mut Arguments) -> Result<Options, Instead> {
    let mut options = Options { port: 7878, writable: false, lasts: None };
    while let Some(name) = arguments.next()? {
        match name {
            "--port" => options.port = arguments.number(0, u16::MAX)?,
            "--writable" => options.writable = true,
            "--seconds" => options.lasts = Some(Duration::from_secs(arguments.number(1, 86_400)?)),
            _ => return Err(arguments.unknown()),
        }
    }
    Ok(options)
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
