//! The page's server: the page, its updates, and controls where it is writable.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::control::{Control, Refused};
use crate::events::{Events, Viewers};
use crate::guard;
use crate::view::{Breakers, View};

/// Nothing but this server's own files, in nobody's frame: a name that got past the page's escaping could do nothing.
const POLICY: &str = "default-src 'none'; connect-src 'self'; script-src 'self'; style-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const LONGEST_CONTROL: usize = 64 * 1024;

pub(crate) struct Live {
    breakers: Arc<Breakers>,
    writable: bool,
    viewers: Viewers,
}

type Reply = Response<Either<Full<Bytes>, Events>>;

impl Live {
    pub(crate) fn new(breakers: Arc<Breakers>, writable: bool) -> Arc<Self> {
        Arc::new(Self { breakers, writable, viewers: Viewers::default() })
    }
}

/// Serves until it is dropped, and every connection with it.
pub(crate) async fn serve(listener: TcpListener, live: Arc<Live>) -> std::io::Result<()> {
    let port = listener.local_addr()?.port();
    let mut tasks = JoinSet::new();
    let updated = live.clone();
    tasks.spawn(async move {
        let view = || View::of(&updated.breakers, updated.writable);
        updated.viewers.keep_updated(view).await;
    });
    loop {
        while tasks.try_join_next().is_some() {}
        // Out of file descriptors, say: that passes.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let live = live.clone();
        tasks.spawn(async move {
            let answer = service_fn(|request| {
                let live = live.clone();
                async move { Ok::<_, Infallible>(with_headers(answer(request, &live, port).await)) }
            });
            // A page that was closed ends its connection; that is no news.
            _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

async fn answer(request: Request<Incoming>, live: &Live, port: u16) -> Reply {
    if !guard::is_own_host(request.headers(), port) {
        return refusal(StatusCode::MISDIRECTED_REQUEST, "this host is not served here");
    }
    let file = |kind, text: &'static str| reply(StatusCode::OK, kind, Either::Left(Full::from(text)));
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/") => file("text/html; charset=utf-8", include_str!("page.html")),
        (&Method::GET, "/page.css") => file("text/css; charset=utf-8", include_str!("page.css")),
        (&Method::GET, "/page.js") => file("text/javascript; charset=utf-8", include_str!("page.js")),
        (&Method::GET, "/events") => reply(StatusCode::OK, "text/event-stream", Either::Right(live.viewers.join())),
        (&Method::POST, "/control") => control(request, live).await,
        (_, "/" | "/page.css" | "/page.js" | "/events") => not_allowed("GET"),
        (_, "/control") => not_allowed("POST"),
        _ => refusal(StatusCode::NOT_FOUND, "there is no such page"),
    }
}

async fn control(request: Request<Incoming>, live: &Live) -> Reply {
    if !live.writable {
        return refusal(StatusCode::FORBIDDEN, "read-only: it was started without --writable");
    }
    if !guard::is_own_page(request.headers()) {
        return refusal(
            StatusCode::FORBIDDEN,
            "controls come from this page, or from no page at all, as application/json",
        );
    }
    let Ok(body) = Limited::new(request.into_body(), LONGEST_CONTROL).collect().await else {
        return refusal(StatusCode::PAYLOAD_TOO_LARGE, "a control is at most 64 KiB long");
    };
    let control: Control = match serde_json::from_slice(&body.to_bytes()) {
        Ok(control) => control,
        Err(error) => return refusal(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match control.apply(&live.breakers) {
        Ok(state) => {
            live.viewers.update();
            reply(StatusCode::OK, "text/plain; charset=utf-8", Either::Left(Full::from(state.as_str())))
        }
        Err(Refused::NoSuchBreaker(name)) => {
            refusal(StatusCode::NOT_FOUND, &format!("there is no breaker \"{name}\" (any more)"))
        }
        Err(Refused::Illegal(error)) => refusal(StatusCode::CONFLICT, &error.to_string()),
    }
}

fn refusal(status: StatusCode, why: &str) -> Reply {
    reply(status, "text/plain; charset=utf-8", Either::Left(Full::from(why.to_owned())))
}

fn not_allowed(allowed: &'static str) -> Reply {
    let mut reply = refusal(StatusCode::METHOD_NOT_ALLOWED, &format!("only {allowed}"));
    reply.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    reply
}

fn reply(status: StatusCode, kind: &'static str, body: Either<Full<Bytes>, Events>) -> Reply {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

fn with_headers(mut reply: Reply) -> Reply {
    let headers = reply.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}
