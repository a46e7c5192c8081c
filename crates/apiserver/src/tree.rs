//! Trees written down as JSON literals, and small steps on trees that admission, bootstrap and CRDs share.

use apimachinery::{Map, SmolStr, Value};

/// Turns a `serde_json::json!` literal into a tree.
pub fn tree(json: serde_json::Value) -> Value {
    match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(b) => Value::Bool(b),
        serde_json::Value::Number(n) => match n.as_i64() {
            Some(i) => Value::Int(i),
            None => Value::Float(n.as_f64().unwrap_or_default()),
        },
        serde_json::Value::String(s) => Value::String(s.into()),
        serde_json::Value::Array(items) => Value::List(items.into_iter().map(tree).collect()),
        serde_json::Value::Object(map) => {
            Value::Map(map.into_iter().map(|(k, v)| (SmolStr::from(k), tree(v))).collect())
        }
    }
}

/// The list at a path, empty when there is none.
pub fn list<'a>(tree: &'a Value, path: &[&str]) -> &'a [Value] {
    tree.at(path).and_then(Value::as_list).unwrap_or_default()
}

/// The text at a path, empty when there is none.
pub fn text<'a>(tree: &'a Value, path: &[&str]) -> &'a str {
    tree.str_at(path).unwrap_or_default()
}

/// The strings of the list at a path.
pub fn strings<'a>(tree: &'a Value, path: &[&str]) -> Vec<&'a str> {
    list(tree, path).iter().filter_map(Value::as_str).collect()
}

/// Whether the boolean at a path is true.
pub fn flag(tree: &Value, path: &[&str]) -> bool {
    tree.at(path).and_then(Value::as_bool).unwrap_or(false)
}

/// The map at a path, made on the way where it is missing or not a map.
pub fn map_mut<'a>(tree: &'a mut Value, path: &[&str]) -> &'a mut Map {
    let mut place = tree;
    for key in path {
        place = as_map(place).get_or_insert_with(key, || Value::Map(Map::new()));
    }
    as_map(place)
}

fn as_map(place: &mut Value) -> &mut Map {
    if !place.is_map() {
        *place = Value::Map(Map::new());
    }
    match place {
        Value::Map(map) => map,
        // The line above has made it one.
        _ => unreachable!("not a map"),
    }
}

/// The list at a path, made on the way where it is missing.
pub fn list_mut<'a>(tree: &'a mut Value, path: &[&str]) -> Option<&'a mut Vec<Value>> {
    let (last, parents) = path.split_last()?;
    let place = map_mut(tree, parents).get_or_insert_with(last, || Value::List(Vec::new()));
    if place.is_null() {
        *place = Value::List(Vec::new());
    }
    place.as_list_mut()
}

/// Sets the value at a path, making maps on the way.
pub fn set(tree: &mut Value, path: &[&str], value: impl Into<Value>) {
    if let Some((last, parents)) = path.split_last() {
        map_mut(tree, parents).insert(*last, value);
    }
}

/// An annotation's text.
pub fn annotation<'a>(tree: &'a Value, key: &str) -> Option<&'a str> {
    tree.str_at(&["metadata", "annotations", key])
}

/// A label's text.
pub fn label<'a>(tree: &'a Value, key: &str) -> Option<&'a str> {
    tree.str_at(&["metadata", "labels", key])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_are_made_as_needed() {
        let mut object = tree(json!({"spec": {"a": 1, "b": [1.5, "x", null, true]}}));
        set(&mut object, &["spec", "c", "d"], "e");
        list_mut(&mut object, &["spec", "l"]).unwrap().push(Value::from("one"));
        assert_eq!(text(&object, &["spec", "c", "d"]), "e");
        assert_eq!(strings(&object, &["spec", "l"]), ["one"]);
        assert_eq!(list(&object, &["spec", "b"])[0], Value::Float(1.5));
        assert!(list_mut(&mut object, &["spec", "a"]).is_none(), "a number is no list");
    }
}
