//! Terminals: the master side, and taking one as the controlling terminal.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};

nix::ioctl_write_ptr_bad!(tiocswinsz, libc::TIOCSWINSZ, libc::winsize);
nix::ioctl_write_int_bad!(tiocsctty, libc::TIOCSCTTY);

/// The master side of a terminal, never blocking.
#[derive(Debug)]
pub struct Master {
    fd: OwnedFd,
}

impl Master {
    /// Takes over a descriptor of a master side.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        Self::unblock(fd.as_fd())?;
        Ok(Self { fd })
    }

    /// Has reads and writes of a descriptor return rather than wait.
    pub fn unblock(fd: BorrowedFd<'_>) -> io::Result<()> {
        let flags = OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL)?);
        fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(())
    }

    /// Reads; no bytes mean that nobody has the other side open any more.
    pub fn read(&self, bytes: &mut [u8]) -> io::Result<usize> {
        match nix::unistd::read(&self.fd, bytes) {
            // The kernel's way to tell that the other side is closed.
            Err(Errno::EIO) => Ok(0),
            other => Ok(other?),
        }
    }

    /// Writes what goes without waiting.
    pub fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(nix::unistd::write(&self.fd, bytes)?)
    }

    /// Changes the size and tells the processes in front.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        resize(self.fd.as_fd(), columns, rows)
    }
}

impl AsRawFd for Master {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl AsFd for Master {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Lets the other side of a new terminal be opened and tells where it is.
pub fn unlock(master: BorrowedFd<'_>) -> io::Result<PathBuf> {
    let unlocked: libc::c_int = 0;
    // SAFETY: the kernel only reads the integer, which lives through the call.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &unlocked) })?;
    let mut number: libc::c_uint = 0;
    // SAFETY: the kernel only writes the integer, which lives through the call.
    Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &mut number) })?;
    Ok(PathBuf::from(format!("/dev/pts/{number}")))
}

/// Changes the size of a terminal by either side.
pub fn resize(terminal: BorrowedFd<'_>, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel only reads the structure, which lives through the call.
    unsafe { tiocswinsz(terminal.as_raw_fd(), &size) }?;
    Ok(())
}

/// Makes a terminal the controlling one of the calling process, which leads a session.
pub fn take_control(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the request takes an integer and touches no memory of this process.
    unsafe { tiocsctty(terminal.as_raw_fd(), 0) }?;
    Ok(())
}
