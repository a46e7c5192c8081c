//! Commands in running containers, and joining a container's own streams.

use std::sync::Arc;
use std::time::Duration;

use cri::v1;

use crate::containers::load_spec;
use crate::error::blocking;
use crate::record::new_id;
use crate::session::{KillOnDrop, Output, Resizer, Session, streams};
use crate::spec::exec_process;
use crate::{Error, Result, Runtime};

/// The most that is kept of each of a command's outputs; the rest is read and dropped.
const MAX_OUTPUT: usize = 16 << 20;
/// How long output may still come after a command has ended: children of its may hold the pipe.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

impl Runtime {
    /// Runs a command to its end.
    pub async fn exec_sync(&self, request: v1::ExecSyncRequest) -> Result<v1::ExecSyncResponse> {
        let exec = v1::ExecRequest {
            container_id: request.container_id,
            cmd: request.cmd,
            tty: false,
            stdin: false,
            stdout: true,
            stderr: true,
        };
        let Session { stdout, stderr, exit, .. } = self.open_exec(&exec).await?;
        // Readers of their own: a command that outlives its limit must not wait for us to read.
        let (stdout, stderr) = (tokio::spawn(collect(stdout)), tokio::spawn(collect(stderr)));
        let stop = [stdout.abort_handle(), stderr.abort_handle()];
        let exit_code = match u64::try_from(request.timeout).unwrap_or(0) {
            0 => exit.await,
            // What is dropped with the wait kills the command.
            seconds => match tokio::time::timeout(Duration::from_secs(seconds), exit).await {
                Ok(code) => code,
                Err(_) => Err(Error::Timeout(format!("command {:?} timed out after {seconds}s", exec.cmd))),
            },
        };
        let outputs = async { (stdout.await.unwrap_or_default(), stderr.await.unwrap_or_default()) };
        let outputs = tokio::time::timeout(DRAIN_TIMEOUT, outputs).await;
        stop.iter().for_each(tokio::task::AbortHandle::abort);
        let exit_code = exit_code?;
        let (stdout, stderr) = outputs.unwrap_or_default();
        Ok(v1::ExecSyncResponse { stdout, stderr, exit_code })
    }

    /// Starts a command with the streams that are asked for.
    pub async fn open_exec(&self, request: &v1::ExecRequest) -> Result<Session> {
        if request.cmd.is_empty() {
            return Err(Error::Invalid("a command is needed".to_owned()));
        }
        let container = self.running(&request.container_id)?;
        let shim = self.shim_of(&container)?;
        let folder = self.container_folder(&container.id);
        let spec = blocking(move || load_spec(&folder)).await?;
        let process = exec_process(&spec, &request.cmd, request.tty)?;
        let name = new_id()?[..16].to_owned();
        let made = shim.exec(&container.id, &name, process, request.stdin && !request.tty).await?;
        let guard = KillOnDrop { shim, container: container.id.clone(), name, armed: true };
        let (ends, exit) = made.split();
        let (stdin, stdout, stderr, resizer) = streams(ends, request.stdin, request.stdout, request.stderr);
        let exit = Box::pin(async move {
            let ended = exit.wait().await;
            guard.disarm();
            Ok(ended?.code)
        });
        Ok(Session { stdin, stdout, stderr, resizer, exit })
    }

    /// Joins the streams of a container's first process.
    pub async fn open_attach(&self, request: &v1::AttachRequest) -> Result<Session> {
        let container = self.running(&request.container_id)?;
        let shim = self.shim_of(&container)?;
        let tty = container.config.tty;
        let (stdin, stderr) = (request.stdin && container.config.stdin, request.stderr && !tty);
        let ends = shim.attach(&container.id, stdin, request.stdout, stderr).await?;
        let (stdin, stdout, stderr, _) = streams(ends, stdin, request.stdout, stderr);
        let resizer = if tty { Resizer::Container(shim, container.id.clone()) } else { Resizer::None };
        let joined = Arc::clone(&container);
        let exit = Box::pin(async move {
            // Whoever joined learns of the exit code by the container's status.
            joined.ended().await;
            Ok(0)
        });
        Ok(Session { stdin, stdout, stderr, resizer, exit })
    }
}

async fn collect(from: Option<Output>) -> Vec<u8> {
    let mut kept = Vec::new();
    let Some(mut from) = from else { return kept };
    let mut buffer = vec![0; 32 << 10];
    while let Ok(n) = from.read(&mut buffer).await {
        if n == 0 {
            break;
        }
        let room = MAX_OUTPUT - kept.len();
        kept.extend_from_slice(&buffer[..n.min(room)]);
    }
    kept
}
