//! Runs pods with names and disks of their own, one ordinal after the other.
//!
//! `plan` says what to do next, `claims` looks after the disks; this file does it.

mod claims;
mod plan;

use std::time::Duration;

use api::apps::{ControllerRevision, StatefulSet};
use api::core::pod::Pod;
use apimachinery::resource::Resource;
use apimachinery::selector::LabelSelector;
use apimachinery::{Map, SmolStr, Status, Value};
use client::{Key, Outcome, PatchKind, Queue, run_workers};

use crate::Context;
use crate::shared::pod_index::CachedPod;
use crate::workload::history::{self, HASH_LABEL};
use crate::workload::pods::{Pods, available_in, from_template};
use crate::workload::{Manager, OwnerView, batch, now, selector, wake_by_owners, wake_by_pods};
use claims::PodName;
use plan::{Action, NAME_LABEL, Rules};

/// The label with a pod's ordinal.
const INDEX_LABEL: &str = "apps.kubernetes.io/pod-index";

/// Runs the controller.
pub async fn run(cx: Context) {
    let pods = Pods::new(&cx);
    let sets = OwnerView::follow(&cx.watcher, StatefulSet::resource());
    sets.synced().await;
    pods.informer.synced().await;
    let queue: Queue<Key> = Queue::new();
    wake_by_pods(&pods, &sets, "StatefulSet", &queue);
    wake_by_owners(&sets, &queue);
    run_workers("statefulset-controller", queue, 4, move |key| {
        let (cx, pods) = (cx.clone(), pods.clone());
        async move { reconcile(&cx, &pods, &key).await }
    })
    .await;
}

async fn reconcile(cx: &Context, pods: &Pods, key: &Key) -> Result<Outcome, Status> {
    let Some(mut set) = cx.client.try_get::<StatefulSet>(&key.namespace, &key.name).await? else {
        pods.expectations.forget(key);
        return Ok(Outcome::Done);
    };
    let owner = Manager::of(&set);
    let selector = selector(set.spec.selector.as_ref())?;
    if let Err(wait) = pods.expectations.satisfied(key, &pods.informer) {
        return Ok(Outcome::After(wait));
    }
    let is_ours = |key: &Key| plan::parse_name(&key.name).is_some_and(|(parent, _)| parent == owner.subject.name);
    let claimed = pods.claim(&owner, &selector, |key, _| is_ours(key)).await?;
    let (revisions, current, update) = revisions(cx, &owner, &mut set, &selector).await?;
    let rules = Rules { current: &current.metadata.name, update: &update.metadata.name, now: now(cx) };
    let waits: Option<i64> = claimed
        .iter()
        .filter_map(|(_, pod)| available_in(pod, set.spec.min_ready_seconds, rules.now))
        .filter(|seconds| *seconds > 0)
        .min();
    let used: Vec<SmolStr> = claimed.iter().filter_map(|(_, pod)| pod.labels.get(HASH_LABEL).cloned()).collect();
    let sorted = plan::Pods::sort(&set, claimed);
    let mut status = plan::count(&set, &sorted, &rules);
    let mut failure = None;
    if !owner.deleting {
        let (actions, replaced) = plan::plan(&set, &sorted, &rules);
        let hands = Hands { cx, pods, owner: &owner, set: &set, current: &current, update: &update };
        pods.expectations.open(key);
        failure = hands.act(actions).await.err();
        if failure.is_none() {
            status.current_replicas = (status.current_replicas - replaced).max(0);
        }
    }
    plan::complete(&set, &mut status);
    if status != set.status {
        set.status = status;
        set = cx.client.update_status(&set).await?;
    }
    let in_use = |revision: &ControllerRevision| {
        let name = revision.metadata.name.as_str();
        name == rules.current || name == rules.update || used.iter().any(|u| u == name)
    };
    history::truncate(&cx.client, &revisions, set.spec.revision_history_limit, in_use).await?;
    if let Some(status) = failure {
        return Err(status);
    }
    Ok(waits.map_or(Outcome::Done, |seconds| Outcome::After(Duration::from_secs(seconds as u64))))
}

/// All revisions, the one that the set comes from, and the one of its template, made or renumbered if need be.
async fn revisions(
    cx: &Context,
    owner: &Manager,
    set: &mut StatefulSet,
    selector: &LabelSelector,
) -> Result<(Vec<ControllerRevision>, ControllerRevision, ControllerRevision), Status> {
    let data = history::data(&set.spec.template);
    let mut all = history::list(&cx.client, owner, selector).await?;
    let number = history::next_number(&all);
    let update = match all.iter().rposition(|revision| revision.data == data) {
        Some(at) if at + 1 == all.len() => all[at].clone(),
        Some(at) => {
            all[at] = history::renumber(&cx.client, all[at].clone(), number).await?;
            let update = all[at].clone();
            history::sort(&mut all);
            update
        }
        None => {
            let mut collisions = set.status.collision_count.unwrap_or(0);
            let labels = &set.spec.template.metadata.labels;
            let mut fresh = history::revision(owner, labels, data, number, Some(collisions));
            fresh.metadata.annotations = set.metadata.annotations.clone();
            let made = history::create(&cx.client, owner, &fresh, &mut collisions).await?;
            set.status.collision_count = Some(collisions);
            all.push(made.clone());
            made
        }
    };
    let current = all.iter().find(|r| r.metadata.name == set.status.current_revision).unwrap_or(&update).clone();
    if set.status.collision_count.is_none() {
        set.status.collision_count = Some(0);
    }
    Ok((all, current, update))
}

/// Does what the plan says.
struct Hands<'a> {
    cx: &'a Context,
    pods: &'a Pods,
    owner: &'a Manager,
    set: &'a StatefulSet,
    current: &'a ControllerRevision,
    update: &'a ControllerRevision,
}

impl Hands<'_> {
    async fn act(&self, actions: Vec<Action>) -> Result<(), Status> {
        if plan::is_parallel(self.set) {
            let (_, failure) = batch::slow_start(actions.len(), |i| self.step(&actions[i])).await;
            return failure.map_or(Ok(()), Err);
        }
        for action in &actions {
            self.step(action).await?;
        }
        Ok(())
    }

    async fn step(&self, action: &Action) -> Result<(), Status> {
        match action {
            Action::Create { ordinal, new_revision } => self.create(*ordinal, *new_revision).await,
            Action::Delete(pod) => {
                let deleted = self.pods.delete_untold(self.owner, pod).await;
                self.tell("Delete", &pod.0.name, deleted.as_ref().err());
                deleted.map(drop)
            }
            Action::EnsureClaims(pod) => {
                let pod = self.name(pod);
                claims::ensure(self.cx, self.set, &pod).await?;
                claims::align(self.cx, self.set, &pod).await
            }
            Action::Align(pod) => self.align(pod).await,
        }
    }

    fn name(&self, (key, pod): &CachedPod) -> PodName {
        let ordinal = plan::parse_name(&key.name).map_or(-1, |(_, ordinal)| ordinal);
        PodName { name: key.name.to_string(), ordinal, uid: pod.uid.to_string() }
    }

    fn tell(&self, verb: &str, pod: &str, failure: Option<&Status>) {
        let set = &self.set.metadata.name;
        let (subject, recorder) = (&self.owner.subject, &self.cx.recorder);
        match failure {
            None => {
                let message = format!("{verb} Pod {pod} in StatefulSet {set} successful");
                recorder.normal(subject, &format!("Successful{verb}"), message);
            }
            Some(status) => {
                let message = format!("{verb} Pod {pod} in StatefulSet {set} failed error: {}", status.message);
                recorder.warning(subject, &format!("Failed{verb}"), message);
            }
        }
    }

    async fn create(&self, ordinal: i32, new_revision: bool) -> Result<(), Status> {
        let revision = if new_revision { self.update } else { self.current };
        let mut pod = from_template(&history::template(revision)?, self.owner);
        let mut name = PodName { name: format!("{}-{ordinal}", self.set.metadata.name), ordinal, uid: String::new() };
        if claims::are_stale(self.cx, self.set, &name).await? {
            // The claim goes with the earlier pod; there is no event to wait for but its disappearance.
            return Err(Status::internal(format!("a claim of pod {} is still owned by its predecessor", name.name)));
        }
        pod.metadata.generate_name.clear();
        pod.metadata.name = name.name.clone();
        pod.metadata.labels.extend([
            (NAME_LABEL.to_string(), name.name.clone()),
            (INDEX_LABEL.to_string(), ordinal.to_string()),
            (HASH_LABEL.to_string(), revision.metadata.name.clone()),
        ]);
        pod.spec.hostname = name.name.clone();
        pod.spec.subdomain = self.set.spec.service_name.clone();
        claims::mount(self.set, &mut pod, ordinal);
        let created = async {
            claims::ensure(self.cx, self.set, &name).await?;
            self.pods.create_untold(self.owner, &pod).await
        };
        match created.await {
            Ok(pod) => {
                self.tell("Create", &name.name, None);
                name.uid = pod.metadata.uid;
                claims::align(self.cx, self.set, &name).await
            }
            Err(status) => {
                if !status.is_already_exists() && !crate::workload::namespace_ends(&status) {
                    self.tell("Create", &name.name, Some(&status));
                }
                Err(status)
            }
        }
    }

    /// Gives a pod the labels of its identity, and its claims the owners they should have.
    async fn align(&self, pod: &CachedPod) -> Result<(), Status> {
        claims::align(self.cx, self.set, &self.name(pod)).await?;
        let (key, view) = pod;
        if view.deleting || view.labels.get(NAME_LABEL) == Some(&key.name) {
            return Ok(());
        }
        let mut labels = Map::new();
        labels.insert(NAME_LABEL, key.name.clone());
        labels.insert(INDEX_LABEL, self.name(pod).ordinal.to_string());
        let mut metadata = Map::new();
        metadata.insert("labels", labels);
        let mut patch = Map::new();
        patch.insert("metadata", metadata);
        let patch = Value::Map(patch);
        let patched = self.cx.client.patch::<Pod>(&key.namespace, &key.name, "", PatchKind::Merge, patch).await;
        self.tell("Update", &key.name, patched.as_ref().err());
        patched.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use apimachinery::GroupVersionResource;

    use super::*;
    use crate::context::tests::{context, eventually};

    const SET: &str = r#"{"metadata":{"name":"db","namespace":"a","uid":"s","generation":1},"spec":{"replicas":2,
        "serviceName":"db","selector":{"matchLabels":{"app":"db"}},"podManagementPolicy":"OrderedReady",
        "updateStrategy":{"type":"RollingUpdate"},"revisionHistoryLimit":10,
        "volumeClaimTemplates":[{"metadata":{"name":"data"},"spec":{"accessModes":["ReadWriteOnce"]}}],
        "template":{"metadata":{"labels":{"app":"db"}},"spec":{"containers":[{"name":"c","image":"one"}]}}}}"#;

    #[tokio::test]
    async fn pods_come_in_order_with_their_claims() {
        let backend = testkit::FakeBackend::new();
        let core = |resource| GroupVersionResource::new("", "v1", resource);
        let (sets, pods, claims) = (StatefulSet::resource(), core("pods"), core("persistentvolumeclaims"));
        backend.put(&sets, SET);
        let task = tokio::spawn(run(context(&backend)));
        eventually(|| backend.count(&pods) == 1).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!((backend.count(&pods), backend.count(&claims)), (1, 1));
        let make_ready = |name: &str| {
            let mut pod = backend.get(&pods, "a", name).unwrap();
            let status = br#"{"phase":"Running","conditions":[{"type":"Ready","status":"True",
                "lastTransitionTime":"2025-01-01T00:00:00Z"}]}"#;
            pod.as_map_mut().unwrap().insert("status", apimachinery::codec::json::parse(status).unwrap());
            backend.put(&pods, std::str::from_utf8(&apimachinery::codec::json::encode_free(&pod)).unwrap());
        };
        make_ready("db-0");
        eventually(|| backend.get(&pods, "a", "db-1").is_some()).await;
        make_ready("db-1");
        let status = |key: &'static str| backend.get(&sets, "a", "db").unwrap().at(&["status", key]).cloned();
        eventually(|| status("readyReplicas") == Some(Value::Int(2))).await;
        assert_eq!(status("currentRevision"), status("updateRevision"));
        assert!(backend.get(&claims, "a", "data-db-1").is_some());
        // A new template replaces the last pod first.
        let mut set = context(&backend).client.get::<StatefulSet>("a", "db").await.unwrap();
        set.spec.template.spec.containers[0].image = "two".into();
        context(&backend).client.update(&set).await.unwrap();
        let image = |name: &'static str| {
            let pod = backend.get(&pods, "a", name);
            let list = pod.as_ref().and_then(|p| p.at(&["spec", "containers"])).and_then(Value::as_list);
            list.and_then(|l| l[0].str_at(&["image"])).map(str::to_string)
        };
        eventually(|| image("db-1").as_deref() == Some("two")).await;
        assert_eq!(image("db-0").as_deref(), Some("one"));
        make_ready("db-1");
        eventually(|| image("db-0").as_deref() == Some("two")).await;
        task.abort();
    }
}
