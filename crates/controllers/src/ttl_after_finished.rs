//! Deletes jobs some time after they have finished, as `spec.ttlSecondsAfterFinished` says.

use std::time::Duration;

use api::batch::job::Job;
use apimachinery::resource::Resource;
use apimachinery::time::parse_rfc3339;
use apimachinery::{Status, Value};
use client::{Client, Informer, Key, Outcome, Queue, Scope, run_workers};

use crate::Context;
use crate::workload::now;

/// Runs the controller.
pub async fn run(cx: Context) {
    let jobs = Informer::start(&cx.watcher, Job::resource(), Scope::default(), expiry);
    jobs.synced().await;
    let queue: Queue<Key> = Queue::new();
    let to = queue.clone();
    jobs.on_change(move |change| {
        if change.new.is_some() {
            to.add(change.key.clone());
        }
    });
    run_workers("ttl-after-finished-controller", queue, 1, move |key| {
        let cx = cx.clone();
        async move { reconcile(&cx, &key).await }
    })
    .await;
}

/// When a job is to be deleted, in Unix seconds; none while it is not finished, has no such wish, or goes already.
fn expiry(job: &Value) -> Option<i64> {
    let ttl = job.at(&["spec", "ttlSecondsAfterFinished"]).and_then(Value::as_i64)?;
    if job.at(&["metadata", "deletionTimestamp"]).is_some() {
        return None;
    }
    let conditions = job.at(&["status", "conditions"]).and_then(Value::as_list)?;
    let finished = conditions.iter().find(|c| {
        matches!(c.str_at(&["type"]), Some("Complete" | "Failed")) && c.str_at(&["status"]) == Some("True")
    })?;
    let (at, _) = parse_rfc3339(finished.str_at(&["lastTransitionTime"])?)?;
    Some(at.saturating_add(ttl))
}

async fn reconcile(cx: &Context, key: &Key) -> Result<Outcome, Status> {
    // Read afresh: the time may have been put off since.
    let Some(job) = cx.client.try_get::<Job>(&key.namespace, &key.name).await? else { return Ok(Outcome::Done) };
    let Some(at) = expiry(&apimachinery::Api::to_value(&job)) else { return Ok(Outcome::Done) };
    let left = at - now(cx).0;
    if left > 0 {
        return Ok(Outcome::After(Duration::from_secs(left as u64)));
    }
    let mut options = Client::only_uid(&job.metadata.uid);
    if let Value::Map(options) = &mut options {
        options.insert("propagationPolicy", "Foreground");
    }
    match cx.client.delete_with::<Job>(&key.namespace, &key.name, options).await {
        Err(status) if !status.is_not_found() && !status.is_conflict() => Err(status),
        _ => Ok(Outcome::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::{context, eventually};

    fn job(name: &str, ttl: &str, finished: &str) -> String {
        format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"a","uid":"{name}"}},"spec":{{{ttl}}},"status":{{"conditions":
            [{{"type":"Complete","status":"{finished}","lastTransitionTime":"2025-12-31T23:59:00Z"}}]}}}}"#
        )
    }

    #[tokio::test]
    async fn finished_jobs_go_when_their_time_has_come() {
        let backend = testkit::FakeBackend::new();
        let jobs = Job::resource();
        for (name, ttl, finished) in [
            ("due", "\"ttlSecondsAfterFinished\":60", "True"),
            ("later", "\"ttlSecondsAfterFinished\":61", "True"),
            ("runs", "\"ttlSecondsAfterFinished\":0", "False"),
            ("kept", "", "True"),
        ] {
            backend.put(&jobs, &job(name, ttl, finished));
        }
        let task = tokio::spawn(run(context(&backend)));
        eventually(|| backend.get(&jobs, "a", "due").is_none()).await;
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!(backend.count(&jobs), 3);
        task.abort();
    }
}
