//! Informers that several controllers need, each started once, when first asked for.

pub mod job_pod;
pub mod pod_index;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use apimachinery::{GroupVersionResource, SmolStr, Value};
use client::{Client, Informer, Scope};

use job_pod::JobPod;
use pod_index::PodIndex;

/// The shared informers.
pub struct Shared {
    client: Client,
    pods: OnceLock<Informer<PodView>>,
    pod_index: OnceLock<Arc<PodIndex>>,
    nodes: OnceLock<Informer<NodeView>>,
}

/// The owner that manages an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    pub api_version: SmolStr,
    pub kind: SmolStr,
    pub name: SmolStr,
    pub uid: SmolStr,
}

/// What controllers look at in a pod. A controller that acts on more reads the whole object first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodView {
    pub uid: SmolStr,
    pub resource_version: SmolStr,
    pub labels: BTreeMap<SmolStr, SmolStr>,
    /// The owner reference with `controller: true`.
    pub controller: Option<Owner>,
    /// RFC 3339.
    pub created: SmolStr,
    /// Whether it is being deleted.
    pub deleting: bool,
    pub node: SmolStr,
    /// The only node that its node affinity allows by name, as in pods of DaemonSets.
    pub pinned_to: SmolStr,
    pub phase: SmolStr,
    /// The Ready condition.
    pub ready: bool,
    /// When the Ready condition last changed, RFC 3339; empty without the condition.
    pub ready_since: SmolStr,
    /// The sum over the containers.
    pub restarts: i64,
    pub pod_ips: Vec<SmolStr>,
    /// `spec.hostname` and `spec.subdomain`.
    pub hostname: SmolStr,
    pub subdomain: SmolStr,
    /// The named ports of its containers: name, protocol, number.
    pub ports: Vec<(SmolStr, SmolStr, i64)>,
    /// How much a pod resists being chosen when there are too many; lower goes first.
    pub deletion_cost: i32,
    /// What only the job controller looks at; absent in pods that are no business of its.
    pub job: Option<Box<JobPod>>,
}

/// What controllers look at in a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeView {
    pub uid: SmolStr,
    pub labels: BTreeMap<SmolStr, SmolStr>,
    pub unschedulable: bool,
    /// Key, value and effect.
    pub taints: Vec<(SmolStr, SmolStr, SmolStr)>,
    pub pod_cidrs: Vec<SmolStr>,
    /// The status of the Ready condition: `True`, `False`, `Unknown`, or empty without one.
    pub ready: SmolStr,
}

impl Shared {
    pub(crate) fn new(client: Client) -> Shared {
        Shared { client, pods: OnceLock::new(), pod_index: OnceLock::new(), nodes: OnceLock::new() }
    }

    /// The client of the shared informers.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// All pods.
    pub fn pods(&self) -> &Informer<PodView> {
        self.pods.get_or_init(|| {
            let pods = GroupVersionResource::new("", "v1", "pods");
            Informer::start(&self.client, pods, Scope::default(), |tree| Some(PodView::read(tree)))
        })
    }

    /// Finds pods by their controlling owner.
    pub fn pod_index(&self) -> &Arc<PodIndex> {
        self.pod_index.get_or_init(|| Arc::new(PodIndex::new(self.pods())))
    }

    /// All nodes.
    pub fn nodes(&self) -> &Informer<NodeView> {
        self.nodes.get_or_init(|| {
            let nodes = GroupVersionResource::new("", "v1", "nodes");
            Informer::start(&self.client, nodes, Scope::default(), |tree| Some(NodeView::read(tree)))
        })
    }
}

impl Owner {
    /// The owner reference with `controller: true`.
    pub fn controller_of(tree: &Value) -> Option<Owner> {
        let owners = tree.at(&["metadata", "ownerReferences"])?.as_list()?;
        let owner = owners.iter().find(|o| o.get("controller").and_then(Value::as_bool) == Some(true))?;
        let part = |key: &str| owner.str_at(&[key]).unwrap_or_default().into();
        Some(Owner { api_version: part("apiVersion"), kind: part("kind"), name: part("name"), uid: part("uid") })
    }
}

fn text(tree: &Value, path: &[&str]) -> SmolStr {
    tree.str_at(path).unwrap_or_default().into()
}

pub(crate) fn labels(tree: &Value) -> BTreeMap<SmolStr, SmolStr> {
    let map = tree.at(&["metadata", "labels"]).and_then(Value::as_map);
    map.into_iter().flat_map(|m| m.iter()).map(|(k, v)| (k.clone(), v.as_str().unwrap_or_default().into())).collect()
}

fn list<'a>(tree: &'a Value, path: &[&str]) -> &'a [Value] {
    tree.at(path).and_then(Value::as_list).unwrap_or_default()
}

/// The named ports of a pod's containers and sidecars.
fn named_ports(tree: &Value) -> Vec<(SmolStr, SmolStr, i64)> {
    let sidecars =
        list(tree, &["spec", "initContainers"]).iter().filter(|c| c.str_at(&["restartPolicy"]) == Some("Always"));
    let containers = list(tree, &["spec", "containers"]).iter().chain(sidecars);
    let ports =
        containers.flat_map(|c| list(c, &["ports"])).filter(|p| p.str_at(&["name"]).is_some_and(|n| !n.is_empty()));
    ports
        .map(|p| {
            let number = p.get("containerPort").and_then(Value::as_i64).unwrap_or_default();
            (text(p, &["name"]), text(p, &["protocol"]), number)
        })
        .collect()
}

impl PodView {
    fn read(tree: &Value) -> PodView {
        let ready = list(tree, &["status", "conditions"]).iter().find(|c| c.str_at(&["type"]) == Some("Ready"));
        PodView {
            uid: text(tree, &["metadata", "uid"]),
            resource_version: text(tree, &["metadata", "resourceVersion"]),
            labels: labels(tree),
            controller: Owner::controller_of(tree),
            created: text(tree, &["metadata", "creationTimestamp"]),
            deleting: tree.at(&["metadata", "deletionTimestamp"]).is_some(),
            node: text(tree, &["spec", "nodeName"]),
            pinned_to: pinned_to(tree).unwrap_or_default(),
            phase: text(tree, &["status", "phase"]),
            ready: ready.and_then(|c| c.str_at(&["status"])) == Some("True"),
            ready_since: ready.and_then(|c| c.str_at(&["lastTransitionTime"])).unwrap_or_default().into(),
            restarts: list(tree, &["status", "containerStatuses"])
                .iter()
                .filter_map(|c| c.get("restartCount").and_then(Value::as_i64))
                .sum(),
            hostname: text(tree, &["spec", "hostname"]),
            subdomain: text(tree, &["spec", "subdomain"]),
            ports: named_ports(tree),
            pod_ips: list(tree, &["status", "podIPs"]).iter().map(|ip| text(ip, &["ip"])).collect(),
            deletion_cost: tree
                .str_at(&["metadata", "annotations", "controller.kubernetes.io/pod-deletion-cost"])
                .and_then(|cost| cost.parse().ok())
                .unwrap_or_default(),
            job: JobPod::read(tree),
        }
    }
}

fn pinned_to(tree: &Value) -> Option<SmolStr> {
    let path = ["spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"];
    let fields = list(tree.at(&path)?, &["nodeSelectorTerms"]).iter().flat_map(|term| list(term, &["matchFields"]));
    let mut names = fields
        .filter(|f| f.str_at(&["key"]) == Some("metadata.name") && f.str_at(&["operator"]) == Some("In"))
        .map(|f| list(f, &["values"]));
    match names.next()? {
        [name] => name.as_str().map(SmolStr::from),
        _ => None,
    }
}

impl NodeView {
    fn read(tree: &Value) -> NodeView {
        let ready = list(tree, &["status", "conditions"]).iter().find(|c| c.str_at(&["type"]) == Some("Ready"));
        let taint = |t: &Value| (text(t, &["key"]), text(t, &["value"]), text(t, &["effect"]));
        NodeView {
            uid: text(tree, &["metadata", "uid"]),
            labels: labels(tree),
            unschedulable: tree.at(&["spec", "unschedulable"]).and_then(Value::as_bool) == Some(true),
            taints: list(tree, &["spec", "taints"]).iter().map(taint).collect(),
            pod_cidrs: list(tree, &["spec", "podCIDRs"]).iter().filter_map(Value::as_str).map(Into::into).collect(),
            ready: ready.map(|c| text(c, &["status"])).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_read() {
        let json = r#"{"metadata":{"uid":"u","labels":{"a":"b"},"deletionTimestamp":"2026-01-01T00:00:00Z",
            "ownerReferences":[{"kind":"X","name":"x","uid":"1"},{"kind":"Y","name":"y","uid":"2","controller":true}]},
            "spec":{"nodeName":"n"},"status":{"phase":"Running","podIPs":[{"ip":"10.0.0.1"}],
            "conditions":[{"type":"Ready","status":"True","lastTransitionTime":"t"}],
            "containerStatuses":[{"restartCount":2},{"restartCount":3}]}}"#;
        let pod = PodView::read(&apimachinery::codec::json::parse(json.as_bytes()).unwrap());
        assert_eq!((pod.restarts, pod.ready, pod.deleting), (5, true, true));
        assert_eq!(pod.controller.unwrap().name, "y");
        assert_eq!(pod.pod_ips, ["10.0.0.1"]);
    }
}
