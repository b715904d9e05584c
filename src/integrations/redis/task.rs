//! The task behind a fleet: it carries messages between members and the store, and tells members the time.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::pin::Pin;
use core::time::Duration;

use ::redis::aio::MultiplexedConnection;
use ::redis::{
    AsyncConnectionConfig, ErrorKind, PushInfo, PushKind, RedisError, RedisResult, Script, ServerErrorKind, Value,
};
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, sleep_until};

use super::command::{Command, Envelope, Op};
use super::connect::Settings;
use super::error::{FleetError, StoreError};
use super::fleet::Board;
use super::local::Local;
use super::member::{Event, Member};
use super::record::{Garbled, Message, Record};
use super::status::StoreEvent;
use super::tap::Tap;
use crate::State;

/// How often breakers without a tap are looked at.
const LOOK: u64 = 10;

/// News that wait to be read. What does not fit is lost, and made up for by the next look at the store.
const MAX_NEWS: usize = 4096;

const FIRST_BACKOFF: u64 = 50;
const LONGEST_BACKOFF: u64 = 5_000;

/// With `wake_at` this far away there is nothing to wait for.
const FOREVER: u64 = 3_600_000;

pub(super) enum Request {
    Join {
        name: Box<str>,
        envelope: Envelope,
        breaker: Box<dyn Local>,
        tap: Option<Tap>,
    },
    Leave {
        name: Box<str>,
    },
    Hand {
        envelope: Envelope,
        state: State,
        who: Box<str>,
        why: Box<str>,
        answer: oneshot::Sender<Result<(), FleetError>>,
    },
}

/// What has come of something that was begun. `link` says with which connection.
enum Done {
    Connected(RedisResult<MultiplexedConnection>),
    Subscribed { link: u64, member: u64, result: RedisResult<()> },
    Unsubscribed { link: u64, channel: String },
    Answered { link: u64, member: u64, result: RedisResult<Vec<u8>> },
    ByHand { link: u64, result: RedisResult<Vec<u8>>, answer: oneshot::Sender<Result<(), FleetError>> },
}

type Begun = Pin<Box<dyn Future<Output = Done> + Send>>;

struct Slot {
    name: Box<str>,
    envelope: Arc<Envelope>,
    breaker: Box<dyn Local>,
    tap: Option<Tap>,
    member: Member,
    /// The state at the last step.
    seen: State,
}

pub(super) struct Task {
    settings: Settings,
    inbox: mpsc::UnboundedReceiver<Request>,
    board: Arc<Board>,
    first: Option<oneshot::Sender<Result<(), FleetError>>>,
    slots: BTreeMap<u64, Slot>,
    /// Members by their channels.
    channels: BTreeMap<String, u64>,
    joined: u64,
    script: Arc<Script>,
    begun: FuturesUnordered<Begun>,
    news: mpsc::Receiver<(u64, PushInfo)>,
    news_sender: mpsc::Sender<(u64, PushInfo)>,
    moved: Arc<Notify>,
    link: Option<MultiplexedConnection>,
    /// Counts connections: what comes of an older one is of no interest.
    links: u64,
    failures: u32,
    connect_at: Option<u64>,
    random: u64,
    epoch: Instant,
}

impl Task {
    pub(super) fn new(
        settings: Settings,
        inbox: mpsc::UnboundedReceiver<Request>,
        board: Arc<Board>,
        first: oneshot::Sender<Result<(), FleetError>>,
    ) -> Self {
        let (news_sender, news) = mpsc::channel(MAX_NEWS);
        Self {
            random: settings.seed,
            settings,
            inbox,
            board,
            first: Some(first),
            slots: BTreeMap::new(),
            channels: BTreeMap::new(),
            joined: 0,
            script: Arc::new(Script::new(include_str!("script.lua"))),
            begun: FuturesUnordered::new(),
            news,
            news_sender,
            moved: Arc::new(Notify::new()),
            link: None,
            links: 0,
            failures: 0,
            connect_at: Some(0),
            epoch: Instant::now(),
        }
    }

    /// Runs until the last handle is dropped, or the server has refused the first connection.
    pub(super) async fn run(mut self) {
        loop {
            let now = self.now();
            if self.connect_at.is_some_and(|at| at <= now) {
                self.connect_at = None;
                self.connect();
            }
            let wake = self.epoch + Duration::from_millis(self.wake_at(now));
            tokio::select! {
                request = self.inbox.recv() => match request {
                    Some(request) => self.serve(request),
                    None => return,
                },
                Some(done) = self.begun.next(), if !self.begun.is_empty() => {
                    if !self.finish(done) {
                        return;
                    }
                }
                Some((link, push)) = self.news.recv() => self.hear(link, &push),
                () = self.moved.notified() => {}
                () = sleep_until(wake) => {}
            }
            self.look();
        }
    }

    fn now(&self) -> u64 {
        self.epoch.elapsed().as_millis() as u64
    }

    fn wake_at(&self, now: u64) -> u64 {
        let mut at = self.connect_at.unwrap_or(now + FOREVER).min(now + FOREVER);
        if self.link.is_some() {
            for slot in self.slots.values() {
                at = at.min(slot.member.wake_at());
                if slot.tap.is_none() {
                    at = at.min(now + LOOK);
                }
            }
        }
        at
    }

    /// Lets those members step whose time has come or whose breaker has moved.
    fn look(&mut self) {
        if self.link.is_none() {
            return;
        }
        let now = self.now();
        let due =
            |slot: &Slot| slot.member.wake_at() <= now || slot.member.is_probing() || slot.breaker.state() != slot.seen;
        let due: Vec<u64> = self.slots.iter().filter(|(_, slot)| due(slot)).map(|(&id, _)| id).collect();
        for id in due {
            self.step(id, Event::Tick);
        }
    }

    fn step(&mut self, id: u64, event: Event) {
        let now = self.now();
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let mut event = Some(event);
        // An act is looked at at once. Should it not have had its effect, the next look is soon enough.
        for _ in 0..4 {
            let view = slot.breaker.view(slot.tap.as_ref());
            slot.seen = view.state;
            let step = slot.member.step(now, &view, event.take().unwrap_or(Event::Tick));
            if let (Some(command), Some(link)) = (step.command, &self.link) {
                let sent = send(link.clone(), self.script.clone(), slot.envelope.clone(), command);
                let link = self.links;
                self.begun.push(Box::pin(async move { Done::Answered { link, member: id, result: sent.await } }));
                self.board.store().commands += 1;
            }
            match step.act {
                Some(act) => slot.breaker.apply(act),
                None => break,
            }
        }
        slot.seen = slot.breaker.state();
        if let Some(agreed) = self.board.agreed().get_mut(&slot.name) {
            *agreed = slot.member.known(now);
        }
    }

    fn step_all(&mut self, event: &Event) {
        for id in self.slots.keys().copied().collect::<Vec<_>>() {
            self.step(id, event.clone());
        }
    }

    fn serve(&mut self, request: Request) {
        match request {
            Request::Join { name, envelope, breaker, tap } => {
                self.joined += 1;
                let id = self.joined;
                if let Some(tap) = &tap {
                    tap.wakes(&self.moved);
                }
                self.channels.insert(envelope.channel.clone(), id);
                let seen = breaker.state();
                let member = Member::new(self.settings.rules, self.settings.node.clone(), self.next_random());
                let channel = envelope.channel.clone();
                let envelope = Arc::new(envelope);
                self.slots.insert(id, Slot { name, envelope, breaker, tap, member, seen });
                self.subscribe(id, channel);
            }
            Request::Leave { name } => {
                let Some(id) = self.slots.iter().find(|(_, slot)| slot.name == name).map(|(&id, _)| id) else { return };
                let Some(slot) = self.slots.remove(&id) else { return };
                self.channels.remove(&slot.envelope.channel);
                if let Some(mut connection) = self.link.clone() {
                    let (link, channel) = (self.links, slot.envelope.channel.clone());
                    self.begun.push(Box::pin(async move {
                        // News of a channel that nobody listens to any more are passed over.
                        _ = connection.unsubscribe(&*channel).await;
                        Done::Unsubscribed { link, channel }
                    }));
                }
            }
            Request::Hand { envelope, state, who, why, answer } => {
                let Some(connection) = self.link.clone() else {
                    let error = self.board.store().error.clone().unwrap_or_else(StoreError::not_connected);
                    // Who asked may have gone away.
                    _ = answer.send(Err(FleetError::Unreachable(error)));
                    return;
                };
                let command = Command { epoch: 0, lease: 0, op: Op::Hand { state, who, why } };
                let sent = send(connection, self.script.clone(), Arc::new(envelope), command);
                let link = self.links;
                self.begun.push(Box::pin(async move { Done::ByHand { link, result: sent.await, answer } }));
                self.board.store().commands += 1;
            }
        }
    }

    fn subscribe(&mut self, member: u64, channel: String) {
        if let Some(mut connection) = self.link.clone() {
            let link = self.links;
            self.begun.push(Box::pin(async move {
                let result = connection.subscribe(channel).await;
                Done::Subscribed { link, member, result }
            }));
        }
    }

    /// Says whether to go on.
    fn finish(&mut self, done: Done) -> bool {
        match done {
            Done::Connected(Ok(connection)) => self.connected(connection),
            Done::Connected(Err(error)) => return self.not_connected(&error),
            Done::Subscribed { link, member, result } if link == self.links => match result {
                Ok(()) => self.step(member, Event::Up),
                Err(error) => self.lost(&error),
            },
            Done::Unsubscribed { link, channel } if link == self.links => {
                // Another may have joined by the same name.
                if let Some(&member) = self.channels.get(&channel) {
                    self.subscribe(member, channel);
                }
            }
            Done::Answered { link, member, result } if link == self.links => self.answered(member, result),
            Done::ByHand { link, result, answer } => {
                let outcome = match &result {
                    Ok(_) => Ok(()),
                    Err(error) if is_loss(error) => Err(FleetError::Unreachable(StoreError::of(error))),
                    Err(error) => Err(FleetError::Refused(StoreError::of(error))),
                };
                if let (Err(error), true) = (&result, link == self.links) {
                    if is_loss(error) {
                        self.lost(error);
                    }
                }
                // Who asked may have gone away.
                _ = answer.send(outcome);
            }
            Done::Subscribed { .. } | Done::Unsubscribed { .. } | Done::Answered { .. } => {}
        }
        true
    }

    fn answered(&mut self, member: u64, result: RedisResult<Vec<u8>>) {
        let event = match result {
            Ok(bytes) => match self.reply(member, &bytes) {
                Ok(message) => {
                    self.board.store().refused += message.refused;
                    self.works();
                    Event::Reply(message)
                }
                Err(Garbled) => {
                    self.board.store().refused += 1;
                    self.fails(StoreError::garbled());
                    Event::Failed
                }
            },
            Err(error) if is_loss(&error) => return self.lost(&error),
            Err(error) => {
                self.fails(StoreError::of(&error));
                Event::Failed
            }
        };
        self.step(member, event);
    }

    fn reply(&self, member: u64, bytes: &[u8]) -> Result<Message, Garbled> {
        let known = || self.slots.get(&member).map_or_else(Record::nothing, |slot| slot.member.known(self.now()));
        Message::decode_reply(bytes, self.settings.rules.longest_wait, known)
    }

    fn hear(&mut self, link: u64, push: &PushInfo) {
        if link != self.links || self.link.is_none() {
            return;
        }
        match (&push.kind, &*push.data) {
            (PushKind::Disconnection, _) => self.lost(&RedisError::from((ErrorKind::Io, "the connection was closed"))),
            (PushKind::Message, [Value::BulkString(channel), Value::BulkString(payload)]) => {
                let member = core::str::from_utf8(channel).ok().and_then(|channel| self.channels.get(channel));
                let Some(&member) = member else { return };
                match Message::decode(payload, self.settings.rules.longest_wait) {
                    Ok(message) => self.step(member, Event::News(message)),
                    Err(Garbled) => self.board.store().refused += 1,
                }
            }
            _ => {}
        }
    }

    fn connect(&mut self) {
        self.links += 1;
        let link = self.links;
        let news = self.news_sender.clone();
        let timeout = self.settings.timeout;
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(timeout))
            .set_response_timeout(Some(timeout))
            .set_push_sender(move |push: PushInfo| news.try_send((link, push)));
        let client = self.settings.client.clone();
        let channels: Vec<String> = self.channels.keys().cloned().collect();
        let script = self.script.clone();
        self.begun.push(Box::pin(async move {
            let connected = async {
                let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
                script.load_async(&mut connection).await?;
                for channel in channels {
                    connection.subscribe(channel).await?;
                }
                Ok(connection)
            };
            Done::Connected(connected.await)
        }));
    }

    fn connected(&mut self, connection: MultiplexedConnection) {
        self.failures = 0;
        self.link = Some(connection);
        self.board.store().connections += 1;
        self.works();
        if let Some(first) = self.first.take() {
            // Who asked may have gone away; then the inbox tells.
            _ = first.send(Ok(()));
        }
        self.step_all(&Event::Up);
    }

    fn not_connected(&mut self, error: &RedisError) -> bool {
        if let Some(first) = self.first.take() {
            let refused = !is_loss(error);
            // Who asked may have gone away; then the inbox tells.
            _ = first.send(if refused { Err(FleetError::Refused(StoreError::of(error))) } else { Ok(()) });
            if refused {
                return false;
            }
        }
        self.retry_later(error);
        true
    }

    fn lost(&mut self, error: &RedisError) {
        if self.link.take().is_some() {
            self.retry_later(error);
            self.step_all(&Event::Down);
        }
    }

    /// Some time between half of the backoff and all of it, so that a fleet does not come back in step.
    fn retry_later(&mut self, error: &RedisError) {
        let backoff = (FIRST_BACKOFF << self.failures.min(10)).min(LONGEST_BACKOFF);
        self.failures = self.failures.saturating_add(1);
        let spread = self.next_random() % (backoff / 2 + 1);
        self.connect_at = Some(self.now() + backoff - spread);
        self.fails(StoreError::of(error));
    }

    fn works(&mut self) {
        let mut store = self.board.store();
        if !core::mem::replace(&mut store.up, true) {
            store.error = None;
            drop(store);
            self.tell(&StoreEvent::Up);
        }
    }

    fn fails(&mut self, error: StoreError) {
        let mut store = self.board.store();
        let was_up = core::mem::replace(&mut store.up, false);
        let news = was_up || store.error.is_none();
        store.error = Some(error.clone());
        drop(store);
        if news {
            self.tell(&StoreEvent::Degraded(error));
        }
    }

    fn tell(&self, event: &StoreEvent) {
        if let Some(listener) = &self.settings.on_store {
            // Its panic is its own.
            _ = std::panic::catch_unwind(core::panic::AssertUnwindSafe(|| listener(event)));
        }
    }

    /// Xorshift (Marsaglia, 2003): only to spread things.
    fn next_random(&mut self) -> u64 {
        self.random |= 1;
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// Whether the connection is of no use any more, or leads to a server that is not the one to talk to.
fn is_loss(error: &RedisError) -> bool {
    let elsewhere = matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::BusyLoading
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::MasterDown
                | ServerErrorKind::TryAgain
                | ServerErrorKind::ClusterDown
        )
    );
    elsewhere
        || error.is_io_error()
        || error.is_timeout()
        || error.is_connection_dropped()
        || error.is_unrecoverable_error()
}

async fn send(
    mut connection: MultiplexedConnection,
    script: Arc<Script>,
    envelope: Arc<Envelope>,
    command: Command,
) -> RedisResult<Vec<u8>> {
    let mut invocation = script.prepare_invoke();
    for key in &envelope.keys {
        invocation.key(key);
    }
    for argument in envelope.arguments(&command) {
        invocation.arg(argument);
    }
    invocation.invoke_async(&mut connection).await
}
