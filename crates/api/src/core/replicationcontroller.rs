//! ReplicationController: keeps a number of pods running, in the form that predates replica sets.

use crate::core::pod::defaults::pod_template_defaults;
use std::collections::BTreeMap;

use crate::apps::replicaset::{long_running, unselected};
use crate::checks::name;
use crate::core::pod::validate::pod_template;
use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{long_name, nonnegative};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Time};

use crate::cells::{joined, labels, number};
use crate::core::pod::spec::PodTemplateSpec;
use crate::served::served;

/// ReplicationController: keeps a number of pods running, in the form that predates replica sets.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ReplicationController")]
pub struct ReplicationController {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: ReplicationControllerSpec,
    #[api(3, omitempty)]
    pub status: ReplicationControllerStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ReplicationControllerSpec")]
pub struct ReplicationControllerSpec {
    #[api(1, omitempty, default = "1")]
    pub replicas: Option<i32>,
    #[api(4, omitempty, default = "0")]
    pub min_ready_seconds: i32,
    #[api(2, omitempty, atomic)]
    pub selector: BTreeMap<String, String>,
    #[api(3, omitempty)]
    pub template: Option<PodTemplateSpec>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ReplicationControllerStatus")]
pub struct ReplicationControllerStatus {
    #[api(1, required)]
    pub replicas: i32,
    #[api(2, omitempty)]
    pub fully_labeled_replicas: i32,
    #[api(4, omitempty)]
    pub ready_replicas: i32,
    #[api(5, omitempty)]
    pub available_replicas: i32,
    #[api(3, omitempty)]
    pub observed_generation: i64,
    #[api(6, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<ReplicationControllerCondition>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ReplicationControllerCondition")]
pub struct ReplicationControllerCondition {
    #[api(1, required)]
    pub type_: String,
    #[api(2, required)]
    pub status: String,
    #[api(3, omitempty)]
    pub last_transition_time: Time,
    #[api(4, omitempty)]
    pub reason: String,
    #[api(5, omitempty)]
    pub message: String,
}

pub fn kind() -> Kind {
    Kind::namespaced::<ReplicationController>("", "v1", "replicationcontrollers")
        .short(&["rc"])
        .category(&["all"])
        .stored_under("controllers")
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
        .wide_code_column("Selector", "string", |o, _| labels(o, &["spec", "selector"]))
        .example(
            r#"{"metadata": {"name": "web"}, "spec": {"replicas": 2, "selector": {"app": "web"},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web",
            "image": "registry.example/web:1", "ports": [{"name": "http", "containerPort": 8080}]}]}}}}"#,
        )
}

served!(ReplicationController, "", "v1", "replicationcontrollers", true);

impl Rules for ReplicationController {
    fn set_defaults(&mut self) {
        self.spec.replicas.get_or_insert(1);
        let Some(template) = &mut self.spec.template else { return };
        pod_template_defaults(template);
        let labels = &template.metadata.labels;
        if self.spec.selector.is_empty() {
            self.spec.selector = labels.clone();
        }
        if self.metadata.labels.is_empty() {
            self.metadata.labels = labels.clone();
        }
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, long_name);
        let path = Path::new("spec");
        nonnegative(errors, &path.child("minReadySeconds"), i64::from(self.spec.min_ready_seconds));
        nonnegative(errors, &path.child("replicas"), i64::from(self.spec.replicas.unwrap_or(0)));
        if self.spec.selector.is_empty() {
            errors.required(&path.child("selector"), "");
        }
        let field = path.child("template");
        let Some(template) = &self.spec.template else {
            errors.required(&field, "");
            return;
        };
        let selected = self.spec.selector.iter().all(|(k, v)| template.metadata.labels.get(k) == Some(v));
        if !selected {
            unselected(errors, &field, template);
        }
        pod_template(errors, &field, template);
        long_running(errors, &field, template, "ReplicationController");
    }
}
