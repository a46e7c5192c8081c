//! Creates a Job whenever the schedule of a CronJob says so.

mod schedule;

use std::time::Duration;

use api::batch::CronJob;
use api::batch::cronjob::parse_schedule;
use api::batch::job::Job;
use api::core::references::ObjectReference;
use apimachinery::resource::Resource;
use apimachinery::time::parse_rfc3339;
use apimachinery::{Map, ObjectMeta, SmolStr, Status, Time, Value};
use client::events::Subject;
use client::{Informer, Key, Outcome, Queue, Scope, run_workers};
use jiff::tz::TimeZone;

use crate::Context;
use crate::shared::Owner;
use crate::workload::{Manager, controlled_by, namespace_ends, now};
use schedule::Clock;

/// The annotation that tells for when a job was scheduled.
const SCHEDULED_FOR: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// More missed times than this are worth a warning.
const MANY_MISSED: i64 = 100;

/// What is kept of a job.
#[derive(Clone, Debug, Default, PartialEq)]
struct JobView {
    uid: SmolStr,
    controller: Option<Owner>,
    /// `Complete` or `Failed`.
    finished: Option<SmolStr>,
    started: Option<i64>,
    completed: Option<i64>,
}

impl JobView {
    fn read(tree: &Value) -> Option<JobView> {
        let controller = Owner::controller_of(tree).filter(|owner| owner.kind == "CronJob")?;
        let seconds = |key| parse_rfc3339(tree.str_at(&["status", key])?).map(|(seconds, _)| seconds);
        let conditions = tree.at(&["status", "conditions"]).and_then(Value::as_list).unwrap_or_default();
        let finished = conditions.iter().filter(|c| c.str_at(&["status"]) == Some("True"));
        let finished = finished.filter_map(|c| c.str_at(&["type"])).find(|t| matches!(*t, "Complete" | "Failed"));
        Some(JobView {
            uid: tree.str_at(&["metadata", "uid"]).unwrap_or_default().into(),
            controller: Some(controller),
            finished: finished.map(SmolStr::from),
            started: seconds("startTime"),
            completed: seconds("completionTime"),
        })
    }
}

type CachedJob = (Key, std::sync::Arc<JobView>);

/// Runs the controller.
pub async fn run(cx: Context) {
    let crons = Informer::start(&cx.watcher, CronJob::resource(), Scope::default(), |_| Some(()));
    let jobs = Informer::start(&cx.watcher, Job::resource(), Scope::default(), JobView::read);
    crons.synced().await;
    jobs.synced().await;
    let queue: Queue<Key> = Queue::new();
    let to = queue.clone();
    crons.on_change(move |change| to.add(change.key.clone()));
    let to = queue.clone();
    jobs.on_change(move |change| {
        for owner in [change.old, change.new].into_iter().flatten().filter_map(|job| job.controller.as_ref()) {
            to.add(Key::new(change.key.namespace.clone(), owner.name.clone()));
        }
    });
    run_workers("cronjob-controller", queue, 2, move |key| {
        let (cx, jobs) = (cx.clone(), jobs.clone());
        async move { reconcile(&cx, &jobs, &key).await }
    })
    .await;
}

async fn reconcile(cx: &Context, jobs: &Informer<JobView>, key: &Key) -> Result<Outcome, Status> {
    let Some(mut cron) = cx.client.try_get::<CronJob>(&key.namespace, &key.name).await? else {
        return Ok(Outcome::Done);
    };
    let before = cron.status.clone();
    let uid = cron.metadata.uid.clone();
    let children = jobs.filter(|k, job| {
        k.namespace == key.namespace && job.controller.as_ref().is_some_and(|o| o.uid == uid.as_str())
    });
    clean_up(cx, &mut cron, &children).await;
    let result = match observe(cx, &mut cron, &children).await {
        Ok(()) => start_if_due(cx, &mut cron).await,
        Err(status) => Err(status),
    };
    if cron.status != before {
        cx.client.update_status(&cron).await?;
    }
    // A tenth of a second more, so that the clock has surely reached the time.
    let outcome = |seconds: i64| Outcome::After(Duration::from_secs(seconds as u64) + Duration::from_millis(100));
    result.map(|wait| wait.map_or(Outcome::Done, outcome))
}

fn subject(cron: &CronJob) -> Subject {
    Manager::of(cron).subject
}

/// Deletes the oldest finished jobs, apart those that succeeded and those that failed.
async fn clean_up(cx: &Context, cron: &mut CronJob, children: &[CachedJob]) {
    let limits =
        [("Complete", cron.spec.successful_jobs_history_limit), ("Failed", cron.spec.failed_jobs_history_limit)];
    for (kind, limit) in limits {
        let Some(limit) = limit else { continue };
        let finished = children.iter().filter(|(_, job)| job.finished.as_deref() == Some(kind));
        let mut finished: Vec<&CachedJob> = finished.collect();
        finished.sort_by_key(|(key, job)| (job.started.is_none(), job.started, key.name.clone()));
        let excess = finished.len().saturating_sub(limit.max(0) as usize);
        for (key, job) in &finished[..excess] {
            delete(cx, cron, key, &job.uid).await;
        }
    }
}

/// Deletes a job with its pods; says whether it did.
async fn delete(cx: &Context, cron: &mut CronJob, key: &Key, uid: &str) -> bool {
    let mut options = Map::new();
    options.insert("propagationPolicy", "Background");
    match cx.client.delete_with::<Job>(&key.namespace, &key.name, Value::Map(options)).await {
        Err(status) if !status.is_not_found() => {
            let message = format!("Deleted job: {}", status.message);
            cx.recorder.warning(&subject(cron), "FailedDelete", message);
            false
        }
        result => {
            cron.status.active.retain(|job| job.uid != uid);
            if result.is_ok() {
                cx.recorder.normal(&subject(cron), "SuccessfulDelete", format!("Deleted job {}", key.name));
            }
            true
        }
    }
}

/// Brings the list of active jobs and the time of the last success up to date.
async fn observe(cx: &Context, cron: &mut CronJob, children: &[CachedJob]) -> Result<(), Status> {
    let about = subject(cron);
    for (key, job) in children {
        let active = cron.status.active.iter().any(|j| j.uid == job.uid.as_str());
        match &job.finished {
            None if !active => {
                let message = format!("Saw a job that the controller did not create or forgot: {}", key.name);
                cx.recorder.warning(&about, "UnexpectedJob", message);
            }
            None => {}
            Some(condition) => {
                if active {
                    cron.status.active.retain(|j| j.uid != job.uid.as_str());
                    let message = format!("Saw completed job: {}, condition: {condition}", key.name);
                    cx.recorder.normal(&about, "SawCompletedJob", message);
                }
                if condition == "Complete" {
                    let completed = job.completed.map(Time);
                    cron.status.last_successful_time = cron.status.last_successful_time.max(completed);
                }
            }
        }
    }
    for active in cron.status.active.clone() {
        let known = children.iter().any(|(_, job)| job.uid == active.uid.as_str());
        if !known && cx.client.try_get::<Job>(&active.namespace, &active.name).await?.is_none() {
            let message = format!("Active job went missing: {}", active.name);
            cx.recorder.normal(&about, "MissingJob", message);
            cron.status.active.retain(|j| j.uid != active.uid);
        }
    }
    Ok(())
}

/// Creates the job of the last time that is due. Answers with the seconds until the next time.
async fn start_if_due(cx: &Context, cron: &mut CronJob) -> Result<Option<i64>, Status> {
    if cron.metadata.deletion_timestamp.is_some() {
        return Ok(None);
    }
    let about = subject(cron);
    let zone = match cron.spec.time_zone.as_deref() {
        None => TimeZone::UTC,
        Some(name) => match TimeZone::get(name) {
            Ok(zone) => zone,
            Err(error) => {
                let message = format!("invalid timeZone: {name:?}: {error}");
                cx.recorder.warning(&about, "UnknownTimeZone", message);
                return Ok(None);
            }
        },
    };
    if cron.spec.suspend == Some(true) {
        return Ok(None);
    }
    let clock = match parse_schedule(&cron.spec.schedule) {
        Ok(schedule) => Clock { schedule, zone },
        Err(error) => {
            let message = format!("unparseable schedule: {:?} : {error}", cron.spec.schedule);
            cx.recorder.warning(&about, "UnparseableSchedule", message);
            return Ok(None);
        }
    };
    let now = now(cx).0;
    let last = cron.status.last_schedule_time.unwrap_or(cron.metadata.creation_timestamp).0;
    let wait = |last: i64| clock.wait(clock.due(last, now), now);
    let earliest = cron.spec.starting_deadline_seconds.map_or(last, |seconds| last.max(now - seconds));
    let due = clock.due(earliest, now);
    let Some(time) = due.last else { return Ok(wait(last)) };
    if due.missed > MANY_MISSED {
        let message = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        cx.recorder.warning(&about, "TooManyMissedTimes", message);
    }
    if cron.spec.starting_deadline_seconds.is_some_and(|seconds| time + seconds < now) {
        let message = format!("Missed scheduled time to start a job: {}", Clock::rfc1123(time));
        cx.recorder.warning(&about, "MissSchedule", message);
        return Ok(wait(last));
    }
    let job = make(cron, &clock, time);
    let started = cron.status.active.iter().any(|j| j.name == job.metadata.name);
    if started || cron.status.last_schedule_time == Some(Time(time)) {
        return Ok(wait(last));
    }
    if cron.spec.concurrency_policy == "Forbid" && !cron.status.active.is_empty() {
        let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
        cx.recorder.normal(&about, "JobAlreadyActive", message);
        return Ok(wait(last));
    }
    if cron.spec.concurrency_policy == "Replace" {
        for active in cron.status.active.clone() {
            let key = Key::new(active.namespace.as_str(), active.name.as_str());
            if !delete(cx, cron, &key, &active.uid).await {
                return Err(Status::internal(format!("could not replace job {key}")));
            }
        }
    }
    let created = match cx.client.create(&job).await {
        Ok(created) => {
            cx.recorder.normal(&about, "SuccessfulCreate", format!("Created job {}", created.metadata.name));
            created
        }
        Err(status) if status.is_already_exists() => {
            let known: Job = cx.client.get(&job.metadata.namespace, &job.metadata.name).await?;
            let ours = controlled_by(&known.metadata.owner_references, &cron.metadata.uid);
            if !ours || cron.status.active.iter().any(|j| j.uid == known.metadata.uid) {
                return Ok(None);
            }
            known
        }
        Err(status) => {
            if !namespace_ends(&status) {
                cx.recorder.warning(&about, "FailedCreate", format!("Error creating job: {}", status.message));
            }
            return Err(status);
        }
    };
    // A job that was made before and has ended meanwhile must not count as running.
    if !created.status.conditions.iter().any(|c| c.status == "True" && matches!(&*c.type_, "Complete" | "Failed")) {
        cron.status.active.push(reference(&created));
    }
    cron.status.last_schedule_time = Some(Time(time));
    Ok(wait(time))
}

fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        kind: Job::KIND.into(),
        namespace: job.metadata.namespace.clone(),
        name: job.metadata.name.clone(),
        uid: job.metadata.uid.clone(),
        api_version: Job::api_version(),
        resource_version: job.metadata.resource_version.clone(),
        ..ObjectReference::default()
    }
}

/// The job of a time. Its name comes from the time, so that it cannot be made twice.
fn make(cron: &CronJob, clock: &Clock, time: i64) -> Job {
    let template = &cron.spec.job_template;
    let mut annotations = template.metadata.annotations.clone();
    annotations.insert(SCHEDULED_FOR.into(), clock.rfc3339(time));
    Job {
        metadata: ObjectMeta {
            name: format!("{}-{}", cron.metadata.name, time.div_euclid(60)),
            namespace: cron.metadata.namespace.clone(),
            labels: template.metadata.labels.clone(),
            annotations,
            owner_references: vec![Manager::of(cron).reference()],
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        ..Job::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::{context, eventually};

    fn cron(name: &str, created: &str, more: &str) -> String {
        format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"a","uid":"{name}","creationTimestamp":"{created}"}},
            "spec":{{"schedule":"0 * * * *","concurrencyPolicy":"Allow","successfulJobsHistoryLimit":1{more},
            "jobTemplate":{{"spec":{{"template":{{"spec":{{}}}}}}}}}}}}"#
        )
    }

    #[tokio::test]
    async fn jobs_are_created_when_due_and_old_ones_deleted() {
        let backend = testkit::FakeBackend::new();
        let (crons, jobs) = (CronJob::resource(), Job::resource());
        // The clock of the test stands at 2026-01-01T00:00:00Z.
        backend.put(&crons, &cron("due", "2025-12-31T21:30:00Z", ""));
        backend.put(&crons, &cron("young", "2026-01-01T00:00:00Z", ""));
        backend.put(&crons, &cron("asleep", "2025-12-31T21:30:00Z", ",\"suspend\":true"));
        for (name, start) in [("old", "2025-12-31T20:00:00Z"), ("older", "2025-12-31T19:00:00Z")] {
            backend.put(
                &jobs,
                &format!(
                    r#"{{"metadata":{{"name":"{name}","namespace":"a","uid":"{name}","ownerReferences":[{{
                    "kind":"CronJob","name":"due","uid":"due","controller":true}}]}},"status":{{"startTime":"{start}",
                    "completionTime":"{start}","conditions":[{{"type":"Complete","status":"True"}}]}}}}"#
                ),
            );
        }
        let task = tokio::spawn(run(context(&backend)));
        let minutes = parse_rfc3339("2026-01-01T00:00:00Z").unwrap().0 / 60;
        let name = format!("due-{minutes}");
        eventually(|| backend.get(&jobs, "a", &name).is_some() && backend.get(&jobs, "a", "older").is_none()).await;
        let status = |key: &'static str| backend.get(&crons, "a", "due").unwrap().at(&["status", key]).cloned();
        eventually(|| status("lastScheduleTime") == Some("2026-01-01T00:00:00Z".into())).await;
        assert_eq!(status("lastSuccessfulTime"), Some("2025-12-31T20:00:00Z".into()));
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!(backend.count(&jobs), 2);
        let job = backend.get(&jobs, "a", &name).unwrap();
        assert_eq!(job.str_at(&["metadata", "annotations", SCHEDULED_FOR]), Some("2026-01-01T00:00:00Z"));
        task.abort();
    }
}
