//! Structural validation: what a schema and metadata demand of a tree, in upstream's words.

use regex::Regex;

use crate::field::{Errors, Path};
use crate::kind::Kind;
use crate::schema::{Facets, ListType, Node, Struct, Type};
use crate::validation;
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
        (Value::String(text), Type::String) if !enumeration.is_empty() && !text.is_empty() => {
            if !enumeration.iter().any(|e| e == text.as_str()) {
                let supported: Vec<&str> = enumeration.iter().map(AsRef::as_ref).collect();
                errors.not_supported(path, text.clone(), &supported);
            }
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
        let below = path.child(&field.name);
        match map.get(&field.name) {
            Some(value) => node(value, old.and_then(|o| o.get(&field.name)), &field.node, &below, errors),
            None if field.required => errors.required(&below, ""),
            None => {}
        }
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
            errors.type_invalid(path, "null", format!("{path} in body must be of type {}: \"null\"", type_name(&node.ty)));
        }
        return;
    }
    if !has_type(value, &node.ty) {
        let found = value.type_name();
        errors.type_invalid(path, found, format!("{path} in body must be of type {}: {found:?}", type_name(&node.ty)));
        return;
    }
    let before = errors.len();
    own(value, facets, path, errors);
    junctors(value, facets, path, errors);
    if facets.immutable && old.is_some() && errors.len() == before {
        errors.invalid(path, value.clone(), "field is immutable");
    }
    match (value, &node.ty) {
        (Value::Map(map), Type::Struct(schema)) => object(map, old.and_then(Value::as_map), schema, path, errors),
        (Value::Map(map), Type::Map(inner)) => {
            for (key, item) in map.iter() {
                let old = old.and_then(|o| o.get(key));
                self::node(item, old, inner, &path.child(key), errors);
            }
        }
        (Value::List(items), Type::List(inner)) => list(items, old, facets, inner, path, errors),
        _ => {}
    }
}

fn list(items: &[Value], old: Option<&Value>, facets: &Facets, inner: &Node, path: &Path<'_>, errors: &mut Errors) {
    let old_items = old.and_then(Value::as_list).unwrap_or_default();
    for (i, item) in items.iter().enumerate() {
        // Elements of a keyed list are compared with the one of the same keys.
        let old = match facets.list_type {
            Some(ListType::Map) => old_items.iter().find(|o| keys_of(o, facets) == keys_of(item, facets)),
            Some(ListType::Set) => old_items.iter().find(|o| *o == item),
            _ => old_items.get(i),
        };
        node(item, old, inner, &path.index(i), errors);
    }
    match facets.list_type {
        Some(ListType::Set) => {
            for (i, item) in items.iter().enumerate() {
                if items[..i].contains(item) {
                    errors.duplicate(&path.index(i), item.clone());
                }
            }
        }
        Some(ListType::Map) => {
            for (i, item) in items.iter().enumerate() {
                let keys = keys_of(item, facets);
                if items[..i].iter().any(|other| keys_of(other, facets) == keys) {
                    let shown: Map = facets
                        .list_map_keys
                        .iter()
                        .zip(keys)
                        .filter_map(|(k, v)| Some((k.as_ref().into(), v?.clone())))
                        .collect();
                    errors.duplicate(&path.index(i), shown);
                }
            }
        }
        _ => {}
    }
}

fn keys_of<'a>(item: &'a Value, facets: &Facets) -> Vec<Option<&'a Value>> {
    facets.list_map_keys.iter().map(|key| item.get(key)).collect()
}

/// The keywords that speak of a value itself.
fn own(value: &Value, facets: &Facets, path: &Path<'_>, errors: &mut Errors) {
    if !facets.enumeration.is_empty() {
        // Texts stand as they are; other values as their JSON.
        let text = match value {
            Value::String(text) => text.to_string(),
            other => crate::json_text::write(other),
        };
        if !facets.enumeration.iter().any(|e| *e == text) {
            let supported: Vec<&str> = facets.enumeration.iter().map(AsRef::as_ref).collect();
            errors.not_supported(path, value.clone(), &supported);
        }
    }
    match value {
        Value::String(text) => {
            let length = text.chars().count() as u64;
            if let Some(max) = facets.max_length.filter(|max| length > *max) {
                errors.too_long(path, max as usize);
            }
            if let Some(min) = facets.min_length.filter(|min| length < *min) {
                errors.invalid(path, text.clone(), format!("{path} in body should be at least {min} chars long"));
            }
            if !facets.pattern.is_empty() && Regex::new(&facets.pattern).is_ok_and(|r| !r.is_match(text)) {
                errors.invalid(path, text.clone(), format!("{path} in body should match '{}'", facets.pattern));
            }
            if !facets.format.is_empty() && !has_format(text, &facets.format) {
                errors.invalid(path, text.clone(), format!("{path} in body must be of type {}: {:?}", facets.format, text.as_str()));
            }
        }
        Value::Int(_) | Value::Float(_) => number(value, facets, path, errors),
        Value::List(items) => {
            let length = items.len() as u64;
            if let Some(max) = facets.max_items.filter(|max| length > *max) {
                errors.too_many(path, items.len(), max as usize);
            }
            if let Some(min) = facets.min_items.filter(|min| length < *min) {
                errors.invalid(path, length as i64, format!("{path} in body should have at least {min} items"));
            }
            if facets.unique_items && items.iter().enumerate().any(|(i, item)| items[..i].contains(item)) {
                errors.invalid(path, value.clone(), format!("{path} in body shouldn't contain duplicates"));
            }
        }
        Value::Map(map) => {
            let length = map.len() as u64;
            if let Some(max) = facets.max_properties.filter(|max| length > *max) {
                errors.too_many(path, map.len(), max as usize);
            }
            if let Some(min) = facets.min_properties.filter(|min| length < *min) {
                errors.invalid(path, length as i64, format!("{path} in body should have at least {min} properties"));
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn number(value: &Value, facets: &Facets, path: &Path<'_>, errors: &mut Errors) {
    let x = match value {
        Value::Int(i) => *i as f64,
        Value::Float(x) => *x,
        _ => return,
    };
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
    if let Some(bound) = facets.maximum {
        let (broken, words) =
            if bound.exclusive { (x >= bound.value, "less than") } else { (x > bound.value, "less than or equal to") };
        if broken {
            errors.invalid(path, value.clone(), format!("{path} in body should be {words} {}", bound.value));
        }
    }
    if let Some(step) = facets.multiple_of
        && step > 0.0
        && (x / step).fract().abs() > 1e-9
    {
        errors.invalid(path, value.clone(), format!("{path} in body should be a multiple of {step}"));
    }
}

fn junctors(value: &Value, facets: &Facets, path: &Path<'_>, errors: &mut Errors) {
    let Some(junctors) = &facets.junctors else { return };
    let passes = |branch: &Node| {
        let mut inner = Errors::new();
        value_only(value, branch, path, &mut inner);
        inner.is_empty()
    };
    for branch in &junctors.all_of {
        value_only(value, branch, path, errors);
    }
    if !junctors.any_of.is_empty() && !junctors.any_of.iter().any(passes) {
        errors.invalid(path, "", format!("{path:#} in body must validate at least one schema (anyOf)", path = path));
    }
    if !junctors.one_of.is_empty() {
        let count = junctors.one_of.iter().filter(|b| passes(b)).count();
        if count != 1 {
            let found = if count == 0 { "Found none valid".to_string() } else { format!("Found {count} valid alternatives") };
            errors.invalid(path, "", format!("{path} in body must validate one and only one schema (oneOf). {found}"));
        }
    }
    if junctors.not.as_ref().is_some_and(passes) {
        errors.invalid(path, "", format!("{path} in body must not validate the schema (not)"));
    }
}

/// A branch of a junctor: it has no types of its own, only demands on values.
fn value_only(value: &Value, branch: &Node, path: &Path<'_>, errors: &mut Errors) {
    own(value, branch.facets(), path, errors);
    junctors(value, branch.facets(), path, errors);
    match (value, &branch.ty) {
        (Value::Map(map), Type::Struct(schema)) => {
            for field in schema.fields.iter() {
                let below = path.child(&field.name);
                match map.get(&field.name) {
                    Some(value) => value_only(value, &field.node, &below, errors),
                    None if field.required => errors.required(&below, ""),
                    None => {}
                }
            }
        }
        (Value::Map(map), Type::Map(inner)) => {
            for (key, item) in map.iter() {
                value_only(item, inner, &path.child(key), errors);
            }
        }
        (Value::List(items), Type::List(inner)) => {
            for (i, item) in items.iter().enumerate() {
                value_only(item, inner, &path.index(i), errors);
            }
        }
        // A branch may state the type to tell alternatives apart.
        (value, ty) if !matches!(ty, Type::Any(_)) && !has_type(value, ty) => {
            errors.type_invalid(path, value.type_name(), format!("{path} in body must be of type {}", type_name(ty)));
        }
        _ => {}
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
        Type::Int32 | Type::Int64 => match value {
            Value::Int(_) => true,
            Value::Float(x) => x.fract() == 0.0,
            _ => false,
        },
        Type::Double => matches!(value, Value::Int(_) | Value::Float(_)),
        Type::IntOrString | Type::Quantity => matches!(value, Value::Int(_) | Value::String(_) | Value::Float(_)),
        Type::List(_) => matches!(value, Value::List(_)),
        Type::Map(_) | Type::Struct(_) => matches!(value, Value::Map(_)),
        Type::String | Type::Bytes | Type::Time | Type::MicroTime | Type::Duration => matches!(value, Value::String(_)),
    }
}

/// Formats that are enforced; others say something to people only.
fn has_format(text: &str, format: &str) -> bool {
    match format {
        "date-time" => crate::time::parse_rfc3339(text).is_some(),
        "date" => crate::time::parse_rfc3339(&format!("{text}T00:00:00Z")).is_some(),
        "ipv4" => text.parse::<std::net::Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<std::net::Ipv6Addr>().is_ok(),
        "uuid" => {
            let parts: Vec<usize> = text.split('-').map(str::len).collect();
            parts == [8, 4, 4, 4, 12] && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
        }
        "duration" => crate::time::Duration::parse(text).is_some(),
        "byte" => {
            use base64::Engine as _;
            base64::engine::general_purpose::STANDARD.decode(text).is_ok()
        }
        _ => true,
    }
}

/// All annotations together, as upstream limits them.
const MAX_ANNOTATIONS: usize = 256 << 10;

/// Checks metadata: what every kind demands, and what no update may change.
pub fn metadata(tree: &Value, old: Option<&Value>, kind: &Kind, errors: &mut Errors) {
    let empty = Map::new();
    let meta = tree.get("metadata").and_then(Value::as_map).unwrap_or(&empty);
    let root = Path::new("metadata");
    let text = |key: &str| meta.get(key).and_then(Value::as_str).unwrap_or_default();
    if kind.hooks.write.is_none() && old.is_none() {
        // A custom resource; a built-in's own rules know the form of its names.
        validation::check_name(errors, text("name"), text("generateName"), validation::dns_subdomain);
    }
    if kind.namespaced && text("namespace").is_empty() {
        errors.required(&root.child("namespace"), "");
    }
    if let Some(labels) = meta.get("labels").and_then(Value::as_map) {
        let path = root.child("labels");
        for (key, value) in labels.iter() {
            for why in validation::qualified_name(key) {
                errors.invalid(&path, key.clone(), why);
            }
            for why in validation::label_value(value.as_str().unwrap_or_default()) {
                errors.invalid(&path, value.clone(), why);
            }
        }
    }
    if let Some(annotations) = meta.get("annotations").and_then(Value::as_map) {
        let path = root.child("annotations");
        let mut total = 0;
        for (key, value) in annotations.iter() {
            for why in validation::qualified_name(&key.to_ascii_lowercase()) {
                errors.invalid(&path, key.clone(), why);
            }
            total += key.len() + value.as_str().unwrap_or_default().len();
        }
        if total > MAX_ANNOTATIONS {
            errors.too_long(&path, MAX_ANNOTATIONS);
        }
    }
    owners(meta, &root, errors);
    finalizers(meta, &root, errors);
    if let Some(old) = old {
        unchanged(meta, old.get("metadata").and_then(Value::as_map).unwrap_or(&empty), &root, errors);
    }
}

fn owners(meta: &Map, root: &Path<'_>, errors: &mut Errors) {
    let path = root.child("ownerReferences");
    let mut controller: Option<String> = None;
    for (i, owner) in meta.get("ownerReferences").and_then(Value::as_list).unwrap_or_default().iter().enumerate() {
        let at = path.index(i);
        let text = |key: &str| owner.str_at(&[key]).unwrap_or_default();
        for key in ["apiVersion", "kind", "name", "uid"] {
            if text(key).is_empty() {
                let what = match key {
                    "apiVersion" => "version must not be empty".to_string(),
                    key => format!("{key} must not be empty"),
                };
                errors.invalid(&at.child(key), "", what);
            }
        }
        if owner.get("controller").and_then(Value::as_bool) == Some(true) {
            let name = format!("{}/{}", text("kind"), text("name"));
            match &controller {
                None => controller = Some(name),
                Some(first) => errors.invalid(
                    &path,
                    owner.clone(),
                    format!("Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"),
                ),
            }
        }
    }
}

fn finalizers(meta: &Map, root: &Path<'_>, errors: &mut Errors) {
    let path = root.child("finalizers");
    let list: Vec<&str> = meta
        .get("finalizers")
        .and_then(Value::as_list)
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for (i, name) in list.iter().enumerate() {
        for why in validation::qualified_name(name) {
            errors.invalid(&path.index(i), *name, why);
        }
    }
    if list.contains(&"orphan") && list.contains(&"foregroundDeletion") {
        let value: Vec<Value> = list.iter().map(|f| Value::from(*f)).collect();
        errors.invalid(&path, value, "finalizer orphan and foregroundDeletion cannot be both set");
    }
}

/// Members that identify an object, and finalizers that may not be added once it is going.
fn unchanged(meta: &Map, old: &Map, root: &Path<'_>, errors: &mut Errors) {
    for key in ["name", "namespace", "uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds"] {
        let (new, before) = (meta.get(key), old.get(key));
        if new != before && before.is_some() {
            errors.invalid(&root.child(key), new.cloned().unwrap_or_default(), "field is immutable");
        }
    }
    if old.get("deletionTimestamp").is_some_and(|v| !v.is_null()) {
        let list = |map: &Map| map.get("finalizers").and_then(Value::as_list).unwrap_or_default().to_vec();
        let before = list(old);
        let added: Vec<String> = list(meta)
            .iter()
            .filter(|f| !before.contains(f))
            .filter_map(|f| f.as_str().map(|f| format!("{f:?}")))
            .collect();
        if !added.is_empty() {
            errors.forbidden(
                &root.child("finalizers"),
                format!("no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}", added.join(", ")),
            );
        }
    }
}
