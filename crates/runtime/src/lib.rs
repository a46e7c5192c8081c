//! Keeps containers: images, snapshots, sandboxes, shim; serves the container runtime protocol.

mod error;
pub mod image;
pub mod shim;

pub use error::{Error, Result};
