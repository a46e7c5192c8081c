//! StatefulSet: runs pods with stable names and storage.

use crate::core::pod::defaults::pod_template_defaults;
use apimachinery::kind::Generation;
use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::{Api, IntOrString, Kind, Rules, Time, Value};

use crate::cells::{int, joined};
use crate::core::persistentvolumeclaim::PersistentVolumeClaim;
use crate::core::pod::spec::PodTemplateSpec;
use crate::served::served;

/// StatefulSet: runs pods with stable names and storage.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.StatefulSet")]
pub struct StatefulSet {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty, required)]
    pub spec: StatefulSetSpec,
    #[api(3, omitempty)]
    pub status: StatefulSetStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.StatefulSetUpdateStrategy")]
pub struct StatefulSetUpdateStrategy {
    #[api(1, omitempty, enumeration("OnDelete", "Recreate", "RollingUpdate"))]
    pub type_: String,
    #[api(2, omitempty)]
    pub rolling_update: Option<RollingUpdateStatefulSetStrategy>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.RollingUpdateStatefulSetStrategy")]
pub struct RollingUpdateStatefulSetStrategy {
    #[api(1, omitempty)]
    pub partition: Option<i32>,
    #[api(2, omitempty)]
    pub max_unavailable: Option<IntOrString>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.StatefulSetPersistentVolumeClaimRetentionPolicy")]
pub struct StatefulSetPersistentVolumeClaimRetentionPolicy {
    #[api(1, omitempty)]
    pub when_deleted: String,
    #[api(2, omitempty)]
    pub when_scaled: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.StatefulSetOrdinals")]
pub struct StatefulSetOrdinals {
    #[api(1)]
    pub start: i32,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.StatefulSetSpec")]
pub struct StatefulSetSpec {
    #[api(1, omitempty)]
    pub replicas: Option<i32>,
    #[api(2, required)]
    pub selector: Option<LabelSelector>,
    #[api(3, required)]
    pub template: PodTemplateSpec,
    #[api(4, omitempty, list = "atomic")]
    pub volume_claim_templates: Vec<PersistentVolumeClaim>,
    #[api(5)]
    pub service_name: String,
    #[api(6, omitempty, enumeration("OrderedReady", "Parallel"))]
    pub pod_management_policy: String,
    #[api(7, omitempty)]
    pub update_strategy: StatefulSetUpdateStrategy,
    #[api(8, omitempty)]
    pub revision_history_limit: Option<i32>,
    #[api(9, omitempty)]
    pub min_ready_seconds: i32,
    #[api(10, omitempty)]
    pub persistent_volume_claim_retention_policy: Option<StatefulSetPersistentVolumeClaimRetentionPolicy>,
    #[api(11, omitempty)]
    pub ordinals: Option<StatefulSetOrdinals>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.StatefulSetStatus")]
pub struct StatefulSetStatus {
    #[api(1, omitempty)]
    pub observed_generation: i64,
    #[api(2, required)]
    pub replicas: i32,
    #[api(3, omitempty)]
    pub ready_replicas: i32,
    #[api(4, omitempty)]
    pub current_replicas: i32,
    #[api(5, omitempty)]
    pub updated_replicas: i32,
    #[api(6, omitempty)]
    pub current_revision: String,
    #[api(7, omitempty)]
    pub update_revision: String,
    #[api(9, omitempty)]
    pub collision_count: Option<i32>,
    #[api(10, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<StatefulSetCondition>,
    #[api(11)]
    pub available_replicas: i32,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.apps.v1.StatefulSetCondition")]
pub struct StatefulSetCondition {
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
    Kind::namespaced::<StatefulSet>("apps", "v1", "statefulsets")
        .short(&["sts"])
        .category(&["all"])
        .status()
        .generation(Generation::OnSpec)
        .scale(".spec.replicas", ".status.replicas", ".spec.selector")
        .code_column("Ready", "string", ready_cell)
        .age()
        .wide_code_column("Containers", "string", |o, _| joined(o, &["spec", "template", "spec", "containers"], "name"))
        .wide_code_column("Images", "string", |o, _| joined(o, &["spec", "template", "spec", "containers"], "image"))
        .example(
            r#"{"metadata": {"name": "db"}, "spec": {"serviceName": "db", "replicas": 1,
            "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "registry.example/web:1",
            "ports": [{"name": "http", "containerPort": 8080}]}]}}, "volumeClaimTemplates": [{"metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}]}}"#,
        )
}

served!(StatefulSet, "apps", "v1", "statefulsets", true);

impl Rules for StatefulSet {
    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        pod_template_defaults(&mut spec.template);
        for claim in &mut spec.volume_claim_templates {
            claim.set_defaults();
        }
        if spec.pod_management_policy.is_empty() {
            spec.pod_management_policy = "OrderedReady".into();
        }
        if spec.update_strategy.type_.is_empty() {
            spec.update_strategy.type_ = "RollingUpdate".into();
            spec.update_strategy.rolling_update.get_or_insert_default();
        }
        if spec.update_strategy.type_ == "RollingUpdate"
            && let Some(update) = &mut spec.update_strategy.rolling_update
        {
            update.partition.get_or_insert(0);
            update.max_unavailable.get_or_insert(IntOrString::Int(1));
        }
        let retention = spec.persistent_volume_claim_retention_policy.get_or_insert_default();
        for policy in [&mut retention.when_deleted, &mut retention.when_scaled] {
            if policy.is_empty() {
                *policy = "Retain".into();
            }
        }
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
    }
}

fn ready_cell(object: &Value, _now: i64) -> Value {
    format!("{}/{}", int(object, &["status", "readyReplicas"]), int(object, &["spec", "replicas"])).into()
}
