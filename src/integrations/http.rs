//! An HTTP client with a breaker for each host, around any [`reqwest::Client`].
//!
//! ```no_run
//! use failfast::http::{Client, Error};
//!
//! #[derive(serde::Deserialize)]
//! struct Quote { price: f64 }
//!
//! # async fn quote() -> Result<f64, Error> {
//! let http = Client::new(reqwest::Client::new());
//! let quote = match http.get("https://api.example.com/quote").send().await {
//!     Ok(response) => response.error_for_status()?.json::<Quote>().await?,
//!     Err(Error::Rejected(rejection)) => {
//!         // https://api.example.com not called: circuit open; retry in 6.9 s
//!         println!("{rejection}");
//!         Quote { price: 41.0 }
//!     }
//!     Err(error) => return Err(error),
//! };
//! # Ok(quote.price)
//! # }
//! ```
//!
//! reqwest comes without TLS and with `json` only: turn on in your own `Cargo.toml` what else of it you want, `rustls` for
//! example.
//!
//! # Hosts
//!
//! A request asks the breaker of its URL's scheme, host and port ([`host_key`]): what is one server, up or down as one. A
//! breaker is made when its host is first asked, and the [registry](crate::registry) that holds it is bounded, so that
//! URLs from users do not grow it. [`ClientBuilder`] takes a registry of your own, with a configuration for each host.
//!
//! # What counts
//!
//! [`classify_status`] and [`classify_error`] say it: errors of the connection, timeouts, 5xx, 408 and 429 are failures;
//! a `Retry-After` of a 429 or 503 opens at once, for no less than the breaker's wait and no more than its
//! [`max_open`](crate::Config::max_open); other 4xx, and requests that could not be made, are neutral. A closure can
//! [replace](ClientBuilder::classify) them.
//!
//! A call ends with the response's head, and that is the time that a slow-call limit sees: what the caller does with the
//! body, and how long it takes, says little about the host, and the response is reqwest's own. A body that does not come
//! can be told of by [`Client::record`]. A request that is cancelled counts as [`OnCancel`](crate::OnCancel) says.
//!
//! reqwest follows redirects by itself. An answer from another host is recorded for that one, and a success for the host
//! that redirected; an error on the way is recorded for the host that was asked, as reqwest does not say whose it is. The
//! hosts on the way are not asked for a permit: for that, follow redirects yourself, with `redirect::Policy::none()`.
//!
//! # Timeouts
//!
//! A host that hangs fails only by a timeout, so a request has one of 5 s in total, body included, unless it, or the
//! wrapped client, has one already: theirs stay as they are, longer ones too. reqwest has no way to ask a client for its
//! timeouts, but its `Debug` shows them, and is what is looked at. [`ClientBuilder::timeout`] sets one for all requests,
//! [`RequestBuilder::timeout`] for one.

mod authority;
mod builder;
mod classify;
mod client;
mod ejection;
mod error;
mod guard;
#[cfg(feature = "reqwest-middleware")]
mod middleware;
mod request;
mod timeout;

pub use super::http_status::{classify_status, retry_after};
pub use authority::host_key;
pub use builder::ClientBuilder;
pub use classify::{classify, classify_error};
pub use client::Client;
pub use ejection::MaxEjection;
pub use error::{Error, Rejection};
#[cfg(feature = "reqwest-middleware")]
pub use middleware::BreakerMiddleware;
pub use request::RequestBuilder;
