//! Sizes and searches in texts: what every CEL has.

use super::Decl;
use crate::value::{Error, Value};

pub(crate) const TABLE: &[Decl] = &[
    Decl(
        "size",
        size,
        &[
            ("size_bytes", "(bytes) int"),
            ("bytes_size", "bytes.() int"),
            ("size_list", "(list<A>) int"),
            ("list_size", "list<A>.() int"),
            ("size_map", "(map<A, B>) int"),
            ("map_size", "map<A, B>.() int"),
            ("size_string", "(string) int"),
            ("string_size", "string.() int"),
        ],
    ),
    Decl("contains", contains, &[("contains_string", "string.(string) bool")]),
    Decl("startsWith", starts_with, &[("starts_with_string", "string.(string) bool")]),
    Decl("endsWith", ends_with, &[("ends_with_string", "string.(string) bool")]),
    Decl("matches", matches, &[("matches", "(string, string) bool"), ("matches_string", "string.(string) bool")]),
];

fn size<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [v @ (Value::String(_) | Value::Bytes(_) | Value::List(_))] => Ok(Value::Int(v.size() as i64)),
        [v @ Value::Map(map)] if map.type_name().is_none() => Ok(Value::Int(v.size() as i64)),
        _ => Err(Error::no_such_overload()),
    }
}

fn contains<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::String(text), Value::String(part)] => Ok(Value::Bool(text.contains(part.as_str()))),
        _ => Err(Error::no_such_overload()),
    }
}

fn starts_with<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::String(text), Value::String(part)] => Ok(Value::Bool(text.starts_with(part.as_str()))),
        _ => Err(Error::no_such_overload()),
    }
}

fn ends_with<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::String(text), Value::String(part)] => Ok(Value::Bool(text.ends_with(part.as_str()))),
        _ => Err(Error::no_such_overload()),
    }
}

fn matches<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::String(text), Value::String(pattern)] => {
            Ok(Value::Bool(super::regex::compile(pattern)?.is_match(text)))
        }
        _ => Err(Error::no_such_overload()),
    }
}
