//! ClusterRoleBinding: grants a cluster role everywhere.

use crate::checks::name;
use crate::rbac::rolebinding::binding;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::path_segment;
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx};

use crate::rbac::rolebinding::role_cell;
use crate::rbac::rolebinding::subjects;
use crate::rbac::rolebinding::{RoleRef, Subject};
use crate::served::served;

/// ClusterRoleBinding: grants a cluster role everywhere.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.rbac.v1.ClusterRoleBinding")]
pub struct ClusterRoleBinding {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty, list = "atomic")]
    pub subjects: Vec<Subject>,
    #[api(3, required)]
    pub role_ref: RoleRef,
}

pub fn kind() -> Kind {
    Kind::cluster::<ClusterRoleBinding>("rbac.authorization.k8s.io", "v1", "clusterrolebindings")
        .code_column("Role", "string", |o, _| role_cell(o))
        .age()
        .wide_code_column("Users", "string", |o, _| subjects(o, "User"))
        .wide_code_column("Groups", "string", |o, _| subjects(o, "Group"))
        .wide_code_column("ServiceAccounts", "string", |o, _| subjects(o, "ServiceAccount"))
        .create_on_update()
        .example(
            r#"{"metadata": {"name": "readers"}, "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io",
            "name": "ann"}], "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole",
            "name": "reader"}}"#,
        )
}

served!(ClusterRoleBinding, "rbac.authorization.k8s.io", "v1", "clusterrolebindings", false);

impl Rules for ClusterRoleBinding {
    fn set_defaults(&mut self) {
        if self.role_ref.api_group.is_empty() {
            self.role_ref.api_group = "rbac.authorization.k8s.io".into();
        }
        self.subjects.iter_mut().for_each(Subject::set_defaults);
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, path_segment);
        binding(errors, &self.role_ref, &self.subjects, false);
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        if self.role_ref != old.role_ref {
            errors.invalid(&Path::new("roleRef"), apimachinery::Api::to_value(&self.role_ref), "cannot change roleRef");
        }
    }
}
