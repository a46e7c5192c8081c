//! Structural validation: what a schema and metadata demand of a tree, in upstream's words.

mod formats;
mod metadata;

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::LazyLock;

use parking_lot::RwLock;
use regex::Regex;

pub use metadata::metadata;

use crate::field::{ErrorKind, Errors, FieldError, Path};
use crate::json_text;
use crate::quote::quoted;
use crate::schema::{Facets, ListType, Node, Struct, Type};
use crate::value::{Map, Value};

/// Checks an object against its schema.
///
/// A custom resource is checked whole; what `old` had wrong already may stay as it was (ratcheting). A built-in's
/// types are settled by decoding and its rules are code: of its schema only closed sets of words are checked here.
pub fn structure(tree: &Value, old: Option<&Value>, schema: &Struct, errors: &mut Errors) {
    let Value::Map(map) = tree else { return };
    let root = Path::ROOT;
    if schema.name.is_empty() {
        object(map, old.and_then(Value::as_map), schema, &root, errors);
        let repeated = |map: &Map| {
            let mut errors = Errors::new();
            unique_in_object(map, schema, &root, &mut errors);
            errors
        };
        // An object that had something twice may keep doing so.
        let found = repeated(map);
        if !found.is_empty() && old.and_then(Value::as_map).is_none_or(|old| repeated(old).is_empty()) {
            errors.append(found);
        }
    } else if errors.is_empty() {
        words(map, schema, &root, errors);
    }
}

/// Words of a built-in that are not in their closed set.
fn words(map: &Map, schema: &Struct, path: &Path<'_>, errors: &mut Errors) {
    for field in schema.fields.iter() {
        if field.is_inline() {
            if let Type::Struct(inner) = &field.node.ty {
                words(map, inner, path, errors);
            }
            continue;
        }
        if let Some(value) = map.get(&field.name) {
            words_below(value, &field.node, &path.child(&field.name), errors);
        }
    }
}

fn words_below(value: &Value, node: &Node, path: &Path<'_>, errors: &mut Errors) {
    let enumeration = &node.facets().enumeration;
    match (value, &node.ty) {
        (Value::String(text), Type::String)
            if !enumeration.is_empty() && !text.is_empty() && !enumeration.iter().any(|e| e == text.as_str()) =>
        {
            let supported: Vec<&str> = enumeration.iter().map(AsRef::as_ref).collect();
            errors.not_supported(path, text.clone(), &supported);
        }
        (Value::Map(map), Type::Struct(schema)) => words(map, schema, path, errors),
        (Value::List(items), Type::List(inner)) if matches!(inner.ty, Type::Struct(_)) => {
            for (i, item) in items.iter().enumerate() {
                words_below(item, inner, &path.index(i), errors);
            }
        }
        (Value::Map(map), Type::Map(inner)) if matches!(inner.ty, Type::Struct(_)) => {
            for (key, item) in map.iter() {
                words_below(item, inner, &path.key(key), errors);
            }
        }
        _ => {}
    }
}

fn object(map: &Map, old: Option<&Map>, schema: &Struct, path: &Path<'_>, errors: &mut Errors) {
    for field in schema.fields.iter() {
        if let Some(value) = map.get(&field.name) {
            node(value, old.and_then(|o| o.get(&field.name)), &field.node, &path.child(&field.name), errors);
        }
    }
    for field in schema.fields.iter().filter(|f| f.required && !map.contains_key(&f.name)) {
        errors.required(&path.child(&field.name), "");
    }
}

/// Checks a value at a position; `old` is what was there before.
pub fn node(value: &Value, old: Option<&Value>, node: &Node, path: &Path<'_>, errors: &mut Errors) {
    // What has not changed was accepted once and stays accepted.
    if old == Some(value) {
        return;
    }
    let facets = node.facets();
    if value.is_null() {
        if !facets.nullable && !matches!(node.ty, Type::Any(_)) {
            mistyped(value, type_name(&node.ty), "", path, errors);
        }
        return;
    }
    let fits = has_type(value, &node.ty);
    if !fits {
        mistyped(value, type_name(&node.ty), &facets.format, path, errors);
    }
    junctors(value, facets, path, errors);
    scalar(value, facets, path, errors);
    if matches!(node.ty, Type::Int32 | Type::Int64) {
        range(value, &facets.format, path, errors);
    }
    if let (Value::List(items), Type::List(inner)) = (value, &node.ty) {
        for (i, item) in items.iter().enumerate() {
            let old = old_item(item, old, facets);
            self::node(item, old, inner, &path.index(i), errors);
        }
    }
    counted(value, facets, path, errors);
    enumeration(value, fits, facets, path, errors);
    match (value, &node.ty) {
        // Metadata has its own rules.
        (Value::Map(_), Type::Struct(schema)) if !schema.name.is_empty() => {}
        (Value::Map(map), Type::Struct(schema)) => object(map, old.and_then(Value::as_map), schema, path, errors),
        (Value::Map(map), Type::Map(inner)) => {
            for (key, item) in map.iter() {
                self::node(item, old.and_then(|o| o.get(key)), inner, &path.child(key), errors);
            }
        }
        _ => {}
    }
}

/// The element that an element of a keyed list was before; of other lists only the whole can be compared.
fn old_item<'a>(item: &Value, old: Option<&'a Value>, facets: &Facets) -> Option<&'a Value> {
    if facets.list_type != Some(ListType::Map) {
        return None;
    }
    let keys = keys_of(item, facets);
    old.and_then(Value::as_list)?.iter().find(|o| keys_of(o, facets) == keys)
}

fn keys_of<'a>(item: &'a Value, facets: &Facets) -> Vec<Option<&'a Value>> {
    facets.list_map_keys.iter().map(|key| item.get(key)).collect()
}

fn mistyped(value: &Value, wanted: &str, format: &str, path: &Path<'_>, errors: &mut Errors) {
    // Where a format is declared, upstream speaks of formats instead of types, but to texts and lists.
    let (wanted, found) = match value {
        _ if format.is_empty() => (wanted, value.type_name()),
        Value::Int(_) => (format, "int64"),
        Value::Float(_) => (format, "double"),
        Value::Bool(_) | Value::Map(_) => (format, ""),
        _ => (wanted, value.type_name()),
    };
    errors.type_invalid(path, found, format!("{path} in body must be of type {wanted}: {found:?}"));
}

fn unique_in_object(map: &Map, schema: &Struct, path: &Path<'_>, errors: &mut Errors) {
    for field in schema.fields.iter() {
        if let Some(value) = map.get(&field.name) {
            unique(value, &field.node, &path.child(&field.name), errors);
        }
    }
}

/// Sets and keyed lists hold nothing twice.
fn unique(value: &Value, node: &Node, path: &Path<'_>, errors: &mut Errors) {
    let facets = node.facets();
    match (value, &node.ty) {
        (Value::Map(map), Type::Struct(schema)) if schema.name.is_empty() => {
            unique_in_object(map, schema, path, errors);
        }
        (Value::Map(map), Type::Map(inner)) => {
            for (key, item) in map.iter() {
                unique(item, inner, &path.key(key), errors);
            }
        }
        (Value::List(items), Type::List(inner)) => {
            let shown: Option<Vec<Value>> = match facets.list_type {
                Some(ListType::Set) => Some(items.clone()),
                Some(ListType::Map) => Some(items.iter().map(|item| shown_keys(item, facets)).collect()),
                _ => None,
            };
            if let Some(shown) = shown {
                duplicates(&shown, path, errors);
            }
            for (i, item) in items.iter().enumerate() {
                unique(item, inner, &path.index(i), errors);
            }
        }
        _ => {}
    }
}

fn shown_keys(item: &Value, facets: &Facets) -> Value {
    let keys = facets.list_map_keys.iter().filter_map(|key| Some((key.as_ref().into(), item.get(key)?.clone())));
    Value::Map(keys.collect())
}

/// Names the second of each group of equal values.
fn duplicates(values: &[Value], path: &Path<'_>, errors: &mut Errors) {
    let mut seen: HashMap<String, u32> = HashMap::new();
    for (i, value) in values.iter().enumerate() {
        let count = seen.entry(json_text::write(value)).or_default();
        *count += 1;
        if *count == 2 {
            errors.duplicate(&path.index(i), value.clone());
        }
    }
}

fn enumeration(value: &Value, fits: bool, facets: &Facets, path: &Path<'_>, errors: &mut Errors) {
    if facets.enumeration.is_empty() {
        return;
    }
    // Texts stand as they are; other values as their JSON.
    let text = match value {
        Value::String(text) => text.to_string(),
        other => json_text::write(other),
    };
    // A text of the wrong type is only equal to what was a text in the schema.
    if !facets.enumeration.iter().any(|e| *e == text && (fits || json_text::read(e).is_none())) {
        let supported: Vec<&str> = facets.enumeration.iter().map(AsRef::as_ref).collect();
        errors.not_listed(path, value.clone(), &supported);
    }
}

/// The compiled form of a pattern; `None` when it is none, which the definition's check has said.
fn pattern(text: &str) -> Option<Regex> {
    static COMPILED: LazyLock<RwLock<HashMap<String, Option<Regex>>>> = LazyLock::new(Default::default);
    /// Definitions come and go; the memory of their patterns must not only grow.
    const MAX_COMPILED: usize = 4096;
    if let Some(found) = COMPILED.read().get(text) {
        return found.clone();
    }
    let compiled = regex::RegexBuilder::new(text).size_limit(1 << 20).build().ok();
    let mut table = COMPILED.write();
    if table.len() >= MAX_COMPILED {
        table.clear();
    }
    table.insert(text.to_string(), compiled.clone());
    compiled
}

/// What is demanded of a text or a number.
fn scalar(value: &Value, facets: &Facets, path: &Path<'_>, errors: &mut Errors) {
    match value {
        Value::String(text) => {
            let length = text.chars().count() as u64;
            if let Some(max) = facets.max_length.filter(|max| length > *max) {
                errors.too_long(path, max as usize);
            }
            if let Some(min) = facets.min_length.filter(|min| length < *min) {
                errors.invalid(path, text.clone(), format!("{path} in body should be at least {min} chars long"));
            }
            if !facets.pattern.is_empty() && pattern(&facets.pattern).is_some_and(|r| !r.is_match(text)) {
                errors.invalid(path, text.clone(), format!("{path} in body should match '{}'", facets.pattern));
            }
            if !facets.format.is_empty() && !formats::fits(text, &facets.format) {
                let detail = format!("{path} in body must be of type {}: {}", facets.format, quoted(text));
                errors.type_invalid(path, text.clone(), detail);
            }
        }
        Value::Int(_) | Value::Float(_) => number(value, facets, path, errors),
        _ => {}
    }
}

/// An integer must be one, within its format.
fn range(value: &Value, format: &str, path: &Path<'_>, errors: &mut Errors) {
    let inside = match (value, format) {
        (Value::Int(i), "int32") => i32::try_from(*i).is_ok(),
        (Value::Float(x), "int32") => x.fract() == 0.0 && x.abs() < 2_147_483_648.0,
        (Value::Float(x), _) => x.fract() == 0.0 && x.abs() < 9.223_372_036_854_775e18,
        _ => true,
    };
    if !inside {
        let format = if format.is_empty() { "(default format)".to_string() } else { format!("with format {format}") };
        let detail = format!("Checked value must be of type integer {format} in {path}");
        let value = Some(Value::from(""));
        errors.push(FieldError { kind: ErrorKind::Invalid, field: "<nil>".into(), value, detail });
    }
}

fn number(value: &Value, facets: &Facets, path: &Path<'_>, errors: &mut Errors) {
    let x = match value {
        Value::Int(i) => *i as f64,
        Value::Float(x) => *x,
        _ => return,
    };
    if let Some(step) = facets.multiple_of
        && step > 0.0
        && ((x / step) - (x / step).round()).abs() > 1e-9
    {
        errors.invalid(path, value.clone(), format!("{path} in body should be a multiple of {step}"));
    }
    if let Some(bound) = facets.maximum {
        let (broken, words) =
            if bound.exclusive { (x >= bound.value, "less than") } else { (x > bound.value, "less than or equal to") };
        if broken {
            errors.invalid(path, value.clone(), format!("{path} in body should be {words} {}", bound.value));
        }
    }
    if let Some(bound) = facets.minimum {
        let (broken, words) = if bound.exclusive {
            (x <= bound.value, "greater than")
        } else {
            (x < bound.value, "greater than or equal to")
        };
        if broken {
            errors.invalid(path, value.clone(), format!("{path} in body should be {words} {}", bound.value));
        }
    }
}

/// What is demanded of the size of a list or map.
fn counted(value: &Value, facets: &Facets, path: &Path<'_>, errors: &mut Errors) {
    match value {
        Value::List(items) => {
            let length = items.len() as u64;
            if let Some(min) = facets.min_items.filter(|min| length < *min) {
                errors.invalid(path, length as i64, format!("{path} in body should have at least {min} items"));
            }
            if let Some(max) = facets.max_items.filter(|max| length > *max) {
                errors.too_many(path, items.len(), max as usize);
            }
            if facets.unique_items && items.iter().enumerate().any(|(i, item)| items[..i].contains(item)) {
                errors.invalid(path, "", format!("{path} in body shouldn't contain duplicates"));
            }
        }
        Value::Map(map) => {
            let length = map.len() as u64;
            if let Some(min) = facets.min_properties.filter(|min| length < *min) {
                errors.invalid(path, length as i64, format!("{path} in body should have at least {min} properties"));
            }
            if let Some(max) = facets.max_properties.filter(|max| length > *max) {
                errors.too_many(path, map.len(), max as usize);
            }
        }
        _ => {}
    }
}

/// `anyOf`, `oneOf`, `allOf` and `not`, with the errors of the first branch.
fn junctors(value: &Value, facets: &Facets, path: &Path<'_>, errors: &mut Errors) {
    let Some(junctors) = &facets.junctors else { return };
    let faults = |branches: &[Node]| -> Vec<Errors> {
        let of = |branch| {
            let mut errors = Errors::new();
            value_only(value, branch, path, &mut errors);
            errors
        };
        branches.iter().map(of).collect()
    };
    let first = |faults: Vec<Errors>| faults.into_iter().next().unwrap_or_default();
    if !junctors.any_of.is_empty() {
        let faults = faults(&junctors.any_of);
        if faults.iter().all(|f| !f.is_empty()) {
            combination(path, "must validate at least one schema (anyOf)", errors);
            errors.append(first(faults));
        }
    }
    if !junctors.one_of.is_empty() {
        let faults = faults(&junctors.one_of);
        match faults.iter().filter(|f| f.is_empty()).count() {
            1 => {}
            0 => {
                combination(path, "must validate one and only one schema (oneOf). Found none valid", errors);
                errors.append(first(faults));
            }
            n => {
                let words = format!("must validate one and only one schema (oneOf). Found {n} valid alternatives");
                combination(path, &words, errors);
            }
        }
    }
    if !junctors.all_of.is_empty() {
        let faults = faults(&junctors.all_of);
        let valid = faults.iter().filter(|f| f.is_empty()).count();
        let count = faults.len();
        faults.into_iter().for_each(|f| errors.append(f));
        if valid != count {
            let none = if valid == 0 { ". None validated" } else { "" };
            combination(path, &format!("must validate all the schemas (allOf){none}"), errors);
        }
    }
    if let Some(not) = &junctors.not
        && faults(std::slice::from_ref(not)).iter().all(Errors::is_empty)
    {
        combination(path, "must not validate the schema (not)", errors);
    }
}

/// An error about a combination belongs to no field, as upstream reports it.
fn combination(path: &Path<'_>, words: &str, errors: &mut Errors) {
    let mut detail = String::new();
    let _ = write!(detail, "{:?} {words}", path.to_string());
    let value = Some(Value::from(""));
    errors.push(FieldError { kind: ErrorKind::Invalid, field: "<nil>".into(), value, detail });
}

/// A branch of a combination: it states no types (but integer or string), only demands on values.
fn value_only(value: &Value, branch: &Node, path: &Path<'_>, errors: &mut Errors) {
    let facets = branch.facets();
    if matches!(branch.ty, Type::Int64 | Type::String) && !has_type(value, &branch.ty) {
        mistyped(value, type_name(&branch.ty), "", path, errors);
    }
    if matches!(branch.ty, Type::Int64) {
        range(value, "", path, errors);
    }
    junctors(value, facets, path, errors);
    scalar(value, facets, path, errors);
    if let (Value::List(items), Type::List(inner)) = (value, &branch.ty) {
        for (i, item) in items.iter().enumerate() {
            value_only(item, inner, &path.index(i), errors);
        }
    }
    counted(value, facets, path, errors);
    enumeration(value, true, facets, path, errors);
    if let (Value::Map(map), Type::Struct(schema)) = (value, &branch.ty) {
        for field in schema.fields.iter() {
            if let Some(value) = map.get(&field.name) {
                value_only(value, &field.node, &path.child(&field.name), errors);
            }
        }
        for field in schema.fields.iter().filter(|f| f.required && !map.contains_key(&f.name)) {
            errors.required(&path.child(&field.name), "");
        }
    }
}

fn type_name(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "boolean",
        Type::Int32 | Type::Int64 => "integer",
        Type::Double => "number",
        Type::IntOrString => "integer,string",
        Type::List(_) => "array",
        Type::Map(_) | Type::Struct(_) | Type::Any(_) => "object",
        Type::String | Type::Bytes | Type::Quantity | Type::Time | Type::MicroTime | Type::Duration => "string",
    }
}

fn has_type(value: &Value, ty: &Type) -> bool {
    match ty {
        Type::Any(_) => true,
        Type::Bool => matches!(value, Value::Bool(_)),
        // A whole float is an integer in JSON.
        Type::Int32 | Type::Int64 => whole(value),
        Type::Double => matches!(value, Value::Int(_) | Value::Float(_)),
        Type::IntOrString => matches!(value, Value::String(_)) || whole(value),
        Type::Quantity => matches!(value, Value::Int(_) | Value::String(_) | Value::Float(_)),
        Type::List(_) => matches!(value, Value::List(_)),
        Type::Map(_) | Type::Struct(_) => matches!(value, Value::Map(_)),
        Type::String | Type::Bytes | Type::Time | Type::MicroTime | Type::Duration => matches!(value, Value::String(_)),
    }
}

fn whole(value: &Value) -> bool {
    match value {
        Value::Int(_) => true,
        Value::Float(x) => x.fract() == 0.0,
        _ => false,
    }
}
