//! Role-based access control: roles, bindings, and the escalation check.

use std::sync::Arc;

use apimachinery::{GroupVersionResource, SmolStr, Value};
use client::{Client, Informer, Scope};
use engine::User;

use crate::request::RequestInfo;

/// One `PolicyRule`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub verbs: Vec<SmolStr>,
    pub groups: Vec<SmolStr>,
    /// `pods`, `pods/log`, `*`, `*/scale`.
    pub resources: Vec<SmolStr>,
    /// Empty: all names.
    pub names: Vec<SmolStr>,
    pub urls: Vec<SmolStr>,
}

impl Rule {
    /// Reads a `PolicyRule` tree.
    pub fn read(tree: &Value) -> Rule {
        let list = |key: &str| -> Vec<SmolStr> {
            tree.get(key)
                .and_then(Value::as_list)
                .unwrap_or_default()
                .iter()
                .filter_map(|v| v.as_str().map(SmolStr::new))
                .collect()
        };
        Rule {
            verbs: list("verbs"),
            groups: list("apiGroups"),
            resources: list("resources"),
            names: list("resourceNames"),
            urls: list("nonResourceURLs"),
        }
    }

    fn allows(&self, info: &RequestInfo) -> bool {
        let has = |list: &[SmolStr], wanted: &str| list.iter().any(|x| x == "*" || x == wanted);
        if !has(&self.verbs, &info.verb) {
            return false;
        }
        if !info.is_resource {
            return self.urls.iter().any(|url| url_matches(url, &info.path));
        }
        has(&self.groups, &info.group)
            && self.resources.iter().any(|r| resource_matches(r, &info.resource, &info.subresource))
            && (self.names.is_empty() || self.names.contains(&info.name))
    }

    /// Whether everything that `other` allows is allowed by this rule alone; `other` must be atomic, see [`atoms`].
    fn covers(&self, other: &Rule) -> bool {
        let all = |mine: &[SmolStr], theirs: &[SmolStr]| {
            mine.iter().any(|m| m == "*") || theirs.iter().all(|t| mine.contains(t))
        };
        if !all(&self.verbs, &other.verbs) {
            return false;
        }
        if !other.urls.is_empty() {
            return other.urls.iter().all(|t| self.urls.iter().any(|m| url_matches(m, t)));
        }
        all(&self.groups, &other.groups)
            && other.resources.iter().all(|t| {
                let (resource, sub) = t.split_once('/').unwrap_or((t, ""));
                self.resources.contains(t) || self.resources.iter().any(|m| resource_matches(m, resource, sub))
            })
            && (self.names.is_empty()
                || (!other.names.is_empty() && other.names.iter().all(|n| self.names.contains(n))))
    }
}

fn resource_matches(pattern: &str, resource: &str, subresource: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    match pattern.split_once('/') {
        None => subresource.is_empty() && pattern == resource,
        Some(("*", sub)) => !subresource.is_empty() && sub == subresource,
        Some((res, sub)) => res == resource && sub == subresource,
    }
}

fn url_matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}

/// Splits a rule into rules of one verb and one resource or URL each, so that several rules may cover it together.
fn atoms(rule: &Rule) -> Vec<Rule> {
    let mut out = Vec::new();
    for verb in &rule.verbs {
        for url in &rule.urls {
            out.push(Rule { verbs: vec![verb.clone()], urls: vec![url.clone()], ..Rule::default() });
        }
        for group in &rule.groups {
            for resource in &rule.resources {
                let one = Rule {
                    verbs: vec![verb.clone()],
                    groups: vec![group.clone()],
                    resources: vec![resource.clone()],
                    ..Rule::default()
                };
                if rule.names.is_empty() {
                    out.push(one);
                } else {
                    out.extend(rule.names.iter().map(|n| Rule { names: vec![n.clone()], ..one.clone() }));
                }
            }
        }
    }
    out
}

/// The atoms of `wanted` that `held` does not cover: what a user would gain who granted `wanted`.
pub fn uncovered(held: &[Arc<Rule>], wanted: &[Rule]) -> Vec<Rule> {
    wanted.iter().flat_map(atoms).filter(|atom| !held.iter().any(|h| h.covers(atom))).collect()
}

/// A role's rules.
struct Role {
    rules: Vec<Arc<Rule>>,
}

#[derive(Clone, Debug)]
enum Subject {
    User(SmolStr),
    Group(SmolStr),
    ServiceAccount { namespace: SmolStr, name: SmolStr },
}

struct Binding {
    subjects: Vec<Subject>,
    /// Whether the role is a ClusterRole.
    cluster_role: bool,
    role: SmolStr,
}

impl Binding {
    fn read(tree: &Value) -> Option<Binding> {
        let own = tree.str_at(&["metadata", "namespace"]).unwrap_or_default();
        let subjects = tree.get("subjects").and_then(Value::as_list).unwrap_or_default().iter().filter_map(|s| {
            let name: SmolStr = s.str_at(&["name"])?.into();
            match s.str_at(&["kind"])? {
                "User" => Some(Subject::User(name)),
                "Group" => Some(Subject::Group(name)),
                "ServiceAccount" => {
                    let namespace = s.str_at(&["namespace"]).filter(|n| !n.is_empty()).unwrap_or(own).into();
                    Some(Subject::ServiceAccount { namespace, name })
                }
                _ => None,
            }
        });
        Some(Binding {
            subjects: subjects.collect(),
            cluster_role: tree.str_at(&["roleRef", "kind"])? == "ClusterRole",
            role: tree.str_at(&["roleRef", "name"])?.into(),
        })
    }

    fn binds(&self, user: &User) -> bool {
        self.subjects.iter().any(|subject| match subject {
            Subject::User(name) => *name == user.name,
            Subject::Group(name) => user.groups.contains(name),
            Subject::ServiceAccount { namespace, name } => user
                .name
                .strip_prefix("system:serviceaccount:")
                .and_then(|rest| rest.split_once(':'))
                .is_some_and(|(ns, n)| ns == namespace && n == name),
        })
    }
}

/// The live policy.
pub struct Rbac {
    cluster_roles: Informer<Role>,
    roles: Informer<Role>,
    cluster_bindings: Informer<Binding>,
    bindings: Informer<Binding>,
}

impl Rbac {
    pub fn start(client: &Client) -> Rbac {
        let resource = |name| GroupVersionResource::new("rbac.authorization.k8s.io", "v1", name);
        let role = |tree: &Value| {
            let rules = tree.get("rules").and_then(Value::as_list).unwrap_or_default();
            Some(Role { rules: rules.iter().map(|r| Arc::new(Rule::read(r))).collect() })
        };
        Rbac {
            cluster_roles: Informer::start(client, resource("clusterroles"), Scope::default(), role),
            roles: Informer::start(client, resource("roles"), Scope::default(), role),
            cluster_bindings: Informer::start(client, resource("clusterrolebindings"), Scope::default(), Binding::read),
            bindings: Informer::start(client, resource("rolebindings"), Scope::default(), Binding::read),
        }
    }

    pub async fn synced(&self) {
        self.cluster_roles.synced().await;
        self.roles.synced().await;
        self.cluster_bindings.synced().await;
        self.bindings.synced().await;
    }

    /// Visits the roles that bind a user, first cluster-wide, then in the namespace, until `visit` is content. Gathers
    /// the names of roles that do not exist.
    fn visit(&self, user: &User, namespace: &str, mut visit: impl FnMut(&Role) -> bool) -> Result<(), String> {
        let mut missing = Vec::new();
        let bound = self.cluster_bindings.filter(|_, b| b.binds(user));
        for (_, binding) in bound {
            match self.cluster_roles.get("", &binding.role) {
                Some(role) if visit(&role) => return Ok(()),
                Some(_) => {}
                None => missing.push(format!("clusterrole.rbac.authorization.k8s.io {:?} not found", binding.role)),
            }
        }
        if !namespace.is_empty() {
            let bound = self.bindings.filter(|key, b| key.namespace == namespace && b.binds(user));
            for (_, binding) in bound {
                let role = if binding.cluster_role {
                    self.cluster_roles.get("", &binding.role)
                } else {
                    self.roles.get(namespace, &binding.role)
                };
                match role {
                    Some(role) if visit(&role) => return Ok(()),
                    Some(_) => {}
                    None => {
                        let kind = if binding.cluster_role { "clusterrole" } else { "role" };
                        missing.push(format!("{kind}.rbac.authorization.k8s.io {:?} not found", binding.role));
                    }
                }
            }
        }
        missing.dedup();
        Err(match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        })
    }

    /// Allows, or says why not.
    pub fn authorize(&self, user: &User, info: &RequestInfo) -> Result<(), String> {
        let namespace = if info.is_resource { info.namespace.as_str() } else { "" };
        self.visit(user, namespace, |role| role.rules.iter().any(|rule| rule.allows(info)))
    }

    /// Every rule that a user has in a namespace, cluster-wide ones included.
    pub fn rules_for(&self, user: &User, namespace: &str) -> Vec<Arc<Rule>> {
        let mut rules = Vec::new();
        let _ = self.visit(user, namespace, |role| {
            rules.extend(role.rules.iter().cloned());
            false
        });
        rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], groups: &[&str], resources: &[&str], names: &[&str]) -> Rule {
        let list = |l: &[&str]| l.iter().map(SmolStr::new).collect();
        Rule { verbs: list(verbs), groups: list(groups), resources: list(resources), names: list(names), urls: vec![] }
    }

    fn ask(verb: &str, resource: &str, subresource: &str, name: &str) -> RequestInfo {
        RequestInfo {
            verb: verb.into(),
            is_resource: true,
            resource: resource.into(),
            subresource: subresource.into(),
            name: name.into(),
            ..RequestInfo::default()
        }
    }

    #[test]
    fn rules_allow_what_they_name() {
        let cases = [
            (rule(&["get"], &[""], &["pods"], &[]), ask("get", "pods", "", "a"), true),
            (rule(&["get"], &[""], &["pods"], &[]), ask("get", "pods", "log", "a"), false),
            (rule(&["get"], &[""], &["pods/log"], &[]), ask("get", "pods", "log", "a"), true),
            (rule(&["get"], &[""], &["*/log"], &[]), ask("get", "pods", "log", "a"), true),
            (rule(&["get"], &[""], &["*/log"], &[]), ask("get", "pods", "", "a"), false),
            (rule(&["*"], &["*"], &["*"], &[]), ask("patch", "pods", "status", "a"), true),
            (rule(&["get"], &["apps"], &["pods"], &[]), ask("get", "pods", "", "a"), false),
            (rule(&["get"], &[""], &["pods"], &["b"]), ask("get", "pods", "", "a"), false),
            (rule(&["list"], &[""], &["pods"], &["b"]), ask("list", "pods", "", ""), false),
        ];
        for (rule, info, wanted) in cases {
            assert_eq!(rule.allows(&info), wanted, "{rule:?} {info:?}");
        }
        assert!(url_matches("/healthz/*", "/healthz/ping"));
        assert!(!url_matches("/healthz", "/healthz/ping"));
    }

    #[test]
    fn granting_more_than_one_has_is_seen() {
        let held = [
            Arc::new(rule(&["get", "list"], &[""], &["pods"], &[])),
            Arc::new(rule(&["watch"], &[""], &["pods", "secrets"], &[])),
        ];
        let fine = rule(&["get", "list", "watch"], &[""], &["pods"], &[]);
        assert!(uncovered(&held, &[fine]).is_empty(), "several rules cover one together");
        let narrower = rule(&["get"], &[""], &["pods"], &["a"]);
        assert!(uncovered(&held, &[narrower]).is_empty());
        let more = rule(&["get", "delete"], &[""], &["pods"], &[]);
        assert_eq!(uncovered(&held, &[more]), [rule(&["delete"], &[""], &["pods"], &[])]);
        let wider = rule(&["*"], &[""], &["pods"], &[]);
        assert_eq!(uncovered(&held, &[wider]).len(), 1);
    }
}
