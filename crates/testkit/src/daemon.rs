//! A program that a test runs beside itself, and ends.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::kube::{Kube, PATIENCE};

/// A program that runs until it is told to end; it is killed when this is dropped.
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
    /// When it was started.
    pub started: Instant,
}

impl Daemon {
    /// Starts a program; what it says goes to the end of a log.
    pub fn start(command: &mut Command, log: &Path) -> anyhow::Result<Daemon> {
        let name = command.get_program().to_string_lossy().into_owned();
        let file = File::options().create(true).append(true).open(log)?;
        let started = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Daemon { name, child, log: log.into(), started })
    }

    /// Fails, with the end of its log, when the program has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended early: {status}\n{}", self.name, self.log_end()),
        }
    }

    /// Waits until the API of a server is ready under the kubeconfig that it writes.
    pub async fn ready(&mut self, kubeconfig: &Path, every: Duration) -> anyhow::Result<Kube> {
        let (mut known, mut kube) = (String::new(), None);
        loop {
            self.check()?;
            // A server that starts again may renew what the file carries.
            let text = std::fs::read_to_string(kubeconfig).unwrap_or_default();
            if text != known {
                kube = Some(Kube::read(kubeconfig)?);
                known = text;
            }
            if let Some(found) = kube.take() {
                if found.ready().await {
                    return Ok(found);
                }
                kube = Some(found);
            }
            ensure!(self.started.elapsed() < PATIENCE, "{} did not become ready\n{}", self.name, self.log_end());
            tokio::time::sleep(every).await;
        }
    }

    /// The last lines of its log.
    pub fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(mut self) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM)?;
        let asked = Instant::now();
        while self.child.try_wait()?.is_none() {
            ensure!(asked.elapsed() < PATIENCE, "{} does not end\n{}", self.name, self.log_end());
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
