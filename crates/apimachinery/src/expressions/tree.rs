//! Any tree as values, read in place, and values as trees.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cel::types::Type;
use cel::{HostList, HostMap, List, Map};
use smol_str::SmolStr;

use crate::value::{self as tree, Value};

/// A tree as a value: nothing is copied.
pub fn value(tree: &Value) -> cel::Value<'_> {
    match tree {
        Value::Null => cel::Value::Null,
        Value::Bool(b) => cel::Value::Bool(*b),
        Value::Int(i) => cel::Value::Int(*i),
        Value::Float(x) => cel::Value::Double(*x),
        Value::String(s) => cel::Value::String(s.clone()),
        Value::List(items) => cel::Value::List(List::Host(Arc::new(Items(items)))),
        Value::Map(map) => cel::Value::Map(Map::Host(Arc::new(Members(map)))),
    }
}

struct Items<'a>(&'a [Value]);

impl<'a> HostList<'a> for Items<'a> {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Option<cel::Value<'a>> {
        self.0.get(index).map(value)
    }
}

struct Members<'a>(&'a tree::Map);

impl<'a> HostMap<'a> for Members<'a> {
    fn get(&self, key: &str) -> Result<Option<cel::Value<'a>>, cel::Error> {
        Ok(self.0.get(key).map(value))
    }

    fn keys(&self) -> Vec<SmolStr> {
        self.0.keys().cloned().collect()
    }
}

/// A tree as a value of a declared type: times are times, objects have only the fields of their type.
pub fn of_type<'a>(tree: &'a Value, ty: &'a Type) -> cel::Value<'a> {
    match (ty, tree) {
        (Type::Timestamp, Value::String(text)) => {
            cel::time::Timestamp::parse(text).map_or(cel::Value::Null, cel::Value::Timestamp)
        }
        (Type::Struct(declared), Value::Map(map)) => cel::Value::Map(Map::Host(Arc::new(Object { map, declared }))),
        (Type::List(item), Value::List(items)) => cel::Value::List(List::Host(Arc::new(TypedItems { items, item }))),
        (_, tree) => value(tree),
    }
}

struct Object<'a> {
    map: &'a tree::Map,
    declared: &'a cel::Struct,
}

impl<'a> HostMap<'a> for Object<'a> {
    fn get(&self, key: &str) -> Result<Option<cel::Value<'a>>, cel::Error> {
        let cel::Fields::Declared(fields) = &self.declared.fields else { return Ok(self.map.get(key).map(value)) };
        let Some(ty) = fields.get(key) else { return Ok(None) };
        Ok(self.map.get(key).map(|tree| of_type(tree, ty)))
    }

    fn keys(&self) -> Vec<SmolStr> {
        self.map.keys().cloned().collect()
    }

    fn type_name(&self) -> Option<SmolStr> {
        Some(self.declared.name.clone())
    }
}

struct TypedItems<'a> {
    items: &'a [Value],
    item: &'a Type,
}

impl<'a> HostList<'a> for TypedItems<'a> {
    fn len(&self) -> usize {
        self.items.len()
    }

    fn get(&self, index: usize) -> Option<cel::Value<'a>> {
        self.items.get(index).map(|tree| of_type(tree, self.item))
    }
}

/// A value as a tree.
///
/// # Errors
/// A sentence, when a tree cannot hold it.
pub fn to_tree(value: &cel::Value<'_>) -> Result<Value, String> {
    Ok(match value {
        cel::Value::Null => Value::Null,
        cel::Value::Bool(b) => Value::Bool(*b),
        cel::Value::Int(i) => Value::Int(*i),
        cel::Value::Uint(u) => Value::Int(i64::try_from(*u).map_err(|_| "number out of range")?),
        cel::Value::Double(x) if x.is_finite() => Value::Float(*x),
        cel::Value::String(s) => Value::String(s.clone()),
        cel::Value::Bytes(bytes) => STANDARD.encode(bytes).into(),
        cel::Value::Duration(nanos) => cel::time::duration_text(*nanos).into(),
        cel::Value::Timestamp(time) => time.text().into(),
        cel::Value::List(list) => Value::List(list.iter().map(|item| to_tree(&item)).collect::<Result<_, _>>()?),
        cel::Value::Map(map) => {
            let mut members = tree::Map::new();
            for key in map.keys() {
                let found = map.get(&key).map_err(|e| e.message)?.unwrap_or(cel::Value::Null);
                let name: SmolStr = match key {
                    cel::Key::String(name) => name,
                    cel::Key::Int(i) => i.to_string().into(),
                    cel::Key::Uint(u) => u.to_string().into(),
                    cel::Key::Bool(b) => b.to_string().into(),
                };
                members.insert(name, to_tree(&found)?);
            }
            Value::Map(members)
        }
        cel::Value::Optional(Some(inner)) => to_tree(inner)?,
        other => return Err(format!("a value of type {} is not JSON", other.type_name())),
    })
}
