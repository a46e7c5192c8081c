//! The nodes and links of a container's `/dev`.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use linux::Context;
use linux::mount::{attach, open_tree};
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FchmodatFlags, Mode, SFlag, fchmodat, makedev, mknodat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, symlinkat, unlinkat};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use super::path::{Root, is_folder};
use crate::{Error, Result};

/// What every container has: name and minor number, all of major 1 but the terminal.
const USUAL: [(&str, u64, u64); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];
const LINKS: [(&str, &str); 5] = [
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

/// The nodes to make.
#[derive(Debug)]
pub struct Plan {
    nodes: Vec<Node>,
    /// Whether `/dev` is the container's own.
    links: bool,
}

#[derive(Debug)]
struct Node {
    path: PathBuf,
    kind: SFlag,
    device: u64,
    mode: u32,
    owner: (u32, u32),
    /// The host's node of that name, for where no node can be made.
    host: Option<OwnedFd>,
}

impl Plan {
    /// The usual nodes, if `own`, and those that are listed.
    pub fn of(listed: &[LinuxDevice], own: bool) -> Result<Self> {
        let mut nodes = Vec::new();
        for device in listed {
            let kind = match device.typ() {
                LinuxDeviceType::B => SFlag::S_IFBLK,
                LinuxDeviceType::C | LinuxDeviceType::U => SFlag::S_IFCHR,
                LinuxDeviceType::P => SFlag::S_IFIFO,
                LinuxDeviceType::A => return Err(Error::spec("a device node is of one kind")),
            };
            let number = |n: i64| u64::try_from(n).map_err(|_| Error::spec(format!("device number {n}")));
            nodes.push(Node {
                path: device.path().clone(),
                kind,
                device: makedev(number(device.major())?, number(device.minor())?),
                mode: device.file_mode().unwrap_or(0o666) & 0o7777,
                owner: (device.uid().unwrap_or(0), device.gid().unwrap_or(0)),
                host: open_tree(device.path(), false).ok(),
            });
        }
        if own {
            for (path, major, minor) in USUAL {
                if !nodes.iter().any(|node| node.path == Path::new(path)) {
                    let (path, host) = (PathBuf::from(path), open_tree(Path::new(path), false).ok());
                    nodes.push(Node {
                        path,
                        kind: SFlag::S_IFCHR,
                        device: makedev(major, minor),
                        mode: 0o666,
                        owner: (0, 0),
                        host,
                    });
                }
            }
        }
        Ok(Self { nodes, links: own })
    }

    pub fn make(&self, root: &Root) -> Result<()> {
        for node in &self.nodes {
            node.make(root)?;
        }
        if !self.links {
            return Ok(());
        }
        let core = is_folder(Path::new("/proc")).then_some(("/dev/core", "/proc/kcore"));
        for (path, target) in LINKS.into_iter().chain(core) {
            let (parent, name) = root.parent(Path::new(path))?;
            if path == "/dev/ptmx" {
                // An image's own node there would lead to the host's terminals.
                let _ = unlinkat(&parent, name.as_c_str(), UnlinkatFlags::NoRemoveDir);
            }
            match symlinkat(target, &parent, name.as_c_str()) {
                Err(Errno::EEXIST) => {}
                // A root without any `/dev` of its own that cannot be written to.
                Err(Errno::EROFS) => {}
                other => other.context(|| format!("cannot make {path}"))?,
            }
        }
        Ok(())
    }
}

impl Node {
    fn make(&self, root: &Root) -> Result<()> {
        let what = || format!("cannot make device {}", self.path.display());
        let (parent, name) = root.parent(&self.path)?;
        let name = name.as_c_str();
        match mknodat(&parent, name, self.kind, Mode::from_bits_truncate(self.mode), self.device) {
            Ok(()) => {
                let mode = Mode::from_bits_truncate(self.mode);
                fchmodat(&parent, name, mode, FchmodatFlags::FollowSymlink).context(what)?;
                let (uid, gid) = (Uid::from_raw(self.owner.0), Gid::from_raw(self.owner.1));
                Ok(fchownat(&parent, name, Some(uid), Some(gid), AtFlags::empty()).context(what)?)
            }
            Err(Errno::EEXIST) => Ok(()),
            Err(errno @ (Errno::EPERM | Errno::EROFS)) => match &self.host {
                Some(tree) => {
                    let place = root.make_file(&self.path)?;
                    Ok(attach(tree.as_fd(), &place.path()).context(what)?)
                }
                None => Err(errno).context(what).map_err(Error::from),
            },
            Err(errno) => Err(errno).context(what).map_err(Error::from),
        }
    }
}
