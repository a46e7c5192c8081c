//! What a starter and the process that it forks tell each other while that one becomes a container.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use linux::{Context, scm};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

use crate::{Error, Result};

/// The longest message; longer reasons are cut.
const LONGEST: usize = 8 << 10;

/// One end of the conversation.
#[derive(Debug)]
pub struct Channel {
    socket: OwnedFd,
}

/// What the new process says.
#[derive(Debug)]
pub enum Said {
    /// The master side of its terminal.
    Terminal(OwnedFd),
    /// It is ready to execute its program.
    Ready,
    /// Why it gives up.
    Failed(String),
    /// Its end is closed: it has executed its program, or died.
    Closed,
}

impl Said {
    pub fn is_ready(&self) -> bool {
        matches!(self, Said::Ready)
    }

    pub fn is_closed(&self) -> bool {
        matches!(self, Said::Closed)
    }
}

impl Channel {
    /// Both ends, closed by the execution of a program.
    pub fn pair() -> Result<(Self, Self)> {
        let pair = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC);
        let (left, right) = pair.context(|| "cannot make a socket")?;
        Ok((Self { socket: left }, Self { socket: right }))
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn send(&self, tag: u8, text: &[u8], fds: &[BorrowedFd<'_>]) -> Result<()> {
        let mut bytes = vec![tag];
        bytes.extend_from_slice(&text[..text.len().min(LONGEST - 1)]);
        scm::send(self.fd(), &bytes, fds).context(|| "cannot tell the other process")?;
        Ok(())
    }

    /// Lets the new process go on.
    pub fn go(&self) -> Result<()> {
        self.send(b'g', b"", &[])
    }

    /// Waits to be let go on.
    pub fn wait(&self) -> Result<()> {
        match self.receive()? {
            (b'g', _, _) => Ok(()),
            _ => Err(Error::Process("the process that started it is gone".to_owned())),
        }
    }

    /// Hands the master side of a terminal over.
    pub fn terminal(&self, master: BorrowedFd<'_>) -> Result<()> {
        self.send(b't', b"", &[master])
    }

    /// Tells that everything but the execution of the program is done.
    pub fn ready(&self) -> Result<()> {
        self.send(b'r', b"", &[])
    }

    /// Tells why it gives up; if nobody listens, nobody cares.
    pub fn failed(&self, why: &str) {
        let _ = self.send(b'e', why.as_bytes(), &[]);
    }

    /// Hears what the new process says next.
    pub fn hear(&self) -> Result<Said> {
        let (tag, text, fds) = self.receive()?;
        Ok(match (tag, fds.into_iter().next()) {
            (b't', Some(master)) => Said::Terminal(master),
            (b'r', _) => Said::Ready,
            (b'e', _) => Said::Failed(text),
            _ => Said::Closed,
        })
    }

    fn receive(&self) -> Result<(u8, String, Vec<OwnedFd>)> {
        let mut bytes = vec![0; LONGEST];
        let (count, fds) = loop {
            match scm::receive(self.fd(), &mut bytes) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other.context(|| "cannot hear the other process")?,
            }
        };
        let (tag, text) = bytes[..count].split_first().map_or((0, &[][..]), |(tag, text)| (*tag, text));
        Ok((tag, String::from_utf8_lossy(text).into_owned(), fds))
    }
}
