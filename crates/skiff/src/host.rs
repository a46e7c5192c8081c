//! One node for each network of this host: its tables and routes belong to one data folder.
//!
//! ```text
//! /run/skiff/node-<network>   the data folder of the node that set this network up last, locked while it runs
//! ```

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};

use crate::folder::{Folder, Node, Outside, Role, open_lock};

/// Where the programs of this host find each other until its next start.
pub const RUN: &str = "/run/skiff";
/// Where the container runtime of a node serves CRI.
pub const SOCKET: &str = "/run/skiff/cri.sock";
/// Where nodes keep pods' logs, as others' tools expect.
pub const LOGS: &str = "/var/log/pods";
/// The control groups of a node: shims and pods without a kubelet, and pods of the kubelet.
pub const CGROUPS: [&str; 2] = ["/skiff", "/kubepods"];
/// How often a network is tried that a node which is just ending may still hold, and the wait in between.
const TRIES: u32 = 40;
const PAUSE: Duration = Duration::from_millis(50);

/// The network namespace of this process.
pub fn network() -> anyhow::Result<u64> {
    Ok(fs::metadata("/proc/self/ns/net").context("cannot tell which network this is")?.ino())
}

fn path(run: &Path, network: u64) -> PathBuf {
    run.join(format!("node-{network}"))
}

/// What a daemon holds as long as it runs: its data folder, and the network if it has a node.
#[derive(Debug)]
pub struct Claims {
    _network: Option<Held>,
    _folder: Folder,
}

/// Takes a data folder, and the network for the node of this name. After a failure nothing of it stays.
pub fn claim(
    data: &Path,
    role: Role,
    url: &str,
    node: Option<&str>,
    kubeconfig: Option<&Path>,
) -> anyhow::Result<Claims> {
    let mut outside = Outside::default();
    if let Some(path) = kubeconfig {
        outside.kubeconfigs.push(path.to_owned());
        outside.folders.extend(path.parent().map(Path::to_owned));
    }
    if node.is_some() {
        outside.sockets.push(SOCKET.into());
        outside.folders.extend([RUN.into(), LOGS.into()]);
        outside.cgroups.extend(CGROUPS.map(str::to_owned));
    }
    let node =
        node.map(|name| Ok::<_, anyhow::Error>(Node { name: name.to_owned(), network: network()? })).transpose()?;
    let has_node = node.is_some();
    let mut folder = Folder::claim(data, role, url, node)?;
    let taken = folder.will_make(outside).and_then(|()| has_node.then(|| take(Path::new(RUN), data)).transpose());
    match taken {
        Ok(network) => Ok(Claims { _network: network, _folder: folder }),
        Err(error) => {
            folder.abandon();
            Err(error)
        }
    }
}

/// The network of this process, held for the node of one data folder.
#[derive(Debug)]
pub struct Held {
    _lock: Flock<File>,
}

/// Takes this process's network for the node of a data folder. Fails if the node of another folder runs here.
pub fn take(run: &Path, data: &Path) -> anyhow::Result<Held> {
    let path = path(run, network()?);
    fs::create_dir_all(run).with_context(|| format!("cannot make the folder {}", run.display()))?;
    for _ in 0..TRIES {
        let file = open_lock(&path)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            // One that was removed meanwhile locks nobody out.
            Ok(lock)
                if fs::metadata(&path)
                    .is_ok_and(|found| Some(found.ino()) == lock.metadata().ok().map(|m| m.ino())) =>
            {
                let mut file = &*lock;
                file.set_len(0)?;
                file.rewind()?;
                file.write_all(data.as_os_str().as_bytes())?;
                return Ok(Held { _lock: lock });
            }
            Ok(_) => {}
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => std::thread::sleep(PAUSE),
            Err((_, errno)) => return Err(errno).with_context(|| format!("cannot lock {}", path.display())),
        }
    }
    let other = owner(run, network()?)?.unwrap_or_default();
    bail!(
        "a node runs on this network already, with the data folder {}: stop it first, or leave this one's node out \
         with --disable node",
        other.display()
    )
}

/// The data folder of the node that set a network up last.
pub fn owner(run: &Path, network: u64) -> anyhow::Result<Option<PathBuf>> {
    let path = path(run, network);
    let mut bytes = Vec::new();
    match File::open(&path).and_then(|mut file| file.read_to_end(&mut bytes)) {
        Ok(0) => Ok(None),
        Ok(_) => Ok(Some(PathBuf::from(std::ffi::OsString::from_vec(bytes)))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Forgets whose a network is; the one who calls holds it.
pub fn forget(run: &Path, network: u64) -> anyhow::Result<()> {
    match fs::remove_file(path(run, network)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("cannot forget the node"),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_one_node() {
        let place = tempfile::tempdir().unwrap();
        let (run, network) = (place.path().join("run"), network().unwrap());
        assert_eq!(owner(&run, network).unwrap(), None);
        let held = take(&run, Path::new("/one")).unwrap();
        assert_eq!(owner(&run, network).unwrap().unwrap(), Path::new("/one"));
        let message = take(&run, Path::new("/two")).unwrap_err().to_string();
        assert!(message.contains("with the data folder /one: stop it first"), "{message}");
        drop(held);
        let held = take(&run, Path::new("/two/longer")).unwrap();
        assert_eq!(owner(&run, network).unwrap().unwrap(), Path::new("/two/longer"));
        forget(&run, network).unwrap();
        drop(held);
        drop(take(&run, Path::new("/x")).unwrap());
        assert_eq!(owner(&run, network).unwrap().unwrap(), Path::new("/x"));
    }
}
