use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt;
use core::ops::Deref;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::command::Envelope;
use super::connect::{Connect, Settings};
use super::error::FleetError;
use super::local::{Held, Local};
use super::member::Terms;
use super::name::Keys;
use super::record::{Record, sanitized};
use super::status::{Agreed, Store};
use super::tap::Tap;
use super::task::{Request, Task};
use crate::{CircuitBreaker, Clock, Observer, Policy, State};

/// Breakers of the same name in many processes, that share what they know through a Redis or Valkey server.
///
/// One task on the tokio runtime serves all breakers of a fleet. Clones are handles to the same fleet; when the last is
/// dropped, the task ends, and each breaker goes on by itself.
///
/// ```no_run
/// use failfast::CircuitBreaker;
/// use failfast::redis::{Agreement, Fleet};
/// use std::sync::Arc;
///
/// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
/// let fleet = Fleet::connect("redis://127.0.0.1").agreement(Agreement::Quorum(2)).await?;
/// let breaker = Arc::new(CircuitBreaker::builder().build()?);
/// fleet.join("payments", &breaker)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Fleet(Arc<Inner>);

struct Inner {
    requests: mpsc::UnboundedSender<Request>,
    board: Arc<Board>,
    envelopes: Envelopes,
    needs_tap: bool,
}

/// What the task lets the handles see. Its locks are held for a copy, and never on a call's path.
#[derive(Default)]
pub(super) struct Board {
    store: Mutex<Store>,
    agreed: Mutex<BTreeMap<Box<str>, Record>>,
}

impl Board {
    pub(super) fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn agreed(&self) -> MutexGuard<'_, BTreeMap<Box<str>, Record>> {
        self.agreed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes what all commands for one breaker have in common.
#[derive(Clone)]
struct Envelopes {
    prefix: String,
    node: Box<str>,
    key_ttl: u64,
    longest_wait: u64,
    leases: u32,
    counts: bool,
}

impl Envelopes {
    fn of(&self, name: &str) -> Result<Envelope, FleetError> {
        let Keys { state, leases, votes, counts, members, channel } = Keys::new(&self.prefix, name)?;
        let tally = if self.counts { counts } else { votes };
        Ok(Envelope {
            keys: [state, leases, tally, members],
            channel,
            node: self.node.clone(),
            key_ttl: self.key_ttl,
            longest_wait: self.longest_wait,
            leases: self.leases,
        })
    }
}

impl Fleet {
    /// Begins a fleet with the server at `url`: `redis://[user:password@]host[:port][/db]`, or `rediss://` with the feature
    /// `redis-tls`; `.await` it. It needs Redis 6 or Valkey.
    ///
    /// # Errors
    /// [`FleetError`] when a setting makes no sense, or when the server is there and refuses. A server that cannot be
    /// reached is no error: a service has to start without it too. It is tried again until it is there.
    pub fn connect(url: impl Into<String>) -> Connect {
        Connect::new(url.into())
    }

    pub(super) async fn start(settings: Settings) -> Result<Self, FleetError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| FleetError::NoRuntime)?;
        let counts = matches!(settings.rules.agreement, Terms::Rates { .. });
        let envelopes = Envelopes {
            prefix: settings.prefix.clone(),
            node: settings.node.clone(),
            key_ttl: settings.key_ttl,
            longest_wait: settings.rules.longest_wait,
            leases: settings.leases,
            counts,
        };
        let (requests, inbox) = mpsc::unbounded_channel();
        let (first, connected) = oneshot::channel();
        let board = Arc::new(Board::default());
        runtime.spawn(Task::new(settings, inbox, board.clone(), first).run());
        connected.await.unwrap_or(Err(FleetError::NoRuntime))?;
        Ok(Self(Arc::new(Inner { requests, board, envelopes, needs_tap: counts })))
    }

    /// Makes `breaker` a member: `&breaker` of an `Arc`, `&&BREAKER` of a static. From then on it opens, and closes, with the
    /// others of the same name. Its transitions are seen within 10 ms; with [`join_tapped`](Self::join_tapped) at once.
    ///
    /// The fleet keeps it until [`leave`](Self::leave).
    ///
    /// # Errors
    /// [`FleetError::Name`] unless the name has 1 to 100 bytes (any will do, they are escaped), [`FleetError::Joined`] if one
    /// of this name is in, [`FleetError::Untapped`] if the agreement counts outcomes.
    pub fn join<H, P, C, O>(&self, name: &str, breaker: &H) -> Result<(), FleetError>
    where
        H: Deref<Target = CircuitBreaker<P, C, O>> + Clone + Send + Sync + 'static,
        P: Policy,
        C: Clock,
        O: Observer,
    {
        if self.0.needs_tap {
            return Err(FleetError::Untapped(name.into()));
        }
        self.join_as(name, Box::new(Held(breaker.clone())), None)
    }

    /// [`join`](Self::join) for a breaker that was built with a [`Tap`] of its own as observer (or among its observers).
    ///
    /// # Errors
    /// As `join`.
    ///
    /// ```
    /// use failfast::CircuitBreaker;
    /// use failfast::redis::{Agreement, Fleet, Rates, Tap};
    /// use std::sync::Arc;
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    ///
    /// let rates = Agreement::Rates(Rates::new(100, 50.0));
    /// let fleet = Fleet::connect("redis://127.0.0.1:1").agreement(rates).await?;
    /// let tap = Tap::new();
    /// let breaker = Arc::new(CircuitBreaker::builder().observer(tap.clone()).build()?);
    /// fleet.join_tapped("payments", &breaker, &tap)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// # }).unwrap();
    /// ```
    pub fn join_tapped<H, P, C, O>(&self, name: &str, breaker: &H, tap: &Tap) -> Result<(), FleetError>
    where
        H: Deref<Target = CircuitBreaker<P, C, O>> + Clone + Send + Sync + 'static,
        P: Policy,
        C: Clock,
        O: Observer,
    {
        self.join_as(name, Box::new(Held(breaker.clone())), Some(tap.clone()))
    }

    fn join_as(&self, name: &str, breaker: Box<dyn Local>, tap: Option<Tap>) -> Result<(), FleetError> {
        let envelope = self.0.envelopes.of(name)?;
        match self.0.board.agreed().entry(name.into()) {
            alloc::collections::btree_map::Entry::Occupied(_) => return Err(FleetError::Joined(name.into())),
            alloc::collections::btree_map::Entry::Vacant(free) => _ = free.insert(Record::nothing()),
        }
        self.request(Request::Join { name: name.into(), envelope, breaker, tap })
    }

    /// Lets the breaker of this name go on by itself, in the state that it is in. Nothing happens if there is none.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
    /// let fleet = failfast::redis::Fleet::connect("redis://127.0.0.1:1").await?;
    /// fleet.leave("payments");
    /// # Ok::<(), failfast::redis::FleetError>(())
    /// # }).unwrap();
    /// ```
    pub fn leave(&self, name: &str) {
        self.0.board.agreed().remove(name);
        // Without a task there is nothing to leave.
        _ = self.request(Request::Leave { name: name.into() });
    }

    /// What the fleet has agreed on for the breaker of this name; none unless it has been joined here.
    #[must_use]
    pub fn agreed(&self, name: &str) -> Option<Agreed> {
        self.0.board.agreed().get(name).cloned().map(Agreed)
    }

    /// How it goes with the store.
    #[must_use]
    pub fn store(&self) -> Store {
        self.0.board.store().clone()
    }

    /// This node's name, as others see it in [`Agreed::node`].
    #[must_use]
    pub fn node(&self) -> &str {
        &self.0.envelopes.node
    }

    fn request(&self, request: Request) -> Result<(), FleetError> {
        self.0.requests.send(request).map_err(|_| FleetError::NoRuntime)
    }
}

/// By hand, for all breakers of a name. It is stronger than what breakers see, lasts until the hand sets something else,
/// and reaches nodes that join later. The name need not have been joined here. `who` and `why` are for those who ask
/// [`Fleet::agreed`] later: control characters become spaces, and of what is longer than 200 bytes the rest is cut off.
///
/// ```no_run
/// # async fn run(fleet: failfast::redis::Fleet) -> Result<(), failfast::redis::FleetError> {
/// fleet.force_open("payments", "ada", "the provider asked for it").await?;
/// println!("{}", fleet.agreed("payments").unwrap()); // forced_open by ada (the provider asked for it) on …
/// fleet.reset("payments", "ada", "they are back").await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`FleetError::Unreachable`] when the store does not answer in time (whether it was set is then unknown),
/// [`FleetError::Refused`] when it does not accept it, [`FleetError::Name`] for a name that cannot be one.
impl Fleet {
    /// Rejects every call, everywhere.
    ///
    /// # Errors
    /// See above.
    pub async fn force_open(&self, name: &str, who: &str, why: &str) -> Result<(), FleetError> {
        self.by_hand(name, State::ForcedOpen, who, why).await
    }

    /// Lets every call through, everywhere, and records nothing.
    ///
    /// # Errors
    /// See above.
    pub async fn disable(&self, name: &str, who: &str, why: &str) -> Result<(), FleetError> {
        self.by_hand(name, State::Disabled, who, why).await
    }

    /// Lets every call through, everywhere, and only reports trips.
    ///
    /// # Errors
    /// See above.
    pub async fn metrics_only(&self, name: &str, who: &str, why: &str) -> Result<(), FleetError> {
        self.by_hand(name, State::MetricsOnly, who, why).await
    }

    /// Closes all, with empty windows, and lets breakers decide again.
    ///
    /// # Errors
    /// See above.
    pub async fn reset(&self, name: &str, who: &str, why: &str) -> Result<(), FleetError> {
        self.by_hand(name, State::Closed, who, why).await
    }

    async fn by_hand(&self, name: &str, state: State, who: &str, why: &str) -> Result<(), FleetError> {
        let envelope = self.0.envelopes.of(name)?;
        let (answer, answered) = oneshot::channel();
        let (who, why) = (sanitized(who), sanitized(why));
        self.request(Request::Hand { envelope, state, who, why, answer })?;
        answered.await.unwrap_or(Err(FleetError::NoRuntime))
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").field("node", &self.node()).field("store", &self.store()).finish_non_exhaustive()
    }
}
