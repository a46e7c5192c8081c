//! Constant defaults, filled in by schema.

use std::collections::HashMap;
use std::sync::OnceLock;

use parking_lot::RwLock;

use crate::schema::{Literal, Node, Struct, Type};
use crate::value::{Map, Value};

/// Fills in what is absent and has a default, at every depth. Where a schema does not allow `null`, a `null` counts as
/// absent.
pub fn set_defaults(tree: &mut Value, schema: &Struct) {
    if let Value::Map(map) = tree {
        if schema.name.is_empty() {
            drop_nulls(map, schema);
        }
        fields(map, schema);
    }
}

/// Removes members of a custom resource that are `null` where neither `null` nor a default is declared.
fn drop_nulls(map: &mut Map, schema: &Struct) {
    let node_of = |key: &str| schema.fields.iter().find(|f| f.name == key).map(|f| &f.node);
    map.retain(|key, value| !(value.is_null() && node_of(key).is_some_and(refuses_null)));
    for (key, value) in map.iter_mut() {
        if let Some(node) = node_of(key) {
            drop_nulls_below(value, node);
        }
    }
}

fn refuses_null(node: &Node) -> bool {
    !node.facets().nullable && node.facets().default.is_none()
}

fn drop_nulls_below(value: &mut Value, node: &Node) {
    match (value, &node.ty) {
        (Value::Map(map), Type::Struct(schema)) if schema.name.is_empty() => drop_nulls(map, schema),
        (Value::Map(map), Type::Map(inner)) => {
            map.retain(|_, item| !(item.is_null() && refuses_null(inner)));
            map.iter_mut().for_each(|(_, item)| drop_nulls_below(item, inner));
        }
        (Value::List(items), Type::List(inner)) => items.iter_mut().for_each(|item| drop_nulls_below(item, inner)),
        _ => {}
    }
}

fn fields(map: &mut Map, schema: &Struct) {
    for field in schema.fields.iter() {
        if field.is_inline() {
            if let Type::Struct(inner) = &field.node.ty {
                fields(map, inner);
            }
            continue;
        }
        let facets = field.node.facets();
        if let Some(default) = &facets.default {
            let absent = match map.get(&field.name) {
                None => true,
                Some(Value::Null) => !facets.nullable,
                Some(_) => false,
            };
            if absent {
                map.insert(field.name.as_ref(), literal(default));
            }
        }
        if let Some(value) = map.get_mut(&field.name) {
            below(value, &field.node);
        }
    }
}

fn below(value: &mut Value, node: &Node) {
    match (value, &node.ty) {
        (Value::Map(map), Type::Struct(schema)) => fields(map, schema),
        (Value::Map(map), Type::Map(inner)) => {
            for (_, item) in map.iter_mut() {
                element(item, inner);
            }
        }
        (Value::List(items), Type::List(inner)) => {
            for item in items {
                element(item, inner);
            }
        }
        _ => {}
    }
}

fn element(item: &mut Value, node: &Node) {
    let facets = node.facets();
    if item.is_null()
        && !facets.nullable
        && let Some(default) = &facets.default
    {
        *item = literal(default);
    }
    below(item, node);
}

/// The tree of a default; texts of built-ins are parsed once.
pub(crate) fn literal(default: &Literal) -> Value {
    static PARSED: OnceLock<RwLock<HashMap<&'static str, Value>>> = OnceLock::new();
    match default {
        Literal::Tree(tree) => Value::clone(tree),
        Literal::Json(text) => {
            let parsed = PARSED.get_or_init(Default::default);
            if let Some(value) = parsed.read().get(text) {
                return value.clone();
            }
            let value = crate::codec::json::parse(text.as_bytes()).unwrap_or_default();
            parsed.write().insert(text, value.clone());
            value
        }
    }
}
