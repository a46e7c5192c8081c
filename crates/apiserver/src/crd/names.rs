//! Which names a definition gets, and the conditions that say so. Pure.

use std::collections::BTreeSet;

use apimachinery::{Kind, SmolStr, Value};
use serde_json::json;

use crate::tree::{list, list_mut, set as put, strings, text, tree};

/// Keeps a deleted definition until its instances are gone.
pub const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// A condition of a definition.
#[derive(Debug, PartialEq)]
pub struct Condition<'a> {
    pub ty: &'static str,
    pub status: bool,
    pub reason: &'static str,
    pub message: &'a str,
}

impl Condition<'_> {
    pub const ESTABLISHED: Condition<'static> = Condition {
        ty: "Established",
        status: true,
        reason: "InitialNamesAccepted",
        message: "the initial names have been accepted",
    };
    pub const DELETING: Condition<'static> = Condition {
        ty: "Terminating",
        status: true,
        reason: "InstanceDeletionInProgress",
        message: "CustomResource deletion is in progress",
    };
    pub const DELETED: Condition<'static> = Condition {
        ty: "Terminating",
        status: false,
        reason: "InstanceDeletionCompleted",
        message: "removed all instances",
    };
    pub const NEVER: Condition<'static> = Condition {
        ty: "Terminating",
        status: false,
        reason: "NeverEstablished",
        message: "resource was never established",
    };

    /// The kinds could not be served.
    pub fn not_established(why: &str) -> Condition<'_> {
        Condition { ty: "Established", status: false, reason: "NotServed", message: why }
    }
}

/// Names that are in use in a group.
#[derive(Debug, Default)]
pub struct Taken {
    resources: BTreeSet<SmolStr>,
    kinds: BTreeSet<SmolStr>,
}

impl Taken {
    /// Adds what another definition holds.
    pub fn add(&mut self, definition: &Value) {
        let names = ["status", "acceptedNames"];
        let one = |key: &str| SmolStr::new(text(definition, &[names[0], names[1], key]));
        self.resources.extend([one("plural"), one("singular")]);
        self.resources.extend(strings(definition, &[names[0], names[1], "shortNames"]).into_iter().map(SmolStr::new));
        self.kinds.extend([one("kind"), one("listKind")]);
        self.resources.remove("");
        self.kinds.remove("");
    }

    /// Adds what a built-in kind holds.
    pub fn add_kind(&mut self, kind: &Kind) {
        self.resources.extend([SmolStr::new(&*kind.resource), SmolStr::new(&*kind.singular)]);
        self.resources.extend(kind.short_names.iter().map(|n| SmolStr::new(&**n)));
        self.kinds.extend([SmolStr::new(&*kind.kind), SmolStr::new(&*kind.list_kind)]);
    }
}

/// The status of a condition is `True`.
pub fn is_true(definition: &Value, ty: &str) -> bool {
    list(definition, &["status", "conditions"])
        .iter()
        .any(|c| text(c, &["type"]) == ty && text(c, &["status"]) == "True")
}

/// Sets a condition; its transition time only moves with its status.
pub fn set(definition: &mut Value, condition: &Condition<'_>, now: i64) {
    let Some(conditions) = list_mut(definition, &["status", "conditions"]) else { return };
    let status = if condition.status { "True" } else { "False" };
    let new = tree(json!({
        "type": condition.ty,
        "status": status,
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": apimachinery::time::rfc3339(now),
    }));
    match conditions.iter_mut().find(|c| text(c, &["type"]) == condition.ty) {
        Some(old) => {
            let same = text(old, &["status"]) == status;
            let since = old.get("lastTransitionTime").cloned();
            *old = new;
            if let (true, Some(since)) = (same, since) {
                put(old, &["lastTransitionTime"], since);
            }
        }
        None => conditions.push(new),
    }
}

/// The definition with its names accepted as far as they are free, and the conditions that follow.
pub fn settle(definition: &Value, taken: &Taken, now: i64) -> Value {
    let mut new = definition.clone();
    let mut conflict: Option<(&'static str, String)> = None;
    let used = |name: &str| format!("{name:?} is already in use");
    let wanted = |key: &str| text(definition, &["spec", "names", key]);
    let held = |key: &str| text(definition, &["status", "acceptedNames", key]);
    for (key, reason, names) in [
        ("plural", "PluralConflict", &taken.resources),
        ("singular", "SingularConflict", &taken.resources),
        ("kind", "KindConflict", &taken.kinds),
        ("listKind", "ListKindConflict", &taken.kinds),
    ] {
        if wanted(key) != held(key) && names.contains(wanted(key)) {
            conflict = Some((reason, used(wanted(key))));
        } else {
            put(&mut new, &["status", "acceptedNames", key], wanted(key));
        }
        if key == "singular" {
            let own = strings(definition, &["status", "acceptedNames", "shortNames"]);
            let errors: Vec<String> = strings(definition, &["spec", "names", "shortNames"])
                .into_iter()
                .filter(|n| !own.contains(n) && taken.resources.contains(*n))
                .map(used)
                .collect();
            match errors.as_slice() {
                [] => copy_list(&mut new, definition, "shortNames"),
                [one] => conflict = Some(("ShortNamesConflict", one.clone())),
                many => conflict = Some(("ShortNamesConflict", format!("[{}]", many.join(", ")))),
            }
        }
    }
    copy_list(&mut new, definition, "categories");
    let storage = list(definition, &["spec", "versions"]).iter().find(|v| crate::tree::flag(v, &["storage"]));
    if let Some(version) = storage.map(|v| text(v, &["name"]).to_string())
        && !strings(definition, &["status", "storedVersions"]).contains(&version.as_str())
        && let Some(stored) = list_mut(&mut new, &["status", "storedVersions"])
    {
        stored.push(version.into());
    }
    let (status, reason, message) = match &conflict {
        None => (true, "NoConflicts", "no conflicts found"),
        Some((reason, message)) => (false, *reason, message.as_str()),
    };
    set(&mut new, &Condition { ty: "NamesAccepted", status, reason, message }, now);
    if conflict.is_some() && !is_true(&new, "Established") {
        let message = "not all names are accepted";
        set(&mut new, &Condition { ty: "Established", status: false, reason: "NotAccepted", message }, now);
    }
    if crate::tree::flag(definition, &["spec", "preserveUnknownFields"]) {
        let message = "spec.preserveUnknownFields: Invalid value: true: must be false";
        set(&mut new, &Condition { ty: "NonStructuralSchema", status: true, reason: "Violations", message }, now);
    } else if let Some(conditions) = list_mut(&mut new, &["status", "conditions"]) {
        conditions.retain(|c| text(c, &["type"]) != "NonStructuralSchema");
    }
    new
}

fn copy_list(new: &mut Value, definition: &Value, key: &str) {
    match definition.at(&["spec", "names", key]) {
        Some(names) => put(new, &["status", "acceptedNames", key], names.clone()),
        None => {
            crate::tree::map_mut(new, &["status", "acceptedNames"]).remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(kind: &str, short: &[&str]) -> Value {
        let plural = format!("{}s", kind.to_lowercase());
        tree(json!({"spec": {
            "group": "example.com",
            "names": {
                "plural": plural, "singular": kind.to_lowercase(), "kind": kind,
                "listKind": format!("{kind}List"), "shortNames": short,
            },
            "versions": [{"name": "v1", "storage": true}],
        }}))
    }

    #[test]
    fn free_names_are_accepted() {
        let new = settle(&definition("Widget", &["w"]), &Taken::default(), 0);
        assert!(is_true(&new, "NamesAccepted"));
        assert_eq!(text(&new, &["status", "acceptedNames", "plural"]), "widgets");
        assert_eq!(strings(&new, &["status", "acceptedNames", "shortNames"]), ["w"]);
        assert_eq!(strings(&new, &["status", "storedVersions"]), ["v1"]);
        assert_eq!(settle(&new, &Taken::default(), 9), new, "a second time changes nothing");
    }

    #[test]
    fn taken_names_are_refused_one_by_one() {
        let mut taken = Taken::default();
        taken.add(&settle(&definition("Widget", &["w"]), &Taken::default(), 0));
        let new = settle(&definition("Wheel", &["w"]), &taken, 0);
        assert!(!is_true(&new, "NamesAccepted") && !is_true(&new, "Established"));
        let conditions = list(&new, &["status", "conditions"]);
        assert_eq!(text(&conditions[0], &["reason"]), "ShortNamesConflict");
        assert_eq!(text(&conditions[0], &["message"]), "\"w\" is already in use");
        assert_eq!(text(&new, &["status", "acceptedNames", "plural"]), "wheels");
        let mut built_in = Taken::default();
        built_in.add_kind(&api::core::pod::kind());
        let new = settle(&definition("Pod", &[]), &built_in, 0);
        assert_eq!(text(&list(&new, &["status", "conditions"])[0], &["reason"]), "ListKindConflict");
    }

    #[test]
    fn transition_times_move_with_the_status() {
        let mut definition = tree(json!({}));
        set(&mut definition, &Condition::DELETING, 100);
        set(&mut definition, &Condition { reason: "Other", ..Condition::DELETING }, 200);
        let time = |d: &Value| text(&list(d, &["status", "conditions"])[0], &["lastTransitionTime"]).to_string();
        assert_eq!(time(&definition), apimachinery::time::rfc3339(100));
        set(&mut definition, &Condition::DELETED, 300);
        assert_eq!(time(&definition), apimachinery::time::rfc3339(300));
    }
}
