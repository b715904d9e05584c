//! What is seen of a breaker from outside: its effective state, its counts, and what led to them.

use core::time::Duration;

use crate::breaker::{CULPRIT, CircuitBreaker, LIMIT};
use crate::clock::Clock;
use crate::observer::Observer;
use crate::policy::Policy;
use crate::raw::gate::{Kind, Word};
use crate::snapshot::{CountsList, Generation, Reason, Snapshot, State, Trip};
use crate::time::Timestamp;

/// Looking. It changes nothing.
impl<P: Policy, C: Clock, O: Observer> CircuitBreaker<P, C, O> {
    /// The effective state: an open breaker whose wait is over reads [`State::HalfOpen`], and a half-open one whose
    /// `max_wait` is over what that makes of it. Reading changes nothing.
    ///
    /// ```
    /// # let breaker = failfast::CircuitBreaker::builder().build()?;
    /// assert_eq!(breaker.state(), failfast::State::Closed);
    /// # Ok::<(), failfast::ConfigError>(())
    /// ```
    pub fn state(&self) -> State {
        self.look(|word, now| self.effective(word, now).0)
    }

    /// The state, its counts, and what led to it. See [`Snapshot`].
    pub fn snapshot(&self) -> Snapshot {
        self.look(|word, now| self.snapshot_of(word, now))
    }

    /// What was read belongs together if the gate still holds the word afterwards.
    fn look<T>(&self, see: impl Fn(Word, Timestamp) -> T) -> T {
        loop {
            let word = self.gate.load();
            let seen = see(word, self.now());
            if self.gate.load() == word {
                return seen;
            }
        }
    }

    fn snapshot_of(&self, word: Word, now: Timestamp) -> Snapshot {
        let (state, decided) = self.effective(word, now);
        let over = decided.is_over(now);
        let mut counts = CountsList::default();
        let mut trip = None;
        let mut since = Some(decided.time(now));
        match state {
            State::Closed | State::MetricsOnly => {
                self.policy.live(&self.rules, word.generation(), now, &mut counts);
            }
            State::ForcedOpen | State::Disabled => {}
            State::Open | State::HalfOpen => {
                counts = self.evidence(word);
                trip = self.trip_of(word);
                if let (Some(trip), Some(reason)) = (&mut trip, Reason::of(decided.kind())) {
                    trip.reason = reason;
                }
                since = match decided.kind() {
                    Kind::HalfOpen => Some(decided.time(now).earlier_by(Duration::from_nanos(self.plan.max_wait()))),
                    _ if over => Some(decided.time(now)),
                    _ if decided != word => Some(word.time(now)),
                    _ => self.opened.read(word.generation()).map(Timestamp::from_millis),
                };
            }
        }
        Snapshot {
            state,
            generation: Generation(word.generation()),
            now,
            since,
            retry_after: (state == State::Open).then(|| decided.time(now) - now),
            trip,
            counts,
            probes: (state == State::HalfOpen).then(|| {
                let begun = decided.kind() == Kind::HalfOpen && !over;
                self.gate.probes(word).filter(|_| begun).unwrap_or_default()
            }),
        }
    }

    /// The windows as they were when the outage of the open or half-open gate `word` began: all of them, or none while
    /// they are not yet published. The note of the culprit is published last.
    fn evidence(&self, word: Word) -> CountsList {
        let mut counts = CountsList::default();
        if let Some(outage) = self.gate.outage(word) {
            if self.note.read(outage.start).is_some() {
                let published = |index| self.policy.published(&self.rules, outage.start, index);
                (0..P::COUNT).filter_map(published).for_each(|policy| counts.push(policy));
            }
        }
        counts
    }

    /// Why the open or half-open gate `word` opened. No window is walked for it: it is made of published words. None
    /// if the gate was half-open and has moved on.
    #[inline(never)]
    pub(crate) fn trip_of(&self, word: Word) -> Option<Trip> {
        self.trip_of_inline(word)
    }

    /// The same, for the one place where it must be fast.
    #[inline(always)]
    pub(crate) fn trip_of_inline(&self, word: Word) -> Option<Trip> {
        let outage = self.gate.outage(word);
        let kind = if word.kind() == Kind::HalfOpen { outage?.kind } else { word.kind() };
        let noted = outage.and_then(|outage| Some((outage.start, self.note.read(outage.start)?)));
        let (limit, counts) = noted.map_or((0, None), |(start, note)| {
            let index = CULPRIT.get(note).saturating_sub(1) as usize;
            (LIMIT.get(note) as u32, self.policy.published(&self.rules, start, index))
        });
        Trip::of(kind, limit, counts)
    }
}
