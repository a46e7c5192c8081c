//! Runs a node's pods.
//!
//! ```text
//! pods of this node (API, files) ──> worker (one task a pod) ──> plan (pure) ──> runtime (CRI)
//!                                        ^   │                                     │ events
//!                                        └───┼─────────────────────────────────────┘
//!                                            └──> status (pure) ──> API
//! ```
//! [`spec`] turns a pod into what the runtime is told, [`volumes`] puts its files in place, [`probes`] asks whether it
//! is well, [`server`] answers the API server's requests for logs and streams, [`node`] keeps the node's own object.
//! Start reading at `worker`.

mod admission;
mod folder_watch;
mod hash;
mod hooks;
mod images;
pub mod node;
mod node_agent;
pub mod node_network;
mod observed;
mod plan;
mod pod;
mod pod_groups;
mod probes;
mod resize;
mod restart;
pub mod server;
mod services;
pub mod spec;
mod static_pods;
mod status;
mod termination;
mod volumes;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

pub use node_agent::{Agent, Config};
pub use spec::resources::cgroups_of;

/// Pods that a node takes unless told otherwise.
pub const MAX_PODS: i64 = 110;

/// What keeps a node from running pods.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot make the folder {0}: {1}")]
    Folder(PathBuf, io::Error),
    #[error("cannot listen on {0}: {1}; is another kubelet running?")]
    Listen(SocketAddr, io::Error),
}

pub type Result<T> = std::result::Result<T, Error>;

/// The wall clock, in nanoseconds since 1970.
fn nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// The wall clock, in seconds since 1970.
fn seconds() -> i64 {
    nanos() / 1_000_000_000
}

/// The wall clock as events and annotations have it.
fn now_text() -> String {
    apimachinery::time::rfc3339(seconds())
}
