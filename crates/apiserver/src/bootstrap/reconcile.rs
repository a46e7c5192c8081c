//! What becomes of an object that is there already: never less than it was, unless it is ours alone.

use std::sync::Arc;

use apimachinery::{SmolStr, Value};

use crate::authz::rbac;
use crate::tree::{annotation, list, list_mut, map_mut, set, text};

/// How an existing object is brought up to date.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// It is left alone.
    Keep,
    /// Missing rules, aggregation selectors, labels and annotations are added.
    Role,
    /// Missing subjects, labels and annotations are added.
    Binding,
    /// The spec follows while the auto-update annotation is `true`; mandatory ones always follow.
    FlowControl { mandatory: bool },
    /// These fields are ours.
    Fields(&'static [&'static [&'static str]]),
}

const RBAC_AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";
const FLOW_AUTOUPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// The object as it should be; `None` when it is so already.
pub fn reconcile(rule: Rule, current: &Value, wanted: &Value) -> Option<Value> {
    let mut new = current.clone();
    match rule {
        Rule::Keep => return None,
        Rule::Role => {
            if annotation(current, RBAC_AUTOUPDATE) == Some("false") {
                return None;
            }
            add_metadata(&mut new, wanted);
            add_rules(&mut new, current, wanted);
        }
        Rule::Binding => {
            if annotation(current, RBAC_AUTOUPDATE) == Some("false") {
                return None;
            }
            add_metadata(&mut new, wanted);
            add_subjects(&mut new, wanted);
        }
        Rule::FlowControl { mandatory } => {
            if !mandatory && !follows(current) {
                return None;
            }
            if let Some(spec) = wanted.get("spec") {
                overlay(map_mut(&mut new, &["spec"]), spec);
            }
            set(&mut new, &["metadata", "annotations", FLOW_AUTOUPDATE], "true");
        }
        Rule::Fields(paths) => {
            for path in paths {
                let value = wanted.at(path).cloned().unwrap_or_default();
                // Defaulted fields that we do not name would look like a difference, so maps are laid over.
                match (new.at(path), value) {
                    (Some(Value::List(old)), Value::List(items)) if old.len() == items.len() => {
                        if let Some(old) = list_mut(&mut new, path) {
                            for (old, item) in old.iter_mut().zip(items) {
                                match old {
                                    Value::Map(map) => overlay(map, &item),
                                    other => *other = item,
                                }
                            }
                        }
                    }
                    (_, value) => set(&mut new, path, value),
                }
            }
        }
    }
    (new != *current).then_some(new)
}

/// An object created by the first generation, whose annotation nobody has touched, follows too.
fn follows(current: &Value) -> bool {
    match annotation(current, FLOW_AUTOUPDATE) {
        Some(text) => text == "true",
        None => current.at(&["metadata", "generation"]).and_then(Value::as_i64) == Some(1),
    }
}

fn overlay(map: &mut apimachinery::Map, wanted: &Value) {
    let Value::Map(wanted) = wanted else { return };
    for (key, value) in wanted.iter() {
        match (map.get_mut(key), value) {
            (Some(Value::Map(old)), Value::Map(_)) => overlay(old, value),
            _ => {
                map.insert(key.clone(), value.clone());
            }
        }
    }
}

fn add_metadata(new: &mut Value, wanted: &Value) {
    for key in ["labels", "annotations"] {
        let Some(Value::Map(wanted)) = wanted.at(&["metadata", key]) else { continue };
        let present = map_mut(new, &["metadata", key]);
        for (name, value) in wanted.iter() {
            if !present.contains_key(name) {
                present.insert(name.clone(), value.clone());
            }
        }
    }
}

fn rules(tree: &Value) -> Vec<rbac::Rule> {
    list(tree, &["rules"]).iter().map(rbac::Rule::read).collect()
}

fn rule_tree(rule: &rbac::Rule) -> Value {
    let mut tree = Value::Map(apimachinery::Map::new());
    for (key, items) in [
        ("verbs", &rule.verbs),
        ("apiGroups", &rule.groups),
        ("resources", &rule.resources),
        ("resourceNames", &rule.names),
        ("nonResourceURLs", &rule.urls),
    ] {
        if !items.is_empty() {
            set(&mut tree, &[key], items.iter().cloned().map(Value::String).collect::<Vec<_>>());
        }
    }
    tree
}

fn add_rules(new: &mut Value, current: &Value, wanted: &Value) {
    let held: Vec<Arc<rbac::Rule>> = rules(current).into_iter().map(Arc::new).collect();
    let missing = rbac::uncovered(&held, &rules(wanted));
    if !missing.is_empty()
        && let Some(rules) = list_mut(new, &["rules"])
    {
        rules.extend(missing.iter().map(rule_tree));
    }
    let selectors = ["aggregationRule", "clusterRoleSelectors"];
    if wanted.get("aggregationRule").is_none() {
        if let Some(map) = new.as_map_mut() {
            map.remove("aggregationRule");
        }
        return;
    }
    let present = list(current, &selectors);
    let missing: Vec<Value> = list(wanted, &selectors).iter().filter(|s| !present.contains(s)).cloned().collect();
    if !missing.is_empty()
        && let Some(list) = list_mut(new, &selectors)
    {
        list.extend(missing);
    }
}

fn add_subjects(new: &mut Value, wanted: &Value) {
    let identity = |s: &Value| -> [SmolStr; 3] { ["kind", "namespace", "name"].map(|key| text(s, &[key]).into()) };
    let present: Vec<[SmolStr; 3]> = list(new, &["subjects"]).iter().map(identity).collect();
    let missing: Vec<Value> =
        list(wanted, &["subjects"]).iter().filter(|s| !present.contains(&identity(s))).cloned().collect();
    if !missing.is_empty()
        && let Some(list) = list_mut(new, &["subjects"])
    {
        list.extend(missing);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tree;
    use serde_json::json;

    #[test]
    fn roles_gain_what_they_lack_and_lose_nothing() {
        let wanted = tree(json!({
            "metadata": {"labels": {"a": "new", "b": "1"}},
            "rules": [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}],
        }));
        let current = tree(json!({
            "metadata": {"labels": {"a": "own"}},
            "rules": [{"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods"]}],
        }));
        let new = reconcile(Rule::Role, &current, &wanted).unwrap();
        assert_eq!(text(&new, &["metadata", "labels", "a"]), "own");
        assert_eq!(list(&new, &["rules"]).len(), 2);
        assert!(reconcile(Rule::Role, &new, &wanted).is_none(), "once is enough");
        let protected = tree(json!({"metadata": {"annotations": {RBAC_AUTOUPDATE: "false"}}}));
        assert!(reconcile(Rule::Role, &protected, &wanted).is_none());
    }

    #[test]
    fn bindings_gain_subjects() {
        let wanted = tree(json!({"subjects": [{"kind": "Group", "name": "g", "apiGroup": "x"}]}));
        let current = tree(json!({"subjects": [{"kind": "User", "name": "u"}]}));
        let new = reconcile(Rule::Binding, &current, &wanted).unwrap();
        assert_eq!(list(&new, &["subjects"]).len(), 2);
        assert!(reconcile(Rule::Binding, &new, &wanted).is_none());
    }

    #[test]
    fn own_fields_follow_and_defaulted_ones_are_no_difference() {
        let rule = Rule::Fields(&[&["spec", "ports"]]);
        let wanted = tree(json!({"spec": {"ports": [{"port": 443, "targetPort": 6443}]}}));
        let same = tree(json!({"spec": {"ports": [{"port": 443, "targetPort": 6443, "protocol": "TCP"}], "x": 1}}));
        assert!(reconcile(rule, &same, &wanted).is_none());
        let moved = tree(json!({"spec": {"ports": [{"port": 443, "targetPort": 1, "protocol": "TCP"}], "x": 1}}));
        assert_eq!(reconcile(rule, &moved, &wanted), Some(same));
        assert!(reconcile(Rule::Keep, &moved, &wanted).is_none());
    }

    #[test]
    fn flow_control_follows_unless_told_not_to() {
        let rule = Rule::FlowControl { mandatory: false };
        let wanted = tree(json!({"spec": {"a": 1}}));
        let ours = tree(json!({"metadata": {"annotations": {FLOW_AUTOUPDATE: "true"}}, "spec": {"a": 2}}));
        assert_eq!(reconcile(rule, &ours, &wanted).unwrap().at(&["spec", "a"]), Some(&Value::Int(1)));
        let theirs = tree(json!({"metadata": {"annotations": {FLOW_AUTOUPDATE: "false"}}, "spec": {"a": 2}}));
        assert!(reconcile(rule, &theirs, &wanted).is_none());
        assert!(reconcile(Rule::FlowControl { mandatory: true }, &theirs, &wanted).is_some());
    }
}
