//! The streams of a command or of a container, as whoever uses them sees them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;

use crate::Result;
use crate::shim::client::Terminal;
use crate::shim::{ShimClient, Streams};

/// A command that runs, or a container that was joined. Dropped before its end, a command is killed.
pub struct Session {
    /// Standard input, if asked for.
    pub stdin: Option<Input>,
    /// Standard output, or the terminal.
    pub stdout: Option<Output>,
    /// Standard error.
    pub stderr: Option<Output>,
    /// Changes the terminal's size.
    pub resizer: Resizer,
    /// The end, with the exit code.
    pub exit: Pin<Box<dyn Future<Output = Result<i32>> + Send>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("stdin", &self.stdin).field("stdout", &self.stdout).finish_non_exhaustive()
    }
}

/// What is written to a process.
#[derive(Debug)]
pub enum Input {
    /// A pipe, whose end the process sees when this is dropped.
    Pipe(pipe::Sender),
    /// A terminal.
    Terminal(Arc<Terminal>),
}

impl Input {
    /// Writes everything.
    pub async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Input::Pipe(pipe) => pipe.write_all(bytes).await,
            Input::Terminal(terminal) => terminal.write_all(bytes).await,
        }
    }

    /// Ends the input.
    pub async fn finish(self) {
        const END_OF_TRANSMISSION: u8 = 4;
        if let Input::Terminal(terminal) = self {
            // A terminal has no end but the one that is typed.
            let _ = terminal.write_all(&[END_OF_TRANSMISSION]).await;
        }
    }
}

/// What is read from a process.
#[derive(Debug)]
pub enum Output {
    /// A pipe.
    Pipe(pipe::Receiver),
    /// A terminal.
    Terminal(Arc<Terminal>),
}

impl Output {
    /// Reads; 0 bytes are the end.
    pub async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Output::Pipe(pipe) => pipe.read(buffer).await,
            Output::Terminal(terminal) => terminal.read(buffer).await,
        }
    }
}

/// Changes the size of a session's terminal.
#[derive(Debug)]
pub enum Resizer {
    /// There is no terminal.
    None,
    /// A command's own terminal.
    Command(Arc<Terminal>),
    /// A container's terminal.
    Container(ShimClient, String),
}

impl Resizer {
    /// Changes the size; one that the kernel refuses is nobody's trouble.
    pub async fn resize(&self, columns: u16, rows: u16) {
        match self {
            Resizer::None => {}
            Resizer::Command(terminal) => {
                let _ = terminal.resize(columns, rows);
            }
            Resizer::Container(shim, container) => {
                let _ = shim.resize(container, columns, rows).await;
            }
        }
    }
}

/// A process's streams, of which those asked for are kept.
pub(crate) fn streams(
    streams: Streams,
    stdin: bool,
    stdout: bool,
    stderr: bool,
) -> (Option<Input>, Option<Output>, Option<Output>, Resizer) {
    match streams {
        Streams::Pipes { stdin: input, stdout: output, stderr: errors } => {
            let input = input.filter(|_| stdin).map(Input::Pipe);
            (
                input,
                output.filter(|_| stdout).map(Output::Pipe),
                errors.filter(|_| stderr).map(Output::Pipe),
                Resizer::None,
            )
        }
        Streams::Terminal(terminal) => {
            let terminal = Arc::new(terminal);
            let input = stdin.then(|| Input::Terminal(terminal.clone()));
            // Read in any case: a full terminal would hold the command up.
            (input, Some(Output::Terminal(terminal.clone())), None, Resizer::Command(terminal))
        }
    }
}

/// Kills a command when nobody waits for it any more.
#[derive(Debug)]
pub(crate) struct KillOnDrop {
    pub shim: ShimClient,
    pub container: String,
    pub name: String,
    pub armed: bool,
}

impl KillOnDrop {
    /// The command has ended by itself.
    pub fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        if !self.armed {
            return;
        }
        let (shim, container, name) =
            (self.shim.clone(), std::mem::take(&mut self.container), std::mem::take(&mut self.name));
        if let Ok(handle) = tokio::runtime::Handle::try_current() {
            handle.spawn(async move {
                // It may have ended in the meantime.
                let _ = shim.kill_exec(&container, &name, nix::sys::signal::Signal::SIGKILL as i32).await;
            });
        }
    }
}
