//! What a host is: whose breaker a request asks.

use std::borrow::Cow;
use std::format;

use reqwest::Url;

/// The key of the breaker that a request to this URL asks: scheme, host and port, for example `https://api.example.com` or
/// `http://[::1]:8080`. None for a URL that no HTTP request can be made to.
///
/// Two URLs have the same key where the same server answers: `Url` has brought the host into one form already (lower
/// case, punycode, one form of an IP address) and has dropped a port that is the scheme's own, and a name that ends with
/// the root's dot is the name without it. User name and password are no part of it, and so never in an error or a log.
///
/// ```
/// use failfast::http::host_key;
///
/// let url = "HTTPS://user:secret@API.example.com.:443/quotes?symbol=X".parse()?;
/// assert_eq!(host_key(&url).unwrap(), "https://api.example.com");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub fn host_key(url: &Url) -> Option<Cow<'_, str>> {
    let scheme = url.scheme();
    if !matches!(scheme, "http" | "https") {
        return None;
    }
    let host = url.host_str()?;
    let name = host.strip_suffix('.').filter(|name| !name.is_empty()).unwrap_or(host);
    // Nearly always the URL begins with it as it is, and nothing is allocated.
    let begins = scheme.len() + "://".len();
    let whole = url.as_str();
    let authority = &whole[begins..][..whole[begins..].find('/')?];
    if name.len() == host.len() && authority.starts_with(host) && !authority.contains('@') {
        return Some(Cow::Borrowed(&whole[..begins + authority.len()]));
    }
    Some(Cow::Owned(match url.port() {
        Some(port) => format!("{scheme}://{name}:{port}"),
        None => format!("{scheme}://{name}"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::{String, ToString};

    fn key(url: &str) -> Option<String> {
        host_key(&url.parse().unwrap()).map(|key| key.to_string())
    }

    #[test]
    fn urls_of_one_server_have_one_key() {
        for (expected, urls) in [
            (
                "http://example.com",
                &[
                    "http://example.com",
                    "http://EXAMPLE.com:80/",
                    "http://example.com./",
                    "http://u@example.com/",
                    "http://u:p@example.com:80?q=/@",
                    "http://example.com#x@y",
                    "http://example.com\\path",
                    "http:example.com",
                ][..],
            ),
            ("https://example.com", &["https://example.com:443/a/b", "https://:p@example.com/"]),
            ("http://example.com:443", &["http://example.com:443", "http://u:p@example.com.:443/"]),
            ("https://xn--bcher-kva.example", &["https://bücher.example", "https://B%C3%BCcher.example"]),
            ("http://127.0.0.1:8080", &["http://127.0.0.1:8080", "http://0x7f.1:8080", "http://2130706433:08080/"]),
            ("http://[::1]:8080", &["http://[::1]:8080", "http://[0:0::1]:8080", "http://u@[::1]:8080"]),
        ] {
            for url in urls {
                assert_eq!(key(url).as_deref(), Some(expected), "{url}");
            }
        }
    }

    #[test]
    fn what_is_no_http_has_none() {
        for url in ["ftp://example.com/", "data:text/plain,x", "unix:/run/x.sock", "file:///etc/hostname"] {
            assert_eq!(key(url), None, "{url}");
        }
    }

    #[test]
    fn nothing_is_allocated_where_the_url_begins_with_its_key() {
        for url in ["http://example.com/@", "https://example.com:8443/?a=b", "http://[::1]:8080/"] {
            assert!(matches!(host_key(&url.parse().unwrap()), Some(Cow::Borrowed(_))), "{url}");
        }
    }
}
