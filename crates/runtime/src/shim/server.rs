//! The shim's loop: one thread that waits for calls, ends of children, output and starters, by `epoll`.

use std::collections::{BTreeMap, HashMap};
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use linux::{process, scm};
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use super::container::{Container, Phase};
use super::pod::Pod;
use super::protocol::{
    Answer, Call, Decoder, Event, ExitStatus, Failure, FailureKind, Launch, Message, PodState, VERSION, encode,
};
use super::record::{self, group};
use super::starter::{Outcome, Starter};
use crate::{Error, Result};

/// The most that a daemon may leave unread before it is cut off; it connects again and learns all state.
const MAX_UNREAD: usize = 8 << 20;
/// The most connections at a time.
const MAX_CLIENTS: usize = 16;
const BUFFER: usize = 16 << 10;

/// What a descriptor is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Children,
    Listener,
    Client(u64),
    Starter(u64),
    Gate(String),
    Output(String),
    /// What somebody attached writes.
    Input(String),
    /// Somebody attached who lags behind.
    Follower(String),
    /// The container's standard input, which was full.
    Stdin(String),
}

/// What a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    Container(String),
    Exec(String, String),
    Starter,
}

/// A start that is under way, and who waits for it.
#[derive(Debug)]
pub(super) struct Job {
    pub starter: Starter,
    pub role: Role,
    pub client: u64,
    pub call: u64,
}

#[derive(Debug)]
struct Client {
    stream: UnixStream,
    decoder: Decoder,
    /// Frames that it has not taken yet.
    unread: std::collections::VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    greeted: bool,
}

/// A reply: what, and the descriptors that go with it.
pub(super) type Reply = std::result::Result<(Answer, Vec<OwnedFd>), Failure>;

/// The shim.
#[derive(Debug)]
pub(super) struct Server {
    pub pod_id: String,
    pub socket: PathBuf,
    pub folder: PathBuf,
    pub pod: Pod,
    epoll: Epoll,
    listener: UnixListener,
    children: SignalFd,
    sources: HashMap<u64, Source>,
    next: u64,
    clients: BTreeMap<u64, Client>,
    pub containers: BTreeMap<String, Container>,
    pub processes: HashMap<Pid, Role>,
    pub jobs: BTreeMap<u64, Job>,
    /// Who waits for a container's program to be executed.
    pub starting: HashMap<String, (u64, u64)>,
    /// Ends of processes that no starter has told of yet.
    early: HashMap<Pid, i32>,
    pub ending: Option<(u64, u64)>,
}

pub(super) fn failure(kind: FailureKind, message: impl Into<String>) -> Failure {
    Failure { kind, message: message.into() }
}

impl Server {
    pub fn new(launch: &Launch, pod: Pod, listener: UnixListener) -> Result<Self> {
        let failed = || Error::io::<nix::Error>("cannot watch descriptors");
        listener.set_nonblocking(true).map_err(Error::io("cannot listen"))?;
        let mut ends = SigSet::empty();
        ends.add(Signal::SIGCHLD);
        ends.thread_block().map_err(failed())?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let mut server = Self {
            pod_id: launch.pod.clone(),
            socket: launch.socket.clone(),
            folder: launch.folder.clone(),
            pod,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed())?,
            listener,
            children: SignalFd::with_flags(&ends, flags).map_err(failed())?,
            sources: HashMap::new(),
            next: 1,
            clients: BTreeMap::new(),
            containers: BTreeMap::new(),
            processes: HashMap::new(),
            jobs: BTreeMap::new(),
            starting: HashMap::new(),
            early: HashMap::new(),
            ending: None,
        };
        let (children, listener) = (server.token(Source::Children), server.token(Source::Listener));
        let read = |token| EpollEvent::new(EpollFlags::EPOLLIN, token);
        server.epoll.add(&server.children, read(children)).map_err(failed())?;
        server.epoll.add(&server.listener, read(listener)).map_err(failed())?;
        Ok(server)
    }

    /// A new name for a descriptor's readiness.
    pub fn token(&mut self, source: Source) -> u64 {
        let token = self.next;
        self.next += 1;
        self.sources.insert(token, source);
        token
    }

    /// Watches a descriptor.
    pub fn watch(&self, fd: BorrowedFd<'_>, token: u64, flags: EpollFlags) -> std::result::Result<(), Failure> {
        let added = self.epoll.add(fd, EpollEvent::new(flags, token));
        added.map_err(|e| failure(FailureKind::Failed, format!("cannot watch a descriptor: {e}")))
    }

    /// Stops watching; closing a descriptor that no other process has does the same.
    pub fn forget(&mut self, fd: BorrowedFd<'_>, token: u64) {
        let _ = self.epoll.delete(fd);
        self.sources.remove(&token);
    }

    fn forget_token(&mut self, token: u64) {
        self.sources.remove(&token);
    }

    /// Serves until told to end; the exit code of the shim.
    pub fn serve(mut self) -> i32 {
        let mut events = [EpollEvent::empty(); 32];
        loop {
            let count = match self.epoll.wait(&mut events, self.timeout()) {
                Ok(count) => count,
                Err(Errno::EINTR) => continue,
                Err(_) => return 1,
            };
            for event in &events[..count] {
                if let Some(source) = self.sources.get(&event.data()).cloned() {
                    self.ready(event.data(), source, event.events());
                }
            }
            self.check_deadlines();
            if let Some((client, call)) = self.ending {
                self.end(client, call);
                return 0;
            }
        }
    }

    fn timeout(&self) -> EpollTimeout {
        let starters = self.jobs.values().map(|job| job.starter.deadline);
        let drains = self.containers.values().filter_map(|c| c.ending.map(|(_, _, until)| until));
        let Some(first) = starters.chain(drains).min() else { return EpollTimeout::NONE };
        let wait = first.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
        EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::MAX)
    }

    fn check_deadlines(&mut self) {
        let now = Instant::now();
        let late: Vec<u64> =
            self.jobs.iter().filter(|(_, job)| job.starter.deadline <= now).map(|(id, _)| *id).collect();
        for id in late {
            if let Some(job) = self.jobs.get(&id) {
                job.starter.give_up();
            }
            self.job_failed(id, failure(FailureKind::Timeout, "the container could not be started in time"));
        }
        let over = |c: &&Container| c.ending.is_some_and(|(_, _, until)| until <= now);
        let drained: Vec<String> = self.containers.values().filter(over).map(|c| c.id.clone()).collect();
        for id in drained {
            self.finish(&id);
        }
    }

    fn ready(&mut self, token: u64, source: Source, flags: EpollFlags) {
        match source {
            Source::Children => {
                while matches!(self.children.read_signal(), Ok(Some(_))) {}
                self.reap();
            }
            Source::Listener => self.accept(),
            Source::Client(id) => self.client_ready(id, flags),
            Source::Starter(id) => self.starter_ready(id, token),
            Source::Gate(container) => self.gate_ready(&container, token),
            Source::Output(container) => self.output_ready(&container, token),
            Source::Input(container) => self.input_ready(&container, token),
            Source::Follower(container) => self.follower_ready(&container, token),
            Source::Stdin(container) => self.stdin_ready(&container, token),
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.clients.len() >= MAX_CLIENTS || stream.set_nonblocking(true).is_err() {
                continue;
            }
            let id = self.next;
            let token = self.token(Source::Client(id));
            if self.watch(stream.as_fd(), token, EpollFlags::EPOLLIN).is_ok() {
                let unread = std::collections::VecDeque::new();
                self.clients.insert(id, Client { stream, decoder: Decoder::default(), unread, greeted: false });
            }
        }
    }

    fn client_ready(&mut self, id: u64, flags: EpollFlags) {
        if flags.contains(EpollFlags::EPOLLOUT) {
            self.flush(id);
        }
        let mut buffer = vec![0; BUFFER];
        loop {
            let Some(client) = self.clients.get_mut(&id) else { return };
            match scm::receive(client.stream.as_fd(), &mut buffer) {
                Ok((0, _)) => return self.drop_client(id),
                Ok((count, fds)) => client.decoder.push(&buffer[..count], fds),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return self.drop_client(id),
            }
            loop {
                let Some(client) = self.clients.get_mut(&id) else { return };
                match client.decoder.take::<Call>() {
                    Ok(Some((call, fds))) => {
                        if let Some(reply) = self.call(id, call.id, call.request, fds) {
                            self.answer(id, call.id, reply);
                        }
                    }
                    Ok(None) => break,
                    Err(_) => return self.drop_client(id),
                }
            }
        }
    }

    /// Takes note that a client has said who it is and wants events.
    pub fn greet(&mut self, client: u64) {
        if let Some(client) = self.clients.get_mut(&client) {
            client.greeted = true;
        }
    }

    fn drop_client(&mut self, id: u64) {
        if let Some(client) = self.clients.remove(&id) {
            let _ = self.epoll.delete(client.stream.as_fd());
            self.forget_token(id);
        }
    }

    pub fn answer(&mut self, client: u64, call: u64, reply: Reply) {
        let (result, fds) = match reply {
            Ok((answer, fds)) => (Ok(answer), fds),
            Err(failure) => (Err(failure), Vec::new()),
        };
        self.send(client, &Message::Answer { id: call, result }, fds);
    }

    pub fn tell(&mut self, event: Event) {
        let listening: Vec<u64> = self.clients.iter().filter(|(_, c)| c.greeted).map(|(id, _)| *id).collect();
        let message = Message::Event(event);
        for client in listening {
            self.send(client, &message, Vec::new());
        }
    }

    fn send(&mut self, id: u64, message: &Message, fds: Vec<OwnedFd>) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        let Ok(frame) = encode(message, fds.len()) else { return self.drop_client(id) };
        client.unread.push_back((frame, fds));
        if client.unread.iter().map(|(frame, _)| frame.len()).sum::<usize>() > MAX_UNREAD {
            return self.drop_client(id);
        }
        self.flush(id);
    }

    fn flush(&mut self, id: u64) {
        let Some(client) = self.clients.get_mut(&id) else { return };
        while let Some((frame, fds)) = client.unread.front_mut() {
            let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
            match scm::send(client.stream.as_fd(), frame, &borrowed) {
                Ok(count) => {
                    fds.clear();
                    frame.drain(..count);
                    if frame.is_empty() {
                        client.unread.pop_front();
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return self.drop_client(id),
            }
        }
        let more = if client.unread.is_empty() { EpollFlags::empty() } else { EpollFlags::EPOLLOUT };
        let mut event = EpollEvent::new(EpollFlags::EPOLLIN | more, id);
        let _ = self.epoll.modify(client.stream.as_fd(), &mut event);
    }

    fn starter_ready(&mut self, id: u64, token: u64) {
        let Some(job) = self.jobs.get_mut(&id) else { return self.forget_token(token) };
        match job.starter.hear() {
            Outcome::Going => {
                if let Some(child) = job.starter.child {
                    let role = job.role.clone();
                    self.processes.insert(child, role);
                }
            }
            Outcome::Made(pid, terminal) => {
                let Some(job) = self.jobs.remove(&id) else { return };
                self.forget(job.starter.as_fd(), token);
                let reply = self.made(&job.role, pid, terminal);
                self.answer(job.client, job.call, reply);
                self.take_early();
            }
            Outcome::Failed(why) => self.job_failed(id, failure(FailureKind::Start, why)),
        }
    }

    pub(super) fn job_failed(&mut self, id: u64, why: Failure) {
        let Some(job) = self.jobs.remove(&id) else { return };
        self.sources.retain(|_, source| *source != Source::Starter(id));
        let _ = self.epoll.delete(job.starter.as_fd());
        if let Some(child) = job.starter.child {
            // Unless it has ended and its number may be another's.
            if self.early.remove(&child).is_none() {
                let _ = process::kill(child, nix::libc::SIGKILL);
            }
            self.processes.remove(&child);
        }
        if let Role::Container(container) = &job.role {
            self.discard(container);
        }
        self.answer(job.client, job.call, Err(why));
        self.take_early();
    }

    /// Takes the ends of children.
    fn reap(&mut self) {
        while let Some((pid, code)) = process::reap() {
            self.ended(pid, code);
        }
    }

    fn ended(&mut self, pid: Pid, code: i32) {
        // While its starter has not told of success, a failure will be told instead.
        if self.jobs.values().any(|job| job.starter.child == Some(pid)) {
            self.early.insert(pid, code);
            return;
        }
        match self.processes.remove(&pid) {
            Some(Role::Container(container)) => self.container_ended(&container, code),
            Some(Role::Exec(container, exec)) => {
                let exit = ExitStatus { code, at: crate::record::now(), oom_killed: false };
                self.tell(Event::ExecExited { container, exec, exit });
            }
            Some(Role::Starter) => {}
            // Perhaps of a starter that has not told yet; otherwise somebody's orphan.
            None if !self.jobs.is_empty() => {
                self.early.insert(pid, code);
            }
            None => {}
        }
    }

    /// Takes note of ends that came before their starter's word.
    fn take_early(&mut self) {
        for (pid, code) in std::mem::take(&mut self.early) {
            self.ended(pid, code);
        }
    }

    /// Reads what a container whose gate was opened has to say.
    fn gate_ready(&mut self, id: &str, token: u64) {
        let Some(container) = self.containers.get_mut(id) else { return self.forget_token(token) };
        let Some(gate) = &container.gate else { return self.forget_token(token) };
        let mut bytes = [0; 4096];
        match nix::unistd::read(gate, &mut bytes) {
            Ok(count) if count > 0 => return container.why.extend_from_slice(&bytes[..count]),
            Err(Errno::EAGAIN | Errno::EINTR) => return,
            _ => {}
        }
        let gate = container.gate.take();
        let why = String::from_utf8_lossy(&std::mem::take(&mut container.why)).into_owned();
        if let Some(gate) = gate {
            self.forget(gate.as_fd(), token);
        }
        self.gate_passed(id, why);
    }

    fn output_ready(&mut self, id: &str, token: u64) {
        let Some(container) = self.containers.get_mut(id) else { return self.forget_token(token) };
        let mut buffer = vec![0; BUFFER];
        let more = container.read_output(token, &mut buffer);
        self.watch_followers(id);
        if more {
            return;
        }
        let Some(container) = self.containers.get_mut(id) else { return };
        if let Some(at) = container.outputs.iter().position(|output| output.token == token) {
            let output = container.outputs.remove(at);
            self.forget(output.fd.as_fd(), token);
        }
        let over = self.containers.get(id).is_some_and(|c| c.outputs.is_empty() && c.ending.is_some());
        if over {
            self.finish(id);
        }
    }

    /// Watches for those who lag behind to be ready for more.
    fn watch_followers(&mut self, id: &str) {
        let Some(container) = self.containers.get(id) else { return };
        for follower in container.attached.iter().flat_map(|attached| &attached.outputs).filter(|f| f.lags()) {
            // It may be watched already.
            let _ = self.epoll.add(follower.fd(), EpollEvent::new(EpollFlags::EPOLLOUT, follower.token));
        }
    }

    fn follower_ready(&mut self, id: &str, token: u64) {
        let Some(container) = self.containers.get_mut(id) else { return self.forget_token(token) };
        for attached in &mut container.attached {
            let Some(at) = attached.outputs.iter().position(|follower| follower.token == token) else { continue };
            let open = attached.outputs[at].flush();
            if !open || !attached.outputs[at].lags() {
                let _ = self.epoll.delete(attached.outputs[at].fd());
            }
            if !open {
                attached.outputs.remove(at);
                self.sources.remove(&token);
            }
            return;
        }
    }

    /// Reads what somebody attached has written.
    fn input_ready(&mut self, id: &str, token: u64) {
        let Some(container) = self.containers.get_mut(id) else { return self.forget_token(token) };
        let mut buffer = vec![0; BUFFER];
        let source = container.attached.iter_mut().find(|a| a.stdin.as_ref().is_some_and(|(own, _)| *own == token));
        let Some((_, fd)) = source.and_then(|attached| attached.stdin.as_ref()) else {
            return self.forget_token(token);
        };
        match nix::unistd::read(fd, &mut buffer) {
            Ok(0) => {
                container.input_ends |= container.stdin_once;
                self.drop_input(id, token);
            }
            Ok(count) => container.input.extend_from_slice(&buffer[..count]),
            Err(Errno::EAGAIN | Errno::EINTR) => return,
            Err(_) => self.drop_input(id, token),
        }
        let Some(container) = self.containers.get_mut(id) else { return };
        if container.pass_input() {
            self.hold_input(id);
        }
    }

    fn drop_input(&mut self, id: &str, token: u64) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let source = container.attached.iter_mut().find(|a| a.stdin.as_ref().is_some_and(|(own, _)| *own == token));
        if let Some((_, fd)) = source.and_then(|attached| attached.stdin.take()) {
            self.forget(fd.as_fd(), token);
        }
    }

    /// Waits for the container to read before more is taken from those attached.
    fn hold_input(&mut self, id: &str) {
        let token = self.token(Source::Stdin(id.to_owned()));
        let Some(container) = self.containers.get(id) else { return };
        let Some(stdin) = &container.stdin else { return };
        for (_, fd) in container.attached.iter().filter_map(|attached| attached.stdin.as_ref()) {
            let _ = self.epoll.delete(fd);
        }
        let _ = self.epoll.add(stdin, EpollEvent::new(EpollFlags::EPOLLOUT, token));
    }

    fn stdin_ready(&mut self, id: &str, token: u64) {
        let Some(container) = self.containers.get_mut(id) else { return self.forget_token(token) };
        if container.pass_input() {
            return;
        }
        if let Some(stdin) = &container.stdin {
            let _ = self.epoll.delete(stdin);
        }
        for (token, fd) in container.attached.iter().filter_map(|attached| attached.stdin.as_ref()) {
            let _ = self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, *token));
        }
        self.forget_token(token);
    }

    fn container_ended(&mut self, id: &str, code: i32) {
        let Some(container) = self.containers.get_mut(id) else { return };
        container.begin_end(code);
        // Without a process namespace of its own, a container's other processes do not end with its first one.
        if let Some(group) = group(&container.cgroup) {
            let _ = group.signal(nix::libc::SIGKILL);
        }
        for token in container.outputs.iter().map(|output| output.token).collect::<Vec<_>>() {
            self.output_ready(id, token);
        }
        if self.containers.get(id).is_some_and(|c| c.outputs.is_empty() && c.ending.is_some()) {
            self.finish(id);
        }
    }

    /// Takes note of a container's end, once its output is in the log.
    fn finish(&mut self, id: &str) {
        // Its program may have been executed, or why not be told, just before it ended.
        if let Some(container) = self.containers.get_mut(id)
            && let Some(gate) = container.gate.take()
        {
            let mut why = std::mem::take(&mut container.why);
            let _ = std::fs::File::from(gate).take(4096).read_to_end(&mut why);
            self.gate_passed(id, String::from_utf8_lossy(&why).into_owned());
        }
        let Some(container) = self.containers.get_mut(id) else { return };
        let Some((code, at, _)) = container.ending.take() else { return };
        let oom_killed = group(&container.cgroup).is_some_and(|group| group.oom_kills() > 0);
        let exit = ExitStatus { code, at, oom_killed };
        container.exit = Some(exit);
        container.phase = Phase::Exited;
        if let Some(log) = &mut container.log {
            log.finish(at);
        }
        container.close();
        let state = container.state();
        let gone = |source: &Source| match source {
            Source::Gate(own)
            | Source::Output(own)
            | Source::Input(own)
            | Source::Follower(own)
            | Source::Stdin(own) => own == id,
            _ => false,
        };
        self.sources.retain(|_, source| !gone(source));
        let deleting = self.containers.get_mut(id).map(|c| std::mem::take(&mut c.deleting)).unwrap_or_default();
        if !deleting.is_empty() {
            // It never ran, and those who delete it know of its end.
            let taken = self.take_away(id).map(drop);
            for (client, call) in deleting {
                self.answer(client, call, taken.clone().map(|()| (Answer::Done, Vec::new())));
            }
            return;
        }
        // A full disk loses the record, not the event.
        let _ = record::save(&self.folder, &state);
        if oom_killed {
            self.tell(Event::OutOfMemory { container: id.to_owned() });
        }
        self.tell(Event::Exited { container: id.to_owned(), exit });
    }

    /// All that is known.
    pub fn state(&self) -> PodState {
        PodState {
            version: VERSION,
            pod: self.pod_id.clone(),
            pid: std::process::id(),
            namespaces: self.pod.namespaces.clone(),
            containers: self.containers.values().map(Container::state).collect(),
        }
    }

    /// Kills and takes all children, tells the one who asked, and leaves nothing behind but the records of ends.
    fn end(&mut self, client: u64, call: u64) {
        const PATIENCE: Duration = Duration::from_secs(10);
        for job in self.jobs.values() {
            job.starter.give_up();
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            for container in self.containers.values().filter(|c| c.exit.is_none()) {
                if let Some(group) = group(&container.cgroup) {
                    let _ = group.signal(nix::libc::SIGKILL);
                }
                if let (Some(pid), true) = (container.pid, container.ending.is_none()) {
                    let _ = process::kill(pid, nix::libc::SIGKILL);
                }
            }
            self.reap();
            if self.containers.values().all(|c| c.exit.is_some()) || Instant::now() > deadline {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
            self.check_deadlines();
        }
        if let Some(pause) = self.pod.pause {
            let _ = process::kill(pause, nix::libc::SIGKILL);
        }
        let groups: Vec<_> = self.containers.values().filter_map(|c| group(&c.cgroup)).collect();
        for group in groups {
            let _ = group.remove();
        }
        let _ = std::fs::remove_file(&self.socket);
        if let Some(client) = self.clients.get(&client) {
            let _ = client.stream.set_nonblocking(false);
            let _ = client.stream.set_write_timeout(Some(Duration::from_secs(1)));
        }
        self.answer(client, call, Ok((Answer::Done, Vec::new())));
    }
}
