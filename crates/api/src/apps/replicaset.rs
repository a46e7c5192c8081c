//! ReplicaSet: keeps a number of equal pods running.

use crate::core::pod::defaults::pod_template_defaults;
use apimachinery::kind::Generation;
use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::{Api, Kind, Rules, Time};

use crate::cells::{joined, number, selector};
use crate::core::pod::spec::PodTemplateSpec;
use crate::served::served;

/// ReplicaSet: keeps a number of equal pods running.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.ReplicaSet")]
pub struct ReplicaSet {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty, required)]
    pub spec: ReplicaSetSpec,
    #[api(3, omitempty)]
    pub status: ReplicaSetStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.ReplicaSetSpec")]
pub struct ReplicaSetSpec {
    #[api(1, omitempty)]
    pub replicas: Option<i32>,
    #[api(4, omitempty)]
    pub min_ready_seconds: i32,
    #[api(2, required)]
    pub selector: Option<LabelSelector>,
    #[api(3, omitempty)]
    pub template: PodTemplateSpec,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.ReplicaSetStatus")]
pub struct ReplicaSetStatus {
    #[api(1, required)]
    pub replicas: i32,
    #[api(2, omitempty)]
    pub fully_labeled_replicas: i32,
    #[api(4, omitempty)]
    pub ready_replicas: i32,
    #[api(5, omitempty)]
    pub available_replicas: i32,
    #[api(7, omitempty)]
    pub terminating_replicas: Option<i32>,
    #[api(3, omitempty)]
    pub observed_generation: i64,
    #[api(6, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<ReplicaSetCondition>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.ReplicaSetCondition")]
pub struct ReplicaSetCondition {
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
    Kind::namespaced::<ReplicaSet>("apps", "v1", "replicasets")
        .short(&["rs"])
        .category(&["all"])
        .status()
        .generation(Generation::OnSpec)
        .scale(".spec.replicas", ".status.replicas", ".spec.selector")
        .selectable(&["status.replicas"])
        .code_column("Desired", "integer", |o, _| number(o, &["spec", "replicas"]))
        .code_column("Current", "integer", |o, _| number(o, &["status", "replicas"]))
        .code_column("Ready", "integer", |o, _| number(o, &["status", "readyReplicas"]))
        .age()
        .wide_code_column("Containers", "string", |o, _| joined(o, &["spec", "template", "spec", "containers"], "name"))
        .wide_code_column("Images", "string", |o, _| joined(o, &["spec", "template", "spec", "containers"], "image"))
        .wide_code_column("Selector", "string", |o, _| selector(o, &["spec", "selector"]))
        .example(
            r#"{"metadata": {"name": "web-1"}, "spec": {"replicas": 2, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web",
            "image": "registry.example/web:1", "ports": [{"name": "http", "containerPort": 8080}]}]}}}}"#,
        )
}

served!(ReplicaSet, "apps", "v1", "replicasets", true);

impl Rules for ReplicaSet {
    fn set_defaults(&mut self) {
        pod_template_defaults(&mut self.spec.template);
        self.spec.replicas.get_or_insert(1);
    }
}
