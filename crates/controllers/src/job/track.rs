//! Counts ended pods into a job's status, each exactly once.
//!
//! A pod that ended is first written into the status by uid, then its finalizer is taken off, then its uid becomes
//! one more in the count. Whatever is interrupted, a pod with the finalizer is not counted yet, and a uid in the status
//! without a finalizer is counted now.

use std::collections::HashSet;

use api::batch::job::{Job, JobCondition, JobStatus};
use apimachinery::{SmolStr, Status, Time};
use futures::future::join_all;

use super::manage::{Released, release};
use super::policy::Verdict;
use super::state::{State, completions, condition, has_failed, is_indexed, key, part, told, verdict};
use crate::Context;
use crate::shared::pod_index::CachedPod;
use crate::workload::Manager;
use crate::workload::pods::Pods;

/// Uids in the status at most, so that it stays small.
const MOST_UNCOUNTED: usize = 500;

/// A job with the status it is to have, and the one it has.
pub struct Known {
    pub job: Job,
    pub stored: JobStatus,
}

/// Counts, and ends the job with `ending` when all its pods are counted and gone.
pub async fn track(
    cx: &Context,
    pods: &Pods,
    released: &Released,
    state: &State,
    Known { mut job, mut stored }: Known,
    ending: Option<JobCondition>,
    now: Time,
) -> Result<(), Status> {
    let mut with_finalizer: HashSet<SmolStr> =
        state.pods.iter().filter(|(_, p)| state.is_tracked(p)).map(|(_, p)| p.uid.clone()).collect();
    let (counted, reached_limit) = count(&mut job, state, ending.as_ref(), &with_finalizer);
    let ending = ending.map(|ending| tell_interim(&mut job, ending, now));
    flush(cx, &mut job, &mut stored).await?;

    let job_key = key(&job);
    let results = join_all(counted.iter().map(|(key, pod)| release(pods, key, &pod.uid))).await;
    let mut failure = None;
    for ((_, pod), result) in counted.iter().zip(results) {
        match result {
            Ok(()) => {
                with_finalizer.remove(&pod.uid);
                released.add(&job_key, pod.uid.clone());
            }
            Err(status) => failure = failure.or(Some(status)),
        }
    }
    settle(&mut job.status, &with_finalizer);
    if let Some(status) = failure {
        flush(cx, &mut job, &mut stored).await?;
        return Err(status);
    }
    let finished = ending.filter(|_| !reached_limit && !has_uncounted(&job.status) && state.terminating == 0);
    if let Some(end) = &finished {
        ensure(&mut job, end);
        if end.type_ == "Complete" {
            job.status.completion_time = Some(end.last_transition_time);
        }
    }
    flush(cx, &mut job, &mut stored).await?;
    if let Some(end) = finished {
        let subject = Manager::of(&job).subject;
        if end.type_ != "Complete" {
            cx.recorder.warning(&subject, &end.reason, end.message);
        } else {
            if job.spec.completions.is_some_and(|n| job.status.succeeded > n) {
                let message = "Too many succeeded pods running after completion count reached";
                cx.recorder.warning(&subject, "TooManySucceededPods", message);
            }
            cx.recorder.normal(&subject, "Completed", "Job completed");
        }
    }
    Ok(())
}

async fn flush(cx: &Context, job: &mut Job, stored: &mut JobStatus) -> Result<(), Status> {
    if job.status != *stored {
        *job = cx.client.update_status(job).await?;
        job.status.uncounted_terminated_pods.get_or_insert_default();
        *stored = job.status.clone();
    }
    Ok(())
}

/// Writes the uids of pods that ended into the status, and the indexes; answers with the pods whose finalizer may go,
/// and whether more are left for the next time.
fn count(
    job: &mut Job,
    state: &State,
    ending: Option<&JobCondition>,
    with_finalizer: &HashSet<SmolStr>,
) -> (Vec<CachedPod>, bool) {
    settle(&mut job.status, with_finalizer);
    let (mut counted, mut new_indexes, mut reached_limit) = (Vec::new(), Vec::new(), false);
    let mut ordered: Vec<&CachedPod> = state.pods.iter().filter(|(_, p)| state.is_tracked(p)).collect();
    ordered.sort_by_key(|(_, pod)| part(pod).index);
    let fails_all = ending.is_some_and(|end| end.type_ != "SuccessCriteriaMet");
    let mut uncounted = job.status.uncounted_terminated_pods.clone().unwrap_or_default();
    for pod in ordered {
        let (_, view) = pod;
        let failed = has_failed(job, view);
        let gone = job.metadata.deletion_timestamp.is_some() || ending.is_some() || view.phase == "Succeeded";
        let waits = part(view)
            .index
            .and_then(|index| state.delayed.get(&index))
            .is_some_and(|(_, delayed)| delayed.uid == view.uid);
        if !gone && (!failed || waits) {
            continue;
        }
        counted.push(pod.clone());
        let uid = view.uid.to_string();
        let counts = state.counts_index(job, view);
        if view.phase == "Succeeded" && !uncounted.failed.contains(&uid) {
            if is_indexed(job) {
                let new = part(view).index.filter(|index| counts && !state.known_indexes.has(*index));
                new_indexes.extend(new);
            } else if !uncounted.succeeded.contains(&uid) {
                uncounted.succeeded.push(uid);
            }
        } else if (failed || fails_all)
            && counts
            && !uncounted.failed.contains(&uid)
            && verdict(job, pod) != Verdict::Ignore
        {
            uncounted.failed.push(uid);
        }
        if new_indexes.len() + uncounted.succeeded.len() + uncounted.failed.len() >= MOST_UNCOUNTED {
            reached_limit = true;
            break;
        }
    }
    job.status.uncounted_terminated_pods = Some(uncounted);
    if is_indexed(job) {
        let indexes = state.known_indexes.with(&new_indexes.into_iter().filter(|i| *i < completions(job)).collect());
        job.status.succeeded = indexes.total();
        job.status.completed_indexes = indexes.to_string();
        job.status.failed_indexes = state.failed_indexes.as_ref().map(ToString::to_string);
    }
    (counted, reached_limit)
}

/// Turns uids without a finalizer into counts.
fn settle(status: &mut JobStatus, with_finalizer: &HashSet<SmolStr>) {
    let uncounted = status.uncounted_terminated_pods.get_or_insert_default();
    for (list, total) in
        [(&mut uncounted.succeeded, &mut status.succeeded), (&mut uncounted.failed, &mut status.failed)]
    {
        let before = list.len();
        list.retain(|uid| with_finalizer.contains(uid.as_str()));
        *total += (before - list.len()) as i32;
    }
}

fn has_uncounted(status: &JobStatus) -> bool {
    status.uncounted_terminated_pods.as_ref().is_some_and(|u| !u.succeeded.is_empty() || !u.failed.is_empty())
}

/// Tells how the job will end before its pods are let go; answers with the condition it ends with.
fn tell_interim(job: &mut Job, ending: JobCondition, now: Time) -> JobCondition {
    let last = match ending.type_.as_str() {
        "FailureTarget" => "Failed",
        "SuccessCriteriaMet" => "Complete",
        _ => return ending,
    };
    if told(job, &ending.type_).is_none() {
        job.status.conditions.push(ending.clone());
    }
    condition(last, "True", &ending.reason, ending.message, now)
}

/// Adds or replaces a condition; says whether anything changed. A false one is not added where there was none.
pub fn ensure(job: &mut Job, new: &JobCondition) -> bool {
    match job.status.conditions.iter_mut().find(|c| c.type_ == new.type_) {
        Some(known) if known.status == new.status && known.reason == new.reason && known.message == new.message => {
            false
        }
        Some(known) => {
            *known = new.clone();
            true
        }
        None if new.status == "False" => false,
        None => {
            job.status.conditions.push(new.clone());
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::shared::PodView;
    use crate::shared::job_pod::JobPod;

    fn pod(uid: &str, phase: &str) -> CachedPod {
        let job = JobPod { tracked: true, ..JobPod::default() };
        let view = PodView { uid: uid.into(), phase: phase.into(), job: Some(Box::new(job)), ..PodView::default() };
        (client::Key::new("a", uid), Arc::new(view))
    }

    #[test]
    fn each_pod_is_counted_once() {
        let mut job = Job::default();
        job.spec.completions = Some(2);
        let pods = vec![pod("1", "Succeeded"), pod("2", "Failed"), pod("3", "Running")];
        let state = State::observe(&job, pods, HashSet::new(), Default::default());
        let all: HashSet<SmolStr> = ["1", "2", "3"].map(SmolStr::from).into();
        for _ in 0..2 {
            let (counted, _) = count(&mut job, &state, None, &all);
            assert_eq!(counted.len(), 2);
            assert_eq!((job.status.succeeded, job.status.failed), (0, 0));
        }
        settle(&mut job.status, &["3".into()].into());
        assert_eq!((job.status.succeeded, job.status.failed, has_uncounted(&job.status)), (1, 1, false));
        settle(&mut job.status, &HashSet::new());
        assert_eq!((job.status.succeeded, job.status.failed), (1, 1));
        // When the job fails, what still runs has failed too.
        let failed = condition("FailureTarget", "True", "r", "m", Time(1));
        let (counted, _) = count(&mut job, &state, Some(&failed), &["3".into()].into());
        assert_eq!(counted.len(), 3);
        assert!(job.status.uncounted_terminated_pods.unwrap().failed.contains(&"3".to_string()));
    }
}
