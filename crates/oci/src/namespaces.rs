//! Namespaces: those of a specification, those of a running process, and the users of a new one.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use linux::Context;
use linux::process::namespace;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Spec};

use crate::{Error, Result};

/// What a container shares and what it has of its own.
#[derive(Debug, Default)]
pub struct Plan {
    /// To be joined, users first, mounts last.
    join: Vec<(LinuxNamespaceType, PathBuf)>,
    /// To be made at the fork.
    pub new: u64,
    /// Made by the process itself once it is in its control group, which a namespace takes for its root.
    pub new_cgroup: bool,
}

impl Plan {
    pub fn of(spec: &Spec) -> Result<Self> {
        let mut plan = Self::default();
        let listed = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
        for entry in listed.into_iter().flatten() {
            match (entry.path(), entry.typ()) {
                (Some(path), kind) if !path.as_os_str().is_empty() => plan.join.push((kind, path.clone())),
                (_, LinuxNamespaceType::Cgroup) => plan.new_cgroup = true,
                (_, kind) => plan.new |= kind as u64,
            }
        }
        plan.join.sort_by_key(|(kind, _)| *kind != LinuxNamespaceType::User);
        if plan.new & namespace::MOUNT == 0 {
            return Err(Error::spec("a container needs a mount namespace of its own"));
        }
        if plan.new & namespace::TIME != 0 {
            return Err(Error::spec("new time namespaces are not supported"));
        }
        Ok(plan)
    }

    /// Whether the container has its own namespace of a kind, new or joined.
    pub fn isolates(&self, kind: LinuxNamespaceType) -> bool {
        let new = match kind {
            LinuxNamespaceType::Cgroup => self.new_cgroup,
            kind => self.new & kind as u64 != 0,
        };
        new || self.join.iter().any(|(joined, _)| *joined == kind)
    }

    /// Where a joined namespace is.
    pub fn joined(&self, kind: LinuxNamespaceType) -> Option<&PathBuf> {
        self.join.iter().find(|(joined, _)| *joined == kind).map(|(_, path)| path)
    }

    /// Enters what is joined. A process namespace only takes the children that are forked from now on.
    pub fn join(&self) -> Result<()> {
        let mut open = Vec::new();
        for (kind, path) in &self.join {
            let file = File::open(path).context(|| format!("cannot open namespace {}", path.display()))?;
            open.push((kind, path, file));
        }
        for (kind, path, file) in open {
            // Entering the user namespace that one is in is an error, and needless for all.
            if same(&file, *kind) {
                continue;
            }
            setns(file.as_fd(), CloneFlags::empty()).context(|| format!("cannot join namespace {}", path.display()))?;
        }
        Ok(())
    }
}

const FILES: [(LinuxNamespaceType, &str); 8] = [
    (LinuxNamespaceType::User, "user"),
    (LinuxNamespaceType::Cgroup, "cgroup"),
    (LinuxNamespaceType::Ipc, "ipc"),
    (LinuxNamespaceType::Uts, "uts"),
    (LinuxNamespaceType::Network, "net"),
    (LinuxNamespaceType::Pid, "pid"),
    (LinuxNamespaceType::Time, "time"),
    (LinuxNamespaceType::Mount, "mnt"),
];

fn same(file: &File, kind: LinuxNamespaceType) -> bool {
    let Some((_, name)) = FILES.iter().find(|(known, _)| *known == kind) else { return false };
    let (own, other) = (fs::metadata(format!("/proc/self/ns/{name}")), file.metadata());
    matches!((own, other), (Ok(own), Ok(other)) if own.ino() == other.ino() && own.dev() == other.dev())
}

/// Whether a process is in another user namespace.
pub fn has_other_users(pid: Pid) -> bool {
    File::open(format!("/proc/{pid}/ns/user")).is_ok_and(|file| !same(&file, LinuxNamespaceType::User))
}

/// Enters all namespaces of a process; its root becomes the caller's.
pub fn enter(pid: Pid) -> Result<()> {
    let gone = || format!("cannot enter the namespaces of process {pid}");
    let mut open = Vec::new();
    for (kind, name) in FILES {
        let file = File::open(format!("/proc/{pid}/ns/{name}")).context(gone)?;
        if !same(&file, kind) {
            open.push(file);
        }
    }
    for file in open {
        setns(file.as_fd(), CloneFlags::empty()).context(gone)?;
    }
    Ok(())
}

/// Moves the calling process to new namespaces, by flags of `clone`.
pub fn enter_new(flags: u64) -> Result<()> {
    let flags = CloneFlags::from_bits_truncate(flags as i32);
    Ok(unshare(flags).context(|| "cannot make namespaces")?)
}

/// Gives a process in a new user namespace its users and groups.
pub fn map_users(pid: Pid, users: &[LinuxIdMapping], groups: &[LinuxIdMapping]) -> Result<()> {
    for (name, mappings) in [("uid_map", users), ("gid_map", groups)] {
        let line = |m: &LinuxIdMapping| format!("{} {} {}\n", m.container_id(), m.host_id(), m.size());
        let text: String = mappings.iter().map(line).collect();
        let file = format!("/proc/{pid}/{name}");
        fs::write(&file, text).context(|| format!("cannot write {file}"))?;
    }
    Ok(())
}
