//! Routing rules: which table a packet is looked up in.

use std::net::IpAddr;

use super::wire::{self, Message};
use super::{Reply, Result, Socket};

const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_PROTOCOL: u16 = 21;
const TO_TABLE: u8 = 1;

/// A routing rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Whether it is for IPv6.
    pub v6: bool,
    /// Lower is asked first.
    pub priority: u32,
    /// The table it leads to.
    pub table: u32,
    /// Only packets from this prefix.
    pub from: Option<(IpAddr, u8)>,
    /// Only packets to this prefix.
    pub to: Option<(IpAddr, u8)>,
    /// Only packets with this mark, under this mask.
    pub mark: Option<(u32, u32)>,
    /// Who made it.
    pub protocol: u8,
}

impl Rule {
    fn parse(reply: &Reply) -> Option<Self> {
        let fixed = reply.payload.get(..12)?;
        let v6 = match i32::from(fixed[0]) {
            libc::AF_INET => false,
            libc::AF_INET6 => true,
            _ => return None,
        };
        let attributes = reply.attributes(12);
        let mask = attributes.u32(FRA_FWMASK).unwrap_or(u32::MAX);
        Some(Self {
            v6,
            priority: attributes.u32(FRA_PRIORITY).unwrap_or(0),
            table: attributes.u32(FRA_TABLE).unwrap_or(u32::from(fixed[4])),
            from: attributes.ip(FRA_SRC).map(|ip| (ip, fixed[2])),
            to: attributes.ip(FRA_DST).map(|ip| (ip, fixed[1])),
            mark: attributes.u32(FRA_FWMARK).filter(|mark| *mark != 0).map(|mark| (mark, mask)),
            protocol: attributes.get(FRA_PROTOCOL).and_then(|b| b.first().copied()).unwrap_or(0),
        })
    }

    fn encode(&self, kind: u16, flags: i32) -> Message {
        let family = if self.v6 { libc::AF_INET6 } else { libc::AF_INET } as u8;
        let prefix = |side: Option<(IpAddr, u8)>| side.map_or(0, |(_, prefix)| prefix);
        let mut fixed = vec![family, prefix(self.to), prefix(self.from), 0, 0, 0, 0, TO_TABLE];
        fixed.extend_from_slice(&[0; 4]);
        let mut message = Message::new(kind, flags, &fixed);
        message.u32(FRA_PRIORITY, self.priority).u32(FRA_TABLE, self.table).u8(FRA_PROTOCOL, self.protocol);
        if let Some((ip, _)) = self.from {
            message.attr(FRA_SRC, &wire::octets(ip));
        }
        if let Some((ip, _)) = self.to {
            message.attr(FRA_DST, &wire::octets(ip));
        }
        if let Some((mark, mask)) = self.mark {
            message.u32(FRA_FWMARK, mark).u32(FRA_FWMASK, mask);
        }
        message
    }
}

impl Socket {
    /// Adds a rule; it is an error if the same one is there.
    pub fn add_rule(&mut self, rule: &Rule) -> Result<()> {
        let message = rule.encode(libc::RTM_NEWRULE, libc::NLM_F_CREATE | libc::NLM_F_EXCL);
        self.request(&format!("add routing rule {}", rule.priority), message)
    }

    /// Removes a rule.
    pub fn delete_rule(&mut self, rule: &Rule) -> Result<()> {
        self.request(&format!("remove routing rule {}", rule.priority), rule.encode(libc::RTM_DELRULE, 0))
    }

    /// Lists the rules of both families.
    pub fn rules(&mut self) -> Result<Vec<Rule>> {
        let mut rules = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let mut fixed = [0; 12];
            fixed[0] = family as u8;
            let message = Message::new(libc::RTM_GETRULE, 0, &fixed);
            rules.extend(self.dump("list routing rules", message)?.iter().filter_map(Rule::parse));
        }
        Ok(rules)
    }
}
