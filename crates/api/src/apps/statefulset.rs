//! StatefulSet: runs pods with stable names and storage.

use crate::apps::replicaset::{counts_within, workload};
use crate::checks::{amount, at_most_all, count_or_percent, name};
use crate::core::persistentvolumeclaim::claim_spec;
use crate::core::pod::defaults::pod_template_defaults;
use crate::core::volumes::{PersistentVolumeClaimVolumeSource, Volume, VolumeSource};
use apimachinery::kind::Generation;
use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::validation::{check, dns_label, nonnegative};
use apimachinery::{Api, Errors, IntOrString, Kind, Path, Rules, RulesCx, Time, Value};

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

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_label);
        let path = Path::new("spec");
        let spec = &self.spec;
        let management = path.child("podManagementPolicy");
        match spec.pod_management_policy.as_str() {
            "" => errors.required(&management, ""),
            "OrderedReady" | "Parallel" => {}
            other => errors.invalid(&management, other, "must be 'OrderedReady' or 'Parallel'"),
        }
        let strategy = path.child("updateStrategy");
        let field = strategy.child("rollingUpdate");
        match (spec.update_strategy.type_.as_str(), &spec.update_strategy.rolling_update) {
            ("", _) => errors.required(&strategy, ""),
            ("OnDelete", Some(update)) => {
                errors.invalid(&field, update.to_value(), "only allowed for updateStrategy 'RollingUpdate'");
            }
            ("OnDelete", None) | ("RollingUpdate", None) => {}
            ("RollingUpdate", Some(update)) => {
                nonnegative(errors, &field.child("partition"), i64::from(update.partition.unwrap_or(0)));
                if let Some(unavailable) = &update.max_unavailable {
                    let field = field.child("maxUnavailable");
                    count_or_percent(errors, &field, unavailable);
                    if amount(unavailable) == 0 {
                        errors.invalid(&field, unavailable.to_value(), "cannot be 0");
                    }
                    at_most_all(errors, &field, unavailable);
                }
            }
            _ => {
                errors.invalid(&strategy, spec.update_strategy.to_value(), "must be 'RollingUpdate' or 'OnDelete'");
            }
        }
        let retention = path.child("persistentVolumeClaimRetentionPolicy");
        if let Some(policy) = &spec.persistent_volume_claim_retention_policy {
            for (field, value) in [("whenDeleted", &policy.when_deleted), ("whenScaled", &policy.when_scaled)] {
                if !matches!(value.as_str(), "Delete" | "Retain") {
                    errors.not_supported(&retention.child(field), value.as_str(), &["Retain", "Delete"]);
                }
            }
        }
        nonnegative(errors, &path.child("replicas"), i64::from(spec.replicas.unwrap_or(0)));
        nonnegative(errors, &path.child("minReadySeconds"), i64::from(spec.min_ready_seconds));
        if let Some(ordinals) = &spec.ordinals {
            nonnegative(errors, &path.child("ordinals.start"), i64::from(ordinals.start));
        }
        if !spec.service_name.is_empty() {
            check(errors, &path.child("serviceName"), &spec.service_name, dns_label);
        }
        let claims = path.child("volumeClaimTemplates");
        for (i, claim) in spec.volume_claim_templates.iter().enumerate() {
            claim_spec(errors, &claims.index(i).child("spec"), &claim.spec);
        }
        let mut template = spec.template.clone();
        template.spec.subdomain.clear();
        template.spec.hostname.clear();
        // Claims become volumes of every pod, so mounts may name them.
        for claim in &spec.volume_claim_templates {
            let name = claim.metadata.name.clone();
            template.spec.volumes.retain(|volume| volume.name != name);
            let source = PersistentVolumeClaimVolumeSource { claim_name: name.clone(), read_only: false };
            let volume_source = VolumeSource { persistent_volume_claim: Some(source), ..VolumeSource::default() };
            template.spec.volumes.push(Volume { name, volume_source });
        }
        workload(errors, &path, spec.selector.as_ref(), &template, "statefulset", "StatefulSet");
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let path = Path::new("spec");
        let mut munged = self.spec.clone();
        munged.replicas = old.spec.replicas;
        munged.template.clone_from(&old.spec.template);
        munged.update_strategy.clone_from(&old.spec.update_strategy);
        munged.min_ready_seconds = old.spec.min_ready_seconds;
        munged.ordinals.clone_from(&old.spec.ordinals);
        munged.revision_history_limit = old.spec.revision_history_limit;
        munged.persistent_volume_claim_retention_policy.clone_from(&old.spec.persistent_volume_claim_retention_policy);
        if munged != old.spec {
            errors.forbidden(
                &path,
                "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            );
        }
    }

    fn validate_status_update(&self, _old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let path = Path::new("status");
        let status = &self.status;
        let counts = [
            ("replicas", status.replicas),
            ("readyReplicas", status.ready_replicas),
            ("currentReplicas", status.current_replicas),
            ("updatedReplicas", status.updated_replicas),
            ("availableReplicas", status.available_replicas),
        ];
        counts_within(errors, &path, &counts);
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
    fn claims_are_volumes_and_identity_stays() {
        refuses(
            &kind(),
            &[("spec.template.spec.containers.0.volumeMounts", r#"[{"name":"data","mountPath":"/data"}]"#)],
            &[],
        );
        refuses_update(
            &kind(),
            &[("spec.serviceName", "\"other\"")],
            &[
                "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
            ],
        );
    }
}
