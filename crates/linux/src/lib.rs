//! The kernel, typed: netlink, nftables, mounts, namespaces, cgroups v1 and v2, seccomp, capabilities. The home of `unsafe`.

pub mod conntrack;
mod error;
pub mod netlink;
pub mod nftables;
pub mod pty;
pub mod scm;

pub use error::{Context, Error, Result, plain};
