//! Replays the contract's cases, `scenarios.json` and `traces.json`, through the public API, as a service would that
//! has its policies in a file: each case by permit, by `call` and by `call_async`, on storage sized at run time and,
//! where the shape exists, inline.
//!
//! `FAILFAST_SCENARIOS=<file>` replays another file of the same form.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::Duration;

use failfast::{
    CallError, CircuitBreaker, ConfigError, Consecutive, CountWindow, IntoPolicy, LastCalls, LastTime, ManualClock,
    Observer, OnMaxWait, Outcome, Permit, Policy, Rejected, Rule, Settled, SettledCall, Snapshot, Spec, State,
    TimeWindow, Transition, Window, WouldTrip,
};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    id: String,
    #[serde(rename = "source")]
    _source: String,
    #[serde(rename = "note", default)]
    _note: Option<String>,
    policy: PolicyForm,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyForm {
    trip: Vec<TripForm>,
    open: OpenForm,
    half_open: HalfOpenForm,
    initial_state: Option<String>,
    listener: Option<String>,
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum TripForm {
    Consecutive {
        failures: u32,
    },
    Window {
        over: OverForm,
        min_calls: Option<u32>,
        failures: Option<u32>,
        failure_rate_pct: Option<f64>,
        slow_call_ms: Option<u64>,
        slow_rate_pct: Option<f64>,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OverForm {
    Calls { calls: u32 },
    Time { millis: u64, buckets: u32 },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OpenForm {
    base_ms: u64,
    multiplier: Option<f64>,
    max_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HalfOpenForm {
    probes: u32,
    successes: u32,
    max_wait_ms: Option<u64>,
    on_max_wait: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    op: String,
    #[serde(default)]
    arg: Value,
    #[serde(default)]
    expect: HashMap<String, Value>,
    #[serde(rename = "note", default)]
    _note: Option<String>,
}

/// The ways in which a whole call can be made.
#[derive(Clone, Copy, Debug)]
enum Way {
    Permit,
    Call,
    CallAsync,
}

impl Case {
    fn run(&self, way: Way, inline: bool) -> Option<Result<(), String>> {
        let trip = &self.policy.trip;
        if !inline {
            let rules: Vec<Rule> = trip.iter().map(TripForm::rule).collect();
            return Some(self.run_on(rules, way));
        }
        Some(match &trip[..] {
            [TripForm::Consecutive { failures }] => self.run_on(Consecutive::new(*failures), way),
            [window] => return self.run_inline(window, way),
            [TripForm::Consecutive { failures }, window] => {
                let first = Consecutive::new(*failures);
                return self.run_inline_after(first, window, way);
            }
            _ => return None,
        })
    }

    fn run_inline_after(&self, first: Spec<Consecutive>, window: &TripForm, way: Way) -> Option<Result<(), String>> {
        macro_rules! inline {
            ($($calls:literal),*; $($buckets:literal),*) => {
                match window.over()? {
                    $(OverForm::Calls { calls: $calls } => self.run_on((first, window.set(LastCalls::<$calls>::new())), way),)*
                    $(OverForm::Time { millis, buckets: $buckets } => {
                        let length = Duration::from_millis(*millis);
                        self.run_on((first, window.set(LastTime::<$buckets>::new(length))), way)
                    })*
                    _ => return None,
                }
            };
        }
        Some(inline!(1, 5, 10, 20, 64, 65, 100, 128; 1, 2, 5, 10, 12))
    }

    fn run_inline(&self, window: &TripForm, way: Way) -> Option<Result<(), String>> {
        macro_rules! inline {
            ($($calls:literal),*; $($buckets:literal),*) => {
                match window.over()? {
                    $(OverForm::Calls { calls: $calls } => self.run_on(window.set(LastCalls::<$calls>::new()), way),)*
                    $(OverForm::Time { millis, buckets: $buckets } => {
                        let length = Duration::from_millis(*millis);
                        self.run_on(window.set(LastTime::<$buckets, 2>::new(length)), way)
                    })*
                    _ => return None,
                }
            };
        }
        Some(inline!(1, 2, 3, 5, 10, 20, 63, 64, 65, 100, 128, 200, 1000000; 1, 2, 4, 5, 10, 12, 20, 60))
    }

    fn run_on<I>(&self, policy: I, way: Way) -> Result<(), String>
    where
        I: IntoPolicy,
        I::Policy: 'static,
    {
        let clock = Arc::new(ManualClock::new());
        let events = Arc::new(Events::default());
        let listener =
            Listener { kind: self.policy.listener.clone(), events: events.clone(), breaker: Arc::new(OnceLock::new()) };
        let itself = listener.breaker.clone();
        let breaker = match self.policy.build(policy, clock.clone(), listener) {
            Ok(breaker) => Arc::new(breaker),
            Err(error) if self.steps.iter().any(|step| step.expect.contains_key("build_error")) => {
                let expected = self.steps[0].expect["build_error"] == Value::Bool(true);
                return if expected { Ok(()) } else { Err(format!("step 0: unexpected build error: {error}")) };
            }
            Err(error) => return Err(format!("does not build: {error}")),
        };
        let weak: Weak<dyn Reenter> = Arc::downgrade(&(breaker.clone() as Arc<dyn Reenter>));
        _ = itself.set(weak);
        let mut run = Run { breaker, clock, events, way, permits: HashMap::new(), last: Seen::default() };
        for (index, step) in self.steps.iter().enumerate() {
            run.last = Seen::default();
            run.step(step).map_err(|error| format!("step {index} ({}): {error}", step.op))?;
            let wrong = run.compare(step);
            if !wrong.is_empty() {
                return Err(format!("step {index} ({}): {wrong}", step.op));
            }
        }
        Ok(())
    }
}

impl TripForm {
    fn over(&self) -> Option<&OverForm> {
        match self {
            Self::Consecutive { .. } => None,
            Self::Window { over, .. } => Some(over),
        }
    }

    fn rule(&self) -> Rule {
        match self {
            Self::Consecutive { failures } => Consecutive::new(*failures).into(),
            Self::Window { over: OverForm::Calls { calls }, .. } => self.set(CountWindow::over(*calls)).into(),
            Self::Window { over: OverForm::Time { millis, buckets }, .. } => {
                self.set(TimeWindow::over(Duration::from_millis(*millis), *buckets).stripes(3)).into()
            }
        }
    }

    fn set<P: Window>(&self, mut spec: Spec<P>) -> Spec<P> {
        if let Self::Window { min_calls, failures, failure_rate_pct, slow_call_ms, slow_rate_pct, .. } = self {
            spec = spec.min_calls(min_calls.unwrap_or(1));
            if let Some(failures) = failures {
                spec = spec.failures(*failures);
            }
            if let Some(percent) = failure_rate_pct {
                spec = spec.failure_rate(*percent);
            }
            if let Some(millis) = slow_call_ms {
                spec = spec.slow_call_limit(Duration::from_millis(*millis));
            }
            if let Some(percent) = slow_rate_pct {
                spec = spec.slow_call_rate(*percent);
            }
        }
        spec
    }
}

type Built<P> = CircuitBreaker<P, Arc<ManualClock>, Listener>;

impl PolicyForm {
    fn build<I: IntoPolicy>(
        &self,
        policy: I,
        clock: Arc<ManualClock>,
        listener: Listener,
    ) -> Result<Built<I::Policy>, ConfigError> {
        let mut builder = CircuitBreaker::builder()
            .policy(policy)
            .clock(clock)
            .observer(listener)
            .open_for(Duration::from_millis(self.open.base_ms))
            .backoff(self.open.multiplier.unwrap_or(1.0))
            .probes(self.half_open.probes)
            .successes(self.half_open.successes);
        if let Some(max) = self.open.max_ms {
            builder = builder.max_open(Duration::from_millis(max));
        }
        if let Some(wait) = self.half_open.max_wait_ms {
            builder = builder.max_wait(Duration::from_millis(wait));
        }
        if let Some(what) = &self.half_open.on_max_wait {
            builder = builder.on_max_wait(match what.as_str() {
                "renew" => OnMaxWait::Renew,
                "open" => OnMaxWait::Open,
                "closed" => OnMaxWait::Close,
                other => panic!("unknown on_max_wait {other}"),
            });
        }
        if let Some(state) = &self.initial_state {
            builder = builder.initial_state(match state.as_str() {
                "closed" => State::Closed,
                "open" => State::Open,
                "forced_open" => State::ForcedOpen,
                "disabled" => State::Disabled,
                "metrics_only" => State::MetricsOnly,
                other => panic!("unknown initial_state {other}"),
            });
        }
        builder.build()
    }
}

/// How often each event was seen.
#[derive(Default)]
struct Events {
    state_transition: AtomicU64,
    opened: AtomicU64,
    half_opened: AtomicU64,
    closed: AtomicU64,
    would_trip: AtomicU64,
    ignored: AtomicU64,
}

impl Events {
    fn get(&self, name: &str) -> u64 {
        let event = match name {
            "state_transition" => &self.state_transition,
            "opened" => &self.opened,
            "half_opened" => &self.half_opened,
            "closed" => &self.closed,
            "would_trip" => &self.would_trip,
            "ignored" => &self.ignored,
            other => panic!("unknown event {other}"),
        };
        event.load(SeqCst)
    }
}

/// The listener calls the breaker that it listens to, whatever its policy.
trait Reenter: Send + Sync {
    fn reenter(&self);
}

impl<P: Policy> Reenter for Built<P> {
    fn reenter(&self) {
        _ = (self.state(), self.snapshot());
        drop(self.try_acquire());
    }
}

struct Listener {
    kind: Option<String>,
    events: Arc<Events>,
    breaker: Arc<OnceLock<Weak<dyn Reenter>>>,
}

impl Listener {
    fn act(&self) {
        match self.kind.as_deref() {
            None => {}
            Some("reenters") => {
                if let Some(breaker) = self.breaker.get().and_then(Weak::upgrade) {
                    breaker.reenter();
                }
            }
            Some("panics") => panic!("a listener's panic"),
            Some(other) => panic!("unknown listener {other}"),
        }
    }
}

impl Observer for Listener {
    fn on_transition(&self, transition: &Transition) {
        self.events.state_transition.fetch_add(1, SeqCst);
        match transition.to() {
            State::Open => _ = self.events.opened.fetch_add(1, SeqCst),
            State::HalfOpen => _ = self.events.half_opened.fetch_add(1, SeqCst),
            State::Closed => _ = self.events.closed.fetch_add(1, SeqCst),
            _ => {}
        }
        self.act();
    }

    fn on_outcome(&self, call: &SettledCall) {
        if call.settled() == Settled::With(Outcome::Ignored) {
            self.events.ignored.fetch_add(1, SeqCst);
        }
    }

    fn on_would_trip(&self, _: &WouldTrip) {
        self.events.would_trip.fetch_add(1, SeqCst);
        self.act();
    }
}

/// What the last step showed.
#[derive(Default)]
struct Seen {
    permitted: Option<bool>,
    permitted_total: Option<u64>,
    rejected: Option<Rejected>,
    error: Option<&'static str>,
}

struct Run<P: Policy> {
    breaker: Arc<Built<P>>,
    clock: Arc<ManualClock>,
    events: Arc<Events>,
    way: Way,
    permits: HashMap<String, Option<Permit<Arc<Built<P>>>>>,
    last: Seen,
}

impl<P: Policy + 'static> Run<P> {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        let arg = &step.arg;
        let id = arg.get("id").and_then(Value::as_str).map(str::to_owned);
        match step.op.as_str() {
            "success" | "failure" | "ignored" | "panic" | "ban" => match id {
                Some(id) => {
                    let outcome = outcome(&step.op, arg);
                    if let Some(Some(permit)) = self.permits.remove(&id) {
                        self.advance(arg.get("ms"))?;
                        match outcome {
                            Some(Outcome::OpenFor(wait)) => permit.open_for(wait),
                            Some(outcome) => permit.settle(outcome),
                            None => return Err("a permit held by hand cannot panic".into()),
                        }
                    }
                }
                None => {
                    for _ in 0..arg.get("n").and_then(Value::as_u64).unwrap_or(1) {
                        self.whole_call(&step.op, arg)?;
                    }
                }
            },
            "cancel" => drop(self.permits.remove(&id.ok_or("cancel without id")?)),
            "acquire" => {
                let permit = self.breaker.try_acquire_owned();
                self.last.permitted = Some(permit.is_ok());
                self.last.rejected = permit.as_ref().err().copied();
                self.permits.insert(id.ok_or("acquire without id")?, permit.ok());
            }
            "advance_ms" => self.advance(Some(arg))?,
            "open" => self.breaker.open(),
            "open_for_ms" => self.breaker.open_for(Duration::from_millis(arg.as_u64().ok_or("bad duration")?)),
            "close" => self.breaker.close(),
            "half_open" => self.last.error = self.breaker.half_open().err().map(|_| "illegal_transition"),
            "force_open" => self.breaker.force_open(),
            "disable" => self.breaker.disable(),
            "metrics_only" => self.breaker.metrics_only(),
            "reset" => self.breaker.reset(),
            "state" | "build" => {}
            "mix" => {
                let get = |key| arg.get(key).and_then(Value::as_u64).ok_or("bad mix");
                for i in 0..get("n")? {
                    let op = if i % get("success_every")? == 0 { "success" } else { "failure" };
                    self.whole_call(op, &Value::Null)?;
                }
            }
            "parallel" => self.parallel(arg)?,
            "parallel_acquire" => {
                let threads = arg.get("threads").and_then(Value::as_u64).ok_or("bad threads")?;
                let admitted = Mutex::new(Vec::new());
                std::thread::scope(|scope| {
                    for _ in 0..threads {
                        scope.spawn(|| admitted.lock().unwrap().extend(self.breaker.try_acquire_owned()));
                    }
                });
                let admitted = admitted.into_inner().unwrap();
                self.last.permitted_total = Some(admitted.len() as u64);
                for (index, permit) in admitted.into_iter().enumerate() {
                    self.permits.insert(format!("parallel {index}"), Some(permit));
                }
            }
            other => return Err(format!("unknown op {other}")),
        }
        Ok(())
    }

    fn advance(&self, millis: Option<&Value>) -> Result<(), String> {
        let Some(millis) = millis else { return Ok(()) };
        let millis = millis.as_i64().ok_or("bad milliseconds")?;
        let by = Duration::from_millis(millis.unsigned_abs());
        if millis < 0 {
            self.clock.step_back(by)
        } else {
            self.clock.advance(by)
        }
        // A breaker knows of a time only what it has seen of it.
        _ = self.breaker.state();
        Ok(())
    }

    /// Asks; if admitted lets time pass and settles.
    fn whole_call(&mut self, op: &str, arg: &Value) -> Result<(), String> {
        let outcome = outcome(op, arg);
        let work = || {
            self.advance(arg.get("ms")).unwrap();
            match outcome {
                Some(Outcome::Success | Outcome::OpenFor(None)) => Ok(()),
                Some(_) => Err(()),
                None => panic!("a call's panic"),
            }
        };
        let classify = |_: &Result<(), ()>| outcome.unwrap();
        let plain = matches!(outcome, Some(Outcome::Success | Outcome::Failure) | None);
        let result = match self.way {
            Way::Permit if outcome.is_some() => match self.breaker.try_acquire() {
                Ok(permit) => {
                    _ = work();
                    permit.settle(classify(&Ok(())));
                    Ok(Ok(()))
                }
                Err(rejected) => Ok(Err(CallError::Rejected(rejected))),
            },
            Way::Permit | Way::Call if plain => catch_unwind(AssertUnwindSafe(|| self.breaker.call(work))),
            Way::Permit | Way::Call => catch_unwind(AssertUnwindSafe(|| self.breaker.call_with(classify, work))),
            Way::CallAsync if plain => {
                catch_unwind(AssertUnwindSafe(|| pollster::block_on(self.breaker.call_async(|| async { work() }))))
            }
            Way::CallAsync => catch_unwind(AssertUnwindSafe(|| {
                pollster::block_on(self.breaker.call_async_with(classify, || async { work() }))
            })),
        };
        self.last.rejected = match result {
            Ok(Err(CallError::Rejected(rejected))) => Some(rejected),
            Err(_) if outcome.is_some() => return Err("an unexpected panic".into()),
            Ok(_) if outcome.is_none() => return Err("the panic was lost".into()),
            _ => None,
        };
        self.last.permitted = Some(self.last.rejected.is_none());
        Ok(())
    }

    fn parallel(&self, arg: &Value) -> Result<(), String> {
        let threads = arg.get("threads").and_then(Value::as_u64).ok_or("bad threads")?;
        let each = arg.get("each").and_then(Value::as_array).ok_or("bad each")?;
        let torn = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for step in each {
                        let op = step.get("op").and_then(Value::as_str).unwrap_or_default();
                        for _ in 0..step.get("n").and_then(Value::as_u64).unwrap_or(1) {
                            if let (Ok(permit), Some(outcome)) = (self.breaker.try_acquire(), outcome(op, step)) {
                                permit.settle(outcome);
                            }
                        }
                        let window = self.breaker.snapshot().window();
                        if window.failed() + window.succeeded() != window.total() {
                            torn.fetch_add(1, SeqCst);
                        }
                    }
                });
            }
        });
        if torn.into_inner() == 0 { Ok(()) } else { Err("a snapshot's counts do not add up".into()) }
    }

    /// Every expectation that does not hold, as text.
    fn compare(&self, step: &Step) -> String {
        let mut wrong = String::new();
        let mut check = |what: &str, expected: &Value, got: Value| {
            if !same(expected, &got) {
                _ = write!(wrong, "{what}: expected {expected}, got {got}; ");
            }
        };
        let snapshot = self.breaker.snapshot();
        for (key, expected) in &step.expect {
            match key.as_str() {
                "state" => {
                    check(key, expected, self.breaker.state().as_str().into());
                    check("the snapshot's state", expected, snapshot.state().as_str().into());
                }
                "permitted" => check(key, expected, self.last.permitted.into()),
                "permitted_total" => check(key, expected, self.last.permitted_total.into()),
                "retry_after_ms" => {
                    let wait = self.last.rejected.and_then(|rejected| rejected.retry_after());
                    check(key, expected, wait.map(|wait| wait.as_millis() as u64).into());
                }
                "error" => check(key, expected, self.last.error.into()),
                "trip_reason" => {
                    check(key, expected, snapshot.trip().map(|trip| trip.reason().as_str()).into());
                    if let Some(rejected) = self.last.rejected {
                        check("the rejection's reason", expected, rejected.reason().map(|r| r.as_str()).into());
                    }
                }
                "counts" => {
                    for (name, expected) in expected.as_object().into_iter().flatten() {
                        check(name, expected, count(&snapshot, name));
                    }
                }
                "events" => {
                    for (name, expected) in expected.as_object().into_iter().flatten() {
                        check(name, expected, self.events.get(name).into());
                    }
                }
                "build_error" => check(key, expected, false.into()),
                other => panic!("unknown expectation {other}"),
            }
        }
        if !step.expect.contains_key("error") && self.last.error.is_some() {
            check("error", &Value::Null, self.last.error.into());
        }
        wrong
    }
}

fn outcome(op: &str, arg: &Value) -> Option<Outcome> {
    Some(match op {
        "success" => Outcome::Success,
        "failure" => Outcome::Failure,
        "ignored" => Outcome::Ignored,
        "ban" => Outcome::OpenFor(arg.get("open_for_ms").and_then(Value::as_u64).map(Duration::from_millis)),
        _ => return None,
    })
}

fn count(snapshot: &Snapshot, name: &str) -> Value {
    let window = snapshot.window();
    match name {
        "buffered" => window.total().into(),
        "failed" => window.failed().into(),
        "succeeded" => window.succeeded().into(),
        "slow" => window.slow().into(),
        "failure_rate" => window.failure_rate().into(),
        "slow_rate" => window.slow_call_rate().into(),
        "consecutive_failures" => snapshot.consecutive_failures().into(),
        other => panic!("unknown count {other}"),
    }
}

/// Numbers are equal to 0.01, as far as the cases give them.
fn same(expected: &Value, got: &Value) -> bool {
    match (expected.as_f64(), got.as_f64()) {
        (Some(expected), Some(got)) => (expected - got).abs() <= 0.01,
        _ => expected == got,
    }
}

fn main() -> ExitCode {
    // An inline window of a million calls is 2 MB, and a build without optimization copies it a few times.
    let roomy = std::thread::Builder::new().stack_size(1 << 28);
    roomy.spawn(replay).expect("a thread").join().unwrap_or(ExitCode::FAILURE)
}

fn replay() -> ExitCode {
    // The cases panic on purpose, inside calls and listeners.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let on_purpose = |text: &&str| text.starts_with("a call's panic") || text.starts_with("a listener's panic");
        if !panic.payload().downcast_ref::<&str>().is_some_and(on_purpose) {
            report(panic);
        }
    }));
    let files = match std::env::var("FAILFAST_SCENARIOS") {
        Ok(file) => vec![file],
        Err(_) => {
            ["scenarios", "traces"].map(|name| format!("{}/tests/{name}.json", env!("CARGO_MANIFEST_DIR"))).into()
        }
    };
    let (mut passed, mut failed) = (0, 0);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{file}: {error}"));
        let cases: Vec<Case> = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
        for case in &cases {
            let ways = [Way::Permit, Way::Call, Way::CallAsync];
            let runs = ways.into_iter().flat_map(|way| [(way, false), (way, true)]);
            let failures: Vec<String> = runs
                .filter_map(|(way, inline)| {
                    let error = case.run(way, inline)?.err()?;
                    Some(format!("{} [{way:?}, {}] {error}", case.id, if inline { "inline" } else { "heap" }))
                })
                .collect();
            if failures.is_empty() {
                passed += 1;
            } else {
                failed += 1;
                failures.iter().for_each(|failure| println!("FAILED {failure}"));
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
