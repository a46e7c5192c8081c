//! Mounts: placed by descriptor, changed with all below them, shifted to another range of users.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// Attributes of mounts that [`change`] sets and clears.
pub mod attribute {
    /// Nothing can be changed.
    pub const READ_ONLY: u64 = 0x1;
    /// Set-user-ID and file capabilities have no effect.
    pub const NO_SUID: u64 = 0x2;
    /// Device nodes cannot be opened.
    pub const NO_DEV: u64 = 0x4;
    /// Nothing can be executed.
    pub const NO_EXEC: u64 = 0x8;
    /// All bits of the times of access.
    pub const TIMES: u64 = 0x70;
    /// Times of access are not kept.
    pub const NO_TIME: u64 = 0x10;
    /// Times of access are always kept.
    pub const STRICT_TIME: u64 = 0x20;
    /// Times of access of folders are not kept.
    pub const NO_DIR_TIME: u64 = 0x80;
    /// Users are shifted.
    pub(super) const SHIFTED: u64 = 0x10_0000;
    /// Links are not followed.
    pub const NO_LINKS: u64 = 0x20_0000;
}

const AT_RECURSIVE: u32 = 0x8000;
const AT_EMPTY_PATH: u32 = 0x1000;

#[repr(C)]
#[derive(Default)]
struct Attributes {
    set: u64,
    clear: u64,
    propagation: u64,
    users: u64,
}

fn text(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

/// Makes a detached copy of a mount, with all below it if `recursive`.
pub fn open_tree(path: &Path, recursive: bool) -> io::Result<OwnedFd> {
    let flags = 1 | libc::O_CLOEXEC as u32 | if recursive { AT_RECURSIVE } else { 0 };
    let path = text(path)?;
    // SAFETY: the path lives through the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just made this descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Attaches a detached mount; links are followed.
pub fn attach(tree: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    const FROM_EMPTY_PATH: u32 = 4;
    const TO_LINK_TARGET: u32 = 0x10;
    let (target, empty) = (text(target)?, c"");
    // SAFETY: both paths live through the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            empty.as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            FROM_EMPTY_PATH | TO_LINK_TARGET,
        )
    };
    Errno::result(result)?;
    Ok(())
}

/// Sets and clears attributes of a mount, with all below it if `recursive`.
pub fn change(path: &Path, set: u64, clear: u64, recursive: bool) -> io::Result<()> {
    let path = text(path)?;
    set_attributes(
        libc::AT_FDCWD,
        &path,
        if recursive { AT_RECURSIVE } else { 0 },
        &Attributes { set, clear, ..Attributes::default() },
    )
}

/// Shifts the users of a detached mount by the mappings of a user namespace.
pub fn shift_users(tree: BorrowedFd<'_>, users: BorrowedFd<'_>, recursive: bool) -> io::Result<()> {
    let users = users.as_raw_fd() as u64;
    let attributes = Attributes { set: attribute::SHIFTED, users, ..Attributes::default() };
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    set_attributes(tree.as_raw_fd(), c"", flags, &attributes)
}

fn set_attributes(at: RawFd, path: &std::ffi::CStr, flags: u32, attributes: &Attributes) -> io::Result<()> {
    let size = size_of::<Attributes>();
    // SAFETY: the path and the structure, which is as the kernel defines it, live through the call.
    let result = unsafe { libc::syscall(libc::SYS_mount_setattr, at, path.as_ptr(), flags, attributes, size) };
    Errno::result(result)?;
    Ok(())
}

/// A line of `mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountInfo {
    /// The folder of its file system that is shown.
    pub root: PathBuf,
    /// Where it is shown.
    pub point: PathBuf,
    /// Whether mounts below it go to and come from peers.
    pub shared: bool,
    /// The kind of file system.
    pub kind: String,
    /// Options of the file system.
    pub options: String,
}

/// The mounts that the calling process sees.
pub fn list() -> io::Result<Vec<MountInfo>> {
    Ok(std::fs::read_to_string("/proc/self/mountinfo")?.lines().filter_map(parse).collect())
}

fn parse(line: &str) -> Option<MountInfo> {
    let (mount, system) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, point) = (mount.next()?, mount.next()?);
    let shared = mount.skip(1).any(|tag| tag.starts_with("shared:"));
    let mut system = system.split(' ');
    let (kind, _, options) = (system.next()?, system.next()?, system.next()?);
    Some(MountInfo {
        root: unescape(root),
        point: unescape(point),
        shared,
        kind: kind.to_owned(),
        options: options.to_owned(),
    })
}

/// The kernel writes space, tab, line feed and backslash as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes.get(at + 1..at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if bytes[at] == b'\\' => {
                plain.push(byte);
                at += 4;
            }
            _ => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(std::ffi::OsStr::from_bytes(&plain))
}

/// What a file system has and has left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes in all, and those that anyone may still use.
    pub total: u64,
    /// Bytes that anyone may still use.
    pub available: u64,
    /// Files in all; 0 where the file system does not count them.
    pub files: u64,
    /// Files that can still be made.
    pub files_free: u64,
}

/// The space of the file system that holds a path.
pub fn space(path: &Path) -> io::Result<Space> {
    let stat = nix::sys::statvfs::statvfs(path)?;
    let unit = stat.fragment_size();
    Ok(Space {
        total: stat.blocks() * unit,
        available: stat.blocks_available() * unit,
        files: stat.files(),
        files_free: stat.files_available(),
    })
}

/// Whether something is mounted at exactly this path. What does not exist is no mount point.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    // The kernel lists mounts by their true paths, without links.
    let path = match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        path => path?,
    };
    Ok(list()?.iter().any(|mount| mount.point == path))
}

/// Mounts a file system in memory, of at most `size` bytes where given.
pub fn tmpfs(target: &Path, size: Option<u64>, mode: u32) -> io::Result<()> {
    use nix::mount::{MsFlags, mount};
    let mut options = format!("mode={mode:o}");
    if let Some(size) = size {
        options.push_str(&format!(",size={size}"));
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    Ok(mount(Some("tmpfs"), target, Some("tmpfs"), flags, Some(options.as_str()))?)
}

/// Shows what a descriptor refers to at a path, with all mounts below it.
pub fn bind(what: BorrowedFd<'_>, target: &Path) -> io::Result<()> {
    let tree = open_tree(&PathBuf::from(format!("/proc/self/fd/{}", what.as_raw_fd())), true)?;
    attach(std::os::fd::AsFd::as_fd(&tree), target)
}

/// Takes a mount away, at once from sight and for good when nobody uses it any more. None there is fine.
pub fn unmount(target: &Path) -> io::Result<()> {
    use nix::mount::{MntFlags, umount2};
    match umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens what a relative path leads to below a folder; links and `..` never lead out of it. With `make`, folders are
/// made where nothing is, with exactly that mode.
pub fn open_below(folder: &Path, relative: &Path, make: Option<u32>) -> io::Result<OwnedFd> {
    use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2};
    use nix::sys::stat::{Mode, mkdirat};
    let directory = open(folder, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    let how = || OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_BENEATH);
    if let Some(mode) = make {
        let mut parents = PathBuf::new();
        let mut parent: Option<OwnedFd> = None;
        for part in relative.components() {
            parents.push(part);
            match openat2(&directory, &parents, how()) {
                Ok(fd) => parent = Some(fd),
                Err(Errno::ENOENT) => {
                    let at = parent.as_ref().map_or(&directory, |fd| fd);
                    let std::path::Component::Normal(name) = part else { return Err(Errno::ENOENT.into()) };
                    mkdirat(at, name, Mode::from_bits_truncate(mode & 0o777))?;
                    // Somebody may have put a link in its place already; that one must not be followed.
                    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                    let made = openat(at, name, flags, Mode::empty())?;
                    // The umask has its say in what `mkdirat` makes, and none here.
                    let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
                    std::fs::set_permissions(format!("/proc/self/fd/{}", made.as_raw_fd()), permissions)?;
                    parent = Some(made);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(openat2(&directory, relative, how())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let line = r"36 35 98:0 /mnt1 /mnt\040two rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue";
        let info = parse(line).unwrap();
        assert_eq!((info.root.to_str(), info.point.to_str()), (Some("/mnt1"), Some("/mnt two")));
        assert!(info.shared);
        assert_eq!((info.kind.as_str(), info.options.as_str()), ("ext3", "rw,errors=continue"));
        assert!(list().unwrap().iter().any(|mount| mount.point == Path::new("/proc")));
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/proc", &link).unwrap();
        assert!(is_mount_point(&link).unwrap(), "links to mount points are understood");
        assert!(!is_mount_point(folder.path()).unwrap());
        assert!(!is_mount_point(&folder.path().join("none")).unwrap());
    }

    #[test]
    fn nothing_leads_out_of_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("volume");
        std::fs::create_dir_all(root.join("in")).unwrap();
        std::os::unix::fs::symlink("/etc", root.join("out")).unwrap();
        std::os::unix::fs::symlink("in", root.join("link")).unwrap();
        assert!(open_below(&root, Path::new("link"), None).is_ok());
        assert!(open_below(&root, Path::new("out"), None).is_err());
        assert!(open_below(&root, Path::new("out/new"), Some(0o750)).is_err());
        assert!(open_below(&root, Path::new("../x"), Some(0o750)).is_err());
        assert!(open_below(&root, Path::new("a/b/c"), Some(0o750)).is_ok());
        assert!(root.join("a/b/c").is_dir());
        assert!(open_below(&root, Path::new("shared/by/all"), Some(0o2777)).is_ok());
        for made in ["shared", "shared/by", "shared/by/all"] {
            let metadata = std::fs::metadata(root.join(made)).unwrap();
            assert_eq!(std::os::unix::fs::MetadataExt::mode(&metadata) & 0o7777, 0o2777, "{made}");
        }
        assert!(space(&root).unwrap().total > 0);
    }
}
