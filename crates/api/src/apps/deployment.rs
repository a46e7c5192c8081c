//! Deployment: rolls a pod template out through replica sets.

use crate::apps::replicaset::{counts_within, workload};
use crate::checks::{amount, at_most_all, count_or_percent, immutable, name};
use crate::core::pod::defaults::pod_template_defaults;
use apimachinery::kind::Generation;
use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::validation::{dns_subdomain, nonnegative};
use apimachinery::{Api, Errors, IntOrString, Kind, Path, Rules, RulesCx, Time, Value};

use crate::cells::{int, joined, number, selector_text};
use crate::core::pod::spec::PodTemplateSpec;
use crate::served::served;

/// Deployment: rolls a pod template out through replica sets.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.Deployment")]
pub struct Deployment {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty, required)]
    pub spec: DeploymentSpec,
    #[api(3, omitempty)]
    pub status: DeploymentStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.DeploymentSpec")]
pub struct DeploymentSpec {
    #[api(1, omitempty)]
    pub replicas: Option<i32>,
    #[api(2, required)]
    pub selector: Option<LabelSelector>,
    #[api(3, required)]
    pub template: PodTemplateSpec,
    #[api(4, omitempty, patch = "retainKeys")]
    pub strategy: DeploymentStrategy,
    #[api(5, omitempty)]
    pub min_ready_seconds: i32,
    #[api(6, omitempty)]
    pub revision_history_limit: Option<i32>,
    #[api(7, omitempty)]
    pub paused: bool,
    #[api(9, omitempty)]
    pub progress_deadline_seconds: Option<i32>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.DeploymentStrategy")]
pub struct DeploymentStrategy {
    #[api(1, omitempty, enumeration("Recreate", "RollingUpdate"))]
    pub type_: String,
    #[api(2, omitempty)]
    pub rolling_update: Option<RollingUpdateDeployment>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.RollingUpdateDeployment")]
pub struct RollingUpdateDeployment {
    #[api(1, omitempty)]
    pub max_unavailable: Option<IntOrString>,
    #[api(2, omitempty)]
    pub max_surge: Option<IntOrString>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.DeploymentStatus")]
pub struct DeploymentStatus {
    #[api(1, omitempty)]
    pub observed_generation: i64,
    #[api(2, omitempty)]
    pub replicas: i32,
    #[api(3, omitempty)]
    pub updated_replicas: i32,
    #[api(7, omitempty)]
    pub ready_replicas: i32,
    #[api(4, omitempty)]
    pub available_replicas: i32,
    #[api(5, omitempty)]
    pub unavailable_replicas: i32,
    #[api(9, omitempty)]
    pub terminating_replicas: Option<i32>,
    #[api(6, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<DeploymentCondition>,
    #[api(8, omitempty)]
    pub collision_count: Option<i32>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.DeploymentCondition")]
pub struct DeploymentCondition {
    #[api(1)]
    pub type_: String,
    #[api(2)]
    pub status: String,
    #[api(6, omitempty)]
    pub last_update_time: Time,
    #[api(7, omitempty)]
    pub last_transition_time: Time,
    #[api(4, omitempty)]
    pub reason: String,
    #[api(5, omitempty)]
    pub message: String,
}

pub fn kind() -> Kind {
    Kind::namespaced::<Deployment>("apps", "v1", "deployments")
        .short(&["deploy"])
        .category(&["all"])
        .status()
        .generation(Generation::OnSpec)
        .scale(".spec.replicas", ".status.replicas", ".spec.selector")
        .code_column("Ready", "string", ready_cell)
        .code_column("Up-to-date", "string", |o, _| number(o, &["status", "updatedReplicas"]))
        .code_column("Available", "string", |o, _| number(o, &["status", "availableReplicas"]))
        .age()
        .wide_code_column("Containers", "string", |o, _| joined(o, &["spec", "template", "spec", "containers"], "name"))
        .wide_code_column("Images", "string", |o, _| joined(o, &["spec", "template", "spec", "containers"], "image"))
        .wide_code_column("Selector", "string", |o, _| {
            o.at(&["spec", "selector"]).map(selector_text).unwrap_or_default().into()
        })
        .example(
            r#"{"metadata": {"name": "web", "labels": {"app": "web"}}, "spec": {"replicas": 2,
            "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "registry.example/web:1",
            "ports": [{"name": "http", "containerPort": 8080}]}]}}}}"#,
        )
}

served!(Deployment, "apps", "v1", "deployments", true);

impl Rules for Deployment {
    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        pod_template_defaults(&mut spec.template);
        spec.replicas.get_or_insert(1);
        if spec.strategy.type_.is_empty() {
            spec.strategy.type_ = "RollingUpdate".into();
        }
        if spec.strategy.type_ == "RollingUpdate" {
            let update = spec.strategy.rolling_update.get_or_insert_default();
            update.max_unavailable.get_or_insert_with(|| IntOrString::String("25%".into()));
            update.max_surge.get_or_insert_with(|| IntOrString::String("25%".into()));
        }
        spec.revision_history_limit.get_or_insert(10);
        spec.progress_deadline_seconds.get_or_insert(600);
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let path = Path::new("spec");
        let spec = &self.spec;
        nonnegative(errors, &path.child("replicas"), i64::from(spec.replicas.unwrap_or(0)));
        workload(errors, &path, spec.selector.as_ref(), &spec.template, "deployment", "ReplicaSet");
        strategy(errors, &path.child("strategy"), &spec.strategy);
        nonnegative(errors, &path.child("minReadySeconds"), i64::from(spec.min_ready_seconds));
        nonnegative(errors, &path.child("revisionHistoryLimit"), i64::from(spec.revision_history_limit.unwrap_or(0)));
        if let Some(deadline) = spec.progress_deadline_seconds {
            let field = path.child("progressDeadlineSeconds");
            nonnegative(errors, &field, i64::from(deadline));
            if deadline <= spec.min_ready_seconds {
                errors.invalid(&field, deadline, "must be greater than minReadySeconds");
            }
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let spec = Path::new("spec");
        immutable(errors, &spec.child("selector"), &self.spec.selector, &old.spec.selector);
    }

    fn validate_status_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let path = Path::new("status");
        let status = &self.status;
        let counts = [
            ("replicas", status.replicas),
            ("updatedReplicas", status.updated_replicas),
            ("readyReplicas", status.ready_replicas),
            ("availableReplicas", status.available_replicas),
        ];
        counts_within(errors, &path, &counts);
        if status.collision_count.unwrap_or(0) < old.status.collision_count.unwrap_or(0) {
            let count = status.collision_count.unwrap_or(0);
            errors.invalid(&path.child("collisionCount"), count, "cannot be decremented");
        }
    }
}

fn strategy(errors: &mut Errors, path: &Path<'_>, strategy: &DeploymentStrategy) {
    let field = path.child("rollingUpdate");
    match (strategy.type_.as_str(), &strategy.rolling_update) {
        ("Recreate", Some(_)) => {
            errors.forbidden(&field, "may not be specified when strategy `type` is 'Recreate'");
        }
        ("RollingUpdate", Some(update)) => {
            let none = IntOrString::Int(0);
            let unavailable = update.max_unavailable.as_ref().unwrap_or(&none);
            let surge = update.max_surge.as_ref().unwrap_or(&none);
            count_or_percent(errors, &field.child("maxUnavailable"), unavailable);
            count_or_percent(errors, &field.child("maxSurge"), surge);
            if amount(unavailable) == 0 && amount(surge) == 0 {
                let message = "may not be 0 when `maxSurge` is 0";
                errors.invalid(&field.child("maxUnavailable"), unavailable.to_value(), message);
            }
            at_most_all(errors, &field.child("maxUnavailable"), unavailable);
        }
        ("RollingUpdate", None) => errors.required(&field, "this should be defaulted and never be nil"),
        ("Recreate", None) => {}
        _ => errors.not_supported(path, strategy.to_value(), &["Recreate", "RollingUpdate"]),
    }
}

fn ready_cell(object: &Value, _now: i64) -> Value {
    format!("{}/{}", int(object, &["status", "readyReplicas"]), int(object, &["spec", "replicas"])).into()
}

#[cfg(test)]
mod tests {
    use super::kind;
    use crate::tests::{refuses, refuses_update};

    #[test]
    fn selector_template_and_strategy_agree() {
        refuses(
            &kind(),
            &[("spec.template.metadata.labels", r#"{"app":"other"}"#)],
            &[
                "spec.template.metadata.labels: Invalid value: {\"app\":\"other\"}: `selector` does not match template `labels`",
            ],
        );
        refuses(
            &kind(),
            &[("spec.strategy", r#"{"rollingUpdate":{"maxSurge":0,"maxUnavailable":0}}"#)],
            &["spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"],
        );
        refuses(
            &kind(),
            &[("spec.template.spec.containers", "[]")],
            &["spec.template.spec.containers: Required value"],
        );
    }

    #[test]
    fn the_selector_stays() {
        refuses_update(
            &kind(),
            &[("spec.selector.matchLabels", r#"{"app":"x"}"#), ("spec.template.metadata.labels", r#"{"app":"x"}"#)],
            &["spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"x\"}}: field is immutable"],
        );
        refuses_update(&kind(), &[("spec.replicas", "7")], &[]);
    }
}
