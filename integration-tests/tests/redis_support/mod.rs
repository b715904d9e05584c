//! A redis-server of the test's own, nodes that join it, and a way to wait.
#![allow(dead_code, reason = "not every test needs all of it")]

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use failfast::redis::{Connect, Fleet, Tap};
use failfast::{Builder, CircuitBreaker, Consecutive, DefaultClock, Spec, State};
use tempfile::TempDir;

/// Longer than anything takes here.
pub const LONG: Duration = Duration::from_secs(20);

pub struct Server {
    process: Option<Child>,
    pub port: u16,
    arguments: Vec<String>,
    directory: TempDir,
}

impl Server {
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// On a free port of loopback, with nothing written to disk.
    pub fn start_with(arguments: &[&str]) -> Self {
        let port = free_port();
        let arguments = arguments.iter().map(ToString::to_string).collect();
        let directory = tempfile::tempdir().unwrap();
        let mut server = Self { process: None, port, arguments, directory };
        server.restart();
        server
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts it (again), without data, on the same port, and waits until it answers.
    pub fn restart(&mut self) {
        let port = self.port.to_string();
        let process = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(self.directory.path())
            .args(&self.arguments)
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is needed: install it (Debian: apt-get install redis-server)");
        self.process = Some(process);
        let start = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(start.elapsed() < LONG, "redis-server does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// Stops it from running, with its connections open, until `resume`.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let process = self.process.as_ref().unwrap().id().to_string();
        assert!(Command::new("kill").args([signal, &process]).status().unwrap().success());
    }

    pub fn connection(&self) -> redis::Connection {
        let client = redis::Client::open(self.url()).unwrap();
        let start = Instant::now();
        loop {
            match client.get_connection_with_timeout(LONG) {
                Ok(connection) => return connection,
                Err(error) => assert!(start.elapsed() < LONG, "{error}"),
            }
        }
    }

    /// A number of `INFO`, for example `total_net_input_bytes`.
    pub fn info(&self, section: &str, name: &str) -> u64 {
        let info: String = redis::cmd("INFO").arg(section).query(&mut self.connection()).unwrap();
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let number: String =
            line.unwrap_or("0").trim_start_matches("calls=").chars().take_while(char::is_ascii_digit).collect();
        number.parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended already; a stopped one ends by this too.
            _ = process.kill();
            _ = process.wait();
        }
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

pub type Breaker = CircuitBreaker<Consecutive, DefaultClock, Tap>;

/// One of a fleet's nodes.
pub struct Node {
    pub fleet: Fleet,
    pub breaker: Arc<Breaker>,
}

/// Three failures in a row open for 400 ms.
pub fn quick() -> Builder<Spec<Consecutive>> {
    CircuitBreaker::builder().failures(3).open_for(Duration::from_millis(400)).probes(2).successes(2)
}

impl Node {
    /// Joins as `payments`, and waits until it is known to.
    pub async fn join(connect: Connect, builder: Builder<Spec<Consecutive>>) -> Self {
        let fleet = connect.await.unwrap();
        let tap = Tap::new();
        let breaker = Arc::new(builder.observer(tap.clone()).build().unwrap());
        fleet.join_tapped("payments", &breaker, &tap).unwrap();
        let commands = fleet.store().commands();
        let synced = || fleet.store().commands() > commands || !fleet.store().is_up();
        eventually("a node joins", synced).await;
        Self { fleet, breaker }
    }

    pub fn fail(&self, times: usize) {
        for _ in 0..times {
            if let Ok(permit) = self.breaker.try_acquire() {
                permit.failure();
            }
        }
    }

    pub fn state(&self) -> State {
        self.breaker.state()
    }

    pub fn agreed(&self) -> State {
        self.fleet.agreed("payments").unwrap().state()
    }
}

/// Waits for something that is to happen soon, but no longer than is reasonable.
pub async fn eventually(what: &str, condition: impl FnMut() -> bool) -> Duration {
    within(LONG, what, condition).await
}

pub async fn within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    start.elapsed()
}

/// Waits for all nodes to be in a state.
pub async fn all(nodes: &[Node], state: State) -> Duration {
    eventually(&format!("all {state}"), || nodes.iter().all(|node| node.state() == state)).await
}

/// Forwards connections to a server that can be another one tomorrow, and can be cut off.
pub struct Proxy {
    pub port: u16,
    target: tokio::sync::watch::Sender<Option<u16>>,
}

impl Proxy {
    pub async fn to(port: u16) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own = listener.local_addr().unwrap().port();
        let (target, targets) = tokio::sync::watch::channel(Some(port));
        tokio::spawn(async move {
            while let Ok((mut inner, _)) = listener.accept().await {
                let mut targets = targets.clone();
                tokio::spawn(async move {
                    let Some(port) = *targets.borrow_and_update() else { return };
                    let Ok(mut outer) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut inner, &mut outer) => {}
                        _ = targets.changed() => {}
                    }
                });
            }
        });
        Self { port: own, target }
    }

    /// Cuts all connections, and leads new ones there, or nowhere.
    pub fn lead_to(&self, port: Option<u16>) {
        self.target.send(port).unwrap();
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }
}
