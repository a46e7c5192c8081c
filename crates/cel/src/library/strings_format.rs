//! `'%s has %d'.format([…])`, and how values look as text.

use std::fmt::Write;

use super::convert::double_text;
use crate::opaque::Opaque;
use crate::time::duration_text;
use crate::value::{Error, Key, Value};

/// A value as text, as `%s` and messages show it.
pub(crate) fn show(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(b) => b.to_string(),
        Value::Int(i) => i.to_string(),
        Value::Uint(u) => u.to_string(),
        Value::Double(d) => double_text(*d),
        Value::String(s) => s.to_string(),
        Value::Bytes(b) => String::from_utf8_lossy(b).into_owned(),
        Value::Duration(d) => duration_text(*d),
        Value::Timestamp(t) => t.text(),
        Value::Type(name) => name.to_string(),
        Value::List(list) => format!("[{}]", list.iter().map(|i| nested(&i)).collect::<Vec<_>>().join(", ")),
        Value::Map(map) => {
            let entry = |key: &Key| {
                let value = map.get(key).ok().flatten().unwrap_or(Value::Null);
                format!("{}:{}", nested(&key.value()), nested(&value))
            };
            format!("{{{}}}", map.keys().iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        Value::Optional(None) => "optional.none()".into(),
        Value::Optional(Some(inner)) => format!("optional.of({})", show(inner)),
        Value::Opaque(Opaque::Ip(ip)) => ip.to_string(),
        Value::Opaque(Opaque::Cidr(ip, bits)) => format!("{ip}/{bits}"),
        Value::Opaque(other) => other.type_name().into(),
    }
}

/// A value inside of a list or map, as it could be written in an expression.
fn nested(value: &Value<'_>) -> String {
    match value {
        Value::String(s) => format!("{s:?}"),
        Value::Bytes(_) => format!("b{:?}", show(value)),
        Value::Duration(_) => format!("duration({:?})", show(value)),
        Value::Timestamp(_) => format!("timestamp({:?})", show(value)),
        Value::Double(d) if d.is_finite() => format!("{d:.6}"),
        Value::Double(_) => format!("{:?}", show(value)),
        Value::Type(name) => format!("type({name})"),
        other => show(other),
    }
}

/// Digits with a comma before each three, as English has them.
fn grouped(number: &str) -> String {
    let (sign, rest) = number.strip_prefix('-').map_or(("", number), |rest| ("-", rest));
    let whole = rest.find('.').unwrap_or(rest.len());
    let mut out = String::from(sign);
    for (i, c) in rest.char_indices() {
        if i > 0 && i < whole && (whole - i) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// The largest precision that may be asked for.
const MAX_PRECISION: usize = 1000;

pub(crate) fn format<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::String(pattern), Value::List(values)] = args else { return Err(Error::no_such_overload()) };
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    let mut next = 0;
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut precision = None;
        if chars.peek() == Some(&'.') {
            chars.next();
            let mut digits = String::new();
            while let Some(d) = chars.next_if(char::is_ascii_digit) {
                digits.push(d);
            }
            let wanted = digits.parse().ok().filter(|p| *p <= MAX_PRECISION);
            precision = Some(wanted.ok_or_else(|| Error::new("error while parsing precision"))?);
        }
        let verb = chars.next().ok_or_else(|| Error::new("unexpected end of format string"))?;
        if verb == '%' {
            out.push('%');
            continue;
        }
        let value = values.get(next).ok_or_else(|| Error::new(format!("index {next} out of range")))?;
        next += 1;
        clause(&mut out, verb, precision, &value)?;
        super::check_length(out.len())?;
    }
    Ok(Value::String(out.into()))
}

fn clause(out: &mut String, verb: char, precision: Option<usize>, value: &Value<'_>) -> Result<(), Error> {
    let wrong = |wanted: &str| {
        Error::new(format!(
            "error during formatting: {wanted} clause can only be used on numbers, was given {}",
            value.type_name()
        ))
    };
    let double = |value: &Value<'_>| match value {
        Value::Double(d) => Some(*d),
        Value::Int(i) => Some(*i as f64),
        Value::Uint(u) => Some(*u as f64),
        _ => None,
    };
    let _ = match (verb, value) {
        ('s', value) => {
            out.push_str(&show(value));
            Ok(())
        }
        ('d', Value::Int(_) | Value::Uint(_) | Value::Double(_)) => {
            out.push_str(&show(value));
            Ok(())
        }
        ('f', value) => {
            let number = double(value).ok_or_else(|| wrong("fixed-point"))?;
            if number.is_finite() {
                out.push_str(&grouped(&format!("{number:.*}", precision.unwrap_or(6))));
                Ok(())
            } else {
                out.push_str(&double_text(number));
                Ok(())
            }
        }
        ('e', value) => {
            let number = double(value).ok_or_else(|| wrong("scientific notation"))?;
            let text = format!("{number:.*e}", precision.unwrap_or(6));
            let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
            let exponent: i32 = exponent.parse().unwrap_or(0);
            let raised = |c: char| match c {
                '1' => Some('\u{b9}'),
                '2' => Some('\u{b2}'),
                '3' => Some('\u{b3}'),
                c => c.to_digit(10).and_then(|d| char::from_u32(0x2070 + d)),
            };
            let power: String = format!("{:02}", exponent.abs()).chars().filter_map(raised).collect();
            let sign = if exponent < 0 { "\u{207b}" } else { "" };
            write!(out, "{digits}\u{202f}\u{d7}\u{202f}10{sign}{power}")
        }
        ('b', Value::Bool(b)) => write!(out, "{}", u8::from(*b)),
        ('b', Value::Int(i)) => signed(out, *i, |u| format!("{u:b}")),
        ('b', Value::Uint(u)) => write!(out, "{u:b}"),
        ('o', Value::Int(i)) => signed(out, *i, |u| format!("{u:o}")),
        ('o', Value::Uint(u)) => write!(out, "{u:o}"),
        ('x', Value::Int(i)) => signed(out, *i, |u| format!("{u:x}")),
        ('X', Value::Int(i)) => signed(out, *i, |u| format!("{u:X}")),
        ('x', Value::Uint(u)) => write!(out, "{u:x}"),
        ('X', Value::Uint(u)) => write!(out, "{u:X}"),
        ('x' | 'X', Value::String(_) | Value::Bytes(_)) => {
            let bytes: &[u8] = match value {
                Value::String(s) => s.as_bytes(),
                Value::Bytes(b) => b,
                _ => &[],
            };
            bytes.iter().try_for_each(|b| if verb == 'x' { write!(out, "{b:02x}") } else { write!(out, "{b:02X}") })
        }
        ('d' | 'b' | 'o' | 'x' | 'X', _) => return Err(wrong("integer")),
        _ => return Err(Error::new(format!("unrecognized formatting clause: {verb}"))),
    };
    Ok(())
}

fn signed(out: &mut String, number: i64, digits: fn(u64) -> String) -> std::fmt::Result {
    write!(out, "{}{}", if number < 0 { "-" } else { "" }, digits(number.unsigned_abs()))
}
