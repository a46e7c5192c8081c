//! What was attached, kept on disk so that it can be detached as it was made, even by a later process.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::spec::Outcome;
use crate::{Error, Result};

/// One attachment.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The network's name.
    pub network: String,
    /// The container.
    pub container_id: String,
    /// The interface inside.
    pub interface: String,
    /// The plugin list as it was used.
    pub config: Value,
    /// Extra arguments of the call.
    pub arguments: BTreeMap<String, String>,
    /// Capability arguments of the call.
    pub capabilities: Value,
    /// What the last plugin answered; `None` while an ADD is under way.
    pub result: Option<Outcome>,
}

/// A folder of attachments.
#[derive(Debug, Clone)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// Keeps attachments in `folder`.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    fn path(&self, network: &str, container: &str, interface: &str) -> PathBuf {
        self.folder.join(format!("{network}-{container}-{interface}"))
    }

    /// Writes an attachment, whole or not at all.
    pub fn store(&self, entry: &Entry) -> Result<()> {
        let path = self.path(&entry.network, &entry.container_id, &entry.interface);
        let bytes = serde_json::to_vec(entry).map_err(Error::decode("attachment"))?;
        write_durably(&path, &bytes)
    }

    /// Reads an attachment; `None` if there is none.
    pub fn load(&self, network: &str, container: &str, interface: &str) -> Result<Option<Entry>> {
        self.read(&self.path(network, container, interface))
    }

    fn read(&self, path: &Path) -> Result<Option<Entry>> {
        match fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(Error::decode(path.display().to_string())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file(path)(error)),
        }
    }

    /// Forgets an attachment.
    pub fn remove(&self, network: &str, container: &str, interface: &str) -> Result<()> {
        let path = self.path(network, container, interface);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file(&path)(error)),
            _ => Ok(()),
        }
    }

    /// Lists all attachments; unreadable ones are left out.
    pub fn list(&self) -> Result<Vec<Entry>> {
        let finished = self.paths()?.into_iter().filter(|path| !is_unfinished(path));
        Ok(finished.filter_map(|path| self.read(&path).ok().flatten()).collect())
    }

    /// Removes what a crash left half written, but not what may just be written for a container that is valid.
    pub fn sweep(&self, is_valid: &dyn Fn(&str) -> bool) -> Result<()> {
        for path in self.paths()?.into_iter().filter(|path| is_unfinished(path)) {
            // Network and interface may have dashes in their names, too.
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            if !name.split('-').any(is_valid) {
                fs::remove_file(&path).map_err(Error::file(&path))?;
            }
        }
        Ok(())
    }

    fn paths(&self) -> Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::file(&self.folder)(error)),
        };
        entries.map(|entry| Ok(entry.map_err(Error::file(&self.folder))?.path())).collect()
    }
}

fn is_unfinished(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "new")
}

/// Writes a file so that after a crash it is there whole, as before, or not at all; readable by its owner only.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(folder).map_err(Error::file(folder))?;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    let write = || {
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(Error::file(&temporary))?;
    fs::rename(&temporary, path).map_err(Error::file(path))?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::file(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crash_left_half_written_goes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(folder.path().join("attachments"));
        cache.sweep(&|_| false).unwrap();
        let entry = Entry {
            network: "my-net".to_owned(),
            container_id: "whole".to_owned(),
            interface: "eth0".to_owned(),
            config: Value::Null,
            arguments: BTreeMap::new(),
            capabilities: Value::Null,
            result: None,
        };
        cache.store(&entry).unwrap();
        for half in ["my-net-left-eth0.new", "my-net-busy-eth0.new"] {
            fs::write(folder.path().join("attachments").join(half), "{").unwrap();
        }
        cache.sweep(&|id| id == "busy").unwrap();
        let left = fs::read_dir(folder.path().join("attachments")).unwrap();
        let mut left: Vec<_> = left.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        left.sort();
        assert_eq!(left, ["my-net-busy-eth0.new", "my-net-whole-eth0"]);
        assert_eq!(cache.list().unwrap().len(), 1);
    }
}
