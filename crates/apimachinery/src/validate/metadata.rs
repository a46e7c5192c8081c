//! What every kind demands of metadata, and what no update may change.

use crate::field::{Errors, Path};
use crate::kind::Kind;
use crate::validation;
use crate::value::{Map, Value};

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
                errors.required(&at.child(key), "must not be empty");
            } else if key == "apiVersion" && !is_version(text(key)) {
                errors.invalid(&at.child(key), text(key), "must be <group>/<version> or <version>");
            }
        }
        if owner.get("controller").and_then(Value::as_bool) == Some(true) {
            let name = format!("{}/{}", text("kind"), text("name"));
            match &controller {
                None => controller = Some(name),
                Some(first) => errors.invalid(
                    &path,
                    meta.get("ownerReferences").cloned().unwrap_or_default(),
                    format!("Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"),
                ),
            }
        }
    }
}

/// `<group>/<version>` or `<version>`.
fn is_version(text: &str) -> bool {
    let version = text.split_once('/').map_or(text, |(_, version)| version);
    !version.is_empty() && !version.contains('/')
}

fn finalizers(meta: &Map, root: &Path<'_>, errors: &mut Errors) {
    let path = root.child("finalizers");
    let list: Vec<&str> =
        meta.get("finalizers").and_then(Value::as_list).unwrap_or_default().iter().filter_map(Value::as_str).collect();
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
