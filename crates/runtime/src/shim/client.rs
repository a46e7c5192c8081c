//! The daemon's side of a shim: starting one, calling it, and hearing what happens in its pod.

use std::collections::HashMap;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use linux::pty::Master;
use linux::scm;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use oci_spec::runtime::{LinuxResources, Process};
use parking_lot::Mutex;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::{Notify, mpsc, oneshot};

use super::protocol::{
    Answer, Call, Create, Decoder, Event, ExitStatus, Failure, FailureKind, Launch, Message, Namespaces, PodState,
    Request, VERSION, encode,
};
use crate::error::blocking;
use crate::{Error, Result};

/// How a process ended.
pub type Exit = ExitStatus;

/// The longest that a shim may take to answer; its own deadline for a start is shorter.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(150);
/// The longest that a new shim may take until it listens.
const LAUNCH_TIMEOUT: Duration = Duration::from_secs(30);
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to a pod's shim; cheap to clone. The connection ends with the last clone.
#[derive(Debug, Clone)]
pub struct ShimClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    stream: Arc<UnixStream>,
    /// What the shim told when it was connected to: namespaces and process number do not change.
    pid: u32,
    namespaces: Namespaces,
    calls: Arc<Mutex<Calls>>,
    /// Told when the connection has ended.
    closed: Arc<Notify>,
    /// Held while a frame is written.
    writing: tokio::sync::Mutex<()>,
    next: AtomicU64,
    reader: tokio::task::AbortHandle,
}

/// Who waits for what.
#[derive(Debug, Default)]
struct Calls {
    closed: bool,
    answers: HashMap<u64, oneshot::Sender<(std::result::Result<Answer, Failure>, Vec<OwnedFd>)>>,
    /// Processes of exec by container and name.
    execs: HashMap<(String, String), oneshot::Sender<Exit>>,
}

/// A shim's events, from the state on that connecting told. Ends when the shim does, or the last client is dropped.
#[derive(Debug)]
pub struct Events {
    receiver: mpsc::UnboundedReceiver<Event>,
}

impl Events {
    /// The next event; none when the connection has ended.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }
}

/// A process that runs in a container besides its first.
#[derive(Debug)]
pub struct Exec {
    /// Its number on the host.
    pub pid: u32,
    /// Its streams.
    pub streams: Streams,
    exit: oneshot::Receiver<Exit>,
}

impl Exec {
    /// Takes it apart into its streams and the wait for its end.
    pub fn split(self) -> (Streams, ExecExit) {
        (self.streams, ExecExit { exit: self.exit })
    }

    /// Waits for its end. Output may still be in the pipes.
    pub async fn wait(self) -> Result<Exit> {
        ExecExit { exit: self.exit }.wait().await
    }
}

/// The end of a process, to be waited for.
#[derive(Debug)]
pub struct ExecExit {
    exit: oneshot::Receiver<Exit>,
}

impl ExecExit {
    /// Waits for the process to end.
    pub async fn wait(self) -> Result<Exit> {
        self.exit.await.map_err(|_| Error::Shim("the connection ended before the process did".to_owned()))
    }
}

/// The ends of a process's streams.
#[derive(Debug)]
pub enum Streams {
    /// Pipes; those that were asked for.
    Pipes {
        /// Dropping it is the end of the process's standard input.
        stdin: Option<pipe::Sender>,
        /// Standard output, or that of a container's terminal.
        stdout: Option<pipe::Receiver>,
        /// Standard error.
        stderr: Option<pipe::Receiver>,
    },
    /// The terminal of an exec.
    Terminal(Terminal),
}

/// The master side of a terminal.
#[derive(Debug)]
pub struct Terminal {
    fd: AsyncFd<Master>,
}

impl Terminal {
    /// Reads; 0 bytes mean that nobody has the terminal open any more.
    pub async fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        self.fd.async_io(Interest::READABLE, |master| master.read(bytes)).await
    }

    /// Writes everything.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let count = self.fd.async_io(Interest::WRITABLE, |master| master.write(bytes)).await?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Changes the size.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        self.fd.get_ref().resize(columns, rows)
    }
}

impl ShimClient {
    /// Starts a shim by running `program shim`, and connects to it.
    pub async fn launch(program: &Path, launch: &Launch) -> Result<(Self, PodState, Events)> {
        let (program, config) = (program.to_owned(), launch.clone());
        blocking(move || spawn(&program, &config)).await?;
        Self::connect(&launch.socket).await
    }

    /// Connects to a shim that runs. The state tells what happened before; events go on from there.
    pub async fn connect(socket: &Path) -> Result<(Self, PodState, Events)> {
        let stream = UnixStream::connect(socket).await.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                Error::NotFound { what: "shim", id: socket.display().to_string() }
            }
            _ => Error::Io { what: format!("cannot reach the shim at {}", socket.display()), source: e },
        })?;
        let stream = Arc::new(stream);
        let calls = Arc::new(Mutex::new(Calls::default()));
        let (sender, receiver) = mpsc::unbounded_channel();
        let closed = Arc::new(Notify::new());
        let reader = {
            let (stream, calls, closed) = (stream.clone(), calls.clone(), closed.clone());
            tokio::spawn(async move {
                read(stream, &calls, sender).await;
                closed.notify_one();
            })
        };
        let reader = reader.abort_handle();
        let mut inner = Inner {
            stream,
            pid: 0,
            namespaces: Namespaces::default(),
            calls,
            closed,
            writing: tokio::sync::Mutex::default(),
            next: AtomicU64::new(1),
            reader,
        };
        let hello = inner.call(Request::Hello { version: VERSION }, &[]);
        let answer = tokio::time::timeout(LAUNCH_TIMEOUT, hello).await;
        let (answer, _) = answer.map_err(|_| Error::Timeout("the shim does not answer".to_owned()))??;
        let Answer::State(state) = answer else { return Err(unexpected(&answer)) };
        inner.pid = state.pid;
        inner.namespaces = state.namespaces.clone();
        Ok((Self { inner: Arc::new(inner) }, state, Events { receiver }))
    }

    /// The shim's process number.
    pub fn pid(&self) -> u32 {
        self.inner.pid
    }

    /// Where the pod's namespaces are.
    pub fn namespaces(&self) -> &Namespaces {
        &self.inner.namespaces
    }

    /// All that the shim knows.
    pub async fn state(&self) -> Result<PodState> {
        match self.inner.call(Request::State, &[]).await?.0 {
            Answer::State(state) => Ok(state),
            other => Err(unexpected(&other)),
        }
    }

    /// Makes a container up to, but not including, the execution of its program; tells its process number.
    pub async fn create(&self, create: Create) -> Result<u32> {
        process(self.inner.call(Request::Create(create), &[]).await?.0)
    }

    /// Executes a created container's program. A failure brings the text that users of other runtimes know, and the
    /// container has then ended: delete it.
    pub async fn start(&self, container: &str) -> Result<()> {
        self.done(Request::Start { container: container.to_owned() }).await
    }

    /// Runs another process in a container. With `process.terminal` it gets one, otherwise pipes; standard input is
    /// empty unless `stdin`. `name` is unique in the container.
    pub async fn exec(&self, container: &str, name: &str, process_spec: Process, stdin: bool) -> Result<Exec> {
        let terminal = process_spec.terminal().unwrap_or(false);
        let key = (container.to_owned(), name.to_owned());
        let request = Request::Exec { container: key.0.clone(), exec: key.1.clone(), process: Box::new(process_spec) };
        let (sender, exit) = oneshot::channel();
        if self.inner.calls.lock().execs.insert(key.clone(), sender).is_some() {
            return Err(Error::Exists(format!("process {name} runs in container {container}")));
        }
        let made = if terminal { self.exec_terminal(request).await } else { self.exec_pipes(request, stdin).await };
        match made {
            Ok((pid, streams)) => Ok(Exec { pid, streams, exit }),
            Err(error) => {
                self.inner.calls.lock().execs.remove(&key);
                Err(error)
            }
        }
    }

    async fn exec_terminal(&self, request: Request) -> Result<(u32, Streams)> {
        let (answer, fds) = self.inner.call(request, &[]).await?;
        let master = fds.into_iter().next().ok_or_else(|| Error::Shim("a terminal is missing".to_owned()))?;
        let failed = || Error::io::<io::Error>("cannot use a terminal");
        let master = Master::new(master).map_err(failed())?;
        #[expect(
            deprecated,
            reason = "what replaces it is unsafe; a master owns its one descriptor and shows no other"
        )]
        let fd = AsyncFd::new(master).map_err(failed())?;
        Ok((process(answer)?, Streams::Terminal(Terminal { fd })))
    }

    async fn exec_pipes(&self, request: Request, stdin: bool) -> Result<(u32, Streams)> {
        let failed = || Error::io::<io::Error>("cannot make a pipe");
        let (input, inside_input) = if stdin {
            let (input, inside) = pipe::pipe().map_err(failed())?;
            (Some(input), inside.into_blocking_fd().map_err(failed())?)
        } else {
            (None, std::fs::File::open("/dev/null").map_err(Error::file("/dev/null"))?.into())
        };
        let (inside_output, output) = pipe::pipe().map_err(failed())?;
        let (inside_error, error) = pipe::pipe().map_err(failed())?;
        let inside_output = inside_output.into_blocking_fd().map_err(failed())?;
        let inside_error = inside_error.into_blocking_fd().map_err(failed())?;
        let fds = [inside_input.as_fd(), inside_output.as_fd(), inside_error.as_fd()];
        let (answer, _) = self.inner.call(request, &fds).await?;
        Ok((process(answer)?, Streams::Pipes { stdin: input, stdout: Some(output), stderr: Some(error) }))
    }

    /// Sends a signal to a container's first process, or to all of its processes.
    pub async fn kill(&self, container: &str, signal: i32, all: bool) -> Result<()> {
        self.done(Request::Kill { container: container.to_owned(), exec: None, signal, all }).await
    }

    /// Sends a signal to a process of [`ShimClient::exec`].
    pub async fn kill_exec(&self, container: &str, name: &str, signal: i32) -> Result<()> {
        let (container, exec) = (container.to_owned(), Some(name.to_owned()));
        self.done(Request::Kill { container, exec, signal, all: false }).await
    }

    /// Removes a container that does not run from the shim, with its control group. One whose program was not executed
    /// yet is killed, and one that is not there is fine.
    pub async fn delete(&self, container: &str) -> Result<()> {
        match self.done(Request::Delete { container: container.to_owned() }).await {
            Err(error) if error.is_not_found() => Ok(()),
            other => other,
        }
    }

    /// New ends of a container's streams, from now on. With a terminal, all output is on `stdout`.
    pub async fn attach(&self, container: &str, stdin: bool, stdout: bool, stderr: bool) -> Result<Streams> {
        let request = Request::Attach { container: container.to_owned(), stdin, stdout, stderr };
        let (_, fds) = self.inner.call(request, &[]).await?;
        let mut fds = fds.into_iter();
        let mut next = |wanted: bool| {
            if !wanted {
                return Ok(None);
            }
            fds.next().map(Some).ok_or_else(|| Error::Shim("a stream is missing".to_owned()))
        };
        let failed = || Error::io::<io::Error>("cannot use a pipe");
        let stdin = next(stdin)?.map(pipe::Sender::from_owned_fd).transpose().map_err(failed())?;
        let stdout = next(stdout)?.map(pipe::Receiver::from_owned_fd).transpose().map_err(failed())?;
        let stderr = next(stderr)?.map(pipe::Receiver::from_owned_fd).transpose().map_err(failed())?;
        Ok(Streams::Pipes { stdin, stdout, stderr })
    }

    /// Changes the size of a container's terminal.
    pub async fn resize(&self, container: &str, columns: u16, rows: u16) -> Result<()> {
        self.done(Request::Resize { container: container.to_owned(), columns, rows }).await
    }

    /// Opens a container's log again by its name, after it was renamed.
    pub async fn reopen_log(&self, container: &str) -> Result<()> {
        self.done(Request::ReopenLog { container: container.to_owned() }).await
    }

    /// Changes a container's limits; what is not given stays.
    pub async fn update(&self, container: &str, resources: &LinuxResources) -> Result<()> {
        let (container, resources) = (container.to_owned(), Box::new(resources.clone()));
        self.done(Request::Update { container, resources }).await
    }

    /// Connects to a port on the pod's loopback, over IPv4 or else IPv6.
    pub async fn dial(&self, port: u16) -> Result<tokio::net::TcpStream> {
        let mut refused = None;
        for ipv6 in [false, true] {
            match self.dial_on(port, ipv6).await {
                Ok(stream) => return Ok(stream),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Err(refused.unwrap_or_else(|| Error::Shim("no address to connect to".to_owned())))
    }

    async fn dial_on(&self, port: u16, ipv6: bool) -> Result<tokio::net::TcpStream> {
        let (_, fds) = self.inner.call(Request::Dial { port, ipv6 }, &[]).await?;
        let fd = fds.into_iter().next().ok_or_else(|| Error::Shim("a socket is missing".to_owned()))?;
        let failed = || Error::io::<io::Error>(format!("cannot connect to port {port} of the pod"));
        let stream = tokio::net::TcpStream::from_std(fd.into()).map_err(failed())?;
        match tokio::time::timeout(DIAL_TIMEOUT, stream.writable()).await {
            Ok(writable) => writable.map_err(failed())?,
            Err(_) => return Err(Error::Timeout(format!("port {port} of the pod does not answer"))),
        }
        match stream.take_error().map_err(failed())? {
            Some(error) => Err(failed()(error)),
            None => Ok(stream),
        }
    }

    /// Kills what runs in the pod, lets its namespaces go and ends the shim. Afterwards the shim is in no control group.
    pub async fn shutdown(&self) -> Result<()> {
        // Opened while the connection shows that the number is still the shim's.
        let shim = linux::process::pidfd(nix::unistd::Pid::from_raw(self.inner.pid.cast_signed())).ok();
        self.done(Request::Shutdown).await?;
        // It answers last and then ends, which closes the connection first and leaves its control group a moment later.
        let closed = self.inner.closed.notified();
        if !self.inner.calls.lock().closed {
            let _ = tokio::time::timeout(LAUNCH_TIMEOUT, closed).await;
        }
        let Some(shim) = shim else { return Ok(()) };
        blocking(move || {
            let mut polled = [PollFd::new(shim.as_fd(), PollFlags::POLLIN)];
            let limit = PollTimeout::try_from(LAUNCH_TIMEOUT).unwrap_or(PollTimeout::MAX);
            // Whether it ended in time shows when its group is removed.
            let _ = nix::poll::poll(&mut polled, limit);
            Ok(())
        })
        .await
    }

    async fn done(&self, request: Request) -> Result<()> {
        self.inner.call(request, &[]).await.map(|_| ())
    }
}

impl Inner {
    async fn call(&self, request: Request, fds: &[BorrowedFd<'_>]) -> Result<(Answer, Vec<OwnedFd>)> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let frame = encode(&Call { id, request }, fds.len()).map_err(|e| Error::Shim(e.to_string()))?;
        let (sender, receiver) = oneshot::channel();
        {
            let mut calls = self.calls.lock();
            if calls.closed {
                return Err(gone());
            }
            calls.answers.insert(id, sender);
        }
        let outcome = tokio::time::timeout(ANSWER_TIMEOUT, async {
            self.send(&frame, fds).await?;
            receiver.await.map_err(|_| gone())
        })
        .await;
        self.calls.lock().answers.remove(&id);
        let (result, fds) = outcome.map_err(|_| Error::Timeout("the shim does not answer".to_owned()))??;
        result.map(|answer| (answer, fds)).map_err(Error::from)
    }

    async fn send(&self, frame: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        let _one = self.writing.lock().await;
        let (mut rest, mut fds) = (frame, fds);
        while !rest.is_empty() {
            let socket = self.stream.as_fd();
            let sent = self.stream.async_io(Interest::WRITABLE, || scm::send(socket, rest, fds)).await;
            let sent = sent.map_err(|source| Error::Io { what: "cannot write to the shim".to_owned(), source })?;
            (rest, fds) = (&rest[sent..], &[]);
        }
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Hands out answers and events until the shim goes.
async fn read(stream: Arc<UnixStream>, calls: &Mutex<Calls>, events: mpsc::UnboundedSender<Event>) {
    let mut decoder = Decoder::default();
    let mut bytes = vec![0; 64 << 10];
    'connection: loop {
        let socket = stream.as_fd();
        let received = stream.async_io(Interest::READABLE, || scm::receive(socket, &mut bytes)).await;
        let (count, fds) = match received {
            Ok((0, _)) | Err(_) => break,
            Ok(received) => received,
        };
        decoder.push(&bytes[..count], fds);
        loop {
            match decoder.take::<Message>() {
                Ok(Some((message, fds))) => deliver(message, fds, calls, &events),
                Ok(None) => break,
                Err(error) => {
                    tracing::error!(%error, "a shim cannot be understood");
                    break 'connection;
                }
            }
        }
    }
    let mut calls = calls.lock();
    calls.closed = true;
    calls.answers.clear();
    calls.execs.clear();
}

fn deliver(message: Message, fds: Vec<OwnedFd>, calls: &Mutex<Calls>, events: &mpsc::UnboundedSender<Event>) {
    match message {
        Message::Answer { id, result } => {
            if let Some(waiting) = calls.lock().answers.remove(&id) {
                // The caller may have given up.
                let _ = waiting.send((result, fds));
            }
        }
        Message::Event(event) => {
            if let Event::ExecExited { container, exec, exit } = &event
                && let Some(waiting) = calls.lock().execs.remove(&(container.clone(), exec.clone()))
            {
                let _ = waiting.send(*exit);
            }
            let _ = events.send(event);
        }
    }
}

/// Runs `program shim` until it says that the shim listens. The shim itself is a child of nobody here.
fn spawn(program: &Path, launch: &Launch) -> Result<()> {
    let config = serde_json::to_vec(launch).map_err(|e| Error::Internal(e.to_string()))?;
    let failed = || Error::io::<io::Error>(format!("cannot run {}", program.display()));
    let mut child = Command::new(program)
        .arg("shim")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed())?;
    let written = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(&config));
    // The child ends as soon as the shim listens, so this wait is short; it has a deadline of its own.
    let output = child.wait_with_output().map_err(failed())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match (said.is_empty(), written) {
        (false, _) => Err(Error::Shim(said)),
        (true, Err(error)) => Err(failed()(error)),
        (true, Ok(())) => Err(Error::Shim(format!("it ended with {}", output.status))),
    }
}

fn process(answer: Answer) -> Result<u32> {
    match answer {
        Answer::Process { pid } => Ok(pid),
        other => Err(unexpected(&other)),
    }
}

fn unexpected(answer: &Answer) -> Error {
    Error::Shim(format!("its answer {answer:?} does not fit the question"))
}

fn gone() -> Error {
    Error::Shim("the connection has ended".to_owned())
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let message = failure.message;
        match failure.kind {
            FailureKind::NotFound => Error::NotFound { what: "container", id: message },
            FailureKind::Invalid => Error::Invalid(message),
            FailureKind::State => Error::State(message),
            FailureKind::Exists => Error::Exists(message),
            FailureKind::Timeout => Error::Timeout(message),
            FailureKind::Start => Error::Start(message),
            FailureKind::Version | FailureKind::Failed => Error::Shim(message),
        }
    }
}
