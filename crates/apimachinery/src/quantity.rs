//! `resource.Quantity`: fixed-point numbers with suffixes, such as `100m`, `1.5Gi` or `1e3`.
//!
//! Kept as a count of 10⁻⁹, the finest that upstream keeps. What is written with a binary suffix is capped at
//! ±(2⁶³−1), as there; other numbers at ±10²⁹, where upstream goes on.

use std::cmp::Ordering;
use std::fmt;

use crate::schema::{Api, Mismatch, Type};
use crate::value::Value;

/// How a quantity is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    #[default]
    DecimalSi,
    BinarySi,
    DecimalExponent,
}

/// A fixed-point number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

const NANO: i128 = 1_000_000_000;
/// The most that a binary suffix can say.
const CAP: i128 = i64::MAX as i128 * NANO;
/// The most that is kept at all: sums of a few stay within the type.
const MOST: i128 = 100_000_000_000_000_000_000_000_000_000 * NANO;

/// The text is not a quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
pub struct BadQuantity;

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl std::hash::Hash for Quantity {
    /// Equal amounts hash alike, whatever their format.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.nanos.hash(state);
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl Quantity {
    pub const ZERO: Quantity = Quantity { nanos: 0, format: Format::DecimalSi };

    /// A whole number.
    pub fn new(value: i64, format: Format) -> Quantity {
        Quantity { nanos: i128::from(value) * NANO, format }
    }

    /// A number of thousandths.
    pub fn milli(value: i64, format: Format) -> Quantity {
        Quantity { nanos: i128::from(value) * (NANO / 1000), format }.capped()
    }

    fn capped(mut self) -> Quantity {
        self.nanos = self.nanos.clamp(-MOST, MOST);
        self
    }

    /// Reads a quantity. Digits finer than 10⁻⁹ are rounded away from zero.
    pub fn parse(text: &str) -> Result<Quantity, BadQuantity> {
        let bytes = text.as_bytes();
        let (negative, body) = match bytes.first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
            None => return Err(BadQuantity),
        };
        let end = body.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
        let (number, suffix) = body.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        // No digits at all are a zero, as upstream has it.
        if fraction.contains('.') || number.len() > 4096 {
            return Err(BadQuantity);
        }
        let (base, exponent, format) = suffix_of(suffix).ok_or(BadQuantity)?;
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        // The digits as one integer with `fraction.len()` decimal places, scaled by the suffix.
        let digits = format!("{whole}{fraction}");
        let digits = digits.trim_start_matches('0');
        let nanos = if digits.is_empty() {
            0
        } else if base == 2 {
            binary(digits, fraction.len() as i64, exponent).min(CAP)
        } else {
            decimal(digits, exponent - fraction.len() as i64 + 9)
        };
        Ok(Quantity { nanos: if negative { -nanos } else { nanos }, format }.capped())
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn is_zero_amount(&self) -> bool {
        self.nanos == 0
    }

    pub fn is_negative(&self) -> bool {
        self.nanos < 0
    }

    /// The number, rounded up.
    pub fn value(&self) -> i64 {
        round_up(self.nanos, NANO)
    }

    /// The number of thousandths, rounded up.
    pub fn milli_value(&self) -> i64 {
        round_up(self.nanos, NANO / 1000)
    }

    pub fn as_f64(&self) -> f64 {
        self.nanos as f64 / NANO as f64
    }

    pub fn add(&mut self, other: Quantity) {
        // Zero takes on the format of what is added, as upstream.
        if self.nanos == 0 {
            self.format = other.format;
        }
        self.nanos += other.nanos;
        *self = self.capped();
    }

    pub fn sub(&mut self, other: Quantity) {
        if self.nanos == 0 {
            self.format = other.format;
        }
        self.nanos -= other.nanos;
        *self = self.capped();
    }
}

fn round_up(nanos: i128, unit: i128) -> i64 {
    let (quotient, rest) = (nanos / unit, nanos % unit);
    // Upstream rounds away from zero.
    let rounded = if rest == 0 { quotient } else { quotient + nanos.signum() };
    rounded.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64
}

/// Base, exponent and format of a suffix.
fn suffix_of(suffix: &str) -> Option<(u8, i64, Format)> {
    const DECIMAL: [(&str, i64); 10] =
        [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
    const BINARY: [(&str, i64); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
    if let Some((_, exponent)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Some((10, *exponent, Format::DecimalSi));
    }
    if let Some((_, exponent)) = BINARY.iter().find(|(s, _)| *s == suffix) {
        return Some((2, *exponent, Format::BinarySi));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || digits.len() > 9 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((10, exponent.parse().ok()?, Format::DecimalExponent))
}

/// `digits × 10^exponent`, rounded up to a whole number, capped.
fn decimal(digits: &str, exponent: i64) -> i128 {
    if exponent >= 0 {
        if digits.len() as i64 + exponent > 38 {
            return MOST;
        }
        return digits.parse::<i128>().unwrap_or(MOST).saturating_mul(10i128.pow(exponent as u32)).min(MOST);
    }
    let cut = exponent.unsigned_abs() as usize;
    if cut >= digits.len() {
        // Less than one unit, but not nothing.
        return 1;
    }
    let (kept, lost) = digits.split_at(digits.len() - cut);
    if kept.len() > 38 {
        return MOST;
    }
    let kept: i128 = kept.parse().unwrap_or(MOST);
    (kept.saturating_add(i128::from(lost.bytes().any(|b| b != b'0')))).min(MOST)
}

/// `digits × 10^-places × 2^shift` in 10⁻⁹, rounded up, capped.
fn binary(digits: &str, places: i64, shift: i64) -> i128 {
    let places = places.max(0) as usize;
    let (whole, fraction) = digits.split_at(digits.len().saturating_sub(places));
    if whole.len() > 19 {
        return CAP;
    }
    let factor = 1i128 << shift;
    let whole = if whole.is_empty() { 0 } else { whole.parse::<i128>().unwrap_or(CAP) };
    let Some(whole) = whole.checked_mul(factor).and_then(|n| n.checked_mul(NANO)) else { return CAP };
    // Twenty places after the point decide; what follows them only rounds up.
    const KEPT: usize = 20;
    let fraction = format!("{fraction:0>places$}");
    let (kept, lost) = fraction.split_at(fraction.len().min(KEPT));
    let product = kept.parse::<i128>().unwrap_or(0) * factor;
    let (quotient, rest) = match kept.len() {
        n if n <= 9 => (product * 10i128.pow(9 - n as u32), 0),
        n => (product / 10i128.pow(n as u32 - 9), product % 10i128.pow(n as u32 - 9)),
    };
    let up = rest != 0 || lost.bytes().any(|b| b != b'0');
    whole.saturating_add(quotient + i128::from(up)).min(CAP)
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix that loses nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos / NANO;
        let format = match self.format {
            // Binary suffixes only fit whole numbers of at least 1024.
            Format::BinarySi if self.nanos % NANO != 0 || whole.abs() < 1024 => Format::DecimalSi,
            other => other,
        };
        if format == Format::BinarySi {
            let mut value = whole;
            let mut step = 0;
            while step < 6 && value % 1024 == 0 {
                value /= 1024;
                step += 1;
            }
            return write!(f, "{value}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][step]);
        }
        let mut value = self.nanos;
        let mut exponent = -9;
        while exponent < 18 && value % 1000 == 0 {
            value /= 1000;
            exponent += 3;
        }
        match format {
            Format::DecimalExponent if exponent == 0 => write!(f, "{value}"),
            Format::DecimalExponent => write!(f, "{value}e{exponent}"),
            _ => {
                let suffix = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][((exponent + 9) / 3) as usize];
                write!(f, "{value}{suffix}")
            }
        }
    }
}

impl std::str::FromStr for Quantity {
    type Err = BadQuantity;
    fn from_str(text: &str) -> Result<Self, BadQuantity> {
        Quantity::parse(text)
    }
}

impl Api for Quantity {
    const TYPE: Type = Type::Quantity;

    fn from_value(value: &Value) -> Result<Self, Mismatch> {
        let bad = Mismatch { path: Vec::new(), expected: "quantity", found: "string" };
        match value {
            Value::String(text) => Quantity::parse(text.trim()).map_err(|_| bad),
            Value::Int(i) => Ok(Quantity::new(*i, Format::DecimalSi)),
            Value::Float(x) => Quantity::parse(&x.to_string()).map_err(|_| bad),
            Value::Null => Ok(Quantity::ZERO),
            other => Err(Mismatch::new("quantity", other)),
        }
    }

    fn to_value(&self) -> Value {
        self.to_string().into()
    }

    /// Written always: Go's type writes itself, "0" included.
    fn is_zero(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms_are_upstreams() {
        for (text, canonical) in [
            ("0", "0"),
            ("100m", "100m"),
            ("0.1", "100m"),
            ("1000m", "1"),
            ("1.5", "1500m"),
            ("1.5Gi", "1536Mi"),
            ("1Gi", "1Gi"),
            ("0.5Ki", "512"),
            ("1000k", "1M"),
            ("1e3", "1e3"),
            ("1E6", "1e6"),
            ("12e-1", "1200e-3"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("-5", "-5"),
            ("+5", "5"),
            (".5", "500m"),
            ("5.", "5"),
            ("1Ei", "1Ei"),
            ("1E", "1E"),
            ("1023", "1023"),
            ("1.1Ki", "1126400m"),
            ("64Mi", "64Mi"),
            ("9223372036854775807", "9223372036854775807"),
            ("9223372036854775808", "9223372036854775808"),
            ("123456789123456789123", "123456789123456789123"),
            ("16Ei", "9223372036854775807"),
            ("k", "0"),
            (".", "0"),
        ] {
            let quantity = Quantity::parse(text).unwrap_or_else(|_| panic!("{text}"));
            assert_eq!(quantity.to_string(), canonical, "{text}");
            assert_eq!(Quantity::parse(canonical).map(|q| q == quantity), Ok(true), "{text}");
        }
        for bad in ["", "1.2.3", "1x", "1KI", "1e", " 1", "1 ", "--1", "1ki"] {
            assert_eq!(Quantity::parse(bad), Err(BadQuantity), "{bad}");
        }
    }

    #[test]
    fn values_round_away_from_zero() {
        assert_eq!(Quantity::parse("1.1").map(|q| q.value()), Ok(2));
        assert_eq!(Quantity::parse("100m").map(|q| q.value()), Ok(1));
        assert_eq!(Quantity::parse("1.5").map(|q| q.milli_value()), Ok(1500));
        assert_eq!(Quantity::parse("-1.5").map(|q| q.value()), Ok(-2));
        let mut sum = Quantity::ZERO;
        sum.add(Quantity::parse("512Mi").unwrap_or_default());
        sum.add(Quantity::parse("512Mi").unwrap_or_default());
        assert_eq!(sum.to_string(), "1Gi");
    }
}
