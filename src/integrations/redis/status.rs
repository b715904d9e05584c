use core::fmt;
use core::time::Duration;

use super::error::StoreError;
use super::record::Record;
use crate::{Reason, State};

/// What the fleet has agreed on for one breaker, as far as this node knows. The breaker's own state may be another one:
/// it also trips by itself.
///
/// Its `Display` is one line for a log.
///
/// ```
/// use failfast::{CircuitBreaker, State};
/// use failfast::redis::Fleet;
/// use std::sync::Arc;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
///
/// let fleet = Fleet::connect("redis://127.0.0.1:1").await?;
/// let breaker = Arc::new(CircuitBreaker::builder().build().unwrap());
/// fleet.join("payments", &breaker)?;
/// let agreed = fleet.agreed("payments").unwrap();
/// assert_eq!((agreed.state(), agreed.epoch()), (State::Closed, 0)); // nothing is known yet
/// # Ok::<(), failfast::redis::FleetError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agreed(pub(super) Record);

impl Agreed {
    /// The state: any but half-open. While open and nothing remains, somebody probes.
    #[must_use]
    pub const fn state(&self) -> State {
        self.0.state
    }

    /// Grows with every change. 0 while nothing is known.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// How long until probes are due, while open.
    #[must_use]
    pub const fn remaining(&self) -> Option<Duration> {
        match self.0.state {
            State::Open => Some(Duration::from_millis(self.0.remaining)),
            _ => None,
        }
    }

    /// How often the fleet's probes have failed in this outage.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.0.attempt
    }

    /// Why it opened, or that it was set by hand.
    #[must_use]
    pub const fn reason(&self) -> Option<Reason> {
        self.0.reason
    }

    /// The node that changed it last.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.0.node
    }

    /// Who set it by hand, and why.
    #[must_use]
    pub fn by_hand(&self) -> Option<(&str, &str)> {
        (self.0.reason == Some(Reason::ByHand)).then_some((&*self.0.who, &*self.0.why))
    }
}

impl fmt::Display for Agreed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { epoch, state, reason, node, .. } = &self.0;
        write!(f, "{state}")?;
        match (self.by_hand(), reason) {
            (Some(("", _)), _) => write!(f, " by hand on {node}")?,
            (Some((who, "")), _) => write!(f, " by {who} on {node}")?,
            (Some((who, why)), _) => write!(f, " by {who} ({why}) on {node}")?,
            (None, Some(reason)) => write!(f, ": {reason} on {node}")?,
            (None, None) if *epoch == 0 => f.write_str(", nothing is known")?,
            (None, None) => write!(f, " by probes on {node}")?,
        }
        self.remaining().map_or(Ok(()), |wait| write!(f, "; probes in {wait:?}"))
    }
}

/// How it goes with the store.
///
/// ```
/// use failfast::redis::Fleet;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
///
/// let fleet = Fleet::connect("redis://127.0.0.1:1").await?;
/// let store = fleet.store();
/// assert!(!store.is_up());
/// println!("{}", store.error().unwrap());
/// # Ok::<(), failfast::redis::FleetError>(())
/// # }).unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Store {
    pub(super) up: bool,
    pub(super) error: Option<StoreError>,
    pub(super) connections: u64,
    pub(super) commands: u64,
    pub(super) refused: u64,
}

impl Store {
    /// Whether it answers. While it does not, each breaker goes on by itself.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.up
    }

    /// Why it does not, or what it has refused last.
    #[must_use]
    pub const fn error(&self) -> Option<&StoreError> {
        self.error.as_ref()
    }

    /// How often it has been connected to.
    #[must_use]
    pub const fn connections(&self) -> u64 {
        self.connections
    }

    /// Commands sent to it.
    #[must_use]
    pub const fn commands(&self) -> u64 {
        self.commands
    }

    /// Values of it that nobody of the fleet can have written, and that were refused.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }
}

/// The store was lost, or is back.
///
/// ```
/// use failfast::redis::StoreEvent;
///
/// fn alert(event: &StoreEvent) -> bool {
///     matches!(event, StoreEvent::Degraded(_))
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StoreEvent {
    /// It answers (again).
    Up,
    /// It does not answer: each breaker goes on by itself.
    Degraded(StoreError),
}

impl fmt::Display for StoreEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up => f.write_str("up"),
            Self::Degraded(error) => write!(f, "degraded: {error}"),
        }
    }
}
