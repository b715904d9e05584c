//! hyper, as a client and as a server, over loopback.

mod support;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use failfast::tower::{CircuitBreakerLayer, http as replies};
use failfast::{CallError, State};
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpSocket};
use tower::{Service, ServiceBuilder, ServiceExt, service_fn};

use support::{Backend, breaker};

type Reply = Result<Response<String>, Infallible>;

fn answer(backend: &Arc<Backend>) -> impl Fn(Request<Incoming>) -> std::future::Ready<Reply> + Clone + use<> {
    let backend = backend.clone();
    move |_| {
        backend.calls.fetch_add(1, SeqCst);
        let mut response = Response::new(String::from("hello"));
        *response.status_mut() = StatusCode::from_u16(backend.status.load(SeqCst)).unwrap();
        std::future::ready(Ok(response))
    }
}

/// Serves one connection after the other, until the runtime is gone.
async fn serve<S>(listener: TcpListener, service: S)
where
    S: Service<Request<Incoming>, Response = Response<String>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
{
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let service = TowerToHyperService::new(service.clone());
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

fn request(address: SocketAddr) -> Request<Empty<Bytes>> {
    Request::get(format!("http://{address}/")).body(Empty::new()).unwrap()
}

async fn bounded(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(30), test).await.expect("it hangs");
}

#[tokio::test]
async fn a_client_leaves_a_server_alone_that_is_down() {
    bounded(async {
        let (breaker, clock) = breaker();
        let layer = CircuitBreakerLayer::new(breaker.clone()).classify(replies::by_status);
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let client = ServiceBuilder::new().layer(layer).service(client);

        // Bound, so that nobody else gets the port, and not listening.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        for _ in 0..2 {
            let refused = client.clone().oneshot(request(address)).await.unwrap_err();
            assert!(refused.into_failed().unwrap().is_connect());
        }
        let rejected = client.clone().oneshot(request(address)).await.unwrap_err();
        assert!(matches!(rejected, CallError::Rejected(rejected) if rejected.state() == State::Open));

        // It comes back, and fails by its status now.
        let backend = Arc::new(Backend::default());
        tokio::spawn(serve(socket.listen(16).unwrap(), service_fn(answer(&backend))));
        for (status, state) in [(500, State::Open), (200, State::Closed)] {
            backend.status.store(status, SeqCst);
            clock.advance(Duration::from_secs(30));
            assert_eq!(breaker.state(), State::HalfOpen);
            assert_eq!(client.clone().oneshot(request(address)).await.unwrap().status(), status);
            assert_eq!(breaker.state(), state);
        }
        assert_eq!(backend.calls.load(SeqCst), 2);
    })
    .await;
}

#[tokio::test]
async fn a_server_replies_503_while_its_service_is_down() {
    bounded(async {
        let (breaker, clock) = breaker();
        let backend = Arc::new(Backend::default());
        let layer =
            CircuitBreakerLayer::new(breaker.clone()).classify(replies::by_status).on_rejected(replies::unavailable);
        let service = ServiceBuilder::new().layer(layer).service(service_fn(answer(&backend)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, service));
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();

        backend.status.store(500, SeqCst);
        for _ in 0..2 {
            assert_eq!(client.request(request(address)).await.unwrap().status(), 500);
        }
        let rejected = client.request(request(address)).await.unwrap();
        assert_eq!(rejected.status(), 503);
        assert_eq!(rejected.headers()["retry-after"], "30");
        assert_eq!(backend.calls.load(SeqCst), 2);

        backend.status.store(200, SeqCst);
        clock.advance(Duration::from_secs(30));
        assert_eq!(client.request(request(address)).await.unwrap().status(), 200);
        assert_eq!(breaker.state(), State::Closed);
    })
    .await;
}
