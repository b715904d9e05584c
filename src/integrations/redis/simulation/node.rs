//! A node: breakers on a clock of its own, calls, and what task.rs does between a member and a connection.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::super::command::{Command, Envelope, Op};
use super::super::local::{Held, Local};
use super::super::member::{Act, Event, Member, Random};
use super::super::name::Keys;
use super::super::record::{Record, is_hand_set};
use super::super::tap::Tap;
use super::Flaw;
use super::oracle::Rule;
use super::plan::{MS, Plan, S};
use super::world::{ToServer, What, World};
use crate::{CircuitBreaker, Consecutive, Generation, ManualClock, Permit, State};

type Breaker = CircuitBreaker<Consecutive, Arc<ManualClock>, Tap>;

/// Breakers without a tap are looked at so often.
const LOOK: u64 = 10 * MS;

const FIRST_BACKOFF: u64 = 50 * MS;
const LONGEST_BACKOFF: u64 = 5 * S;

pub(super) struct Node {
    /// Counts its processes.
    life: u32,
    alive: bool,
    clock: Arc<ManualClock>,
    /// What the clock shows, in nanoseconds, and its rate, in millionths more than true.
    shown: u64,
    offset: u64,
    rate: i64,
    name: Box<str>,
    slots: Vec<Slot>,
    link: Link,
    failures: u32,
    connections: u32,
    connect_at: u64,
    /// When its task is to run; what was said before is void.
    wake: u64,
    pub(super) is_cut: bool,
    pub(super) frozen_until: u64,
    /// When something last went wrong that concerns it.
    pub(super) disturbed: u64,
    /// Whose commands may still arrive.
    former: Vec<(usize, Vec<Rc<Envelope>>)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    None,
    Dialled(usize),
    Up(usize),
}

struct Slot {
    breaker: Arc<Breaker>,
    tap: Option<Tap>,
    member: Member,
    envelope: Rc<Envelope>,
    seen: State,
    /// The command that is not answered yet.
    asked: Option<u64>,
    numbers: u64,
    /// Whether the store has answered on this connection.
    synced: bool,
    probed: Option<Generation>,
    /// The epoch, the hand and the state that were known after the last step.
    known: (u64, u64, State),
}

/// A call that is on its way.
pub(super) struct Admitted {
    node: usize,
    slot: usize,
    permit: Permit<Arc<Breaker>>,
    fails: bool,
}

impl Node {
    pub(super) fn new(plan: &Plan, random: &mut Random) -> Self {
        Self {
            life: 0,
            alive: false,
            clock: Arc::default(),
            shown: 0,
            offset: random.below(1_000_000_000) * 1_000_000,
            // Of a small fleet some clocks are as wrong as may be.
            rate: if random.below(4) == 0 { -10_000 } else { random.below(20_001) as i64 - 10_000 },
            name: Box::default(),
            slots: Vec::with_capacity(plan.breakers),
            link: Link::None,
            failures: 0,
            connections: 0,
            connect_at: u64::MAX,
            wake: u64::MAX,
            is_cut: false,
            frozen_until: 0,
            disturbed: 0,
            former: Vec::new(),
        }
    }

    pub(super) fn is_alive(&self) -> bool {
        self.alive
    }

    pub(super) fn name(&self) -> Box<str> {
        self.name.clone()
    }

    pub(super) fn link(&self) -> Option<usize> {
        match self.link {
            Link::None => None,
            Link::Dialled(link) | Link::Up(link) => Some(link),
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        matches!(self.link, Link::Up(_))
    }

    pub(super) fn is_probing(&self) -> bool {
        self.slots.iter().any(|slot| slot.member.is_probing())
    }

    /// Whether that is the answer that it waits for.
    pub(super) fn answered(&mut self, slot: usize, number: u64) -> bool {
        let Some(slot) = self.slots.get_mut(slot) else { return false };
        let awaited = slot.asked == Some(number);
        if awaited {
            slot.asked = None;
        }
        awaited
    }

    pub(super) fn envelope_of(&self, link: usize, slot: usize) -> Rc<Envelope> {
        let former = self.former.iter().find(|(last, _)| link < *last);
        former.map_or_else(|| self.slots[slot].envelope.clone(), |(_, envelopes)| envelopes[slot].clone())
    }

    /// Its own time, in nanoseconds.
    fn nanos(&self, now: u64) -> u64 {
        self.offset + now * (1_000_000 + self.rate).unsigned_abs() / 1_000
    }

    fn millis(&self, now: u64) -> u64 {
        self.nanos(now) / 1_000_000
    }

    /// When its own time will be `millis`.
    fn true_time(&self, millis: u64) -> u64 {
        let nanos = millis.saturating_mul(1_000_000).saturating_sub(self.offset);
        (u128::from(nanos) * 1_000 / u128::from((1_000_000 + self.rate).unsigned_abs()) + 1).min(u128::from(u64::MAX))
            as u64
    }

    /// Moves its clock to what it shows at `now`.
    fn set_clock(&mut self, now: u64) {
        let nanos = self.nanos(now);
        self.clock.advance(Duration::from_nanos(nanos - self.shown));
        self.shown = nanos;
    }

    pub(super) fn breaker_state(&mut self, slot: usize, now: u64) -> State {
        self.set_clock(now);
        self.slots[slot].breaker.state()
    }
}

/// A process's life.
impl World {
    pub(super) fn born(&mut self, number: usize) {
        let plan = &self.plan;
        let node = &mut self.nodes[number];
        if node.alive {
            return;
        }
        node.life += 1;
        (node.alive, node.failures) = (true, 0);
        node.set_clock(self.now);
        node.name = alloc::format!("node-{number}-{:016x}", self.random.below(u64::MAX)).into();
        let ms = Duration::from_millis;
        let shared = Tap::new();
        for slot in 0..plan.breakers {
            let tap = if plan.tapped { Tap::new() } else { shared.clone() };
            let breaker = CircuitBreaker::builder()
                .failures(plan.local.failures)
                .probes(plan.local.probes)
                .successes(plan.local.successes)
                .open_for(ms(plan.local.wait))
                .backoff(plan.local.backoff)
                .max_open(ms(plan.local.max_open.max(plan.local.wait)))
                .clock(node.clock.clone())
                .observer(tap.clone())
                .build();
            let breaker = Arc::new(breaker.expect("the plan's rules are legal"));
            let Keys { state, leases, votes, members, channel, .. } =
                Keys::new("failfast", &alloc::format!("service-{slot}")).expect("the name is legal");
            let envelope = Envelope {
                keys: [state, leases, votes, members],
                channel,
                node: node.name.clone(),
                key_ttl: 3_600_000,
                longest_wait: plan.rules.longest_wait,
                leases: plan.leases,
            };
            let member = Member::new(plan.rules, node.name.clone(), self.random.below(u64::MAX));
            let seen = breaker.state();
            node.slots.push(Slot {
                breaker,
                tap: plan.tapped.then_some(tap),
                member,
                envelope: Rc::new(envelope),
                seen,
                asked: None,
                numbers: 0,
                synced: false,
                probed: None,
                known: (0, 0, State::Closed),
            });
        }
        let (life, period) = (node.life, plan.period[number]);
        // A fleet is not deployed all at once.
        node.connect_at = self.now + self.random.below(S);
        node.disturbed = node.connect_at;
        if period > 0 {
            for slot in 0..self.plan.breakers {
                let first = self.now + self.random.below(period * 2);
                self.at(first, What::Call { node: number, slot, life });
            }
        }
        self.schedule(number);
    }

    pub(super) fn die(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        if !node.alive {
            return;
        }
        (node.alive, node.disturbed, node.wake) = (false, self.now, u64::MAX);
        let envelopes = node.slots.drain(..).map(|slot| slot.envelope).collect();
        node.former.push((self.links.len(), envelopes));
        if let Some(link) = node.link() {
            self.tell_server(link, ToServer::Close);
        }
        self.nodes[number].link = Link::None;
    }
}

/// Its calls.
impl World {
    pub(super) fn call(&mut self, number: usize, slot: usize, life: u32) {
        let node = &mut self.nodes[number];
        if !node.alive || node.life != life {
            return;
        }
        node.set_clock(self.now);
        let commands = self.stats.commands;
        let breaker = node.slots[slot].breaker.clone();
        let before = breaker.state();
        let admitted = breaker.try_acquire_owned();
        if self.flaw == Flaw::CallsAsk {
            self.ask_by_call(number, slot);
        }
        let made = self.stats.commands - commands;
        self.oracle.expect(made == 0, Rule::Calls, || alloc::format!("a call makes {made} commands"));
        self.stats.calls += 1;
        if let Ok(permit) = admitted {
            self.stats.reached += 1;
            if before == State::HalfOpen {
                self.probe(number, slot);
            }
            let latency = 1 + self.random.below(self.plan.latency * 2);
            let fails = self.random.below(1_000) < self.failing[number];
            self.at(self.now + latency, What::Settle(Admitted { node: number, slot, permit, fails }));
        }
        self.touched(number, slot);
        let next = self.now + 1 + self.random.below(self.plan.period[number] * 2);
        self.at(next, What::Call { node: number, slot, life });
    }

    fn ask_by_call(&mut self, number: usize, slot: usize) {
        if let Link::Up(link) = self.nodes[number].link {
            let command = Command { epoch: 0, lease: 0, op: Op::Sync { member_ttl: 0, hand: 0 } };
            self.send(link, slot, command, None);
        }
    }

    fn probe(&mut self, number: usize, slot: usize) {
        self.stats.probes += 1;
        let node = &mut self.nodes[number];
        let known = node.slots[slot].member.known(node.millis(self.now));
        let is_in_time = self.now >= node.frozen_until + Plan::LATENESS;
        let Slot { breaker, synced, probed, .. } = &mut node.slots[slot];
        let generation = breaker.snapshot().generation();
        let is_first = probed.replace(generation) != Some(generation);
        if is_first && !matches!(node.link, Link::Up(_)) {
            self.stats.alone.push(self.now);
        }
        // Also without the store, what was shared holds until its deadline.
        let is_due = known.state != State::Open || known.remaining == 0;
        self.oracle.expect(is_due, Rule::Budget, || alloc::format!("{} probes too early: {known:?}", node.name));
        if *synced && is_in_time && known.state == State::Open {
            let name = node.name.clone();
            self.trace(|| alloc::format!("{name} probes in epoch {}", known.epoch));
            self.oracle.admitted(self.now, slot, &name, &known);
        }
    }

    pub(super) fn settle(&mut self, Admitted { node, slot, permit, fails }: Admitted) {
        self.nodes[node].set_clock(self.now);
        if fails {
            permit.failure()
        } else {
            permit.success()
        }
        if self.nodes[node].alive {
            self.touched(node, slot);
        }
    }

    /// The tap tells at once that a breaker has changed; without it that is seen at the next look.
    fn touched(&mut self, number: usize, slot: usize) {
        let node = &self.nodes[number];
        let Slot { breaker, seen, tap, .. } = &node.slots[slot];
        if node.is_connected() && breaker.state() != *seen {
            let late = if tap.is_some() { 0 } else { self.random.below(LOOK) };
            self.wake_by(number, self.now + late);
        }
    }
}

/// Its task.
impl World {
    fn wake_by(&mut self, number: usize, at: u64) {
        let late = if self.random.below(200) == 0 { Plan::LATENESS / 3 } else { 500 };
        let at = at.max(self.now).max(self.nodes[number].frozen_until).saturating_add(self.random.below(late));
        if at < self.nodes[number].wake {
            self.nodes[number].wake = at;
            self.at(at, What::Wake { node: number });
        }
    }

    fn schedule(&mut self, number: usize) {
        let node = &self.nodes[number];
        let mut at = node.connect_at;
        if node.is_connected() {
            let mut wake = u64::MAX;
            for slot in &node.slots {
                wake = wake.min(slot.member.wake_at());
                if slot.tap.is_none() && slot.member.is_probing() {
                    at = at.min(self.now + LOOK);
                }
            }
            at = at.min(node.true_time(wake));
        }
        if at < u64::MAX {
            self.wake_by(number, at);
        }
    }

    pub(super) fn wake(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        if !node.alive || node.wake != self.now {
            return;
        }
        node.wake = u64::MAX;
        if self.now < node.frozen_until {
            let until = node.frozen_until;
            return self.wake_by(number, until);
        }
        if node.connect_at <= self.now {
            node.connect_at = u64::MAX;
            let link = self.dial(number);
            self.nodes[number].link = Link::Dialled(link);
        }
        self.run_task(number);
    }

    /// Lets those members step whose time has come or whose breaker has moved.
    fn run_task(&mut self, number: usize) {
        if self.nodes[number].is_connected() {
            self.nodes[number].set_clock(self.now);
            let now = self.nodes[number].millis(self.now);
            for slot in 0..self.plan.breakers {
                let Slot { member, breaker, seen, .. } = &self.nodes[number].slots[slot];
                if member.wake_at() <= now || member.is_probing() || breaker.state() != *seen {
                    self.step(number, slot, Event::Tick);
                }
            }
        }
        self.schedule(number);
    }

    pub(super) fn hear(&mut self, number: usize, slot: usize, event: Event) {
        if matches!(event, Event::Reply(_)) {
            self.nodes[number].slots[slot].synced = true;
        }
        self.step(number, slot, event);
        self.run_task(number);
    }

    fn step(&mut self, number: usize, slot: usize, event: Event) {
        self.nodes[number].set_clock(self.now);
        let now = self.nodes[number].millis(self.now);
        let mut event = Some(event);
        for _ in 0..4 {
            let node = &mut self.nodes[number];
            let Slot { breaker, tap, member, seen, known: known_before, .. } = &mut node.slots[slot];
            let view = Held(&**breaker).view(tap.as_ref());
            *seen = view.state;
            let is_leased = |member: &Member| member.leased_until().is_some_and(|until| until > now);
            let was_leased = is_leased(member);
            let mut step = member.step(now, &view, event.take().unwrap_or(Event::Tick));
            if !was_leased && is_leased(member) {
                self.oracle.begins_anew(slot, &node.name);
            }
            let known = member.known(now);
            let (epoch, hand, state) = core::mem::replace(known_before, (known.epoch, known.hand, known.state));
            let node_name = &node.name;
            self.oracle.expect(known.epoch >= epoch, Rule::Epoch, || {
                alloc::format!("{node_name} knew {epoch}, and now {known:?}")
            });
            let is_left = is_hand_set(state) && known.state != state;
            self.oracle.expect(!is_left || known.hand > hand, Rule::Hand, || {
                alloc::format!("{node_name} knew {state} of {hand}, and now {known:?}")
            });
            let is_over = known.state == State::Open && known.remaining == 0 && view.state == State::Open;
            match self.flaw {
                Flaw::HoldLost if is_over && matches!(step.act, Some(Act::Open(_))) => step.act = None,
                Flaw::SecondPeriod if member.is_probing() && matches!(step.act, Some(Act::Open(_))) => step.act = None,
                Flaw::LeaseNotAwaited if is_over && step.act.is_none() => step.act = Some(Act::HalfOpen),
                _ => {}
            }
            let link = node.link;
            let name = node.name.clone();
            if let (Some(command), Link::Up(link)) = (step.command, link) {
                self.ask(number, link, slot, command);
            }
            let Some(act) = step.act else { break };
            self.trace(|| alloc::format!("{name}: {} -> {act:?}", view.state));
            Held(&*self.nodes[number].slots[slot].breaker).apply(act);
        }
        let Slot { breaker, seen, .. } = &mut self.nodes[number].slots[slot];
        *seen = breaker.state();
        if self.stats.opened.is_some() && self.stats.all_open.is_none() && *seen == State::Open {
            let open = self.nodes.iter().all(|node| node.slots.first().is_none_or(|slot| slot.seen == State::Open));
            self.stats.all_open = open.then_some(self.now);
        }
    }

    fn ask(&mut self, number: usize, link: usize, slot: usize, command: Command) {
        let to = &mut self.nodes[number].slots[slot];
        to.numbers += 1;
        let asked = to.numbers;
        to.asked = Some(asked);
        self.send(link, slot, command, Some(asked));
        let patience = self.now + self.timeout();
        self.at(patience, What::TimedOut { link, slot, number: asked });
    }

    /// An operator's word is sent as it comes, and no member waits for its answer.
    pub(super) fn by_hand(&mut self, number: usize, state: State) {
        if let Link::Up(link) = self.nodes[number].link {
            for slot in 0..self.plan.breakers {
                let op = Op::Hand { state, who: "ada".into(), why: "a test".into() };
                self.send(link, slot, Command { epoch: 0, lease: 0, op }, None);
            }
        }
    }

    pub(super) fn connected(&mut self, number: usize, link: usize) {
        let node = &mut self.nodes[number];
        (node.link, node.failures, node.disturbed) = (Link::Up(link), 0, self.now);
        node.connections += 1;
        let (name, connections) = (node.name.clone(), node.connections);
        self.trace(|| alloc::format!("{name}: connected"));
        if self.flaw != Flaw::ReconnectUnseen || connections == 1 {
            for slot in 0..self.plan.breakers {
                self.step(number, slot, Event::Up);
            }
        }
        self.run_task(number);
    }

    pub(super) fn lost(&mut self, number: usize) {
        let was_up = self.nodes[number].is_connected();
        let node = &mut self.nodes[number];
        let link = node.link();
        let backoff = (FIRST_BACKOFF << node.failures.min(10)).min(LONGEST_BACKOFF);
        node.failures += 1;
        node.connect_at = self.now + backoff - self.random.below(backoff / 2 + 1);
        (node.link, node.disturbed) = (Link::None, self.now);
        for slot in &mut node.slots {
            (slot.asked, slot.synced) = (None, false);
        }
        let name = node.name.clone();
        self.trace(|| alloc::format!("{name}: lost"));
        (0..self.plan.breakers).for_each(|slot| self.oracle.begins_anew(slot, &name));
        if let Some(link) = link {
            self.tell_server(link, ToServer::Close);
        }
        if was_up {
            for slot in 0..self.plan.breakers {
                self.step(number, slot, Event::Down);
            }
        }
        self.schedule(number);
    }

    pub(super) fn timed_out(&mut self, link: usize, slot: usize, number: u64) {
        let node = self.links[link].node;
        let awaited = self.nodes[node].link == Link::Up(link) && self.nodes[node].slots[slot].asked == Some(number);
        if awaited && self.now < self.nodes[node].frozen_until {
            // What has come in the meantime is read first.
            return self.at(self.nodes[node].frozen_until + 1, What::TimedOut { link, slot, number });
        }
        if awaited {
            self.lost(node);
        }
    }

    pub(super) fn dial_timed_out(&mut self, link: usize) {
        let node = self.links[link].node;
        if self.nodes[node].link == Link::Dialled(link) {
            self.lost(node);
        }
    }

    pub(super) fn known(&self, number: usize, slot: usize) -> Record {
        let node = &self.nodes[number];
        node.slots[slot].member.known(node.millis(self.now))
    }
}
