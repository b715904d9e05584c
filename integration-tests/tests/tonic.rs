//! tonic, as a client and as a server, over loopback.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::task::{Context, Poll};
use std::time::Duration;

use failfast::tower::{CircuitBreakerLayer, grpc};
use failfast::{CircuitBreaker, Consecutive, ManualClock, OnCancel, Reason, State};
use http::uri::PathAndQuery;
use tokio::net::{TcpListener, TcpSocket};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::{Service, ServiceBuilder, service_fn};

#[derive(Clone, PartialEq, prost::Message)]
struct Text {
    #[prost(string, tag = "1")]
    text: String,
}

fn text(text: &str) -> Text {
    Text { text: text.into() }
}

/// What `tonic-build` would make of a service with `rpc Say (Text) returns (Text)` and `rpc Count (Text) returns
/// (stream Text)`. It answers with the status that the request names.
#[derive(Clone, Default)]
struct Echo {
    calls: Arc<AtomicU32>,
}

fn status(name: &str) -> Result<(), Status> {
    let mut unavailable = Status::unavailable("down");
    Err(match name {
        "unavailable" => unavailable,
        "unavailable for 7 s" => {
            unavailable.metadata_mut().insert("grpc-retry-pushback-ms", 7000.into());
            unavailable
        }
        "internal" => Status::internal("a bug"),
        "not found" => Status::not_found("no such thing"),
        _ => return Ok(()),
    })
}

type Messages = Pin<Box<dyn Stream<Item = Result<Text, Status>> + Send>>;

async fn say(request: Request<Text>) -> Result<Response<Text>, Status> {
    status(&request.get_ref().text)?;
    Ok(Response::new(request.into_inner()))
}

/// Two messages, and then the status, in the trailers.
async fn count(request: Request<Text>) -> Result<Response<Messages>, Status> {
    let end = tokio_stream::iter(status(&request.get_ref().text).err().map(Err));
    let messages = tokio_stream::iter([Ok(text("1")), Ok(text("2"))]);
    Ok(Response::new(Box::pin(messages.chain(end))))
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        self.calls.fetch_add(1, SeqCst);
        Box::pin(async move {
            let mut server = tonic::server::Grpc::new(ProstCodec::<Text, Text>::default());
            Ok(match request.uri().path() {
                "/test.Echo/Say" => server.unary(service_fn(say), request).await,
                _ => server.server_streaming(service_fn(count), request).await,
            })
        })
    }
}

impl NamedService for Echo {
    const NAME: &'static str = "test.Echo";
}

/// What `tonic-build` would make of its client.
struct Client<S>(tonic::client::Grpc<S>);

impl<S, B> Client<S>
where
    S: Service<http::Request<Body>, Response = http::Response<B>>,
    S::Error: Into<tonic::codegen::StdError>,
    B: tonic::codegen::Body<Data = tonic::codegen::Bytes, Error: Into<tonic::codegen::StdError>> + Send + 'static,
{
    fn new(service: S) -> Self {
        Self(tonic::client::Grpc::new(service))
    }

    async fn say(&mut self, what: &str) -> Result<String, Status> {
        self.0.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let path = PathAndQuery::from_static("/test.Echo/Say");
        let said = self.0.unary(Request::new(text(what)), path, ProstCodec::<Text, Text>::default()).await?;
        Ok(said.into_inner().text)
    }

    async fn count(&mut self, what: &str) -> Result<Streaming<Text>, Status> {
        self.0.ready().await.map_err(|error| Status::from_error(error.into()))?;
        let path = PathAndQuery::from_static("/test.Echo/Count");
        let codec = ProstCodec::<Text, Text>::default();
        Ok(self.0.server_streaming(Request::new(text(what)), path, codec).await?.into_inner())
    }
}

type Breaker = CircuitBreaker<Consecutive, Arc<ManualClock>>;

/// One failure opens it, for 30 s; one probe closes it.
fn breaker(on_cancel: OnCancel) -> (Arc<Breaker>, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new());
    let builder = CircuitBreaker::builder().failures(1).probes(1).on_cancel(on_cancel).clock(clock.clone());
    (Arc::new(builder.build().unwrap()), clock)
}

fn layer(breaker: &Arc<Breaker>) -> CircuitBreakerLayer<Arc<Breaker>, grpc::ByStatus, Unavailable> {
    CircuitBreakerLayer::new(breaker.clone()).classify(grpc::ByStatus::new()).on_rejected(grpc::unavailable)
}

type Unavailable = fn(&failfast::Rejected) -> http::Response<grpc::Body<Body, Arc<Breaker>>>;

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A server that is gone when the runtime is.
async fn serve(echo: Echo) -> SocketAddr {
    let (listener, address) = listen().await;
    let server = Server::builder().add_service(echo);
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

fn connect(address: SocketAddr) -> Channel {
    Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy()
}

/// Nothing here takes a second unless something hangs.
async fn bounded(test: impl Future<Output = ()>) {
    tokio::time::timeout(Duration::from_secs(30), test).await.expect("it hangs");
}

async fn read(mut messages: Streaming<Text>) -> (u32, Result<(), Code>) {
    let mut read = 0;
    loop {
        match messages.message().await {
            Ok(Some(_)) => read += 1,
            Ok(None) => return (read, Ok(())),
            Err(status) => return (read, Err(status.code())),
        }
    }
}

#[tokio::test]
async fn a_client_rejects_by_itself_while_the_server_is_down() {
    bounded(async {
        let echo = Echo::default();
        let (breaker, clock) = breaker(OnCancel::Neutral);
        let channel = connect(serve(echo.clone()).await);
        let mut client = Client::new(ServiceBuilder::new().layer(layer(&breaker)).service(channel));

        assert_eq!(client.say("hello").await.unwrap(), "hello");
        assert_eq!(client.say("not found").await.unwrap_err().code(), Code::NotFound);
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(client.say("unavailable").await.unwrap_err().message(), "down");
        assert_eq!(breaker.state(), State::Open);
        assert_eq!(echo.calls.load(SeqCst), 3);

        let rejected = client.say("hello").await.unwrap_err();
        assert_eq!(rejected.code(), Code::Unavailable);
        assert_eq!(rejected.message(), "circuit open: 1 call failed in a row (limit 1); retry in 30.0 s");
        assert_eq!(rejected.metadata().get("grpc-retry-pushback-ms").unwrap(), "30000");
        assert_eq!(echo.calls.load(SeqCst), 3, "the server was not asked");

        clock.advance(Duration::from_secs(30));
        assert_eq!(client.say("hello").await.unwrap(), "hello");
        assert_eq!(breaker.state(), State::Closed);
    })
    .await;
}

#[tokio::test]
async fn a_client_pauses_for_as_long_as_the_server_asks() {
    bounded(async {
        let (breaker, _) = breaker(OnCancel::Neutral);
        let channel = connect(serve(Echo::default()).await);
        let mut client = Client::new(ServiceBuilder::new().layer(layer(&breaker)).service(channel));
        assert!(client.say("unavailable for 7 s").await.is_err());
        assert_eq!(breaker.snapshot().trip().unwrap().reason(), Reason::Requested);
        assert_eq!(breaker.snapshot().retry_after(), Some(Duration::from_secs(7)));
    })
    .await;
}

#[tokio::test]
async fn a_clients_stream_is_settled_by_its_trailers() {
    bounded(async {
        let (breaker, _) = breaker(OnCancel::Failure);
        let channel = connect(serve(Echo::default()).await);
        let mut client = Client::new(ServiceBuilder::new().layer(layer(&breaker)).service(channel));

        let messages = client.count("to the end").await.unwrap();
        assert_eq!(read(messages).await, (2, Ok(())));
        assert_eq!(breaker.state(), State::Closed);

        let messages = client.count("internal").await.unwrap();
        assert_eq!(breaker.state(), State::Closed, "so far it has gone well");
        assert_eq!(read(messages).await, (2, Err(Code::Internal)));
        assert_eq!(breaker.snapshot().trip().unwrap().reason(), Reason::ConsecutiveFailures);

        breaker.reset();
        drop(client.count("to the end").await.unwrap());
        assert_eq!(breaker.state(), State::Open, "dropped in its midst, which counts as a failure here");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_a_failure() {
    bounded(async {
        // Bound, so that nobody else gets the port, and not listening.
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        let (breaker, clock) = breaker(OnCancel::Neutral);
        let mut client = Client::new(ServiceBuilder::new().layer(layer(&breaker)).service(connect(address)));
        let refused = client.say("hello").await.unwrap_err();
        assert!(!refused.message().contains("circuit"), "{refused}");
        assert!(client.say("hello").await.unwrap_err().message().starts_with("circuit open"));

        // It is there again when the probe comes.
        let listener = socket.listen(16).unwrap();
        tokio::spawn(
            Server::builder().add_service(Echo::default()).serve_with_incoming(TcpListenerStream::new(listener)),
        );
        clock.advance(Duration::from_secs(30));
        assert_eq!(client.say("hello").await.unwrap(), "hello");
        assert_eq!(breaker.state(), State::Closed);
    })
    .await;
}

#[tokio::test]
async fn a_server_rejects_with_unavailable_and_pushback() {
    bounded(async {
        let echo = Echo::default();
        let (breaker, clock) = breaker(OnCancel::Neutral);
        let (listener, address) = listen().await;
        let server = Server::builder().layer(layer(&breaker)).add_service(echo.clone());
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let mut client = Client::new(connect(address));

        assert_eq!(client.say("hello").await.unwrap(), "hello");
        assert_eq!(client.say("not found").await.unwrap_err().code(), Code::NotFound);
        assert_eq!(read(client.count("to the end").await.unwrap()).await, (2, Ok(())));
        assert_eq!(breaker.state(), State::Closed);
        assert_eq!(read(client.count("internal").await.unwrap()).await, (2, Err(Code::Internal)));
        assert_eq!(breaker.state(), State::Open);
        assert_eq!(echo.calls.load(SeqCst), 4);

        let rejected = client.say("hello").await.unwrap_err();
        assert_eq!(rejected.code(), Code::Unavailable);
        assert!(rejected.message().starts_with("circuit open"));
        assert_eq!(rejected.metadata().get("grpc-retry-pushback-ms").unwrap(), "30000");
        assert_eq!(client.count("to the end").await.unwrap_err().code(), Code::Unavailable);
        assert_eq!(echo.calls.load(SeqCst), 4, "the service was not asked");

        clock.advance(Duration::from_secs(30));
        assert_eq!(client.say("hello").await.unwrap(), "hello");
        assert_eq!(breaker.state(), State::Closed);
    })
    .await;
}
