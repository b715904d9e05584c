//! What sits on top of a breaker: each over its public API, and over one foreign crate.

#[cfg(feature = "redis")]
pub mod redis;
