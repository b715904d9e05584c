//! The gate: what states there are, and how one word moves between them.
//!
//! The gate is one word, and every transition is one CAS on it, so exactly one thread wins a transition and only
//! the winner reports it. Two more words say what does not fit: who probes, and what outage this is. They only
//! count while the gate is half-open in the generation of their tag, and are moved to that tag *before* the gate
//! is. Whoever loses that race leaves a tag behind that nobody reads.

use super::bits::{Field, GENERATION_BITS, generation_after};
use crate::sync::{AtomicU64, Ordering, const_fn};
use crate::time::Timestamp;

// gate:   [ kind 4 | generation 20 | milliseconds 40 ], the milliseconds modulo 2^40 (34 years)
const MILLIS: Field = Field::first(40);
const GENERATION: Field = MILLIS.then(GENERATION_BITS);
const KIND: Field = GENERATION.then(4);

// probes: [ generation 20 | admitted 14 | succeeded 14 | failed 14 ], 2 bits to spare
const FAILED: Field = Field::first(14);
const SUCCEEDED: Field = FAILED.then(14);
const ADMITTED: Field = SUCCEEDED.then(14);
const PROBES_TAG: Field = ADMITTED.then(GENERATION_BITS);

// outage: [ generation 20 | start 20 | kind 4 | reopened 12 ], 8 bits to spare
const REOPENED: Field = Field::first(12);
const OUTAGE_KIND: Field = REOPENED.then(4);
const START: Field = OUTAGE_KIND.then(GENERATION_BITS);
const OUTAGE_TAG: Field = START.then(GENERATION_BITS);

/// The most probes that a half-open period can admit.
pub(crate) const MAX_PROBES: u32 = ADMITTED.max() as u32;

/// A state and, where it is open, how it came to be. Public only for the sealed trait of policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    Closed = 0,
    MetricsOnly,
    Disabled,
    ForcedOpen,
    HalfOpen,
    /// Opened from a closed or hand-set state by one of the policy's causes, at a callee's request, by hand.
    ConsecutiveFailures,
    Failures,
    FailureRate,
    SlowCallRate,
    Requested,
    ByHand,
    /// Opened again from half-open.
    ProbeFailed,
    ProbeTimeout,
    ProbeRequested,
    ProbeByHand,
}

impl Kind {
    /// By their numbers; the last one stands for a number that no kind has.
    const ALL: [Self; 1 << KIND.len()] = [
        Self::Closed,
        Self::MetricsOnly,
        Self::Disabled,
        Self::ForcedOpen,
        Self::HalfOpen,
        Self::ConsecutiveFailures,
        Self::Failures,
        Self::FailureRate,
        Self::SlowCallRate,
        Self::Requested,
        Self::ByHand,
        Self::ProbeFailed,
        Self::ProbeTimeout,
        Self::ProbeRequested,
        Self::ProbeByHand,
        Self::ProbeByHand,
    ];

    #[inline]
    fn from_bits(bits: u64) -> Self {
        Self::ALL[(bits & KIND.max()) as usize]
    }

    pub(crate) fn is_open(self) -> bool {
        self as u8 > Self::HalfOpen as u8
    }

    fn is_reopened(self) -> bool {
        self as u8 >= Self::ProbeFailed as u8
    }
}

/// A value of the gate. A permit carries the one that it was given in, and is a straggler when the gate holds
/// another: a word holds a generation and a millisecond, so two equal ones need 2^20 moves within one millisecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word(u64);

impl Word {
    /// The gate's first word.
    pub(crate) const fn first(kind: Kind, millis: u64) -> Self {
        Self(KIND.put(kind as u64) | MILLIS.put(millis))
    }

    /// The word of the transition from this one. `millis` is when an open wait or a half-open period ends, and for
    /// any other kind when it began.
    #[must_use]
    pub(crate) fn next(self, kind: Kind, millis: u64) -> Self {
        let generation = generation_after(self.generation(), 1);
        Self(KIND.put(kind as u64) | GENERATION.put(generation) | MILLIS.put(millis))
    }

    /// The same state and generation with another end.
    #[must_use]
    pub(crate) fn until(self, millis: u64) -> Self {
        Self(self.0 & !MILLIS.put(u64::MAX) | MILLIS.put(millis))
    }

    #[inline]
    pub(crate) fn is_closed(self) -> bool {
        self.0 < KIND.one()
    }

    pub(crate) fn kind(self) -> Kind {
        Kind::from_bits(KIND.get(self.0))
    }

    #[inline]
    pub(crate) fn generation(self) -> u64 {
        GENERATION.get(self.0)
    }

    /// When it ends (open, half-open) or began (any other). The word tells it modulo 2^40 ms; it is the one within
    /// 17 years of `now`, and no wait is as long as that.
    pub(crate) fn time(self, now: Timestamp) -> Timestamp {
        let ahead = MILLIS.get(self.0).wrapping_sub(now.as_millis()) & MILLIS.max();
        if ahead > MILLIS.max() / 2 {
            Timestamp::from_millis(now.as_millis().saturating_sub(MILLIS.max() - ahead + 1))
        } else {
            Timestamp::from_millis(now.as_millis().saturating_add(ahead))
        }
    }

    /// Whether the open wait or the half-open period that this word tells of is over. A wait of 5000 ms is over
    /// *at* 5000 ms.
    pub(crate) fn is_over(self, now: Timestamp) -> bool {
        now.as_millis().wrapping_sub(MILLIS.get(self.0)) & MILLIS.max() <= MILLIS.max() / 2
    }
}

/// What a half-open period asks of its probes.
#[derive(Clone, Copy)]
pub(crate) struct Quota {
    pub(crate) probes: u16,
    pub(crate) successes: u16,
}

/// How a probe ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeOutcome {
    Succeeded,
    Failed,
    /// Ignored or cancelled: its place is free again.
    Returned,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Close,
    Reopen,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Admitted,
    Full,
    /// The probes have decided, and the gate is yet to be moved.
    Decided(Verdict),
    /// The period was found to be over, and the gate is yet to be moved.
    Over,
}

/// The probes of one half-open period.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Probes {
    pub(crate) admitted: u16,
    pub(crate) succeeded: u16,
    pub(crate) failed: u16,
}

impl Probes {
    fn of(word: u64) -> Self {
        Self {
            admitted: ADMITTED.get(word) as u16,
            succeeded: SUCCEEDED.get(word) as u16,
            failed: FAILED.get(word) as u16,
        }
    }

    /// Decided as soon as it is certain: enough have succeeded, or too many failed for that.
    fn verdict(self, quota: Quota) -> Option<Verdict> {
        if self.succeeded >= quota.successes {
            Some(Verdict::Close)
        } else if self.failed > quota.probes - quota.successes {
            Some(Verdict::Reopen)
        } else {
            None
        }
    }
}

/// All that has happened from a trip (or an opening by hand) on, until the breaker closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outage {
    /// The generation in which it began: the tag of its evidence.
    pub(crate) start: u64,
    /// How it was last opened.
    pub(crate) kind: Kind,
    /// Moves from half-open to open that were not by hand; stays at its maximum of 4095.
    pub(crate) reopened: u64,
}

impl Outage {
    fn of(word: u64) -> Self {
        Self { start: START.get(word), kind: Kind::from_bits(OUTAGE_KIND.get(word)), reopened: REOPENED.get(word) }
    }

    fn tagged(self, generation: u64) -> u64 {
        OUTAGE_TAG.put(generation)
            | START.put(self.start)
            | OUTAGE_KIND.put(self.kind as u64)
            | REOPENED.put(self.reopened)
    }

    /// The same outage after its half-open period has failed in the way that `kind` says.
    #[must_use]
    pub(crate) fn reopened_as(self, kind: Kind) -> Self {
        let more = u64::from(kind != Kind::ProbeByHand);
        Self { kind, reopened: (self.reopened + more).min(REOPENED.max()), ..self }
    }
}

pub(crate) struct Gate {
    word: AtomicU64,
    probes: AtomicU64,
    outage: AtomicU64,
}

impl Gate {
    const_fn! {
        pub(crate) fn new(first: Word) -> Self {
            Self {
                word: AtomicU64::new(first.0),
                probes: AtomicU64::new(0),
                outage: AtomicU64::new(0),
            }
        }
    }

    #[inline]
    pub(crate) fn load(&self) -> Word {
        // ORDERING: Acquire, pairs with the Release of `exchange`: whoever sees a state sees what its winner had
        // prepared for it, the tags of the other two words above all.
        Word(self.word.load(Ordering::Acquire))
    }

    /// The transition itself, and whether it was made: if not, somebody else has made another. The caller has prepared
    /// what the new state needs.
    pub(crate) fn exchange(&self, from: Word, to: Word) -> bool {
        // ORDERING: Release on success, for `load`. Acquire on both sides: winner and loser go on with what the
        // word before, or the winner's, stands for.
        self.word.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    // | from                  | outage before                 | outage after                        |
    // |-----------------------|-------------------------------|-------------------------------------|
    // | open, not from probes | any: of an earlier outage     | starts with `from`, reopened 0      |
    // | open, from probes     | the one that they were in     | the same, reopened + 1 (by hand: 0) |
    // | half-open (renewal)   | its own                       | the same                            |
    /// Half-opens an open gate, or renews a half-open one that is over and [sealed](Self::seal), until `end`. Gives the
    /// new word, or none if somebody else has made another move.
    pub(crate) fn half_open(&self, from: Word, end: u64) -> Option<Word> {
        let to = from.next(Kind::HalfOpen, end);
        let generation = to.generation();
        loop {
            // ORDERING: Acquire for both, so that the gate below is read after them; what they hold is validated
            // by it.
            let probes = self.probes.load(Ordering::Acquire);
            let outage = self.outage.load(Ordering::Acquire);
            // A value read from an auxiliary word belongs to `from` only if the gate still held `from` afterwards:
            // without this, a thread that slept between the two could move a live tag.
            if self.load() != from {
                return None;
            }
            let fresh = PROBES_TAG.put(generation);
            if PROBES_TAG.get(probes) != generation && self.replace(&self.probes, probes, fresh).is_err() {
                continue;
            }
            let ours = outage_of(from, outage).tagged(generation);
            if OUTAGE_TAG.get(outage) != generation && self.replace(&self.outage, outage, ours).is_err() {
                continue;
            }
            return self.exchange(from, to).then_some(to);
        }
    }

    /// Asks for a probe's place in the half-open period `word`.
    pub(crate) fn admit(&self, word: Word, quota: Quota) -> Admission {
        self.update_probes(word, |probes, raw| match probes.verdict(quota) {
            Some(verdict) => Err(Admission::Decided(verdict)),
            None if probes.admitted >= quota.probes => Err(Admission::Full),
            None => Ok(raw + ADMITTED.one()),
        })
        .map_or_else(|refused| refused.unwrap_or(Admission::Over), |_| Admission::Admitted)
    }

    /// Settles a probe of the half-open period `word`, and gives the verdict that stands after it.
    pub(crate) fn settle(&self, word: Word, outcome: ProbeOutcome, quota: Quota) -> Option<Verdict> {
        let settled = self.update_probes(word, |probes, raw| match probes.verdict(quota) {
            // What comes after the verdict cannot change it.
            Some(verdict) => Err(verdict),
            None => Ok(match outcome {
                ProbeOutcome::Succeeded => raw + SUCCEEDED.one(),
                ProbeOutcome::Failed => raw + FAILED.one(),
                ProbeOutcome::Returned => raw - ADMITTED.one(),
            }),
        });
        match settled {
            Ok(raw) => Probes::of(raw).verdict(quota),
            Err(verdict) => verdict,
        }
    }

    /// Ends the half-open period `word` for its probes, before the gate is moved: none can be admitted or settled
    /// afterwards. A verdict that was reached in time is not lost to this; it is returned instead.
    pub(crate) fn seal(&self, word: Word, quota: Quota) -> Result<(), Verdict> {
        let sealed = PROBES_TAG.put(generation_after(word.generation(), 1));
        let seal = |probes: Probes, _| probes.verdict(quota).map_or(Ok(sealed), Err);
        match self.update_probes(word, seal) {
            Ok(_) | Err(None) => Ok(()),
            Err(Some(verdict)) => Err(verdict),
        }
    }

    /// The verdict that the probes of the half-open period `word` have reached.
    pub(crate) fn verdict(&self, word: Word, quota: Quota) -> Option<Verdict> {
        self.probes(word)?.verdict(quota)
    }

    /// The probes of the half-open period `word`, unless it is over.
    pub(crate) fn probes(&self, word: Word) -> Option<Probes> {
        // ORDERING: Acquire, pairs with `replace`: whoever finds a verdict sees what led to it.
        let raw = self.probes.load(Ordering::Acquire);
        (PROBES_TAG.get(raw) == word.generation()).then(|| Probes::of(raw))
    }

    /// The outage that the open or half-open gate `word` is in; none if the gate has moved on.
    pub(crate) fn outage(&self, word: Word) -> Option<Outage> {
        if !word.kind().is_reopened() && word.kind().is_open() {
            // It began with this very word.
            return Some(outage_of(word, 0));
        }
        // ORDERING: Acquire, so that the gate is read after it.
        let raw = self.outage.load(Ordering::Acquire);
        (self.load() == word).then(|| outage_of(word, raw))
    }

    /// One CAS on the probes word of the half-open period `word`. `Err(None)`: it is not that period's any more.
    fn update_probes<E>(
        &self,
        word: Word,
        mut update: impl FnMut(Probes, u64) -> Result<u64, E>,
    ) -> Result<u64, Option<E>> {
        // ORDERING: Acquire, pairs with `replace`.
        let mut raw = self.probes.load(Ordering::Acquire);
        let backoff = crossbeam_utils::Backoff::new();
        loop {
            if PROBES_TAG.get(raw) != word.generation() {
                return Err(None);
            }
            let new = update(Probes::of(raw), raw).map_err(Some)?;
            match self.replace(&self.probes, raw, new) {
                Ok(()) => return Ok(new),
                Err(current) => raw = current,
            }
            backoff.spin();
        }
    }

    fn replace(&self, word: &AtomicU64, from: u64, to: u64) -> Result<(), u64> {
        // ORDERING: Release, so that the new value stands before a gate that is moved after it; Acquire, so that
        // a loser goes on from what the winner wrote.
        word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).map(drop)
    }
}

/// The outage that the gate's word `gate` is in, when the outage word was `raw` at a time at which the gate held it.
///
/// It is a function of the two alone: proposals that race to write the outage word for one generation agree.
fn outage_of(gate: Word, raw: u64) -> Outage {
    let known = Outage::of(raw);
    // A tag ahead of the gate is a proposal that has counted already.
    let counted = OUTAGE_TAG.get(raw) == generation_after(gate.generation(), 1);
    match gate.kind() {
        Kind::HalfOpen => known,
        kind if kind.is_reopened() && counted => known,
        kind if kind.is_reopened() => known.reopened_as(kind),
        kind => Outage { start: gate.generation(), kind, reopened: 0 },
    }
}

#[cfg(all(test, not(failfast_loom)))]
mod tests {
    use super::*;

    const QUOTA: Quota = Quota { probes: 2, successes: 1 };

    fn half_open() -> (Gate, Word) {
        let gate = Gate::new(Word::first(Kind::ByHand, 0));
        let word = gate.half_open(gate.load(), 1000).unwrap();
        (gate, word)
    }

    #[test]
    fn a_time_is_the_one_within_half_the_range_of_now() {
        let half = MILLIS.max() / 2;
        let now = Timestamp::from_millis(3);
        for (ahead, time) in [(0, 3), (1, 4), (half, half + 3), (half + 1, 0), (MILLIS.max(), 2)] {
            let word = Word::first(Kind::Closed, 3 + ahead);
            assert_eq!(word.time(now), Timestamp::from_millis(time), "{ahead} ms ahead");
        }
    }

    #[test]
    fn only_a_closed_gate_is_closed() {
        for kind in Kind::ALL {
            assert_eq!(Word::first(kind, 7).is_closed(), kind == Kind::Closed, "{kind:?}");
        }
    }

    #[test]
    fn sealed_a_period_admits_and_settles_no_more() {
        let (gate, word) = half_open();
        assert_eq!(gate.admit(word, QUOTA), Admission::Admitted);
        assert_eq!(gate.seal(word, QUOTA), Ok(()));
        assert_eq!(gate.admit(word, QUOTA), Admission::Over);
        assert_eq!(gate.settle(word, ProbeOutcome::Succeeded, QUOTA), None);
        assert_eq!(gate.verdict(word, QUOTA), None);
        assert_eq!(gate.seal(word, QUOTA), Ok(()));
    }

    #[test]
    fn a_verdict_that_was_reached_in_time_is_not_lost_to_the_seal() {
        let (gate, word) = half_open();
        assert_eq!(gate.admit(word, QUOTA), Admission::Admitted);
        assert_eq!(gate.verdict(word, QUOTA), None);
        assert_eq!(gate.settle(word, ProbeOutcome::Succeeded, QUOTA), Some(Verdict::Close));
        assert_eq!(gate.verdict(word, QUOTA), Some(Verdict::Close));
        assert_eq!(gate.seal(word, QUOTA), Err(Verdict::Close));
        assert_eq!(gate.admit(word, QUOTA), Admission::Decided(Verdict::Close));
    }

    #[test]
    fn who_comes_late_to_half_open_changes_nothing() {
        let (gate, word) = half_open();
        assert_eq!(gate.admit(word, QUOTA), Admission::Admitted);
        assert_eq!(gate.half_open(Word::first(Kind::ByHand, 0), 2000), None);
        assert_eq!(gate.load(), word);
        assert_eq!(gate.probes(word), Some(Probes { admitted: 1, succeeded: 0, failed: 0 }));
    }

    #[test]
    fn a_reopening_is_counted_once_however_many_propose_to_half_open_after_it() {
        let opened = Word::first(Kind::ProbeFailed, 0);
        let before = Outage { start: 0, kind: Kind::ByHand, reopened: 3 }.tagged(opened.generation());
        let after = Outage { start: 0, kind: Kind::ProbeFailed, reopened: 4 };
        assert_eq!(outage_of(opened, before), after);
        assert_eq!(outage_of(opened, after.tagged(opened.generation() + 1)), after);
    }
}
