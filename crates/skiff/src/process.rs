//! Processes that are recognised again after a restart of this program: numbers alone are used again.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, ensure};
use linux::process;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// How long killed processes may take to go.
const ENDING: Duration = Duration::from_secs(20);

/// A process, by its number and its start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    pub pid: i32,
    /// When it started, in the kernel's ticks since its boot.
    pub started: u64,
    pub boot: String,
}

impl Process {
    /// The process that has a number now.
    pub fn of(pid: Pid) -> anyhow::Result<Process> {
        let (_, started) = stat(pid.as_raw()).context("the process ended at once")?;
        Ok(Process { pid: pid.as_raw(), started, boot: boot()? })
    }

    /// This process.
    pub fn current() -> anyhow::Result<Process> {
        Process::of(nix::unistd::getpid())
    }

    /// Whether it still runs.
    pub fn is_alive(&self) -> bool {
        boot().is_ok_and(|boot| boot == self.boot)
            && stat(self.pid).is_some_and(|(state, started)| started == self.started && state != 'Z' && state != 'X')
    }

    /// For how long it has been running.
    pub fn age(&self) -> Option<Duration> {
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??;
        let up = fs::read_to_string("/proc/uptime").ok()?;
        let up: f64 = up.split(' ').next()?.parse().ok()?;
        Duration::try_from_secs_f64((up - self.started as f64 / ticks as f64).max(0.0)).ok()
    }

    /// Kills it, and with it all processes of its namespace if it is the first there, and waits until they are gone.
    pub fn end(&self) -> anyhow::Result<()> {
        let Some(handle) = self.open() else { return Ok(()) };
        self.signal(&handle, Signal::SIGKILL)?;
        ensure!(has_ended(&handle, ENDING)?, "{self} was killed but does not end");
        Ok(())
    }

    /// Asks it to end, and kills it if it has not after a while.
    pub fn stop(&self, patience: Duration) -> anyhow::Result<()> {
        let Some(handle) = self.open() else { return Ok(()) };
        self.signal(&handle, Signal::SIGTERM)?;
        if has_ended(&handle, patience)? { Ok(()) } else { self.end() }
    }

    fn signal(&self, handle: &OwnedFd, signal: Signal) -> anyhow::Result<()> {
        match process::signal_by(handle, signal as i32) {
            // It has just ended by itself.
            Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ESRCH as i32) => Ok(()),
            other => other.with_context(|| format!("cannot end {self}")),
        }
    }

    /// Opens it while it is alive.
    fn open(&self) -> Option<OwnedFd> {
        let handle = process::pidfd(Pid::from_raw(self.pid)).ok()?;
        // Asked only now: what the descriptor holds cannot become another process any more.
        self.is_alive().then_some(handle)
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {}", self.pid)
    }
}

fn has_ended(handle: &OwnedFd, within: Duration) -> anyhow::Result<bool> {
    let mut polled = [PollFd::new(handle.as_fd(), PollFlags::POLLIN)];
    let limit = PollTimeout::try_from(within).unwrap_or(PollTimeout::MAX);
    Ok(nix::poll::poll(&mut polled, limit)? > 0)
}

/// The state of a process and when it started.
fn stat(pid: i32) -> Option<(char, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// The identity of this boot of the machine.
pub fn boot() -> anyhow::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_recognised_and_ended() {
        let own = Process::current().unwrap();
        assert!(own.is_alive() && own.age().is_some());
        assert!(!Process { started: own.started + 1, ..own.clone() }.is_alive(), "another process of that number");
        assert!(!Process { boot: "another".into(), ..own }.is_alive(), "from before the machine was started anew");
        for patient in [true, false] {
            let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
            let process = Process::of(Pid::from_raw(child.id() as i32)).unwrap();
            if patient { process.stop(ENDING) } else { process.end() }.unwrap();
            assert!(!process.is_alive());
            process.end().unwrap();
            child.wait().unwrap();
        }
    }
}
