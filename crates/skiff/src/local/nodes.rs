//! A node: namespaces of its own around `skiff node-init`.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use linux::cgroup::{Cgroup, Layout};
use linux::mount::{self, MountInfo, attribute};
use linux::process::{self, Fork, namespace};
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags};
use nix::unistd::Pid;

use super::{Cluster, Node};
use crate::process::Process;

/// Where a node finds the program.
const PROGRAM: &str = "/skiff";

fn cluster_group(cluster: &Cluster) -> String {
    format!("skiff-cluster-{}", cluster.name)
}

fn group(cluster: &Cluster, node: &Node) -> anyhow::Result<Cgroup> {
    Ok(Cgroup::new(Layout::detect()?, &format!("{}/{}", cluster_group(cluster), node.name))?)
}

/// Removes a node's control groups; its processes have ended.
pub fn remove_groups(cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
    Ok(group(cluster, node)?.remove()?)
}

/// Removes what held the control groups of the nodes.
pub fn remove_cluster_groups(cluster: &Cluster) -> anyhow::Result<()> {
    Ok(Cgroup::new(Layout::detect()?, &cluster_group(cluster))?.remove()?)
}

/// A node that waits for its network.
pub struct Born {
    pub process: Process,
    go: OwnedFd,
    told: OwnedFd,
}

impl Born {
    /// Makes a node's namespaces. The calling process must have one thread.
    pub fn start(cluster: &Cluster, node: &Node, folder: &Path, daemon: Vec<String>) -> anyhow::Result<Born> {
        prepare(cluster, node, folder)?;
        let group = group(cluster, node)?;
        group.create().context("the node's control group cannot be made")?;
        let (go_read, go) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let (told, tell) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let (pid_read, pid_write) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let plan = Plan::new(folder, &node.name, daemon)?;
        let between = process::fork(|| {
            let born = (|| -> anyhow::Result<()> {
                nix::unistd::setsid()?;
                // Before the namespaces: the group it is in becomes the root of the new one.
                group.add(nix::unistd::getpid())?;
                let all = namespace::MOUNT
                    | namespace::PID
                    | namespace::NETWORK
                    | namespace::UTS
                    | namespace::IPC
                    | namespace::CGROUP;
                let pid = Fork { namespaces: all, ..Fork::default() }.run(|| {
                    let error = plan.carry_out(&go_read, &go, &tell);
                    let mut pipe = File::from(match tell.try_clone() {
                        Ok(pipe) => pipe,
                        Err(_) => return 1,
                    });
                    let _ = pipe.write_all(format!("{error:#}").as_bytes());
                    1
                })?;
                File::from(pid_write.try_clone()?).write_all(&pid.as_raw().to_ne_bytes())?;
                Ok(())
            })();
            match born {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("skiff: {error:#}");
                    1
                }
            }
        })?;
        drop((go_read, tell, pid_write));
        let mut number = [0; 4];
        let read = File::from(pid_read).read_exact(&mut number);
        let _ = nix::sys::wait::waitpid(between, None);
        read.context("the node's namespaces could not be made")?;
        let process = Process::of(Pid::from_raw(i32::from_ne_bytes(number)))?;
        Ok(Born { process, go, told })
    }

    /// Lets it go on, and waits until it has become `skiff node-init`.
    pub fn release(self) -> anyhow::Result<()> {
        File::from(self.go).write_all(b"1").context("the node ended before it had its network")?;
        let mut trouble = String::new();
        File::from(self.told).read_to_string(&mut trouble)?;
        if !trouble.is_empty() {
            bail!("the node could not be set up: {trouble}");
        }
        Ok(())
    }
}

/// Makes the folders that a node keeps.
fn prepare(cluster: &Cluster, node: &Node, folder: &Path) -> anyhow::Result<()> {
    for name in ["root", "etc/skiff", "etc/cni/net.d", "var/lib/skiff", "var/log/pods", "var/tmp", "opt/cni/bin"] {
        let path = folder.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
    }
    let write = |name: &str, text: &str| {
        let path = folder.join("etc").join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    let mut hosts = "127.0.0.1 localhost\n::1 localhost\n".to_owned();
    for other in &cluster.nodes {
        hosts.push_str(&format!("{} {}\n", other.ip, other.name));
    }
    write("hosts", &hosts)?;
    write("hostname", &format!("{}\n", node.name))?;
    write("resolv.conf", &fs::read_to_string("/etc/resolv.conf").unwrap_or_default())?;
    for name in ["passwd", "group", "os-release", "nsswitch.conf"] {
        if let Ok(text) = fs::read_to_string(Path::new("/etc").join(name)) {
            write(name, &text)?;
        }
    }
    Ok(())
}

/// What the first process of a node does before it becomes `skiff node-init`, decided before it is born.
struct Plan {
    folder: PathBuf,
    name: String,
    arguments: Vec<CString>,
    environment: Vec<CString>,
    program: PathBuf,
    groups: Vec<MountInfo>,
}

impl Plan {
    fn new(folder: &Path, name: &str, daemon: Vec<String>) -> anyhow::Result<Plan> {
        let words = ["skiff", "node-init", "--"].map(str::to_owned).into_iter().chain(daemon);
        let mut environment =
            vec![c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(), c"HOME=/root".into()];
        if let Ok(level) = std::env::var("SKIFF_LOG") {
            environment.push(CString::new(format!("SKIFF_LOG={level}"))?);
        }
        let groups = mount::list()?.into_iter().filter(|mount| mount.kind == "cgroup" || mount.kind == "cgroup2");
        Ok(Plan {
            folder: folder.to_owned(),
            name: name.to_owned(),
            arguments: words.map(CString::new).collect::<Result<_, _>>()?,
            environment,
            program: std::env::current_exe().context("cannot find this program's own file")?,
            groups: groups.collect(),
        })
    }

    /// Returns only to tell why it could not.
    fn carry_out(&self, go_read: &OwnedFd, go: &OwnedFd, tell: &OwnedFd) -> anyhow::Error {
        match self.set_up(go_read, go, tell) {
            Ok(never) => match never {},
            Err(error) => error,
        }
    }

    fn set_up(&self, go_read: &OwnedFd, go: &OwnedFd, tell: &OwnedFd) -> anyhow::Result<std::convert::Infallible> {
        use std::os::fd::AsRawFd;
        let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
        for at in 0..3 {
            process::place(null.as_fd(), at)?;
        }
        // The caller's end of the pipe must be the only one, or its end goes unnoticed.
        process::close_from_except(3, &[go_read.as_raw_fd(), tell.as_raw_fd()])?;
        let _ = go;
        std::mem::forget(null);
        nix::unistd::sethostname(&self.name)?;
        self.mounts()?;
        let mut word = [0; 1];
        let mut pipe = File::from(go_read.try_clone()?);
        pipe.read_exact(&mut word).context("the command that made the node ended")?;
        process::reset_signals()?;
        let error = process::execute(&CString::new(PROGRAM)?, &self.arguments, &self.environment);
        Err(error).context("cannot execute the node's first process")
    }

    fn mounts(&self) -> anyhow::Result<()> {
        let none: Option<&str> = None;
        nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        let root = self.folder.join("root");
        mount::tmpfs(&root, Some(64 << 20), 0o755).context("cannot mount the node's root")?;
        for entry in fs::read_dir("/")?.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let place = root.join(&name);
            if matches!(name.as_bytes(), b"usr" | b"bin" | b"sbin") || name.as_bytes().starts_with(b"lib") {
                if let Ok(target) = fs::read_link(&path) {
                    std::os::unix::fs::symlink(target, &place)?;
                } else if path.is_dir() {
                    fs::create_dir(&place)?;
                    bind(&path, &place)?;
                    mount::change(&place, attribute::READ_ONLY, 0, false)?;
                }
            }
        }
        for name in ["etc", "var", "opt"] {
            let place = root.join(name);
            fs::create_dir(&place)?;
            bind(&self.folder.join(name), &place)?;
        }
        for name in ["ssl", "ca-certificates", "pki"] {
            let (path, place) = (Path::new("/etc").join(name), root.join("etc").join(name));
            if path.is_dir() {
                fs::create_dir_all(&place)?;
                bind(&path, &place)?;
                mount::change(&place, attribute::READ_ONLY, 0, false)?;
            }
        }
        let program = root.join(PROGRAM.trim_start_matches('/'));
        File::create(&program)?;
        bind(&self.program, &program)?;
        for (name, mode) in [("run", 0o755), ("tmp", 0o1777), ("dev/shm", 0o1777)] {
            let place = root.join(name);
            if name == "dev/shm" {
                fs::create_dir(root.join("dev"))?;
                bind(Path::new("/dev"), &root.join("dev"))?;
                if !place.is_dir() {
                    continue;
                }
            } else {
                fs::create_dir(&place)?;
            }
            mount::tmpfs(&place, None, mode).with_context(|| format!("cannot mount the node's /{name}"))?;
        }
        for name in ["proc", "sys", "root", "home", "mnt"] {
            fs::create_dir(root.join(name))?;
        }
        // Mounts below are for pods to see, and theirs for the node, as on any host.
        let special = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let system = |kind: &str, place: &Path, flags: MsFlags, options: Option<&str>| {
            let mounted = nix::mount::mount(Some(kind), place, Some(kind), flags, options);
            mounted.with_context(|| format!("cannot mount {kind} at {}", place.display()))
        };
        system("proc", &root.join("proc"), special, None)?;
        system("sysfs", &root.join("sys"), special, None)?;
        let terminals = Some("newinstance,ptmxmode=0666,mode=0620,gid=5");
        system("devpts", &root.join("dev/pts"), MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC, terminals)?;
        // The host's /dev/ptmx may be a device, which then opens the pts beside it.
        self.control_groups(&root)?;
        nix::unistd::chdir(&root)?;
        nix::unistd::pivot_root(".", ".")?;
        nix::mount::umount2(".", MntFlags::MNT_DETACH)?;
        nix::unistd::chdir("/")?;
        nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SHARED, none)?;
        Ok(())
    }

    /// Mounts the hierarchies that the host has, as this node's namespace shows them.
    fn control_groups(&self, root: &Path) -> anyhow::Result<()> {
        let top = Path::new("/sys/fs/cgroup");
        let place = root.join("sys/fs/cgroup");
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        if !self.groups.iter().any(|mount| mount.point == top) {
            mount::tmpfs(&place, Some(1 << 20), 0o755)?;
        }
        for hierarchy in &self.groups {
            let Ok(relative) = hierarchy.point.strip_prefix(top) else { continue };
            let place = place.join(relative);
            fs::create_dir_all(&place)?;
            let options: Vec<&str> = hierarchy
                .options
                .split(',')
                .filter(|option| !matches!(*option, "rw" | "ro") && !option.starts_with("release_agent"))
                .collect();
            let options = (hierarchy.kind == "cgroup").then(|| options.join(","));
            let kind = hierarchy.kind.as_str();
            nix::mount::mount(Some(kind), &place, Some(kind), flags, options.as_deref())
                .with_context(|| format!("cannot mount {}", hierarchy.point.display()))?;
        }
        Ok(())
    }
}

fn bind(what: &Path, place: &Path) -> anyhow::Result<()> {
    let tree = mount::open_tree(what, false).with_context(|| format!("cannot show {} to the node", what.display()))?;
    mount::attach(tree.as_fd(), place).with_context(|| format!("cannot show {} to the node", what.display()))
}
