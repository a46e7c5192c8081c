//! Regular expressions, compiled once and kept.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use regex::Regex;

use super::Decl;
use crate::value::{Error, Value};

pub(crate) const TABLE: &[Decl] = &[
    Decl("find", find, &[("string_find_string", "string.(string) string")]),
    Decl(
        "findAll",
        find_all,
        &[
            ("string_find_all_string", "string.(string) list<string>"),
            ("string_find_all_string_int", "string.(string, int) list<string>"),
        ],
    ),
];

/// How many compiled expressions are kept.
const MAX_KEPT: usize = 1024;
/// How large one may become, in bytes.
const MAX_SIZE: usize = 1 << 20;

/// The compiled form of an expression.
pub(crate) fn compile(pattern: &str) -> Result<Regex, Error> {
    static KEPT: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Default::default);
    let lock = || KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = lock().get(pattern) {
        return Ok(found.clone());
    }
    let regex = regex::RegexBuilder::new(pattern).size_limit(MAX_SIZE).build().map_err(|e| {
        let why = e.to_string();
        let why = why.rsplit("error: ").next().unwrap_or_default().trim().to_string();
        Error::new(format!("error parsing regexp: {why}: `{pattern}`"))
    })?;
    let mut kept = lock();
    if kept.len() >= MAX_KEPT {
        kept.clear();
    }
    kept.insert(pattern.to_string(), regex.clone());
    Ok(regex)
}

fn find<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::String(text), Value::String(pattern)] => {
            let regex = compile(pattern)?;
            Ok(Value::String(regex.find(text).map_or("", |m| m.as_str()).into()))
        }
        _ => Err(Error::no_such_overload()),
    }
}

fn find_all<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (text, pattern, limit) = match args {
        [Value::String(text), Value::String(pattern)] => (text, pattern, -1),
        [Value::String(text), Value::String(pattern), Value::Int(limit)] => (text, pattern, *limit),
        _ => return Err(Error::no_such_overload()),
    };
    let regex = compile(pattern)?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    Ok(Value::list(regex.find_iter(text).take(limit).map(|m| Value::String(m.as_str().into()))))
}
