//! Tells when something in a folder changes.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::net::unix::pipe;

/// A watch of one folder; what lies deeper is not seen.
pub struct FolderWatch {
    /// Events come as bytes do from a pipe; only that they come matters.
    events: pipe::Receiver,
}

impl FolderWatch {
    /// Starts watching.
    pub fn new(folder: &Path, flags: AddWatchFlags) -> io::Result<FolderWatch> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(folder, flags)?;
        // The watch belongs to the open file, whichever descriptor refers to it.
        let events = inotify.as_fd().try_clone_to_owned()?;
        Ok(FolderWatch { events: pipe::Receiver::from_owned_fd_unchecked(events)? })
    }

    /// Waits until something has changed since the last time.
    pub async fn changed(&self) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let mut told = false;
        loop {
            if !told {
                self.events.readable().await?;
            }
            match self.events.try_read(&mut buffer) {
                Ok(_) => told = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && told => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changes_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let watch = FolderWatch::new(folder.path(), AddWatchFlags::IN_CLOSE_WRITE).unwrap();
        std::fs::write(folder.path().join("a"), "1").unwrap();
        let wait = tokio::time::timeout(std::time::Duration::from_secs(5), watch.changed());
        wait.await.unwrap().unwrap();
        let wait = tokio::time::timeout(std::time::Duration::from_millis(50), watch.changed());
        assert!(wait.await.is_err(), "all was told before");
    }
}
