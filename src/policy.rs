//! When to trip: what a policy is, and how several are joined.
//!
//! A policy is told every outcome of a closed (or metrics-only) breaker, and answers which of its causes to trip hold
//! after it. It owns its evidence, and every word of that is tagged with the generation in which it was written, so
//! that a reset clears nothing: words of another generation read as empty, and a straggler's write is refused by the
//! very CAS that would have made it.

mod consecutive;
mod count_window;
mod time_window;
mod window;

#[cfg(feature = "alloc")]
mod boxed;

#[cfg(feature = "serde")]
pub(crate) use boxed::check_number;
#[cfg(feature = "alloc")]
pub use boxed::{BoxPolicy, Rule};
pub use consecutive::Consecutive;
#[cfg(feature = "alloc")]
pub use count_window::HeapCalls;
pub use count_window::{Calls, CountWindow, LastCalls};
#[cfg(feature = "alloc")]
pub use time_window::HeapBuckets;
pub use time_window::{Buckets, LastTime, TimeWindow};
pub use window::Window;

use core::time::Duration;

use crate::error::ConfigError;
use crate::raw::bits::Field;
use crate::raw::gate::{Gate, Kind, Word};
use crate::snapshot::{Counts, CountsList};
use crate::time::Timestamp;

/// Decides when a closed breaker trips: [`Consecutive`] failures, a [`CountWindow`] over the last N calls, a
/// [`TimeWindow`], several of them as a tuple, or a list made at run time as a [`BoxPolicy`].
///
/// In a tuple each policy sees every outcome, and the first cause in their order is the trip's reason. At most 8 can
/// be joined.
///
/// The trait is sealed: what a policy needs from the breaker may change.
///
/// ```
/// use failfast::{CircuitBreaker, Consecutive, Policy};
///
/// /// Whatever its breaker trips on.
/// struct Server<P: Policy = Consecutive> {
///     breaker: CircuitBreaker<P>,
/// }
/// let server = Server { breaker: CircuitBreaker::builder().build()? };
/// # Ok::<(), failfast::ConfigError>(())
/// ```
pub trait Policy: engine::Engine {}

/// A policy whose storage is inline, and can be made at compile time.
///
/// ```
/// use failfast::{CircuitBreaker, Config, LastTime};
/// use std::time::Duration;
///
/// static SEARCH: CircuitBreaker<LastTime<10>> = CircuitBreaker::new(
///     LastTime::new(Duration::from_secs(10)).failure_rate(50.0),
///     Config::new(),
/// );
/// ```
#[cfg(not(failfast_loom))]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be made at compile time",
    note = "its storage is on the heap: use `LastCalls<N>` or `LastTime<B>`, or build it at run time"
)]
pub trait InlinePolicy: Policy {
    #[doc(hidden)]
    const EMPTY: Self;
}

/// A policy and its numbers: what [`Builder::policy`](crate::Builder::policy) and
/// [`CircuitBreaker::new`](crate::CircuitBreaker::new) take, and what a policy's constructor gives.
///
/// It is `Copy`, and its setters are `const`. Bad numbers are reported when a breaker is built from it.
///
/// ```
/// use failfast::{CircuitBreaker, LastCalls, Spec};
///
/// const SPEC: Spec<LastCalls<100>> = LastCalls::new().min_calls(20).failure_rate(50.0);
/// let breaker = CircuitBreaker::builder().policy(SPEC).build()?;
/// # Ok::<(), failfast::ConfigError>(())
/// ```
pub struct Spec<P: Policy> {
    draft: P::Draft,
    rules: Result<P::Rules, ConfigError>,
    timed: bool,
}

impl<P: Policy> Clone for Spec<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P: Policy> Copy for Spec<P> {}

impl<P: Policy> core::fmt::Debug for Spec<P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Spec").field("rules", &self.rules).finish()
    }
}

impl<P: Policy> Spec<P> {
    /// Joins another policy behind this one: `a.and(b)` has the policy `(A, B)`, `a.and(b).and(c)` has `((A, B), C)`. At
    /// run time a tuple of specs does as well.
    ///
    /// ```
    /// use failfast::{CircuitBreaker, Config, Consecutive, LastCalls};
    ///
    /// static BREAKER: CircuitBreaker<(Consecutive, LastCalls<64>)> = CircuitBreaker::new(
    ///     Consecutive::new(5).and(LastCalls::new().failure_rate(50.0)),
    ///     Config::new(),
    /// );
    /// ```
    #[must_use]
    pub const fn and<Q: Policy>(self, other: Spec<Q>) -> Spec<(P, Q)> {
        let rules = match (self.rules, other.rules) {
            (Ok(first), Ok(second)) => Ok((first, second)),
            (Err(error), _) | (_, Err(error)) => Err(error),
        };
        Spec { draft: (self.draft, other.draft), rules, timed: self.timed || other.timed }
    }

    #[cfg(not(failfast_loom))]
    pub(crate) const fn rules(&self) -> Result<P::Rules, ConfigError> {
        self.rules
    }

    /// Whether it wants to know how long calls take.
    #[cfg(not(failfast_loom))]
    pub(crate) const fn is_timed(&self) -> bool {
        self.timed
    }
}

/// A policy, ready to be put into a breaker.
pub struct Made<P: Policy> {
    pub(crate) policy: P,
    pub(crate) rules: P::Rules,
    /// Whether it wants to know how long calls take.
    pub(crate) timed: bool,
}

/// What a breaker can be built from: a [`Spec`], a tuple of them, or a list of [`Rule`]s.
///
/// ```
/// use failfast::{CircuitBreaker, ConfigError, Consecutive, CountWindow, IntoPolicy};
///
/// fn guard<T: IntoPolicy>(policy: T) -> Result<CircuitBreaker<T::Policy>, ConfigError> {
///     CircuitBreaker::builder().policy(policy).build()
/// }
/// guard(Consecutive::new(5))?;
/// guard((Consecutive::new(5), CountWindow::standard()))?;
/// # Ok::<(), ConfigError>(())
/// ```
pub trait IntoPolicy: into::Sealed<Self::Policy> {
    /// The policy that it makes.
    type Policy: Policy;
}

/// One closed period: the gate's word at the time at which a call was admitted, and the gate to check it against.
#[derive(Clone, Copy)]
pub struct Period<'a> {
    pub(crate) gate: &'a Gate,
    pub(crate) word: Word,
}

impl Period<'_> {
    fn generation(self) -> u64 {
        self.word.generation()
    }

    /// Asked after a word of another generation was read: whether that word is an older one, which may be replaced,
    /// and not a newer one.
    fn is_current(self) -> bool {
        self.gate.load() == self.word
    }
}

/// The causes to trip that hold: four bits for each policy, in their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Causes(pub(crate) u32);

impl Causes {
    pub(crate) const NONE: Self = Self(0);
    const CONSECUTIVE: Self = Self(1);
    const FAILURES: Self = Self(2);
    const FAILURE_RATE: Self = Self(4);
    const SLOW_CALL_RATE: Self = Self(8);
    const BITS: usize = 4;

    fn when(self, holds: bool) -> Self {
        if holds { self } else { Self::NONE }
    }

    /// These causes, found in `tally`.
    #[inline]
    fn found_in(self, tally: Tally) -> Found {
        let count = |count: u64| count.min(TOTAL.max());
        let Tally { total, failed, slow } = tally;
        Found(CAUSES.put(self.0.into()) | SLOW.put(count(slow)), FAILED.put(count(failed)) | TOTAL.put(count(total)))
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These causes as those of the policy behind `count` others.
    fn behind(self, count: usize) -> Self {
        Self(self.0 << (count * Self::BITS))
    }

    /// The first cause in the policies' order: whose it is, and what.
    pub(crate) fn first(self) -> Option<(usize, Kind)> {
        let bit = self.0.trailing_zeros() as usize;
        let kind = match Self(1 << (bit % Self::BITS)) {
            _ if self == Self::NONE => return None,
            Self::CONSECUTIVE => Kind::ConsecutiveFailures,
            Self::FAILURES => Kind::Failures,
            Self::FAILURE_RATE => Kind::FailureRate,
            _ => Kind::SlowCallRate,
        };
        Some((bit / Self::BITS, kind))
    }
}

/// What a policy counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) total: u64,
    pub(crate) failed: u64,
    pub(crate) slow: u64,
}

/// The causes that hold with an outcome, and the counts in which the first of them was found: those that the outcome
/// itself made, and not what others have made of them since. Counts above 2^32 - 1 are kept as that.
///
/// Two words `[slow 32 | causes 32]` and `[total 32 | failed 32]`, so that it goes through the path of every call in
/// registers, where it is nearly always [`NOTHING`](Self::NOTHING).
#[derive(Clone, Copy, Debug)]
pub struct Found(u64, u64);

const CAUSES: Field = Field::first(u32::BITS);
const SLOW: Field = CAUSES.then(u32::BITS);
const FAILED: Field = Field::first(u32::BITS);
const TOTAL: Field = FAILED.then(u32::BITS);

impl Found {
    const NOTHING: Self = Self(0, 0);

    #[inline]
    pub(crate) fn causes(self) -> Causes {
        Causes(CAUSES.get(self.0) as u32)
    }

    pub(crate) fn tally(self) -> Tally {
        Tally { total: TOTAL.get(self.1), failed: FAILED.get(self.1), slow: SLOW.get(self.0) }
    }

    /// Joins what the policy behind `count` others has found.
    #[inline(always)]
    fn and(self, other: Self, count: usize) -> Self {
        if self.causes().and(other.causes()) == Causes::NONE { Self::NOTHING } else { self.join(other, count) }
    }

    #[cold]
    #[inline(never)]
    fn join(self, other: Self, count: usize) -> Self {
        let causes = self.causes().and(other.causes().behind(count));
        let Self(marked, counts) = if self.causes() == Causes::NONE { other } else { self };
        Self(marked & !CAUSES.max() | u64::from(causes.0), counts)
    }
}

impl<P: engine::Allocate> IntoPolicy for Spec<P> {
    type Policy = P;
}

impl<P: engine::Allocate> into::Sealed<P> for Spec<P> {
    fn into_policy(self) -> Result<Made<P>, ConfigError> {
        Ok(Made { rules: self.rules?, policy: P::allocate(&self.draft), timed: self.timed })
    }
}

pub(crate) mod into {
    use super::{ConfigError, Made, Policy};

    /// Checks the numbers and makes the storage.
    pub trait Sealed<P: Policy> {
        #[doc(hidden)]
        fn into_policy(self) -> Result<Made<P>, ConfigError>;
    }
}

pub(crate) mod engine {
    use super::{Causes, ConfigError, Counts, CountsList, Found, Kind, Period, Timestamp};
    use core::time::Duration;

    /// When a call was settled, read only if it is asked for.
    pub trait Call {
        fn now(&self) -> Timestamp;

        /// Whether it is known when the call began: whether any policy wants to know how long it took.
        fn is_timed(&self) -> bool;

        fn elapsed(&self) -> Duration;
    }

    pub trait Engine: Sized + Send + Sync {
        /// The numbers as they were given.
        type Draft: Copy;
        /// The numbers, checked, in the units that the hot path works in.
        type Rules: Copy + Send + Sync + core::fmt::Debug;

        /// How many policies this is. A breaker is built of at most
        /// [`MAX_POLICIES`](crate::snapshot::MAX_POLICIES).
        const COUNT: usize;

        /// Whether a call that took so long is slow for any window.
        fn is_slow(&self, rules: &Self::Rules, elapsed: Duration) -> bool;

        /// Counts an outcome, and says which causes hold with it.
        fn record(&self, rules: &Self::Rules, period: Period<'_>, failed: bool, call: &impl Call) -> Found;

        /// Told of every new generation, so that no tag gets so old that it looks new again when the generations
        /// wrap.
        fn begin(&self, period: Period<'_>);

        /// Adds the counts of the closed generation as they are now, and says which causes hold by them.
        fn live(&self, rules: &Self::Rules, generation: u64, now: Timestamp, list: &mut CountsList) -> Causes;

        /// Publishes counts, one for each policy, as those at the beginning of the outage `generation`.
        fn publish(&self, generation: u64, counts: &mut dyn Iterator<Item = Counts>);

        /// The counts of the policy at `index` that were published for the outage `generation`, if they were.
        fn published(&self, rules: &Self::Rules, generation: u64, index: usize) -> Option<Counts>;

        /// Whether a policy like `new` could have counted what this one has: only its thresholds differ.
        fn admits(&self, rules: &Self::Rules, new: &Self, new_rules: &Self::Rules) -> Result<(), ConfigError>;

        /// Takes over the thresholds of `new`, which it admits.
        fn set_thresholds(&self, rules: &Self::Rules, new: &Self, new_rules: &Self::Rules);

        /// The threshold that the cause `kind` of the policy at `index` has crossed.
        fn limit(&self, rules: &Self::Rules, index: usize, kind: Kind) -> u32;
    }

    /// A policy whose storage follows from its numbers, which have been checked.
    pub trait Allocate: super::Policy {
        fn allocate(draft: &Self::Draft) -> Self;
    }
}

use engine::{Call, Engine};

/// The causes of joined policies, each given with how many policies it is.
#[inline(always)]
fn join_causes<const N: usize>(each: [(Causes, usize); N]) -> Causes {
    let mut joined = (Causes::NONE, 0);
    for (causes, count) in each {
        joined = (joined.0.and(causes.behind(joined.1)), joined.1 + count);
    }
    joined.0
}

/// The same for what was found.
#[inline(always)]
fn join_found<const N: usize>(each: [(Found, usize); N]) -> Found {
    let mut joined = (Found::NOTHING, 0);
    for (found, count) in each {
        joined = (joined.0.and(found, joined.1), joined.1 + count);
    }
    joined.0
}

macro_rules! join {
    ($($name:ident $index:tt),+) => {
        impl<$($name: Policy),+> Engine for ($($name,)+) {
            type Draft = ($($name::Draft,)+);
            type Rules = ($($name::Rules,)+);

            const COUNT: usize = 0 $(+ $name::COUNT)+;

            fn is_slow(&self, rules: &Self::Rules, elapsed: Duration) -> bool {
                $(self.$index.is_slow(&rules.$index, elapsed))||+
            }

            #[inline(always)]
            fn record(&self, rules: &Self::Rules, period: Period<'_>, failed: bool, call: &impl Call) -> Found {
                join_found([$((self.$index.record(&rules.$index, period, failed, call), $name::COUNT)),+])
            }

            fn begin(&self, period: Period<'_>) {
                $(self.$index.begin(period);)+
            }

            fn live(&self, rules: &Self::Rules, generation: u64, now: Timestamp, list: &mut CountsList) -> Causes {
                join_causes([$((self.$index.live(&rules.$index, generation, now, list), $name::COUNT)),+])
            }

            fn publish(&self, generation: u64, counts: &mut dyn Iterator<Item = Counts>) {
                $(self.$index.publish(generation, counts);)+
            }

            fn published(&self, rules: &Self::Rules, generation: u64, index: usize) -> Option<Counts> {
                let before = 0;
                $(
                    if index - before < $name::COUNT {
                        return self.$index.published(&rules.$index, generation, index - before);
                    }
                    let before = before + $name::COUNT;
                )+
                _ = before;
                None
            }

            fn admits(&self, rules: &Self::Rules, new: &Self, new_rules: &Self::Rules) -> Result<(), ConfigError> {
                $(self.$index.admits(&rules.$index, &new.$index, &new_rules.$index)?;)+
                Ok(())
            }

            fn set_thresholds(&self, rules: &Self::Rules, new: &Self, new_rules: &Self::Rules) {
                $(self.$index.set_thresholds(&rules.$index, &new.$index, &new_rules.$index);)+
            }

            fn limit(&self, rules: &Self::Rules, index: usize, kind: Kind) -> u32 {
                let before = 0;
                $(
                    if index - before < $name::COUNT {
                        return self.$index.limit(&rules.$index, index - before, kind);
                    }
                    let before = before + $name::COUNT;
                )+
                _ = before;
                0
            }
        }

        impl<$($name: Policy),+> Policy for ($($name,)+) {}

        impl<$($name: engine::Allocate),+> engine::Allocate for ($($name,)+) {
            fn allocate(draft: &Self::Draft) -> Self {
                ($($name::allocate(&draft.$index),)+)
            }
        }

        #[cfg(not(failfast_loom))]
        impl<$($name: InlinePolicy),+> InlinePolicy for ($($name,)+) {
            const EMPTY: Self = ($($name::EMPTY,)+);
        }

        impl<$($name: IntoPolicy),+> IntoPolicy for ($($name,)+) {
            type Policy = ($($name::Policy,)+);
        }

        impl<$($name: IntoPolicy),+> into::Sealed<($($name::Policy,)+)> for ($($name,)+) {
            fn into_policy(self) -> Result<Made<($($name::Policy,)+)>, ConfigError> {
                let parts = ($(self.$index.into_policy()?,)+);
                let timed = $(parts.$index.timed)||+;
                Ok(Made { policy: ($(parts.$index.policy,)+), rules: ($(parts.$index.rules,)+), timed })
            }
        }
    };
}
join!(A 0, B 1);
join!(A 0, B 1, C 2);
join!(A 0, B 1, C 2, D 3);

/// What the policies' own tests need of a breaker.
#[cfg(all(test, not(failfast_loom)))]
mod testing {
    use super::engine::Call;
    use super::{Gate, Kind, Period, Timestamp, Word};
    use core::time::Duration;

    pub(super) struct Breaker(Gate);

    impl Breaker {
        pub(super) fn closed() -> Self {
            Self(Gate::new(Word::first(Kind::Closed, 0)))
        }

        /// What a permit that is given now belongs to.
        pub(super) fn period(&self) -> Period<'_> {
            Period { gate: &self.0, word: self.0.load() }
        }

        /// Begins another closed generation.
        pub(super) fn reset(&self) -> Period<'_> {
            let old = self.0.load();
            assert!(self.0.exchange(old, old.next(Kind::Closed, 0)));
            self.period()
        }
    }

    /// A call that was settled then, and took no time.
    pub(super) struct At(pub(super) Timestamp);

    impl Call for At {
        fn now(&self) -> Timestamp {
            self.0
        }

        fn is_timed(&self) -> bool {
            true
        }

        fn elapsed(&self) -> Duration {
            Duration::ZERO
        }
    }
}

#[cfg(all(test, feature = "alloc", not(failfast_loom)))]
mod tests {
    use super::testing::{At, Breaker};
    use super::{BoxPolicy, Consecutive, CountWindow, Period, Rule, TimeWindow, into::Sealed};
    use crate::policy::engine::Engine;
    use crate::raw::bits::GENERATION_BITS;
    use crate::snapshot::CountsList;
    use crate::time::Timestamp;

    const CALL: At = At(Timestamp::ORIGIN);

    /// One of each kind.
    fn policies() -> BoxPolicy {
        let rules: [Rule; 3] =
            [Consecutive::new(5).into(), CountWindow::standard().into(), TimeWindow::standard().into()];
        rules.into_policy().unwrap().policy
    }

    fn counts(policy: &BoxPolicy, period: Period<'_>) -> CountsList {
        let mut counts = CountsList::default();
        policy.live(&(), period.generation(), Timestamp::ORIGIN, &mut counts);
        counts
    }

    fn failed(policy: &BoxPolicy, period: Period<'_>) -> [u64; 3] {
        let counts = counts(policy, period);
        [0, 1, 2].map(|index| counts.get(index).unwrap().failed)
    }

    #[test]
    fn a_straggler_leaves_what_was_counted_as_it_is() {
        let (policy, breaker) = (policies(), Breaker::closed());
        let old = breaker.period();
        let new = breaker.reset();
        policy.record(&(), new, true, &CALL);
        for is_failure in [true, false] {
            policy.record(&(), old, is_failure, &CALL);
            policy.begin(old);
            assert_eq!(failed(&policy, new), [1; 3]);
        }
    }

    #[test]
    fn a_new_generation_leaves_no_old_tag_where_there_is_only_one() {
        let (policy, breaker) = (policies(), Breaker::closed());
        let old = breaker.period();
        policy.record(&(), old, true, &CALL);
        let new = breaker.reset();
        policy.begin(new);
        // A time window's cells are tagged one by one, when something is counted in them.
        assert_eq!(failed(&policy, old), [0, 0, 1]);
        policy.record(&(), new, true, &CALL);
        policy.begin(new);
        assert_eq!(failed(&policy, new), [1; 3]);
    }

    #[test]
    fn evidence_does_not_come_back_when_generations_wrap() {
        let (policy, breaker) = (policies(), Breaker::closed());
        let first = breaker.reset();
        policy.publish(first.generation(), &mut counts(&policy, first).iter());
        let evidence = || [0, 1, 2].map(|index| policy.published(&(), first.generation(), index).is_some());
        assert_eq!(evidence(), [true; 3]);
        for _ in 0..1 << GENERATION_BITS {
            policy.begin(breaker.reset());
        }
        assert_eq!(breaker.period().generation(), first.generation());
        assert_eq!(evidence(), [false; 3]);
    }
}
