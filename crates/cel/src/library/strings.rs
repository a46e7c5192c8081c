//! What can be done with texts; positions count characters.

use smol_str::SmolStr;

use super::strings_format;
use super::{Decl, check_length};
use crate::value::{Error, Value};

pub(crate) const TABLE: &[Decl] = &[
    Decl("charAt", char_at, &[("string_char_at_int", "string.(int) string")]),
    Decl(
        "indexOf",
        index_of,
        &[
            ("string_index_of_string", "string.(string) int"),
            ("string_index_of_string_int", "string.(string, int) int"),
        ],
    ),
    Decl(
        "lastIndexOf",
        last_index_of,
        &[
            ("string_last_index_of_string", "string.(string) int"),
            ("string_last_index_of_string_int", "string.(string, int) int"),
        ],
    ),
    Decl("lowerAscii", lower, &[("string_lower_ascii", "string.() string")]),
    Decl("upperAscii", upper, &[("string_upper_ascii", "string.() string")]),
    Decl(
        "replace",
        replace,
        &[
            ("string_replace_string_string", "string.(string, string) string"),
            ("string_replace_string_string_int", "string.(string, string, int) string"),
        ],
    ),
    Decl(
        "split",
        split,
        &[
            ("string_split_string", "string.(string) list<string>"),
            ("string_split_string_int", "string.(string, int) list<string>"),
        ],
    ),
    Decl(
        "substring",
        substring,
        &[("string_substring_int", "string.(int) string"), ("string_substring_int_int", "string.(int, int) string")],
    ),
    Decl("trim", trim, &[("string_trim", "string.() string")]),
    Decl("format", strings_format::format, &[("string_format", "string.(list<dyn>) string")]),
    Decl("strings.quote", quote, &[("strings_quote", "(string) string")]),
    Decl(
        "join",
        join,
        &[("list_join", "list<string>.() string"), ("list_join_string", "list<string>.(string) string")],
    ),
    Decl("jsonpatch.escapeKey", escape_key, &[("string_jsonpatch_escapeKey_string", "(string) string")]),
];

fn out_of_range(index: i64) -> Error {
    Error::new(format!("index out of range: {index}"))
}

fn char_at<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::String(text), Value::Int(at)] = args else { return Err(Error::no_such_overload()) };
    let index = usize::try_from(*at).map_err(|_| out_of_range(*at))?;
    let mut chars = text.chars().skip(index);
    match chars.next() {
        Some(c) => Ok(Value::String(c.to_string().into())),
        None if index == text.chars().count() => Ok(Value::String("".into())),
        None => Err(out_of_range(*at)),
    }
}

/// Where in `text` the positions stand at which `part` begins, in characters.
fn occurrences<'t>(text: &'t [char], part: &'t [char]) -> impl DoubleEndedIterator<Item = usize> + 't {
    (0..=text.len().saturating_sub(part.len())).filter(move |i| text[*i..].starts_with(part))
}

fn index_of<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (text, part, from) = match args {
        [Value::String(text), Value::String(part)] => (text, part, 0),
        [Value::String(text), Value::String(part), Value::Int(from)] => (text, part, *from),
        _ => return Err(Error::no_such_overload()),
    };
    let (text, part): (Vec<char>, Vec<char>) = (text.chars().collect(), part.chars().collect());
    let start = usize::try_from(from).map_err(|_| out_of_range(from))?;
    if start > text.len() {
        return Err(out_of_range(from));
    }
    let found = occurrences(&text, &part).find(|i| *i >= start);
    Ok(Value::Int(found.map_or(-1, |i| i as i64)))
}

fn last_index_of<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (text, part, until) = match args {
        [Value::String(text), Value::String(part)] => (text, part, None),
        [Value::String(text), Value::String(part), Value::Int(until)] => (text, part, Some(*until)),
        _ => return Err(Error::no_such_overload()),
    };
    let (text, part): (Vec<char>, Vec<char>) = (text.chars().collect(), part.chars().collect());
    let last = match until {
        None => text.len(),
        Some(until) => match usize::try_from(until) {
            Ok(last) if last < text.len().max(1) => last,
            _ => return Err(out_of_range(until)),
        },
    };
    let found = occurrences(&text, &part).rev().find(|i| *i <= last);
    Ok(Value::Int(found.map_or(-1, |i| i as i64)))
}

fn lower<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::String(text)] => Ok(Value::String(text.to_ascii_lowercase().into())),
        _ => Err(Error::no_such_overload()),
    }
}

fn upper<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::String(text)] => Ok(Value::String(text.to_ascii_uppercase().into())),
        _ => Err(Error::no_such_overload()),
    }
}

fn replace<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (text, old, new, count) = match args {
        [Value::String(text), Value::String(old), Value::String(new)] => (text, old, new, -1),
        [Value::String(text), Value::String(old), Value::String(new), Value::Int(n)] => (text, old, new, *n),
        _ => return Err(Error::no_such_overload()),
    };
    // An empty text stands before each character and at the end.
    let times = if old.is_empty() { text.chars().count() + 1 } else { text.matches(old.as_str()).count() };
    let times = usize::try_from(count).map_or(times, |limit| times.min(limit));
    check_length(text.len().saturating_add(times.saturating_mul(new.len())))?;
    let replaced = match usize::try_from(count) {
        Ok(count) => text.replacen(old.as_str(), new, count),
        Err(_) => text.replace(old.as_str(), new),
    };
    Ok(Value::String(replaced.into()))
}

fn split<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (text, separator, count) = match args {
        [Value::String(text), Value::String(separator)] => (text, separator, -1),
        [Value::String(text), Value::String(separator), Value::Int(n)] => (text, separator, *n),
        _ => return Err(Error::no_such_overload()),
    };
    let limit = usize::try_from(count).unwrap_or(usize::MAX);
    let parts: Vec<SmolStr> = match limit {
        0 => Vec::new(),
        _ if separator.is_empty() => {
            // Every character is a part, and the last takes the rest.
            let mut parts = Vec::new();
            let mut rest = text.as_str();
            while let Some(c) = rest.chars().next() {
                let take = if parts.len() + 1 == limit { rest.len() } else { c.len_utf8() };
                parts.push(rest[..take].into());
                rest = &rest[take..];
            }
            parts
        }
        _ => text.splitn(limit, separator.as_str()).map(SmolStr::new).collect(),
    };
    Ok(Value::list(parts.into_iter().map(Value::String)))
}

fn substring<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (text, from, to) = match args {
        [Value::String(text), Value::Int(from)] => (text, *from, None),
        [Value::String(text), Value::Int(from), Value::Int(to)] => (text, *from, Some(*to)),
        _ => return Err(Error::no_such_overload()),
    };
    let length = text.chars().count() as i64;
    let end = to.unwrap_or(length);
    if let Some(to) = to
        && from > to
    {
        return Err(Error::new(format!("invalid substring range. start: {from}, end: {to}")));
    }
    for bound in [from, end] {
        if bound < 0 || bound > length {
            return Err(out_of_range(bound));
        }
    }
    let part: String = text.chars().skip(from as usize).take((end - from) as usize).collect();
    Ok(Value::String(part.into()))
}

fn trim<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::String(text)] => Ok(Value::String(text.trim().into())),
        _ => Err(Error::no_such_overload()),
    }
}

fn join<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (list, separator) = match args {
        [Value::List(list)] => (list, ""),
        [Value::List(list), Value::String(separator)] => (list, separator.as_str()),
        _ => return Err(Error::no_such_overload()),
    };
    let mut text = String::new();
    for (i, item) in list.iter().enumerate() {
        let Value::String(item) = item else {
            return Err(Error::new(format!("join: invalid input: {} is no string", item.type_name())));
        };
        if i > 0 {
            text.push_str(separator);
        }
        text.push_str(&item);
        check_length(text.len())?;
    }
    Ok(Value::String(text.into()))
}

fn quote<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::String(text)] = args else { return Err(Error::no_such_overload()) };
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\u{c}' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\u{b}' => quoted.push_str("\\v"),
            '\\' => quoted.push_str("\\\\"),
            '"' => quoted.push_str("\\\""),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    Ok(Value::String(quoted.into()))
}

fn escape_key<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::String(key)] => Ok(Value::String(key.replace('~', "~0").replace('/', "~1").into())),
        _ => Err(Error::no_such_overload()),
    }
}
