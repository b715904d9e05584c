//! The example itself, as its reader runs it.

use std::process::Stdio;
use std::time::Duration;

use reqwest::StatusCode;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::browser::with_browser;

/// For cargo, which builds what has not been built.
const PATIENCE: Duration = Duration::from_secs(300);

fn cargo(what: &str) -> Command {
    let mut command = Command::new(env!("CARGO"));
    command.args([what, "--quiet", "--example", "live", "--features", "registry"]);
    command.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).stdout(Stdio::piped()).kill_on_drop(true);
    command
}

/// Starts it on a free port, and gives the address that it prints.
async fn start(arguments: &[&str]) -> (Child, String) {
    let mut example = cargo("run").args(["--", "--port", "0"]).args(arguments).spawn().unwrap();
    let mut lines = BufReader::new(example.stdout.take().unwrap()).lines();
    let line = timeout(PATIENCE, lines.next_line()).await.expect("it prints its address").unwrap().unwrap();
    let url = line.split_whitespace().next().unwrap().to_owned();
    (example, url)
}

#[tokio::test]
async fn it_shows_an_outage_and_ends_when_it_was_asked_to() {
    // Before the browser's time begins.
    assert!(timeout(PATIENCE, cargo("build").status()).await.unwrap().unwrap().success());
    with_browser(&[], async move |page| {
        let (mut example, url) = start(&["--seconds", "25"]).await;
        page.open(&url).await;
        for name in ["checkout", "mailer", "quotes", "search", "stock", "users"] {
            page.until(name, async || page.card(name, "h2").await).await;
        }
        page.until("open", async || page.card("checkout", ".badge").await).await;
        assert_eq!(page.card("users", ".badge").await, "closed");
        assert_eq!(page.card("mailer", ".badge").await, "metrics only");

        assert_eq!(page.ask("return document.querySelectorAll('.card button').length").await, 0);
        let request = reqwest::Client::new().post(url + "control").header("content-type", "application/json");
        let refused = request.body(r#"{"breaker": "users", "action": "open"}"#).send().await.unwrap();
        assert_eq!(refused.status(), StatusCode::FORBIDDEN);

        page.until("disconnected", async || page.text("#connection").await).await;
        assert!(timeout(PATIENCE, example.wait()).await.unwrap().unwrap().success());
    })
    .await;
}

#[tokio::test]
async fn a_bad_argument_is_named_with_what_is_legal() {
    for (arguments, why) in [
        (&["--port", "65536"][..], "live: --port is `65536`: must be a whole number from 0 to 65535\n"),
        (&["--seconds"], "live: --seconds needs a value: a number from 1 to 86400\n"),
        (&["--write"], "live: unknown argument `--write`: legal are --port N, --writable, --seconds N and --help\n"),
    ] {
        let ended = cargo("run").arg("--").args(arguments).stderr(Stdio::piped()).output();
        let ended = timeout(PATIENCE, ended).await.unwrap().unwrap();
        assert_eq!((ended.status.code(), String::from_utf8(ended.stderr).unwrap().as_str()), (Some(2), why));
    }
}
