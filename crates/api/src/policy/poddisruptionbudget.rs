//! PodDisruptionBudget: bounds how many pods of a set may be down on purpose.

use std::collections::BTreeMap;

use crate::checks::{at_most_all, count_or_percent, label_selector, maybe_one_of, name};
use apimachinery::kind::Generation;
use apimachinery::meta::{Condition, LabelSelector, ObjectMeta};
use apimachinery::validation::path_segment;
use apimachinery::{Api, Errors, IntOrString, Kind, Path, Rules, RulesCx, Time};

use crate::cells::{number, scalar_or};
use crate::served::served;

/// PodDisruptionBudget: bounds how many pods of a set may be down on purpose.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.policy.v1.PodDisruptionBudget")]
pub struct PodDisruptionBudget {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: PodDisruptionBudgetSpec,
    #[api(3, omitempty)]
    pub status: PodDisruptionBudgetStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.policy.v1.PodDisruptionBudgetSpec")]
pub struct PodDisruptionBudgetSpec {
    #[api(1, omitempty)]
    pub min_available: Option<IntOrString>,
    #[api(2, omitempty, patch = "replace")]
    pub selector: Option<LabelSelector>,
    #[api(3, omitempty)]
    pub max_unavailable: Option<IntOrString>,
    #[api(4, omitempty, enumeration("AlwaysAllow", "IfHealthyBudget"))]
    pub unhealthy_pod_eviction_policy: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.policy.v1.PodDisruptionBudgetStatus")]
pub struct PodDisruptionBudgetStatus {
    #[api(1, omitempty)]
    pub observed_generation: i64,
    #[api(2, omitempty)]
    pub disrupted_pods: BTreeMap<String, Time>,
    #[api(3)]
    pub disruptions_allowed: i32,
    #[api(4)]
    pub current_healthy: i32,
    #[api(5)]
    pub desired_healthy: i32,
    #[api(6)]
    pub expected_pods: i32,
    #[api(7, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<Condition>,
}

pub fn kind() -> Kind {
    Kind::namespaced::<PodDisruptionBudget>("policy", "v1", "poddisruptionbudgets")
        .short(&["pdb"])
        .status()
        .generation(Generation::OnSpec)
        .code_column("Min Available", "string", |o, _| scalar_or(o, &["spec", "minAvailable"], "N/A"))
        .code_column("Max Unavailable", "string", |o, _| scalar_or(o, &["spec", "maxUnavailable"], "N/A"))
        .code_column("Allowed Disruptions", "integer", |o, _| number(o, &["status", "disruptionsAllowed"]))
        .age()
        .conditional_update()
        .example(r#"{"metadata":{"name":"web"},"spec":{"minAvailable":1,"selector":{"matchLabels":{"app":"web"}}}}"#)
}

served!(PodDisruptionBudget, "policy", "v1", "poddisruptionbudgets", true);

impl Rules for PodDisruptionBudget {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, path_segment);
        let path = Path::new("spec");
        let spec = &self.spec;
        if spec.min_available.is_some() && spec.max_unavailable.is_some() {
            let shown = apimachinery::Api::to_value(spec);
            errors.invalid(&path, shown, "minAvailable and maxUnavailable cannot be both set");
        }
        for (field, value) in [("minAvailable", &spec.min_available), ("maxUnavailable", &spec.max_unavailable)] {
            if let Some(value) = value {
                count_or_percent(errors, &path.child(field), value);
                at_most_all(errors, &path.child(field), value);
            }
        }
        if let Some(selector) = &spec.selector {
            label_selector(errors, &path.child("selector"), selector);
        }
        let policy = spec.unhealthy_pod_eviction_policy.as_ref();
        maybe_one_of(errors, &path.child("unhealthyPodEvictionPolicy"), policy, &["AlwaysAllow", "IfHealthyBudget"]);
    }
}
