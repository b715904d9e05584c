//! Whom the server refuses.

use failfast::State;
use reqwest::header::{CONTENT_TYPE, HOST, ORIGIN};
use reqwest::{Client, Method, StatusCode};

use crate::site::Site;

const OPEN: &str = r#"{"breaker": "payments", "action": "force_open"}"#;

/// Sends a control with these headers instead of the page's own.
async fn control(site: &Site, body: &str, headers: &[(reqwest::header::HeaderName, &str)]) -> (StatusCode, String) {
    let mut request = Client::new().post(site.url() + "control").body(body.to_owned());
    if !headers.iter().any(|(name, _)| name == CONTENT_TYPE) {
        request = request.header(CONTENT_TYPE, "application/json");
    }
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    let response = request.send().await.unwrap();
    (response.status(), response.text().await.unwrap())
}

#[tokio::test]
async fn a_read_only_page_changes_nothing() {
    let site = Site::start(&["payments"], false).await;
    let own = format!("http://{}", site.address);
    let (status, why) = control(&site, OPEN, &[(ORIGIN, &own)]).await;
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(why, "read-only: it was started without --writable");
    assert_eq!(site.state("payments"), State::Closed);
}

#[tokio::test]
async fn other_sites_pages_change_nothing() {
    let site = Site::start(&["payments"], true).await;
    let port = site.address.port();
    let (other_port, no_port) = (format!("http://127.0.0.1:{}", port ^ 1), "http://127.0.0.1");
    for origin in ["http://evil.example", "null", "", other_port.as_str(), no_port] {
        assert_eq!(control(&site, OPEN, &[(ORIGIN, origin)]).await.0, StatusCode::FORBIDDEN, "{origin}");
    }
    // The kinds that a form can send to anybody.
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""] {
        assert_eq!(control(&site, OPEN, &[(CONTENT_TYPE, kind)]).await.0, StatusCode::FORBIDDEN, "{kind}");
    }
    // A browser asks first whether another origin may send JSON, and is not told that it may.
    let asked = Client::new().request(Method::OPTIONS, site.url() + "control").send().await.unwrap();
    assert_eq!(asked.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert!(!asked.headers().keys().any(|name| name.as_str().starts_with("access-control-")));
    assert_eq!(site.state("payments"), State::Closed);
}

#[tokio::test]
async fn a_foreign_name_that_points_here_sees_nothing() {
    let site = Site::start(&["payments"], true).await;
    let port = site.address.port();
    let foreign = format!("evil.example:{port}");
    let beside = format!("127.0.0.1:{}", port ^ 1);
    for host in [foreign.as_str(), &beside, "127.0.0.1", "localhost.evil.example", "", "127.0.0.1:x"] {
        for path in ["", "events", "page.js"] {
            let request = Client::new().get(site.url() + path).header(HOST, host);
            let status = request.send().await.unwrap().status();
            assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "{host} {path}");
        }
        let own = format!("http://{host}");
        assert_eq!(control(&site, OPEN, &[(HOST, host), (ORIGIN, &own)]).await.0, StatusCode::MISDIRECTED_REQUEST);
    }
    assert_eq!(site.state("payments"), State::Closed);

    let localhost = format!("localhost:{port}");
    let own = format!("http://{localhost}");
    assert_eq!(
        control(&site, OPEN, &[(HOST, &localhost), (ORIGIN, &own)]).await,
        (StatusCode::OK, "forced_open".into())
    );
    assert_eq!(site.state("payments"), State::ForcedOpen);
}

#[tokio::test]
async fn what_makes_no_sense_is_said_to() {
    let site = Site::start(&["payments"], true).await;
    for (body, status, why) in [
        ("", StatusCode::BAD_REQUEST, "EOF while parsing a value at line 1 column 0"),
        (
            r#"{"breaker": "payments", "action": "explode"}"#,
            StatusCode::BAD_REQUEST,
            "unknown variant `explode`, expected one of `open`, `half_open`, `close`, `reset`, `force_open`, `disable`, \
             `metrics_only` at line 1 column 43",
        ),
        (
            r#"{"breaker": "search", "action": "open"}"#,
            StatusCode::NOT_FOUND,
            "there is no breaker \"search\" (any more)",
        ),
        (
            r#"{"breaker": "payments", "action": "half_open"}"#,
            StatusCode::CONFLICT,
            "cannot half-open a closed breaker: it must be open",
        ),
    ] {
        assert_eq!(control(&site, body, &[]).await, (status, why.to_owned()));
    }
    assert_eq!(control(&site, &" ".repeat(65 * 1024), &[]).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let put = Client::new().put(site.url()).send().await.unwrap();
    assert_eq!((put.status(), &put.headers()["allow"]), (StatusCode::METHOD_NOT_ALLOWED, &"GET".parse().unwrap()));
    assert_eq!(Client::new().get(site.url() + "else").send().await.unwrap().status(), StatusCode::NOT_FOUND);
    assert_eq!(site.state("payments"), State::Closed);
}
