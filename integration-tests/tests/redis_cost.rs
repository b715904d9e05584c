//! What a fleet costs its server. `FAILFAST_COST_SECONDS=60` measures at the default poll interval, for that long; without it,
//! there are 25 times as many looks a second.

mod redis_support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use failfast::redis::{Agreement, Fleet};
use failfast::{CircuitBreaker, State};
use redis_support::*;

/// What the server has done so far.
#[derive(Clone, Copy, Debug)]
struct Totals {
    commands: u64,
    microseconds: u64,
    bytes_in: u64,
    bytes_out: u64,
}

/// Asks the server, and leaves out what asking takes.
struct Meter {
    connection: redis::Connection,
    asking_in: u64,
    asking_out: u64,
}

impl Meter {
    fn read(&mut self) -> Totals {
        let command = redis::cmd("INFO").arg("all").clone();
        self.asking_in += command.get_packed_command().len() as u64;
        let info: String = command.query(&mut self.connection).unwrap();
        let number = |begin: &str| -> u64 {
            let Some((_, rest)) = info.split_once(begin) else { return 0 };
            rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap()
        };
        let totals = Totals {
            commands: number("cmdstat_evalsha:calls="),
            microseconds: number(&format!("cmdstat_evalsha:calls={},usec=", number("cmdstat_evalsha:calls="))),
            bytes_in: number("total_net_input_bytes:") - self.asking_in,
            bytes_out: number("total_net_output_bytes:") - self.asking_out,
        };
        self.asking_out += (format!("${}\r\n", info.len()).len() + info.len() + 2) as u64;
        totals
    }
}

fn per_second(before: Totals, after: Totals, time: Duration) -> [f64; 4] {
    let rate = |before: u64, after: u64| (after - before) as f64 / time.as_secs_f64();
    [
        rate(before.commands, after.commands),
        rate(before.bytes_in, after.bytes_in),
        rate(before.bytes_out, after.bytes_out),
        rate(before.microseconds, after.microseconds),
    ]
}

#[tokio::test]
async fn a_quiet_fleet_costs_a_look_per_breaker_and_poll_interval() {
    let seconds: Option<u64> = std::env::var("FAILFAST_COST_SECONDS").ok().map(|seconds| seconds.parse().unwrap());
    let poll = Duration::from_millis(if seconds.is_some() { 5_000 } else { 200 });
    println!("| agreement | breakers | commands/s | bytes/s in | bytes/s out | server's time |");
    println!("|---|---:|---:|---:|---:|---:|");
    for (name, agreement) in [("any", Agreement::Any), ("quorum", Agreement::Quorum(2))] {
        for breakers in [1, 10, 100] {
            let server = Server::start();
            let fleet = Fleet::connect(server.url()).agreement(agreement).poll(poll).await.unwrap();
            for number in 0..breakers {
                let breaker = Arc::new(CircuitBreaker::builder().build().unwrap());
                fleet.join(&format!("service-{number:03}"), &breaker).unwrap();
            }
            let mut meter = Meter { connection: server.connection(), asking_in: 0, asking_out: 0 };
            eventually("all have looked", || meter.read().commands >= breakers).await;
            let (before, start) = (meter.read(), Instant::now());
            // By the server's own count: so many looks of each breaker.
            let looks = breakers * seconds.map_or(8, |seconds| (seconds / 5).max(1));
            within(LONG + Duration::from_secs(seconds.unwrap_or(0) * 2), "its looks", || {
                meter.read().commands - before.commands >= looks
            })
            .await;
            let [commands, bytes_in, bytes_out, time] = per_second(before, meter.read(), start.elapsed());
            println!("| {name} | {breakers} | {commands:.2} | {bytes_in:.0} | {bytes_out:.0} | {:.4} % |", time / 1e4);
            let expected = breakers as f64 / poll.as_secs_f64();
            assert!(commands < expected * 1.3 + 1.0, "{commands} commands a second instead of {expected}");
            assert!(bytes_in < commands * 450.0 && bytes_out < commands * 200.0);
        }
    }
}

#[tokio::test]
async fn an_outage_costs_a_few_commands() {
    let server = Server::start();
    let mut nodes = Vec::new();
    for _ in 0..20 {
        nodes.push(Node::join(Fleet::connect(server.url()).agreement(Agreement::Any), quick()).await);
    }
    let mut meter = Meter { connection: server.connection(), asking_in: 0, asking_out: 0 };
    let before = meter.read();
    nodes[0].fail(3);
    all(&nodes, State::Open).await;
    eventually("all closed", || {
        nodes.iter().filter_map(|node| node.breaker.try_acquire().ok()).for_each(|permit| permit.success());
        nodes.iter().all(|node| node.state() == State::Closed && node.agreed() == State::Closed)
    })
    .await;
    let after = meter.read();
    let commands = after.commands - before.commands;
    println!(
        "a trip and a recovery of 20 nodes: {commands} commands, {} bytes in, {} bytes out",
        after.bytes_in - before.bytes_in,
        after.bytes_out - before.bytes_out
    );
    // Trip, lease, close; and a few that asked for the lease at the same time.
    assert!((3..=23).contains(&commands), "{commands}");
}

#[tokio::test]
async fn a_busy_server_takes_microseconds_for_a_look() {
    let server = Server::start();
    let mut fleets = Vec::new();
    for _ in 0..10 {
        let fleet = Fleet::connect(server.url()).poll(Duration::from_millis(100)).await.unwrap();
        for number in 0..100 {
            let breaker = Arc::new(CircuitBreaker::builder().build().unwrap());
            fleet.join(&format!("service-{number:03}"), &breaker).unwrap();
        }
        fleets.push(fleet);
    }
    let mut meter = Meter { connection: server.connection(), asking_in: 0, asking_out: 0 };
    eventually("all have looked", || meter.read().commands >= 2_000).await;
    let (before, start) = (meter.read(), Instant::now());
    eventually("their looks", || meter.read().commands - before.commands >= 10_000).await;
    let after = meter.read();
    let [rate, ..] = per_second(before, after, start.elapsed());
    let each = (after.microseconds - before.microseconds) as f64 / (after.commands - before.commands) as f64;
    println!("1000 breakers, {rate:.0} looks a second, {each:.1} us of the server each");
    assert!(each < 200.0);
}
