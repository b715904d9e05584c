//! A file with several breakers.

use core::fmt;
use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::vec::Vec;

use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{Settings, SettingsError, is_default, read};
use crate::{BoxPolicy, Builder, CircuitBreaker, Rule};

/// Breakers by name, as a file describes them: a section for each, and one for what they have in common.
///
/// What a section does not say is as in `default`, key by key ([`Settings::over`]); a section with a preset of its own takes
/// nothing from there. A name without a section has the settings of `default`.
///
/// ```
/// use failfast::NamedSettings;
///
/// let text = r#"
///     [default]
///     open.for = "10s"
///
///     [breakers.payments]
///     policies.window = { calls = 100, failure_rate = 50 }
///     half_open = { probes = 3, successes = 2 }
///
///     [breakers.search]
///     preset = "tolerant"
/// "#;
/// let settings = NamedSettings::read(toml::Deserializer::parse(text)?)?;
/// assert_eq!(settings.names().collect::<Vec<_>>(), ["payments", "search"]);
/// let payments = settings.build("payments")?;
/// let anything_else = settings.builder("mail")?.on_transition(|t| println!("mail: {t}")).build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # For a registry
///
#[cfg_attr(feature = "registry", doc = "```")]
#[cfg_attr(not(feature = "registry"), doc = "```ignore")]
/// use failfast::{BoxPolicy, NamedSettings, Registry, Settings};
///
/// let settings = NamedSettings::new().section("search", Settings::new().probes(1));
/// let (policies, config) = settings.parts("")?; // the default's
/// let mut registry = Registry::builder().default_policy(policies).default_config(config);
/// for name in settings.names() {
///     let (policies, config) = settings.parts(name)?;
///     registry = registry.policy_for(name, policies).config_for(name, config);
/// }
/// let registry: Registry<BoxPolicy> = registry.build()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # From the environment
///
/// The crate [`config`](https://docs.rs/config) lays environment variables over files. A variable is the key's path in
/// capitals, with two underscores for each dot; names of breakers are then in lower case. A policy can be
/// overridden key by key where `policies` is a table, not where it is a list.
///
/// ```
/// use config::{Config, Environment, File, FileFormat};
/// use failfast::NamedSettings;
///
/// # let environment = [
/// #     ("FAILFAST_BREAKERS__PAYMENTS__OPEN__FOR", "45s"),
/// #     ("FAILFAST_BREAKERS__PAYMENTS__POLICIES__WINDOW__FAILURE_RATE", "30"),
/// # ].map(|(name, value)| (name.to_string(), value.to_string())).into_iter().collect();
/// let file = r#"breakers.payments.policies.window = { calls = 100, failure_rate = 50 }"#;
/// // FAILFAST_BREAKERS__PAYMENTS__OPEN__FOR=45s
/// // FAILFAST_BREAKERS__PAYMENTS__POLICIES__WINDOW__FAILURE_RATE=30
/// let variables = Environment::with_prefix("FAILFAST").prefix_separator("_").separator("__");
/// # let variables = variables.source(Some(environment));
/// let config = Config::builder()
///     .add_source(File::from_str(file, FileFormat::Toml)) // or File::with_name("breakers")
///     .add_source(variables)
///     .build()?;
/// let settings = NamedSettings::read(config)?;
/// # use std::time::Duration;
/// # use failfast::{Settings, WindowSettings};
/// # let breaker = settings.build("payments")?;
/// # breaker.open();
/// # assert!(breaker.snapshot().retry_after().unwrap() > Duration::from_secs(44));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NamedSettings {
    #[serde(skip_serializing_if = "is_default")]
    default: Settings,
    #[serde(deserialize_with = "sections", skip_serializing_if = "BTreeMap::is_empty")]
    breakers: BTreeMap<String, Settings>,
}

impl NamedSettings {
    /// No sections: every breaker has the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads settings, and checks them: an error names the key by its path, whatever the format.
    ///
    /// # Errors
    /// The format's, those of form (an unknown key, a wrong type, a name twice), and those of [`check`](Self::check).
    ///
    /// ```
    /// use failfast::NamedSettings;
    ///
    /// let text = r#"{ "breakers": { "payments": { "opne": { "for": "30s" } } } }"#;
    /// let error = NamedSettings::read(&mut serde_json::Deserializer::from_str(text)).unwrap_err();
    /// assert_eq!(error.path(), "breakers.payments.opne");
    /// assert!(error.to_string().starts_with("breakers.payments.opne: unknown field `opne`, expected one of "));
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

    /// What the breakers have in common.
    #[must_use]
    pub fn default_settings(mut self, settings: Settings) -> Self {
        self.default = settings;
        self
    }

    /// The section of `name`, instead of what it was.
    #[must_use]
    pub fn section(mut self, name: &str, settings: Settings) -> Self {
        self.breakers.insert(name.into(), settings);
        self
    }

    /// The names that have a section, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.breakers.keys().map(String::as_str)
    }

    /// The settings of `name`: its section, and what that does not say from `default`.
    ///
    /// ```
    /// use failfast::{NamedSettings, Settings};
    ///
    /// let settings = NamedSettings::new()
    ///     .default_settings(Settings::new().probes(1))
    ///     .section("payments", Settings::new().backoff(2.0));
    /// assert_eq!(settings.get("payments"), Settings::new().probes(1).backoff(2.0));
    /// assert_eq!(settings.get("mail"), Settings::new().probes(1));
    /// ```
    #[must_use]
    pub fn get(&self, name: &str) -> Settings {
        self.breakers.get(name).map_or_else(|| self.default.clone(), |section| section.over(&self.default))
    }

    /// Checks every value of every section, as building does.
    ///
    /// # Errors
    /// [`SettingsError`] names the first bad value by the path of its key, and the legal range.
    pub fn check(&self) -> Result<(), SettingsError> {
        self.default.check().map_err(|error| error.within("default"))?;
        self.breakers.keys().try_for_each(|name| self.parts(name).map(drop))
    }

    /// [`Settings::parts`] of `name`.
    ///
    /// # Errors
    /// As for [`check`](Self::check), of this name.
    pub fn parts(&self, name: &str) -> Result<(Vec<Rule>, crate::Config), SettingsError> {
        let section = || if self.breakers.contains_key(name) { format!("breakers.{name}") } else { "default".into() };
        self.get(name).parts().map_err(|error| error.within(&section()))
    }

    /// [`Settings::builder`] of `name`.
    ///
    /// # Errors
    /// As for [`check`](Self::check), of this name.
    pub fn builder(&self, name: &str) -> Result<Builder<Vec<Rule>>, SettingsError> {
        let (rules, config) = self.parts(name)?;
        Ok(CircuitBreaker::builder().policy(rules).config(config))
    }

    /// [`Settings::build`] of `name`.
    ///
    /// # Errors
    /// As for [`check`](Self::check), of this name.
    pub fn build(&self, name: &str) -> Result<CircuitBreaker<BoxPolicy>, SettingsError> {
        Ok(self.builder(name)?.build()?)
    }
}

/// The sections, none of them lost: of two with the same name most formats would keep the last.
fn sections<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, Settings>, D::Error> {
    deserializer.deserialize_map(Sections)
}

struct Sections;

impl<'de> Visitor<'de> for Sections {
    type Value = BTreeMap<String, Settings>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a section for each breaker")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut sections = BTreeMap::new();
        while let Some((name, settings)) = map.next_entry::<String, Settings>()? {
            if sections.contains_key(&name) {
                return Err(A::Error::custom(format_args!("two sections are named {name:?}")));
            }
            sections.insert(name, settings);
        }
        Ok(sections)
    }
}
