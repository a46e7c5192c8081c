//! Deletes requests for certificates that are of no use any more.

use std::time::Duration;

use api::certificates::certificatesigningrequest::CertificateSigningRequest;
use api::certificates::podcertificaterequest::PodCertificateRequest;
use apimachinery::resource::Resource;
use apimachinery::{SmolStr, Status};
use client::{Client, Informer, Key, Outcome, Queue, Scope, run_workers};

use crate::Context;
use crate::workload::now;

/// How long a request stays after its decision, and how long without one, in seconds (upstream's).
const DECIDED: i64 = 3600;
const PENDING: i64 = 24 * 3600;
/// How long a request of a pod stays: its pod has its certificate long before, or asks anew.
const OF_PODS: i64 = 15 * 60;

/// When a request is to go, in seconds since 1970.
fn end(request: &CertificateSigningRequest) -> i64 {
    let status = &request.status;
    let issued = !status.certificate.0.is_empty();
    let mut ends = Vec::new();
    for condition in &status.conditions {
        match condition.type_.as_str() {
            "Approved" if issued => {
                ends.push(condition.last_update_time.0 + DECIDED);
                ends.extend(expiry(&status.certificate.0));
            }
            "Approved" => ends.push(condition.last_update_time.0 + PENDING),
            "Denied" | "Failed" => ends.push(condition.last_update_time.0 + DECIDED),
            _ => {}
        }
    }
    if status.conditions.is_empty() {
        ends.push(request.metadata.creation_timestamp.0 + PENDING);
    }
    ends.into_iter().min().unwrap_or(i64::MAX)
}

/// When the first certificate of a PEM text ends.
fn expiry(pem: &[u8]) -> Option<i64> {
    let certs = pki::cert::certs_from_pem(std::str::from_utf8(pem).ok()?).ok()?;
    Some(pki::CertInfo::from_der(certs.first()?).ok()?.not_after)
}

/// Runs the controller of certificate signing requests.
pub async fn run(cx: Context) {
    super::for_each(cx, reconcile).await;
}

async fn reconcile(cx: Context, request: CertificateSigningRequest) -> Result<Outcome, Status> {
    let left = end(&request).saturating_sub(now(&cx).0);
    if left > 0 {
        // What never ends by itself comes back with its next change.
        let forever = left > 2 * PENDING;
        return Ok(if forever { Outcome::Done } else { Outcome::After(Duration::from_secs(left as u64)) });
    }
    let only = Client::only_uid(&request.metadata.uid);
    gone(cx.client.delete_with::<CertificateSigningRequest>("", &request.metadata.name, only).await)
}

/// Runs the controller of pods' certificate requests.
pub async fn run_of_pods(cx: Context) {
    let resource = PodCertificateRequest::resource();
    let requests = Informer::start(&cx.watcher, resource, Scope::default(), |tree| {
        let created = apimachinery::time::parse_rfc3339(tree.str_at(&["metadata", "creationTimestamp"])?)?.0;
        Some((created, SmolStr::new(tree.str_at(&["metadata", "uid"])?)))
    });
    requests.synced().await;
    let queue: Queue<Key> = Queue::new();
    let to = queue.clone();
    requests.on_change(move |change| {
        if change.old.is_none() {
            to.add(change.key.clone());
        }
    });
    run_workers("podcertificaterequestcleaner", queue, 1, move |key: Key| {
        let (cx, requests) = (cx.clone(), requests.clone());
        async move {
            let Some(known) = requests.by_key(&key) else { return Ok(Outcome::Done) };
            let left = known.0 + OF_PODS - now(&cx).0;
            if left > 0 {
                return Ok(Outcome::After(Duration::from_secs(left as u64)));
            }
            let only = Client::only_uid(&known.1);
            gone(cx.client.delete_with::<PodCertificateRequest>(&key.namespace, &key.name, only).await)
        }
    })
    .await;
}

/// Others may have been faster, or made another of the same name.
fn gone(deleted: Result<(), Status>) -> Result<Outcome, Status> {
    match deleted {
        Err(status) if !status.is_not_found() && !status.is_conflict() => Err(status),
        _ => Ok(Outcome::Done),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::object;
    use super::*;
    use crate::context::tests::{context, eventually};

    fn condition(type_: &str, time: &str) -> String {
        format!(r#"{{"conditions":[{{"type":"{type_}","status":"True","lastUpdateTime":"{time}"}}]}}"#)
    }

    #[tokio::test]
    async fn requests_go_when_their_time_has_come() {
        let cluster = testkit::FakeBackend::new();
        let requests = CertificateSigningRequest::resource();
        // The clock stands at the first second of 2026.
        let put = |name: &str, status: &str| cluster.put(&requests, &object(name, "a.b/c", "x", "[]", status));
        put("pending", "{}");
        put("denied", &condition("Denied", "2025-12-31T22:59:59Z"));
        put("just-denied", &condition("Denied", "2025-12-31T23:30:00Z"));
        put("approved", &condition("Approved", "2025-12-31T22:00:00Z"));
        put("never-signed", &condition("Approved", "2025-12-30T23:00:00Z"));
        put("issued", &condition("Approved", "2025-12-31T22:00:00Z").replacen('{', r#"{"certificate":"eA==","#, 1));
        let task = tokio::spawn(run(context(&cluster)));
        eventually(|| cluster.count(&requests) == 3).await;
        for name in ["pending", "just-denied", "approved"] {
            assert!(cluster.get(&requests, "", name).is_some(), "{name}");
        }
        task.abort();
    }

    #[tokio::test]
    async fn requests_of_pods_go_soon() {
        let cluster = testkit::FakeBackend::new();
        let requests = PodCertificateRequest::resource();
        let put = |name: &str, time: &str| {
            let text = format!(
                r#"{{"metadata":{{"name":"{name}","namespace":"a","uid":"{name}","creationTimestamp":"{time}"}}}}"#
            );
            cluster.put(&requests, &text);
        };
        put("old", "2025-12-31T23:45:00Z");
        put("new", "2025-12-31T23:45:01Z");
        let task = tokio::spawn(run_of_pods(context(&cluster)));
        eventually(|| cluster.get(&requests, "a", "old").is_none()).await;
        assert!(cluster.get(&requests, "a", "new").is_some());
        task.abort();
    }
}
