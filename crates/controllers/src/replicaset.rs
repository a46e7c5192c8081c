//! Keeps as many pods of a ReplicaSet or a ReplicationController as it asks for.

use std::sync::Arc;
use std::time::Duration;

use api::apps::{ReplicaSet, ReplicaSetCondition};
use api::core::pod::spec::PodTemplateSpec;
use api::core::replicationcontroller::{ReplicationController, ReplicationControllerCondition};
use apimachinery::resource::Resource;
use apimachinery::selector::LabelSelector;
use apimachinery::{SmolStr, Status, Time};
use client::{Informer, Key, Outcome, Queue, run_workers};

use crate::Context;
use crate::shared::pod_index::CachedPod;
use crate::workload::pods::{Pods, available_in, from_template, is_active, is_terminating};
use crate::workload::{Manager, OwnerView, batch, namespace_ends, now, ranking, selector};

/// Pods created or deleted in one go at most.
const BURST: usize = 500;

/// Runs the controller of ReplicaSets.
pub async fn run(cx: Context) {
    run_for::<ReplicaSet>("replicaset-controller", cx).await;
}

/// Runs the controller of ReplicationControllers.
pub async fn run_replication(cx: Context) {
    run_for::<ReplicationController>("replication-controller", cx).await;
}

/// The one condition these kinds have, `ReplicaFailure`.
#[derive(Clone, Debug, Default, PartialEq)]
struct Condition {
    kind: String,
    status: String,
    since: Time,
    reason: String,
    message: String,
}

/// What is told about the pods.
#[derive(Clone, Debug, Default, PartialEq)]
struct Counts {
    replicas: i32,
    fully_labeled: i32,
    ready: i32,
    available: i32,
    /// Only ReplicaSets tell it.
    terminating: Option<i32>,
    observed_generation: i64,
    conditions: Vec<Condition>,
}

/// What the two kinds have in common.
trait ReplicaOwner: Resource + Clone {
    fn replicas(&self) -> i32;
    fn min_ready_seconds(&self) -> i32;
    fn selector(&self) -> Result<LabelSelector, Status>;
    fn template(&self) -> PodTemplateSpec;
    fn counts(&self) -> Counts;
    fn set_counts(&mut self, counts: Counts);
    const TELLS_TERMINATING: bool;
}

macro_rules! conditions {
    ($from:expr) => {
        $from
            .iter()
            .map(|c| Condition {
                kind: c.type_.clone(),
                status: c.status.clone(),
                since: c.last_transition_time,
                reason: c.reason.clone(),
                message: c.message.clone(),
            })
            .collect()
    };
    ($from:expr => $kind:ident) => {
        $from
            .into_iter()
            .map(|c| $kind {
                type_: c.kind,
                status: c.status,
                last_transition_time: c.since,
                reason: c.reason,
                message: c.message,
            })
            .collect()
    };
}

impl ReplicaOwner for ReplicaSet {
    const TELLS_TERMINATING: bool = true;

    fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.min_ready_seconds
    }

    fn selector(&self) -> Result<LabelSelector, Status> {
        selector(self.spec.selector.as_ref())
    }

    fn template(&self) -> PodTemplateSpec {
        self.spec.template.clone()
    }

    fn counts(&self) -> Counts {
        let status = &self.status;
        Counts {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas,
            ready: status.ready_replicas,
            available: status.available_replicas,
            terminating: status.terminating_replicas,
            observed_generation: status.observed_generation,
            conditions: conditions!(status.conditions),
        }
    }

    fn set_counts(&mut self, counts: Counts) {
        let status = &mut self.status;
        status.replicas = counts.replicas;
        status.fully_labeled_replicas = counts.fully_labeled;
        status.ready_replicas = counts.ready;
        status.available_replicas = counts.available;
        status.terminating_replicas = counts.terminating;
        status.observed_generation = counts.observed_generation;
        status.conditions = conditions!(counts.conditions => ReplicaSetCondition);
    }
}

impl ReplicaOwner for ReplicationController {
    const TELLS_TERMINATING: bool = false;

    fn replicas(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    fn min_ready_seconds(&self) -> i32 {
        self.spec.min_ready_seconds
    }

    fn selector(&self) -> Result<LabelSelector, Status> {
        if self.spec.selector.is_empty() {
            return Ok(LabelSelector::nothing());
        }
        Ok(LabelSelector::from_map(self.spec.selector.iter().map(|(k, v)| (k.as_str(), v.as_str()))))
    }

    fn template(&self) -> PodTemplateSpec {
        self.spec.template.clone().unwrap_or_default()
    }

    fn counts(&self) -> Counts {
        let status = &self.status;
        Counts {
            replicas: status.replicas,
            fully_labeled: status.fully_labeled_replicas,
            ready: status.ready_replicas,
            available: status.available_replicas,
            terminating: None,
            observed_generation: status.observed_generation,
            conditions: conditions!(status.conditions),
        }
    }

    fn set_counts(&mut self, counts: Counts) {
        let status = &mut self.status;
        status.replicas = counts.replicas;
        status.fully_labeled_replicas = counts.fully_labeled;
        status.ready_replicas = counts.ready;
        status.available_replicas = counts.available;
        status.observed_generation = counts.observed_generation;
        status.conditions = conditions!(counts.conditions => ReplicationControllerCondition);
    }
}

async fn run_for<T: ReplicaOwner>(name: &'static str, cx: Context) {
    let pods = Pods::new(&cx);
    let owners = OwnerView::follow(&cx.watcher, T::resource());
    owners.synced().await;
    pods.informer.synced().await;
    let queue: Queue<Key> = Queue::new();
    crate::workload::wake_by_pods(&pods, &owners, T::KIND, &queue);
    crate::workload::wake_by_owners(&owners, &queue);
    run_workers(name, queue, 4, move |key| {
        let (cx, pods, owners) = (cx.clone(), pods.clone(), owners.clone());
        async move { reconcile::<T>(&cx, &pods, &owners, &key).await }
    })
    .await;
}

async fn reconcile<T: ReplicaOwner>(
    cx: &Context,
    pods: &Pods,
    owners: &Informer<OwnerView>,
    key: &Key,
) -> Result<Outcome, Status> {
    let Some(set) = cx.client.try_get::<T>(&key.namespace, &key.name).await? else {
        pods.expectations.forget(key);
        return Ok(Outcome::Done);
    };
    let owner = Manager::of(&set);
    let selector = set.selector()?;
    let waits = pods.expectations.satisfied(key, &pods.informer).err();
    let active = pods.claim(&owner, &selector, |_, pod| is_active(pod)).await?;
    let terminating = T::TELLS_TERMINATING.then(|| {
        let all = pods.index.owned(&owner.subject.uid);
        let matches = |labels: &std::collections::BTreeMap<SmolStr, SmolStr>| {
            selector.matches(|label| labels.get(label).map(SmolStr::as_str))
        };
        all.iter().filter(|(_, pod)| is_terminating(pod) && matches(&pod.labels)).count() as i32
    });
    let failure = if waits.is_none() && !owner.deleting {
        manage(cx, pods, owners, &owner, &set, &active).await.err()
    } else {
        None
    };
    let now = now(cx);
    let counts = count(&set, &active, terminating, failure.as_ref(), now);
    if counts != set.counts() {
        let mut set = set.clone();
        set.set_counts(counts.clone());
        cx.client.update_status(&set).await?;
    }
    if let Some(status) = failure {
        return Err(status);
    }
    let next = active.iter().filter_map(|(_, pod)| available_in(pod, set.min_ready_seconds(), now)).filter(|s| *s > 0);
    let next = next.min().map(|seconds| Duration::from_secs(seconds as u64));
    Ok([next, waits].into_iter().flatten().min().map_or(Outcome::Done, Outcome::After))
}

/// Creates what is missing or deletes what is too much.
async fn manage<T: ReplicaOwner>(
    cx: &Context,
    pods: &Pods,
    owners: &Informer<OwnerView>,
    owner: &Manager,
    set: &T,
    active: &[CachedPod],
) -> Result<(), Status> {
    let wanted = set.replicas().max(0) as usize;
    if active.len() < wanted {
        let pod = Arc::new(from_template(&set.template(), owner));
        pods.expectations.open(&owner.key());
        let (_, failure) = batch::slow_start((wanted - active.len()).min(BURST), |_| {
            let pod = pod.clone();
            async move {
                match pods.create(owner, &pod).await {
                    Err(status) if namespace_ends(&status) => Ok(()),
                    other => other.map(drop),
                }
            }
        })
        .await;
        failure.map_or(Ok(()), Err)
    } else if active.len() > wanted {
        let related = related(pods, owners, owner);
        let chosen = ranking::choose(active.to_vec(), &related, (active.len() - wanted).min(BURST), now(cx).0);
        pods.delete_all(owner, &chosen).await
    } else {
        Ok(())
    }
}

/// The running pods of this set and of the sets that have the same owner, as during a rollout.
fn related(pods: &Pods, owners: &Informer<OwnerView>, owner: &Manager) -> Vec<CachedPod> {
    let parent = owners.by_key(&owner.key()).and_then(|o| o.controller.clone());
    let siblings: Vec<SmolStr> = match parent {
        Some(parent) => owners
            .filter(|_, o| o.controller.as_ref().is_some_and(|c| c.uid == parent.uid))
            .into_iter()
            .map(|(_, o)| o.uid.clone())
            .collect(),
        None => vec![owner.subject.uid.clone()],
    };
    siblings.iter().flat_map(|uid| pods.index.owned(uid)).filter(|(_, pod)| is_active(pod)).collect()
}

fn count<T: ReplicaOwner>(
    set: &T,
    active: &[CachedPod],
    terminating: Option<i32>,
    failure: Option<&Status>,
    now: Time,
) -> Counts {
    let template = set.template();
    let mut counts = Counts {
        replicas: active.len() as i32,
        terminating,
        observed_generation: set.meta().generation,
        conditions: set.counts().conditions,
        ..Counts::default()
    };
    for (_, pod) in active {
        let labelled =
            template.metadata.labels.iter().all(|(k, v)| pod.labels.get(k.as_str()).is_some_and(|l| l == v.as_str()));
        counts.fully_labeled += i32::from(labelled);
        let availability = available_in(pod, set.min_ready_seconds(), now);
        counts.ready += i32::from(availability.is_some());
        counts.available += i32::from(availability == Some(0));
    }
    match failure {
        None => counts.conditions.retain(|c| c.kind != "ReplicaFailure"),
        Some(status) if counts.conditions.iter().all(|c| c.kind != "ReplicaFailure") => {
            let reason = if (active.len() as i32) < set.replicas() { "FailedCreate" } else { "FailedDelete" };
            counts.conditions.push(Condition {
                kind: "ReplicaFailure".into(),
                status: "True".into(),
                since: now,
                reason: reason.into(),
                message: status.message.clone(),
            });
        }
        Some(_) => {}
    }
    counts
}

#[cfg(test)]
mod tests {
    use apimachinery::{GroupVersionResource, Value};

    use super::*;
    use crate::context::tests::{context, eventually};

    const SET: &str = r#"{"metadata":{"name":"web","namespace":"a","uid":"u","generation":1},"spec":{"replicas":3,
        "selector":{"matchLabels":{"app":"web"}},"template":{"metadata":{"labels":{"app":"web"}}}}}"#;

    #[test]
    fn pods_are_counted() {
        let tree = apimachinery::codec::json::parse(SET.as_bytes()).unwrap();
        let mut set = <ReplicaSet as apimachinery::Api>::from_value(&tree).unwrap();
        set.spec.min_ready_seconds = 10;
        let pod = |ready: bool, since: &str, label: &str| {
            let labels = [("app".into(), label.into())].into();
            let pod = crate::PodView { ready, ready_since: since.into(), labels, ..Default::default() };
            (Key::new("a", ""), Arc::new(pod))
        };
        let pods = [
            pod(true, "1970-01-01T00:00:10Z", "web"),
            pod(true, "1970-01-01T00:00:15Z", "web"),
            pod(false, "", "other"),
        ];
        let counts = count(&set, &pods, Some(1), None, Time(20));
        let numbers = (counts.replicas, counts.fully_labeled, counts.ready, counts.available, counts.terminating);
        assert_eq!(numbers, (3, 2, 2, 1, Some(1)));
        let failed = count(&set, &pods[..1], None, Some(&Status::internal("no room")), Time(20));
        assert_eq!(failed.conditions[0].reason, "FailedCreate");
        set.set_counts(failed);
        assert!(count(&set, &pods, None, None, Time(20)).conditions.is_empty());
    }

    #[tokio::test]
    async fn pods_are_created_and_deleted() {
        let backend = testkit::FakeBackend::new();
        let sets = ReplicaSet::resource();
        let pods = GroupVersionResource::new("", "v1", "pods");
        backend.put(&sets, SET);
        let task = tokio::spawn(run(context(&backend)));
        let status = |path: &'static str| {
            let set = backend.get(&sets, "a", "web").unwrap();
            set.at(&["status", path]).and_then(Value::as_i64)
        };
        eventually(|| backend.count(&pods) == 3 && status("replicas") == Some(3)).await;
        backend.put(&sets, &SET.replace("\"replicas\":3", "\"replicas\":1"));
        eventually(|| backend.count(&pods) == 1 && status("replicas") == Some(1)).await;
        // Seeing its own writes again changes nothing.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(backend.count(&pods), 1);
        task.abort();
    }
}
