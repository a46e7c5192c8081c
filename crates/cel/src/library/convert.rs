//! From one type to another.

use std::sync::Arc;

use smol_str::SmolStr;

use super::Decl;
use crate::opaque::Opaque;
use crate::time::{Timestamp, duration_text, parse_duration};
use crate::value::{Error, Value};

pub(crate) const TABLE: &[Decl] = &[
    Decl("type", type_of, &[("type", "(A) type<A>")]),
    Decl("dyn", dynamic, &[("to_dyn", "(A) dyn")]),
    Decl("bool", to_bool, &[("bool_to_bool", "(bool) bool"), ("string_to_bool", "(string) bool")]),
    Decl("bytes", to_bytes, &[("bytes_to_bytes", "(bytes) bytes"), ("string_to_bytes", "(string) bytes")]),
    Decl(
        "double",
        to_double,
        &[
            ("double_to_double", "(double) double"),
            ("int64_to_double", "(int) double"),
            ("string_to_double", "(string) double"),
            ("uint64_to_double", "(uint) double"),
        ],
    ),
    Decl(
        "int",
        to_int,
        &[
            ("int64_to_int64", "(int) int"),
            ("double_to_int64", "(double) int"),
            ("duration_to_int64", "(duration) int"),
            ("string_to_int64", "(string) int"),
            ("timestamp_to_int64", "(timestamp) int"),
            ("uint64_to_int64", "(uint) int"),
        ],
    ),
    Decl(
        "uint",
        to_uint,
        &[
            ("uint64_to_uint64", "(uint) uint"),
            ("double_to_uint64", "(double) uint"),
            ("int64_to_uint64", "(int) uint"),
            ("string_to_uint64", "(string) uint"),
        ],
    ),
    Decl(
        "string",
        to_string,
        &[
            ("string_to_string", "(string) string"),
            ("bool_to_string", "(bool) string"),
            ("bytes_to_string", "(bytes) string"),
            ("double_to_string", "(double) string"),
            ("duration_to_string", "(duration) string"),
            ("int64_to_string", "(int) string"),
            ("timestamp_to_string", "(timestamp) string"),
            ("uint64_to_string", "(uint) string"),
            ("ip_to_string", "(net.IP) string"),
            ("cidr_to_string", "(net.CIDR) string"),
        ],
    ),
    Decl(
        "timestamp",
        to_timestamp,
        &[
            ("timestamp_to_timestamp", "(timestamp) timestamp"),
            ("int64_to_timestamp", "(int) timestamp"),
            ("string_to_timestamp", "(string) timestamp"),
        ],
    ),
    Decl(
        "duration",
        to_duration,
        &[
            ("duration_to_duration", "(duration) duration"),
            ("int64_to_duration", "(int) duration"),
            ("string_to_duration", "(string) duration"),
        ],
    ),
];

fn failed(value: &Value<'_>, to: &str) -> Error {
    Error::new(format!("type conversion error from '{}' to '{to}'", value.type_name()))
}

fn type_of<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [value] => Ok(Value::Type(value.type_name())),
        _ => Err(Error::no_such_overload()),
    }
}

fn dynamic<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [value] => Ok(value.clone()),
        _ => Err(Error::no_such_overload()),
    }
}

fn to_bool<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::Bool(b)] => Ok(Value::Bool(*b)),
        [value @ Value::String(text)] => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            _ => Err(failed(value, "bool")),
        },
        _ => Err(Error::no_such_overload()),
    }
}

fn to_bytes<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::Bytes(b)] => Ok(Value::Bytes(b.clone())),
        [Value::String(text)] => Ok(Value::Bytes(Arc::from(text.as_bytes()))),
        _ => Err(Error::no_such_overload()),
    }
}

fn to_double<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Double(match args {
        [Value::Double(d)] => *d,
        [Value::Int(i)] => *i as f64,
        [Value::Uint(u)] => *u as f64,
        [value @ Value::String(text)] => text.parse().map_err(|_| failed(value, "double"))?,
        _ => return Err(Error::no_such_overload()),
    }))
}

fn to_int<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let overflow = || Error::new("integer overflow");
    Ok(Value::Int(match args {
        [Value::Int(i)] => *i,
        [Value::Uint(u)] => i64::try_from(*u).map_err(|_| overflow())?,
        [Value::Double(d)] if d.abs() < 9.223_372_036_854_775e18 => d.trunc() as i64,
        [Value::Double(_)] => return Err(overflow()),
        [Value::Duration(nanos)] => *nanos,
        [Value::Timestamp(t)] => t.seconds,
        [value @ Value::String(text)] => text.parse().map_err(|_| failed(value, "int"))?,
        _ => return Err(Error::no_such_overload()),
    }))
}

fn to_uint<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let overflow = || Error::new("unsigned integer overflow");
    Ok(Value::Uint(match args {
        [Value::Uint(u)] => *u,
        [Value::Int(i)] => u64::try_from(*i).map_err(|_| overflow())?,
        [Value::Double(d)] if *d >= 0.0 && *d < 1.844_674_407_370_955e19 => d.trunc() as u64,
        [Value::Double(_)] => return Err(overflow()),
        [value @ Value::String(text)] => text.parse().map_err(|_| failed(value, "uint"))?,
        _ => return Err(Error::no_such_overload()),
    }))
}

/// A number as Go prints it: with an exponent when it is very large or small.
pub(crate) fn double_text(d: f64) -> String {
    if d.is_nan() {
        return "NaN".into();
    }
    if d.is_infinite() {
        return if d > 0.0 { "+Inf".into() } else { "-Inf".into() };
    }
    let scientific = format!("{d:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if d != 0.0 && !(-4..21).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.abs());
    }
    format!("{d}")
}

fn to_string<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let text: SmolStr = match args {
        [Value::String(text)] => text.clone(),
        [Value::Bool(b)] => if *b { "true" } else { "false" }.into(),
        [value @ Value::Bytes(bytes)] => std::str::from_utf8(bytes).map_err(|_| failed(value, "string"))?.into(),
        [Value::Double(d)] => double_text(*d).into(),
        [Value::Int(i)] => i.to_string().into(),
        [Value::Uint(u)] => u.to_string().into(),
        [Value::Duration(nanos)] => duration_text(*nanos).into(),
        [Value::Timestamp(t)] => t.text().into(),
        [Value::Opaque(Opaque::Ip(ip))] => ip.to_string().into(),
        [Value::Opaque(Opaque::Cidr(ip, bits))] => format!("{ip}/{bits}").into(),
        _ => return Err(Error::no_such_overload()),
    };
    Ok(Value::String(text))
}

fn to_timestamp<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Timestamp(match args {
        [Value::Timestamp(t)] => *t,
        [Value::Int(seconds)] => Timestamp::new(*seconds, 0).ok_or_else(|| Error::new("timestamp overflow"))?,
        [value @ Value::String(text)] => {
            Timestamp::parse(text).ok_or_else(|| failed(value, "google.protobuf.Timestamp"))?
        }
        _ => return Err(Error::no_such_overload()),
    }))
}

fn to_duration<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Duration(match args {
        [Value::Duration(nanos)] | [Value::Int(nanos)] => *nanos,
        [value @ Value::String(text)] => {
            parse_duration(text).ok_or_else(|| failed(value, "google.protobuf.Duration"))?
        }
        _ => return Err(Error::no_such_overload()),
    }))
}
