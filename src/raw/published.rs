//! A number that the winner of a transition makes known after it, under its generation.

use super::bits::{Field, GENERATION_BITS, generations_between};
use crate::sync::{AtomicU64, Ordering, const_fn};

const VALUE: Field = Field::first(u64::BITS - GENERATION_BITS);
const TAG: Field = VALUE.then(GENERATION_BITS);

/// What is at most this many generations ahead is newer, the rest is older.
const AHEAD: u64 = 1 << (GENERATION_BITS - 2);

/// `[generation 20 | value 44]`, first written at the first publication.
///
/// Readers name the generation that they want and get nothing from any other. A publisher that comes late never
/// overwrites a newer one. Larger values than the field can hold are kept as its maximum.
pub(crate) struct Published(AtomicU64);

impl Published {
    const_fn! {
        pub(crate) fn new() -> Self {
            Self(AtomicU64::new(TAG.put(u64::MAX)))
        }
    }

    const_fn! {
        pub(crate) fn holding(generation: u64, value: u64) -> Self {
            Self(AtomicU64::new(TAG.put(generation) | VALUE.put(value)))
        }
    }

    pub(crate) fn publish(&self, generation: u64, value: u64) {
        let new = TAG.put(generation) | VALUE.put(value.min(VALUE.max()));
        self.replace_older(generation, new, 1);
    }

    pub(crate) fn read(&self, generation: u64) -> Option<u64> {
        // ORDERING: Acquire, pairs with the Release in `replace_older`, so that whoever sees a publication sees
        // the transition that it belongs to.
        let word = self.0.load(Ordering::Acquire);
        (TAG.get(word) == generation).then(|| VALUE.get(word))
    }

    /// Replaces what this generation has left here (0 if nothing) by `next` of it, and gives both. None, and nothing is
    /// written, if the word is another generation's and `is_current` says that this one is over.
    pub(crate) fn update(
        &self,
        generation: u64,
        next: impl Fn(u64) -> u64,
        is_current: impl Fn() -> bool,
    ) -> Option<(u64, u64)> {
        // ORDERING: Acquire, so that what `next` and `is_current` ask is read after it.
        let mut word = self.0.load(Ordering::Acquire);
        loop {
            let ours = TAG.get(word) == generation;
            if !ours && !is_current() {
                return None;
            }
            let old = if ours { VALUE.get(word) } else { 0 };
            let new = next(old);
            // ORDERING: AcqRel, so that who finds a value sees what made it; Acquire as above.
            match self.0.compare_exchange_weak(
                word,
                TAG.put(generation) | VALUE.put(new),
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return Some((old, new)),
                Err(current) => word = current,
            }
        }
    }

    /// Called for every generation. Older and newer are told apart by distance, so a tag that has fallen far behind
    /// is renewed here, before it looks new again. An outage that goes on for 2^19 generations loses its evidence.
    pub(crate) fn keep_recent(&self, generation: u64) {
        self.replace_older(generation, TAG.put(generation.wrapping_sub(AHEAD)), 2 * AHEAD);
    }

    /// Writes `new` unless the word is newer than `generation`, or fewer than `distance` generations older.
    fn replace_older(&self, generation: u64, new: u64, distance: u64) {
        // ORDERING: Relaxed, the CAS below decides.
        let mut word = self.0.load(Ordering::Relaxed);
        loop {
            let behind = generations_between(TAG.get(word), generation);
            if behind < distance || behind >= TAG.max() - AHEAD {
                return;
            }
            // ORDERING: Release, pairs with the Acquire in `read`.
            match self.0.compare_exchange_weak(word, new, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(current) => word = current,
            }
        }
    }
}

#[cfg(all(test, not(failfast_loom)))]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_generation_is_read_and_a_late_publisher_changes_nothing() {
        let published = Published::new();
        assert_eq!(published.read(0), None);
        published.publish(3, 7);
        assert_eq!(published.read(3), Some(7));
        assert_eq!(published.read(4), None);
        published.publish(5, 9);
        published.publish(3, 8);
        assert_eq!(published.read(3), None);
        assert_eq!(published.read(5), Some(9));
    }

    #[test]
    fn generations_wrap_and_large_values_saturate() {
        let published = Published::new();
        let last = TAG.max();
        for generation in 0..=last {
            published.keep_recent(generation);
        }
        published.publish(last, VALUE.max() + 1);
        assert_eq!(published.read(last), Some(VALUE.max()));
        published.publish(0, 1);
        assert_eq!(published.read(0), Some(1));
    }

    #[test]
    fn a_publication_stays_for_half_of_all_generations() {
        let published = Published::new();
        published.publish(5, 7);
        for generation in 5..5 + 2 * AHEAD {
            published.keep_recent(generation);
            assert_eq!(published.read(5), Some(7), "{generation}");
        }
        published.keep_recent(5 + 2 * AHEAD);
        assert_eq!(published.read(5), None);
    }

    #[test]
    fn an_update_comes_from_its_own_generation_or_begins_a_current_one() {
        let published = Published::new();
        let add = |old| old + 1;
        assert_eq!(published.update(3, add, || true), Some((0, 1)));
        assert_eq!(published.update(3, add, || false), Some((1, 2)));
        assert_eq!(published.update(2, add, || false), None);
        assert_eq!(published.read(3), Some(2));
        assert_eq!(published.update(4, add, || true), Some((0, 1)));
    }
}
