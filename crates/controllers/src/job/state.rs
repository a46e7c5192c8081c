//! What a job's pods amount to, and whether that ends it.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use api::batch::job::{Job, JobCondition};
use apimachinery::{SmolStr, Time};
use client::Key;

use super::backoff::Record;
use super::indexes::Indexes;
use super::policy::{Verdict, judge, succeeds};
use crate::shared::PodView;
use crate::shared::job_pod::JobPod;
use crate::shared::pod_index::CachedPod;
use crate::workload::pods::{is_active, is_terminating};

static UNREAD: LazyLock<JobPod> = LazyLock::new(JobPod::default);

/// The job's part of a pod; a pod that was adopted a moment ago may have none yet.
pub fn part(pod: &PodView) -> &JobPod {
    pod.job.as_deref().unwrap_or(&UNREAD)
}

pub fn is_indexed(job: &Job) -> bool {
    job.spec.completion_mode.as_deref() == Some("Indexed")
}

pub fn is_suspended(job: &Job) -> bool {
    job.spec.suspend == Some(true)
}

pub fn completions(job: &Job) -> u32 {
    job.spec.completions.unwrap_or(0).max(0) as u32
}

/// Whether pods are replaced only when they have come to their end, not already when they are told to go.
pub fn replaces_only_failed(job: &Job) -> bool {
    job.spec.pod_replacement_policy.as_deref() == Some("Failed")
}

pub fn has_failed(job: &Job, pod: &PodView) -> bool {
    pod.phase == "Failed" || (!replaces_only_failed(job) && pod.deleting && pod.phase != "Succeeded")
}

pub fn verdict(job: &Job, (key, pod): &CachedPod) -> Verdict {
    judge(job.spec.pod_failure_policy.as_ref(), key, part(pod))
}

pub fn condition(kind: &str, status: &str, reason: &str, message: impl Into<String>, now: Time) -> JobCondition {
    JobCondition {
        type_: kind.into(),
        status: status.into(),
        last_probe_time: now,
        last_transition_time: now,
        reason: reason.into(),
        message: message.into(),
    }
}

/// The condition of a type, if it is true.
pub fn told<'a>(job: &'a Job, kind: &str) -> Option<&'a JobCondition> {
    job.status.conditions.iter().find(|c| c.type_ == kind && c.status == "True")
}

pub fn is_finished(job: &Job) -> bool {
    told(job, "Complete").or(told(job, "Failed")).is_some()
}

/// What the pods of a job amount to.
#[derive(Debug, Default)]
pub struct State {
    /// All that are claimed.
    pub pods: Vec<CachedPod>,
    pub active: Vec<CachedPod>,
    /// Uids whose finalizer is gone, though the cache does not show it yet.
    pub removing: HashSet<SmolStr>,
    pub ready: i32,
    pub terminating: i32,
    pub succeeded: i32,
    pub failed: i32,
    /// Indexes that the status has, and those with the ones that succeeded since.
    pub known_indexes: Indexes,
    pub indexes: Indexes,
    /// Only with a limit per index.
    pub failed_indexes: Option<Indexes>,
    /// By index: failed pods that must stay until their replacement carries on their count of failures.
    pub delayed: HashMap<u32, CachedPod>,
    pub record: Record,
}

impl State {
    pub fn observe(job: &Job, pods: Vec<CachedPod>, removing: HashSet<SmolStr>, record: Record) -> State {
        let active: Vec<CachedPod> = pods.iter().filter(|(_, pod)| is_active(pod)).cloned().collect();
        let mut state = State {
            ready: active.iter().filter(|(_, pod)| pod.ready).count() as i32,
            terminating: pods.iter().filter(|(_, pod)| is_terminating(pod)).count() as i32,
            active,
            pods,
            removing,
            ..State::default()
        };
        let uncounted = job.status.uncounted_terminated_pods.clone().unwrap_or_default();
        let fresh = |list: &[String], (_, pod): &&CachedPod| {
            state.counts_index(job, pod) && state.is_tracked(pod) && !list.iter().any(|uid| *uid == pod.uid.as_str())
        };
        let all = || state.pods.iter();
        let succeeded: Vec<&CachedPod> =
            all().filter(|p| p.1.phase == "Succeeded" && fresh(&uncounted.succeeded, p)).collect();
        let failed: Vec<&CachedPod> = all().filter(|p| has_failed(job, &p.1) && fresh(&uncounted.failed, p)).collect();
        let counted = failed.iter().filter(|p| verdict(job, p) != Verdict::Ignore).count();
        let ends = |pods: &[&CachedPod]| pods.iter().map(|(_, pod)| part(pod).finished).collect::<Vec<_>>();
        let record = record.after(&ends(&succeeded), &ends(&failed));
        let total = job.status.succeeded + (succeeded.len() + uncounted.succeeded.len()) as i32;
        state.failed = job.status.failed + (counted + uncounted.failed.len()) as i32;
        (state.record, state.succeeded) = (record, total);
        if is_indexed(job) {
            state.observe_indexes(job);
        }
        state
    }

    fn observe_indexes(&mut self, job: &Job) {
        let completions = completions(job);
        self.known_indexes = Indexes::parse(&job.status.completed_indexes, completions);
        let valid = |p: &PodView| part(p).index.filter(|i| *i < completions && self.is_tracked(p));
        let new: Indexes =
            self.pods.iter().filter(|(_, p)| p.phase == "Succeeded").filter_map(|(_, p)| valid(p)).collect();
        let indexes = self.known_indexes.with(&new);
        let Some(limit) = job.spec.backoff_limit_per_index else {
            (self.succeeded, self.indexes) = (indexes.total(), indexes);
            return;
        };
        let known = Indexes::parse(job.status.failed_indexes.as_deref().unwrap_or_default(), completions);
        let is_lost = |pod: &CachedPod| {
            has_failed(job, &pod.1)
                && match verdict(job, pod) {
                    Verdict::FailIndex => true,
                    Verdict::Ignore => false,
                    _ => part(&pod.1).failures >= limit,
                }
        };
        let new: Indexes = self.pods.iter().filter(|p| is_lost(p)).filter_map(|(_, p)| valid(p)).collect();
        let failed = known.with(&new);
        let active: HashSet<u32> = self.active.iter().filter_map(|(_, p)| part(p).index).collect();
        let mut delayed: HashMap<u32, CachedPod> = HashMap::new();
        for pod in self.pods.iter().filter(|(_, p)| has_failed(job, p)) {
            let Some(index) = valid(&pod.1) else { continue };
            if indexes.has(index) || failed.has(index) || active.contains(&index) {
                continue;
            }
            let rank = |p: &CachedPod| (part(&p.1).failures + part(&p.1).ignored_failures, part(&p.1).finished);
            let later = delayed.get(&index).is_none_or(|known| rank(known) <= rank(pod));
            if later {
                delayed.insert(index, pod.clone());
            }
        }
        (self.succeeded, self.indexes) = (indexes.total(), indexes);
        (self.failed_indexes, self.delayed) = (Some(failed), delayed);
    }

    /// Whether the pod is not counted yet.
    pub fn is_tracked(&self, pod: &PodView) -> bool {
        part(pod).tracked && !self.removing.contains(&pod.uid)
    }

    /// For indexed jobs, whether the pod's index is one of the job.
    pub fn counts_index(&self, job: &Job, pod: &PodView) -> bool {
        !is_indexed(job) || part(pod).index.is_some_and(|index| index < completions(job))
    }

    /// The condition that the job ends with, if it ends: `FailureTarget` or `SuccessCriteriaMet` when that is news,
    /// `Failed` or `SuccessCriteriaMet` when it was told before.
    pub fn ending(&self, job: &Job, now: Time) -> Option<JobCondition> {
        if let Some(met) = told(job, "SuccessCriteriaMet") {
            return Some(met.clone());
        }
        if let Some(target) = told(job, "FailureTarget") {
            return Some(condition("Failed", "True", &target.reason, target.message.clone(), now));
        }
        let fails = |reason: &str, message: &str| Some(condition("FailureTarget", "True", reason, message, now));
        let failing = self.pods.iter().filter(|p| has_failed(job, &p.1));
        for pod in failing {
            if let Verdict::FailJob(why) = verdict(job, pod) {
                return fails("PodFailurePolicy", &why);
            }
        }
        let limit = job.spec.backoff_limit.unwrap_or(6);
        if self.failed > limit || self.restarts_exceed(job, limit) {
            return fails("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        }
        if deadline_in(job, now).is_some_and(|seconds| seconds <= 0) {
            return fails("DeadlineExceeded", "Job was active longer than specified deadline");
        }
        if !is_indexed(job) {
            return None;
        }
        if let Some(failed) = self.failed_indexes.as_ref().map(Indexes::total) {
            if job.spec.max_failed_indexes.is_some_and(|most| failed > most) {
                let message = "Job has exceeded the specified maximal number of failed indexes";
                return fails("MaxFailedIndexesExceeded", message);
            }
            if failed > 0 && failed + self.indexes.total() >= completions(job) as i32 {
                return fails("FailedIndexes", "Job has failed indexes");
            }
        }
        let why = succeeds(job.spec.success_policy.as_ref(), completions(job), &self.indexes)?;
        Some(condition("SuccessCriteriaMet", "True", "SuccessPolicy", why, now))
    }

    /// Containers that start again within their pod count as failures too.
    fn restarts_exceed(&self, job: &Job, limit: i32) -> bool {
        if job.spec.template.spec.restart_policy != "OnFailure" {
            return false;
        }
        let alive = self.pods.iter().filter(|(_, p)| matches!(p.phase.as_str(), "Running" | "Pending"));
        let restarts: i64 = alive.map(|(_, p)| part(p).restarts).sum();
        if limit == 0 { restarts > 0 } else { restarts >= i64::from(limit) }
    }

    /// How many pods should be active.
    pub fn wanted(&self, job: &Job) -> i32 {
        let parallelism = job.spec.parallelism.unwrap_or(1);
        match job.spec.completions {
            // Work of unknown size: after the first success those that run may end, but no more are started.
            None if self.succeeded > 0 => self.active.len() as i32,
            None => parallelism,
            Some(completions) => (completions - self.succeeded).min(parallelism).max(0),
        }
    }

    /// The first indexes that have no pod and need one.
    pub fn pending(&self, job: &Job, count: usize) -> Vec<u32> {
        let mut taken: Indexes = self.active.iter().filter_map(|(_, p)| part(p).index).collect();
        if replaces_only_failed(job) {
            let terminating = self.pods.iter().filter(|(_, p)| is_terminating(p));
            taken = taken.with(&terminating.filter_map(|(_, p)| part(p).index).collect());
        }
        taken = taken.with(&self.indexes);
        if let Some(failed) = &self.failed_indexes {
            taken = taken.with(failed);
        }
        taken.missing(count, completions(job))
    }

    /// At least `least` active pods to delete, and every pod with an index that another has, or with none.
    pub fn surplus(&self, job: &Job, least: usize, now: Time) -> Vec<CachedPod> {
        let mut left = self.active.clone();
        let mut chosen = Vec::new();
        if is_indexed(job) {
            let mut by_index: HashMap<Option<u32>, Vec<CachedPod>> = HashMap::new();
            for pod in left.drain(..) {
                let index = part(&pod.1).index.filter(|i| *i < completions(job));
                by_index.entry(index).or_default().push(pod);
            }
            for (index, pods) in by_index {
                let excess = if index.is_none() { pods.len() } else { pods.len() - 1 };
                let mut ranked = crate::workload::ranking::rank(pods, &[], now.0);
                left.extend(ranked.split_off(excess));
                chosen.extend(ranked);
            }
        }
        if chosen.len() < least {
            let mut ranked = crate::workload::ranking::rank(left, &[], now.0);
            ranked.truncate(least - chosen.len());
            chosen.extend(ranked);
        }
        chosen
    }
}

/// Seconds until the deadline of a job that runs.
pub fn deadline_in(job: &Job, now: Time) -> Option<i64> {
    let (limit, start) = (job.spec.active_deadline_seconds?, job.status.start_time?);
    (!is_suspended(job)).then_some(start.0 + limit - now.0)
}

/// The key of a job.
pub fn key(job: &Job) -> Key {
    Key::new(job.metadata.namespace.as_str(), job.metadata.name.as_str())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn pod(name: &str, phase: &str, index: Option<u32>, failures: i32) -> CachedPod {
        let job = JobPod { tracked: true, index, failures, finished: 10, ..JobPod::default() };
        let view = PodView { uid: name.into(), phase: phase.into(), job: Some(Box::new(job)), ..PodView::default() };
        (Key::new("a", name), Arc::new(view))
    }

    fn job(completions: Option<i32>, parallelism: i32) -> Job {
        let mut job = Job::default();
        job.spec.completions = completions;
        job.spec.parallelism = Some(parallelism);
        job.spec.backoff_limit = Some(1);
        job
    }

    fn observe(job: &Job, pods: Vec<CachedPod>) -> State {
        State::observe(job, pods, HashSet::new(), Record::default())
    }

    #[test]
    fn pods_are_wanted_until_enough_succeeded() {
        for (completions, parallelism, pods, wanted) in [
            (Some(5), 2, vec![], 2),
            (Some(5), 2, vec!["Running", "Succeeded"], 2),
            (Some(2), 2, vec!["Running", "Succeeded"], 1),
            (Some(2), 5, vec!["Succeeded", "Succeeded"], 0),
            (None, 3, vec!["Running"], 3),
            (None, 3, vec!["Running", "Succeeded"], 1),
        ] {
            let job = job(completions, parallelism);
            let pods = pods.iter().enumerate().map(|(i, phase)| pod(&i.to_string(), phase, None, 0)).collect();
            assert_eq!(observe(&job, pods).wanted(&job), wanted);
        }
    }

    #[test]
    fn a_job_fails_past_its_limits() {
        let mut limited = job(Some(5), 2);
        let reason = |job: &Job, pods, now| observe(job, pods).ending(job, Time(now)).map(|c| c.reason);
        let failed = |n: usize| (0..n).map(|i| pod(&i.to_string(), "Failed", None, 0)).collect::<Vec<_>>();
        assert_eq!(reason(&limited, failed(1), 0), None);
        assert_eq!(reason(&limited, failed(2), 0).as_deref(), Some("BackoffLimitExceeded"));
        limited.status.start_time = Some(Time(100));
        limited.spec.active_deadline_seconds = Some(10);
        assert_eq!(reason(&limited, vec![], 109), None);
        assert_eq!(reason(&limited, vec![], 110).as_deref(), Some("DeadlineExceeded"));
        limited.spec.suspend = Some(true);
        assert_eq!(reason(&limited, vec![], 110), None);
        // What was told stays, whatever the pods say now.
        limited.status.conditions.push(condition("FailureTarget", "True", "PodFailurePolicy", "why", Time(1)));
        let ending = observe(&limited, vec![]).ending(&limited, Time(2)).unwrap();
        assert_eq!((ending.type_.as_str(), ending.reason.as_str()), ("Failed", "PodFailurePolicy"));
    }

    #[test]
    fn indexes_are_counted_once_and_retried_apart() {
        let mut indexed = job(Some(4), 4);
        indexed.spec.completion_mode = Some("Indexed".into());
        indexed.spec.backoff_limit_per_index = Some(1);
        indexed.spec.backoff_limit = Some(i32::MAX);
        indexed.status.completed_indexes = "0".into();
        let pods = vec![
            pod("a", "Succeeded", Some(0), 0),
            pod("b", "Succeeded", Some(1), 0),
            pod("c", "Failed", Some(2), 0),
            pod("d", "Failed", Some(3), 1),
            pod("e", "Running", Some(9), 0),
        ];
        let state = observe(&indexed, pods);
        assert_eq!((state.indexes.to_string().as_str(), state.succeeded), ("0,1", 2));
        assert_eq!(state.failed_indexes.as_ref().unwrap().to_string(), "3");
        assert_eq!(state.delayed.keys().collect::<Vec<_>>(), [&2]);
        assert_eq!(state.pending(&indexed, 10), [2]);
        let surplus = state.surplus(&indexed, 0, Time(0));
        assert_eq!(surplus.iter().map(|(key, _)| key.name.as_str()).collect::<Vec<_>>(), ["e"]);
        assert!(state.ending(&indexed, Time(0)).is_none());
        indexed.spec.max_failed_indexes = Some(0);
        assert_eq!(state.ending(&indexed, Time(0)).unwrap().reason, "MaxFailedIndexesExceeded");
    }
}
