//! Tests that every kind passes, and the checks that the tests of single kinds use.

use std::collections::BTreeSet;

use apimachinery::kind::{Storage, Write};
use apimachinery::{Errors, Kind, Map, RulesCx, Value};

/// Reads JSON as a tree.
pub(crate) fn tree(json: &str) -> Value {
    fn convert(value: serde_json::Value) -> Value {
        match value {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(b) => Value::Bool(b),
            serde_json::Value::Number(n) => {
                n.as_i64().map_or_else(|| Value::Float(n.as_f64().unwrap_or(0.0)), Value::Int)
            }
            serde_json::Value::String(s) => s.into(),
            serde_json::Value::Array(items) => Value::List(items.into_iter().map(convert).collect()),
            serde_json::Value::Object(map) => {
                Value::Map(map.into_iter().map(|(k, v)| (k.into(), convert(v))).collect::<Map>())
            }
        }
    }
    convert(serde_json::from_str(json).expect("the test's JSON is well formed"))
}

/// Sets the value at a dotted path (`spec.containers.0.name`); `null` removes it.
pub(crate) fn set(value: &mut Value, path: &str, new: Value) {
    let (step, rest) = path.split_once('.').map_or((path, None), |(step, rest)| (step, Some(rest)));
    match (value, rest) {
        (Value::List(items), None) => items[step.parse::<usize>().unwrap()] = new,
        (Value::List(items), Some(rest)) => set(&mut items[step.parse::<usize>().unwrap()], rest, new),
        (Value::Map(map), None) if new.is_null() => {
            map.remove(step);
        }
        (Value::Map(map), None) => {
            map.insert(step, new);
        }
        (Value::Map(map), Some(rest)) => {
            set(map.get_or_insert_with(step, || Value::Map(Map::new())), rest, new);
        }
        (other, _) => panic!("{step} of {other:?}"),
    }
}

/// The example of a kind as a server would decode it.
pub(crate) fn example(kind: &Kind) -> Value {
    let mut object = tree(kind.example);
    if kind.namespaced {
        set(&mut object, "metadata.namespace", "default".into());
    }
    default(kind, &mut object);
    object
}

pub(crate) fn default(kind: &Kind, object: &mut Value) {
    (kind.hooks.set_defaults.unwrap())(object).unwrap();
}

/// Runs the rules of one write and returns what they refuse.
pub(crate) fn write(kind: &Kind, object: &mut Value, what: Write<'_>, subresource: &str) -> Vec<String> {
    let mut errors = Errors::new();
    let cx = RulesCx { now: (1_700_000_000, 0), namespace: "default", subresource, ..RulesCx::default() };
    (kind.hooks.write.unwrap())(object, what, &cx, &mut errors, &mut Vec::new()).unwrap();
    errors.iter().map(|e| e.to_string()).collect()
}

/// Creates the kind's example with changes, and wants exactly these errors.
pub(crate) fn refuses(kind: &Kind, changes: &[(&str, &str)], expected: &[&str]) {
    let mut object = tree(kind.example);
    if kind.namespaced {
        set(&mut object, "metadata.namespace", "default".into());
    }
    for (path, json) in changes {
        set(&mut object, path, tree(json));
    }
    default(kind, &mut object);
    assert_eq!(write(kind, &mut object, Write::Create, ""), expected, "{changes:?}");
}

/// Updates the kind's example with changes, and wants exactly these errors.
pub(crate) fn refuses_update(kind: &Kind, changes: &[(&str, &str)], expected: &[&str]) {
    let mut old = example(kind);
    assert_eq!(write(kind, &mut old, Write::Create, ""), Vec::<String>::new());
    let mut new = old.clone();
    for (path, json) in changes {
        set(&mut new, path, tree(json));
    }
    default(kind, &mut new);
    assert_eq!(write(kind, &mut new, Write::Update(&old), ""), expected, "{changes:?}");
}

#[test]
fn every_example_is_accepted_and_stays_the_same() {
    for kind in crate::kinds() {
        let mut object = example(&kind);
        let faults = write(&kind, &mut object, Write::Create, "");
        assert!(faults.is_empty(), "{} {}: {faults:#?}", kind.group, kind.kind);
        let old = object.clone();
        let faults = write(&kind, &mut object, Write::Update(&old), "");
        assert!(faults.is_empty(), "update of {} {}: {faults:#?}", kind.group, kind.kind);
        assert_eq!(object, old, "an update that changes nothing changes nothing: {} {}", kind.group, kind.kind);
        let mut again = object.clone();
        default(&kind, &mut again);
        assert_eq!(again, object, "defaults are defaulted once: {} {}", kind.group, kind.kind);
    }
}

#[test]
fn the_fields_of_every_example_survive_the_struct() {
    fn contains(whole: &Value, part: &Value, path: &str) {
        match (whole, part) {
            (Value::Map(whole), Value::Map(part)) => {
                for (key, part) in part.iter() {
                    let found = whole.get(key);
                    if found.is_none() && (part.as_map().is_some_and(Map::is_empty) || *part == Value::from("")) {
                        continue;
                    }
                    contains(found.unwrap_or_else(|| panic!("{path}.{key} is gone")), part, &format!("{path}.{key}"));
                }
            }
            (Value::List(whole), Value::List(part)) => {
                assert_eq!(whole.len(), part.len(), "{path}");
                whole.iter().zip(part).for_each(|(whole, part)| contains(whole, part, path));
            }
            _ => assert_eq!(whole, part, "{path}"),
        }
    }
    for kind in crate::kinds() {
        contains(&example(&kind), &tree(kind.example), &kind.kind);
    }
}

#[test]
fn names_are_served_once_and_stored_once() {
    let (mut served, mut stored) = (BTreeSet::new(), BTreeSet::new());
    for kind in crate::kinds() {
        assert!(served.insert(kind.gvr().to_string()), "{} twice", kind.gvr());
        if let Storage::Stored { prefix, storage: true } = &kind.storage {
            assert!(stored.insert(prefix.to_string()), "{prefix} twice");
        }
    }
    assert_eq!(served.len(), 72);
}

#[test]
fn every_column_has_a_cell_for_the_example() {
    for kind in crate::kinds() {
        let object = example(&kind);
        for column in &kind.columns {
            if let apimachinery::kind::Cell::Code(cell) = column.cell {
                let value = cell(&object, 1_700_000_000);
                assert!(!value.is_map() && value.as_list().is_none(), "{} {}", kind.kind, column.name);
            }
        }
    }
}
