//! The container runtime protocol.
//!
//! Messages, client and server of CRI v1 as upstream defines them; [`v1`] is drafted by `cargo xtask import-protos`.
//! This crate knows nothing of how containers are kept.

#[allow(clippy::all, missing_docs, rustdoc::all)]
#[rustfmt::skip]
pub mod archives;
#[allow(clippy::all, missing_docs, rustdoc::all)]
#[rustfmt::skip]
pub mod v1;
