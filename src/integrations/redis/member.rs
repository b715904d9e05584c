//! One breaker of one node, as a member of the fleet: the protocol, without any input or output of its own.
//!
//! [`Member::step`] is told what has happened and how the local breaker looks, and says what is to be done. It is a
//! matter of levels, not of edges: each step compares what the fleet knows with what the local breaker is, so that
//! a lost message or a missed transition is made up for by the next step.
//!
//! ```text
//!  known of the fleet      local breaker            what is done
//!  ----------------------  -----------------------  ------------------------------------------------------------------
//!  set by hand             any other state          set it
//!  closed, newly           open, half-open          close
//!  closed                  open by itself           trip: publish, or vote
//!  closed                  closed again, voted      withdraw
//!  open, newly             set by nobody's hand     open for what remains, and a little longer
//!  open                    about to half-open       open for longer, as long as the store answers
//!  open, nearly over       not set by hand          ask for a lease
//!  open, over, leased      open                     half-open
//!  open, leased            closed by its probes     close for all
//!  open, leased            open by its probes       open for all, anew
//!  open, leased            no call came to probe    release
//!  open, over              closed by itself         ask for a lease, then close for all
//!  any, store unreachable  any                      nothing: the local breaker goes on by itself
//! ```

use alloc::boxed::Box;

use super::command::{Command, Op};
use super::record::{MAX_AHEAD, Message, Record, is_hand_set};
use crate::{Generation, Reason, State};

/// How far behind the shared deadline the local one lies at least: time for the node to be scheduled.
const MARGIN: u64 = 250;

/// For how long an open breaker whose shared wait is over is kept open at a time.
const EXTENSION: u64 = 1_000;

/// How early a lease is asked for: no earlier than this, or than a quarter of the wait.
const LEAD: u64 = 500;

/// For how long a lease is held without a call that could probe.
const IDLE: u64 = 1_000;

/// A breaker whose own limit keeps its waits short is kept open no more often than this.
const PAUSE: u64 = 20;

/// Nodes that want the same lease ask for it spread over this.
const SPREAD: u64 = 500;

/// A probing node that has no verdict after so many lease times lets another try.
const LONGEST_PROBING: u64 = 6;

/// What a member goes by. Times are in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rules {
    pub(super) agreement: Terms,
    /// Between two looks at the store.
    pub(super) poll: u64,
    /// The local deadline is spread over so many percent of the wait.
    pub(super) jitter: u64,
    pub(super) lease_ttl: u64,
    pub(super) longest_wait: u64,
}

/// When the fleet opens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Terms {
    Any,
    /// At least so many nodes, and such a share of the live ones (in 100,000,000ths).
    Quorum {
        nodes: u32,
        share: u32,
    },
    /// Such a rate of failures (in 100,000,000ths) over the fleet's calls.
    Rates {
        min_calls: u64,
        rate: u32,
        bucket: u64,
        buckets: u64,
        flush: u64,
    },
}

/// The local breaker, as a step finds it.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// The effective state.
    pub(super) state: State,
    pub(super) generation: Generation,
    pub(super) retry_after: u64,
    /// Why it is open.
    pub(super) reason: Option<Reason>,
    /// Probes admitted in this half-open period.
    pub(super) admitted: u32,
    /// Calls and failures since the node began, if anybody counts them.
    pub(super) calls: u64,
    pub(super) failures: u64,
}

impl View {
    /// Whether a hand that is not the fleet's may have set it, which the fleet then leaves alone.
    fn is_automatic(&self) -> bool {
        !is_hand_set(self.state)
    }

    /// Whether it opened because of what it saw itself.
    fn has_tripped(&self) -> bool {
        self.state == State::Open && self.reason.is_some_and(|reason| reason != Reason::ByHand)
    }
}

/// What a member is told.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// Time has passed, or the breaker may have changed.
    Tick,
    /// The store can be reached (again).
    Up,
    Down,
    /// The answer to the command that was given out last.
    Reply(Message),
    /// The store refused the command.
    Failed,
    /// Somebody has changed something.
    News(Message),
}

/// What is to be done to the local breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// For so long, or for as long as it is configured.
    Open(Option<u64>),
    HalfOpen,
    Close,
    Reset,
    /// One of the states that only the hand sets.
    Set(State),
}

/// What a step asks for. After an act the member wants to step again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) act: Option<Act>,
    /// One at a time: the next comes after the answer.
    pub(super) command: Option<Command>,
}

/// A command that is not answered yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    sent: u64,
    is_sync: bool,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    /// Until when it certainly lasts.
    until: u64,
}

/// See the module's documentation.
#[derive(Clone, Debug)]
pub(super) struct Member {
    rules: Rules,
    node: Box<str>,
    random: Random,
    up: bool,
    /// Whether the store has answered since it could be reached.
    synced: bool,
    pending: Option<Pending>,
    /// No command before this, after one that failed.
    not_before: u64,
    poll_at: u64,

    known: Record,
    /// When the shared wait is over, at the latest.
    end: u64,
    /// The server's time minus ours, at the least.
    ahead: Option<u64>,
    /// What is known has yet to be applied to the local breaker.
    fresh: bool,
    /// The local breaker has to leave what the hand set before.
    reset_due: bool,
    /// Whether the local breaker has been open in this epoch.
    held: bool,
    held_at: u64,
    /// The store has forgotten what is known.
    forgotten: bool,
    restore_at: u64,

    lease: Option<Lease>,
    leases_asked: u64,
    probing_since: Option<u64>,
    /// Why the probes of this lease have opened it again.
    failed: Option<Reason>,
    releasing: bool,
    /// Whether this node opened it last, and so asks first.
    opened_here: bool,
    ask_at: u64,
    /// After a lease without a call to probe: the others first.
    shy_until: u64,
    all_taken: bool,

    /// The trip that has been published or voted for.
    told: Option<Generation>,
    voted: bool,
    /// The fleet's rate has crossed its threshold.
    crossed: bool,
    flush_at: u64,
    sent_calls: u64,
    sent_failures: u64,

    wake_at: u64,
}

impl Member {
    /// A member that knows nothing yet. `seed` spreads what must not happen everywhere at once.
    pub(super) fn new(rules: Rules, node: Box<str>, seed: u64) -> Self {
        Self {
            rules,
            node,
            random: Random(seed),
            up: false,
            synced: false,
            pending: None,
            not_before: 0,
            poll_at: 0,
            known: Record::nothing(),
            end: 0,
            ahead: None,
            fresh: false,
            reset_due: false,
            held: false,
            held_at: 0,
            forgotten: false,
            restore_at: 0,
            lease: None,
            leases_asked: 0,
            probing_since: None,
            failed: None,
            releasing: false,
            opened_here: false,
            ask_at: 0,
            shy_until: 0,
            all_taken: false,
            told: None,
            voted: false,
            crossed: false,
            flush_at: 0,
            sent_calls: 0,
            sent_failures: 0,
            wake_at: 0,
        }
    }

    /// What the fleet is known to have agreed on, with what remains at `now`.
    pub(super) fn known(&self, now: u64) -> Record {
        Record { remaining: self.left(now), ..self.known.clone() }
    }

    /// Until when it surely holds a lease, for a simulation's checks.
    #[cfg(test)]
    pub(super) fn leased_until(&self) -> Option<u64> {
        self.lease.map(|lease| lease.until)
    }

    /// Whether the local breaker's probes are about to decide: it is worth a look at any time.
    pub(super) fn is_probing(&self) -> bool {
        self.probing_since.is_some()
    }

    /// When to step again, if nothing happens before.
    pub(super) fn wake_at(&self) -> u64 {
        self.wake_at
    }

    /// Tells it what has happened by `now`, and what the local breaker looks like. Times are milliseconds of a clock
    /// that does not step back.
    pub(super) fn step(&mut self, now: u64, view: &View, event: Event) -> Step {
        match event {
            Event::Tick => {}
            Event::Up => {
                (self.up, self.synced, self.pending) = (true, false, None);
                (self.told, self.not_before, self.poll_at) = (None, now, now);
                self.forget_outcomes(view);
            }
            Event::Down => (self.up, self.pending) = (false, None),
            Event::Failed => {
                self.pending = None;
                self.not_before = now + EXTENSION + self.random.below(EXTENSION);
            }
            Event::News(news) => self.hear(now, view, &news),
            Event::Reply(reply) => self.take(now, view, reply),
        }
        let mut step = Step::default();
        if self.up && self.synced {
            step.act = self.act(now, view);
        }
        if self.up && self.pending.is_none() && step.act.is_none() && now >= self.not_before {
            step.command = self.ask(now, view);
            let pending = |command: &Command| Pending { sent: now, is_sync: matches!(command.op, Op::Sync { .. }) };
            self.pending = step.command.as_ref().map(pending);
        }
        self.wake_at = if step.act.is_some() { now } else { self.next_wake(now, view) };
        step
    }

    fn left(&self, now: u64) -> u64 {
        if self.known.state == State::Open { self.end.saturating_sub(now) } else { 0 }
    }
}

/// Listening.
impl Member {
    fn take(&mut self, now: u64, view: &View, reply: Message) {
        let Some(Pending { sent, is_sync }) = self.pending.take() else { return };
        self.synced = true;
        self.ahead = Some(reply.now.saturating_sub(now));
        let fifth = self.rules.poll / 5;
        self.poll_at = now + self.rules.poll - fifth + self.random.below(fifth * 2 + 1);
        self.learn(now, view, &reply);
        self.forgotten = reply.record.epoch < self.known.epoch || reply.record.hand < self.known.hand;
        if reply.record.epoch == self.known.epoch {
            self.keep_lease(sent, &reply);
        }
        if is_sync && self.known.state == State::Closed {
            // A vote may have been lost with the store's data: it is given again.
            self.told = None;
        }
        if let Terms::Rates { min_calls, rate, .. } = self.rules.agreement {
            let failed = u128::from(reply.failed) * 100_000_000;
            // The answer may come after the news of a later epoch, in which those outcomes do not count.
            let current = reply.record.epoch == self.known.epoch;
            let enough = current && reply.total >= min_calls && reply.total > 0;
            self.crossed |= enough && failed >= u128::from(rate) * u128::from(reply.total);
        }
    }

    fn hear(&mut self, now: u64, view: &View, news: &Message) {
        // News that come before the first answer, or from a time that is not the server's, are looked up.
        let likely = self.ahead.is_some_and(|ahead| news.now.abs_diff(now + ahead) < MAX_AHEAD);
        if !self.synced || !likely || news.record.epoch < self.known.epoch {
            self.poll_at = now;
            return;
        }
        self.learn(now, view, news);
    }

    fn learn(&mut self, now: u64, view: &View, message: &Message) {
        let record = &message.record;
        // What was set by hand ends by hand. Who does not know of it has it from a store that has forgotten.
        let by_hand = is_hand_set(self.known.state) || is_hand_set(record.state);
        let unaware = by_hand && record.hand < self.known.hand;
        if record.epoch > self.known.epoch && !unaware {
            self.adopt(now, view, record);
        } else if record.epoch == self.known.epoch {
            // Later by as much as the message took: the earliest is the best.
            self.end = self.end.min(now + record.remaining);
            self.known.hand = self.known.hand.max(record.hand);
        } else {
            return;
        }
        if message.free == 0 {
            self.ask_at = self.ask_at.max(now + message.first_ends + self.random.below(SPREAD));
        } else if self.all_taken {
            self.ask_at = (now + self.random.below(SPREAD)).max(self.end.saturating_sub(self.lead()));
        }
        self.all_taken = message.free == 0;
    }

    fn adopt(&mut self, now: u64, view: &View, record: &Record) {
        // Of old news that a node meets when it joins it applies only what still holds.
        let first = self.known.epoch == 0;
        self.fresh = !first || record.state != State::Closed;
        let reset = record.is_by_hand() && record.state == State::Closed;
        self.reset_due = is_hand_set(self.known.state) || (reset && !first);
        self.opened_here = record.state == State::Open && record.node == self.node;
        self.known = Record { hand: record.hand.max(self.known.hand), ..record.clone() };
        self.end = now + record.remaining;
        (self.held, self.held_at, self.lease, self.probing_since) = (false, 0, None, None);
        (self.releasing, self.told, self.voted, self.crossed) = (false, None, false, false);
        (self.shy_until, self.all_taken) = (0, false);
        self.forget_outcomes(view);
        let lead = self.lead();
        // Who opened it asks first: its breaker knows how often the probes have failed, and so how long to wait.
        let late = if self.opened_here { 0 } else { lead / 2 + self.random.below(lead / 2 + 1) };
        self.ask_at = self.end.saturating_sub(lead) + late;
    }

    fn keep_lease(&mut self, sent: u64, reply: &Message) {
        if reply.mine == 0 {
            self.lease = None;
            return;
        }
        // The server's clock may run faster than ours by a hundredth.
        let until = sent + reply.mine - reply.mine / 100;
        self.lease = Some(Lease { until });
    }

    fn lead(&self) -> u64 {
        LEAD.min(self.known.wait / 4)
    }

    /// What ended before now is not the fleet's any more.
    fn forget_outcomes(&mut self, view: &View) {
        (self.sent_calls, self.sent_failures) = (view.calls, view.failures);
    }
}

/// Acting on the local breaker.
impl Member {
    fn act(&mut self, now: u64, view: &View) -> Option<Act> {
        if self.lease.is_none_or(|lease| lease.until <= now) {
            (self.lease, self.releasing) = (None, false);
        }
        if is_hand_set(self.known.state) {
            (self.fresh, self.reset_due) = (false, false);
            return (view.state != self.known.state).then_some(Act::Set(self.known.state));
        }
        if core::mem::take(&mut self.reset_due) {
            return Some(Act::Reset);
        }
        if !view.is_automatic() {
            // Set by hand here: nobody's business but that hand's.
            self.probing_since = None;
            return None;
        }
        if self.known.state == State::Open { self.act_open(now, view) } else { self.act_closed(view) }
    }

    fn act_closed(&mut self, view: &View) -> Option<Act> {
        if core::mem::take(&mut self.fresh) {
            return (view.state != State::Closed).then_some(Act::Close);
        }
        (self.crossed && view.state != State::Open).then_some(Act::Open(None))
    }

    fn act_open(&mut self, now: u64, view: &View) -> Option<Act> {
        let left = self.left(now);
        if core::mem::take(&mut self.fresh) {
            return self.hold(now, left);
        }
        let Some(since) = self.probing_since else {
            let leased = self.lease.is_some() && !self.releasing;
            return match view.state {
                State::Closed if left > 0 || !self.held => self.hold(now, left),
                State::Open | State::HalfOpen if leased && left == 0 => {
                    (self.probing_since, self.failed) = (Some(now), None);
                    Some(Act::HalfOpen)
                }
                State::HalfOpen => self.hold(now, left),
                State::Open if view.retry_after < MARGIN / 2 && now >= self.held_at + PAUSE => self.hold(now, left),
                _ => None,
            };
        };
        let given_up = now >= since + self.rules.lease_ttl * LONGEST_PROBING;
        match view.state {
            // What they found still goes to the store, which knows whether the lease held.
            State::HalfOpen if self.lease.is_none() => {
                self.probing_since = None;
                self.hold(now, left)
            }
            State::HalfOpen if given_up || (view.admitted == 0 && now >= since + IDLE) => {
                self.probing_since = None;
                self.releasing = true;
                self.hold(now, left)
            }
            // One lease, one half-open period: until the store knows that it failed, it stays open.
            State::HalfOpen if self.failed.is_some() => self.hold(now, left),
            State::Open if self.lease.is_some() && (self.failed.is_some() || view.reason != Some(Reason::ByHand)) => {
                self.failed = self.failed.or(view.reason);
                let is_over = view.retry_after < MARGIN / 2 && now >= self.held_at + PAUSE;
                if is_over { self.hold(now, left) } else { None }
            }
            State::Open => {
                self.probing_since = None;
                self.releasing = self.lease.is_some();
                None
            }
            State::Closed if self.lease.is_none() => {
                self.probing_since = None;
                None
            }
            _ => None,
        }
    }

    /// Keeps the local breaker open until a little after the shared deadline, at another time on each node.
    fn hold(&mut self, now: u64, left: u64) -> Option<Act> {
        (self.held, self.held_at) = (true, now);
        let spread = self.known.wait.saturating_mul(self.rules.jitter) / 100;
        let slack = MARGIN + self.random.below(spread + 1);
        Some(Act::Open(Some(if left > 0 { left } else { EXTENSION } + slack)))
    }
}

/// Asking the store.
impl Member {
    fn ask(&mut self, now: u64, view: &View) -> Option<Command> {
        let wanted = if !self.synced {
            Some(self.sync())
        } else if self.forgotten && now >= self.restore_at {
            self.restore_at = now + EXTENSION;
            Some(Op::Restore(self.known(now)))
        } else {
            match self.known.state {
                State::Closed if view.is_automatic() => self.ask_closed(now, view),
                State::Open if view.is_automatic() => self.ask_open(now, view),
                _ => None,
            }
        };
        let op = wanted.or_else(|| (now >= self.poll_at).then(|| self.sync()))?;
        if matches!(op, Op::Lease { .. }) && self.lease.is_none() {
            self.leases_asked += 1;
        }
        Some(Command { epoch: self.known.epoch, lease: self.leases_asked, op })
    }

    fn sync(&self) -> Op {
        Op::Sync { member_ttl: self.member_ttl(), hand: self.known.hand }
    }

    /// Only a quorum asks how many are alive.
    fn member_ttl(&self) -> u64 {
        if matches!(self.rules.agreement, Terms::Quorum { .. }) { self.rules.poll * 3 } else { 0 }
    }

    fn trip(&self, view: &View, reason: Reason) -> Op {
        let (needed, share) = match self.rules.agreement {
            Terms::Quorum { nodes, share } => (nodes, share),
            Terms::Any | Terms::Rates { .. } => (1, 0),
        };
        let wait = view.retry_after.clamp(1, self.rules.longest_wait);
        Op::Trip { member_ttl: self.member_ttl(), wait, reason, needed, share }
    }

    fn ask_closed(&mut self, now: u64, view: &View) -> Option<Op> {
        if let Terms::Rates { bucket, buckets, flush, .. } = self.rules.agreement {
            if self.crossed {
                self.crossed = view.state != State::Open;
                return (!self.crossed).then(|| self.trip(view, Reason::FailureRate));
            }
            if now < self.flush_at {
                return None;
            }
            self.flush_at = now + flush;
            let total = view.calls.wrapping_sub(self.sent_calls);
            let failed = view.failures.wrapping_sub(self.sent_failures).min(total);
            self.forget_outcomes(view);
            return (total > 0).then_some(Op::Count { total, failed, bucket, buckets });
        }
        if view.has_tripped() && self.told != Some(view.generation) {
            let reason = view.reason.unwrap_or(Reason::ByHand);
            (self.told, self.voted) = (Some(view.generation), true);
            return Some(self.trip(view, reason));
        }
        let withdraws = self.voted && view.state == State::Closed;
        let votes = matches!(self.rules.agreement, Terms::Quorum { .. });
        if withdraws {
            (self.told, self.voted) = (None, false);
        }
        (withdraws && votes).then_some(Op::Withdraw)
    }

    fn ask_open(&mut self, now: u64, view: &View) -> Option<Op> {
        if let Some(lease) = self.lease {
            if self.releasing {
                (self.releasing, self.lease) = (false, None);
                self.shy_until = now + SPREAD + self.random.below(SPREAD / 2);
                return Some(Op::Release);
            }
            let recovered = view.state == State::Closed && self.held && self.left(now) == 0;
            if recovered {
                return Some(Op::Close);
            }
            self.probing_since?;
            return match view.state {
                State::Open => {
                    let wait = view.retry_after.clamp(1, self.rules.longest_wait);
                    Some(Op::Reopen { wait, reason: self.failed.unwrap_or(Reason::ProbeFailed) })
                }
                State::HalfOpen if lease.until < now + self.rules.lease_ttl / 2 => Some(self.lease()),
                _ => None,
            };
        }
        let due = now >= self.lease_at();
        let wants = view.state != State::Closed || (self.held && self.left(now) == 0);
        if !due || !wants {
            return None;
        }
        self.ask_at = now + EXTENSION + self.random.below(SPREAD);
        Some(self.lease())
    }

    fn lease(&self) -> Op {
        Op::Lease { ttl: self.rules.lease_ttl, lead: self.lead() + MARGIN }
    }

    /// When to ask for a lease.
    fn lease_at(&self) -> u64 {
        self.ask_at.max(self.shy_until).max(self.end.saturating_sub(self.lead()))
    }

    fn next_wake(&self, now: u64, view: &View) -> u64 {
        if !self.up {
            return u64::MAX;
        }
        let (mut act, mut ask) = (u64::MAX, self.poll_at);
        if self.forgotten {
            ask = ask.min(self.restore_at);
        }
        if matches!(self.rules.agreement, Terms::Rates { .. }) && self.known.state == State::Closed {
            ask = ask.min(self.flush_at);
        }
        if self.known.state == State::Open && view.is_automatic() {
            if view.state == State::Open {
                act = (now + view.retry_after.saturating_sub(MARGIN / 2)).max(self.held_at + PAUSE);
            }
            match (self.lease, self.probing_since) {
                (Some(lease), Some(since)) => {
                    let given_up = since + self.rules.lease_ttl * LONGEST_PROBING;
                    act = act.min(lease.until).min(if view.admitted == 0 { since + IDLE } else { given_up });
                    ask = ask.min(lease.until.saturating_sub(self.rules.lease_ttl / 2));
                }
                (Some(lease), None) => {
                    act = act.min(lease.until).min(if self.end > now { self.end } else { u64::MAX });
                }
                (None, _) => ask = ask.min(self.lease_at()),
            }
        }
        let ask = if self.pending.is_some() { u64::MAX } else { ask.max(self.not_before) };
        act.min(ask).max(now + 1)
    }
}

/// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Debug)]
pub(super) struct Random(pub(super) u64);

impl Random {
    /// Evenly from 0 up to, and without, `bound`; 0 if that is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((u128::from(z ^ (z >> 31)) * u128::from(bound)) >> 64) as u64
    }
}
