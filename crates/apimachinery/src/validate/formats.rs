//! The formats that a schema may demand of a text.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use base64::Engine as _;
use regex::Regex;

use crate::time::{Duration, parse_rfc3339};
use crate::validation::{dns_label, dns_subdomain};

/// Whether a text has a format; dashes in the format's name do not matter, and an unknown one is had by every text.
pub(super) fn fits(text: &str, format: &str) -> bool {
    match format.replace('-', "").as_str() {
        "bsonobjectid" => text.len() == 24 && hex(text),
        "uri" => uri(text),
        "email" => email(text),
        "hostname" => hostname(text),
        "ipv4" => ipv4(text),
        "ipv6" => text.contains(':') && text.parse::<Ipv6Addr>().is_ok(),
        "cidr" => cidr(text),
        "mac" => mac(text),
        "uuid" => uuid(text, None),
        "uuid3" => uuid(text, Some(b'3')),
        "uuid4" => uuid(text, Some(b'4')),
        "uuid5" => uuid(text, Some(b'5')),
        "isbn" => isbn10(text) || isbn13(text),
        "isbn10" => isbn10(text),
        "isbn13" => isbn13(text),
        "creditcard" => credit_card(text),
        "ssn" => matched(&SSN, text),
        "hexcolor" => matched(&HEX_COLOR, text),
        "rgbcolor" => matched(&RGB_COLOR, text),
        "byte" => !text.is_empty() && base64::engine::general_purpose::STANDARD.decode(text).is_ok(),
        "date" => text.len() == 10 && parse_rfc3339(&format!("{text}T00:00:00Z")).is_some(),
        "datetime" => date_time(text),
        "duration" => duration(text),
        "k8sshortname" => dns_label(text).is_empty(),
        "k8slongname" => dns_subdomain(text).is_empty(),
        _ => true,
    }
}

static SSN: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$").ok());
static HEX_COLOR: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$").ok());
static RGB_COLOR: LazyLock<Option<Regex>> = LazyLock::new(|| {
    let part = r"\s*(0|[1-9][0-9]?|1[0-9][0-9]?|2[0-4][0-9]|25[0-5])\s*";
    Regex::new(&format!(r"^rgb\({part},{part},{part}\)$")).ok()
});
static CARD: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11})$",
    )
    .ok()
});

fn matched(regex: &Option<Regex>, text: &str) -> bool {
    regex.as_ref().is_some_and(|r| r.is_match(text))
}

fn hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// A request URI: absolute, or a path from the root.
fn uri(text: &str) -> bool {
    if text.is_empty() || text.chars().any(|c| c.is_control() || c == ' ') {
        return false;
    }
    if text.starts_with('/') {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else { return false };
    let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.');
    scheme.starts_with(|c: char| c.is_ascii_alphabetic()) && scheme.bytes().all(named) && !rest.is_empty()
}

fn email(text: &str) -> bool {
    // A display name may stand before an address in angle brackets.
    let address = match (text.rfind('<'), text.strip_suffix('>')) {
        (Some(open), Some(closed)) => &closed[open + 1..],
        _ => text,
    };
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let atom = |s: &str| !s.is_empty() && s.chars().all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c));
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    (quoted || local.split('.').all(atom)) && domain.split('.').all(atom)
}

fn hostname(text: &str) -> bool {
    let label = |s: &str| {
        let edge = |c: char| c.is_alphanumeric() || c == '_';
        !s.is_empty()
            && s.len() <= 63
            && s.starts_with(edge)
            && s.ends_with(edge)
            && s.chars().all(|c| edge(c) || c == '-')
    };
    text.len() <= 255 && text.strip_suffix('.').unwrap_or(text).split('.').all(label)
}

/// Zeros may lead, as they may in Kubernetes' older parser.
fn ipv4(text: &str) -> bool {
    let part = |s: &str| (1..=3).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit()) && s.parse::<u8>().is_ok();
    text.parse::<Ipv4Addr>().is_ok() || (text.split('.').count() == 4 && text.split('.').all(part))
}

fn cidr(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let bits = if ipv4(address) {
        32
    } else if address.parse::<Ipv6Addr>().is_ok() {
        128
    } else {
        return false;
    };
    length.bytes().all(|b| b.is_ascii_digit()) && length.parse::<u8>().is_ok_and(|n| n <= bits)
}

fn mac(text: &str) -> bool {
    let sized = |parts: &[&str], digits: usize, counts: &[usize]| {
        counts.contains(&parts.len()) && parts.iter().all(|p| p.len() == digits && hex(p))
    };
    [':', '-'].iter().any(|c| sized(&text.split(*c).collect::<Vec<_>>(), 2, &[6, 8, 20]))
        || sized(&text.split('.').collect::<Vec<_>>(), 4, &[3, 4, 10])
}

fn uuid(text: &str, version: Option<u8>) -> bool {
    let groups = [8, 4, 4, 4, 12];
    let mut rest = text;
    let mut digits = String::new();
    for (i, length) in groups.iter().enumerate() {
        if i > 0 {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        let Some((group, tail)) = rest.split_at_checked(*length) else { return false };
        digits.push_str(group);
        rest = tail;
    }
    let variant = |b: u8| matches!(b.to_ascii_lowercase(), b'8' | b'9' | b'a' | b'b');
    rest.is_empty()
        && hex(&digits)
        && match version {
            None => true,
            Some(v @ b'3') => digits.as_bytes()[12] == v,
            Some(v) => digits.as_bytes()[12] == v && variant(digits.as_bytes()[16]),
        }
}

fn plain(text: &str) -> Vec<u8> {
    text.bytes().filter(|b| !matches!(b, b'-' | b' ')).collect()
}

fn isbn10(text: &str) -> bool {
    let digits = plain(text);
    let value = |(i, b): (usize, &u8)| match b {
        b'0'..=b'9' => Some((10 - i as u32) * u32::from(b - b'0')),
        b'X' if i == 9 => Some(10),
        _ => None,
    };
    digits.len() == 10 && digits.iter().enumerate().map(value).sum::<Option<u32>>().is_some_and(|s| s % 11 == 0)
}

fn isbn13(text: &str) -> bool {
    let digits = plain(text);
    let value = |(i, b): (usize, &u8)| b.is_ascii_digit().then(|| u32::from(b - b'0') * if i % 2 == 0 { 1 } else { 3 });
    digits.len() == 13 && digits.iter().enumerate().map(value).sum::<Option<u32>>().is_some_and(|s| s % 10 == 0)
}

fn credit_card(text: &str) -> bool {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let luhn = |(i, b): (usize, u8)| {
        let doubled = u32::from(b - b'0') * if i % 2 == 1 { 2 } else { 1 };
        doubled / 10 + doubled % 10
    };
    matched(&CARD, &digits) && digits.bytes().rev().enumerate().map(luhn).sum::<u32>() % 10 == 0
}

/// RFC 3339, with or without a colon in the offset, and with a space or lower-case letters allowed.
fn date_time(text: &str) -> bool {
    if text.len() < 20 || !text.is_ascii() {
        return false;
    }
    let upper = text.to_ascii_uppercase();
    if parse_rfc3339(&upper).is_some() {
        return true;
    }
    let (body, offset) = upper.split_at(upper.len() - 5);
    let signed = offset.starts_with(['+', '-']) && offset[1..].bytes().all(|b| b.is_ascii_digit());
    signed && parse_rfc3339(&format!("{body}{}:{}", &offset[..3], &offset[3..])).is_some()
}

/// Go's form, or a number with a word: `22 ns`, `3 hours`.
fn duration(text: &str) -> bool {
    if Duration::parse(text).is_some() {
        return true;
    }
    const UNITS: [&str; 27] = [
        "ns",
        "nano",
        "nanos",
        "nanosecond",
        "nanoseconds",
        "us",
        "µs",
        "micro",
        "micros",
        "microsecond",
        "microseconds",
        "ms",
        "milli",
        "millis",
        "millisecond",
        "milliseconds",
        "s",
        "sec",
        "secs",
        "second",
        "seconds",
        "m",
        "min",
        "minute",
        "minutes",
        "h",
        "hr",
    ];
    const LONG: [&str; 7] = ["hour", "hours", "d", "day", "days", "w", "week"];
    let text = text.trim();
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = unit.trim().to_lowercase();
    number.parse::<f64>().is_ok()
        && (UNITS.contains(&unit.as_str()) || LONG.contains(&unit.as_str()) || unit == "weeks")
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn formats_tell_good_from_bad() {
        for (format, good, bad) in [
            ("date-time", "2014-12-15T19:30:20.000Z", "2014-13-15T19:30:20Z"),
            ("date-time", "2014-12-15T19:30:20+0100", "yesterday"),
            ("date", "2006-01-02", "2006-02-30"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "01:02:03:04:ab:CD", "01:02:03:04:ab"),
            ("uuid", "550e8400-e29b-41d4-a716-446655440000", "550e8400-e29b-41d4-a716-44665544000"),
            ("uuid4", "550e8400e29b41d4a716446655440000", "550e8400-e29b-31d4-a716-446655440000"),
            ("uri", "http://example.com/x", "example.com"),
            ("email", "a@example.com", "a@@"),
            ("hostname", "a-b.example.com", "-a.example"),
            ("byte", "aGVsbG8=", "a"),
            ("duration", "1h30m", "soon"),
            ("duration", "22 ns", "22 parsecs"),
            ("isbn", "978-0321751041", "978-0321751042"),
            ("isbn10", "0321751043", "0321751044"),
            ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
            ("hexcolor", "#FFFFFF", "#FFFFF"),
            ("rgbcolor", "rgb(255,255,25)", "rgb(256,0,0)"),
            ("ssn", "111-22-3333", "111-22-333"),
            ("k8s-short-name", "abc-1", "Abc"),
            ("bsonobjectid", "507f1f77bcf86cd799439011", "507f1f77"),
        ] {
            assert!(fits(good, format), "{format} {good}");
            assert!(!fits(bad, format), "{format} {bad}");
        }
        assert!(fits("anything", "unheard-of"));
    }
}
