//! What the code of `#[derive(Api)]` calls: non-generic where it can be, since six hundred structs share it.

use smol_str::SmolStr;

use crate::schema::{Api, Mismatch};
use crate::value::{Map, Value};

/// The members of an object; `None` for `null`, which is the zero value.
pub fn object(value: &Value) -> Result<Option<&Map>, Mismatch> {
    match value {
        Value::Map(map) => Ok(Some(map)),
        Value::Null => Ok(None),
        other => Err(Mismatch::new("object", other)),
    }
}

/// A member, the zero value when it is absent.
pub fn member<T: Api>(map: &Map, name: &'static str) -> Result<T, Mismatch> {
    match map.get(name) {
        Some(value) => T::from_value(value).map_err(|m| m.below(name)),
        // Every type reads `null` as its zero value.
        None => T::from_value(&Value::Null),
    }
}

/// Takes an inlined struct's members into its parent's.
pub fn merge(out: &mut Vec<(SmolStr, Value)>, inner: Value) {
    if let Value::Map(map) = inner {
        out.extend(map);
    }
}

pub fn finish(out: Vec<(SmolStr, Value)>) -> Value {
    Value::Map(Map::from_entries(out).0)
}

impl Mismatch {
    pub fn new(expected: &'static str, found: &Value) -> Mismatch {
        Mismatch { path: Vec::new(), expected, found: found.type_name() }
    }

    /// The same mismatch seen from one step further out.
    #[must_use]
    pub fn below(mut self, step: &str) -> Mismatch {
        self.path.insert(0, step.to_string());
        self
    }
}
