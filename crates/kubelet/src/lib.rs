//! Runs a node's pods.
//!
//! ```text
//! pods of this node (API, files) ──> worker (one task a pod) ──> plan (pure) ──> runtime (CRI)
//!                                        ^   │                                     │ events
//!                                        └───┼─────────────────────────────────────┘
//!                                            └──> status (pure) ──> API
//! ```
//! [`spec`] turns a pod into what the runtime is told, [`volumes`] puts its files in place, [`probes`] asks whether it
//! is well, [`server`] answers the API server's requests for logs and streams.

pub mod node_network;
pub mod probes;
pub mod server;
pub mod spec;
pub mod volumes;
