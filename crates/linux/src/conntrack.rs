//! Connection tracking: finding and forgetting connections, such as UDP flows to an endpoint that is gone.

use std::net::IpAddr;

use crate::netlink::wire::{Attributes, Message};
use crate::netlink::{Reply, Result, Socket};

const SUBSYSTEM: u16 = 1;
const GET: u16 = 1;
const DELETE: u16 = 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const ID: u16 = 12;

/// One direction of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Transport protocol.
    pub protocol: u8,
    /// Source port, for protocols that have ports.
    pub source_port: u16,
    /// Destination port, for protocols that have ports.
    pub destination_port: u16,
}

/// A tracked connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// As it was opened.
    pub original: Tuple,
    /// As its answers come: the source is where it really went.
    pub reply: Tuple,
    /// `IPS_*`.
    pub status: u32,
    tuple: Vec<u8>,
    id: Option<u32>,
    family: u8,
}

impl Flow {
    /// Whether its destination was changed on the way.
    pub fn is_redirected(&self) -> bool {
        self.original.destination != self.reply.source || self.original.destination_port != self.reply.source_port
    }

    fn parse(reply: &Reply) -> Option<Self> {
        let attributes = reply.attributes(4);
        Some(Self {
            original: tuple(attributes.nested(TUPLE_ORIGINAL))?,
            reply: tuple(attributes.nested(TUPLE_REPLY))?,
            status: attributes.be32(STATUS).unwrap_or(0),
            tuple: attributes.get(TUPLE_ORIGINAL)?.to_vec(),
            id: attributes.u32(ID),
            family: *reply.payload.first()?,
        })
    }
}

fn tuple(attributes: Attributes<'_>) -> Option<Tuple> {
    let (ip, protocol) = (attributes.nested(1), attributes.nested(2));
    Some(Tuple {
        source: ip.ip(1).or_else(|| ip.ip(3))?,
        destination: ip.ip(2).or_else(|| ip.ip(4))?,
        protocol: *protocol.get(1)?.first()?,
        source_port: protocol.be16(2).unwrap_or(0),
        destination_port: protocol.be16(3).unwrap_or(0),
    })
}

/// The tracked connections of one network namespace.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    /// Connects to the caller's network namespace.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::netfilter()? })
    }

    /// Lists the connections of both families.
    pub fn list(&mut self) -> Result<Vec<Flow>> {
        let request = Message::new(SUBSYSTEM << 8 | GET, 0, &[libc::AF_UNSPEC as u8, 0, 0, 0]);
        Ok(self.socket.dump("list connections", request)?.iter().filter_map(Flow::parse).collect())
    }

    /// Forgets a connection; it is no error if it has ended meanwhile.
    pub fn delete(&mut self, flow: &Flow) -> Result<()> {
        let mut request = Message::new(SUBSYSTEM << 8 | DELETE, 0, &[flow.family, 0, 0, 0]);
        request.attr(TUPLE_ORIGINAL | crate::netlink::wire::NESTED, &flow.tuple);
        if let Some(id) = flow.id {
            request.u32(ID, id);
        }
        match self.socket.request("forget connection", request) {
            Err(error) if !error.is_absent() => Err(error),
            _ => Ok(()),
        }
    }

    /// Forgets all connections that `stale` picks; says how many.
    pub fn delete_where(&mut self, mut stale: impl FnMut(&Flow) -> bool) -> Result<usize> {
        let flows = self.list()?;
        let mut count = 0;
        for flow in flows.iter().filter(|flow| stale(flow)) {
            self.delete(flow)?;
            count += 1;
        }
        Ok(count)
    }
}
