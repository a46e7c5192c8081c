//! ClusterRole: is a set of permissions in all namespaces.

use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::{Api, Kind, Rules};

use crate::rbac::role::PolicyRule;
use crate::served::served;

/// ClusterRole: is a set of permissions in all namespaces.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.rbac.v1.ClusterRole")]
pub struct ClusterRole {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, list = "atomic")]
    pub rules: Vec<PolicyRule>,
    #[api(3, omitempty)]
    pub aggregation_rule: Option<AggregationRule>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.rbac.v1.AggregationRule")]
pub struct AggregationRule {
    #[api(1, omitempty, list = "atomic")]
    pub cluster_role_selectors: Vec<LabelSelector>,
}

pub fn kind() -> Kind {
    Kind::cluster::<ClusterRole>("rbac.authorization.k8s.io", "v1", "clusterroles").created_at().example(
        r#"{"metadata": {"name": "reader"}, "rules": [{"apiGroups": [""], "resources": ["pods"],
            "verbs": ["get", "list"]}]}"#,
    )
}

served!(ClusterRole, "rbac.authorization.k8s.io", "v1", "clusterroles", false);

impl Rules for ClusterRole {}
