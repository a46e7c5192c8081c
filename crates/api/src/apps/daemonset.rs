//! DaemonSet: runs a pod on every node that matches.

use crate::core::pod::defaults::pod_template_defaults;
use apimachinery::kind::Generation;
use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::{Api, IntOrString, Kind, Rules, Time};

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
}
