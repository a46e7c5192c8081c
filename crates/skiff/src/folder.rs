//! The data folder of a daemon: one daemon at a time, and a record of who that is and what it made outside.
//!
//! ```text
//! <data>/daemon.lock   locked while a daemon runs here
//! <data>/daemon.json   who runs here or ran here last, and what was made outside of this folder, for `skiff reset`
//! ```

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::process::Process;

/// The format of data folders that this version writes, and the newest it reads.
const FORMAT: u32 = 1;
pub const LOCK: &str = "daemon.lock";
pub const RECORD: &str = "daemon.json";
/// How often a folder is tried that a daemon which is just ending may still hold, and the wait in between.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// What a daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Server,
    Agent,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Role::Server => "server",
            Role::Agent => "agent",
        })
    }
}

/// A node that runs pods on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub name: String,
    /// Which network it is on, as [`crate::host::network`] names it.
    pub network: u64,
}

/// What was made outside of the data folder.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outside {
    /// Files for clients of this cluster.
    pub kubeconfigs: Vec<PathBuf>,
    pub sockets: Vec<PathBuf>,
    /// Folders that did not exist, outer ones first.
    pub folders: Vec<PathBuf>,
    /// Control groups that did not exist.
    pub cgroups: Vec<String>,
}

/// What is known of the daemon of a data folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// The program's version.
    pub version: String,
    pub role: Role,
    pub process: Process,
    /// Where the API is reached.
    pub url: String,
    /// The node, if there is or was one.
    pub node: Option<Node>,
    #[serde(default)]
    pub outside: Outside,
}

impl Record {
    /// Reads the record of a data folder, if it has one.
    pub fn read(folder: &Path) -> anyhow::Result<Option<Record>> {
        /// What every later format keeps.
        #[derive(Deserialize)]
        struct Head {
            format: u32,
            version: String,
        }
        let path = folder.join(RECORD);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let damaged = || format!("{} is damaged: restore it from a backup, or remove it", path.display());
        let head: Head = serde_json::from_slice(&text).with_context(damaged)?;
        ensure!(
            head.format <= FORMAT,
            "the data folder {} was written by Skiff {}, which is newer than this one ({}): use that version, or \
             choose another folder with --data-dir",
            folder.display(),
            head.version,
            env!("CARGO_PKG_VERSION"),
        );
        serde_json::from_slice(&text).map(Some).with_context(damaged)
    }
}

/// A data folder that this process has for itself.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    record: Record,
    /// Whether there was no such folder.
    new: bool,
    _lock: Flock<File>,
}

impl Folder {
    /// Takes a folder for this process, and records that it does. A folder that is missing is made.
    pub fn claim(path: &Path, role: Role, url: &str, node: Option<Node>) -> anyhow::Result<Folder> {
        // Before anything is touched.
        let old = Record::read(path)?;
        let new = !path.exists();
        pki::file::private_dir(path)?;
        let lock = lock(path, TRIES)?;
        let record = Record {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            role,
            process: Process::current()?,
            url: url.to_owned(),
            // Its pods and tables may still be there though this daemon runs without a node.
            node: node.or(old.as_ref().and_then(|old| old.node.clone())),
            outside: old.map(|old| old.outside).unwrap_or_default(),
        };
        let folder = Folder { path: path.to_owned(), record, new, _lock: lock };
        folder.write()?;
        Ok(folder)
    }

    /// Gives a folder up in which nothing was made yet; one that did not exist before goes.
    pub fn abandon(self) {
        if self.new {
            for name in [RECORD, LOCK] {
                let _ = fs::remove_file(self.path.join(name));
            }
            let _ = fs::remove_dir(&self.path);
        }
    }

    fn write(&self) -> anyhow::Result<()> {
        let text = serde_json::to_vec_pretty(&self.record)?;
        pki::file::write_private(&self.path.join(RECORD), &text, pki::file::Durability::Synced)?;
        Ok(())
    }

    /// Records things outside of the folder that are about to be made.
    pub fn will_make(&mut self, outside: Outside) -> anyhow::Result<()> {
        let known = &mut self.record.outside;
        let before = known.clone();
        let own = |path: &PathBuf| !path.starts_with(&self.path);
        known.kubeconfigs.extend(fresh(outside.kubeconfigs, &before.kubeconfigs).filter(own));
        known.sockets.extend(fresh(outside.sockets, &before.sockets).filter(own));
        for folder in outside.folders {
            let mut missing: Vec<PathBuf> =
                folder.ancestors().filter(|path| !path.exists()).map(Path::to_owned).filter(own).collect();
            missing.reverse();
            let already = known.folders.clone();
            known.folders.extend(fresh(missing, &already));
        }
        let layout = linux::cgroup::Layout::detect().ok();
        let absent = |group: &String| {
            let group = layout.clone().and_then(|layout| linux::cgroup::Cgroup::new(layout, group).ok());
            group.is_some_and(|group| !group.exists())
        };
        known.cgroups.extend(fresh(outside.cgroups, &before.cgroups).filter(absent));
        if *known != before { self.write() } else { Ok(()) }
    }
}

/// Those that are not known yet.
fn fresh<T: PartialEq>(all: Vec<T>, known: &[T]) -> impl Iterator<Item = T> {
    all.into_iter().filter(|one| !known.contains(one))
}

/// Opens a file that is there to be locked.
pub fn open_lock(path: &Path) -> anyhow::Result<File> {
    let opened = File::options().create(true).truncate(false).read(true).write(true).mode(0o600).open(path);
    opened.with_context(|| format!("cannot open {}", path.display()))
}

/// Locks a folder against daemons.
pub fn lock(folder: &Path, tries: u32) -> anyhow::Result<Flock<File>> {
    let path = folder.join(LOCK);
    let mut file = open_lock(&path)?;
    for left in (0..tries).rev() {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, nix::errno::Errno::EWOULDBLOCK)) => file = back,
            Err((_, errno)) => return Err(errno).with_context(|| format!("cannot lock {}", path.display())),
        }
        if left > 0 {
            std::thread::sleep(PAUSE);
        }
    }
    let holder = match Record::read(folder)?.filter(|record| record.process.is_alive()) {
        Some(record) => format!("a Skiff {} ({})", record.role, record.process),
        None => "another process".to_owned(),
    };
    bail!(
        "the data folder {} is held by {holder}: stop it first, or choose another folder with --data-dir",
        folder.display()
    );
}

/// Says plainly when this user may not look into a data folder.
pub fn check_access(folder: &Path) -> anyhow::Result<()> {
    ensure!(
        !fs::read_dir(folder).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied),
        "the data folder {} may be read by its owner alone: run this as root, or as the user of the server",
        folder.display()
    );
    Ok(())
}

/// Whether a daemon has the folder.
pub fn is_held(folder: &Path) -> anyhow::Result<bool> {
    let file = match File::open(folder.join(LOCK)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).with_context(|| format!("cannot look into {}", folder.display())),
    };
    // Shared: two who ask do not take each other for a daemon.
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(false),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, errno)) => Err(errno).with_context(|| format!("cannot look into {}", folder.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(path: &Path) -> anyhow::Result<Folder> {
        Folder::claim(path, Role::Server, "https://127.0.0.1:6443", None)
    }

    #[test]
    fn a_folder_has_one_daemon() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("data");
        assert!(!is_held(&path).unwrap(), "there is none yet");
        let held = claim(&path).unwrap();
        assert!(is_held(&path).unwrap());
        let message = format!("{:#}", lock(&path, 1).unwrap_err());
        let expected = format!("is held by a Skiff server (process {}): stop it first", std::process::id());
        assert!(message.contains(&expected), "{message}");
        drop(held);
        assert!(!is_held(&path).unwrap());
        claim(&path).unwrap().abandon();
        assert!(path.exists(), "it was there before");
        claim(&path.with_extension("new")).unwrap().abandon();
        assert!(!path.with_extension("new").exists());
    }

    #[test]
    fn what_is_made_outside_is_recorded_once_and_kept() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("data");
        let etc = place.path().join("etc");
        let wanted = || Outside {
            kubeconfigs: vec![etc.join("skiff/kubeconfig"), path.join("kubeconfig")],
            folders: vec![etc.join("skiff")],
            ..Outside::default()
        };
        let mut folder = claim(&path).unwrap();
        folder.will_make(wanted()).unwrap();
        let expected = Outside {
            kubeconfigs: vec![etc.join("skiff/kubeconfig")],
            folders: vec![etc.clone(), etc.join("skiff")],
            ..Outside::default()
        };
        assert_eq!(folder.record.outside, expected);
        fs::create_dir_all(etc.join("skiff")).unwrap();
        drop(folder);
        let mut again = claim(&path).unwrap();
        again.will_make(wanted()).unwrap();
        assert_eq!(Record::read(&path).unwrap().unwrap().outside, expected, "what is there now was made by us");
    }

    #[test]
    fn a_folder_of_a_newer_version_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let text = r#"{"format": 2, "version": "9.0.0", "what": "else"}"#;
        fs::write(place.path().join(RECORD), text).unwrap();
        let message = claim(place.path()).unwrap_err().to_string();
        assert!(message.contains("was written by Skiff 9.0.0, which is newer than this one"), "{message}");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nothing was made");
        fs::write(place.path().join(RECORD), "{").unwrap();
        assert!(claim(place.path()).unwrap_err().to_string().contains("is damaged"));
    }
}
