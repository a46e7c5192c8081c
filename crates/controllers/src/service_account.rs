//! Keeps the service account `default` in every namespace.

use api::core::serviceaccount::ServiceAccount;
use apimachinery::{GroupVersionResource, ObjectMeta, SmolStr};
use client::{Informer, Outcome, Queue, Scope, run_workers};

use crate::Context;

const NAME: &str = "default";

/// Runs the controller.
pub async fn run(cx: Context) {
    let core = |resource| GroupVersionResource::new("", "v1", resource);
    let namespaces = Informer::start(&cx.watcher, core("namespaces"), Scope::default(), |tree| {
        (tree.str_at(&["status", "phase"]) != Some("Terminating")).then_some(())
    });
    let ours = Scope { field_selector: format!("metadata.name={NAME}"), ..Scope::default() };
    let accounts = Informer::start(&cx.watcher, core("serviceaccounts"), ours, |tree| {
        (tree.str_at(&["metadata", "name"]) == Some(NAME)).then_some(())
    });
    namespaces.synced().await;
    accounts.synced().await;
    let queue: Queue<SmolStr> = Queue::new();
    let to = queue.clone();
    namespaces.on_change(move |change| to.add(change.key.name.clone()));
    let to = queue.clone();
    accounts.on_change(move |change| {
        if change.new.is_none() {
            to.add(change.key.namespace.clone());
        }
    });
    run_workers("service-account-controller", queue, 2, move |namespace| {
        let (client, namespaces, accounts) = (cx.client.clone(), namespaces.clone(), accounts.clone());
        async move {
            if namespaces.get("", &namespace).is_none() || accounts.get(&namespace, NAME).is_some() {
                return Ok(Outcome::Done);
            }
            let metadata = ObjectMeta { name: NAME.into(), namespace: namespace.to_string(), ..ObjectMeta::default() };
            match client.create(&ServiceAccount { metadata, ..ServiceAccount::default() }).await {
                Err(status) if status.is_already_exists() || crate::ends(&status) => Ok(Outcome::Done),
                other => other.map(|_| Outcome::Done),
            }
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::{context, eventually};

    #[tokio::test]
    async fn every_namespace_has_one() {
        let cluster = testkit::FakeBackend::new();
        let core = |resource| GroupVersionResource::new("", "v1", resource);
        cluster.put(&core("namespaces"), r#"{"metadata":{"name":"a"},"status":{"phase":"Active"}}"#);
        cluster.put(&core("namespaces"), r#"{"metadata":{"name":"b"},"status":{"phase":"Terminating"}}"#);
        let task = tokio::spawn(run(context(&cluster)));
        eventually(|| cluster.get(&core("serviceaccounts"), "a", NAME).is_some()).await;
        cluster.remove(&core("serviceaccounts"), "a", NAME);
        eventually(|| cluster.get(&core("serviceaccounts"), "a", NAME).is_some()).await;
        assert!(cluster.get(&core("serviceaccounts"), "b", NAME).is_none());
        task.abort();
    }
}
