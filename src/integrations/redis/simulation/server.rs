//! The server: the store's twin for each breaker, with a life, a clock, replicas and subscribers.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::vec::Vec;

use super::super::command::{Command, Envelope, Op};
use super::super::record::{Record, is_hand_set};
use super::super::store::{Answer, Store};
use super::Flaw;
use super::oracle::{Applied, Oracle};
use super::plan::{Data, MS};
use crate::State;

/// Server time begins here.
const UNIX: u64 = 1_764_000_000_000;

pub(super) struct Server {
    flaw: Flaw,
    pub(super) up: bool,
    /// Counts restarts: a connection is to one life of it.
    pub(super) life: u32,
    pub(super) paused_until: u64,
    offset: i64,
    stores: Vec<Store>,
    /// As they were at each of the last seconds, latest first.
    replicas: VecDeque<Vec<Store>>,
    /// Connections that listen, by number.
    pub(super) listening: BTreeMap<usize, ()>,
}

impl Server {
    pub(super) fn new(breakers: usize, flaw: Flaw) -> Self {
        let stores = alloc::vec![Store::default(); breakers];
        let replicas = [stores.clone()].into();
        let (up, listening) = (true, BTreeMap::new());
        Self { flaw, up, life: 0, paused_until: 0, offset: 0, stores, replicas, listening }
    }

    pub(super) fn time(&self, now: u64) -> u64 {
        (UNIX + now / MS).saturating_add_signed(self.offset)
    }

    pub(super) fn record(&self, slot: usize) -> Record {
        self.stores[slot].peek().0
    }

    pub(super) fn apply(
        &mut self,
        now: u64,
        slot: usize,
        from: &Envelope,
        command: &Command,
        oracle: &mut Oracle,
    ) -> Answer {
        let server_now = self.time(now);
        let before = self.record(slot);
        let answer = self.execute(server_now, slot, from, command, &before);
        let (after, mut leases) = self.stores[slot].peek();
        let holds = matches!(command.op, Op::Release) && {
            let token = from.token(command.lease);
            leases.any(|(of, _)| of == token)
        };
        drop(leases);
        let applied =
            Applied { now, server_now, from, command, before: &before, after: &after, answer: &answer, holds };
        oracle.applied(slot, &applied);
        answer
    }

    /// What the store does, unless it is to be flawed.
    fn execute(&mut self, now: u64, slot: usize, from: &Envelope, command: &Command, known: &Record) -> Answer {
        let store = &mut self.stores[slot];
        let current = Command { epoch: known.epoch, ..command.clone() };
        let sync = Command { op: Op::Sync { member_ttl: 0, hand: u64::MAX }, ..command.clone() };
        match (self.flaw, &command.op) {
            (Flaw::PlacesIgnored, Op::Lease { .. }) => {
                store.apply(now, &Envelope { leases: 1_000, ..from.clone() }, command)
            }
            (Flaw::EpochIgnored, Op::Trip { .. } | Op::Reopen { .. } | Op::Close) => store.apply(now, from, &current),
            (Flaw::LateOpenAccepted, Op::Trip { .. }) => store.apply(now, from, &current),
            (Flaw::LeaseIgnored, Op::Reopen { .. } | Op::Close) => {
                let lease = Op::Lease { ttl: 1, lead: u64::MAX };
                let everybody = Envelope { leases: u32::MAX, ..from.clone() };
                _ = store.apply(now, &everybody, &Command { op: lease, ..command.clone() });
                store.apply(now, from, command)
            }
            (Flaw::ReleaseLost, Op::Release) => store.apply(now, from, &sync),
            (Flaw::LeaseForever, Op::Lease { lead, .. }) => {
                let op = Op::Lease { ttl: 500_000, lead: *lead };
                store.apply(now, from, &Command { op, ..command.clone() })
            }
            (Flaw::RestoreIgnored, Op::Restore(_)) => store.apply(now, from, &sync),
            (Flaw::HandOverruled, Op::Sync { .. }) if is_hand_set(known.state) => {
                let op = Op::Restore(Record { hand: known.hand, ..Record::nothing() });
                store.apply(now, from, &Command { epoch: known.epoch + 1, lease: 0, op })
            }
            (Flaw::OneVoteEnough, Op::Trip { member_ttl, wait, reason, .. }) => {
                let op = Op::Trip { member_ttl: *member_ttl, wait: *wait, reason: *reason, needed: 1, share: 0 };
                store.apply(now, from, &Command { op, ..command.clone() })
            }
            (Flaw::FailuresDoubled, Op::Count { .. }) => {
                let mut answer = store.apply(now, from, command);
                answer.reply.failed *= 2;
                answer
            }
            _ => store.apply(now, from, command),
        }
    }

    pub(super) fn replicate(&mut self) {
        self.replicas.push_front(self.stores.clone());
        self.replicas.truncate(5);
    }

    pub(super) fn flush(&mut self) {
        self.stores.fill(Store::default());
    }

    pub(super) fn die(&mut self) {
        (self.up, self.life, self.paused_until) = (false, self.life + 1, 0);
        self.listening.clear();
    }

    pub(super) fn rise(&mut self, data: Data) {
        self.up = true;
        match data {
            Data::Kept => {}
            Data::Lost => self.flush(),
            Data::Old(seconds) => {
                self.stores.clone_from(&self.replicas[seconds.min(self.replicas.len()) - 1]);
            }
        }
    }

    pub(super) fn set_clock(&mut self, by: i64) {
        self.offset += by;
    }

    /// What a breaker's store holds, for a trace.
    pub(super) fn describe(&self, slot: usize) -> String {
        let (record, leases) = self.stores[slot].peek();
        let leases: Vec<_> = leases.collect();
        alloc::format!("epoch {} {} (hand {}), leases {leases:?}", record.epoch, record.state, record.hand)
    }

    pub(super) fn is_open(&self, slot: usize) -> bool {
        self.record(slot).state == State::Open
    }
}
