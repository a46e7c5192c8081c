//! What a runtime's data folder has on the host, read without opening it, and ended by force.
//!
//! [`Runtime`](crate::Runtime) removes its pods in order, and asks the network to let them go. This is for what that
//! leaves: records that are damaged, shims that do not answer, processes that nobody recorded.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cri::v1::{ContainerConfig, PodSandboxConfig};
use nix::unistd::Pid;

use crate::record::{self, ContainerRecord, PodRecord};
use crate::shim::group;
use crate::{Error, Result};

/// How long killed processes may take to go.
const ENDING: Duration = Duration::from_secs(20);
/// The usual parent of pods' control groups, as [`Config::new`](crate::Config::new) sets it.
const CGROUP_PARENT: &str = "/skiff";

/// What the records of a data folder tell.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remains {
    root: PathBuf,
    /// How many pods there are.
    pub pods: usize,
    /// Folders of pods' logs.
    pub logs: BTreeSet<PathBuf>,
    /// Control groups of containers and of pods, the inner ones first.
    pub cgroups: Vec<String>,
}

impl Remains {
    /// Reads what can be read of a data folder.
    pub fn read(root: &Path) -> Remains {
        let mut found = Remains { root: root.to_owned(), ..Remains::default() };
        let entries = |kind: &str| fs::read_dir(root.join(kind)).into_iter().flatten().flatten();
        for entry in entries("containers") {
            if let Ok((record, _)) = record::load::<ContainerRecord, ContainerConfig>(&entry.path()) {
                found.cgroups.push(record.cgroup);
            }
        }
        for entry in entries("pods") {
            found.pods += 1;
            let id = entry.file_name().to_string_lossy().into_owned();
            let Ok((_, config)) = record::load::<PodRecord, PodSandboxConfig>(&entry.path()) else { continue };
            if !config.log_directory.is_empty() {
                found.logs.insert(PathBuf::from(&config.log_directory));
            }
            let pod = crate::pods::Pod::new(id, config, PodRecord::default());
            found.cgroups.push(pod.cgroup_parent(CGROUP_PARENT));
        }
        found
    }

    /// Kills shims and containers, waits until they are gone, and removes their control groups. Says how many
    /// processes there were.
    pub fn end(&self) -> Result<usize> {
        let deadline = Instant::now() + ENDING;
        let mut killed = BTreeSet::new();
        loop {
            let mut left = self.processes();
            for group in self.cgroups.iter().filter_map(|path| group(path)) {
                left.extend(group.processes());
                group.signal(libc::SIGKILL).map_err(|e| Error::Internal(e.to_string()))?;
            }
            if left.is_empty() {
                break;
            }
            for pid in left {
                let _ = linux::process::kill(pid, libc::SIGKILL);
                killed.insert(pid);
            }
            if Instant::now() > deadline {
                return Err(Error::Timeout(format!("processes of {} were killed but do not end", self.root.display())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        for group in self.cgroups.iter().filter_map(|path| group(path)) {
            group.remove().map_err(|e| Error::Internal(e.to_string()))?;
        }
        Ok(killed.len())
    }

    /// Shims whose sockets, and processes whose root file systems are in the folder.
    fn processes(&self) -> Vec<Pid> {
        let root = self.root.canonicalize().unwrap_or_else(|_| self.root.clone());
        let roots = [&self.root, &root];
        let own = std::process::id();
        let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
        let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let ours = numbers.filter(|pid| *pid != own).filter(|pid| {
            let process = PathBuf::from(format!("/proc/{pid}"));
            roots.iter().any(|root| is_container(&process, root) || is_shim(&process, root))
        });
        ours.map(|pid| Pid::from_raw(pid.cast_signed())).collect()
    }
}

/// Whether the root of a process is a container's writable layer.
fn is_container(process: &Path, root: &Path) -> bool {
    let mounts = fs::read(process.join("mountinfo")).unwrap_or_default();
    let upper = [b"upperdir=", root.join("containers/").as_os_str().as_bytes()].concat();
    mounts.split(|byte| *byte == b'\n').any(|line| {
        let point = line.split(|byte| *byte == b' ').nth(4);
        point == Some(b"/") && line.windows(upper.len()).any(|part| part == upper)
    })
}

/// Whether a process is a shim that listens in the folder.
fn is_shim(process: &Path, root: &Path) -> bool {
    let command = fs::read(process.join("cmdline")).unwrap_or_default();
    if command.split(|byte| *byte == 0).nth(1) != Some(b"shim") {
        return false;
    }
    // Unix sockets are listed by the network namespace they were made in, which a shim shares with its pod.
    let sockets = fs::read_to_string(process.join("net/unix")).unwrap_or_default();
    let folder = root.join("run/");
    let inside = sockets.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(6);
        let (inode, path) = (fields.next()?, fields.next()?);
        Path::new(path).starts_with(&folder).then(|| format!("socket:[{inode}]"))
    });
    let inside: Vec<String> = inside.collect();
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
    let mut open = open.filter_map(|entry| fs::read_link(entry.path()).ok());
    !inside.is_empty() && open.any(|target| target.to_str().is_some_and(|text| inside.iter().any(|own| own == text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_damaged_ones_passed_over() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(Remains::read(root.path()).pods, 0);
        let pod = root.path().join("pods/one");
        fs::create_dir_all(&pod).unwrap();
        let config = PodSandboxConfig { log_directory: "/var/log/pods/a".to_owned(), ..Default::default() };
        record::save_config(&pod, &config).unwrap();
        record::save(&pod, &PodRecord::default()).unwrap();
        let damaged = root.path().join("pods/two");
        fs::create_dir_all(&damaged).unwrap();
        fs::write(damaged.join("record.json"), "{").unwrap();
        let found = Remains::read(root.path());
        assert_eq!((found.pods, found.cgroups.clone()), (2, vec!["/skiff/one".to_owned()]));
        assert_eq!(found.logs, BTreeSet::from([PathBuf::from("/var/log/pods/a")]));
        assert_eq!(found.end().unwrap(), 0, "nothing runs");
    }

    #[test]
    fn what_others_keep_is_not_ours() {
        let root = tempfile::tempdir().unwrap();
        let own = Path::new("/proc/self");
        assert!(!is_shim(own, root.path()) && !is_container(own, root.path()));
    }
}
