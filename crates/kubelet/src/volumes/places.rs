//! Folders, files and mounts of volumes on the node.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::path::Path;

use api::core::volumes::EmptyDirVolumeSource;

use super::Error;

fn file<'a>(what: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Error + 'a {
    move |source| Error::File { what, path: path.to_owned(), source }
}

/// Makes a folder with all above it; its own mode is set whatever the umask is.
pub fn make_folder(path: &Path, mode: u32) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(file("cannot make", path))?;
    set_mode(path, mode)
}

pub fn set_mode(path: &Path, mode: u32) -> Result<(), Error> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(file("cannot set the mode of", path))
}

/// Makes an empty file, or leaves the one that is there.
pub fn empty_file(path: &Path, mode: u32) -> Result<(), Error> {
    fs::OpenOptions::new().create(true).append(true).open(path).map_err(file("cannot make", path))?;
    set_mode(path, mode)
}

/// An empty folder that lives as long as its pod, on the node's disk or in memory.
///
/// In memory it holds at most `memory` bytes, which is what its pod could use.
pub fn empty_dir(
    folder: &Path,
    source: &EmptyDirVolumeSource,
    group: Option<i64>,
    memory: Option<u64>,
) -> Result<(), Error> {
    let fresh = !folder.exists();
    make_folder(folder, 0o777)?;
    let mode = source.mode.and_then(|m| u32::try_from(m).ok()).unwrap_or(0o777);
    if source.medium == "Memory" {
        let mounted = linux::mount::is_mount_point(folder).map_err(file("cannot look at", folder))?;
        if !mounted {
            let own =
                source.size_limit.map(|limit| u64::try_from(limit.value()).unwrap_or_default()).filter(|s| *s > 0);
            let size = own.into_iter().chain(memory).min();
            linux::mount::tmpfs(folder, size, mode).map_err(file("cannot mount memory at", folder))?;
            set_mode(folder, mode)?;
            return group.map_or(Ok(()), |group| give_to_group(folder, group));
        }
        return Ok(());
    }
    if source.medium.starts_with("HugePages") {
        return Err(Error::Mount("emptyDir on huge pages is not supported by this node".into()));
    }
    if fresh {
        set_mode(folder, mode)?;
        if let Some(group) = group {
            give_to_group(folder, group)?;
        }
    }
    Ok(())
}

/// Gives a folder and all in it to a group, which may read and write it and owns what is made in it.
pub fn give_to_group(path: &Path, group: i64) -> Result<(), Error> {
    let gid = u32::try_from(group).map_err(|_| Error::Mount(format!("group {group} is out of range")))?;
    let metadata = fs::symlink_metadata(path).map_err(file("cannot look at", path))?;
    std::os::unix::fs::lchown(path, None, Some(gid)).map_err(file("cannot change the group of", path))?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mode = metadata.mode() & 0o7777;
    if metadata.is_dir() {
        set_mode(path, mode | 0o2770)?;
        for entry in fs::read_dir(path).map_err(file("cannot read", path))? {
            give_to_group(&entry.map_err(file("cannot read", path))?.path(), group)?;
        }
        return Ok(());
    }
    set_mode(path, mode | 0o660)
}

/// Checks a path of the node against the type that the pod expects, or makes it where the type says so.
pub fn check_host_path(path: &Path, kind: &str) -> Result<(), String> {
    let metadata = fs::metadata(path).ok();
    let is = |test: fn(&fs::Metadata) -> bool| metadata.as_ref().is_some_and(test);
    let wrong = |what: &str| Err(format!("hostPath type check failed: {} is not {what}", path.display()));
    match kind {
        "" => Ok(()),
        "DirectoryOrCreate" if metadata.is_none() => fs::create_dir_all(path)
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o755)))
            .map_err(|error| format!("cannot make {}: {error}", path.display())),
        "FileOrCreate" if metadata.is_none() => {
            let made = fs::OpenOptions::new().create_new(true).write(true).open(path);
            let made = made.and_then(|_| fs::set_permissions(path, fs::Permissions::from_mode(0o644)));
            made.map_err(|error| format!("cannot make {}: {error}", path.display()))
        }
        "Directory" | "DirectoryOrCreate" if !is(fs::Metadata::is_dir) => wrong("a directory"),
        "File" | "FileOrCreate" if !is(fs::Metadata::is_file) => wrong("a file"),
        "Socket" if !is(|m| m.file_type().is_socket()) => wrong("a socket file"),
        "CharDevice" if !is(|m| m.file_type().is_char_device()) => wrong("a character device"),
        "BlockDevice" if !is(|m| m.file_type().is_block_device()) => wrong("a block device"),
        _ => Ok(()),
    }
}

/// Shows a part of a volume at a place of its own, so that nothing in the volume can lead out of it afterwards.
pub fn sub_path(volume: &Path, below: &Path, target: &Path) -> Result<(), Error> {
    if below.is_absolute() {
        return Err(Error::Mount(format!("error SubPath `{}` must not be an absolute path", below.display())));
    }
    if below.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(Error::Mount(format!("unable to provision SubPath `{}`: must not contain '..'", below.display())));
    }
    // What is made is as open as the volume itself: others than root have to write there.
    let mode = fs::metadata(volume).map_err(file("cannot look at", volume))?.mode() & 0o6777;
    let opened = linux::mount::open_below(volume, below, Some(mode)).map_err(file("cannot open", below))?;
    if linux::mount::is_mount_point(target).map_err(file("cannot look at", target))? {
        linux::mount::unmount(target).map_err(file("cannot unmount", target))?;
    }
    let parent = target.parent().unwrap_or(target);
    make_folder(parent, 0o750)?;
    let is_folder = fs::metadata(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&opened)))
        .map_err(file("cannot look at", below))?
        .is_dir();
    if is_folder {
        if target.is_file() {
            fs::remove_file(target).map_err(file("cannot remove", target))?;
        }
        make_folder(target, 0o750)?;
    } else {
        if target.is_dir() {
            fs::remove_dir(target).map_err(file("cannot remove", target))?;
        }
        empty_file(target, 0o640)?;
    }
    linux::mount::bind(std::os::fd::AsFd::as_fd(&opened), target).map_err(file("cannot bind", target))
}

/// Takes a pod's folder away, after all that is mounted below it.
pub fn remove(folder: &Path) -> Result<(), Error> {
    if !folder.exists() {
        return Ok(());
    }
    // The kernel lists mounts by their true paths; by another one none would be found, and what they show be deleted.
    let folder = &folder.canonicalize().map_err(file("cannot look at", folder))?;
    let below = || -> Result<Vec<_>, Error> {
        let mut mounts = linux::mount::list().map_err(file("cannot list mounts below", folder))?;
        mounts.retain(|mount| mount.point.starts_with(folder));
        Ok(mounts)
    };
    // The deepest first.
    for mount in below()?.iter().rev() {
        linux::mount::unmount(&mount.point).map_err(file("cannot unmount", &mount.point))?;
    }
    // Through a mount that is still there, files would be deleted that are not the pod's.
    if let Some(left) = below()?.first() {
        return Err(Error::Mount(format!("{} is still mounted", left.point.display())));
    }
    fs::remove_dir_all(folder).map_err(file("cannot remove", folder))
}

/// Changes the owner of a file.
pub fn give_to(path: &Path, user: Option<u32>, group: Option<u32>) -> io::Result<()> {
    chown(path, user, group)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_paths_are_checked() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        assert!(check_host_path(&path("none"), "").is_ok());
        assert!(check_host_path(&path("none"), "Directory").is_err());
        assert!(check_host_path(&path("made/below"), "DirectoryOrCreate").is_ok());
        assert!(path("made/below").is_dir());
        assert!(check_host_path(&path("file"), "FileOrCreate").is_ok());
        assert!(check_host_path(&path("file"), "Directory").unwrap_err().ends_with("is not a directory"));
        assert!(check_host_path(&path("file"), "Socket").is_err());
    }
}
