//! What must hold, by books of its own: of what the store says of itself only the record is looked at.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::super::command::{Command, Envelope, Op};
use super::super::member::Terms;
use super::super::record::{Message, Record, is_hand_set};
use super::super::store::Answer;
use super::plan::{MS, Plan};
use crate::State;

/// What a simulation is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// No more leases at a time than there are, none without being asked for, none that outlasts its release.
    Leases,
    /// No probe without a lease, and no more of them than the breaker's own.
    Budget,
    /// Nobody acts on an epoch that is over, epochs only rise, and each stands for one thing.
    Epoch,
    /// What was set by hand ends by hand.
    Hand,
    /// Not before enough nodes say so.
    Quorum,
    /// Not before the fleet's outcomes say so.
    Rates,
    /// Undisturbed nodes know what is.
    Learning,
    /// In the end all are where they should be.
    Convergence,
    /// A call makes no command.
    Calls,
}

#[derive(Clone, Debug)]
pub(super) struct Violation {
    pub(super) rule: Rule,
    pub(super) what: String,
}

pub(super) struct Oracle {
    pub(super) found: Option<Violation>,
    terms: Terms,
    leases: usize,
    probes: u32,
    books: Vec<Book>,
}

/// Of one breaker.
#[derive(Default)]
struct Book {
    /// By epoch and token.
    grants: BTreeMap<(u64, String), Grant>,
    minted: BTreeMap<u64, Record>,
    votes: BTreeMap<Box<str>, u64>,
    counts: Vec<(u64, u64, u64)>,
    /// In which epoch the outcomes were enough.
    crossed: Option<u64>,
    /// Votes and outcomes may be older or fewer than these books say, until the next epoch.
    is_unsure: bool,
    has_lost: bool,
    last_hand: Option<(u64, State)>,
    changed: u64,
}

struct Grant {
    node: Box<str>,
    since: u64,
    until: u64,
    admitted: u32,
    is_over: bool,
    /// From before the store lost its data, or its clock was set: it says nothing of who else has one.
    is_forgotten: bool,
}

/// A command, and what it did.
pub(super) struct Applied<'a> {
    pub(super) now: u64,
    pub(super) server_now: u64,
    pub(super) from: &'a Envelope,
    pub(super) command: &'a Command,
    pub(super) before: &'a Record,
    pub(super) after: &'a Record,
    pub(super) answer: &'a Answer,
    /// Whether the store has a lease under the command's token.
    pub(super) holds: bool,
}

impl Oracle {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            found: None,
            terms: plan.rules.agreement,
            leases: plan.leases as usize,
            probes: plan.local.probes,
            books: (0..plan.breakers).map(|_| Book::default()).collect(),
        }
    }

    /// Keeps the first.
    pub(super) fn expect(&mut self, holds: bool, rule: Rule, what: impl FnOnce() -> String) {
        if !holds && self.found.is_none() {
            self.found = Some(Violation { rule, what: what() });
        }
    }

    /// When the record changed last.
    pub(super) fn changed(&self, slot: usize) -> u64 {
        self.books[slot].changed
    }

    /// The last word by hand that the store took.
    pub(super) fn last_hand(&self, slot: usize) -> Option<(u64, State)> {
        self.books[slot].last_hand
    }

    pub(super) fn has_lost(&self, slot: usize) -> bool {
        self.books[slot].has_lost
    }

    /// A node begins anew under a lease that it has taken for over, and so might anybody. A node without a connection
    /// goes on by itself.
    pub(super) fn begins_anew(&mut self, slot: usize, node: &str) {
        let grants = self.books[slot].grants.values_mut();
        grants.filter(|grant| &*grant.node == node).for_each(|grant| grant.admitted = 0);
    }

    pub(super) fn lost_data(&mut self, now: u64) {
        for book in &mut self.books {
            (book.has_lost, book.changed) = (true, now);
            book.votes.clear();
            book.counts.clear();
        }
        self.lost_time(0);
    }

    /// The server's clock was set, by so many milliseconds: leases may last longer by as much as it was set back.
    pub(super) fn lost_time(&mut self, by: i64) {
        let longer = by.min(0).unsigned_abs() * MS;
        for book in &mut self.books {
            book.grants.values_mut().for_each(|grant| (grant.is_forgotten, grant.until) = (true, grant.until + longer));
            book.is_unsure = true;
        }
    }

    pub(super) fn applied(&mut self, slot: usize, applied: &Applied<'_>) {
        let Applied { now, server_now, from, command, before, after, answer, holds } = *applied;
        let Command { epoch, op, .. } = command;
        let token = from.token(command.lease);
        let changed = (before.epoch, before.state) != (after.epoch, after.state);
        let current = *epoch == before.epoch;
        let is_granted = self.is_granted(slot, *epoch, &token, now);
        let has_lost = self.books[slot].has_lost;
        let context = || alloc::format!("{}: {command:?} made {after:?} of {before:?}", from.node);

        if let Op::Trip { wait, .. } = op {
            if current && before.state == State::Closed {
                self.books[slot].votes.insert(from.node.clone(), server_now + wait);
            }
        }
        if changed {
            let by_hand = match op {
                Op::Hand { .. } => true,
                // One that knows less only lifts what is there.
                Op::Restore(known) if known.hand <= before.hand => after.state == before.state,
                Op::Restore(_) => true,
                _ => false,
            };
            self.expect(by_hand || !is_hand_set(before.state), Rule::Hand, context);
            let legal = match op {
                Op::Sync { .. } | Op::Withdraw | Op::Count { .. } | Op::Lease { .. } | Op::Release => false,
                Op::Trip { .. } => current && before.state == State::Closed,
                Op::Reopen { .. } | Op::Close => current && before.state == State::Open,
                Op::Hand { .. } => true,
                Op::Restore(known) => has_lost && (*epoch > before.epoch || known.hand > before.hand),
            };
            self.expect(legal, Rule::Epoch, context);
            self.expect(after.epoch > before.epoch, Rule::Epoch, context);
            let leased = !matches!(op, Op::Reopen { .. } | Op::Close) || is_granted;
            self.expect(leased, Rule::Leases, context);
            if matches!(op, Op::Trip { .. }) && !core::mem::take(&mut self.books[slot].is_unsure) {
                self.tripped(slot, server_now, before, context);
            }
            let book = &mut self.books[slot];
            book.changed = now;
            book.votes.clear();
            book.counts.clear();
            let thing = Record { hand: 0, remaining: 0, ..after.clone() };
            let known = book.minted.entry(after.epoch).or_insert_with(|| thing.clone()).clone();
            self.expect(known == thing, Rule::Epoch, || alloc::format!("an epoch for two: {known:?} and {thing:?}"));
        }
        if before.hand != after.hand {
            self.books[slot].changed = now;
        }
        match op {
            Op::Hand { state, .. } => self.books[slot].last_hand = Some((after.epoch, *state)),
            Op::Withdraw => _ = self.books[slot].votes.remove(&from.node),
            Op::Count { total, failed, bucket, buckets } if answer.reply.done => {
                let book = &mut self.books[slot];
                book.counts.push((server_now / bucket, *total, *failed));
                book.counts.retain(|count| count.0 + buckets > server_now / bucket);
                let sum = book.counts.iter().fold((0, 0), |sum, count| (sum.0 + count.1, sum.1 + count.2));
                if let Terms::Rates { min_calls, rate, .. } = self.terms {
                    if sum.0 >= min_calls && sum.1 * 100_000_000 >= u64::from(rate) * sum.0 {
                        book.crossed = Some(after.epoch);
                    }
                }
            }
            Op::Lease { .. } if answer.reply.done => self.granted(slot, applied, token),
            Op::Release if is_granted => {
                self.expect(!holds, Rule::Leases, || alloc::format!("{token} is not released"));
                if let Some(grant) = self.books[slot].grants.get_mut(&(*epoch, token)) {
                    grant.is_over = true;
                }
            }
            _ => {}
        }
    }

    fn tripped(&mut self, slot: usize, server_now: u64, before: &Record, context: impl Fn() -> String) {
        let book = &self.books[slot];
        match self.terms {
            Terms::Any => {}
            Terms::Quorum { nodes, .. } => {
                let votes = book.votes.values().filter(|&&until| until > server_now).count();
                self.expect(votes >= nodes as usize, Rule::Quorum, || alloc::format!("{votes} votes: {}", context()));
            }
            Terms::Rates { .. } => {
                let crossed = book.crossed == Some(before.epoch);
                self.expect(crossed, Rule::Rates, context);
            }
        }
    }

    fn is_granted(&self, slot: usize, epoch: u64, token: &str, now: u64) -> bool {
        // Found by its parts: a token is not cloned for each command.
        let of_epoch = self.books[slot].grants.range((epoch, String::new())..(epoch + 1, String::new()));
        of_epoch.into_iter().any(|((_, of), grant)| of == token && !grant.is_over && grant.until >= now)
    }

    fn granted(&mut self, slot: usize, applied: &Applied<'_>, token: String) {
        let Applied { now, from, after, answer, .. } = *applied;
        let epoch = after.epoch;
        let Message { mine, .. } = answer.reply;
        let of_epoch = self.books[slot].grants.range((epoch, String::new())..(epoch + 1, String::new()));
        // The server counts whole milliseconds.
        let others = of_epoch.filter(|((_, of), grant)| {
            *of != token && !grant.is_over && !grant.is_forgotten && grant.until >= now + MS
        });
        let others = others.count();
        let leases = self.leases;
        self.expect(others < leases, Rule::Leases, || alloc::format!("{token} beside {others} others of {leases}"));
        let until = now + mine * MS;
        let grants = &mut self.books[slot].grants;
        let node = from.node.clone();
        let grant = Grant { node, since: now, until, admitted: 0, is_over: false, is_forgotten: false };
        let grant = grants.entry((epoch, token)).or_insert(grant);
        // What was asked for before a release, and comes after it, is granted anew.
        (grant.until, grant.is_over) = (until, false);
        while grants.len() > 64 {
            _ = grants.pop_first();
        }
    }

    /// A node that is in touch with the store, and knows the fleet to be open, has admitted a probe.
    pub(super) fn admitted(&mut self, now: u64, slot: usize, node: &str, known: &Record) {
        let probes = self.probes;
        let of_epoch = (known.epoch, String::new())..(known.epoch + 1, String::new());
        let grants = self.books[slot].grants.range_mut(of_epoch);
        let grant = grants.filter(|(_, grant)| &*grant.node == node).max_by_key(|(_, grant)| grant.since);
        let Some((_, grant)) = grant else {
            return self.expect(false, Rule::Budget, || alloc::format!("{node} probes without a lease: {known:?}"));
        };
        grant.admitted += 1;
        let (admitted, until, is_over) = (grant.admitted, grant.until, grant.is_over);
        self.expect(!is_over, Rule::Budget, || alloc::format!("{node} probes after its release: {known:?}"));
        self.expect(admitted <= probes, Rule::Budget, || alloc::format!("{node} makes probe {admitted} of {probes}"));
        self.expect(now <= until + Plan::LATENESS, Rule::Budget, || {
            alloc::format!("{node} probes {} ms after its lease: {known:?}", (now - until) / MS)
        });
    }
}
