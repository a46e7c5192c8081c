//! Watches the nodes' heartbeats, and taints nodes by their conditions.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::core::node::{Node, NodeCondition};
use api::core::nodeselector::Taint;
use api::core::pod::Pod;
use apimachinery::{Api, GroupVersionResource, Map, SmolStr, Status, Time, Value};
use client::events::Subject;
use client::{Informer, Outcome, PatchKind, Queue, Scope, run_workers};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::Context;

/// A node without heartbeat for so long is taken for lost (upstream's default).
const GRACE: Duration = Duration::from_secs(40);
const LEASES: &str = "kube-node-lease";

/// What is kept of a node.
#[derive(Clone, Debug, Default, PartialEq)]
struct NodeState {
    uid: SmolStr,
    revision: SmolStr,
    conditions: Vec<NodeCondition>,
    taints: Vec<Taint>,
    unschedulable: bool,
}

impl NodeState {
    fn read(tree: &Value) -> Option<NodeState> {
        let node = Node::from_value(tree).ok()?;
        Some(NodeState {
            uid: node.metadata.uid.into(),
            revision: node.metadata.resource_version.into(),
            conditions: node.status.conditions,
            taints: node.spec.taints,
            unschedulable: node.spec.unschedulable,
        })
    }

    fn condition(&self, type_: &str) -> &str {
        self.conditions.iter().find(|c| c.type_ == type_).map_or("Unknown", |c| c.status.as_str())
    }
}

/// The taints that follow from conditions; all others are left alone.
const OURS: &[&str] = &[
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
    "node.kubernetes.io/memory-pressure",
    "node.kubernetes.io/disk-pressure",
    "node.kubernetes.io/pid-pressure",
    "node.kubernetes.io/network-unavailable",
    "node.kubernetes.io/unschedulable",
];

/// The taints a node should have, by its conditions and its spec.
fn wanted(node: &NodeState, now: i64) -> Vec<Taint> {
    let mut all: Vec<Taint> = node.taints.iter().filter(|t| !OURS.contains(&t.key.as_str())).cloned().collect();
    let known = |key: &str, effect: &str| node.taints.iter().find(|t| t.key == key && t.effect == effect).cloned();
    let mut add = |key: &str, effect: &str| {
        let fresh =
            || Taint { key: key.into(), effect: effect.into(), time_added: Some(Time(now)), ..Taint::default() };
        all.push(known(key, effect).unwrap_or_else(fresh));
    };
    match node.condition("Ready") {
        "True" => {}
        "False" => {
            add(OURS[0], "NoSchedule");
            add(OURS[0], "NoExecute");
        }
        // A node that has not reported yet is only kept free.
        _ if node.conditions.is_empty() => add(OURS[0], "NoSchedule"),
        _ => {
            add(OURS[1], "NoSchedule");
            add(OURS[1], "NoExecute");
        }
    }
    for (type_, key) in [("MemoryPressure", OURS[2]), ("DiskPressure", OURS[3]), ("PIDPressure", OURS[4])] {
        if node.condition(type_) == "True" {
            add(key, "NoSchedule");
        }
    }
    if node.conditions.iter().any(|c| c.type_ == "NetworkUnavailable" && c.status == "True") {
        add(OURS[5], "NoSchedule");
    }
    if node.unschedulable {
        add(OURS[6], "NoSchedule");
    }
    all
}

fn same(a: &[Taint], b: &[Taint]) -> bool {
    let key = |t: &Taint| (t.key.clone(), t.value.clone(), t.effect.clone());
    let sorted = |list: &[Taint]| {
        let mut keys: Vec<_> = list.iter().map(key).collect();
        keys.sort();
        keys
    };
    sorted(a) == sorted(b)
}

/// When each node gave its last sign of life, by our own clock: those of nodes may differ.
type Signs = Arc<Mutex<HashMap<SmolStr, Instant>>>;

/// Runs the controller.
pub async fn run(cx: Context) {
    let nodes: Informer<NodeState> =
        Informer::start(&cx.watcher, GroupVersionResource::new("", "v1", "nodes"), Scope::default(), NodeState::read);
    let scope = Scope { namespace: LEASES.into(), ..Scope::default() };
    let leases =
        Informer::start(&cx.watcher, GroupVersionResource::new("coordination.k8s.io", "v1", "leases"), scope, |tree| {
            Some(SmolStr::from(tree.str_at(&["spec", "renewTime"]).unwrap_or_default()))
        });
    nodes.synced().await;
    leases.synced().await;
    let signs: Signs = Arc::default();
    let queue: Queue<SmolStr> = Queue::new();
    let (to, seen) = (queue.clone(), signs.clone());
    nodes.on_change(move |change| {
        let name = &change.key.name;
        let old = change.old.map(|n| &n.conditions);
        match change.new {
            // A status that was written is a sign of life as well.
            Some(new) if old != Some(&new.conditions) => drop(seen.lock().insert(name.clone(), Instant::now())),
            Some(_) => {}
            None => drop(seen.lock().remove(name)),
        }
        to.add(name.clone());
    });
    let (to, seen, known) = (queue.clone(), signs.clone(), nodes.clone());
    leases.on_change(move |change| {
        if change.old.map(Arc::as_ref) == change.new.map(Arc::as_ref) {
            return;
        }
        let name = &change.key.name;
        seen.lock().insert(name.clone(), Instant::now());
        // The alarm that is set for the node finds the new sign; only a lost node must be looked at now.
        if known.get("", name).is_some_and(|n| n.condition("Ready") == "Unknown") {
            to.add(name.clone());
        }
    });
    run_workers("node-lifecycle", queue, 1, move |name| {
        let (cx, nodes, signs) = (cx.clone(), nodes.clone(), signs.clone());
        async move { sync(&cx, &nodes, &signs, &name).await }
    })
    .await;
}

async fn sync(cx: &Context, nodes: &Informer<NodeState>, signs: &Signs, name: &SmolStr) -> Result<Outcome, Status> {
    let Some(node) = nodes.get("", name) else { return Ok(Outcome::Done) };
    let age = signs.lock().entry(name.clone()).or_insert_with(Instant::now).elapsed();
    if age >= GRACE && node.condition("Ready") != "Unknown" {
        lose(cx, &node, name).await?;
        // The change of conditions brings the node back here for its taints.
        return Ok(Outcome::Done);
    }
    let taints = wanted(&node, now());
    if !same(&taints, &node.taints) {
        let mut metadata = Map::new();
        metadata.insert("resourceVersion", node.revision.clone());
        let mut spec = Map::new();
        spec.insert("taints", taints.iter().map(Api::to_value).collect::<Vec<_>>());
        let mut patch = Map::new();
        patch.insert("metadata", metadata);
        patch.insert("spec", spec);
        match cx.client.patch::<Node>("", name, "", PatchKind::Merge, Value::Map(patch)).await {
            Err(status) if status.is_not_found() => return Ok(Outcome::Done),
            other => drop(other?),
        }
    }
    Ok(if node.condition("Ready") == "Unknown" { Outcome::Done } else { Outcome::After(GRACE.saturating_sub(age)) })
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Nothing is known of a node any more, and so nothing of its pods.
async fn lose(cx: &Context, node: &NodeState, name: &SmolStr) -> Result<(), Status> {
    let now = now();
    let by_type: BTreeMap<&str, &NodeCondition> = node.conditions.iter().map(|c| (c.type_.as_str(), c)).collect();
    let conditions: Vec<Value> = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"]
        .into_iter()
        .map(|type_| {
            let before = by_type.get(type_);
            NodeCondition {
                type_: type_.into(),
                status: "Unknown".into(),
                last_heartbeat_time: before.map_or(Time(now), |c| c.last_heartbeat_time),
                last_transition_time: Time(now),
                reason: if before.is_some() { "NodeStatusUnknown" } else { "NodeStatusNeverUpdated" }.into(),
                message: if before.is_some() {
                    "Kubelet stopped posting node status."
                } else {
                    "Kubelet never posted node status."
                }
                .into(),
            }
            .to_value()
        })
        .collect();
    let mut status = Map::new();
    status.insert("conditions", conditions);
    let mut patch = Map::new();
    patch.insert("status", status);
    cx.client.patch::<Node>("", name, "status", PatchKind::Strategic, Value::Map(patch)).await?;
    let about = Subject { kind: "Node".into(), name: name.clone(), uid: node.uid.clone(), ..Subject::default() };
    cx.recorder.normal(&about, "NodeNotReady", format!("Node {name} status is now: NodeNotReady"));
    let pods = cx.shared.pods().clone();
    pods.synced().await;
    for (key, _) in pods.filter(|_, pod| pod.node == *name && pod.ready) {
        let mut condition = Map::new();
        condition.insert("type", "Ready");
        condition.insert("status", "False");
        condition.insert("lastTransitionTime", Time(now).to_value());
        let mut status = Map::new();
        status.insert("conditions", vec![Value::Map(condition)]);
        let mut patch = Map::new();
        patch.insert("status", status);
        let patched =
            cx.client.patch::<Pod>(&key.namespace, &key.name, "status", PatchKind::Strategic, Value::Map(patch)).await;
        match patched {
            Err(status) if !status.is_not_found() => return Err(status),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(json: &str) -> NodeState {
        NodeState::read(&apimachinery::codec::json::parse(json.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn taints_follow_conditions() {
        let told = |json: &str| {
            let taints = wanted(&node(json), 9);
            taints.iter().map(|t| format!("{}:{}", t.key.rsplit('/').next().unwrap(), t.effect)).collect::<Vec<_>>()
        };
        assert_eq!(told(r#"{"metadata":{"name":"n"}}"#), ["not-ready:NoSchedule"]);
        let ready = r#"{"spec":{"unschedulable":true,"taints":[{"key":"own","effect":"NoSchedule"},
            {"key":"node.kubernetes.io/not-ready","effect":"NoSchedule"}]},
            "status":{"conditions":[{"type":"Ready","status":"True"},{"type":"DiskPressure","status":"True"}]}}"#;
        assert_eq!(told(ready), ["own:NoSchedule", "disk-pressure:NoSchedule", "unschedulable:NoSchedule"]);
        let lost = r#"{"status":{"conditions":[{"type":"Ready","status":"Unknown"}]}}"#;
        assert_eq!(told(lost), ["unreachable:NoSchedule", "unreachable:NoExecute"]);
    }
}
