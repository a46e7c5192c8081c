//! Building rules from fields of packets.

use std::net::IpAddr;
use std::time::Duration;

use super::expr::{Cmp, ConntrackKey, DynsetOp, Expr, FibKey, MetaKey, NatKind, Reject, SetRef, Slot, Verdict};
use super::set::{DataType, Element, Set};

/// The slot where what a map gives begins.
pub const RESULT: Slot = 8;

/// A field of a packet, or what is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// IPv4 source address.
    Source4,
    /// IPv4 destination address.
    Destination4,
    /// IPv6 source address.
    Source6,
    /// IPv6 destination address.
    Destination6,
    /// Source port.
    SourcePort,
    /// Destination port.
    DestinationPort,
    /// Transport protocol.
    Protocol,
    /// Network protocol.
    NetworkProtocol,
    /// Mark.
    Mark,
    /// Name of the link it came by.
    InputName,
    /// Name of the link it leaves by.
    OutputName,
    /// State of its connection.
    State,
    /// Status of its connection.
    Status,
    /// Type of its source address.
    SourceType,
    /// Type of its destination address.
    DestinationType,
}

impl Field {
    /// The source address of a family.
    pub fn source(v6: bool) -> Self {
        if v6 { Field::Source6 } else { Field::Source4 }
    }

    /// The destination address of a family.
    pub fn destination(v6: bool) -> Self {
        if v6 { Field::Destination6 } else { Field::Destination4 }
    }

    fn slots(self) -> u32 {
        match self {
            Field::Source6 | Field::Destination6 | Field::InputName | Field::OutputName => 4,
            _ => 1,
        }
    }

    fn load(self, to: Slot) -> Expr {
        match self {
            Field::Source4 => Expr::Network { offset: 12, length: 4, to },
            Field::Destination4 => Expr::Network { offset: 16, length: 4, to },
            Field::Source6 => Expr::Network { offset: 8, length: 16, to },
            Field::Destination6 => Expr::Network { offset: 24, length: 16, to },
            Field::SourcePort => Expr::Transport { offset: 0, length: 2, to },
            Field::DestinationPort => Expr::Transport { offset: 2, length: 2, to },
            Field::Protocol => Expr::Meta { key: MetaKey::TransportProtocol, to },
            Field::NetworkProtocol => Expr::Meta { key: MetaKey::NetworkProtocol, to },
            Field::Mark => Expr::Meta { key: MetaKey::Mark, to },
            Field::InputName => Expr::Meta { key: MetaKey::InputName, to },
            Field::OutputName => Expr::Meta { key: MetaKey::OutputName, to },
            Field::State => Expr::Conntrack { key: ConntrackKey::State, to },
            Field::Status => Expr::Conntrack { key: ConntrackKey::Status, to },
            Field::SourceType => Expr::Fib { key: FibKey::SourceType, to },
            Field::DestinationType => Expr::Fib { key: FibKey::DestinationType, to },
        }
    }
}

/// A rule: steps that are taken as long as they match.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Rule {
    expressions: Vec<Expr>,
    comment: Option<String>,
}

impl Rule {
    /// A rule that matches everything and does nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a step.
    pub fn then(mut self, expression: Expr) -> Self {
        self.expressions.push(expression);
        self
    }

    /// Matches packets whose field is `value`.
    pub fn is(self, field: Field, value: &[u8]) -> Self {
        self.then(field.load(0)).then(Expr::Compare { from: 0, how: Cmp::Equal, with: value.to_vec() })
    }

    /// Matches packets whose field is not `value`.
    pub fn is_not(self, field: Field, value: &[u8]) -> Self {
        self.then(field.load(0)).then(Expr::Compare { from: 0, how: Cmp::NotEqual, with: value.to_vec() })
    }

    /// Matches packets with one of these bits set in a 32 bit field of host order.
    pub fn has_bits(self, field: Field, bits: u32) -> Self {
        let zero = vec![0; 4];
        self.then(field.load(0))
            .then(Expr::Bitwise { from: 0, to: 0, mask: bits.to_ne_bytes().to_vec(), xor: zero.clone() })
            .then(Expr::Compare { from: 0, how: Cmp::NotEqual, with: zero })
    }

    /// Matches packets with none of these bits set in a 32 bit field of host order.
    pub fn lacks_bits(self, field: Field, bits: u32) -> Self {
        let zero = vec![0; 4];
        self.then(field.load(0))
            .then(Expr::Bitwise { from: 0, to: 0, mask: bits.to_ne_bytes().to_vec(), xor: zero.clone() })
            .then(Expr::Compare { from: 0, how: Cmp::Equal, with: zero })
    }

    /// Matches packets whose field's address is in a prefix.
    pub fn in_prefix(self, field: Field, address: IpAddr, prefix: u8) -> Self {
        self.prefix(field, address, prefix, Cmp::Equal)
    }

    /// Matches packets whose field's address is outside a prefix.
    pub fn not_in_prefix(self, field: Field, address: IpAddr, prefix: u8) -> Self {
        self.prefix(field, address, prefix, Cmp::NotEqual)
    }

    fn prefix(self, field: Field, address: IpAddr, prefix: u8, how: Cmp) -> Self {
        let octets = crate::netlink::wire::octets(address);
        let mask: Vec<u8> = (0..octets.len())
            .map(|index| {
                let bits = u32::from(prefix).saturating_sub(index as u32 * 8).min(8);
                (0xff00u32 >> bits) as u8
            })
            .collect();
        let network: Vec<u8> = octets.iter().zip(&mask).map(|(octet, mask)| octet & mask).collect();
        let zero = vec![0; octets.len()];
        self.then(field.load(0)).then(Expr::Bitwise { from: 0, to: 0, mask, xor: zero }).then(Expr::Compare {
            from: 0,
            how,
            with: network,
        })
    }

    /// Matches the first packets of connections.
    pub fn new_connection(self) -> Self {
        self.has_bits(Field::State, super::expr::STATE_NEW)
    }

    /// Matches packets by links whose name begins so.
    pub fn link_prefix(self, field: Field, prefix: &str) -> Self {
        // Comparing fewer bytes than the name has compares its beginning.
        self.is(field, prefix.as_bytes())
    }

    fn load_key(mut self, fields: &[Field]) -> Self {
        let mut slot = 0;
        for field in fields {
            self = self.then(field.load(slot));
            slot += field.slots();
        }
        self
    }

    /// Matches packets whose fields are a key of a set.
    pub fn in_set(self, fields: &[Field], set: &str) -> Self {
        let set = SetRef::Named(set.to_owned());
        self.load_key(fields).then(Expr::Lookup { set, from: 0, not: false })
    }

    /// Matches packets whose fields are no key of a set.
    pub fn not_in_set(self, fields: &[Field], set: &str) -> Self {
        let set = SetRef::Named(set.to_owned());
        self.load_key(fields).then(Expr::Lookup { set, from: 0, not: true })
    }

    /// Matches packets whose fields are a key of a set of the rule's own.
    pub fn in_inline_set(self, fields: &[Field], set: Set, elements: Vec<Element>) -> Self {
        let set = SetRef::Inline(set.inline(), elements);
        self.load_key(fields).then(Expr::Lookup { set, from: 0, not: false })
    }

    /// Does what a verdict map says about the packet's fields; goes on if it says nothing.
    pub fn verdict_of(self, fields: &[Field], map: &str) -> Self {
        let set = SetRef::Named(map.to_owned());
        self.load_key(fields).then(Expr::VerdictMap { set, from: 0 })
    }

    /// Loads what a map gives for the packet's fields to [`RESULT`].
    pub fn look_up(self, fields: &[Field], map: &str) -> Self {
        let set = SetRef::Named(map.to_owned());
        self.load_key(fields).then(Expr::Map { set, from: 0, to: RESULT })
    }

    /// Loads one of `choices` by lot to [`RESULT`].
    pub fn choose(self, data: &[DataType], choices: &[super::Key]) -> Self {
        let map = Set::map("", &[DataType::Number], data).inline();
        let elements =
            (0..).zip(choices).map(|(n, choice)| Element::value(super::Key::new().number(n), choice.clone()));
        let set = SetRef::Inline(map, elements.collect());
        // A map by a number below one would do too, but a constant spares the lot.
        if let [only] = choices {
            return self.load_parts(only);
        }
        self.then(Expr::NumberGenerator { modulus: choices.len() as u32, random: true, to: 0 }).then(Expr::Map {
            set,
            from: 0,
            to: RESULT,
        })
    }

    fn load_parts(mut self, key: &super::Key) -> Self {
        let mut to = RESULT;
        for part in key.parts() {
            self = self.then(Expr::Immediate { value: part.clone(), to });
            to += crate::netlink::wire::align(part.len()) as u32 / 4;
        }
        self
    }

    /// Changes the destination to the address and port at [`RESULT`].
    pub fn dnat(self, v6: bool) -> Self {
        let port = RESULT + if v6 { 4 } else { 1 };
        self.then(Expr::Nat { kind: NatKind::Destination, v6, address: RESULT, port: Some(port) })
    }

    /// Adds (or keeps alive, or removes) the packet's fields in a set, with data from [`RESULT`] for a map; something
    /// must have been loaded there, even to remove.
    pub fn remember(self, op: DynsetOp, fields: &[Field], set: &str, map: bool, timeout: Option<Duration>) -> Self {
        let data = map.then_some(RESULT);
        self.load_key(fields).then(Expr::Dynset { op, set: set.to_owned(), key: 0, data, timeout })
    }

    /// Sets bits of the packet's mark.
    pub fn set_mark_bits(self, bits: u32) -> Self {
        self.change_mark(bits, bits)
    }

    /// Clears bits of the packet's mark.
    pub fn clear_mark_bits(self, bits: u32) -> Self {
        self.change_mark(bits, 0)
    }

    fn change_mark(self, mask: u32, value: u32) -> Self {
        let (mask, xor) = ((!mask).to_ne_bytes().to_vec(), value.to_ne_bytes().to_vec());
        self.then(Field::Mark.load(0)).then(Expr::Bitwise { from: 0, to: 0, mask, xor }).then(Expr::SetMark { from: 0 })
    }

    /// Counts.
    pub fn counted(self) -> Self {
        self.then(Expr::Counter)
    }

    /// Masquerades, with source ports nobody can guess.
    pub fn masquerade(self) -> Self {
        self.then(Expr::Masquerade { fully_random: true })
    }

    /// Refuses.
    pub fn reject(self, how: Reject) -> Self {
        self.then(Expr::Reject(how))
    }

    /// Decides.
    pub fn verdict(self, verdict: Verdict) -> Self {
        self.then(Expr::Verdict(verdict))
    }

    /// Goes through another chain and comes back.
    pub fn jump(self, chain: &str) -> Self {
        self.verdict(Verdict::Jump(chain.to_owned()))
    }

    /// Goes through another chain and does not come back.
    pub fn goto(self, chain: &str) -> Self {
        self.verdict(Verdict::Goto(chain.to_owned()))
    }

    /// Text kept with the rule.
    pub fn comment(mut self, text: impl Into<String>) -> Self {
        self.comment = Some(text.into());
        self
    }

    /// Its steps.
    pub fn expressions(&self) -> &[Expr] {
        &self.expressions
    }

    pub(super) fn comment_text(&self) -> Option<&str> {
        self.comment.as_deref()
    }

    pub(super) fn inline_sets(&self) -> impl Iterator<Item = (&Set, &Vec<Element>)> {
        self.expressions.iter().filter_map(|expression| match expression {
            Expr::Lookup { set: SetRef::Inline(set, elements), .. }
            | Expr::Map { set: SetRef::Inline(set, elements), .. }
            | Expr::VerdictMap { set: SetRef::Inline(set, elements), .. } => Some((set, elements)),
            _ => None,
        })
    }
}
