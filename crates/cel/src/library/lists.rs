//! What can be done with lists.

use std::cmp::Ordering;

use super::Decl;
use super::operators::add;
use crate::ast::op;
use crate::value::{Error, List, Value};

pub(crate) const TABLE: &[Decl] = &[
    Decl("isSorted", is_sorted, &[("list_{c}_is_sorted_bool", "list<{c}>.() bool")]),
    Decl("sum", |args| sum(args, Value::Int(0)), &[("list_int_sum_int", "list<int>.() int")]),
    Decl("sum", |args| sum(args, Value::Uint(0)), &[("list_uint_sum_uint", "list<uint>.() uint")]),
    Decl("sum", |args| sum(args, Value::Double(0.0)), &[("list_double_sum_double", "list<double>.() double")]),
    Decl("sum", |args| sum(args, Value::Duration(0)), &[("list_duration_sum_duration", "list<duration>.() duration")]),
    Decl("max", |args| extreme(args, "max", Ordering::Greater), &[("list_{c}_max_{c}", "list<{c}>.() {c}")]),
    Decl("min", |args| extreme(args, "min", Ordering::Less), &[("list_{c}_min_{c}", "list<{c}>.() {c}")]),
    Decl("indexOf", index_of, &[("list_a_index_of_int", "list<A>.(A) int")]),
    Decl("lastIndexOf", last_index_of, &[("list_a_last_index_of_int", "list<A>.(A) int")]),
    Decl("includes", includes, &[("list_includes_dyn_dyn", "dyn.(dyn) bool")]),
    Decl("slice", slice, &[("list_slice", "list<T>.(int, int) list<T>")]),
    Decl(
        "flatten",
        flatten,
        &[("list_flatten", "list<list<T>>.() list<T>"), ("list_flatten_int", "list<dyn>.(int) list<dyn>")],
    ),
    Decl("sort", sort, &[("list_{c}_sort", "list<{c}>.() list<{c}>")]),
    Decl(op::SORT_BY_KEYS, sort_by_keys, &[("list_{c}_sortByAssociatedKeys", "list<T>.(list<{c}>) list<T>")]),
    Decl("lists.range", range, &[("lists_range", "(int) list<int>")]),
    Decl("reverse", reverse, &[("list_reverse", "list<T>.() list<T>")]),
    Decl("distinct", distinct, &[("list_distinct", "list<T>.() list<T>")]),
];

/// How many items `lists.range` makes at most; as many cost a whole budget.
const MAX_RANGE: i64 = 1_000_000;

fn is_sorted<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::List(list)] = args else { return Err(Error::no_such_overload()) };
    let mut last: Option<Value<'a>> = None;
    for item in list.iter() {
        if let Some(last) = &last
            && last.compare(&item)? == Some(Ordering::Greater)
        {
            return Ok(Value::Bool(false));
        }
        last = Some(item);
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(args: &[Value<'a>], zero: Value<'a>) -> Result<Value<'a>, Error> {
    let [Value::List(list)] = args else { return Err(Error::no_such_overload()) };
    list.iter().try_fold(zero, |total, item| add(&[total, item]))
}

fn extreme<'a>(args: &[Value<'a>], name: &str, wanted: Ordering) -> Result<Value<'a>, Error> {
    let [Value::List(list)] = args else { return Err(Error::no_such_overload()) };
    let mut best: Option<Value<'a>> = None;
    for item in list.iter() {
        let better = match &best {
            Some(best) => item.compare(best)? == Some(wanted),
            None => true,
        };
        if better {
            best = Some(item);
        }
    }
    best.ok_or_else(|| Error::new(format!("{name} called on empty list")))
}

fn index_of<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::List(list), item] => Ok(Value::Int(list.position(item).map_or(-1, |i| i as i64))),
        _ => Err(Error::no_such_overload()),
    }
}

fn last_index_of<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::List(list), item] => {
            let found = (0..list.len()).rev().find(|i| list.get(*i).is_some_and(|own| own.equals(item)));
            Ok(Value::Int(found.map_or(-1, |i| i as i64)))
        }
        _ => Err(Error::no_such_overload()),
    }
}

fn includes<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::List(list), item] => Ok(Value::Bool(list.position(item).is_some())),
        [other, item] => Ok(Value::Bool(other.equals(item))),
        _ => Err(Error::no_such_overload()),
    }
}

fn slice<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = args else {
        return Err(Error::no_such_overload());
    };
    if *start < 0 || *end < 0 {
        return Err(Error::new(format!("cannot slice({start}, {end}), negative indexes not supported")));
    }
    if start > end {
        return Err(Error::new(format!(
            "cannot slice({start}, {end}), start index must be less than or equal to end index"
        )));
    }
    let length = list.len();
    if (length as i64) < *end {
        return Err(Error::new(format!("cannot slice({start}, {end}), list is length {length}")));
    }
    Ok(Value::list((*start as usize..*end as usize).filter_map(|i| list.get(i))))
}

fn flatten<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let (list, depth) = match args {
        [Value::List(list)] => (list, 1),
        [Value::List(list), Value::Int(depth)] => (list, *depth),
        _ => return Err(Error::no_such_overload()),
    };
    if depth < 0 {
        return Err(Error::new("level must be non-negative"));
    }
    fn into<'a>(list: &List<'a>, depth: i64, items: &mut Vec<Value<'a>>) {
        for item in list.iter() {
            match item {
                Value::List(inner) if depth > 0 => into(&inner, depth - 1, items),
                other => items.push(other),
            }
        }
    }
    let mut items = Vec::new();
    into(list, depth, &mut items);
    Ok(Value::list(items))
}

/// The positions of items in the order of their keys.
fn order<'a>(keys: &[Value<'a>]) -> Result<Vec<usize>, Error> {
    for pair in keys.windows(2) {
        if pair[0].type_name() != pair[1].type_name() {
            return Err(Error::new("list elements must have the same type"));
        }
        pair[0].compare(&pair[1]).map_err(|_| Error::new("list elements must be comparable"))?;
    }
    let mut positions: Vec<usize> = (0..keys.len()).collect();
    positions.sort_by(|a, b| keys[*a].compare(&keys[*b]).ok().flatten().unwrap_or(Ordering::Equal));
    Ok(positions)
}

fn sort<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::List(list)] = args else { return Err(Error::no_such_overload()) };
    let items: Vec<Value<'a>> = list.iter().collect();
    Ok(Value::list(order(&items)?.into_iter().map(|i| items[i].clone())))
}

fn sort_by_keys<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::List(list), Value::List(keys)] = args else { return Err(Error::no_such_overload()) };
    if list.len() != keys.len() {
        return Err(Error::new("@sortByAssociatedKeys() expected a list of the same size as the associated keys list"));
    }
    let keys: Vec<Value<'a>> = keys.iter().collect();
    Ok(Value::list(order(&keys)?.into_iter().filter_map(|i| list.get(i))))
}

fn range<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::Int(n)] if *n > MAX_RANGE => {
            Err(Error::new(format!("lists.range({n}) exceeds maximum size of {MAX_RANGE}")))
        }
        [Value::Int(n)] => Ok(Value::list((0..*n).map(Value::Int))),
        _ => Err(Error::no_such_overload()),
    }
}

fn reverse<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::List(list)] = args else { return Err(Error::no_such_overload()) };
    Ok(Value::list((0..list.len()).rev().filter_map(|i| list.get(i))))
}

fn distinct<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let [Value::List(list)] = args else { return Err(Error::no_such_overload()) };
    let mut items: Vec<Value<'a>> = Vec::new();
    for item in list.iter() {
        if !items.iter().any(|own| own.equals(&item)) {
            items.push(item);
        }
    }
    Ok(Value::list(items))
}
