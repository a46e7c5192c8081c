//! What a shim does for each call.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use linux::process;
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, connect, socket};
use nix::unistd::Pid;
use oci::Stdio;
use oci_spec::runtime::Process;

use super::container::{Attached, Container, Follower, Output, Phase, pipe};
use super::log::{Log, Stream};
use super::protocol::{Answer, Create, Event, Failure, FailureKind, OLDEST, Request};
use super::record::{self, group};
use super::server::{Job, Reply, Role, Server, Source, failure};
use super::starter::{Starter, Work};
use crate::record::now;

type Outcome<T> = std::result::Result<T, Failure>;

fn done() -> Reply {
    Ok((Answer::Done, Vec::new()))
}

fn failed<E: std::fmt::Display>(what: &str) -> impl Fn(E) -> Failure {
    move |error| failure(FailureKind::Failed, format!("{what}: {error}"))
}

/// Names of containers become names of files.
fn check_name(name: &str) -> Outcome<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 200 || name.starts_with('.') || !name.chars().all(fine) {
        return Err(failure(FailureKind::Invalid, format!("{name:?} cannot be a container's name")));
    }
    Ok(())
}

impl Server {
    /// Carries a call out; without a reply, that comes later.
    pub(super) fn call(&mut self, client: u64, call: u64, request: Request, fds: Vec<OwnedFd>) -> Option<Reply> {
        let reply = match request {
            Request::Hello { version } if version < OLDEST => {
                Err(failure(FailureKind::Version, format!("version {version} of the protocol is too old")))
            }
            Request::Hello { .. } => {
                self.greet(client);
                Ok((Answer::State(self.state()), Vec::new()))
            }
            Request::State => Ok((Answer::State(self.state()), Vec::new())),
            Request::Create(create) => return self.create((client, call), create).err().map(Err),
            Request::Start { container } => return self.start((client, call), &container).err().map(Err),
            Request::Exec { container, exec, process } => {
                return self.exec((client, call), container, exec, process, fds).err().map(Err);
            }
            Request::Kill { container, exec, signal, all } => self.kill(&container, exec, signal, all),
            Request::Delete { container } => return self.delete((client, call), &container),
            Request::Attach { container, stdin, stdout, stderr } => self.attach(&container, stdin, stdout, stderr),
            Request::Resize { container, columns, rows } => self.resize(&container, columns, rows),
            Request::ReopenLog { container } => self.reopen_log(&container),
            Request::Update { container, resources } => self.update(&container, &resources),
            Request::Dial { port, ipv6 } => dial(port, ipv6),
            Request::Shutdown => {
                self.ending = Some((client, call));
                return None;
            }
        };
        Some(reply)
    }

    fn find(&mut self, id: &str) -> Outcome<&mut Container> {
        self.containers.get_mut(id).ok_or_else(|| failure(FailureKind::NotFound, id))
    }

    fn running(&mut self, id: &str) -> Outcome<&mut Container> {
        let container = self.find(id)?;
        if container.phase != Phase::Running || container.ending.is_some() {
            return Err(failure(FailureKind::State, format!("container {id} does not run")));
        }
        Ok(container)
    }

    fn create(&mut self, (client, call): (u64, u64), create: Create) -> Outcome<()> {
        check_name(&create.container)?;
        if self.containers.contains_key(&create.container) {
            return Err(failure(FailureKind::Exists, format!("container {} exists", create.container)));
        }
        let id = create.container;
        let mut container = Container::new(id.clone(), create.bundle.clone());
        container.stdin_once = create.stdin_once;
        if let Some(path) = create.log {
            let shown = path.display().to_string();
            container.log = Some(Log::open(path).map_err(failed(&format!("cannot open log {shown}")))?);
        }
        // Only as much of the specification as the shim itself needs; the starter reads it whole.
        let brief = brief(&create.bundle)?;
        container.cgroup = brief.cgroup;
        container.is_terminal = brief.terminal;
        let (gate, inside) = UnixStream::pair().map_err(failed("cannot make a socket"))?;
        gate.set_nonblocking(true).map_err(failed("cannot make a socket"))?;
        container.gate = Some(gate.into());
        let stdio = if brief.terminal {
            Stdio::Terminal
        } else {
            let no_pipe = || failed::<std::io::Error>("cannot make a pipe");
            let ((out, inside_out), (err, inside_err)) =
                (pipe(true).map_err(no_pipe())?, pipe(true).map_err(no_pipe())?);
            for (stream, fd) in [(Stream::Stdout, out), (Stream::Stderr, err)] {
                let token = self.token(Source::Output(id.clone()));
                self.watch(fd.as_fd(), token, EpollFlags::EPOLLIN)?;
                container.outputs.push(Output { token, stream, fd });
            }
            let inside_in = if create.stdin {
                let (inside, input) = pipe(false).map_err(no_pipe())?;
                container.stdin = Some(input);
                inside
            } else {
                std::fs::File::open("/dev/null").map_err(failed("cannot open /dev/null"))?.into()
            };
            Stdio::Streams([inside_in, inside_out, inside_err])
        };
        let work = Work::Create { bundle: create.bundle, gate: inside.into() };
        self.containers.insert(id.clone(), container);
        let begun = self.begin(work, stdio, Role::Container(id.clone()), client, call);
        if begun.is_err() {
            self.containers.remove(&id);
        }
        begun
    }

    fn begin(&mut self, work: Work, stdio: Stdio, role: Role, client: u64, call: u64) -> Outcome<()> {
        let starter = Starter::fork(work, stdio).map_err(|e| failure(FailureKind::Failed, e.to_string()))?;
        let id = u64::from(starter.pid.as_raw().unsigned_abs());
        let token = self.token(Source::Starter(id));
        self.watch(starter.as_fd(), token, EpollFlags::EPOLLIN)?;
        self.processes.insert(starter.pid, Role::Starter);
        self.jobs.insert(id, Job { starter, role, client, call });
        Ok(())
    }

    /// A starter has made a process.
    pub(super) fn made(&mut self, role: &Role, pid: Pid, terminal: Option<OwnedFd>) -> Reply {
        let answer = Answer::Process { pid: pid.as_raw().unsigned_abs() };
        let Role::Container(id) = role else { return Ok((answer, terminal.into_iter().collect())) };
        let token = terminal.as_ref().map(|_| self.token(Source::Output(id.clone())));
        let container = self.find(id)?;
        container.pid = Some(pid);
        container.phase = Phase::Created;
        let state = container.state();
        if let (Some(master), Some(token)) = (terminal, token) {
            linux::pty::Master::unblock(master.as_fd()).map_err(failed("cannot use a terminal"))?;
            container.stdin = Some(master.try_clone().map_err(failed("cannot use a terminal"))?);
            container.outputs.push(Output { token, stream: Stream::Stdout, fd: master });
            if let Some(output) = self.containers.get(id).and_then(|c| c.outputs.last()) {
                self.watch(output.fd.as_fd(), token, EpollFlags::EPOLLIN)?;
            }
        }
        record::save(&self.folder, &state).map_err(failed("cannot record a container"))?;
        Ok((answer, Vec::new()))
    }

    /// Forgets a container that could not be made.
    pub(super) fn discard(&mut self, id: &str) {
        let Some(mut container) = self.containers.remove(id) else { return };
        if let Some(group) = group(&container.cgroup) {
            let _ = group.signal(nix::libc::SIGKILL);
            let _ = group.remove();
        }
        container.close();
        record::remove(&self.folder, id);
    }

    fn start(&mut self, waiting: (u64, u64), id: &str) -> Outcome<()> {
        let token = self.token(Source::Gate(id.to_owned()));
        let container = self.find(id)?;
        let Some(gate) = container.gate.as_ref().filter(|_| container.phase == Phase::Created) else {
            return Err(failure(FailureKind::State, format!("container {id} was started before")));
        };
        let opened = nix::unistd::write(gate, b"s");
        opened.map_err(|_| failure(FailureKind::Start, "container process is already dead"))?;
        container.phase = Phase::Starting;
        let gate = gate.try_clone().map_err(failed("cannot copy a descriptor"))?;
        container.gate = Some(gate);
        self.starting.insert(id.to_owned(), waiting);
        if let Some(gate) = self.containers.get(id).and_then(|c| c.gate.as_ref()) {
            self.watch(gate.as_fd(), token, EpollFlags::EPOLLIN)?;
        }
        Ok(())
    }

    /// A container's program was executed, or could not be.
    pub(super) fn gate_passed(&mut self, id: &str, why: String) {
        let waiting = self.starting.remove(id);
        let Some(container) = self.containers.get_mut(id) else { return };
        if waiting.is_none() {
            return;
        }
        let reply = if why.is_empty() {
            container.phase = Phase::Running;
            container.started_at = Some(now());
            let state = container.state();
            let _ = record::save(&self.folder, &state);
            self.tell(Event::Started { container: id.to_owned(), pid: state.pid });
            done()
        } else {
            Err(failure(FailureKind::Start, why))
        };
        if let Some((client, call)) = waiting {
            self.answer(client, call, reply);
        }
    }

    fn exec(
        &mut self,
        (client, call): (u64, u64),
        id: String,
        exec: String,
        process: Box<Process>,
        fds: Vec<OwnedFd>,
    ) -> Outcome<()> {
        let role = Role::Exec(id.clone(), exec.clone());
        if self.processes.values().any(|other| *other == role) || self.jobs.values().any(|job| job.role == role) {
            return Err(failure(FailureKind::Exists, format!("process {exec} runs in container {id}")));
        }
        let container = self.running(&id)?;
        let Some(target) = container.pid else {
            return Err(failure(FailureKind::State, "the container has no process"));
        };
        let stdio = if process.terminal().unwrap_or(false) {
            Stdio::Terminal
        } else {
            let streams = <[OwnedFd; 3]>::try_from(fds);
            Stdio::Streams(streams.map_err(|_| failure(FailureKind::Invalid, "an exec needs three streams"))?)
        };
        let work = Work::Exec { process, bundle: container.bundle.clone(), target, cgroup: container.cgroup.clone() };
        self.begin(work, stdio, role, client, call)
    }

    fn kill(&mut self, id: &str, exec: Option<String>, signal: i32, all: bool) -> Reply {
        if !(0..=64).contains(&signal) {
            return Err(failure(FailureKind::Invalid, format!("there is no signal {signal}")));
        }
        let container = self.find(id)?;
        if container.exit.is_some() || container.phase == Phase::Creating {
            return Err(failure(FailureKind::State, format!("container {id} does not run")));
        }
        let (cgroup, first) = (container.cgroup.clone(), container.pid);
        if let (true, Some(group)) = (all, group(&cgroup)) {
            group.signal(signal).map_err(failed("cannot signal the container"))?;
        }
        let pid = match exec {
            None => first,
            Some(exec) => {
                let role = Role::Exec(id.to_owned(), exec.clone());
                let found = self.processes.iter().find(|(_, other)| **other == role).map(|(pid, _)| *pid);
                Some(found.ok_or_else(|| failure(FailureKind::NotFound, exec))?)
            }
        };
        // Only a child that was not waited for yet: its number cannot be another's.
        match pid.filter(|pid| self.processes.contains_key(pid)) {
            Some(pid) => match process::kill(pid, signal) {
                Err(error) if error.raw_os_error() != Some(Errno::ESRCH as i32) => {
                    Err(failed("cannot signal the process")(error))
                }
                _ => done(),
            },
            None => done(),
        }
    }

    /// One whose program was never executed is killed first; then the reply comes when it has ended.
    fn delete(&mut self, waiting: (u64, u64), id: &str) -> Option<Reply> {
        let container = match self.find(id) {
            Ok(container) => container,
            Err(failure) => return Some(Err(failure)),
        };
        match container.phase {
            Phase::Exited => Some(self.take_away(id)),
            Phase::Running => Some(Err(failure(FailureKind::State, format!("container {id} runs")))),
            Phase::Creating => {
                let role = Role::Container(id.to_owned());
                let found = self.jobs.iter().find(|(_, job)| job.role == role);
                if let Some((job, starter)) = found.map(|(job, found)| (*job, &found.starter)) {
                    starter.give_up();
                    self.job_failed(job, failure(FailureKind::State, format!("container {id} was deleted")));
                }
                Some(done())
            }
            Phase::Created | Phase::Starting => {
                container.deleting.push(waiting);
                let (cgroup, pid) = (container.cgroup.clone(), container.pid);
                if let Some(group) = group(&cgroup) {
                    let _ = group.signal(nix::libc::SIGKILL);
                }
                // Only a child that was not waited for yet: its number cannot be another's.
                if let Some(pid) = pid.filter(|pid| self.processes.contains_key(pid)) {
                    let _ = process::kill(pid, nix::libc::SIGKILL);
                }
                None
            }
        }
    }

    /// Forgets a container that has ended.
    pub(super) fn take_away(&mut self, id: &str) -> Reply {
        let container = self.find(id)?;
        if let Some(group) = group(&container.cgroup) {
            group.remove().map_err(failed("cannot remove the control group"))?;
        }
        self.containers.remove(id);
        record::remove(&self.folder, id);
        done()
    }

    fn attach(&mut self, id: &str, stdin: bool, stdout: bool, stderr: bool) -> Reply {
        let terminal = {
            let container = self.find(id)?;
            if container.exit.is_some() || container.ending.is_some() {
                return Err(failure(FailureKind::State, format!("container {id} does not run")));
            }
            if stdin && container.stdin.is_none() {
                return Err(failure(
                    FailureKind::Invalid,
                    format!("container {id} has no standard input to attach to"),
                ));
            }
            container.is_terminal
        };
        if stderr && terminal {
            return Err(failure(FailureKind::Invalid, "a terminal has no standard error of its own"));
        }
        let no_pipe = || failed::<std::io::Error>("cannot make a pipe");
        let (mut theirs, mut attached) = (Vec::new(), Attached { stdin: None, outputs: Vec::new() });
        if stdin {
            let (read, write) = pipe(true).map_err(no_pipe())?;
            let token = self.token(Source::Input(id.to_owned()));
            self.watch(read.as_fd(), token, EpollFlags::EPOLLIN)?;
            attached.stdin = Some((token, read));
            theirs.push(write);
        }
        for (wanted, stream) in [(stdout, Stream::Stdout), (stderr, Stream::Stderr)] {
            if wanted {
                let (read, write) = pipe(false).map_err(no_pipe())?;
                let token = self.token(Source::Follower(id.to_owned()));
                attached.outputs.push(Follower::new(token, stream, write));
                theirs.push(read);
            }
        }
        let container = self.find(id)?;
        container.attached.retain(|old| old.stdin.is_some() || !old.outputs.is_empty());
        container.attached.push(attached);
        Ok((Answer::Done, theirs))
    }

    fn resize(&mut self, id: &str, columns: u16, rows: u16) -> Reply {
        let container = self.find(id)?;
        match (&container.stdin, container.is_terminal) {
            (Some(master), true) => {
                linux::pty::resize(master.as_fd(), columns, rows).map_err(failed("cannot size the terminal"))?;
                done()
            }
            _ => Err(failure(FailureKind::State, format!("container {id} has no terminal"))),
        }
    }

    fn reopen_log(&mut self, id: &str) -> Reply {
        if let Some(log) = &mut self.find(id)?.log {
            log.reopen().map_err(failed("cannot open the log"))?;
        }
        done()
    }

    fn update(&mut self, id: &str, resources: &oci_spec::runtime::LinuxResources) -> Reply {
        let container = self.find(id)?;
        if container.exit.is_some() {
            return Err(failure(FailureKind::State, format!("container {id} does not run")));
        }
        let group =
            group(&container.cgroup).ok_or_else(|| failure(FailureKind::State, "the container has no limits"))?;
        group.limit(&oci::limits(resources)).map_err(|e| failure(FailureKind::Failed, e.to_string()))?;
        done()
    }
}

/// What a shim must know of a specification.
struct Brief {
    cgroup: String,
    terminal: bool,
}

fn brief(bundle: &std::path::Path) -> Outcome<Brief> {
    #[derive(serde::Deserialize)]
    struct Config {
        process: Option<Terminal>,
        linux: Option<Groups>,
    }
    #[derive(serde::Deserialize)]
    struct Terminal {
        #[serde(default)]
        terminal: bool,
    }
    #[derive(serde::Deserialize)]
    struct Groups {
        #[serde(default, rename = "cgroupsPath")]
        path: String,
    }
    let path = bundle.join("config.json");
    let wrong = |why: String| failure(FailureKind::Start, format!("{}: {why}", path.display()));
    let file = std::fs::File::open(&path).map_err(|e| wrong(linux::plain(&e)))?;
    let config: Config = serde_json::from_reader(std::io::BufReader::new(file)).map_err(|e| wrong(e.to_string()))?;
    Ok(Brief {
        cgroup: config.linux.map(|linux| linux.path).unwrap_or_default(),
        terminal: config.process.is_some_and(|process| process.terminal),
    })
}

/// Connects to the pod's loopback, in whose network the shim is; the caller waits for the outcome.
fn dial(port: u16, ipv6: bool) -> Reply {
    let family = if ipv6 { AddressFamily::Inet6 } else { AddressFamily::Inet };
    let no_socket = || failed::<nix::Error>("cannot connect");
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let own = socket(family, SockType::Stream, flags, None).map_err(no_socket())?;
    let raw = std::os::fd::AsRawFd::as_raw_fd(&own);
    let tried = if ipv6 {
        let loopback = std::net::SocketAddrV6::new(std::net::Ipv6Addr::LOCALHOST, port, 0, 0);
        connect(raw, &SockaddrIn6::from(loopback))
    } else {
        connect(raw, &SockaddrIn::from(std::net::SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, port)))
    };
    match tried {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok((Answer::Done, vec![own])),
        Err(error) => Err(failure(
            FailureKind::Failed,
            format!("cannot connect to port {port} of the pod: {}", linux::plain(&error.into())),
        )),
    }
}
