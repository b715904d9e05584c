//! The Redis server: one of our own, which is killed and started again, or one that is there already.

use std::error::Error;
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::door::Door;
use crate::process;

/// The word on the command line that makes a process the keeper of a server.
pub(crate) const ROLE: &str = "store";

const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) enum Store {
    Own { keeper: Option<Child>, port: u16 },
    Given { door: Door, url: String },
}

impl Store {
    /// On a free port of loopback.
    pub(crate) fn start() -> Result<Store, Box<dyn Error>> {
        if !PROGRAMS.into_iter().any(is_installed) {
            return Err(
                "redis-server is not installed. Debian, Ubuntu: `apt-get install redis-server`; Fedora: `dnf install \
                        valkey`; macOS: `brew install redis`. Or name one that runs: `--redis redis://127.0.0.1:6379`"
                    .into(),
            );
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut store = Store::Own { keeper: None, port };
        store.bring_back()?;
        Ok(store)
    }

    /// One that is there already is lost by being cut off from it.
    pub(crate) fn given(url: &str) -> Result<Store, Box<dyn Error>> {
        let (door, url) = Door::before(url)?;
        Ok(Store::Given { door, url })
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Store::Own { port, .. } => format!("redis://127.0.0.1:{port}"),
            Store::Given { url, .. } => url.clone(),
        }
    }

    /// Our own is killed, with all that it knew.
    pub(crate) fn take_away(&mut self) {
        match self {
            Store::Own { keeper, .. } => {
                if let Some(keeper) = keeper.take() {
                    process::end(keeper);
                }
            }
            Store::Given { door, .. } => door.shut(),
        }
    }

    pub(crate) fn bring_back(&mut self) -> Result<(), Box<dyn Error>> {
        match self {
            Store::Own { keeper, port } => *keeper = Some(start_keeper(*port)?),
            Store::Given { door, .. } => door.open(),
        }
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.take_away();
    }
}

fn is_installed(program: &str) -> bool {
    let quiet = Command::new(program).arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

fn start_keeper(port: u16) -> Result<Child, Box<dyn Error>> {
    let mut keeper = process::of_our_own(&[ROLE.to_owned(), port.to_string()])?;
    let mut line = String::new();
    if let Some(output) = &mut keeper.stdout {
        BufReader::new(output).read_line(&mut line)?;
    }
    if line.trim_end() == "ready" {
        return Ok(keeper);
    }
    process::end(keeper);
    Err(format!("the Redis server did not start on port {port}").into())
}

/// Runs a server until stdin ends: so it ends when whoever wanted it ends, however that happens.
pub(crate) fn keep(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let [port] = arguments else { return Err("a store is started by the example itself".into()) };
    let port: u16 = port.parse()?;
    let folder = std::env::temp_dir().join(format!("failfast-fleet-{}", std::process::id()));
    std::fs::create_dir_all(&folder)?;
    let kept = spawn_server(port, &folder).and_then(|mut server| {
        let started = await_listening(&mut server, port);
        if started.is_ok() {
            writeln!(io::stdout(), "ready")?;
            io::copy(&mut io::stdin(), &mut io::sink())?;
        }
        // It may have ended already.
        let _ = server.kill();
        server.wait()?;
        started
    });
    std::fs::remove_dir_all(&folder)?;
    Ok(kept?)
}

/// With nothing written to disk.
fn spawn_server(port: u16, folder: &std::path::Path) -> io::Result<Child> {
    let mut missing = io::Error::from(ErrorKind::NotFound);
    for program in PROGRAMS {
        let server = Command::new(program)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        match server {
            Err(error) if error.kind() == ErrorKind::NotFound => missing = error,
            other => return other,
        }
    }
    Err(missing)
}

fn await_listening(server: &mut Child, port: u16) -> io::Result<()> {
    let begun = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if let Some(status) = server.try_wait()? {
            return Err(io::Error::other(format!("it ended: {status}")));
        }
        if begun.elapsed() > PATIENCE {
            return Err(ErrorKind::TimedOut.into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
