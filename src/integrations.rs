//! Other crates' worlds, each behind its feature and each over the public API alone.

#[cfg(feature = "tower-http")]
pub mod grpc;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "tower")]
pub mod tower;
