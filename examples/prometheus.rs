//! A service with failing dependencies, and what an operator sees of it: `/metrics` for Prometheus, `/health` for a
//! person.
//!
//! ```text
//! cargo run --release --features metrics,registry --example prometheus -- --seconds 600
//! curl http://127.0.0.1:9000/metrics
//! ```
//!
//! Each dependency is called 50 times a second behind a breaker of one registry. `payments` is down for 4 s of every 10 s,
//! `search` is slow in the other 6 s of them, `mail` is forced open for maintenance, `reports` is tried out as metrics-only.
//! dashboards/ has a Grafana dashboard and alert rules for what it shows.

use std::convert::Infallible;
use std::error::Error;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use failfast::metrics::{BUCKETS, CALL_DURATION, CallMetrics, Metrics};
use failfast::{Config, DefaultClock, Health, HeapBuckets, Outcome, Registry, TimeWindow};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::net::TcpListener;

const HELP: &str = "\
A service with failing dependencies, and its metrics for Prometheus.

Usage: cargo run --release --features metrics,registry --example prometheus -- [--listen ADDRESS] [--seconds N]

  --listen ADDRESS   where to serve /metrics and /health (default 127.0.0.1:9000; port 0 takes a free one)
  --seconds N        how long (default: until it is stopped)
";

type Breakers = Registry<TimeWindow<HeapBuckets>, DefaultClock, CallMetrics>;

/// What is served.
struct Operator {
    breakers: Arc<Breakers>,
    metrics: Metrics,
    prometheus: PrometheusHandle,
}

fn main() -> ExitCode {
    let (listen, seconds) = match parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            eprintln!("prometheus: {problem}");
            return ExitCode::from(2);
        }
    };
    let served =
        tokio::runtime::Runtime::new().map_err(Into::into).and_then(|tokio| tokio.block_on(serve(listen, seconds)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("prometheus: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Where to listen and how long; `None` asks for the help.
fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<(SocketAddr, Duration)>, String> {
    let (mut listen, mut seconds) = (SocketAddr::from(([127, 0, 0, 1], 9000)), Duration::MAX);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--help" | "-h" => return Ok(None),
            "--listen" => {
                let value = value()?;
                listen = value.parse().map_err(|_| format!("--listen is `{value}`: must be like 127.0.0.1:9000"))?;
            }
            "--seconds" => {
                let value = value()?;
                let legal = || format!("--seconds is `{value}`: must be a whole number from 1");
                let number = value.parse().ok().filter(|&number: &u64| number > 0).ok_or_else(legal)?;
                seconds = Duration::from_secs(number);
            }
            other => return Err(format!("unknown argument `{other}`: legal are --listen, --seconds and --help")),
        }
    }
    Ok(Some((listen, seconds)))
}

async fn serve(listen: SocketAddr, seconds: Duration) -> Result<(), Box<dyn Error>> {
    let prometheus = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(CALL_DURATION.into()), &BUCKETS)?
        .install_recorder()?;

    let metrics = Metrics::new();
    let policy = TimeWindow::over(Duration::from_secs(2), 4).min_calls(10).failure_rate(50.0);
    let breakers = Registry::builder()
        .default_policy(policy.slow_calls(Duration::from_millis(50), 50.0))
        .default_config(Config::new().open_for(Duration::from_secs(1)))
        .observer(metrics.observers())
        .build()?;
    let breakers = Arc::new(breakers);
    metrics.watch(breakers.clone());

    for name in ["payments", "search", "mail", "reports"] {
        tokio::spawn(use_it(name, breakers.clone()));
    }

    let listener = TcpListener::bind(listen).await?;
    println!("http://{}/metrics", listener.local_addr()?);
    let operator = Arc::new(Operator { breakers, metrics, prometheus });
    _ = tokio::time::timeout(seconds, accept(listener, operator)).await;
    Ok(())
}

/// Calls a dependency for ever.
async fn use_it(name: &'static str, breakers: Arc<Breakers>) {
    let breaker = breakers.get(name);
    match breaker.breaker() {
        Some(breaker) if name == "mail" => breaker.force_open(),
        Some(breaker) if name == "reports" => breaker.metrics_only(),
        _ => {}
    }
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(20));
    loop {
        ticks.tick().await;
        let breaker = breaker.clone();
        tokio::spawn(async move {
            let call = breaker.call_async_with(classify, || dependency(name, begun.elapsed()));
            // Who calls gives up in time; a call that is cut off is a cancelled one.
            _ = tokio::time::timeout(Duration::from_millis(200), call).await;
        });
    }
}

fn classify(result: &Result<(), StatusCode>) -> Outcome {
    match result {
        Err(status) if status.is_client_error() => Outcome::Ignored,
        other => Outcome::of(other),
    }
}

/// A dependency's answer, so long after it all began.
async fn dependency(name: &str, at: Duration) -> Result<(), StatusCode> {
    let down = at.as_millis() % 10_000 > 6_000;
    let millis = at.subsec_millis() as u64;
    let latency = if name == "search" && !down { 60 } else { 1 + millis % 17 };
    tokio::time::sleep(Duration::from_millis(latency)).await;
    match millis {
        _ if down && (name == "payments" || name == "reports") => Err(StatusCode::INTERNAL_SERVER_ERROR),
        0..20 => std::future::pending().await,
        20..60 => Err(StatusCode::NOT_FOUND),
        _ => Ok(()),
    }
}

async fn accept(listener: TcpListener, operator: Arc<Operator>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let operator = operator.clone();
        tokio::spawn(async move {
            let answer = service_fn(|request| {
                let response = operator.answer(&request);
                async { Ok::<_, Infallible>(response) }
            });
            _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

impl Operator {
    fn answer(&self, request: &Request<Incoming>) -> Response<String> {
        let mut response = Response::new(match request.uri().path() {
            "/metrics" => self.metrics(),
            // Degraded is not dead: the status stays 200.
            "/health" => format!("{}\n", Health::of(&self.breakers)),
            _ => "try /metrics or /health\n".to_owned(),
        });
        if !matches!(request.uri().path(), "/metrics" | "/health") {
            *response.status_mut() = StatusCode::NOT_FOUND;
        }
        response
    }

    fn metrics(&self) -> String {
        self.metrics.collect();
        let text = self.prometheus.render();
        // A rate that is not known is absent.
        text.split_inclusive('\n').filter(|line| !line.ends_with(" NaN\n")).collect()
    }
}
