//! Gives a pod a network: the plugins, and the runner for foreign ones.
//!
//! A node asks [`Network`] to attach a pod. That runs a list of plugins, ours in process and others' as programs, by
//! the Container Network Interface 1.1. The same plugins answer as programs of their own through [`plugin_main`].
//! `node` keeps what a node needs once: routes to other nodes, masquerading, forwarding.
//!
//! This crate knows nothing of the cluster's API: addresses and ranges come as values.
//!
//! Start reading at [`network`], then [`plugins::routed`].

pub mod cache;
pub mod conflist;
mod error;
pub mod ipam;
pub mod network;
pub mod node;
pub mod plugins;
pub mod runner;
pub mod spec;
pub mod sysctl;

pub use error::{Error, Result};
pub use network::{Attachment, Network, NetworkConfig, PodNetwork, PortMapping, Protocol};
pub use plugins::plugin_main;
