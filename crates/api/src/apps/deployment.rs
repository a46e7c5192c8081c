//! Deployment: rolls a pod template out through replica sets.

use crate::core::pod::defaults::pod_template_defaults;
use apimachinery::kind::Generation;
use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::{Api, IntOrString, Kind, Rules, Time, Value};

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
}

fn ready_cell(object: &Value, _now: i64) -> Value {
    format!("{}/{}", int(object, &["status", "readyReplicas"]), int(object, &["spec", "replicas"])).into()
}
