//! For how long a response asks to be left alone.

use core::time::Duration;
use std::time::SystemTime;

use ::http::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use httpdate::parse_http_date;

/// The pause that a `Retry-After` header asks for ([RFC 9110, 10.2.3]): seconds, or an HTTP-date in any of its three
/// forms. None without the header, and if it is neither.
///
/// A date is read by the clock that wrote it, the response's own `Date`, where there is one, so that a clock of ours
/// that is wrong does no harm. One that has passed is a pause of zero; more seconds than 64 bits hold are as many as
/// they hold.
///
/// [RFC 9110, 10.2.3]: https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3
///
/// ```
/// use failfast::http_status::retry_after;
/// use http::header::{DATE, HeaderMap, HeaderValue, RETRY_AFTER};
/// use std::time::Duration;
///
/// let mut headers = HeaderMap::new();
/// assert_eq!(retry_after(&headers), None);
/// headers.insert(RETRY_AFTER, HeaderValue::from_static("120"));
/// assert_eq!(retry_after(&headers), Some(Duration::from_secs(120)));
///
/// headers.insert(DATE, HeaderValue::from_static("Wed, 21 Oct 2026 07:28:00 GMT"));
/// headers.insert(RETRY_AFTER, HeaderValue::from_static("Wed, 21 Oct 2026 07:29:30 GMT"));
/// assert_eq!(retry_after(&headers), Some(Duration::from_secs(90)));
/// ```
#[must_use]
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = text(headers, &RETRY_AFTER)?;
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let until = parse_http_date(value).ok()?;
    let sent = text(headers, &DATE).and_then(|date| parse_http_date(date).ok());
    Some(until.duration_since(sent.unwrap_or_else(SystemTime::now)).unwrap_or_default())
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::header::HeaderValue;

    const NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";

    fn asked(date: Option<&'static str>, value: &'static str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static(value));
        if let Some(date) = date {
            headers.insert(DATE, HeaderValue::from_static(date));
        }
        retry_after(&headers)
    }

    #[test]
    fn seconds() {
        assert_eq!(asked(None, "0"), Some(Duration::ZERO));
        assert_eq!(asked(None, " 007 "), Some(Duration::from_secs(7)));
        assert_eq!(asked(None, "18446744073709551616"), Some(Duration::from_secs(u64::MAX)));
    }

    #[test]
    fn every_form_of_a_date() {
        for five_past in ["Sun, 06 Nov 1994 12:05:00 GMT", "Sunday, 06-Nov-94 12:05:00 GMT", "Sun Nov  6 12:05:00 1994"]
        {
            assert_eq!(asked(Some(NOON), five_past), Some(Duration::from_secs(300)), "{five_past}");
        }
        assert_eq!(asked(Some("Sun, 06 Nov 1994 13:00:00 GMT"), NOON), Some(Duration::ZERO));
    }

    #[test]
    fn without_a_date_of_its_own_a_date_is_read_by_our_clock() {
        assert_eq!(asked(None, NOON), Some(Duration::ZERO));
        assert_eq!(asked(Some("yesterday"), NOON), Some(Duration::ZERO));
        assert!(asked(None, "Fri, 31 Dec 9999 23:59:59 GMT").unwrap() > Duration::from_secs(200_000_000_000));
    }

    #[test]
    fn anything_else_asks_for_nothing() {
        for value in ["", " ", "-1", "+5", "1.5", "5s", "soon", "Sun, 06 Nov 1994", "٣"] {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, HeaderValue::from_bytes(value.as_bytes()).unwrap());
            assert_eq!(retry_after(&headers), None, "{value:?}");
        }
    }
}
