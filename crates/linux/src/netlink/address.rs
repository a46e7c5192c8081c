//! Addresses of links.

use std::net::IpAddr;

use super::wire::{self, Message};
use super::{Reply, Result, Socket};

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_FLAGS: u16 = 8;
const NODAD: u32 = 0x02;
const TENTATIVE: u32 = 0x40;
const NO_PREFIX_ROUTE: u32 = 0x200;

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address {
    /// The link's number.
    pub link: u32,
    /// The address.
    pub ip: IpAddr,
    /// The length of its prefix.
    pub prefix: u8,
    /// `RT_SCOPE_*`: 0 universe, 253 link, 254 host.
    pub scope: u8,
    /// `IFA_F_*`.
    pub flags: u32,
}

impl Address {
    /// Whether the kernel still looks for duplicates of it, so that it cannot be used yet.
    pub fn is_tentative(&self) -> bool {
        self.flags & TENTATIVE != 0
    }

    pub(super) fn parse(reply: &Reply) -> Option<Self> {
        let attributes = reply.attributes(8);
        let ip = attributes.ip(IFA_LOCAL).or_else(|| attributes.ip(IFA_ADDRESS))?;
        Some(Self {
            link: wire::u32_at(&reply.payload, 4)?,
            ip,
            prefix: *reply.payload.get(1)?,
            scope: *reply.payload.get(3)?,
            flags: attributes.u32(IFA_FLAGS).unwrap_or_else(|| u32::from(reply.payload.get(2).copied().unwrap_or(0))),
        })
    }
}

fn ifaddr(family: u8, prefix: u8, scope: u8, link: u32) -> Vec<u8> {
    let mut bytes = vec![family, prefix, 0, scope];
    bytes.extend_from_slice(&link.to_ne_bytes());
    bytes
}

impl Socket {
    /// Gives a link an address, usable at once (no duplicate address detection), unless it has it already.
    pub fn add_address(&mut self, link: u32, ip: IpAddr, prefix: u8) -> Result<()> {
        self.write_address(link, ip, prefix, NODAD)
    }

    /// Like [`Socket::add_address`], without the route to the prefix that the kernel would add.
    pub fn add_address_without_route(&mut self, link: u32, ip: IpAddr, prefix: u8) -> Result<()> {
        self.write_address(link, ip, prefix, NODAD | NO_PREFIX_ROUTE)
    }

    fn write_address(&mut self, link: u32, ip: IpAddr, prefix: u8, flags: u32) -> Result<()> {
        let scope = if ip.is_loopback() { libc::RT_SCOPE_HOST } else { libc::RT_SCOPE_UNIVERSE };
        let fixed = ifaddr(wire::family(ip), prefix, scope, link);
        let mut message = Message::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &fixed);
        message.ip(IFA_LOCAL, ip).ip(IFA_ADDRESS, ip).u32(IFA_FLAGS, flags);
        self.request(&format!("add address {ip}/{prefix} to link {link}"), message)
    }

    /// Lists the addresses of all links.
    pub fn addresses(&mut self) -> Result<Vec<Address>> {
        let message = Message::new(libc::RTM_GETADDR, 0, &ifaddr(0, 0, 0, 0));
        Ok(self.dump("list addresses", message)?.iter().filter_map(Address::parse).collect())
    }
}
