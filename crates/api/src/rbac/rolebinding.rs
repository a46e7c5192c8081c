//! RoleBinding: grants a role in one namespace.

use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Rules, Value};

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
