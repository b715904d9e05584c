//! Breakers that the main program and an interrupt handler use at the same time: at the end, their counts must add up.

use core::mem::forget;
use core::time::Duration;

use failfast::{
    CircuitBreaker, Config, Consecutive, LastCalls, LastTime, ManualClock, Observer, SettledCall, State, Transition,
};
use portable_atomic::{AtomicU32, Ordering::Relaxed};

use boards::machine::{enable_interrupts, set_timer, stop_timer};
use boards::println;

use crate::Tally;

static CLOCK: ManualClock = ManualClock::new();

type Shared<P, O = ()> = CircuitBreaker<P, &'static ManualClock, O>;

/// Counts without end: metrics only, so that nothing trips.
static METER: Shared<((Consecutive, LastCalls<64>), LastTime<10>), Told> = CircuitBreaker::new_with(
    Consecutive::new(u32::MAX)
        .and(LastCalls::new().failures(64))
        .and(LastTime::new(Duration::from_secs(10)).failures(u32::MAX)),
    Config::new().initial_state(State::MetricsOnly),
    &CLOCK,
    Told::new(),
);

/// Every outcome is a failure: the streak counts them.
static STREAK: Shared<Consecutive> =
    CircuitBreaker::new_with(Consecutive::new(u32::MAX), Config::new().initial_state(State::MetricsOnly), &CLOCK, ());

const PROBES: u32 = 3;

/// Its probes are never settled: each half-open period admits exactly so many.
static PROBED: Shared<Consecutive> = CircuitBreaker::new_with(
    Consecutive::new(1),
    Config::new().open_for(WAIT).probes(PROBES).successes(PROBES),
    &CLOCK,
    (),
);

/// Trips, probes and recovers, over and over.
static CYCLED: Shared<(Consecutive, LastCalls<20>), Told> = CircuitBreaker::new_with(
    Consecutive::new(3).and(LastCalls::new().failure_rate(50.0)),
    Config::new().open_for(WAIT).probes(2).successes(2),
    &CLOCK,
    Told::new(),
);

const WAIT: Duration = Duration::from_millis(5);

/// What an observer was told.
struct Told {
    settled: AtomicU32,
    /// Of each state (closed, open, half-open): how often it was entered, and left.
    entered: [AtomicU32; 3],
    left: [AtomicU32; 3],
}

impl Told {
    const fn new() -> Self {
        Self {
            settled: AtomicU32::new(0),
            entered: [const { AtomicU32::new(0) }; 3],
            left: [const { AtomicU32::new(0) }; 3],
        }
    }
}

fn index(state: State) -> usize {
    match state {
        State::Closed => 0,
        State::Open => 1,
        _ => 2,
    }
}

impl Observer for Told {
    fn on_transition(&self, transition: &Transition) {
        self.left[index(transition.from())].fetch_add(1, Relaxed);
        self.entered[index(transition.to())].fetch_add(1, Relaxed);
    }

    fn on_outcome(&self, _: &SettledCall) {
        self.settled.fetch_add(1, Relaxed);
    }
}

/// What one of the two did.
struct Done {
    asked: AtomicU32,
    admitted: AtomicU32,
    failed: AtomicU32,
}

impl Done {
    const fn new() -> Self {
        Self { asked: AtomicU32::new(0), admitted: AtomicU32::new(0), failed: AtomicU32::new(0) }
    }

    fn clear(&self) {
        self.asked.store(0, Relaxed);
        self.admitted.store(0, Relaxed);
        self.failed.store(0, Relaxed);
    }

    fn call<P: failfast::Policy, O: Observer>(&self, breaker: &'static Shared<P, O>, fails: bool) {
        self.asked.fetch_add(1, Relaxed);
        let call = || {
            self.admitted.fetch_add(1, Relaxed);
            if fails { Err(()) } else { Ok(()) }
        };
        if let Err(failfast::CallError::Failed(())) = breaker.call(call) {
            self.failed.fetch_add(1, Relaxed);
        }
    }

    /// Takes a permit for good.
    fn keep(&self) {
        self.asked.fetch_add(1, Relaxed);
        if let Ok(permit) = PROBED.try_acquire() {
            self.admitted.fetch_add(1, Relaxed);
            forget(permit);
        }
    }
}

static MAIN: Done = Done::new();
static HANDLER: Done = Done::new();

/// What both do.
static PHASE: AtomicU32 = AtomicU32::new(IDLE);
const IDLE: u32 = 0;
const METERING: u32 = 1;
const STREAKING: u32 = 2;
const PROBING: u32 = 3;
const CYCLING: u32 = 4;

/// Whether the main program is inside the breaker, and how often it was when the handler came.
static INSIDE: AtomicU32 = AtomicU32::new(0);
static HIT: AtomicU32 = AtomicU32::new(0);
static RANDOM: AtomicU32 = AtomicU32::new(1);

/// Marsaglia's xorshift: the handler comes at ever other moments of a call, and the same ones in every run.
fn random() -> u32 {
    let mut x = RANDOM.load(Relaxed);
    x ^= x << 13;
    x ^= x >> 17;
    x ^= x << 5;
    RANDOM.store(x, Relaxed);
    x
}

/// The timer's handler.
pub fn interrupted() {
    HIT.fetch_add(INSIDE.load(Relaxed), Relaxed);
    match PHASE.load(Relaxed) {
        METERING => HANDLER.call(&METER, random() % 3 == 0),
        STREAKING => HANDLER.call(&STREAK, true),
        PROBING => HANDLER.keep(),
        CYCLING => {
            CLOCK.advance(Duration::from_millis(1));
            HANDLER.call(&CYCLED, random() % 3 == 0);
        }
        _ => return stop_timer(),
    }
    set_timer(SHORTEST + random() % SPREAD);
}

const SHORTEST: u32 = if cfg!(target_arch = "riscv32") { 100 } else { 1500 };
const SPREAD: u32 = if cfg!(target_arch = "riscv32") { 500 } else { 4000 };

fn begin(phase: u32) {
    MAIN.clear();
    HANDLER.clear();
    HIT.store(0, Relaxed);
    PHASE.store(phase, Relaxed);
    set_timer(SHORTEST);
}

fn end(name: &str) {
    PHASE.store(IDLE, Relaxed);
    stop_timer();
    let [main, handler] = [&MAIN, &HANDLER].map(|done| done.asked.load(Relaxed));
    println!("shared, {name}: {main} by main, {handler} by the handler, {} of them in main's midst", HIT.load(Relaxed));
}

fn inside(call: impl FnOnce()) {
    INSIDE.store(1, Relaxed);
    call();
    INSIDE.store(0, Relaxed);
}

fn sum(count: fn(&Done) -> &AtomicU32) -> u32 {
    count(&MAIN).load(Relaxed) + count(&HANDLER).load(Relaxed)
}

/// Long enough for both: as often as the handler must come in the midst of main's calls.
const HITS: u32 = 5000;

fn on(done: u32) -> bool {
    done < 5_000 || HIT.load(Relaxed) < HITS
}

pub fn check(tally: &mut Tally) {
    enable_interrupts();
    metering(tally);
    streaking(tally);
    probing(tally);
    cycling(tally);
}

/// Which of the meter's policies.
const CALLS: usize = 1;
const TIME: usize = 2;

fn metering(tally: &mut Tally) {
    begin(METERING);
    let mut calls = 0;
    while on(calls) {
        inside(|| MAIN.call(&METER, calls % 5 == 0));
        calls += 1;
    }
    end("every outcome counted");
    let counts =
        |index| METER.snapshot().windows().nth(index).map_or((0, 0), |it| (it.total() as u32, it.failed() as u32));
    let (in_calls, in_time) = (counts(CALLS).0, counts(TIME));
    tally.check("outcomes in the last 10 s", in_time.0, sum(|done| &done.asked));
    tally.check("failures in the last 10 s", in_time.1, sum(|done| &done.failed));
    tally.check("outcomes of the last 64", in_calls, 64);
    tally.check("outcomes told", METER.observer().settled.load(Relaxed), sum(|done| &done.asked));
    // What was written under contention does not show through.
    (0..64).for_each(|call| MAIN.call(&METER, call % 8 == 7));
    tally.check("failures of the last 64", counts(CALLS).1, 8);
}

fn streaking(tally: &mut Tally) {
    begin(STREAKING);
    let mut calls = 0;
    while on(calls) {
        inside(|| MAIN.call(&STREAK, true));
        calls += 1;
    }
    end("every failure of a streak counted");
    let streak = STREAK.snapshot().consecutive_failures().unwrap_or(0) as u32;
    tally.check("failures in a row", streak, sum(|done| &done.asked));
}

fn probing(tally: &mut Tally) {
    begin(PROBING);
    let (mut periods, mut wrong, mut both) = (0, 0, 0);
    while on(periods) {
        // From here on nobody is admitted, until its wait is over.
        PROBED.open();
        let of_handler = HANDLER.admitted.load(Relaxed);
        let before = sum(|done| &done.admitted);
        CLOCK.advance(WAIT);
        (0..=PROBES).for_each(|_| inside(|| MAIN.keep()));
        wrong += u32::from(sum(|done| &done.admitted) - before != PROBES);
        both += u32::from((1..PROBES).contains(&(HANDLER.admitted.load(Relaxed) - of_handler)));
        periods += 1;
    }
    end("probes");
    println!("  {both} of {periods} half-open periods admitted probes of both");
    tally.check("half-open periods with another number of probes", wrong, 0);
    tally.check("both had probes of one period", u32::from(both > 0), 1);
}

fn cycling(tally: &mut Tally) {
    begin(CYCLING);
    let mut calls = 0;
    while on(calls) {
        // As an outage comes and goes.
        inside(|| MAIN.call(&CYCLED, calls / 64 % 2 == 0));
        calls += 1;
    }
    end("trips and recoveries");
    let told = CYCLED.observer();
    let get = |count: &AtomicU32| count.load(Relaxed);
    println!("  opened {} times, closed {} times", get(&told.entered[1]), get(&told.entered[0]));
    tally.check("outcomes told", get(&told.settled), sum(|done| &done.admitted));
    // Closed is where it began and where it ends: each state has been left as often as it was entered.
    CYCLED.close();
    for state in [State::Closed, State::Open, State::HalfOpen] {
        let (entered, left) = (&told.entered[index(state)], &told.left[index(state)]);
        tally.check("times a state was entered and left", get(entered), get(left));
    }
    tally.check("it recovered", u32::from(get(&told.entered[0]) > 10), 1);
}
