//! The ReplicaSets of a Deployment: claimed, created, scaled and thrown away.

use api::apps::{Deployment, ReplicaSet, ReplicaSetSpec};
use api::core::pod::spec::PodTemplateSpec;
use apimachinery::selector::LabelSelector;
use apimachinery::{Api, ObjectMeta, Status, Time};
use client::{Informer, PatchKind, Query};

use super::plan::{self, Limits, Share, Size};
use super::status;
use crate::Context;
use crate::workload::pods::{owner_patch, release};
use crate::workload::{Manager, OwnerView, controlled_by, namespace_ends, now, template_hash};

const HASH: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MOST: &str = "deployment.kubernetes.io/max-replicas";
/// What belongs to one object and is not passed on from a Deployment to its ReplicaSets.
const KEPT: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    HISTORY,
    DESIRED,
    MOST,
    "deprecated.deployment.rollback.to",
];
/// The history of revisions in characters.
const LONGEST_HISTORY: usize = 2000;
/// The longest name of an object.
const LONGEST_NAME: usize = 253;

/// The ReplicaSets of a Deployment.
#[derive(Clone, Debug, Default)]
pub struct Sets {
    /// The one with the current template.
    pub new: Option<ReplicaSet>,
    pub old: Vec<ReplicaSet>,
}

/// The order of creation.
pub fn age(set: &ReplicaSet) -> (Time, String) {
    (set.metadata.creation_timestamp, set.metadata.name.clone())
}

fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.replicas.unwrap_or(1)
}

fn number(set: &ReplicaSet, annotation: &str) -> Option<i32> {
    set.metadata.annotations.get(annotation)?.parse().ok().filter(|n| *n >= 0)
}

/// How many replicas the Deployment wanted when this set was last sized.
pub fn desired(set: &ReplicaSet) -> Option<i32> {
    number(set, DESIRED)
}

fn revision(set: &ReplicaSet) -> i64 {
    set.metadata.annotations.get(REVISION).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    template.metadata.labels.remove(HASH);
    template
}

impl Sets {
    /// Tells the new set, the oldest with the current template, from the others.
    pub fn sort(deployment: &Deployment, mut all: Vec<ReplicaSet>) -> Sets {
        all.sort_by_key(age);
        let template = without_hash(&deployment.spec.template);
        let position = all.iter().position(|set| without_hash(&set.spec.template) == template);
        let new = position.map(|at| all.remove(at));
        Sets { new, old: all }
    }

    /// The new one first.
    pub fn all(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.new.iter().chain(&self.old)
    }

    /// Those that want pods.
    pub fn active(&self) -> impl Iterator<Item = &ReplicaSet> {
        self.all().filter(|set| wanted(set) > 0)
    }

    /// The sum of all sizes.
    pub fn total(&self) -> i32 {
        self.all().map(wanted).sum()
    }
}

/// The Deployment's ReplicaSets as they are now; orphans that match are adopted, those that match no longer released.
pub async fn claim(
    cx: &Context,
    cache: &Informer<OwnerView>,
    owner: &Manager,
    selector: &LabelSelector,
) -> Result<Vec<ReplicaSet>, Status> {
    let namespace = owner.subject.namespace.as_str();
    let query = Query { label_selector: selector.to_string(), ..Query::default() };
    let mut claimed = Vec::new();
    let matching = cx.client.list::<ReplicaSet>(namespace, query).await?.items;
    let known: Vec<String> = matching.iter().map(|set| set.metadata.name.clone()).collect();
    for set in matching {
        let meta = &set.metadata;
        if controlled_by(&meta.owner_references, &owner.subject.uid) {
            claimed.push(set);
        } else if meta.owner_references.iter().all(|r| r.controller != Some(true))
            && meta.deletion_timestamp.is_none()
            && !owner.deleting
        {
            let patch = owner_patch(&meta.uid, owner.reference().to_value());
            claimed.push(cx.client.patch(namespace, &meta.name, "", PatchKind::Strategic, patch).await?);
        }
    }
    let left = cache.filter(|key, set| {
        key.namespace == owner.subject.namespace
            && set.controller.as_ref().is_some_and(|c| c.uid == owner.subject.uid)
            && !known.iter().any(|name| *name == key.name.as_str())
    });
    for (key, set) in left.into_iter().filter(|_| !owner.deleting) {
        let patch = owner_patch(&set.uid, release(&owner.subject));
        match cx.client.patch::<ReplicaSet>(namespace, &key.name, "", PatchKind::Strategic, patch).await {
            Err(status) if !status.is_not_found() && status.code != 422 => return Err(status),
            _ => {}
        }
    }
    Ok(claimed)
}

fn annotate_sizes(set: &mut ReplicaSet, limits: &Limits) -> bool {
    let mut changed = false;
    for (key, value) in [(DESIRED, limits.replicas), (MOST, limits.replicas + limits.surge)] {
        let value = value.to_string();
        if set.metadata.annotations.get(key) != Some(&value) {
            set.metadata.annotations.insert(key.into(), value);
            changed = true;
        }
    }
    changed
}

/// Passes annotations on and raises the revision, keeping the ones it had; says whether anything changed.
fn annotate(deployment: &Deployment, set: &mut ReplicaSet, new_revision: i64) -> bool {
    let annotations = &mut set.metadata.annotations;
    let before = annotations.clone();
    for (key, value) in deployment.metadata.annotations.iter().filter(|(key, _)| !KEPT.contains(&key.as_str())) {
        annotations.insert(key.clone(), value.clone());
    }
    let old = annotations.get(REVISION).cloned();
    let old_number = match old.as_deref() {
        None | Some("") => Some(0),
        Some(text) => text.parse::<i64>().ok(),
    };
    if old_number.is_some_and(|n| n < new_revision) {
        annotations.insert(REVISION.into(), new_revision.to_string());
        if let Some(old) = old {
            let history = annotations.get(HISTORY).cloned().unwrap_or_default();
            let mut revisions: Vec<&str> = history.split(',').filter(|r| !r.is_empty()).collect();
            revisions.push(&old);
            let mut text = revisions.join(",");
            while text.len() > LONGEST_HISTORY && revisions.len() > 1 {
                revisions.remove(0);
                text = revisions.join(",");
            }
            annotations.insert(HISTORY.into(), text);
        }
    }
    *annotations != before
}

fn next_revision(sets: &Sets) -> i64 {
    sets.old.iter().map(revision).max().unwrap_or(0) + 1
}

/// Brings the new set's annotations up to date and the revision of the Deployment with them.
pub async fn sync_revision(cx: &Context, deployment: &mut Deployment, sets: &mut Sets) -> Result<(), Status> {
    let next = next_revision(sets);
    let Some(new) = sets.new.as_mut() else { return Ok(()) };
    let annotated = annotate(deployment, new, next);
    if annotated || new.spec.min_ready_seconds != deployment.spec.min_ready_seconds {
        new.spec.min_ready_seconds = deployment.spec.min_ready_seconds;
        *new = cx.client.update(new).await?;
    }
    let revision = new.metadata.annotations.get(REVISION).cloned().unwrap_or_default();
    let mut changed = set_revision(deployment, &revision);
    if !status::tells_progress(deployment) {
        let message = format!("Found new replica set {:?}", new.metadata.name);
        changed |= status::set_progressing(deployment, "FoundNewReplicaSet", message, now(cx));
    }
    if changed {
        *deployment = cx.client.update_status(deployment).await?;
    }
    Ok(())
}

fn set_revision(deployment: &mut Deployment, revision: &str) -> bool {
    let annotations = &mut deployment.metadata.annotations;
    let changed = annotations.get(REVISION).map(String::as_str) != Some(revision);
    annotations.insert(REVISION.into(), revision.into());
    changed
}

/// The ReplicaSet of the current template, not stored yet.
fn make(deployment: &Deployment, sets: &Sets) -> ReplicaSet {
    let limits = Limits::of(deployment);
    let mut template = deployment.spec.template.clone();
    let hash = template_hash::hash(&template.to_value(), deployment.status.collision_count);
    template.metadata.labels.insert(HASH.into(), hash.clone());
    let mut selector = deployment.spec.selector.clone().unwrap_or_default();
    selector.match_labels.insert(HASH.into(), hash.clone());
    let name = deployment.metadata.name.as_str();
    let name = name.get(..LONGEST_NAME - 1 - hash.len()).unwrap_or(name);
    let replicas = plan::grow_new(&limits, Size { wanted: 0, available: 0 }, sets.total());
    let mut set = ReplicaSet {
        metadata: ObjectMeta {
            name: format!("{name}-{hash}"),
            namespace: deployment.metadata.namespace.clone(),
            labels: template.metadata.labels.clone(),
            owner_references: vec![Manager::of(deployment).reference()],
            ..ObjectMeta::default()
        },
        spec: ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: deployment.spec.min_ready_seconds,
            selector: Some(selector),
            template,
        },
        ..ReplicaSet::default()
    };
    annotate(deployment, &mut set, next_revision(sets));
    annotate_sizes(&mut set, &limits);
    set
}

/// Creates the new ReplicaSet if there is none.
pub async fn ensure_new(cx: &Context, deployment: &mut Deployment, sets: &mut Sets) -> Result<(), Status> {
    if sets.new.is_some() {
        return Ok(());
    }
    let set = make(deployment, sets);
    let subject = Manager::of(deployment).subject;
    match cx.client.create(&set).await {
        Ok(created) => {
            if wanted(&created) > 0 {
                let message = format!("Scaled up replica set {} from 0 to {}", created.metadata.name, wanted(&created));
                cx.recorder.normal(&subject, "ScalingReplicaSet", message);
            }
            let revision = created.metadata.annotations.get(REVISION).cloned().unwrap_or_default();
            let mut changed = set_revision(deployment, &revision);
            let message = format!("Created new replica set {:?}", created.metadata.name);
            changed |= status::set_progressing(deployment, "NewReplicaSetCreated", message, now(cx));
            sets.new = Some(created);
            if changed {
                *deployment = cx.client.update_status(deployment).await?;
            }
            Ok(())
        }
        Err(error) if error.is_already_exists() => {
            let known: ReplicaSet = cx.client.get(&set.metadata.namespace, &set.metadata.name).await?;
            let ours = controlled_by(&known.metadata.owner_references, &deployment.metadata.uid);
            if ours && without_hash(&known.spec.template) == without_hash(&deployment.spec.template) {
                let revision = known.metadata.annotations.get(REVISION).cloned().unwrap_or_default();
                sets.new = Some(known);
                if set_revision(deployment, &revision) {
                    *deployment = cx.client.update_status(deployment).await?;
                }
                return Ok(());
            }
            // Another template has the same hash: count it, and the next attempt takes another name.
            *deployment.status.collision_count.get_or_insert(0) += 1;
            *deployment = cx.client.update_status(deployment).await?;
            Err(error)
        }
        Err(error) if namespace_ends(&error) => Err(error),
        Err(error) => {
            let message = format!("Failed to create new replica set {:?}: {}", set.metadata.name, error.message);
            cx.recorder.warning(&subject, "ReplicaSetCreateError", message.clone());
            if status::set_progressing(deployment, "ReplicaSetCreateError", message, now(cx)) {
                *deployment = cx.client.update_status(deployment).await?;
            }
            Err(error)
        }
    }
}

/// Sizes one set; says whether its size changed. With `annotate` the notes of sizes are brought up to date even when
/// the size stays.
async fn scale(
    cx: &Context,
    deployment: &Deployment,
    set: &mut ReplicaSet,
    size: i32,
    annotate: bool,
) -> Result<bool, Status> {
    let before = wanted(set);
    if before == size && !annotate {
        return Ok(false);
    }
    let noted = annotate_sizes(set, &Limits::of(deployment));
    if before == size && !noted {
        return Ok(false);
    }
    set.spec.replicas = Some(size);
    *set = cx.client.update(set).await?;
    if before != size {
        let direction = if before < size { "up" } else { "down" };
        let message = format!("Scaled {direction} replica set {} from {before} to {size}", set.metadata.name);
        cx.recorder.normal(&Manager::of(deployment).subject, "ScalingReplicaSet", message);
    }
    Ok(before != size)
}

/// Sizes the new set.
pub async fn scale_new(cx: &Context, deployment: &Deployment, sets: &mut Sets, size: i32) -> Result<bool, Status> {
    match sets.new.as_mut() {
        Some(set) => scale(cx, deployment, set, size, false).await,
        None => Ok(false),
    }
}

/// Sizes the old sets, in their order.
pub async fn scale_old(cx: &Context, deployment: &Deployment, sets: &mut Sets, sizes: &[i32]) -> Result<bool, Status> {
    let mut scaled = false;
    for (set, size) in sets.old.iter_mut().zip(sizes) {
        scaled |= scale(cx, deployment, set, *size, false).await?;
    }
    Ok(scaled)
}

/// Follows a change of the wanted number: all to the only active set, or in proportion amid a rollout.
pub async fn scale_all(cx: &Context, deployment: &Deployment, sets: &mut Sets) -> Result<(), Status> {
    let limits = Limits::of(deployment);
    let active = sets.active().count();
    if active <= 1 {
        sets.old.sort_by_key(|set| std::cmp::Reverse(age(set)));
        let newest = if active == 1 {
            sets.new.iter_mut().chain(&mut sets.old).find(|set| wanted(set) > 0)
        } else {
            sets.new.as_mut().or(sets.old.first_mut())
        };
        if let Some(set) = newest {
            scale(cx, deployment, set, limits.replicas, false).await?;
        }
        return Ok(());
    }
    let saturated = sets.new.as_ref().is_some_and(|set| {
        let size = Size::of(set);
        size.wanted == limits.replicas && desired(set) == Some(limits.replicas) && size.available == limits.replicas
    });
    if saturated {
        let nothing = vec![0; sets.old.len()];
        return scale_old(cx, deployment, sets, &nothing).await.map(drop);
    }
    if !limits.rolling {
        return Ok(());
    }
    let allowed = if limits.replicas > 0 { limits.replicas + limits.surge } else { 0 };
    let grows = allowed > sets.total();
    let mut shared: Vec<&mut ReplicaSet> =
        sets.new.iter_mut().chain(&mut sets.old).filter(|set| wanted(set) > 0).collect();
    // The largest first; of equal ones the newer takes more, and the older gives more.
    shared.sort_by(|a, b| {
        wanted(b).cmp(&wanted(a)).then_with(|| if grows { age(b).cmp(&age(a)) } else { age(a).cmp(&age(b)) })
    });
    let shares: Vec<Share> =
        shared.iter().map(|set| Share { wanted: wanted(set), most_before: number(set, MOST) }).collect();
    let sizes = plan::share_out(&limits, deployment.status.replicas, &shares);
    for (set, size) in shared.into_iter().zip(sizes) {
        scale(cx, deployment, set, size, true).await?;
    }
    Ok(())
}

/// Deletes the oldest of the old sets that are empty, down to the history that is kept.
pub async fn clean_up(cx: &Context, deployment: &Deployment, sets: &Sets) -> Result<(), Status> {
    let Some(limit) = deployment.spec.revision_history_limit.filter(|n| *n != i32::MAX) else { return Ok(()) };
    let mut old: Vec<&ReplicaSet> = sets.old.iter().filter(|set| set.metadata.deletion_timestamp.is_none()).collect();
    let excess = old.len().saturating_sub(limit.max(0) as usize);
    old.sort_by_key(|set| (revision(set), age(set)));
    for set in &old[..excess] {
        let busy =
            set.status.replicas != 0 || wanted(set) != 0 || set.metadata.generation > set.status.observed_generation;
        if busy {
            continue;
        }
        match cx.client.delete::<ReplicaSet>(&set.metadata.namespace, &set.metadata.name).await {
            Err(status) if !status.is_not_found() => return Err(status),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(image: &str) -> Deployment {
        let json = format!(
            r#"{{"metadata":{{"name":"web","namespace":"a","uid":"d","annotations":{{"team":"x","{REVISION}":"9"}}}},
            "spec":{{"replicas":3,"selector":{{"matchLabels":{{"app":"web"}}}},"strategy":{{"type":"Recreate"}},
            "template":{{"metadata":{{"labels":{{"app":"web"}}}},
            "spec":{{"containers":[{{"name":"c","image":"{image}"}}]}}}}}}}}"#
        );
        Deployment::from_value(&apimachinery::codec::json::parse(json.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn a_set_is_found_by_its_template() {
        let one = make(&deployment("one"), &Sets::default());
        assert_eq!(one.metadata.annotations.get(REVISION).unwrap(), "1");
        assert_eq!(one.metadata.annotations.get("team").unwrap(), "x");
        assert_eq!(one.metadata.labels.get(HASH), one.spec.selector.as_ref().unwrap().match_labels.get(HASH));
        let sets = Sets::sort(&deployment("two"), vec![one.clone()]);
        assert!(sets.new.is_none());
        let two = make(&deployment("two"), &sets);
        assert_ne!(one.metadata.name, two.metadata.name);
        assert_eq!(revision(&two), 2);
        let sets = Sets::sort(&deployment("one"), vec![two, one.clone()]);
        assert_eq!(sets.new.as_ref().unwrap().metadata.name, one.metadata.name);
        // Rolling back makes the old set the newest revision and keeps the number it had.
        let mut back = one;
        assert!(annotate(&deployment("one"), &mut back, next_revision(&sets)));
        assert_eq!(revision(&back), 3);
        assert_eq!(back.metadata.annotations.get(HISTORY).unwrap(), "1");
        assert!(!annotate(&deployment("one"), &mut back, 3));
        assert!(annotate(&deployment("one"), &mut back, 5));
        assert_eq!(back.metadata.annotations.get(HISTORY).unwrap(), "1,3");
    }
}
