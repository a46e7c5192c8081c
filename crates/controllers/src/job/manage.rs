//! Creates and deletes the pods of a job.

use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use api::batch::job::Job;
use api::core::pod::Pod;
use api::core::pod::container::{Container, EnvVar, EnvVarSource, ObjectFieldSelector};
use apimachinery::{Map, Status, Time, Value};
use client::{Key, PatchKind};
use futures::future::join_all;
use parking_lot::Mutex;

use super::backoff;
use super::policy::Verdict;
use super::state::{State, is_indexed, is_suspended, part, replaces_only_failed, verdict};
use crate::shared::job_pod::{FAILURES, FINALIZER, IGNORED_FAILURES, INDEX};
use crate::shared::pod_index::CachedPod;
use crate::workload::pods::{Pods, from_template};
use crate::workload::{Manager, batch, namespace_ends};

/// Pods created or deleted in one go at most.
const BURST: usize = 500;
/// The longest prefix that the server completes to a name.
const LONGEST_PREFIX: usize = 58;

/// How the active pods change.
#[derive(Debug, Default)]
pub struct Managed {
    pub active: i32,
    /// When to look again because a retry is not due yet.
    pub after: Option<Duration>,
    pub failure: Option<Status>,
}

/// Brings the number of active pods to what the job wants; adjusts what `state` counts.
pub async fn manage(pods: &Pods, owner: &Manager, job: &Job, state: &mut State, now: Time) -> Managed {
    let active = state.active.len() as i32;
    let wanted = if is_suspended(job) { 0 } else { state.wanted(job) };
    let mut surplus = state.surplus(job, (active - wanted).max(0) as usize, now);
    surplus.truncate(BURST);
    if !surplus.is_empty() {
        let (removed, failure) = remove(pods, owner, state, &surplus).await;
        return Managed { active: active - removed, after: None, failure };
    }
    if is_suspended(job) {
        return Managed { active, ..Managed::default() };
    }
    let leaving = if replaces_only_failed(job) { state.terminating } else { 0 };
    let missing = (wanted - leaving - active).max(0) as usize;
    if missing == 0 {
        return Managed { active, ..Managed::default() };
    }
    let wait =
        |seconds: i64| Managed { active, after: Some(Duration::from_secs(seconds.max(1) as u64)), failure: None };
    if job.spec.backoff_limit_per_index.is_none() {
        let seconds = state.record.remaining(now.0);
        if seconds > 0 {
            return wait(seconds);
        }
    }
    let missing = missing.min(BURST);
    let made: Vec<Pod> = if is_indexed(job) {
        let due = |index: &u32| {
            state.delayed.get(index).map_or(0, |(_, pod)| {
                let part = part(pod);
                backoff::remaining(part.failures + part.ignored_failures + 1, part.finished, now.0)
            })
        };
        let pending = state.pending(job, missing);
        let (ready, later): (Vec<u32>, Vec<u32>) = pending.into_iter().partition(|index| due(index) == 0);
        if let (true, Some(seconds)) = (ready.is_empty(), later.iter().map(due).min()) {
            return wait(seconds);
        }
        ready.into_iter().map(|index| pod_of(job, owner, Some(index), state.delayed.get(&index))).collect()
    } else {
        vec![pod_of(job, owner, None, None); missing]
    };
    pods.expectations.open(&owner.key());
    let refused = AtomicI32::new(0);
    let (created, failure) = batch::slow_start(made.len(), |i| {
        let (pod, refused) = (&made[i], &refused);
        async move {
            match pods.create(owner, pod).await {
                Err(status) if namespace_ends(&status) => {
                    refused.fetch_add(1, Ordering::Relaxed);
                    Ok(())
                }
                other => other.map(drop),
            }
        }
    })
    .await;
    let refused = refused.into_inner();
    if refused > 0 {
        // No replacement will ever come, and the namespace waits for the pods to go.
        state.delayed.clear();
    }
    Managed { active: active + created as i32 - refused, after: None, failure }
}

/// Deletes pods that were not needed after all: they are not counted, so they are let go of first.
async fn remove(pods: &Pods, owner: &Manager, state: &mut State, surplus: &[CachedPod]) -> (i32, Option<Status>) {
    pods.expectations.open(&owner.key());
    let results = join_all(surplus.iter().map(|pod| async move {
        release(pods, &pod.0, &pod.1.uid).await?;
        pods.delete(owner, pod).await
    }))
    .await;
    note_deleted(state, surplus, results)
}

/// Deletes pods of a job that has ended; their finalizers stay until they are counted.
pub async fn end(pods: &Pods, owner: &Manager, state: &mut State) -> (i32, Option<Status>) {
    let active = state.active.clone();
    pods.expectations.open(&owner.key());
    let results = join_all(active.iter().map(|pod| pods.delete(owner, pod))).await;
    note_deleted(state, &active, results)
}

fn note_deleted(state: &mut State, pods: &[CachedPod], results: Vec<Result<(), Status>>) -> (i32, Option<Status>) {
    let (mut deleted, mut failure) = (0, None);
    for ((_, pod), result) in pods.iter().zip(results) {
        match result {
            Ok(()) => {
                deleted += 1;
                state.ready -= i32::from(pod.ready);
            }
            Err(status) => failure = failure.or(Some(status)),
        }
    }
    state.terminating += deleted;
    (deleted, failure)
}

/// Takes the tracking finalizer off a pod, if it is still the one that was seen.
pub async fn release(pods: &Pods, key: &Key, uid: &str) -> Result<(), Status> {
    let mut metadata = Map::new();
    metadata.insert("uid", uid);
    metadata.insert("$deleteFromPrimitiveList/finalizers", Value::List(vec![FINALIZER.into()]));
    let mut patch = Map::new();
    patch.insert("metadata", metadata);
    let patched = pods.client.patch::<Pod>(&key.namespace, &key.name, "", PatchKind::Strategic, Value::Map(patch));
    match patched.await {
        // Gone, or another pod of the same name.
        Err(status) if status.is_not_found() || status.is_conflict() => Ok(()),
        other => other.map(drop),
    }
}

/// A pod of the job; with an index that it is told by name, label, annotation and environment.
fn pod_of(job: &Job, owner: &Manager, index: Option<u32>, replaced: Option<&CachedPod>) -> Pod {
    let mut pod = from_template(&job.spec.template, owner);
    let meta = &mut pod.metadata;
    if !meta.finalizers.iter().any(|f| f == FINALIZER) {
        meta.finalizers.push(FINALIZER.into());
    }
    let Some(index) = index else { return pod };
    let name = job.metadata.name.as_str();
    let suffix = format!("-{index}-");
    let name = name.get(..LONGEST_PREFIX - suffix.len()).unwrap_or(name);
    meta.generate_name = format!("{name}{suffix}");
    meta.annotations.insert(INDEX.into(), index.to_string());
    meta.labels.insert(INDEX.into(), index.to_string());
    if job.spec.backoff_limit_per_index.is_some() {
        let (failures, ignored) = replaced.map_or((0, 0), |replaced| {
            let part = part(&replaced.1);
            let counts = verdict(job, replaced) != Verdict::Ignore;
            (part.failures + i32::from(counts), part.ignored_failures + i32::from(!counts))
        });
        meta.annotations.insert(FAILURES.into(), failures.to_string());
        if ignored > 0 {
            meta.annotations.insert(IGNORED_FAILURES.into(), ignored.to_string());
        }
    }
    pod.spec.hostname = format!("{}-{index}", job.metadata.name);
    pod.spec.init_containers.iter_mut().chain(&mut pod.spec.containers).for_each(tell_index);
    pod
}

fn tell_index(container: &mut Container) {
    const NAME: &str = "JOB_COMPLETION_INDEX";
    if container.env.iter().any(|v| v.name == NAME) {
        return;
    }
    let field = ObjectFieldSelector { field_path: format!("metadata.labels['{INDEX}']"), ..Default::default() };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    container.env.push(EnvVar { name: NAME.into(), value_from: Some(source), ..EnvVar::default() });
}

/// Uids whose finalizers were taken off but that the cache may still show with it, by job.
#[derive(Default)]
pub struct Released(Mutex<std::collections::HashMap<Key, std::collections::HashSet<apimachinery::SmolStr>>>);

impl Released {
    pub fn add(&self, job: &Key, uid: apimachinery::SmolStr) {
        self.0.lock().entry(job.clone()).or_default().insert(uid);
    }

    /// Those that the given pods still show with the finalizer; the others are forgotten.
    pub fn still_shown(&self, job: &Key, pods: &[CachedPod]) -> std::collections::HashSet<apimachinery::SmolStr> {
        let mut all = self.0.lock();
        let Some(uids) = all.get_mut(job) else { return Default::default() };
        uids.retain(|uid| pods.iter().any(|(_, pod)| pod.uid == *uid && part(pod).tracked));
        let shown = uids.clone();
        if shown.is_empty() {
            all.remove(job);
        }
        shown
    }

    pub fn forget(&self, job: &Key) {
        self.0.lock().remove(job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_indexed_pod_knows_its_index() {
        let mut job = Job::default();
        job.metadata.name = "x".repeat(60);
        job.spec.backoff_limit_per_index = Some(2);
        job.spec.template.spec.containers = vec![Container::default()];
        let pod = pod_of(&job, &Manager::default(), Some(7), None);
        assert_eq!(pod.metadata.generate_name, format!("{}-7-", "x".repeat(55)));
        assert_eq!(pod.metadata.annotations.get(FAILURES).unwrap(), "0");
        assert_eq!(pod.metadata.labels.get(INDEX).unwrap(), "7");
        assert_eq!(pod.spec.containers[0].env[0].name, "JOB_COMPLETION_INDEX");
        assert_eq!(pod.metadata.finalizers, [FINALIZER]);
    }
}
