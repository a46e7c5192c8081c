//! JSON merge patch (RFC 7386): `null` deletes, objects merge, everything else replaces.

use crate::value::{Map, Value};

/// Applies a decoded merge patch to an object.
pub fn apply(object: Value, patch: Value) -> Value {
    match (object, patch) {
        (Value::Map(mut object), Value::Map(patch)) => {
            merge(&mut object, patch);
            Value::Map(object)
        }
        (_, mut patch) => {
            drop_nulls(&mut patch);
            patch
        }
    }
}

fn merge(object: &mut Map, patch: Map) {
    for (key, mut value) in patch {
        if value.is_null() {
            object.remove(&key);
            continue;
        }
        match (object.get_mut(&key), value) {
            (Some(Value::Map(old)), Value::Map(new)) => merge(old, new),
            // What replaces an object is taken as it stands, nulls inside lists included.
            (Some(old @ Value::Map(_)), new) => *old = new,
            (_, new) => {
                value = new;
                drop_nulls(&mut value);
                object.insert(key, value);
            }
        }
    }
}

/// Drops null members of objects, also of objects in lists; null elements of lists stay.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Map(map) => map.retain(|_, v| {
            if v.is_null() {
                return false;
            }
            drop_nulls(v);
            true
        }),
        Value::List(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json_text;

    fn check(object: &str, patch: &str, expected: &str) {
        let got = apply(json_text::read(object).unwrap(), json_text::read(patch).unwrap());
        assert_eq!(json_text::write(&got), expected);
    }

    #[test]
    fn null_deletes_and_objects_merge() {
        check(
            r#"{"a":{"b":1,"c":2},"d":[1]}"#,
            r#"{"a":{"b":null,"x":{"y":null}},"d":[null,{"z":null}]}"#,
            r#"{"a":{"c":2,"x":{}},"d":[null,{}]}"#,
        );
        check(r#"{"a":{"b":1}}"#, r#"{"a":[{"z":null}]}"#, r#"{"a":[{"z":null}]}"#);
        check(r#"{"a":{}}"#, r#"{}"#, r#"{"a":{}}"#);
    }
}
