//! RoleBinding: grants a role in one namespace.

use crate::checks::name;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{check, dns_subdomain, path_segment, require};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Value};

use crate::cells::{items, str_of};
use crate::served::served;

/// RoleBinding: grants a role in one namespace.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.rbac.v1.RoleBinding")]
pub struct RoleBinding {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty, list = "atomic")]
    pub subjects: Vec<Subject>,
    #[api(3, required)]
    pub role_ref: RoleRef,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.rbac.v1.Subject", atomic)]
pub struct Subject {
    #[api(1, required)]
    pub kind: String,
    #[api(2, omitempty)]
    pub api_group: String,
    #[api(3, required)]
    pub name: String,
    #[api(4, omitempty)]
    pub namespace: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.rbac.v1.RoleRef", atomic)]
pub struct RoleRef {
    #[api(1)]
    pub api_group: String,
    #[api(2, required)]
    pub kind: String,
    #[api(3, required)]
    pub name: String,
}

pub fn kind() -> Kind {
    Kind::namespaced::<RoleBinding>("rbac.authorization.k8s.io", "v1", "rolebindings")
        .code_column("Role", "string", |o, _| role_cell(o))
        .age()
        .wide_code_column("Users", "string", |o, _| subjects(o, "User"))
        .wide_code_column("Groups", "string", |o, _| subjects(o, "Group"))
        .wide_code_column("ServiceAccounts", "string", |o, _| subjects(o, "ServiceAccount"))
        .create_on_update()
        .example(
            r#"{"metadata": {"name": "readers"}, "subjects": [{"kind": "ServiceAccount",
            "name": "robot", "namespace": "default"}], "roleRef": {"apiGroup": "rbac.authorization.k8s.io",
            "kind": "Role", "name": "reader"}}"#,
        )
}

served!(RoleBinding, "rbac.authorization.k8s.io", "v1", "rolebindings", true);

impl Rules for RoleBinding {
    fn set_defaults(&mut self) {
        if self.role_ref.api_group.is_empty() {
            self.role_ref.api_group = "rbac.authorization.k8s.io".into();
        }
        self.subjects.iter_mut().for_each(Subject::set_defaults);
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, path_segment);
        binding(errors, &self.role_ref, &self.subjects, true);
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        if self.role_ref != old.role_ref {
            errors.invalid(&Path::new("roleRef"), apimachinery::Api::to_value(&self.role_ref), "cannot change roleRef");
        }
    }
}

/// Checks what a binding binds to whom.
pub(crate) fn binding(errors: &mut Errors, role: &RoleRef, subjects: &[Subject], namespaced: bool) {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let path = Path::new("roleRef");
    if role.api_group != GROUP {
        errors.not_supported(&path.child("apiGroup"), role.api_group.as_str(), &[GROUP]);
    }
    let kinds: &[&str] = if namespaced { &["Role", "ClusterRole"] } else { &["ClusterRole"] };
    if !kinds.contains(&role.kind.as_str()) {
        errors.not_supported(&path.child("kind"), role.kind.as_str(), kinds);
    }
    require(errors, &path.child("name"), &role.name, path_segment);
    let list = Path::new("subjects");
    for (i, subject) in subjects.iter().enumerate() {
        let path = list.index(i);
        if subject.name.is_empty() {
            errors.required(&path.child("name"), "");
        }
        let group = path.child("apiGroup");
        match subject.kind.as_str() {
            "ServiceAccount" => {
                if !subject.name.is_empty() {
                    check(errors, &path.child("name"), &subject.name, dns_subdomain);
                }
                if !subject.api_group.is_empty() {
                    errors.not_supported(&group, subject.api_group.as_str(), &[""]);
                }
                if !namespaced && subject.namespace.is_empty() {
                    errors.required(&path.child("namespace"), "");
                }
            }
            "User" | "Group" => {
                if subject.api_group != GROUP {
                    errors.not_supported(&group, subject.api_group.as_str(), &[GROUP]);
                }
            }
            other => errors.not_supported(&path.child("kind"), other, &["ServiceAccount", "User", "Group"]),
        }
    }
}

impl Subject {
    /// Users and groups belong to this group, service accounts to the core group.
    pub(crate) fn set_defaults(&mut self) {
        if self.api_group.is_empty() && matches!(self.kind.as_str(), "User" | "Group") {
            self.api_group = "rbac.authorization.k8s.io".into();
        }
    }
}

/// The bound role as `Kind/name`.
pub(crate) fn role_cell(object: &Value) -> Value {
    format!("{}/{}", str_of(object, &["roleRef", "kind"]), str_of(object, &["roleRef", "name"])).into()
}

/// The subjects of one kind.
pub(crate) fn subjects(object: &Value, kind: &str) -> Value {
    let named: Vec<String> = items(object, &["subjects"])
        .iter()
        .filter(|s| str_of(s, &["kind"]) == kind)
        .map(|s| match str_of(s, &["namespace"]) {
            namespace if kind == "ServiceAccount" && !namespace.is_empty() => {
                format!("{namespace}/{}", str_of(s, &["name"]))
            }
            _ => str_of(s, &["name"]).to_string(),
        })
        .collect();
    named.join(", ").into()
}

#[cfg(test)]
mod tests {
    use crate::tests::{refuses, refuses_update};

    #[test]
    fn a_binding_keeps_its_role() {
        let kind = super::kind();
        refuses_update(
            &kind,
            &[("roleRef.name", "\"other\"")],
            &[
                "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"Role\",\"name\":\"other\"}: cannot change roleRef",
            ],
        );
        refuses(
            &kind,
            &[("subjects.0.kind", "\"Robot\"")],
            &[
                "subjects[0].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
            ],
        );
    }
}
