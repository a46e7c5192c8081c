//! Starters: short-lived children of the shim that run the container code, so that one that hangs freezes nobody.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use linux::{process, scm};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::Pid;
use oci::{Create, Exec, Stdio};
use oci_spec::runtime::Process;
use serde::{Deserialize, Serialize};

use super::record::group;
use crate::{Error, Result};

/// The longest that a start may take.
const DEADLINE: Duration = Duration::from_secs(120);
/// The longest report; longer reasons are cut by the container code.
const LONGEST: usize = 32 << 10;

/// What a starter is to make.
#[derive(Debug)]
pub enum Work {
    /// A container, which waits at its gate.
    Create {
        /// The folder with its specification.
        bundle: PathBuf,
        /// The container's end of the gate.
        gate: OwnedFd,
    },
    /// A process in a container.
    Exec {
        /// What to run.
        process: Box<Process>,
        /// The folder with the container's specification.
        bundle: PathBuf,
        /// The container's first process.
        target: Pid,
        /// Its control group.
        cgroup: String,
    },
}

/// A starter that runs.
#[derive(Debug)]
pub struct Starter {
    /// Its process.
    pub pid: Pid,
    /// The process it has forked, as soon as it has told.
    pub child: Option<Pid>,
    /// When it is given up.
    pub deadline: Instant,
    report: OwnedFd,
}

/// What a starter tells.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Said {
    /// It has forked this process.
    Forked(i32),
    /// It is done.
    Done,
    /// It could not.
    Failed(String),
}

/// What became of a start.
#[derive(Debug)]
pub enum Outcome {
    /// Nothing yet.
    Going,
    /// The process is made; with its terminal if it has one.
    Made(Pid, Option<OwnedFd>),
    /// It could not be made.
    Failed(String),
}

impl Starter {
    /// Forks one. The descriptors in `stdio` are closed here.
    pub fn fork(work: Work, stdio: Stdio) -> Result<Self> {
        let failed = || Error::io::<nix::Error>("cannot make a socket");
        let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
        let (report, there) = pair.map_err(failed())?;
        let pid = process::fork(|| {
            let mut kept: Vec<RawFd> = vec![there.as_raw_fd()];
            if let Work::Create { gate, .. } = &work {
                kept.push(gate.as_raw_fd());
            }
            if let Stdio::Streams(streams) = &stdio {
                kept.extend(streams.iter().map(AsRawFd::as_raw_fd));
            }
            // The shim's other descriptors belong to values that nobody here uses or drops.
            if process::close_from_except(3, &kept).is_err() {
                return 1;
            }
            run(work, stdio, there.as_fd());
            0
        });
        let pid = pid.map_err(Error::io("cannot fork"))?;
        Ok(Self { pid, child: None, deadline: Instant::now() + DEADLINE, report })
    }

    /// Hears what it has to say.
    pub fn hear(&mut self) -> Outcome {
        let mut bytes = vec![0; LONGEST];
        let (count, fds) = match scm::receive(self.report.as_fd(), &mut bytes) {
            Ok(received) => received,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Outcome::Going,
            Err(error) => return Outcome::Failed(linux::plain(&error)),
        };
        match (serde_json::from_slice(&bytes[..count]), self.child) {
            (Ok(Said::Forked(pid)), _) => {
                self.child = Some(Pid::from_raw(pid));
                Outcome::Going
            }
            (Ok(Said::Done), Some(child)) => Outcome::Made(child, fds.into_iter().next()),
            (Ok(Said::Failed(why)), _) => Outcome::Failed(why),
            _ => Outcome::Failed("unable to start container process: its starter is gone".to_owned()),
        }
    }

    /// Kills it with what it has forked.
    pub fn give_up(&self) {
        for pid in [Some(self.pid), self.child].into_iter().flatten() {
            let _ = process::kill(pid, nix::libc::SIGKILL);
        }
    }
}

impl AsFd for Starter {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }
}

fn run(work: Work, stdio: Stdio, report: BorrowedFd<'_>) {
    let tell = |said: &Said, fds: &[BorrowedFd<'_>]| {
        let bytes = serde_json::to_vec(said).unwrap_or_default();
        let _ = scm::send(report, &bytes, fds);
    };
    let forked = |pid: Pid| tell(&Said::Forked(pid.as_raw()), &[]);
    let made = match work {
        Work::Create { bundle, gate } => oci::load_spec(&bundle)
            .and_then(|spec| oci::create(Create { spec: &spec, bundle: &bundle, stdio, gate, sibling: true }, forked)),
        Work::Exec { process, bundle, target, cgroup } => oci::load_spec(&bundle).and_then(|spec| {
            let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
            let cgroup = group(&cgroup);
            let exec = Exec { process: &process, seccomp, target, cgroup: cgroup.as_ref(), stdio, sibling: true };
            oci::exec(exec, forked)
        }),
    };
    match made {
        Ok(created) => {
            let fds: Vec<BorrowedFd<'_>> = created.terminal.iter().map(AsFd::as_fd).collect();
            tell(&Said::Done, &fds);
        }
        Err(error) => tell(&Said::Failed(error.to_string()), &[]),
    }
}
