//! Making a container: the starter's part.

use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use linux::Context;
use linux::cgroup::{Cgroup, Layout};
use linux::process::{Fork, namespace};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::channel::{Channel, Said};
use crate::identity::{Identity, adjust_oom_score};
use crate::init::{self, Init};
use crate::limits::{device_rules, limits};
use crate::namespaces::{Plan as Namespaces, map_users};
use crate::rootfs::Plan as Rootfs;
use crate::{Error, Result, Stdio};

/// The longest specification that is read.
const MAX_SPEC: u64 = 16 << 20;

/// A container to be made.
#[derive(Debug)]
pub struct Create<'a> {
    /// What it shall be.
    pub spec: &'a Spec,
    /// The folder that relative paths are relative to.
    pub bundle: &'a Path,
    /// Its standard streams.
    pub stdio: Stdio,
    /// A byte from its other end has the program executed; what comes back is why it could not be. Closed unread: it
    /// was executed.
    pub gate: OwnedFd,
    /// Makes the process a child of the caller's parent.
    pub sibling: bool,
}

/// A container that waits at its gate.
#[derive(Debug)]
pub struct Created {
    /// Its first process.
    pub pid: Pid,
    /// The master side of its terminal.
    pub terminal: Option<OwnedFd>,
}

/// Reads the specification of a bundle.
pub fn load_spec(bundle: &Path) -> Result<Spec> {
    let path = bundle.join("config.json");
    let failed = |reason: String| Error::Bundle { path: path.clone(), reason };
    let size = fs::metadata(&path).map_err(|e| failed(linux::plain(&e)))?.len();
    if size > MAX_SPEC {
        return Err(failed(format!("{size} bytes are too many")));
    }
    let bytes = fs::read(&path).map_err(|e| failed(linux::plain(&e)))?;
    serde_json::from_slice(&bytes).map_err(|e| failed(e.to_string()))
}

/// The control group of a specification, if it names one.
pub fn cgroup_of(spec: &Spec) -> Result<Option<Cgroup>> {
    let path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().as_ref());
    let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else { return Ok(None) };
    Ok(Some(Cgroup::new(Layout::detect()?, &path.to_string_lossy())?))
}

/// Makes a container up to the execution of its program. `forked` hears of its process as soon as there is one. For a
/// process with one thread, which should end soon after: it may leave its own namespaces.
///
/// On failure the process ends by itself and the control group is left for the caller to remove.
pub fn create(create: Create<'_>, forked: impl FnOnce(Pid)) -> Result<Created> {
    let spec = create.spec;
    if spec.hooks().is_some() {
        return Err(Error::spec("hooks are not supported"));
    }
    let process = spec.process().as_ref().ok_or_else(|| Error::spec("a container needs a process"))?;
    let linux_part = spec.linux().as_ref().ok_or_else(|| Error::spec("a container needs a linux section"))?;
    let identity = Identity::of(process, linux_part.seccomp().as_ref())?;
    let namespaces = Namespaces::of(spec)?;
    let cgroup = cgroup_of(spec)?;
    if let Some(cgroup) = &cgroup {
        cgroup.create()?;
        if let Some(resources) = linux_part.resources() {
            cgroup.limit(&limits(resources))?;
            if let Some(rules) = resources.devices() {
                cgroup.allow_devices(&device_rules(rules))?;
            }
        }
    }
    let users = namespaces.joined(LinuxNamespaceType::User).map(File::open).transpose();
    let users = users.context(|| "cannot open the user namespace")?;
    let users = users.as_ref().map(AsFd::as_fd);
    let rootfs = Rootfs::of(spec, create.bundle, &namespaces, cgroup.as_ref(), users)?;
    let doors = cgroup.as_ref().map(Cgroup::open_doors).transpose()?.unwrap_or_default();
    // The process inherits it; one of its own user namespace could not lower it.
    adjust_oom_score(process.oom_score_adj().unwrap_or(0))?;
    if namespaces.isolates(LinuxNamespaceType::User) {
        linux::process::set_dumpable(true).context(|| "cannot become dumpable")?;
    }
    namespaces.join()?;
    let (here, there) = Channel::pair()?;
    let own = Init {
        identity: &identity,
        rootfs: Some(&rootfs),
        stdio: &create.stdio,
        new_cgroup: namespaces.new_cgroup,
        hostname: spec.hostname().as_deref().filter(|name| !name.is_empty() && namespaces.new & namespace::UTS != 0),
        domainname: spec
            .domainname()
            .as_deref()
            .filter(|name| !name.is_empty() && namespaces.new & namespace::UTS != 0),
        become_root: namespaces.isolates(LinuxNamespaceType::User),
        console_size: process.console_size().map(|size| (size.width() as u16, size.height() as u16)),
        gate: Some(create.gate.as_fd()),
    };
    let fork = Fork { namespaces: namespaces.new, sibling: create.sibling, cgroup: None };
    let channel = &there;
    let pid = fork.run(|| init::run(&own, channel)).context(|| "cannot fork")?;
    drop(there);
    forked(pid);
    for door in &doors {
        door.add(pid)?;
    }
    if namespaces.new & namespace::USER != 0 {
        let mappings = |list: &Option<Vec<_>>| list.clone().unwrap_or_default();
        map_users(pid, &mappings(linux_part.uid_mappings()), &mappings(linux_part.gid_mappings()))?;
    }
    here.go()?;
    let terminal = wait(&here, Said::is_ready)?;
    Ok(Created { pid, terminal })
}

/// Hears the new process out until `done`.
pub(crate) fn wait(channel: &Channel, done: fn(&Said) -> bool) -> Result<Option<OwnedFd>> {
    let mut terminal = None;
    loop {
        let said = channel.hear()?;
        if done(&said) {
            return Ok(terminal);
        }
        match said {
            Said::Terminal(master) => terminal = Some(master),
            Said::Failed(why) => return Err(Error::Process(why)),
            Said::Ready => {}
            Said::Closed => return Err(Error::Process("it ended before its program was executed".to_owned())),
        }
    }
}
