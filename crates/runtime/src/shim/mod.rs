//! The shim of a pod: one small process that keeps the pod's containers while daemons come and go.
//!
//! `skiff shim` is [`run`]; the daemon starts and reaches it by [`ShimClient`]; [`protocol`] is what both speak.

pub mod client;
pub mod protocol;

pub use client::{Exec, Exit, ShimClient, Streams};
