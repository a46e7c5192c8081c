//! What the new process does to become the container's, up to the execution of its program.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use linux::mount::{attach, open_tree};
use linux::{Context, process, pty};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, fchown, sethostname, setsid};

use crate::channel::Channel;
use crate::identity::{Identity, Program};
use crate::rootfs::Plan as Rootfs;
use crate::{Error, Result, Stdio};

/// The exit code of a process that did not become the container's.
const FAILED: i32 = 128;

/// What the new process needs.
#[derive(Debug)]
pub struct Init<'a> {
    pub identity: &'a Identity,
    /// For a container's first process; another one has entered its root already.
    pub rootfs: Option<&'a Rootfs>,
    pub stdio: &'a Stdio,
    pub new_cgroup: bool,
    pub hostname: Option<&'a str>,
    pub domainname: Option<&'a str>,
    /// Takes the root of its user namespace, from whose view the caller is nobody.
    pub become_root: bool,
    pub console_size: Option<(u16, u16)>,
    /// Where it waits before it executes the program. Without, it tells the channel how that went.
    pub gate: Option<BorrowedFd<'a>>,
}

/// Becomes the container's process; returns only if it could not.
pub fn run(init: &Init<'_>, channel: &Channel) -> i32 {
    let program = match init.prepare(channel) {
        Ok(program) => program,
        Err(error) => {
            channel.failed(&inner(&error));
            return FAILED;
        }
    };
    let Some(gate) = init.gate else {
        channel.failed(&inner(&init.identity.execute(&program)));
        return FAILED;
    };
    if channel.ready().is_err() {
        return FAILED;
    }
    let mut byte = [0];
    loop {
        match nix::unistd::read(gate, &mut byte) {
            Ok(1) => break,
            Err(Errno::EINTR) => {}
            // Nobody is left to open the gate.
            _ => return FAILED,
        }
    }
    let error = init.identity.execute(&program);
    let _ = nix::unistd::write(gate, inner(&error).as_bytes());
    FAILED
}

/// The reason without what the other side adds to it anyway.
fn inner(error: &Error) -> String {
    match error {
        Error::Process(why) => why.clone(),
        error => error.to_string(),
    }
}

impl Init<'_> {
    fn prepare(&self, channel: &Channel) -> Result<Program> {
        channel.wait()?;
        process::reset_signals().context(|| "cannot reset signals")?;
        if self.become_root {
            process::become_user(0, 0, Some(&[])).context(|| "cannot become root of the user namespace")?;
        }
        setsid().context(|| "cannot lead a session")?;
        process::new_session_keyring();
        if self.new_cgroup {
            crate::enter_new(process::namespace::CGROUP)?;
        }
        if let Some(rootfs) = self.rootfs {
            rootfs.enter()?;
        }
        if let Some(name) = self.hostname {
            sethostname(name).context(|| "cannot set the host name")?;
        }
        if let Some(name) = self.domainname {
            process::set_domain_name(name).context(|| "cannot set the domain name")?;
        }
        match self.stdio {
            Stdio::Terminal => self.open_terminal(channel)?,
            Stdio::Streams(streams) => self.take_streams(streams)?,
        }
        self.identity.make_cwd();
        if let Some(rootfs) = self.rootfs {
            rootfs.close()?;
        }
        process::close_on_exec_from(3).context(|| "cannot close descriptors")?;
        self.identity.assume()
    }

    fn take_streams(&self, streams: &[OwnedFd; 3]) -> Result<()> {
        let (uid, gid) = self.identity.owner();
        for stream in streams {
            // So that the process can open its own streams again by name; where that fails, it cannot.
            if !is_null(stream.as_fd()) {
                let _ = fchown(stream, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
            }
        }
        place([streams[0].as_fd(), streams[1].as_fd(), streams[2].as_fd()])
    }

    /// Opens a terminal of the container's own and makes it the controlling one.
    fn open_terminal(&self, channel: &Channel) -> Result<()> {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let master = open("/dev/ptmx", flags, Mode::empty()).context(|| "cannot open a terminal")?;
        let slave_path = pty::unlock(master.as_fd()).context(|| "cannot open a terminal")?;
        if let Some((columns, rows)) = self.console_size {
            pty::resize(master.as_fd(), columns, rows).context(|| "cannot size the terminal")?;
        }
        let slave: OwnedFd = open(&slave_path, flags, Mode::empty()).context(|| "cannot open the terminal")?;
        let (uid, _) = self.identity.owner();
        let _ = fchown(&slave, Some(Uid::from_raw(uid)), None);
        if self.rootfs.is_some() {
            show_console(&slave_path)?;
        }
        channel.terminal(master.as_fd())?;
        pty::take_control(slave.as_fd()).context(|| "cannot take the terminal")?;
        place([slave.as_fd(); 3])
    }
}

fn place(streams: [BorrowedFd<'_>; 3]) -> Result<()> {
    // None of them may be one of the numbers that are being replaced; copies are made above them.
    let mut high = Vec::new();
    for stream in streams {
        high.push(stream.try_clone_to_owned().context(|| "cannot copy a descriptor")?);
    }
    for (number, stream) in (0..).zip(&high) {
        process::place(stream.as_fd(), number).context(|| "cannot place a descriptor")?;
    }
    Ok(())
}

fn is_null(stream: BorrowedFd<'_>) -> bool {
    let stat = nix::sys::stat::fstat(stream);
    stat.is_ok_and(|stat| stat.st_rdev == nix::sys::stat::makedev(1, 3))
}

/// Shows the terminal as the container's console.
fn show_console(slave: &Path) -> Result<()> {
    let console = PathBuf::from("/dev/console");
    let what = || "cannot show the console";
    if !console.exists() {
        File::create(&console).context(what)?;
    }
    let tree = open_tree(slave, false).context(what)?;
    Ok(attach(tree.as_fd(), &console).context(what)?)
}
