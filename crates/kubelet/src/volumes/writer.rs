//! Replaces all files of a volume at once: readers see the old ones or the new ones, never a mixture.
//!
//! The files are in a folder of their own; `..data` is a link to it, and what users see are links through `..data`.
//! A new set is written beside and the link replaced by a rename.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path};

use super::{Entry, places};

const DATA: &str = "..data";

/// Whether a path stays below its volume, and away from the names that the links need.
fn fits(path: &str) -> bool {
    let mut parts = Path::new(path).components().peekable();
    let reserved =
        matches!(parts.peek(), Some(Component::Normal(top)) if top.to_str().is_none_or(|top| top.starts_with("..")));
    parts.peek().is_some() && !reserved && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// Writes a volume's files; does nothing where they are all as they should be.
pub fn write(folder: &Path, entries: &[Entry], group: Option<i64>) -> io::Result<()> {
    if let Some(bad) = entries.iter().find(|entry| !fits(&entry.path)) {
        return Err(io::Error::other(format!("invalid path {:?} of a file", bad.path)));
    }
    let gid = group.and_then(|g| u32::try_from(g).ok());
    let current = fs::read_link(folder.join(DATA)).ok();
    if current.as_ref().is_some_and(|name| same(&folder.join(name), entries)) {
        return Ok(());
    }
    let stamp = format!("..{}", crate::nanos());
    let fresh = folder.join(&stamp);
    fs::create_dir(&fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    places::give_to(&fresh, None, gid)?;
    for entry in entries {
        let path = fresh.join(&entry.path);
        if let Some(parent) = path.parent().filter(|p| *p != fresh) {
            fs::create_dir_all(parent)?;
            fs::set_permissions(parent, fs::Permissions::from_mode(0o755))?;
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(&entry.contents)?;
        let group_bits = if gid.is_some() { 0o440 } else { 0 };
        // After the owner: a change of owner takes set-user-ID bits away.
        places::give_to(&path, entry.owner, gid)?;
        file.set_permissions(fs::Permissions::from_mode((entry.mode & 0o7777) | group_bits))?;
    }
    let next = folder.join("..data_tmp");
    let _ = fs::remove_file(&next);
    symlink(&stamp, &next)?;
    fs::rename(&next, folder.join(DATA))?;

    let tops: BTreeSet<&str> = entries.iter().filter_map(|e| e.path.split('/').next()).collect();
    for top in &tops {
        let link = folder.join(top);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(top), &link)?;
        }
    }
    for entry in fs::read_dir(folder)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == DATA || name == stamp || tops.contains(name.as_str()) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn same(folder: &Path, entries: &[Entry]) -> bool {
    let as_wanted = |entry: &Entry| {
        let path = folder.join(&entry.path);
        fs::metadata(&path)
            .is_ok_and(|m| m.len() == entry.contents.len() as u64 && m.mode() & 0o7707 == entry.mode & 0o7707)
            && fs::read(&path).is_ok_and(|contents| contents == entry.contents)
    };
    fn count(folder: &Path) -> usize {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|e| if e.file_type().is_ok_and(|t| t.is_dir()) { count(&e.path()) } else { 1 }).sum()
    }
    entries.iter().all(as_wanted) && count(folder) == entries.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, contents: &str) -> Entry {
        Entry { path: path.into(), contents: contents.into(), mode: 0o644, owner: None }
    }

    #[test]
    fn files_stay_in_their_volume() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().join("volume");
        fs::create_dir(&folder).unwrap();
        let absolute = outer.path().join("x").display().to_string();
        for path in ["../x", "a/../../x", absolute.as_str(), "", "..data", "..other/x", "./x"] {
            assert!(write(&folder, &[entry("ok", "1"), entry(path, "2")], None).is_err(), "{path:?}");
        }
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing is written of a bad set");
        assert!(!outer.path().join("x").exists());
        write(&folder, &[entry("a..b/..c", "1"), entry(".hidden", "2")], None).unwrap();
        assert_eq!(fs::read_to_string(folder.join("a..b/..c")).unwrap(), "1");
    }

    #[test]
    fn sets_replace_each_other_whole() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).ok();
        write(folder.path(), &[entry("a", "1"), entry("b/c", "2")], None).unwrap();
        assert_eq!((read("a"), read("b/c")), (Some("1".into()), Some("2".into())));
        let first = fs::read_link(folder.path().join(DATA)).unwrap();
        write(folder.path(), &[entry("a", "1"), entry("b/c", "2")], None).unwrap();
        assert_eq!(fs::read_link(folder.path().join(DATA)).unwrap(), first, "nothing changed");
        write(folder.path(), &[entry("a", "9")], None).unwrap();
        assert_eq!((read("a"), read("b/c")), (Some("9".into()), None));
        assert_ne!(fs::read_link(folder.path().join(DATA)).unwrap(), first);
        let left: Vec<String> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        assert_eq!(left.len(), 3, "{left:?}");
        assert_eq!(fs::metadata(folder.path().join("a")).unwrap().mode() & 0o777, 0o644);
    }
}
