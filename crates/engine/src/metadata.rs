//! What the engine itself does to `metadata`: system fields, generation, finalizers, generated names.

use apimachinery::{GroupResource, Kind, Map, SmolStr, Status, Value, kind::Generation};

use crate::options::Preconditions;

/// Characters of generated name suffixes: no vowels and nothing that looks like another, as upstream.
const SUFFIX_ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const SUFFIX_LENGTH: usize = 5;
/// A generated name is at most this long.
const GENERATED_LENGTH: usize = 63;

pub(crate) fn metadata(tree: &Value) -> &Map {
    static EMPTY: Map = Map::new();
    tree.get("metadata").and_then(Value::as_map).unwrap_or(&EMPTY)
}

/// The metadata map, made when it is missing or not a map.
pub(crate) fn metadata_mut(tree: &mut Value) -> &mut Map {
    if !tree.is_map() {
        *tree = Value::Map(Map::new());
    }
    let Value::Map(object) = tree else { unreachable!("made a map above") };
    let metadata = object.get_or_insert_with("metadata", || Value::Map(Map::new()));
    if !metadata.is_map() {
        *metadata = Value::Map(Map::new());
    }
    let Value::Map(metadata) = metadata else { unreachable!("made a map above") };
    metadata
}

pub(crate) fn text<'a>(tree: &'a Value, key: &str) -> &'a str {
    metadata(tree).get(key).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn finalizers(tree: &Value) -> Vec<&str> {
    metadata(tree)
        .get("finalizers")
        .and_then(Value::as_list)
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_str)
        .collect()
}

pub(crate) fn set_finalizers(tree: &mut Value, finalizers: Vec<SmolStr>) {
    let metadata = metadata_mut(tree);
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers", finalizers.into_iter().map(Value::String).collect::<Vec<_>>());
    }
}

pub(crate) fn is_deleting(tree: &Value) -> bool {
    metadata(tree).get("deletionTimestamp").is_some_and(|v| !v.is_null())
}

/// Copies metadata members from `old`, removing those that it does not have.
pub(crate) fn keep(new: &mut Value, old: &Value, keys: &[&str]) {
    let old = metadata(old);
    let new = metadata_mut(new);
    for key in keys {
        match old.get(key) {
            Some(value) => {
                new.insert(*key, value.clone());
            }
            None => {
                new.remove(key);
            }
        }
    }
}

/// Keeps a top-level member (`spec`, `status`) as it was.
pub(crate) fn keep_member(new: &mut Value, old: &Value, member: &str) {
    let Some(map) = new.as_map_mut() else { return };
    match old.get(member) {
        Some(value) => {
            map.insert(member, value.clone());
        }
        None => {
            map.remove(member);
        }
    }
}

/// A fresh name from `metadata.generateName`.
pub fn generate_name(base: &str) -> String {
    let room = GENERATED_LENGTH - SUFFIX_LENGTH;
    let end = (0..=base.len().min(room)).rev().find(|i| base.is_char_boundary(*i)).unwrap_or(0);
    let random = uuid::Uuid::new_v4();
    let suffix = random.as_bytes()[..SUFFIX_LENGTH].iter().map(|b| {
        // The bias of 256 modulo 27 is harmless in a name.
        char::from(SUFFIX_ALPHABET[usize::from(*b) % SUFFIX_ALPHABET.len()])
    });
    base[..end].chars().chain(suffix).collect()
}

/// Gives an update its generation: the old one, or one more when content that counts has changed.
pub(crate) fn bump_generation(kind: &Kind, new: &mut Value, old: &Value) {
    let current = metadata(old).get("generation").and_then(Value::as_i64);
    let changed = match kind.generation {
        Generation::None => false,
        Generation::OnSpec => !same(new.get("spec"), old.get("spec")),
        Generation::OnContent => {
            let status = if kind.status { Some("status") } else { None };
            content_differs(new, old, &["metadata", "apiVersion", "kind"], status)
        }
    };
    let generation = match (current, changed) {
        (Some(n), true) => Some(n + 1),
        (None, true) => Some(1),
        (n, false) => n,
    };
    match generation {
        Some(n) => {
            metadata_mut(new).insert("generation", n);
        }
        None => {
            metadata_mut(new).remove("generation");
        }
    }
}

/// Whether two values mean the same: what is left out is like what is empty, as upstream's semantic equality has it.
fn same(a: Option<&Value>, b: Option<&Value>) -> bool {
    let empty = |v: Option<&Value>| match v {
        None | Some(Value::Null) => true,
        Some(Value::Map(map)) => map.is_empty(),
        Some(Value::List(list)) => list.is_empty(),
        Some(_) => false,
    };
    match (a, b) {
        (Some(Value::Map(a)), Some(Value::Map(b))) => a.keys().chain(b.keys()).all(|key| same(a.get(key), b.get(key))),
        (Some(Value::List(a)), Some(Value::List(b))) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same(Some(a), Some(b)))
        }
        (a, b) => a == b || (empty(a) && empty(b)),
    }
}

fn content_differs(new: &Value, old: &Value, skip: &[&str], also: Option<&str>) -> bool {
    let (Some(new), Some(old)) = (new.as_map(), old.as_map()) else { return new != old };
    let counts = |key: &str| !skip.contains(&key) && Some(key) != also;
    let keys = new.keys().chain(old.keys());
    keys.filter(|k| counts(k)).any(|k| !same(new.get(k), old.get(k)))
}

/// Checks a delete's or update's preconditions against the stored object.
pub(crate) fn check_preconditions(kind: &Kind, name: &str, tree: &Value, wanted: &Preconditions) -> Result<(), Status> {
    let found = (text(tree, "uid"), text(tree, "resourceVersion"));
    let uid = wanted.uid.as_deref().filter(|wanted| *wanted != found.0);
    let version = wanted.resource_version.as_deref().filter(|wanted| *wanted != found.1);
    // Kinds whose deletes begin in a way of their own also refuse them in words of their own.
    if kind.begin_delete.is_some() {
        let why = match (uid, version) {
            (Some(uid), _) => {
                format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", found.0)
            }
            (None, Some(version)) => format!(
                "Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {}",
                found.1
            ),
            (None, None) => return Ok(()),
        };
        return Err(Status::conflict(&kind.group_resource(), name, why));
    }
    let why = match (uid, version) {
        (Some(uid), _) => format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted and then recreated",
            found.0
        ),
        (None, Some(version)) => format!(
            "the ResourceVersion in the precondition ({version}) does not match the ResourceVersion in record ({}). The object might have been modified",
            found.1
        ),
        (None, None) => return Ok(()),
    };
    // Upstream names the kind where the resource is meant.
    let named = GroupResource { group: kind.group.as_ref().into(), resource: kind.kind.as_ref().into() };
    Err(Status::conflict(&named, name, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_names_fit_and_use_the_alphabet() {
        let name = generate_name(&"x".repeat(80));
        assert_eq!(name.len(), 63);
        assert!(name[58..].bytes().all(|b| SUFFIX_ALPHABET.contains(&b)));
        assert_ne!(generate_name("a-"), generate_name("a-"));
    }
}

#[cfg(test)]
mod generation_tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_like_what_is_empty() {
        let tree = |text: &str| apimachinery::codec::json::parse(text.as_bytes()).unwrap();
        let (a, b) = (tree(r#"{"a":[{"r":{},"n":"x"}],"m":null}"#), tree(r#"{"a":[{"n":"x","l":[]}]}"#));
        assert!(same(Some(&a), Some(&b)));
        assert!(!same(Some(&tree(r#"{"n":0}"#)), Some(&tree("{}"))));
        assert!(!same(Some(&a), Some(&tree(r#"{"a":[{"n":"y"}]}"#))));
    }
}
