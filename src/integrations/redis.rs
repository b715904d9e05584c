//! Across instances: one outage, learned once, through Redis.
//!
//! Breakers of the same name in many processes share what they know through a Redis or Valkey server: what one has
//! learned (or two, or all together: [`Agreement`]) opens all of them, one of them probes, and whoever finds the callee
//! healthy closes all. [`docs::fleet`](crate::docs::fleet) says what is shared, what is promised, and what it costs.
//!
//! **No call waits for the store.** The local breaker always decides. The store only informs it, from a background task,
//! by what an operator could do by hand; a call makes no command in any state, and when the store is gone each breaker
//! goes on by itself.
//!
//! ```no_run
//! use failfast::CircuitBreaker;
//! use failfast::redis::{Agreement, Fleet};
//! use std::sync::Arc;
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let fleet = Fleet::connect("redis://127.0.0.1").agreement(Agreement::Quorum(2)).await?;
//! let breaker = Arc::new(CircuitBreaker::builder().build()?);
//! fleet.join("payments", &breaker)?;
//!
//! breaker.call_async(|| async { Ok::<_, std::io::Error>("charged") }).await?; // as ever
//! # Ok(())
//! # }
//! ```
// How it is built:
//
//   fleet.rs connect.rs status.rs error.rs agreement.rs tap.rs    what a user sees
//   task.rs                       the only input and output: one task that carries messages, and tells the time
//   member.rs                     the protocol: a state machine for one breaker of one node, without input or output.
//                                 It is fed with the time, with how the local breaker looks, and with what the store
//                                 said; it answers with an act on the breaker and a command to the store
//   command.rs record.rs name.rs  what can be asked, what is answered and told, under which keys
//   script.lua                    what the store does: each command is one run of it
//   store.rs (tests)              the same in Rust, which a test holds against a real server
//   local.rs                      a breaker, whatever its type, through its public methods
//
// So everything that decides is a function of its arguments, and a simulation runs members, breakers on a manual clock,
// and the store's twin, without a server, a task or a timer.

mod agreement;
mod command;
mod connect;
mod error;
mod fleet;
mod local;
mod member;
mod name;
mod record;
mod status;
mod tap;
mod task;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod store;

pub use agreement::{Agreement, Rates};
pub use connect::Connect;
pub use error::{FleetError, StoreError};
pub use fleet::Fleet;
pub use status::{Agreed, Store, StoreEvent};
pub use tap::Tap;
