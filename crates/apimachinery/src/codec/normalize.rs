//! Bringing a tree into normal form: checked against its types, leaves canonical, Go's zero values dropped.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::Error;
use crate::quantity::Quantity;
use crate::quote::quoted;
use crate::schema::{Struct, Type};
use crate::time::{Duration, parse_rfc3339, rfc3339, rfc3339_micro};
use crate::value::{Map, Value};

/// Checks an object against its schema and makes it canonical.
///
/// # Errors
/// In the words of Go's decoders, since clients and people know them.
pub fn normalize(tree: &mut Value, schema: &Struct) -> Result<(), Error> {
    let Value::Map(map) = tree else {
        return Err(Error::new(format!(
            "json: cannot unmarshal {} into Go value of type {}",
            tree.type_name(),
            short(schema)
        )));
    };
    if schema.name.is_empty() {
        return free(map, schema);
    }
    fields(map, schema, "")
}

/// A custom resource: only its metadata has a Go type.
fn free(map: &mut Map, schema: &Struct) -> Result<(), Error> {
    for field in schema.fields.iter() {
        if let Type::Struct(inner) = &field.node.ty
            && !inner.name.is_empty()
            && let Some(value) = map.get_mut(&field.name)
        {
            let place = Place { schema, path: &field.name };
            leaf(value, &field.node.ty, &place)?;
        }
    }
    Ok(())
}

/// The struct and the path of a field, for messages.
struct Place<'a> {
    schema: &'a Struct,
    path: &'a str,
}

fn short(schema: &Struct) -> &str {
    schema.name.rsplit('.').next().unwrap_or_default()
}

impl Place<'_> {
    fn mismatch(&self, found: &Value, go_type: &str) -> Error {
        let found = match found {
            Value::Bool(_) => "bool".to_string(),
            Value::Int(i) => format!("number {i}"),
            Value::Float(x) => format!("number {x}"),
            other => other.type_name().to_string(),
        };
        // Go names a number only where it does not fit.
        let found = match go_type {
            "int32" | "int64" => found,
            _ => found.split(' ').next().unwrap_or_default().to_string(),
        };
        Error::new(format!(
            "json: cannot unmarshal {found} into Go struct field {}.{} of type {go_type}",
            short(self.schema),
            self.path
        ))
    }
}

fn fields(map: &mut Map, schema: &Struct, path: &str) -> Result<(), Error> {
    for field in schema.fields.iter() {
        if field.is_inline() {
            if let Type::Struct(inner) = &field.node.ty {
                fields(map, inner, path)?;
            }
            continue;
        }
        let Some(value) = map.get_mut(&field.name) else { continue };
        if value.is_null() {
            map.remove(&field.name);
            continue;
        }
        let below = if path.is_empty() { field.name.to_string() } else { format!("{path}.{}", field.name) };
        leaf(value, &field.node.ty, &Place { schema, path: &below })?;
        if !field.pointer && is_zero(value, &field.node.ty) {
            map.remove(&field.name);
        }
    }
    Ok(())
}

/// Whether a value that is no pointer carries nothing.
fn is_zero(value: &Value, ty: &Type) -> bool {
    match (value, ty) {
        (Value::Null, _) => true,
        (Value::Bool(b), Type::Bool) => !b,
        (Value::Int(i), Type::Int32 | Type::Int64 | Type::Double) => *i == 0,
        (Value::Float(x), Type::Double) => *x == 0.0,
        (Value::String(s), Type::String | Type::Bytes | Type::Time | Type::MicroTime) => s.is_empty(),
        (Value::String(s), Type::Duration) => s == "0s",
        (Value::List(items), Type::List(_)) => items.is_empty(),
        (Value::Map(map), Type::Map(_)) => map.is_empty(),
        (Value::Map(map), Type::Struct(schema)) => map.is_empty() && !schema.preserve_unknown,
        _ => false,
    }
}

fn leaf(value: &mut Value, ty: &Type, place: &Place<'_>) -> Result<(), Error> {
    match ty {
        Type::Bool => match value {
            Value::Bool(_) => {}
            other => return Err(place.mismatch(other, "bool")),
        },
        Type::Int32 => match value {
            Value::Int(i) if i32::try_from(*i).is_ok() => {}
            other => return Err(place.mismatch(other, "int32")),
        },
        Type::Int64 => match value {
            Value::Int(_) => {}
            other => return Err(place.mismatch(other, "int64")),
        },
        Type::Double => match value {
            Value::Int(_) | Value::Float(_) => {}
            other => return Err(place.mismatch(other, "float64")),
        },
        Type::String => match value {
            Value::String(_) => {}
            other => return Err(place.mismatch(other, "string")),
        },
        Type::Bytes => match value {
            Value::String(text) => {
                let plain: String = text.chars().filter(|c| !matches!(c, '\n' | '\r')).collect();
                if let Err(error) = STANDARD.decode(&plain) {
                    let at = match error {
                        base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                        _ => plain.len(),
                    };
                    return Err(Error::new(format!("illegal base64 data at input byte {at}")));
                }
                if plain.len() != text.len() {
                    *value = Value::from(plain);
                }
            }
            other => return Err(place.mismatch(other, "[]uint8")),
        },
        Type::Quantity => {
            let text = match value {
                Value::String(text) => text.to_string(),
                Value::Int(i) => i.to_string(),
                Value::Float(x) => x.to_string(),
                other => return Err(place.mismatch(other, "resource.Quantity")),
            };
            let quantity = Quantity::parse(text.trim()).map_err(|e| Error::new(e.to_string()))?;
            *value = Value::from(quantity.to_string());
        }
        Type::Time | Type::MicroTime => match value {
            Value::String(text) if text.is_empty() => {}
            Value::String(text) => {
                let Some((seconds, nanos)) = parse_rfc3339(text) else {
                    return Err(Error::new(format!(
                        "parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\""
                    )));
                };
                if matches!(ty, Type::MicroTime) && !has_micros(text) {
                    return Err(Error::new(format!(
                        "parsing time {text:?} as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse {:?} as \".000000\"",
                        text.get(19..).unwrap_or_default()
                    )));
                }
                let canonical = if matches!(ty, Type::Time) { rfc3339(seconds) } else { rfc3339_micro(seconds, nanos) };
                *value = Value::from(canonical);
            }
            other => return Err(place.mismatch(other, "string")),
        },
        Type::Duration => match value {
            Value::String(text) => match Duration::parse(text) {
                Some(duration) => *value = Value::from(duration.to_string()),
                None => return Err(Error::new(format!("time: invalid duration {}", quoted(text)))),
            },
            other => return Err(place.mismatch(other, "string")),
        },
        Type::IntOrString => match value {
            Value::String(_) => {}
            Value::Int(i) if i32::try_from(*i).is_ok() => {}
            other => return Err(place.mismatch(other, "int32")),
        },
        Type::Any(_) => {}
        Type::List(node) => match value {
            Value::List(items) => {
                for item in items.iter_mut() {
                    if !item.is_null() {
                        leaf(item, &node.ty, place)?;
                    } else {
                        *item = zero(&node.ty);
                    }
                }
            }
            other => return Err(place.mismatch(other, &go_name(ty))),
        },
        Type::Map(node) => match value {
            Value::Map(map) => {
                for (_, item) in map.iter_mut() {
                    if !item.is_null() {
                        leaf(item, &node.ty, place)?;
                    } else {
                        *item = zero(&node.ty);
                    }
                }
            }
            other => return Err(place.mismatch(other, &go_name(ty))),
        },
        Type::Struct(schema) => match value {
            Value::Map(map) if schema.name.is_empty() => free(map, schema)?,
            Value::Map(map) => fields(map, schema, place.path)?,
            other => return Err(place.mismatch(other, &go_name(ty))),
        },
    }
    Ok(())
}

/// Upstream reads a time with microseconds only with exactly six digits of them.
fn has_micros(text: &str) -> bool {
    let digits = text.get(20..).unwrap_or_default().bytes().take_while(u8::is_ascii_digit).count();
    text.as_bytes().get(19) == Some(&b'.') && digits == 6
}

/// What `null` means as an element of a list or map.
fn zero(ty: &Type) -> Value {
    match ty {
        Type::Bool => Value::Bool(false),
        Type::Int32 | Type::Int64 | Type::Double | Type::IntOrString => Value::Int(0),
        Type::String | Type::Bytes => Value::from(""),
        Type::Quantity => Value::from("0"),
        Type::Duration => Value::from("0s"),
        Type::Struct(_) => Value::Map(Map::new()),
        Type::Time | Type::MicroTime | Type::Any(_) | Type::List(_) | Type::Map(_) => Value::Null,
    }
}

/// A type as Go writes it, near enough for people.
fn go_name(ty: &Type) -> String {
    match ty {
        Type::Bool => "bool".into(),
        Type::Int32 | Type::IntOrString => "int32".into(),
        Type::Int64 => "int64".into(),
        Type::Double => "float64".into(),
        Type::String | Type::Time | Type::MicroTime | Type::Duration => "string".into(),
        Type::Bytes => "[]uint8".into(),
        Type::Quantity => "resource.Quantity".into(),
        Type::Any(_) => "interface {}".into(),
        Type::List(node) => format!("[]{}", go_name(&node.ty)),
        Type::Map(node) => format!("map[string]{}", go_name(&node.ty)),
        // `io.k8s.api.core.v1.PodSpec` is `v1.PodSpec` in Go.
        Type::Struct(schema) => {
            let parts: Vec<&str> = schema.name.rsplitn(3, '.').collect();
            match parts.as_slice() {
                [name, version, ..] => format!("{version}.{name}"),
                _ => schema.name.to_string(),
            }
        }
    }
}
