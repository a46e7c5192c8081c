//! ClusterRole: is a set of permissions in all namespaces.

use crate::checks::{label_selector, name};
use crate::rbac::role::policy_rule;
use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::validation::path_segment;
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx};

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
    Kind::cluster::<ClusterRole>("rbac.authorization.k8s.io", "v1", "clusterroles")
        .created_at()
        .create_on_update()
        .example(
            r#"{"metadata": {"name": "reader"}, "rules": [{"apiGroups": [""], "resources": ["pods"],
            "verbs": ["get", "list"]}]}"#,
        )
}

served!(ClusterRole, "rbac.authorization.k8s.io", "v1", "clusterroles", false);

impl Rules for ClusterRole {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, path_segment);
        let rules = Path::new("rules");
        for (i, rule) in self.rules.iter().enumerate() {
            policy_rule(errors, &rules.index(i), rule, false);
        }
        if let Some(aggregation) = &self.aggregation_rule {
            let rule = Path::new("aggregationRule");
            let selectors = rule.child("clusterRoleSelectors");
            if aggregation.cluster_role_selectors.is_empty() {
                let message = "at least one clusterRoleSelector required if aggregationRule is non-nil";
                errors.required(&selectors, message);
            }
            for (i, selector) in aggregation.cluster_role_selectors.iter().enumerate() {
                label_selector(errors, &selectors.index(i), selector);
            }
        }
    }
}
