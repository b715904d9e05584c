//! The HTTP service that all nodes call, and that fails for a while.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::numbers::spread;
use crate::plan::{Plan, Start};

pub(crate) const NODE_HEADER: &str = "x-node";

/// Set by nodes on the calls that their breaker lets through to look whether the service is back.
pub(crate) const PROBE_HEADER: &str = "x-probe";

/// A request that reached the service.
#[derive(Clone, Copy)]
pub(crate) struct Arrival {
    /// From the start of the run.
    pub at: Duration,
    pub node: usize,
    pub probe: bool,
}

pub(crate) struct Service {
    address: SocketAddr,
    desk: Arc<Desk>,
    /// The service ends with it.
    _runtime: Runtime,
}

struct Desk {
    plan: Plan,
    down: AtomicBool,
    requests: AtomicU64,
    /// Once the run has started.
    book: Mutex<Option<(Start, Vec<Arrival>)>>,
}

impl Desk {
    fn note(&self, request: &Request<Incoming>) {
        let header = |name| request.headers().get(name);
        let node = header(NODE_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        if let (Some(node), Some((start, arrivals))) = (node, &mut *self.book()) {
            arrivals.push(Arrival { at: start.elapsed(), node, probe: header(PROBE_HEADER).is_some() });
        }
    }

    fn book(&self) -> MutexGuard<'_, Option<(Start, Vec<Arrival>)>> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service {
    pub(crate) fn start(plan: &Plan) -> io::Result<Service> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let desk = Arc::new(Desk {
            plan: *plan,
            down: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            book: Mutex::new(None),
        });
        runtime.spawn(accept(listener, Arc::clone(&desk)));
        Ok(Service { address, desk, _runtime: runtime })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Notes arrivals from now on.
    pub(crate) fn note_from(&self, start: Start) {
        *self.desk.book() = Some((start, Vec::new()));
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.desk.down.store(down, Ordering::Relaxed);
    }

    pub(crate) fn arrivals(&self) -> Vec<Arrival> {
        self.desk.book().as_ref().map(|(_, arrivals)| arrivals.clone()).unwrap_or_default()
    }
}

async fn accept(listener: TcpListener, desk: Arc<Desk>) {
    loop {
        // Out of file descriptors, say: the callers' timeouts report it better than a panic here.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let desk = Arc::clone(&desk);
        tokio::spawn(async move {
            let answer = service_fn(|request| answer(request, Arc::clone(&desk)));
            // A client that closes the connection is no news to this service.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

async fn answer(request: Request<Incoming>, desk: Arc<Desk>) -> Result<Response<String>, Infallible> {
    desk.note(&request);
    let number = desk.requests.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(spread(number, desk.plan.latency)).await;
    let mut response = Response::new("at your service\n".to_owned());
    if desk.down.load(Ordering::Relaxed) {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    Ok(response)
}
