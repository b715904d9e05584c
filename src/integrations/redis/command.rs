//! What can be asked of the store.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::time::Duration;

use super::record::{Record, state_code};
use crate::{Reason, State};

/// A command. It takes effect only if `epoch` is still the current one, where that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) epoch: u64,
    /// The lease that the sender holds or asks for; 0 for none.
    pub(super) lease: u64,
    pub(super) op: Op,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Tell what is, and count me as alive for so long (0: nobody counts). `hand` is of what the sender knows.
    Sync { member_ttl: u64, hand: u64 },
    /// My breaker has tripped: open all, if as many nodes as needed say so.
    Trip { member_ttl: u64, wait: u64, reason: Reason, needed: u32, share: u32 },
    /// It has closed again: forget my vote.
    Withdraw,
    /// Add up outcomes.
    Count { total: u64, failed: u64, bucket: u64, buckets: u64 },
    /// Let me probe, or go on probing, for `ttl` from the deadline on; `lead` is how early I may ask.
    Lease { ttl: u64, lead: u64 },
    /// I do not need it.
    Release,
    /// My probes failed.
    Reopen { wait: u64, reason: Reason },
    /// My probes succeeded: close all.
    Close,
    /// An operator's word.
    Hand { state: State, who: Box<str>, why: Box<str> },
    /// The store has forgotten what I know.
    Restore(Record),
}

/// What all commands of one node for one breaker have in common.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    /// State, leases, tally, members.
    pub(super) keys: [String; 4],
    pub(super) channel: String,
    pub(super) node: Box<str>,
    pub(super) key_ttl: u64,
    pub(super) longest_wait: u64,
    pub(super) leases: u32,
}

impl Envelope {
    /// The token of the lease `lease`: the node's own, and used once.
    pub(super) fn token(&self, lease: u64) -> String {
        alloc::format!("{}.{lease}", self.node)
    }

    /// The script's arguments.
    pub(super) fn arguments(&self, command: &Command) -> Vec<String> {
        let Command { epoch, lease, op } = command;
        let mut arguments: Vec<String> = [
            op.name(),
            &epoch.to_string(),
            &self.token(*lease),
            &self.node,
            &self.channel,
            &self.key_ttl.to_string(),
            &self.longest_wait.to_string(),
            &self.leases.to_string(),
        ]
        .map(String::from)
        .into();
        let mut add = |argument: &dyn ToString| arguments.push(argument.to_string());
        match op {
            Op::Sync { member_ttl, hand } => {
                add(member_ttl);
                add(hand);
            }
            Op::Trip { member_ttl, wait, reason, needed, share } => {
                add(member_ttl);
                add(wait);
                add(reason);
                add(needed);
                add(share);
            }
            Op::Withdraw | Op::Release | Op::Close => {}
            Op::Count { total, failed, bucket, buckets } => {
                [total, failed, bucket, buckets].into_iter().for_each(|number| add(number));
            }
            Op::Lease { ttl, lead } => {
                add(ttl);
                add(lead);
            }
            Op::Reopen { wait, reason } => {
                add(wait);
                add(reason);
            }
            Op::Hand { state, who, why } => {
                add(&state_code(*state));
                add(who);
                add(why);
            }
            Op::Restore(record) => {
                add(&record.hand);
                add(&state_code(record.state));
                add(&record.remaining);
                add(&record.wait);
                add(&record.attempt);
                add(&record.reason.map_or("", Reason::as_str));
                add(&record.node);
                add(&record.who);
                add(&record.why);
            }
        }
        arguments
    }
}

impl Op {
    const fn name(&self) -> &'static str {
        match self {
            Self::Sync { .. } => "sync",
            Self::Trip { .. } => "trip",
            Self::Withdraw => "withdraw",
            Self::Count { .. } => "count",
            Self::Lease { .. } => "lease",
            Self::Release => "release",
            Self::Reopen { .. } => "reopen",
            Self::Close => "close",
            Self::Hand { .. } => "hand",
            Self::Restore(_) => "restore",
        }
    }
}

/// A duration in milliseconds, rounded up.
pub(super) fn millis(duration: Duration) -> u64 {
    duration.as_nanos().div_ceil(1_000_000).min(u128::from(u64::MAX)) as u64
}
