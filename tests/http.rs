//! The HTTP client against servers on loopback. The breakers' time is a `ManualClock`; the timeouts' is tokio's, stopped
//! once the server has the request.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::future::pending;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use failfast::http::{Client, ClientBuilder, Error, MaxEjection, classify, classify_error};
use failfast::registry::WhenFull;
use failfast::{Config, Consecutive, ManualClock, OnCancel, Outcome, Reason, Registry, Rejected, State};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use reqwest::{Body, StatusCode};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

type Timed = Client<Consecutive, &'static ManualClock>;

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        tokio::time::timeout(MINUTE, test).await.expect("a minute is enough");
    });
}

/// The time of a test, for as long as the process lives.
fn clock() -> &'static ManualClock {
    Box::leak(Box::new(ManualClock::new()))
}

fn timed(clock: &'static ManualClock, config: Config) -> ClientBuilder<Consecutive, &'static ManualClock> {
    let breakers = Registry::builder().default_config(config).clock(clock).build().unwrap();
    Client::builder(reqwest::Client::new()).breakers(breakers)
}

/// A server whose answers a closure makes; it never answers where that gives none.
struct Server {
    address: SocketAddr,
    arrivals: mpsc::UnboundedReceiver<()>,
    accepting: JoinHandle<()>,
}

impl Server {
    async fn start<F>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> Option<Response<String>> + Send + Sync + 'static,
    {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (arrived, arrivals) = mpsc::unbounded_channel();
        let answer = Arc::new(answer);
        let accepting = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (answer, arrived) = (answer.clone(), arrived.clone());
                let service = service_fn(move |request| {
                    _ = arrived.send(());
                    let response = answer(request);
                    async move {
                        match response {
                            Some(response) => Ok::<_, Infallible>(response),
                            None => pending().await,
                        }
                    }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { address, arrivals, accepting }
    }

    async fn always(status: u16) -> Self {
        Self::start(move |_| Some(answer(status, &[]))).await
    }

    async fn hanging() -> Self {
        Self::start(|_| None).await
    }

    /// Answers with the status that the path names.
    async fn by_path() -> Self {
        Self::start(|request| Some(answer(request.uri().path()[1..].parse().unwrap(), &[]))).await
    }

    fn host(&self) -> String {
        format!("http://{}", self.address)
    }

    fn at(&self, path: impl std::fmt::Display) -> String {
        format!("http://{}/{path}", self.address)
    }

    /// Requests that have reached it since this was last asked.
    fn reached(&mut self) -> usize {
        std::iter::from_fn(|| self.arrivals.try_recv().ok()).count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn answer(status: u16, headers: &[(&str, &str)]) -> Response<String> {
    let response = Response::builder().status(status);
    headers.iter().fold(response, |response, header| response.header(header.0, header.1)).body("{}".to_owned()).unwrap()
}

/// A port that refuses connections for as long as this is held: it is bound, and nobody listens.
struct Refusing(TcpSocket);

impl Refusing {
    fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        Self(socket)
    }

    fn host(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }
}

/// The failures in a row that the host's breaker has counted.
fn streak(http: &Timed, host: &str) -> u64 {
    http.breakers().get(host).snapshot().consecutive_failures().unwrap()
}

fn state(http: &Timed, host: &str) -> State {
    http.breakers().get(host).state()
}

fn wait(http: &Timed, host: &str) -> Option<Duration> {
    http.breakers().get(host).snapshot().retry_after()
}

fn defaults() -> Timed {
    timed(clock(), Config::new()).build().unwrap()
}

mod what_counts {
    use super::*;

    #[test]
    fn a_refused_connection_fails_and_its_error_is_untouched() {
        run(async {
            let (http, port) = (defaults(), Refusing::new());
            for _ in 0..5 {
                match http.get(port.host()).send().await {
                    Err(Error::Failed(error)) => assert!(error.is_connect(), "{error:?}"),
                    other => panic!("{other:?}"),
                }
            }
            let error = http.get(port.host()).send().await.unwrap_err();
            let rejection = error.rejection().unwrap();
            assert_eq!(rejection.host(), port.host());
            assert_eq!(rejection.state(), State::Open);
            assert_eq!(rejection.retry_after(), Some(30 * SECOND));
            assert_eq!(rejection.reason(), Some(Reason::ConsecutiveFailures));
            assert_eq!(error.to_string(), format!("{} not called: circuit open; retry in 30.0 s", port.host()));
            let source = error.source().and_then(|source| source.downcast_ref::<Rejected>()).unwrap();
            assert_eq!(source.to_string(), "circuit open: 5 calls failed in a row (limit 5); retry in 30.0 s");
        });
    }

    #[test]
    fn statuses() {
        run(async {
            let server = Server::by_path().await;
            for (status, failures) in [(500, 1), (502, 1), (599, 1), (408, 1), (429, 1), (503, 1), (404, 0), (200, 0)] {
                let http = defaults();
                let response = http.get(server.at(status)).send().await.unwrap();
                assert_eq!(response.status(), status);
                assert_eq!(streak(&http, &server.host()), failures, "{status}");
            }
        });
    }

    #[test]
    fn a_404_breaks_no_streak_and_a_200_does() {
        run(async {
            let (server, http) = (Server::by_path().await, defaults());
            for (status, failures) in [(500, 1), (500, 2), (404, 2), (418, 2), (500, 3), (204, 0), (404, 0)] {
                http.get(server.at(status)).send().await.unwrap();
                assert_eq!(streak(&http, &server.host()), failures, "{status}");
            }
        });
    }

    #[test]
    fn an_answer_that_is_no_http_fails() {
        run(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let host = format!("http://{}", listener.local_addr().unwrap());
            let hang_up = tokio::spawn(async move { drop(listener.accept().await.unwrap()) });
            let http = defaults();
            assert!(http.get(&host).send().await.unwrap_err().into_failed().unwrap().is_request());
            assert_eq!(streak(&http, &host), 1);
            hang_up.await.unwrap();
        });
    }

    #[test]
    fn a_request_that_cannot_be_made_is_no_call() {
        run(async {
            let http = defaults();
            for url in ["no url", "ftp://example.com/", "http://"] {
                let error = http.get(url).send().await.unwrap_err().into_failed().unwrap();
                assert!(error.is_builder(), "{url}: {error:?}");
            }
            let map = std::collections::HashMap::from([((1, 2), 3)]);
            let error = http.post("http://localhost/").json(&map).send().await.unwrap_err().into_failed().unwrap();
            assert!(error.is_builder(), "{error:?}");
            assert!(http.breakers().is_empty());
        });
    }

    #[test]
    fn a_body_of_ones_own_that_fails_is_neutral() {
        struct Broken;
        impl hyper::body::Body for Broken {
            type Data = Bytes;
            type Error = io::Error;
            fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
                Poll::Ready(Some(Err(io::Error::other("the file is gone"))))
            }
        }
        run(async {
            let (server, http) = (Server::hanging().await, defaults());
            let error = http.post(server.host()).body(Body::wrap(Broken)).send().await.unwrap_err();
            let error = error.into_failed().unwrap();
            assert_eq!(classify_error(&error), Outcome::Ignored, "{error:?}");
            assert_eq!(streak(&http, &server.host()), 0);
        });
    }

    #[test]
    fn a_closure_can_say_otherwise_and_fall_back() {
        run(async {
            let server = Server::by_path().await;
            let http = timed(clock(), Config::new()).classify(|answer| match answer {
                Ok(response) if response.status() == StatusCode::NOT_FOUND => Outcome::Failure,
                Err(error) if error.is_connect() => Outcome::Ignored,
                other => classify(other),
            });
            let (http, port) = (http.build().unwrap(), Refusing::new());
            for status in [404, 500] {
                http.get(server.at(status)).send().await.unwrap();
            }
            assert_eq!(streak(&http, &server.host()), 2);
            http.get(port.host()).send().await.unwrap_err();
            assert_eq!(streak(&http, &port.host()), 0);
        });
    }

    #[test]
    fn what_the_client_did_not_see_can_be_told() {
        run(async {
            let (server, http) = (Server::always(200).await, defaults());
            let response = http.get(server.host()).send().await.unwrap();
            http.record(response.url(), Outcome::Failure);
            assert_eq!(streak(&http, &server.host()), 1);
            http.breakers().get(&server.host()).breaker().unwrap().open();
            http.record(response.url(), Outcome::Success);
            assert_eq!(state(&http, &server.host()), State::Open);
        });
    }
}

mod retry_after {
    use super::*;

    /// For how long an answer with this `Retry-After` opens a breaker with this configuration.
    async fn opens_for(status: u16, retry_after: String, config: Config) -> Option<Duration> {
        let server = Server::start(move |_| Some(answer(status, &[("retry-after", &retry_after)]))).await;
        let http = timed(clock(), config).build().unwrap();
        assert_eq!(http.get(server.host()).send().await.unwrap().status(), status);
        wait(&http, &server.host())
    }

    #[test]
    fn opens_at_once_for_what_it_asks() {
        run(async {
            for status in [429, 503] {
                assert_eq!(opens_for(status, "120".into(), Config::new()).await, Some(120 * SECOND));
                let date = httpdate::fmt_http_date(SystemTime::now() + 120 * SECOND);
                let waits = opens_for(status, date, Config::new()).await.unwrap();
                // Dates are of whole seconds, and the server's own may be one later.
                assert!((118 * SECOND..=120 * SECOND).contains(&waits), "{waits:?}");
            }
        });
    }

    #[test]
    fn never_for_less_than_the_wait_and_never_for_more_than_the_maximum() {
        run(async {
            let config = Config::new().open_for(20 * SECOND).max_open(60 * SECOND);
            for (asked, waits) in [("0", 20), ("19", 20), ("21", 21), ("61", 60), ("99999999999999999999999", 60)] {
                assert_eq!(opens_for(503, asked.into(), config).await, Some(waits * SECOND), "{asked}");
            }
            let past = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH);
            assert_eq!(opens_for(503, past, config).await, Some(20 * SECOND));
        });
    }

    #[test]
    fn is_a_failure_like_any_other_where_it_is_illegible_or_does_not_belong() {
        run(async {
            for (status, value) in [(503, "soon"), (429, "-5"), (500, "120"), (404, "120"), (200, "120")] {
                assert_eq!(opens_for(status, value.into(), Config::new()).await, None, "{status}: {value}");
            }
        });
    }

    #[test]
    fn the_wait_that_it_cannot_go_below_has_grown_where_probes_have_failed() {
        run(async {
            let server = Server::start(|_| Some(answer(503, &[("retry-after", "1")]))).await;
            let clock = clock();
            let http = timed(clock, Config::new().open_for(10 * SECOND).backoff(2.0)).build().unwrap();
            for waits in [10, 20, 40] {
                http.get(server.host()).send().await.unwrap();
                assert_eq!(wait(&http, &server.host()), Some(waits * SECOND));
                clock.advance(waits * SECOND);
            }
        });
    }

    #[test]
    fn of_a_year_does_not_lock_a_host_out_by_default() {
        run(async {
            let server = Server::start(|_| Some(answer(503, &[("retry-after", "31536000")]))).await;
            let http = Client::new(reqwest::Client::new());
            http.get(server.host()).send().await.unwrap();
            let rejection = http.get(server.host()).send().await.unwrap_err();
            let waits = rejection.rejection().unwrap().retry_after().unwrap();
            // An open wait ends with a whole millisecond.
            assert!(waits <= 60 * MINUTE + Duration::from_millis(1) && waits > 59 * MINUTE, "{waits:?}");
        });
    }
}

mod hosts {
    use super::*;

    #[test]
    fn one_that_is_down_leaves_the_others_alone() {
        run(async {
            let (mut down, mut up) = (Server::always(500).await, Server::always(200).await);
            let http = defaults();
            for _ in 0..5 {
                http.get(down.host()).send().await.unwrap();
            }
            assert_eq!(down.reached(), 5);
            assert!(http.get(down.at("elsewhere?x=y")).send().await.unwrap_err().rejection().is_some());
            assert_eq!(down.reached(), 0);
            assert_eq!(http.get(up.host()).send().await.unwrap().status(), 200);
            assert_eq!(up.reached(), 1);
        });
    }

    #[test]
    fn one_that_is_back_is_probed_and_called_again() {
        run(async {
            let clock = clock();
            let server = Server::by_path().await;
            let http = timed(clock, Config::new()).build().unwrap();
            for _ in 0..5 {
                http.get(server.at(500)).send().await.unwrap();
            }
            assert!(http.get(server.at(200)).send().await.is_err());
            clock.advance(30 * SECOND);
            for expected in [State::HalfOpen, State::Closed] {
                http.get(server.at(200)).send().await.unwrap();
                assert_eq!(state(&http, &server.host()), expected);
            }
        });
    }

    #[test]
    fn no_credentials_get_into_a_key_or_a_rejection() {
        run(async {
            let server = Server::start(|request| {
                let header = request.headers().get("authorization").map(|value| value.to_str().unwrap());
                Some(answer(if header == Some("Basic dXNlcjpzZWNyZXQ=") { 500 } else { 200 }, &[]))
            });
            let (server, http) = (server.await, defaults());
            let url = format!("http://user:secret@{}/", server.address);
            for _ in 0..5 {
                http.get(&url).send().await.unwrap();
            }
            let error = http.get(&url).send().await.unwrap_err();
            assert_eq!(error.rejection().unwrap().host(), server.host());
            assert!(!format!("{error} {error:?} {http:?} {:?}", http.breakers()).contains("secret"));
        });
    }

    #[test]
    fn of_users_choice_do_not_grow_it() {
        run(async {
            let breakers = Registry::builder().capacity(10).when_full(WhenFull::PassUnguarded).clock(clock());
            let http = Client::builder(reqwest::Client::new()).breakers(breakers.build().unwrap()).build().unwrap();
            let ports: Vec<_> = (0..100).map(|_| Refusing::new()).collect();
            for port in &ports {
                assert!(http.get(port.host()).send().await.unwrap_err().into_failed().unwrap().is_connect());
            }
            assert_eq!(http.breakers().len(), 10);
        });
    }

    #[test]
    fn for_which_there_is_no_place_can_be_rejected() {
        run(async {
            let breakers = Registry::builder().capacity(1).clock(clock()).build().unwrap();
            let http = Client::builder(reqwest::Client::new()).breakers(breakers).build().unwrap();
            let (first, second) = (Server::always(200).await, Server::always(200).await);
            assert!(http.get(first.host()).send().await.is_ok());
            let error = http.get(second.host()).send().await.unwrap_err();
            assert_eq!(error.to_string(), format!("{} not called: no place for its breaker", second.host()));
            assert_eq!(error.rejection().unwrap().rejected().full_registry(), Some(1));
        });
    }
}

mod redirects {
    use super::*;

    async fn to(target: String) -> Server {
        Server::start(move |_| Some(answer(302, &[("location", &target)]))).await
    }

    #[test]
    fn an_answer_is_recorded_for_the_host_that_gave_it() {
        run(async {
            let target = Server::start(|_| Some(answer(503, &[("retry-after", "99")]))).await;
            let first = to(target.at("x")).await;
            let http = defaults();
            for _ in 0..4 {
                http.record(&first.host().parse().unwrap(), Outcome::Failure);
            }
            assert_eq!(http.get(first.host()).send().await.unwrap().status(), 503);
            assert_eq!(streak(&http, &first.host()), 0);
            assert_eq!(wait(&http, &target.host()), Some(99 * SECOND));
        });
    }

    #[test]
    fn a_loop_is_neutral() {
        run(async {
            let (server, http) = (to("/".to_owned()).await, defaults());
            assert!(http.get(server.host()).send().await.unwrap_err().into_failed().unwrap().is_redirect());
            assert_eq!(streak(&http, &server.host()), 0);
        });
    }

    #[test]
    fn an_error_on_the_way_is_the_first_hosts() {
        run(async {
            let port = Refusing::new();
            let (first, http) = (to(port.host()).await, defaults());
            assert!(http.get(first.host()).send().await.unwrap_err().into_failed().unwrap().is_connect());
            assert_eq!(streak(&http, &first.host()), 1);
        });
    }
}

mod timeouts {
    use super::*;

    /// How long a request to a host that hangs takes, to 10 ms.
    async fn takes(http: &Timed, limit: Option<Duration>) -> Duration {
        let mut server = Server::hanging().await;
        let request = http.get(server.host());
        let sent = tokio::spawn(match limit {
            Some(limit) => request.timeout(limit).send(),
            None => request.send(),
        });
        server.arrivals.recv().await.unwrap();
        tokio::time::pause();
        let start = tokio::time::Instant::now();
        while !sent.is_finished() {
            tokio::time::advance(Duration::from_millis(10)).await;
            tokio::task::yield_now().await;
        }
        let took = start.elapsed();
        tokio::time::resume();
        assert!(sent.await.unwrap().unwrap_err().into_failed().unwrap().is_timeout());
        assert_eq!(streak(http, &server.host()), 1);
        took
    }

    fn around(client: reqwest::ClientBuilder) -> ClientBuilder<Consecutive, &'static ManualClock> {
        let breakers = Registry::builder().clock(clock()).build().unwrap();
        Client::builder(client.build().unwrap()).breakers(breakers)
    }

    #[track_caller]
    fn about(took: Duration, limit: Duration) {
        // What passed before time was stopped is missing. Limits differ by a second and more.
        let (least, most) = (limit - Duration::from_millis(900), limit + Duration::from_millis(20));
        assert!((least..=most).contains(&took), "{took:?} for {limit:?}");
    }

    #[test]
    fn a_host_that_hangs_fails_after_five_seconds() {
        run(async {
            about(takes(&defaults(), None).await, 5 * SECOND);
            let connect_only = around(reqwest::Client::builder().connect_timeout(MINUTE));
            about(takes(&connect_only.build().unwrap(), None).await, 5 * SECOND);
        });
    }

    #[test]
    fn the_wrapped_clients_own_stays_longer_or_shorter() {
        run(async {
            for limit in [SECOND, 8 * SECOND] {
                let http = around(reqwest::Client::builder().timeout(limit)).build().unwrap();
                about(takes(&http, None).await, limit);
                let http = around(reqwest::Client::builder().read_timeout(limit)).build().unwrap();
                about(takes(&http, None).await, limit);
            }
        });
    }

    #[test]
    fn the_requests_own_comes_before_any_other() {
        run(async {
            about(takes(&defaults(), Some(8 * SECOND)).await, 8 * SECOND);
            let http = around(reqwest::Client::builder().timeout(SECOND)).timeout(2 * SECOND).build().unwrap();
            about(takes(&http, Some(3 * SECOND)).await, 3 * SECOND);
        });
    }

    #[test]
    fn one_that_is_asked_for_overrides_the_clients() {
        run(async {
            let http = around(reqwest::Client::builder().timeout(SECOND)).timeout(2 * SECOND).build().unwrap();
            about(takes(&http, None).await, 2 * SECOND);
            let http = around(reqwest::Client::builder().timeout(7 * SECOND)).no_timeout().build().unwrap();
            about(takes(&http, None).await, 7 * SECOND);
        });
    }

    #[test]
    fn none_at_all_can_be_had() {
        run(async {
            for (http, limit) in [
                (around(reqwest::Client::builder()).no_timeout().build().unwrap(), None),
                (defaults(), Some(Duration::MAX)),
            ] {
                let mut server = Server::hanging().await;
                let request = http.get(server.host());
                let request = if let Some(limit) = limit { request.timeout(limit) } else { request };
                let sent = tokio::spawn(request.send());
                server.arrivals.recv().await.unwrap();
                tokio::time::pause();
                tokio::time::advance(20 * SECOND).await;
                assert!(!sent.is_finished());
                tokio::time::resume();
                sent.abort();
            }
        });
    }
}

mod cancelled {
    use super::*;

    /// Drops a request once the server has it.
    async fn cancel(http: &Timed) -> String {
        let mut server = Server::hanging().await;
        let sent = tokio::spawn(http.get(server.host()).send());
        server.arrivals.recv().await.unwrap();
        sent.abort();
        assert!(sent.await.unwrap_err().is_cancelled());
        server.host()
    }

    #[test]
    fn a_request_counts_as_on_cancel_says() {
        run(async {
            let http = defaults();
            let host = cancel(&http).await;
            assert_eq!(streak(&http, &host), 0);
            let http = timed(clock(), Config::new().on_cancel(OnCancel::Failure)).build().unwrap();
            let host = cancel(&http).await;
            assert_eq!(streak(&http, &host), 1);
        });
    }

    #[test]
    fn a_probe_gives_its_place_back() {
        run(async {
            let (http, mut server) = (defaults(), Server::hanging().await);
            let breaker = http.breakers().get(&server.host());
            breaker.breaker().unwrap().open();
            breaker.breaker().unwrap().half_open().unwrap();
            let probes: Vec<_> = (0..2).map(|_| tokio::spawn(http.get(server.host()).send())).collect();
            for _ in 0..2 {
                server.arrivals.recv().await.unwrap();
            }
            let error = http.get(server.host()).send().await.unwrap_err();
            assert_eq!(error.rejection().unwrap().state(), State::HalfOpen);
            assert_eq!(error.to_string(), format!("{} not called: circuit half-open", server.host()));
            for probe in probes {
                probe.abort();
                assert!(probe.await.is_err());
            }
            assert_eq!(breaker.snapshot().probes().unwrap().admitted(), 0);
        });
    }

    #[test]
    fn a_request_that_was_never_polled_was_no_call() {
        let http = defaults();
        drop(http.get("http://localhost:9/").send());
        assert!(http.breakers().is_empty());
    }
}

mod ejection {
    use super::*;

    /// Six servers, two of which may be rejected at once.
    async fn six() -> (&'static ManualClock, Timed, Vec<Server>) {
        let clock = clock();
        let max = MaxEjection::percent(40.0).min_hosts(6);
        let http = timed(clock, Config::new()).max_ejection(max).build().unwrap();
        let mut servers = Vec::new();
        for _ in 0..6 {
            servers.push(Server::by_path().await);
        }
        for server in &servers {
            http.get(server.at(200)).send().await.unwrap();
        }
        (clock, http, servers)
    }

    async fn fail(http: &Timed, server: &Server) {
        for _ in 0..5 {
            http.get(server.at(500)).send().await.unwrap();
        }
        assert_eq!(state(http, &server.host()), State::Open);
    }

    async fn is_rejected(http: &Timed, server: &Server) -> bool {
        http.get(server.at(200)).send().await.is_err()
    }

    async fn rejected(http: &Timed, servers: &[Server]) -> Vec<bool> {
        let mut each = Vec::new();
        for server in servers {
            each.push(is_rejected(http, server).await);
        }
        each
    }

    #[test]
    fn beyond_its_share_hosts_are_called_though_open() {
        run(async {
            let (_, http, servers) = six().await;
            for server in &servers[..4] {
                fail(&http, server).await;
            }
            for _ in 0..20 {
                assert_eq!(rejected(&http, &servers).await, [true, true, false, false, false, false]);
            }
            assert_eq!(state(&http, &servers[2].host()), State::Open);
        });
    }

    #[test]
    fn a_host_that_is_back_leaves_its_place_to_another() {
        run(async {
            let (clock, http, servers) = six().await;
            for server in &servers[..2] {
                fail(&http, server).await;
                assert!(is_rejected(&http, server).await);
            }
            clock.advance(30 * SECOND);
            for _ in 0..2 {
                assert!(!is_rejected(&http, &servers[0]).await);
            }
            // Its first probe fails.
            http.get(servers[1].at(500)).send().await.unwrap();
            fail(&http, &servers[2]).await;
            // There are two places, so at most two calls pass before somebody looks who is still rejected.
            let passed = async {
                let mut calls = 0;
                while !is_rejected(&http, &servers[2]).await {
                    calls += 1;
                }
                calls
            };
            assert!(passed.await < 2);
            assert_eq!(rejected(&http, &servers[..3]).await, [false, true, true]);
        });
    }

    #[test]
    fn below_its_least_number_of_hosts_all_are_rejected() {
        run(async {
            let http = timed(clock(), Config::new()).max_ejection(MaxEjection::percent(10.0)).build().unwrap();
            let servers = [Server::by_path().await, Server::by_path().await];
            for server in &servers {
                fail(&http, server).await;
            }
            assert_eq!(rejected(&http, &servers).await, [true, true]);
        });
    }

    #[test]
    fn what_the_hand_has_opened_is_rejected_and_counts() {
        run(async {
            let (_, http, servers) = six().await;
            for (server, force) in servers.iter().zip([true, false, true]) {
                let handle = http.breakers().get(&server.host());
                let breaker = handle.breaker().unwrap();
                if force {
                    breaker.force_open()
                } else {
                    breaker.open()
                }
                assert!(is_rejected(&http, server).await);
            }
            fail(&http, &servers[3]).await;
            assert!(!is_rejected(&http, &servers[3]).await);
        });
    }

    #[test]
    fn hosts_that_come_and_go_leave_nothing_behind() {
        run(async {
            let http =
                timed(clock(), Config::new()).max_ejection(MaxEjection::percent(50.0).min_hosts(4)).build().unwrap();
            // Two at a time are known: there is a place for each, if the ones before have left theirs.
            for _ in 0..20 {
                let servers = [Server::by_path().await, Server::by_path().await];
                for server in &servers {
                    fail(&http, server).await;
                }
                let mut calls = 0;
                while rejected(&http, &servers).await != [true, true] {
                    calls += 1;
                    assert!(calls < 8, "nobody has left");
                }
                for server in &servers {
                    assert!(http.breakers().remove(&server.host()));
                }
            }
        });
    }
}

mod use_of_it {
    use super::*;

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Quote {
        price: u32,
    }

    #[test]
    fn json_both_ways() {
        run(async {
            let server = Server::start(|request| {
                let is_json = request.headers().get("content-type").is_some_and(|value| value == "application/json");
                let mut response = answer(if is_json { 200 } else { 415 }, &[]);
                *response.body_mut() = r#"{"price": 42}"#.to_owned();
                Some(response)
            });
            let (server, http) = (server.await, Client::new(reqwest::Client::new()));
            let sent = http.post(server.host()).json(&Quote { price: 41 }).send().await.unwrap();
            assert_eq!(sent.status(), 200);
            assert_eq!(sent.json::<Quote>().await.unwrap(), Quote { price: 42 });
        });
    }

    #[test]
    fn every_method_and_what_a_request_can_carry() {
        run(async {
            let server = Server::start(|request| {
                let headers = request.headers();
                let has = |name, value| headers.get(name).is_some_and(|header| header == value);
                let all = has("a", "1") && has("b", "2") && has("authorization", "Bearer t") && has("c", "3");
                Some(answer(if all { 200 } else { 400 }, &[("method", request.method().as_str())]))
            });
            let (server, http) = (server.await, defaults());
            let url = server.host();
            let requests = [
                ("GET", http.get(&url)),
                ("POST", http.post(&url)),
                ("PUT", http.put(&url)),
                ("PATCH", http.patch(&url)),
                ("DELETE", http.delete(&url)),
                ("HEAD", http.head(&url)),
                ("OPTIONS", http.request(reqwest::Method::OPTIONS, &url)),
            ];
            for (method, request) in requests {
                let headers = [("b".parse().unwrap(), "2".parse().unwrap())].into_iter().collect();
                let request = request.header("a", "1").headers(headers).bearer_auth("t");
                let request = request.map(|request| request.header("c", "3")).body("body");
                let copy = request.try_clone().unwrap().build().unwrap();
                for response in [request.send().await.unwrap(), http.execute(copy).await.unwrap()] {
                    assert_eq!(response.status(), 200, "{method}");
                    assert_eq!(response.headers()["method"], method);
                }
            }
        });
    }

    #[test]
    fn its_errors_and_futures_go_anywhere() {
        fn sends<T: Send>(value: T) -> T {
            value
        }
        async fn with_question_marks(http: &Client, url: &str) -> Result<Quote, Box<dyn StdError + Send + Sync>> {
            Ok(http.get(url).send().await?.json().await?)
        }
        async fn with_ones_own(http: &Client, url: &str) -> Result<Quote, Error> {
            Ok(http.get(url).send().await?.json().await?)
        }
        run(async {
            let (server, http) = (Server::always(200).await, Client::new(reqwest::Client::new()));
            // `{}` is no quote.
            let error = sends(with_question_marks(&http, &server.host())).await.unwrap_err();
            assert!(error.downcast_ref::<reqwest::Error>().unwrap().is_decode());
            let error = sends(with_ones_own(&http, &server.host())).await.unwrap_err();
            assert!(error.into_failed().unwrap().is_decode());
            http.breakers().get(&server.host()).breaker().unwrap().force_open();
            let error = with_question_marks(&http, &server.host()).await.unwrap_err();
            assert_eq!(error.to_string(), format!("{} not called: circuit forced open", server.host()));
        });
    }

    #[test]
    fn clients_that_share_a_registry_share_its_breakers() {
        run(async {
            let (one, port) = (defaults(), Refusing::new());
            let other = Client::builder(reqwest::Client::new()).breakers(one.breakers().clone()).build().unwrap();
            for _ in 0..5 {
                one.clone().get(port.host()).send().await.unwrap_err();
            }
            assert!(other.get(port.host()).send().await.unwrap_err().rejection().is_some());
        });
    }

    #[test]
    fn bad_numbers_are_errors() {
        for limit in [Duration::ZERO, Duration::MAX] {
            let error = Client::builder(reqwest::Client::new()).timeout(limit).build().unwrap_err();
            assert_eq!(error.field(), "http.timeout");
        }
        let longest = Duration::from_secs(3650 * 24 * 60 * 60);
        assert!(Client::builder(reqwest::Client::new()).timeout(longest).build().is_ok());
        assert!(Client::builder(reqwest::Client::new()).timeout(longest + Duration::from_nanos(1)).build().is_err());
        let builder = Client::builder(reqwest::Client::new()).timeout(Duration::ZERO);
        assert!(builder.timeout(SECOND).build().is_ok());
        let error = Client::builder(reqwest::Client::new()).max_ejection(MaxEjection::percent(0.0)).build();
        assert_eq!(error.unwrap_err().field(), "http.max_ejection.percent");
    }
}
