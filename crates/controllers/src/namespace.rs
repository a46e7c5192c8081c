//! Empties namespaces that are to be deleted, pods first, and then lets them go.

use std::collections::BTreeMap;
use std::time::Duration;

use api::core::namespace::{Namespace, NamespaceCondition};
use apimachinery::{GroupVersionResource, SmolStr, Status, Time, Value};
use client::{Body, Client, Informer, Outcome, Query, Queue, Request, Scope, Served, Verb, run_workers};

use crate::Context;

const FINALIZER: &str = "kubernetes";
/// What remains is looked at again after this: its owners' finalizers tell us nothing when they go. Pods do.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Runs the controller.
pub async fn run(cx: Context) {
    let namespaces: Informer<bool> =
        Informer::start(&cx.watcher, GroupVersionResource::new("", "v1", "namespaces"), Scope::default(), |tree| {
            Some(tree.at(&["metadata", "deletionTimestamp"]).is_some())
        });
    namespaces.synced().await;
    let queue: Queue<SmolStr> = Queue::new();
    let to = queue.clone();
    namespaces.on_change(move |change| {
        if change.new.is_some_and(|deleting| **deleting) {
            to.add(change.key.name.clone());
        }
    });
    let (to, known) = (queue.clone(), namespaces.clone());
    cx.shared.pods().on_change(move |change| {
        if change.new.is_none() && known.get("", &change.key.namespace).is_some_and(|deleting| *deleting) {
            to.add(change.key.namespace.clone());
        }
    });
    run_workers("namespace-controller", queue, 4, move |name| {
        let client = cx.client.clone();
        async move { sync(&client, &name).await }
    })
    .await;
}

/// What is left of a namespace.
#[derive(Debug, Default, PartialEq)]
struct Left {
    /// By `resource.group`.
    objects: BTreeMap<String, usize>,
    finalizers: BTreeMap<String, usize>,
    /// What could not be deleted, and why.
    failures: Vec<String>,
}

async fn sync(client: &Client, name: &SmolStr) -> Result<Outcome, Status> {
    let Some(namespace) = client.try_get::<Namespace>("", name).await? else { return Ok(Outcome::Done) };
    if namespace.metadata.deletion_timestamp.is_none() || !namespace.spec.finalizers.iter().any(|f| f == FINALIZER) {
        return Ok(Outcome::Done);
    }
    let served: Vec<Served> = client.resources().await?.into_iter().filter(|s| s.namespaced && s.collectable).collect();
    let mut left = Left::default();
    let (pods, others): (Vec<_>, Vec<_>) = served.into_iter().partition(|s| is_pods(&s.resource));
    // Pods first: what they use stays as long as they run (KEP-5080).
    for resource in &pods {
        empty(client, name, resource, &mut left).await?;
    }
    if left.objects.is_empty() && left.failures.is_empty() {
        for resource in &others {
            empty(client, name, resource, &mut left).await?;
        }
    }
    tell(client, &namespace, &left).await?;
    if left.objects.is_empty() && left.failures.is_empty() {
        // Conditions were written: the newest version goes.
        let Some(mut newest) = client.try_get::<Namespace>("", name).await? else { return Ok(Outcome::Done) };
        newest.spec.finalizers.retain(|f| f != FINALIZER);
        return match client.update_subresource(&newest, "finalize").await {
            Err(status) if !status.is_not_found() => Err(status),
            _ => Ok(Outcome::Done),
        };
    }
    Ok(Outcome::After(LOOK_AGAIN))
}

fn is_pods(resource: &GroupVersionResource) -> bool {
    resource.group.is_empty() && resource.resource == "pods"
}

fn request(verb: Verb, resource: &GroupVersionResource, namespace: &str) -> Request {
    Request {
        verb,
        resource: resource.clone(),
        namespace: namespace.into(),
        name: SmolStr::default(),
        subresource: SmolStr::default(),
        query: Query::default(),
        body: Body::None,
    }
}

fn title(resource: &GroupVersionResource) -> String {
    format!("{}.{}", resource.resource, resource.group)
}

/// Deletes all objects of a resource in a namespace, and counts what stays.
async fn empty(client: &Client, namespace: &str, served: &Served, left: &mut Left) -> Result<(), Status> {
    let list = match client.send_tree(request(Verb::List, &served.resource, namespace)).await {
        Ok(list) => list,
        // A resource that is no longer served has no objects.
        Err(status) if status.is_not_found() => return Ok(()),
        Err(status) => return Err(status),
    };
    let items = list.get("items").and_then(Value::as_list).unwrap_or_default();
    if items.is_empty() {
        return Ok(());
    }
    let fresh = items.iter().any(|item| item.at(&["metadata", "deletionTimestamp"]).is_none());
    if fresh {
        let deleted = match served.in_collections {
            true => client.send(request(Verb::DeleteCollection, &served.resource, namespace)).await.map(drop),
            false => one_by_one(client, namespace, served, items).await,
        };
        if let Err(status) = deleted
            && !status.is_not_found()
        {
            left.failures.push(format!("{}: {status}", title(&served.resource)));
        }
    }
    let list = match client.send_tree(request(Verb::List, &served.resource, namespace)).await {
        Ok(list) => list,
        Err(status) if status.is_not_found() => return Ok(()),
        Err(status) => return Err(status),
    };
    count(&served.resource, list.get("items").and_then(Value::as_list).unwrap_or_default(), left);
    Ok(())
}

fn count(resource: &GroupVersionResource, items: &[Value], left: &mut Left) {
    if items.is_empty() {
        return;
    }
    left.objects.insert(title(resource), items.len());
    for item in items {
        for finalizer in item.at(&["metadata", "finalizers"]).and_then(Value::as_list).unwrap_or_default() {
            *left.finalizers.entry(finalizer.as_str().unwrap_or_default().to_owned()).or_default() += 1;
        }
    }
}

async fn one_by_one(client: &Client, namespace: &str, served: &Served, items: &[Value]) -> Result<(), Status> {
    for item in items {
        let name = item.str_at(&["metadata", "name"]).unwrap_or_default();
        match client.delete_resource(&served.resource, namespace, name, Value::Null).await {
            Err(status) if !status.is_not_found() => return Err(status),
            _ => {}
        }
    }
    Ok(())
}

/// The conditions that say how far the deletion is; types, reasons and words are upstream's.
fn conditions(left: &Left) -> Vec<(&'static str, bool, &'static str, String)> {
    let listed = |map: &BTreeMap<String, usize>, text: &dyn Fn(&str, usize) -> String| {
        map.iter().map(|(name, count)| text(name, *count)).collect::<Vec<_>>().join(", ")
    };
    let fine = |type_, reason, message: &str| (type_, false, reason, message.to_owned());
    let mut all = vec![
        fine("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
        fine(
            "NamespaceDeletionGroupVersionParsingFailure",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
    ];
    all.push(match left.failures.is_empty() {
        true => fine(
            "NamespaceDeletionContentFailure",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        ),
        false => (
            "NamespaceDeletionContentFailure",
            true,
            "ContentDeletionFailed",
            format!(
                "Failed to delete all resource types, {} remaining: {}",
                left.failures.len(),
                left.failures.join(", ")
            ),
        ),
    });
    all.push(match left.objects.is_empty() {
        true => fine("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
        false => {
            let text = listed(&left.objects, &|name, count| format!("{name} has {count} resource instances"));
            ("NamespaceContentRemaining", true, "SomeResourcesRemain", format!("Some resources are remaining: {text}"))
        }
    });
    all.push(match left.finalizers.is_empty() {
        true => {
            fine("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished")
        }
        false => {
            let text = listed(&left.finalizers, &|name, count| format!("{name} in {count} resource instances"));
            let text = format!("Some content in the namespace has finalizers remaining: {text}");
            ("NamespaceFinalizersRemaining", true, "SomeFinalizersRemain", text)
        }
    });
    all
}

async fn tell(client: &Client, namespace: &Namespace, left: &Left) -> Result<(), Status> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now = Time(now.as_secs() as i64);
    let mut new = namespace.clone();
    for (type_, bad, reason, message) in conditions(left) {
        let status = if bad { "True" } else { "False" };
        let old = new.status.conditions.iter_mut().find(|c| c.type_ == type_);
        match old {
            Some(old) if old.status == status && old.message == message && old.reason == reason => {}
            Some(old) => {
                if old.status != status {
                    old.last_transition_time = now;
                }
                (old.status, old.reason, old.message) = (status.into(), reason.into(), message);
            }
            // What was never wrong need not be said until something is.
            None => new.status.conditions.push(NamespaceCondition {
                type_: type_.into(),
                status: status.into(),
                last_transition_time: now,
                reason: reason.into(),
                message,
            }),
        }
    }
    if new.status == namespace.status || (left.objects.is_empty() && namespace.status.conditions.is_empty()) {
        return Ok(());
    }
    match client.update_status(&new).await {
        Err(status) if status.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_is_told() {
        let mut left = Left::default();
        assert!(conditions(&left).iter().all(|(_, bad, ..)| !bad));
        let item = apimachinery::codec::json::parse(r#"{"metadata":{"finalizers":["a/b"]}}"#.as_bytes()).unwrap();
        count(&GroupVersionResource::new("", "v1", "pods"), &[item.clone(), item], &mut left);
        let text: Vec<String> = conditions(&left).into_iter().filter(|c| c.1).map(|c| c.3).collect();
        assert_eq!(
            text,
            [
                "Some resources are remaining: pods. has 2 resource instances",
                "Some content in the namespace has finalizers remaining: a/b in 2 resource instances",
            ]
        );
    }
}
