//! Netlink: the kernel's network configuration over blocking sockets with timeouts.
//!
//! A [`Socket`] stays in the network namespace it was opened in, whichever thread uses it later; so a caller opens one
//! per namespace (see [`Socket::route_in`]) and never has to move itself to and fro.
//!
//! Start reading at [`Socket`]; `link`, `address`, `route`, `rule` and `neighbour` are its verbs by subject, `wire` is
//! the encoding of messages and attributes, shared with `nftables` and `conntrack`.

pub mod address;
pub mod link;
pub mod namespace;
pub mod neighbour;
pub mod route;
pub mod rule;
pub mod watch;
pub mod wire;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::sockopt;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt, socket,
};
use nix::sys::time::{TimeVal, TimeValLike};

use wire::{Attributes, Message};

/// Why a netlink request failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused the request.
    #[error("{operation}: {errno}{}", detail(.message))]
    Refused { operation: String, errno: Errno, message: String },
    /// The socket itself failed.
    #[error("netlink socket: {0}")]
    Socket(Errno),
    /// No answer came in time.
    #[error("{0}: the kernel did not answer in time")]
    TimedOut(String),
    /// The kernel's answer does not have the expected form.
    #[error("malformed netlink answer: {0}")]
    Malformed(&'static str),
    /// A listing kept changing while it was read.
    #[error("{0}: the listing kept changing")]
    Interrupted(String),
    /// A network namespace could not be entered.
    #[error("enter network namespace: {0}")]
    Namespace(String),
    /// An argument cannot be expressed in the protocol.
    #[error("{0}")]
    Invalid(String),
}

fn detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(" ({message})") }
}

impl Error {
    /// The error number the kernel gave, if it gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Error::Refused { errno, .. } | Error::Socket(errno) => Some(*errno),
            _ => None,
        }
    }

    /// Whether the object asked for is not there.
    pub fn is_absent(&self) -> bool {
        matches!(self.errno(), Some(Errno::ENOENT | Errno::ENODEV | Errno::ESRCH | Errno::EADDRNOTAVAIL | Errno::ENXIO))
    }

    /// Whether the object to be made is there already.
    pub fn is_present(&self) -> bool {
        self.errno() == Some(Errno::EEXIST)
    }
}

/// The result of a netlink request.
pub type Result<T> = std::result::Result<T, Error>;

/// One message of an answer, without its header.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The message type.
    pub kind: u16,
    /// The sequence number of the request it answers.
    pub sequence: u32,
    /// What follows the header.
    pub payload: Vec<u8>,
}

impl Reply {
    /// The attributes after a fixed part of `offset` bytes.
    pub fn attributes(&self, offset: usize) -> Attributes<'_> {
        Attributes::new(self.payload.get(offset..).unwrap_or(&[]))
    }
}

const HEADER: usize = 16;
const RECEIVE: usize = 64 * 1024;
/// Limits what one listing may hold in memory.
const MAX_REPLIES: usize = 4_000_000;

/// A netlink socket, bound to the network namespace in which it was opened.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a routing (links, addresses, routes, rules, neighbours) socket in the caller's network namespace.
    pub fn route() -> Result<Self> {
        Self::open(SockProtocol::NetlinkRoute, 0)
    }

    /// Opens a netfilter (nf_tables, conntrack) socket in the caller's network namespace.
    pub fn netfilter() -> Result<Self> {
        Self::open(SockProtocol::NetlinkNetFilter, 0)
    }

    /// Opens a routing socket in the namespace that `namespace` refers to.
    pub fn route_in(namespace: BorrowedFd<'_>) -> Result<Self> {
        namespace::run_in(namespace, Self::route)?
    }

    pub(crate) fn open(protocol: SockProtocol, groups: u32) -> Result<Self> {
        let fd =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).map_err(Error::Socket)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups)).map_err(Error::Socket)?;
        let socket = Self { fd, sequence: 0, buffer: vec![0; RECEIVE] };
        socket.set_timeout(Duration::from_secs(10))?;
        // Refusals then carry the kernel's own words; a kernel that cannot do it still gives the number.
        let _ = enable(&socket.fd, libc::NETLINK_EXT_ACK);
        let _ = enable(&socket.fd, libc::NETLINK_CAP_ACK);
        let _ = setsockopt(&socket.fd, sockopt::RcvBufForce, &(4 << 20));
        Ok(socket)
    }

    /// Sets how long an answer may take.
    pub fn set_timeout(&self, timeout: Duration) -> Result<()> {
        let value = TimeVal::milliseconds(i64::try_from(timeout.as_millis()).unwrap_or(i64::MAX).max(1));
        setsockopt(&self.fd, sockopt::ReceiveTimeout, &value).map_err(Error::Socket)
    }

    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends encoded messages as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        loop {
            match sendto(self.fd.as_raw_fd(), bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Error::Socket(errno)),
            }
        }
    }

    /// Makes room for a request of `length` bytes that must be sent whole.
    pub(crate) fn reserve_send(&self, length: usize) {
        // The kernel counts its own overhead too, hence the doubling; without CAP_NET_ADMIN the plain option may do.
        let wanted = length.saturating_mul(2).max(1 << 20);
        if setsockopt(&self.fd, sockopt::SndBufForce, &wanted).is_err() {
            let _ = setsockopt(&self.fd, sockopt::SndBuf, &wanted);
        }
    }

    /// Receives one datagram and splits it into messages; `None` when nothing waits and `wait` is false.
    pub(crate) fn receive(&mut self, wait: bool, operation: &str) -> Result<Option<Vec<(u16, Reply)>>> {
        let flags = if wait { MsgFlags::MSG_TRUNC } else { MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT };
        let length = loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, flags) {
                Ok(length) => break length,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) if !wait => return Ok(None),
                Err(Errno::EAGAIN) => return Err(Error::TimedOut(operation.to_owned())),
                Err(errno) => return Err(Error::Socket(errno)),
            }
        };
        if length > self.buffer.len() {
            return Err(Error::Malformed("longer than the receive buffer"));
        }
        let mut messages = Vec::new();
        let mut rest = &self.buffer[..length];
        while rest.len() >= HEADER {
            let size = wire::u32_at(rest, 0).unwrap_or(0) as usize;
            if size < HEADER || size > rest.len() {
                return Err(Error::Malformed("message length"));
            }
            let kind = wire::u16_at(rest, 4).unwrap_or(0);
            let flags = wire::u16_at(rest, 6).unwrap_or(0);
            let sequence = wire::u32_at(rest, 8).unwrap_or(0);
            messages.push((flags, Reply { kind, sequence, payload: rest[HEADER..size].to_vec() }));
            rest = &rest[wire::align(size).min(rest.len())..];
        }
        Ok(Some(messages))
    }

    /// Sends a request that changes something and waits for its acknowledgement.
    pub fn request(&mut self, operation: &str, message: Message) -> Result<()> {
        self.exchange(operation, message, (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16).map(|_| ())
    }

    /// Asks for one object.
    pub fn get(&mut self, operation: &str, message: Message) -> Result<Option<Reply>> {
        let replies = self.exchange(operation, message, (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16)?;
        Ok(replies.into_iter().next())
    }

    /// Asks for all objects of a kind; asks again when they changed meanwhile.
    pub fn dump(&mut self, operation: &str, message: Message) -> Result<Vec<Reply>> {
        const ATTEMPTS: usize = 8;
        for _ in 0..ATTEMPTS {
            match self.exchange(operation, message.clone(), (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16) {
                Err(Error::Interrupted(_)) => {}
                other => return other,
            }
        }
        Err(Error::Interrupted(operation.to_owned()))
    }

    fn exchange(&mut self, operation: &str, mut message: Message, flags: u16) -> Result<Vec<Reply>> {
        let sequence = self.next_sequence();
        let bytes = message.finish(flags, sequence);
        self.send_raw(bytes)?;
        let mut replies = Vec::new();
        let mut interrupted = false;
        loop {
            let Some(messages) = self.receive(true, operation)? else { continue };
            for (flags, reply) in messages {
                // An answer to an earlier request that ran into its timeout.
                if reply.sequence != sequence {
                    continue;
                }
                interrupted |= flags & libc::NLM_F_DUMP_INTR as u16 != 0;
                match i32::from(reply.kind) {
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => {
                        if let Some(error) = refusal(operation, &reply, flags) {
                            return Err(error);
                        }
                        if interrupted {
                            return Err(Error::Interrupted(operation.to_owned()));
                        }
                        return Ok(replies);
                    }
                    libc::NLMSG_NOOP => {}
                    _ => {
                        if replies.len() >= MAX_REPLIES {
                            return Err(Error::Malformed("endless listing"));
                        }
                        replies.push(reply);
                    }
                }
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Reads an error or end message; zero means success.
pub(crate) fn refusal(operation: &str, reply: &Reply, flags: u16) -> Option<Error> {
    let code = wire::u32_at(&reply.payload, 0).unwrap_or(0) as i32;
    if code == 0 {
        return None;
    }
    // Error messages repeat the header of the request before the attributes, end messages do not.
    let offset = if i32::from(reply.kind) == libc::NLMSG_ERROR { 4 + HEADER } else { 4 };
    let mut message = String::new();
    const EXTENDED: u16 = 0x200;
    if flags & EXTENDED != 0 {
        const MESSAGE: u16 = 1;
        if let Some(text) = reply.attributes(offset).get(MESSAGE) {
            message = wire::text(text);
        }
    }
    Some(Error::Refused { operation: operation.to_owned(), errno: Errno::from_raw(code.wrapping_neg()), message })
}

fn enable(fd: &OwnedFd, option: i32) -> Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open, and the option value is an int that lives until the call returns.
    let code = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            std::ptr::from_ref(&on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if code == 0 { Ok(()) } else { Err(Error::Socket(Errno::last())) }
}
