//! Strategic merge patch: a merge patch that knows by what key the elements of a list are told apart.
//!
//! Directives: `$patch: replace|delete` in a map, `$retainKeys`, `$deleteFromPrimitiveList/<field>` and
//! `$setElementOrder/<field>` beside a field. Only kinds with a declared schema have them; a custom resource answers
//! 415 to this patch type, which is the caller's business.

use std::borrow::Cow;

use super::Error;
use crate::json_text;
use crate::lookup::find_field;
use crate::schema::{Node, Patch, Struct, Type};
use crate::value::{Map, Value};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList";
const ELEMENT_ORDER: &str = "$setElementOrder";

/// Applies a decoded strategic merge patch to an object of the given shape.
pub fn apply(object: Value, patch: Value, schema: &Struct) -> Result<Value, Error> {
    let object = match object {
        Value::Map(map) => map,
        Value::Null => Map::new(),
        _ => return Err(bad_document()),
    };
    match patch {
        Value::Map(patch) => merge_map(object, patch, Shape::Struct(schema)).map(Value::Map),
        Value::Null => Ok(Value::Map(object)),
        _ => Err(bad_document()),
    }
}

/// What is known of a value's type while walking down.
#[derive(Clone, Copy)]
enum Shape<'a> {
    Struct(&'a Struct),
    /// A map with values of one type.
    Map(&'a Node),
    Other,
}

impl<'a> Shape<'a> {
    fn of(node: &'a Node) -> Shape<'a> {
        match &node.ty {
            Type::Struct(schema) => Shape::Struct(schema),
            Type::Map(value) => Shape::Map(value),
            _ => Shape::Other,
        }
    }

    /// The node under a member and how it is patched.
    fn member(self, key: &str) -> Result<(&'a Node, Patch), Error> {
        match self {
            Shape::Struct(schema) => match find_field(schema, key) {
                Some(field) => Ok((&field.node, field.patch)),
                None => {
                    let name = schema.name.rsplit('.').next().unwrap_or_default();
                    Err(Error::Internal(format!(
                        "unable to find api field in struct {name} for the json field {key:?}"
                    )))
                }
            },
            Shape::Map(value) => Ok((value, Patch::REPLACE)),
            Shape::Other => {
                Err(Error::Internal(format!("unable to find api field in struct  for the json field {key:?}")))
            }
        }
    }

    fn list_member(self, key: &str) -> Result<(Shape<'a>, Patch), Error> {
        let (node, patch) = self.member(key)?;
        match &node.ty {
            Type::List(element) => Ok((Shape::of(element), patch)),
            // Bytes and free values have no elements to merge.
            _ => Ok((Shape::Other, Patch::REPLACE)),
        }
    }
}

fn merge_map(mut object: Map, mut patch: Map, shape: Shape<'_>) -> Result<Map, Error> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(DIRECTIVE);
                Ok(patch)
            }
            Some("delete") => Ok(Map::new()),
            _ => Err(unknown_directive(directive, &patch)),
        };
    }
    retain_keys(&mut object, &mut patch)?;
    order_elements(&mut object, &mut patch, shape)?;

    for (key, mut value) in patch {
        let (key, delete_list) = match key.strip_prefix(DELETE_FROM) {
            None => (key, false),
            Some(rest) => match rest.strip_prefix('/') {
                Some(field) => (field.into(), true),
                None => return Err(Error::BadPatch("invalid patch format of primitive list".into())),
            },
        };
        if value.is_null() {
            object.remove(&key);
            continue;
        }
        let merged = match (object.remove(&key), value) {
            (Some(Value::Map(old)), Value::Map(new)) => {
                let (node, patch) = shape.member(&key)?;
                Value::Map(if patch.replace { new } else { merge_map(old, new, Shape::of(node))? })
            }
            (Some(Value::List(old)), Value::List(new)) => {
                let (element, patch) = shape.list_member(&key)?;
                if patch.merge || delete_list {
                    Value::List(merge_list(old, new, element, patch.merge_key, delete_list)?)
                } else {
                    Value::List(new)
                }
            }
            (old, new) => {
                value = new;
                if delete_list {
                    if let Some(old) = old {
                        object.insert(key, old);
                    }
                    continue;
                }
                let same_scalar = old.as_ref().is_some_and(|old| old.type_name() == value.type_name());
                if !same_scalar {
                    discard_nulls(&mut value);
                }
                match remove_directives(value) {
                    Some(value) => value,
                    None => continue,
                }
            }
        };
        object.insert(key, merged);
    }
    Ok(object)
}

/// `$retainKeys`: what is not listed goes; what the patch sets must be listed.
fn retain_keys(object: &mut Map, patch: &mut Map) -> Result<(), Error> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let bad = || Error::BadPatch("invalid patch format of retainKeys".into());
    let Value::List(keys) = keys else { return Err(bad()) };
    let listed = |key: &str| keys.iter().any(|k| k.as_str() == Some(key));
    for (key, value) in patch.iter() {
        let directive = key.starts_with(DELETE_FROM) || key.starts_with(ELEMENT_ORDER);
        if !value.is_null() && !directive && !listed(key) {
            return Err(bad());
        }
    }
    object.retain(|key, _| listed(key));
    Ok(())
}

/// `$setElementOrder/<field>`: merges that field at once and puts its elements in the order that is given.
fn order_elements(object: &mut Map, patch: &mut Map, shape: Shape<'_>) -> Result<(), Error> {
    let bad = || Error::BadPatch("invalid patch format of setElementOrder list".into());
    let directives: Vec<_> = patch.keys().filter(|k| k.starts_with(ELEMENT_ORDER)).cloned().collect();
    for directive in directives {
        let order = match patch.remove(&directive) {
            Some(Value::List(order)) => order,
            Some(other) => return Err(bad_argument("[]interface {}", &other)),
            None => continue,
        };
        let field = directive.strip_prefix(ELEMENT_ORDER).and_then(|rest| rest.strip_prefix('/')).ok_or_else(bad)?;
        let list_of = |value: Option<&Value>| match value {
            None => Ok(None),
            Some(Value::List(list)) => Ok(Some(list.clone())),
            Some(other) => Err(bad_argument("[]interface {}", other)),
        };
        let old = list_of(object.get(field))?;
        let new = list_of(patch.get(field))?;
        let (element, how) = shape.list_member(field)?;
        let key = how.merge_key;
        check_order(new.as_deref(), &order, key)?;
        let mut server_order = old.clone().unwrap_or_default();
        let all_kinds = kind_of([server_order.as_slice(), new.as_deref().unwrap_or_default()]);
        if let (true, false, Some(new)) = (how.merge, key.is_empty(), &new) {
            server_order = order_after_merge(server_order, new, key);
        }
        let merged = match (old, new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => match remove_directives(Value::List(new)) {
                Some(Value::List(list)) => list,
                _ => continue,
            },
            (Some(old), Some(new)) if how.merge => merge_list(old, new, element, key, false)?,
            (Some(_), Some(new)) => new,
        };
        let (listed, server_only) = partition(merged, &order, key)?;
        let ordered = interleave(listed, server_only, &order, &server_order, key, all_kinds?)?;
        object.insert(field, ordered);
        patch.remove(field);
    }
    Ok(())
}

/// The server's order as upstream has it after a merge: it deletes and appends in the very memory that it then takes
/// the order from, so that added elements stand where deleted ones made room.
fn order_after_merge(mut order: Vec<Value>, patch: &[Value], key: &str) -> Vec<Value> {
    let mut current = order.clone();
    for item in patch.iter().filter(|i| i.get(DIRECTIVE).and_then(Value::as_str) == Some("delete")) {
        while let Some(i) = current.iter().position(|c| c.get(key).is_some() && c.get(key) == item.get(key)) {
            let last = current.len() - 1;
            for j in i..last {
                order.swap(j, j + 1);
            }
            // The last place keeps what moved down from it.
            if let Some(moved) = last.checked_sub(1).filter(|_| i < last) {
                order[last] = order[moved].clone();
            }
            current.remove(i);
        }
    }
    if patch.iter().any(|i| i.get(DIRECTIVE).and_then(Value::as_str) == Some("replace")) {
        return order;
    }
    for item in patch.iter().filter(|i| i.get(DIRECTIVE).is_none()) {
        if !current.iter().any(|c| c.get(key) == item.get(key)) {
            if let Some(place) = order.get_mut(current.len()) {
                *place = item.clone();
            }
            current.push(item.clone());
        }
    }
    order
}

/// The patch's list must follow the order that its own directive gives.
fn check_order(list: Option<&[Value]>, order: &[Value], key: &str) -> Result<(), Error> {
    let Some(list) = list else { return Ok(()) };
    if list.is_empty() || order.is_empty() {
        return Ok(());
    }
    let mut items: Vec<&Value> = list.iter().collect();
    if !key.is_empty() {
        if let Some(other) = items.iter().find(|i| !i.is_map()) {
            return Err(bad_argument("map[string]interface {}", other));
        }
        items.retain(|item| item.get(DIRECTIVE).and_then(Value::as_str) != Some("delete"));
    }
    let (mut i, mut j) = (0, 0);
    while i < items.len() && j < order.len() {
        if items[i].get(DIRECTIVE).is_some() {
            i += 1;
            continue;
        }
        let equal = if key.is_empty() {
            items[i] == &order[j]
        } else {
            merge_value(items[i], key)? == merge_value(&order[j], key)?
        };
        if equal {
            i += 1;
        }
        j += 1;
    }
    if i < items.len() && j >= order.len() {
        return Err(Error::Internal(format!(
            "The order in patch list:\n{}\n doesn't match {ELEMENT_ORDER} list:\n{}\n",
            go_show(&Value::List(list.to_vec())),
            go_show(&Value::List(order.to_vec())),
        )));
    }
    Ok(())
}

/// What the elements of a list are, as far as merging cares.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ElementKind {
    Map,
    Scalar,
}

/// All elements of all lists must be of one type.
fn kind_of<'a>(lists: impl IntoIterator<Item = &'a [Value]>) -> Result<ElementKind, Error> {
    let mut found: Option<&Value> = None;
    for item in lists.into_iter().flatten() {
        match (found, item) {
            (None, Value::List(_)) => return Err(Error::Unprocessable("lists of lists are not supported".into())),
            (None, Value::Null) => return Err(Error::Internal("list element types are not identical: null".into())),
            (None, item) => found = Some(item),
            (Some(first), item) if first.type_name() != item.type_name() => {
                return Err(Error::Internal(format!(
                    "list element types are not identical: {} and {}",
                    first.type_name(),
                    item.type_name()
                )));
            }
            _ => {}
        }
    }
    match found {
        Some(Value::Map(_)) => Ok(ElementKind::Map),
        Some(_) => Ok(ElementKind::Scalar),
        None => Err(Error::Internal("no elements in any of the given slices".into())),
    }
}

fn merge_list(
    mut old: Vec<Value>,
    mut patch: Vec<Value>,
    shape: Shape<'_>,
    key: &str,
    delete_list: bool,
) -> Result<Vec<Value>, Error> {
    if old.is_empty() && patch.is_empty() {
        return Ok(old);
    }
    let kind = kind_of([old.as_slice(), patch.as_slice()])?;
    let merged = match kind {
        ElementKind::Scalar if delete_list => {
            old.retain(|item| !patch.contains(item));
            return Ok(old);
        }
        ElementKind::Scalar => deduplicate(old.iter().chain(&patch).cloned().collect()),
        ElementKind::Map => {
            if key.is_empty() {
                let what = match shape {
                    Shape::Struct(_) => "struct",
                    Shape::Map(_) => "map",
                    Shape::Other => "interface",
                };
                return Err(Error::Internal(format!("cannot merge lists without merge key for {what}")));
            }
            (old, patch) = special_elements(old, patch, key)?;
            merge_elements(old.clone(), patch.clone(), shape, key)?
        }
    };
    let (listed, server_only) = partition(merged, &patch, key)?;
    interleave(listed, server_only, &patch, &old, key, kind)
}

/// Carries out the elements of a patch that are directives: deletes from `old`, or replaces it as a whole.
fn special_elements(mut old: Vec<Value>, patch: Vec<Value>, key: &str) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let mut rest = Vec::with_capacity(patch.len());
    let mut replace = false;
    for item in patch {
        match item.get(DIRECTIVE) {
            None => rest.push(item),
            Some(directive) => match directive.as_str() {
                Some("delete") => {
                    let gone = merge_value(&item, key)?.clone();
                    if let Some(i) = old.iter().position(|o| !o.is_map()) {
                        return Err(Error::Internal(format!("value for key {i} is not a map")));
                    }
                    old.retain(|o| o.get(key) != Some(&gone));
                }
                Some("replace") => replace = true,
                Some("merge") => {
                    return Err(Error::Internal("merging lists cannot yet be specified in the patch".into()));
                }
                _ => return Err(unknown_directive(directive, item.as_map().unwrap_or(&Map::new()))),
            },
        }
    }
    if replace { Ok((rest, Vec::new())) } else { Ok((old, rest)) }
}

fn merge_elements(mut old: Vec<Value>, patch: Vec<Value>, shape: Shape<'_>, key: &str) -> Result<Vec<Value>, Error> {
    for item in patch {
        let wanted = merge_value(&item, key)?.clone();
        match (old.iter().position(|o| o.get(key) == Some(&wanted)), item) {
            (Some(i), Value::Map(item)) => {
                if let Value::Map(found) = std::mem::take(&mut old[i]) {
                    old[i] = Value::Map(merge_map(found, item, shape)?);
                }
            }
            (_, item) => old.push(item),
        }
    }
    Ok(old)
}

/// Splits a merged list into what `by` names and what only the server has.
fn partition(merged: Vec<Value>, by: &[Value], key: &str) -> Result<(Vec<Value>, Vec<Value>), Error> {
    let mut listed = Vec::with_capacity(merged.len());
    let mut server_only = Vec::new();
    for item in merged {
        let found = if key.is_empty() {
            by.contains(&item)
        } else {
            if !item.is_map() {
                return Err(bad_argument("map[string]interface {}", &item));
            }
            let wanted = merge_value(&item, key)?;
            by.iter().any(|b| b.get(key) == Some(wanted))
        };
        if found { listed.push(item) } else { server_only.push(item) }
    }
    Ok((listed, server_only))
}

/// Puts both parts in their own order, then merges them; where the server's order decides nothing, the patch goes first.
fn interleave(
    listed: Vec<Value>,
    server_only: Vec<Value>,
    patch_order: &[Value],
    server_order: &[Value],
    key: &str,
    kind: ElementKind,
) -> Result<Vec<Value>, Error> {
    let listed = sort_by_order(listed, patch_order, key, kind)?;
    let server_only = sort_by_order(server_only, server_order, key, kind)?;
    let mut out = Vec::with_capacity(listed.len() + server_only.len());
    let mut left = server_only.into_iter().peekable();
    let mut right = listed.into_iter().peekable();
    loop {
        let take_left = match (left.peek(), right.peek()) {
            (None, None) => return Ok(out),
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(l), Some(r)) => {
                matches!((position(server_order, l, key, kind), position(server_order, r, key, kind)), (Some(l), Some(r)) if l < r)
            }
        };
        out.extend(if take_left { left.next() } else { right.next() });
    }
}

fn sort_by_order(items: Vec<Value>, order: &[Value], key: &str, kind: ElementKind) -> Result<Vec<Value>, Error> {
    if kind == ElementKind::Map {
        for item in items.iter().chain(order) {
            merge_value(item, key)?;
        }
    }
    let (mut items, deletions): (Vec<Value>, Vec<Value>) = items
        .into_iter()
        .partition(|item| kind == ElementKind::Scalar || item.get(DIRECTIVE).and_then(Value::as_str) != Some("delete"));
    items.sort_by_cached_key(|item| position(order, item, key, kind).unwrap_or(usize::MAX));
    items.extend(deletions);
    Ok(items)
}

fn position(order: &[Value], item: &Value, key: &str, kind: ElementKind) -> Option<usize> {
    match kind {
        ElementKind::Scalar => order.iter().position(|o| o == item),
        ElementKind::Map => {
            let wanted = item.get(key)?;
            order.iter().position(|o| o.get(key) == Some(wanted))
        }
    }
}

/// Keeps the first of equal scalars; each later one gives its place to the last element.
fn deduplicate(mut items: Vec<Value>) -> Vec<Value> {
    let mut i = 0;
    while i < items.len() {
        let mut j = i + 1;
        while j < items.len() {
            if items[i] == items[j] {
                items.swap_remove(j);
            } else {
                j += 1;
            }
        }
        i += 1;
    }
    items
}

fn merge_value<'a>(item: &'a Value, key: &str) -> Result<&'a Value, Error> {
    match item {
        Value::Map(map) => map
            .get(key)
            .ok_or_else(|| Error::Internal(format!("map: {} does not contain declared merge key: {key}", go_map(map)))),
        other => Err(bad_argument("map[string]interface {}", other)),
    }
}

/// Null members mean deletion, and there is nothing to delete.
fn discard_nulls(value: &mut Value) {
    match value {
        Value::Map(map) => map.retain(|_, v| {
            if v.is_null() {
                return false;
            }
            discard_nulls(v);
            true
        }),
        Value::List(list) => list.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// Drops maps that carry a directive, here and below; `None` when the value itself is one.
fn remove_directives(value: Value) -> Option<Value> {
    match value {
        Value::Map(map) => {
            if map.contains_key(DIRECTIVE) {
                return None;
            }
            Some(Value::Map(map.into_iter().filter_map(|(k, v)| Some((k, remove_directives(v)?))).collect()))
        }
        Value::List(list) => Some(Value::List(list.into_iter().filter_map(remove_directives).collect())),
        other => Some(other),
    }
}

fn bad_document() -> Error {
    Error::BadPatch("invalid JSON document".into())
}

fn unknown_directive(directive: &Value, map: &Map) -> Error {
    let text = directive.as_str().map_or_else(|| Cow::Owned(json_text::write(directive)), Cow::Borrowed);
    Error::Internal(format!("unknown patch type: {text} in map: {}", go_map(map)))
}

fn bad_argument(expected: &str, found: &Value) -> Error {
    let found = match found {
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int64",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
    };
    Error::Internal(format!("expected a {expected}, but received a {found}"))
}

/// A map as Go's `%v` prints it: `map[a:1 b:[x y]]`.
fn go_map(map: &Map) -> String {
    let members: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", go_show(value))).collect();
    format!("map[{}]", members.join(" "))
}

/// Any value as Go's `%v` prints it.
fn go_show(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".into(),
        Value::String(s) => s.to_string(),
        Value::List(items) => format!("[{}]", items.iter().map(go_show).collect::<Vec<_>>().join(" ")),
        Value::Map(map) => go_map(map),
        scalar => json_text::write(scalar),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Field, Omit, Ref, StructRef};

    /// `items` merges by `name`, `words` is a merged list of strings, `plain` is replaced.
    fn schema() -> &'static Struct {
        static SCHEMA: std::sync::OnceLock<Struct> = std::sync::OnceLock::new();
        SCHEMA.get_or_init(|| {
            let field = |name: &'static str, ty: Type, patch: Patch| Field {
                name: name.into(),
                tag: 0,
                pointer: false,
                omit: Omit::Empty,
                required: false,
                patch,
                node: Node::of(ty),
            };
            let structure = |fields: Vec<Field>| Struct {
                name: "test.Thing".into(),
                doc: "".into(),
                fields: Cow::Owned(fields),
                preserve_unknown: false,
                embedded_resource: false,
                atomic: false,
            };
            let list = |ty: Type| Type::List(Ref::Shared(std::sync::Arc::new(Node::of(ty))));
            let item = structure(vec![
                field("name", Type::String, Patch::REPLACE),
                field("value", Type::String, Patch::REPLACE),
            ]);
            let item = Type::Struct(StructRef::Shared(std::sync::Arc::new(item)));
            let merge = |merge_key| Patch { merge: true, retain_keys: false, replace: false, merge_key };
            structure(vec![
                field("items", list(item), merge("name")),
                field("words", list(Type::String), merge("")),
                field("plain", list(Type::String), Patch::REPLACE),
            ])
        })
    }

    fn check(object: &str, patch: &str, expected: &str) {
        let object = json_text::read(object).unwrap();
        let got = match apply(object, json_text::read(patch).unwrap(), schema()) {
            Ok(value) => json_text::write(&value),
            Err(e) => e.to_string(),
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn lists_merge_by_key_and_directives_are_obeyed() {
        let object = r#"{"items":[{"name":"a","value":"1"},{"name":"b"}],"words":["x","y"],"plain":["p"]}"#;
        check(
            object,
            r#"{"items":[{"name":"a","value":"2"},{"name":"c"}],"words":["z"],"plain":["q"]}"#,
            r#"{"items":[{"name":"a","value":"2"},{"name":"c"},{"name":"b"}],"plain":["q"],"words":["z","x","y"]}"#,
        );
        check(
            object,
            r#"{"items":[{"name":"a","$patch":"delete"}],"$deleteFromPrimitiveList/words":["x"],"plain":null}"#,
            r#"{"items":[{"name":"b"}],"words":["y"]}"#,
        );
        check(
            object,
            r#"{"items":[{"name":"n"},{"$patch":"replace"}],"$retainKeys":["items"]}"#,
            r#"{"items":[{"name":"n"}]}"#,
        );
        check(
            object,
            r#"{"$setElementOrder/items":[{"name":"b"},{"name":"a"}],"items":[{"name":"a","value":"3"}]}"#,
            r#"{"items":[{"name":"b"},{"name":"a","value":"3"}],"plain":["p"],"words":["x","y"]}"#,
        );
    }

    #[test]
    fn a_replacement_takes_the_place_of_what_was_deleted() {
        check(
            r#"{"items":[{"name":"a"},{"name":"c"}]}"#,
            r#"{"$setElementOrder/items":[{"name":"b"}],"items":[{"name":"b"},{"name":"c","$patch":"delete"}]}"#,
            r#"{"items":[{"name":"a"},{"name":"b"}]}"#,
        );
    }

    #[test]
    fn failures_speak_as_upstream_does() {
        check("{}", r#"{"$patch":"jump"}"#, "unknown patch type: jump in map: map[$patch:jump]");
        check(
            r#"{"items":[{"name":"a"}]}"#,
            r#"{"items":[{"value":"x"}]}"#,
            "map: map[value:x] does not contain declared merge key: name",
        );
        check(r#"{"plain":["a"]}"#, r#"{"$retainKeys":[],"plain":["b"]}"#, "invalid patch format of retainKeys");
    }
}
