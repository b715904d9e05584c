//! Breakers by key: one for each host, tenant or operation, made on demand and bounded.
//!
//! ```
//! use failfast::registry::Registry;
//! use failfast::Config;
//! use std::time::Duration;
//!
//! let config = Config::new().open_for(Duration::from_secs(10));
//! let hosts = Registry::builder().capacity(10_000).default_config(config).build()?;
//!
//! let answer: u32 = hosts.get("payments").call(|| "42".parse())?;
//! for breaker in hosts.iter() {
//!     println!("{}: {}", breaker.key(), breaker.snapshot());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What is kept, and for how long
//!
//! A registry holds at most its [capacity](RegistryBuilder::capacity). A breaker gives up its place when it is closed,
//! nobody holds a [`Handle`], permit or future of it, and its last handle was let go at least the
//! [idle time](RegistryBuilder::idle_time) ago. Nothing else is ever evicted, except, where asked for, breakers that were
//! [abandoned](RegistryBuilder::abandon_after) while open. Where every place is taken by a breaker that is in use, a call
//! with a new key is rejected, or passes unguarded, as [`WhenFull`] says.
//!
//! Looking a breaker up scans nothing, locks nothing and evicts nothing. A miss looks at the next few breakers on the way
//! (and at more of them when the registry is full). A service that misses rarely calls [`sweep`](Registry::sweep) from
//! a timer to have the memory of idle breakers back.
//!
//! # What it costs
//!
//! A look-up and a call through the default policy take 27 ns with one key and 40 with a thousand, on a machine where a
//! clock read takes 10 (`cargo bench --features registry --bench registry`): a hash, an `Arc`'s count taken and given
//! back, and a read of the clock, by which idle breakers are known. Threads that look up the same key share that count;
//! a [`Handle`] that is kept costs a call through it no more than a breaker of one's own. A million breakers take
//! 425 MB. A call that finds the registry full takes 7 µs.
//!
//! # One key, one breaker
//!
//! Threads that ask for a new key at once get the same breaker. A breaker is evicted only while nobody has a handle, and
//! who asks for it in the midst of that gets it, and ends the eviction: no caller is left with a breaker that the
//! registry has forgotten, no key has two, and no outcome is lost on the way. Only [`remove`](Registry::remove) takes one
//! from under its holders, and [`Keyed::is_removed`] tells them.
//!
//! At the very limit a call can find the registry full while another thread is about to fill, or to free, the last place.

mod builder;
mod event;
mod handle;

pub use builder::{BuildError, RegistryBuilder, WhenFull};
pub use event::{RegistryEvent, Removal};
pub use handle::{Handle, Keyed};

use core::fmt;
use core::num::NonZeroU32;
use core::time::Duration;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::vec::Vec;

use crossbeam_queue::SegQueue;
use foldhash::fast::RandomState;
use papaya::{Compute, HashMap, Operation};

use crate::breaker::CircuitBreaker;
use crate::clock::{Clock, DefaultClock};
use crate::observer::Observer;
use crate::policy::{Consecutive, Policy};
use crate::snapshot::{Snapshot, State};
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::time::Timestamp;
use builder::Recipes;

/// How many breakers a miss looks at.
const ON_A_MISS: usize = 2;

/// How many breakers a miss looks at while the registry is full.
const WHEN_FULL: usize = 256;

/// The breaker of a key, and the hold on it that everybody shares who has a handle, besides its owner.
///
/// Who takes the hold's last count ([`Arc::try_unwrap`] of the owner) knows that nobody has a handle, and that nobody
/// gets one but by putting a new hold on the same breaker into the entry. So what is then seen of the breaker stays true
/// for as long as the entry has that hold, and the entry is removed only if it still has it.
struct Entry<P: Policy, C: Clock, O: Observer> {
    hold: Weak<Keyed<P, C, O>>,
    breaker: Arc<CircuitBreaker<P, C, O>>,
}

impl<P: Policy, C: Clock, O: Observer> Entry<P, C, O> {
    fn of(keyed: &Arc<Keyed<P, C, O>>) -> Self {
        Self { hold: Arc::downgrade(keyed), breaker: keyed.shared() }
    }
}

type OnEvent = std::boxed::Box<dyn Fn(&RegistryEvent<'_>) + Send + Sync>;

/// Circuit breakers by key. See the [module](self).
///
/// `P`, `C` and `O` are policy, clock and observer of its breakers, as in [`CircuitBreaker`].
///
/// ```
/// use failfast::Registry;
///
/// struct Client {
///     hosts: Registry,
/// }
/// let client = Client { hosts: Registry::builder().build()? };
/// assert!(client.hosts.get("search").try_acquire().is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Registry<P: Policy = Consecutive, C: Clock = DefaultClock, O: Observer = ()> {
    entries: HashMap<Arc<str>, Entry<P, C, O>, RandomState>,
    /// The owner of each breaker, in the order in which they are looked at.
    owners: SegQueue<Arc<Keyed<P, C, O>>>,
    /// Places taken: by entries, and by breakers that are being made. Who removes an entry gives its place back.
    taken: AtomicU64,
    /// What a key gets for which there is no place.
    overflow: Arc<Keyed<P, C, O>>,
    recipes: Recipes<P, C, O>,
    capacity: NonZeroU32,
    idle_time: Duration,
    abandoned_after: Option<Duration>,
    on_event: Option<OnEvent>,
    event_panics: AtomicU32,
}

impl Registry {
    /// Begins a registry with the defaults: 10,000 breakers at most, which are idle after 10 minutes; each with the
    /// defaults of [`CircuitBreaker::builder`]; calls for which there is no place are
    /// rejected.
    ///
    /// ```
    /// use failfast::{LastCalls, Registry};
    ///
    /// let hosts = Registry::builder().default_policy(LastCalls::<100>::new().failure_rate(50.0)).build()?;
    /// # Ok::<(), failfast::registry::BuildError>(())
    /// ```
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::new()
    }
}

/// Looking up.
impl<P: Policy, C: Clock + Clone, O: Observer> Registry<P, C, O> {
    /// The breaker of `key`, which is made if there is none yet.
    ///
    /// It is found without a lock, a scan or an allocation. Keep the handle where one key is called often by many
    /// threads: two counts of its `Arc` are what they share.
    ///
    /// If there is no place for a new breaker, what the handle does is what [`WhenFull`] says: by default it rejects
    /// every call, and the [rejection](crate::Rejected::full_registry) says so. [`try_get`](Self::try_get) tells in
    /// advance.
    ///
    /// ```
    /// # let hosts = failfast::Registry::builder().build()?;
    /// let answer: u32 = hosts.get("payments").call(|| "42".parse())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn get(&self, key: &str) -> Handle<P, C, O> {
        match self.find(key) {
            Some(keyed) => Handle::of(keyed),
            None => self.miss(key).unwrap_or_else(|| Handle::of(self.overflow.clone())),
        }
    }

    /// [`get`](Self::get), or none if there is no place for a new breaker.
    ///
    /// ```
    /// let hosts = failfast::Registry::builder().capacity(1).build()?;
    /// let payments = hosts.try_get("payments");
    /// assert!(payments.is_some());
    /// assert!(hosts.try_get("search").is_none());
    /// # Ok::<(), failfast::registry::BuildError>(())
    /// ```
    #[inline]
    pub fn try_get(&self, key: &str) -> Option<Handle<P, C, O>> {
        match self.find(key) {
            Some(keyed) => Some(Handle::of(keyed)),
            None => self.miss(key),
        }
    }

    /// The breaker of `key` if there is one. To look at it, or to move it by hand, is not to use it: it does not keep
    /// it from being idle for longer than the handle is held.
    ///
    /// ```
    /// # let hosts = failfast::Registry::builder().build()?;
    /// assert!(hosts.peek("payments").is_none());
    /// hosts.get("payments");
    /// assert_eq!(hosts.peek("payments").unwrap().state(), failfast::State::Closed);
    /// # Ok::<(), failfast::registry::BuildError>(())
    /// ```
    pub fn peek(&self, key: &str) -> Option<Handle<P, C, O>> {
        self.find(key).or_else(|| self.take_up(key)).map(Handle::to_look_at)
    }

    #[inline]
    fn find(&self, key: &str) -> Option<Arc<Keyed<P, C, O>>> {
        // Unpinned before the call, which may take long.
        self.entries.pin().get(key).and_then(|entry| entry.hold.upgrade())
    }

    /// Finds the breaker of `key` also where its hold is dead: somebody is about to evict it, and will see that it has a
    /// new one.
    fn take_up(&self, key: &str) -> Option<Arc<Keyed<P, C, O>>> {
        let entries = self.entries.pin();
        let (key, _) = entries.get_key_value(key)?;
        let mut new = None;
        let taken_up = entries.compute(key.clone(), |entry| match entry {
            None => Operation::Abort(None),
            Some((key, entry)) => match entry.hold.upgrade() {
                Some(found) => Operation::Abort(Some(found)),
                None => {
                    let clock = self.recipes.clock.clone();
                    let keyed = new.insert(Arc::new(Keyed::new(entry.breaker.clone(), clock, key.clone())));
                    Operation::Insert(Entry::of(keyed))
                }
            },
        });
        if let Compute::Aborted(found) = taken_up {
            return found;
        }
        new.inspect(|keyed| self.owners.push(keyed.clone()))
    }

    /// Makes the breaker of `key`, unless somebody else does. None if there is no place.
    #[cold]
    #[inline(never)]
    fn miss(&self, key: &str) -> Option<Handle<P, C, O>> {
        self.look_at(ON_A_MISS, ON_A_MISS);
        let taken_up = || self.take_up(key).map(Handle::of);
        if let Some(found) = taken_up() {
            return Some(found);
        }
        let Some(place) = Place::take(self) else {
            // The last place may just have been taken for this key.
            let found = taken_up();
            if found.is_none() {
                self.tell(&RegistryEvent::Full { key });
            }
            return found;
        };
        let shared_key: Arc<str> = key.into();
        let made = Arc::new(Keyed::new(self.recipes.make(key), self.recipes.clock.clone(), shared_key.clone()));
        while self.entries.pin().try_insert(shared_key.clone(), Entry::of(&made)).is_err() {
            if let Some(found) = taken_up() {
                return Some(found);
            }
        }
        core::mem::forget(place);
        self.owners.push(made.clone());
        self.tell(&RegistryEvent::Added { key });
        Some(Handle::of(made))
    }
}

/// A place that is taken, and given back when dropped.
struct Place<'a>(&'a AtomicU64);

impl<'a> Place<'a> {
    fn take<P: Policy, C: Clock + Clone, O: Observer>(registry: &'a Registry<P, C, O>) -> Option<Self> {
        let taken = &registry.taken;
        // ORDERING: Relaxed, a count that nothing hangs on but itself.
        let one_more = |taken| (taken < u64::from(registry.capacity.get())).then_some(taken + 1);
        while taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_err() {
            if registry.look_at(WHEN_FULL, 1) == 0 {
                return None;
            }
        }
        Some(Self(taken))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        // ORDERING: Relaxed, as above.
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Evicting.
impl<P: Policy, C: Clock + Clone, O: Observer> Registry<P, C, O> {
    /// Evicts every breaker that is idle, and says how many. It looks at each of them: call it from a timer, not from a
    /// request. Without it, idle breakers are evicted as new ones are made.
    ///
    /// ```
    /// use failfast::{ManualClock, Registry};
    /// use std::time::Duration;
    ///
    /// let clock = ManualClock::new();
    /// let hosts = Registry::builder().idle_time(Duration::from_secs(60)).clock(&clock).build()?;
    /// hosts.get("payments");
    /// hosts.get("search").breaker().unwrap().open();
    /// clock.advance(Duration::from_secs(60));
    /// assert_eq!(hosts.sweep(), 1);
    /// assert!(hosts.peek("search").is_some());
    /// # Ok::<(), failfast::registry::BuildError>(())
    /// ```
    pub fn sweep(&self) -> usize {
        self.look_at(usize::MAX, usize::MAX)
    }

    /// Looks at the next breakers, `most` of them, until `enough` have been evicted. Says how many were.
    fn look_at(&self, most: usize, enough: usize) -> usize {
        let mut evicted = 0;
        let now = self.recipes.clock.now();
        for _ in 0..self.owners.len().min(most) {
            let Some(owner) = self.owners.pop() else { break };
            evicted += usize::from(self.evict(owner, now));
            if evicted == enough {
                break;
            }
        }
        evicted
    }

    /// Why the breaker may be evicted, if it may.
    fn idle(&self, keyed: &Keyed<P, C, O>, now: Timestamp) -> Option<Removal> {
        let unused = now - keyed.last_used();
        if unused < self.idle_time {
            return None;
        }
        match keyed.state() {
            State::Closed => Some(Removal::Idle),
            State::Open | State::HalfOpen if unused >= self.abandoned_after? => Some(Removal::Abandoned),
            _ => None,
        }
    }

    /// Evicts the breaker if it is idle, and says whether it was.
    fn evict(&self, owner: Arc<Keyed<P, C, O>>, now: Timestamp) -> bool {
        if owner.is_removed() {
            return false;
        }
        if Arc::strong_count(&owner) > 1 || self.idle(&owner, now).is_none() {
            self.owners.push(owner);
            return false;
        }
        let hold = Arc::downgrade(&owner);
        let keyed = match Arc::try_unwrap(owner) {
            Ok(keyed) => keyed,
            Err(owner) => {
                self.owners.push(owner);
                return false;
            }
        };
        // Somebody may have used or opened it after it was looked at. From here on nobody can, without taking it up.
        let Some(why) = self.idle(&keyed, now) else {
            self.put_back(keyed, &hold);
            return false;
        };
        let is_same = |_: &Arc<str>, entry: &Entry<P, C, O>| entry.hold.ptr_eq(&hold);
        let removed = matches!(self.entries.pin().remove_if(keyed.key(), is_same), Ok(Some(_)));
        if removed {
            self.count_out(keyed.key(), why);
        }
        removed
    }

    /// Makes a breaker whose `hold` is dead available again, unless it was taken up or removed since.
    fn put_back(&self, keyed: Keyed<P, C, O>, hold: &Weak<Keyed<P, C, O>>) {
        let keyed = Arc::new(keyed);
        let entries = self.entries.pin();
        let put_back = entries.compute(keyed.shared_key(), |entry| match entry {
            Some((_, entry)) if entry.hold.ptr_eq(hold) => Operation::Insert(Entry::of(&keyed)),
            _ => Operation::Abort(()),
        });
        if !matches!(put_back, Compute::Aborted(())) {
            self.owners.push(keyed);
        }
    }

    /// By who has removed the entry.
    fn count_out(&self, key: &str, why: Removal) {
        // ORDERING: Relaxed, a count that nothing hangs on but itself.
        self.taken.fetch_sub(1, Ordering::Relaxed);
        self.tell(&RegistryEvent::Removed { key, why });
    }

    /// Forgets the breaker of `key`, whatever its state, and says whether there was one. The next call makes a new one.
    /// Who still holds a handle goes on with the old one, apart from the registry, and
    /// [`is_removed`](Keyed::is_removed) tells so.
    ///
    /// ```
    /// # let hosts = failfast::Registry::builder().build()?;
    /// let old = hosts.get("payments");
    /// assert!(hosts.remove("payments"));
    /// assert!(old.is_removed() && !hosts.get("payments").is_removed());
    /// # Ok::<(), failfast::registry::BuildError>(())
    /// ```
    pub fn remove(&self, key: &str) -> bool {
        let Some(hold) = self.entries.pin().remove(key).map(|entry| entry.hold.clone()) else { return false };
        // If it is dead, nobody has a handle to be told.
        hold.upgrade().inspect(|keyed| keyed.mark_removed());
        self.count_out(key, Removal::ByHand);
        true
    }
}

/// Looking at all of them.
impl<P: Policy, C: Clock + Clone, O: Observer> Registry<P, C, O> {
    /// How many breakers there are, those that are being made included.
    ///
    /// ```
    /// # let hosts = failfast::Registry::builder().build()?;
    /// hosts.get("payments");
    /// assert_eq!(hosts.len(), 1);
    /// # Ok::<(), failfast::registry::BuildError>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        // ORDERING: Relaxed, a count that nothing hangs on.
        self.taken.load(Ordering::Relaxed) as usize
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many breakers there can be.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity.get() as usize
    }

    /// Every breaker that is there throughout, in no order; those that come or go meanwhile may be among them. As with
    /// [`peek`](Self::peek), looking is not using.
    ///
    /// ```
    /// # let hosts = failfast::Registry::builder().build()?;
    /// # hosts.get("payments");
    /// // Every circuit closed, by hand.
    /// hosts.iter().for_each(|host| host.breaker().into_iter().for_each(|breaker| breaker.reset()));
    /// # Ok::<(), failfast::registry::BuildError>(())
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = Handle<P, C, O>> {
        let keys: Vec<_> = self.entries.pin().keys().cloned().collect();
        keys.into_iter().filter_map(|key| self.peek(&key))
    }

    /// The key, state and counts of every breaker, by key.
    ///
    /// ```
    /// # let hosts = failfast::Registry::builder().build()?;
    /// hosts.get("search");
    /// hosts.get("payments");
    /// let listing = hosts.snapshot();
    /// assert_eq!((&*listing[0].0, listing[0].1.state()), ("payments", failfast::State::Closed));
    /// # Ok::<(), failfast::registry::BuildError>(())
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> Vec<(Arc<str>, Snapshot)> {
        let mut listing: Vec<_> = self.iter().map(|found| (found.shared_key(), found.snapshot())).collect();
        listing.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        listing
    }

    /// How many times the closure of [`on_event`](RegistryBuilder::on_event) has panicked, modulo 2^32.
    ///
    /// ```
    /// let hosts = failfast::Registry::builder().on_event(|_| panic!("no")).build()?;
    /// # std::panic::set_hook(Box::new(|_| ()));
    /// hosts.get("payments");
    /// assert_eq!(hosts.event_panics(), 1);
    /// # Ok::<(), failfast::registry::BuildError>(())
    /// ```
    #[must_use]
    pub fn event_panics(&self) -> u32 {
        // ORDERING: Relaxed, a count that nothing hangs on.
        self.event_panics.load(Ordering::Relaxed)
    }

    /// Tells of an event, after it took effect. A panic changes nothing here.
    fn tell(&self, event: &RegistryEvent<'_>) {
        if let Some(on_event) = &self.on_event {
            if catch_unwind(AssertUnwindSafe(|| on_event(event))).is_err() {
                // ORDERING: Relaxed, a count that nothing hangs on.
                self.event_panics.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl<P: Policy, C: Clock + Clone, O: Observer> fmt::Debug for Registry<P, C, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("len", &self.len()).field("capacity", &self.capacity()).finish_non_exhaustive()
    }
}
