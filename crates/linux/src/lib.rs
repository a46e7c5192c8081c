//! The kernel, typed: netlink, nftables, mounts, namespaces, cgroups v1 and v2, seccomp, capabilities. The home of `unsafe`.

pub mod capability;
pub mod cgroup;
pub mod conntrack;
mod error;
pub mod mount;
pub mod netlink;
pub mod nftables;
pub mod process;
pub mod pty;
pub mod scm;
pub mod seccomp;

pub use error::{Context, Error, Result, plain};
