//! The small part of DER that writing certificates and requests needs.

use std::time::Duration;

use jiff::civil::Date;

/// One tag, its length and its content.
pub fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(content.len() + 6);
    out.push(tag);
    let len = content.len();
    if len < 0x80 {
        out.push(len as u8);
    } else {
        let bytes = len.to_be_bytes();
        let first = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len() - 1);
        out.push(0x80 | (bytes.len() - first) as u8);
        out.extend_from_slice(&bytes[first..]);
    }
    out.extend_from_slice(content);
    out
}

/// SEQUENCE of already encoded parts.
pub fn seq(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, &parts.concat())
}

/// SET of already encoded parts.
pub fn set(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x31, &parts.concat())
}

/// `[n]` around already encoded content.
pub fn explicit(n: u8, content: &[u8]) -> Vec<u8> {
    tlv(0xa0 | n, content)
}

/// `[n]` in place of a primitive's own tag.
pub fn implicit(n: u8, content: &[u8]) -> Vec<u8> {
    tlv(0x80 | n, content)
}

/// A non-negative INTEGER from big-endian bytes.
pub fn uint(bytes: &[u8]) -> Vec<u8> {
    let first = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len().saturating_sub(1));
    let mut content = Vec::with_capacity(bytes.len() + 1);
    if bytes.get(first).is_none_or(|b| b & 0x80 != 0) {
        content.push(0);
    }
    content.extend_from_slice(&bytes[first..]);
    tlv(0x02, &content)
}

/// OBJECT IDENTIFIER from its arcs.
pub fn oid(arcs: &[u64]) -> Vec<u8> {
    let mut content = vec![(arcs[0] * 40 + arcs[1]) as u8];
    for &arc in &arcs[2..] {
        let mut shift = (64 - arc.leading_zeros()).div_ceil(7).max(1) * 7;
        while shift > 0 {
            shift -= 7;
            let more = if shift > 0 { 0x80 } else { 0 };
            content.push((arc >> shift) as u8 & 0x7f | more);
        }
    }
    tlv(0x06, &content)
}

/// BIT STRING of whole bytes.
pub fn bits(bytes: &[u8]) -> Vec<u8> {
    bit_string(0, bytes)
}

/// BIT STRING whose last `unused` bits do not count.
pub fn bit_string(unused: u8, bytes: &[u8]) -> Vec<u8> {
    tlv(0x03, &[&[unused], bytes].concat())
}

/// OCTET STRING.
pub fn octets(bytes: &[u8]) -> Vec<u8> {
    tlv(0x04, bytes)
}

/// UTF8String.
pub fn utf8(s: &str) -> Vec<u8> {
    tlv(0x0c, s.as_bytes())
}

/// BOOLEAN true.
pub fn yes() -> Vec<u8> {
    tlv(0x01, &[0xff])
}

/// Time as X.509 wants it: UTCTime until 2049, GeneralizedTime after.
pub fn time(unix: u64) -> Vec<u8> {
    // The standard has no later time than the last second of 9999, which stands for "never".
    let time = Date::constant(1970, 1, 1).at(0, 0, 0, 0);
    let time = time.checked_add(Duration::from_secs(unix)).unwrap_or(Date::MAX.at(23, 59, 59, 0));
    let (year, date) = (time.year(), format!("{:02}{:02}", time.month(), time.day()));
    let tail = format!("{date}{:02}{:02}{:02}Z", time.hour(), time.minute(), time.second());
    if (1950..2050).contains(&year) {
        tlv(0x17, format!("{:02}{tail}", year % 100).as_bytes())
    } else {
        tlv(0x18, format!("{year:04}{tail}").as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_match_known_bytes() {
        assert_eq!(oid(&[1, 2, 840, 10045, 4, 3, 2]), [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2]);
        assert_eq!(oid(&[2, 5, 29, 0]), [6, 3, 0x55, 0x1d, 0]);
        assert_eq!(uint(&[0, 0x80]), [2, 2, 0, 0x80]);
        assert_eq!(uint(&[0]), [2, 1, 0]);
        assert_eq!(tlv(4, &[0; 200])[..3], [4, 0x81, 200]);
        assert_eq!(tlv(4, &[0; 300])[..4], [4, 0x82, 1, 44]);
        assert_eq!(time(0), b"\x17\x0d700101000000Z");
        assert_eq!(time(951_827_696), b"\x17\x0d000229123456Z");
        assert_eq!(time(2_524_608_000), b"\x18\x0f20500101000000Z");
        assert_eq!(time(253_402_300_799), b"\x18\x0f99991231235959Z");
        assert_eq!(time(u64::MAX), time(253_402_300_799));
    }
}
