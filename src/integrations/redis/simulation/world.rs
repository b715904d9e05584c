//! Time, and what passes between nodes and the server.
//!
//! What is sent on one connection arrives in order: commands, answers, and news each in their own (a client hands out
//! answers and news separately). Nothing is in order across connections.

use alloc::collections::BinaryHeap;
use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::super::command::{Command, Op};
use super::super::member::{Event, Random};
use super::super::record::{Message, is_hand_set};
use super::super::store::Answer;
use super::Flaw;
use super::node::{Admitted, Node};
use super::oracle::{Oracle, Rule, Violation};
use super::plan::{Data, Ending, Incident, MS, Plan, S};
use super::server::Server;
use crate::State;

pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) flaw: Flaw,
    is_traced: bool,
    pub(super) now: u64,
    number: u64,
    due: BinaryHeap<Due>,
    pub(super) random: Random,
    pub(super) nodes: Vec<Node>,
    pub(super) links: Vec<Link>,
    pub(super) server: Server,
    pub(super) oracle: Oracle,
    pub(super) stats: Stats,
    /// Of 1000 calls, at each node.
    pub(super) failing: Vec<u64>,
    slow_by: u64,
    /// When something last went wrong that concerns all.
    disturbed: u64,
}

/// What came of a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Stats {
    pub(super) calls: u64,
    pub(super) reached: u64,
    pub(super) probes: u64,
    pub(super) commands: u64,
    pub(super) news: u64,
    /// On the wire, to the server and from it.
    pub(super) bytes: (u64, u64),
    pub(super) epochs: u64,
    pub(super) restores: u64,
    pub(super) leases: u64,
    pub(super) events: u64,
    /// When the store first opened, and when the last node's breaker did: a trip's way to all.
    pub(super) opened: Option<u64>,
    pub(super) all_open: Option<u64>,
    /// When each node began to probe by itself.
    pub(super) alone: Vec<u64>,
}

/// A connection of a node, from its first try to its end.
pub(super) struct Link {
    pub(super) node: usize,
    life: u32,
    /// When the next in each lane can arrive.
    commands: u64,
    answers: u64,
    news: u64,
    /// What waits for the network to heal.
    held: Vec<What>,
}

struct Due {
    at: u64,
    number: u64,
    what: What,
}

pub(super) enum What {
    Call { node: usize, slot: usize, life: u32 },
    Settle(Admitted),
    Wake { node: usize },
    AtServer { link: usize, packet: ToServer },
    AtNode { link: usize, packet: ToNode },
    TimedOut { link: usize, slot: usize, number: u64 },
    DialTimedOut { link: usize },
    Begin(Incident),
    Uncut(Vec<usize>),
    Fast,
    Rise(Data),
    Born { node: usize },
    Heal,
    Second,
}

pub(super) enum ToServer {
    Dial,
    Command { slot: usize, command: Command, number: Option<u64> },
    Close,
}

pub(super) enum ToNode {
    Welcome,
    Answer { slot: usize, number: u64, answer: Reply },
    News { slot: usize, message: Rc<Message> },
    Reset,
}

pub(super) enum Reply {
    Full(Message),
    /// Of what the member knows; the server's time.
    Unchanged(u64),
    Refused,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The earliest is the greatest.
impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl World {
    pub(super) fn new(plan: Plan, flaw: Flaw, is_traced: bool) -> Self {
        let mut random = Random(plan.seed);
        let nodes: Vec<Node> = (0..plan.nodes).map(|_| Node::new(&plan, &mut random)).collect();
        let mut world = Self {
            flaw,
            is_traced,
            now: 0,
            number: 0,
            due: BinaryHeap::new(),
            random,
            nodes,
            links: Vec::new(),
            server: Server::new(plan.breakers, flaw),
            oracle: Oracle::new(&plan),
            stats: Stats::default(),
            failing: alloc::vec![0; plan.nodes],
            slow_by: 0,
            disturbed: 0,
            plan,
        };
        for node in 0..world.plan.nodes {
            world.born(node);
        }
        for (at, incident) in core::mem::take(&mut world.plan.incidents) {
            world.at(at, What::Begin(incident));
        }
        world.at(world.plan.healed, What::Heal);
        world.at(0, What::Second);
        world
    }

    pub(super) fn run(mut self) -> Result<Stats, Violation> {
        while let Some(Due { at, what, .. }) = self.due.pop() {
            if at > self.plan.end {
                break;
            }
            self.now = at;
            self.stats.events += 1;
            self.happen(what);
            if let Some(violation) = self.oracle.found.take() {
                self.trace(|| alloc::format!("VIOLATION {violation:?}"));
                return Err(violation);
            }
        }
        self.now = self.plan.end;
        self.finish();
        self.oracle.found.take().map_or(Ok(self.stats), Err)
    }

    pub(super) fn trace(&self, line: impl FnOnce() -> String) {
        if self.is_traced {
            std::println!("{:>12.6} s  {}", self.now as f64 / 1e6, line());
        }
    }

    pub(super) fn at(&mut self, at: u64, what: What) {
        self.number += 1;
        self.due.push(Due { at, number: self.number, what });
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Call { node, slot, life } => self.call(node, slot, life),
            What::Settle(admitted) => self.settle(admitted),
            What::Wake { node } => self.wake(node),
            What::AtServer { link, packet } => self.at_server(link, packet),
            What::AtNode { link, packet } => self.at_node(link, packet),
            What::TimedOut { link, slot, number } => self.timed_out(link, slot, number),
            What::DialTimedOut { link } => self.dial_timed_out(link),
            What::Begin(incident) => {
                if self.now < self.plan.healed {
                    self.begin(incident);
                }
            }
            What::Uncut(whom) => self.uncut(&whom),
            What::Fast => {
                (self.slow_by, self.disturbed) = (0, self.now);
            }
            What::Rise(data) => self.rise(data),
            What::Born { node } => self.born(node),
            What::Heal => self.heal(),
            What::Second => self.second(),
        }
    }
}

/// The network.
impl World {
    fn delay(&mut self) -> u64 {
        let mean = self.plan.network.delay;
        let rare = if self.random.below(100) == 0 { 20 } else { 1 };
        mean / 2 + self.random.below(mean * rare + 1) + self.random.below(self.slow_by + 1)
    }

    pub(super) fn dial(&mut self, node: usize) -> usize {
        let link = self.links.len();
        let life = self.server.life;
        self.links.push(Link { node, life, commands: 0, answers: 0, news: 0, held: Vec::new() });
        self.tell_server(link, ToServer::Dial);
        let patience = self.timeout() * 2;
        self.at(self.now + patience, What::DialTimedOut { link });
        link
    }

    /// How long a node waits for an answer.
    pub(super) fn timeout(&self) -> u64 {
        S
    }

    pub(super) fn tell_server(&mut self, link: usize, packet: ToServer) {
        let at = self.links[link].commands.max(self.now + self.delay());
        self.links[link].commands = at;
        self.at(at, What::AtServer { link, packet });
    }

    pub(super) fn send(&mut self, link: usize, slot: usize, command: Command, number: Option<u64>) {
        self.stats.commands += 1;
        if self.random.below(1_000) < self.plan.network.commands_doubled {
            let late = self.now + self.delay() + self.random.below(3 * S);
            let again = ToServer::Command { slot, command: command.clone(), number: None };
            self.at(late, What::AtServer { link, packet: again });
        }
        self.tell_server(link, ToServer::Command { slot, command, number });
    }

    fn tell_node(&mut self, link: usize, packet: ToNode) {
        let delay = self.delay();
        let lane = &mut self.links[link];
        let lane = if matches!(packet, ToNode::News { .. }) { &mut lane.news } else { &mut lane.answers };
        *lane = (*lane).max(self.now + delay);
        let at = *lane;
        self.at(at, What::AtNode { link, packet });
    }

    fn at_server(&mut self, link: usize, packet: ToServer) {
        let Link { node, life, .. } = self.links[link];
        if self.nodes[node].is_cut {
            return self.links[link].held.push(What::AtServer { link, packet });
        }
        if !self.server.up {
            if matches!(packet, ToServer::Dial) {
                self.tell_node(link, ToNode::Reset);
            }
            return;
        }
        if self.now < self.server.paused_until {
            return self.at(self.server.paused_until, What::AtServer { link, packet });
        }
        match packet {
            ToServer::Dial => {
                self.links[link].life = self.server.life;
                self.server.listening.insert(link, ());
                self.tell_node(link, ToNode::Welcome);
            }
            ToServer::Close => _ = self.server.listening.remove(&link),
            ToServer::Command { .. } if life != self.server.life => {}
            ToServer::Command { slot, command, number } => self.command(link, slot, &command, number),
        }
    }

    fn command(&mut self, link: usize, slot: usize, command: &Command, number: Option<u64>) {
        let node = self.links[link].node;
        if self.now < self.plan.healed && self.random.below(1_000) < self.plan.network.commands_refused {
            self.nodes[node].disturbed = self.now;
            if let Some(number) = number {
                self.tell_node(link, ToNode::Answer { slot, number, answer: Reply::Refused });
            }
            return;
        }
        let envelope = self.nodes[node].envelope_of(link, slot);
        let epoch = self.server.record(slot).epoch;
        let was_open = self.server.is_open(slot);
        let Answer { reply, news } = self.server.apply(self.now, slot, &envelope, command, &mut self.oracle);
        let news = news.map(Rc::new);
        // That nothing has changed is said in few words.
        let unchanged = matches!(command.op, Op::Sync { hand, .. } if hand == reply.record.hand)
            && reply.record.epoch == command.epoch
            && reply.record.state == State::Closed;
        if self.plan.measured {
            let sent: usize = envelope.arguments(command).iter().map(|argument| bulk(argument.len())).sum();
            let keys: usize = envelope.keys.iter().map(|key| bulk(key.len())).sum();
            // EVALSHA, the script's digest, and the number of keys.
            self.stats.bytes.0 += (5 + bulk(7) + bulk(40) + bulk(1) + keys + sent) as u64;
            self.stats.bytes.1 += bulk(if unchanged { 14 } else { reply.encode().len() }) as u64;
        }
        self.trace(|| {
            let what = alloc::format!("{:?}", command.op);
            alloc::format!("server: {} of {}: {what}, now {}", command.epoch, envelope.node, self.server.describe(slot))
        });
        match command.op {
            Op::Restore(_) => self.stats.restores += u64::from(reply.done),
            Op::Lease { .. } => self.stats.leases += u64::from(reply.done),
            _ => {}
        }
        self.stats.epochs += u64::from(reply.record.epoch != epoch);
        if !was_open && self.server.is_open(slot) && self.stats.opened.is_none() {
            self.stats.opened = Some(self.now);
        }
        if let Some(news) = news {
            if self.plan.measured {
                let push = 4 + bulk(7) + bulk(envelope.channel.len()) + bulk(news.encode().len());
                self.stats.bytes.1 += (push * self.server.listening.len()) as u64;
            }
            for listener in self.server.listening.keys().copied().collect::<Vec<_>>() {
                self.tell(listener, slot, &news);
            }
        }
        if let Some(number) = number {
            let answer = if unchanged { Reply::Unchanged(reply.now) } else { Reply::Full(reply) };
            self.tell_node(link, ToNode::Answer { slot, number, answer });
        }
    }

    fn tell(&mut self, link: usize, slot: usize, news: &Rc<Message>) {
        self.stats.news += 1;
        let is_wild = self.now < self.plan.healed;
        if is_wild && self.random.below(1_000) < self.plan.network.news_lost {
            return;
        }
        self.tell_node(link, ToNode::News { slot, message: news.clone() });
        if is_wild && self.random.below(1_000) < self.plan.network.news_doubled {
            self.tell_node(link, ToNode::News { slot, message: news.clone() });
        }
    }

    fn at_node(&mut self, link: usize, packet: ToNode) {
        let node = self.links[link].node;
        if self.nodes[node].link() != Some(link) {
            return;
        }
        if self.nodes[node].is_cut {
            return self.links[link].held.push(What::AtNode { link, packet });
        }
        if self.now < self.nodes[node].frozen_until {
            return self.at(self.nodes[node].frozen_until, What::AtNode { link, packet });
        }
        match packet {
            ToNode::Welcome => self.connected(node, link),
            ToNode::Answer { slot, number, answer } => {
                if self.nodes[node].answered(slot, number) {
                    let event = match answer {
                        Reply::Refused => Event::Failed,
                        Reply::Full(message) => Event::Reply(message),
                        Reply::Unchanged(now) => {
                            let bytes = alloc::format!("={now}");
                            let reply = Message::decode_reply(bytes.as_bytes(), u64::MAX, || self.known(node, slot));
                            Event::Reply(reply.expect("it is sound"))
                        }
                    };
                    self.hear(node, slot, event);
                }
            }
            ToNode::News { slot, message } => {
                if self.nodes[node].is_connected() {
                    self.hear(node, slot, Event::News((*message).clone()));
                }
            }
            ToNode::Reset => self.lost(node),
        }
    }
}

/// What goes wrong.
impl World {
    fn begin(&mut self, incident: Incident) {
        self.trace(|| alloc::format!("-- {incident:?}"));
        match incident {
            Incident::Callee { whom, failing } => whom.into_iter().for_each(|node| self.failing[node] = failing),
            Incident::Cut { mut whom, during } => {
                if let [node] = &mut *whom {
                    *node = self.prober(*node);
                }
                for &node in &whom {
                    (self.nodes[node].is_cut, self.nodes[node].disturbed) = (true, self.now);
                }
                self.at(self.now + during, What::Uncut(whom));
            }
            Incident::Slow { by, during } => {
                self.slow_by = by;
                self.at(self.now + during, What::Fast);
            }
            Incident::Pause { during } => {
                let until = (self.now + during).min(self.plan.healed);
                self.server.paused_until = self.server.paused_until.max(until);
            }
            Incident::Crash { during, data } => self.crash(during, data),
            Incident::Failover { during, data, skew } => {
                self.crash(during, data);
                self.set_clock(skew);
            }
            Incident::Flush => {
                if self.server.up {
                    self.server.flush();
                    self.oracle.lost_data(self.now);
                }
            }
            Incident::Step { by } => self.set_clock(by),
            Incident::Restart { node, during } => {
                let node = self.prober(node);
                self.die(node);
                self.at(self.now + during, What::Born { node });
            }
            Incident::Freeze { node, during } => {
                let node = self.prober(node);
                let until = self.nodes[node].frozen_until.max((self.now + during).min(self.plan.healed));
                (self.nodes[node].frozen_until, self.nodes[node].disturbed) = (until, until);
            }
            Incident::Hand { node, state } => self.by_hand(node, state),
        }
        self.disturbed = self.disturbed.max(self.now).max(self.server.paused_until);
    }

    /// What goes wrong with one node goes wrong with one that probes, half of the time.
    fn prober(&mut self, node: usize) -> usize {
        let probing = self.nodes.iter().position(Node::is_probing);
        if self.random.below(2) == 0 { probing.unwrap_or(node) } else { node }
    }

    fn set_clock(&mut self, by: i64) {
        self.server.set_clock(by);
        self.oracle.lost_time(by);
    }

    fn crash(&mut self, during: u64, data: Data) {
        if !self.server.up {
            return;
        }
        let links: Vec<usize> = self.server.listening.keys().copied().collect();
        self.server.die();
        links.into_iter().for_each(|link| self.tell_node(link, ToNode::Reset));
        self.at(self.now + during, What::Rise(data));
    }

    fn rise(&mut self, data: Data) {
        if self.server.up || (self.now >= self.plan.healed && self.plan.ending == Ending::StoreDown) {
            return;
        }
        self.server.rise(data);
        if data != Data::Kept {
            self.oracle.lost_data(self.now);
        }
        self.disturbed = self.now;
    }

    fn uncut(&mut self, whom: &[usize]) {
        for &node in whom {
            (self.nodes[node].is_cut, self.nodes[node].disturbed) = (false, self.now);
        }
        for link in 0..self.links.len() {
            if whom.contains(&self.links[link].node) {
                let again = self.now + self.delay();
                let lanes = &mut self.links[link];
                for lane in [&mut lanes.commands, &mut lanes.answers, &mut lanes.news] {
                    *lane = (*lane).max(again);
                }
                core::mem::take(&mut self.links[link].held).into_iter().for_each(|what| self.at(again, what));
            }
        }
    }

    fn heal(&mut self) {
        self.trace(|| "-- healed".to_string());
        if self.plan.measured {
            self.stats = Stats::default();
        }
        self.uncut(&(0..self.plan.nodes).collect::<Vec<_>>());
        self.slow_by = 0;
        for node in 0..self.plan.nodes {
            if !self.nodes[node].is_alive() {
                self.born(node);
            }
        }
        self.failing.fill(if self.plan.ending == Ending::CalleeDown { 1_000 } else { 0 });
        if self.plan.ending == Ending::StoreDown {
            self.crash(0, Data::Kept);
        } else if !self.server.up {
            self.rise(Data::Kept);
        }
        self.disturbed = self.now;
    }
}

/// Looking, each second and in the end.
impl World {
    fn second(&mut self) {
        self.at(self.now + S, What::Second);
        if !self.plan.measured {
            self.server.replicate();
        }
        // A poll, an answer, and a restore or two.
        let patience = self.plan.rules.poll * 12 / 10 * MS + 4 * S;
        if !self.server.up {
            return;
        }
        for slot in 0..self.plan.breakers {
            if self.now < self.disturbed.max(self.oracle.changed(slot)) + patience {
                continue;
            }
            for node in 0..self.plan.nodes {
                let is_calm = self.nodes[node].is_connected() && !self.nodes[node].is_cut;
                if is_calm && self.now >= self.nodes[node].disturbed + patience {
                    self.check(node, slot);
                }
            }
        }
    }

    /// A node that nothing has disturbed for a while knows what the store knows, and does it.
    fn check(&mut self, node: usize, slot: usize) {
        let record = self.server.record(slot);
        let known = self.known(node, slot);
        let here = self.nodes[node].breaker_state(slot, self.now);
        let same = (known.epoch, known.state, known.hand) == (record.epoch, record.state, record.hand);
        let name = self.nodes[node].name();
        self.oracle.expect(same, Rule::Learning, || alloc::format!("{name} knows {known:?} of {record:?}"));
        let obeys = !is_hand_set(record.state) || here == record.state;
        self.oracle.expect(obeys, Rule::Learning, || alloc::format!("{name} is {here} in {record:?}"));
        let leaves = is_hand_set(record.state) || !is_hand_set(here);
        self.oracle.expect(leaves, Rule::Learning, || alloc::format!("{name} is {here} in {record:?}"));
        let closed = record.state == State::Open && known.remaining > 0 && here == State::Closed;
        self.oracle.expect(!closed, Rule::Learning, || alloc::format!("{name} is closed in {record:?}"));
    }

    fn finish(&mut self) {
        for slot in 0..self.plan.breakers {
            let record = self.server.record(slot);
            let last_hand = self.oracle.last_hand(slot);
            let mut stays = None;
            if self.plan.ending != Ending::StoreDown {
                let known = (0..self.plan.nodes).filter(|&node| self.known(node, slot) == record).count();
                self.trace(|| alloc::format!("{known} know {record:?}"));
                if let Some((_, state)) = last_hand.filter(|_| !self.oracle.has_lost(slot)) {
                    let holds = if is_hand_set(state) { record.state == state } else { !is_hand_set(record.state) };
                    self.oracle.expect(holds, Rule::Hand, || alloc::format!("{state} by hand is now {record:?}"));
                }
                stays = Some(record.state).filter(|&state| is_hand_set(state));
            }
            for node in 0..self.plan.nodes {
                let calls = self.plan.period[node] > 0;
                let here = self.nodes[node].breaker_state(slot, self.now);
                let known = self.known(node, slot);
                let name = self.nodes[node].name();
                let connected = self.plan.ending == Ending::StoreDown || self.nodes[node].is_connected();
                self.oracle.expect(connected, Rule::Convergence, || alloc::format!("{name} is not connected"));
                let right = match self.plan.ending {
                    _ if stays.is_some() => Some(here) == stays,
                    // Alone, the last word by hand stays.
                    Ending::StoreDown if is_hand_set(known.state) => here == known.state,
                    Ending::CalleeDown => here != State::Closed || !self.plan.is_busy(node),
                    Ending::Healthy | Ending::StoreDown => here == State::Closed || !calls,
                };
                self.oracle.expect(right, Rule::Convergence, || {
                    alloc::format!("{name} is {here} and knows {known:?}, the store {record:?}")
                });
            }
            if self.plan.ending == Ending::Healthy && stays.is_none() {
                let closed = record.state == State::Closed;
                self.oracle.expect(closed, Rule::Convergence, || alloc::format!("the store ends with {record:?}"));
            }
        }
    }
}

/// A bulk string of so many bytes on the wire.
fn bulk(length: usize) -> usize {
    1 + length.to_string().len() + 2 + length + 2
}
