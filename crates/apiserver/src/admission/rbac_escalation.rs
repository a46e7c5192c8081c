//! RBAC escalation: nobody grants more than they hold, unless they may `escalate` roles or `bind` them.

use apimachinery::{GroupResource, SmolStr, Status, Value};
use engine::{Attributes, Operation};

use super::{Plugin, Step, World};
use crate::authz::rbac::{self, Rule};
use crate::authz::{Decision, MASTERS};
use crate::request::RequestInfo;
use crate::tree::{list, map_mut, text};

pub(crate) const PLUGIN: Plugin = Plugin {
    name: "RBACEscalation",
    handles,
    mutate: Step::Later(|world, a| Box::pin(check(world, a))),
    validate: Step::Nothing,
};

const GROUP: &str = "rbac.authorization.k8s.io";

fn handles(a: &Attributes<'_>) -> bool {
    a.kind.group == GROUP
        && matches!(a.operation, Operation::Create | Operation::Update)
        && !a.cx.user.groups.iter().any(|g| g == MASTERS)
}

async fn check(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    if a.old.is_some_and(|old| only_collector_fields(a.object, old)) {
        return Ok(());
    }
    match a.kind.resource.as_ref() {
        "roles" | "clusterroles" => check_role(world, a).await,
        "rolebindings" | "clusterrolebindings" => check_binding(world, a).await,
        _ => Ok(()),
    }
}

/// Owners and finalizers may change without granting anything.
fn only_collector_fields(new: &Value, old: &Value) -> bool {
    let strip = |tree: &Value| {
        let mut tree = tree.clone();
        let metadata = map_mut(&mut tree, &["metadata"]);
        for key in ["ownerReferences", "finalizers", "managedFields"] {
            metadata.remove(key);
        }
        tree
    };
    strip(new) == strip(old)
}

async fn may(world: &World, a: &Attributes<'_>, verb: &str, resource: &str, name: &str, namespace: &str) -> bool {
    let info = RequestInfo {
        verb: verb.into(),
        is_resource: true,
        group: GROUP.into(),
        version: "*".into(),
        resource: resource.into(),
        name: name.into(),
        namespace: namespace.into(),
        ..RequestInfo::default()
    };
    world.authorizer.authorize(&a.cx.user, &info).await == Decision::Allow
}

fn rules(role: &Value) -> Vec<Rule> {
    list(role, &["rules"]).iter().map(Rule::read).collect()
}

async fn check_role(world: &World, a: &Attributes<'_>) -> Result<(), Status> {
    if may(world, a, "escalate", &a.kind.resource, a.name, a.namespace).await {
        return Ok(());
    }
    let name = text(a.object, &["metadata", "name"]);
    let refuse = |why: String| Status::forbidden(&a.kind.group_resource(), name, why);
    confirm(world, a, &rules(a.object)).map_err(refuse)?;
    let gathers = |role: &Value| !list(role, &["aggregationRule", "clusterRoleSelectors"]).is_empty();
    if gathers(a.object) || a.old.is_some_and(gathers) {
        let any = || vec![SmolStr::new_static("*")];
        let all = [
            Rule { verbs: any(), groups: any(), resources: any(), ..Rule::default() },
            Rule { verbs: any(), urls: any(), ..Rule::default() },
        ];
        // What is gathered can be anything.
        confirm(world, a, &all)
            .map_err(|_| refuse("must have cluster-admin privileges to use the aggregationRule".into()))?;
    }
    Ok(())
}

async fn check_binding(world: &World, a: &Attributes<'_>) -> Result<(), Status> {
    let (kind, role) = (text(a.object, &["roleRef", "kind"]), text(a.object, &["roleRef", "name"]));
    let (resource, namespace) = match kind {
        "ClusterRole" => ("clusterroles", ""),
        "Role" => ("roles", a.namespace),
        // Validation refuses the rest.
        _ => return Ok(()),
    };
    if may(world, a, "bind", resource, role, a.namespace).await {
        return Ok(());
    }
    let bound = world
        .get(GROUP, resource, namespace, role)
        .await?
        .ok_or_else(|| Status::not_found(&GroupResource { group: GROUP.into(), resource: resource.into() }, role))?;
    let name = text(a.object, &["metadata", "name"]);
    confirm(world, a, &rules(&bound)).map_err(|why| Status::forbidden(&a.kind.group_resource(), name, why))
}

/// Whether the user holds all of `wanted` in the namespace written to.
fn confirm(world: &World, a: &Attributes<'_>, wanted: &[Rule]) -> Result<(), String> {
    let missing = rbac::uncovered(&world.authorizer.rules_for(&a.cx.user, a.namespace), wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let user = &a.cx.user;
    let mut lines: Vec<String> = compact(missing).iter().map(describe).collect();
    lines.sort();
    lines.dedup();
    Err(format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        quoted(&user.groups),
        lines.join("\n")
    ))
}

/// Joins the verbs of rules that differ in nothing else.
fn compact(rules: Vec<Rule>) -> Vec<Rule> {
    let mut out: Vec<Rule> = Vec::new();
    for rule in rules {
        let same = |r: &&mut Rule| {
            !rule.resources.is_empty()
                && (&r.groups, &r.resources, &r.names, &r.urls)
                    == (&rule.groups, &rule.resources, &rule.names, &rule.urls)
        };
        match out.iter_mut().find(same) {
            Some(present) => present.verbs.extend(rule.verbs),
            None => out.push(rule),
        }
    }
    out
}

/// `["a" "b"]`, as Go prints quoted strings.
fn quoted(items: &[SmolStr]) -> String {
    let items: Vec<String> = items.iter().map(|i| format!("{i:?}")).collect();
    format!("[{}]", items.join(" "))
}

fn describe(rule: &Rule) -> String {
    let parts: Vec<String> = [
        ("APIGroups", &rule.groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.urls),
        ("ResourceNames", &rule.names),
        ("Verbs", &rule.verbs),
    ]
    .iter()
    .filter(|(_, items)| !items.is_empty())
    .map(|(name, items)| format!("{name}:{}", quoted(items)))
    .collect();
    format!("{{{}}}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tree;
    use serde_json::json;

    #[test]
    fn missing_rights_are_named_compactly() {
        let rule = |verb: &str| Rule {
            verbs: vec![verb.into()],
            groups: vec!["".into()],
            resources: vec!["pods".into()],
            ..Rule::default()
        };
        let url = Rule { verbs: vec!["get".into()], urls: vec!["/x".into()], ..Rule::default() };
        let lines: Vec<String> = compact(vec![rule("get"), url, rule("list")]).iter().map(describe).collect();
        assert_eq!(
            lines,
            [
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["get" "list"]}"#,
                r#"{NonResourceURLs:["/x"], Verbs:["get"]}"#
            ]
        );
    }

    #[test]
    fn the_collector_may_change_its_fields() {
        let old = tree(json!({"metadata": {"name": "a", "finalizers": ["x"]}, "rules": []}));
        let new = tree(json!({"metadata": {"name": "a"}, "rules": []}));
        assert!(only_collector_fields(&new, &old));
        let more = tree(json!({"metadata": {"name": "a"}, "rules": [{"verbs": ["*"]}]}));
        assert!(!only_collector_fields(&more, &old));
    }
}
