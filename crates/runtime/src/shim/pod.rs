//! The start of a shim: out of the daemon's session and control group, into the pod's namespaces.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use linux::cgroup::{Cgroup, Layout};
use linux::process::{self, Fork, namespace};
use linux::{Context, plain};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{Pid, setsid};

use super::protocol::{Launch, Namespaces};
use super::server::Server;
use crate::{Error, Result};

/// The longest that a shim may take until it listens.
const DEADLINE: Duration = Duration::from_secs(25);
const MAX_LAUNCH: u64 = 1 << 20;

/// `skiff shim`: reads a [`Launch`] from standard input, leaves a shim behind, and ends when that listens. What goes
/// wrong is told on standard output, where the caller reads it.
pub fn run() -> ExitCode {
    let mut config = Vec::new();
    let read = std::io::stdin().lock().take(MAX_LAUNCH).read_to_end(&mut config);
    let launch = match read {
        Ok(_) => serde_json::from_slice::<Launch>(&config).map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let started = launch.and_then(start);
    match started {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(std::io::stdout(), "{why}");
            ExitCode::FAILURE
        }
    }
}

fn start(launch: Launch) -> std::result::Result<(), String> {
    let (mut here, there) = UnixStream::pair().map_err(|e| e.to_string())?;
    let forked = process::fork(move || {
        process::alarm(DEADLINE);
        match prepare(&launch) {
            Ok(server) => {
                process::alarm(Duration::ZERO);
                let told = (&there).write_all(b"+").is_ok();
                drop(there);
                // Nobody waits any more: there is no daemon to answer to.
                if !told {
                    return 1;
                }
                server.serve()
            }
            Err(error) => {
                let _ = (&there).write_all(error.to_string().as_bytes());
                1
            }
        }
    });
    forked.map_err(|e| plain(&e))?;
    let mut said = String::new();
    // One byte is enough for success; a reason is read to its end.
    let mut first = [0];
    match here.read(&mut first) {
        Ok(1) if first == *b"+" => Ok(()),
        Ok(1) => {
            let _ = here.read_to_string(&mut said);
            Err(format!("{}{said}", char::from(first[0])))
        }
        _ => Err("the shim ended before it listened".to_owned()),
    }
}

/// Becomes the shim.
fn prepare(launch: &Launch) -> Result<Server> {
    let failed = |error: linux::Error| Error::Shim(error.to_string());
    setsid().context(|| "cannot lead a session").map_err(failed)?;
    let null = fs::OpenOptions::new().read(true).write(true).open("/dev/null").map_err(Error::file("/dev/null"))?;
    for stream in 0..3 {
        process::place(null.as_fd(), stream).map_err(Error::io("cannot replace the standard streams"))?;
    }
    drop(null);
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM, Signal::SIGPIPE] {
        process::ignore_signal(signal).map_err(Error::io("cannot ignore signals"))?;
    }
    process::become_subreaper().map_err(Error::io("cannot adopt orphans"))?;
    // Where it may, the shim protects itself; without CAP_SYS_RESOURCE it goes on like any other process.
    let _ = fs::write("/proc/self/oom_score_adj", "-998");
    if !launch.cgroup.is_empty() {
        let group = Layout::detect().and_then(|layout| Cgroup::new(layout, &launch.cgroup)).map_err(failed)?;
        group.add_for_tracking(nix::unistd::getpid()).map_err(failed)?;
    }
    let pod = enter(launch)?;
    if launch.own_uts && !launch.hostname.is_empty() {
        nix::unistd::sethostname(&launch.hostname)
            .map_err(|e| Error::io::<nix::Error>("cannot set the host name")(e))?;
    }
    if launch.own_uts && !launch.domainname.is_empty() {
        process::set_domain_name(&launch.domainname).map_err(Error::io("cannot set the domain name"))?;
    }
    for (name, value) in &launch.sysctls {
        oci::set_sysctl(name, value).map_err(|e| Error::Invalid(e.to_string()))?;
    }
    fs::create_dir_all(&launch.folder).map_err(Error::file(&launch.folder))?;
    match fs::remove_file(&launch.socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Error::file(&launch.socket)(error)),
        _ => {}
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(&launch.socket).map_err(Error::file(&launch.socket))?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    Server::new(launch, pod, listener)
}

/// The pod's namespaces, entered and held.
#[derive(Debug)]
pub(super) struct Pod {
    pub namespaces: Namespaces,
    /// The first process of the pod's process namespace.
    pub pause: Option<Pid>,
    /// Keeps the user namespace, which the shim itself does not enter.
    _users: Option<OwnedFd>,
}

fn enter(launch: &Launch) -> Result<Pod> {
    let wanted =
        [(launch.own_network, namespace::NETWORK), (launch.own_ipc, namespace::IPC), (launch.own_uts, namespace::UTS)];
    let flags = wanted.into_iter().filter(|(own, _)| *own).fold(0, |all, (_, flag)| all | flag);
    let failed = || Error::io::<std::io::Error>("cannot make the pod's namespaces");
    let shim = nix::unistd::getpid();
    let shared = if launch.shared_pid { namespace::PID } else { 0 };
    let mut users = None;
    let mut pause = None;
    if launch.uid_mappings.is_empty() {
        if flags != 0 {
            oci::enter_new(flags).map_err(|e| Error::Shim(e.to_string()))?;
        }
        if launch.shared_pid {
            pause = Some(Fork { namespaces: shared, ..Fork::default() }.run(stay).map_err(failed())?);
        }
    } else {
        // Made by one process at once, they belong to the pod's users.
        let namespaces = flags | namespace::USER | shared;
        let child = Fork { namespaces, ..Fork::default() }.run(stay).map_err(failed())?;
        oci::map_users(child, &launch.uid_mappings, &launch.gid_mappings).map_err(|e| Error::Shim(e.to_string()))?;
        let open = |name: &str| {
            let path = format!("/proc/{child}/ns/{name}");
            File::open(&path).map_err(Error::file(path))
        };
        for ((own, _), name) in wanted.into_iter().zip(["net", "ipc", "uts"]) {
            if own {
                setns(open(name)?.as_fd(), CloneFlags::empty()).map_err(|e| failed()(e.into()))?;
            }
        }
        users = Some(OwnedFd::from(open("user")?));
        if launch.shared_pid {
            pause = Some(child);
        } else {
            process::kill(child, nix::libc::SIGKILL).map_err(failed())?;
        }
    }
    let path = |own: bool, name: &str| own.then(|| PathBuf::from(format!("/proc/{shim}/ns/{name}")));
    let namespaces = Namespaces {
        network: path(launch.own_network, "net"),
        ipc: path(launch.own_ipc, "ipc"),
        uts: path(launch.own_uts, "uts"),
        pid: pause.map(|pause| PathBuf::from(format!("/proc/{pause}/ns/pid"))),
        user: users.as_ref().map(|fd| PathBuf::from(format!("/proc/{shim}/fd/{}", fd.as_raw_fd()))),
    };
    Ok(Pod { namespaces, pause, _users: users })
}

/// Does nothing but take the ends of orphans, as the first process of a namespace must.
fn stay() -> i32 {
    let _ = process::set_title("/pause");
    let _ = process::die_with_parent(Signal::SIGKILL);
    // Its descriptors are copies that nobody here uses or drops.
    let _ = process::close_from_except(3, &[]);
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGCHLD);
    if ends.thread_block().is_err() {
        return 1;
    }
    loop {
        while process::reap().is_some() {}
        let _ = ends.wait();
    }
}
