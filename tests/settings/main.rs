//! Settings from files and the environment: nothing is lost, nothing wrong gets through, and errors say where.

mod any;

use std::time::Duration;

use failfast::{
    Config, Consecutive, CountWindow, ManualClock, NamedSettings, OnCancel, OnMaxWait, PolicySettings, PresetName,
    Reason, Rule, Settings, SettingsError, State, TimeWindow, WindowSettings, presets,
};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);

fn from_toml(text: &str) -> Result<Settings, SettingsError> {
    Settings::read(toml::Deserializer::parse(text).unwrap())
}

fn named_from_toml(text: &str) -> Result<NamedSettings, SettingsError> {
    NamedSettings::read(toml::Deserializer::parse(text).unwrap())
}

/// A rule has no equality, but shows every checked number.
fn shown(rules: &[Rule]) -> String {
    format!("{rules:?}")
}

const EVERY_KEY: &str = r#"
preset = "hystrix"
initial_state = "metrics_only"
on_cancel = { failure_after = "800ms" }
policies = [
    { consecutive = { failures = 7 } },
    { window = { calls = 100, min_calls = 20, failures = 30, failure_rate = 50 } },
    { window = { length = "1m 30s", buckets = 9, stripes = 4, slow_call_limit = "1s 500ms", slow_call_rate = 12.5 } },
]
open = { for = "10s", backoff = 1.5, max = "1h", jitter = 10, seed = 42 }
half_open = { probes = 5, successes = 3, max_wait = "2m", on_max_wait = "open" }
"#;

fn every_setter() -> Settings {
    let calls = WindowSettings::calls(100).min_calls(20).failures(30).failure_rate(50.0);
    let time = WindowSettings::time(90 * SECOND, 9).stripes(4).slow_calls(Duration::from_millis(1500), 12.5);
    Settings::new()
        .preset(PresetName::Hystrix)
        .initial_state(State::MetricsOnly)
        .on_cancel(OnCancel::FailureAfter(Duration::from_millis(800)))
        .policies([PolicySettings::consecutive(7), calls.into(), time.into()])
        .open_for(10 * SECOND)
        .backoff(1.5)
        .max_open(3600 * SECOND)
        .jitter(10.0)
        .seed(42)
        .probes(5)
        .successes(3)
        .max_wait(120 * SECOND)
        .on_max_wait(OnMaxWait::Open)
}

#[test]
fn every_key_is_its_setter_and_does_what_the_builder_does() {
    let settings = from_toml(EVERY_KEY).unwrap();
    assert_eq!(settings, every_setter());
    let (rules, config) = settings.parts().unwrap();
    let expected: [Rule; 3] = [
        Consecutive::new(7).into(),
        CountWindow::over(100).min_calls(20).failures(30).failure_rate(50.0).into(),
        TimeWindow::over(90 * SECOND, 9).stripes(4).slow_calls(Duration::from_millis(1500), 12.5).into(),
    ];
    assert_eq!(shown(&rules), shown(&expected));
    let expected = Config::new()
        .open_for(10 * SECOND)
        .backoff(1.5)
        .max_open(3600 * SECOND)
        .jitter(10.0)
        .seed(42)
        .probes(5)
        .successes(3)
        .max_wait(120 * SECOND)
        .on_max_wait(OnMaxWait::Open)
        .on_cancel(OnCancel::FailureAfter(Duration::from_millis(800)))
        .initial_state(State::MetricsOnly);
    assert_eq!(config, expected);
    assert_eq!(settings.build().unwrap().state(), State::MetricsOnly);
}

#[test]
fn the_readmes_file_is_good() {
    let readme = include_str!("../../README.md");
    let text = readme.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let settings = named_from_toml(text).unwrap();
    assert_eq!(settings.names().collect::<Vec<_>>(), ["payments", "search"]);
}

#[test]
fn settings_that_say_nothing_are_the_defaults() {
    for text in ["", "preset = \"default\""] {
        let (rules, config) = from_toml(text).unwrap().parts().unwrap();
        assert_eq!(shown(&rules), shown(&[Consecutive::new(5).into()]));
        assert_eq!(config, Config::new());
    }
    assert_eq!(toml::to_string(&Settings::new()).unwrap(), "");
    assert_eq!(serde_json::to_string(&NamedSettings::new()).unwrap(), "{}");
}

#[test]
fn every_choice_has_its_word() {
    let states = [State::Closed, State::Open, State::ForcedOpen, State::Disabled, State::MetricsOnly];
    for state in states {
        let settings = from_toml(&format!("initial_state = \"{state}\"")).unwrap();
        assert_eq!(settings.build().unwrap().state(), state);
    }
    let words = [("renew", OnMaxWait::Renew), ("open", OnMaxWait::Open), ("close", OnMaxWait::Close)];
    for (word, what) in words {
        let settings = from_toml(&format!("half_open.on_max_wait = \"{word}\"")).unwrap();
        assert_eq!(settings, Settings::new().on_max_wait(what));
    }
    for (word, what) in [("neutral", OnCancel::Neutral), ("failure", OnCancel::Failure)] {
        assert_eq!(from_toml(&format!("on_cancel = \"{word}\"")).unwrap(), Settings::new().on_cancel(what));
    }
}

#[test]
fn policies_are_a_list_or_a_table() {
    let window = WindowSettings::calls(10).failures(3);
    let list = from_toml("policies = [{ window = { calls = 10, failures = 3 } }]").unwrap();
    assert_eq!(list, Settings::new().policies([window.into()]));
    let table = from_toml("policies.window = { calls = 10, failures = 3 }\npolicies.consecutive.failures = 2").unwrap();
    let expected: [Rule; 2] = [Consecutive::new(2).into(), CountWindow::over(10).failures(3).into()];
    assert_eq!(shown(&table.parts().unwrap().0), shown(&expected));
    // Ten buckets and one stripe unless said.
    let time = from_toml("policies.window = { length = \"10s\", failure_rate = 50 }").unwrap();
    assert_eq!(shown(&time.parts().unwrap().0), shown(&[TimeWindow::standard().into()]));
}

/// What is wrong, and the message, in TOML. JSON says the same of the same path.
#[test]
fn bad_values_are_refused_with_the_path_of_the_key() {
    for (text, message) in [
        ("policies = []", "policies is 0: must be from 1 to 8"),
        ("policies = {}", "policies is 0: must be from 1 to 8"),
        (
            "policies = [{ window = { calls = 9, failures = 1 } }, { consecutive = { failures = 0 } }]",
            "policies[1].consecutive.failures is 0: must be from 1 to 4294967295",
        ),
        (
            "policies.window = { calls = 100, min_calls = 101, failure_rate = 50 }",
            "policies.window.min_calls is 101: must be from 1 to window.calls (100)",
        ),
        (
            "policies.window = { calls = 100, failure_rate = 0 }",
            "policies.window.failure_rate is 0 %: must be at least 0.000001 % and at most 100 %",
        ),
        (
            "policies.window.calls = 100",
            "policies.window is without a threshold: must have failures, failure_rate or slow_call_rate",
        ),
        ("policies.window.failures = 3", "policies.window.calls is not set: must be set, or window.length"),
        (
            "policies.window = { calls = 100, failures = 3, length = \"10s\" }",
            "policies.window.length is 10s: must not be set with window.calls (100)",
        ),
        (
            "policies.window = { calls = 100, failures = 3, buckets = 10 }",
            "policies.window.buckets is 10: must not be set with window.calls (100)",
        ),
        (
            "policies.window = { calls = 100, failures = 3, stripes = 2 }",
            "policies.window.stripes is 2: must not be set with window.calls (100)",
        ),
        (
            "policies.window = { length = \"10s\", buckets = 7, failures = 3 }",
            "policies.window.length is 10s: must be from 100µs to 3650 days and divide evenly by window.buckets (7)",
        ),
        (
            "policies.window = { calls = 9, slow_call_rate = 50 }",
            "policies.window.slow_call_limit is not set: must be set with window.slow_call_rate (50 %)",
        ),
        ("open.for = \"0s\"", "open.for is 0ns: must be more than 0 and at most 3650 days"),
        ("open.max = \"29s\"", "open.max is 29s: must be at most 3650 days and at least open.for (30s)"),
        ("open.backoff = 0.5", "open.backoff is 0.5: must be from 1 to 4000"),
        ("open.jitter = 101", "open.jitter is 101 %: must be from 0 % to 100 %"),
        ("half_open.probes = 0", "half_open.probes is 0: must be from 1 to 16383"),
        (
            "half_open = { probes = 3, successes = 4 }",
            "half_open.successes is 4: must be from 1 to half_open.probes (3)",
        ),
        ("half_open.max_wait = \"0s\"", "half_open.max_wait is 0ns: must be more than 0 and at most 3650 days"),
        ("on_cancel.failure_after = \"0s\"", "on_cancel.failure_after is 0ns: must be more than 0"),
        (
            "initial_state = \"half_open\"",
            "initial_state is half_open: must be closed, open, forced_open, disabled or metrics_only",
        ),
    ] {
        let error = from_toml(text).unwrap_err();
        assert_eq!(error.to_string(), message, "{text}");
        assert!(message.starts_with(&format!("{} is ", error.path())), "{text}: {}", error.path());
        let json = serde_json::to_string(&toml::from_str::<toml::Value>(text).unwrap()).unwrap();
        let error = Settings::read(&mut serde_json::Deserializer::from_str(&json)).unwrap_err();
        assert_eq!(error.to_string(), message, "{json}");
        let named = named_from_toml(&format!("[breakers.payments]\n{text}")).unwrap_err();
        assert_eq!(named.to_string(), format!("breakers.payments.{message}"), "{text}");
        assert!(named.value().is_some());
    }
}

/// What is wrong, the path, and how the message ends.
#[test]
fn unknown_keys_and_wrong_forms_are_refused_with_the_path() {
    for (text, path, end) in [
        ("opne = 1", "opne", "`policies`, `open`, `half_open`"),
        ("open.base = \"3s\"", "open.base", "expected one of `for`, `backoff`, `max`, `jitter`, `seed`"),
        ("half_open.probe = 1", "half_open.probe", "`probes`, `successes`, `max_wait`, `on_max_wait`"),
        (
            "policies = [{ widow = {} }]",
            "policies[0].widow",
            "unknown field `widow`, expected `consecutive` or `window`",
        ),
        ("policies = [{}]", "policies[0]", "a policy must have either `consecutive` or `window`"),
        ("policies.widow = {}", "policies.widow", "unknown field `widow`, expected `consecutive` or `window`"),
        ("policies = [{ window = { call = 3 } }]", "policies[0].window.call", "`slow_call_limit`, `slow_call_rate`"),
        ("policies = [{ consecutive = {} }]", "policies[0].consecutive", "missing field `failures`"),
        (
            "policies = [{ consecutive = { failures = 1 }, window = { calls = 9, failures = 1 } }]",
            "policies[0]",
            "a policy must have either `consecutive` or `window`",
        ),
        ("policies = 3", "policies", "expected a list of policies, or a table of them"),
        ("policies.window.calls = -3", "policies.window.calls", "invalid value: integer `-3`, expected u32"),
        ("half_open.probes = 4294967296", "half_open.probes", "expected u32"),
        ("open.for = 30", "open.for", "a duration with its unit, such as \"30s\", \"1m 30s\" or \"500ms\""),
        ("open.for = \"30\"", "open.for", "\"30\" is not a duration: time unit needed, for example 30sec or 30ms"),
        ("open.backoff = \"2\"", "open.backoff", "expected f64"),
        ("open.seed = -1", "open.seed", "expected a number from 0 to 18446744073709551615, or it in a string"),
        ("open.seed = \"18446744073709551616\"", "open.seed", "or it in a string"),
        ("on_cancel = \"never\"", "on_cancel", "unknown variant `never`, expected `neutral` or `failure`"),
        ("on_cancel = { after = \"3s\" }", "on_cancel.after", "unknown field `after`, expected `failure_after`"),
        ("on_cancel = true", "on_cancel", "expected \"neutral\", \"failure\" or a table with failure_after"),
        ("preset = \"hystrx\"", "preset", "`resilience4j`, `hystrix`, `polly`, `pybreaker`"),
        ("half_open.on_max_wait = \"closed\"", "half_open.on_max_wait", "expected one of `renew`, `open`, `close`"),
    ] {
        let error = named_from_toml(&format!("[breakers.payments]\n{text}")).unwrap_err();
        assert_eq!(error.path(), format!("breakers.payments.{path}"), "{text}");
        assert!(error.to_string().starts_with(&error.path()) && error.to_string().ends_with(end), "{text}: {error}");
        assert!(error.value().is_none());
    }
    let error = named_from_toml("breaker.payments = {}").unwrap_err();
    assert!(error.to_string().ends_with("unknown field `breaker`, expected `default` or `breakers`"), "{error}");
    let twice = r#"{ "breakers": { "mail": { "open": { "for": "1s" } }, "mail": {} } }"#;
    let error = NamedSettings::read(&mut serde_json::Deserializer::from_str(twice)).unwrap_err();
    assert!(error.to_string().starts_with("breakers: two sections are named \"mail\""), "{error}");
}

#[test]
fn a_section_lies_over_the_default() {
    let settings = named_from_toml(
        r#"
        [default]
        open = { for = "10s", backoff = 2 }
        half_open = { probes = 3, successes = 2 }
        policies.consecutive.failures = 3

        [breakers.payments]
        open.for = "20s"
        half_open.successes = 3

        [breakers.search]
        preset = "pybreaker"
        half_open.max_wait = "5s"

        [breakers.mail]
        "#,
    )
    .unwrap();
    assert_eq!(settings.names().collect::<Vec<_>>(), ["mail", "payments", "search"]);
    let default = Config::new().open_for(10 * SECOND).backoff(2.0).probes(3).successes(2);
    for (name, config) in [
        ("payments", default.open_for(20 * SECOND).successes(3)),
        ("search", Config::new().open_for(60 * SECOND).probes(1).max_wait(5 * SECOND)),
        ("mail", default),
        ("not in the file", default),
    ] {
        assert_eq!(settings.parts(name).unwrap().1, config, "{name}");
    }
    let rules = |name| shown(&settings.parts(name).unwrap().0);
    assert_eq!(rules("payments"), shown(&[Consecutive::new(3).into()]));
    assert_eq!(rules("search"), shown(&[Consecutive::new(5).into()]));

    assert_eq!(Settings::new().over(&every_setter()), every_setter());
    let every_key_but_the_preset = from_toml(&EVERY_KEY.replacen("preset = \"hystrix\"", "", 1)).unwrap();
    let other = Settings::new().open_for(SECOND).backoff(3.0).max_open(3 * SECOND).jitter(1.0).seed(1).probes(7);
    let other = other.successes(7).max_wait(SECOND).on_max_wait(OnMaxWait::Close).on_cancel(OnCancel::Failure);
    let other = other.initial_state(State::Open).policies([PolicySettings::consecutive(1)]);
    assert_eq!(every_key_but_the_preset.over(&other), every_key_but_the_preset);

    // Wrong in itself, and wrong with the section over it.
    let error = named_from_toml("default.half_open.successes = 3").unwrap_err();
    assert_eq!(error.path(), "default.half_open.successes");
    let text = "default.half_open = { probes = 3, successes = 3 }\nbreakers.mail.half_open.probes = 2";
    let error = named_from_toml(text).unwrap_err();
    assert_eq!(error.to_string(), "breakers.mail.half_open.successes is 3: must be from 1 to half_open.probes (2)");
    let unchecked: NamedSettings = toml::from_str(text).unwrap();
    assert_eq!(unchecked.build("mail").err().unwrap().path(), "breakers.mail.half_open.successes");
    assert!(unchecked.build("search").is_ok());
}

#[cfg(feature = "registry")]
#[test]
fn a_registry_has_a_breaker_of_each_section() {
    let text =
        "default.policies.consecutive.failures = 1\nbreakers.search.policies.window = { calls = 9, failures = 2 }";
    let settings = named_from_toml(text).unwrap();
    let (policies, config) = settings.parts("").unwrap();
    let mut registry = failfast::Registry::builder().default_policy(policies).default_config(config);
    for name in settings.names() {
        let (policies, config) = settings.parts(name).unwrap();
        registry = registry.policy_for(name, policies).config_for(name, config);
    }
    let registry = registry.build().unwrap();
    for name in ["mail", "search"] {
        registry.get(name).try_acquire().unwrap().failure();
    }
    assert_eq!(registry.get("mail").state(), State::Open);
    assert_eq!(registry.get("search").state(), State::Closed);
}

fn from_environment(file: &str, variables: &[(&str, &str)]) -> Result<NamedSettings, SettingsError> {
    let variables = variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let source = config::Environment::with_prefix("FAILFAST").prefix_separator("_").separator("__");
    let config = config::Config::builder()
        .add_source(config::File::from_str(file, config::FileFormat::Toml))
        .add_source(source.source(Some(variables)))
        .build()
        .unwrap();
    NamedSettings::read(config)
}

#[test]
fn environment_variables_lie_over_a_file() {
    let file = r#"
        [breakers.payments]
        open = { for = "10s", backoff = 2 }
        policies = { consecutive = { failures = 9 }, window = { calls = 100, min_calls = 20, failure_rate = 50 } }

        [breakers.search]
        policies = [{ consecutive = { failures = 9 } }, { window = { calls = 100, failure_rate = 50 } }]
    "#;
    let settings = from_environment(
        file,
        &[
            ("FAILFAST_DEFAULT__HALF_OPEN__PROBES", "4"),
            ("FAILFAST_BREAKERS__PAYMENTS__OPEN__FOR", "1m 30s"),
            ("FAILFAST_BREAKERS__PAYMENTS__OPEN__JITTER", "12.5"),
            ("FAILFAST_BREAKERS__PAYMENTS__OPEN__SEED", "18446744073709551615"),
            ("FAILFAST_BREAKERS__PAYMENTS__POLICIES__WINDOW__FAILURE_RATE", "30"),
            ("FAILFAST_BREAKERS__PAYMENTS__ON_CANCEL__FAILURE_AFTER", "800ms"),
            ("FAILFAST_BREAKERS__SEARCH__POLICIES__CONSECUTIVE__FAILURES", "3"),
            ("FAILFAST_BREAKERS__MAIL__PRESET", "tolerant"),
            ("FAILFAST_BREAKERS__MAIL__INITIAL_STATE", "metrics_only"),
        ],
    )
    .unwrap();
    let (rules, config) = settings.parts("payments").unwrap();
    let expected: [Rule; 2] =
        [Consecutive::new(9).into(), CountWindow::over(100).min_calls(20).failure_rate(30.0).into()];
    assert_eq!(shown(&rules), shown(&expected));
    let expected = Config::new()
        .open_for(90 * SECOND)
        .backoff(2.0)
        .jitter(12.5)
        .seed(u64::MAX)
        .probes(4)
        .on_cancel(OnCancel::FailureAfter(Duration::from_millis(800)));
    assert_eq!(config, expected);
    // A list is replaced as a whole.
    assert_eq!(shown(&settings.parts("search").unwrap().0), shown(&[Consecutive::new(3).into()]));
    assert_eq!(settings.get("mail"), Settings::new().preset(PresetName::Tolerant).initial_state(State::MetricsOnly));

    for (name, value, path) in [
        ("FAILFAST_BREAKERS__PAYMENTS__OPEN__FRO", "3s", "breakers.payments.open.fro"),
        ("FAILFAST_BREAKERS__PAYMENTS__OPEN__FOR", "3", "breakers.payments.open.for"),
        ("FAILFAST_BREAKERS__PAYMENTS__HALF_OPEN__PROBES", "many", "breakers.payments.half_open.probes"),
        ("FAILFAST_BREAKERS__PAYMENTS__HALF_OPEN__SUCCESSES", "3", "breakers.payments.half_open.successes"),
    ] {
        let error = from_environment(file, &[(name, value)]).unwrap_err();
        assert_eq!(error.path(), path, "{error}");
    }
}

#[test]
fn a_preset_is_the_same_by_constant_and_by_name() {
    fn check<P: failfast::Policy>(name: &str, preset: presets::Preset<P>)
    where
        Rule: From<failfast::Spec<P>>,
    {
        let settings = from_toml(&format!("preset = \"{name}\"")).unwrap();
        let (rules, config) = settings.parts().unwrap();
        assert_eq!(shown(&rules), shown(&[preset.policy().into()]), "{name}");
        assert_eq!(config, preset.config(), "{name}");
        settings.build().unwrap();
    }
    check("strict", presets::STRICT);
    check("default", presets::DEFAULT);
    check("tolerant", presets::TOLERANT);
    check("resilience4j", presets::RESILIENCE4J);
    check("hystrix", presets::HYSTRIX);
    check("polly", presets::POLLY);
    check("pybreaker", presets::PYBREAKER);
}

/// What its table says of each preset: calls until it trips, of which so many fail, the wait, and the probes.
#[test]
fn a_preset_does_what_its_table_says() {
    for (preset, calls, failed, reason, wait, probes, successes) in [
        (PresetName::Strict, 20, 4, Reason::FailureRate, 60, 3, 3),
        (PresetName::Default, 5, 5, Reason::ConsecutiveFailures, 30, 2, 2),
        (PresetName::Tolerant, 50, 38, Reason::FailureRate, 10, 4, 2),
        (PresetName::Resilience4j, 100, 50, Reason::FailureRate, 60, 10, 6),
        (PresetName::Hystrix, 20, 10, Reason::FailureRate, 5, 1, 1),
        (PresetName::Polly, 100, 10, Reason::FailureRate, 5, 1, 1),
        (PresetName::Pybreaker, 5, 5, Reason::ConsecutiveFailures, 60, 1, 1),
    ] {
        let clock = ManualClock::new();
        let breaker = Settings::new().preset(preset).builder().unwrap().clock(&clock).build().unwrap();
        for call in 0..calls {
            assert_eq!(breaker.state(), State::Closed, "{preset:?}");
            let permit = breaker.try_acquire().unwrap();
            if call < failed { permit.failure() } else { permit.success() }
        }
        let snapshot = breaker.snapshot();
        assert_eq!(snapshot.trip().unwrap().reason(), reason, "{preset:?}");
        assert_eq!(snapshot.retry_after(), Some(wait * SECOND), "{preset:?}");

        clock.advance(wait * SECOND);
        let permits: Vec<_> = (0..probes).map(|_| breaker.try_acquire().unwrap()).collect();
        assert!(breaker.try_acquire().is_err(), "{preset:?}");
        for (index, permit) in permits.into_iter().enumerate().take(successes) {
            assert_eq!(breaker.state(), State::HalfOpen, "{preset:?} after {index}");
            permit.success();
        }
        assert_eq!(breaker.state(), State::Closed, "{preset:?}");
    }
}

fn any_window() -> impl Strategy<Value = WindowSettings> {
    let time = |millis: u64| Duration::from_millis(millis);
    let counted = (1..=1_000_000_u32, 1..=1_000_000_u32)
        .prop_map(|(calls, failures)| WindowSettings::calls(calls).failures(failures.min(calls)));
    let timed = (1..=1_000_u64, 1..=100_u32, 1..=8_u32).prop_map(move |(bucket, buckets, stripes)| {
        WindowSettings::time(time(bucket) * buckets, buckets).stripes(stripes).min_calls(3)
    });
    let rate = 0.000_001..=100.0_f64;
    (prop_oneof![counted, timed], rate.clone(), prop::option::of((1..=u64::MAX, rate))).prop_map(
        |(window, rate, slow)| {
            let window = window.failure_rate(rate);
            match slow {
                Some((nanos, rate)) => window.slow_calls(Duration::from_nanos(nanos), rate),
                None => window,
            }
        },
    )
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let policy =
        prop_oneof![(1..=u32::MAX).prop_map(PolicySettings::consecutive), any_window().prop_map(PolicySettings::from),];
    let config = (1..=u64::MAX >> 8, 1.0..=4000.0_f64, 0.0..=100.0_f64, any::<u64>(), 1..=16_383_u32, any::<u64>());
    (prop::collection::vec(policy, 1..=8), config).prop_map(|(policies, config)| {
        let (nanos, backoff, jitter, seed, probes, bits) = config;
        let wait = Duration::from_nanos(nanos);
        let settings = Settings::new().policies(policies).open_for(wait).backoff(backoff).jitter(jitter).seed(seed);
        let settings = settings.probes(probes).successes(1 + (bits as u32 % probes)).max_open(wait * 2).max_wait(wait);
        let settings = match bits % 3 {
            0 => settings.on_cancel(OnCancel::FailureAfter(wait)),
            1 => settings.on_cancel(OnCancel::Failure).on_max_wait(OnMaxWait::Close),
            _ => settings.initial_state(State::Disabled).preset(PresetName::Polly),
        };
        if bits % 5 == 0 { Settings::new().preset(PresetName::Strict).seed(seed) } else { settings }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_value_is_lost(default in any_settings(), payments in any_settings()) {
        let settings = NamedSettings::new().default_settings(default).section("payments", payments);
        settings.check().unwrap();
        prop_assert_eq!(&toml::from_str::<NamedSettings>(&toml::to_string(&settings).unwrap()).unwrap(), &settings);
        prop_assert_eq!(&toml::from_str::<NamedSettings>(&toml::to_string_pretty(&settings).unwrap()).unwrap(), &settings);
        let json = serde_json::to_string(&settings).unwrap();
        prop_assert_eq!(&NamedSettings::read(&mut serde_json::Deserializer::from_str(&json)).unwrap(), &settings);
    }
}

/// Files by hand and found by fuzzing: fuzz/corpus. A name that begins with `bad` says that it is refused.
#[test]
fn the_fuzzing_corpus_is_refused_or_stands() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/settings");
    let mut files: Vec<_> = std::fs::read_dir(corpus).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 10);
    for file in files {
        println!("{}", file.display());
        let is_good = any::run(&std::fs::read(&file).unwrap());
        assert_eq!(is_good, !file.file_name().unwrap().to_str().unwrap().starts_with("bad"), "{}", file.display());
    }
}
