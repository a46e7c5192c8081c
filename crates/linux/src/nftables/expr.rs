//! The expressions rules are made of.

use std::time::Duration;

use super::Family;
use super::set::{Element, Set};
use crate::netlink::wire::Message;

/// A register slot of four bytes, 0 to 15.
pub type Slot = u32;

const VERDICT_REGISTER: u32 = 0;
const FIRST_SLOT: u32 = 8;

/// What happens to a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verdict {
    /// It goes on to the next hook.
    Accept,
    /// It vanishes.
    Drop,
    /// It goes through another chain and comes back.
    Jump(String),
    /// It goes through another chain and does not come back.
    Goto(String),
    /// It goes back to the chain it came from.
    Return,
}

/// What is known of a packet beside its contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MetaKey {
    /// Its mark.
    Mark,
    /// Name of the link it came by.
    InputName,
    /// Name of the link it leaves by.
    OutputName,
    /// Its network protocol.
    NetworkProtocol,
    /// Its transport protocol.
    TransportProtocol,
}

/// What is known of a packet's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConntrackKey {
    /// New, established, related: see the `STATE_*` constants.
    State,
    /// Original or reply.
    Direction,
    /// Which address translations happened: see the `STATUS_*` constants.
    Status,
    /// Its mark.
    Mark,
}

/// Connection state: it belongs to none.
pub const STATE_INVALID: u32 = 1;
/// Connection state: packets were seen both ways.
pub const STATE_ESTABLISHED: u32 = 2;
/// Connection state: it was announced by another.
pub const STATE_RELATED: u32 = 4;
/// Connection state: this is its first packet.
pub const STATE_NEW: u32 = 8;
/// Connection status: the source address is translated.
pub const STATUS_SNAT: u32 = 1 << 4;
/// Connection status: the destination address is translated.
pub const STATUS_DNAT: u32 = 1 << 5;

/// What the routing table is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FibKey {
    /// The type of the source address.
    SourceType,
    /// The type of the destination address.
    DestinationType,
}

/// Address type: one of this host's.
pub const ADDRESS_LOCAL: u32 = 2;

/// How bytes are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cmp {
    /// The same.
    Equal,
    /// Not the same.
    NotEqual,
    /// Less.
    Less,
    /// Less or the same.
    LessOrEqual,
    /// Greater.
    Greater,
    /// Greater or the same.
    GreaterOrEqual,
}

/// Which address is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NatKind {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

/// How a packet is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reject {
    /// By a TCP reset.
    TcpReset,
    /// By "port unreachable" of the packet's own family.
    PortUnreachable,
    /// By "administratively prohibited" of the packet's own family.
    Prohibited,
}

/// What a rule does to a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DynsetOp {
    /// Adds an element unless it is there.
    Add,
    /// Adds an element, or makes the one that is there live longer.
    Update,
    /// Removes an element.
    Delete,
}

/// The set an expression looks into.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SetRef {
    /// A set of the table.
    Named(String),
    /// A set of the rule's own.
    Inline(Set, Vec<Element>),
}

/// One step of a rule; a step that does not match ends the rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Expr {
    /// Loads what is known of the packet.
    Meta { key: MetaKey, to: Slot },
    /// Sets the packet's mark.
    SetMark { from: Slot },
    /// Loads bytes of the network header.
    Network { offset: u32, length: u32, to: Slot },
    /// Loads bytes of the transport header.
    Transport { offset: u32, length: u32, to: Slot },
    /// Loads what is known of the connection.
    Conntrack { key: ConntrackKey, to: Slot },
    /// Sets the connection's mark.
    SetConntrackMark { from: Slot },
    /// Asks the routing table.
    Fib { key: FibKey, to: Slot },
    /// Compares.
    Compare { from: Slot, how: Cmp, with: Vec<u8> },
    /// Computes `(from & mask) ^ xor`.
    Bitwise { from: Slot, to: Slot, mask: Vec<u8>, xor: Vec<u8> },
    /// Looks a key up; matches if it is there (or is not, with `not`).
    Lookup { set: SetRef, from: Slot, not: bool },
    /// Looks a key up and loads what the map gives.
    Map { set: SetRef, from: Slot, to: Slot },
    /// Looks a key up and does what the map says.
    VerdictMap { set: SetRef, from: Slot },
    /// Loads a constant.
    Immediate { value: Vec<u8>, to: Slot },
    /// Decides.
    Verdict(Verdict),
    /// Loads a random number, or the next of a sequence, below `modulus`.
    NumberGenerator { modulus: u32, random: bool, to: Slot },
    /// Loads a hash of a key below `modulus`.
    Hash { from: Slot, length: u32, modulus: u32, seed: u32, to: Slot },
    /// Changes an address and perhaps a port to those in registers.
    Nat { kind: NatKind, v6: bool, address: Slot, port: Option<Slot> },
    /// Changes the source address to that of the link the packet leaves by.
    Masquerade { fully_random: bool },
    /// Changes the destination to this host.
    Redirect { port: Option<Slot> },
    /// Refuses.
    Reject(Reject),
    /// Counts.
    Counter,
    /// Matches at most so many packets a second.
    Limit { per_second: u64, burst: u32 },
    /// Changes a set.
    Dynset { op: DynsetOp, set: String, key: Slot, data: Option<Slot>, timeout: Option<Duration> },
    /// Tells the kernel log.
    Log { prefix: String },
}

fn register(slot: Slot) -> u32 {
    FIRST_SLOT + slot
}

pub(super) fn encode_verdict(data: &mut Message, verdict: &Verdict) {
    const VERDICT: u16 = 2;
    let (code, chain) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
        Verdict::Return => (-5, None),
    };
    data.nest(VERDICT, |inner| {
        inner.be32(1, code as u32);
        if let Some(chain) = chain {
            inner.str(2, chain);
        }
    });
}

fn value(out: &mut Message, kind: u16, bytes: &[u8]) {
    out.nest(kind, |data| {
        data.attr(1, bytes);
    });
}

/// Writes one expression; `inline` gives names and numbers of the rule's own sets, in order.
pub(super) fn encode(
    list: &mut Message,
    family: Family,
    expression: &Expr,
    inline: &mut dyn Iterator<Item = (String, u32)>,
) {
    list.nest(1, |element| {
        element.str(1, name(expression));
        element.nest(2, |data| fill(data, family, expression, inline));
    });
}

fn name(expression: &Expr) -> &'static str {
    match expression {
        Expr::Meta { .. } | Expr::SetMark { .. } => "meta",
        Expr::Network { .. } | Expr::Transport { .. } => "payload",
        Expr::Conntrack { .. } | Expr::SetConntrackMark { .. } => "ct",
        Expr::Fib { .. } => "fib",
        Expr::Compare { .. } => "cmp",
        Expr::Bitwise { .. } => "bitwise",
        Expr::Lookup { .. } | Expr::Map { .. } | Expr::VerdictMap { .. } => "lookup",
        Expr::Immediate { .. } | Expr::Verdict(_) => "immediate",
        Expr::NumberGenerator { .. } => "numgen",
        Expr::Hash { .. } => "hash",
        Expr::Nat { .. } => "nat",
        Expr::Masquerade { .. } => "masq",
        Expr::Redirect { .. } => "redir",
        Expr::Reject(_) => "reject",
        Expr::Counter => "counter",
        Expr::Limit { .. } => "limit",
        Expr::Dynset { .. } => "dynset",
        Expr::Log { .. } => "log",
    }
}

fn fill(data: &mut Message, family: Family, expression: &Expr, inline: &mut dyn Iterator<Item = (String, u32)>) {
    const META_MARK: u32 = 3;
    const CONNTRACK_MARK: u32 = 3;
    match expression {
        Expr::Meta { key, to } => {
            let key = match key {
                MetaKey::Mark => META_MARK,
                MetaKey::InputName => 6,
                MetaKey::OutputName => 7,
                MetaKey::NetworkProtocol => 15,
                MetaKey::TransportProtocol => 16,
            };
            data.be32(1, register(*to)).be32(2, key);
        }
        Expr::SetMark { from } => {
            data.be32(2, META_MARK).be32(3, register(*from));
        }
        Expr::Network { offset, length, to } => {
            data.be32(1, register(*to)).be32(2, 1).be32(3, *offset).be32(4, *length);
        }
        Expr::Transport { offset, length, to } => {
            data.be32(1, register(*to)).be32(2, 2).be32(3, *offset).be32(4, *length);
        }
        Expr::Conntrack { key, to } => {
            let number = match key {
                ConntrackKey::State => 0,
                ConntrackKey::Direction => 1,
                ConntrackKey::Status => 2,
                ConntrackKey::Mark => CONNTRACK_MARK,
            };
            data.be32(1, register(*to)).be32(2, number);
        }
        Expr::SetConntrackMark { from } => {
            data.be32(2, CONNTRACK_MARK).be32(4, register(*from));
        }
        Expr::Fib { key, to } => {
            const ADDRESS_TYPE: u32 = 3;
            let flags = match key {
                FibKey::SourceType => 1,
                FibKey::DestinationType => 2,
            };
            data.be32(1, register(*to)).be32(2, ADDRESS_TYPE).be32(3, flags);
        }
        Expr::Compare { from, how, with } => {
            let how = match how {
                Cmp::Equal => 0,
                Cmp::NotEqual => 1,
                Cmp::Less => 2,
                Cmp::LessOrEqual => 3,
                Cmp::Greater => 4,
                Cmp::GreaterOrEqual => 5,
            };
            data.be32(1, register(*from)).be32(2, how);
            value(data, 3, with);
        }
        Expr::Bitwise { from, to, mask, xor } => {
            data.be32(1, register(*from)).be32(2, register(*to)).be32(3, mask.len() as u32);
            value(data, 4, mask);
            value(data, 5, xor);
        }
        Expr::Lookup { set, from, not } => {
            encode_set(data, set, inline);
            data.be32(2, register(*from));
            if *not {
                data.be32(5, 1);
            }
        }
        Expr::Map { set, from, to } => {
            encode_set(data, set, inline);
            data.be32(2, register(*from)).be32(3, register(*to));
        }
        Expr::VerdictMap { set, from } => {
            encode_set(data, set, inline);
            data.be32(2, register(*from)).be32(3, VERDICT_REGISTER);
        }
        Expr::Immediate { value: bytes, to } => {
            data.be32(1, register(*to));
            value(data, 2, bytes);
        }
        Expr::Verdict(verdict) => {
            data.be32(1, VERDICT_REGISTER);
            data.nest(2, |inner| encode_verdict(inner, verdict));
        }
        Expr::NumberGenerator { modulus, random, to } => {
            data.be32(1, register(*to)).be32(2, *modulus).be32(3, u32::from(*random)).be32(4, 0);
        }
        Expr::Hash { from, length, modulus, seed, to } => {
            data.be32(1, register(*from)).be32(2, register(*to)).be32(3, *length).be32(4, *modulus).be32(5, *seed);
        }
        Expr::Nat { kind, v6, address, port } => {
            let family = if *v6 { libc::NFPROTO_IPV6 } else { libc::NFPROTO_IPV4 };
            data.be32(1, u32::from(*kind == NatKind::Destination)).be32(2, family as u32);
            data.be32(3, register(*address));
            if let Some(port) = port {
                data.be32(5, register(*port));
            }
        }
        Expr::Masquerade { fully_random } => {
            const FULLY_RANDOM: u32 = 1 << 4;
            if *fully_random {
                data.be32(1, FULLY_RANDOM);
            }
        }
        Expr::Redirect { port } => {
            const PORT_GIVEN: u32 = 1 << 1;
            if let Some(port) = port {
                data.be32(1, register(*port)).be32(3, PORT_GIVEN);
            }
        }
        Expr::Reject(how) => {
            const UNREACHABLE: u32 = 0;
            const RESET: u32 = 1;
            const ANY_FAMILY: u32 = 2;
            // A table of one family wants that family's own codes: the general ones would drop silently there.
            let (kind, code) = match (how, family) {
                (Reject::TcpReset, _) => (RESET, None),
                (Reject::PortUnreachable, Family::Ip) => (UNREACHABLE, Some(3)),
                (Reject::PortUnreachable, Family::Ip6) => (UNREACHABLE, Some(4)),
                (Reject::PortUnreachable, _) => (ANY_FAMILY, Some(1)),
                (Reject::Prohibited, Family::Ip) => (UNREACHABLE, Some(13)),
                (Reject::Prohibited, Family::Ip6) => (UNREACHABLE, Some(1)),
                (Reject::Prohibited, _) => (ANY_FAMILY, Some(3)),
            };
            data.be32(1, kind);
            if let Some(code) = code {
                data.u8(2, code);
            }
        }
        Expr::Counter => {
            data.be64(1, 0).be64(2, 0);
        }
        Expr::Limit { per_second, burst } => {
            data.be64(1, *per_second).be64(2, 1).be32(3, *burst).be32(4, 0);
        }
        Expr::Dynset { op, set, key, data: from, timeout } => {
            let op = match op {
                DynsetOp::Add => 0,
                DynsetOp::Update => 1,
                DynsetOp::Delete => 2,
            };
            data.str(1, set).be32(3, op).be32(4, register(*key));
            if let Some(from) = from {
                data.be32(5, register(*from));
            }
            if let Some(timeout) = timeout {
                data.be64(6, timeout.as_millis() as u64);
            }
        }
        Expr::Log { prefix } => {
            data.str(2, prefix);
        }
    }
}

fn encode_set(data: &mut Message, set: &SetRef, inline: &mut dyn Iterator<Item = (String, u32)>) {
    const ID: u16 = 4;
    match set {
        SetRef::Named(name) => {
            data.str(1, name);
        }
        SetRef::Inline(..) => {
            if let Some((name, id)) = inline.next() {
                data.str(1, &name).be32(ID, id);
            }
        }
    }
}
