//! Another process in a running container: the starter's part.

use std::os::fd::OwnedFd;

use linux::cgroup::Cgroup;
use linux::process::Fork;
use linux::{Context, process};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxSeccomp, Process};

use crate::channel::{Channel, Said};
use crate::identity::{Identity, adjust_oom_score};
use crate::init::{self, Init};
use crate::{Created, Result, Stdio, create, namespaces};

/// A process to be run.
#[derive(Debug)]
pub struct Exec<'a> {
    /// What to run.
    pub process: &'a Process,
    /// The container's filter.
    pub seccomp: Option<&'a LinuxSeccomp>,
    /// The container's first process.
    pub target: Pid,
    /// The container's control group.
    pub cgroup: Option<&'a Cgroup>,
    /// Its standard streams.
    pub stdio: Stdio,
    /// Makes the process a child of the caller's parent.
    pub sibling: bool,
}

/// Runs a process in a running container; returns once its program is executed. For a process with one thread, which
/// should end soon after: it leaves its own namespaces.
pub fn exec(exec: Exec<'_>, forked: impl FnOnce(Pid)) -> Result<Created> {
    let identity = Identity::of(exec.process, exec.seccomp)?;
    let doors = exec.cgroup.map(Cgroup::open_doors).transpose()?.unwrap_or_default();
    adjust_oom_score(exec.process.oom_score_adj().unwrap_or(0))?;
    let (here, there) = Channel::pair()?;
    let own_users = namespaces::has_other_users(exec.target);
    let handle: OwnedFd = process::pidfd(exec.target).context(|| "the container's process is gone")?;
    namespaces::enter(exec.target)?;
    // Had the process ended meanwhile, its number could have been another's.
    process::signal_by(&handle, 0).context(|| "the container's process is gone")?;
    let init = Init {
        identity: &identity,
        rootfs: None,
        stdio: &exec.stdio,
        new_cgroup: false,
        hostname: None,
        domainname: None,
        become_root: own_users,
        console_size: exec.process.console_size().map(|size| (size.width() as u16, size.height() as u16)),
        gate: None,
    };
    let channel = &there;
    let fork = Fork { namespaces: 0, sibling: exec.sibling, cgroup: None };
    let pid = fork.run(|| init::run(&init, channel)).context(|| "cannot fork")?;
    drop(there);
    forked(pid);
    for door in &doors {
        door.add(pid)?;
    }
    here.go()?;
    let terminal = create::wait(&here, Said::is_closed)?;
    Ok(Created { pid, terminal })
}
