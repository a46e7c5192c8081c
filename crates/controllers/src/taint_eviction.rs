//! Deletes pods that do not tolerate a `NoExecute` taint of their node, or not for so long.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use api::core::node::Node;
use api::core::nodeselector::{Taint, Toleration};
use api::core::pod::Pod;
use apimachinery::{Api, GroupVersionResource, Map, SmolStr, Status, Value};
use client::events::Subject;
use client::{Client, Informer, Key, Outcome, PatchKind, Queue, Scope, run_workers};
use parking_lot::Mutex;

use crate::Context;

/// What is kept of a pod.
#[derive(Clone, Debug, PartialEq)]
struct PodTolerations {
    uid: SmolStr,
    node: SmolStr,
    tolerations: Vec<Toleration>,
    deleting: bool,
}

/// The taints of a node that drive pods away.
fn driving(tree: &Value) -> Option<Vec<Taint>> {
    let node = Node::from_value(tree).ok()?;
    Some(node.spec.taints.into_iter().filter(|t| t.effect == "NoExecute").collect())
}

fn read(tree: &Value) -> Option<PodTolerations> {
    let tolerations = tree.at(&["spec", "tolerations"]).and_then(Value::as_list).unwrap_or_default();
    let node = tree.str_at(&["spec", "nodeName"]).filter(|n| !n.is_empty())?;
    Some(PodTolerations {
        uid: tree.str_at(&["metadata", "uid"]).unwrap_or_default().into(),
        node: node.into(),
        tolerations: tolerations.iter().filter_map(|t| Toleration::from_value(t).ok()).collect(),
        deleting: tree.at(&["metadata", "deletionTimestamp"]).is_some(),
    })
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    (toleration.effect.is_empty() || toleration.effect == taint.effect)
        && (toleration.key.is_empty() || toleration.key == taint.key)
        && match toleration.operator.as_str() {
            "Exists" => true,
            "" | "Equal" => !toleration.key.is_empty() && toleration.value == taint.value,
            _ => false,
        }
}

/// When a pod has to go, in seconds since 1970; `None`: it may stay. Taints that do not say when they came count from
/// `seen` on.
fn end(tolerations: &[Toleration], taints: &[Taint], seen: i64, now: i64) -> Option<i64> {
    let mut earliest = None;
    for taint in taints {
        let mut tolerated = false;
        let mut seconds: Option<i64> = None;
        for toleration in tolerations.iter().filter(|t| tolerates(t, taint)) {
            tolerated = true;
            if let Some(limit) = toleration.toleration_seconds {
                seconds = Some(seconds.map_or(limit, |s| s.min(limit)));
            }
        }
        let since = taint.time_added.map_or(seen, |t| t.0);
        let time = match (tolerated, seconds) {
            (false, _) => now,
            (true, Some(seconds)) => since + seconds.max(0),
            (true, None) => continue,
        };
        earliest = Some(earliest.map_or(time, |known: i64| known.min(time)));
    }
    earliest
}

/// Runs the controller.
pub async fn run(cx: Context) {
    let core = |resource| GroupVersionResource::new("", "v1", resource);
    let nodes: Informer<Vec<Taint>> = Informer::start(&cx.watcher, core("nodes"), Scope::default(), driving);
    let pods: Informer<PodTolerations> = Informer::start(&cx.watcher, core("pods"), Scope::default(), read);
    nodes.synced().await;
    pods.synced().await;
    let queue: Queue<Key> = Queue::new();
    let (to, all) = (queue.clone(), pods.clone());
    nodes.on_change(move |change| {
        let (old, new) = (change.old.map(|t| t.as_slice()), change.new.map(|t| t.as_slice()));
        if old.unwrap_or_default() != new.unwrap_or_default() {
            all.filter(|_, pod| pod.node == change.key.name).into_iter().for_each(|(key, _)| to.add(key));
        }
    });
    let (to, all) = (queue.clone(), nodes.clone());
    pods.on_change(move |change| {
        let unchanged = change.old.map(AsRef::as_ref) == change.new.map(AsRef::as_ref);
        let tainted = |pod: &PodTolerations| all.get("", &pod.node).is_some_and(|taints| !taints.is_empty());
        if !unchanged && change.new.is_some_and(|pod| tainted(pod)) {
            to.add(change.key.clone());
        }
    });
    // Since when pods are known to be on nodes with taints.
    let seen: Arc<Mutex<HashMap<SmolStr, i64>>> = Arc::default();
    let (known, gone) = (seen.clone(), pods.clone());
    gone.on_change(move |change| {
        if let (Some(old), None) = (change.old, change.new) {
            known.lock().remove(&old.uid);
        }
    });
    run_workers("taint-eviction", queue, 4, move |key| {
        let (cx, nodes, pods, seen) = (cx.clone(), nodes.clone(), pods.clone(), seen.clone());
        async move {
            let Some(pod) = pods.by_key(&key).filter(|pod| !pod.deleting) else { return Ok(Outcome::Done) };
            let Some(taints) = nodes.get("", &pod.node) else { return Ok(Outcome::Done) };
            let now = now();
            let first = *seen.lock().entry(pod.uid.clone()).or_insert(now);
            match end(&pod.tolerations, &taints, first, now) {
                None => {
                    seen.lock().remove(&pod.uid);
                    Ok(Outcome::Done)
                }
                Some(time) if time > now => Ok(Outcome::After(Duration::from_secs((time - now) as u64))),
                Some(_) => evict(&cx, &key, &pod).await.map(|()| Outcome::Done),
            }
        }
    })
    .await;
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

async fn evict(cx: &Context, key: &Key, pod: &PodTolerations) -> Result<(), Status> {
    let about = Subject {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        uid: pod.uid.clone(),
        ..Subject::default()
    };
    cx.recorder.normal(&about, "TaintManagerEviction", format!("Marking for deletion Pod {key}"));
    // Why it goes is said first, for controllers that count disruptions apart from failures.
    let mut condition = Map::new();
    condition.insert("type", "DisruptionTarget");
    condition.insert("status", "True");
    condition.insert("reason", "DeletionByTaintManager");
    condition.insert("message", "Taint manager: deleting due to NoExecute taint");
    condition.insert("lastTransitionTime", apimachinery::Time(now()).to_value());
    let mut status = Map::new();
    status.insert("conditions", vec![Value::Map(condition)]);
    let mut patch = Map::new();
    patch.insert("status", status);
    let gone = |status: &Status| status.is_not_found() || status.is_conflict();
    let patched =
        cx.client.patch::<Pod>(&key.namespace, &key.name, "status", PatchKind::Strategic, Value::Map(patch)).await;
    match patched {
        Err(status) if !gone(&status) => return Err(status),
        _ => {}
    }
    match cx.client.delete_with::<Pod>(&key.namespace, &key.name, Client::only_uid(&pod.uid)).await {
        Err(status) if !gone(&status) => Err(status),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apimachinery::Time;

    #[test]
    fn tolerations_have_their_time() {
        let taint = |key: &str| Taint {
            key: key.into(),
            effect: "NoExecute".into(),
            time_added: Some(Time(100)),
            ..Taint::default()
        };
        let exists = |key: &str, seconds| Toleration {
            key: key.into(),
            operator: "Exists".into(),
            effect: "NoExecute".into(),
            toleration_seconds: seconds,
            ..Toleration::default()
        };
        assert_eq!(end(&[], &[taint("a")], 150, 150), Some(150));
        assert_eq!(end(&[exists("a", None)], &[taint("a")], 150, 150), None);
        assert_eq!(end(&[exists("a", Some(300))], &[taint("a")], 150, 150), Some(400));
        assert_eq!(end(&[exists("", None)], &[taint("a"), taint("b")], 150, 150), None);
        assert_eq!(end(&[exists("a", None)], &[taint("a"), taint("b")], 150, 150), Some(150));
        assert_eq!(end(&[], &[], 150, 150), None);
        let ageless = Taint { time_added: None, ..taint("a") };
        assert_eq!(end(&[exists("a", Some(300))], &[ageless], 120, 150), Some(420));
    }
}
