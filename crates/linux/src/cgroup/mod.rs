//! Control groups of both versions behind one type: made, limited, joined, frozen, killed, read, removed.
//!
//! ```text
//! version 2           /sys/fs/cgroup/<path>                          all controllers
//! version 1 (hybrid)  /sys/fs/cgroup/{cpu,memory,pids,…}/<path>      a controller each
//!                     /sys/fs/cgroup/unified/<path>                  kill, freeze, birth
//! ```

mod devices;
mod stats;
mod v1;
mod v2;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::error::{Context, Error, Result};
use crate::mount;

pub use devices::{DeviceKind, DeviceRule};
pub use stats::{Memory, Stats};

/// What a group may use; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Share of the processor, as version 1 counts it (1024 is usual).
    pub cpu_shares: Option<u64>,
    /// Processor time in microseconds per period; -1 for no limit.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Microseconds that may be saved up.
    pub cpu_burst: Option<u64>,
    /// Processors, as `0-2,5`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes.
    pub cpuset_mems: Option<String>,
    /// Bytes of memory; -1 for no limit.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together; -1 for no limit.
    pub memory_and_swap: Option<i64>,
    /// Bytes below which memory is taken last.
    pub memory_reservation: Option<i64>,
    /// How readily memory is swapped, on version 1.
    pub swappiness: Option<u64>,
    /// Keeps the kernel from killing for want of memory, on version 1.
    pub disable_oom_killer: Option<bool>,
    /// Processes; 0 or less for no limit.
    pub pids: Option<i64>,
    /// Bytes of huge pages by size, as `2MB`.
    pub huge_pages: Vec<(String, i64)>,
    /// Weight of block I/O, from 10 to 1000.
    pub block_weight: Option<u16>,
    /// Files of version 2 and what to write into them.
    pub unified: Vec<(String, String)>,
}

/// A hierarchy of version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    controllers: Vec<String>,
    mount: PathBuf,
}

/// Where control groups are on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Layout {
    /// All controllers in the unified hierarchy.
    Unified {
        /// Where it is mounted.
        mount: PathBuf,
    },
    /// Controllers in hierarchies of version 1.
    Split(Split),
}

/// Hierarchies of version 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    hierarchies: Vec<Hierarchy>,
    /// The unified hierarchy beside them, without the usual controllers.
    unified: Option<PathBuf>,
}

impl Layout {
    /// Looks where control groups are mounted.
    pub fn detect() -> Result<Self> {
        let mounts = mount::list().context(|| "cannot read the mounts")?;
        let controllers = ["cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "freezer", "blkio", "hugetlb"];
        let rest = ["net_cls", "net_prio", "perf_event", "rdma", "misc", "name=systemd"];
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for mount in mounts.iter().filter(|mount| mount.kind == "cgroup") {
            let options = mount.options.split(',');
            let known = options.filter(|option| controllers.contains(option) || rest.contains(option));
            let known: Vec<String> = known.map(str::to_owned).collect();
            let again = hierarchies.iter().any(|other| other.controllers == known);
            if !known.is_empty() && !again {
                hierarchies.push(Hierarchy { controllers: known, mount: mount.point.clone() });
            }
        }
        let unified = mounts.iter().find(|mount| mount.kind == "cgroup2").map(|mount| mount.point.clone());
        let has_memory = hierarchies.iter().any(|h| h.controllers.iter().any(|c| c == "memory" || c == "cpu"));
        match (has_memory, unified) {
            (true, unified) => Ok(Layout::Split(Split { hierarchies, unified })),
            (false, Some(mount)) => Ok(Layout::Unified { mount }),
            (false, None) => Err(Error::invalid("no control groups are mounted on this host")),
        }
    }

    /// Where its hierarchies are mounted, in the order of [`Cgroup::folders`].
    pub fn mounts(&self) -> Vec<PathBuf> {
        match self {
            Layout::Unified { mount } => vec![mount.clone()],
            Layout::Split(split) => split.hierarchies.iter().map(|h| &h.mount).chain(&split.unified).cloned().collect(),
        }
    }

    /// Whether all controllers are in the unified hierarchy.
    pub fn is_unified(&self) -> bool {
        matches!(self, Layout::Unified { .. })
    }
}

/// A control group, which may not exist yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    layout: Layout,
    path: PathBuf,
}

impl Cgroup {
    /// The group of this path, from the root of the mounts.
    pub fn new(layout: Layout, path: &str) -> Result<Self> {
        let relative = Path::new(path.trim_start_matches('/'));
        let plain = relative.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !plain || relative.as_os_str().is_empty() || path.contains('\0') {
            return Err(Error::invalid(format!("control group path {path:?}")));
        }
        Ok(Self { layout, path: relative.to_owned() })
    }

    /// The group as a path from the root of the mounts.
    pub fn path(&self) -> String {
        format!("/{}", self.path.display())
    }

    /// Its folders, one in each hierarchy.
    pub fn folders(&self) -> Vec<PathBuf> {
        match &self.layout {
            Layout::Unified { mount } => vec![mount.join(&self.path)],
            Layout::Split(split) => {
                let mounts = split.hierarchies.iter().map(|h| &h.mount).chain(&split.unified);
                mounts.map(|mount| mount.join(&self.path)).collect()
            }
        }
    }

    /// Its folder in the hierarchy of a controller.
    fn folder(&self, controller: &str) -> Option<PathBuf> {
        match &self.layout {
            Layout::Unified { mount } => Some(mount.join(&self.path)),
            Layout::Split(split) => {
                let has = |h: &&Hierarchy| h.controllers.iter().any(|name| name == controller);
                split.hierarchies.iter().find(has).map(|h| h.mount.join(&self.path))
            }
        }
    }

    /// Its folder in the unified hierarchy, if there is one.
    pub fn unified_folder(&self) -> Option<PathBuf> {
        match &self.layout {
            Layout::Unified { mount } => Some(mount.join(&self.path)),
            Layout::Split(split) => split.unified.as_ref().map(|mount| mount.join(&self.path)),
        }
    }

    /// Whether it exists anywhere.
    pub fn exists(&self) -> bool {
        self.folders().iter().any(|folder| folder.is_dir())
    }

    /// Makes it with all above it.
    pub fn create(&self) -> Result<()> {
        match &self.layout {
            Layout::Unified { mount } => v2::create(mount, &self.path),
            Layout::Split(split) => v1::create(split, &self.path),
        }
    }

    /// Limits what it may use.
    pub fn limit(&self, limits: &Limits) -> Result<()> {
        match &self.layout {
            Layout::Unified { .. } => v2::limit(self, limits),
            Layout::Split(_) => v1::limit(self, limits),
        }
    }

    /// Says which devices it may use; the last rule that fits a device counts.
    pub fn allow_devices(&self, rules: &[DeviceRule]) -> Result<()> {
        match &self.layout {
            Layout::Unified { mount } => devices::attach(&mount.join(&self.path), rules),
            Layout::Split(_) => v1::allow_devices(self, rules),
        }
    }

    /// Moves a process here.
    pub fn add(&self, pid: Pid) -> Result<()> {
        for door in self.open_doors()? {
            door.add(pid)?;
        }
        Ok(())
    }

    /// Moves a process only where services are kept apart, which costs less than all hierarchies.
    pub fn add_for_tracking(&self, pid: Pid) -> Result<()> {
        let Layout::Split(split) = &self.layout else { return self.add(pid) };
        let tracking = |h: &&Hierarchy| h.controllers.iter().any(|name| name == "name=systemd");
        let mounts = split.hierarchies.iter().filter(tracking).map(|h| &h.mount).chain(&split.unified);
        for mount in mounts {
            let folder = mount.join(&self.path);
            fs::create_dir_all(&folder).context(|| folder.display().to_string())?;
            Door::open(&folder)?.add(pid)?;
        }
        Ok(())
    }

    /// Opens what takes processes in, to be used also after rights were given up.
    pub fn open_doors(&self) -> Result<Vec<Door>> {
        let mut doors = Vec::new();
        for folder in self.folders() {
            if folder.is_dir() {
                doors.push(Door::open(&folder)?);
            }
        }
        Ok(doors)
    }

    /// The processes in it and in the groups inside it.
    pub fn processes(&self) -> Vec<Pid> {
        let folder = match &self.layout {
            Layout::Unified { mount } => Some(mount.join(&self.path)),
            Layout::Split(split) => {
                self.folder("pids").or_else(|| split.hierarchies.first().map(|h| h.mount.join(&self.path)))
            }
        };
        let mut found = Vec::new();
        if let Some(folder) = folder {
            collect(&folder, &mut found);
        }
        found
    }

    /// Sends a signal to every process in it.
    pub fn signal(&self, signal: i32) -> Result<()> {
        if signal == libc::SIGKILL && self.kill_at_once() {
            return Ok(());
        }
        // Whatever is forked meanwhile is found by another pass.
        for _ in 0..10 {
            let processes = self.processes();
            for pid in &processes {
                match crate::process::kill(*pid, signal) {
                    Err(error) if error.raw_os_error() != Some(libc::ESRCH) => {
                        return Err(error).context(|| format!("cannot signal process {pid}"));
                    }
                    _ => {}
                }
            }
            if processes.is_empty() || signal != libc::SIGKILL {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Kills by one write where the kernel can; on version 1 the groups beside must hold the same processes.
    fn kill_at_once(&self) -> bool {
        let Some(folder) = self.unified_folder() else { return false };
        let written = write(&folder.join("cgroup.kill"), "1").is_ok();
        written && (self.layout.is_unified() || self.processes().is_empty())
    }

    /// Stops its processes where they are, or lets them go on.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        match self.unified_folder().map(|folder| folder.join("cgroup.freeze")).filter(|file| file.exists()) {
            Some(file) => write(&file, if frozen { "1" } else { "0" }),
            None => v1::freeze(self, frozen),
        }
    }

    /// How many of its processes the kernel has killed for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let file = match &self.layout {
            Layout::Unified { mount } => Some(mount.join(&self.path).join("memory.events")),
            Layout::Split(_) => self.folder("memory").map(|folder| folder.join("memory.oom_control")),
        };
        let text = file.and_then(|file| fs::read_to_string(file).ok()).unwrap_or_default();
        stats::field(&text, "oom_kill")
    }

    /// What it uses.
    pub fn stats(&self) -> Stats {
        stats::read(self)
    }

    /// Removes it with the groups inside it, waiting a little for killed processes to go.
    pub fn remove(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(2);
        for folder in self.folders() {
            loop {
                match remove_below(&folder) {
                    Ok(()) => break,
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < deadline => {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    Err(error) => return Err(error).context(|| format!("cannot remove {}", folder.display())),
                }
            }
        }
        Ok(())
    }
}

/// Takes processes into a group of one hierarchy. The kernel looks at the rights of who opened it.
#[derive(Debug)]
pub struct Door {
    file: File,
    folder: PathBuf,
}

impl Door {
    fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("cgroup.procs");
        let file = OpenOptions::new().write(true).open(&path).context(|| path.display().to_string())?;
        Ok(Self { file, folder: folder.to_owned() })
    }

    /// Moves a process in.
    pub fn add(&self, pid: Pid) -> Result<()> {
        let said = pid.to_string();
        (&self.file)
            .write_all(said.as_bytes())
            .context(|| format!("cannot move a process to {}", self.folder.display()))
    }
}

impl AsRawFd for Door {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.file.as_raw_fd()
    }
}

fn collect(folder: &Path, found: &mut Vec<Pid>) {
    let text = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    found.extend(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).map(Pid::from_raw));
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), found);
        }
    }
}

fn remove_below(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_below(&entry.path())?;
        }
    }
    match fs::remove_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn write(file: &Path, value: &str) -> Result<()> {
    let written = OpenOptions::new().write(true).open(file).and_then(|mut open| open.write_all(value.as_bytes()));
    written.context(|| format!("cannot write {value:?} to {}", file.display()))
}

/// Writes where the file exists: a kernel or host without it cannot limit that.
fn write_if_there(file: &Path, value: &str) -> Result<()> {
    match write(file, value) {
        Err(error) if error.errno() == Errno::ENOENT => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_do_not_lead_out() {
        let layout = Layout::detect().unwrap();
        for bad in ["", "/", "../x", "/a/../../b", "a/\0"] {
            assert!(Cgroup::new(layout.clone(), bad).is_err(), "{bad:?}");
        }
        assert_eq!(Cgroup::new(layout, "/a/b").unwrap().path(), "/a/b");
    }
}
