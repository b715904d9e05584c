//! What happens to a registry.

use core::fmt;

/// Something that happened to a registry: [`on_event`](super::RegistryBuilder::on_event) is told, after it took effect,
/// on the thread that did it.
///
/// ```
/// use failfast::Registry;
/// use failfast::registry::RegistryEvent;
///
/// let hosts = Registry::builder()
///     .on_event(|event: &RegistryEvent<'_>| match event {
///         RegistryEvent::Full { key } => eprintln!("no place for {key}"),
///         other => println!("{other}"), // added payments
///     })
///     .build()?;
/// hosts.get("payments");
/// # Ok::<(), failfast::registry::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistryEvent<'a> {
    /// A breaker was made.
    Added {
        /// Its key.
        key: &'a str,
    },
    /// A breaker was forgotten.
    Removed {
        /// Its key.
        key: &'a str,
        /// Why.
        why: Removal,
    },
    /// There was no place for a breaker. Told each time that a call meets this.
    Full {
        /// Its key.
        key: &'a str,
    },
}

/// Why a breaker was forgotten.
///
/// ```
/// use failfast::registry::Removal;
///
/// assert_eq!(Removal::Idle.to_string(), "idle");
/// assert_eq!(Removal::ByHand.to_string(), "by hand");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Removal {
    /// It was closed, and nobody had used it for the idle time.
    Idle,
    /// It was open or half-open, and nobody had used it for the time of
    /// [`abandon_after`](super::RegistryBuilder::abandon_after).
    Abandoned,
    /// By [`remove`](super::Registry::remove).
    ByHand,
}

impl<'a> RegistryEvent<'a> {
    /// The breaker's key.
    #[must_use]
    pub const fn key(&self) -> &'a str {
        match self {
            Self::Added { key } | Self::Removed { key, .. } | Self::Full { key } => key,
        }
    }
}

impl fmt::Display for RegistryEvent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Added { key } => write!(f, "added {key}"),
            Self::Removed { key, why } => write!(f, "removed {key}: {why}"),
            Self::Full { key } => write!(f, "full: no place for {key}"),
        }
    }
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle => "idle",
            Self::Abandoned => "abandoned",
            Self::ByHand => "by hand",
        })
    }
}
