//! Lists seen as sets.

use super::Decl;
use crate::value::{Error, List, Value};

pub(crate) const TABLE: &[Decl] = &[
    Decl("sets.contains", contains, &[("list_sets_contains_list", "(list<T>, list<T>) bool")]),
    Decl("sets.equivalent", equivalent, &[("list_sets_equivalent_list", "(list<T>, list<T>) bool")]),
    Decl("sets.intersects", intersects, &[("list_sets_intersects_list", "(list<T>, list<T>) bool")]),
];

fn within<'a>(part: &List<'a>, whole: &List<'a>) -> bool {
    part.iter().all(|item| whole.position(&item).is_some())
}

fn contains<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::List(a), Value::List(b)] => Ok(Value::Bool(within(b, a))),
        _ => Err(Error::no_such_overload()),
    }
}

fn equivalent<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::List(a), Value::List(b)] => Ok(Value::Bool(within(a, b) && within(b, a))),
        _ => Err(Error::no_such_overload()),
    }
}

fn intersects<'a>(args: &[Value<'a>]) -> Result<Value<'a>, Error> {
    match args {
        [Value::List(a), Value::List(b)] => Ok(Value::Bool(a.iter().any(|item| b.position(&item).is_some()))),
        _ => Err(Error::no_such_overload()),
    }
}
