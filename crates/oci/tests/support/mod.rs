//! Containers for tests: a root with busybox, made by a starter as a shim would, and gone afterwards.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use linux::process;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, pipe};
use oci::{Create, Exec, Stdio, cgroup_of, create, exec, load_spec};
use oci_spec::runtime::Process;
use serde_json::{Value, json};

static NEXT: AtomicU32 = AtomicU32::new(0);
/// A child that is forked while a program is being copied keeps it open for writing, and it cannot be executed.
static COPYING: Mutex<()> = Mutex::new(());

/// A folder with a root of busybox and a specification.
pub struct Bundle {
    pub folder: PathBuf,
    pub spec: Value,
}

/// What came out of a process.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// A container at its gate, or running.
pub struct Container {
    pub pid: Pid,
    pub terminal: Option<OwnedFd>,
    gate: UnixStream,
    stdout: File,
    stderr: File,
    spec: oci_spec::runtime::Spec,
}

impl Bundle {
    pub fn new(arguments: &[&str]) -> Self {
        let name = format!("skiff-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(&name);
        let root = folder.join("rootfs");
        for made in ["bin", "etc", "proc", "sys", "dev", "tmp", "home/user", "secret"] {
            fs::create_dir_all(root.join(made)).unwrap();
        }
        let busybox = ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists()).unwrap();
        let _copying = COPYING.lock().unwrap();
        fs::copy(busybox, root.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "cat", "id", "ls", "sleep", "echo", "stat", "mount", "touch", "mkdir", "hostname", "grep", "tty",
            "stty", "head", "dd",
        ] {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n")
            .unwrap();
        fs::write(root.join("secret/file"), "hidden\n").unwrap();
        let capabilities = json!(["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID", "CAP_NET_BIND_SERVICE"]);
        let spec = json!({
            "ociVersion": "1.2.0",
            "root": {"path": "rootfs", "readonly": false},
            "hostname": "inside",
            "process": {
                "args": arguments, "cwd": "/", "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
                "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
                "noNewPrivileges": true,
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "strictatime", "mode=755", "size=64k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", "ro"]},
                {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "noexec", "nodev", "ro"]},
            ],
            "linux": {
                "cgroupsPath": format!("/{name}"),
                "namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "cgroup"}],
                "resources": {"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "access": "rwm"},
                    {"allow": true, "type": "c", "major": 5, "access": "rwm"}, {"allow": true, "type": "c", "major": 136, "access": "rwm"}]},
                "maskedPaths": ["/proc/kcore", "/secret"],
                "readonlyPaths": ["/proc/sys"],
            },
        });
        Self { folder, spec }
    }

    pub fn root(&self) -> PathBuf {
        self.folder.join("rootfs")
    }

    /// Makes the container; it waits at its gate.
    pub fn create(&self) -> Result<Container, String> {
        fs::write(self.folder.join("config.json"), serde_json::to_vec(&self.spec).unwrap()).unwrap();
        let spec = load_spec(&self.folder).map_err(|e| e.to_string())?;
        let (gate, inside) = UnixStream::pair().unwrap();
        let terminal = spec.process().as_ref().unwrap().terminal().unwrap_or(false);
        let ((stdout, out), (stderr, err)) = (pipe().unwrap(), pipe().unwrap());
        let stdio = if terminal {
            Stdio::Terminal
        } else {
            Stdio::Streams([File::open("/dev/null").unwrap().into(), out, err])
        };
        let forked = Cell::new(None);
        let (pid, terminal) = started(|report| {
            let made = create(
                Create { spec: &spec, bundle: &self.folder, stdio, gate: inside.into(), sibling: true },
                |pid| forked.set(Some(pid)),
            );
            tell(report, made, forked.get())
        })?;
        Ok(Container { pid, terminal, gate, stdout: stdout.into(), stderr: stderr.into(), spec })
    }

    /// Runs the container to its end.
    pub fn run(&self) -> Result<Outcome, String> {
        let mut container = self.create()?;
        container.start()?;
        Ok(container.finish())
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        if let Ok(Some(cgroup)) = load_spec(&self.folder).and_then(|spec| cgroup_of(&spec)) {
            cgroup.signal(libc::SIGKILL).unwrap();
            cgroup.remove().unwrap();
        }
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

impl Container {
    pub fn start(&mut self) -> Result<(), String> {
        self.gate.write_all(b"s").unwrap();
        let mut why = String::new();
        self.gate.read_to_string(&mut why).unwrap();
        if why.is_empty() { Ok(()) } else { Err(why) }
    }

    pub fn finish(mut self) -> Outcome {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.stdout.read_to_string(&mut stdout).unwrap();
        self.stderr.read_to_string(&mut stderr).unwrap();
        Outcome { code: end_of(self.pid), stdout, stderr }
    }

    /// Runs another process in it to its end.
    pub fn exec(&self, change: Value) -> Result<Outcome, String> {
        let mut process = serde_json::to_value(self.spec.process()).unwrap();
        process.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let process: Process = serde_json::from_value(process).unwrap();
        let ((mut stdout, out), (mut stderr, err)) = (file_pipe(), file_pipe());
        let stdio = Stdio::Streams([File::open("/dev/null").unwrap().into(), out, err]);
        let seccomp = self.spec.linux().as_ref().unwrap().seccomp().as_ref();
        let cgroup = cgroup_of(&self.spec).unwrap();
        let forked = Cell::new(None);
        let (pid, _) = started(|report| {
            let run =
                Exec { process: &process, seccomp, target: self.pid, cgroup: cgroup.as_ref(), stdio, sibling: true };
            tell(report, exec(run, |pid| forked.set(Some(pid))), forked.get())
        })?;
        let (mut out, mut err) = (String::new(), String::new());
        stdout.read_to_string(&mut out).unwrap();
        stderr.read_to_string(&mut err).unwrap();
        Ok(Outcome { code: end_of(pid), stdout: out, stderr: err })
    }
}

fn file_pipe() -> (File, OwnedFd) {
    let (read, write) = pipe().unwrap();
    (read.into(), write)
}

/// Runs `work` in a starter; its process, or why there is none.
fn started(work: impl FnOnce(&UnixStream) -> i32) -> Result<(Pid, Option<OwnedFd>), String> {
    let (here, there) = UnixStream::pair().unwrap();
    let copying = COPYING.lock().unwrap();
    let starter = process::fork(|| work(&there)).unwrap();
    drop(copying);
    drop(there);
    let mut bytes = [0; 8192];
    let (count, fds) = linux::scm::receive(here.as_fd(), &mut bytes).unwrap();
    assert_eq!(waitpid(starter, None).unwrap(), WaitStatus::Exited(starter, 0));
    let said: Value = serde_json::from_slice(&bytes[..count]).unwrap();
    let pid = said["pid"].as_i64().map(|pid| Pid::from_raw(pid as i32));
    match (pid, said["error"].as_str()) {
        (Some(pid), None) => Ok((pid, fds.into_iter().next())),
        (pid, why) => {
            // A namespace of processes only ends when all of them were waited for.
            pid.map(end_of);
            Err(why.unwrap().to_owned())
        }
    }
}

fn tell(report: &UnixStream, made: oci::Result<oci::Created>, forked: Option<Pid>) -> i32 {
    let (said, terminal) = match made {
        Ok(created) => (json!({"pid": created.pid.as_raw()}), created.terminal),
        Err(error) => (json!({"error": error.to_string(), "pid": forked.map(Pid::as_raw)}), None),
    };
    let fds: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
    linux::scm::send(report.as_fd(), said.to_string().as_bytes(), &fds).unwrap();
    0
}

pub fn end_of(pid: Pid) -> i32 {
    // Siblings of a starter send no signal at their end, so they are waited for by name.
    match waitpid(pid, Some(nix::sys::wait::WaitPidFlag::__WALL)).unwrap() {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
        other => panic!("{other:?}"),
    }
}
