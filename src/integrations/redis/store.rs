//! What script.lua does, once more: the store of the simulation. A test drives both with the same commands.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;

use super::command::{Command, Envelope, Op};
use super::record::{Message, Record, is_hand_set};
use crate::{Reason, State};

const LONGEST_LEASE: u64 = 600_000;
const LONGEST_MEMBER: u64 = 3_600_000;
const HAND_TTL: u64 = 30 * 86_400_000;

/// What the store holds for one breaker. `Default` is a store that was flushed.
#[derive(Clone, Debug, Default)]
pub(super) struct Store {
    state: Option<Stored>,
    leases: BTreeMap<String, u64>,
    votes: BTreeMap<Box<str>, u64>,
    votes_expire: u64,
    counts: BTreeMap<u64, (u64, u64)>,
    counts_expire: u64,
    members: BTreeMap<Box<str>, u64>,
}

#[derive(Clone, Debug)]
struct Stored {
    record: Record,
    deadline: u64,
    expires: u64,
}

/// What came of a command.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) reply: Message,
    /// What was told to all who listen.
    pub(super) news: Option<Message>,
}

struct Run<'a> {
    store: &'a mut Store,
    from: &'a Envelope,
    token: String,
    epoch: u64,
    now: u64,
    done: bool,
    votes: u64,
    live: u64,
    total: u64,
    failed: u64,
    news: Option<Message>,
}

impl Store {
    /// Runs a command at the server's time `now`.
    pub(super) fn apply(&mut self, now: u64, from: &Envelope, command: &Command) -> Answer {
        if self.state.as_ref().is_some_and(|stored| stored.expires <= now) {
            self.state = None;
        }
        if self.votes_expire <= now {
            self.votes.clear();
        }
        if self.counts_expire <= now {
            self.counts.clear();
        }
        let token = from.token(command.lease);
        let mut run = Run {
            store: self,
            from,
            token,
            epoch: command.epoch,
            now,
            done: false,
            votes: 0,
            live: 0,
            total: 0,
            failed: 0,
            news: None,
        };
        run.execute(&command.op);
        let done = run.done;
        Answer { reply: run.message(done), news: run.news }
    }

    /// What it holds, for a simulation's checks: the record, and who holds leases until when.
    pub(super) fn peek(&self) -> (Record, impl Iterator<Item = (&str, u64)>) {
        let record = self.state.as_ref().map_or_else(Record::nothing, |stored| stored.record.clone());
        (record, self.leases.iter().map(|(token, &until)| (&**token, until)))
    }
}

impl Run<'_> {
    fn execute(&mut self, op: &Op) {
        let record = self.record();
        let current = record.epoch == self.epoch;
        match *op {
            Op::Sync { member_ttl, .. } => {
                self.be_counted(member_ttl);
                let expires = self.now + self.lifetime(&record);
                if let Some(stored) = &mut self.store.state {
                    stored.expires = expires;
                }
                self.done = true;
            }
            Op::Trip { member_ttl, wait, reason, needed, share } => {
                self.be_counted(member_ttl);
                if !current || record.state != State::Closed {
                    return;
                }
                let share = (u64::from(share) * self.live).div_ceil(100_000_000);
                let needed = u64::from(needed).max(share);
                if needed > 1 {
                    let now = self.now;
                    self.store.votes.insert(self.from.node.clone(), now + wait);
                    self.store.votes.retain(|_, &mut until| until > now);
                    self.store.votes_expire = now + self.from.longest_wait;
                    self.votes = self.store.votes.len() as u64;
                    if self.votes < needed {
                        return;
                    }
                }
                self.open(wait, 0, reason);
            }
            Op::Withdraw => {
                self.store.votes.remove(&self.from.node);
                self.done = true;
            }
            Op::Count { total, failed, bucket: length, buckets } => {
                if !current || record.state != State::Closed {
                    return;
                }
                let bucket = self.now / length;
                let counts = self.store.counts.entry(bucket).or_default();
                *counts = (counts.0 + total, counts.1 + failed);
                self.store.counts_expire = self.now + length * buckets;
                self.store.counts.retain(|&at, _| at + buckets > bucket);
                (self.total, self.failed) =
                    self.store.counts.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
                self.done = true;
            }
            Op::Lease { ttl, lead } => {
                let (free, _, mine) = self.leased();
                let remaining = self.remaining();
                if !current || record.state != State::Open || remaining > lead || (free == 0 && mine == 0) {
                    return;
                }
                self.store.leases.insert(self.token.clone(), self.now + remaining + ttl);
                self.done = true;
                self.publish();
            }
            Op::Release => {
                if self.holds() {
                    self.store.leases.remove(&self.token);
                    self.done = true;
                    self.publish();
                }
            }
            Op::Reopen { wait, reason } => {
                if self.holds() {
                    self.open(wait, record.attempt.saturating_add(1), reason);
                }
            }
            Op::Close => {
                if self.holds() {
                    let record = Record { node: self.from.node.clone(), ..self.renewed(Record::nothing()) };
                    self.write(record, 0);
                }
            }
            Op::Hand { state, ref who, ref why } => {
                let epoch = self.mint();
                let record = Record {
                    epoch,
                    hand: epoch,
                    state,
                    reason: Some(Reason::ByHand),
                    node: self.from.node.clone(),
                    who: who.clone(),
                    why: why.clone(),
                    ..Record::nothing()
                };
                self.write(record, 0);
            }
            Op::Restore(ref known) => {
                let mut epoch = self.epoch;
                let by_hand = is_hand_set(known.state) || is_hand_set(record.state);
                if by_hand && known.hand < record.hand {
                    if epoch > record.epoch {
                        let remaining = self.remaining();
                        self.write(Record { epoch: self.mint(), ..record }, remaining);
                    }
                    return;
                }
                if epoch <= record.epoch {
                    if known.hand <= record.hand {
                        return;
                    }
                    if !by_hand {
                        if let Some(stored) = &mut self.store.state {
                            stored.record.hand = known.hand;
                        }
                        self.done = true;
                        return;
                    }
                    epoch = self.mint();
                }
                let hand = known.hand.max(record.hand);
                self.write(Record { epoch, hand, ..known.clone() }, known.remaining);
            }
        }
    }

    fn record(&self) -> Record {
        self.store.state.as_ref().map_or_else(Record::nothing, |stored| stored.record.clone())
    }

    fn remaining(&self) -> u64 {
        match &self.store.state {
            Some(Stored { record, deadline, .. }) if record.state == State::Open => {
                deadline.saturating_sub(self.now).min(record.wait)
            }
            _ => 0,
        }
    }

    fn lifetime(&self, record: &Record) -> u64 {
        let key_ttl = self.from.key_ttl;
        if is_hand_set(record.state) { key_ttl.max(HAND_TTL) } else { key_ttl + self.remaining() }
    }

    fn leased(&mut self) -> (u64, u64, u64) {
        let places = u64::from(self.from.leases);
        if self.record().state != State::Open {
            return (places, 0, 0);
        }
        let now = self.now;
        let latest = now + LONGEST_LEASE + self.from.longest_wait;
        self.store.leases.retain(|_, &mut until| until > now && until <= latest);
        let first = self.store.leases.values().min().map_or(0, |until| until - now);
        let mine = self.store.leases.get(&self.token).map_or(0, |until| until - now);
        (places.saturating_sub(self.store.leases.len() as u64), first, mine)
    }

    fn message(&mut self, done: bool) -> Message {
        let (free, first_ends, mine) = self.leased();
        Message {
            now: self.now,
            record: Record { remaining: self.remaining(), ..self.record() },
            free,
            first_ends,
            done,
            refused: 0,
            mine,
            votes: self.votes,
            live: self.live,
            total: self.total,
            failed: self.failed,
        }
    }

    fn publish(&mut self) {
        self.news = Some(self.message(false));
    }

    fn write(&mut self, record: Record, remaining: u64) {
        let deadline = self.now + remaining;
        self.store.state = Some(Stored { record, deadline, expires: u64::MAX });
        let expires = self.now + self.lifetime(&self.record());
        if let Some(stored) = &mut self.store.state {
            stored.expires = expires;
        }
        self.store.leases.clear();
        self.store.votes.clear();
        self.store.counts.clear();
        self.done = true;
        self.publish();
    }

    fn mint(&self) -> u64 {
        self.now.max(self.epoch + 1).max(self.record().epoch + 1)
    }

    /// `record` in a new epoch, with the last word by hand.
    fn renewed(&self, record: Record) -> Record {
        Record { epoch: self.mint(), hand: self.record().hand, ..record }
    }

    fn open(&mut self, wait: u64, attempt: u32, reason: Reason) {
        let node = self.from.node.clone();
        let record = Record { state: State::Open, wait, attempt, reason: Some(reason), node, ..Record::nothing() };
        let record = self.renewed(record);
        self.write(record, wait);
    }

    fn holds(&mut self) -> bool {
        let (_, _, mine) = self.leased();
        let record = self.record();
        record.epoch == self.epoch && record.state == State::Open && mine > 0
    }

    fn be_counted(&mut self, member_ttl: u64) {
        if member_ttl > 0 {
            let now = self.now;
            self.store.members.insert(self.from.node.clone(), now + member_ttl);
            self.store.members.retain(|_, &mut until| until > now && until <= now + LONGEST_MEMBER);
            self.live = self.store.members.len() as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec::Vec;
    use std::net::TcpListener;
    use std::process::{Child, Command as Process, Stdio};
    use std::time::{Duration, Instant};

    use super::super::member::Random;
    use super::*;

    /// A server of the test's own, which ends with it.
    struct Server {
        process: Child,
        client: ::redis::Client,
    }

    impl Server {
        fn start() -> Self {
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let process = Process::new("redis-server")
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
                .stdout(Stdio::null())
                .spawn()
                .expect("redis-server is needed: install it (Debian: apt-get install redis-server)");
            let client = ::redis::Client::open(alloc::format!("redis://127.0.0.1:{port}")).unwrap();
            Self { process, client }
        }

        fn connect(&self) -> ::redis::Connection {
            let start = Instant::now();
            loop {
                match self.client.get_connection() {
                    Ok(connection) => return connection,
                    Err(error) => assert!(start.elapsed() < Duration::from_secs(10), "{error}"),
                }
                std::thread::yield_now();
            }
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            // It may have ended already.
            _ = self.process.kill();
            _ = self.process.wait();
        }
    }

    /// The script, but for the time, which is the last two arguments.
    fn timed_script() -> ::redis::Script {
        let (script, time) = (include_str!("script.lua"), "redis.call('TIME')");
        assert_eq!(script.matches(time).count(), 1);
        ::redis::Script::new(&script.replace(time, "{ ARGV[#ARGV - 1], ARGV[#ARGV] }"))
    }

    fn command(random: &mut Random, known: &Record) -> Command {
        let stale = random.below(8) == 0;
        let epoch = if stale { known.epoch.saturating_sub(random.below(3)) } else { known.epoch };
        let wait = 5_000 + random.below(20_000);
        let op = match random.below(17) {
            0 | 14..=16 => Op::Sync { member_ttl: random.below(2) * 30_000, hand: known.hand },
            1..=3 => Op::Trip {
                member_ttl: random.below(2) * 30_000,
                wait,
                reason: Reason::FailureRate,
                needed: 1 + random.below(3) as u32,
                share: random.below(3) as u32 * 33_333_333,
            },
            4 => Op::Withdraw,
            5 => {
                let total = random.below(50);
                Op::Count { total, failed: random.below(total + 1), bucket: 1_000, buckets: 10 }
            }
            6..=8 => Op::Lease { ttl: 10_000, lead: random.below(2) * 20_000 },
            9 => Op::Release,
            10 => Op::Reopen { wait, reason: Reason::ProbeFailed },
            11 => Op::Close,
            12 => {
                let states = [State::Closed, State::ForcedOpen, State::Disabled, State::MetricsOnly];
                let state = states[random.below(4) as usize];
                Op::Hand { state, who: "ada".into(), why: "a test, é".into() }
            }
            _ => {
                let remaining = if known.state == State::Open { random.below(known.wait + 1) } else { 0 };
                Op::Restore(Record { remaining, ..known.clone() })
            }
        };
        Command { epoch, lease: 1 + random.below(2), op }
    }

    #[test]
    fn the_twin_does_what_the_script_does_on_a_server() {
        let server = Server::start();
        let mut connection = server.connect();
        let mut listener = server.connect();
        let mut listener = listener.as_pubsub();
        listener.subscribe("news").unwrap();
        listener.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let script = timed_script();
        let mut unchanged = 0;
        for seed in 0..60 {
            ::redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
            let mut random = Random(seed);
            let mut store = Store::default();
            let leases = 1 + random.below(2) as u32;
            let nodes: Vec<Envelope> = (0..3)
                .map(|node| Envelope {
                    keys: ["s", "l", if seed % 2 == 0 { "v" } else { "c" }, "m"].map(String::from),
                    channel: "news".into(),
                    node: alloc::format!("node-{node}").into(),
                    key_ttl: 3_600_000,
                    longest_wait: 3_600_000,
                    leases,
                })
                .collect();
            let mut known = [(); 3].map(|()| Record::nothing());
            let mut now = 1_764_000_000_000;
            for number in 0..80 {
                now += random.below(20) * random.below(400);
                if random.below(30) == 0 {
                    ::redis::cmd("FLUSHALL").exec(&mut connection).unwrap();
                    store = Store::default();
                }
                let node = random.below(3) as usize;
                let command = command(&mut random, &known[node]);
                // One tally key holds votes or counts, as agreed on.
                match command.op {
                    Op::Count { .. } if seed % 2 == 0 => continue,
                    Op::Trip { .. } | Op::Withdraw if seed % 2 == 1 => continue,
                    _ => {}
                }
                let mut invocation = script.prepare_invoke();
                nodes[node].keys.iter().for_each(|key| _ = invocation.key(key));
                nodes[node].arguments(&command).iter().for_each(|argument| _ = invocation.arg(argument));
                let bytes: Vec<u8> = invocation.arg(now / 1000).arg(now % 1000 * 1000).invoke(&mut connection).unwrap();
                let answer = store.apply(now, &nodes[node], &command);
                let context = alloc::format!("seed {seed}, command {number}: {command:?}");
                let reply = Message::decode_reply(&bytes, 3_600_000, || known[node].clone());
                let mut expected = answer.reply.clone();
                if bytes[0] == b'=' {
                    // Then nobody asks for the rest.
                    (expected.free, expected.live) = (1, 0);
                    unchanged += 1;
                }
                assert_eq!(reply, Ok(expected), "{context}");
                if let Some(news) = answer.news {
                    let told = listener.get_message().unwrap();
                    assert_eq!(Message::decode(told.get_payload_bytes(), 3_600_000), Ok(news), "{context}");
                }
                if random.below(4) > 0 {
                    known[node] = answer.reply.record;
                }
            }
        }
        assert!(unchanged > 100, "{unchanged}");
    }
}
