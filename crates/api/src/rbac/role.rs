//! Role: is a set of permissions in one namespace.

use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Rules};

use crate::served::served;

/// Role: is a set of permissions in one namespace.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.rbac.v1.Role")]
pub struct Role {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, list = "atomic")]
    pub rules: Vec<PolicyRule>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.rbac.v1.PolicyRule")]
pub struct PolicyRule {
    #[api(1, required, list = "atomic")]
    pub verbs: Vec<String>,
    #[api(2, omitempty, list = "atomic")]
    pub api_groups: Vec<String>,
    #[api(3, omitempty, list = "atomic")]
    pub resources: Vec<String>,
    #[api(4, omitempty, list = "atomic")]
    pub resource_names: Vec<String>,
    #[api(5, json = "nonResourceURLs", omitempty, list = "atomic")]
    pub non_resource_urls: Vec<String>,
}

pub fn kind() -> Kind {
    Kind::namespaced::<Role>("rbac.authorization.k8s.io", "v1", "roles")
        .created_at()
        .example(r#"{"metadata":{"name":"reader"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get"]}]}"#)
}

served!(Role, "rbac.authorization.k8s.io", "v1", "roles", true);

impl Rules for Role {}
