//! Applies one layer's archive to a directory tree, never reaching outside of it.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{self, AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};
use tar::EntryType;

use crate::image::content::Digest;
use crate::{Error, Result};

/// Limits of one layer: an archive that asks for more is hostile.
const MAX_BYTES: u64 = 256 << 30;
const MAX_ENTRIES: u64 = 8_000_000;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What applying a layer made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Applied {
    /// Bytes of regular files.
    pub bytes: u64,
    /// Files of any kind.
    pub inodes: u64,
}

/// Applies a layer to `target`, which holds the layers below it; `diff` is the digest the plain archive must have.
pub fn apply(archive: File, target: &Path, diff: &Digest) -> Result<Applied> {
    let plain = decompress(archive)?;
    let mut hashing = Hashing { inner: plain, hasher: Sha256::new() };
    let applied = {
        let mut archive = tar::Archive::new(&mut hashing);
        let root = fs::open(target, OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(Error::io(format!("cannot open {}", target.display())))?;
        let mut tree =
            Tree { root, parent: None, made: HashSet::new(), folders: Vec::new(), applied: Applied::default() };
        for entry in archive.entries().map_err(broken)? {
            tree.entry(&mut entry.map_err(broken)?)?;
        }
        tree.finish();
        tree.applied
    };
    // The digest covers what follows the archive's end, too.
    std::io::copy(&mut hashing, &mut std::io::sink()).map_err(broken)?;
    let found = Digest::from_hasher(hashing.hasher);
    if found != *diff {
        return Err(Error::Corrupt(format!("a layer unpacks to {found}, not to {diff} as the image says")));
    }
    Ok(applied)
}

/// A reader of the plain bytes of a plain, gzip or zstd file.
pub fn decompress(mut file: File) -> Result<Box<dyn Read + Send>> {
    use std::io::{BufReader, Seek};
    let mut magic = [0; 4];
    let mut have = 0;
    while have < magic.len() {
        match file.read(&mut magic[have..]).map_err(broken)? {
            0 => break,
            n => have += n,
        }
    }
    file.rewind().map_err(broken)?;
    let file = BufReader::with_capacity(128 << 10, file);
    Ok(match magic {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        [0x28, 0xb5, 0x2f, 0xfd] => Box::new(zstd::Decoder::with_buffer(file).map_err(broken)?),
        _ => Box::new(file),
    })
}

fn broken(error: std::io::Error) -> Error {
    Error::Corrupt(format!("cannot read the archive: {error}"))
}

/// Copies a file out of an archive; what cannot be read is the archive's fault, what cannot be written the disk's.
fn copy(from: &mut impl Read, to: &mut File, path: &Path) -> Result<u64> {
    let mut buffer = vec![0; 64 << 10];
    let mut copied = 0;
    loop {
        let count = match from.read(&mut buffer) {
            Ok(0) => return Ok(copied),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(broken(error)),
        };
        to.write_all(&buffer[..count]).map_err(Error::file(path))?;
        copied += count as u64;
    }
}

struct Hashing<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..n]);
        Ok(n)
    }
}

/// The path of an entry below the root; `None` for the root itself.
fn below_root(path: &Path) -> Result<Option<PathBuf>> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Error::Corrupt(format!("entry {} leads out of the image", path.display())));
            }
        }
    }
    Ok((!clean.as_os_str().is_empty()).then_some(clean))
}

struct Tree {
    root: OwnedFd,
    /// The folder of the last entry: archives list files folder by folder.
    parent: Option<(PathBuf, OwnedFd)>,
    /// What this layer made, which an opaque marker does not hide.
    made: HashSet<PathBuf>,
    /// Folders' times are set at the end, as filling a folder changes them.
    folders: Vec<(PathBuf, Timestamps)>,
    applied: Applied,
}

/// What an archive says of an entry's inode.
struct Attributes {
    uid: u32,
    gid: u32,
    mode: u32,
    times: Timestamps,
    xattrs: Vec<(OsString, Vec<u8>)>,
}

impl Tree {
    fn entry(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<()> {
        let path = entry.path().map_err(broken)?.into_owned();
        let path = below_root(&path)?;
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        self.applied.inodes += 1;
        if self.applied.inodes > MAX_ENTRIES {
            return Err(Error::Corrupt(format!("a layer has more than {MAX_ENTRIES} files")));
        }
        let attributes = attributes(entry)?;
        let Some(path) = path else {
            return match kind {
                EntryType::Directory => self.set(&self.root_folder()?, &attributes),
                _ => Err(Error::Corrupt("the root of a layer is no folder".to_owned())),
            };
        };
        let io = |e: Errno| Error::Io { what: format!("cannot unpack {}", path.display()), source: e.into() };
        let name = path.file_name().unwrap_or_default().to_owned();
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        self.open_parent(&folder)?;
        let Some((_, parent)) = &self.parent else { return Err(Error::Internal("no parent folder".to_owned())) };
        if name.as_bytes() == OPAQUE {
            return self.hide_all(&folder);
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            // Other `.wh..wh.` names are aufs's own affairs.
            if !hidden.starts_with(WHITEOUT) && !hidden.is_empty() && hidden != b"." && hidden != b".." {
                remove_all(parent, std::ffi::OsStr::from_bytes(hidden)).map_err(io)?;
            }
            return Ok(());
        }
        let there =
            fs::statat(parent, &name, AtFlags::SYMLINK_NOFOLLOW).ok().map(|s| FileType::from_raw_mode(s.st_mode));
        let stays = there == Some(FileType::Directory) && kind == EntryType::Directory;
        if there.is_some() && !stays {
            remove_all(parent, &name).map_err(io)?;
        }
        match kind {
            EntryType::Directory => {
                if !stays {
                    fs::mkdirat(parent, &name, Mode::from_raw_mode(0o700)).map_err(io)?;
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = fs::openat(parent, &name, flags, Mode::empty()).map_err(io)?;
                self.set(&made, &attributes)?;
                self.folders.push((path.clone(), attributes.times));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let made = fs::openat(parent, &name, flags, Mode::from_raw_mode(0o600)).map_err(io)?;
                let mut file = File::from(made);
                let left = MAX_BYTES - self.applied.bytes;
                let copied = copy(&mut entry.take(left + 1), &mut file, &path)?;
                if copied > left {
                    return Err(Error::Corrupt(format!("a layer is longer than {MAX_BYTES} bytes")));
                }
                self.applied.bytes += copied;
                self.set(&file, &attributes)?;
                fs::futimens(&file, &attributes.times).map_err(io)?;
            }
            EntryType::Link => {
                let link = entry.link_name().map_err(broken)?.unwrap_or_default().into_owned();
                let Some(link) = below_root(&link)? else {
                    return Err(Error::Corrupt(format!("{} links to the root", path.display())));
                };
                let source = self.resolve(link.parent().unwrap_or(Path::new("")), OFlags::DIRECTORY).map_err(io)?;
                fs::linkat(&source, link.file_name().unwrap_or_default(), parent, &name, AtFlags::empty())
                    .map_err(io)?;
            }
            EntryType::Symlink => {
                let link = entry.link_name_bytes().unwrap_or_default();
                fs::symlinkat(&*link, parent, &name).map_err(io)?;
                let owner = (Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)));
                fs::chownat(parent, &name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).map_err(io)?;
                fs::utimensat(parent, &name, &attributes.times, AtFlags::SYMLINK_NOFOLLOW).map_err(io)?;
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let number = |n: std::io::Result<Option<u32>>| Ok::<_, Error>(n.map_err(broken)?.unwrap_or(0));
                let (kind, device) = match kind {
                    EntryType::Fifo => (FileType::Fifo, 0),
                    kind => {
                        let device = (number(entry.header().device_major())?, number(entry.header().device_minor())?);
                        if device == (0, 0) {
                            // To overlayfs this would be a whiteout.
                            return Err(Error::Corrupt(format!("{} is device 0:0", path.display())));
                        }
                        let kind =
                            if kind == EntryType::Char { FileType::CharacterDevice } else { FileType::BlockDevice };
                        (kind, fs::makedev(device.0, device.1))
                    }
                };
                let mode = Mode::from_raw_mode(attributes.mode);
                fs::mknodat(parent, &name, kind, mode, device).map_err(io)?;
                let owner = (Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)));
                fs::chownat(parent, &name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).map_err(io)?;
                fs::chmodat(parent, &name, mode, AtFlags::empty()).map_err(io)?;
                fs::utimensat(parent, &name, &attributes.times, AtFlags::SYMLINK_NOFOLLOW).map_err(io)?;
            }
            other => return Err(Error::Corrupt(format!("{} is of unknown kind {other:?}", path.display()))),
        }
        // A folder that was replaced may be the one kept open.
        if there == Some(FileType::Directory) && !stays {
            self.parent = None;
        }
        let mut made = path.as_path();
        while !made.as_os_str().is_empty() && self.made.insert(made.to_owned()) {
            made = made.parent().unwrap_or(Path::new(""));
        }
        Ok(())
    }

    fn root_folder(&self) -> Result<OwnedFd> {
        self.resolve(Path::new(""), OFlags::DIRECTORY).map_err(Error::io("cannot open the root of a layer"))
    }

    /// Opens a path as a process confined to the root would.
    fn resolve(&self, path: &Path, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        fs::openat2(&self.root, path, OFlags::RDONLY | OFlags::CLOEXEC | flags, Mode::empty(), resolve)
    }

    /// Makes the folder of an entry the open one, creating what is missing.
    fn open_parent(&mut self, folder: &Path) -> Result<()> {
        if self.parent.as_ref().is_some_and(|(open, _)| open == folder) {
            return Ok(());
        }
        let io = |e: Errno| Error::Io { what: format!("cannot unpack into {}", folder.display()), source: e.into() };
        let opened = match self.resolve(folder, OFlags::DIRECTORY) {
            Err(Errno::NOENT) => {
                let mut at = self.resolve(Path::new(""), OFlags::DIRECTORY).map_err(io)?;
                let mut path = PathBuf::new();
                for part in folder.iter() {
                    path.push(part);
                    at = match self.resolve(&path, OFlags::DIRECTORY) {
                        Err(Errno::NOENT) => {
                            fs::mkdirat(&at, part, Mode::from_raw_mode(0o755)).map_err(io)?;
                            self.applied.inodes += 1;
                            self.resolve(&path, OFlags::DIRECTORY).map_err(io)?
                        }
                        opened => opened.map_err(io)?,
                    };
                }
                at
            }
            opened => opened.map_err(io)?,
        };
        self.parent = Some((folder.to_owned(), opened));
        Ok(())
    }

    /// Removes what layers below put into a folder.
    fn hide_all(&self, folder: &Path) -> Result<()> {
        let Some((_, parent)) = &self.parent else { return Ok(()) };
        let io = |e: Errno| Error::Io { what: format!("cannot empty {}", folder.display()), source: e.into() };
        for name in names(parent).map_err(io)? {
            if !self.made.contains(&folder.join(&name)) {
                remove_all(parent, &name).map_err(io)?;
            }
        }
        Ok(())
    }

    fn set(&self, made: &impl AsFd, attributes: &Attributes) -> Result<()> {
        let io = |what: &str| Error::io::<Errno>(format!("cannot set {what} of an image's file"));
        let owner = (Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid)));
        fs::fchown(made, owner.0, owner.1).map_err(io("the owner"))?;
        // After the owner: changing that clears set-user-ID bits and capabilities.
        fs::fchmod(made, Mode::from_raw_mode(attributes.mode)).map_err(io("the mode"))?;
        for (name, value) in &attributes.xattrs {
            match fs::fsetxattr(made, name, value, XattrFlags::empty()) {
                Ok(()) | Err(Errno::NOTSUP) => {}
                Err(e) => return Err(io("an extended attribute")(e)),
            }
        }
        Ok(())
    }

    fn finish(&mut self) {
        for (path, times) in std::mem::take(&mut self.folders).into_iter().rev() {
            // The folder may have been replaced later in the archive.
            if let Ok(folder) = self.resolve(&path, OFlags::DIRECTORY | OFlags::NOFOLLOW) {
                let _ = fs::futimens(&folder, &times);
            }
        }
    }
}

fn attributes(entry: &mut tar::Entry<'_, impl Read>) -> Result<Attributes> {
    let header = entry.header();
    let number = |n: std::io::Result<u64>| {
        u32::try_from(n.map_err(broken)?).map_err(|_| Error::Corrupt("an owner is out of range".to_owned()))
    };
    let mut found = Attributes {
        uid: number(header.uid())?,
        gid: number(header.gid())?,
        mode: header.mode().map_err(broken)? & 0o7777,
        times: Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: 0 },
            last_modification: Timespec { tv_sec: i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0), tv_nsec: 0 },
        },
        xattrs: Vec::new(),
    };
    for extension in entry.pax_extensions().map_err(broken)?.into_iter().flatten() {
        let extension = extension.map_err(broken)?;
        let Ok(key) = extension.key() else { continue };
        let text = || extension.value().unwrap_or_default();
        match key {
            "uid" => found.uid = text().parse().unwrap_or(found.uid),
            "gid" => found.gid = text().parse().unwrap_or(found.gid),
            "mtime" => {
                let (seconds, fraction) = text().split_once('.').unwrap_or((text(), ""));
                if let Ok(seconds) = seconds.parse() {
                    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
                    let nanos = digits.parse().unwrap_or(0);
                    found.times.last_modification = Timespec { tv_sec: seconds, tv_nsec: nanos };
                }
            }
            _ => {
                let Some(name) = key.strip_prefix("SCHILY.xattr.") else { continue };
                // The host's own bookkeeping must not come out of an image.
                if !name.starts_with("trusted.") && !name.starts_with("security.selinux") {
                    found.xattrs.push((OsString::from_vec(name.as_bytes().to_vec()), extension.value_bytes().to_vec()));
                }
            }
        }
    }
    found.times.last_access = found.times.last_modification;
    Ok(found)
}

fn names(folder: &OwnedFd) -> rustix::io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in fs::Dir::read_from(folder)? {
        let name = OsString::from_vec(entry?.file_name().to_bytes().to_vec());
        if name != "." && name != ".." {
            names.push(name);
        }
    }
    Ok(names)
}

/// Removes a file or a folder with all in it, following no link.
pub(crate) fn remove_all(parent: &OwnedFd, name: &std::ffi::OsStr) -> rustix::io::Result<()> {
    match fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(e) => return Err(e),
    }
    // Depth is bounded by the path lengths that the archive's entries can have.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = fs::openat(parent, name, flags, Mode::empty())?;
    for child in names(&folder)? {
        remove_all(&folder, &child)?;
    }
    fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}
