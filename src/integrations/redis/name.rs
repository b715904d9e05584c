//! From a breaker's name to its keys.

use alloc::string::String;

use super::error::FleetError;
use super::record::VERSION;

const MAX_NAME: usize = 100;
const MAX_PREFIX: usize = 50;

/// The keys of one breaker, all in one slot of a cluster, and its channel.
pub(super) struct Keys {
    pub(super) state: String,
    pub(super) leases: String,
    pub(super) votes: String,
    pub(super) counts: String,
    pub(super) members: String,
    pub(super) channel: String,
}

impl Keys {
    pub(super) fn new(prefix: &str, name: &str) -> Result<Self, FleetError> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(FleetError::Name(name.into()));
        }
        let root = alloc::format!("{prefix}:{VERSION}:{{{}}}", escaped(name));
        let key = |suffix| alloc::format!("{root}:{suffix}");
        Ok(Self {
            state: key("state"),
            leases: key("leases"),
            votes: key("votes"),
            counts: key("counts"),
            members: key("members"),
            channel: root,
        })
    }
}

/// Whether keys may begin with it: no braces, which would move them to another slot, and nothing that an ACL's pattern
/// would read as anything but itself.
pub(super) fn is_prefix(prefix: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":._-".contains(&byte);
    (1..=MAX_PREFIX).contains(&prefix.len()) && prefix.bytes().all(plain)
}

/// Percent-encoded but for letters, digits and `._-`.
fn escaped(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"._-".contains(&byte) => escaped.push(char::from(byte)),
            byte => escaped.push_str(&alloc::format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn names_are_escaped_and_limited() {
        let keys = Keys::new("failfast", "pay{ments}:é").unwrap();
        assert_eq!(keys.state, "failfast:1:{pay%7Bments%7D%3A%C3%A9}:state");
        assert_eq!(keys.channel, "failfast:1:{pay%7Bments%7D%3A%C3%A9}");
        assert!(Keys::new("failfast", "").is_err());
        assert!(Keys::new("failfast", &"x".repeat(100)).is_ok());
        let error = Keys::new("failfast", &"x".repeat(101)).err().unwrap();
        assert!(error.to_string().ends_with("is 101 bytes long: must be from 1 to 100"), "{error}");
    }

    #[test]
    fn a_prefix_is_plain() {
        assert!(is_prefix("shop:eu-1"));
        for bad in ["", "a{b", "a*", "a b", "é", &"x".repeat(51)] {
            assert!(!is_prefix(bad), "{bad}");
        }
    }
}
