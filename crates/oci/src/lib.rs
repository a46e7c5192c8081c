//! Makes a process a container, as the runtime specification tells. No threads, no async: it forks.
//!
//! A *starter*, a short-lived process with one thread, calls [`create`] or [`exec`]. It prepares what takes the host's
//! rights (control group, sources of mounts, namespaces to join), forks the container's process as its own *sibling*
//! so that the long-lived parent becomes its parent, and ends when that process is ready.
//!
//! ```text
//! shim ── fork ──▶ starter ── clone(CLONE_PARENT) ──▶ init            (create.rs, exec.rs)
//!   ▲                │ control group, mappings, "go" ──▶│ mounts, root (rootfs/), console
//!   │                │◀── terminal, "ready" or why not ─│ rights, filter (identity.rs)
//!   └────── gate: a byte starts it, text tells why not ─┘ executes the program (init.rs)
//! ```
//!
//! It must not know of pods, images, or the protocol that asks for all this. Start reading at [`create`].

mod channel;
mod create;
mod error;
mod exec;
mod filter;
mod identity;
mod init;
mod limits;
mod namespaces;
mod rootfs;

use std::os::fd::OwnedFd;

pub use create::{Create, Created, cgroup_of, create, load_spec};
pub use error::{Error, Result};
pub use exec::{Exec, exec};
pub use limits::{device_rules, limits};
pub use namespaces::{enter_new, map_users};
pub use rootfs::set_sysctl;

/// What a process has as standard input, output and error.
#[derive(Debug)]
pub enum Stdio {
    /// These descriptors.
    Streams([OwnedFd; 3]),
    /// A terminal of the container's own, whose master side is handed back.
    Terminal,
}
