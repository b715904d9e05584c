//! The store fails in every way that it can: calls see nothing of it, and sharing mends by itself.

mod redis_support;

use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use failfast::State;
use failfast::redis::{Agreement, Connect, Fleet, FleetError, StoreEvent};
use redis_support::*;

/// Looks often, and does not wait long for an answer.
fn connect(url: String) -> Connect {
    Fleet::connect(url)
        .agreement(Agreement::Any)
        .poll(Duration::from_millis(200))
        .timeout(Duration::from_millis(200))
        .lease_ttl(Duration::from_secs(2))
}

async fn fleet_of(count: usize, url: &str) -> Vec<Node> {
    let mut nodes = Vec::new();
    for _ in 0..count {
        nodes.push(Node::join(connect(url.into()), quick()).await);
    }
    nodes
}

/// Every node calls what is well (or is not) until a condition holds.
async fn call_until(what: &str, nodes: &[Node], well: bool, mut condition: impl FnMut() -> bool) {
    eventually(what, || {
        for permit in nodes.iter().filter_map(|node| node.breaker.try_acquire().ok()) {
            if well { permit.success() } else { permit.failure() }
        }
        condition()
    })
    .await;
}

async fn up(nodes: &[Node]) {
    eventually("the store is up", || nodes.iter().all(|node| node.fleet.store().is_up())).await;
}

async fn down(nodes: &[Node]) {
    eventually("the store is down", || nodes.iter().all(|node| !node.fleet.store().is_up())).await;
}

/// Sharing works.
async fn share(nodes: &[Node]) {
    call_until("all closed", nodes, true, || {
        nodes.iter().all(|node| node.state() == State::Closed && node.agreed() == State::Closed)
    })
    .await;
    nodes[0].fail(3);
    all(nodes, State::Open).await;
    call_until("closed again", nodes, true, || nodes.iter().all(|node| node.state() == State::Closed)).await;
}

#[tokio::test]
async fn killed_each_goes_on_by_itself_and_after_a_restart_together() {
    let mut server = Server::start();
    let events = Arc::new(Mutex::new(Vec::new()));
    let told = events.clone();
    let listener = move |event: &StoreEvent| told.lock().unwrap().push(event.to_string());
    let mut nodes = fleet_of(2, &server.url()).await;
    nodes.push(Node::join(connect(server.url()).on_store(listener), quick()).await);
    share(&nodes).await;

    nodes[0].fail(3);
    all(&nodes, State::Open).await;
    server.kill();
    down(&nodes).await;
    // What was shared holds until its own deadline, and then each breaker probes and decides.
    assert!(nodes.iter().all(|node| node.state() == State::Open));
    call_until("each closes by itself", &nodes, true, || nodes.iter().all(|node| node.state() == State::Closed)).await;
    nodes[1].fail(3);
    assert_eq!([nodes[0].state(), nodes[1].state()], [State::Closed, State::Open]);

    server.restart();
    up(&nodes).await;
    share(&nodes).await;
    let events = events.lock().unwrap();
    assert_eq!(events[0], "up");
    assert!(events[1].starts_with("degraded: "), "{events:?}");
    assert_eq!(events.last().unwrap(), "up");
    assert!(nodes[0].fleet.store().connections() >= 2);
}

#[tokio::test]
async fn a_trip_while_the_store_is_away_is_shared_when_it_is_back() {
    let mut server = Server::start();
    let nodes = fleet_of(2, &server.url()).await;
    server.kill();
    down(&nodes).await;
    nodes[0].breaker.try_acquire().unwrap().open_for(Duration::from_secs(30));
    assert_eq!(nodes[1].state(), State::Closed);
    server.restart();
    all(&nodes, State::Open).await;
    assert!(nodes[1].breaker.snapshot().retry_after().unwrap() > Duration::from_secs(5));
}

#[tokio::test]
async fn flushed_data_is_restored_by_those_who_know_it() {
    let server = Server::start();
    let mut nodes = fleet_of(2, &server.url()).await;
    let flush = || redis::cmd("FLUSHALL").exec(&mut server.connection()).unwrap();
    nodes[0].breaker.try_acquire().unwrap().open_for(Duration::from_secs(30));
    all(&nodes, State::Open).await;
    // Of the node that was told: who opened it may not have heard yet that it was agreed on.
    let epoch = nodes[1].fleet.agreed("payments").unwrap().epoch();
    flush();
    // Who joins afterwards learns of it from the others, through the store.
    nodes.push(Node::join(connect(server.url()), quick()).await);
    all(&nodes, State::Open).await;
    let agreed = nodes[2].fleet.agreed("payments").unwrap();
    assert_eq!(agreed.epoch(), epoch);
    assert!(agreed.remaining().unwrap() > Duration::from_secs(20));

    nodes[0].fleet.force_open("payments", "ada", "maintenance").await.unwrap();
    all(&nodes, State::ForcedOpen).await;
    flush();
    nodes.push(Node::join(connect(server.url()), quick()).await);
    all(&nodes, State::ForcedOpen).await;
    nodes[3].fleet.reset("payments", "ada", "").await.unwrap();
    all(&nodes, State::Closed).await;
    flush();
    share(&nodes).await;
}

#[tokio::test]
async fn a_script_that_is_forgotten_is_loaded_again() {
    let server = Server::start();
    let nodes = fleet_of(2, &server.url()).await;
    redis::cmd("SCRIPT").arg("FLUSH").exec(&mut server.connection()).unwrap();
    share(&nodes).await;
    assert_eq!(nodes[0].fleet.store().connections(), 1);
}

#[tokio::test]
async fn paused_it_delays_no_call() {
    let server = Server::start();
    let nodes = fleet_of(2, &server.url()).await;
    server.pause();
    down(&nodes).await;
    let mut slowest = Duration::ZERO;
    for number in 0..20_000 {
        let start = Instant::now();
        if let Ok(permit) = nodes[number % 2].breaker.try_acquire() {
            permit.failure();
        }
        slowest = slowest.max(start.elapsed());
        if number % 1000 == 0 {
            // Lets the fleets' tasks run between calls, on the thread of the calls.
            tokio::task::yield_now().await;
        }
    }
    // What a call takes is far below the server's pause, and the client's timeout: a scheduler's slice at the most.
    assert!(slowest < Duration::from_millis(100), "{slowest:?}");
    let error = nodes[0].fleet.reset("payments", "ada", "").await.unwrap_err();
    assert!(matches!(error, FleetError::Unreachable(_)), "{error}");
    server.resume();
    up(&nodes).await;
    share(&nodes).await;
}

#[tokio::test]
async fn news_that_are_lost_are_made_up_for_by_the_next_look() {
    let server = Server::start();
    let nodes = fleet_of(1, &server.url()).await;
    share(&nodes).await;
    // Somebody opens it, and says nothing.
    let mut connection = server.connection();
    let now: Vec<u64> = redis::cmd("TIME").query(&mut connection).unwrap();
    let now = now[0] * 1000;
    let fields = [
        ("v", "1".to_string()),
        ("e", (now + 5_000).to_string()),
        ("h", "0".to_string()),
        ("s", "o".to_string()),
        ("d", (now + 30_000).to_string()),
        ("w", "30000".to_string()),
        ("a", "0".to_string()),
        ("r", "failures".to_string()),
        ("n", "another".to_string()),
        ("who", String::new()),
        ("why", String::new()),
    ];
    redis::cmd("HSET").arg("failfast:1:{payments}:state").arg(&fields).exec(&mut connection).unwrap();
    within(Duration::from_secs(2), "the next look", || nodes[0].state() == State::Open).await;
    assert_eq!(nodes[0].fleet.agreed("payments").unwrap().node(), "another");
}

#[tokio::test]
async fn a_partitioned_node_comes_back_to_what_the_others_know() {
    let server = Server::start();
    let proxy = Proxy::to(server.port).await;
    let mut nodes = fleet_of(2, &server.url()).await;
    nodes.push(Node::join(connect(proxy.url()), quick()).await);
    share(&nodes).await;

    // Cut off with an open breaker, it misses that the others close.
    nodes[0].breaker.try_acquire().unwrap().open_for(Duration::from_secs(1));
    all(&nodes, State::Open).await;
    proxy.lead_to(None);
    eventually("it is cut off", || !nodes[2].fleet.store().is_up()).await;
    call_until("the others close", &nodes[..2], true, || nodes[..2].iter().all(|node| node.agreed() == State::Closed))
        .await;
    let epoch = nodes[0].fleet.agreed("payments").unwrap().epoch();
    proxy.lead_to(Some(server.port));
    call_until("it closes too", &nodes, true, || {
        nodes[2].state() == State::Closed && nodes[2].agreed() == State::Closed
    })
    .await;
    assert!(nodes.iter().all(|node| node.fleet.agreed("payments").unwrap().epoch() == epoch));
    share(&nodes).await;
}

#[tokio::test]
async fn a_failover_to_a_replica_loses_nothing_but_time() {
    let mut master = Server::start();
    let replica = Server::start_with(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    let mut to_replica = replica.connection();
    eventually("the replica follows", || {
        let role: Vec<redis::Value> = redis::cmd("ROLE").query(&mut to_replica).unwrap();
        matches!(&role[3], redis::Value::BulkString(state) if state == b"connected")
    })
    .await;
    let proxy = Proxy::to(master.port).await;
    let mut nodes = fleet_of(2, &proxy.url()).await;
    nodes[0].breaker.try_acquire().unwrap().open_for(Duration::from_secs(30));
    all(&nodes, State::Open).await;

    master.kill();
    // First it is still read-only: then it is not the one to talk to.
    proxy.lead_to(Some(replica.port));
    eventually("it is refused", || nodes.iter().all(|node| !node.fleet.store().is_up())).await;
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut to_replica).unwrap();
    up(&nodes).await;
    nodes.push(Node::join(connect(proxy.url()), quick()).await);
    all(&nodes, State::Open).await;
    nodes[1].fleet.reset("payments", "ada", "").await.unwrap();
    share(&nodes).await;
}

#[tokio::test]
async fn a_lease_ends_with_its_node() {
    let server = Server::start();
    let mut nodes = fleet_of(3, &server.url()).await;
    nodes[0].fail(3);
    all(&nodes, State::Open).await;
    // Who opened it has the lease, takes a probe, and is gone.
    eventually("it probes", || nodes[0].breaker.try_acquire().map(std::mem::forget).is_ok()).await;
    drop(nodes.remove(0));
    call_until("another closes all", &nodes, true, || nodes.iter().all(|node| node.state() == State::Closed)).await;
}

#[tokio::test]
async fn a_service_starts_without_its_store() {
    let mut server = Server::start();
    server.kill();
    let start = Instant::now();
    let nodes = fleet_of(2, &server.url()).await;
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(nodes.iter().all(|node| !node.fleet.store().is_up()));
    server.restart();
    up(&nodes).await;
    share(&nodes).await;
}
