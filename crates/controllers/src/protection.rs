//! Keeps claims, volumes and volume attribute classes from going while they are in use.

use apimachinery::{GroupVersionResource, SmolStr, Status, Value};
use client::{Body, Client, Informer, Key, Outcome, Query, Queue, Request, Scope, Verb, run_workers};

use crate::Context;

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";
const CLASS: &str = "kubernetes.io/vac-protection";

/// A protected object that may be ending.
#[derive(Clone, Debug, PartialEq)]
struct Guarded {
    ending: bool,
    finalizers: Vec<SmolStr>,
    /// `status.phase`.
    phase: SmolStr,
    /// The class that it names.
    class: SmolStr,
}

fn guarded(tree: &Value) -> Option<Guarded> {
    let text = |path: &[&str]| SmolStr::from(tree.str_at(path).unwrap_or_default());
    let finalizers = tree.at(&["metadata", "finalizers"]).and_then(Value::as_list).unwrap_or_default();
    Some(Guarded {
        ending: tree.at(&["metadata", "deletionTimestamp"]).is_some(),
        finalizers: finalizers.iter().filter_map(|f| f.as_str().map(SmolStr::from)).collect(),
        phase: text(&["status", "phase"]),
        class: text(&["spec", "volumeAttributesClassName"]),
    })
}

fn core(resource: &str) -> GroupVersionResource {
    GroupVersionResource::new("", "v1", resource)
}

fn classes() -> GroupVersionResource {
    GroupVersionResource::new("storage.k8s.io", "v1", "volumeattributesclasses")
}

/// Adds what is ending and held by a finalizer.
fn enqueue(informer: &Informer<Guarded>, finalizer: &'static str, queue: &Queue<Key>) {
    let to = queue.clone();
    informer.on_change(move |change| {
        if change.new.is_some_and(|o| o.ending && o.finalizers.iter().any(|f| f == finalizer)) {
            to.add(change.key.clone());
        }
    });
}

/// Lets an object go. Upstream's roles let these controllers replace objects, not patch them.
async fn release(client: &Client, resource: GroupVersionResource, key: &Key, finalizer: &str) -> Result<(), Status> {
    let request = |verb, body| Request {
        verb,
        resource: resource.clone(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        subresource: SmolStr::default(),
        query: Query::default(),
        body,
    };
    let done = |answer: Result<Value, Status>| match answer {
        Err(status) if status.is_not_found() => Ok(None),
        other => other.map(Some),
    };
    let Some(mut object) = done(client.send_tree(request(Verb::Get, Body::None)).await)? else { return Ok(()) };
    let held = object.at(&["metadata", "finalizers"]).and_then(Value::as_list).unwrap_or_default();
    let left: Vec<Value> = held.iter().filter(|f| f.as_str() != Some(finalizer)).cloned().collect();
    if let Some(metadata) = object.as_map_mut().and_then(|o| o.get_mut("metadata")).and_then(Value::as_map_mut) {
        metadata.insert("finalizers", left);
    }
    done(client.send_tree(request(Verb::Update, Body::Object(object))).await).map(drop)
}

/// The claims that a pod uses.
fn claims_of(tree: &Value) -> Option<Vec<SmolStr>> {
    if matches!(tree.str_at(&["status", "phase"]), Some("Succeeded" | "Failed")) {
        return None;
    }
    let pod = tree.str_at(&["metadata", "name"]).unwrap_or_default();
    let volumes = tree.at(&["spec", "volumes"]).and_then(Value::as_list).unwrap_or_default();
    let named = volumes.iter().filter_map(|v| v.str_at(&["persistentVolumeClaim", "claimName"]).map(SmolStr::from));
    let own = volumes.iter().filter(|v| v.get("ephemeral").is_some());
    let own = own.map(|v| SmolStr::from(format!("{pod}-{}", v.str_at(&["name"]).unwrap_or_default())));
    let all: Vec<SmolStr> = named.chain(own).collect();
    (!all.is_empty()).then_some(all)
}

/// Lets claims go that no pod uses.
pub async fn run_claims(cx: Context) {
    let claims = Informer::start(&cx.watcher, core("persistentvolumeclaims"), Scope::default(), guarded);
    let pods = Informer::start(&cx.watcher, core("pods"), Scope::default(), claims_of);
    claims.synced().await;
    pods.synced().await;
    let queue = Queue::new();
    enqueue(&claims, CLAIM, &queue);
    let (to, known) = (queue.clone(), claims.clone());
    pods.on_change(move |change| {
        let Some(old) = change.old else { return };
        for claim in old.iter() {
            let key = Key::new(change.key.namespace.clone(), claim.clone());
            if known.by_key(&key).is_some_and(|c| c.ending) {
                to.add(key);
            }
        }
    });
    run_workers("pvc-protection-controller", queue, 1, move |key: Key| {
        let (client, claims, pods) = (cx.client.clone(), claims.clone(), pods.clone());
        async move {
            if claims.by_key(&key).is_none_or(|c| !c.ending) {
                return Ok(Outcome::Done);
            }
            let used = pods.filter(|pod, names| pod.namespace == key.namespace && names.contains(&key.name));
            if used.is_empty() {
                release(&client, core("persistentvolumeclaims"), &key, CLAIM).await?;
            }
            Ok(Outcome::Done)
        }
    })
    .await;
}

/// Lets volumes go that no claim is bound to.
pub async fn run_volumes(cx: Context) {
    let volumes = Informer::start(&cx.watcher, core("persistentvolumes"), Scope::default(), guarded);
    volumes.synced().await;
    let queue = Queue::new();
    enqueue(&volumes, VOLUME, &queue);
    run_workers("pv-protection-controller", queue, 1, move |key: Key| {
        let (client, volumes) = (cx.client.clone(), volumes.clone());
        async move {
            let Some(volume) = volumes.by_key(&key).filter(|v| v.ending) else { return Ok(Outcome::Done) };
            if volume.phase != "Bound" {
                release(&client, core("persistentvolumes"), &key, VOLUME).await?;
            }
            Ok(Outcome::Done)
        }
    })
    .await;
}

/// Lets classes go that no claim and no volume names.
pub async fn run_classes(cx: Context) {
    let guarded_classes = Informer::start(&cx.watcher, classes(), Scope::default(), guarded);
    let claims = Informer::start(&cx.watcher, core("persistentvolumeclaims"), Scope::default(), guarded);
    let volumes = Informer::start(&cx.watcher, core("persistentvolumes"), Scope::default(), guarded);
    guarded_classes.synced().await;
    claims.synced().await;
    volumes.synced().await;
    let queue = Queue::new();
    enqueue(&guarded_classes, CLASS, &queue);
    for users in [&claims, &volumes] {
        let to = queue.clone();
        users.on_change(move |change| {
            if let Some(old) = change.old
                && !old.class.is_empty()
                && change.new.is_none_or(|new| new.class != old.class)
            {
                to.add(Key::new("", old.class.clone()));
            }
        });
    }
    run_workers("volumeattributesclass-protection-controller", queue, 1, move |key: Key| {
        let (client, all) = (cx.client.clone(), guarded_classes.clone());
        let (claims, volumes) = (claims.clone(), volumes.clone());
        async move {
            if all.by_key(&key).is_none_or(|c| !c.ending) {
                return Ok(Outcome::Done);
            }
            let used = |users: &Informer<Guarded>| !users.filter(|_, o| o.class == key.name).is_empty();
            if !used(&claims) && !used(&volumes) {
                release(&client, classes(), &key, CLASS).await?;
            }
            Ok(Outcome::Done)
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::{context, eventually};

    #[tokio::test]
    async fn a_claim_waits_for_its_pods() {
        let cluster = testkit::FakeBackend::new();
        let pod = r#"{"metadata":{"name":"p","namespace":"n"},"spec":{"volumes":[
            {"name":"v","persistentVolumeClaim":{"claimName":"c"}}]},"status":{"phase":"Running"}}"#;
        cluster.put(&core("pods"), pod);
        cluster.put(
            &core("persistentvolumeclaims"),
            r#"{"metadata":{"name":"c","namespace":"n","deletionTimestamp":"2026-01-01T00:00:00Z",
            "finalizers":["kubernetes.io/pvc-protection"]}}"#,
        );
        let task = tokio::spawn(run_claims(context(&cluster)));
        let held = || {
            let claim = cluster.get(&core("persistentvolumeclaims"), "n", "c").unwrap();
            claim.at(&["metadata", "finalizers"]).and_then(Value::as_list).is_some_and(|f| !f.is_empty())
        };
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        assert!(held());
        cluster.put(&core("pods"), &pod.replace("Running", "Succeeded"));
        eventually(|| !held()).await;
        task.abort();
    }
}
