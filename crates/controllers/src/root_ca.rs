//! Publishes the certificates that pods trust as the ConfigMap `kube-root-ca.crt` of every namespace.

use std::collections::BTreeMap;

use api::core::configmap::ConfigMap;
use apimachinery::{Api, GroupVersionResource, ObjectMeta, SmolStr, Status};
use client::{Informer, Outcome, Queue, Scope, run_workers};

use crate::Context;

const NAME: &str = "kube-root-ca.crt";
const KEY: &str = "ca.crt";
/// Tells people where the contents come from (upstream's annotation and words are matched by clients).
const DESCRIPTION: &str = "kubernetes.io/description";

/// Runs the controller.
pub async fn run(cx: Context) {
    let core = |resource| GroupVersionResource::new("", "v1", resource);
    let namespaces = Informer::start(&cx.watcher, core("namespaces"), Scope::default(), |tree| {
        (tree.str_at(&["status", "phase"]) != Some("Terminating")).then_some(())
    });
    let ours = Scope { field_selector: format!("metadata.name={NAME}"), ..Scope::default() };
    let maps = Informer::start(&cx.watcher, core("configmaps"), ours, |tree| {
        ConfigMap::from_value(tree).ok().filter(|map| map.metadata.name == NAME)
    });
    namespaces.synced().await;
    maps.synced().await;
    let queue: Queue<SmolStr> = Queue::new();
    let to = queue.clone();
    namespaces.on_change(move |change| to.add(change.key.name.clone()));
    let to = queue.clone();
    maps.on_change(move |change| to.add(change.key.namespace.clone()));
    run_workers("root-ca-cert-publisher", queue, 1, move |namespace| {
        let (cx, namespaces, maps) = (cx.clone(), namespaces.clone(), maps.clone());
        async move {
            if namespaces.get("", &namespace).is_none() {
                return Ok(Outcome::Done);
            }
            publish(&cx, &namespace, maps.get(&namespace, NAME).as_deref()).await.map(|()| Outcome::Done)
        }
    })
    .await;
}

async fn publish(cx: &Context, namespace: &str, known: Option<&ConfigMap>) -> Result<(), Status> {
    let data = BTreeMap::from([(KEY.to_string(), cx.config.root_ca.clone())]);
    let described = || {
        let text = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints \
                    such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across \
                    distributions of Kubernetes clusters.";
        BTreeMap::from([(DESCRIPTION.to_string(), text.to_string())])
    };
    match known {
        Some(map) if map.data == data => Ok(()),
        Some(map) => cx.client.update(&ConfigMap { data, ..map.clone() }).await.map(drop),
        None => {
            let metadata = ObjectMeta {
                name: NAME.into(),
                namespace: namespace.into(),
                annotations: described(),
                ..ObjectMeta::default()
            };
            let created = cx.client.create(&ConfigMap { metadata, data, ..ConfigMap::default() }).await;
            match created {
                // A namespace that is ending takes no more objects.
                Err(status) if status.is_already_exists() || crate::ends(&status) => Ok(()),
                other => other.map(drop),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::{context, eventually};

    #[tokio::test]
    async fn every_namespace_gets_the_certificates() {
        let cluster = testkit::FakeBackend::new();
        let core = |resource| GroupVersionResource::new("", "v1", resource);
        cluster.put(&core("namespaces"), r#"{"metadata":{"name":"a"},"status":{"phase":"Active"}}"#);
        cluster.put(
            &core("configmaps"),
            r#"{"metadata":{"name":"kube-root-ca.crt","namespace":"a"},"data":{"ca.crt":"x"}}"#,
        );
        let task = tokio::spawn(run(context(&cluster)));
        let published = || {
            let map = cluster.get(&core("configmaps"), "a", NAME);
            map.is_some_and(|map| map.str_at(&["data", KEY]) == Some(""))
        };
        eventually(published).await;
        task.abort();
    }
}
