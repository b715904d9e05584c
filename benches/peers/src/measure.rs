//! The method: pinned threads, batches that begin and end together, medians of those that no other thread disturbed.

use std::fs;
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use crossbeam_utils::CachePadded;

/// A batch takes about this long, so that few batches meet a timer or another thread.
const BATCH: Duration = Duration::from_micros(400);
const BATCH_CALLS: u64 = 20_000;
const LEAST_CALLS: u64 = 64;
/// Calls that a thread makes at a time while it waits for the others to end their batches.
const TAIL_CALLS: u64 = 16;
/// Private work between two calls, for the spaced cells.
const GAP_NANOS: f64 = 200.0;

/// The guarded work's error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault;

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("fault")
    }
}

impl std::error::Error for Fault {}

/// The guarded work, the same in every row. It fails for 0.
#[inline]
pub(crate) fn work(n: u64) -> Result<u64, Fault> {
    match black_box(n) {
        0 => Err(Fault),
        n => Ok(n),
    }
}

/// The caller looks at all of a result, so that no part of making it is left out.
#[inline]
pub(crate) fn look_at<T>(result: &T) {
    black_box(result);
}

/// The guarded work alone, called as in `Subject::back_to_back`.
#[inline(never)]
fn bare(from: u64, calls: u64) -> bool {
    let mut admitted = true;
    for n in from..from + calls {
        let result = work(n);
        look_at(&result);
        admitted = result.is_ok();
    }
    admitted
}

/// What is called in a row of the table.
pub(crate) trait Bench: Sync {
    fn run(&self, visit: &Visit<'_>) -> Samples;

    /// Whether a call gets through.
    fn admits(&self) -> bool;

    /// Allocations that one call makes.
    fn allocations(&self) -> f64;

    /// The size of it, and of what it put on the heap when it was made.
    fn bytes(&self) -> usize;
}

/// Something that threads share, what each has of its own, and a call, which says whether it was let through.
pub(crate) struct Subject<B, L, F> {
    shared: CachePadded<B>,
    own: fn(&B) -> L,
    call: F,
    heap: usize,
}

impl<B: Sync, L, F: Fn(&B, &mut L, u64) -> bool + Sync> Subject<B, L, F> {
    pub(crate) fn new(make: impl FnOnce() -> B, own: fn(&B) -> L, call: F) -> Self {
        let mut shared = None;
        let made = allocation_counter::measure(|| shared = Some(make()));
        let shared = CachePadded::new(shared.expect("made above"));
        Self { shared, own, call, heap: made.bytes_current.max(0) as usize }
    }

    // Not inlined, nor is `Gap::spend`: batches, tails and the paired baselines run the same code. The only place that
    // calls: there the compiler can inline the call, as at a caller of its own.
    #[inline(never)]
    fn back_to_back(&self, own: &mut L, from: u64, calls: u64) -> bool {
        let mut admitted = true;
        for n in from..from + calls {
            admitted = (self.call)(&self.shared, own, n);
        }
        admitted
    }

    #[inline(never)]
    fn spaced(&self, own: &mut L, gap: &mut Gap, calls: u64, calling: bool) {
        let mut last = true;
        for n in 1..=calls {
            let zero = gap.spend(last);
            last = if calling { self.back_to_back(own, n + zero, 1) } else { bare(n + zero, 1) };
        }
    }

    fn member(&self, place: usize, visit: &Visit<'_>, crew: &Crew) -> Samples {
        assert!(core_affinity::set_for_current(visit.cores[place]), "core {} cannot be had", visit.cores[place].id);
        let mut own = (self.own)(&self.shared);
        let mut gap = Gap::new(place as u64, visit.gap);
        let mut met = 0;
        let mut batches = 0;
        let mut leader = (place == 0).then(|| Leader::new(visit));
        loop {
            crew.meet(&mut met);
            if crew.stop.load(Ordering::Relaxed) {
                break;
            }
            let calls = crew.calls.load(Ordering::Relaxed);
            let calling = crew.calling.load(Ordering::Relaxed);
            let mut make = |calls| match visit.gap {
                0 => _ = self.back_to_back(&mut own, 1, calls),
                _ => self.spaced(&mut own, &mut gap, calls, calling),
            };
            let switches = involuntary_switches();
            crew.meet(&mut met);
            let start = Instant::now();
            make(calls);
            let elapsed = start.elapsed();
            batches += 1;
            // Whoever is done first must not leave the others without contention.
            crew.ended.fetch_add(1, Ordering::Relaxed);
            while crew.ended.load(Ordering::Relaxed) < batches * crew.size {
                make(TAIL_CALLS);
            }
            if involuntary_switches() != switches {
                crew.disturbed.store(true, Ordering::Relaxed);
            }
            crew.nanos.fetch_add(elapsed.as_nanos() as u64, Ordering::Relaxed);
            crew.meet(&mut met);
            if let Some(leader) = &mut leader {
                leader.collect(crew);
            }
        }
        leader.map_or_else(Samples::default, |leader| leader.samples)
    }
}

impl<B: Sync, L, F: Fn(&B, &mut L, u64) -> bool + Sync> Bench for Subject<B, L, F> {
    fn run(&self, visit: &Visit<'_>) -> Samples {
        let crew = &Crew::new(visit.cores.len());
        thread::scope(|scope| {
            let members: Vec<_> =
                (0..crew.size).map(|place| scope.spawn(move || self.member(place, visit, crew))).collect();
            let mut samples = Samples::default();
            for member in members {
                samples.add(member.join().expect("a call does not panic"));
            }
            samples
        })
    }

    fn admits(&self) -> bool {
        self.back_to_back(&mut (self.own)(&self.shared), 1, 1)
    }

    fn allocations(&self) -> f64 {
        const CALLS: u64 = 1000;
        let mut own = (self.own)(&self.shared);
        self.back_to_back(&mut own, 1, CALLS);
        let made = allocation_counter::measure(|| _ = self.back_to_back(&mut own, 1, CALLS));
        made.count_total as f64 / CALLS as f64
    }

    fn bytes(&self) -> usize {
        size_of::<B>() + self.heap
    }
}

/// Some time with one subject: on which cores, with how many steps of private work between calls (0: none), how long.
pub(crate) struct Visit<'a> {
    pub cores: &'a [CoreId],
    pub gap: u64,
    pub budget: Duration,
}

/// Nanoseconds a call, one figure for each batch (or, if spaced, for each pair of a batch with calls and one
/// without).
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    pub kept: Vec<f64>,
    pub thrown_away: usize,
}

impl Samples {
    pub(crate) fn add(&mut self, other: Self) {
        self.kept.extend(other.kept);
        self.thrown_away += other.thrown_away;
    }

    pub(crate) fn quantile(&self, share: f64) -> Option<f64> {
        let mut sorted = self.kept.clone();
        sorted.sort_by(f64::total_cmp);
        sorted.get(((sorted.len().checked_sub(1)?) as f64 * share).round() as usize).copied()
    }

    pub(crate) fn median(&self) -> Option<f64> {
        self.quantile(0.5)
    }
}

/// What the threads of a visit share.
struct Crew {
    size: usize,
    arrived: CachePadded<AtomicUsize>,
    ended: CachePadded<AtomicUsize>,
    nanos: AtomicU64,
    disturbed: AtomicBool,
    calls: AtomicU64,
    calling: AtomicBool,
    stop: AtomicBool,
}

impl Crew {
    fn new(size: usize) -> Self {
        Self {
            size,
            arrived: CachePadded::default(),
            ended: CachePadded::default(),
            nanos: AtomicU64::new(0),
            disturbed: AtomicBool::new(false),
            calls: AtomicU64::new(LEAST_CALLS),
            calling: AtomicBool::new(true),
            stop: AtomicBool::new(false),
        }
    }

    /// Waits for the others without sleeping: woken threads would start a batch apart.
    fn meet(&self, met: &mut usize) {
        *met += 1;
        self.arrived.fetch_add(1, Ordering::AcqRel);
        while self.arrived.load(Ordering::Acquire) < *met * self.size {
            spin_loop();
        }
    }
}

/// The first thread of a crew: it sizes the batches, and collects what they took.
struct Leader {
    began: Instant,
    budget: Duration,
    spaced: bool,
    warm_ups: u32,
    tries: usize,
    with_calls: Option<f64>,
    samples: Samples,
}

impl Leader {
    fn new(visit: &Visit<'_>) -> Self {
        Self {
            began: Instant::now(),
            budget: visit.budget,
            spaced: visit.gap > 0,
            warm_ups: 3,
            tries: 0,
            with_calls: None,
            samples: Samples::default(),
        }
    }

    fn collect(&mut self, crew: &Crew) {
        let calls = crew.calls.load(Ordering::Relaxed);
        let nanos = crew.nanos.swap(0, Ordering::Relaxed) as f64 / (crew.size as u64 * calls) as f64;
        let disturbed = crew.disturbed.swap(false, Ordering::Relaxed);
        if self.warm_ups > 0 {
            self.warm_ups -= 1;
            let fit = BATCH.as_nanos() as f64 / nanos.max(0.1);
            crew.calls.store((fit as u64).clamp(LEAST_CALLS, BATCH_CALLS), Ordering::Relaxed);
            return;
        }
        self.tries += 1;
        let calling = crew.calling.load(Ordering::Relaxed);
        if self.spaced {
            crew.calling.store(!calling, Ordering::Relaxed);
        }
        if disturbed {
            self.samples.thrown_away += 1;
            self.with_calls = None;
        } else if !self.spaced {
            self.samples.kept.push(nanos);
        } else if calling {
            self.with_calls = Some(nanos);
        } else if let Some(with_calls) = self.with_calls.take() {
            self.samples.kept.push(with_calls - nanos);
        }
        let enough = self.tries >= 6 && self.began.elapsed() >= self.budget;
        crew.stop.store(enough, Ordering::Relaxed);
    }
}

/// Private work between two calls: a chain of multiplications that begins with what the last call gave, and gives 0, which
/// goes into the next one. (A counter in memory depends on how the processor forwards stores, and drifts.)
///
/// Its length varies a little: at a fixed beat two threads would fall in step, and how much they contend would be a
/// matter of chance.
struct Gap {
    steps: u64,
    random: u64,
    zero: u64,
}

impl Gap {
    fn new(seed: u64, steps: u64) -> Self {
        Self { steps: steps.saturating_sub(8).max(1), random: seed + 1, zero: black_box(0) }
    }

    #[inline(never)]
    fn spend(&mut self, last: bool) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut chain = self.random | u64::from(last);
        for _ in 0..self.steps + (self.random >> 60) {
            chain = (chain ^ (chain >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        }
        chain & self.zero
    }
}

/// How many steps of private work take as long as calls should be apart.
pub(crate) fn gap_steps(core: CoreId) -> u64 {
    const STEPS: u64 = 2000;
    let step = thread::spawn(move || {
        core_affinity::set_for_current(core);
        let mut gap = Gap::new(0, STEPS);
        let mut times = Samples::default();
        for _ in 0..2000 {
            let start = Instant::now();
            black_box(black_box(&mut gap).spend(true));
            times.kept.push(start.elapsed().as_nanos() as f64 / STEPS as f64);
        }
        times.median()
    });
    let step = step.join().ok().flatten().unwrap_or(1.0);
    (GAP_NANOS / step).round() as u64
}

/// How often this thread has lost its core to another one; always 0 where the system does not tell.
fn involuntary_switches() -> u64 {
    let status = fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let count = status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"));
    count.and_then(|count| count.trim().parse().ok()).unwrap_or(0)
}

/// Whether the system counts involuntary switches.
pub(crate) fn counts_switches() -> bool {
    fs::read_to_string("/proc/thread-self/status").is_ok_and(|status| status.contains("nonvoluntary_ctxt_switches:"))
}
