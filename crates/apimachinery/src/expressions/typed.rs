//! A tree as its schema means it: formats are types, lists compare as they are declared, undeclared fields are absent.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cel::time::{Timestamp, parse_duration};
use cel::{HostList, HostMap, List, ListKind, Map};
use smol_str::SmolStr;

use super::names::unescape;
use super::tree::value;
use crate::schema::{Facets, ListType, Node, Struct, Type};
use crate::value::{self as tree, Value};

/// The value at a position.
pub fn typed<'a>(tree: &'a Value, node: &'a Node) -> cel::Value<'a> {
    match (&node.ty, tree) {
        (Type::Double, Value::Int(i)) => cel::Value::Double(*i as f64),
        (Type::Int32 | Type::Int64, Value::Float(x)) if x.fract() == 0.0 => cel::Value::Int(*x as i64),
        (Type::String, Value::String(text)) => formatted(text, &node.facets().format),
        (Type::List(item), Value::List(items)) => {
            cel::Value::List(List::Host(Arc::new(Items { items, item, facets: node.facets() })))
        }
        (Type::Map(item), Value::Map(map)) => cel::Value::Map(Map::Host(Arc::new(Members { map, item }))),
        (Type::Struct(shape), Value::Map(map)) => object(map, shape, shape.embedded_resource),
        (_, tree) => value(tree),
    }
}

/// An object; a resource has its type and name whatever its schema says.
pub fn object<'a>(map: &'a tree::Map, shape: &'a Struct, resource: bool) -> cel::Value<'a> {
    cel::Value::Map(Map::Host(Arc::new(Object { map, shape, resource })))
}

fn formatted<'a>(text: &SmolStr, format: &str) -> cel::Value<'a> {
    let plain = || cel::Value::String(text.clone());
    match format {
        "byte" => STANDARD.decode(text.as_str()).map_or_else(|_| plain(), |b| cel::Value::Bytes(Arc::from(b))),
        "duration" => parse_duration(text).map_or_else(plain, cel::Value::Duration),
        "date-time" => Timestamp::parse(text).map_or_else(plain, cel::Value::Timestamp),
        "date" => Timestamp::parse(&format!("{text}T00:00:00Z")).map_or_else(plain, cel::Value::Timestamp),
        _ => plain(),
    }
}

struct Items<'a> {
    items: &'a [Value],
    item: &'a Node,
    facets: &'a Facets,
}

impl<'a> HostList<'a> for Items<'a> {
    fn len(&self) -> usize {
        self.items.len()
    }

    fn get(&self, index: usize) -> Option<cel::Value<'a>> {
        self.items.get(index).map(|tree| typed(tree, self.item))
    }

    fn kind(&self) -> ListKind {
        match self.facets.list_type {
            Some(ListType::Set) => ListKind::Set,
            Some(ListType::Map) => {
                let keys = self.facets.list_map_keys.iter();
                let escaped = |key: &str| super::names::escape(key).map_or_else(|| key.into(), SmolStr::from);
                ListKind::Keyed(keys.map(|key| escaped(key)).collect())
            }
            _ => ListKind::Atomic,
        }
    }
}

struct Members<'a> {
    map: &'a tree::Map,
    item: &'a Node,
}

impl<'a> HostMap<'a> for Members<'a> {
    fn get(&self, key: &str) -> Result<Option<cel::Value<'a>>, cel::Error> {
        Ok(self.map.get(key).map(|tree| typed(tree, self.item)))
    }

    fn keys(&self) -> Vec<SmolStr> {
        self.map.keys().cloned().collect()
    }
}

struct Object<'a> {
    map: &'a tree::Map,
    shape: &'a Struct,
    resource: bool,
}

impl<'a> HostMap<'a> for Object<'a> {
    fn get(&self, key: &str) -> Result<Option<cel::Value<'a>>, cel::Error> {
        let name = unescape(key);
        let Some(tree) = self.map.get(&name) else { return Ok(None) };
        if self.resource && matches!(&*name, "apiVersion" | "kind" | "metadata") {
            return Ok(Some(value(tree)));
        }
        let field = self.shape.fields.iter().find(|f| f.name == name);
        Ok(field.map(|field| typed(tree, &field.node)))
    }

    fn keys(&self) -> Vec<SmolStr> {
        let known = |key: &&SmolStr| {
            let typing = self.resource && matches!(key.as_str(), "apiVersion" | "kind" | "metadata");
            typing || self.shape.fields.iter().any(|f| f.name == key.as_str())
        };
        let escaped = |key: &SmolStr| super::names::escape(key).map(SmolStr::from);
        self.map.keys().filter(known).filter_map(escaped).collect()
    }

    fn type_name(&self) -> Option<SmolStr> {
        Some("object".into())
    }
}
