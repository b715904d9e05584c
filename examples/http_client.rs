//! A client whose one host is restarted: `cargo run --features http --example http_client`. With URLs as arguments it calls
//! those, once a second, until it is stopped.
//!
//! ```console
//! http://127.0.0.1:38617/ 200 OK
//! http://127.0.0.1:38617/ 503 Service Unavailable
//! http://127.0.0.1:38617/ not sent: http://127.0.0.1:38617 not called: circuit open; retry in 1.0 s
//! http://127.0.0.1:38617/ 200 OK
//! http://127.0.0.1:38617: closed since 1.5 s: 0 calls failed in a row
//! ```

use std::convert::Infallible;
use std::error::Error as StdError;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use failfast::http::{Client, Error};
use failfast::{Config, Registry};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

fn main() -> Result<(), Box<dyn StdError>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let urls: Vec<String> = std::env::args().skip(1).collect();
        if urls.is_empty() {
            restart().await
        } else {
            let http = Client::new(reqwest::Client::new());
            loop {
                for url in &urls {
                    println!("{url} {}", get(&http, url).await);
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    })
}

async fn get(http: &Client, url: &str) -> String {
    match http.get(url).send().await {
        Ok(response) => response.status().to_string(),
        Err(Error::Rejected(rejection)) => format!("not sent: {rejection}"),
        Err(error) => format!("failed: {error}"),
    }
}

/// Calls a service that is away for half a second, and asks for another second of peace.
async fn restart() -> Result<(), Box<dyn StdError>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let url = format!("http://{}/", listener.local_addr()?);
    let start = Instant::now();
    tokio::spawn(serve(listener, start));

    let config = Config::new().open_for(Duration::from_millis(200)).max_open(Duration::from_secs(60));
    let breakers = Registry::builder().default_config(config).build()?;
    let http = Client::builder(reqwest::Client::new()).breakers(breakers).build()?;
    let mut last = String::new();
    while start.elapsed() < Duration::from_secs(3) {
        let answer = get(&http, &url).await;
        let kind = answer.split(';').next().unwrap_or_default();
        if kind != last {
            println!("{url} {answer}");
            last = kind.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (host, snapshot) in http.breakers().snapshot() {
        println!("{host}: {snapshot}");
    }
    Ok(())
}

async fn serve(listener: TcpListener, start: Instant) {
    while let Ok((stream, _)) = listener.accept().await {
        let answer = service_fn(move |_: Request<Incoming>| async move {
            let away = (500..1000).contains(&start.elapsed().as_millis());
            let response = if away {
                Response::builder().status(503).header("retry-after", "1").body(String::new())
            } else {
                Response::builder().body("a quote".to_owned())
            };
            Ok::<_, Infallible>(response.unwrap_or_default())
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}
