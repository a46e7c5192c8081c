//! Processes: forked into namespaces and control groups, watched by descriptor, stripped of rights.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use nix::unistd::Pid;

/// What a new process gets of its own, by flags of `clone`.
pub mod namespace {
    /// Mounts.
    pub const MOUNT: u64 = libc::CLONE_NEWNS as u64;
    /// Control groups.
    pub const CGROUP: u64 = libc::CLONE_NEWCGROUP as u64;
    /// Host name.
    pub const UTS: u64 = libc::CLONE_NEWUTS as u64;
    /// IPC.
    pub const IPC: u64 = libc::CLONE_NEWIPC as u64;
    /// Users.
    pub const USER: u64 = libc::CLONE_NEWUSER as u64;
    /// Processes.
    pub const PID: u64 = libc::CLONE_NEWPID as u64;
    /// Network.
    pub const NETWORK: u64 = libc::CLONE_NEWNET as u64;
    /// Time.
    pub const TIME: u64 = 0x80;
}

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// How a process is forked.
#[derive(Debug, Default)]
pub struct Fork<'a> {
    /// New namespaces.
    pub namespaces: u64,
    /// The new process is a child of the caller's parent.
    pub sibling: bool,
    /// A folder of the unified hierarchy to be born in.
    pub cgroup: Option<BorrowedFd<'a>>,
}

#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

impl Fork<'_> {
    /// Forks; the new process runs `work` and ends with what it returns.
    ///
    /// For programs with one thread only, such as a shim: the copy of a lock that another thread held would never be
    /// released. Threads of a program are refused.
    pub fn run(&self, work: impl FnOnce() -> i32) -> io::Result<Pid> {
        if threads() > 1 {
            return Err(io::Error::other("a process with several threads cannot become a container"));
        }
        let mut flags = self.namespaces;
        if self.sibling {
            flags |= libc::CLONE_PARENT as u64;
        }
        let mut arguments = CloneArguments {
            // The kernel passes the signal of the caller on to its siblings.
            exit_signal: if self.sibling { 0 } else { libc::SIGCHLD as u64 },
            ..CloneArguments::default()
        };
        if let Some(cgroup) = self.cgroup {
            flags |= CLONE_INTO_CGROUP;
            arguments.cgroup = cgroup.as_raw_fd() as u64;
        }
        arguments.flags = flags;
        // SAFETY: the structure is as the kernel defines it and lives through the call; no memory is shared with the
        // new process, and there was one thread, so its copy of every lock and of the heap is consistent.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, &arguments, size_of::<CloneArguments>()) };
        match Errno::result(pid)? {
            0 => end(work),
            pid => Ok(Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))),
        }
    }
}

/// Forks a plain child, also from a program with threads, of which the child has only this one.
pub fn fork(work: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the C library puts its own locks in order; `work` is documented to be that of a lone thread.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(child),
        nix::unistd::ForkResult::Child => end(work),
    }
}

/// Ends the process after `work` without running what the parent registered for its own end.
fn end(work: impl FnOnce() -> i32) -> ! {
    let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(101);
    // SAFETY: ends this process at once.
    unsafe { libc::_exit(code) }
}

/// How many threads there are, or 0 for a process that its own `/proc` does not show.
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// Takes an ended child's number and exit code, or 128 and the number of the signal that ended it.
pub fn reap() -> Option<(Pid, i32)> {
    let mut status = 0;
    // SAFETY: the kernel only writes the integer, which lives through the call.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG | libc::__WALL) };
    if pid <= 0 {
        return None;
    }
    let code = if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
    Some((Pid::from_raw(pid), code))
}

/// Opens a process by number.
pub fn pidfd(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel has just made this descriptor; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Sends a signal by number to an opened process; 0 only asks whether it is still there.
pub fn signal_by(process: &OwnedFd, signal: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: takes a descriptor and integers; without a structure the kernel fills one in.
    Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, none, 0) })?;
    Ok(())
}

/// Leaves the keyring that was inherited for a new one; a kernel without keyrings has none to leave.
pub fn new_session_keyring() {
    const JOIN_SESSION_KEYRING: i32 = 1;
    // SAFETY: takes an integer and a null pointer, for a keyring without name.
    unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, std::ptr::null::<u8>()) };
}

/// Sets the NIS domain name of the UTS namespace.
pub fn set_domain_name(name: &str) -> io::Result<()> {
    // SAFETY: the kernel only reads the text, which lives through the call, up to the given length.
    Errno::result(unsafe { libc::setdomainname(name.as_ptr().cast(), name.len()) })?;
    Ok(())
}

/// Sends a signal by number, real-time ones included.
pub fn kill(pid: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: takes two integers.
    Errno::result(unsafe { libc::kill(pid.as_raw(), signal) })?;
    Ok(())
}

/// Makes orphans below this process its children.
pub fn become_subreaper() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// Has the kernel send this process a signal when its parent's thread ends.
pub fn die_with_parent(signal: Signal) -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(signal)?)
}

/// Keeps set-user-ID programs and file capabilities from giving rights, for good.
pub fn forbid_new_privileges() -> io::Result<()> {
    Ok(nix::sys::prctl::set_no_new_privs()?)
}

/// Whether permitted capabilities stay when the user changes.
pub fn keep_capabilities(keep: bool) -> io::Result<()> {
    Ok(nix::sys::prctl::set_keepcaps(keep)?)
}

/// Keeps other processes of the same user from looking into this one, or lets them.
pub fn set_dumpable(dumpable: bool) -> io::Result<()> {
    Ok(nix::sys::prctl::set_dumpable(dumpable)?)
}

/// Ends this process after a while unless called off with zero.
pub fn alarm(after: Duration) {
    let seconds = u32::try_from(after.as_secs()).unwrap_or(u32::MAX);
    match seconds {
        0 => nix::unistd::alarm::cancel(),
        seconds => nix::unistd::alarm::set(seconds),
    };
}

/// Gives every signal its default effect and blocks none, as a new program expects.
pub fn reset_signals() -> io::Result<()> {
    for number in 1..=libc::SIGRTMAX() {
        if matches!(number, libc::SIGKILL | libc::SIGSTOP) || (32..34).contains(&number) {
            continue;
        }
        // SAFETY: the default effect runs no code of ours.
        unsafe { libc::signal(number, libc::SIG_DFL) };
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)?;
    Ok(())
}

/// Lets a signal pass without effect.
pub fn ignore_signal(ignored: Signal) -> io::Result<()> {
    // SAFETY: ignoring runs no code of ours.
    unsafe { signal(ignored, SigHandler::SigIgn) }?;
    Ok(())
}

/// Marks every descriptor from `first` on to be closed by the execution of a program.
pub fn close_on_exec_from(first: RawFd) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: takes three integers; descriptors stay open for their owners.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) };
    Errno::result(result)?;
    Ok(())
}

/// Closes every descriptor from `first` on that is not in `kept`. For a child that goes its own way, right after the
/// fork: values that own the closed descriptors must never be dropped there.
pub fn close_from_except(first: RawFd, kept: &[RawFd]) -> io::Result<()> {
    let mut sorted: Vec<RawFd> = kept.iter().copied().filter(|fd| *fd >= first).collect();
    sorted.sort_unstable();
    let mut start = first as u32;
    for fd in sorted {
        let fd = fd as u32;
        if fd > start {
            close_range(start, fd - 1)?;
        }
        start = fd + 1;
    }
    close_range(start, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: the caller promises that no owner in this process uses these descriptors any more.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    Ok(())
}

/// Puts a descriptor at another number, open across the execution of a program.
pub fn place(fd: BorrowedFd<'_>, at: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == at {
        // SAFETY: changes a flag of an open descriptor.
        Errno::result(unsafe { libc::fcntl(at, libc::F_SETFD, 0) })?;
        return Ok(());
    }
    // SAFETY: only the standard streams, which no value owns, are replaced this way.
    Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), at) })?;
    Ok(())
}

/// Replaces the supplementary groups, the group and the user, in this order.
pub fn become_user(uid: u32, gid: u32, groups: Option<&[u32]>) -> io::Result<()> {
    if let Some(groups) = groups {
        let groups: Vec<nix::unistd::Gid> = groups.iter().map(|gid| nix::unistd::Gid::from_raw(*gid)).collect();
        nix::unistd::setgroups(&groups)?;
    }
    let (uid, gid) = (nix::unistd::Uid::from_raw(uid), nix::unistd::Gid::from_raw(gid));
    nix::unistd::setresgid(gid, gid, gid)?;
    nix::unistd::setresuid(uid, uid, uid)?;
    Ok(())
}

/// Sets a resource limit by its number.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the kernel only reads the structure, which lives through the call.
    Errno::result(unsafe { libc::prlimit64(0, resource as _, &limit, std::ptr::null_mut()) })?;
    Ok(())
}

/// The hard limit of a resource.
pub fn hard_limit(resource: u32) -> io::Result<u64> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel only writes the structure, which lives through the call.
    Errno::result(unsafe { libc::prlimit64(0, resource as _, std::ptr::null(), &mut limit) })?;
    Ok(limit.rlim_max)
}

/// Executes a program in place of this one; returns only to tell why it could not.
pub fn execute(program: &CString, arguments: &[CString], environment: &[CString]) -> io::Error {
    match nix::unistd::execve(program, arguments, environment) {
        Ok(never) => match never {},
        Err(errno) => errno.into(),
    }
}

/// Shows another command line in lists of processes, as far as it fits where the old one is.
pub fn set_title(title: &str) -> io::Result<()> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // After the name in parentheses, which may itself contain any character, the fields are numbers.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<usize>().ok());
    let (Some(start), Some(end)) = (number(45), number(46)) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let length = end.saturating_sub(start);
    if start == 0 || length == 0 {
        return Ok(());
    }
    let mut bytes = vec![0; length];
    let shown = title.len().min(length - 1);
    bytes[..shown].copy_from_slice(&title.as_bytes()[..shown]);
    // SAFETY: the kernel says that the arguments of this process are between the two addresses, and they are writable;
    // nothing reads them after the start of the program, whose own copy the standard library made.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), start as *mut u8, length) };
    nix::sys::prctl::set_name(&CString::new(title.rsplit('/').next().unwrap_or(title))?)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};

    use super::*;

    #[test]
    fn a_child_ends_with_what_its_work_returns() {
        let pid = fork(|| 7).unwrap();
        assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 7));
    }

    #[test]
    fn threads_are_refused() {
        assert!(Fork::default().run(|| 0).is_err());
        // In a child there is but one thread.
        let pid = fork(|| {
            let Ok(inner) = Fork { namespaces: namespace::UTS, ..Fork::default() }.run(|| 3) else { return 1 };
            matches!(waitpid(inner, None), Ok(WaitStatus::Exited(_, 3))).then_some(0).unwrap_or(2)
        });
        let pid = pid.unwrap();
        assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 0));
    }
}
