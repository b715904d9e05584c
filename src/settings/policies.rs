//! When to trip, as a file holds it.

use core::fmt;
use core::time::Duration;
use std::format;
use std::vec::Vec;

use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::SettingsError;
use super::human::Human;
use crate::error::{ConfigError, Value};
use crate::{Consecutive, CountWindow, Rule, Spec, TimeWindow, Window};

/// As it was written, so that it is written again as it was.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Policies {
    List(Vec<PolicySettings>),
    Table(Table),
}

/// At most one of each: what most breakers need, and what can be overridden key by key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Table {
    #[serde(skip_serializing_if = "Option::is_none")]
    consecutive: Option<ConsecutiveSettings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    window: Option<WindowSettings>,
}

/// One policy of [`Settings`](crate::Settings): [`consecutive`](Self::consecutive) failures, or a [`WindowSettings`] by
/// `into()`.
///
/// ```
/// use failfast::{PolicySettings, WindowSettings};
///
/// let streak = PolicySettings::consecutive(5);
/// let window: PolicySettings = WindowSettings::calls(100).failure_rate(50.0).into();
/// assert_eq!(serde_json::to_string(&streak)?, r#"{"consecutive":{"failures":5}}"#);
/// assert_eq!(serde_json::to_string(&window)?, r#"{"window":{"calls":100,"failure_rate":50.0}}"#);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Table", into = "Table")]
pub struct PolicySettings(Kind);

/// Not an enum to serde, which some formats write in a way of their own.
#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Consecutive(ConsecutiveSettings),
    Window(WindowSettings),
}

impl From<PolicySettings> for Table {
    fn from(PolicySettings(kind): PolicySettings) -> Self {
        match kind {
            Kind::Consecutive(consecutive) => Self { consecutive: Some(consecutive), window: None },
            Kind::Window(window) => Self { consecutive: None, window: Some(window) },
        }
    }
}

impl TryFrom<Table> for PolicySettings {
    type Error = &'static str;

    fn try_from(table: Table) -> Result<Self, &'static str> {
        match (table.consecutive, table.window) {
            (Some(consecutive), None) => Ok(Self(Kind::Consecutive(consecutive))),
            (None, Some(window)) => Ok(Self(Kind::Window(window))),
            _ => Err("a policy must have either `consecutive` or `window`"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConsecutiveSettings {
    failures: u32,
}

/// A window over the last so many calls, or the last so much time, in [`Settings`](crate::Settings).
///
/// ```
/// use failfast::{Settings, WindowSettings};
/// use std::time::Duration;
///
/// let window = WindowSettings::time(Duration::from_secs(60), 6)
///     .stripes(4)
///     .min_calls(20)
///     .slow_calls(Duration::from_millis(800), 80.0);
/// let settings = Settings::new().policies([window.into()]);
/// let text = toml::to_string(&settings)?;
/// assert_eq!(toml::from_str::<Settings>(&text)?, settings);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WindowSettings {
    #[serde(skip_serializing_if = "Option::is_none")]
    calls: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    length: Option<Human>,
    #[serde(skip_serializing_if = "Option::is_none")]
    buckets: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stripes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_calls: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failures: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_call_limit: Option<Human>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_call_rate: Option<f64>,
}

impl PolicySettings {
    /// Trips after so many failures in a row: see [`Consecutive::new`].
    #[must_use]
    pub const fn consecutive(failures: u32) -> Self {
        Self(Kind::Consecutive(ConsecutiveSettings { failures }))
    }

    fn rule(&self) -> Result<Rule, ConfigError> {
        match &self.0 {
            Kind::Consecutive(consecutive) => consecutive.rule(),
            Kind::Window(window) => window.rule(),
        }
    }
}

impl From<WindowSettings> for PolicySettings {
    fn from(window: WindowSettings) -> Self {
        Self(Kind::Window(window))
    }
}

impl ConsecutiveSettings {
    fn rule(&self) -> Result<Rule, ConfigError> {
        checked(Consecutive::new(self.failures))
    }
}

impl WindowSettings {
    /// A window of the last `calls` calls, still without a threshold: see [`CountWindow::over`].
    #[must_use]
    pub fn calls(calls: u32) -> Self {
        Self { calls: Some(calls), ..Self::default() }
    }

    /// A window of the last `length` in `buckets`, still without a threshold: see [`TimeWindow::over`].
    #[must_use]
    pub fn time(length: Duration, buckets: u32) -> Self {
        Self { length: Some(Human(length)), buckets: Some(buckets), ..Self::default() }
    }

    /// In how many stripes a time window counts: see [`Spec::stripes`].
    #[must_use]
    pub const fn stripes(mut self, stripes: u32) -> Self {
        self.stripes = Some(stripes);
        self
    }

    /// See [`Spec::min_calls`].
    #[must_use]
    pub const fn min_calls(mut self, calls: u32) -> Self {
        self.min_calls = Some(calls);
        self
    }

    /// See [`Spec::failures`].
    #[must_use]
    pub const fn failures(mut self, failures: u32) -> Self {
        self.failures = Some(failures);
        self
    }

    /// See [`Spec::failure_rate`].
    #[must_use]
    pub const fn failure_rate(mut self, percent: f64) -> Self {
        self.failure_rate = Some(percent);
        self
    }

    /// See [`Spec::slow_calls`].
    #[must_use]
    pub const fn slow_calls(mut self, limit: Duration, percent: f64) -> Self {
        self.slow_call_limit = Some(Human(limit));
        self.slow_call_rate = Some(percent);
        self
    }

    fn rule(&self) -> Result<Rule, ConfigError> {
        let Some(calls) = self.calls else {
            let Some(Human(length)) = self.length else {
                let legal = "must be set, or window.length";
                return Err(ConfigError::new("window.calls", Value::Missing, legal));
            };
            let window = TimeWindow::over(length, self.buckets.unwrap_or(10));
            return self.thresholds(window.stripes(self.stripes.unwrap_or(1)));
        };
        let count = |count: Option<u32>| count.map(|count| Value::Count(count.into()));
        let of_time = [
            ("window.length", self.length.map(|Human(length)| Value::Time(length))),
            ("window.buckets", count(self.buckets)),
            ("window.stripes", count(self.stripes)),
        ];
        for (field, value) in of_time {
            if let Some(value) = value {
                let error = ConfigError::new(field, value, "must not be set with window.calls");
                return Err(error.bound(Value::Count(calls.into())));
            }
        }
        self.thresholds(CountWindow::over(calls))
    }

    fn thresholds<P: Window>(&self, mut spec: Spec<P>) -> Result<Rule, ConfigError>
    where
        Rule: From<Spec<P>>,
    {
        if let Some(calls) = self.min_calls {
            spec = spec.min_calls(calls);
        }
        if let Some(failures) = self.failures {
            spec = spec.failures(failures);
        }
        if let Some(percent) = self.failure_rate {
            spec = spec.failure_rate(percent);
        }
        if let Some(Human(limit)) = self.slow_call_limit {
            spec = spec.slow_call_limit(limit);
        }
        if let Some(percent) = self.slow_call_rate {
            spec = spec.slow_call_rate(percent);
        }
        checked(spec)
    }
}

fn checked(rule: impl Into<Rule>) -> Result<Rule, ConfigError> {
    let rule = rule.into();
    rule.check()?;
    Ok(rule)
}

impl Policies {
    /// Each of them checked.
    pub(super) fn rules(&self) -> Result<Vec<Rule>, SettingsError> {
        match self {
            Self::List(list) => {
                let rule = |(index, policy): (usize, &PolicySettings)| {
                    policy.rule().map_err(|error| SettingsError::from(error).within(&format!("policies[{index}]")))
                };
                list.iter().enumerate().map(rule).collect()
            }
            Self::Table(Table { consecutive, window }) => {
                let consecutive = consecutive.as_ref().map(ConsecutiveSettings::rule);
                let window = window.as_ref().map(WindowSettings::rule);
                let rules = consecutive.into_iter().chain(window);
                rules.map(|rule| rule.map_err(|error| SettingsError::from(error).within("policies"))).collect()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Policies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PoliciesVisitor)
    }
}

struct PoliciesVisitor;

impl<'de> Visitor<'de> for PoliciesVisitor {
    type Value = Policies;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of policies, or a table of them")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Policies, A::Error> {
        Deserialize::deserialize(SeqAccessDeserializer::new(list)).map(Policies::List)
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Policies, A::Error> {
        Deserialize::deserialize(MapAccessDeserializer::new(table)).map(Policies::Table)
    }
}
