//! The protocol over gRPC: served on a Unix socket, and asked over one.

mod client;
mod server;

pub use client::{Client, Imported};
pub use server::serve;
