//! The volume claims of a StatefulSet's pods: created with the pods, kept or deleted with them as the set says.

use api::apps::StatefulSet;
use api::core::persistentvolumeclaim::PersistentVolumeClaim;
use api::core::pod::Pod;
use api::core::volumes::{PersistentVolumeClaimVolumeSource, Volume, VolumeSource};
use apimachinery::meta::OwnerReference;
use apimachinery::{ObjectMeta, Status};

use super::plan;
use crate::Context;
use crate::workload::Manager;

/// The pod of an ordinal, which may not exist yet.
#[derive(Clone, Debug)]
pub struct PodName {
    pub name: String,
    pub ordinal: i32,
    /// Empty before the pod is created.
    pub uid: String,
}

impl PodName {
    fn reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: "v1".into(),
            kind: "Pod".into(),
            name: self.name.clone(),
            uid: self.uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }

    fn is(&self, reference: &OwnerReference) -> bool {
        reference.api_version == "v1" && reference.kind == "Pod" && reference.name == self.name
    }
}

fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    format!("{}-{}-{ordinal}", template.metadata.name, set.metadata.name)
}

/// Gives a pod the volumes of its claims, in place of any of the same names.
pub fn mount(set: &StatefulSet, pod: &mut Pod, ordinal: i32) {
    let templates = &set.spec.volume_claim_templates;
    let volumes = &mut pod.spec.volumes;
    volumes.retain(|volume| !templates.iter().any(|t| t.metadata.name == volume.name));
    for (at, template) in templates.iter().enumerate() {
        let source = PersistentVolumeClaimVolumeSource {
            claim_name: claim_name(set, template, ordinal),
            ..PersistentVolumeClaimVolumeSource::default()
        };
        let volume_source = VolumeSource { persistent_volume_claim: Some(source), ..VolumeSource::default() };
        let volume = Volume { name: template.metadata.name.clone(), volume_source };
        volumes.insert(at, volume);
    }
}

fn make(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> PersistentVolumeClaim {
    let mut labels = template.metadata.labels.clone();
    labels.extend(set.spec.selector.iter().flat_map(|s| s.match_labels.clone()));
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: claim_name(set, template, ordinal),
            namespace: set.metadata.namespace.clone(),
            labels,
            annotations: template.metadata.annotations.clone(),
            finalizers: template.metadata.finalizers.clone(),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        ..PersistentVolumeClaim::default()
    }
}

/// Creates the claims of a pod that are missing.
pub async fn ensure(cx: &Context, set: &StatefulSet, pod: &PodName) -> Result<(), Status> {
    let subject = Manager::of(set).subject;
    let mut failure = None;
    for template in &set.spec.volume_claim_templates {
        let claim = make(set, template, pod.ordinal);
        let name = &claim.metadata.name;
        match cx.client.try_get::<PersistentVolumeClaim>(&set.metadata.namespace, name).await? {
            Some(known) if known.metadata.deletion_timestamp.is_some() => {
                failure = Some(Status::internal(format!("pvc {name} is being deleted")));
            }
            Some(_) => {}
            None => match cx.client.create(&claim).await {
                Ok(_) => {
                    let message =
                        format!("Create Claim {name} Pod {} in StatefulSet {} success", pod.name, set.metadata.name);
                    cx.recorder.normal(&subject, "SuccessfulCreate", message);
                }
                Err(status) => {
                    if !status.is_already_exists() {
                        let message = format!(
                            "Create Claim {name} for Pod {} in StatefulSet {} failed error: {}",
                            pod.name, set.metadata.name, status.message
                        );
                        cx.recorder.warning(&subject, "FailedCreate", message);
                    }
                    failure = Some(status);
                }
            },
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Who deletes the claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Policy {
    with_set: bool,
    with_pod: bool,
}

fn policy(set: &StatefulSet) -> Policy {
    let policy = set.spec.persistent_volume_claim_retention_policy.as_ref();
    Policy {
        with_set: policy.is_some_and(|p| p.when_deleted == "Delete"),
        with_pod: policy.is_some_and(|p| p.when_scaled == "Delete"),
    }
}

/// Whether a claim waits to be deleted with an earlier pod of the same name, so that the pod must not be created yet.
pub async fn are_stale(cx: &Context, set: &StatefulSet, pod: &PodName) -> Result<bool, Status> {
    if !policy(set).with_pod {
        return Ok(false);
    }
    for template in &set.spec.volume_claim_templates {
        let name = claim_name(set, template, pod.ordinal);
        let claim = cx.client.try_get::<PersistentVolumeClaim>(&set.metadata.namespace, &name).await?;
        let stale = |r: &OwnerReference| pod.is(r) && r.uid != pod.uid;
        if claim.is_some_and(|claim| claim.metadata.owner_references.iter().any(stale)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes the claims of a pod be owned by who deletes them.
pub async fn align(cx: &Context, set: &StatefulSet, pod: &PodName) -> Result<(), Status> {
    for template in &set.spec.volume_claim_templates {
        let name = claim_name(set, template, pod.ordinal);
        let Some(mut claim) = cx.client.try_get::<PersistentVolumeClaim>(&set.metadata.namespace, &name).await? else {
            continue;
        };
        let (owners, conflict) = owners(set, pod, &claim.metadata.owner_references);
        if conflict {
            let message = format!(
                "PersistentVolumeClaim {name} has a conflicting OwnerReference that acts as a managing controller, \
                 the retention policy is ignored for this claim"
            );
            cx.recorder.warning(&Manager::of(set).subject, "ConflictingController", message);
        }
        if let Some(owners) = owners {
            claim.metadata.owner_references = owners;
            cx.client.update(&claim).await?;
        }
    }
    Ok(())
}

/// The owners that a claim should have, if they are others; and whether somebody else manages it.
fn owners(set: &StatefulSet, pod: &PodName, known: &[OwnerReference]) -> (Option<Vec<OwnerReference>>, bool) {
    let (policy, ours) = (policy(set), Manager::of(set).reference());
    let is_set = |r: &OwnerReference| r.api_version == ours.api_version && r.kind == ours.kind && r.name == ours.name;
    // An owner of the same name but another uid is about to take the claim with it.
    if known.iter().any(|r| is_set(r) && r.uid != ours.uid || pod.is(r) && r.uid != pod.uid) {
        return (None, false);
    }
    let mut owners: Vec<OwnerReference> = known.iter().filter(|r| !is_set(r) && !pod.is(r)).cloned().collect();
    let deletes = policy.with_set || policy.with_pod;
    let conflict = deletes && owners.iter().any(|r| r.controller == Some(true));
    if !conflict {
        let leaves = policy.with_pod && !plan::wants(set, pod.ordinal);
        if leaves {
            owners.push(pod.reference());
        } else if policy.with_set {
            owners.push(ours);
        }
    }
    let same = owners.len() == known.len()
        && owners.iter().all(|o| known.iter().any(|k| k.uid == o.uid && k.controller == o.controller));
    ((!same).then_some(owners), conflict)
}

#[cfg(test)]
mod tests {
    use api::apps::StatefulSetPersistentVolumeClaimRetentionPolicy;

    use super::*;

    #[test]
    fn claims_belong_to_who_deletes_them() {
        let mut set = StatefulSet::default();
        (set.metadata.name, set.metadata.uid) = ("db".into(), "s".into());
        set.spec.replicas = Some(1);
        let pod = |ordinal| PodName { name: format!("db-{ordinal}"), ordinal, uid: "p".into() };
        let ours = Manager::of(&set).reference();
        for (deleted, scaled, ordinal, known, expected) in [
            ("Retain", "Retain", 0, vec![], None),
            ("Retain", "Retain", 0, vec![ours.clone()], Some(vec![])),
            ("Delete", "Retain", 0, vec![], Some(vec!["s"])),
            ("Delete", "Delete", 0, vec![ours.clone()], None),
            ("Delete", "Delete", 1, vec![ours.clone()], Some(vec!["p"])),
            ("Retain", "Delete", 0, vec![pod(0).reference()], Some(vec![])),
            ("Retain", "Delete", 1, vec![], Some(vec!["p"])),
            ("Delete", "Delete", 0, vec![OwnerReference { uid: "gone".into(), ..ours.clone() }], None),
        ] {
            set.spec.persistent_volume_claim_retention_policy = Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: deleted.into(),
                when_scaled: scaled.into(),
            });
            let (owners, conflict) = owners(&set, &pod(ordinal), &known);
            let uids = owners.map(|o| o.into_iter().map(|r| r.uid).collect::<Vec<_>>());
            assert_eq!(uids, expected.map(|e| e.into_iter().map(String::from).collect()), "{deleted} {scaled}");
            assert!(!conflict);
        }
    }

    #[test]
    fn a_pod_mounts_its_own_claims() {
        let mut set = StatefulSet::default();
        set.metadata.name = "db".into();
        let mut template = PersistentVolumeClaim::default();
        template.metadata.name = "data".into();
        set.spec.volume_claim_templates = vec![template];
        let mut pod = Pod::default();
        pod.spec.volumes = ["data", "tmp"].map(|name| Volume { name: name.into(), ..Volume::default() }).into();
        mount(&set, &mut pod, 3);
        assert_eq!(pod.spec.volumes.iter().map(|v| v.name.as_str()).collect::<Vec<_>>(), ["data", "tmp"]);
        assert_eq!(pod.spec.volumes[0].volume_source.persistent_volume_claim.as_ref().unwrap().claim_name, "data-db-3");
    }
}
