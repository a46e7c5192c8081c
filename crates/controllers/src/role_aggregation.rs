//! Gathers the rules of aggregated cluster roles from the roles that their selectors pick: `admin`, `edit` and `view` are
//! such roles, and anyone may add to them by a label.

use std::sync::Arc;

use api::rbac::clusterrole::ClusterRole;
use api::rbac::role::PolicyRule;
use apimachinery::resource::Resource;
use apimachinery::selector::LabelSelector;
use apimachinery::{Api, Map, SmolStr, Status, Value};
use client::{Informer, Outcome, PatchKind, Queue, Scope, run_workers};

use crate::Context;

/// Runs the controller.
pub async fn run(cx: Context) {
    let roles = Informer::start(&cx.watcher, ClusterRole::resource(), Scope::default(), View::read);
    roles.synced().await;
    let queue: Queue<SmolStr> = Queue::new();
    let (to, all) = (queue.clone(), roles.clone());
    // Any role may be a part of any aggregated one, before a change or after it.
    roles.on_change(move |_| {
        for (key, _) in all.filter(|_, role| !role.selectors.is_empty()) {
            to.add(key.name);
        }
    });
    for (key, _) in roles.filter(|_, role| !role.selectors.is_empty()) {
        queue.add(key.name);
    }
    run_workers("clusterrole-aggregation-controller", queue, 1, move |name| {
        let (cx, roles) = (cx.clone(), roles.clone());
        async move {
            let Some(role) = roles.get("", &name) else { return Ok(Outcome::Done) };
            if role.selectors.is_empty() {
                return Ok(Outcome::Done);
            }
            let all: Vec<(SmolStr, Arc<View>)> = roles.all().into_iter().map(|(key, role)| (key.name, role)).collect();
            let rules = gather(&name, &role.selectors, all);
            if rules != role.rules {
                write(&cx, &name, &rules).await?;
            }
            Ok(Outcome::Done)
        }
    })
    .await;
}

/// What the controller looks at in a role.
#[derive(Clone, Debug, Default, PartialEq)]
struct View {
    labels: Value,
    rules: Vec<PolicyRule>,
    /// Of its parts; empty in a role with rules of its own.
    selectors: Vec<LabelSelector>,
}

impl View {
    fn read(tree: &Value) -> Option<View> {
        let role = ClusterRole::from_value(tree).ok()?;
        let selectors = tree.at(&["aggregationRule", "clusterRoleSelectors"]).and_then(Value::as_list);
        // A selector that cannot be read picks nothing.
        let selectors = selectors.unwrap_or_default().iter().map(|s| LabelSelector::from_value(Some(s)));
        Some(View {
            labels: tree.at(&["metadata", "labels"]).cloned().unwrap_or_default(),
            rules: role.rules,
            selectors: selectors.map(|s| s.unwrap_or_else(|_| LabelSelector::nothing())).collect(),
        })
    }
}

/// The rules of all parts, selector by selector and sorted by the part's name, each rule once.
fn gather(name: &str, selectors: &[LabelSelector], mut all: Vec<(SmolStr, Arc<View>)>) -> Vec<PolicyRule> {
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors {
        let parts = all.iter().filter(|(other, role)| other != name && selector.matches_value(Some(&role.labels)));
        for rule in parts.flat_map(|(_, role)| &role.rules) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    rules
}

/// Applies the rules; labels, annotations and selectors stay their owners'.
async fn write(cx: &Context, name: &str, rules: &[PolicyRule]) -> Result<(), Status> {
    let role = ClusterRole { rules: rules.to_vec(), ..ClusterRole::default() };
    let mut body = Map::new();
    body.insert("apiVersion", "rbac.authorization.k8s.io/v1");
    body.insert("kind", "ClusterRole");
    let mut metadata = Map::new();
    metadata.insert("name", name);
    body.insert("metadata", metadata);
    body.insert("rules", role.to_value().get("rules").cloned().unwrap_or(Value::List(Vec::new())));
    cx.client.patch::<ClusterRole>("", name, "", PatchKind::Apply, Value::Map(body)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(name: &str, labels: &str, rules: &str, more: &str) -> (SmolStr, Arc<View>) {
        let json = format!(r#"{{"metadata":{{"name":"{name}","labels":{{{labels}}}}},"rules":[{rules}]{more}}}"#);
        let tree = apimachinery::codec::json::parse(json.as_bytes()).unwrap();
        (name.into(), Arc::new(View::read(&tree).unwrap()))
    }

    #[test]
    fn rules_come_from_the_parts_once_and_in_order() {
        let rule = |resource: &str| format!(r#"{{"verbs":["get"],"apiGroups":[""],"resources":["{resource}"]}}"#);
        let gathers =
            r#","aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"a":"1"}},{"matchLabels":{"b":"1"}}]}"#;
        let all = vec![
            role("whole", r#""a":"1""#, &rule("own"), gathers),
            role("y", r#""a":"1""#, &[rule("pods"), rule("nodes")].join(","), ""),
            role("x", r#""a":"1""#, &rule("pods"), ""),
            role("w", r#""b":"1""#, &rule("secrets"), ""),
            role("v", r#""c":"1""#, &rule("events"), ""),
        ];
        let rules = gather("whole", &all[0].1.selectors.clone(), all);
        let names: Vec<&str> = rules.iter().map(|rule| rule.resources[0].as_str()).collect();
        assert_eq!(names, ["pods", "nodes", "secrets"]);
    }
}
