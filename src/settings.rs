//! A breaker's settings, as a file holds them.

mod cancelled;
mod human;
mod named;
mod policies;
mod read;

pub use named::NamedSettings;
pub use policies::{PolicySettings, WindowSettings};
pub use read::SettingsError;

use core::fmt;
use core::time::Duration;
use std::vec::Vec;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::policy::check_number;
use crate::{BoxPolicy, Builder, CircuitBreaker, Config, OnCancel, OnMaxWait, Rule, State, presets};
use cancelled::Cancelled;
use human::Human;
use policies::Policies;

/// A breaker as a file describes it: what it does not say is as in its preset.
///
/// It is read and written in any self-describing format of serde: TOML, JSON, YAML, environment variables. Unknown keys are
/// refused; bad values are refused by [`check`](Self::check), or when it is built, with the path of the key.
/// [`NamedSettings`] is a file with several.
///
/// ```
/// use failfast::{BoxPolicy, CircuitBreaker, Settings};
///
/// let settings: Settings = toml::from_str(
///     r#"
///     policies = [
///         { consecutive = { failures = 5 } },
///         { window = { length = "10s", buckets = 10, min_calls = 20, failure_rate = 50 } },
///     ]
///     open = { for = "10s", backoff = 2, max = "5m", jitter = 10 }
///     half_open = { probes = 3, successes = 2 }
///     on_cancel = { failure_after = "800ms" }
///     "#,
/// )?;
/// let breaker: CircuitBreaker<BoxPolicy> = settings.build()?;
/// let observed = settings.builder()?.on_transition(|transition| println!("{transition}")).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Keys
///
/// | key | value | setter | default |
/// |---|---|---|---|
/// | `preset` | `"strict"`, `"default"`, `"tolerant"`, `"resilience4j"`, `"hystrix"`, `"polly"`, `"pybreaker"` | [`preset`](Self::preset) | `"default"` |
/// | `policies` | a list of 1 to 8, or a table of one or both | [`policies`](Self::policies) | the preset's |
/// | `….consecutive.failures` | failures in a row | [`Consecutive::new`](crate::Consecutive::new) | |
/// | `….window.calls` | over so many calls | [`CountWindow::over`](crate::CountWindow::over) | |
/// | `….window.length` | or over so much time | [`TimeWindow::over`](crate::TimeWindow::over) | |
/// | `….window.buckets`, `stripes` | with `length` | `over`, `stripes` | 10, 1 |
/// | `….window.min_calls` | calls | [`min_calls`](crate::Spec::min_calls) | 10, or fewer `calls` |
/// | `….window.failures` | failed calls | [`failures`](crate::Spec::failures) | none |
/// | `….window.failure_rate` | percent | [`failure_rate`](crate::Spec::failure_rate) | none |
/// | `….window.slow_call_limit`, `slow_call_rate` | duration, percent | [`slow_calls`](crate::Spec::slow_calls) | none |
/// | `open.for` | duration | [`open_for`](Config::open_for) | 30 s |
/// | `open.backoff` | factor | [`backoff`](Config::backoff) | 1 |
/// | `open.max` | duration | [`max_open`](Config::max_open) | 3650 days |
/// | `open.jitter` | ± percent | [`jitter`](Config::jitter) | 0 |
/// | `open.seed` | number (above 2⁶³ as a string, for TOML) | [`seed`](Config::seed) | 0 |
/// | `half_open.probes` | calls | [`probes`](Config::probes) | 2 |
/// | `half_open.successes` | probes | [`successes`](Config::successes) | 2, or 1 of 1 |
/// | `half_open.max_wait` | duration | [`max_wait`](Config::max_wait) | 60 s |
/// | `half_open.on_max_wait` | `"renew"`, `"open"`, `"close"` | [`on_max_wait`](Config::on_max_wait) | `"renew"` |
/// | `on_cancel` | `"neutral"`, `"failure"`, `{ failure_after = "800ms" }` | [`on_cancel`](Config::on_cancel) | `"neutral"` |
/// | `initial_state` | `"closed"`, `"open"`, `"forced_open"`, `"disabled"`, `"metrics_only"` | [`initial_state`](Config::initial_state) | `"closed"` |
///
/// The setters' docs have the ranges. A duration is a text with units: `"30s"`, `"1m 30s"`, `"500ms"`. A percentage
/// is a number: `50` or `12.5`. The same seed for every instance of a service makes them probe in step: set it in code, or by
/// an environment variable.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<PresetName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    initial_state: Option<State>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_cancel: Option<Cancelled>,
    #[serde(skip_serializing_if = "Option::is_none")]
    policies: Option<Policies>,
    #[serde(skip_serializing_if = "is_default")]
    open: Open,
    #[serde(skip_serializing_if = "is_default")]
    half_open: HalfOpen,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Open {
    #[serde(rename = "for", skip_serializing_if = "Option::is_none")]
    wait: Option<Human>,
    #[serde(skip_serializing_if = "Option::is_none")]
    backoff: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<Human>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<Seed>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct HalfOpen {
    #[serde(skip_serializing_if = "Option::is_none")]
    probes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    successes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_wait: Option<Human>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_max_wait: Option<OnMaxWait>,
}

/// Any 64 bits: TOML has only 63 for a number.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Seed(u64);

/// A preset's name in a file: those of [`presets`].
///
/// ```
/// use failfast::{PresetName, Settings};
///
/// let settings: Settings = toml::from_str(r#"preset = "resilience4j""#)?;
/// assert_eq!(settings, Settings::new().preset(PresetName::Resilience4j));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PresetName {
    /// [`presets::STRICT`]
    Strict,
    /// [`presets::DEFAULT`]
    #[default]
    Default,
    /// [`presets::TOLERANT`]
    Tolerant,
    /// [`presets::RESILIENCE4J`]
    Resilience4j,
    /// [`presets::HYSTRIX`]
    Hystrix,
    /// [`presets::POLLY`]
    Polly,
    /// [`presets::PYBREAKER`]
    Pybreaker,
}

impl PresetName {
    fn parts(self) -> (Rule, Config) {
        macro_rules! parts {
            ($($name:ident: $preset:ident),+) => {
                match self {
                    $(Self::$name => (presets::$preset.policy().into(), presets::$preset.config())),+
                }
            };
        }
        parts!(
            Strict: STRICT,
            Default: DEFAULT,
            Tolerant: TOLERANT,
            Resilience4j: RESILIENCE4J,
            Hystrix: HYSTRIX,
            Polly: POLLY,
            Pybreaker: PYBREAKER
        )
    }
}

macro_rules! setters {
    ($($name:ident: $type:ty => $($field:ident).+ = |$value:ident| $set:expr),+ $(,)?) => {$(
        #[doc = concat!("See [`Config::", stringify!($name), "`].")]
        #[must_use]
        pub fn $name(mut self, $value: $type) -> Self {
            self.$($field).+ = Some($set);
            self
        }
    )+};
}

impl Settings {
    /// Settings that say nothing: the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads settings, and checks them: an error names the key by its path, whatever the format. What follows the
    /// settings in the input is left to the format (`serde_json::Deserializer::end`).
    ///
    /// # Errors
    /// The format's, those of form (an unknown key, a wrong type), and those of [`check`](Self::check).
    ///
    /// ```
    /// use failfast::Settings;
    ///
    /// let error = Settings::read(toml::Deserializer::parse("open = { for = 30 }")?).unwrap_err();
    /// assert_eq!(error.path(), "open.for");
    /// # Ok::<(), toml::de::Error>(())
    /// ```
    pub fn read<'de, D>(deserializer: D) -> Result<Self, SettingsError>
    where
        D: Deserializer<'de>,
        D::Error: Send + Sync + 'static,
    {
        let settings: Self = read::read(deserializer)?;
        settings.check()?;
        Ok(settings)
    }

    /// What it begins with; everything else that is set overrides it.
    #[must_use]
    pub fn preset(mut self, preset: PresetName) -> Self {
        self.preset = Some(preset);
        self
    }

    /// When to trip, instead of the preset's policies: 1 to 8 of them.
    ///
    /// ```
    /// use failfast::{PolicySettings, Settings, WindowSettings};
    ///
    /// let settings = Settings::new().policies([
    ///     PolicySettings::consecutive(5),
    ///     WindowSettings::calls(100).failure_rate(50.0).into(),
    /// ]);
    /// # settings.check()?;
    /// # Ok::<(), failfast::SettingsError>(())
    /// ```
    #[must_use]
    pub fn policies(mut self, policies: impl IntoIterator<Item = PolicySettings>) -> Self {
        self.policies = Some(Policies::List(policies.into_iter().collect()));
        self
    }

    setters! {
        open_for: Duration => open.wait = |wait| Human(wait),
        backoff: f64 => open.backoff = |multiplier| multiplier,
        max_open: Duration => open.max = |max| Human(max),
        jitter: f64 => open.jitter = |percent| percent,
        seed: u64 => open.seed = |seed| Seed(seed),
        probes: u32 => half_open.probes = |probes| probes,
        successes: u32 => half_open.successes = |successes| successes,
        max_wait: Duration => half_open.max_wait = |wait| Human(wait),
        on_max_wait: OnMaxWait => half_open.on_max_wait = |what| what,
        on_cancel: OnCancel => on_cancel = |what| Cancelled::from(what),
        initial_state: State => initial_state = |state| state,
    }

    /// These, and what they do not say from `base`, key by key; `policies` are one key. Where these have a preset,
    /// nothing is taken from `base`.
    ///
    /// ```
    /// use failfast::{PresetName, Settings};
    ///
    /// let base = Settings::new().probes(3).successes(2);
    /// assert_eq!(Settings::new().successes(3).over(&base), Settings::new().probes(3).successes(3));
    /// let hystrix = Settings::new().preset(PresetName::Hystrix);
    /// assert_eq!(hystrix.over(&base), hystrix);
    /// ```
    #[must_use]
    pub fn over(&self, base: &Self) -> Self {
        if self.preset.is_some() {
            return self.clone();
        }
        Self {
            preset: base.preset,
            initial_state: self.initial_state.or(base.initial_state),
            on_cancel: self.on_cancel.or(base.on_cancel),
            policies: self.policies.as_ref().or(base.policies.as_ref()).cloned(),
            open: Open {
                wait: self.open.wait.or(base.open.wait),
                backoff: self.open.backoff.or(base.open.backoff),
                max: self.open.max.or(base.open.max),
                jitter: self.open.jitter.or(base.open.jitter),
                seed: self.open.seed.or(base.open.seed),
            },
            half_open: HalfOpen {
                probes: self.half_open.probes.or(base.half_open.probes),
                successes: self.half_open.successes.or(base.half_open.successes),
                max_wait: self.half_open.max_wait.or(base.half_open.max_wait),
                on_max_wait: self.half_open.on_max_wait.or(base.half_open.on_max_wait),
            },
        }
    }

    /// Checks every value, as building does.
    ///
    /// # Errors
    /// [`SettingsError`] names the first bad value by the path of its key, and the legal range.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.parts().map(drop)
    }

    /// The policies and the configuration, for what takes these: a registry, or a breaker that lives and whose file has
    /// changed ([`set_thresholds`](CircuitBreaker::set_thresholds)).
    ///
    /// # Errors
    /// As for [`check`](Self::check).
    ///
    /// ```
    /// use failfast::{Settings, WindowSettings};
    ///
    /// let rate = |percent| Settings::new().policies([WindowSettings::calls(100).failure_rate(percent).into()]);
    /// let breaker = rate(50.0).build()?;
    /// let (policies, _config) = rate(30.0).parts()?;
    /// breaker.set_thresholds(policies)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn parts(&self) -> Result<(Vec<Rule>, Config), SettingsError> {
        let (rule, mut config) = self.preset.unwrap_or_default().parts();
        let rules = match &self.policies {
            Some(policies) => policies.rules()?,
            None => [rule].into(),
        };
        check_number(&rules)?;
        macro_rules! set {
            ($($setter:ident($value:expr)),+ $(,)?) => {$(
                if let Some(value) = $value {
                    config = config.$setter(value);
                }
            )+};
        }
        let Self { open, half_open, .. } = self;
        set! {
            open_for(open.wait.map(|Human(wait)| wait)),
            backoff(open.backoff),
            max_open(open.max.map(|Human(max)| max)),
            jitter(open.jitter),
            seed(open.seed.map(|Seed(seed)| seed)),
            probes(half_open.probes),
            successes(half_open.successes),
            max_wait(half_open.max_wait.map(|Human(wait)| wait)),
            on_max_wait(half_open.on_max_wait),
            on_cancel(self.on_cancel.map(OnCancel::from)),
            initial_state(self.initial_state),
        }
        config.check()?;
        Ok((rules, config))
    }

    /// A builder with these settings, to which a clock and observers can be added.
    ///
    /// # Errors
    /// As for [`check`](Self::check).
    pub fn builder(&self) -> Result<Builder<Vec<Rule>>, SettingsError> {
        let (rules, config) = self.parts()?;
        Ok(CircuitBreaker::builder().policy(rules).config(config))
    }

    /// A breaker with these settings.
    ///
    /// # Errors
    /// As for [`check`](Self::check).
    pub fn build(&self) -> Result<CircuitBreaker<BoxPolicy>, SettingsError> {
        Ok(self.builder()?.build()?)
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Serialize for Seed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match i64::try_from(self.0) {
            Ok(seed) => serializer.serialize_i64(seed),
            Err(_) => serializer.collect_str(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SeedVisitor)
    }
}

struct SeedVisitor;

impl Visitor<'_> for SeedVisitor {
    type Value = Seed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a number from 0 to {}, or it in a string", u64::MAX)
    }

    fn visit_u64<E: Error>(self, seed: u64) -> Result<Seed, E> {
        Ok(Seed(seed))
    }

    fn visit_i64<E: Error>(self, seed: i64) -> Result<Seed, E> {
        let refused = |_| E::invalid_value(serde::de::Unexpected::Signed(seed), &self);
        u64::try_from(seed).map(Seed).map_err(refused)
    }

    fn visit_str<E: Error>(self, seed: &str) -> Result<Seed, E> {
        let refused = |_| E::invalid_value(serde::de::Unexpected::Str(seed), &self);
        seed.parse().map(Seed).map_err(refused)
    }
}
