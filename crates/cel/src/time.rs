//! Points in time and spans: reading, writing, and the parts of a date.

use std::fmt::Write;

/// A point in time; between the years 1 and 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp {
    /// Since 1970, negative before.
    pub seconds: i64,
    /// Below one second, towards the future.
    pub nanos: u32,
}

const MIN_SECONDS: i64 = -62_135_596_800;
const MAX_SECONDS: i64 = 253_402_300_799;
const NANOS: i64 = 1_000_000_000;

/// A point in time taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    pub year: i64,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31.
    pub day: u32,
    pub hour: u32,
    pub minute: u32,
    pub second: u32,
    /// 0 is Sunday.
    pub weekday: u32,
    /// 0 is the first of January.
    pub yearday: u32,
}

/// Days since 1970 of a date in the Gregorian calendar (Howard Hinnant's algorithm).
pub fn days(year: i64, month: u32, day: u32) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let month = i64::from((month + 9) % 12);
    let of_year = (153 * month + 2) / 5 + i64::from(day) - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day of a day counted from 1970.
pub fn date(days: i64) -> (i64, u32, u32) {
    // Years begin with March here, so that leap days come last.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month as u32, day as u32)
}

fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

/// How many days a month has.
pub fn month_days(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u32::from(is_leap(year)),
        _ => 31,
    }
}

/// Reads exactly `count` digits at `at`.
fn digits(text: &str, at: usize, count: usize) -> Option<u32> {
    let part = text.get(at..at + count)?;
    part.bytes().all(|b| b.is_ascii_digit()).then(|| part.parse().ok())?
}

/// A date `2006-01-02` that exists.
pub(crate) fn read_date(text: &str) -> Option<(i64, u32, u32)> {
    let bytes = text.as_bytes();
    if bytes.get(4) != Some(&b'-') || bytes.get(7) != Some(&b'-') {
        return None;
    }
    let (year, month, day) = (i64::from(digits(text, 0, 4)?), digits(text, 5, 2)?, digits(text, 8, 2)?);
    ((1..=12).contains(&month) && day >= 1 && day <= month_days(year, month)).then_some((year, month, day))
}

impl Timestamp {
    pub fn new(seconds: i64, nanos: u32) -> Option<Timestamp> {
        (MIN_SECONDS..=MAX_SECONDS).contains(&seconds).then_some(Timestamp { seconds, nanos })
    }

    pub(crate) fn is_zero(&self) -> bool {
        self.seconds == MIN_SECONDS && self.nanos == 0
    }

    /// Reads RFC 3339.
    pub fn parse(text: &str) -> Option<Timestamp> {
        let (year, month, day) = read_date(text)?;
        let bytes = text.as_bytes();
        if !matches!(bytes.get(10), Some(b'T' | b't')) || bytes.get(13) != Some(&b':') || bytes.get(16) != Some(&b':') {
            return None;
        }
        let (hour, minute, second) = (digits(text, 11, 2)?, digits(text, 14, 2)?, digits(text, 17, 2)?);
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        let mut rest = text.get(19..)?;
        let mut nanos = 0u32;
        if let Some(fraction) = rest.strip_prefix('.') {
            let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
            if length == 0 {
                return None;
            }
            let padded = format!("{:0<9}", &fraction[..length.min(9)]);
            nanos = padded.parse().ok()?;
            rest = &fraction[length..];
        }
        let offset = match rest {
            "Z" | "z" => 0,
            _ => offset_seconds(rest)?,
        };
        let of_day = i64::from(hour) * 3600 + i64::from(minute) * 60 + i64::from(second);
        Timestamp::new(days(year, month, day) * 86_400 + of_day - offset, nanos)
    }

    /// RFC 3339 in UTC with as many digits as are needed.
    pub fn text(&self) -> String {
        let c = self.civil(0);
        let mut text =
            format!("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}", c.year, c.month, c.day, c.hour, c.minute, c.second);
        if self.nanos > 0 {
            let _ = write!(text, ".{}", format!("{:09}", self.nanos).trim_end_matches('0'));
        }
        text.push('Z');
        text
    }

    /// The parts at an offset from UTC in seconds.
    pub fn civil(&self, offset: i64) -> Civil {
        let local = self.seconds + offset;
        let day_number = local.div_euclid(86_400);
        let of_day = local.rem_euclid(86_400) as u32;
        let (year, month, day) = date(day_number);
        Civil {
            year,
            month,
            day,
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            weekday: (day_number + 4).rem_euclid(7) as u32,
            yearday: (day_number - days(year, 1, 1)) as u32,
        }
    }

    /// Nanoseconds later; `None` beyond the range.
    pub fn plus(&self, nanos: i64) -> Option<Timestamp> {
        let below = i64::from(self.nanos) + nanos.rem_euclid(NANOS);
        let seconds = self.seconds + nanos.div_euclid(NANOS) + below / NANOS;
        Timestamp::new(seconds, (below % NANOS) as u32)
    }

    /// Nanoseconds since another time; `None` when they are too many.
    pub fn since(&self, other: &Timestamp) -> Option<i64> {
        let seconds = (self.seconds - other.seconds).checked_mul(NANOS)?;
        seconds.checked_add(i64::from(self.nanos) - i64::from(other.nanos))
    }
}

/// `+02:00` in seconds.
pub(crate) fn offset_seconds(text: &str) -> Option<i64> {
    let sign = match text.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    if text.len() != 6 || text.as_bytes()[3] != b':' {
        return None;
    }
    let (hours, minutes) = (digits(text, 1, 2)?, digits(text, 4, 2)?);
    (hours <= 23 && minutes <= 59).then(|| sign * (i64::from(hours) * 3600 + i64::from(minutes) * 60))
}

/// The offset from UTC at a time in a zone given as a name (`Europe/Berlin`) or an offset (`+02:00`, `02:00`).
pub(crate) fn zone_offset(zone: &str, at: &Timestamp) -> Option<i64> {
    if zone.contains(':') {
        let signed = if zone.starts_with(['+', '-']) { zone.to_string() } else { format!("+{zone}") };
        return offset_seconds(&signed);
    }
    if matches!(zone, "" | "UTC") {
        return Some(0);
    }
    let at = jiff::Timestamp::new(at.seconds, 0).ok()?;
    Some(i64::from(jiff::tz::TimeZone::get(zone).ok()?.to_offset(at).seconds()))
}

/// Reads a span as Go writes it: `1h30m`, `-1.5s`, `100ms`. Nanoseconds.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (digits, after) = rest.split_at(number);
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let unit_length = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let unit: i128 = match &after[..unit_length] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let whole: i128 = if whole.is_empty() { 0 } else { whole.get(..whole.len().min(25))?.parse().ok()? };
        total = total.checked_add(whole.checked_mul(unit)?)?;
        // As in Go, what is below a nanosecond is cut.
        if !fraction.is_empty() {
            let kept = &fraction[..fraction.len().min(18)];
            total += kept.parse::<i128>().ok()? * unit / 10i128.pow(kept.len() as u32);
        }
        if total > i128::from(i64::MAX) + 1 {
            return None;
        }
        rest = &after[unit_length..];
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// A span in seconds with `s` behind.
pub fn duration_text(nanos: i64) -> String {
    let magnitude = nanos.unsigned_abs();
    let mut text = format!("{}{}", if nanos < 0 { "-" } else { "" }, magnitude / NANOS as u64);
    let below = magnitude % NANOS as u64;
    if below > 0 {
        let _ = write!(text, ".{}", format!("{below:09}").trim_end_matches('0'));
    }
    text.push('s');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_written() {
        for (text, written) in [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z"),
            ("2024-02-29T23:59:59.120Z", "2024-02-29T23:59:59.12Z"),
            ("2023-10-05T12:00:00+02:00", "2023-10-05T10:00:00Z"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
        ] {
            assert_eq!(Timestamp::parse(text).map(|t| t.text()).as_deref(), Some(written), "{text}");
        }
        for text in ["2023-02-29T00:00:00Z", "2023-01-01", "2023-01-01T24:00:00Z", "x", "2023-01-01T00:00:00"] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
        let civil = Timestamp::parse("2024-03-01T01:02:03Z").map(|t| t.civil(0));
        assert_eq!(civil.map(|c| (c.weekday, c.yearday)), Some((5, 60)));
    }

    #[test]
    fn spans_are_read_and_written() {
        for (text, nanos) in [
            ("1h30m", Some(5_400_000_000_000)),
            ("-1.5s", Some(-1_500_000_000)),
            ("100ms", Some(100_000_000)),
            ("0", Some(0)),
            ("1", None),
            ("", None),
            ("1x", None),
            (".s", None),
            ("9999999h", None),
        ] {
            assert_eq!(parse_duration(text), nanos, "{text}");
        }
        assert_eq!(duration_text(-1_500_000_000), "-1.5s");
    }

    #[test]
    fn zones_have_offsets() {
        let at = Timestamp { seconds: 1_700_000_000, nanos: 0 };
        assert_eq!(zone_offset("-03:30", &at), Some(-12_600));
        assert_eq!(zone_offset("Europe/Berlin", &at), Some(3600));
        assert_eq!(zone_offset("Nowhere/City", &at), None);
    }
}
