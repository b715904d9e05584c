//! axum's handlers behind a breaker, over loopback.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use axum::BoxError;
use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::routing::get;
use failfast::tower::{CircuitBreakerLayer, http as replies};
use failfast::{CallError, State};
use http::{Response, StatusCode};
use tokio::net::TcpListener;
use tower::ServiceBuilder;
use tower::timeout::TimeoutLayer;

use support::{Backend, breaker};

fn router(backend: &Arc<Backend>) -> axum::Router {
    let backend = backend.clone();
    let handler = async move || {
        backend.calls.fetch_add(1, SeqCst);
        match backend.status.load(SeqCst) {
            // No answer.
            0 => std::future::pending().await,
            status => StatusCode::from_u16(status).unwrap(),
        }
    };
    axum::Router::new().route("/", get(handler))
}

/// A server that is gone when the runtime is.
async fn serve(router: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(axum::serve(listener, router).into_future());
    address
}

async fn ask(address: SocketAddr) -> (u16, Option<String>) {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(30)).build().unwrap();
    let response = client.get(format!("http://{address}/")).send().await.unwrap();
    let retry_after = response.headers().get("retry-after").map(|value| value.to_str().unwrap().into());
    (response.status().as_u16(), retry_after)
}

#[tokio::test]
async fn a_handler_that_fails_is_left_alone() {
    let (breaker, clock) = breaker();
    let backend = Arc::new(Backend::default());
    let layer =
        CircuitBreakerLayer::new(breaker.clone()).classify(replies::by_status).on_rejected(replies::unavailable);
    let address = serve(router(&backend).layer(layer)).await;

    for status in [200, 404, 500, 200, 500] {
        backend.status.store(status, SeqCst);
        assert_eq!(ask(address).await, (status, None));
        assert_eq!(breaker.state(), State::Closed);
    }
    assert_eq!(ask(address).await, (500, None));
    assert_eq!(breaker.state(), State::Open);

    let calls = backend.calls.load(SeqCst);
    backend.status.store(200, SeqCst);
    assert_eq!(ask(address).await, (503, Some("30".into())));
    clock.advance(Duration::from_millis(28_500));
    assert_eq!(ask(address).await, (503, Some("2".into())));
    assert_eq!(backend.calls.load(SeqCst), calls);

    clock.advance(Duration::from_millis(1500));
    assert_eq!(ask(address).await, (200, None));
    assert_eq!(breaker.state(), State::Closed);
}

#[tokio::test]
async fn a_handler_that_hangs_fails_by_the_timeout_inside() {
    async fn reply(error: CallError<BoxError>) -> Response<Body> {
        match error {
            CallError::Rejected(rejected) => replies::unavailable(&rejected),
            CallError::Failed(_) => {
                Response::builder().status(StatusCode::GATEWAY_TIMEOUT).body(Body::empty()).unwrap()
            }
        }
    }

    let (breaker, clock) = breaker();
    let backend = Arc::new(Backend::default());
    let stack = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(reply))
        .layer(CircuitBreakerLayer::new(breaker.clone()))
        .layer(TimeoutLayer::new(Duration::from_millis(50)));
    let address = serve(router(&backend).layer(stack)).await;

    assert_eq!(ask(address).await, (504, None));
    assert_eq!(ask(address).await, (504, None));
    assert_eq!(ask(address).await, (503, Some("30".into())));
    assert_eq!(backend.calls.load(SeqCst), 2);

    backend.status.store(200, SeqCst);
    clock.advance(Duration::from_secs(30));
    assert_eq!(ask(address).await, (200, None));
    assert_eq!(breaker.state(), State::Closed);
}
