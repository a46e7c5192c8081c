//! Runs one pod of a DaemonSet on every node where one belongs.
//!
//! `placement` says where that is, `plan` what to create and delete; this file does it.

mod placement;
mod plan;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::apps::{ControllerRevision, DaemonSet};
use api::core::pod::Pod;
use apimachinery::resource::Resource;
use apimachinery::selector::LabelSelector;
use apimachinery::{Map, SmolStr, Status, Value};
use client::{Informer, Key, Outcome, PatchKind, Queue, Recorder, run_workers};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::Context;
use crate::shared::NodeView;
use crate::shared::pod_index::CachedPod;
use crate::workload::history::{self, HASH_LABEL};
use crate::workload::pods::{Pods, available_in, from_template};
use crate::workload::{Manager, OwnerView, batch, namespace_ends, now, selector, wake_by_owners, wake_by_pods};
use placement::Placement;
use plan::{OnNode, Plan, Rules};

/// Pods created or deleted in one go at most.
const BURST: usize = 250;
/// The wait before a failed pod is replaced a second time, and the longest.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(900));

/// Runs the controller.
pub async fn run(cx: Context) {
    // Events name it otherwise than its account is named.
    let recorder = Recorder::new(cx.client.clone(), "daemonset-controller", "", cx.config.now);
    let cx = Context { recorder, ..cx };
    let pods = Pods::new(&cx);
    let sets = OwnerView::follow(&cx.watcher, DaemonSet::resource());
    let nodes = cx.shared.nodes().clone();
    sets.synced().await;
    nodes.synced().await;
    pods.informer.synced().await;
    let queue: Queue<Key> = Queue::new();
    wake_by_pods(&pods, &sets, "DaemonSet", &queue);
    wake_by_owners(&sets, &queue);
    let (all, to) = (sets.clone(), queue.clone());
    nodes.on_change(move |change| {
        let same = |a: &NodeView, b: &NodeView| a.labels == b.labels && a.taints == b.taints;
        if !matches!((change.old, change.new), (Some(old), Some(new)) if same(old, new)) {
            all.all().into_iter().for_each(|(key, _)| to.add(key));
        }
    });
    let backoff: Arc<Backoff> = Arc::default();
    run_workers("daemonset-controller", queue, 2, move |key| {
        let (cx, pods, nodes, backoff) = (cx.clone(), pods.clone(), nodes.clone(), backoff.clone());
        async move { reconcile(&cx, &pods, &nodes, &backoff, &key).await }
    })
    .await;
}

/// When a failed pod of a node may be replaced again.
#[derive(Default)]
struct Backoff(Mutex<HashMap<(SmolStr, SmolStr), (Duration, Instant)>>);

impl Backoff {
    /// Takes the turn if it is due, else says how long it is until then.
    fn take(&self, set: &str, node: &SmolStr) -> Result<(), Duration> {
        let mut waits = self.0.lock();
        let now = Instant::now();
        waits.retain(|_, (_, since)| now.duration_since(*since) < BACKOFF.1 * 2);
        match waits.get_mut(&(set.into(), node.clone())) {
            Some((wait, since)) => {
                let passed = now.duration_since(*since);
                if passed < *wait {
                    return Err(*wait - passed);
                }
                (*wait, *since) = ((*wait * 2).min(BACKOFF.1), now);
            }
            None => {
                waits.insert((set.into(), node.clone()), (BACKOFF.0, now));
            }
        }
        Ok(())
    }
}

async fn reconcile(
    cx: &Context,
    pods: &Pods,
    nodes: &Informer<NodeView>,
    backoff: &Backoff,
    key: &Key,
) -> Result<Outcome, Status> {
    let Some(mut set) = cx.client.try_get::<DaemonSet>(&key.namespace, &key.name).await? else {
        pods.expectations.forget(key);
        return Ok(Outcome::Done);
    };
    let owner = Manager::of(&set);
    let selector = selector(set.spec.selector.as_ref())?;
    if selector.is_everything() {
        let message = "This daemon set is selecting all pods. A non-empty selector is required.";
        cx.recorder.warning(&owner.subject, "SelectingAll", message);
        return Ok(Outcome::Done);
    }
    if owner.deleting {
        return Ok(Outcome::Done);
    }
    let (current, old) = revisions(cx, pods, &owner, &mut set, &selector).await?;
    let hash = current.metadata.labels.get(HASH_LABEL).cloned().unwrap_or_default();
    let generation = set.metadata.annotations.get("deprecated.daemonset.template.generation");
    let rules = Rules {
        hash: &hash,
        generation: generation.and_then(|n| n.parse().ok()),
        min_ready_seconds: set.spec.min_ready_seconds,
        surges: plan::limits(&set, 1).0 > 0,
        now: now(cx),
    };
    let satisfied = pods.expectations.satisfied(key, &pods.informer);
    let mut after = satisfied.err();
    let mut failure = None;
    if satisfied.is_ok() {
        let managed = update(cx, pods, nodes, backoff, &owner, &set, &rules, &old).await;
        match managed {
            Ok(wait) => after = wait,
            Err(status) => failure = Some(status),
        }
    }
    let placed = place(pods, nodes, &owner, &set, &selector).await?;
    let mut status = plan::count(&set, &placed, &rules);
    if satisfied.is_ok() {
        status.observed_generation = set.metadata.generation;
    }
    if status != set.status {
        set.status = status;
        set = cx.client.update_status(&set).await?;
    }
    if let Some(status) = failure {
        return Err(status);
    }
    let all = placed.values().flat_map(|node| &node.pods);
    let waits = all.filter_map(|(_, pod)| available_in(pod, set.spec.min_ready_seconds, rules.now)).filter(|s| *s > 0);
    let next = waits.min().map(|seconds| Duration::from_secs(seconds as u64));
    Ok([next, after].into_iter().flatten().min().map_or(Outcome::Done, Outcome::After))
}

/// The claimed pods by node, with every node.
async fn place(
    pods: &Pods,
    nodes: &Informer<NodeView>,
    owner: &Manager,
    set: &DaemonSet,
    selector: &LabelSelector,
) -> Result<BTreeMap<SmolStr, OnNode>, Status> {
    let placement = Placement::of(set);
    let mut placed: BTreeMap<SmolStr, OnNode> = nodes
        .all()
        .into_iter()
        .map(|(key, node)| {
            let fit = Some(placement.fit(&key.name, &node));
            (key.name, OnNode { fit, pods: Vec::new() })
        })
        .collect();
    for pod in pods.claim(owner, selector, |_, _| true).await? {
        let view = &pod.1;
        let ended = matches!(view.phase.as_str(), "Succeeded" | "Failed") && view.deleting;
        let node = if view.node.is_empty() { &view.pinned_to } else { &view.node };
        if !ended && !node.is_empty() {
            placed.entry(node.clone()).or_default().pods.push(pod);
        }
    }
    Ok(placed)
}

/// Settles every node, takes a step of a rolling update, and trims the history.
#[allow(clippy::too_many_arguments, reason = "one call, and each argument is a different thing")]
async fn update(
    cx: &Context,
    pods: &Pods,
    nodes: &Informer<NodeView>,
    backoff: &Backoff,
    owner: &Manager,
    set: &DaemonSet,
    rules: &Rules<'_>,
    old: &[ControllerRevision],
) -> Result<Option<Duration>, Status> {
    let selector = selector(set.spec.selector.as_ref())?;
    let placed = place(pods, nodes, owner, set, &selector).await?;
    let mut plan = plan::settle(&placed, rules);
    let mut after = None;
    for (node, (key, pod)) in std::mem::take(&mut plan.failed) {
        match backoff.take(&owner.subject.uid, &node) {
            Ok(()) => {
                let message = format!("Found failed daemon pod {key} on node {node}, will try to kill it");
                cx.recorder.warning(&owner.subject, "FailedDaemonPod", message);
                plan.delete.push((key, pod));
            }
            Err(wait) => after = Some(after.map_or(wait, |known: Duration| known.min(wait))),
        }
    }
    for (node, (key, pod)) in std::mem::take(&mut plan.succeeded) {
        let message = format!("Found succeeded daemon pod {key} on node {node}, will try to delete it");
        cx.recorder.normal(&owner.subject, "SucceededDaemonPod", message);
        plan.delete.push((key, pod));
    }
    apply(pods, owner, set, rules, plan).await?;
    if set.spec.update_strategy.type_ == "RollingUpdate"
        && pods.expectations.satisfied(&owner.key(), &pods.informer).is_ok()
    {
        let placed = place(pods, nodes, owner, set, &selector).await?;
        apply(pods, owner, set, rules, plan::roll(set, &placed, rules)).await?;
    }
    let hashes: Vec<SmolStr> = pods
        .index
        .owned(&owner.subject.uid)
        .into_iter()
        .filter_map(|(_, pod)| pod.labels.get(HASH_LABEL).cloned())
        .collect();
    let used = |revision: &ControllerRevision| {
        let hash = revision.metadata.labels.get(HASH_LABEL);
        hash.is_some_and(|hash| hashes.iter().any(|h| h.as_str() == hash))
    };
    history::truncate(&cx.client, old, set.spec.revision_history_limit, used).await?;
    Ok(after)
}

async fn apply(pods: &Pods, owner: &Manager, set: &DaemonSet, rules: &Rules<'_>, plan: Plan) -> Result<(), Status> {
    if plan.create.is_empty() && plan.delete.is_empty() {
        return Ok(());
    }
    pods.expectations.open(&owner.key());
    let template = daemon_pod(set, owner, rules);
    let (_, created) = batch::slow_start(plan.create.len().min(BURST), |i| {
        let mut pod = template.clone();
        placement::pin(&mut pod.spec, &plan.create[i]);
        async move {
            match pods.create(owner, &pod).await {
                Err(status) if namespace_ends(&status) => Ok(()),
                other => other.map(drop),
            }
        }
    })
    .await;
    let doomed: &[CachedPod] = &plan.delete[..plan.delete.len().min(BURST)];
    pods.delete_all(owner, doomed).await?;
    created.map_or(Ok(()), Err)
}

fn daemon_pod(set: &DaemonSet, owner: &Manager, rules: &Rules<'_>) -> Pod {
    let mut pod = from_template(&set.spec.template, owner);
    placement::tolerate(&mut pod.spec);
    pod.metadata.labels.insert(HASH_LABEL.into(), rules.hash.into());
    if let Some(generation) = rules.generation {
        pod.metadata.labels.insert("pod-template-generation".into(), generation.to_string());
    }
    pod
}

/// The revision of the current template, made or renumbered if need be, and the others, oldest first.
async fn revisions(
    cx: &Context,
    pods: &Pods,
    owner: &Manager,
    set: &mut DaemonSet,
    selector: &LabelSelector,
) -> Result<(ControllerRevision, Vec<ControllerRevision>), Status> {
    let data = history::data(&set.spec.template);
    let all = history::list(&cx.client, owner, selector).await?;
    let (mut same, old): (Vec<_>, Vec<_>) = all.into_iter().partition(|revision| revision.data == data);
    let number = history::next_number(&old);
    let Some(current) = same.pop() else {
        let mut collisions = set.status.collision_count.unwrap_or(0);
        let labels = &set.spec.template.metadata.labels;
        let mut fresh = history::revision(owner, labels, data, number, Some(collisions));
        fresh.metadata.annotations = set.metadata.annotations.clone();
        let made = history::create(&cx.client, owner, &fresh, &mut collisions).await?;
        if collisions != set.status.collision_count.unwrap_or(0) {
            set.status.collision_count = Some(collisions);
            *set = cx.client.update_status(set).await?;
        }
        return Ok((made, old));
    };
    for twin in same {
        relabel(pods, owner, &current).await?;
        cx.client.delete::<ControllerRevision>(&twin.metadata.namespace, &twin.metadata.name).await?;
    }
    if current.revision < number {
        return Ok((history::renumber(&cx.client, current, number).await?, old));
    }
    Ok((current, old))
}

/// Gives all pods the hash of this revision, before another revision of the same template is deleted.
async fn relabel(pods: &Pods, owner: &Manager, revision: &ControllerRevision) -> Result<(), Status> {
    let Some(hash) = revision.metadata.labels.get(HASH_LABEL) else { return Ok(()) };
    for (key, pod) in pods.index.owned(&owner.subject.uid) {
        if pod.labels.get(HASH_LABEL).is_some_and(|label| label == hash.as_str()) {
            continue;
        }
        let mut labels = Map::new();
        labels.insert(HASH_LABEL, hash.as_str());
        let mut metadata = Map::new();
        metadata.insert("labels", labels);
        let mut patch = Map::new();
        patch.insert("metadata", metadata);
        let patch = Value::Map(patch);
        pods.client.patch::<Pod>(&key.namespace, &key.name, "", PatchKind::Merge, patch).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use apimachinery::GroupVersionResource;

    use super::*;
    use crate::context::tests::{context, eventually};

    const SET: &str = r#"{"metadata":{"name":"log","namespace":"a","uid":"d","generation":1},"spec":{
        "selector":{"matchLabels":{"app":"log"}},"revisionHistoryLimit":10,"updateStrategy":{"type":"RollingUpdate",
        "rollingUpdate":{"maxUnavailable":1,"maxSurge":0}},"template":{"metadata":{"labels":{"app":"log"}},
        "spec":{"containers":[{"name":"c","image":"one"}]}}}}"#;

    #[tokio::test]
    async fn nodes_get_pods_and_a_new_template_replaces_them() {
        let backend = testkit::FakeBackend::new();
        let core = |resource| GroupVersionResource::new("", "v1", resource);
        let (sets, pods, nodes) = (DaemonSet::resource(), core("pods"), core("nodes"));
        let revisions = ControllerRevision::resource();
        for name in ["one", "two"] {
            backend.put(&nodes, &format!(r#"{{"metadata":{{"name":"{name}","uid":"{name}"}}}}"#));
        }
        backend.put(&sets, SET);
        let task = tokio::spawn(run(context(&backend)));
        let desired = || {
            let set = backend.get(&sets, "a", "log").unwrap();
            set.at(&["status", "currentNumberScheduled"]).and_then(Value::as_i64)
        };
        eventually(|| backend.count(&pods) == 2 && desired() == Some(2)).await;
        assert_eq!(backend.count(&revisions), 1);
        // Pods that are not available are replaced at once.
        backend.put(&sets, &SET.replace("\"image\":\"one\"", "\"image\":\"two\""));
        let images = || {
            let image = |pod: &Value| {
                let containers = pod.at(&["spec", "containers"]).and_then(Value::as_list).unwrap().to_vec();
                containers[0].str_at(&["image"]).unwrap().to_string()
            };
            backend.all(&pods).iter().map(image).collect::<Vec<_>>()
        };
        eventually(|| images() == ["two", "two"]).await;
        assert_eq!(backend.count(&revisions), 2);
        backend.put(&nodes, r#"{"metadata":{"name":"three","uid":"three"}}"#);
        eventually(|| backend.count(&pods) == 3 && desired() == Some(3)).await;
        task.abort();
    }
}
