//! Routes.

use std::net::IpAddr;

use super::wire::{self, Message};
use super::{Error, Reply, Result, Socket};

const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_TABLE: u16 = 15;
const RTAX_MTU: u16 = 2;
const ONLINK: u32 = 4;
const CLONED: u32 = 0x200;

/// The main routing table.
pub const MAIN: u32 = libc::RT_TABLE_MAIN as u32;

/// The mark on routes that Skiff made (`protocol` of a route), by which it finds them again.
pub const PROTOCOL: u8 = 0x5b;

/// What a route does with packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum RouteKind {
    /// Passes them on.
    #[default]
    Unicast,
    /// Delivers them here.
    Local,
    /// Drops them silently.
    Blackhole,
    /// Answers that the host cannot be reached.
    Unreachable,
    /// Anything else, by number.
    Other(u8),
}

impl RouteKind {
    fn number(self) -> u8 {
        match self {
            RouteKind::Unicast => libc::RTN_UNICAST,
            RouteKind::Local => libc::RTN_LOCAL,
            RouteKind::Blackhole => libc::RTN_BLACKHOLE,
            RouteKind::Unreachable => libc::RTN_UNREACHABLE,
            RouteKind::Other(number) => number,
        }
    }

    fn from_number(number: u8) -> Self {
        match number {
            libc::RTN_UNICAST => RouteKind::Unicast,
            libc::RTN_LOCAL => RouteKind::Local,
            libc::RTN_BLACKHOLE => RouteKind::Blackhole,
            libc::RTN_UNREACHABLE => RouteKind::Unreachable,
            other => RouteKind::Other(other),
        }
    }
}

/// A route; `Route::to` fills in what most have in common.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Route {
    /// The prefix it is for: an address and a length.
    pub destination: IpAddr,
    /// The length of the prefix.
    pub prefix: u8,
    /// The link packets leave by.
    pub link: Option<u32>,
    /// The next hop.
    pub gateway: Option<IpAddr>,
    /// Take the next hop to be on the link even if no other route says so.
    pub onlink: bool,
    /// The address packets from here get as source.
    pub source: Option<IpAddr>,
    /// The table it is in.
    pub table: u32,
    /// Who made it.
    pub protocol: u8,
    /// Lower wins.
    pub metric: Option<u32>,
    /// What it does.
    pub kind: RouteKind,
    /// `RT_SCOPE_*`; chosen by the other fields when `None`.
    pub scope: Option<u8>,
    /// The largest packet on the path.
    pub mtu: Option<u32>,
}

impl Route {
    /// A route for a prefix in the main table, marked as Skiff's.
    pub fn to(destination: IpAddr, prefix: u8) -> Self {
        Self {
            destination,
            prefix,
            link: None,
            gateway: None,
            onlink: false,
            source: None,
            table: MAIN,
            protocol: PROTOCOL,
            metric: None,
            kind: RouteKind::Unicast,
            scope: None,
            mtu: None,
        }
    }

    /// A route for one address by a link.
    pub fn host(destination: IpAddr, link: u32) -> Self {
        Self { link: Some(link), ..Self::to(destination, if destination.is_ipv4() { 32 } else { 128 }) }
    }

    /// Whether it is the route of last resort.
    pub fn is_default(&self) -> bool {
        self.prefix == 0
    }

    pub(super) fn parse(reply: &Reply) -> Option<Self> {
        let fixed = reply.payload.get(..12)?;
        let attributes = reply.attributes(12);
        let flags = wire::u32_at(fixed, 8)?;
        if flags & CLONED != 0 {
            return None;
        }
        let unspecified = match i32::from(fixed[0]) {
            libc::AF_INET => IpAddr::from([0u8; 4]),
            libc::AF_INET6 => IpAddr::from([0u8; 16]),
            _ => return None,
        };
        Some(Self {
            destination: attributes.ip(RTA_DST).unwrap_or(unspecified),
            prefix: fixed[1],
            link: attributes.u32(RTA_OIF),
            gateway: attributes.ip(RTA_GATEWAY),
            onlink: flags & ONLINK != 0,
            source: attributes.ip(RTA_PREFSRC),
            table: attributes.u32(RTA_TABLE).unwrap_or(u32::from(fixed[4])),
            protocol: fixed[5],
            metric: attributes.u32(RTA_PRIORITY),
            kind: RouteKind::from_number(fixed[7]),
            scope: Some(fixed[6]),
            mtu: attributes.nested(RTA_METRICS).u32(RTAX_MTU),
        })
    }

    fn encode(&self, kind: u16, flags: i32) -> Result<Message> {
        let longest = if self.destination.is_ipv4() { 32 } else { 128 };
        if self.prefix > longest {
            return Err(Error::Invalid(format!("prefix length {} is too long", self.prefix)));
        }
        let scope = self.scope.unwrap_or(match (self.kind, self.gateway, self.destination) {
            (RouteKind::Local, _, _) => libc::RT_SCOPE_HOST,
            (RouteKind::Unicast, None, IpAddr::V4(_)) => libc::RT_SCOPE_LINK,
            _ => libc::RT_SCOPE_UNIVERSE,
        });
        let mut fixed = vec![
            wire::family(self.destination),
            self.prefix,
            0,
            0,
            u8::try_from(self.table).unwrap_or(libc::RT_TABLE_UNSPEC),
            self.protocol,
            scope,
            self.kind.number(),
        ];
        fixed.extend_from_slice(&(if self.onlink { ONLINK } else { 0 }).to_ne_bytes());
        let mut message = Message::new(kind, flags, &fixed);
        if self.prefix != 0 {
            message.ip(RTA_DST, self.destination);
        }
        if let Some(gateway) = self.gateway {
            message.ip(RTA_GATEWAY, gateway);
        }
        if let Some(link) = self.link {
            message.u32(RTA_OIF, link);
        }
        if let Some(source) = self.source {
            message.ip(RTA_PREFSRC, source);
        }
        if let Some(metric) = self.metric {
            message.u32(RTA_PRIORITY, metric);
        }
        if let Some(mtu) = self.mtu {
            message.nest(RTA_METRICS, |metrics| {
                metrics.u32(RTAX_MTU, mtu);
            });
        }
        message.u32(RTA_TABLE, self.table);
        Ok(message)
    }
}

impl Socket {
    /// Adds a route, replacing the one for the same prefix, table and metric.
    pub fn replace_route(&mut self, route: &Route) -> Result<()> {
        let message = route.encode(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_REPLACE)?;
        self.request(&format!("add route to {}/{}", route.destination, route.prefix), message)
    }

    /// Removes a route.
    pub fn delete_route(&mut self, route: &Route) -> Result<()> {
        let message = route.encode(libc::RTM_DELROUTE, 0)?;
        self.request(&format!("remove route to {}/{}", route.destination, route.prefix), message)
    }

    /// Lists the routes of all tables and both families, without cached ones.
    pub fn routes(&mut self) -> Result<Vec<Route>> {
        let message = Message::new(libc::RTM_GETROUTE, 0, &[0; 12]);
        Ok(self.dump("list routes", message)?.iter().filter_map(Route::parse).collect())
    }

    /// The route a packet to `destination` would take.
    pub fn route_to(&mut self, destination: IpAddr) -> Result<Route> {
        let mut fixed = [0; 12];
        fixed[0] = wire::family(destination);
        fixed[1] = if destination.is_ipv4() { 32 } else { 128 };
        let mut message = Message::new(libc::RTM_GETROUTE, 0, &fixed);
        message.ip(RTA_DST, destination);
        let mut reply = self.get(&format!("find route to {destination}"), message)?.ok_or(Error::Malformed("route"))?;
        // The answer is marked as a copy, which a listing would skip.
        if let Some(flags) = reply.payload.get_mut(8..12) {
            flags.copy_from_slice(&[0; 4]);
        }
        Route::parse(&reply).ok_or(Error::Malformed("route"))
    }
}
