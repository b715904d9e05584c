//! The HTTP client as a middleware among others', and through a real outage.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use axum::Router;
use failfast::http::{Client, Error as HttpError, Rejection};
use failfast::{Config, Registry, State};
use http::{Extensions, StatusCode};
use reqwest::{Request, Response};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error, Middleware, Next};
use reqwest_retry::RetryTransientMiddleware;
use reqwest_retry::policies::ExponentialBackoff;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;

/// A service whose status can be set; 0 hangs.
struct Service {
    host: String,
    status: Arc<AtomicU16>,
    reached: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Service {
    async fn start(status: u16) -> Self {
        let (status, reached) = (Arc::new(AtomicU16::new(status)), Arc::new(AtomicUsize::new(0)));
        let (given, counted) = (status.clone(), reached.clone());
        let answer = move || async move {
            counted.fetch_add(1, SeqCst);
            match given.load(SeqCst) {
                0 => std::future::pending().await,
                status => StatusCode::from_u16(status).unwrap(),
            }
        };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let host = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async { axum::serve(listener, Router::new().fallback(answer)).await.unwrap() });
        Self { host, status, reached, serving }
    }

    fn reached(&self) -> usize {
        self.reached.load(SeqCst)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn retrying(times: u32) -> RetryTransientMiddleware<ExponentialBackoff> {
    let none = Duration::ZERO;
    let policy = ExponentialBackoff::builder().retry_bounds(none, none).build_with_max_retries(times);
    RetryTransientMiddleware::new_with_policy(policy)
}

fn streak(http: &Client, host: &str) -> u64 {
    http.breakers().get(host).snapshot().consecutive_failures().unwrap()
}

/// A client, and a stack around the same reqwest client.
fn stack(build: impl FnOnce(ClientBuilder, &Client) -> ClientBuilder) -> (Client, ClientWithMiddleware) {
    let client = reqwest::Client::new();
    let http = Client::new(client.clone());
    let stack = build(ClientBuilder::new(client), &http).build();
    (http, stack)
}

#[tokio::test]
async fn a_stack_and_a_client_share_their_breakers() {
    let service = Service::start(500).await;
    let (http, stack) = stack(|stack, http| stack.with(http.middleware()));
    for _ in 0..5 {
        assert_eq!(stack.get(&service.host).send().await.unwrap().status(), 500);
    }
    assert!(matches!(http.get(&service.host).send().await, Err(HttpError::Rejected(_))));
    let error = stack.get(&service.host).send().await.unwrap_err();
    let rejection = Rejection::find(&error).unwrap();
    assert_eq!((rejection.host(), rejection.state()), (&*service.host, State::Open));
    assert_eq!(service.reached(), 5);
}

#[tokio::test]
async fn behind_retries_each_attempt_counts_and_a_rejection_ends_them() {
    let service = Service::start(500).await;
    let (_, stack) = stack(|stack, http| stack.with(retrying(9)).with(http.middleware()));
    let error = stack.get(&service.host).send().await.unwrap_err();
    assert_eq!(service.reached(), 5);
    assert_eq!(Rejection::find(&error).unwrap().host(), service.host);
}

#[tokio::test]
async fn in_front_of_retries_all_attempts_are_one_call() {
    let service = Service::start(500).await;
    let (http, stack) = stack(|stack, http| stack.with(http.middleware()).with(retrying(3)));
    assert_eq!(stack.get(&service.host).send().await.unwrap().status(), 500);
    assert_eq!((service.reached(), streak(&http, &service.host)), (4, 1));

    // Their error has reqwest's among its sources.
    let port = TcpSocket::new_v4().unwrap();
    port.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let host = format!("http://{}", port.local_addr().unwrap());
    assert!(stack.get(&host).send().await.unwrap_err().is_middleware());
    assert_eq!(streak(&http, &host), 1);
}

struct NoToken;

#[async_trait::async_trait]
impl Middleware for NoToken {
    async fn handle(&self, _: Request, _: &mut Extensions, _: Next<'_>) -> Result<Response, Error> {
        Err(Error::middleware(io::Error::other("no token")))
    }
}

#[tokio::test]
async fn an_error_of_another_middleware_is_neutral_and_untouched() {
    let (http, stack) = stack(|stack, http| stack.with(http.middleware()).with(NoToken));
    assert_eq!(stack.get("http://localhost:9").send().await.unwrap_err().to_string(), "no token");
    let snapshot = http.breakers().peek("http://localhost:9").unwrap().snapshot();
    assert_eq!(snapshot.consecutive_failures(), Some(0));
}

#[tokio::test]
async fn a_stack_times_out_as_the_client_does() {
    let service = Service::start(0).await;
    let (http, stack) = stack(|stack, http| stack.with(http.middleware()));
    let sent = tokio::spawn(stack.get(&service.host).send());
    while service.reached() == 0 {
        tokio::task::yield_now().await;
    }
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(5)).await;
    assert!(sent.await.unwrap().unwrap_err().is_timeout());
    assert_eq!(streak(&http, &service.host), 1);
}

#[tokio::test]
async fn an_outage_is_over_for_callers_soon_after_it_is_for_the_service() {
    let config = Config::new().open_for(Duration::from_millis(50));
    let breakers = Registry::builder().default_config(config).build().unwrap();
    let http = Client::builder(reqwest::Client::new()).breakers(breakers).build().unwrap();
    let service = Service::start(503).await;
    let mut rejected = 0;
    let start = Instant::now();
    while rejected < 100 && start.elapsed() < Duration::from_secs(10) {
        rejected += usize::from(http.get(&service.host).send().await.is_err());
        // The server shares this thread.
        tokio::task::yield_now().await;
    }
    assert_eq!(rejected, 100);
    service.status.store(200, SeqCst);
    while http.breakers().get(&service.host).state() != State::Closed && start.elapsed() < Duration::from_secs(10) {
        _ = http.get(&service.host).send().await;
        tokio::task::yield_now().await;
    }
    assert_eq!(http.get(&service.host).send().await.unwrap().status(), 200);
}
