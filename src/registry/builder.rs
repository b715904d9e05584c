//! Putting a registry together.

use core::fmt;
use core::num::NonZeroU32;
use core::time::Duration;
use std::boxed::Box;
use std::collections::HashMap;
use std::sync::Arc;

use super::{Keyed, OnEvent, Registry, RegistryEvent};
use crate::breaker::CircuitBreaker;
use crate::clock::{Clock, DefaultClock};
use crate::config::{Config, LONGEST};
use crate::error::{ConfigError, Value};
use crate::observer::Observer;
use crate::policy::into::Sealed;
use crate::policy::{Consecutive, IntoPolicy, Made, Policy};
use crate::snapshot::State;
use crate::sync::{AtomicU32, AtomicU64};

/// What a call meets for whose breaker a full registry has no place.
///
/// ```
/// use failfast::Registry;
/// use failfast::registry::WhenFull;
///
/// let hosts = Registry::builder().capacity(1).when_full(WhenFull::PassUnguarded).build()?;
/// let payments = hosts.get("payments");
/// assert_eq!(hosts.get("search").call(|| "42".parse::<u32>()), Ok(42));
/// # Ok::<(), failfast::registry::BuildError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenFull {
    /// A rejection that says so. The default, so that a capacity that is too small is noticed.
    #[default]
    Reject,
    /// No breaker: the call is made, and nothing is recorded.
    PassUnguarded,
}

/// A registry's configuration that makes no sense: which breaker's, and what about it.
///
/// ```
/// use failfast::{Config, Registry};
///
/// let error = Registry::builder().capacity(0).build().unwrap_err();
/// assert_eq!(error.to_string(), "registry.capacity is 0: must be from 1 to 4294967295");
///
/// let error = Registry::builder().config_for("payments", Config::new().probes(0)).build().unwrap_err();
/// assert_eq!(error.to_string(), "breaker \"payments\": half_open.probes is 0: must be from 1 to 16383");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct BuildError {
    key: Option<Box<str>>,
    error: ConfigError,
}

impl BuildError {
    /// Whose configuration it is; none if the default's or the registry's own.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// What is wrong.
    #[must_use]
    pub const fn error(&self) -> ConfigError {
        self.error
    }
}

impl From<ConfigError> for BuildError {
    fn from(error: ConfigError) -> Self {
        Self { key: None, error }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.key {
            write!(f, "breaker {key:?}: ")?;
        }
        self.error.fmt(f)
    }
}

impl core::error::Error for BuildError {}

/// Makes a policy, over and over.
type Recipe<P> = Box<dyn Fn() -> Result<Made<P>, ConfigError> + Send + Sync>;

fn recipe<S: IntoPolicy + Clone + Send + Sync + 'static>(policy: S) -> Recipe<S::Policy> {
    Box::new(move || policy.clone().into_policy())
}

/// A recipe as something that a breaker can be built of.
struct Prepared<'a, P: Policy>(&'a Recipe<P>);

impl<P: Policy> IntoPolicy for Prepared<'_, P> {
    type Policy = P;
}

impl<P: Policy> Sealed<P> for Prepared<'_, P> {
    fn into_policy(self) -> Result<Made<P>, ConfigError> {
        (self.0)()
    }
}

/// What one key has instead of the defaults.
struct Own<P: Policy> {
    policy: Option<Recipe<P>>,
    config: Option<Config>,
}

impl<P: Policy> Default for Own<P> {
    fn default() -> Self {
        Self { policy: None, config: None }
    }
}

/// How a registry's breakers are made.
pub(super) struct Recipes<P: Policy, C, O> {
    policy: Recipe<P>,
    config: Config,
    own: HashMap<Box<str>, Own<P>>,
    pub(super) clock: C,
    observer: Box<dyn Fn(&str) -> O + Send + Sync>,
}

impl<P: Policy, C: Clock + Clone, O: Observer> Recipes<P, C, O> {
    pub(super) fn make(&self, key: &str) -> Arc<CircuitBreaker<P, C, O>> {
        let own = self.own.get(key);
        let policy = own.and_then(|own| own.policy.as_ref()).unwrap_or(&self.policy);
        let config = own.and_then(|own| own.config).unwrap_or(self.config);
        Arc::new(self.build(policy, config, key).expect("checked when the registry was built"))
    }

    fn build(&self, policy: &Recipe<P>, config: Config, key: &str) -> Result<CircuitBreaker<P, C, O>, ConfigError> {
        let builder = CircuitBreaker::builder().policy(Prepared(policy)).config(config).clock(self.clock.clone());
        builder.observer((self.observer)(key)).build()
    }

    fn check(&self) -> Result<(), BuildError> {
        check(&self.policy, self.config)?;
        for (key, own) in &self.own {
            let checked = check(own.policy.as_ref().unwrap_or(&self.policy), own.config.unwrap_or(self.config));
            checked.map_err(|error| BuildError { key: Some(key.clone()), error })?;
        }
        Ok(())
    }
}

fn check<P: Policy>(policy: &Recipe<P>, config: Config) -> Result<(), ConfigError> {
    CircuitBreaker::builder().policy(Prepared(policy)).config(config).build().map(drop)
}

/// Puts a registry together; [`Registry::builder`] begins one.
///
/// ```
/// use failfast::{Config, LastCalls, Registry};
/// use std::time::Duration;
///
/// let hosts = Registry::builder()
///     .capacity(1_000)
///     .idle_time(Duration::from_secs(3600))
///     .default_policy(LastCalls::<100>::new().failure_rate(50.0))
///     .policy_for("search", LastCalls::<100>::new().failure_rate(20.0))
///     .config_for("payments", Config::new().open_for(Duration::from_secs(5)))
///     .build()?;
/// # Ok::<(), failfast::registry::BuildError>(())
/// ```
#[must_use = "a builder does nothing until it builds"]
pub struct RegistryBuilder<P: Policy = Consecutive, C = DefaultClock, O = ()> {
    recipes: Recipes<P, C, O>,
    room: Room,
    on_event: Option<OnEvent>,
    /// Policies that were lost to a later default.
    lost: usize,
}

/// How many breakers there can be, and for how long.
#[derive(Clone, Copy)]
struct Room {
    capacity: usize,
    idle_time: Duration,
    abandoned_after: Option<Duration>,
    when_full: WhenFull,
}

impl RegistryBuilder {
    pub(super) fn new() -> Self {
        Self {
            recipes: Recipes {
                policy: recipe(Consecutive::new(5)),
                config: Config::new(),
                own: HashMap::new(),
                clock: DefaultClock,
                observer: Box::new(|_| ()),
            },
            room: Room {
                capacity: 10_000,
                idle_time: Duration::from_secs(600),
                abandoned_after: None,
                when_full: WhenFull::Reject,
            },
            on_event: None,
            lost: 0,
        }
    }
}

impl<P: Policy, C, O> RegistryBuilder<P, C, O> {
    /// How many breakers there can be: from 1 to 4294967295. Default 10,000. One with the default policy takes about
    /// 430 bytes.
    pub const fn capacity(mut self, breakers: usize) -> Self {
        self.room.capacity = breakers;
        self
    }

    /// How long after its last use a closed breaker may give up its place: more than 0, at most 3650 days. Default
    /// 10 minutes. What it has counted goes with it, so it should be longer than the window and than the time between
    /// two calls.
    pub const fn idle_time(mut self, time: Duration) -> Self {
        self.room.idle_time = time;
        self
    }

    /// How long after its last use an open or half-open breaker may give up its place as well: at least the
    /// [`idle_time`](Self::idle_time), at most 3650 days. Default never.
    ///
    /// Where keys come and go, such as hosts that are gone for good, their open breakers would fill the registry in time,
    /// since only calls close them. What comes back after this long is met by a closed breaker.
    ///
    /// ```
    /// use failfast::{ManualClock, Registry};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let hosts = Registry::builder().abandon_after(Duration::from_secs(86_400)).clock(&clock).build()?;
    /// hosts.get("gone.example").breaker().unwrap().open();
    /// clock.advance(Duration::from_secs(86_400));
    /// assert_eq!(hosts.sweep(), 1);
    /// # Ok::<(), failfast::registry::BuildError>(())
    /// ```
    pub const fn abandon_after(mut self, time: Duration) -> Self {
        self.room.abandoned_after = Some(time);
        self
    }

    /// What happens to calls for whose breaker there is no place. Default [`WhenFull::Reject`].
    pub const fn when_full(mut self, what: WhenFull) -> Self {
        self.room.when_full = what;
        self
    }

    /// When breakers trip, unless [`policy_for`](Self::policy_for) says otherwise. Default 5 failures in a row.
    ///
    /// It comes before `policy_for`, whose policies are of its type. For policies of different types, use lists of
    /// [`Rule`](crate::Rule)s:
    ///
    /// ```
    /// use failfast::{BoxPolicy, Consecutive, CountWindow, Registry, Rule};
    ///
    /// let default: Vec<Rule> = vec![Consecutive::new(5).into()];
    /// let search: Vec<Rule> = vec![CountWindow::over(100).failure_rate(20.0).into()];
    /// let hosts: Registry<BoxPolicy> =
    ///     Registry::builder().default_policy(default).policy_for("search", search).build()?;
    /// # Ok::<(), failfast::registry::BuildError>(())
    /// ```
    pub fn default_policy<S>(self, policy: S) -> RegistryBuilder<S::Policy, C, O>
    where
        S: IntoPolicy + Clone + Send + Sync + 'static,
    {
        let Recipes { config, own, clock, observer, .. } = self.recipes;
        let lost = own.values().filter(|own| own.policy.is_some()).count();
        let own = own.into_iter().map(|(key, own)| (key, Own { policy: None, config: own.config })).collect();
        RegistryBuilder {
            recipes: Recipes { policy: recipe(policy), config, own, clock, observer },
            room: self.room,
            on_event: self.on_event,
            lost: self.lost + lost,
        }
    }

    /// Everything else about breakers, unless [`config_for`](Self::config_for) says otherwise. Default
    /// [`Config::new`].
    pub fn default_config(mut self, config: Config) -> Self {
        self.recipes.config = config;
        self
    }

    /// When the breaker of this key trips.
    pub fn policy_for<S>(mut self, key: &str, policy: S) -> Self
    where
        S: IntoPolicy<Policy = P> + Clone + Send + Sync + 'static,
    {
        self.recipes.own.entry(key.into()).or_default().policy = Some(recipe(policy));
        self
    }

    /// Everything else about the breaker of this key.
    pub fn config_for(mut self, key: &str, config: Config) -> Self {
        self.recipes.own.entry(key.into()).or_default().config = Some(config);
        self
    }

    /// Where the time comes from, for the registry and each of its breakers. Default [`DefaultClock`].
    pub fn clock<D: Clock + Clone>(self, clock: D) -> RegistryBuilder<P, D, O> {
        let Recipes { policy, config, own, observer, .. } = self.recipes;
        RegistryBuilder {
            recipes: Recipes { policy, config, own, clock, observer },
            room: self.room,
            on_event: self.on_event,
            lost: self.lost,
        }
    }

    /// Makes each breaker's observer, from its key: the name under which it counts or logs, for example. Default
    /// none.
    ///
    /// One more is made for the calls for which there is no place, from `(full)`; and a thread that comes second with a
    /// new key may make one in vain.
    ///
    /// ```
    /// use failfast::registry::Registry;
    /// use failfast::{Consecutive, DefaultClock, Observer, Transition};
    ///
    /// struct Log(String);
    /// impl Observer for Log {
    ///     fn observes_calls(&self) -> bool { false }
    ///     fn on_transition(&self, transition: &Transition) { println!("{}: {transition}", self.0) }
    /// }
    ///
    /// let hosts: Registry<Consecutive, DefaultClock, Log> =
    ///     Registry::builder().observer(|key| Log(key.to_owned())).build()?;
    /// hosts.get("payments").breaker().unwrap().open(); // payments: closed -> open (opened by hand)
    /// # Ok::<(), failfast::registry::BuildError>(())
    /// ```
    pub fn observer<N: Observer>(self, make: impl Fn(&str) -> N + Send + Sync + 'static) -> RegistryBuilder<P, C, N> {
        let Recipes { policy, config, own, clock, .. } = self.recipes;
        RegistryBuilder {
            recipes: Recipes { policy, config, own, clock, observer: Box::new(make) },
            room: self.room,
            on_event: self.on_event,
            lost: self.lost,
        }
    }

    /// Tells a closure of breakers that are added and removed, and of calls for which there is no place: on the thread
    /// that did it, after it took effect. A second one replaces the first. A panic in it is caught and
    /// [counted](Registry::event_panics).
    pub fn on_event(mut self, f: impl Fn(&RegistryEvent<'_>) + Send + Sync + 'static) -> Self {
        self.on_event = Some(Box::new(f));
        self
    }

    /// Checks every number, and builds the registry.
    ///
    /// # Errors
    /// [`BuildError`] names the first field that is out of its range, its value, the range, and the key if it is that
    /// of a key.
    pub fn build(self) -> Result<Registry<P, C, O>, BuildError>
    where
        C: Clock + Clone,
        O: Observer,
    {
        let Self { recipes, room: Room { capacity, idle_time, abandoned_after, when_full }, on_event, lost } = self;
        let Some(capacity) = u32::try_from(capacity).ok().and_then(NonZeroU32::new) else {
            let legal = "must be from 1 to 4294967295";
            return Err(ConfigError::new("registry.capacity", Value::Count(capacity as u64), legal).into());
        };
        if idle_time.is_zero() || idle_time > LONGEST {
            let legal = "must be more than 0 and at most 3650 days";
            return Err(ConfigError::new("registry.idle_time", Value::Time(idle_time), legal).into());
        }
        if let Some(after) = abandoned_after.filter(|after| *after < idle_time || *after > LONGEST) {
            let legal = "must be at most 3650 days and at least registry.idle_time";
            let error = ConfigError::new("registry.abandon_after", Value::Time(after), legal);
            return Err(error.bound(Value::Time(idle_time)).into());
        }
        if lost > 0 {
            let legal = "must be 0: default_policy comes first";
            return Err(ConfigError::new(
                "registry.policy_for before default_policy",
                Value::Count(lost as u64),
                legal,
            )
            .into());
        }
        recipes.check()?;
        let state = match when_full {
            WhenFull::Reject => State::ForcedOpen,
            WhenFull::PassUnguarded => State::Disabled,
        };
        let key = "(full)";
        let breaker = Arc::new(recipes.build(&recipes.policy, recipes.config.initial_state(state), key)?);
        Ok(Registry {
            entries: papaya::HashMap::with_hasher(foldhash::fast::RandomState::default()),
            owners: crossbeam_queue::SegQueue::new(),
            taken: AtomicU64::new(0),
            overflow: Arc::new(Keyed::overflow(breaker, recipes.clock.clone(), key.into(), capacity)),
            recipes,
            capacity,
            idle_time,
            abandoned_after,
            on_event,
            event_panics: AtomicU32::new(0),
        })
    }
}

impl<P: Policy, C, O> fmt::Debug for RegistryBuilder<P, C, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryBuilder")
            .field("capacity", &self.room.capacity)
            .field("idle_time", &self.room.idle_time)
            .field("when_full", &self.room.when_full)
            .finish_non_exhaustive()
    }
}
