use core::time::Duration;

use super::engine::{Call, Engine};
use super::window::{Changed, Evidence, Window, WindowDraft, WindowRules};
use super::{Causes, Found, Period, Policy, Spec, Tally};
use crate::error::ConfigError;
use crate::raw::bits::{Field, GENERATION_BITS};
use crate::raw::gate::Kind;
use crate::snapshot::{Counts, CountsList};
use crate::sync::{AtomicU64, Ordering, const_fn, thread_number};
use crate::time::Timestamp;

// A window over the last T is a ring of B buckets of T/B each. A bucket's counts are one word each for successes
// (one in each stripe, since every success must be counted), failures and slow calls, tagged with the generation and
// the bucket's lap around the ring: what has another tag reads as 0, so nothing is cleared when time goes on.

// cell:     [ generation 20 | lap 16 | count 28 ]
const COUNT: Field = Field::first(28);
const LAP: Field = COUNT.then(16);
const TAG: Field = LAP.then(GENERATION_BITS);

// position: [ lap 48 | slot 16 ]
const SLOT: Field = Field::first(16);
const POSITION_LAP: Field = SLOT.then(48);

// trouble and quiet: [ generation 20 | bucket 24 | sequence 20 ]
const SEQUENCE: Field = Field::first(20);
const BUCKET: Field = SEQUENCE.then(24);
const TROUBLE_TAG: Field = BUCKET.then(GENERATION_BITS);

const _: () = assert!(super::window::MAX_BUCKETS as u64 <= SLOT.max());

/// Trips on the outcomes of the last T, in B equal buckets: those whose bucket is one of the latest B.
///
/// With inline storage it is [`LastTime<B>`](LastTime); sized at run time (feature `alloc`) it is made with
/// [`over`](TimeWindow::over). Thresholds are set with the setters of [`Spec`]; at least one is needed.
///
/// Choose a window not much longer than what a call may take (its timeout): in a longer one, the successes from before
/// an outage dilute its first failures.
///
/// Successes are counted in stripes, by thread, so that threads do not contend for one word; the verdict adds them
/// up. It is exact when calls do not overlap; of calls that overlap it, it may miss or include any, and then the
/// verdict may fall with the next outcome instead. Each bucket of a stripe counts up to 268,435,455 and then stays
/// there.
///
/// ```
/// use failfast::{CircuitBreaker, ManualClock, State, TimeWindow};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let breaker = CircuitBreaker::builder()
///     .policy(TimeWindow::over(Duration::from_secs(10), 10).failures(2))
///     .clock(&clock)
///     .build()?;
/// breaker.try_acquire()?.failure();
/// clock.advance(Duration::from_secs(10));
/// breaker.try_acquire()?.failure(); // the first one is out of the window
/// assert_eq!(breaker.state(), State::Closed);
/// breaker.try_acquire()?.failure();
/// assert_eq!(breaker.state(), State::Open);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[repr(C)]
pub struct TimeWindow<S: Buckets = DefaultStorage> {
    /// The latest bucket that anybody has recorded in.
    position: AtomicU64,
    /// The latest bucket with a failure or a slow call, numbered so that each such call changes it.
    trouble: AtomicU64,
    /// The bucket, and the trouble, at which a verdict found that successes cannot bring a cause about.
    quiet: AtomicU64,
    changed: Changed,
    evidence: Evidence,
    cells: S::Cells,
}

/// A [`TimeWindow`] with inline storage for `B` buckets in `S` stripes (one unless said): no allocation, fit for a
/// `static`.
///
/// ```
/// use failfast::{CircuitBreaker, Config, LastTime};
/// use std::time::Duration;
///
/// static SEARCH: CircuitBreaker<LastTime<10>> = CircuitBreaker::new(
///     LastTime::new(Duration::from_secs(10)).min_calls(20).failure_rate(50.0),
///     Config::new(),
/// );
/// assert_eq!(SEARCH.call(|| "7".parse()), Ok(7));
/// ```
pub type LastTime<const B: usize, const S: usize = 1> = TimeWindow<InlineBuckets<B, S>>;

/// Where a [`TimeWindow`] keeps its counts: inline, or on the heap.
///
/// ```
/// use failfast::{Buckets, CircuitBreaker, TimeWindow};
///
/// struct Server<S: Buckets> {
///     breaker: CircuitBreaker<TimeWindow<S>>,
/// }
/// ```
pub trait Buckets: Send + Sync + 'static {
    #[doc(hidden)]
    type Cells: Cells;

    #[doc(hidden)]
    fn cells(buckets: u32, stripes: u32) -> Self::Cells;
}

/// The cells of all buckets.
pub trait Cells: Send + Sync {
    #[doc(hidden)]
    fn failed(&self) -> &[AtomicU64];
    #[doc(hidden)]
    fn slow(&self) -> &[AtomicU64];
    #[doc(hidden)]
    fn stripes(&self) -> usize;
    /// The stripe of the thread of this number, without a division.
    #[doc(hidden)]
    fn stripe_of(&self, thread: usize) -> usize;
    #[doc(hidden)]
    fn succeeded(&self, stripe: usize) -> &[AtomicU64];
}

/// Inline storage for `B` buckets in `S` stripes.
#[derive(Debug)]
pub struct InlineBuckets<const B: usize, const S: usize>;

/// The cells of [`InlineBuckets`].
#[repr(C)]
pub struct InlineCells<const B: usize, const S: usize> {
    failed: [AtomicU64; B],
    slow: [AtomicU64; B],
    succeeded: [Row<B>; S],
}

/// A stripe's cells. All threads are in the same bucket at the same time, so it is enough that a bucket's cell in one stripe
/// is more than a cache line away from that in the next: no alignment, which would cost a breaker of one stripe most.
#[repr(C)]
struct Row<const B: usize> {
    cells: [AtomicU64; B],
    apart: [u64; APART],
}

/// With two buckets or more this puts a cache line of 8 words between the same cells of two stripes. A single bucket's
/// may share a line with the next stripe's, once in 8 times.
const APART: usize = 6;

impl<const B: usize, const S: usize> Buckets for InlineBuckets<B, S> {
    type Cells = InlineCells<B, S>;

    fn cells(_: u32, _: u32) -> Self::Cells {
        let row = || core::array::from_fn(|_| AtomicU64::new(0));
        let stripe = |_| Row { cells: row(), apart: [0; APART] };
        InlineCells { failed: row(), slow: row(), succeeded: core::array::from_fn(stripe) }
    }
}

impl<const B: usize, const S: usize> Cells for InlineCells<B, S> {
    fn failed(&self) -> &[AtomicU64] {
        &self.failed
    }

    fn slow(&self) -> &[AtomicU64] {
        &self.slow
    }

    #[inline]
    fn stripes(&self) -> usize {
        S
    }

    #[inline]
    fn stripe_of(&self, thread: usize) -> usize {
        thread % S
    }

    #[inline]
    fn succeeded(&self, stripe: usize) -> &[AtomicU64] {
        &self.succeeded[stripe].cells
    }
}

/// Storage on the heap, sized at run time.
///
/// ```
/// use failfast::{CircuitBreaker, HeapBuckets, TimeWindow};
/// use std::time::Duration;
///
/// let breaker: CircuitBreaker<TimeWindow<HeapBuckets>> =
///     CircuitBreaker::builder().policy(TimeWindow::over(Duration::from_secs(60), 6).failures(10)).build()?;
/// # Ok::<(), failfast::ConfigError>(())
/// ```
#[cfg(feature = "alloc")]
#[derive(Debug)]
pub struct HeapBuckets;

/// The cells of [`HeapBuckets`]: failed, slow, and succeeded in each stripe.
#[cfg(feature = "alloc")]
pub struct HeapCells {
    rows: alloc::boxed::Box<[AtomicU64]>,
    /// A power of two.
    stripes: usize,
    buckets: usize,
    /// From a row to the next: as far apart as an inline [`Row`], for the same reason.
    stride: usize,
}

#[cfg(feature = "alloc")]
impl HeapCells {
    #[inline]
    fn row(&self, index: usize) -> &[AtomicU64] {
        &self.rows[index * self.stride..][..self.buckets]
    }
}

#[cfg(feature = "alloc")]
impl Buckets for HeapBuckets {
    type Cells = HeapCells;

    fn cells(buckets: u32, stripes: u32) -> Self::Cells {
        let (buckets, stripes) = (buckets as usize, stripes.next_power_of_two() as usize);
        let stride = buckets + APART;
        let rows = (0..(2 + stripes) * stride).map(|_| AtomicU64::new(0)).collect();
        HeapCells { rows, stripes, buckets, stride }
    }
}

#[cfg(feature = "alloc")]
impl Cells for HeapCells {
    fn failed(&self) -> &[AtomicU64] {
        self.row(0)
    }

    fn slow(&self) -> &[AtomicU64] {
        self.row(1)
    }

    #[inline]
    fn stripes(&self) -> usize {
        self.stripes
    }

    #[inline]
    fn stripe_of(&self, thread: usize) -> usize {
        thread & (self.stripes - 1)
    }

    #[inline]
    fn succeeded(&self, stripe: usize) -> &[AtomicU64] {
        self.row(2 + stripe)
    }
}

#[cfg(feature = "alloc")]
type DefaultStorage = HeapBuckets;
#[cfg(not(feature = "alloc"))]
type DefaultStorage = InlineBuckets<10, 1>;

impl<const B: usize, const S: usize> LastTime<B, S> {
    /// A window of `length` in `B` buckets, still without a threshold. `length` must be from 100 µs to 3650 days and
    /// divide evenly by `B`.
    #[allow(clippy::new_ret_no_self, reason = "a policy is made from its checked numbers")]
    #[must_use]
    pub const fn new(length: Duration) -> Spec<Self> {
        Spec::of_time(length, B as u32, S as u32)
    }
}

#[cfg(feature = "alloc")]
impl TimeWindow<HeapBuckets> {
    /// A window of `length` in `buckets` equal buckets (from 1 to 65535), still without a threshold. `length` must be
    /// from 100 µs to 3650 days and divide evenly by `buckets`. Counts are not striped; see [`Spec::stripes`].
    #[must_use]
    pub const fn over(length: Duration, buckets: u32) -> Spec<Self> {
        Spec::of_time(length, buckets, 1)
    }

    /// The defaults: the last 10 s in 10 buckets, tripping at 50 % failed from 10 calls on.
    ///
    /// ```
    /// use failfast::{CircuitBreaker, TimeWindow};
    ///
    /// let breaker = CircuitBreaker::builder().policy(TimeWindow::standard()).build()?;
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    #[must_use]
    pub const fn standard() -> Spec<Self> {
        Self::over(Duration::from_secs(10), 10).failure_rate(50.0)
    }
}

#[cfg(feature = "alloc")]
impl Spec<TimeWindow<HeapBuckets>> {
    /// In how many stripes successes are counted, from 1 (the default) to 1024, rounded up to a power of two. Threads are spread over them (feature
    /// `std`), so that with one for each core that calls at the same time, no two contend for a cache line. A stripe
    /// costs 8 bytes a bucket, and 48 that keep it apart from the next one.
    ///
    /// ```
    /// use failfast::{CircuitBreaker, TimeWindow};
    ///
    /// let breaker = CircuitBreaker::builder().policy(TimeWindow::standard().stripes(8)).build()?;
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    #[must_use]
    pub const fn stripes(self, count: u32) -> Self {
        self.striped(count)
    }
}

/// A bucket: its lap around the ring and its place in it.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Position {
    lap: u64,
    slot: usize,
}

impl Position {
    fn of(bucket: u64, rules: &WindowRules) -> Self {
        let buckets = u64::from(rules.size);
        Self { lap: bucket / buckets, slot: (bucket % buckets) as usize }
    }

    fn unpack(word: u64) -> Self {
        Self { lap: POSITION_LAP.get(word), slot: SLOT.get(word) as usize }
    }

    fn pack(self) -> u64 {
        POSITION_LAP.put(self.lap) | SLOT.put(self.slot as u64)
    }

    #[inline]
    fn bucket(self, rules: &WindowRules) -> u64 {
        self.lap * u64::from(rules.size) + self.slot as u64
    }

    /// A cell of this bucket in `generation`, with nothing counted.
    #[inline]
    fn empty_cell(self, generation: u64) -> u64 {
        TAG.put(generation) | LAP.put(self.lap)
    }

    /// The bucket that lies in `slot` when this is the latest one. None before the first lap.
    fn latest_in(self, slot: usize) -> Option<Self> {
        let lap = if slot <= self.slot { Some(self.lap) } else { self.lap.checked_sub(1) };
        lap.map(|lap| Self { lap, slot })
    }
}

impl<S: Buckets> TimeWindow<S> {
    const_fn! {
        fn with(cells: S::Cells) -> Self {
            Self {
                position: AtomicU64::new(0),
                // Of no generation that a new breaker comes to soon.
                trouble: AtomicU64::new(TROUBLE_TAG.put(u64::MAX)),
                quiet: AtomicU64::new(0),
                changed: Changed::nothing(),
                evidence: Evidence::new(),
                cells,
            }
        }
    }

    /// This thread's cells for successes.
    #[inline]
    fn successes(&self) -> &[AtomicU64] {
        let stripe = if self.cells.stripes() == 1 { 0 } else { self.cells.stripe_of(thread_number()) };
        self.cells.succeeded(stripe)
    }

    fn latest(&self) -> Position {
        // ORDERING: Acquire, pairs with `advance`, and keeps what is read before it from moving behind.
        Position::unpack(self.position.load(Ordering::Acquire))
    }

    /// The bucket of `now`, after the ring's position was moved to it if it is the latest.
    #[inline]
    fn enter(&self, rules: &WindowRules, now: u64) -> Position {
        let latest = self.latest();
        // A time before the bucket wraps to far behind it.
        let into = now.wrapping_sub(latest.bucket(rules).wrapping_mul(rules.bucket));
        if into < rules.bucket { latest } else { self.advance(rules, now) }
    }

    #[cold]
    fn advance(&self, rules: &WindowRules, now: u64) -> Position {
        let bucket = now / rules.bucket;
        let mine = Position::of(bucket, rules);
        let mut latest = self.latest();
        loop {
            let entered = bucket.saturating_sub(latest.bucket(rules)).min(u64::from(rules.size));
            if entered == 0 {
                return mine;
            }
            self.expect_nothing(latest, mine, entered as usize);
            // ORDERING: Release, for `latest`: a cell of this bucket is written by who has seen the ring there.
            match self.position.compare_exchange(latest.pack(), mine.pack(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return mine,
                Err(current) => latest = Position::unpack(current),
            }
        }
    }

    /// Before the ring moves from `latest` to `next`, and so enters the last `entered` buckets: nothing has been counted
    /// in them yet, so a cell that has the tag of one has it from 2^16 laps ago, and is emptied.
    fn expect_nothing(&self, latest: Position, next: Position, entered: usize) {
        let rows = [self.cells.failed(), self.cells.slow()];
        let stripes = (0..self.cells.stripes()).map(|stripe| self.cells.succeeded(stripe));
        for row in rows.into_iter().chain(stripes) {
            for back in 0..entered {
                let slot = if back <= next.slot { next.slot - back } else { next.slot + row.len() - back };
                let Some(position) = next.latest_in(slot) else { continue };
                // ORDERING: Acquire, so that the position is read after it.
                let old = row[slot].load(Ordering::Acquire);
                let tag = LAP.get(position.empty_cell(0));
                if LAP.get(old) == tag && COUNT.get(old) != 0 && self.latest() == latest {
                    // ORDERING: Release, so that it stands before the ring is moved. Whoever loses has lost to one
                    // that did the same, or to a count after the ring was moved.
                    _ = row[slot].compare_exchange(old, 0, Ordering::Release, Ordering::Relaxed);
                }
            }
        }
    }

    /// Counts one in the cell of bucket `mine`, unless that is not in the window any more, or the period is over.
    #[inline]
    fn count(&self, rules: &WindowRules, period: Period<'_>, mine: Position, row: &[AtomicU64]) {
        let cell = &row[mine.slot];
        let empty = mine.empty_cell(period.generation());
        // ORDERING: Acquire, so that gate and position, where they are asked, are read after it.
        let mut old = cell.load(Ordering::Acquire);
        loop {
            let new = if old.wrapping_sub(empty) < COUNT.max() {
                old + 1
            } else {
                match self.first_count(rules, period, mine, old) {
                    Some(new) => new,
                    None => return,
                }
            };
            // ORDERING: Release, for `sum`; Acquire as above.
            match cell.compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(current) => old = current,
            }
        }
    }

    /// What a cell becomes that is full, or has another tag than that of `mine`: replaced if it is older, and left alone
    /// if it is of a newer generation or a later lap.
    #[cold]
    #[inline(never)]
    fn first_count(&self, rules: &WindowRules, period: Period<'_>, mine: Position, old: u64) -> Option<u64> {
        let empty = mine.empty_cell(period.generation());
        let left = mine.bucket(rules).saturating_add(u64::from(rules.size));
        let older = old.wrapping_sub(empty) > COUNT.max() && self.latest().bucket(rules) < left && period.is_current();
        older.then_some(empty + 1)
    }

    /// Adds up the cells of the buckets in the window that ends with the bucket `newest`, as far as the ring has come.
    fn sum(&self, rules: &WindowRules, row: &[AtomicU64], latest: Position, newest: u64, generation: u64) -> u64 {
        let count = |(slot, cell): (usize, &AtomicU64)| {
            let position = latest.latest_in(slot)?;
            // ORDERING: Acquire, pairs with `count`.
            let count = cell.load(Ordering::Acquire).wrapping_sub(position.empty_cell(generation));
            let in_window = position.bucket(rules).saturating_add(u64::from(rules.size)) > newest;
            (count <= COUNT.max() && in_window).then_some(count)
        };
        row.iter().enumerate().filter_map(count).sum()
    }

    fn tally(
        &self,
        (failed, slow): (u64, u64),
        rules: &WindowRules,
        latest: Position,
        newest: u64,
        generation: u64,
    ) -> Tally {
        let sum = |stripe| self.sum(rules, self.cells.succeeded(stripe), latest, newest, generation);
        let total = failed + (0..self.cells.stripes()).map(sum).sum::<u64>();
        Tally { total, failed, slow: slow.min(total) }
    }

    /// What the window of `generation` holds at `now`.
    fn tally_at(&self, rules: &WindowRules, generation: u64, now: Timestamp) -> Tally {
        let latest = self.latest();
        let newest = (now.as_nanos() / rules.bucket).max(latest.bucket(rules));
        let troubles = self.troubles(rules, latest, newest, generation);
        self.tally(troubles, rules, latest, newest, generation)
    }

    /// How many have failed, and how many were slow.
    fn troubles(&self, rules: &WindowRules, latest: Position, newest: u64, generation: u64) -> (u64, u64) {
        let sum = |row| self.sum(rules, row, latest, newest, generation);
        // Slow calls first, since a slow call is counted as success or failure before it is counted as slow.
        let slow = if rules.is_timed() { sum(self.cells.slow()) } else { 0 };
        (sum(self.cells.failed()), slow)
    }

    /// Notes that something other than a fast success happened.
    fn note_trouble(&self, rules: &WindowRules, period: Period<'_>) {
        // ORDERING: Acquire, so that the gate, where it is asked, is read after it.
        let mut old = self.trouble.load(Ordering::Acquire);
        loop {
            let same = TROUBLE_TAG.get(old) == period.generation();
            if !same && !period.is_current() {
                return;
            }
            // Not the bucket of this call, which may be late and must not hide a later one: the ring's, which only
            // grows, and was at least that of `old` when `old` was written.
            let bucket = self.latest().bucket(rules);
            let new = TROUBLE_TAG.put(period.generation()) | BUCKET.put(bucket) | SEQUENCE.put(SEQUENCE.get(old) + 1);
            // ORDERING: Release, pairs with `verdict`'s Acquire: who sees the number sees the count.
            match self.trouble.compare_exchange_weak(old, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(current) => old = current,
            }
        }
    }

    #[inline(never)]
    fn record_trouble(&self, rules: &WindowRules, period: Period<'_>, failed: bool, slow: bool, now: u64) -> Found {
        let mine = self.enter(rules, now);
        let row = if failed { self.cells.failed() } else { self.successes() };
        self.count(rules, period, mine, row);
        if slow {
            self.count(rules, period, mine, self.cells.slow());
        }
        self.note_trouble(rules, period);
        self.verdict(rules, period.generation(), self.latest())
    }

    /// Which causes hold, after an outcome in the bucket `latest`. The window is looked at only while an outcome can bring
    /// one about: while there is trouble in it, and that is new, or a bucket has left, or `min_calls` is to be reached.
    #[inline]
    fn verdict(&self, rules: &WindowRules, generation: u64, latest: Position) -> Found {
        // ORDERING: Acquire, pairs with `note_trouble`.
        let trouble = self.trouble.load(Ordering::Acquire);
        if TROUBLE_TAG.get(trouble) != generation {
            return Found::NOTHING;
        }
        let bucket = latest.bucket(rules);
        let age = bucket.wrapping_sub(BUCKET.get(trouble)) & BUCKET.max();
        let here = trouble & !BUCKET.put(u64::MAX) | BUCKET.put(bucket);
        // ORDERING: Relaxed, nothing else follows from it: a verdict more or less among calls that overlap.
        if age >= u64::from(rules.size) || self.quiet.load(Ordering::Relaxed) == here {
            return Found::NOTHING;
        }
        self.look(rules, generation, latest, here)
    }

    /// Which causes hold; `here` is the trouble, as of the latest bucket.
    #[inline(never)]
    fn look(&self, rules: &WindowRules, generation: u64, latest: Position, here: u64) -> Found {
        let newest = latest.bucket(rules);
        let (failed, slow) = self.troubles(rules, latest, newest, generation);
        let now = self.changed.over(rules);
        let (found, quiet) = if now.may_hold(failed, slow) {
            let tally = self.tally((failed, slow), rules, latest, newest, generation);
            (now.judge(tally), now.only_sinks(tally))
        } else {
            (Found::NOTHING, true)
        };
        if found.causes() == Causes::NONE && quiet {
            // ORDERING: Relaxed, as above. It names the trouble that it was found at, so one that comes late is void.
            self.quiet.store(here, Ordering::Relaxed);
        }
        found
    }
}

impl<S: Buckets> Engine for TimeWindow<S> {
    type Draft = WindowDraft;
    type Rules = WindowRules;

    const COUNT: usize = 1;

    fn is_slow(&self, rules: &WindowRules, elapsed: Duration) -> bool {
        self.changed.is_slow(rules, elapsed)
    }

    #[inline(always)]
    fn record(&self, rules: &WindowRules, period: Period<'_>, failed: bool, call: &impl Call) -> Found {
        let slow = self.changed.was_slow(rules, call);
        let now = call.now().as_nanos();
        if failed || slow {
            return self.record_trouble(rules, period, failed, slow, now);
        }
        let mine = self.enter(rules, now);
        self.count(rules, period, mine, self.successes());
        self.verdict(rules, period.generation(), mine)
    }

    fn begin(&self, period: Period<'_>) {
        self.evidence.keep_recent(period.generation());
    }

    fn live(&self, rules: &WindowRules, generation: u64, now: Timestamp, list: &mut CountsList) -> Causes {
        let tally = self.tally_at(rules, generation, now);
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
        // ORDERING: Relaxed, as in `look`, which may bring back what the old thresholds made quiet, until the next trouble.
        self.quiet.store(0, Ordering::Relaxed);
    }

    fn limit(&self, rules: &WindowRules, _: usize, kind: Kind) -> u32 {
        self.changed.over(rules).limit(kind)
    }
}

impl<S: Buckets> Policy for TimeWindow<S> {}
impl<S: Buckets> Window for TimeWindow<S> {}

#[cfg(not(failfast_loom))]
impl<const B: usize, const S: usize> super::InlinePolicy for LastTime<B, S> {
    const EMPTY: Self = Self::with(InlineCells {
        failed: [const { AtomicU64::new(0) }; B],
        slow: [const { AtomicU64::new(0) }; B],
        succeeded: [const { Row { cells: [const { AtomicU64::new(0) }; B], apart: [0; APART] } }; S],
    });
}

impl<S: Buckets> super::engine::Allocate for TimeWindow<S> {
    fn allocate(draft: &WindowDraft) -> Self {
        let (buckets, stripes) = draft.size.buckets();
        Self::with(S::cells(buckets, stripes))
    }
}

#[cfg(all(test, feature = "alloc", not(failfast_loom)))]
mod tests {
    use super::super::into::Sealed;
    use super::super::testing::{At, Breaker};
    use super::*;

    fn check(cells: &impl Cells, stripes: usize) {
        assert_eq!(cells.stripes(), stripes);
        for thread in 0..2 * stripes {
            assert_eq!(cells.stripe_of(thread), thread % stripes);
        }
        let rows = || [cells.failed(), cells.slow()].into_iter().chain((0..stripes).map(|it| cells.succeeded(it)));
        let named = || (1..).zip(rows().flatten());
        named().for_each(|(name, cell)| cell.store(name, Ordering::Relaxed));
        assert!(named().all(|(name, cell)| cell.load(Ordering::Relaxed) == name), "a cell has two places");
        assert!(rows().all(|row| row.len() == 4));
    }

    #[test]
    fn each_stripe_has_cells_of_its_own() {
        check(&InlineBuckets::<4, 3>::cells(4, 3), 3);
        let heap = HeapBuckets::cells(4, 3);
        check(&heap, 4);
        assert_eq!(heap.rows.len(), 6 * (4 + APART));
    }

    #[cfg(feature = "std")]
    #[test]
    fn a_thread_counts_in_its_own_stripe() {
        let window = TimeWindow::over(Duration::from_secs(10), 10).failures(9).stripes(4).into_policy().unwrap().policy;
        for _ in 0..8 {
            let own = || {
                let own = window.cells.succeeded(window.cells.stripe_of(thread_number()));
                assert!(core::ptr::eq(window.successes(), own));
            };
            std::thread::scope(|scope| scope.spawn(own).join().unwrap());
        }
    }

    fn made(spec: Spec<TimeWindow>) -> (TimeWindow, WindowRules) {
        let made = spec.into_policy().unwrap();
        (made.policy, made.rules)
    }

    const fn at(second: u64) -> At {
        At(Timestamp::from_millis(second * 1000))
    }

    #[test]
    fn a_straggler_leaves_the_window_as_it_is() {
        let breaker = Breaker::closed();
        let (window, rules) = made(TimeWindow::over(Duration::from_secs(10), 10).failures(9));
        let old = breaker.period();
        let new = breaker.reset();
        window.record(&rules, new, true, &at(0));
        window.record(&rules, new, false, &at(0));
        let trouble = window.trouble.load(Ordering::Relaxed);
        for failed in [true, false] {
            window.record(&rules, old, failed, &at(0));
        }
        let Tally { total, failed, .. } = window.tally_at(&rules, new.generation(), at(0).0);
        assert_eq!((total, failed, trouble), (2, 1, window.trouble.load(Ordering::Relaxed)));
    }

    #[test]
    fn a_count_that_comes_after_its_bucket_has_left_takes_no_place_of_a_later_one() {
        let breaker = Breaker::closed();
        let (window, rules) = made(TimeWindow::over(Duration::from_secs(10), 10).failures(9));
        let period = breaker.period();
        let late = window.enter(&rules, at(0).0.as_nanos());
        window.record(&rules, period, true, &at(10));
        window.count(&rules, period, late, window.cells.failed());
        assert_eq!(window.tally_at(&rules, period.generation(), at(10).0).failed, 1);
    }

    /// Whoever moves the ring may sleep before it empties the buckets that are to be entered.
    #[test]
    fn a_count_in_a_bucket_that_was_entered_meanwhile_stays() {
        let breaker = Breaker::closed();
        let (window, rules) = made(TimeWindow::over(Duration::from_secs(10), 10).failures(9));
        let (period, before) = (breaker.period(), window.latest());
        window.record(&rules, period, true, &at(1));
        window.expect_nothing(before, window.latest(), 1);
        assert_eq!(window.tally_at(&rules, period.generation(), at(1).0).failed, 1);
    }

    #[test]
    fn a_bucket_that_is_full_stays_full() {
        let breaker = Breaker::closed();
        let (window, rules) = made(TimeWindow::over(Duration::from_secs(10), 10).failures(9));
        let period = breaker.period();
        window.cells.failed()[0].store(COUNT.max() - 1, Ordering::Relaxed);
        for _ in 0..3 {
            window.record(&rules, period, true, &at(0));
            assert_eq!(window.tally_at(&rules, period.generation(), at(0).0).failed, COUNT.max());
        }
    }

    #[test]
    fn what_successes_cannot_bring_about_is_looked_at_again_when_a_bucket_has_left() {
        let breaker = Breaker::closed();
        let (window, rules) = made(TimeWindow::over(Duration::from_secs(4), 4).min_calls(1).failure_rate(50.0));
        let record = |second, failed| window.record(&rules, breaker.period(), failed, &at(second)).causes();
        // 4 of 10, and without the bucket of second 5, 4 of 6. Seconds 8 and 9 have the bits of second 7 in common.
        let calls = [(5, false); 5].into_iter().chain([(7, true); 4]).chain([(8, false)]);
        calls.for_each(|(second, failed)| assert_eq!(record(second, failed), Causes::NONE));
        assert_ne!(window.quiet.load(Ordering::Relaxed), 0);
        assert_eq!(record(9, false), Causes::FAILURE_RATE);
    }

    #[test]
    fn a_rate_that_no_number_of_successes_can_reach_is_not_looked_at_again() {
        let breaker = Breaker::closed();
        let (window, rules) = made(TimeWindow::over(Duration::from_secs(4), 4).min_calls(10).failure_rate(50.0));
        window.record(&rules, breaker.period(), true, &at(1));
        assert_ne!(window.quiet.load(Ordering::Relaxed), 0);
    }
}
