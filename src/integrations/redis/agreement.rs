use core::time::Duration;

use super::command::millis;
use super::member::Terms;
use crate::ConfigError;
use crate::error::Value;

/// When the fleet opens: whose word is enough.
///
/// Whatever it is, each breaker also trips by itself, and for itself.
///
/// ```
/// use failfast::redis::{Agreement, Rates};
///
/// let one_is_enough = Agreement::Any;
/// let two_at_least = Agreement::Quorum(2);
/// let all_calls_together = Agreement::Rates(Rates::new(100, 50.0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Agreement {
    /// One node's trip opens all. The fastest, and one node with a bad network opens all too.
    Any,
    /// So many nodes must be open at the same time, from 1 on, and [`share`](super::Connect::share) of the live ones:
    /// until then each is open for itself. The default is 2: one node with a bad network opens only itself.
    Quorum(u32),
    /// The fleet's calls are added up, and their rate of failures opens all, also where no node has seen enough to
    /// trip. A node's own trip opens only itself. Needs a [`Tap`](super::Tap) in each breaker.
    Rates(Rates),
}

impl Default for Agreement {
    fn default() -> Self {
        Self::Quorum(2)
    }
}

/// A rate of failures over the calls of the whole fleet.
///
/// ```
/// use failfast::redis::Rates;
/// use std::time::Duration;
///
/// // Fifty nodes with two calls a second each: no node sees enough, all of them together do.
/// let rates = Rates::new(100, 50.0).window(Duration::from_secs(10), 10);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    min_calls: u32,
    failure_rate: f64,
    length: Duration,
    buckets: u32,
}

impl Rates {
    /// Opens at this rate of failures, in percent: above 0 (at least 0.000001) and at most 100; from so many calls of the
    /// fleet on: at least 1. Over the last 10 s in 10 buckets.
    #[must_use]
    pub const fn new(min_calls: u32, failure_rate: f64) -> Self {
        Self { min_calls, failure_rate, length: Duration::from_secs(10), buckets: 10 }
    }

    /// Over the last `length`, from 1 s to 1 h, in so many buckets, from 1 to 60, of at least 100 ms. Outcomes are sent
    /// twice for each bucket, but not more often than every 100 ms, and are counted when they arrive.
    #[must_use]
    pub const fn window(mut self, length: Duration, buckets: u32) -> Self {
        self.length = length;
        self.buckets = buckets;
        self
    }

    fn terms(&self) -> Result<Terms, ConfigError> {
        let Self { min_calls, failure_rate, length, buckets } = *self;
        if min_calls == 0 {
            return Err(ConfigError::new("rates.min_calls", Value::Count(0), "must be at least 1"));
        }
        let rate = hundred_millionths("rates.failure_rate", failure_rate, 0.000_001)?;
        if length < Duration::from_secs(1) || length > Duration::from_secs(3600) {
            return Err(ConfigError::new("rates.length", Value::Time(length), "must be from 1 s to 1 h"));
        }
        if buckets == 0 || buckets > 60 {
            return Err(ConfigError::new("rates.buckets", Value::Count(buckets.into()), "must be from 1 to 60"));
        }
        let bucket = millis(length) / u64::from(buckets);
        if bucket < 100 {
            let legal = "must be at least 100 ms for each bucket";
            return Err(ConfigError::new("rates.length", Value::Time(length), legal));
        }
        let flush = (bucket / 2).max(100);
        Ok(Terms::Rates { min_calls: min_calls.into(), rate, bucket, buckets: buckets.into(), flush })
    }
}

impl Agreement {
    pub(super) fn terms(&self, share: f64) -> Result<Terms, ConfigError> {
        match self {
            Self::Any => Ok(Terms::Any),
            Self::Quorum(0) => Err(ConfigError::new("agreement.quorum", Value::Count(0), "must be at least 1 node")),
            Self::Quorum(nodes) => {
                Ok(Terms::Quorum { nodes: *nodes, share: hundred_millionths("agreement.share", share, 0.0)? })
            }
            Self::Rates(rates) => rates.terms(),
        }
    }
}

fn hundred_millionths(field: &'static str, percent: f64, least: f64) -> Result<u32, ConfigError> {
    if percent >= least && percent <= 100.0 {
        return Ok((percent * 1_000_000.0).round() as u32);
    }
    let legal = if least > 0.0 {
        "must be above 0 % (at least 0.000001 %) and at most 100 %"
    } else {
        "must be from 0 % to 100 %"
    };
    Err(ConfigError::new(field, Value::Percent(percent), legal))
}
