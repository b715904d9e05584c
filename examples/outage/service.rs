//! The HTTP service that has the outage.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::numbers::spread;
use crate::plan::{Phase, Plan};

/// Set by callers on the calls that the breaker lets through to look whether the service is back.
pub(crate) const PROBE_HEADER: &str = "x-probe";

/// A request that reached the service while it was down.
#[derive(Clone, Copy)]
pub(crate) struct Arrival {
    pub at: Instant,
    pub probe: bool,
}

pub(crate) struct Service {
    address: SocketAddr,
    phase: watch::Sender<Phase>,
    desk: Arc<Desk>,
    accepting: JoinHandle<()>,
}

struct Desk {
    plan: Plan,
    requests: AtomicU64,
    arrivals: Mutex<Vec<Arrival>>,
}

impl Service {
    pub(crate) async fn start(plan: &Plan) -> io::Result<Service> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (phase, watching) = watch::channel(Phase::Healthy);
        let desk = Arc::new(Desk { plan: *plan, requests: AtomicU64::new(0), arrivals: Mutex::new(Vec::new()) });
        let accepting = tokio::spawn(accept(listener, watching, Arc::clone(&desk)));
        Ok(Service { address, phase, desk, accepting })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.send_replace(phase);
    }

    pub(crate) fn arrivals_while_down(&self) -> Vec<Arrival> {
        self.desk.arrivals.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, phase: watch::Receiver<Phase>, desk: Arc<Desk>) {
    loop {
        // Out of file descriptors, say: the callers' timeouts report it better than a panic here.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let (phase, desk) = (phase.clone(), Arc::clone(&desk));
        tokio::spawn(async move {
            let answer = service_fn(|request| answer(request, phase.clone(), Arc::clone(&desk)));
            // A client that gives up closes the connection; to this service that is no news.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    mut phase: watch::Receiver<Phase>,
    desk: Arc<Desk>,
) -> Result<Response<String>, Infallible> {
    let current = *phase.borrow();
    if current == Phase::Down {
        let arrival = Arrival { at: Instant::now(), probe: request.headers().contains_key(PROBE_HEADER) };
        desk.arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(arrival);
    }
    let number = desk.requests.fetch_add(1, Ordering::Relaxed);
    tokio::time::sleep(spread(number, desk.plan.latency(current))).await;
    // Down is a process that stalls: it finishes nothing, not even what it had begun, and when
    // it resumes it answers whoever is still connected.
    let _ = phase.wait_for(|phase| *phase != Phase::Down).await;
    Ok(Response::new("at your service\n".to_owned()))
}
