//! Breakers that share what they know, on a real server: agreement, probes, and the hand.

mod redis_support;

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use failfast::redis::{Agreement, Fleet, FleetError, Rates};
use failfast::{CircuitBreaker, Reason, State};
use redis_support::*;

#[tokio::test]
async fn one_trip_opens_all_and_one_recovery_closes_all() {
    let server = Server::start();
    let mut nodes = Vec::new();
    for _ in 0..4 {
        nodes.push(Node::join(Fleet::connect(server.url()).agreement(Agreement::Any), quick()).await);
    }
    nodes[0].fail(3);
    all(&nodes, State::Open).await;
    let agreed = nodes[3].fleet.agreed("payments").unwrap();
    assert_eq!((agreed.state(), agreed.reason()), (State::Open, Some(Reason::ConsecutiveFailures)));
    assert_eq!(agreed.node(), nodes[0].fleet.node());
    assert!(nodes[3].breaker.try_acquire().unwrap_err().retry_after().is_some());

    // Everybody keeps on calling; the callee is well again.
    let admitted = AtomicU32::new(0);
    eventually("all closed", || {
        for node in &nodes {
            if node.state() != State::Closed
                && let Ok(permit) = node.breaker.try_acquire()
            {
                admitted.fetch_add(1, Relaxed);
                permit.success();
            }
        }
        nodes.iter().all(|node| node.state() == State::Closed)
    })
    .await;
    assert_eq!(admitted.load(Relaxed), 2, "one node's probes");
    assert_eq!(nodes[2].agreed(), State::Closed);
}

#[tokio::test]
async fn failed_probes_open_all_anew() {
    let server = Server::start();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Node::join(Fleet::connect(server.url()).agreement(Agreement::Any), quick()).await);
    }
    nodes[1].fail(3);
    all(&nodes, State::Open).await;
    let mut admitted = 0;
    eventually("three times opened anew", || {
        for node in &nodes {
            if let Ok(permit) = node.breaker.try_acquire() {
                admitted += 1;
                permit.failure();
            }
        }
        nodes.iter().all(|node| node.fleet.agreed("payments").unwrap().attempt() == 3)
    })
    .await;
    // With 2 successes of 2 needed one failure decides.
    assert_eq!(admitted, 3);
    assert!(nodes.iter().all(|node| node.state() == State::Open));
}

#[tokio::test]
async fn a_node_that_gets_no_calls_lets_another_probe() {
    let server = Server::start();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Node::join(Fleet::connect(server.url()).agreement(Agreement::Any), quick()).await);
    }
    // Who opened it asks for the lease first, and has nothing to do any more.
    nodes[0].fail(3);
    all(&nodes, State::Open).await;
    eventually("the second node closes all", || {
        if let Ok(permit) = nodes[1].breaker.try_acquire() {
            permit.success();
        }
        nodes.iter().all(|node| node.state() == State::Closed)
    })
    .await;
    assert_eq!(nodes[0].fleet.agreed("payments").unwrap().node(), nodes[1].fleet.node());
}

#[tokio::test]
async fn a_quorum_leaves_a_lonely_node_alone() {
    let server = Server::start();
    let mut nodes = Vec::new();
    for _ in 0..4 {
        let connect = Fleet::connect(server.url()).agreement(Agreement::Quorum(2)).poll(Duration::from_millis(200));
        nodes.push(Node::join(connect, quick()).await);
    }
    nodes[0].fail(3);
    // It probes, and closes, by itself, and takes back its vote.
    assert_eq!(nodes[0].state(), State::Open);
    eventually("it closes by itself", || {
        if let Ok(permit) = nodes[0].breaker.try_acquire() {
            permit.success();
        }
        nodes[0].state() == State::Closed
    })
    .await;
    assert!(nodes.iter().all(|node| node.agreed() == State::Closed && node.state() == State::Closed));
    let epoch = nodes[1].fleet.agreed("payments").unwrap().epoch();
    let mut connection = server.connection();
    let votes = "failfast:1:{payments}:votes";
    eventually("the vote is taken back", || redis::cmd("ZCARD").arg(votes).query::<u64>(&mut connection).unwrap() == 0)
        .await;
    nodes[2].fail(3);
    eventually("one vote", || redis::cmd("ZCARD").arg(votes).query::<u64>(&mut connection).unwrap() == 1).await;
    nodes[3].fail(3);
    all(&nodes, State::Open).await;
    assert!(nodes[1].fleet.agreed("payments").unwrap().epoch() > epoch);
}

#[tokio::test]
async fn a_share_of_the_live_nodes_is_needed_too() {
    let server = Server::start();
    let mut nodes = Vec::new();
    for _ in 0..5 {
        let connect = Fleet::connect(server.url()).agreement(Agreement::Quorum(2)).share(60.0);
        nodes.push(Node::join(connect, quick().open_for(Duration::from_secs(5))).await);
    }
    let mut connection = server.connection();
    for voters in 1..=2 {
        nodes[voters].fail(3);
        let mut votes = || redis::cmd("ZCARD").arg("failfast:1:{payments}:votes").query::<usize>(&mut connection);
        eventually("the vote is in", || votes().unwrap() == voters).await;
        assert_eq!(nodes[0].state(), State::Closed);
    }
    nodes[3].fail(3);
    all(&nodes, State::Open).await;
}

#[tokio::test]
async fn rates_over_the_fleet_trip_on_what_no_node_sees() {
    let server = Server::start();
    let rates = Agreement::Rates(Rates::new(60, 50.0).window(Duration::from_secs(5), 10));
    let mut nodes = Vec::new();
    for _ in 0..20 {
        let builder = quick().failures(1000).open_for(Duration::from_secs(5));
        nodes.push(Node::join(Fleet::connect(server.url()).agreement(rates), builder).await);
    }
    // 2 successes and 1 failure each: 60 calls, too few failures.
    for node in &nodes {
        node.fail(1);
        (0..2).for_each(|_| node.breaker.try_acquire().unwrap().success());
    }
    let mut connection = server.connection();
    let mut counted = || {
        let counts: Vec<(String, u64)> =
            redis::cmd("HGETALL").arg("failfast:1:{payments}:counts").query(&mut connection).unwrap();
        counts.iter().filter(|(field, _)| field.ends_with(":t")).map(|(_, count)| count).sum::<u64>()
    };
    eventually("all are counted", || counted() == 60).await;
    assert!(nodes.iter().all(|node| node.state() == State::Closed));
    // 1 failure more each: 40 of 80 at the last.
    nodes.iter().for_each(|node| node.fail(1));
    all(&nodes, State::Open).await;
    let agreed = nodes[7].fleet.agreed("payments").unwrap();
    assert_eq!(agreed.reason(), Some(Reason::FailureRate));
    assert_eq!(agreed.attempt(), 0);
}

#[tokio::test]
async fn rates_need_a_tap() {
    let fleet = Fleet::connect("redis://127.0.0.1:1").agreement(Agreement::Rates(Rates::new(1, 50.0))).await.unwrap();
    let breaker = std::sync::Arc::new(CircuitBreaker::builder().build().unwrap());
    assert!(matches!(fleet.join("payments", &breaker), Err(FleetError::Untapped(_))));
}

#[tokio::test]
async fn a_breaker_without_a_tap_joins_too() {
    static PAYMENTS: CircuitBreaker =
        CircuitBreaker::new(failfast::Consecutive::new(2), failfast::Config::new().open_for(Duration::from_secs(30)));
    let server = Server::start();
    let connect = || Fleet::connect(server.url()).agreement(Agreement::Any);
    let node = Node::join(connect(), quick().open_for(Duration::from_secs(30))).await;
    let fleet = connect().await.unwrap();
    fleet.join("payments", &&PAYMENTS).unwrap();
    assert!(matches!(fleet.join("payments", &&PAYMENTS), Err(FleetError::Joined(_))));
    (0..2).for_each(|_| PAYMENTS.try_acquire().unwrap().failure());
    within(Duration::from_millis(500), "the other opens", || node.state() == State::Open).await;
    fleet.leave("payments");
    fleet.join("payments", &&PAYMENTS).unwrap();
}

#[tokio::test]
async fn by_hand_for_all_and_stronger_than_what_breakers_see() {
    let server = Server::start();
    let connect = || Fleet::connect(server.url()).agreement(Agreement::Any);
    let mut nodes = vec![Node::join(connect(), quick()).await, Node::join(connect(), quick()).await];
    let operator = connect().await.unwrap();

    operator.force_open("payments", "ada", "the provider\nasked for it").await.unwrap();
    all(&nodes, State::ForcedOpen).await;
    let agreed = nodes[0].fleet.agreed("payments").unwrap();
    assert_eq!(agreed.by_hand(), Some(("ada", "the provider asked for it")));
    assert!(agreed.to_string().starts_with("forced_open by ada (the provider asked for it) on "), "{agreed}");
    // Who comes later learns of it, and a local hand is overruled.
    nodes.push(Node::join(connect(), quick()).await);
    all(&nodes, State::ForcedOpen).await;
    nodes[0].breaker.close();
    all(&nodes, State::ForcedOpen).await;

    operator.disable("payments", "ada", "").await.unwrap();
    all(&nodes, State::Disabled).await;
    nodes[1].fail(10);
    operator.metrics_only("payments", "bob", "thresholds").await.unwrap();
    all(&nodes, State::MetricsOnly).await;
    nodes[1].fail(10);
    assert_eq!(nodes[1].state(), State::MetricsOnly);

    operator.reset("payments", "bob", "done").await.unwrap();
    all(&nodes, State::Closed).await;
    nodes[1].fail(3);
    all(&nodes, State::Open).await;
    operator.reset("payments", "bob", "it was a false alarm").await.unwrap();
    all(&nodes, State::Closed).await;
    assert_eq!(nodes[2].fleet.agreed("payments").unwrap().by_hand(), Some(("bob", "it was a false alarm")));
    assert!(matches!(operator.reset("", "bob", "").await, Err(FleetError::Name(_))));
}

#[tokio::test]
async fn no_call_makes_a_command() {
    let server = Server::start();
    let connect = Fleet::connect(server.url()).agreement(Agreement::Any).poll(Duration::from_secs(600));
    let node = Node::join(connect, quick().open_for(Duration::from_secs(600)).failures(1_000_000)).await;
    let call = |times: u32| {
        for number in 0..times {
            if let Ok(permit) = node.breaker.try_acquire() {
                if number % 2 == 0 { permit.success() } else { permit.failure() }
            }
        }
    };
    let commands = || server.info("commandstats", "cmdstat_evalsha");
    let expect_none_more = async |than: u64, in_state: State| {
        // What the task would send because of the calls, it sends before this one.
        node.fleet.reset("other", "", "").await.unwrap();
        assert_eq!(commands(), than + 1, "{in_state}");
    };
    let before = commands();
    call(100_000);
    expect_none_more(before, State::Closed).await;

    node.breaker.try_acquire().unwrap().open_for(Duration::from_secs(500));
    eventually("open", || node.agreed() == State::Open).await;
    let before = commands();
    call(100_000);
    expect_none_more(before, State::Open).await;
    for set in [State::ForcedOpen, State::Disabled, State::MetricsOnly] {
        match set {
            State::ForcedOpen => node.fleet.force_open("payments", "", "").await.unwrap(),
            State::Disabled => node.fleet.disable("payments", "", "").await.unwrap(),
            _ => node.fleet.metrics_only("payments", "", "").await.unwrap(),
        }
        eventually("set by hand", || node.state() == set && node.agreed() == set).await;
        let before = commands();
        call(100_000);
        expect_none_more(before, set).await;
    }
}
