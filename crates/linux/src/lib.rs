//! The kernel, typed: netlink, nftables, mounts, namespaces, cgroups v1 and v2, seccomp, capabilities. The home of `unsafe`.

pub mod conntrack;
pub mod netlink;
pub mod nftables;
