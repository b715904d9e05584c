//! Calls, states, transitions, rates and durations, through the [metrics] facade (feature `metrics`).
//!
//! ```
//! use failfast::CircuitBreaker;
//! use failfast::metrics::Metrics;
//! use std::sync::Arc;
//!
//! let metrics = Metrics::new();
//! let breaker = Arc::new(CircuitBreaker::builder().observer(metrics.observer("payments")).build()?);
//! metrics.watch(("payments", breaker.clone()));
//!
//! assert_eq!(breaker.call(|| "42".parse::<u32>()), Ok(42));
//! metrics.collect(); // before each scrape, or every few seconds
//! # Ok::<(), failfast::ConfigError>(())
//! ```
//!
//! For every breaker of a [`Registry`](crate::registry::Registry), under its key:
//!
//! ```
//! # #[cfg(feature = "registry")] {
//! use failfast::Registry;
//! use failfast::metrics::Metrics;
//! use std::sync::Arc;
//!
//! let metrics = Metrics::new();
//! let hosts = Arc::new(Registry::builder().observer(metrics.observers()).build()?);
//! metrics.watch(hosts.clone());
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Calls for which it had no place count under `(full)`.
//!
//! # What there is
//!
//! | metric | kind | labels | what |
//! |---|---|---|---|
//! | `circuit_breaker_calls_total` | counter | `name`, `outcome` | calls that were settled, and those that were rejected |
//! | `circuit_breaker_state` | gauge | `name`, `state` | 1 for the state that it is in, 0 for the other five |
//! | `circuit_breaker_transitions_total` | counter | `name`, `from`, `to`, `cause` | changes of state |
//! | `circuit_breaker_failure_rate` | gauge | `name` | percent of the window's calls that failed |
//! | `circuit_breaker_slow_call_rate` | gauge | `name` | percent of the window's calls that were slow |
//! | `circuit_breaker_call_duration_seconds` | histogram | `name` | how long calls took, whatever their outcome; rejected ones take no time, and are not in it |
//!
//! - `outcome`: `success`, `failure` (and "open for"), `ignored`, `cancelled`, `rejected`. Stragglers count too: they were
//!   calls. While a breaker is disabled none of its calls are counted, as it records none.
//! - `state`: [`State::as_str`](crate::State::as_str). It is the effective one, read when it is collected: an expired wait
//!   reads `half_open`.
//! - `cause`: [`Cause::as_str`](crate::Cause::as_str). The transitions of an outage are there from the start, at 0, so that
//!   `increase()` sees the first one; those by hand appear when they happen.
//! - The rates are those of the first window that has one. **While there is none they are absent, not 0**: fewer calls
//!   than `min_calls`, or no window at all. From the trip until it closes, they are those of the trip. A facade cannot take
//!   a gauge back, so one that has been known and is no longer is NaN, which is neither above nor below any threshold, and
//!   no graph draws; leave such lines out of what you expose if you can, as `examples/prometheus.rs` does.
//! - The histogram's [`BUCKETS`] are from 0.5 ms to 30 s. Tell the exporter the same ones; for
//!   metrics-exporter-prometheus: `set_buckets_for_metric(Matcher::Full(CALL_DURATION.into()), &BUCKETS)`. Each call is in
//!   its bucket and the sum is exact, but a call's own time is not kept: what the exporter gets is the mean of each bucket.
//!
//! About 41 series a breaker, of which the histogram takes 18.
//!
//! # What it costs
//!
//! A call adds to counters of its own thread's stripe: one `fetch_add`, with durations two
//! ([performance](crate::docs::performance)). It allocates nothing and locks nothing. Everything else happens in
//! [`Metrics::collect`], on the thread that calls it: gauges are read from the breakers, counters and the histogram from the
//! stripes. Nothing is built from events but the transitions' counts.
//!
//! Durations need two clock reads a call, unless the breaker's policy makes them anyway;
//! [`durations(false)`](MetricsBuilder::durations) does without. The facade takes a histogram's samples one by one: for
//! `collect` a call costs about as much as recording it directly would have cost the caller, and an exporter may keep
//! 16 bytes of each until it is scraped. Where there are more than 100,000 calls a second, collect each second, and have the
//! exporter take them in then (`PrometheusHandle::run_upkeep`).
//!
//! # How many names
//!
//! The first [`capacity`](MetricsBuilder::capacity) names (1000 unless set) have series of their own, for good. All later
//! ones share the name [`OTHER`]: their calls and transitions are added up, `circuit_breaker_state` says how many of
//! them are in each state, and the rates are the highest of them. An error instead would fail where a breaker is made, that
//! is, in the middle of a request, for the sake of a graph; and names that come and go would grow the
//! monitoring system's index without bound.

mod calls;
mod collect;

pub use calls::{BUCKETS, CallMetrics};

use core::fmt;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::thread;
use std::vec::Vec;

use crate::error::{ConfigError, Value};
use crate::health::Monitored;
use calls::Cells;
use collect::Published;

/// The name of the histogram, for the exporter's configuration: `circuit_breaker_call_duration_seconds`.
pub const CALL_DURATION: &str = "circuit_breaker_call_duration_seconds";

/// The name under which breakers are counted that came after the capacity was used up: `_other`.
pub const OTHER: &str = "_other";

/// Counts calls and transitions of breakers by name, and publishes them, with their states and rates. See the
/// [module](self). Clones share everything.
///
/// ```
/// use failfast::metrics::Metrics;
///
/// let metrics = Metrics::builder().capacity(50).durations(false).build()?;
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
}

struct Shared {
    options: MetricsBuilder,
    /// None is ever removed.
    names: RwLock<Names>,
    other: Arc<Entry>,
    watched: RwLock<Vec<Arc<dyn Monitored>>>,
    published: Mutex<Published>,
}

type Names = HashMap<Arc<str>, Arc<Entry>>;

struct Entry {
    name: Arc<str>,
    /// None before anybody counts under this name.
    cells: OnceLock<Arc<Cells>>,
}

impl Entry {
    fn new(name: &str) -> Arc<Self> {
        Arc::new(Self { name: name.into(), cells: OnceLock::new() })
    }
}

impl Metrics {
    /// With the defaults: 1000 names, with durations.
    #[must_use]
    pub fn new() -> Self {
        Self::of(MetricsBuilder::default())
    }

    /// Begins one with other numbers.
    pub fn builder() -> MetricsBuilder {
        MetricsBuilder::default()
    }

    fn of(options: MetricsBuilder) -> Self {
        let shared = Shared {
            options,
            names: RwLock::default(),
            other: Entry::new(OTHER),
            watched: RwLock::default(),
            published: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The observer that counts a breaker's calls and transitions. Breakers that share a name are added up.
    ///
    /// It locks a table: it belongs where breakers are made.
    ///
    /// ```
    /// # let metrics = failfast::metrics::Metrics::new();
    /// use failfast::{CircuitBreaker, OnTransition};
    ///
    /// let log = OnTransition::new(|transition| println!("{transition}"));
    /// let breaker = CircuitBreaker::builder().observer((metrics.observer("payments"), log)).build()?;
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    #[must_use]
    pub fn observer(&self, name: &str) -> CallMetrics {
        let MetricsBuilder { durations, stripes, .. } = self.shared.options;
        let entry = self.entry(name);
        CallMetrics::new(entry.cells.get_or_init(|| Arc::new(Cells::new(durations, stripes))).clone())
    }

    /// [`observer`](Self::observer) as a closure of the name, for a registry: `Registry::builder().observer(metrics.observers())`.
    pub fn observers(&self) -> impl Fn(&str) -> CallMetrics + Clone + Send + Sync + use<> {
        let metrics = self.clone();
        move |name| metrics.observer(name)
    }

    /// Publishes the states and rates of these breakers from now on: `("payments", breaker)`, with the breaker in an
    /// `Arc` or a `static`; a list of such pairs; a registry in an `Arc`. What they are is asked at each
    /// [`collect`](Self::collect), so a list of your own type may grow and shrink.
    ///
    /// ```
    /// # let metrics = failfast::metrics::Metrics::new();
    /// use failfast::{CircuitBreaker, Config, Consecutive};
    ///
    /// static MAIL: CircuitBreaker = CircuitBreaker::new(Consecutive::new(5), Config::new());
    /// metrics.watch(("mail", &MAIL));
    /// ```
    pub fn watch(&self, breakers: impl Monitored + 'static) {
        self.shared.watched.write().unwrap_or_else(PoisonError::into_inner).push(Arc::new(breakers));
    }

    /// The entry of this name, or the one that all names share for which there is no room.
    fn entry(&self, name: &str) -> Arc<Entry> {
        let known = |names: &Names| match names.get(name) {
            None if name == OTHER || names.len() == self.shared.options.capacity => Some(self.shared.other.clone()),
            known => known.cloned(),
        };
        let found = known(&self.shared.names.read().unwrap_or_else(PoisonError::into_inner));
        found.unwrap_or_else(|| {
            let mut names = self.shared.names.write().unwrap_or_else(PoisonError::into_inner);
            known(&names).unwrap_or_else(|| {
                let entry = Entry::new(name);
                names.insert(entry.name.clone(), entry.clone());
                entry
            })
        })
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.shared.names.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Metrics").field("names", &names.len()).finish_non_exhaustive()
    }
}

/// Sets the numbers of a [`Metrics`].
///
/// ```
/// use failfast::metrics::Metrics;
///
/// let error = Metrics::builder().capacity(0).build().unwrap_err();
/// assert_eq!(error.to_string(), "metrics.capacity is 0: must be from 1 to 100000");
/// ```
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct MetricsBuilder {
    capacity: usize,
    durations: bool,
    stripes: usize,
}

impl MetricsBuilder {
    /// How many names have series of their own: from 1 to 100,000. Default 1000. Each takes its stripes and 2 KB.
    pub const fn capacity(mut self, names: usize) -> Self {
        self.capacity = names;
        self
    }

    /// Whether to measure how long calls take. Default true.
    pub const fn durations(mut self, measured: bool) -> Self {
        self.durations = measured;
        self
    }

    /// In how many stripes each name's calls are counted: from 1 to 1024, rounded up to a power of two. A stripe takes
    /// 768 bytes, and threads contend for it when there are more of them. Default: the number of processors, at most 16.
    pub const fn stripes(mut self, stripes: usize) -> Self {
        self.stripes = stripes;
        self
    }

    /// Checks the numbers.
    ///
    /// # Errors
    /// [`ConfigError`] names the field that is out of its range, its value and the range.
    pub fn build(mut self) -> Result<Metrics, ConfigError> {
        let out_of_range = |field, value, legal| Err(ConfigError::new(field, Value::Count(value as u64), legal));
        if !(1..=100_000).contains(&self.capacity) {
            return out_of_range("metrics.capacity", self.capacity, "must be from 1 to 100000");
        }
        if !(1..=1024).contains(&self.stripes) {
            return out_of_range("metrics.stripes", self.stripes, "must be from 1 to 1024");
        }
        self.stripes = self.stripes.next_power_of_two();
        Ok(Metrics::of(self))
    }
}

impl Default for MetricsBuilder {
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self { capacity: 1000, durations: true, stripes: processors.min(16).next_power_of_two() }
    }
}
