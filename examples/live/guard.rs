//! Who may ask. The server listens on loopback, but a browser on this machine also runs the scripts of other sites.

use hyper::HeaderMap;
use hyper::header::{CONTENT_TYPE, HOST, HeaderName, ORIGIN};
use hyper::http::uri::Authority;

/// Against DNS rebinding: a foreign name that was made to point here comes with that name as its host.
pub(crate) fn is_own_host(headers: &HeaderMap, port: u16) -> bool {
    let host = text(headers, &HOST).and_then(|host| host.parse::<Authority>().ok());
    host.is_some_and(|host| matches!(host.host(), "127.0.0.1" | "localhost") && host.port_u16().unwrap_or(80) == port)
}

/// Against requests that other sites' pages send (after [`is_own_host`]). A browser names the page's origin on every
/// POST; and JSON from another origin it sends only after asking, which is not answered. What is no browser need not
/// name an origin.
pub(crate) fn is_own_page(headers: &HeaderMap) -> bool {
    let own = text(headers, &HOST).map(|host| format!("http://{host}"));
    let is_same = !headers.contains_key(ORIGIN) || text(headers, &ORIGIN) == own.as_deref();
    is_same && text(headers, &CONTENT_TYPE) == Some("application/json")
}

/// Of a header that is there once, and is text.
fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}
