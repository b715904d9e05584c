//! The last transitions, to be read later.

use core::fmt;

use crate::observer::{Cause, Observer, Transition};
use crate::raw::bits::{Field, GENERATION_BITS, generations_between};
use crate::snapshot::{Generation, State, Trip};
use crate::sync::{AtomicU64, Ordering, const_fn};
use crate::time::Timestamp;

// states: [ generation 20 | written 1 | from 3 | to 3 | cause 4 ], 33 bits to spare
const CAUSE: Field = Field::first(4);
const TO: Field = CAUSE.then(3);
const FROM: Field = TO.then(3);
const WRITTEN: Field = FROM.then(1);
const STATES_TAG: Field = WRITTEN.then(GENERATION_BITS);

// time:   [ generation 20 | written 1 | milliseconds 43 ]
const MILLIS: Field = Field::first(43);
const TIME_WRITTEN: Field = MILLIS.then(1);
const TIME_TAG: Field = TIME_WRITTEN.then(GENERATION_BITS);

/// How many generations a writer may sleep.
const AHEAD: u64 = 1 << (GENERATION_BITS - 2);

/// An [`Observer`] that keeps the last `N` transitions: bounded, lock-free, without allocation, fit for a `static`.
///
/// ```
/// use failfast::{CircuitBreaker, History, State};
///
/// let breaker = CircuitBreaker::builder().observer(History::<2>::new()).build()?;
/// breaker.open();
/// breaker.half_open()?;
/// breaker.close();
/// let recent: Vec<_> = breaker.observer().recent().map(|transition| transition.to()).collect();
/// assert_eq!(recent, [State::HalfOpen, State::Closed]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It keeps states, cause, generation and time (in whole milliseconds), not the counts that made a trip or its wait.
pub struct History<const N: usize> {
    written: AtomicU64,
    slots: [Slot; N],
}

struct Slot {
    states: AtomicU64,
    time: AtomicU64,
}

impl<const N: usize> History<N> {
    const_fn! {
        /// An empty history.
        #[must_use]
        pub fn new() -> Self {
            const { assert!(N > 0, "a history keeps at least one transition") }
            Self { written: AtomicU64::new(0), slots: slots() }
        }
    }

    /// The last transitions, oldest first, by their generations. One that is being written is left out.
    pub fn recent(&self) -> impl Iterator<Item = Transition> + use<N> {
        let mut recent = [None; N];
        let mut slots = self.slots.iter();
        recent.fill_with(|| slots.next().and_then(Slot::read));
        let newest = recent.iter().flatten().map(|transition| transition.generation);
        let newest = newest.reduce(|newest, other| if other.is_after(newest) { other } else { newest });
        let age = |transition: &Option<Transition>| match (transition, newest) {
            (Some(transition), Some(newest)) => generations_between(transition.generation.0, newest.0),
            _ => u64::MAX,
        };
        recent.sort_unstable_by_key(|transition| core::cmp::Reverse(age(transition)));
        recent.into_iter().flatten()
    }
}

#[cfg(not(failfast_loom))]
const fn slots<const N: usize>() -> [Slot; N] {
    [const { Slot { states: AtomicU64::new(0), time: AtomicU64::new(0) } }; N]
}

#[cfg(failfast_loom)]
fn slots<const N: usize>() -> [Slot; N] {
    core::array::from_fn(|_| Slot { states: AtomicU64::new(0), time: AtomicU64::new(0) })
}

impl<const N: usize> Default for History<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> Observer for History<N> {
    #[inline]
    fn observes_calls(&self) -> bool {
        false
    }

    fn on_transition(&self, transition: &Transition) {
        // ORDERING: Relaxed, only that each gets a number of its own.
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        self.slots[(number % N as u64) as usize].write(transition);
    }
}

impl Slot {
    fn write(&self, transition: &Transition) {
        let generation = transition.generation.0;
        let states = STATES_TAG.put(generation)
            | WRITTEN.put(1)
            | FROM.put(transition.from as u64)
            | TO.put(transition.to as u64)
            | CAUSE.put(transition.cause.index() as u64);
        let time = TIME_TAG.put(generation) | TIME_WRITTEN.put(1) | MILLIS.put(transition.at.as_millis());
        let replace = |word: &AtomicU64, tag: Field, written: Field, new: u64| {
            // A writer that slept while the ring went round must not replace a newer transition by its own. What is
            // further ahead than that is an old one, from before the generations wrapped.
            let ahead = |old| generations_between(generation, tag.get(old));
            let newer = |old| written.get(old) == 1 && (1..AHEAD).contains(&ahead(old));
            // ORDERING: Release, pairs with `read`; Acquire, so that the second word is written after the first.
            _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |old| (!newer(old)).then_some(new));
        };
        replace(&self.time, TIME_TAG, TIME_WRITTEN, time);
        replace(&self.states, STATES_TAG, WRITTEN, states);
    }

    fn read(&self) -> Option<Transition> {
        // ORDERING: Acquire, pairs with `write`. Two words with one generation are of one write.
        let states = self.states.load(Ordering::Acquire);
        // ORDERING: Acquire, as above.
        let time = self.time.load(Ordering::Acquire);
        let generation = STATES_TAG.get(states);
        if WRITTEN.get(states) == 0 || TIME_TAG.get(time) != generation {
            return None;
        }
        let cause = *Cause::ALL.get(CAUSE.get(states) as usize)?;
        Some(Transition {
            from: *State::ALL.get(FROM.get(states) as usize)?,
            to: *State::ALL.get(TO.get(states) as usize)?,
            cause,
            trip: cause.reason().map(|reason| Trip { reason, counts: None, limit: 0 }),
            generation: Generation(generation),
            at: Timestamp::from_millis(MILLIS.get(time)),
            retry_after: None,
        })
    }
}

impl<const N: usize> fmt::Debug for History<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.recent()).finish()
    }
}
