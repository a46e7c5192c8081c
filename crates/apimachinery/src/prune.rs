//! Members that a schema does not know: named, and removed.

use crate::lookup::find_field;
use crate::schema::{Node, Struct, Type};
use crate::value::{Map, Value};

/// More unknown fields than this are not worth naming.
const MAX_NAMED: usize = 100;

/// The paths of members that the schema does not name: `spec.foo`, `spec.containers[0].bar`.
pub fn unknown_fields(tree: &Value, schema: &Struct) -> Vec<String> {
    let mut found = Vec::new();
    if let Value::Map(map) = tree {
        name_unknown(map, schema, "", true, &mut found);
    }
    found
}

/// Removes members that the schema does not name.
pub fn prune(tree: &mut Value, schema: &Struct) {
    if let Value::Map(map) = tree {
        prune_map(map, schema, true);
    }
}

/// apiVersion and kind belong to every top-level object and every embedded one.
fn is_type_field(schema: &Struct, top: bool, key: &str) -> bool {
    (top || schema.embedded_resource) && matches!(key, "apiVersion" | "kind")
        || schema.embedded_resource && key == "metadata"
}

fn name_unknown(map: &Map, schema: &Struct, path: &str, top: bool, found: &mut Vec<String>) {
    for (key, value) in map.iter() {
        if found.len() >= MAX_NAMED {
            return;
        }
        let here = || if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
        match find_field(schema, key) {
            Some(field) => name_below(value, &field.node, &here, found),
            None if schema.preserve_unknown || is_type_field(schema, top, key) => {}
            None => found.push(here()),
        }
    }
}

fn name_below(value: &Value, node: &Node, path: &dyn Fn() -> String, found: &mut Vec<String>) {
    match (value, &node.ty) {
        (Value::Map(map), Type::Struct(schema)) => name_unknown(map, schema, &path(), false, found),
        (Value::Map(map), Type::Map(inner)) => {
            for (key, item) in map.iter() {
                name_below(item, inner, &|| format!("{}.{key}", path()), found);
            }
        }
        (Value::Map(map), ty) if knows_nothing(ty) => {
            for key in map.keys().take(MAX_NAMED.saturating_sub(found.len())) {
                found.push(format!("{}.{key}", path()));
            }
        }
        (Value::List(items), Type::List(inner)) => {
            for (i, item) in items.iter().enumerate() {
                name_below(item, inner, &|| format!("{}[{i}]", path()), found);
            }
        }
        _ => {}
    }
}

/// Whether an object at such a position has no member that the schema knows.
fn knows_nothing(ty: &Type) -> bool {
    !matches!(ty, Type::Struct(_) | Type::Map(_) | Type::Any(_))
}

fn prune_map(map: &mut Map, schema: &Struct, top: bool) {
    if !schema.preserve_unknown {
        map.retain(|key, _| find_field(schema, key).is_some() || is_type_field(schema, top, key));
    }
    for (key, value) in map.iter_mut() {
        if let Some(field) = find_field(schema, key) {
            prune_below(value, &field.node);
        }
    }
}

fn prune_below(value: &mut Value, node: &Node) {
    match (value, &node.ty) {
        (Value::Map(map), Type::Struct(schema)) => prune_map(map, schema, false),
        (Value::Map(map), Type::Map(inner)) => {
            map.iter_mut().for_each(|(_, item)| prune_below(item, inner));
        }
        (Value::Map(map), ty) if knows_nothing(ty) => *map = Map::new(),
        (Value::List(items), Type::List(inner)) => {
            items.iter_mut().for_each(|item| prune_below(item, inner));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::json::parse;
    use crate::meta::PartialObjectMetadata;

    #[test]
    fn unknown_members_are_named_and_removed() {
        let text = br#"{"apiVersion":"v1","kind":"K","x":1,"metadata":{"name":"n","labels":{"any":"a"},
            "ownerReferences":[{"kind":"k","bogus":1}],"zz":{}}}"#;
        let mut tree = parse(text).unwrap_or_default();
        let schema = PartialObjectMetadata::schema();
        assert_eq!(unknown_fields(&tree, schema), ["metadata.ownerReferences[0].bogus", "metadata.zz", "x"]);
        prune(&mut tree, schema);
        assert!(unknown_fields(&tree, schema).is_empty());
        assert_eq!(tree.str_at(&["metadata", "labels", "any"]), Some("a"));
        assert_eq!(tree.str_at(&["kind"]), Some("K"));
    }
}
