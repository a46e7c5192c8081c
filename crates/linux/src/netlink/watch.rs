//! Watching links, addresses, routes and neighbours for changes.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use super::address::Address;
use super::link::Link;
use super::neighbour::Neighbour;
use super::route::Route;
use super::{Error, Result, Socket};

/// Something in the namespace's network configuration changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A link is new or different.
    Link(Link),
    /// A link is gone.
    LinkGone(Link),
    /// An address is new.
    Address(Address),
    /// An address is gone.
    AddressGone(Address),
    /// A route is new or different.
    Route(Route),
    /// A route is gone.
    RouteGone(Route),
    /// A neighbour is new or different.
    Neighbour(Neighbour),
    /// A neighbour is gone.
    NeighbourGone(Neighbour),
    /// Changes were lost: list everything again.
    Lost,
}

/// Which changes to hear of.
#[derive(Debug, Clone, Copy, Default)]
pub struct Interest {
    /// Links.
    pub links: bool,
    /// Addresses of both families.
    pub addresses: bool,
    /// Routes of both families.
    pub routes: bool,
    /// Neighbours.
    pub neighbours: bool,
}

/// A socket that hears of changes.
#[derive(Debug)]
pub struct Watch {
    socket: Socket,
    waiting: std::collections::VecDeque<Change>,
}

impl Watch {
    /// Listens in the caller's network namespace.
    pub fn open(interest: Interest) -> Result<Self> {
        const LINK: u32 = 1;
        const NEIGHBOUR: u32 = 1 << 2;
        const ADDRESS: u32 = 1 << 4 | 1 << 8;
        const ROUTE: u32 = 1 << 6 | 1 << 10;
        let mut groups = 0;
        for (wanted, bits) in [
            (interest.links, LINK),
            (interest.neighbours, NEIGHBOUR),
            (interest.addresses, ADDRESS),
            (interest.routes, ROUTE),
        ] {
            if wanted {
                groups |= bits;
            }
        }
        let socket = Socket::open(SockProtocol::NetlinkRoute, groups)?;
        Ok(Self { socket, waiting: std::collections::VecDeque::new() })
    }

    /// The next change; `None` when none came within `timeout`.
    pub fn next(&mut self, timeout: Duration) -> Result<Option<Change>> {
        self.socket.set_timeout(timeout)?;
        loop {
            if let Some(change) = self.waiting.pop_front() {
                return Ok(Some(change));
            }
            let messages = match self.socket.receive(true, "watch the network") {
                Ok(messages) => messages.unwrap_or_default(),
                Err(Error::TimedOut(_)) => return Ok(None),
                // The kernel's queue for this socket ran over.
                Err(Error::Socket(Errno::ENOBUFS)) => return Ok(Some(Change::Lost)),
                Err(error) => return Err(error),
            };
            for (_, reply) in messages {
                let change = match reply.kind {
                    libc::RTM_NEWLINK => Link::parse(&reply).map(Change::Link),
                    libc::RTM_DELLINK => Link::parse(&reply).map(Change::LinkGone),
                    libc::RTM_NEWADDR => Address::parse(&reply).map(Change::Address),
                    libc::RTM_DELADDR => Address::parse(&reply).map(Change::AddressGone),
                    libc::RTM_NEWROUTE => Route::parse(&reply).map(Change::Route),
                    libc::RTM_DELROUTE => Route::parse(&reply).map(Change::RouteGone),
                    libc::RTM_NEWNEIGH => Neighbour::parse(&reply).map(Change::Neighbour),
                    libc::RTM_DELNEIGH => Neighbour::parse(&reply).map(Change::NeighbourGone),
                    _ => None,
                };
                self.waiting.extend(change);
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
