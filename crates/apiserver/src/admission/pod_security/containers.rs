//! Walks and words that the checks share.

use std::collections::BTreeSet;

use apimachinery::Value;

use super::super::pod;
use crate::tree::text;

/// The names of the containers that `bad` accepts.
pub fn names<'a>(spec: &'a Value, mut bad: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
    pod::containers(spec).filter(|(_, _, c)| bad(c)).map(|(_, _, c)| text(c, &["name"])).collect()
}

/// The value at a path below `securityContext`.
pub fn security<'a>(holder: &'a Value, path: &[&str]) -> Option<&'a Value> {
    holder.get("securityContext")?.at(path).filter(|v| !v.is_null())
}

/// One or several.
pub fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `"a", "b"`.
pub fn quoted<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    items.into_iter().map(|i| format!("\"{}\"", i.as_ref())).collect::<Vec<_>>().join(", ")
}

/// `container "a"` or `containers "a", "b"`.
pub fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// Who set something: the pod, containers, or both.
pub fn setters(pod: bool, names: &[&str]) -> Option<String> {
    let mut parts = Vec::new();
    if pod {
        parts.push("pod".to_string());
    }
    if !names.is_empty() {
        parts.push(containers(names));
    }
    (!parts.is_empty()).then(|| parts.join(" and "))
}

/// Texts, sorted and each once.
pub type Texts = BTreeSet<String>;
