//! Network namespaces: making, opening, and running a closure inside one on a thread of its own.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::sched::{CloneFlags, setns, unshare};

use super::{Error, Result, Socket};

/// A network namespace held open by a descriptor.
#[derive(Debug)]
pub struct Namespace {
    fd: OwnedFd,
}

impl Namespace {
    /// Makes a namespace that lives as long as this value, a process inside it, or a mount of it.
    pub fn create() -> Result<Self> {
        on_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| Error::Namespace(errno.to_string()))?;
            Self::current()
        })
    }

    /// The namespace of the calling thread.
    pub fn current() -> Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// Opens the namespace at a path such as `/proc/PID/ns/net` or a mount of one.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::Namespace(format!("{}: {error}", path.display())))?;
        Ok(Self { fd: file.into() })
    }

    /// Runs `work` inside, on a fresh thread.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        run_in(self.as_fd(), work)
    }

    /// Opens a routing socket inside.
    pub fn route_socket(&self) -> Result<Socket> {
        Socket::route_in(self.as_fd())
    }

    /// A path by which this process finds the namespace while the value lives.
    pub fn path(&self) -> std::path::PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.fd.as_raw_fd()).into()
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Runs `work` on a fresh thread that has entered the network namespace `namespace`; the caller's thread stays put.
pub fn run_in<T: Send>(namespace: BorrowedFd<'_>, work: impl FnOnce() -> T + Send) -> Result<T> {
    on_thread(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::Namespace(format!("descriptor {}: {errno}", namespace.as_raw_fd())))?;
        Ok(work())
    })
}

fn on_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("netns".to_owned())
            .spawn_scoped(scope, work)
            .map_err(|error| Error::Namespace(error.to_string()))?;
        thread.join().unwrap_or_else(|_| Err(Error::Namespace("the work inside it panicked".to_owned())))
    })
}
