//! `skiff node-init`: the first process of a node in namespaces: reaps, keeps the daemon running, ends with it.
//!
//! # Why
//! The daemon is never the first process of a node: when that ends, the kernel kills all others, and pods are to live
//! on while the daemon is upgraded or crashes. So this one does next to nothing, with one thread.

use std::ffi::{CString, OsString};
use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

/// The first wait before the daemon is started again; it doubles up to [`LONGEST`].
const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
/// A daemon that ran this long had started well: the next wait is short again.
const SETTLED: Duration = Duration::from_secs(30);

/// Be the first process of a node, which starts the daemon and starts it again.
#[derive(clap::Args)]
pub struct NodeInit {
    /// Append the daemon's output to this file.
    #[arg(long, value_name = "FILE", default_value = "/var/log/skiff.log")]
    log: PathBuf,
    /// The daemon's number is kept in this file.
    #[arg(long, value_name = "FILE", default_value = "/run/skiff-daemon.pid")]
    pid_file: PathBuf,
    /// The daemon's arguments, such as `server --node-name alpha`.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    daemon: Vec<OsString>,
}

/// The daemon, as far as it is known.
enum Daemon {
    Running { pid: Pid, since: Instant },
    Waiting { until: Instant },
}

impl NodeInit {
    /// Runs until it is told to end and the daemon has ended.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        let mut waited = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            waited.add(signal);
        }
        sigprocmask(SigmaskHow::SIG_SETMASK, Some(&waited), None).context("cannot block signals")?;
        let signals = SignalFd::with_flags(&waited, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .context("cannot listen for signals")?;
        let mut pause = SHORTEST;
        let mut ending = false;
        let mut daemon = self.started(&mut pause);
        loop {
            let timeout = match daemon {
                Daemon::Waiting { until } => {
                    let left = until.saturating_duration_since(Instant::now());
                    // Rounded up, or the last millisecond is a busy loop.
                    u16::try_from(left.as_millis() + 1).unwrap_or(u16::MAX).into()
                }
                Daemon::Running { .. } => nix::poll::PollTimeout::NONE,
            };
            let mut polled = [nix::poll::PollFd::new(signals.as_fd(), nix::poll::PollFlags::POLLIN)];
            match nix::poll::poll(&mut polled, timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("cannot wait for signals"),
            }
            while let Ok(Some(info)) = signals.read_signal() {
                match Signal::try_from(info.ssi_signo as i32) {
                    Ok(Signal::SIGCHLD) | Err(_) => {}
                    Ok(Signal::SIGHUP) => forward(&daemon, Signal::SIGHUP),
                    Ok(_) => {
                        ending = true;
                        forward(&daemon, Signal::SIGTERM);
                    }
                }
            }
            while let Some((pid, code)) = linux::process::reap() {
                let Daemon::Running { pid: own, since } = daemon else { continue };
                if pid != own {
                    continue;
                }
                let _ = std::fs::remove_file(&self.pid_file);
                if since.elapsed() >= SETTLED {
                    pause = SHORTEST;
                }
                if !ending {
                    self.say(&format!("the daemon ended with code {code}, starting it again in {pause:?}"));
                }
                daemon = Daemon::Waiting { until: Instant::now() + pause };
                pause = (pause * 2).min(LONGEST);
            }
            if let Daemon::Waiting { until } = daemon {
                if ending {
                    return Ok(ExitCode::SUCCESS);
                }
                if Instant::now() >= until {
                    daemon = self.started(&mut pause);
                }
            }
        }
    }

    fn started(&self, pause: &mut Duration) -> Daemon {
        match self.start() {
            Ok(pid) => {
                let _ = std::fs::write(&self.pid_file, format!("{pid}\n"));
                Daemon::Running { pid, since: Instant::now() }
            }
            Err(error) => {
                self.say(&format!("the daemon could not be started: {error:#}"));
                let until = Instant::now() + *pause;
                *pause = (*pause * 2).min(LONGEST);
                Daemon::Waiting { until }
            }
        }
    }

    fn start(&self) -> anyhow::Result<Pid> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot write the log {}", self.log.display()))?;
        let none = OpenOptions::new().read(true).open("/dev/null")?;
        let program = c"/proc/self/exe".to_owned();
        let mut arguments = vec![c"skiff".to_owned()];
        for argument in &self.daemon {
            arguments.push(CString::new(argument.clone().into_vec())?);
        }
        let mut environment = Vec::new();
        for (name, value) in std::env::vars_os() {
            let mut text = name.into_vec();
            text.push(b'=');
            text.extend(value.into_vec());
            environment.push(CString::new(text)?);
        }
        let pid = linux::process::fork(|| {
            let prepared = linux::process::place(none.as_fd(), 0)
                .and_then(|()| linux::process::place(log.as_fd(), 1))
                .and_then(|()| linux::process::place(log.as_fd(), 2))
                .and_then(|()| Ok(nix::unistd::setsid().map(|_| ())?))
                .and_then(|()| linux::process::reset_signals());
            if prepared.is_ok() {
                // Only told when it fails; the caller sees the code.
                let error = linux::process::execute(&program, &arguments, &environment);
                eprintln!("skiff: the daemon cannot be executed: {error}");
            }
            127
        })?;
        Ok(pid)
    }

    fn say(&self, text: &str) {
        use std::io::Write;
        if let Ok(mut log) = OpenOptions::new().create(true).append(true).open(&self.log) {
            let _ = writeln!(log, "{} node-init: {text}", crate::clock::now_text());
        }
    }
}

fn forward(daemon: &Daemon, signal: Signal) {
    if let Daemon::Running { pid, .. } = daemon {
        let _ = nix::sys::signal::kill(*pid, signal);
    }
}
