//! A container as its shim keeps it: state, streams, log, and those who are attached.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::unistd::{Pid, pipe2};

use super::log::{Log, Stream};
use super::protocol::{ContainerState, ExitStatus};
use crate::record::now;

/// How long output may still come after the container's first process has ended.
const DRAIN: Duration = Duration::from_secs(2);
/// How far an attached reader may lag behind before it is cut off.
const MAX_LAG: usize = 1 << 20;

/// Where a container is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// A starter makes it.
    Creating,
    /// It waits at its gate.
    Created,
    /// Its gate is open, and its program not yet known to be executed.
    Starting,
    /// Its program runs.
    Running,
    /// It has ended.
    Exited,
}

/// A container.
#[derive(Debug)]
pub struct Container {
    pub id: String,
    pub phase: Phase,
    pub pid: Option<Pid>,
    pub bundle: PathBuf,
    pub cgroup: String,
    pub gate: Option<OwnedFd>,
    /// Why its program could not be executed, as far as it has told.
    pub why: Vec<u8>,
    pub started_at: Option<i64>,
    pub exit: Option<ExitStatus>,
    /// Who waits for it to be gone.
    pub deleting: Vec<(u64, u64)>,
    /// The first process has ended with this code, and output may still come until then.
    pub ending: Option<(i32, i64, Instant)>,
    pub stdin: Option<OwnedFd>,
    pub stdin_once: bool,
    pub is_terminal: bool,
    /// What output still comes from.
    pub outputs: Vec<Output>,
    pub log: Option<Log>,
    pub attached: Vec<Attached>,
    /// What those attached wrote and the container has not read yet.
    pub input: Vec<u8>,
    /// Standard input is to be closed once that is read.
    pub input_ends: bool,
}

/// Where output comes from.
#[derive(Debug)]
pub struct Output {
    pub token: u64,
    pub stream: Stream,
    pub fd: OwnedFd,
}

/// Somebody who is attached.
#[derive(Debug)]
pub struct Attached {
    pub stdin: Option<(u64, OwnedFd)>,
    pub outputs: Vec<Follower>,
}

/// A pipe that output is copied to.
#[derive(Debug)]
pub struct Follower {
    pub token: u64,
    stream: Stream,
    fd: OwnedFd,
    lag: Vec<u8>,
}

impl Follower {
    pub fn new(token: u64, stream: Stream, fd: OwnedFd) -> Self {
        Self { token, stream, fd, lag: Vec::new() }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub fn lags(&self) -> bool {
        !self.lag.is_empty()
    }

    /// Copies what can be copied without waiting; false if nobody reads any more, or too slowly.
    fn copy(&mut self, bytes: &[u8]) -> bool {
        self.lag.extend_from_slice(bytes);
        self.flush() && self.lag.len() <= MAX_LAG
    }

    /// Copies what lags behind; false if nobody reads any more.
    pub fn flush(&mut self) -> bool {
        let written = write(self.fd.as_fd(), &self.lag);
        let Ok(count) = written else { return false };
        self.lag.drain(..count);
        if self.lag.is_empty() {
            self.lag = Vec::new();
        }
        true
    }
}

/// Writes what goes without waiting.
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < bytes.len() {
        match nix::unistd::write(fd, &bytes[done..]) {
            Ok(count) => done += count,
            Err(Errno::EAGAIN) => break,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(done)
}

/// A pipe of which the shim's side never waits: `(reading, writing)`.
pub fn pipe(shim_reads: bool) -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    let own = if shim_reads { &read } else { &write };
    nix::fcntl::fcntl(own, nix::fcntl::FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((read, write))
}

impl Container {
    pub fn new(id: String, bundle: PathBuf) -> Self {
        Self {
            id,
            phase: Phase::Creating,
            pid: None,
            bundle,
            cgroup: String::new(),
            gate: None,
            why: Vec::new(),
            started_at: None,
            exit: None,
            deleting: Vec::new(),
            ending: None,
            stdin: None,
            stdin_once: false,
            is_terminal: false,
            outputs: Vec::new(),
            log: None,
            attached: Vec::new(),
            input: Vec::new(),
            input_ends: false,
        }
    }

    pub fn state(&self) -> ContainerState {
        ContainerState {
            container: self.id.clone(),
            pid: self.pid.map_or(0, |pid| pid.as_raw() as u32),
            cgroup: self.cgroup.clone(),
            started_at: self.started_at,
            exit: self.exit,
        }
    }

    /// Takes note that the first process has ended.
    pub fn begin_end(&mut self, code: i32) {
        self.ending = Some((code, now(), Instant::now() + DRAIN));
    }

    /// Reads one output until nothing more is there; false at its end.
    pub fn read_output(&mut self, token: u64, buffer: &mut [u8]) -> bool {
        let Some(at) = self.outputs.iter().position(|output| output.token == token) else { return true };
        // Not endlessly: others want to be heard as well, and readiness is told again.
        for _ in 0..16 {
            let output = &self.outputs[at];
            let count = match nix::unistd::read(&output.fd, buffer) {
                Ok(0) => return false,
                Ok(count) => count,
                Err(Errno::EAGAIN) => return true,
                Err(Errno::EINTR) => continue,
                // A terminal that nobody has open any more says EIO.
                Err(_) => return false,
            };
            let (stream, bytes) = (output.stream, &buffer[..count]);
            if let Some(log) = &mut self.log {
                log.write(stream, bytes, now());
            }
            for attached in &mut self.attached {
                attached.outputs.retain_mut(|follower| follower.stream != stream || follower.copy(bytes));
            }
        }
        true
    }

    /// Passes on what those attached wrote; true if the container must read before more is taken.
    pub fn pass_input(&mut self) -> bool {
        let Some(stdin) = &self.stdin else {
            self.input = Vec::new();
            return false;
        };
        match write(stdin.as_fd(), &self.input) {
            Ok(count) => {
                self.input.drain(..count);
            }
            // Nobody reads it any more.
            Err(_) => {
                self.input.clear();
                self.stdin = None;
            }
        }
        if self.input.is_empty() {
            self.input = Vec::new();
            if self.input_ends && !self.is_terminal {
                self.stdin = None;
            }
            return false;
        }
        true
    }

    /// Lets go of everything that a running container has.
    pub fn close(&mut self) {
        self.gate = None;
        self.stdin = None;
        self.outputs.clear();
        self.attached.clear();
        self.input = Vec::new();
        self.log = None;
    }
}
