//! Runs the pods of a Job until enough of them have succeeded or too many have failed.
//!
//! `state` says what the pods amount to and whether that ends the job, `policy` what a failed pod means, `manage`
//! creates and deletes pods, `track` counts them into the status. This file is the order of steps.

mod backoff;
mod indexes;
mod manage;
mod policy;
mod state;
mod track;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::batch::job::Job;
use apimachinery::Status;
use apimachinery::resource::Resource;
use client::{Informer, Key, Outcome, Queue, run_workers};
use parking_lot::Mutex;

use crate::Context;
use crate::shared::job_pod::FINALIZER;
use crate::workload::pods::Pods;
use crate::workload::{Manager, OwnerView, now, selector, wake_by_owners, wake_by_pods};
use backoff::Record;
use manage::Released;
use state::{State, condition, deadline_in, is_suspended, part};

/// The value of `spec.managedBy` that means this controller.
const OURS: &str = "kubernetes.io/job-controller";

/// What the controller remembers between two looks at a job.
#[derive(Default)]
struct Memory {
    records: Mutex<HashMap<Key, Record>>,
    released: Released,
}

impl Memory {
    fn forget(&self, key: &Key) {
        self.records.lock().remove(key);
        self.released.forget(key);
    }
}

/// Runs the controller.
pub async fn run(cx: Context) {
    let pods = Pods { finalizer: Some(FINALIZER), ..Pods::new(&cx) };
    let jobs = OwnerView::follow(&cx.watcher, Job::resource());
    jobs.synced().await;
    pods.informer.synced().await;
    let queue: Queue<Key> = Queue::new();
    wake_by_pods(&pods, &jobs, "Job", &queue);
    wake_by_owners(&jobs, &queue);
    let abandoned: Queue<Key> = Queue::new();
    find_abandoned(&pods, &jobs, &abandoned);
    let memory: Arc<Memory> = Arc::default();
    let (releasing, job_client) = (pods.clone(), cx.client.clone());
    let release = run_workers("job-controller", abandoned, 1, move |key| {
        let (pods, client) = (releasing.clone(), job_client.clone());
        async move {
            let Some(pod) = pods.informer.by_key(&key).filter(|pod| part(pod).tracked) else {
                return Ok(Outcome::Done);
            };
            if let Some(owner) = pod.controller.as_ref() {
                let job = client.try_get::<Job>(&key.namespace, &owner.name).await?;
                if owner.kind != "Job" || job.is_some_and(|job| job.metadata.uid == owner.uid.as_str()) {
                    return Ok(Outcome::Done);
                }
            }
            manage::release(&pods, &key, &pod.uid).await.map(|()| Outcome::Done)
        }
    });
    let reconcile = run_workers("job-controller", queue, 4, move |key| {
        let (cx, pods, memory) = (cx.clone(), pods.clone(), memory.clone());
        async move { reconcile(&cx, &pods, &memory, &key).await }
    });
    futures::future::join(release, reconcile).await;
}

/// Finds pods that carry the finalizer though their job is gone: nobody else would let them go.
fn find_abandoned(pods: &Pods, jobs: &Informer<OwnerView>, queue: &Queue<Key>) {
    let (known, to) = (jobs.clone(), queue.clone());
    pods.informer.on_change(move |change| {
        let Some(pod) = change.new.filter(|pod| part(pod).tracked) else { return };
        let job = pod.controller.as_ref().and_then(|o| known.get(&change.key.namespace, &o.name));
        if job.is_none_or(|job| pod.controller.as_ref().is_some_and(|o| o.uid != job.uid)) {
            to.add(change.key.clone());
        }
    });
    let (index, to) = (pods.index.clone(), queue.clone());
    jobs.on_change(move |change| {
        if let (Some(job), None) = (change.old, change.new) {
            index.owned(&job.uid).into_iter().filter(|(_, p)| part(p).tracked).for_each(|(key, _)| to.add(key));
        }
    });
}

async fn reconcile(cx: &Context, pods: &Pods, memory: &Memory, key: &Key) -> Result<Outcome, Status> {
    let Some(mut job) = cx.client.try_get::<Job>(&key.namespace, &key.name).await? else {
        pods.expectations.forget(key);
        memory.forget(key);
        return Ok(Outcome::Done);
    };
    if job.spec.managed_by.as_deref().is_some_and(|name| name != OURS) {
        return Ok(Outcome::Done);
    }
    let owner = Manager::of(&job);
    if state::is_finished(&job) {
        memory.forget(key);
        for (key, pod) in pods.index.owned(&owner.subject.uid).iter().filter(|(_, p)| part(p).tracked) {
            manage::release(pods, key, &pod.uid).await?;
        }
        return Ok(Outcome::Done);
    }
    job.status.uncounted_terminated_pods.get_or_insert_default();
    let stored = job.status.clone();
    let satisfied = pods.expectations.satisfied(key, &pods.informer);
    let claimed = pods.claim(&owner, &selector(job.spec.selector.as_ref())?, |_, _| true).await?;
    let record = memory.records.lock().get(key).copied().unwrap_or_default();
    let removing = memory.released.still_shown(key, &claimed);
    let mut state = State::observe(&job, claimed, removing, record);
    let now = now(cx);
    if job.status.start_time.is_none() && !is_suspended(&job) {
        job.status.start_time = Some(now);
    }
    let mut ending = state.ending(&job, now);
    let mut active = state.active.len() as i32;
    let (mut failure, mut after) = (None, None);
    if ending.is_some() {
        let deleted;
        (deleted, failure) = manage::end(pods, &owner, &mut state).await;
        // With pods that are not seen or not gone the job cannot be called finished.
        if deleted != active || satisfied.is_err() {
            ending = None;
        }
        active -= deleted;
    } else {
        let manages = satisfied.is_ok() && !owner.deleting;
        if manages {
            let managed = manage::manage(pods, &owner, &job, &mut state, now).await;
            (active, after, failure) = (managed.active, managed.after, managed.failure);
        }
        let complete = match job.spec.completions {
            None => state.succeeded > 0 && active == 0,
            Some(completions) => state.succeeded >= completions && active == 0,
        };
        if complete {
            let message = "Reached expected number of succeeded pods";
            ending = Some(condition("SuccessCriteriaMet", "True", "CompletionsReached", message, now));
        } else if manages {
            tell_suspended(cx, &owner, &mut job, now);
        }
    }
    memory.records.lock().insert(key.clone(), state.record);
    job.status.active = active;
    job.status.ready = Some(state.ready.clamp(0, active.max(0)));
    job.status.terminating = Some(state.terminating);
    let due = deadline_in(&job, now).filter(|s| *s > 0).map(|seconds| Duration::from_secs(seconds as u64));
    let known = track::Known { job, stored };
    track::track(cx, pods, &memory.released, &state, known, ending, now).await?;
    if let Some(status) = failure {
        return Err(status);
    }
    let next = [after, due, satisfied.err()].into_iter().flatten().min();
    Ok(next.map_or(Outcome::Done, Outcome::After))
}

/// Tells of suspension and of its end, where the time that the deadline counts from begins anew.
fn tell_suspended(cx: &Context, owner: &Manager, job: &mut Job, now: apimachinery::Time) {
    if is_suspended(job) {
        if track::ensure(job, &condition("Suspended", "True", "JobSuspended", "Job suspended", now)) {
            cx.recorder.normal(&owner.subject, "Suspended", "Job suspended");
            job.status.start_time = None;
        }
    } else if track::ensure(job, &condition("Suspended", "False", "JobResumed", "Job resumed", now)) {
        cx.recorder.normal(&owner.subject, "Resumed", "Job resumed");
        job.status.start_time = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use apimachinery::{GroupVersionResource, Value};

    use super::*;
    use crate::context::tests::{context, eventually};

    #[tokio::test]
    async fn a_job_runs_its_pods_to_completion() {
        let backend = testkit::FakeBackend::new();
        let (jobs, pods) = (Job::resource(), GroupVersionResource::new("", "v1", "pods"));
        backend.put(
            &jobs,
            r#"{"metadata":{"name":"sum","namespace":"a","uid":"j"},"spec":{"completions":2,"parallelism":2,
            "backoffLimit":6,"selector":{"matchLabels":{"job":"sum"}},"template":{"metadata":{"labels":
            {"job":"sum"}}}}}"#,
        );
        let task = tokio::spawn(run(context(&backend)));
        let status = |key: &'static str| {
            let job = backend.get(&jobs, "a", "sum").unwrap();
            job.at(&["status", key]).and_then(Value::as_i64).unwrap_or(0)
        };
        eventually(|| backend.count(&pods) == 2 && status("active") == 2).await;
        for mut pod in backend.all(&pods) {
            let finalizers = pod.at(&["metadata", "finalizers"]).and_then(Value::as_list).unwrap().to_vec();
            assert_eq!(finalizers, [Value::from(FINALIZER)]);
            let ended = apimachinery::codec::json::parse(br#"{"phase":"Succeeded"}"#).unwrap();
            pod.as_map_mut().unwrap().insert("status", ended);
            backend.put(&pods, std::str::from_utf8(&apimachinery::codec::json::encode_free(&pod)).unwrap());
        }
        eventually(|| status("succeeded") == 2 && status("active") == 0).await;
        let conditions = || {
            let job = backend.get(&jobs, "a", "sum").unwrap();
            let list = job.at(&["status", "conditions"]).and_then(Value::as_list).unwrap_or_default().to_vec();
            list.iter().filter_map(|c| c.str_at(&["type"]).map(str::to_string)).collect::<Vec<_>>()
        };
        eventually(|| conditions() == ["SuccessCriteriaMet", "Complete"]).await;
        assert_eq!(backend.count(&pods), 2);
        task.abort();
    }
}
