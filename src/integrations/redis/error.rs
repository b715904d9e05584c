use alloc::boxed::Box;
use core::fmt;

use super::record::sanitized;
use crate::ConfigError;

/// What can go wrong between a process and its fleet. No call sees any of it.
///
/// ```
/// use failfast::redis::{Fleet, FleetError};
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
///
/// let error = Fleet::connect("http://127.0.0.1").await.unwrap_err();
/// assert!(matches!(error, FleetError::Url(_)));
/// # });
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum FleetError {
    /// A setting is out of its range.
    Config(ConfigError),
    /// The server's address, which this does not repeat since it may hold a password.
    Url(StoreError),
    /// This cannot be the name of a breaker: it is empty or too long.
    Name(Box<str>),
    /// A breaker of this name has been joined already.
    Joined(Box<str>),
    /// [`Agreement::Rates`](super::Agreement::Rates) counts outcomes: the breaker of this name has to be joined with
    /// [`join_tapped`](super::Fleet::join_tapped).
    Untapped(Box<str>),
    /// The server was reached and refused: a wrong password, a missing right, too old a version.
    Refused(StoreError),
    /// The server cannot be reached.
    Unreachable(StoreError),
    /// There is no tokio runtime, or it has been shut down.
    NoRuntime,
}

/// What the client or the server said, without addresses and secrets, in at most 200 bytes.
#[derive(Clone, Debug)]
pub struct StoreError(Box<str>);

impl StoreError {
    pub(super) fn not_connected() -> Self {
        Self("not connected".into())
    }

    pub(super) fn garbled() -> Self {
        Self("the answer is garbled".into())
    }

    pub(super) fn of(error: &::redis::RedisError) -> Self {
        match error.kind() {
            // It may quote the address that it did not understand.
            ::redis::ErrorKind::InvalidClientConfig => Self(error.category().into()),
            _ => Self(sanitized(&alloc::format!("{error}"))),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for StoreError {}

impl fmt::Display for FleetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Url(error) => write!(
                f,
                "the store's address is not one: must be redis://[user:password@]host[:port][/db], or rediss:// with \
                 the feature redis-tls ({error})"
            ),
            Self::Name(name) => {
                write!(f, "the breaker's name {name:?} is {} bytes long: must be from 1 to 100", name.len())
            }
            Self::Joined(name) => write!(f, "a breaker named {name:?} has joined the fleet already"),
            Self::Untapped(name) => {
                write!(
                    f,
                    "the fleet adds up outcomes: build the breaker {name:?} with a Tap, and join it with join_tapped"
                )
            }
            Self::Refused(error) => write!(f, "the store refused: {error}"),
            Self::Unreachable(error) => write!(f, "the store cannot be reached: {error}"),
            Self::NoRuntime => f.write_str("no tokio runtime: call it inside one that runs"),
        }
    }
}

impl core::error::Error for FleetError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::Url(error) | Self::Refused(error) | Self::Unreachable(error) => Some(error),
            Self::Name(_) | Self::Joined(_) | Self::Untapped(_) | Self::NoRuntime => None,
        }
    }
}

impl From<ConfigError> for FleetError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}
