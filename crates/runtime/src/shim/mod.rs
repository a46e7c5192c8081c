//! The shim of a pod: one small process that keeps the pod's containers while daemons come and go.
//!
//! `skiff shim` is [`run`]; the daemon starts and reaches it by [`ShimClient`]; [`protocol`] is what both speak.
//!
//! ```text
//! daemon ─ skiff shim ─┐                       own session, out of the daemon's control group
//!    │                 └▶ shim (server.rs) ────── starter ── containers
//!    └── socket ─────────▶ calls.rs                 one for each create and exec
//! ```

mod calls;
pub mod client;
mod container;
mod log;
mod pod;
pub mod protocol;
mod record;
mod server;
mod starter;

pub use client::{Events, Exec, ExecExit, Exit, ShimClient, Streams, Terminal};
pub use pod::run;
pub use record::bury;
pub(crate) use record::group;
