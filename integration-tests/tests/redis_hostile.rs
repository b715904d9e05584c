//! What must not harm: foreign values, little rights, secrets, and a network that others can listen to.

mod redis_support;

use std::time::Duration;

use failfast::State;
use failfast::redis::{Agreement, Connect, Fleet, FleetError};
use redis_support::*;

fn connect(url: String) -> Connect {
    Fleet::connect(url).agreement(Agreement::Quorum(2)).poll(Duration::from_millis(100))
}

/// Two of them open all, whatever was in the store before, and what opened closes again.
async fn still_works(nodes: &[Node]) {
    nodes[0].fail(3);
    nodes[1].fail(3);
    eventually("all open", || {
        nodes.iter().take(2).for_each(|node| node.fail(3));
        nodes.iter().all(|node| node.agreed() == State::Open)
    })
    .await;
    eventually("all closed", || {
        nodes.iter().filter_map(|node| node.breaker.try_acquire().ok()).for_each(|permit| permit.success());
        nodes.iter().all(|node| node.state() == State::Closed)
    })
    .await;
}

#[tokio::test]
async fn foreign_values_are_refused_and_counted_and_wedge_nothing() {
    let server = Server::start();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Node::join(connect(server.url()), quick()).await);
    }
    let mut connection = server.connection();
    let mut refused = 0;
    let key = |suffix: &str| format!("failfast:1:{{payments}}:{suffix}");
    let now: Vec<u64> = redis::cmd("TIME").query(&mut connection).unwrap();
    let sound = [
        ("v", "1"),
        ("e", "1"),
        ("h", "0"),
        ("s", "c"),
        ("d", "0"),
        ("w", "0"),
        ("a", "0"),
        ("r", ""),
        ("n", "x"),
        ("who", ""),
        ("why", ""),
    ];
    let far = ((now[0] + 100_000_000) * 1000).to_string();
    let long = "x".repeat(5_000);
    let bad_fields = [
        ("v", "2"),
        ("v", ""),
        ("e", "-1"),
        ("e", &far),
        ("e", "1e9"),
        ("e", "0x10"),
        ("e", "nan"),
        ("e", &long),
        ("h", "inf"),
        ("s", "x"),
        ("s", "half_open"),
        ("d", "9999999999999999999999"),
        ("w", "99999999999"),
        ("w", " 1"),
        ("a", "4294967296"),
        ("r", "a\x1fb"),
        ("n", &long),
        ("who", "a\nb"),
        ("why", "\0"),
    ];
    for (field, value) in bad_fields {
        redis::cmd("DEL").arg(key("state")).exec(&mut connection).unwrap();
        redis::cmd("HSET").arg(key("state")).arg(&sound).arg(field).arg(value).exec(&mut connection).unwrap();
        let total = || nodes.iter().map(|node| node.fleet.store().refused()).sum::<u64>();
        eventually(&format!("{field} = {value:.20} is refused"), || total() > refused).await;
        refused = total();
    }
    still_works(&nodes).await;
    for suffix in ["state", "leases", "votes", "members"] {
        for make in [&["SET", "x"][..], &["LPUSH", "x"], &["SADD", "x"], &["HSET", "x", "y"]] {
            redis::cmd("DEL").arg(key(suffix)).exec(&mut connection).unwrap();
            redis::cmd(make[0]).arg(key(suffix)).arg(&make[1..]).exec(&mut connection).unwrap();
        }
        still_works(&nodes).await;
    }
    for suffix in ["leases", "votes", "members"] {
        for score in ["inf", "1e300", "-inf", "-1e300", "0"] {
            redis::cmd("ZADD").arg(key(suffix)).arg(score).arg("ghost").exec(&mut connection).unwrap();
        }
        for number in 0..100 {
            redis::cmd("ZADD").arg(key(suffix)).arg("inf").arg(number).exec(&mut connection).unwrap();
        }
        still_works(&nodes).await;
    }
    assert!(nodes.iter().all(|node| node.fleet.store().is_up() && node.fleet.store().connections() == 1));
}

#[tokio::test]
async fn garbled_news_are_refused() {
    let server = Server::start();
    let nodes = [Node::join(connect(server.url()), quick()).await, Node::join(connect(server.url()), quick()).await];
    still_works(&nodes).await;
    let epoch = nodes[0].fleet.agreed("payments").unwrap().epoch();
    let mut connection = server.connection();
    let news: [&[u8]; 6] = [
        b"",
        b"hello",
        b"\x1f\x1f\x1f\x1f\x1f\x1f\x1f\x1f\x1f\x1f\x1f\x1f\x1f\x1f\x1f\x1f\x1f\x1f\x1f\x1f",
        &[0xff; 100_000],
        // Well formed, but from the year 6429: whoever tells it does not have the server's time.
        b"1\x1f140737488355328\x1f140737488355328\x1f0\x1fo\x1f100\x1f100\x1f0\x1f\x1f\x1f\x1f\x1f1\x1f0\x1f0\x1f0\x1f0\x1f0\x1f0\x1f0\x1f0",
        b"2\x1f1\x1f1\x1f0\x1fo\x1f100\x1f100\x1f0\x1f\x1f\x1f\x1f\x1f1\x1f0\x1f0\x1f0\x1f0\x1f0\x1f0\x1f0\x1f0",
    ];
    for payload in news {
        let heard: u64 =
            redis::cmd("PUBLISH").arg("failfast:1:{payments}").arg(payload).query(&mut connection).unwrap();
        assert_eq!(heard, 2);
    }
    eventually("they are counted", || nodes.iter().all(|node| node.fleet.store().refused() >= 5)).await;
    assert!(nodes.iter().all(|node| node.fleet.agreed("payments").unwrap().epoch() == epoch));
    still_works(&nodes).await;
}

#[tokio::test]
async fn names_are_escaped() {
    let server = Server::start();
    let fleet = connect(server.url()).prefix("shop").await.unwrap();
    fleet.force_open("a}{b *?[x]\r\nDEL é", "", "").await.unwrap();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut server.connection()).unwrap();
    assert_eq!(keys, ["shop:1:{a%7D%7Bb%20%2A%3F%5Bx%5D%0D%0ADEL%20%C3%A9}:state"]);
}

#[tokio::test]
async fn every_key_ends() {
    let server = Server::start();
    let nodes = [Node::join(connect(server.url()), quick()).await, Node::join(connect(server.url()), quick()).await];
    let mut connection = server.connection();
    nodes[0].fail(3);
    let mut seen = std::collections::BTreeSet::new();
    let mut check = || {
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
        for key in keys {
            let left: i64 = redis::cmd("PTTL").arg(&key).query(&mut connection).unwrap();
            // It may have been deleted since.
            assert!(left >= 0 || left == -2, "{key}: {left}");
            seen.insert(key.rsplit(':').next().unwrap().to_string());
        }
        seen.len()
    };
    eventually("votes, members", || check() == 2).await;
    nodes[1].fail(3);
    eventually("state, leases", || check() == 4).await;
    nodes[0].fleet.disable("payments", "", "").await.unwrap();
    check();
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["leases", "members", "state", "votes"]);
}

const RIGHTS: &str = "~failfast:* &failfast:* +hello +evalsha +script|load +subscribe +unsubscribe +publish \
                      +time +hmget +hset +hincrby +hgetall +hdel +zadd +zrem +zcard +zscore +zrange +zremrangebyscore \
                      +pexpire +del";

#[tokio::test]
async fn a_user_with_few_rights_is_enough() {
    let server = Server::start();
    let mut acl = redis::cmd("ACL");
    acl.arg("SETUSER").arg("fleet").arg("on").arg(">geh:e@im");
    RIGHTS.split_whitespace().for_each(|right| _ = acl.arg(right));
    acl.exec(&mut server.connection()).unwrap();
    let connect = || connect(server.url()).credentials("fleet", "geh:e@im");
    let nodes = [Node::join(connect(), quick()).await, Node::join(connect(), quick()).await];
    still_works(&nodes).await;
    // The same in the address.
    let url = format!("redis://fleet:geh%3Ae%40im@127.0.0.1:{}", server.port);
    assert!(Fleet::connect(url).await.unwrap().store().is_up());

    // A right that is taken away is said, and breaks nothing.
    redis::cmd("ACL").arg("SETUSER").arg("fleet").arg("-hset").exec(&mut server.connection()).unwrap();
    eventually("it is degraded", || {
        nodes.iter().for_each(|node| node.fail(3));
        nodes.iter().any(|node| !node.fleet.store().is_up())
    })
    .await;
    assert!(matches!(nodes[0].fleet.reset("payments", "", "").await, Err(FleetError::Refused(_))));
    redis::cmd("ACL").arg("SETUSER").arg("fleet").arg("+hset").exec(&mut server.connection()).unwrap();
    still_works(&nodes).await;
}

#[tokio::test]
async fn secrets_are_not_told() {
    let server = Server::start_with(&["--requirepass", "right-secret"]);
    let port = server.port;
    let urls = [
        format!("redis://:wrong-secret@127.0.0.1:{port}"),
        format!("redis://someone:wrong-secret@127.0.0.1:{port}"),
        format!("redis://someone:wrong-secret@127.0.0.1:{port}/not-a-number"),
        "redis://someone:wrong-secret@127.0.0.1:port".to_string(),
        "redis://someone:wrong-secret@".to_string(),
        "wrong-secret".to_string(),
        "rediss://someone:wrong-secret@127.0.0.1:1/#nonsense".to_string(),
    ];
    for (index, url) in urls.into_iter().enumerate() {
        let connect = Fleet::connect(url).credentials("wrong-secret-user", "wrong-secret");
        let shown = format!("{connect:?}");
        let shown = shown
            + &match connect.await {
                Ok(fleet) => format!("{fleet:?} {}", fleet.store().error().unwrap()),
                Err(error) => {
                    assert_eq!(matches!(error, FleetError::Refused(_)), index < 2, "{index}: {error}");
                    let source = std::error::Error::source(&error).unwrap();
                    format!("{error} {error:?} {source} {source:?}")
                }
            };
        assert!(!shown.contains("wrong-secret"), "{index}: {shown}");
    }
    let fleet = Fleet::connect(format!("redis://:right-secret@127.0.0.1:{port}")).await.unwrap();
    assert!(fleet.store().is_up());
    assert!(!format!("{fleet:?}").contains("right-secret"));
}

#[tokio::test]
async fn over_tls_with_certificates_on_both_sides() {
    let authority = rcgen::CertifiedIssuer::self_signed(
        {
            let mut parameters = rcgen::CertificateParams::default();
            parameters.distinguished_name.push(rcgen::DnType::CommonName, "authority");
            parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            parameters
        },
        rcgen::KeyPair::generate().unwrap(),
    )
    .unwrap();
    let issue = |name: &str| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new([name.to_string()]).unwrap();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, name);
        (parameters.signed_by(&key, &authority).unwrap().pem(), key.serialize_pem())
    };
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_string()
    };
    let (certificate, key) = issue("localhost");
    let port = free_port();
    let _server = Server::start_with(&[
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &file("server.crt", &certificate),
        "--tls-key-file",
        &file("server.key", &key),
        "--tls-ca-cert-file",
        &file("ca.crt", &authority.pem()),
        "--tls-auth-clients",
        "yes",
    ]);
    let (certificate, key) = issue("client");
    let connect = || connect(format!("rediss://localhost:{port}")).root_certificate(authority.pem());
    let secure = || connect().client_certificate(certificate.clone(), key.clone());
    let nodes = [Node::join(secure(), quick()).await, Node::join(secure(), quick()).await];
    assert!(nodes.iter().all(|node| node.fleet.store().is_up()), "{:?}", nodes[0].fleet.store());
    still_works(&nodes).await;
    assert!(!format!("{:?} {:?}", secure(), nodes[0].fleet).contains("BEGIN"));

    // Without the client's certificate, or without trust in the server's, there is no store.
    let anonymous = connect().await;
    assert!(anonymous.is_err() || !anonymous.unwrap().store().is_up());
    let untrusting = Fleet::connect(format!("rediss://localhost:{port}")).await;
    assert!(untrusting.is_err() || !untrusting.unwrap().store().is_up());
}
