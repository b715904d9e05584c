//! Reading settings, and what can be wrong with them, with the path of the key.

use core::fmt;
use std::boxed::Box;
use std::error::Error;
use std::format;
use std::string::{String, ToString};

use serde::{Deserialize, Deserializer};

use crate::error::ConfigError;

/// Settings that do not make a breaker. It names the key by its path, and says what is wrong there.
///
/// ```
/// use failfast::NamedSettings;
///
/// let text = r#"
///     [breakers.payments]
///     half_open = { probes = 3, successes = 4 }
/// "#;
/// let error = NamedSettings::read(toml::Deserializer::parse(text)?).unwrap_err();
/// assert_eq!(error.path(), "breakers.payments.half_open.successes");
/// assert_eq!(
///     error.to_string(),
///     "breakers.payments.half_open.successes is 4: must be from 1 to half_open.probes (3)",
/// );
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug)]
pub struct SettingsError {
    /// Where the problem is; where the field of a bad value is.
    place: String,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Value(ConfigError),
    Form(Box<dyn Error + Send + Sync>),
}

impl SettingsError {
    /// The key's path, for example `breakers.payments.policies[0].window.calls`. Where a key is missing it is the path
    /// of its section.
    #[must_use]
    pub fn path(&self) -> String {
        match &self.problem {
            Problem::Value(error) => joined(&self.place, error.field()),
            Problem::Form(_) => self.place.clone(),
        }
    }

    /// What is wrong with the value; none if its form is wrong.
    #[must_use]
    pub const fn value(&self) -> Option<&ConfigError> {
        match &self.problem {
            Problem::Value(error) => Some(error),
            Problem::Form(_) => None,
        }
    }

    /// The same problem, seen from a file in which these settings are the section `section`.
    ///
    /// ```
    /// use failfast::Settings;
    ///
    /// let error = Settings::new().probes(0).check().unwrap_err().within("payments.breaker");
    /// assert_eq!(error.to_string(), "payments.breaker.half_open.probes is 0: must be from 1 to 16383");
    /// ```
    #[must_use]
    pub fn within(mut self, section: &str) -> Self {
        self.place = joined(section, &self.place);
        self
    }
}

fn joined(section: &str, key: &str) -> String {
    if section.is_empty() || key.is_empty() { format!("{section}{key}") } else { format!("{section}.{key}") }
}

impl From<ConfigError> for SettingsError {
    fn from(error: ConfigError) -> Self {
        Self { place: String::new(), problem: Problem::Value(error) }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            let between = if matches!(self.problem, Problem::Value(_)) { "." } else { ": " };
            write!(f, "{}{between}", self.place)?;
        }
        match &self.problem {
            Problem::Value(error) => error.fmt(f),
            Problem::Form(error) => f.write_str(error.to_string().trim_end()),
        }
    }
}

/// Transparent: it reads, and has the source, of the problem itself.
impl Error for SettingsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.problem {
            Problem::Value(error) => error.source(),
            Problem::Form(error) => error.source(),
        }
    }
}

pub(super) fn read<'de, T, D>(deserializer: D) -> Result<T, SettingsError>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
    D::Error: Send + Sync + 'static,
{
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let place = if error.path().iter().len() == 0 { String::new() } else { error.path().to_string() };
        SettingsError { place, problem: Problem::Form(Box::new(error.into_inner())) }
    })
}
