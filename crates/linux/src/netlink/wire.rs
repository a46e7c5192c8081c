//! The encoding of netlink messages and attributes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Attribute type bit of attributes that hold attributes.
pub const NESTED: u16 = 0x8000;
const TYPE_MASK: u16 = 0x3fff;

/// Rounds up to the alignment of messages and attributes.
pub const fn align(length: usize) -> usize {
    (length + 3) & !3
}

/// A request under construction: header, fixed part, attributes.
#[derive(Debug, Clone)]
pub struct Message {
    bytes: Vec<u8>,
    flags: u16,
}

impl Message {
    /// Starts a message of type `kind` with its fixed part and flags beyond those every request has.
    pub fn new(kind: u16, flags: i32, fixed: &[u8]) -> Self {
        let mut bytes = vec![0; 16];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(fixed);
        let mut message = Self { bytes, flags: flags as u16 };
        message.pad();
        message
    }

    /// Appends an attribute.
    pub fn attr(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = 4 + value.len();
        debug_assert!(length <= usize::from(u16::MAX), "attribute too long");
        self.bytes.extend_from_slice(&(length as u16).to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.pad();
        self
    }

    /// Appends an attribute without a value.
    pub fn flag(&mut self, kind: u16) -> &mut Self {
        self.attr(kind, &[])
    }

    /// Appends a byte.
    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.attr(kind, &[value])
    }

    /// Appends a 16 bit number in host order.
    pub fn u16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Appends a 16 bit number in network order.
    pub fn be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Appends a 32 bit number in host order.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_ne_bytes())
    }

    /// Appends a 32 bit number in network order.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Appends a 64 bit number in network order.
    pub fn be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.attr(kind, &value.to_be_bytes())
    }

    /// Appends a string with its closing zero.
    pub fn str(&mut self, kind: u16, value: &str) -> &mut Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.attr(kind, &bytes)
    }

    /// Appends an address.
    pub fn ip(&mut self, kind: u16, value: IpAddr) -> &mut Self {
        match value {
            IpAddr::V4(value) => self.attr(kind, &value.octets()),
            IpAddr::V6(value) => self.attr(kind, &value.octets()),
        }
    }

    /// Appends an attribute that holds what `fill` appends.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        self.nest_after(kind | NESTED, &[], fill)
    }

    /// Like [`Message::nest`], without the bit that newer families ask for and older ones refuse, and with bytes
    /// before the inner attributes.
    pub fn nest_after(&mut self, kind: u16, fixed: &[u8], fill: impl FnOnce(&mut Self)) -> &mut Self {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(fixed);
        self.pad();
        fill(self);
        let length = self.bytes.len() - start;
        debug_assert!(length <= usize::from(u16::MAX), "nested attribute too long");
        self.bytes[start..start + 2].copy_from_slice(&(length as u16).to_ne_bytes());
        self
    }

    /// The length so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether the message holds nothing but its header.
    pub fn is_empty(&self) -> bool {
        self.bytes.len() <= 16
    }

    /// Fills in length, flags and sequence number, and gives the bytes.
    pub fn finish(&mut self, flags: u16, sequence: u32) -> &[u8] {
        let length = self.bytes.len() as u32;
        self.bytes[0..4].copy_from_slice(&length.to_ne_bytes());
        self.bytes[6..8].copy_from_slice(&(self.flags | flags).to_ne_bytes());
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
        &self.bytes
    }

    fn pad(&mut self) {
        self.bytes.resize(align(self.bytes.len()), 0);
    }
}

/// Attributes of an answer, one after the other; a malformed one ends them.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Reads `bytes` as attributes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The value of the first attribute of that type.
    pub fn get(self, kind: u16) -> Option<&'a [u8]> {
        { self }.find(|(found, _)| *found == kind).map(|(_, value)| value)
    }

    /// The attributes within the first attribute of that type.
    pub fn nested(self, kind: u16) -> Attributes<'a> {
        Attributes::new(self.get(kind).unwrap_or(&[]))
    }

    /// A 32 bit number in host order.
    pub fn u32(self, kind: u16) -> Option<u32> {
        u32_at(self.get(kind)?, 0)
    }

    /// A 32 bit number in network order.
    pub fn be32(self, kind: u16) -> Option<u32> {
        self.u32(kind).map(u32::from_be)
    }

    /// A 64 bit number in network order.
    pub fn be64(self, kind: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.get(kind)?.get(..8)?.try_into().ok()?))
    }

    /// A 16 bit number in network order.
    pub fn be16(self, kind: u16) -> Option<u16> {
        u16_at(self.get(kind)?, 0).map(u16::from_be)
    }

    /// A string, up to its closing zero.
    pub fn text(self, kind: u16) -> Option<String> {
        self.get(kind).map(text)
    }

    /// An address.
    pub fn ip(self, kind: u16) -> Option<IpAddr> {
        ip(self.get(kind)?)
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.rest, 0)?);
        let kind = u16_at(self.rest, 2)? & TYPE_MASK;
        let value = self.rest.get(4..length)?;
        self.rest = self.rest.get(align(length)..).unwrap_or(&[]);
        Some((kind, value))
    }
}

/// A 16 bit number in host order.
pub fn u16_at(bytes: &[u8], offset: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(offset..offset + 2)?.try_into().ok()?))
}

/// A 32 bit number in host order.
pub fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(offset..offset + 4)?.try_into().ok()?))
}

/// A string, up to its closing zero.
pub fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// An address of four or sixteen bytes.
pub fn ip(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(IpAddr::V4(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))),
        16 => Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?))),
        _ => None,
    }
}

/// The bytes of an address.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The address family number of an address.
pub fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_come_back() {
        let mut message = Message::new(16, 0, &[1, 2, 3, 4]);
        message.str(3, "eth0").u32(4, 1400).nest(18, |inner| {
            inner.str(1, "veth").be32(2, 7);
        });
        let bytes = message.finish(5, 9).to_vec();
        assert_eq!(u32_at(&bytes, 0), Some(bytes.len() as u32));
        let attributes = Attributes::new(&bytes[20..]);
        assert_eq!(attributes.text(3).as_deref(), Some("eth0"));
        assert_eq!(attributes.u32(4), Some(1400));
        assert_eq!(attributes.nested(18).text(1).as_deref(), Some("veth"));
        assert_eq!(attributes.nested(18).be32(2), Some(7));
    }

    #[test]
    fn malformed_attributes_end_the_list() {
        assert_eq!(Attributes::new(&[2, 0, 1, 0]).count(), 0);
        assert_eq!(Attributes::new(&[200, 0, 1, 0, 0]).count(), 0);
        assert_eq!(Attributes::new(&[5, 0, 1]).count(), 0);
        assert_eq!(Attributes::new(&[5, 0, 1, 0, 9]).collect::<Vec<_>>(), vec![(1, &[9u8][..])]);
    }
}
