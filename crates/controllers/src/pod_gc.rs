//! Deletes pods that nobody else will: of nodes that are gone, never bound and already ending, or too many that ended.

use std::time::Duration;

use api::core::pod::Pod;
use apimachinery::{Api, Map, SmolStr, Status, Value};
use client::{Client, Key, Outcome, PatchKind, Queue, run_workers};

use crate::{Context, PodView};

/// Ended pods that are kept (upstream's default).
const KEPT: usize = 12_500;
/// A node that has gone may come back: its pods wait so long (upstream's quarantine).
const QUARANTINE: Duration = Duration::from_secs(40);

/// Why a pod is to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    NodeGone,
    NeverBound,
}

fn why(pod: &PodView, node_exists: bool) -> Option<Why> {
    if pod.node.is_empty() {
        return pod.deleting.then_some(Why::NeverBound);
    }
    (!node_exists).then_some(Why::NodeGone)
}

/// Runs the controller.
pub async fn run(cx: Context) {
    let (pods, nodes) = (cx.shared.pods().clone(), cx.shared.nodes().clone());
    pods.synced().await;
    nodes.synced().await;
    let queue: Queue<Key> = Queue::new();
    let (to, known) = (queue.clone(), nodes.clone());
    pods.on_change(move |change| {
        let Some(pod) = change.new else { return };
        match why(pod, known.get("", &pod.node).is_some()) {
            Some(Why::NeverBound) => to.add(change.key.clone()),
            Some(Why::NodeGone) => to.add_after(change.key.clone(), QUARANTINE),
            None => {}
        }
    });
    let (to, all) = (queue.clone(), pods.clone());
    nodes.on_change(move |change| {
        if change.new.is_none() {
            let left = all.filter(|_, pod| pod.node == change.key.name);
            left.into_iter().for_each(|(key, _)| to.add_after(key, QUARANTINE));
        }
    });
    let ended = tokio::sync::Notify::new();
    let ended = std::sync::Arc::new(ended);
    let wake = ended.clone();
    let over = |pod: &PodView| matches!(pod.phase.as_str(), "Succeeded" | "Failed");
    pods.on_change(move |change| {
        if change.new.is_some_and(|pod| over(pod)) && !change.old.is_some_and(|pod| over(pod)) {
            wake.notify_one();
        }
    });
    let (client, all) = (cx.client.clone(), pods.clone());
    let too_many = async move {
        loop {
            ended.notified().await;
            let mut done = all.filter(|_, pod| over(pod));
            if done.len() <= KEPT {
                continue;
            }
            done.sort_by(|a, b| a.1.created.cmp(&b.1.created));
            for (key, pod) in done.iter().take(done.len() - KEPT) {
                if let Err(status) = delete(&client, key, &pod.uid).await {
                    tracing::warn!(pod = %key, %status, "an ended pod could not be deleted");
                }
            }
        }
    };
    let one_by_one = run_workers("pod-garbage-collector", queue, 2, move |key| {
        let (client, pods, nodes) = (cx.client.clone(), pods.clone(), nodes.clone());
        async move {
            let Some(pod) = pods.by_key(&key) else { return Ok(Outcome::Done) };
            let Some(why) = why(&pod, nodes.get("", &pod.node).is_some()) else { return Ok(Outcome::Done) };
            if why == Why::NodeGone && !over(&pod) {
                fail(&client, &key).await?;
            }
            delete(&client, &key, &pod.uid).await.map(|()| Outcome::Done)
        }
    });
    tokio::join!(one_by_one, too_many);
}

/// A pod of a node that is gone has failed, and says why.
async fn fail(client: &Client, key: &Key) -> Result<(), Status> {
    let mut condition = Map::new();
    condition.insert("type", "DisruptionTarget");
    condition.insert("status", "True");
    condition.insert("reason", "DeletionByPodGC");
    condition.insert("message", "PodGC: node no longer exists");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    condition.insert("lastTransitionTime", apimachinery::Time(now.as_secs() as i64).to_value());
    let mut status = Map::new();
    status.insert("phase", "Failed");
    status.insert("conditions", vec![Value::Map(condition)]);
    let mut patch = Map::new();
    patch.insert("status", status);
    let patched =
        client.patch::<Pod>(&key.namespace, &key.name, "status", PatchKind::Strategic, Value::Map(patch)).await;
    match patched {
        Err(status) if !status.is_not_found() => Err(status),
        _ => Ok(()),
    }
}

async fn delete(client: &Client, key: &Key, uid: &SmolStr) -> Result<(), Status> {
    let mut options = match Client::only_uid(uid) {
        Value::Map(map) => map,
        _ => Map::new(),
    };
    options.insert("gracePeriodSeconds", 0i64);
    match client.delete_with::<Pod>(&key.namespace, &key.name, Value::Map(options)).await {
        Err(status) if status.is_not_found() || status.is_conflict() => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_to_go() {
        let pod = |node: &str, deleting| PodView { node: node.into(), deleting, ..PodView::default() };
        assert_eq!(why(&pod("", false), false), None);
        assert_eq!(why(&pod("", true), false), Some(Why::NeverBound));
        assert_eq!(why(&pod("n", true), true), None);
        assert_eq!(why(&pod("n", false), false), Some(Why::NodeGone));
    }
}
