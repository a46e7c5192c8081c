//! What outlives a shim: a small file for each container, so that a daemon learns ends that it did not see.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use linux::cgroup::{Cgroup, Layout};

use super::protocol::{ContainerState, ExitStatus};
use crate::record::now;
use crate::{Error, Result};

const ENDING: &str = "json";
/// The exit code of a container whose end nobody saw: it was killed.
const UNSEEN: i32 = 137;

/// Writes what is known of a container. An exit code is on disk when this returns.
pub fn save(folder: &Path, state: &ContainerState) -> io::Result<()> {
    let path = folder.join(&state.container).with_extension(ENDING);
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    serde_json::to_writer(&mut file, state)?;
    file.flush()?;
    if state.exit.is_some() {
        file.sync_data()?;
    }
    fs::rename(new, path)
}

/// Forgets a container.
pub fn remove(folder: &Path, container: &str) {
    let _ = fs::remove_file(folder.join(container).with_extension(ENDING));
}

/// Takes what a shim left that died without a word: kills what still runs of its containers and tells how all of
/// them ended.
pub fn bury(folder: &Path) -> Result<Vec<ContainerState>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(Error::file(folder))?,
    };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|ending| ending != ENDING) {
            continue;
        }
        let bytes = fs::read(&path).map_err(Error::file(&path))?;
        let Ok(mut state) = serde_json::from_slice::<ContainerState>(&bytes) else {
            tracing::warn!(path = %path.display(), "what a shim left of a container cannot be read");
            continue;
        };
        if state.exit.is_none() {
            if let Some(cgroup) = group(&state.cgroup) {
                let ended = cgroup.signal(nix::libc::SIGKILL).and_then(|()| cgroup.remove());
                ended.map_err(|e| Error::Shim(e.to_string()))?;
            }
            state.exit = Some(ExitStatus { code: UNSEEN, at: now(), oom_killed: false });
            save(folder, &state).map_err(Error::file(&path))?;
        }
        found.push(state);
    }
    Ok(found)
}

/// The control group of this path, if there can be one.
pub fn group(path: &str) -> Option<Cgroup> {
    Cgroup::new(Layout::detect().ok()?, path).ok()
}
