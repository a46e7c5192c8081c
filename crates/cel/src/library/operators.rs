//! Arithmetic, comparison, membership and indexing.

use std::cmp::Ordering;
use std::sync::Arc;

use super::Decl;
use crate::ast::op;
use crate::value::{Error, Key, Value};

/// What stands for operators that the interpreter evaluates itself.
fn never<'a>(_: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Err(Error::no_such_overload())
}

pub(crate) const TABLE: &[Decl] = &[
    Decl(op::AND, never, &[("logical_and", "(bool, bool) bool")]),
    Decl(op::OR, never, &[("logical_or", "(bool, bool) bool")]),
    Decl(op::CONDITIONAL, never, &[("conditional", "(bool, A, A) A")]),
    Decl(op::NOT_STRICTLY_FALSE, never, &[("not_strictly_false", "(bool) bool")]),
    Decl(
        op::MAP_INSERT,
        never,
        &[
            ("@mapInsert_map_key_value", "(map<K, V>, K, V) map<K, V>"),
            ("@mapInsert_map_map", "(map<K, V>, map<K, V>) map<K, V>"),
        ],
    ),
    Decl(op::NOT, not, &[("logical_not", "(bool) bool")]),
    Decl(op::EQUALS, equals, &[("equals", "(A, A) bool")]),
    Decl(op::NOT_EQUALS, not_equals, &[("not_equals", "(A, A) bool")]),
    Decl(op::LESS, less, LESS),
    Decl(op::LESS_EQUALS, less_equals, LESS_EQUALS),
    Decl(op::GREATER, greater, GREATER),
    Decl(op::GREATER_EQUALS, greater_equals, GREATER_EQUALS),
    Decl(
        op::ADD,
        add,
        &[
            ("add_int64", "(int, int) int"),
            ("add_uint64", "(uint, uint) uint"),
            ("add_double", "(double, double) double"),
            ("add_string", "(string, string) string"),
            ("add_bytes", "(bytes, bytes) bytes"),
            ("add_list", "(list<A>, list<A>) list<A>"),
            ("add_duration_duration", "(duration, duration) duration"),
            ("add_duration_timestamp", "(duration, timestamp) timestamp"),
            ("add_timestamp_duration", "(timestamp, duration) timestamp"),
        ],
    ),
    Decl(
        op::SUBTRACT,
        subtract,
        &[
            ("subtract_int64", "(int, int) int"),
            ("subtract_uint64", "(uint, uint) uint"),
            ("subtract_double", "(double, double) double"),
            ("subtract_duration_duration", "(duration, duration) duration"),
            ("subtract_timestamp_duration", "(timestamp, duration) timestamp"),
            ("subtract_timestamp_timestamp", "(timestamp, timestamp) duration"),
        ],
    ),
    Decl(
        op::MULTIPLY,
        multiply,
        &[
            ("multiply_int64", "(int, int) int"),
            ("multiply_uint64", "(uint, uint) uint"),
            ("multiply_double", "(double, double) double"),
        ],
    ),
    Decl(
        op::DIVIDE,
        divide,
        &[
            ("divide_int64", "(int, int) int"),
            ("divide_uint64", "(uint, uint) uint"),
            ("divide_double", "(double, double) double"),
        ],
    ),
    Decl(op::MODULO, modulo, &[("modulo_int64", "(int, int) int"), ("modulo_uint64", "(uint, uint) uint")]),
    Decl(op::NEGATE, negate, &[("negate_int64", "(int) int"), ("negate_double", "(double) double")]),
    Decl(op::IN, contains, &[("in_list", "(A, list<A>) bool"), ("in_map", "(A, map<A, B>) bool")]),
    Decl(
        op::INDEX,
        index,
        &[
            ("index_list", "(list<A>, int) A"),
            ("index_map", "(map<A, B>, A) B"),
            ("optional_list_index_value", "(optional<list<V>>, int) optional<V>"),
            ("optional_map_index_value", "(optional<map<K, V>>, K) optional<V>"),
        ],
    ),
    Decl(
        op::OPT_INDEX,
        optional_index,
        &[
            ("list_optindex_optional_int", "(list<V>, int) optional<V>"),
            ("optional_list_optindex_optional_int", "(optional<list<V>>, int) optional<V>"),
            ("map_optindex_optional_value", "(map<K, V>, K) optional<V>"),
            ("optional_map_optindex_optional_value", "(optional<map<K, V>>, K) optional<V>"),
        ],
    ),
];

macro_rules! relation {
    ($name:ident, $prefix:literal) => {
        const $name: &[(&str, &str)] = &[
            (concat!($prefix, "_{c}"), "({c}, {c}) bool"),
            (concat!($prefix, "_int64_double"), "(int, double) bool"),
            (concat!($prefix, "_int64_uint64"), "(int, uint) bool"),
            (concat!($prefix, "_uint64_double"), "(uint, double) bool"),
            (concat!($prefix, "_uint64_int64"), "(uint, int) bool"),
            (concat!($prefix, "_double_int64"), "(double, int) bool"),
            (concat!($prefix, "_double_uint64"), "(double, uint) bool"),
        ];
    };
}
relation!(LESS, "less");
relation!(LESS_EQUALS, "less_equals");
relation!(GREATER, "greater");
relation!(GREATER_EQUALS, "greater_equals");

fn overflow(of: &str) -> Error {
    Error::new(format!("{of} overflow"))
}

fn not<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::Bool(b)] => Ok(Value::Bool(!b)),
        _ => Err(Error::no_such_overload()),
    }
}

fn equals<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [a, b] => Ok(Value::Bool(a.equals(b))),
        _ => Err(Error::no_such_overload()),
    }
}

fn not_equals<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [a, b] => Ok(Value::Bool(!a.equals(b))),
        _ => Err(Error::no_such_overload()),
    }
}

fn compared<'a>(args: &[Value<'a>], holds: fn(Ordering) -> bool) -> Result<Value<'a>, Error> {
    match args {
        [a, b] => Ok(Value::Bool(a.compare(b)?.is_some_and(holds))),
        _ => Err(Error::no_such_overload()),
    }
}

fn less<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    compared(args, Ordering::is_lt)
}

fn less_equals<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    compared(args, Ordering::is_le)
}

fn greater<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    compared(args, Ordering::is_gt)
}

fn greater_equals<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    compared(args, Ordering::is_ge)
}

pub(crate) fn add<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(match args {
        [Value::Int(a), Value::Int(b)] => Value::Int(a.checked_add(*b).ok_or_else(|| overflow("integer"))?),
        [Value::Uint(a), Value::Uint(b)] => Value::Uint(a.checked_add(*b).ok_or_else(|| overflow("unsigned integer"))?),
        [Value::Double(a), Value::Double(b)] => Value::Double(a + b),
        [Value::String(a), Value::String(b)] => {
            let mut text = String::with_capacity(a.len() + b.len());
            text.push_str(a);
            text.push_str(b);
            Value::String(text.into())
        }
        [Value::Bytes(a), Value::Bytes(b)] => Value::Bytes(Arc::from([&a[..], &b[..]].concat())),
        [Value::List(a), Value::List(b)] => Value::List(a.plus(b)),
        [Value::Duration(a), Value::Duration(b)] => {
            Value::Duration(a.checked_add(*b).ok_or_else(|| overflow("duration"))?)
        }
        [Value::Timestamp(t), Value::Duration(d)] | [Value::Duration(d), Value::Timestamp(t)] => {
            Value::Timestamp(t.plus(*d).ok_or_else(|| overflow("timestamp"))?)
        }
        _ => return Err(Error::no_such_overload()),
    })
}

fn subtract<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(match args {
        [Value::Int(a), Value::Int(b)] => Value::Int(a.checked_sub(*b).ok_or_else(|| overflow("integer"))?),
        [Value::Uint(a), Value::Uint(b)] => Value::Uint(a.checked_sub(*b).ok_or_else(|| overflow("unsigned integer"))?),
        [Value::Double(a), Value::Double(b)] => Value::Double(a - b),
        [Value::Duration(a), Value::Duration(b)] => {
            Value::Duration(a.checked_sub(*b).ok_or_else(|| overflow("duration"))?)
        }
        [Value::Timestamp(t), Value::Duration(d)] => {
            let back = d.checked_neg().and_then(|d| t.plus(d));
            Value::Timestamp(back.ok_or_else(|| overflow("timestamp"))?)
        }
        [Value::Timestamp(a), Value::Timestamp(b)] => Value::Duration(a.since(b).ok_or_else(|| overflow("duration"))?),
        _ => return Err(Error::no_such_overload()),
    })
}

fn multiply<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(match args {
        [Value::Int(a), Value::Int(b)] => Value::Int(a.checked_mul(*b).ok_or_else(|| overflow("integer"))?),
        [Value::Uint(a), Value::Uint(b)] => Value::Uint(a.checked_mul(*b).ok_or_else(|| overflow("unsigned integer"))?),
        [Value::Double(a), Value::Double(b)] => Value::Double(a * b),
        _ => return Err(Error::no_such_overload()),
    })
}

fn divide<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let by_zero = || Error::new("division by zero");
    Ok(match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => return Err(by_zero()),
        [Value::Int(a), Value::Int(b)] => Value::Int(a.checked_div(*b).ok_or_else(|| overflow("integer"))?),
        [Value::Uint(a), Value::Uint(b)] => Value::Uint(a / b),
        [Value::Double(a), Value::Double(b)] => Value::Double(a / b),
        _ => return Err(Error::no_such_overload()),
    })
}

fn modulo<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let by_zero = || Error::new("modulus by zero");
    Ok(match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => return Err(by_zero()),
        [Value::Int(a), Value::Int(b)] => Value::Int(a.checked_rem(*b).ok_or_else(|| overflow("integer"))?),
        [Value::Uint(a), Value::Uint(b)] => Value::Uint(a % b),
        _ => return Err(Error::no_such_overload()),
    })
}

fn negate<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(match args {
        [Value::Int(a)] => Value::Int(a.checked_neg().ok_or_else(|| overflow("integer"))?),
        [Value::Double(a)] => Value::Double(-a),
        _ => return Err(Error::no_such_overload()),
    })
}

fn contains<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Bool(match args {
        [item, Value::List(list)] => list.position(item).is_some(),
        [key, Value::Map(map)] => match Key::of(key) {
            Some(key) => map.get(&key)?.is_some(),
            None => false,
        },
        _ => return Err(Error::no_such_overload()),
    }))
}

/// The position that a number means in a list.
fn position(value: &Value<'_>) -> Result<i64, Error> {
    match value {
        Value::Int(i) => Ok(*i),
        Value::Uint(u) => i64::try_from(*u).map_err(|_| Error::new(format!("index out of bounds: {u}"))),
        Value::Double(d) if d.fract() == 0.0 => Ok(*d as i64),
        _ => Err(Error::no_such_overload()),
    }
}

/// What stands under an index or key, if something does.
fn find<'a>(container: &Value<'a>, at: &Value<'a>) -> Result<Option<Value<'a>>, Error> {
    match container {
        Value::List(list) => Ok(usize::try_from(position(at)?).ok().and_then(|i| list.get(i))),
        Value::Map(map) => match Key::of(at) {
            Some(key) => map.get(&key),
            None => Err(Error::new(format!("unsupported key type: {}", at.type_name()))),
        },
        _ => Err(Error::no_such_overload()),
    }
}

fn index<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::Optional(_), _] => optional_index(args),
        [container, at] => match find(container, at)? {
            Some(value) => Ok(value),
            None if matches!(container, Value::List(_)) => {
                Err(Error::new(format!("index out of bounds: {}", position(at)?)))
            }
            None => Err(Error::no_such_key(super::strings_format::show(at))),
        },
        _ => Err(Error::no_such_overload()),
    }
}

fn optional_index<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::Optional(None), _] => Ok(Value::Optional(None)),
        [Value::Optional(Some(container)), at] => Ok(Value::Optional(find(container, at)?.map(Arc::new))),
        [container, at] => Ok(Value::Optional(find(container, at)?.map(Arc::new))),
        _ => Err(Error::no_such_overload()),
    }
}
