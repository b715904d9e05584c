//! What the store holds of a breaker, and how it travels.

use alloc::boxed::Box;
#[cfg(test)]
use alloc::vec::Vec;

use crate::{Reason, State};

/// The schema's version. It is in every key, so that two versions never see each other's.
pub(super) const VERSION: u8 = 1;

/// Texts in the store are at most this long.
pub(super) const MAX_TEXT: usize = 200;

/// Between the fields of a message. No text may hold it.
const SEPARATOR: u8 = 0x1f;

/// An epoch is a server's time in milliseconds, or a little more: further ahead than this it is none.
pub(super) const MAX_AHEAD: u64 = 86_400_000;

/// What the fleet knows of one breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Counts every change of the state. 0: nothing is known.
    pub(super) epoch: u64,
    /// The epoch of the last change by hand.
    pub(super) hand: u64,
    /// Any but half-open: the store knows of no half-open state, only of leases of an open one.
    pub(super) state: State,
    /// Of an open one: milliseconds until probes are due.
    pub(super) remaining: u64,
    /// Of an open one: what `remaining` began with.
    pub(super) wait: u64,
    /// How often probes have failed in this outage.
    pub(super) attempt: u32,
    pub(super) reason: Option<Reason>,
    /// Who changed it last.
    pub(super) node: Box<str>,
    /// On whose behalf, and what for, if it was by hand.
    pub(super) who: Box<str>,
    pub(super) why: Box<str>,
}

impl Record {
    pub(super) fn nothing() -> Self {
        Self {
            epoch: 0,
            hand: 0,
            state: State::Closed,
            remaining: 0,
            wait: 0,
            attempt: 0,
            reason: None,
            node: Box::default(),
            who: Box::default(),
            why: Box::default(),
        }
    }

    /// Whether it was set by hand, and not by what breakers saw.
    pub(super) fn is_by_hand(&self) -> bool {
        self.epoch > 0 && self.hand == self.epoch
    }
}

/// The states that only the hand sets.
pub(super) fn is_hand_set(state: State) -> bool {
    !matches!(state, State::Closed | State::Open | State::HalfOpen)
}

/// The answer to a command, or the news of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// The server's time.
    pub(super) now: u64,
    pub(super) record: Record,
    /// Leases that nobody holds.
    pub(super) free: u64,
    /// Milliseconds until the first of the held ones ends.
    pub(super) first_ends: u64,
    /// Whether the command did what it was for. Always false in news.
    pub(super) done: bool,
    /// Values in the store that were refused.
    pub(super) refused: u64,
    /// Milliseconds until the sender's own lease ends.
    pub(super) mine: u64,
    /// Nodes that have voted for opening, and live ones.
    pub(super) votes: u64,
    pub(super) live: u64,
    /// Outcomes in the fleet's window.
    pub(super) total: u64,
    pub(super) failed: u64,
}

/// A value that nobody of the fleet can have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Garbled;

impl Message {
    /// [`decode`](Self::decode) for an answer, which may be that nothing has changed of what is `known`.
    pub(super) fn decode_reply(bytes: &[u8], longest: u64, known: impl FnOnce() -> Record) -> Result<Self, Garbled> {
        let Some(now) = bytes.strip_prefix(b"=") else { return Self::decode(bytes, longest) };
        Ok(Self {
            now: whole(now, MAX_WHOLE)?,
            record: known(),
            free: 1,
            first_ends: 0,
            done: true,
            refused: 0,
            mine: 0,
            votes: 0,
            live: 0,
            total: 0,
            failed: 0,
        })
    }

    /// Reads a message, of which waits longer than `longest` milliseconds are refused.
    pub(super) fn decode(bytes: &[u8], longest: u64) -> Result<Self, Garbled> {
        let mut fields = bytes.split(|&byte| byte == SEPARATOR);
        let mut next = || fields.next().ok_or(Garbled);
        let version = next()?;
        if version != [b'0' + VERSION] {
            return Err(Garbled);
        }
        let now = whole(next()?, MAX_WHOLE)?;
        let latest = now.saturating_add(MAX_AHEAD);
        let message = Self {
            now,
            record: Record {
                epoch: whole(next()?, latest)?,
                hand: whole(next()?, latest)?,
                state: state_of(next()?)?,
                remaining: whole(next()?, longest)?,
                wait: whole(next()?, longest)?,
                attempt: whole(next()?, u64::from(u32::MAX))? as u32,
                reason: reason_of(next()?),
                node: text(next()?)?,
                who: text(next()?)?,
                why: text(next()?)?,
            },
            free: whole(next()?, MAX_WHOLE)?,
            first_ends: whole(next()?, MAX_WHOLE)?,
            done: whole(next()?, 1)? == 1,
            refused: whole(next()?, MAX_WHOLE)?,
            mine: whole(next()?, MAX_WHOLE)?,
            votes: whole(next()?, MAX_WHOLE)?,
            live: whole(next()?, MAX_WHOLE)?,
            total: whole(next()?, MAX_WHOLE)?,
            failed: whole(next()?, MAX_WHOLE)?,
        };
        match fields.next() {
            None => Ok(message),
            Some(_) => Err(Garbled),
        }
    }

    /// As the store's script writes it.
    #[cfg(test)]
    pub(super) fn encode(&self) -> Vec<u8> {
        let Record { epoch, hand, state, remaining, wait, attempt, reason, node, who, why } = &self.record;
        let reason = reason.map_or("", Reason::as_str);
        let numbers = [self.votes, self.live, self.total, self.failed];
        let done = u8::from(self.done);
        let mut text = alloc::format!(
            "{VERSION}|{}|{epoch}|{hand}|{}|{remaining}|{wait}|{attempt}|{reason}|{node}|{who}|{why}|{}|{}|{done}|{}|{}",
            self.now,
            state_code(*state),
            self.free,
            self.first_ends,
            self.refused,
            self.mine,
        );
        for number in numbers {
            text.push_str(&alloc::format!("|{number}"));
        }
        text.bytes().map(|byte| if byte == b'|' { SEPARATOR } else { byte }).collect()
    }
}

/// Numbers in Lua are exact up to this.
const MAX_WHOLE: u64 = 1 << 53;

fn whole(field: &[u8], max: u64) -> Result<u64, Garbled> {
    let digits = (1..=16).contains(&field.len()) && field.iter().all(u8::is_ascii_digit);
    let number = || core::str::from_utf8(field).ok()?.parse().ok();
    digits.then(number).flatten().filter(|&number: &u64| number <= max).ok_or(Garbled)
}

fn text(field: &[u8]) -> Result<Box<str>, Garbled> {
    let text = core::str::from_utf8(field).map_err(|_| Garbled)?;
    if text.len() > MAX_TEXT || text.chars().any(char::is_control) {
        return Err(Garbled);
    }
    Ok(text.into())
}

/// What is left of a text that is to go into the store: no control characters, and not longer than may be.
pub(super) fn sanitized(text: &str) -> Box<str> {
    let mut length = 0;
    let fits = |character: &char| {
        length += character.len_utf8();
        length <= MAX_TEXT
    };
    let plain = text.chars().map(|character| if character.is_control() { ' ' } else { character });
    plain.take_while(fits).collect::<alloc::string::String>().into()
}

pub(super) fn state_code(state: State) -> &'static str {
    match state {
        State::ForcedOpen => "f",
        State::Disabled => "d",
        State::MetricsOnly => "m",
        State::Closed => "c",
        State::Open | State::HalfOpen => "o",
    }
}

fn state_of(code: &[u8]) -> Result<State, Garbled> {
    Ok(match code {
        b"c" => State::Closed,
        b"o" => State::Open,
        b"f" => State::ForcedOpen,
        b"d" => State::Disabled,
        b"m" => State::MetricsOnly,
        _ => return Err(Garbled),
    })
}

/// One that this version does not know is no reason to refuse the rest.
fn reason_of(name: &[u8]) -> Option<Reason> {
    const REASONS: [Reason; 8] = [
        Reason::ConsecutiveFailures,
        Reason::Failures,
        Reason::FailureRate,
        Reason::SlowCallRate,
        Reason::Requested,
        Reason::ProbeFailed,
        Reason::ProbeTimeout,
        Reason::ByHand,
    ];
    REASONS.into_iter().find(|reason| reason.as_str().as_bytes() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> Message {
        Message {
            now: 1_764_000_000_000,
            record: Record {
                epoch: 1_764_000_000_001,
                hand: 3,
                state: State::Open,
                remaining: 900,
                wait: 1_000,
                attempt: 2,
                reason: Some(Reason::FailureRate),
                node: "n-1".into(),
                who: "é".into(),
                why: "".into(),
            },
            free: 1,
            first_ends: 0,
            done: true,
            refused: 0,
            mine: 0,
            votes: 1,
            live: 2,
            total: 3,
            failed: 4,
        }
    }

    #[test]
    fn a_message_is_what_was_written() {
        assert_eq!(Message::decode(&message().encode(), 1_000), Ok(message()));
    }

    #[test]
    fn what_nobody_can_have_written_is_refused() {
        let sound = message().encode();
        let replaced = |index: usize, field: &[u8]| {
            let mut fields: Vec<&[u8]> = sound.split(|&byte| byte == SEPARATOR).collect();
            fields[index] = field;
            fields.join(&SEPARATOR)
        };
        let long = [b'x'; MAX_TEXT + 1];
        let hostile: [(usize, &[u8]); 12] = [
            (0, b"2"),
            (1, b""),
            (1, b"-1"),
            (2, b"1e3"),
            (2, b"9007199254740992"),
            (4, b"half"),
            (5, b"1001"),
            (6, b"99999999999999999999"),
            (7, b"4294967296"),
            (9, b"a\nb"),
            (10, &[0xff, 0xfe]),
            (11, &long),
        ];
        for (index, field) in hostile {
            assert_eq!(Message::decode(&replaced(index, field), 1_000), Err(Garbled), "{index} {field:?}");
        }
        for length in 0..sound.len() - 1 {
            _ = Message::decode(&sound[..length], 1_000);
        }
        assert_eq!(Message::decode(&[sound.clone(), b"\x1f0".to_vec()].concat(), 1_000), Err(Garbled));
        assert!(Message::decode(&replaced(8, b"of_a_later_version"), 1_000).is_ok());
    }

    #[test]
    fn a_text_is_cut_at_a_character() {
        assert_eq!(&*sanitized("a\r\nb\u{1f}c"), "a  b c");
        let cut = sanitized(&"é".repeat(101));
        assert_eq!(cut.len(), MAX_TEXT);
    }
}
