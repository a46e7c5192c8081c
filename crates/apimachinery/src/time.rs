//! Times as Kubernetes writes them: RFC 3339 in UTC with seconds or microseconds, and Go's durations.

use std::fmt::Write;

use cel::time::{date, days, month_days};

use crate::schema::{Api, Mismatch, Type};
use crate::value::Value;

fn date_time(seconds: i64) -> String {
    let rest = seconds.rem_euclid(86_400);
    let (year, month, day) = date(seconds.div_euclid(86_400));
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60)
}

/// `2006-01-02T15:04:05Z` for seconds since 1970.
pub fn rfc3339(seconds: i64) -> String {
    let mut text = date_time(seconds);
    text.push('Z');
    text
}

/// `2006-01-02T15:04:05.000000Z`.
pub fn rfc3339_micro(seconds: i64, nanos: u32) -> String {
    format!("{}.{:06}Z", date_time(seconds), nanos / 1000)
}

/// Reads RFC 3339 with any fraction and offset, as seconds since 1970 and nanoseconds.
pub fn parse_rfc3339(text: &str) -> Option<(i64, u32)> {
    let bytes = text.as_bytes();
    if bytes.len() < 20 || !text.is_ascii() {
        return None;
    }
    let number = |range: std::ops::Range<usize>| -> Option<u32> {
        let part = &text[range];
        part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok()).flatten()
    };
    let separators =
        bytes[4] == b'-' && bytes[7] == b'-' && bytes[10] == b'T' && bytes[13] == b':' && bytes[16] == b':';
    let (year, month, day) = (i64::from(number(0..4)?), number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let valid = separators
        && (1..=12).contains(&month)
        && (1..=month_days(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    if !valid {
        return None;
    }
    let mut rest = &text[19..];
    let mut nanos = 0u32;
    if let Some(fraction) = rest.strip_prefix('.') {
        let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return None;
        }
        for i in 0..9 {
            nanos = nanos * 10 + if i < digits { u32::from(fraction.as_bytes()[i] - b'0') } else { 0 };
        }
        rest = &fraction[digits..];
    }
    let offset = match rest.as_bytes() {
        b"Z" => 0,
        [sign @ (b'+' | b'-'), a, b, b':', c, d] if [a, b, c, d].iter().all(|x| x.is_ascii_digit()) => {
            let two = |x: &u8, y: &u8| i64::from(x - b'0') * 10 + i64::from(y - b'0');
            let (hours, minutes) = (two(a, b), two(c, d));
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = hours * 3600 + minutes * 60;
            if *sign == b'+' { seconds } else { -seconds }
        }
        _ => return None,
    };
    let of_day = i64::from(hour * 3600 + minute * 60 + second);
    Some((days(year, month, day) * 86_400 + of_day - offset, nanos))
}

/// `metav1.Time`: seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub i64);

/// `metav1.MicroTime`: microseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MicroTime(pub i64);

/// `metav1.Duration`: nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub i64);

fn text_of<'a>(value: &'a Value, expected: &'static str) -> Result<Option<&'a str>, Mismatch> {
    match value {
        Value::String(text) if text.is_empty() => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Null => Ok(None),
        other => Err(Mismatch::new(expected, other)),
    }
}

const BAD_TIME: Mismatch = Mismatch { path: Vec::new(), expected: "RFC 3339 time", found: "string" };

impl Api for Time {
    const TYPE: Type = Type::Time;

    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match text_of(value, "string")? {
            None => Ok(Time::ZERO),
            Some(text) => parse_rfc3339(text).map(|(s, _)| Time(s)).ok_or(BAD_TIME),
        }
    }

    fn to_value(&self) -> Value {
        if self.is_zero() { Value::Null } else { rfc3339(self.0).into() }
    }

    fn is_zero(&self) -> bool {
        *self == Time::ZERO
    }
}

impl Time {
    /// No time: what Go's zero time is to clients.
    pub const ZERO: Time = Time(0);
}

impl std::fmt::Display for Time {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&rfc3339(self.0))
    }
}

impl Api for MicroTime {
    const TYPE: Type = Type::MicroTime;

    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match text_of(value, "string")? {
            None => Ok(MicroTime(0)),
            Some(text) => {
                parse_rfc3339(text).map(|(s, n)| MicroTime(s * 1_000_000 + i64::from(n / 1000))).ok_or(BAD_TIME)
            }
        }
    }

    fn to_value(&self) -> Value {
        if self.is_zero() {
            return Value::Null;
        }
        let nanos = self.0.rem_euclid(1_000_000) as u32 * 1000;
        rfc3339_micro(self.0.div_euclid(1_000_000), nanos).into()
    }

    fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl Duration {
    /// Reads Go's form: `1h30m`, `1.5s`, `300ms`, `0`.
    pub fn parse(text: &str) -> Option<Duration> {
        let (negative, mut rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        if rest == "0" {
            return Some(Duration(0));
        }
        if rest.is_empty() {
            return None;
        }
        let mut total: i128 = 0;
        while !rest.is_empty() {
            let digits = rest.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
            let (number, after) = rest.split_at(digits);
            let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
            if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
                return None;
            }
            const UNITS: [(&str, i128); 8] = [
                ("ns", 1),
                ("us", 1_000),
                ("µs", 1_000),
                ("μs", 1_000),
                ("ms", 1_000_000),
                ("s", 1_000_000_000),
                ("m", 60_000_000_000),
                ("h", 3_600_000_000_000),
            ];
            let (unit, scale) =
                UNITS.iter().find(|(u, _)| after.starts_with(u) && (*u != "m" || !after.starts_with("ms")))?;
            let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
            total = total.checked_add(whole.checked_mul(*scale)?)?;
            let mut place = *scale;
            for digit in fraction.bytes() {
                place /= 10;
                total += i128::from(digit - b'0') * place;
            }
            rest = &after[unit.len()..];
        }
        i64::try_from(if negative { -total } else { total }).ok().map(Duration)
    }

    pub fn as_std(self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.0.max(0) as u64)
    }
}

impl std::fmt::Display for Duration {
    /// Go's form: `1h0m0s`, `1.5s`, `2ms`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let nanos = self.0.unsigned_abs();
        if nanos == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_char('-')?;
        }
        let fraction = |value: u64, unit: u64, digits: usize| {
            let (whole, part) = (value / unit, value % unit);
            let text = format!("{part:0digits$}");
            let text = text.trim_end_matches('0');
            if part == 0 { whole.to_string() } else { format!("{whole}.{text}") }
        };
        if nanos < 1_000 {
            return write!(f, "{nanos}ns");
        }
        if nanos < 1_000_000 {
            return write!(f, "{}µs", fraction(nanos, 1_000, 3));
        }
        if nanos < 1_000_000_000 {
            return write!(f, "{}ms", fraction(nanos, 1_000_000, 6));
        }
        let seconds = nanos / 1_000_000_000;
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        write!(f, "{}s", fraction(nanos % 60_000_000_000, 1_000_000_000, 9))
    }
}

impl Api for Duration {
    const TYPE: Type = Type::Duration;

    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        match text_of(value, "string")? {
            None => Ok(Duration(0)),
            Some(text) => {
                Duration::parse(text).ok_or(Mismatch { path: Vec::new(), expected: "duration", found: "string" })
            }
        }
    }

    fn to_value(&self) -> Value {
        self.to_string().into()
    }

    fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_both_ways() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2008-01-01T01:01:01Z", 1_199_149_261),
            ("2000-02-29T23:59:59Z", 951_868_799),
            ("1969-12-31T23:59:59Z", -1),
        ] {
            assert_eq!(parse_rfc3339(text), Some((seconds, 0)));
            assert_eq!(rfc3339(seconds), text);
        }
        assert_eq!(parse_rfc3339("2020-01-01T02:00:00.5+02:00"), Some((1_577_836_800, 500_000_000)));
        for bad in [
            "",
            "2020-01-01",
            "2020-13-01T00:00:00Z",
            "2019-02-29T00:00:00Z",
            "2020-01-01T00:00:00",
            "2020-01-01T00:00:00.Z",
        ] {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }

    #[test]
    fn durations_read_and_print_as_go_does() {
        for (text, nanos, printed) in [
            ("1h30m", 5_400_000_000_000, "1h30m0s"),
            ("1.5s", 1_500_000_000, "1.5s"),
            ("300ms", 300_000_000, "300ms"),
            ("0", 0, "0s"),
            ("-2m", -120_000_000_000, "-2m0s"),
            ("1us", 1_000, "1µs"),
        ] {
            assert_eq!(Duration::parse(text), Some(Duration(nanos)), "{text}");
            assert_eq!(Duration(nanos).to_string(), printed);
        }
        for bad in ["", "s", "1", "1x", "1.2.3s", "."] {
            assert_eq!(Duration::parse(bad), None, "{bad}");
        }
    }
}
