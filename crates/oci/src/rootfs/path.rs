//! Paths inside a root that an image has filled: links in it never lead out of it.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use linux::Context;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::{Mode, SFlag, mkdirat, mknodat};

use super::Place;
use crate::Result;

/// The most links that a path may lead through.
const MAX_PARTS: usize = 255;

/// An opened root.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

impl Root {
    pub fn open(path: &Path) -> Result<Self> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = open(path, flags, Mode::empty()).context(|| format!("cannot open {}", path.display()))?;
        Ok(Self { fd })
    }

    fn resolve(&self, path: &Path, more: OFlag) -> nix::Result<OwnedFd> {
        let relative = path.strip_prefix("/").unwrap_or(path);
        let relative = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | more)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&self.fd, relative, how)
    }

    /// Opens what is there, the topmost mount of it.
    pub fn open_existing(&self, path: &Path) -> Result<Place> {
        let fd = self.resolve(path, OFlag::empty()).context(|| format!("cannot open {}", path.display()))?;
        Ok(Place { fd })
    }

    /// Opens a folder, made with all above it if it is missing.
    pub fn make_folder(&self, path: &Path) -> Result<Place> {
        Ok(Place { fd: self.folder(path, 0).context(|| format!("cannot make folder {}", path.display()))? })
    }

    fn folder(&self, path: &Path, depth: usize) -> io::Result<OwnedFd> {
        match self.resolve(path, OFlag::O_DIRECTORY) {
            Err(Errno::ENOENT) => {}
            other => return Ok(other?),
        }
        if depth > MAX_PARTS {
            return Err(Errno::ELOOP.into());
        }
        let (parent, name) = split(path)?;
        let parent_fd = self.folder(&parent, depth + 1)?;
        match mkdirat(&parent_fd, name.as_c_str(), Mode::from_bits_truncate(0o755)) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                // A link to what does not exist: its target is what to make.
                if let Some(target) = link(&parent_fd, &name) {
                    let target = plain(&parent.join(target));
                    return self.folder(&target, depth + 1);
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(self.resolve(path, OFlag::O_DIRECTORY)?)
    }

    /// Opens a file to be mounted over, made empty if it is missing.
    pub fn make_file(&self, path: &Path) -> Result<Place> {
        Ok(Place { fd: self.file(path, 0).context(|| format!("cannot make file {}", path.display()))? })
    }

    fn file(&self, path: &Path, depth: usize) -> io::Result<OwnedFd> {
        match self.resolve(path, OFlag::empty()) {
            Err(Errno::ENOENT) => {}
            other => return Ok(other?),
        }
        if depth > MAX_PARTS {
            return Err(Errno::ELOOP.into());
        }
        let (parent, name) = split(path)?;
        let parent_fd = self.folder(&parent, depth + 1)?;
        match mknodat(&parent_fd, name.as_c_str(), SFlag::S_IFREG, Mode::from_bits_truncate(0o644), 0) {
            Ok(()) => {}
            Err(Errno::EEXIST) => {
                if let Some(target) = link(&parent_fd, &name) {
                    let target = plain(&parent.join(target));
                    return self.file(&target, depth + 1);
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(self.resolve(path, OFlag::empty())?)
    }

    /// Opens the folder above a path, made if missing, and tells the last name.
    pub fn parent(&self, path: &Path) -> Result<(OwnedFd, CString)> {
        let what = || format!("cannot make folder for {}", path.display());
        let (parent, name) = split(path).context(what)?;
        Ok((self.folder(&parent, 0).context(what)?, name))
    }
}

fn split(path: &Path) -> io::Result<(PathBuf, CString)> {
    let path = plain(path);
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => Ok((parent.to_owned(), CString::new(name.as_bytes())?)),
        _ => Err(Errno::EINVAL.into()),
    }
}

fn link(parent: &OwnedFd, name: &CString) -> Option<PathBuf> {
    nix::fcntl::readlinkat(parent.as_fd(), name.as_c_str()).ok().map(PathBuf::from)
}

/// The path from the root without `.`; `..` is taken literally, and ends at the root.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => plain.push(name),
            Component::ParentDir => {
                plain.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    plain
}

/// Whether a path is a folder, following links.
pub fn is_folder(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_dir())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_stay_inside() {
        let folder = std::env::temp_dir().join(format!("skiff-root-{}", std::process::id()));
        fs::create_dir_all(folder.join("etc")).unwrap();
        symlink("/run/deep", folder.join("var")).unwrap();
        symlink("../../../../etc/target", folder.join("etc/link")).unwrap();
        symlink("loop", folder.join("loop")).unwrap();
        let root = Root::open(&folder).unwrap();
        root.make_folder(Path::new("/var/lib/x")).unwrap();
        root.make_file(Path::new("/etc/link")).unwrap();
        let looped = root.make_folder(Path::new("/loop/x")).is_err();
        let (through, target) = (folder.join("run/deep/lib/x").is_dir(), folder.join("etc/target").is_file());
        fs::remove_dir_all(&folder).unwrap();
        assert!(through && target && looped);
        assert_eq!(plain(Path::new("/a/./../../b")), Path::new("/b"));
    }
}
