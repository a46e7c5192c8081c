//! JSON patch (RFC 6902) as the library that upstream uses applies it, quirks and messages included.
//!
//! Quirks that clients rely on: negative indices count from the end, `replace` of a member that an object lacks adds
//! it, `test` takes a missing member and `null` for the same, what stands before a path's first slash is ignored.

use super::Error;
use crate::json_text;
use crate::quote::quoted;
use crate::value::{Map, Value};

/// The most operations that one patch may have.
pub const MAX_OPERATIONS: usize = 10_000;

/// How many bytes all `copy` operations of a patch may add.
const MAX_COPIED: usize = 3 * 1024 * 1024;

/// Applies a decoded patch, a list of operations, to an object.
pub fn apply(object: Value, patch: &Value) -> Result<Value, Error> {
    let operations = match patch {
        Value::List(operations) => operations.as_slice(),
        Value::Null => &[],
        other => {
            let found = go_kind(other);
            return Err(Error::BadPatch(format!(
                "json: cannot unmarshal {found} into Go value of type jsonpatch.Patch"
            )));
        }
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(Error::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let empty = Map::new();
    let mut document = object;
    let mut copied = 0;
    for operation in operations {
        let operation = match operation {
            Value::Map(map) => map,
            Value::Null => &empty,
            other => {
                let found = go_kind(other);
                return Err(Error::BadPatch(format!(
                    "json: cannot unmarshal {found} into Go value of type jsonpatch.Operation"
                )));
            }
        };
        step(&mut document, operation, &mut copied).map_err(Error::Unprocessable)?;
    }
    Ok(document)
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::Float(_) => "number",
        Value::String(_) => "string",
        Value::List(_) => "array",
        Value::Map(_) | Value::Null => "object",
    }
}

fn step(document: &mut Value, operation: &Map, copied: &mut usize) -> Result<(), String> {
    let value = || operation.get("value").cloned().unwrap_or(Value::Null);
    match operation.get("op").and_then(Value::as_str).unwrap_or("unknown") {
        "add" => {
            let path = member(operation, "path")
                .map_err(|_| "add operation failed to decode path: missing value".to_string())?;
            let Some((container, key)) = find(document, path) else {
                return Err(format!("add operation does not apply: doc is missing path: \"{path}\": missing value"));
            };
            add(container, &key, value()).map_err(|e| format!("error in add for path: '{path}': {e}"))
        }
        "remove" => {
            let path = member(operation, "path")
                .map_err(|_| "remove operation failed to decode path: missing value".to_string())?;
            let Some((container, key)) = find(document, path) else {
                return Err(format!("remove operation does not apply: doc is missing path: \"{path}\": missing value"));
            };
            remove(container, &key).map_err(|e| format!("error in remove for path: '{path}': {e}"))
        }
        "replace" => {
            let path =
                member(operation, "path").map_err(|e| format!("replace operation failed to decode path: {e}"))?;
            if path.is_empty() {
                let value = value();
                if !matches!(value, Value::Map(_) | Value::List(_)) {
                    return Err("replace operation value must be object or array".into());
                }
                *document = value;
                return Ok(());
            }
            let Some((container, key)) = find(document, path) else {
                return Err(format!("replace operation does not apply: doc is missing path: {path}: missing value"));
            };
            if get(container, &key).is_err() {
                return Err(format!("replace operation does not apply: doc is missing key: {path}: missing value"));
            }
            set(container, &key, value()).map_err(|e| format!("error in remove for path: '{path}': {e}"))
        }
        "move" => {
            let from = member(operation, "from").map_err(|e| format!("move operation failed to decode from: {e}"))?;
            let Some((container, key)) = find(document, from) else {
                return Err(format!("move operation does not apply: doc is missing from path: {from}: missing value"));
            };
            let moved = get(container, &key).map_err(|e| format!("error in move for path: '{key}': {e}"))?;
            let moved = moved.cloned().unwrap_or(Value::Null);
            remove(container, &key).map_err(|e| format!("error in move for path: '{key}': {e}"))?;
            let path = member(operation, "path").map_err(|e| format!("move operation failed to decode path: {e}"))?;
            let Some((container, key)) = find(document, path) else {
                return Err(format!(
                    "move operation does not apply: doc is missing destination path: {path}: missing value"
                ));
            };
            add(container, &key, moved).map_err(|e| format!("error in move for path: '{path}': {e}"))
        }
        "test" => test(document, operation),
        "copy" => {
            let from = member(operation, "from").map_err(|e| format!("copy operation failed to decode from: {e}"))?;
            let Some((container, key)) = find(document, from) else {
                return Err(format!("copy operation does not apply: doc is missing from path: {from}: missing value"));
            };
            let copy = get(container, &key).map_err(|e| format!("error in copy for from: '{from}': {e}"))?.cloned();
            let path = member(operation, "path")
                .map_err(|_| "copy operation failed to decode path: missing value".to_string())?;
            if let Some(copy) = &copy {
                *copied += json_text::write(copy).len();
                if *copied > MAX_COPIED {
                    return Err(format!(
                        "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {MAX_COPIED}"
                    ));
                }
            }
            let Some((container, key)) = find(document, path) else {
                return Err(format!(
                    "copy operation does not apply: doc is missing destination path: {path}: missing value"
                ));
            };
            add(container, &key, copy.unwrap_or(Value::Null))
                .map_err(|e| format!("error while adding value during copy: {e}"))
        }
        other => Err(format!("Unexpected kind: {other}")),
    }
}

fn test(document: &mut Value, operation: &Map) -> Result<(), String> {
    let path = member(operation, "path").map_err(|e| format!("test operation failed to decode path: {e}"))?;
    let wanted = operation.get("value");
    if path.is_empty() {
        return if wanted == Some(document) { Ok(()) } else { Err("testing value  failed: test failed".into()) };
    }
    let Some((container, key)) = find(document, path) else {
        return Err(format!("test operation does not apply: is missing path: {path}: missing value"));
    };
    let found = get(container, &key).map_err(|e| format!("error in test for path: '{path}': {e}"))?;
    let equal = match (found.filter(|v| !v.is_null()), wanted.filter(|v| !v.is_null())) {
        (None, None) => true,
        (Some(a), Some(b)) => a == b,
        _ => false,
    };
    if equal { Ok(()) } else { Err(format!("testing value {path} failed: test failed")) }
}

/// `path` or `from` of an operation.
fn member<'a>(operation: &'a Map, name: &str) -> Result<&'a str, String> {
    match operation.get(name) {
        Some(Value::String(s)) => Ok(s),
        None | Some(Value::Null) => {
            let comma = if name == "from" { "," } else { "" };
            Err(format!("operation{comma} missing {name} field: missing value"))
        }
        Some(other) => Err(format!("json: cannot unmarshal {} into Go value of type string", go_kind(other))),
    }
}

/// The container that holds what a path points at, and the last part of the path, unescaped.
fn find<'a>(document: &'a mut Value, path: &str) -> Option<(&'a mut Value, String)> {
    let mut parts: Vec<&str> = path.split('/').skip(1).collect();
    let last = parts.pop()?;
    let mut at = document;
    for part in parts {
        let part = unescape(part);
        at = match at {
            Value::Map(map) => map.get_mut(&part)?,
            Value::List(list) => {
                let i = index(&part, list.len()).ok()?;
                list.get_mut(i)?
            }
            _ => return None,
        };
    }
    matches!(at, Value::Map(_) | Value::List(_)).then(|| (at, unescape(last)))
}

/// `~1` is a slash and `~0` a tilde, decoded in one pass.
fn unescape(part: &str) -> String {
    if !part.contains('~') {
        return part.to_string();
    }
    let mut out = String::with_capacity(part.len());
    let mut rest = part;
    while let Some(i) = rest.find('~') {
        out.push_str(&rest[..i]);
        let (text, skip) = match rest.as_bytes().get(i + 1) {
            Some(b'1') => ("/", 2),
            Some(b'0') => ("~", 2),
            _ => ("~", 1),
        };
        out.push_str(text);
        rest = &rest[i + skip..];
    }
    out.push_str(rest);
    out
}

fn parse_index(key: &str) -> Result<i64, String> {
    key.parse::<i64>().map_err(|e| match e.kind() {
        std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
            format!("strconv.Atoi: parsing {}: value out of range", quoted(key))
        }
        _ => format!("strconv.Atoi: parsing {}: invalid syntax", quoted(key)),
    })
}

/// The place of an existing element; negative indices count from the end.
fn index(key: &str, len: usize) -> Result<usize, String> {
    let i = parse_index(key)?;
    let at = if i < 0 { i.checked_add(len as i64).unwrap_or(-1) } else { i };
    usize::try_from(at)
        .ok()
        .filter(|at| *at < len)
        .ok_or_else(|| format!("Unable to access invalid index: {i}: invalid index referenced"))
}

fn get<'a>(container: &'a Value, key: &str) -> Result<Option<&'a Value>, String> {
    match container {
        Value::Map(map) => Ok(map.get(key)),
        Value::List(list) => Ok(list.get(index(key, list.len())?)),
        _ => Ok(None),
    }
}

fn set(container: &mut Value, key: &str, value: Value) -> Result<(), String> {
    match container {
        Value::Map(map) => {
            map.insert(key, value);
        }
        Value::List(list) => {
            let i = index(key, list.len())?;
            list[i] = value;
        }
        _ => {}
    }
    Ok(())
}

fn add(container: &mut Value, key: &str, value: Value) -> Result<(), String> {
    match container {
        Value::Map(map) => {
            map.insert(key, value);
        }
        Value::List(list) if key == "-" => list.push(value),
        Value::List(list) => {
            let i = parse_index(key).map_err(|e| format!("value was not a proper array index: '{key}': {e}"))?;
            // One more place than there are elements; -1 is the end.
            let places = list.len() as i64 + 1;
            let at = if i < 0 { i.checked_add(places).unwrap_or(-1) } else { i };
            if !(0..places).contains(&at) {
                return Err(format!("Unable to access invalid index: {i}: invalid index referenced"));
            }
            list.insert(at as usize, value);
        }
        _ => {}
    }
    Ok(())
}

fn remove(container: &mut Value, key: &str) -> Result<(), String> {
    match container {
        Value::Map(map) => {
            map.remove(key).ok_or_else(|| format!("Unable to remove nonexistent key: {key}: missing value"))?;
        }
        Value::List(list) => {
            let i = index(key, list.len())?;
            list.remove(i);
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(object: &str, patch: &str, expected: &str) {
        let object = json_text::read(object).unwrap();
        let patch = json_text::read(patch).unwrap();
        let got = match apply(object, &patch) {
            Ok(value) => json_text::write(&value),
            Err(e) => e.to_string(),
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn operations_apply_in_order() {
        check(
            r#"{"a":[1,2],"b":{"x/y":1}}"#,
            r#"[{"op":"add","path":"/a/-","value":3},{"op":"remove","path":"/a/0"},{"op":"test","path":"/b/x~1y","value":1},
                {"op":"move","from":"/b/x~1y","path":"/c"},{"op":"copy","from":"/a","path":"/d"},{"op":"replace","path":"/new","value":null}]"#,
            r#"{"a":[2,3],"b":{},"c":1,"d":[2,3],"new":null}"#,
        );
        check(r#"{"a":[1,2]}"#, r#"[{"op":"add","path":"/a/-1","value":3}]"#, r#"{"a":[1,2,3]}"#);
    }

    #[test]
    fn failures_speak_as_upstream_does() {
        check(r#"{"a":1}"#, r#"[{"op":"test","path":"/a","value":2}]"#, "testing value /a failed: test failed");
        check(
            r#"{"a":1}"#,
            r#"[{"op":"remove","path":"/b"}]"#,
            "error in remove for path: '/b': Unable to remove nonexistent key: b: missing value",
        );
        check(
            r#"{"a":1}"#,
            r#"[{"op":"add","path":"/b/c","value":1}]"#,
            "add operation does not apply: doc is missing path: \"/b/c\": missing value",
        );
        check(r#"{"a":1}"#, r#"[{"op":"jump","path":"/b"}]"#, "Unexpected kind: jump");
        check(
            r#"{"a":[]}"#,
            r#"[{"op":"add","path":"/a/2","value":1}]"#,
            "error in add for path: '/a/2': Unable to access invalid index: 2: invalid index referenced",
        );
    }

    #[test]
    fn too_many_operations_are_refused() {
        let operation = json_text::read(r#"{"op":"test","path":"/a"}"#).unwrap();
        let patch = Value::List(vec![operation; MAX_OPERATIONS + 1]);
        let error = apply(Value::Map(Map::new()), &patch).unwrap_err();
        assert_eq!(error.to_string(), "The allowed maximum operations in a JSON patch is 10000, got 10001");
    }
}
