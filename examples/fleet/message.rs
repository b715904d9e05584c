//! What a node tells: a line each on its stdout. Times are nanoseconds.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use failfast::State;

/// One call as its caller saw it.
#[derive(Clone, Copy)]
pub(crate) struct Call {
    /// From the start of the run.
    pub begin: Duration,
    pub took: Duration,
    pub ending: Ending,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Succeeded,
    /// The service answered with an error.
    Failed,
    /// No answer, from whatever was in the way.
    Unreached,
    Rejected,
}

const ENDINGS: [(Ending, &str); 4] = [
    (Ending::Succeeded, "succeeded"),
    (Ending::Failed, "failed"),
    (Ending::Unreached, "unreached"),
    (Ending::Rejected, "rejected"),
];

pub(crate) enum Message {
    Ready,
    Call(Call),
    /// The breaker has made a transition.
    Moved {
        at: Duration,
        to: State,
    },
    /// The store was lost, or is back.
    Store {
        at: Duration,
        up: bool,
    },
    /// In the whole run.
    Commands(u64),
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Ready => f.write_str("ready"),
            Message::Call(Call { begin, took, ending }) => {
                let word = ENDINGS.iter().find(|(e, _)| e == ending).map_or("", |(_, word)| word);
                write!(f, "call {} {} {word}", begin.as_nanos(), took.as_nanos())
            }
            Message::Moved { at, to } => write!(f, "moved {} {to}", at.as_nanos()),
            Message::Store { at, up } => write!(f, "store {} {up}", at.as_nanos()),
            Message::Commands(count) => write!(f, "commands {count}"),
        }
    }
}

impl FromStr for Message {
    type Err = String;

    fn from_str(line: &str) -> Result<Message, String> {
        parse(line).ok_or_else(|| format!("not a message of a node: `{line}`"))
    }
}

fn parse(line: &str) -> Option<Message> {
    let words: Vec<_> = line.split(' ').collect();
    let time = |word: &str| word.parse().ok().map(Duration::from_nanos);
    Some(match words[..] {
        ["ready"] => Message::Ready,
        ["call", begin, took, ending] => {
            let (ending, _) = *ENDINGS.iter().find(|(_, word)| *word == ending)?;
            Message::Call(Call { begin: time(begin)?, took: time(took)?, ending })
        }
        ["moved", at, to] => {
            let to = [State::Closed, State::Open, State::HalfOpen].into_iter().find(|state| state.as_str() == to)?;
            Message::Moved { at: time(at)?, to }
        }
        ["store", at, up] => Message::Store { at: time(at)?, up: up.parse().ok()? },
        ["commands", count] => Message::Commands(count.parse().ok()?),
        _ => return None,
    })
}
