//! Sets and maps, and their elements.

use std::net::IpAddr;
use std::time::Duration;

use super::comment;
use super::expr::{self, Verdict};
use crate::netlink::wire::{Message, align};

/// What a part of a key or of data is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
    /// An IPv4 address.
    Ip4,
    /// An IPv6 address.
    Ip6,
    /// A transport protocol.
    Protocol,
    /// A port.
    Port,
    /// A packet mark.
    Mark,
    /// A link's name.
    LinkName,
    /// A number in host order, as a generator gives it.
    Number,
}

impl DataType {
    /// Its length in bytes.
    pub fn length(self) -> usize {
        match self {
            DataType::Ip4 | DataType::Mark | DataType::Number => 4,
            DataType::Ip6 | DataType::LinkName => 16,
            DataType::Protocol => 1,
            DataType::Port => 2,
        }
    }

    /// How many register slots it takes.
    pub fn slots(self) -> u32 {
        align(self.length()) as u32 / 4
    }

    /// The number by which tools know how to print it.
    fn number(self) -> u32 {
        match self {
            DataType::Ip4 => 7,
            DataType::Ip6 => 8,
            DataType::Protocol => 12,
            DataType::Port => 13,
            DataType::Mark => 19,
            DataType::LinkName => 41,
            DataType::Number => 4,
        }
    }

    /// The type of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { DataType::Ip4 } else { DataType::Ip6 }
    }
}

pub(super) fn type_number(types: &[DataType]) -> u32 {
    const BITS: u32 = 6;
    types.iter().fold(0, |number, part| number << BITS | part.number())
}

pub(super) fn length(types: &[DataType]) -> usize {
    match types {
        [single] => single.length(),
        several => several.iter().map(|part| align(part.length())).sum(),
    }
}

/// What a set gives for a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SetKind {
    /// Only whether it is there.
    Set,
    /// What to do with the packet.
    VerdictMap,
    /// Data.
    Map(Vec<DataType>),
}

/// A set or map.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Set {
    /// Its name; unused for sets written into a rule.
    pub name: String,
    /// The parts of its key.
    pub key: Vec<DataType>,
    /// What it gives.
    pub kind: SetKind,
    /// Whether elements are ranges.
    pub interval: bool,
    /// Whether elements never change, which lets the kernel choose a faster form.
    pub constant: bool,
    /// Whether rules add elements.
    pub dynamic: bool,
    /// How long elements live when nothing else is said.
    pub timeout: Option<Duration>,
    /// How many elements it may have; rules stop adding then.
    pub size: Option<u32>,
    /// Whether it belongs to one rule.
    pub anonymous: bool,
}

impl Set {
    /// A plain set.
    pub fn new(name: impl Into<String>, key: &[DataType]) -> Self {
        Self {
            name: name.into(),
            key: key.to_vec(),
            kind: SetKind::Set,
            interval: false,
            constant: false,
            dynamic: false,
            timeout: None,
            size: None,
            anonymous: false,
        }
    }

    /// A map from keys to what to do with packets.
    pub fn verdict_map(name: impl Into<String>, key: &[DataType]) -> Self {
        Self { kind: SetKind::VerdictMap, ..Self::new(name, key) }
    }

    /// A map from keys to data.
    pub fn map(name: impl Into<String>, key: &[DataType], data: &[DataType]) -> Self {
        Self { kind: SetKind::Map(data.to_vec()), ..Self::new(name, key) }
    }

    /// The same set with ranges as elements.
    pub fn intervals(self) -> Self {
        Self { interval: true, ..self }
    }

    /// A set for use in one rule.
    pub fn inline(self) -> Self {
        Self { anonymous: true, constant: true, ..self }
    }

    /// Whether it gives anything for a key.
    pub fn is_map(&self) -> bool {
        self.kind != SetKind::Set
    }

    pub(super) fn flag_bits(&self) -> u32 {
        const CONCAT: u32 = 0x80;
        [
            (self.anonymous, 0x1),
            (self.constant, 0x2),
            (self.interval, 0x4),
            (self.is_map(), 0x8),
            (self.timeout.is_some(), 0x10),
            (self.dynamic, 0x20),
            (self.interval && self.key.len() > 1, CONCAT),
        ]
        .into_iter()
        .filter_map(|(on, bit)| on.then_some(bit))
        .sum()
    }
}

/// A key under construction, or data: parts one after the other, each filled up to four bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Key {
    parts: Vec<Vec<u8>>,
}

impl Key {
    /// An empty key.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends raw bytes as a part.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.parts.push(bytes.to_vec());
        self
    }

    /// Appends an address.
    pub fn ip(self, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.bytes(&address.octets()),
            IpAddr::V6(address) => self.bytes(&address.octets()),
        }
    }

    /// Appends a transport protocol.
    pub fn protocol(self, number: u8) -> Self {
        self.bytes(&[number])
    }

    /// Appends a port.
    pub fn port(self, port: u16) -> Self {
        self.bytes(&port.to_be_bytes())
    }

    /// Appends a number in host order.
    pub fn number(self, number: u32) -> Self {
        self.bytes(&number.to_ne_bytes())
    }

    /// Appends a link's name.
    pub fn link(self, name: &str) -> Self {
        let mut bytes = name.as_bytes().to_vec();
        bytes.resize(16, 0);
        self.bytes(&bytes)
    }

    /// Its parts, without what fills them up.
    pub fn parts(&self) -> &[Vec<u8>] {
        &self.parts
    }

    /// The bytes as the kernel wants them.
    pub fn encode(&self) -> Vec<u8> {
        match self.parts.as_slice() {
            [single] => single.clone(),
            several => several
                .iter()
                .flat_map(|part| {
                    let mut part = part.clone();
                    part.resize(align(part.len()), 0);
                    part
                })
                .collect(),
        }
    }
}

impl From<IpAddr> for Key {
    fn from(address: IpAddr) -> Self {
        Key::new().ip(address)
    }
}

/// What an element of a map gives.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Data {
    /// What to do with the packet.
    Verdict(Verdict),
    /// Data.
    Value(Key),
}

/// An element of a set or map.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Element {
    /// The key, or the first of a range.
    pub key: Key,
    /// The last of a range; for ranges of single-part keys see [`Element::range`].
    pub key_end: Option<Key>,
    /// Whether it marks the key behind a range.
    pub interval_end: bool,
    /// What the map gives.
    pub data: Option<Data>,
    /// Text kept with it.
    pub comment: String,
}

impl Element {
    /// An element of a set.
    pub fn key(key: impl Into<Key>) -> Self {
        Self { key: key.into(), key_end: None, interval_end: false, data: None, comment: String::new() }
    }

    /// An element of a verdict map.
    pub fn verdict(key: impl Into<Key>, verdict: Verdict) -> Self {
        Self { data: Some(Data::Verdict(verdict)), ..Self::key(key) }
    }

    /// An element of a map.
    pub fn value(key: impl Into<Key>, value: impl Into<Key>) -> Self {
        Self { data: Some(Data::Value(value.into())), ..Self::key(key) }
    }

    /// The elements that stand for the addresses of some prefixes in an interval set; overlaps are merged, for the
    /// kernel refuses them.
    pub fn prefixes(prefixes: &[(IpAddr, u8)]) -> Vec<Self> {
        let mut elements = Vec::new();
        for v4 in [true, false] {
            let (width, top) = if v4 { (32, u128::from(u32::MAX)) } else { (128, u128::MAX) };
            let mut ranges: Vec<(u128, u128)> = prefixes
                .iter()
                .filter(|(address, _)| address.is_ipv4() == v4)
                .map(|(address, prefix)| {
                    let value = match address {
                        IpAddr::V4(address) => u128::from(address.to_bits()),
                        IpAddr::V6(address) => address.to_bits(),
                    };
                    let host_bits = width - u32::from(*prefix).min(width);
                    let hosts = if host_bits >= 128 { u128::MAX } else { (1 << host_bits) - 1 };
                    (value & !hosts, (value | hosts) & top)
                })
                .collect();
            ranges.sort_unstable();
            let mut merged: Vec<(u128, u128)> = Vec::new();
            for (first, last) in ranges {
                match merged.last_mut() {
                    Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                    _ => merged.push((first, last)),
                }
            }
            let key = |value: u128| {
                let bytes = value.to_be_bytes();
                Key::new().bytes(if v4 { &bytes[12..] } else { &bytes })
            };
            for (first, last) in merged {
                elements.push(Self::key(key(first)));
                if last < top {
                    elements.push(Self { interval_end: true, ..Self::key(key(last + 1)) });
                }
            }
        }
        elements
    }

    /// The same element with text.
    pub fn commented(mut self, text: &str) -> Self {
        text.clone_into(&mut self.comment);
        self
    }

    pub(super) fn encode(&self, list: &mut Message, set: &Set, deletion: bool) {
        const KEY: u16 = 1;
        const DATA: u16 = 2;
        const FLAGS: u16 = 3;
        const USERDATA: u16 = 6;
        const KEY_END: u16 = 10;
        const INTERVAL_END: u32 = 1;
        list.nest(1, |element| {
            element.nest(KEY, |data| {
                data.attr(1, &self.key.encode());
            });
            if let Some(end) = &self.key_end {
                element.nest(KEY_END, |data| {
                    data.attr(1, &end.encode());
                });
            } else if set.interval && set.key.len() > 1 {
                // Concatenated ranges always say their end.
                element.nest(KEY_END, |data| {
                    data.attr(1, &self.key.encode());
                });
            }
            if self.interval_end {
                element.be32(FLAGS, INTERVAL_END);
            }
            if deletion {
                return;
            }
            if let Some(data) = &self.data {
                element.nest(DATA, |inner| match data {
                    Data::Verdict(verdict) => expr::encode_verdict(inner, verdict),
                    Data::Value(value) => {
                        inner.attr(1, &value.encode());
                    }
                });
            }
            if !self.comment.is_empty() {
                element.attr(USERDATA, &comment(&self.comment));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlapping_prefixes_merge() {
        let prefix = |text: &str, length| (text.parse().unwrap(), length);
        let elements =
            Element::prefixes(&[prefix("10.0.0.0", 8), prefix("10.1.0.0", 16), prefix("11.0.0.0", 8), prefix("::", 0)]);
        let keys: Vec<_> = elements.iter().map(|e| (e.key.encode(), e.interval_end)).collect();
        assert_eq!(keys, vec![(vec![10, 0, 0, 0], false), (vec![12, 0, 0, 0], true), (vec![0; 16], false)]);
        assert_eq!(Element::prefixes(&[prefix("255.255.255.255", 32)]).len(), 1);
    }

    #[test]
    fn concatenations_are_filled_up() {
        let key = Key::new().ip("10.0.0.1".parse().unwrap()).protocol(6).port(80);
        assert_eq!(key.encode(), [10, 0, 0, 1, 6, 0, 0, 0, 0, 80, 0, 0]);
        assert_eq!(Key::new().port(80).encode(), [0, 80]);
        assert_eq!(length(&[DataType::Ip6, DataType::Protocol, DataType::Port]), 24);
        assert_eq!(type_number(&[DataType::Ip4, DataType::Protocol]), 7 << 6 | 12);
    }
}
