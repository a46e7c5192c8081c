//! Keeps containers: images, snapshots, sandboxes, shim; serves the container runtime protocol.
//!
//! [`Runtime`] is opened once on a data folder and then answers the protocol's messages in process; [`grpc`] serves the
//! same methods on a socket. What happens to containers comes from their shims as events, never from polling, and all
//! pods outlive the daemon: [`Runtime::open`] takes them up again.
//!
//! This crate knows nothing of the cluster's API. Start reading at [`Runtime`], then `pods` and `containers`.

mod adopt;
mod cgroup;
mod check;
mod commands;
mod containers;
mod error;
pub mod grpc;
pub mod image;
mod images;
mod pods;
mod queries;
mod record;
pub mod remains;
mod runtime;
pub mod session;
pub mod shim;
mod spec;
mod stats;
pub mod streaming;

pub use check::{check_file_system, check_host};
pub use error::{Error, Result};
pub use image::registry::read_settings as read_registries;
pub use runtime::{Config, Runtime, serve};
