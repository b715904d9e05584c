//! A fleet of processes: this runs itself as its nodes, which it talks to by lines.
//!
//! node <- `trip` (3 failures), `well`, `ill`, `hang` (what its calls find), `quiet` (no calls), `calls N` (so many at once)
//! node -> `ready`, `trips T`, `STATE T`, `admitted`, `called NANOS` (T: nanoseconds since 1970)

#[allow(unused_imports, reason = "what is for tests in one process is not used")]
mod redis_support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use failfast::redis::{Agreement, Fleet, Tap};
use failfast::{CircuitBreaker, OnTransition, State, Transition};
use redis_support::{LONG, Server};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let ["node", url, tapped] = arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return node(url, tapped == "tapped");
    }
    for tapped in [true, false] {
        propagation(tapped);
        println!("test propagation_between_processes (tapped: {tapped}) ... ok");
    }
    killed_while_it_probes();
    println!("test a_killed_node_gives_up_its_lease ... ok");
    calls_never_wait();
    println!("test calls_wait_for_no_store ... ok");
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64
}

fn say(what: &str) {
    // A parent that is gone ends the node by closing its input.
    _ = writeln!(std::io::stdout(), "{what}");
}

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn node(url: &str, tapped: bool) {
    let fleet = Fleet::connect(url)
        .agreement(Agreement::Any)
        .poll(Duration::from_millis(500))
        .timeout(Duration::from_millis(500))
        .lease_ttl(Duration::from_secs(1))
        .await
        .unwrap();
    let tap = Tap::new();
    let print = OnTransition::new(|transition: &Transition| say(&format!("{} {}", transition.to(), now())));
    let breaker = CircuitBreaker::builder()
        .failures(3)
        .open_for(Duration::from_millis(300))
        .observer((print, tap.clone()))
        .build()
        .unwrap();
    let breaker = Arc::new(breaker);
    if tapped {
        fleet.join_tapped("payments", &breaker, &tap).unwrap();
    } else {
        fleet.join("payments", &breaker).unwrap();
    }
    let (lines, mut inbox) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| lines.send(line)));
    // Its first look at the store has been answered once something is known there, or the command has been counted.
    while fleet.store().commands() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    say("ready");
    let mut finds = String::from("quiet");
    loop {
        tokio::select! {
            line = inbox.recv() => match line {
                None => return,
                Some(line) if line == "trip" => {
                    say(&format!("trips {}", now()));
                    for _ in 0..3 {
                        if let Ok(permit) = breaker.try_acquire() {
                            permit.failure();
                        }
                    }
                }
                Some(line) if line.starts_with("calls ") => {
                    let start = Instant::now();
                    for _ in 0..line[6..].parse::<u32>().unwrap() {
                        if let Ok(permit) = breaker.try_acquire() {
                            permit.success();
                        }
                    }
                    say(&format!("called {}", start.elapsed().as_nanos()));
                }
                Some(line) => finds = line,
            },
            () = tokio::time::sleep(Duration::from_millis(1)) => {
                if finds == "quiet" || breaker.state() == State::Closed {
                    continue;
                }
                if let Ok(permit) = breaker.try_acquire() {
                    say("admitted");
                    match &*finds {
                        "well" => permit.success(),
                        "ill" => permit.failure(),
                        _ => std::mem::forget(permit),
                    }
                }
            }
        }
    }
}

struct Process {
    child: Child,
    input: ChildStdin,
    lines: Receiver<String>,
}

impl Process {
    fn start(server: &Server, tapped: bool) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["node", &server.url(), if tapped { "tapped" } else { "untapped" }])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            BufReader::new(output).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        let process = Self { child, input, lines };
        process.until("ready");
        process
    }

    fn tell(&mut self, line: &str) {
        writeln!(self.input, "{line}").unwrap();
    }

    /// Reads up to the line that begins so; gives what follows there, and how often a call was admitted before it.
    fn until(&self, begin: &str) -> (u64, usize) {
        let start = Instant::now();
        let mut admitted = 0;
        loop {
            match self.lines.recv_timeout(LONG.saturating_sub(start.elapsed())) {
                Ok(line) if line.starts_with(begin) => {
                    return (line[begin.len()..].trim().parse().unwrap_or(0), admitted);
                }
                Ok(line) => admitted += usize::from(line == "admitted"),
                Err(RecvTimeoutError::Timeout) => panic!("no line {begin:?} within {LONG:?}"),
                Err(RecvTimeoutError::Disconnected) => panic!("the node ended before {begin:?}"),
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn propagation(tapped: bool) {
    let server = Server::start();
    let mut nodes: Vec<Process> = (0..4).map(|_| Process::start(&server, tapped)).collect();
    let mut delays = Vec::new();
    for round in 0..40 {
        let first = round % nodes.len();
        nodes[first].tell("trip");
        let (tripped, _) = nodes[first].until("trips");
        nodes[first].until("open");
        for (index, node) in nodes.iter().enumerate().filter(|(index, _)| *index != first) {
            let (opened, admitted) = node.until("open");
            assert_eq!(admitted, 0, "node {index}");
            delays.push(opened.saturating_sub(tripped));
        }
        nodes.iter_mut().for_each(|node| node.tell("well"));
        let admitted: usize = nodes.iter().map(|node| node.until("closed").1).sum();
        assert_eq!(admitted, 2, "one node's probes, for all of them");
        nodes.iter_mut().for_each(|node| node.tell("quiet"));
    }
    delays.sort_unstable();
    let at = |percent: usize| delays[(delays.len() * percent / 100).min(delays.len() - 1)] as f64 / 1e6;
    println!(
        "first failure to open elsewhere: median {:.2} ms, 99 % {:.2} ms, longest {:.2} ms",
        at(50),
        at(99),
        at(100)
    );
    assert!(at(99) <= 50.0);
}

fn killed_while_it_probes() {
    let server = Server::start();
    let mut nodes: Vec<Process> = (0..3).map(|_| Process::start(&server, true)).collect();
    nodes[0].tell("hang");
    nodes[0].tell("trip");
    nodes[0].until("admitted");
    nodes[0].child.kill().unwrap();
    nodes.iter_mut().skip(1).for_each(|node| node.tell("well"));
    let admitted: usize = nodes[1..].iter().map(|node| node.until("closed").1).sum();
    assert_eq!(admitted, 2);
}

fn calls_never_wait() {
    let server = Server::start();
    let mut node = Process::start(&server, true);
    let mut fastest = |count: u32| {
        (0..5)
            .map(|_| {
                node.tell(&format!("calls {count}"));
                node.until("called").0 / u64::from(count)
            })
            .min()
            .unwrap()
    };
    let with_store = fastest(20_000);
    server.pause();
    let without = fastest(20_000);
    server.resume();
    println!("nanoseconds a call: {with_store} with the store, {without} while it is stopped");
    assert!(without < with_store * 3 + 1_000);
}
