//! Values that may be absent.

use super::Decl;
use crate::value::{Error, Value};

pub(crate) const TABLE: &[Decl] = &[
    Decl("optional.of", of, &[("optional_of", "(V) optional<V>")]),
    Decl("optional.ofNonZeroValue", of_non_zero, &[("optional_ofNonZeroValue", "(V) optional<V>")]),
    Decl("optional.none", none, &[("optional_none", "() optional<V>")]),
    Decl("hasValue", has_value, &[("optional_hasValue", "optional<V>.() bool")]),
    Decl("value", value, &[("optional_value", "optional<V>.() V")]),
    Decl("or", or, &[("optional_or_optional", "optional<V>.(optional<V>) optional<V>")]),
    Decl("orValue", or_value, &[("optional_orValue_value", "optional<V>.(V) V")]),
    Decl("first", first, &[("list_first", "list<V>.() optional<V>")]),
    Decl("last", last, &[("list_last", "list<V>.() optional<V>")]),
    Decl("optional.unwrap", unwrap, &[("optional_unwrap", "(list<optional<V>>) list<V>")]),
    Decl("unwrapOpt", unwrap, &[("optional_unwrapOpt", "list<optional<V>>.() list<V>")]),
];

fn of<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [value] => Ok(Value::some(value.clone())),
        _ => Err(Error::no_such_overload()),
    }
}

fn of_non_zero<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [value] if value.is_zero() => Ok(Value::Optional(None)),
        _ => of(args),
    }
}

fn none<'a>(_: &[Value<'a>]) -> Result<Value<'a>, Error> {
    Ok(Value::Optional(None))
}

fn has_value<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::Optional(inner)] => Ok(Value::Bool(inner.is_some())),
        _ => Err(Error::no_such_overload()),
    }
}

fn value<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::Optional(Some(inner))] => Ok((**inner).clone()),
        [Value::Optional(None)] => Err(Error::new("optional.none() dereference")),
        _ => Err(Error::no_such_overload()),
    }
}

fn or<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::Optional(None), other @ Value::Optional(_)] => Ok(other.clone()),
        [some @ Value::Optional(_), Value::Optional(_)] => Ok(some.clone()),
        _ => Err(Error::no_such_overload()),
    }
}

fn or_value<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::Optional(Some(inner)), _] => Ok((**inner).clone()),
        [Value::Optional(None), other] => Ok(other.clone()),
        _ => Err(Error::no_such_overload()),
    }
}

fn first<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::List(list)] => Ok(list.get(0).map_or(Value::Optional(None), Value::some)),
        _ => Err(Error::no_such_overload()),
    }
}

fn last<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::List(list)] => {
            let last = list.len().checked_sub(1).and_then(|i| list.get(i));
            Ok(last.map_or(Value::Optional(None), Value::some))
        }
        _ => Err(Error::no_such_overload()),
    }
}

fn unwrap<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::List(list)] = args else { return Err(Error::no_such_overload()) };
    let mut items = Vec::new();
    for item in list.iter() {
        match item {
            Value::Optional(Some(inner)) => items.push((*inner).clone()),
            Value::Optional(None) => {}
            other => return Err(Error::new(format!("value {} is not optional", other.type_name()))),
        }
    }
    Ok(Value::list(items))
}
