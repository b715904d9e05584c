//! Durations as people write them.

use core::fmt;
use core::time::Duration;
use std::string::{String, ToString};

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration that is written `30s`, `1m 30s` or `500ms`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Human(pub(super) Duration);

impl Serialize for Human {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Human {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(HumanVisitor)
    }
}

struct HumanVisitor;

impl Visitor<'_> for HumanVisitor {
    type Value = Human;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration with its unit, such as \"30s\", \"1m 30s\" or \"500ms\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Human, E> {
        parse(text).map(Human).map_err(|error| E::custom(format_args!("{text:?} is not a duration: {error}")))
    }
}

/// Term by term: humantime 2.4 panics where the sum of several is above `Duration::MAX`.
fn parse(text: &str) -> Result<Duration, String> {
    let mut sum = Duration::ZERO;
    let mut rest = text.trim();
    loop {
        let unit = rest.find(char::is_alphabetic).unwrap_or(rest.len());
        let end = rest[unit..].find(|c: char| !c.is_alphabetic()).map_or(rest.len(), |length| unit + length);
        let (term, behind) = rest.split_at(end);
        let term = humantime::parse_duration(term).map_err(|error| error.to_string())?;
        sum = sum.checked_add(term).ok_or("it is too long")?;
        rest = behind.trim_start();
        if rest.is_empty() {
            return Ok(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_added() {
        let ms = |text| parse(text).map(|duration| duration.as_millis());
        assert_eq!(ms("30s"), Ok(30_000));
        assert_eq!(ms(" 1m 30s "), Ok(90_000));
        assert_eq!(ms("1h2min3 s4ms"), Ok(3_723_004));
        assert_eq!(ms("1.5s"), Ok(1_500));
        for bad in ["", " ", "s", "30", "30 x", "1m 30", "-1s", "1s,2s", "1s é", "1..5s"] {
            assert!(ms(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn no_sum_is_too_long_to_be_told_so() {
        let error = parse("18446744073709551615s 1000000000ns").unwrap_err();
        assert_eq!(error, "it is too long");
        parse("18446744073709551616s").unwrap_err();
    }

    #[test]
    fn what_is_written_is_read() {
        for duration in [Duration::ZERO, Duration::MAX, Duration::from_nanos(1), Duration::new(31_557_599, 999_999_999)]
        {
            assert_eq!(parse(&humantime::format_duration(duration).to_string()), Ok(duration));
        }
    }
}
