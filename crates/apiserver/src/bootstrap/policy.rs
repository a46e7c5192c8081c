//! The form in which the default RBAC policy is written down, and the trees it becomes.

use apimachinery::Value;
use serde_json::json;

use crate::tree::tree;

/// A role of the default policy.
#[derive(Clone, Copy)]
pub struct Role {
    /// Empty for a ClusterRole.
    pub namespace: &'static str,
    pub name: &'static str,
    /// The aggregated roles that this one is a part of, separated by commas.
    pub part_of: &'static str,
    /// The name under which parts of this aggregated role are gathered; empty for a role with rules of its own.
    pub gathers: &'static str,
    pub rules: &'static [Rule],
}

/// What most roles leave as it is.
pub const ROLE: Role = Role { namespace: "", name: "", part_of: "", gathers: "", rules: &[] };

/// A policy rule; each text is a list separated by commas, the empty text among groups being the core group.
#[derive(Clone, Copy)]
pub enum Rule {
    Resources { verbs: &'static str, groups: &'static str, resources: &'static str, names: &'static str },
    Urls { verbs: &'static str, urls: &'static str },
}

pub const fn rule(verbs: &'static str, groups: &'static str, resources: &'static str) -> Rule {
    Rule::Resources { verbs, groups, resources, names: "" }
}

/// A rule about named objects.
pub const fn named(verbs: &'static str, groups: &'static str, resources: &'static str, names: &'static str) -> Rule {
    Rule::Resources { verbs, groups, resources, names }
}

/// A rule about paths that are no resources.
pub const fn url(verbs: &'static str, urls: &'static str) -> Rule {
    Rule::Urls { verbs, urls }
}

/// Who is bound.
#[derive(Clone, Copy)]
pub enum Subject {
    User(&'static str),
    Group(&'static str),
    /// Namespace and name.
    Account(&'static str, &'static str),
}

/// A binding of the default policy.
#[derive(Clone, Copy)]
pub struct Binding {
    /// Empty for a ClusterRoleBinding; else the role is a Role of the same namespace.
    pub namespace: &'static str,
    pub name: &'static str,
    /// Empty where the role has the binding's name.
    pub role: &'static str,
    pub subjects: &'static [Subject],
}

/// What most bindings leave as it is.
pub const BINDING: Binding = Binding { namespace: "", name: "", role: "", subjects: &[] };

const GROUP: &str = "rbac.authorization.k8s.io";

fn words(text: &str) -> Vec<&str> {
    text.split(',').collect()
}

impl Rule {
    fn json(&self) -> serde_json::Value {
        match self {
            Rule::Urls { verbs, urls } => json!({"verbs": words(verbs), "nonResourceURLs": words(urls)}),
            Rule::Resources { verbs, groups, resources, names } => {
                let mut rule =
                    json!({"verbs": words(verbs), "apiGroups": words(groups), "resources": words(resources)});
                if !names.is_empty() {
                    rule["resourceNames"] = json!(words(names));
                }
                rule
            }
        }
    }
}

fn metadata(namespace: &str, name: &str) -> serde_json::Value {
    let mut metadata = json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    });
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    metadata
}

impl Role {
    /// The resource that holds this role.
    pub fn resource(&self) -> &'static str {
        if self.namespace.is_empty() { "clusterroles" } else { "roles" }
    }

    pub fn tree(&self) -> Value {
        let mut metadata = metadata(self.namespace, self.name);
        for part in self.part_of.split(',').filter(|p| !p.is_empty()) {
            metadata["labels"][format!("{GROUP}/aggregate-to-{part}")] = json!("true");
        }
        let rules: Vec<serde_json::Value> = self.rules.iter().map(Rule::json).collect();
        let mut role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": if self.namespace.is_empty() { "ClusterRole" } else { "Role" },
            "metadata": metadata,
            "rules": rules,
        });
        if !self.gathers.is_empty() {
            let label = format!("{GROUP}/aggregate-to-{}", self.gathers);
            role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": {label: "true"}}]});
        }
        tree(role)
    }
}

impl Binding {
    pub fn resource(&self) -> &'static str {
        if self.namespace.is_empty() { "clusterrolebindings" } else { "rolebindings" }
    }

    pub fn tree(&self) -> Value {
        let subjects: Vec<serde_json::Value> = self
            .subjects
            .iter()
            .map(|s| match s {
                Subject::User(name) => json!({"apiGroup": GROUP, "kind": "User", "name": name}),
                Subject::Group(name) => json!({"apiGroup": GROUP, "kind": "Group", "name": name}),
                Subject::Account(namespace, name) => {
                    json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
                }
            })
            .collect();
        let (own, role) =
            if self.namespace.is_empty() { ("ClusterRoleBinding", "ClusterRole") } else { ("RoleBinding", "Role") };
        let mut binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": own,
            "metadata": metadata(self.namespace, self.name),
            "roleRef": {
                "apiGroup": GROUP,
                "kind": role,
                "name": if self.role.is_empty() { self.name } else { self.role },
            },
        });
        if !subjects.is_empty() {
            binding["subjects"] = json!(subjects);
        }
        tree(binding)
    }
}

/// The binding of a controller's role to its service account in kube-system.
pub fn controller_binding(role: &Role) -> Value {
    let account = role.name.rsplit(':').next().unwrap_or_default();
    tree(json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": metadata("", role.name),
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role.name},
        "subjects": [{"kind": "ServiceAccount", "namespace": "kube-system", "name": account}],
    }))
}
