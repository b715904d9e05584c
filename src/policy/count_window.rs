use core::time::Duration;

use super::engine::{Call, Engine};
use super::window::{Changed, Evidence, Window, WindowDraft, WindowRules};
use super::{Causes, Found, Period, Policy, Spec, Tally};
use crate::error::ConfigError;
use crate::raw::bits::{Field, GENERATION_BITS};
use crate::raw::gate::Kind;
use crate::snapshot::{Counts, CountsList};
use crate::sync::{AtomicU64, Ordering, const_fn};
use crate::time::Timestamp;

// A window of N calls is a ring of chunks of 7 outcomes, and a head that holds the chunk that is being filled.
//
// The head is the only point of truth: an outcome is recorded by one CAS on it, which also refuses it if the
// generation, or anything else, has changed. What it does not hold is written *before* it moves on to a new chunk
// (`turn`), by whoever comes first, and is therefore there for whoever reads a head of that chunk: the finished
// chunks in the ring, and in `base` how many of the N outcomes before the chunk have failed or were slow. So
//
//     failed = base + failed in the chunk so far - failed among the outcomes that those have pushed out
//
// and no outcome is ever looked at before the chunk that it is in was finished, or after it was overwritten.
//
// Most chunks of a healthy service are all successes, and leave behind what was there before: then nothing but the head
// is written. And a fast success in a full window only lets counts sink, so it asks for no verdict.
//
// A helper that slept can only overwrite a word of the ring or base if that word is exactly what it was when the
// helper read it. Each holds its generation and the number of the chunk that it was written at, and a generation that
// leaves a word as it is has written it before: so the helper must have slept through a multiple of 2^24 chunks (117
// million calls of one window), to the chunk.

/// Outcomes in a chunk.
const CHUNK: u32 = 7;

// head:  [ generation 20 | full 1 | spotless 1 | base 1 | chunk 24 | used 3 | slow 7 | failed 7 ]
const FAILED: Field = Field::first(CHUNK);
const SLOW: Field = FAILED.then(CHUNK);
const USED: Field = SLOW.then(3);
const NUMBER: Field = USED.then(24);
const BASE: Field = NUMBER.then(1);
const SPOTLESS: Field = BASE.then(1);
const FULL: Field = SPOTLESS.then(1);
const TAG: Field = FULL.then(GENERATION_BITS);

/// The head's outcomes, as the ring keeps them.
const OUTCOMES: Field = Field::first(2 * CHUNK);
// ring:  [ generation 20 | chunk 24 | slow 7 | failed 7 ], 6 bits to spare
const RING_NUMBER: Field = OUTCOMES.then(24);
const RING_TAG: Field = RING_NUMBER.then(GENERATION_BITS);

// base:  [ generation 20 | chunk 24 | count 20 ]
const COUNT: Field = Field::first(20);
const BASE_NUMBER: Field = COUNT.then(24);
const BASE_TAG: Field = BASE_NUMBER.then(GENERATION_BITS);

const _: () = assert!(super::window::MAX_CALLS as u64 <= COUNT.max());

/// Trips on the outcomes of exactly the last N calls, N from 1 to 1,000,000.
///
/// With inline storage it is [`LastCalls<N>`](LastCalls); sized at run time (feature `alloc`) it is made with
/// [`over`](CountWindow::over). Thresholds are set with the setters of [`Spec`]; at least one is needed. A
/// success in a full window without failures and slow calls writes nothing, from the seventh at the latest.
///
/// ```
/// use failfast::{CircuitBreaker, CountWindow, State};
///
/// let breaker = CircuitBreaker::builder()
///     .policy(CountWindow::over(1000).failures(2))
///     .build()?;
/// breaker.try_acquire()?.failure();
/// for _ in 0..998 { breaker.try_acquire()?.success(); }
/// breaker.try_acquire()?.failure();
/// assert_eq!(breaker.state(), State::Open);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C)]
pub struct CountWindow<S: Calls = DefaultStorage> {
    head: AtomicU64,
    /// Failed and slow: the pair that the head names, and the one that may come next.
    base: [[AtomicU64; 2]; 2],
    changed: Changed,
    evidence: Evidence,
    ring: S::Ring,
}

/// A [`CountWindow`] with inline storage for the last `N` calls: no allocation, fit for a `static`. `N` is from 1 to
/// 128, a multiple of 10 up to 1000, one to nine times a power of ten up to 1,000,000, or a power of two up to 524,288.
///
/// ```
/// use failfast::{CircuitBreaker, Config, LastCalls};
/// use std::time::Duration;
///
/// static PAYMENTS: CircuitBreaker<LastCalls<100>> = CircuitBreaker::new(
///     LastCalls::new().min_calls(20).failure_rate(50.0).slow_calls(Duration::from_millis(800), 80.0),
///     Config::new().open_for(Duration::from_secs(10)).probes(3).successes(2),
/// );
/// assert_eq!(PAYMENTS.call(|| "7".parse()), Ok(7));
/// ```
///
/// A bad constant does not compile:
///
/// ```compile_fail
/// use failfast::{CircuitBreaker, Config, LastCalls};
///
/// static PAYMENTS: CircuitBreaker<LastCalls<100>> =
///     CircuitBreaker::new(LastCalls::new().min_calls(101).failure_rate(50.0), Config::new());
/// ```
pub type LastCalls<const N: usize> = CountWindow<InlineCalls<N>>;

/// Where a [`CountWindow`] keeps its outcomes: inline, or on the heap.
///
/// ```
/// use failfast::{Calls, CircuitBreaker, CountWindow};
///
/// struct Server<S: Calls> {
///     breaker: CircuitBreaker<CountWindow<S>>,
/// }
/// ```
pub trait Calls: Send + Sync + 'static {
    #[doc(hidden)]
    type Ring: AsRef<[AtomicU64]> + Send + Sync;

    #[doc(hidden)]
    fn ring(calls: u32) -> Self::Ring;
}

/// The numbers of calls for which there is inline storage. The size of an array cannot yet be computed from a const
/// parameter, so each number has its own line.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "there is no inline window of this many calls",
    note = "N is from 1 to 128, a multiple of 10 up to 1000, one to nine times a power of ten up to 1000000, or a \
            power of two up to 524288",
    note = "`CountWindow::over(n)` takes any number from 1 to 1000000 at run time"
)]
pub trait Inline: Send + Sync + 'static {
    #[doc(hidden)]
    type Ring: AsRef<[AtomicU64]> + Send + Sync;

    #[doc(hidden)]
    #[cfg(not(failfast_loom))]
    const EMPTY: Self::Ring;

    #[doc(hidden)]
    fn empty() -> Self::Ring;
}

impl<const N: usize> Calls for InlineCalls<N>
where
    Self: Inline,
{
    type Ring = <Self as Inline>::Ring;

    fn ring(_: u32) -> Self::Ring {
        Self::empty()
    }
}

/// Inline storage for the last `N` calls.
#[derive(Debug)]
pub struct InlineCalls<const N: usize>;

/// Storage on the heap, sized at run time.
///
/// ```
/// use failfast::{CircuitBreaker, CountWindow, HeapCalls};
///
/// let breaker: CircuitBreaker<CountWindow<HeapCalls>> =
///     CircuitBreaker::builder().policy(CountWindow::over(137).failures(10)).build()?;
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[cfg(feature = "alloc")]
#[derive(Debug)]
pub struct HeapCalls;

#[cfg(feature = "alloc")]
type DefaultStorage = HeapCalls;
#[cfg(not(feature = "alloc"))]
type DefaultStorage = InlineCalls<100>;

/// How many words a ring for so many calls has: the finished chunks that it must hold, and one that is being written,
/// rounded up to a power of two, so that chunk numbers, which wrap, find their place by a mask.
const fn ring_words(calls: usize) -> usize {
    (calls / CHUNK as usize + 2).next_power_of_two()
}

macro_rules! inline_calls {
    ($($calls:expr),+ $(,)?) => {$(
        impl Inline for InlineCalls<{ $calls }> {
            type Ring = [AtomicU64; ring_words($calls)];

            #[cfg(not(failfast_loom))]
            #[allow(clippy::declare_interior_mutable_const, reason = "each use is a new ring")]
            const EMPTY: Self::Ring = [const { AtomicU64::new(0) }; ring_words($calls)];

            fn empty() -> Self::Ring {
                core::array::from_fn(|_| AtomicU64::new(0))
            }
        }
    )+};
}
macro_rules! inline_from {
    ($($start:literal),+) => {$(
        inline_calls!($start, $start + 1, $start + 2, $start + 3, $start + 4, $start + 5, $start + 6, $start + 7);
    )+};
}
macro_rules! inline_hundreds {
    ($($hundred:literal),+) => {$(
        inline_calls!(
            $hundred, $hundred + 10, $hundred + 20, $hundred + 30, $hundred + 40,
            $hundred + 50, $hundred + 60, $hundred + 70, $hundred + 80, $hundred + 90,
        );
    )+};
}
inline_from!(1, 9, 17, 25, 33, 41, 49, 57, 65, 73, 81, 89, 97, 105, 113, 121);
inline_calls!(130, 140, 150, 160, 170, 180, 190);
inline_hundreds!(200, 300, 400, 500, 600, 700, 800, 900);
inline_calls!(1_000, 2_000, 3_000, 4_000, 5_000, 6_000, 7_000, 8_000, 9_000);
inline_calls!(10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 70_000, 80_000, 90_000);
inline_calls!(100_000, 200_000, 300_000, 400_000, 500_000, 600_000, 700_000, 800_000, 900_000, 1_000_000);
inline_calls!(1 << 8, 1 << 9, 1 << 10, 1 << 11, 1 << 12, 1 << 13, 1 << 14, 1 << 15, 1 << 16, 1 << 17, 1 << 18, 1 << 19);

#[cfg(feature = "alloc")]
impl Calls for HeapCalls {
    type Ring = alloc::boxed::Box<[AtomicU64]>;

    fn ring(calls: u32) -> Self::Ring {
        (0..ring_words(calls as usize)).map(|_| AtomicU64::new(0)).collect()
    }
}

impl<const N: usize> LastCalls<N>
where
    InlineCalls<N>: Inline,
{
    /// A window of the last `N` calls, still without a threshold.
    #[allow(clippy::new_ret_no_self, reason = "a policy is made from its checked numbers")]
    #[must_use]
    pub const fn new() -> Spec<Self> {
        Spec::of_calls(N as u32)
    }
}

#[cfg(feature = "alloc")]
impl CountWindow<HeapCalls> {
    /// A window of the last `calls` calls, from 1 to 1,000,000, still without a threshold.
    #[must_use]
    pub const fn over(calls: u32) -> Spec<Self> {
        Spec::of_calls(calls)
    }

    /// The defaults: the last 100 calls, tripping at 50 % failed from 10 calls on.
    ///
    /// ```
    /// use failfast::{CircuitBreaker, CountWindow};
    ///
    /// let breaker = CircuitBreaker::builder().policy(CountWindow::standard()).build()?;
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    #[must_use]
    pub const fn standard() -> Spec<Self> {
        Self::over(100).failure_rate(50.0)
    }
}

/// A value of the head.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Head(u64);

impl Head {
    fn empty(generation: u64) -> Self {
        Self(TAG.put(generation))
    }

    fn generation(self) -> u64 {
        TAG.get(self.0)
    }

    fn number(self) -> u64 {
        NUMBER.get(self.0)
    }

    fn used(self) -> u32 {
        USED.get(self.0) as u32
    }

    /// Whether N outcomes had been recorded when this chunk began. While this is false, the chunk's number has not
    /// wrapped.
    fn is_full(self) -> bool {
        FULL.get(self.0) == 1
    }

    fn is_spotless(self) -> bool {
        SPOTLESS.get(self.0) == 1
    }

    /// Outcomes recorded before this chunk, while the window is not full.
    fn chunk_start(self) -> u64 {
        self.number() * u64::from(CHUNK)
    }

    /// Outcomes recorded, while the window is not full.
    fn recorded(self) -> u64 {
        self.chunk_start() + u64::from(self.used())
    }

    /// With one more outcome in the chunk, which has a place for it.
    #[inline]
    fn with(self, failed: bool, slow: bool) -> Self {
        let place = self.used();
        let marks = Marks::of(failed, slow).0 << place;
        let spotless = if marks == 0 { 0 } else { SPOTLESS.put(1) };
        Self(((self.0 & !spotless) + USED.one()) | marks)
    }

    fn marks(self) -> Marks {
        Marks(OUTCOMES.get(self.0))
    }

    /// Which pair of `base` is this chunk's.
    fn base(self) -> usize {
        BASE.get(self.0) as usize
    }

    /// Whether this is its generation's first chunk, which has no base.
    fn is_first(self) -> bool {
        self.number() == 0 && !self.is_full()
    }
}

/// One bit for each outcome of a chunk, the first one lowest: those that failed, and above them those that were slow.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Marks(u64);

impl Marks {
    /// Of one outcome, in the first place.
    fn of(failed: bool, slow: bool) -> Self {
        Self(FAILED.put(u64::from(failed)) | SLOW.put(u64::from(slow)))
    }

    /// `places` for both, the failed and the slow.
    const fn both(places: u64) -> Self {
        Self(FAILED.put(places) | SLOW.put(places))
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Moved to later places, those beyond the last one dropped.
    fn later_by(self, places: u32) -> Self {
        Self(self.0 << places).and(Self::both(FAILED.max() << places))
    }

    /// Moved to earlier places, those before the first one dropped.
    fn earlier_by(self, places: u32) -> Self {
        Self(self.0 >> places).and(Self::both(FAILED.max() >> places))
    }

    fn failed(self) -> u64 {
        ones(FAILED.get(self.0))
    }

    fn slow(self) -> u64 {
        ones(SLOW.get(self.0))
    }
}

/// How many of a chunk's places are marked. A table, since not every processor that this is compiled for counts bits.
fn ones(marks: u64) -> u64 {
    const ONES: [u8; 1 << CHUNK] = {
        let mut ones = [0; 1 << CHUNK];
        let mut marks = 0;
        while marks < ones.len() {
            ones[marks] = (marks as u64).count_ones() as u8;
            marks += 1;
        }
        ones
    };
    u64::from(ONES[(marks & FAILED.max()) as usize])
}

impl<S: Calls> CountWindow<S> {
    const_fn! {
        fn with(ring: S::Ring) -> Self {
            Self {
                head: AtomicU64::new(0),
                base: [
                    [AtomicU64::new(0), AtomicU64::new(0)],
                    [AtomicU64::new(0), AtomicU64::new(0)],
                ],
                changed: Changed::nothing(),
                evidence: Evidence::new(),
                ring,
            }
        }
    }

    fn slot(&self, number: u64) -> &AtomicU64 {
        let ring = self.ring.as_ref();
        &ring[number as usize & (ring.len() - 1)]
    }

    fn load(&self) -> Head {
        // ORDERING: Acquire, pairs with the Release of `exchange`: what `turn` wrote before the head came to this
        // chunk is there. It also keeps what is read afterwards, to be validated, from being read earlier.
        Head(self.head.load(Ordering::Acquire))
    }

    /// Moves the head, or gives what it is instead of `from`.
    #[inline]
    fn exchange(&self, from: Head, to: Head) -> Result<(), Head> {
        // ORDERING: Release, for `load`; Acquire as there, for who goes on from what it finds.
        match self.head.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(current) => Err(Head(current)),
        }
    }

    /// A word that is read under a head. What it says counts only if the head is still the same afterwards.
    fn read_under(word: &AtomicU64) -> u64 {
        // ORDERING: Acquire, pairs with the Release of `write_under`: whoever reads a word that was written under a
        // later head also finds that the head has moved on.
        word.load(Ordering::Acquire)
    }

    /// The marks of the outcomes that those under `head` have pushed out, in the places of those that did it.
    fn pushed_out(&self, rules: &WindowRules, head: Head) -> Marks {
        let (whole, rest) = (u64::from(rules.size / CHUNK), rules.size % CHUNK);
        // N calls before the chunk's first outcome lies one of `earlier`, N before its last one of `later`.
        let finished = |behind| Marks(OUTCOMES.get(Self::read_under(self.slot(head.number().wrapping_sub(behind)))));
        let later = if whole == 0 { head.marks() } else { finished(whole) }.later_by(rest);
        let earlier = if rest == 0 { Marks(0) } else { finished(whole + 1).earlier_by(CHUNK - rest) };
        // While the window fills up nothing is pushed out: the places below the one that fills it are not real.
        let missing = if head.is_full() { 0 } else { u64::from(rules.size).saturating_sub(head.chunk_start()) };
        let real = FAILED.max() << missing.min(u64::from(CHUNK));
        let used = (1 << head.used()) - 1;
        later.or(earlier).and(Marks::both(real & used))
    }

    /// What the window held before `head`'s chunk, if that is not nothing for being the first.
    fn base(&self, rules: &WindowRules, head: Head) -> (u64, u64) {
        if head.is_first() {
            return (0, 0);
        }
        let [failed, slow] = &self.base[head.base()];
        let slow = if rules.is_timed() { COUNT.get(Self::read_under(slow)) } else { 0 };
        (COUNT.get(Self::read_under(failed)), slow)
    }

    /// What the window holds under `head` when so much has been pushed out; true if the head is still the same afterwards.
    fn tally(&self, rules: &WindowRules, head: Head, pushed_out: Marks) -> Tally {
        let (failed, slow) = self.base(rules, head);
        // Under a head that has moved on this may be nonsense, which is thrown away, but must not overflow.
        let after = |before: u64, added: u64, removed| (before + added).saturating_sub(removed);
        Tally {
            total: if self.is_full(rules, head) { u64::from(rules.size) } else { head.recorded() },
            failed: after(failed, head.marks().failed(), pushed_out.failed()),
            slow: after(slow, head.marks().slow(), pushed_out.slow()),
        }
    }

    /// What the window of `generation` holds.
    fn tally_of(&self, rules: &WindowRules, generation: u64) -> Tally {
        loop {
            let head = self.load();
            if head.generation() != generation {
                return Tally::default();
            }
            let tally = self.tally(rules, head, self.pushed_out(rules, head));
            if self.load() == head {
                return tally;
            }
        }
    }

    /// Which causes hold under `head`.
    fn judge(&self, rules: &WindowRules, head: Head) -> Found {
        let now = self.changed.over(rules);
        // What was pushed out can only have made the counts smaller.
        match now.causes(self.tally(rules, head, Marks(0))) {
            Causes::NONE => Found::NOTHING,
            _ => now.judge(self.tally(rules, head, self.pushed_out(rules, head))),
        }
    }

    fn is_full(&self, rules: &WindowRules, head: Head) -> bool {
        head.is_full() || head.recorded() >= u64::from(rules.size)
    }

    /// Writes down what the finished chunk of `head` leaves behind: its outcomes go to the ring, and what the window
    /// holds after them becomes the next chunk's base. Gives the next chunk's head, still empty, or none if the head
    /// has moved meanwhile.
    fn turn(&self, rules: &WindowRules, head: Head) -> Option<Head> {
        let tag = head.generation();
        let slot = self.slot(head.number());
        let old = Self::read_under(slot);
        let pushed_out = self.pushed_out(rules, head);
        if RING_TAG.get(old) != tag || Marks(OUTCOMES.get(old)) != head.marks() {
            self.write_under(head, slot, RING_TAG.put(tag) | RING_NUMBER.put(head.number()) | head.marks().0)?;
        }
        let number = head.number() + 1;
        let mut next = TAG.put(tag) | BASE.put(head.base() as u64) | NUMBER.put(number);
        let tally = self.tally(rules, head, pushed_out);
        if head.is_first() || head.marks() != pushed_out {
            next ^= BASE.one();
            let base = |count| BASE_TAG.put(tag) | BASE_NUMBER.put(number) | COUNT.put(count);
            let [failed, slow] = &self.base[Head(next).base()];
            self.write_under(head, failed, base(tally.failed))?;
            if rules.is_timed() {
                self.write_under(head, slow, base(tally.slow))?;
            }
        }
        if self.is_full(rules, head) {
            next |= FULL.one() | SPOTLESS.put(u64::from(tally.failed + tally.slow == 0));
        }
        Some(Head(next))
    }

    /// Makes `word` what `head` implies, unless somebody has already. None if the head has moved meanwhile.
    fn write_under(&self, head: Head, word: &AtomicU64, new: u64) -> Option<()> {
        let mut old = Self::read_under(word);
        loop {
            // A word may be overwritten only if the head stood after the word was read: what the word held then is
            // what it held under that head, and not what a later one needs.
            if self.load() != head {
                return None;
            }
            if old == new {
                return Some(());
            }
            // ORDERING: Release, for `read_under`; Acquire as there. Whoever loses looks again: the winner need not
            // have written the same, it may be a helper that has slept since another generation.
            match word.compare_exchange(old, new, Ordering::Release, Ordering::Acquire) {
                Ok(_) => return Some(()),
                Err(current) => old = current,
            }
        }
    }

    /// Records an outcome; `old` is what the head was last seen to be.
    #[inline(never)]
    fn record_at(&self, mut old: Head, rules: &WindowRules, period: Period<'_>, failed: bool, slow: bool) -> Found {
        loop {
            let head = if old.generation() == period.generation() {
                old
            } else if period.is_current() {
                Head::empty(period.generation())
            } else {
                return Found::NOTHING;
            };
            // A closed breaker's window in which a cause holds has tripped it already.
            let only_sinks = !failed && !slow && head.is_full() && period.word.is_closed();
            if only_sinks && head.is_spotless() {
                return Found::NOTHING;
            }
            let Some(head) = (if head.used() == CHUNK { self.turn(rules, head) } else { Some(head) }) else {
                old = self.load();
                continue;
            };
            let new = head.with(failed, slow);
            let found = if only_sinks { Found::NOTHING } else { self.judge(rules, new) };
            match self.exchange(old, new) {
                Ok(()) => return found,
                Err(current) => old = current,
            }
        }
    }
}

impl<S: Calls> Engine for CountWindow<S> {
    type Draft = WindowDraft;
    type Rules = WindowRules;

    const COUNT: usize = 1;

    fn is_slow(&self, rules: &WindowRules, elapsed: Duration) -> bool {
        self.changed.is_slow(rules, elapsed)
    }

    #[inline(always)]
    fn record(&self, rules: &WindowRules, period: Period<'_>, failed: bool, call: &impl Call) -> Found {
        let slow = self.changed.was_slow(rules, call);
        let mut head = self.load();
        if !failed && !slow && head.generation() == period.generation() {
            // One more success for a full window of nothing else: it stays what it is.
            if head.is_spotless() {
                return Found::NOTHING;
            }
            // As in `record_at`, where there is no more to it.
            let only_sinks = head.is_full() && period.word.is_closed();
            if only_sinks && head.used() < CHUNK {
                match self.exchange(head, head.with(false, false)) {
                    Ok(()) => return Found::NOTHING,
                    Err(current) => head = current,
                }
            }
        }
        self.record_at(head, rules, period, failed, slow)
    }

    fn begin(&self, period: Period<'_>) {
        let head = self.load();
        if head.generation() != period.generation() && period.is_current() {
            // If somebody else has moved it, then to this generation.
            _ = self.exchange(head, Head::empty(period.generation()));
        }
        self.evidence.keep_recent(period.generation());
    }

    fn live(&self, rules: &WindowRules, generation: u64, _: Timestamp, list: &mut CountsList) -> Causes {
        let tally = self.tally_of(rules, generation);
        let rules = self.changed.over(rules);
        list.push(rules.counts(tally));
        rules.causes(tally)
    }

    fn publish(&self, generation: u64, counts: &mut dyn Iterator<Item = Counts>) {
        self.evidence.publish(generation, counts.next());
    }

    fn published(&self, rules: &WindowRules, generation: u64, _: usize) -> Option<Counts> {
        self.evidence.read(generation).map(|tally| self.changed.over(rules).counts(tally))
    }

    fn admits(&self, rules: &WindowRules, _: &Self, new: &WindowRules) -> Result<(), ConfigError> {
        rules.admits(new)
    }

    fn set_thresholds(&self, rules: &WindowRules, _: &Self, new: &WindowRules) {
        self.changed.set(rules, new);
    }

    fn limit(&self, rules: &WindowRules, _: usize, kind: Kind) -> u32 {
        self.changed.over(rules).limit(kind)
    }
}

impl<S: Calls> Policy for CountWindow<S> {}
impl<S: Calls> Window for CountWindow<S> {}

#[cfg(not(failfast_loom))]
impl<const N: usize> super::InlinePolicy for LastCalls<N>
where
    InlineCalls<N>: Inline,
{
    const EMPTY: Self = Self::with(<InlineCalls<N> as Inline>::EMPTY);
}

impl<S: Calls> super::engine::Allocate for CountWindow<S> {
    fn allocate(draft: &WindowDraft) -> Self {
        Self::with(S::ring(draft.size.calls()))
    }
}

#[cfg(all(test, feature = "alloc", not(failfast_loom)))]
mod tests {
    use super::super::into::Sealed;
    use super::super::testing::{At, Breaker};
    use super::*;

    const CALL: At = At(Timestamp::ORIGIN);

    struct Made(CountWindow, WindowRules);

    impl Made {
        fn over(calls: u32) -> Self {
            let made = CountWindow::over(calls).failures(calls).into_policy().unwrap();
            Self(made.policy, made.rules)
        }

        /// Over ten calls, all of them successes, and known to be.
        fn spotless(period: Period<'_>) -> Self {
            let window = Self::over(10);
            for _ in 0..10 + CHUNK {
                window.record(period, false);
            }
            window
        }

        fn record(&self, period: Period<'_>, failed: bool) {
            self.0.record(&self.1, period, failed, &CALL);
        }

        fn failed(&self, period: Period<'_>) -> u64 {
            self.0.tally_of(&self.1, period.generation()).failed
        }
    }

    #[test]
    fn a_ring_has_room_for_the_chunks_of_its_calls_and_one_more() {
        assert_eq!([1, 6, 7, 13, 14, 100].map(ring_words), [2, 2, 4, 4, 4, 16]);
    }

    #[test]
    fn a_success_in_a_full_window_of_successes_writes_nothing() {
        let breaker = Breaker::closed();
        let period = breaker.period();
        let window = Made::spotless(period);
        let before = window.0.load();
        window.record(period, false);
        assert!(before == window.0.load());
    }

    #[test]
    fn the_first_success_after_a_window_of_successes_is_counted() {
        let breaker = Breaker::closed();
        let window = Made::spotless(breaker.period());
        let new = breaker.reset();
        window.record(new, false);
        assert_eq!(window.0.tally_of(&window.1, new.generation()).total, 1);
    }

    /// By which a helper that has slept since another generation, or another lap of the ring, is found out.
    #[test]
    fn what_a_finished_chunk_leaves_behind_names_its_generation_and_number() {
        let breaker = Breaker::closed();
        let (window, mut period) = (Made::over(14), breaker.period());
        for generation in 0..2 {
            for failed in [true; 8] {
                window.record(period, failed);
            }
            let Made(CountWindow { ring, base, .. }, _) = &window;
            let [ring, base] = [&ring[0], &base[1][0]].map(|word| word.load(Ordering::Relaxed));
            assert_eq!(ring, RING_TAG.put(generation) | FAILED.max());
            assert_eq!(base, BASE_TAG.put(generation) | BASE_NUMBER.put(1) | COUNT.put(7));
            period = breaker.reset();
        }
    }

    #[test]
    fn the_base_that_is_written_is_not_the_one_that_is_read() {
        let breaker = Breaker::closed();
        let (window, period) = (Made::over(100), breaker.period());
        window.record(period, true);
        let mut read = window.0.load().base();
        for _ in 0..5 {
            for _ in 1..CHUNK {
                window.record(period, true);
            }
            assert_eq!(window.0.load().base(), read);
            window.record(period, true);
            assert_ne!(window.0.load().base(), read);
            read = window.0.load().base();
        }
    }

    #[test]
    fn chunk_numbers_wrap() {
        let breaker = Breaker::closed();
        let (window, period) = (Made::over(20), breaker.period());
        let is_failure = |call: u32| call % 3 == 0 || call % 7 == 2;
        for call in 0..200 {
            window.record(period, is_failure(call));
            if call == 100 {
                // By a multiple of the ring, so that each word stays in its place.
                let Head(head) = window.0.load();
                let ahead = NUMBER.max() - NUMBER.get(head) - 2;
                window.0.head.store(head + NUMBER.put(ahead - ahead % 4), Ordering::Relaxed);
            }
            let last = (0..=call).rev().take(20);
            assert_eq!(window.failed(period), last.filter(|call| is_failure(*call)).count() as u64, "call {call}");
        }
        assert!(window.0.load().number() < 100);
    }
}
