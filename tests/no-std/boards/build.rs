//! Links for the target, and turns the contract's cases into constants.
//!
//! What a board cannot do (threads, unwinding) is counted as left out. What is unknown here does not build.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::{env, fs};

use serde_json::{Map, Value};

fn main() {
    let out = PathBuf::from(env::var("OUT_DIR").unwrap());
    link(&out);
    fs::write(out.join("cases.rs"), cases()).unwrap();
}

fn link(out: &PathBuf) {
    println!("cargo::rustc-link-search={}", out.display());
    let arg = |arg: &str| println!("cargo::rustc-link-arg-bins={arg}");
    let target = env::var("TARGET").unwrap();
    let memory = match target.as_str() {
        // The BBC micro:bit's nRF51822.
        "thumbv6m-none-eabi" => {
            "MEMORY { FLASH : ORIGIN = 0, LENGTH = 256K\n RAM : ORIGIN = 0x20000000, LENGTH = 16K }\n"
        }
        "thumbv7em-none-eabi" | "thumbv7em-none-eabihf" => {
            "MEMORY { FLASH : ORIGIN = 0, LENGTH = 4M\n RAM : ORIGIN = 0x20000000, LENGTH = 4M }\n"
        }
        "riscv32imc-unknown-none-elf" => {
            arg("-Tmemory.x");
            "MEMORY { RAM : ORIGIN = 0x80000000, LENGTH = 16M }
             REGION_ALIAS(\"REGION_TEXT\", RAM);
             REGION_ALIAS(\"REGION_RODATA\", RAM);
             REGION_ALIAS(\"REGION_DATA\", RAM);
             REGION_ALIAS(\"REGION_BSS\", RAM);
             REGION_ALIAS(\"REGION_HEAP\", RAM);
             REGION_ALIAS(\"REGION_STACK\", RAM);\n"
        }
        "wasm32-unknown-unknown" => return,
        other => panic!("no board for {other}"),
    };
    fs::write(out.join("memory.x"), memory).unwrap();
    arg("-Tlink.x");
}

fn cases() -> String {
    let mut written = Written::default();
    let mut files = vec![read("scenarios")];
    if env::var("TARGET").unwrap() == "thumbv6m-none-eabi" {
        // Every policy's type is 20 KiB of code, and each of the random cases 2 KiB.
        let policies: Vec<String> = files[0].iter().map(storage).collect();
        let (kept, rare) = files[0].drain(..).partition(|case| {
            let storage = storage(case);
            policies.iter().filter(|other| **other == storage).count() >= 7
        });
        let rare: Vec<Value> = rare;
        files = vec![kept];
        written.left_out.insert(FLASH, rare.len() + read("traces").len());
        written.total = written.left_out[FLASH];
    } else {
        files.push(read("traces"));
    }
    files.iter().for_each(|cases| written.all(cases));
    let Written { cases, left_out, total, cut, permits } = written;
    let left_out: String = left_out.iter().map(|(why, cases)| format!("({cases}, {why:?}), ")).collect();
    format!(
        "pub const TOTAL: usize = {total};
         /// End before their first panic.
         pub const CUT: usize = {cut};
         pub const LEFT_OUT: &[(usize, &str)] = &[{left_out}];
         /// The most permits that a case holds at once.
         pub const PERMITS: usize = {permits};
         pub static CASES: &[Case] = &[{cases}];"
    )
}

/// What the policy's type depends on.
fn storage(case: &Value) -> String {
    let trip = case["policy"]["trip"].as_array().unwrap();
    trip.iter().map(|policy| format!("{} {};", policy["over"]["calls"], policy["over"]["buckets"])).collect()
}

fn read(file: &str) -> Vec<Value> {
    let path = format!("{}/../../{file}.json", env::var("CARGO_MANIFEST_DIR").unwrap());
    println!("cargo::rerun-if-changed={path}");
    serde_json::from_str(&fs::read_to_string(&path).expect(&path)).expect(&path)
}

#[derive(Default)]
struct Written {
    cases: String,
    left_out: BTreeMap<&'static str, usize>,
    total: usize,
    cut: usize,
    permits: usize,
}

/// Why a case, or the rest of it, is not for boards.
type LeftOut = &'static str;

const UNWINDING: LeftOut = "need unwinding";
const THREADS: LeftOut = "need threads";
const FLASH: LeftOut = "need more flash";

impl Written {
    fn all(&mut self, cases: &[Value]) {
        for case in cases {
            self.total += 1;
            if let Err(why) = self.case(case) {
                *self.left_out.entry(why).or_default() += 1;
            }
        }
    }

    fn case(&mut self, case: &Value) -> Result<(), LeftOut> {
        let case = object(case, &["id", "source", "note", "policy", "steps"]);
        let form = object(&case["policy"], &["trip", "open", "half_open", "initial_state", "listener"]);
        match given(form, "listener").map(text) {
            None => {}
            Some("panics") => return Err(UNWINDING),
            Some("reenters") => return Err("need a breaker that knows its observer"),
            Some(other) => panic!("unknown listener {other}"),
        }
        let specs: Vec<String> = form["trip"].as_array().unwrap().iter().map(spec).collect::<Result<_, _>>()?;
        let policy = if let [one] = &specs[..] { one.clone() } else { format!("({})", specs.join(", ")) };

        let mut steps = String::new();
        let mut permits = Permits::default();
        let mut cut = false;
        for step in case["steps"].as_array().unwrap() {
            match op(step, &mut permits) {
                Ok(op) => _ = write!(steps, "Step {{ op: {op}, expect: &[{}] }},", expectations(step)),
                Err(UNWINDING) if !steps.is_empty() => {
                    cut = true;
                    break;
                }
                Err(why) => return Err(why),
            }
        }
        self.cut += usize::from(cut);
        self.permits = self.permits.max(permits.most);
        _ = write!(
            self.cases,
            "Case {{ id: {:?}, run: |case, way| run(case, way, {policy}), config: {}, steps: &[{steps}] }},",
            text(&case["id"]),
            config(form),
        );
        Ok(())
    }
}

fn spec(form: &Value) -> Result<String, LeftOut> {
    if form["kind"] == "consecutive" {
        let form = object(form, &["kind", "failures"]);
        return Ok(format!("Consecutive::new({})", number(&form["failures"])));
    }
    let known = ["kind", "over", "min_calls", "failures", "failure_rate_pct", "slow_call_ms", "slow_rate_pct"];
    let form = object(form, &known);
    assert_eq!(form["kind"], "window", "unknown policy");
    let over = object(&form["over"], &["calls", "millis", "buckets"]);
    let mut spec = match given(over, "calls") {
        Some(calls) => match number(calls) {
            0 => return Err("have a window that does not compile"),
            calls if calls > 1000 => return Err("have a window above 1000 calls"),
            calls => format!("LastCalls::<{calls}>::new()"),
        },
        None => format!("LastTime::<{}>::new({})", number(&over["buckets"]), millis(&over["millis"])),
    };
    _ = write!(spec, ".min_calls({})", given(form, "min_calls").map_or(1, number));
    let mut set = |key: &str, setter: &str, value: fn(&Value) -> String| {
        if let Some(given) = given(form, key) {
            _ = write!(spec, ".{setter}({})", value(given));
        }
    };
    set("failures", "failures", |value| number(value).to_string());
    set("failure_rate_pct", "failure_rate", decimal);
    set("slow_call_ms", "slow_call_limit", millis);
    set("slow_rate_pct", "slow_call_rate", decimal);
    Ok(spec)
}

fn config(form: &Map<String, Value>) -> String {
    let open = object(&form["open"], &["base_ms", "multiplier", "max_ms"]);
    let half_open = object(&form["half_open"], &["probes", "successes", "max_wait_ms", "on_max_wait"]);
    let mut config = format!(
        "Config::new().open_for({}).probes({}).successes({})",
        millis(&open["base_ms"]),
        number(&half_open["probes"]),
        number(&half_open["successes"]),
    );
    let mut set = |value: Option<String>, setter: &str| {
        if let Some(value) = value {
            _ = write!(config, ".{setter}({value})");
        }
    };
    set(given(open, "multiplier").map(decimal), "backoff");
    set(given(open, "max_ms").map(millis), "max_open");
    set(given(half_open, "max_wait_ms").map(millis), "max_wait");
    let what = given(half_open, "on_max_wait").map(|what| match text(what) {
        "renew" => "OnMaxWait::Renew",
        "open" => "OnMaxWait::Open",
        "closed" => "OnMaxWait::Close",
        other => panic!("unknown on_max_wait {other}"),
    });
    set(what.map(str::to_owned), "on_max_wait");
    set(given(form, "initial_state").map(|state| variant("State", state)), "initial_state");
    config
}

/// Which place on the board a permit's id stands for.
#[derive(Default)]
struct Permits {
    places: HashMap<String, usize>,
    most: usize,
}

impl Permits {
    /// Asked again, an id keeps its place.
    fn take(&mut self, id: &str) -> usize {
        let free = (0..).find(|place| !self.places.values().any(|taken| taken == place)).unwrap();
        let place = *self.places.entry(id.to_owned()).or_insert(free);
        self.most = self.most.max(place + 1);
        place
    }

    fn give_back(&mut self, id: &str) -> usize {
        self.places.remove(id).unwrap_or_else(|| panic!("{id} is settled without a permit"))
    }
}

fn op(step: &Value, permits: &mut Permits) -> Result<String, LeftOut> {
    let step = object(step, &["op", "arg", "expect", "note"]);
    let name = text(&step["op"]);
    let none = Value::Null;
    let arg = step.get("arg").unwrap_or(&none);
    let settled = match name {
        "success" => "Outcome::Success".to_owned(),
        "failure" => "Outcome::Failure".to_owned(),
        "ignored" => "Outcome::Ignored".to_owned(),
        "ban" => match arg.get("open_for_ms").filter(|wait| !wait.is_null()) {
            Some(wait) => format!("Outcome::OpenFor(Some({}))", millis(wait)),
            None => "Outcome::OpenFor(None)".to_owned(),
        },
        "panic" => return Err(UNWINDING),
        "parallel" | "parallel_acquire" => return Err(THREADS),
        _ => String::new(),
    };
    if !settled.is_empty() {
        let none = Map::new();
        let known: &[&str] = if name == "ban" { &["ms", "n", "id", "open_for_ms"] } else { &["ms", "n", "id"] };
        let arg = if arg.is_null() { &none } else { object(arg, known) };
        let ms = arg.get("ms").map_or(0, number);
        return Ok(match arg.get("id") {
            Some(id) => {
                assert!(!arg.contains_key("n"), "a permit is settled once");
                format!("Op::Settle {{ place: {}, outcome: {settled}, ms: {ms} }}", permits.give_back(text(id)))
            }
            None => {
                let times = arg.get("n").map_or(1, number);
                format!("Op::Call {{ outcome: {settled}, ms: {ms}, times: {times} }}")
            }
        });
    }
    let bare = |op: &str| {
        assert!(arg.is_null(), "{name} takes no argument");
        op.to_owned()
    };
    Ok(match name {
        "acquire" => format!("Op::Acquire({})", permits.take(text(&object(arg, &["id"])["id"]))),
        "cancel" => format!("Op::Cancel({})", permits.give_back(text(&object(arg, &["id"])["id"]))),
        "advance_ms" => format!("Op::Advance({})", arg.as_i64().unwrap()),
        "mix" => {
            let arg = object(arg, &["n", "success_every"]);
            format!("Op::Mix {{ times: {}, success_every: {} }}", number(&arg["n"]), number(&arg["success_every"]))
        }
        "open_for_ms" => format!("Op::OpenFor({})", millis(arg)),
        "open" => bare("Op::Open"),
        "close" => bare("Op::Close"),
        "half_open" => bare("Op::HalfOpen"),
        "force_open" => bare("Op::ForceOpen"),
        "disable" => bare("Op::Disable"),
        "metrics_only" => bare("Op::MetricsOnly"),
        "reset" => bare("Op::Reset"),
        "state" | "build" => bare("Op::Look"),
        other => panic!("unknown op {other}"),
    })
}

fn expectations(step: &Value) -> String {
    let Some(expect) = step.get("expect") else { return String::new() };
    let mut written = Vec::new();
    for (key, value) in expect.as_object().unwrap() {
        let or_none = |some: &dyn Fn(&Value) -> String| {
            if value.is_null() { "None".to_owned() } else { format!("Some({})", some(value)) }
        };
        written.push(match key.as_str() {
            "state" => format!("Expect::State({})", variant("State", value)),
            "permitted" => format!("Expect::Permitted({})", value.as_bool().unwrap()),
            "retry_after_ms" => format!("Expect::RetryAfterMs({})", or_none(&|ms| number(ms).to_string())),
            "trip_reason" => format!("Expect::TripReason({})", or_none(&|reason| variant("Reason", reason))),
            "build_error" => format!("Expect::BuildError({})", value.as_bool().unwrap()),
            "error" => {
                assert_eq!(value, "illegal_transition", "unknown error");
                "Expect::IllegalTransition".to_owned()
            }
            "counts" | "events" => {
                for (name, value) in value.as_object().unwrap() {
                    let value = if value.is_null() { "None".to_owned() } else { format!("Some({})", decimal(value)) };
                    written.push(match (key.as_str(), name.as_str()) {
                        ("counts", "buffered" | "failed" | "succeeded" | "slow" | "consecutive_failures")
                        | ("counts", "failure_rate" | "slow_rate") => {
                            format!("Expect::Count(Count::{}, {value})", camel(name))
                        }
                        (
                            "events",
                            "state_transition" | "opened" | "half_opened" | "closed" | "would_trip" | "ignored",
                        ) => format!("Expect::Event(Event::{}, {value})", camel(name)),
                        _ => panic!("unknown {key} {name}"),
                    });
                }
                continue;
            }
            other => panic!("unknown expectation {other}"),
        });
    }
    written.join(", ")
}

fn object<'a>(value: &'a Value, known: &[&str]) -> &'a Map<String, Value> {
    let object = value.as_object().unwrap_or_else(|| panic!("{value} is no object"));
    if let Some(key) = object.keys().find(|key| !known.contains(&key.as_str())) {
        panic!("unknown key {key}");
    }
    object
}

/// What is null was not given.
fn given<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    object.get(key).filter(|value| !value.is_null())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no natural number"))
}

fn decimal(value: &Value) -> String {
    format!("{:?}", value.as_f64().unwrap_or_else(|| panic!("{value} is no number")))
}

fn millis(value: &Value) -> String {
    format!("Duration::from_millis({})", number(value))
}

/// An enum's variant of the case's name: one that is not there does not compile.
fn variant(of: &str, name: &Value) -> String {
    format!("{of}::{}", camel(text(name)))
}

fn camel(name: &str) -> String {
    name.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}
