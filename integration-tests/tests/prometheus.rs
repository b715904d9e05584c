//! The example `prometheus`, scraped by a real Prometheus: what it serves is clean, and every query of the dashboard and of
//! the alerts finds something there.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use reqwest::Url;
use serde_json::Value;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// How often it is scraped.
const INTERVAL: &str = "200ms";

/// How long everything may take, from the first scrape on. The example's outages come every 10 s.
const PATIENCE: Duration = Duration::from_secs(90);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// A program that ends with the test.
struct Running(Child);

impl Running {
    fn start(command: &mut Command) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let started = command.stdin(Stdio::null()).spawn();
        Ok(Self(started.map_err(|error| format!("cannot start {program}: {error}; apt-get install prometheus"))?))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// The example on a free port, and where its metrics are.
fn start_example() -> Result<(Running, Url)> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root()).args(["run", "--quiet", "--features", "metrics,registry", "--example", "prometheus"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    command.args(["--", "--listen", "127.0.0.1:0", "--seconds", "180"]).stdout(Stdio::piped());
    let mut example = Running::start(&mut command)?;
    let mut line = String::new();
    BufReader::new(example.0.stdout.take().ok_or("no output")?).read_line(&mut line)?;
    let at = line.trim().parse().map_err(|_| format!("the example says {line:?} instead of where it is"))?;
    Ok((example, at))
}

/// A Prometheus that scrapes `metrics`, and where its API is.
fn start_prometheus(metrics: &Url) -> Result<(Running, Url)> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("prometheus");
    _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder)?;
    let config = folder.join("prometheus.yml");
    let target = format!("{}:{}", metrics.host_str().ok_or("no host")?, metrics.port().ok_or("no port")?);
    let alerts = root().join("dashboards/alerts.yml");
    let text = format!(
        "global: {{ scrape_interval: {INTERVAL}, scrape_timeout: {INTERVAL}, evaluation_interval: 1s }}\n\
         rule_files: [{alerts:?}]\n\
         scrape_configs: [{{ job_name: example, static_configs: [{{ targets: ['{target}'] }}] }}]\n"
    );
    fs::write(&config, text)?;

    let free = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let mut command = Command::new("prometheus");
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
        .arg(format!("--web.listen-address={free}"))
        .arg("--log.level=error");
    Ok((Running::start(&mut command)?, format!("http://{free}/").parse()?))
}

/// Asks until the answer is one, or patience is over.
async fn until<T>(deadline: Instant, what: &str, mut ask: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() > deadline => return Err(format!("{what}: {error}").into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(250)).await,
        }
    }
}

async fn get(url: Url) -> Result<String> {
    let response = reqwest::get(url).await?;
    let status = response.status();
    let body = response.text().await?;
    if status.is_success() { Ok(body) } else { Err(format!("{status}: {body}").into()) }
}

struct Api {
    at: Url,
    begun: f64,
}

fn seconds_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

impl Api {
    async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value> {
        let mut url = self.at.join(path)?;
        url.query_pairs_mut().extend_pairs(parameters);
        let mut answer: Value = serde_json::from_str(&get(url).await?)?;
        Ok(answer["data"].take())
    }

    /// All that a query has given since the beginning: labels, and the values over time.
    async fn history(&self, query: &str) -> Result<Vec<(BTreeMap<String, String>, Vec<f64>)>> {
        let (start, end) = (self.begun.to_string(), seconds_now().to_string());
        let parameters = [("query", query), ("start", &start), ("end", &end), ("step", "0.2")];
        let data = self.ask("api/v1/query_range", &parameters).await.map_err(|error| format!("{query}: {error}"))?;
        let series = data["result"].as_array().ok_or("no result")?.iter().map(|series| {
            let labels = serde_json::from_value(series["metric"].clone())?;
            let values = series["values"].as_array().ok_or("no values")?.iter();
            let values = values.map(|value| Ok(value[1].as_str().ok_or("no value")?.parse()?));
            Ok((labels, values.collect::<Result<_>>()?))
        });
        series.collect()
    }

    /// The largest value of a query since the beginning, that is a number.
    async fn most(&self, query: &str) -> Result<f64> {
        let history = self.history(query).await?;
        let values = history.into_iter().flat_map(|(_, values)| values).filter(|value| !value.is_nan());
        values.reduce(f64::max).ok_or_else(|| format!("no data for {query}").into())
    }
}

/// Every query of the dashboard, its variables filled in.
fn dashboard_queries() -> Result<Vec<String>> {
    fn collect(value: &Value, queries: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                queries.extend(fields.get("expr").and_then(Value::as_str).map(ToOwned::to_owned));
                fields.values().for_each(|value| collect(value, queries));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, queries)),
            _ => {}
        }
    }
    let dashboard = serde_json::from_str(&fs::read_to_string(root().join("dashboards/grafana.json"))?)?;
    let mut queries = Vec::new();
    collect(&dashboard, &mut queries);
    let filled = queries
        .iter()
        .map(|query| query.replace("$name", ".*").replace("$__rate_interval", "2s").replace("$__range", "60s"));
    Ok(filled.collect())
}

/// promtool, with something to read; it must have nothing to say against it.
fn promtool(arguments: &[&str], input: &str) -> Result<()> {
    let mut command = Command::new("promtool");
    command.current_dir(root()).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let started = command.spawn();
    let mut running = started.map_err(|error| format!("cannot start promtool: {error}; apt-get install prometheus"))?;
    running.stdin.take().ok_or("no input")?.write_all(input.as_bytes())?;
    let output = running.wait_with_output()?;
    let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    let clean =
        output.status.success() && (arguments[0] == "test" || arguments[1] == "rules" || said.trim().is_empty());
    if clean { Ok(()) } else { Err(format!("promtool {}: {said}", arguments.join(" ")).into()) }
}

#[test]
fn the_alert_rules_are_clean_and_fire_when_they_should() -> Result<()> {
    promtool(&["check", "rules", "dashboards/alerts.yml"], "")?;
    promtool(&["test", "rules", "integration-tests/alerts_test.yml"], "")
}

#[tokio::test]
async fn a_real_prometheus_finds_all_that_dashboard_and_alerts_ask_for() -> Result<()> {
    let (_example, metrics) = start_example()?;
    let (_prometheus, at) = start_prometheus(&metrics)?;
    let api = Api { at, begun: seconds_now() };
    let deadline = Instant::now() + PATIENCE;
    until(deadline, "Prometheus is not ready", async || get(api.at.join("-/ready")?).await).await?;

    // Trips, probes that fail, recovery, rejections, and the hand.
    let of = |from: &str, to: &str, cause: &str| {
        format!("circuit_breaker_transitions_total{{from='{from}',to='{to}',cause='{cause}'}} > 0")
    };
    let happened = [
        of("closed", "open", "failure_rate"),
        of("closed", "open", "slow_call_rate"),
        of("open", "half_open", "wait_over"),
        of("half_open", "open", "probe_failed"),
        of("half_open", "closed", "probes_succeeded"),
        of("closed", "forced_open", "by_hand"),
        of("closed", "metrics_only", "by_hand"),
    ];
    let outcomes = ["success", "failure", "ignored", "cancelled", "rejected"];
    let outcomes = outcomes.map(|outcome| format!("circuit_breaker_calls_total{{outcome='{outcome}'}} > 0"));
    let dashboard = dashboard_queries()?;
    assert!(dashboard.len() >= 12, "{dashboard:?}");
    let rules = api.ask("api/v1/rules", &[]).await?;
    let rules = rules["groups"][0]["rules"].as_array().ok_or("no rules")?.clone();
    let alerts: Vec<_> = rules.iter().filter_map(|rule| rule["query"].as_str()).map(ToOwned::to_owned).collect();
    assert_eq!(alerts.len(), 7);
    for query in happened.iter().chain(&outcomes).chain(&dashboard).chain(&alerts) {
        until(deadline, "a query finds nothing", async || api.most(query).await).await?;
    }

    // The dashboard's variable.
    let names = api.ask("api/v1/label/name/values", &[("match[]", "circuit_breaker_state")]).await?;
    assert_eq!(names, serde_json::json!(["mail", "payments", "reports", "search"]));

    // Each is in one state at any time.
    assert_eq!(api.history("sum by (name) (circuit_breaker_state) != 1").await?, []);
    assert_eq!(api.most("count(circuit_breaker_state{name='search'})").await?, 6.0);
    // No call has come through to mail, so it has no rates; the others' are never NaN.
    let rates = "{__name__=~'circuit_breaker_(failure|slow_call)_rate'}";
    let rates = api.history(rates).await?;
    assert!(rates.iter().all(|(labels, _)| labels["name"] != "mail"));
    assert!(rates.iter().flat_map(|(_, values)| values).all(|rate| (0.0..=100.0).contains(rate)));
    // The histogram and the counter agree.
    let timed =
        "sum(circuit_breaker_call_duration_seconds_count) - sum(circuit_breaker_calls_total{outcome!='rejected'}) != 0";
    assert_eq!(api.history(timed).await?, []);

    let rules = api.ask("api/v1/rules", &[]).await?;
    let rules = rules["groups"][0]["rules"].as_array().ok_or("no rules")?;
    assert!(rules.iter().all(|rule| rule["health"] == "ok"), "{rules:?}");

    promtool(&["check", "metrics"], &get(metrics.clone()).await?)?;
    let health = get(metrics.join("/health")?).await?;
    assert!(health.starts_with("degraded: ") && health.contains("; mail forced_open since "), "{health}");
    Ok(())
}
