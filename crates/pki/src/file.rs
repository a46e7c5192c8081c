//! Files that hold secrets: readable by their owner alone, and whole or absent at any moment.

use crate::{Error, Result};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// What a crash may undo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: the bytes and the name are on disk when this returns.
    Synced,
    /// The file: it can be made again from others.
    Remade,
}

fn at(path: &Path) -> impl Fn(std::io::Error) -> Error + '_ {
    move |source| Error::File { path: path.to_owned(), source }
}

/// Makes a directory that only its owner may enter.
pub fn private_dir(path: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(at(path))
}

/// Replaces a file in one step, with mode 0600.
pub fn write_private(path: &Path, content: &[u8], durability: Durability) -> Result<()> {
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let temp = dir.join(format!(".{name}.{}", crate::hex(&crate::random::<6>()?)));
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temp)?;
        file.write_all(content)?;
        if durability == Durability::Synced {
            file.sync_all()?;
        }
        fs::rename(&temp, path)?;
        if durability == Durability::Synced {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    })();
    written.map_err(|e| {
        let _ = fs::remove_file(&temp);
        at(path)(e)
    })
}

/// The text of a file, or nothing if it does not exist.
pub fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(at(path)(e)),
    }
}

/// Makes a file if it does not exist, and returns what it holds: of several that race, one wins and all read it.
pub fn create_once(path: &Path, make: impl FnOnce() -> Result<String>) -> Result<String> {
    if let Some(text) = read(path)? {
        return Ok(text);
    }
    let dir = path.parent().unwrap_or(Path::new("."));
    let temp = dir.join(format!(".new.{}", crate::hex(&crate::random::<6>()?)));
    let text = make()?;
    write_private(&temp, text.as_bytes(), Durability::Synced)?;
    let linked = fs::hard_link(&temp, path);
    let _ = fs::remove_file(&temp);
    match linked {
        Ok(()) => {
            File::open(dir).and_then(|d| d.sync_all()).map_err(at(dir))?;
            Ok(text)
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => read(path)?.ok_or_else(|| at(path)(e)),
        Err(e) => Err(at(path)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn files_are_private_and_the_first_writer_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        assert_eq!(create_once(&path, || Ok("one".into())).unwrap(), "one");
        assert_eq!(create_once(&path, || Ok("two".into())).unwrap(), "one");
        write_private(&path, b"three", Durability::Remade).unwrap();
        assert_eq!(read(&path).unwrap().as_deref(), Some("three"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
        assert!(write_private(&dir.path().join("no/such"), b"", Durability::Remade).is_err());
    }
}
