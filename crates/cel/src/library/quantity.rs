//! Amounts with units, as resources are given in: `1.5Gi`, `100m`.

use super::Decl;
use crate::opaque::Opaque;
use crate::value::{Error, Value};

/// An amount in nano-units: exact for everything that Kubernetes keeps (nothing below a nano, nothing above 2^63).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity {
    nanos: i128,
}

const NANO: i128 = 1_000_000_000;
/// Larger amounts are cut down to this, as upstream does.
const MAX: i128 = i64::MAX as i128 * NANO;

pub(crate) const TABLE: &[Decl] = &[
    Decl("quantity", quantity, &[("string_to_quantity", "(string) kubernetes.Quantity")]),
    Decl("isQuantity", is_quantity, &[("is_quantity_string", "(string) bool")]),
    Decl(
        "sign",
        |args| one(args, |q| Ok(Value::Int(q.nanos.signum() as i64))),
        &[("quantity_sign", "kubernetes.Quantity.() int")],
    ),
    Decl(
        "asApproximateFloat",
        |args| one(args, |q| Ok(Value::Double(q.nanos as f64 / NANO as f64))),
        &[("quantity_get_float", "kubernetes.Quantity.() double")],
    ),
    Decl(
        "asInteger",
        |args| {
            one(args, |q| match q.whole() {
                Some(whole) => Ok(Value::Int(whole)),
                None => Err(Error::new("cannot convert value to integer")),
            })
        },
        &[("quantity_get_int", "kubernetes.Quantity.() int")],
    ),
    Decl(
        "isInteger",
        |args| one(args, |q| Ok(Value::Bool(q.whole().is_some()))),
        &[("quantity_is_integer", "kubernetes.Quantity.() bool")],
    ),
    Decl(
        "add",
        |args| combined(args, 1),
        &[
            ("quantity_add", "kubernetes.Quantity.(kubernetes.Quantity) kubernetes.Quantity"),
            ("quantity_add_int", "kubernetes.Quantity.(int) kubernetes.Quantity"),
        ],
    ),
    Decl(
        "sub",
        |args| combined(args, -1),
        &[
            ("quantity_sub", "kubernetes.Quantity.(kubernetes.Quantity) kubernetes.Quantity"),
            ("quantity_sub_int", "kubernetes.Quantity.(int) kubernetes.Quantity"),
        ],
    ),
];

impl Quantity {
    /// Reads an amount: a decimal number with a binary or decimal unit or an exponent.
    pub fn parse(text: &str) -> Option<Quantity> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, unit) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let (binary, power) = unit_of(unit)?;
        // The digits as one whole number and how far the point stands from its end.
        let digits: String = format!("{whole}{fraction}");
        let digits = digits.trim_start_matches('0');
        if digits.len() > 36 {
            return None;
        }
        let value: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
        let mut exponent = 9 - fraction.len() as i32 + power;
        let mut nanos = match binary {
            0 => Some(value),
            bits => 1i128.checked_shl(bits).and_then(|factor| value.checked_mul(factor)),
        };
        while exponent > 0 && nanos.is_some() {
            nanos = nanos.and_then(|n| n.checked_mul(10));
            exponent -= 1;
        }
        let mut rounded = nanos.unwrap_or(MAX);
        while exponent < 0 && rounded != 0 {
            // What is below a nano counts as one: an amount that is asked for is never nothing.
            rounded = rounded / 10 + i128::from(rounded % 10 != 0);
            exponent += 1;
            if rounded == 1 {
                break;
            }
        }
        let nanos = rounded.min(MAX);
        Some(Quantity { nanos: if negative { -nanos } else { nanos } })
    }

    fn whole(&self) -> Option<i64> {
        (self.nanos % NANO == 0).then(|| i64::try_from(self.nanos / NANO).ok())?
    }
}

/// The unit as binary digits to shift by and a power of ten.
fn unit_of(unit: &str) -> Option<(u32, i32)> {
    Some(match unit {
        "" => (0, 0),
        "n" => (0, -9),
        "u" => (0, -6),
        "m" => (0, -3),
        "k" => (0, 3),
        "M" => (0, 6),
        "G" => (0, 9),
        "T" => (0, 12),
        "P" => (0, 15),
        "E" => (0, 18),
        "Ki" => (10, 0),
        "Mi" => (20, 0),
        "Gi" => (30, 0),
        "Ti" => (40, 0),
        "Pi" => (50, 0),
        "Ei" => (60, 0),
        _ => {
            let exponent = unit.strip_prefix(['e', 'E'])?;
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            (0, exponent.parse::<i32>().ok().filter(|e| e.abs() < 1000)?)
        }
    })
}

fn of<'a>(quantity: Quantity) -> Value<'a> {
    Value::Opaque(Opaque::Quantity(quantity))
}

fn quantity<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::String(text)] => Quantity::parse(text).map(of).ok_or_else(|| {
            let form = "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
            Error::new(format!("quantities must match the regular expression {form}"))
        }),
        _ => Err(Error::no_such_overload()),
    }
}

fn is_quantity<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::String(text)] => Ok(Value::Bool(Quantity::parse(text).is_some())),
        _ => Err(Error::no_such_overload()),
    }
}

fn one<'a>(args: &[Value<'a>], act: fn(&Quantity) -> Result<Value<'a>, Error>) -> Result<Value<'a>, Error> {
    match args {
        [Value::Opaque(Opaque::Quantity(q))] => act(q),
        _ => Err(Error::no_such_overload()),
    }
}

fn combined<'a>(args: &[Value<'a>], sign: i128) -> Result<Value<'a>, Error> {
    let (a, b) = match args {
        [Value::Opaque(Opaque::Quantity(a)), Value::Opaque(Opaque::Quantity(b))] => (a.nanos, b.nanos),
        [Value::Opaque(Opaque::Quantity(a)), Value::Int(b)] => (a.nanos, i128::from(*b) * NANO),
        _ => return Err(Error::no_such_overload()),
    };
    // Both are far below the limits of their type.
    Ok(of(Quantity { nanos: (a + sign * b).clamp(-MAX, MAX) }))
}
