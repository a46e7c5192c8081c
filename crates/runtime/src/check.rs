//! Whether a host can keep containers, asked before anything is made.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::image::layers::remove_tree;
use crate::{Error, Result};

/// The longest path of a runtime's data: the sockets of shims are below it, and the kernel takes 107 bytes for one.
const LONGEST: usize = 107 - "/run/".len() - 32;

/// Fails with the cause and the remedy if containers cannot be kept with their data in `root`, which need not exist.
pub fn check_host(root: &Path) -> Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::Unavailable("keeping containers needs root: run as root".to_owned()));
    }
    let bytes = root.as_os_str().as_bytes();
    if bytes.len() > LONGEST {
        let over = bytes.len() - LONGEST;
        return Err(Error::Unavailable(format!(
            "the path {} is {over} bytes too long: choose a shorter one",
            root.display()
        )));
    }
    // What separates the options of an overlay.
    if let Some(bad) = bytes.iter().find(|byte| matches!(byte, b',' | b':' | b'\\')) {
        let bad = char::from(*bad);
        return Err(Error::Unavailable(format!(
            "the path {} must not contain {bad:?}: choose another",
            root.display()
        )));
    }
    check_file_system(root)
}

/// Fails if the file systems of containers cannot be on the one that holds this place, which need not exist.
pub fn check_file_system(place: &Path) -> Result<()> {
    let existing = place.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    let trial = Trial(existing.join(format!(".skiff-check-{}", std::process::id())));
    trial.run(existing)
}

/// An overlay that is mounted to see whether it can be.
struct Trial(PathBuf);

impl Trial {
    fn run(&self, place: &Path) -> Result<()> {
        let made = |path: PathBuf| fs::create_dir_all(&path).map_err(Error::file(path));
        for name in ["lower", "upper", "work", "merged"] {
            made(self.0.join(name))?;
        }
        let path = |name: &str| self.0.join(name).display().to_string();
        let options = format!("lowerdir={},upperdir={},workdir={}", path("lower"), path("upper"), path("work"));
        let merged = self.0.join("merged");
        let (flags, none) = (MsFlags::empty(), None::<&str>);
        mount(Some("overlay"), &merged, Some("overlay"), flags, Some(options.as_str()))
            .map_err(|e| refusal(place, e))?;
        // Travels to no other mount namespace, and files can be made on it.
        let private = mount(none, &merged, none, MsFlags::MS_PRIVATE, none).map_err(|e| refusal(place, e));
        private.and_then(|()| {
            fs::write(merged.join("file"), "")
                .map_err(|e| refusal(place, e.raw_os_error().map_or(nix::Error::EIO, nix::Error::from_raw)))
        })
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        let _ = umount2(&self.0.join("merged"), MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW);
        let _ = remove_tree(&self.0);
    }
}

fn refusal(place: &Path, error: nix::Error) -> Error {
    Error::Unavailable(match error {
        nix::Error::ENODEV => {
            "the kernel has no overlayfs, which containers need: load it with `modprobe overlay`, or use a kernel \
             built with CONFIG_OVERLAY_FS"
                .to_owned()
        }
        nix::Error::EPERM | nix::Error::EACCES => {
            "overlayfs cannot be mounted here: run as root with the right to mount, not in an unprivileged container"
                .to_owned()
        }
        error => format!(
            "overlayfs does not work on the file system of {} ({}): keep the data on ext4, xfs, btrfs or tmpfs, not on \
             an overlay or network file system",
            place.display(),
            error.desc()
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_cannot_work_are_refused_and_nothing_stays() {
        let place = tempfile::tempdir().unwrap();
        let message = |path: &Path| check_host(path).unwrap_err().to_string();
        assert!(message(&place.path().join("a,b")).contains("must not contain ','"));
        assert!(message(&place.path().join("x".repeat(100))).contains("too long"));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let text = |error| refusal(Path::new("/data"), error).to_string();
        assert!(text(nix::Error::ENODEV).contains("modprobe overlay"));
        assert!(text(nix::Error::EINVAL).contains("does not work on the file system of /data"));
    }

    /// In a mount namespace of its own: an overlay is no place for another, a file system in memory is.
    #[test]
    fn the_file_system_is_tried() {
        let outcome = linux::process::fork(|| {
            let tried = (|| -> std::result::Result<(), String> {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).map_err(|e| e.to_string())?;
                let none = None::<&str>;
                let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
                mount(none, "/", none, private, none).map_err(|e| e.to_string())?;
                let place = Path::new("/tmp");
                mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), none).map_err(|e| e.to_string())?;
                check_host(&place.join("data/runtime")).map_err(|e| e.to_string())?;
                for name in ["lower", "upper", "work", "merged"] {
                    fs::create_dir(place.join(name)).map_err(|e| e.to_string())?;
                }
                let merged = place.join("merged");
                let options = "lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work";
                mount(Some("overlay"), &merged, Some("overlay"), MsFlags::empty(), Some(options))
                    .map_err(|e| e.to_string())?;
                match check_host(&merged.join("data/runtime")) {
                    Err(error) if error.to_string().contains("does not work on the file system") => {}
                    other => return Err(format!("on an overlay: {other:?}")),
                }
                let left: Vec<_> = fs::read_dir(&merged).map_err(|e| e.to_string())?.flatten().collect();
                if left.is_empty() { Ok(()) } else { Err(format!("left: {left:?}")) }
            })();
            match tried {
                Ok(()) => 0,
                Err(why) => {
                    eprintln!("{why}");
                    1
                }
            }
        });
        let pid = outcome.unwrap();
        let status = nix::sys::wait::waitpid(pid, None).unwrap();
        assert_eq!(status, nix::sys::wait::WaitStatus::Exited(pid, 0));
    }
}
