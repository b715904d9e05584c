//! What a cancelled call counts as, as a file holds it.

use core::fmt;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::human::Human;
use crate::OnCancel;

/// [`OnCancel`]: a word, or a table with a duration. Not an enum to serde, which some formats write in a way of their own.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub(super) enum Cancelled {
    Word(Word),
    Table(Table),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Word {
    Neutral,
    Failure,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    failure_after: Human,
}

impl From<OnCancel> for Cancelled {
    fn from(what: OnCancel) -> Self {
        match what {
            OnCancel::Neutral => Self::Word(Word::Neutral),
            OnCancel::Failure => Self::Word(Word::Failure),
            OnCancel::FailureAfter(after) => Self::Table(Table { failure_after: Human(after) }),
        }
    }
}

impl From<Cancelled> for OnCancel {
    fn from(what: Cancelled) -> Self {
        match what {
            Cancelled::Word(Word::Neutral) => Self::Neutral,
            Cancelled::Word(Word::Failure) => Self::Failure,
            Cancelled::Table(Table { failure_after: Human(after) }) => Self::FailureAfter(after),
        }
    }
}

impl<'de> Deserialize<'de> for Cancelled {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CancelledVisitor)
    }
}

struct CancelledVisitor;

impl<'de> Visitor<'de> for CancelledVisitor {
    type Value = Cancelled;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"neutral\", \"failure\" or a table with failure_after")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Cancelled, E> {
        Deserialize::deserialize(StrDeserializer::new(word)).map(Cancelled::Word)
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<Cancelled, A::Error> {
        Deserialize::deserialize(MapAccessDeserializer::new(table)).map(Cancelled::Table)
    }
}
