//! The live view of `examples/live`, in a real browser: what it shows, what its buttons do, and whom it refuses.

mod browser;
mod demo;
mod hand;
mod page;
mod refused;
mod site;

#[path = "../../../examples/live/control.rs"]
mod control;
#[path = "../../../examples/live/events.rs"]
mod events;
#[path = "../../../examples/live/guard.rs"]
mod guard;
#[path = "../../../examples/live/seen.rs"]
mod seen;
#[path = "../../../examples/live/server.rs"]
mod server;
#[path = "../../../examples/live/view.rs"]
mod view;
