//! DaemonSet: runs a pod on every node that matches.

use crate::apps::replicaset::workload;
use crate::checks::{amount, at_most_all, count_or_percent, immutable, name};
use crate::core::pod::defaults::pod_template_defaults;
use apimachinery::kind::Generation;
use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::validation::{dns_subdomain, nonnegative};
use apimachinery::{Api, Errors, IntOrString, Kind, Path, Rules, RulesCx, Time};

use crate::cells::{joined, labels, number, selector};
use crate::core::pod::spec::PodTemplateSpec;
use crate::served::served;

/// DaemonSet: runs a pod on every node that matches.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.DaemonSet")]
pub struct DaemonSet {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty, required)]
    pub spec: DaemonSetSpec,
    #[api(3, omitempty)]
    pub status: DaemonSetStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.DaemonSetUpdateStrategy")]
pub struct DaemonSetUpdateStrategy {
    #[api(1, omitempty, enumeration("OnDelete", "RollingUpdate"))]
    pub type_: String,
    #[api(2, omitempty)]
    pub rolling_update: Option<RollingUpdateDaemonSet>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.RollingUpdateDaemonSet")]
pub struct RollingUpdateDaemonSet {
    #[api(1, omitempty)]
    pub max_unavailable: Option<IntOrString>,
    #[api(2, omitempty)]
    pub max_surge: Option<IntOrString>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.DaemonSetSpec")]
pub struct DaemonSetSpec {
    #[api(1, required)]
    pub selector: Option<LabelSelector>,
    #[api(2, required)]
    pub template: PodTemplateSpec,
    #[api(3, omitempty)]
    pub update_strategy: DaemonSetUpdateStrategy,
    #[api(4, omitempty)]
    pub min_ready_seconds: i32,
    #[api(6, omitempty)]
    pub revision_history_limit: Option<i32>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.DaemonSetStatus")]
pub struct DaemonSetStatus {
    #[api(1, required)]
    pub current_number_scheduled: i32,
    #[api(2, required)]
    pub number_misscheduled: i32,
    #[api(3, required)]
    pub desired_number_scheduled: i32,
    #[api(4, required)]
    pub number_ready: i32,
    #[api(5, omitempty)]
    pub observed_generation: i64,
    #[api(6, omitempty)]
    pub updated_number_scheduled: i32,
    #[api(7, omitempty)]
    pub number_available: i32,
    #[api(8, omitempty)]
    pub number_unavailable: i32,
    #[api(9, omitempty)]
    pub collision_count: Option<i32>,
    #[api(10, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<DaemonSetCondition>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.DaemonSetCondition")]
pub struct DaemonSetCondition {
    #[api(1)]
    pub type_: String,
    #[api(2)]
    pub status: String,
    #[api(3, omitempty)]
    pub last_transition_time: Time,
    #[api(4, omitempty)]
    pub reason: String,
    #[api(5, omitempty)]
    pub message: String,
}

pub fn kind() -> Kind {
    Kind::namespaced::<DaemonSet>("apps", "v1", "daemonsets")
        .short(&["ds"])
        .category(&["all"])
        .status()
        .generation(Generation::OnSpec)
        .code_column("Desired", "integer", |o, _| number(o, &["status", "desiredNumberScheduled"]))
        .code_column("Current", "integer", |o, _| number(o, &["status", "currentNumberScheduled"]))
        .code_column("Ready", "integer", |o, _| number(o, &["status", "numberReady"]))
        .code_column("Up-to-date", "integer", |o, _| number(o, &["status", "updatedNumberScheduled"]))
        .code_column("Available", "integer", |o, _| number(o, &["status", "numberAvailable"]))
        .code_column("Node Selector", "string", |o, _| labels(o, &["spec", "template", "spec", "nodeSelector"]))
        .age()
        .wide_code_column("Containers", "string", |o, _| joined(o, &["spec", "template", "spec", "containers"], "name"))
        .wide_code_column("Images", "string", |o, _| joined(o, &["spec", "template", "spec", "containers"], "image"))
        .wide_code_column("Selector", "string", |o, _| selector(o, &["spec", "selector"]))
        .example(
            r#"{"metadata": {"name": "agent"}, "spec": {"selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web",
            "image": "registry.example/web:1", "ports": [{"name": "http", "containerPort": 8080}]}]}}}}"#,
        )
}

served!(DaemonSet, "apps", "v1", "daemonsets", true);

impl Rules for DaemonSet {
    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        pod_template_defaults(&mut spec.template);
        if spec.update_strategy.type_.is_empty() {
            spec.update_strategy.type_ = "RollingUpdate".into();
        }
        if spec.update_strategy.type_ == "RollingUpdate" {
            let update = spec.update_strategy.rolling_update.get_or_insert_default();
            update.max_unavailable.get_or_insert(IntOrString::Int(1));
            update.max_surge.get_or_insert(IntOrString::Int(0));
        }
        spec.revision_history_limit.get_or_insert(10);
    }

    fn prepare_create(&mut self, _cx: &RulesCx<'_>) {
        self.metadata.annotations.insert(TEMPLATE_GENERATION.into(), "1".into());
    }

    fn prepare_update(&mut self, old: &Self, _cx: &RulesCx<'_>) {
        let before = old.template_generation();
        let now = if self.spec.template == old.spec.template { before } else { before + 1 };
        self.metadata.annotations.insert(TEMPLATE_GENERATION.into(), now.to_string());
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let path = Path::new("spec");
        let spec = &self.spec;
        workload(errors, &path, spec.selector.as_ref(), &spec.template, "daemonset", "DaemonSet");
        nonnegative(errors, &path.child("minReadySeconds"), i64::from(spec.min_ready_seconds));
        let strategy = path.child("updateStrategy");
        let field = strategy.child("rollingUpdate");
        match (spec.update_strategy.type_.as_str(), &spec.update_strategy.rolling_update) {
            ("OnDelete", _) => {}
            ("RollingUpdate", None) => errors.required(&field, ""),
            ("RollingUpdate", Some(update)) => {
                let none = IntOrString::Int(0);
                let unavailable = update.max_unavailable.as_ref().unwrap_or(&none);
                let surge = update.max_surge.as_ref().unwrap_or(&none);
                for (name, value) in [("maxUnavailable", unavailable), ("maxSurge", surge)] {
                    count_or_percent(errors, &field.child(name), value);
                    at_most_all(errors, &field.child(name), value);
                }
                match (amount(unavailable) != 0, amount(surge) != 0) {
                    (true, true) => {
                        let message = "may not be set when maxUnavailable is non-zero";
                        errors.invalid(&field.child("maxSurge"), surge.to_value(), message);
                    }
                    (false, false) => {
                        errors.required(&field.child("maxUnavailable"), "cannot be 0 when maxSurge is 0");
                    }
                    _ => {}
                }
            }
            _ => errors.not_supported(&strategy, spec.update_strategy.to_value(), &["RollingUpdate", "OnDelete"]),
        }
        nonnegative(errors, &path.child("revisionHistoryLimit"), i64::from(spec.revision_history_limit.unwrap_or(0)));
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let spec = Path::new("spec");
        immutable(errors, &spec.child("selector"), &self.spec.selector, &old.spec.selector);
    }
}

/// Counts the states of the template; older clients read it here.
const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

impl DaemonSet {
    fn template_generation(&self) -> i64 {
        self.metadata.annotations.get(TEMPLATE_GENERATION).and_then(|text| text.parse().ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::refuses;

    #[test]
    fn an_update_takes_away_or_adds_but_not_both() {
        refuses(
            &super::kind(),
            &[("spec.updateStrategy", r#"{"rollingUpdate":{"maxSurge":1,"maxUnavailable":1}}"#)],
            &[
                "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
            ],
        );
    }
}
