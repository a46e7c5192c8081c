//! Neighbours: which link-layer address an address is at, and where a bridge or VXLAN device finds one.

use std::net::IpAddr;

use super::link::Mac;
use super::wire::{self, Message};
use super::{Reply, Result, Socket};

const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const PERMANENT: u16 = 0x80;
const SELF: u8 = 0x02;

/// A neighbour entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Neighbour {
    /// The link it is on.
    pub link: u32,
    /// Its address.
    pub ip: IpAddr,
    /// Its link-layer address, when known.
    pub mac: Option<Mac>,
    /// Whether the kernel never asks again.
    pub permanent: bool,
}

impl Neighbour {
    pub(super) fn parse(reply: &Reply) -> Option<Self> {
        let attributes = reply.attributes(12);
        Some(Self {
            link: wire::u32_at(&reply.payload, 4)?,
            ip: attributes.ip(NDA_DST)?,
            mac: attributes.get(NDA_LLADDR).and_then(|bytes| Some(Mac(bytes.try_into().ok()?))),
            permanent: wire::u16_at(&reply.payload, 8)? & PERMANENT != 0,
        })
    }
}

fn ndmsg(family: u8, link: u32, state: u16, flags: u8) -> Vec<u8> {
    let mut bytes = vec![family, 0, 0, 0];
    bytes.extend_from_slice(&link.to_ne_bytes());
    bytes.extend_from_slice(&state.to_ne_bytes());
    bytes.extend_from_slice(&[flags, 0]);
    bytes
}

const REPLACE: i32 = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;

impl Socket {
    /// Says for good which link-layer address an address is at.
    pub fn set_neighbour(&mut self, link: u32, ip: IpAddr, mac: Mac) -> Result<()> {
        let mut message = Message::new(libc::RTM_NEWNEIGH, REPLACE, &ndmsg(wire::family(ip), link, PERMANENT, 0));
        message.ip(NDA_DST, ip).attr(NDA_LLADDR, &mac.0);
        self.request(&format!("add neighbour {ip}"), message)
    }

    /// Forgets a neighbour.
    pub fn delete_neighbour(&mut self, link: u32, ip: IpAddr) -> Result<()> {
        let mut message = Message::new(libc::RTM_DELNEIGH, 0, &ndmsg(wire::family(ip), link, 0, 0));
        message.ip(NDA_DST, ip);
        self.request(&format!("remove neighbour {ip}"), message)
    }

    /// Lists the neighbours of all links, both families.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>> {
        let message = Message::new(libc::RTM_GETNEIGH, 0, &ndmsg(0, 0, 0, 0));
        Ok(self.dump("list neighbours", message)?.iter().filter_map(Neighbour::parse).collect())
    }

    /// Tells a VXLAN device at which tunnel end a link-layer address is.
    pub fn add_forwarding(&mut self, link: u32, mac: Mac, end: IpAddr) -> Result<()> {
        let fixed = ndmsg(libc::AF_BRIDGE as u8, link, PERMANENT, SELF);
        let mut message = Message::new(libc::RTM_NEWNEIGH, REPLACE, &fixed);
        message.attr(NDA_LLADDR, &mac.0).ip(NDA_DST, end);
        self.request(&format!("add forwarding of {mac} to {end}"), message)
    }

    /// Takes back what [`Socket::add_forwarding`] told.
    pub fn delete_forwarding(&mut self, link: u32, mac: Mac, end: IpAddr) -> Result<()> {
        let mut message = Message::new(libc::RTM_DELNEIGH, 0, &ndmsg(libc::AF_BRIDGE as u8, link, 0, SELF));
        message.attr(NDA_LLADDR, &mac.0).ip(NDA_DST, end);
        self.request(&format!("remove forwarding of {mac}"), message)
    }

    /// Lists the forwarding entries of a VXLAN device.
    pub fn forwardings(&mut self, link: u32) -> Result<Vec<(Mac, IpAddr)>> {
        let message = Message::new(libc::RTM_GETNEIGH, 0, &ndmsg(libc::AF_BRIDGE as u8, 0, 0, 0));
        let replies = self.dump("list forwardings", message)?;
        Ok(replies
            .iter()
            .filter(|reply| wire::u32_at(&reply.payload, 4) == Some(link))
            .filter_map(|reply| {
                let attributes = reply.attributes(12);
                Some((Mac(attributes.get(NDA_LLADDR)?.try_into().ok()?), attributes.ip(NDA_DST)?))
            })
            .collect())
    }
}
