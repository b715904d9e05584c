#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// The documentation is written with all features; without them some of what it links to is not there.
#![cfg_attr(not(feature = "alloc"), allow(rustdoc::broken_intra_doc_links))]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", test, failfast_loom, failfast_shuttle))]
extern crate std;

mod breaker;
mod builder;
mod call;
mod clock;
mod config;
mod error;
#[cfg(feature = "alloc")]
mod fallback;
mod future;
mod hand;
mod history;
mod integrations;
mod observer;
mod outcome;
mod permit;
mod policy;
pub mod presets;
mod raw;
#[cfg(feature = "registry")]
pub mod registry;
#[cfg(feature = "serde")]
mod settings;
mod snapshot;
mod sync;
mod thresholds;
mod time;
mod view;

/// Pages about using it.
#[cfg(any(doc, doctest))]
pub mod docs {
    #[doc = include_str!("../docs/performance.md")]
    pub mod performance {}

    #[doc = include_str!("../docs/embedded.md")]
    pub mod embedded {}

    #[doc = include_str!("../docs/orderings.md")]
    pub mod orderings {}

    // Its examples need axum, tonic and hyper, and are tested in integration-tests.
    #[cfg(not(doctest))]
    #[doc = include_str!("../docs/tower.md")]
    pub mod tower {}

    #[doc = include_str!("../docs/guide/thresholds.md")]
    pub mod thresholds {}

    #[doc = include_str!("../docs/guide/waits.md")]
    pub mod waits {}

    #[doc = include_str!("../docs/guide/watching.md")]
    pub mod watching {}

    #[doc = include_str!("../docs/guide/fallbacks.md")]
    pub mod fallbacks {}

    #[doc = include_str!("../docs/guide/order.md")]
    pub mod order {}

    #[doc = include_str!("../docs/guide/migrating.md")]
    pub mod migrating {}

    #[cfg(feature = "redis")]
    #[doc = include_str!("../docs/fleet.md")]
    pub mod fleet {}
}

pub use breaker::CircuitBreaker;
pub use builder::Builder;
pub use clock::{Clock, DefaultClock, ManualClock};
#[cfg(all(feature = "std", not(failfast_loom)))]
pub use clock::{CoarseClock, Upkeep};
pub use config::{Config, OnCancel, OnMaxWait};
pub use error::{CallError, ConfigError, IllegalTransition, Rejected};
#[cfg(feature = "alloc")]
pub use fallback::{FailedFallback, FallbackError, Fallbacks, ResolveFuture};
pub use future::{CallFuture, Classifier, OrElseFuture};
pub use history::History;
#[cfg(feature = "tower-http")]
pub use integrations::grpc;
#[cfg(feature = "redis")]
pub use integrations::redis;
#[cfg(feature = "tower")]
pub use integrations::tower;
pub use observer::{Observer, OnTransition, SettledCall, Transition, WouldTrip};
pub use outcome::{Outcome, Settled};
pub use permit::{Breaker, Permit};
#[cfg(not(failfast_loom))]
pub use policy::InlinePolicy;
pub use policy::Window;
#[cfg(feature = "alloc")]
pub use policy::{BoxPolicy, HeapBuckets, HeapCalls, Rule};
pub use policy::{Buckets, Calls, Consecutive, CountWindow, IntoPolicy, LastCalls, LastTime, Policy, Spec, TimeWindow};
#[cfg(feature = "registry")]
pub use registry::Registry;
#[cfg(feature = "serde")]
pub use settings::{NamedSettings, PolicySettings, PresetName, Settings, SettingsError, WindowSettings};
pub use snapshot::{Counts, Generation, ProbeCounts, Reason, Snapshot, Span, State, Trip};
pub use sync::LOCK_FREE;
#[cfg(any(failfast_loom, failfast_shuttle))]
#[doc(hidden)]
pub use sync::{Fault, number_thread};
pub use time::Timestamp;
