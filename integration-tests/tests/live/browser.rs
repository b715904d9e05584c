//! Headless Chromium, by its driver: the few commands of W3C WebDriver that the tests need.

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout};

/// For what a browser does on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// As WebDriver writes keys that are no characters.
pub(crate) const TAB: &str = "\u{e004}";
pub(crate) const ENTER: &str = "\u{e007}";
pub(crate) const ESCAPE: &str = "\u{e00c}";

/// Runs a test in a new browser, and ends the browser whatever became of the test.
pub(crate) async fn with_browser<F>(arguments: &[&str], test: impl FnOnce(Page) -> F)
where
    F: Future<Output = ()> + 'static,
{
    let (mut driver, url) = start_driver().await;
    let profile = profile();
    let page = Page::start(&url, arguments, &profile).await;
    // In a task of its own, so that a panic comes back as an error.
    let tasks = LocalSet::new();
    let task = tasks.spawn_local(test(page.clone()));
    let result = timeout(2 * PATIENCE, tasks.run_until(task)).await;
    let ended = timeout(PATIENCE, page.command(Method::DELETE, "", json!({}))).await;
    _ = driver.kill().await;
    _ = std::fs::remove_dir_all(&profile);
    match result {
        Ok(Ok(())) => ended.map(drop).expect("Chromium ends"),
        Ok(Err(failed)) => std::panic::resume_unwind(failed.into_panic()),
        Err(_) => panic!("the test took longer than {:?}", 2 * PATIENCE),
    }
}

async fn start_driver() -> (Child, String) {
    let mut command = Command::new("chromedriver");
    command.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut driver = command.spawn().expect("chromedriver: install Debian's chromium and chromium-driver");
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let started = timeout(PATIENCE, async {
        loop {
            let line = lines.next_line().await.unwrap().expect("chromedriver ended");
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                break format!("http://127.0.0.1:{}", port.trim_end_matches('.'));
            }
        }
    });
    let url = started.await.expect("chromedriver says that it has started");
    // What it says later goes nowhere, and must not block it.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    (driver, url)
}

fn profile() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("browser-{}-{}", std::process::id(), NUMBER.fetch_add(1, Relaxed));
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// What the browser shows.
#[derive(Clone)]
pub(crate) struct Page {
    client: Client,
    session: String,
}

impl Page {
    async fn start(driver: &str, arguments: &[&str], profile: &Path) -> Self {
        let profile = format!("--user-data-dir={}", profile.display());
        let usual = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            &profile,
        ];
        let arguments = [&usual, arguments].concat();
        let wanted = json!({ "capabilities": { "alwaysMatch": { "goog:chromeOptions": { "args": arguments } } } });
        let mut page = Self { client: Client::new(), session: format!("{driver}/session") };
        let started = timeout(2 * PATIENCE, page.command(Method::POST, "", wanted)).await.expect("Chromium starts");
        let id = started["sessionId"].as_str().unwrap();
        page.session = format!("{}/{id}", page.session);
        page
    }

    async fn command(&self, method: Method, path: &str, body: Value) -> Value {
        let request = self.client.request(method.clone(), format!("{}{path}", self.session));
        // What is only read has no body.
        let request = if method == Method::POST { request.body(body.to_string()) } else { request };
        let response = request.send().await.unwrap();
        let (status, text) = (response.status(), response.text().await.unwrap());
        assert!(status.is_success(), "{method} {path}: {text}");
        serde_json::from_str::<Value>(&text).unwrap()["value"].take()
    }

    pub(crate) async fn open(&self, url: &str) {
        self.command(Method::POST, "/url", json!({ "url": url })).await;
        self.until("live", async || self.text("#connection").await).await;
    }

    pub(crate) async fn click(&self, selector: &str) {
        let by = json!({ "using": "css selector", "value": selector });
        let found = self.command(Method::POST, "/element", by).await;
        self.command(Method::POST, &format!("{}/click", path_of(&found)), json!({})).await;
    }

    /// To what has the focus.
    pub(crate) async fn type_key(&self, key: &str) {
        let focused = self.command(Method::GET, "/element/active", Value::Null).await;
        self.command(Method::POST, &format!("{}/value", path_of(&focused)), json!({ "text": key })).await;
    }

    pub(crate) async fn resize(&self, width: u32, height: u32) {
        self.command(Method::POST, "/window/rect", json!({ "width": width, "height": height })).await;
    }

    /// Of a script with `card`, which finds a breaker's card by its name.
    pub(crate) async fn ask(&self, script: &str) -> Value {
        let card = "const card = (name) => [...document.querySelectorAll('.card')]\
                    .find((card) => card.dataset.name === name);";
        self.command(Method::POST, "/execute/sync", json!({ "script": format!("{card} {script}"), "args": [] })).await
    }

    pub(crate) async fn text(&self, selector: &str) -> String {
        let text = self.ask(&format!("return document.querySelector({selector:?})?.innerText ?? null")).await;
        text.as_str().unwrap_or("(not there)").trim().to_owned()
    }

    /// Of an element in a breaker's card.
    pub(crate) async fn card(&self, name: &str, selector: &str) -> String {
        let text = self.ask(&format!("return card({name:?})?.querySelector({selector:?})?.innerText ?? null")).await;
        text.as_str().unwrap_or("(not there)").trim().to_owned()
    }

    /// Waits until it shows what is expected.
    pub(crate) async fn until<T: PartialEq<U> + Debug, U: Debug + ?Sized>(
        &self,
        expected: &U,
        shown: impl AsyncFn() -> T,
    ) {
        let end = Instant::now() + PATIENCE;
        loop {
            let now = shown().await;
            if now == *expected {
                return;
            }
            assert!(Instant::now() < end, "{now:?} is shown after {PATIENCE:?}, and not {expected:?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// For people to look at: `target/live/<name>.png`.
    pub(crate) async fn picture(&self, name: &str) {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).with_file_name("live");
        std::fs::create_dir_all(&folder).unwrap();
        let picture = self.command(Method::GET, "/screenshot", Value::Null).await;
        let picture = BASE64_STANDARD.decode(picture.as_str().unwrap()).unwrap();
        std::fs::write(folder.join(name).with_extension("png"), picture).unwrap();
    }
}

/// Of an element that a command has answered with; WebDriver's name for it is a constant.
fn path_of(element: &Value) -> String {
    format!("/element/{}", element["element-6066-11e4-a52e-4f735466cecf"].as_str().unwrap())
}
