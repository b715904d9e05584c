//! How long a request may take, where nobody else has said so.

use core::fmt::{self, Write};
use core::time::Duration;

use reqwest::{Client, Request};

use crate::config::LONGEST;
use crate::error::{ConfigError, Value};

/// Long for an answer, short for a caller that waits.
pub(super) const DEFAULT: Duration = Duration::from_secs(5);

/// The timeout of requests that have none of their own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timeout(Option<Duration>);

impl Timeout {
    /// The default, unless the wrapped client has a timeout: reqwest lets a request's override its client's, which it
    /// must not unasked.
    pub(super) fn unless_of(client: &Client) -> Self {
        Self((!has_timeout(client)).then_some(DEFAULT))
    }

    pub(super) const fn of(limit: Option<Duration>) -> Self {
        Self(limit)
    }

    pub(super) fn check(self) -> Result<(), ConfigError> {
        match self.0 {
            Some(limit) if limit.is_zero() || limit > LONGEST => {
                let legal = "must be more than 0 and at most 3650 days";
                Err(ConfigError::new("http.timeout", Value::Time(limit), legal))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn apply(self, request: &mut Request) {
        if self.0.is_some() && request.timeout().is_none() {
            *request.timeout_mut() = self.0;
        }
    }
}

/// Whether the client limits how long a request, or a read of its answer, may take. A connect timeout limits neither.
///
/// reqwest shows it nowhere but in its `Debug`, field by field, and only if it is set. The test below fails should that
/// change.
fn has_timeout(client: &Client) -> bool {
    struct Fields(bool);
    impl Write for Fields {
        fn write_str(&mut self, piece: &str) -> fmt::Result {
            self.0 |= matches!(piece, "reqwest::config::TotalTimeout" | "read_timeout");
            Ok(())
        }
    }
    let mut fields = Fields(false);
    write!(fields, "{client:?}").is_ok() && fields.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::Method;

    const SECOND: Duration = Duration::from_secs(1);

    fn limit(timeout: Timeout, own: Option<Duration>) -> Option<Duration> {
        let mut request = Request::new(Method::GET, "http://localhost/".parse().unwrap());
        *request.timeout_mut() = own;
        timeout.apply(&mut request);
        request.timeout().copied()
    }

    #[test]
    fn a_clients_timeouts_are_seen() {
        let build = Client::builder;
        for (builder, expected) in [
            (build(), false),
            (build().connect_timeout(SECOND), false),
            (build().user_agent("a timeout: 5s"), false),
            (build().timeout(SECOND), true),
            (build().read_timeout(SECOND), true),
            (build().connect_timeout(SECOND).user_agent("x").timeout(SECOND).read_timeout(SECOND), true),
        ] {
            let client = builder.build().unwrap();
            assert_eq!(has_timeout(&client), expected, "{client:?}");
        }
    }

    #[test]
    fn it_gives_way_to_the_requests_own_and_to_the_clients() {
        let bare = Client::new();
        assert_eq!(limit(Timeout::unless_of(&bare), None), Some(DEFAULT));
        assert_eq!(limit(Timeout::unless_of(&bare), Some(SECOND)), Some(SECOND));
        let timed = Client::builder().timeout(SECOND).build().unwrap();
        assert_eq!(limit(Timeout::unless_of(&timed), None), None);
        assert_eq!(limit(Timeout::of(Some(SECOND)), None), Some(SECOND));
        assert_eq!(limit(Timeout::of(Some(SECOND)), Some(DEFAULT)), Some(DEFAULT));
        assert_eq!(limit(Timeout::of(None), None), None);
    }
}
