//! The breaker: ask, settle, trip.
//!
//! Each move follows the same three steps: read the gate's word, decide from it (and from the time, which `decided`
//! turns into a word of its own), and exchange it. Who wins the exchange reports it; who loses goes on from the word
//! that won.

use core::cell::Cell;
use core::time::Duration;

use crate::clock::{Clock, DefaultClock};
use crate::config::{Config, OnMaxWait, Plan};
use crate::error::Rejected;
use crate::observer::{Cause, Observer, SettledCall, Transition, WouldTrip};
use crate::outcome::{Outcome, Settled};
use crate::permit::{Breaker, Pass, Permit};
use crate::policy::engine::Call;
use crate::policy::{Causes, Consecutive, Found, Period, Policy, Tally};
use crate::raw::bits::{Field, generation_after};
use crate::raw::gate::{Admission, Gate, Kind, ProbeOutcome, Quota, Verdict, Word};
use crate::raw::published::Published;
use crate::snapshot::{CountsList, Generation, State, Trip};
use crate::sync::{AtomicU16, AtomicU64, Ordering, const_fn};
use crate::time::{Timestamp, saturating_nanos};

// A metrics-only period's note: [ how often it was noted 12 | causes that held then 32 ]
const HELD: Field = Field::first(u32::BITS);
const NOTES: Field = HELD.then(12);

// An outage's note: [ the culprit's index and 1, or 0 | the threshold that was crossed 32 ]
pub(crate) const LIMIT: Field = Field::first(u32::BITS);
pub(crate) const CULPRIT: Field = LIMIT.then(12);

/// A lock-free circuit breaker.
///
/// It is shared by reference (`&`, a `static`, an `Arc`) among any number of threads and tasks, and made with
/// [`builder`](Self::builder), or as a constant with [`new`](Self::new).
///
/// - `P`, the [`Policy`]: when to trip. Default: [`Consecutive`] failures.
/// - `C`, the [`Clock`]. Default: [`DefaultClock`].
/// - `O`, the [`Observer`]. Default: none.
///
/// No method blocks, allocates, or waits for another thread. What happens before a call's outcome is settled is
/// visible to whoever sees the state that came of it (the gate is read with Acquire, and moved with Release).
///
/// ```
/// use failfast::{CallError, CircuitBreaker};
/// use std::time::Duration;
///
/// let breaker = CircuitBreaker::builder().failures(5).open_for(Duration::from_secs(30)).build()?;
/// match breaker.call(|| "42".parse::<u32>()) {
///     Ok(value) => assert_eq!(value, 42),
///     Err(CallError::Rejected(rejected)) => println!("not called, {rejected}"),
///     Err(CallError::Failed(error)) => println!("called, and failed: {error}"),
/// }
/// # Ok::<(), failfast::ConfigError>(())
/// ```
// The order is that of use: a call through a healthy breaker over a streak or the last N calls touches the first 64 bytes.
#[repr(C)]
#[cfg_attr(target_pointer_width = "64", repr(align(64)))]
pub struct CircuitBreaker<P: Policy = Consecutive, C = DefaultClock, O = ()> {
    pub(crate) gate: Gate,
    /// Whether the policy or the plan wants to know how long calls take; the observer is asked itself.
    timed: bool,
    on_max_wait: OnMaxWait,
    quota: Quota,
    observer_panics: AtomicU16,
    pub(crate) policy: P,
    pub(crate) rules: P::Rules,
    pub(crate) seed: u32,
    pub(crate) plan: Plan,
    /// The latest time seen, for clocks that may step back.
    latest: AtomicU64,
    /// When the open state began, in milliseconds.
    pub(crate) opened: Published,
    /// Of an outage: whose cause began it, and the threshold that it crossed. Of a metrics-only period: the causes that
    /// held when they were last noted, and how often they were.
    pub(crate) note: Published,
    clock: C,
    observer: O,
}

impl<P: Policy, C, O> CircuitBreaker<P, C, O> {
    const_fn! {
        pub(crate) fn from_parts(
            policy: P,
            rules: P::Rules,
            timed: bool,
            config: &Config,
            clock: C,
            observer: O,
            now: Timestamp,
        ) -> Self {
            let plan = config.plan();
            let (quota, on_max_wait) = config.probing();
            Self {
                gate: Gate::new(config.first(now)),
                timed: timed || plan.times_cancelled(),
                on_max_wait,
                quota,
                observer_panics: AtomicU16::new(0),
                policy,
                rules,
                seed: config.mixed_seed(),
                plan,
                latest: AtomicU64::new(0),
                opened: Published::holding(0, now.as_millis()),
                note: Published::new(),
                clock,
                observer,
            }
        }
    }

    /// The observer that it was built with.
    ///
    /// ```
    /// use failfast::{CircuitBreaker, History};
    ///
    /// let breaker = CircuitBreaker::builder().observer(History::<16>::new()).build()?;
    /// breaker.open();
    /// assert_eq!(breaker.observer().recent().count(), 1);
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    pub const fn observer(&self) -> &O {
        &self.observer
    }

    /// How many times an observer has panicked, modulo 2^16. Without the feature `std` panics are not caught.
    ///
    /// ```
    /// let breaker = failfast::CircuitBreaker::builder().on_transition(|_| panic!("no")).build()?;
    /// # std::panic::set_hook(Box::new(|_| ()));
    /// breaker.open();
    /// assert_eq!(breaker.observer_panics(), 1);
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    pub fn observer_panics(&self) -> u32 {
        // ORDERING: Relaxed, a count that nothing hangs on.
        self.observer_panics.load(Ordering::Relaxed).into()
    }
}

/// Asking.
impl<P: Policy, C: Clock, O: Observer> CircuitBreaker<P, C, O> {
    /// Asks for a permit to make one call. Settle it with its outcome; dropped unsettled it is a cancelled call.
    ///
    /// A closed breaker is asked with one load, and reads no clock unless the policy wants to know how long calls
    /// take.
    ///
    /// # Errors
    /// [`Rejected`] if the call must not be made: why, and how long to wait.
    ///
    /// ```
    /// # let breaker = failfast::CircuitBreaker::builder().build()?;
    /// let permit = breaker.try_acquire()?;
    /// let result = "42".parse::<u32>();
    /// permit.settle_by(&result);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn try_acquire(&self) -> Result<Permit<&Self>, Rejected> {
        self.ask().map(|pass| Permit::new(self, pass))
    }

    /// [`try_acquire`](Self::try_acquire) for a permit that owns its breaker, to be sent to another thread or task.
    ///
    /// # Errors
    /// As for `try_acquire`.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// let breaker = Arc::new(failfast::CircuitBreaker::builder().build()?);
    /// let permit = breaker.try_acquire_owned()?;
    /// std::thread::spawn(move || permit.success()).join().unwrap();
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "alloc")]
    #[inline]
    pub fn try_acquire_owned(self: &alloc::sync::Arc<Self>) -> Result<Permit<alloc::sync::Arc<Self>>, Rejected> {
        self.ask().map(|pass| Permit::new(self.clone(), pass))
    }
}

/// Time.
impl<P: Policy, C: Clock, O: Observer> CircuitBreaker<P, C, O> {
    /// The clock's time, or the latest that was seen if the clock has stepped back.
    #[inline]
    pub(crate) fn now(&self) -> Timestamp {
        let now = self.clock.now();
        if C::MONOTONIC { now } else { self.latest(now) }
    }

    fn latest(&self, now: Timestamp) -> Timestamp {
        // ORDERING: Relaxed, only the largest value counts; who needs the order of anything else has the gate.
        let latest = self.latest.load(Ordering::Relaxed);
        if now.as_nanos() > latest {
            // ORDERING: Relaxed, as above.
            Timestamp::from_nanos(self.latest.fetch_max(now.as_nanos(), Ordering::Relaxed).max(now.as_nanos()))
        } else {
            Timestamp::from_nanos(latest)
        }
    }

    /// What time alone makes of a word, without a call: a half-open period that is over without a verdict is open or
    /// closed since that moment. With `OnMaxWait::Renew` it stays what it is until the next call, as does an open
    /// wait that is over.
    fn decided(&self, word: Word, now: Timestamp) -> Word {
        if word.kind() != Kind::HalfOpen || !word.is_over(now) {
            return word;
        }
        match self.on_max_wait {
            OnMaxWait::Renew => word,
            OnMaxWait::Close => word.next(Kind::Closed, word.time(now).as_millis()),
            OnMaxWait::Open => self.reopened(word, Kind::ProbeTimeout, word.time(now), None).unwrap_or(word),
        }
    }

    /// The state that `word` stands for at `now`, and the word that time has made of it.
    pub(crate) fn effective(&self, word: Word, now: Timestamp) -> (State, Word) {
        let decided = self.decided(word, now);
        let waited = decided.kind().is_open() && decided.is_over(now);
        (if waited { State::HalfOpen } else { State::of(decided.kind()) }, decided)
    }

    /// The word for opening the half-open gate `word` again at `at`, for `wait` or the configured wait. None if the
    /// gate has moved on.
    fn reopened(&self, word: Word, kind: Kind, at: Timestamp, wait: Option<Duration>) -> Option<Word> {
        let outage = self.gate.outage(word)?.reopened_as(kind);
        Some(self.open_word(word, kind, at, wait, outage.reopened))
    }

    fn open_word(&self, from: Word, kind: Kind, at: Timestamp, wait: Option<Duration>, reopened: u64) -> Word {
        from.next(kind, self.deadline(at, wait, reopened, generation_after(from.generation(), 1)))
    }

    /// The millisecond at which an opening in `generation` at `at` is over, for `wait` or the configured wait.
    pub(crate) fn deadline(&self, at: Timestamp, wait: Option<Duration>, reopened: u64, generation: u64) -> u64 {
        let wait = wait.map_or_else(|| self.plan.wait(reopened, generation, self.seed), |wait| self.plan.capped(wait));
        at.millis_after(saturating_nanos(wait))
    }
}

/// Admitting, rejecting, and moving the gate.
impl<P: Policy, C: Clock, O: Observer> CircuitBreaker<P, C, O> {
    #[inline]
    fn pass(&self, word: Word) -> Pass {
        let timed = self.observer.times_calls() || self.timed;
        Pass { word, started: if timed { self.read_clock() } else { Timestamp::ORIGIN } }
    }

    /// Not inlined: most breakers time no calls, and their callers should not carry the clock.
    #[inline(never)]
    fn read_clock(&self) -> Timestamp {
        self.now()
    }

    /// Tells of a rejection, and gives it back.
    #[inline(always)]
    fn turn_away(&self, rejected: Rejected) -> Rejected {
        if self.observer.observes_calls() {
            // A copy: a reference to it would put it in memory on the way to every caller.
            let seen = rejected;
            self.tell(|observer| observer.on_rejected(&seen));
        }
        rejected
    }

    /// The rejection by the open gate `word`, which opened for the reason `trip`.
    #[inline(always)]
    fn still_open(&self, word: Word, now: Timestamp, trip: Option<Trip>) -> Rejected {
        let left = word.time(now).as_nanos().saturating_sub(now.as_nanos());
        self.turn_away(Rejected::open(left, trip))
    }

    /// Half-opens an open gate, or renews a sealed half-open one. This and the moves below say whether they were made:
    /// if not, somebody else has made another.
    pub(crate) fn begin_half_open(&self, word: Word, now: Timestamp) -> bool {
        let end = now.millis_after(self.plan.max_wait());
        let moved = self.gate.half_open(word, end);
        let cause = if word.is_over(now) { Cause::WaitOver } else { Cause::ByHand };
        moved.map(|to| self.moved(word, to, now, cause, None)).is_some()
    }

    /// Ends a half-open period that is over, unless its probes have decided in time.
    fn end_half_open(&self, word: Word, now: Timestamp) -> bool {
        match self.gate.seal(word, self.quota) {
            Err(verdict) => self.conclude(word, verdict, now),
            Ok(()) => match self.decided(word, now) {
                same if same == word => self.begin_half_open(word, now),
                to if to.kind().is_open() => self.exchange(word, to, word.time(now), Cause::opened(to.kind())),
                to => self.exchange(word, to, word.time(now), Cause::ProbeTimeout),
            },
        }
    }

    /// Moves the half-open gate `word` as its probes have decided.
    fn conclude(&self, word: Word, verdict: Verdict, now: Timestamp) -> bool {
        match verdict {
            Verdict::Close => {
                self.exchange(word, word.next(Kind::Closed, now.as_millis()), now, Cause::ProbesSucceeded)
            }
            Verdict::Reopen => self.reopen(word, Kind::ProbeFailed, now, None),
        }
    }

    pub(crate) fn reopen(&self, word: Word, kind: Kind, now: Timestamp, wait: Option<Duration>) -> bool {
        self.reopened(word, kind, now, wait).is_some_and(|to| self.exchange(word, to, now, Cause::opened(kind)))
    }

    /// Begins an outage: opens a gate that is neither open nor half-open.
    pub(crate) fn open_anew(
        &self,
        word: Word,
        kind: Kind,
        culprit: Option<(usize, Tally)>,
        now: Timestamp,
        wait: Option<Duration>,
    ) -> bool {
        let to = self.open_word(word, kind, now, wait, 0);
        let mut evidence = CountsList::default();
        self.policy.live(&self.rules, word.generation(), now, &mut evidence);
        // Others may have gone on counting since the cause was found: a success that makes it look unfounded, say.
        let evidence = culprit.map_or(evidence, |(index, tally)| evidence.holding(index, tally));
        let moved = self.gate.exchange(word, to);
        if moved {
            self.moved(word, to, now, Cause::opened(kind), Some((evidence, culprit.map(|(index, _)| index))));
        }
        moved
    }

    pub(crate) fn exchange(&self, from: Word, to: Word, at: Timestamp, cause: Cause) -> bool {
        let moved = self.gate.exchange(from, to);
        if moved {
            self.moved(from, to, at, cause, None);
        }
        moved
    }

    /// What the winner of a move does after it: publishes what belongs to it, and tells of it.
    fn moved(&self, from: Word, to: Word, at: Timestamp, cause: Cause, evidence: Option<(CountsList, Option<usize>)>) {
        let generation = to.generation();
        if to.kind().is_open() {
            self.opened.publish(generation, at.as_millis());
        }
        let mut culprit = (0, None);
        if let Some((counts, index)) = evidence {
            let limit = index.map_or(0, |index| self.policy.limit(&self.rules, index, to.kind()));
            self.policy.publish(generation, &mut counts.iter());
            let number = index.map_or(0, |index| index as u64 + 1);
            self.note.publish(generation, CULPRIT.put(number) | LIMIT.put(limit.into()));
            culprit = (limit, counts.get(index.unwrap_or(0)));
        }
        self.policy.begin(Period { gate: &self.gate, word: to });
        self.opened.keep_recent(generation);
        self.note.keep_recent(generation);
        let (from, state) = (State::of(from.kind()), State::of(to.kind()));
        if from != state {
            let trip = Trip::of(to.kind(), culprit.0, culprit.1);
            let retry_after = (state == State::Open).then(|| to.time(at) - at);
            let generation = Generation(generation);
            let transition = Transition { from, to: state, cause, trip, generation, at, retry_after };
            self.tell(|observer| observer.on_transition(&transition));
        }
    }

    /// Calls the observer, whose panic changes nothing here.
    fn tell(&self, event: impl FnOnce(&O)) {
        #[cfg(feature = "std")]
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| event(&self.observer))).is_err() {
            // ORDERING: Relaxed, a count that nothing hangs on.
            self.observer_panics.fetch_add(1, Ordering::Relaxed);
        }
        #[cfg(not(feature = "std"))]
        event(&self.observer);
    }
}

/// Settling.
impl<P: Policy, C: Clock, O: Observer> CircuitBreaker<P, C, O> {
    /// Records an outcome of a closed breaker, at `now` if that has been read already.
    #[inline(always)]
    fn record(&self, pass: Pass, failed: bool, now: Option<Timestamp>) {
        let (found, now) = self.count(pass, failed, now);
        if found.causes() != Causes::NONE {
            self.trip_on(pass.word, found, now);
        }
    }

    /// Not inlined, so that a success keeps nothing for it.
    #[inline(never)]
    fn record_failure(&self, pass: Pass) {
        self.record(pass, true, None);
    }

    /// Gives what was found with this outcome, and the time if that has been read.
    #[inline(always)]
    fn count(&self, pass: Pass, failed: bool, now: Option<Timestamp>) -> (Found, Option<Timestamp>) {
        let call = Moment { breaker: self, started: pass.started, now: Cell::new(now) };
        let period = Period { gate: &self.gate, word: pass.word };
        let found = self.policy.record(&self.rules, period, failed, &call);
        // By value: a reference to it would keep it in memory on the path of every call.
        (found, call.now.get())
    }

    /// Tells of an outcome that counts, and gives the time if the observer wanted it.
    #[inline(always)]
    fn tell_outcome(&self, pass: Pass, settled: Settled) -> Option<Timestamp> {
        let now = self.observer.times_calls().then(|| self.read_clock());
        let elapsed = now.map(|now| now - pass.started);
        self.tell(|observer| observer.on_outcome(&SettledCall { settled, counted: true, elapsed }));
        now
    }

    #[cold]
    #[inline(never)]
    fn trip_on(&self, word: Word, found: Found, now: Option<Timestamp>) {
        if let Some((index, kind)) = found.causes().first() {
            self.open_anew(word, kind, Some((index, found.tally())), now.unwrap_or_else(|| self.now()), None);
        }
    }

    /// Records an outcome of a metrics-only breaker, and tells of each cause that has begun to hold with it: that did not
    /// hold when somebody last noted the causes. Gives the counts that they were last seen in.
    fn shadow(&self, pass: Pass, failed: bool, now: Timestamp) -> CountsList {
        let generation = pass.word.generation();
        let seen = Cell::new(CountsList::default());
        let holding = || {
            let mut counts = CountsList::default();
            let causes = self.policy.live(&self.rules, generation, now, &mut counts);
            seen.set(counts);
            u64::from(causes.0)
        };
        // What holds is asked after the old note was read, and each note has a number of its own: a note that replaces
        // another says what held while that one stood.
        let note = |old, held| NOTES.put(NOTES.get(old) + 1) | HELD.put(held);
        let is_current = || self.gate.load() == pass.word;
        // What time has ended is noted before the outcome is counted: of calls that overlap and bring it about again, the
        // first one to note that tells of it.
        let lasting = |old| HELD.get(old) & holding();
        let noted = self.note.read(generation).unwrap_or(0);
        if lasting(noted) != HELD.get(noted) {
            _ = self.note.update(generation, |old| note(old, lasting(old)), is_current);
        }
        _ = self.count(pass, failed, Some(now));
        let noted_anew = self.note.update(generation, |old| note(old, holding()), is_current);
        let Some((old, new)) = noted_anew else { return seen.get() };
        let begun = HELD.get(new) & !HELD.get(old);
        for cause in (0..u32::BITS).map(|bit| Causes(begun as u32 & 1 << bit)) {
            if let Some((index, kind)) = cause.first() {
                self.would_trip(kind, index, &seen.get());
            }
        }
        seen.get()
    }

    fn would_trip(&self, kind: Kind, index: usize, counts: &CountsList) {
        let limit = self.policy.limit(&self.rules, index, kind);
        if let Some(trip) = Trip::of(kind, limit, counts.get(index)) {
            self.tell(|observer| observer.on_would_trip(&WouldTrip { trip }));
        }
    }

    /// Brings the gate up to date with its probes and with time, as far as that needs no call, and gives its word.
    pub(crate) fn catch_up(&self) -> Word {
        loop {
            let word = self.gate.load();
            if word.kind() != Kind::HalfOpen {
                return word;
            }
            let now = self.now();
            if let Some(verdict) = self.gate.verdict(word, self.quota) {
                self.conclude(word, verdict, now);
            } else if self.decided(word, now) != word {
                self.end_half_open(word, now);
            } else {
                return word;
            }
        }
    }

    /// Settles what is not a success or failure of a closed breaker in its own generation.
    #[cold]
    #[inline(never)]
    fn settle_gate(&self, pass: Pass, settled: Settled) {
        let word = self.catch_up();
        let now = self.now();
        let straggler = word != pass.word || (word.kind() == Kind::HalfOpen && word.is_over(now));
        if self.observer.observes_calls() && word.kind() != Kind::Disabled {
            let elapsed = self.observer.times_calls().then(|| now - pass.started);
            let call = SettledCall { settled, counted: !straggler, elapsed };
            self.tell(|observer| observer.on_outcome(&call));
        }
        if straggler {
            return;
        }
        let elapsed = now - pass.started;
        let outcome = match settled {
            Settled::With(outcome) => outcome,
            Settled::Cancelled if self.plan.is_failure_if_cancelled(elapsed) => Outcome::Failure,
            Settled::Cancelled => Outcome::Ignored,
        };
        match (word.kind(), outcome) {
            // As the last arm; named here, it saves each success two instructions (rustc 1.95).
            (Kind::Closed | Kind::MetricsOnly, Outcome::Ignored) => {}
            // A call cancelled as a failure: `settle` has recorded every other.
            (Kind::Closed, Outcome::Failure) => self.record(pass, true, Some(now)),
            (Kind::MetricsOnly, Outcome::Success) => _ = self.shadow(pass, false, now),
            (Kind::MetricsOnly, Outcome::Failure) => _ = self.shadow(pass, true, now),
            (Kind::Closed, Outcome::OpenFor(wait)) => {
                _ = self.count(pass, true, Some(now));
                _ = self.open_anew(word, Kind::Requested, None, now, wait);
            }
            (Kind::MetricsOnly, Outcome::OpenFor(_)) => {
                let counts = self.shadow(pass, true, now);
                self.would_trip(Kind::Requested, 0, &counts);
            }
            (Kind::HalfOpen, Outcome::OpenFor(wait)) => _ = self.reopen(word, Kind::ProbeRequested, now, wait),
            (Kind::HalfOpen, outcome) => {
                let outcome = match outcome {
                    Outcome::Success if !self.policy.is_slow(&self.rules, elapsed) => ProbeOutcome::Succeeded,
                    Outcome::Ignored => ProbeOutcome::Returned,
                    _ => ProbeOutcome::Failed,
                };
                if let Some(verdict) = self.gate.settle(word, outcome, self.quota) {
                    self.conclude(word, verdict, now);
                }
            }
            _ => {}
        }
    }
}

impl<P: Policy, C: Clock, O: Observer> Breaker for CircuitBreaker<P, C, O> {
    #[inline]
    fn ask_closed(&self) -> Option<Pass> {
        let word = self.gate.load();
        word.is_closed().then(|| self.pass(word))
    }

    #[inline]
    fn may_reject(&self) -> bool {
        let word = self.gate.load();
        !word.is_closed() && !matches!(word.kind(), Kind::MetricsOnly | Kind::Disabled)
    }

    // Inlined into each call, so that a rejection is made where the caller wants it: copying it costs more than all else.
    // Not where code is dear.
    #[cfg_attr(target_pointer_width = "64", inline(always))]
    #[cfg_attr(not(target_pointer_width = "64"), inline(never))]
    fn ask_open(&self) -> Option<Rejected> {
        let word = self.gate.load();
        if !word.kind().is_open() {
            return None;
        }
        let now = self.now();
        (!word.is_over(now)).then(|| self.still_open(word, now, self.trip_of_inline(word)))
    }

    /// Answers a call at a gate that is not closed, once it has been moved as far as it goes.
    // | gate                  | time            | answer     | gate afterwards                                |
    // |-----------------------|-----------------|------------|------------------------------------------------|
    // | closed, metrics-only, | any             | admitted   | the same                                       |
    // | disabled              |                 |            |                                                |
    // | forced open           | any             | rejected   | the same                                       |
    // | open                  | before its end  | rejected   | the same                                       |
    // | open                  | from its end on | asks again | half-open                                      |
    // | half-open, a place    | before its end  | admitted   | the same, one place less                       |
    // | half-open, no place   | before its end  | rejected   | the same                                       |
    // | half-open, decided    | any             | asks again | closed or open, as the probes decided          |
    // | half-open             | from its end on | asks again | half-open anew, open or closed (`on_max_wait`) |
    #[cold]
    #[inline(never)]
    fn ask_gate(&self) -> Result<Pass, Rejected> {
        loop {
            let word = self.gate.load();
            let kind = word.kind();
            if matches!(kind, Kind::Closed | Kind::MetricsOnly | Kind::Disabled) {
                return Ok(self.pass(word));
            }
            if kind == Kind::ForcedOpen {
                return Err(self.turn_away(Rejected::FORCED_OPEN));
            }
            let now = self.now();
            let over = word.is_over(now);
            match kind {
                Kind::HalfOpen if over => _ = self.end_half_open(word, now),
                Kind::HalfOpen => match self.gate.admit(word, self.quota) {
                    Admission::Admitted => return Ok(self.pass(word)),
                    Admission::Full => {
                        if let Some(trip) = self.trip_of(word) {
                            return Err(self.turn_away(Rejected::half_open(trip)));
                        }
                    }
                    Admission::Decided(verdict) => _ = self.conclude(word, verdict, now),
                    // Somebody with a later time has sealed it: it is over.
                    Admission::Over => _ = self.end_half_open(word, now.max(word.time(now))),
                },
                _ if over => _ = self.begin_half_open(word, now),
                _ => return Err(self.still_open(word, now, self.trip_of(word))),
            }
        }
    }

    #[inline(always)]
    fn settle(&self, pass: Pass, settled: Settled) {
        let failed = match settled {
            Settled::With(Outcome::Success) => false,
            Settled::With(Outcome::Failure) => true,
            _ => return self.settle_gate(pass, settled),
        };
        if !pass.word.is_closed() || self.gate.load() != pass.word {
            return self.settle_gate(pass, settled);
        }
        if self.observer.observes_calls() {
            return self.record(pass, failed, self.tell_outcome(pass, settled));
        }
        if failed { self.record_failure(pass) } else { self.record(pass, false, None) }
    }
}

/// When a call was settled, by the breaker's clock, read at most once.
struct Moment<'a, P: Policy, C, O> {
    breaker: &'a CircuitBreaker<P, C, O>,
    started: Timestamp,
    now: Cell<Option<Timestamp>>,
}

impl<P: Policy, C: Clock, O: Observer> Call for Moment<'_, P, C, O> {
    #[inline]
    fn now(&self) -> Timestamp {
        let now = self.now.get().unwrap_or_else(|| self.breaker.now());
        self.now.set(Some(now));
        now
    }

    #[inline]
    fn is_timed(&self) -> bool {
        self.breaker.timed
    }

    #[inline]
    fn elapsed(&self) -> Duration {
        let now = self.now.get().unwrap_or_else(|| self.breaker.read_clock());
        self.now.set(Some(now));
        now - self.started
    }
}

impl<P: Policy, C: Clock, O: Observer> core::fmt::Debug for CircuitBreaker<P, C, O> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "CircuitBreaker({})", self.snapshot())
    }
}
