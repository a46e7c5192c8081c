//! The root file system of a container: what is mounted where, what is made in `/dev`, what is hidden.
//!
//! A [`Plan`] is made by the starter, which opens every source of a bind mount with the host's rights; the container's
//! process then only attaches what is open, inside its own mount namespace.

mod devices;
mod options;
mod path;

use std::ffi::OsStr;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use linux::cgroup::Cgroup;
use linux::mount::{attach, attribute, change, open_tree};
use linux::{Context, plain};
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, fchdir, pivot_root};
use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use crate::namespaces::Plan as Namespaces;
use crate::{Error, Result};
use options::Options;

const NONE: Option<&str> = None;

/// What the root file system of a container will be.
#[derive(Debug)]
pub struct Plan {
    root: PathBuf,
    read_only: bool,
    /// Of the container's root, once it is in place.
    propagation: Option<MsFlags>,
    tree: OwnedFd,
    mounts: Vec<Planned>,
    devices: devices::Plan,
    masked: Vec<PathBuf>,
    unchangeable: Vec<PathBuf>,
    sysctls: Vec<(String, String)>,
}

#[derive(Debug)]
struct Planned {
    target: PathBuf,
    source: Source,
    options: Options,
}

#[derive(Debug)]
enum Source {
    /// A part of the host's tree, opened.
    Tree { tree: OwnedFd, folder: bool },
    /// A file system to be made.
    New { kind: String, device: PathBuf },
    /// An empty tmpfs with parts of the host's tree in it: control groups of version 1.
    Parts(Vec<(String, OwnedFd)>),
}

impl Plan {
    pub fn of(
        spec: &Spec,
        bundle: &Path,
        namespaces: &Namespaces,
        cgroup: Option<&Cgroup>,
        users: Option<BorrowedFd<'_>>,
    ) -> Result<Self> {
        let root = spec.root().as_ref().ok_or_else(|| Error::spec("a container needs a root"))?;
        let path = fs::canonicalize(bundle.join(root.path()));
        let path = path.context(|| format!("cannot find the root {}", root.path().display()))?;
        let linux = spec.linux().as_ref();
        let paths = |list: Option<&Vec<String>>| list.into_iter().flatten().map(PathBuf::from).collect();
        let mut mounts = Vec::new();
        for mount in spec.mounts().iter().flatten() {
            mounts.push(planned(mount, bundle, namespaces, cgroup, users)?);
        }
        let host_dev = mounts.iter().any(|m| m.target == Path::new("/dev") && matches!(m.source, Source::Tree { .. }));
        let listed = linux.and_then(|linux| linux.devices().as_ref());
        let mut sysctls: Vec<(String, String)> = linux
            .and_then(|linux| linux.sysctl().as_ref())
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        sysctls.sort();
        Ok(Self {
            tree: open_tree(&path, true).context(|| format!("cannot open the root {}", path.display()))?,
            root: path,
            read_only: root.readonly().unwrap_or(false),
            propagation: linux
                .and_then(|linux| linux.rootfs_propagation().as_deref())
                .filter(|name| !name.is_empty())
                .map(|name| {
                    options::propagation(name).ok_or_else(|| Error::spec(format!("rootfsPropagation {name:?}")))
                })
                .transpose()?,
            mounts,
            devices: devices::Plan::of(listed.map(Vec::as_slice).unwrap_or_default(), !host_dev)?,
            masked: paths(linux.and_then(|linux| linux.masked_paths().as_ref())),
            unchangeable: paths(linux.and_then(|linux| linux.readonly_paths().as_ref())),
            sysctls,
        })
    }

    /// Mounts everything and makes the root the root. In the container's new mount namespace.
    pub fn enter(&self) -> Result<()> {
        // What is mounted from now on stays here, while the host's later mounts may come in.
        let slave = MsFlags::MS_SLAVE | MsFlags::MS_REC;
        mount(NONE, "/", NONE, slave, NONE).context(|| "cannot separate the mounts from the host's")?;
        attach(self.tree.as_fd(), &self.root).context(|| format!("cannot mount the root {}", self.root.display()))?;
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(NONE, &self.root, NONE, private, NONE).context(|| "cannot make the root private")?;
        let root = path::Root::open(&self.root)?;
        for planned in &self.mounts {
            planned.place(&root)?;
        }
        self.devices.make(&root)?;
        chdir(&self.root).context(|| "cannot enter the root")?;
        let flags = OFlag::O_DIRECTORY | OFlag::O_PATH | OFlag::O_CLOEXEC;
        let old = open("/", flags, Mode::empty()).context(|| "cannot open the old root")?;
        pivot_root(".", ".").context(|| "cannot make the root the root")?;
        // By its own descriptor: "." is still the new root below it, whose mounts may be shared with the host.
        fchdir(&old).context(|| "cannot enter the old root")?;
        mount(NONE, ".", NONE, slave, NONE).context(|| "cannot separate the old root")?;
        umount2(".", MntFlags::MNT_DETACH).context(|| "cannot leave the old root")?;
        chdir("/").context(|| "cannot enter the root")?;
        if let Some(propagation) = self.propagation {
            mount(NONE, "/", NONE, propagation, NONE).context(|| "cannot set the propagation of the root")?;
        }
        Ok(())
    }

    /// Sets kernel settings, then takes away what the container shall not see or change. Inside the new root.
    pub fn close(&self) -> Result<()> {
        for (name, value) in &self.sysctls {
            set_sysctl(name, value)?;
        }
        if self.read_only {
            change(Path::new("/"), attribute::READ_ONLY, 0, false).context(|| "cannot make the root read-only")?;
        }
        for path in &self.unchangeable {
            make_unchangeable(path)?;
        }
        for path in &self.masked {
            mask(path)?;
        }
        Ok(())
    }
}

/// Sets a kernel setting by its dotted name.
pub fn set_sysctl(name: &str, value: &str) -> Result<()> {
    let file = if name.contains('/') { name.to_owned() } else { name.replace('.', "/") };
    if file.split('/').any(|part| part.is_empty() || part == "..") {
        return Err(Error::spec(format!("sysctl {name:?}")));
    }
    let file = Path::new("/proc/sys").join(file);
    Ok(fs::write(&file, value).context(|| format!("cannot write {value:?} to sysctl {name}"))?)
}

/// Binds a path onto itself, read-only.
fn make_unchangeable(path: &Path) -> Result<()> {
    let what = || format!("cannot make {} read-only", path.display());
    let tree = match open_tree(path, true) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => return Ok(()),
        other => other.context(what)?,
    };
    attach(tree.as_fd(), path).context(what)?;
    Ok(change(path, attribute::READ_ONLY, 0, true).context(what)?)
}

/// Covers a folder with an empty one, anything else with the null device.
fn mask(path: &Path) -> Result<()> {
    let what = || format!("cannot mask {}", path.display());
    match fs::metadata(path) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES)) => Ok(()),
        Err(error) => Err(error).context(what).map_err(Error::from),
        Ok(meta) if meta.is_dir() => {
            let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            Ok(mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some("size=0k,nr_inodes=2")).context(what)?)
        }
        Ok(_) => Ok(mount(Some("/dev/null"), path, NONE, MsFlags::MS_BIND, NONE).context(what)?),
    }
}

fn planned(
    mount: &Mount,
    bundle: &Path,
    namespaces: &Namespaces,
    cgroup: Option<&Cgroup>,
    users: Option<BorrowedFd<'_>>,
) -> Result<Planned> {
    let options = Options::parse(mount.options().as_deref().unwrap_or_default())?;
    let target = mount.destination().clone();
    let kind = mount.typ().clone().unwrap_or_default();
    let device = mount.source().clone().unwrap_or_else(|| PathBuf::from(&kind));
    let source = if options.bind || kind == "bind" {
        let from = bundle.join(&device);
        let failed = |e: std::io::Error| {
            Error::Process(format!("error mounting {:?} to rootfs at {:?}: {}", device, target, plain(&e)))
        };
        let folder = fs::metadata(&from).map_err(failed)?.is_dir();
        // A link's target is meant, not the link.
        let from = fs::canonicalize(&from).map_err(failed)?;
        let tree = open_tree(&from, options.recursive).map_err(failed)?;
        if options.shift_users || mount.uid_mappings().is_some() {
            let users = users.ok_or_else(|| Error::spec("an idmapped mount needs a user namespace"))?;
            linux::mount::shift_users(tree.as_fd(), users, options.shift_below).map_err(failed)?;
        }
        Source::Tree { tree, folder }
    } else if kind == "cgroup" || kind == "cgroup2" {
        cgroup_source(cgroup.ok_or_else(|| Error::spec("a cgroup mount needs a cgroupsPath"))?, namespaces)?
    } else if kind.is_empty() {
        return Err(Error::spec(format!("the mount at {} has no type", target.display())));
    } else {
        Source::New { kind, device }
    };
    Ok(Planned { target, source, options })
}

/// The container's own part of the control groups. Shown by binding it, which needs no namespace.
fn cgroup_source(cgroup: &Cgroup, namespaces: &Namespaces) -> Result<Source> {
    let open = |folder: &Path| open_tree(folder, false).context(|| format!("cannot open {}", folder.display()));
    let layout = linux::cgroup::Layout::detect()?;
    if let linux::cgroup::Layout::Unified { mount } = &layout {
        let own = namespaces.isolates(LinuxNamespaceType::Cgroup);
        let folder = if own { cgroup.unified_folder().unwrap_or_else(|| mount.clone()) } else { mount.clone() };
        return Ok(Source::Tree { tree: open(&folder)?, folder: true });
    }
    let mut parts = Vec::new();
    // The unified hierarchy beside those of version 1 limits nothing, and programs would take its mount for version 2.
    let unified = cgroup.unified_folder();
    for (folder, mount) in cgroup.folders().into_iter().zip(layout.mounts()) {
        if unified.as_ref() == Some(&folder) {
            continue;
        }
        if let (Some(name), true) = (mount.file_name().and_then(OsStr::to_str), folder.is_dir()) {
            parts.push((name.to_owned(), open(&folder)?));
        }
    }
    Ok(Source::Parts(parts))
}

impl Planned {
    fn place(&self, root: &path::Root) -> Result<()> {
        self.try_place(root).map_err(|error| {
            let (what, target) = (self.named(), self.target.display());
            Error::Process(format!(
                "error mounting {what:?} to rootfs at {target:?}: {error}",
                target = target.to_string()
            ))
        })
    }

    fn named(&self) -> String {
        match &self.source {
            Source::Tree { .. } => "bind".to_owned(),
            Source::New { kind, .. } => kind.clone(),
            Source::Parts(_) => "cgroup".to_owned(),
        }
    }

    fn try_place(&self, root: &path::Root) -> Result<()> {
        let options = &self.options;
        match &self.source {
            Source::Tree { tree, folder } => {
                let target = if *folder { root.make_folder(&self.target)? } else { root.make_file(&self.target)? };
                attach(tree.as_fd(), &target.path()).context(|| "cannot attach it")?;
                // What was mounted is on top now.
                let top = root.open_existing(&self.target)?;
                options.apply(&top.path())?;
            }
            Source::New { kind, device } => {
                let target = root.make_folder(&self.target)?;
                let data = (!options.data.is_empty()).then(|| options.data.join(","));
                mount(Some(device), &target.path(), Some(kind.as_str()), options.flags, data.as_deref())
                    .context(|| format!("cannot mount {kind}"))?;
                let top = root.open_existing(&self.target)?;
                options.apply_propagation(&top.path())?;
            }
            Source::Parts(parts) => {
                let target = root.make_folder(&self.target)?;
                let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
                mount(Some("tmpfs"), &target.path(), Some("tmpfs"), flags, Some("mode=755"))
                    .context(|| "cannot mount tmpfs")?;
                for (name, tree) in parts {
                    let inside = self.target.join(name);
                    let place = root.make_folder(&inside)?;
                    attach(tree.as_fd(), &place.path()).context(|| format!("cannot attach {name}"))?;
                }
                let top = root.open_existing(&self.target)?;
                let (set, clear) = options.attributes();
                change(&top.path(), set, clear, true).context(|| "cannot change its attributes")?;
            }
        }
        Ok(())
    }
}

/// A place in the container's root that is held open, so that no link can lead elsewhere any more.
#[derive(Debug)]
pub struct Place {
    fd: OwnedFd,
}

impl Place {
    /// A path by which the kernel finds it.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }
}
