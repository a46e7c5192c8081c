//! Compact JSON text of a tree, byte for byte as Go's encoder writes it, and the way back for embedded texts.

use std::fmt::Write;

use crate::value::{Map, Value};

/// Deepest nesting that is read.
const MAX_DEPTH: usize = 128;

/// Compact JSON with sorted keys, `<`, `>` and `&` escaped.
pub(crate) fn write(value: &Value) -> String {
    let mut out = String::new();
    write_value(value, &mut out);
    out
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Null => out.push_str("null"),
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(i) => out.push_str(itoa::Buffer::new().format(*i)),
        Value::Float(x) => write_float(*x, out),
        Value::String(s) => write_string(s, out),
        Value::List(items) => {
            out.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_value(item, out);
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            for (i, (key, item)) in map.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_string(key, out);
                out.push(':');
                write_value(item, out);
            }
            out.push('}');
        }
    }
}

/// Shortest digits that read back; an exponent below 1e-6 and from 1e21 on, as Go has it.
pub(crate) fn write_float(x: f64, out: &mut String) {
    let magnitude = x.abs();
    if !x.is_finite() {
        out.push_str("null");
    } else if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{x:e}");
        match text.split_once('e') {
            Some((digits, exponent)) if !exponent.starts_with('-') => {
                let _ = write!(out, "{digits}e+{exponent}");
            }
            _ => out.push_str(&text),
        }
    } else {
        let _ = write!(out, "{x}");
    }
}

/// A JSON string with Go's escapes.
pub(crate) fn write_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Reads JSON text; `None` when it is not JSON.
pub(crate) fn read(text: &str) -> Option<Value> {
    let parsed: serde_json::Value = serde_json::from_str(text).ok()?;
    from_serde(parsed, 0)
}

fn from_serde(value: serde_json::Value, depth: usize) -> Option<Value> {
    if depth > MAX_DEPTH {
        return None;
    }
    Some(match value {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(b) => Value::Bool(b),
        serde_json::Value::Number(n) => match n.as_i64() {
            Some(i) => Value::Int(i),
            None => Value::Float(n.as_f64()?),
        },
        serde_json::Value::String(s) => Value::String(s.into()),
        serde_json::Value::Array(items) => {
            Value::List(items.into_iter().map(|v| from_serde(v, depth + 1)).collect::<Option<_>>()?)
        }
        serde_json::Value::Object(map) => {
            let entries: Option<Vec<_>> =
                map.into_iter().map(|(k, v)| Some((k.into(), from_serde(v, depth + 1)?))).collect();
            Value::Map(Map::from_entries(entries?).0)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_what_go_writes() {
        let value = read(r#"{"b":[1,1.5,1e30,1e-9,true,null],"a":"<x>\u0001\n"}"#).unwrap();
        assert_eq!(write(&value), r#"{"a":"\u003cx\u003e\u0001\n","b":[1,1.5,1e+30,1e-9,true,null]}"#);
        assert!(read("{").is_none());
    }
}
