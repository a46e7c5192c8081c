//! NodeRestriction: a node writes about itself and its own pods, and about nothing else.

use std::collections::BTreeSet;

use apimachinery::{Map, Status, Value};
use engine::{Attributes, Operation};

use super::{Plugin, Step, World, forbidden, pod};
use crate::authz::Decision;
use crate::request::RequestInfo;
use crate::tree::{flag, list, map_mut, text};

pub(crate) const PLUGIN: Plugin = Plugin {
    name: "NodeRestriction",
    handles: |a| node_name(a).is_some(),
    mutate: Step::Later(|world, a| Box::pin(admit(world, a))),
    validate: Step::Nothing,
};

const GROUP: &str = "system:nodes";
const PREFIX: &str = "system:node:";
const LEASES: &str = "kube-node-lease";

/// Labels below kubernetes.io and k8s.io that a node may set on itself; a part that ends in `/` is a whole namespace.
const OWN_LABELS: [&str; 17] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "node.kubernetes.io/windows-build",
    "kubelet.kubernetes.io/",
    ".kubelet.kubernetes.io/",
    "node.kubernetes.io/",
    ".node.kubernetes.io/",
];

/// The name of the node that asks; `Some("")` when it is a node that cannot be told.
fn node_name<'a>(a: &'a Attributes<'_>) -> Option<&'a str> {
    let user = &a.cx.user;
    if !user.groups.iter().any(|g| g == GROUP) {
        return None;
    }
    Some(user.name.strip_prefix(PREFIX).unwrap_or_default())
}

async fn admit(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    let node = node_name(a).unwrap_or_default().to_string();
    if node.is_empty() {
        return Err(forbidden(a, format!("could not determine node from user {:?}", a.cx.user.name)));
    }
    let verdict = match (a.kind.group.as_ref(), a.kind.resource.as_ref(), a.subresource) {
        ("", "pods", "") if a.operation == Operation::Create => match check_mirror(&node, a.object) {
            Ok(uid) => return check_owner(world, a, &node, &uid).await,
            Err(why) => Err(why),
        },
        ("", "pods", "") => check_pod(&node, a),
        ("", "pods", "status") => check_pod_status(&node, a),
        ("", "pods", "eviction") => check_bound(&node, a, "evict pods"),
        ("", "pods", other) => {
            Err(format!("unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"))
        }
        ("", "nodes", _) => check_node(&node, a),
        ("", "persistentvolumeclaims", "status") => check_claim_status(&node, a),
        ("", "persistentvolumeclaims", _) => Err("may only update PVC status".into()),
        ("coordination.k8s.io", "leases", _) => check_lease(&node, a),
        ("storage.k8s.io", "csinodes", _) if name_of(a) != node => {
            Err(format!("can only access CSINode with the same name as the requesting node: {:?}", a.cx.user.name))
        }
        ("resource.k8s.io", "resourceslices", _) => check_slice(&node, a),
        ("certificates.k8s.io", "podcertificaterequests", _) => return check_certificate(world, a, &node).await,
        _ => Ok(()),
    };
    verdict.map_err(|why| forbidden(a, why))
}

fn name_of<'a>(a: &'a Attributes<'_>) -> &'a str {
    if a.name.is_empty() { text(a.object, &["metadata", "name"]) } else { a.name }
}

fn bound_to(pod: &Value, node: &str) -> bool {
    text(pod, &["spec", "nodeName"]) == node
}

fn check_bound(node: &str, a: &Attributes<'_>, what: &str) -> Result<(), String> {
    if a.old.is_some_and(|old| bound_to(old, node)) {
        return Ok(());
    }
    Err(format!("node {node:?} can only {what} with spec.nodeName set to itself"))
}

/// A pod that a node may create: a mirror of one that it made itself. Answers with the uid that it gives the node.
fn check_mirror(node: &str, object: &Value) -> Result<String, String> {
    let mirror = pod::MIRROR;
    if !pod::is_mirror(object) {
        return Err(format!("pod does not have {mirror:?} annotation, node {node:?} can only create mirror pods"));
    }
    if !bound_to(object, node) {
        return Err(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    let owner = match list(object, &["metadata", "ownerReferences"]) {
        [one] => one,
        [] => return Err(format!("node {node:?} can only create pods with an owner reference set to itself")),
        _ => return Err(format!("node {node:?} can only create pods with a single owner reference set to itself")),
    };
    let is_node = text(owner, &["apiVersion"]) == "v1" && text(owner, &["kind"]) == "Node";
    if !is_node || text(owner, &["name"]) != node {
        return Err(format!("node {node:?} can only create pods with an owner reference set to itself"));
    }
    if !flag(owner, &["controller"]) {
        return Err(format!("node {node:?} can only create pods with a controller owner reference set to itself"));
    }
    if flag(owner, &["blockOwnerDeletion"]) {
        return Err(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
    }
    let refuse = |what: &str| Err(format!("node {node:?} can not create pods that reference {what}"));
    if !text(object, &["spec", "serviceAccountName"]).is_empty() {
        return refuse("serviceaccounts");
    }
    if !pod::secrets(object).is_empty() {
        return refuse("secrets");
    }
    if !pod::config_maps(object).is_empty() {
        return refuse("configmaps");
    }
    let volumes = list(object, &["spec", "volumes"]);
    if volumes.iter().any(|v| v.get("persistentVolumeClaim").is_some() || v.get("ephemeral").is_some()) {
        return refuse("persistentvolumeclaims");
    }
    if !list(object, &["spec", "resourceClaims"]).is_empty() {
        return refuse("resourceclaims");
    }
    Ok(text(owner, &["uid"]).into())
}

async fn check_owner(world: &World, a: &Attributes<'_>, node: &str, uid: &str) -> Result<(), Status> {
    let resource = apimachinery::GroupResource { group: "".into(), resource: "nodes".into() };
    let found = world.get("", "nodes", "", node).await?.ok_or_else(|| Status::not_found(&resource, node))?;
    let own = text(&found, &["metadata", "uid"]);
    if own != uid {
        return Err(forbidden(a, format!("node {node} UID mismatch: expected {uid} got {own}")));
    }
    Ok(())
}

fn check_pod(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    match a.operation {
        Operation::Delete => check_bound(node, a, "delete pods"),
        other => Err(format!(
            "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
            other.word()
        )),
    }
}

fn check_pod_status(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    check_bound(node, a, "update pod status for pods")?;
    let changed = |path: &[&str]| a.old.and_then(|old| old.at(path)) != a.object.at(path);
    if changed(&["metadata", "labels"]) {
        return Err(format!("node {node:?} cannot update labels through pod status"));
    }
    for (key, what) in [
        ("resourceClaimStatuses", "resource claim statues"),
        ("extendedResourceClaimStatus", "extended resource claim status"),
        ("nodeAllocatableResourceClaimStatuses", "node allocatable resource claim statuses"),
    ] {
        if changed(&["status", key]) {
            return Err(format!("node {node:?} cannot update {what}"));
        }
    }
    Ok(())
}

fn check_node(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    let name = name_of(a);
    if name != node {
        return Err(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let empty = Map::new();
    let labels = |tree: Option<&Value>| {
        tree.and_then(|t| t.at(&["metadata", "labels"]))
            .and_then(Value::as_map)
            .cloned()
            .unwrap_or_else(|| empty.clone())
    };
    if a.operation == Operation::Delete {
        return Ok(());
    }
    let forbidden = forbidden_labels(&labels(Some(a.object)), &labels(a.old)).join(", ");
    if a.operation == Operation::Create {
        if a.object.at(&["spec", "configSource"]).is_some_and(|c| !c.is_null()) {
            return Err(format!("node {node:?} is not allowed to create pods with a non-nil configSource"));
        }
        if !forbidden.is_empty() {
            return Err(format!("node {node:?} is not allowed to set the following labels: {forbidden}"));
        }
        return Ok(());
    }
    let changed = |path: &[&str]| a.old.and_then(|old| old.at(path)) != a.object.at(path);
    if changed(&["spec", "taints"]) {
        return Err(format!("node {node:?} is not allowed to modify taints"));
    }
    if changed(&["metadata", "ownerReferences"]) {
        return Err(format!("node {node:?} is not allowed to modify ownerReferences"));
    }
    if !forbidden.is_empty() {
        return Err(format!("is not allowed to modify labels: {forbidden}"));
    }
    Ok(())
}

/// The labels that differ and that a node may not touch.
fn forbidden_labels(new: &Map, old: &Map) -> Vec<String> {
    let keys: BTreeSet<&str> = new.keys().chain(old.keys()).map(|k| k.as_str()).collect();
    keys.into_iter().filter(|k| new.get(k) != old.get(k) && !is_own_label(k)).map(str::to_string).collect()
}

fn is_own_label(key: &str) -> bool {
    let namespace = key.split_once('/').map_or("", |(namespace, _)| namespace);
    let below = |domain: &str| namespace == domain || namespace.ends_with(&format!(".{domain}"));
    if below("node-restriction.kubernetes.io") {
        return false;
    }
    if !below("kubernetes.io") && !below("k8s.io") {
        return true;
    }
    OWN_LABELS.iter().any(|own| match own.strip_suffix('/') {
        Some(suffix) if suffix.starts_with('.') => namespace.ends_with(suffix),
        Some(whole) => namespace == whole,
        None => key == *own,
    })
}

fn check_claim_status(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    let strip = |tree: &Value| {
        let mut tree = tree.clone();
        for key in ["resourceVersion", "managedFields"] {
            map_mut(&mut tree, &["metadata"]).remove(key);
        }
        for key in ["capacity", "conditions", "allocatedResourceStatuses", "allocatedResources"] {
            map_mut(&mut tree, &["status"]).remove(key);
        }
        tree
    };
    if a.old.is_some_and(|old| strip(old) == strip(a.object)) {
        return Ok(());
    }
    Err(format!("node {node:?} is not allowed to update fields other than status.quantity and status.conditions"))
}

fn check_lease(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    if a.namespace != LEASES {
        return Err(format!("can only access leases in the {LEASES:?} system namespace"));
    }
    if name_of(a) != node {
        return Err("can only access node lease with the same name as the requesting node".into());
    }
    Ok(())
}

fn check_slice(node: &str, a: &Attributes<'_>) -> Result<(), String> {
    let object = if a.operation == Operation::Create { Some(&*a.object) } else { a.old };
    if object.is_some_and(|o| text(o, &["spec", "nodeName"]) == node) {
        return Ok(());
    }
    let verb = a.operation.word().to_ascii_lowercase();
    Err(format!("can only {verb} ResourceSlice with the same NodeName as the requesting node"))
}

/// A node asks for certificates of pods that it runs, under the identities that they have, and for nothing else.
async fn check_certificate(world: &World, a: &Attributes<'_>, node: &str) -> Result<(), Status> {
    if a.operation != Operation::Create || !a.subresource.is_empty() {
        return Err(forbidden(a, format!("unexpected operation {}", a.operation.word())));
    }
    let asked = |key: &str| text(a.object, &["spec", key]);
    if asked("nodeName") != node {
        let why = format!(
            "PodCertificateRequest.Spec.NodeName={:?}, which is not the requesting node {node:?}",
            asked("nodeName")
        );
        return Err(forbidden(a, why));
    }
    let place = format!("{}/{}", a.namespace, asked("podName"));
    let about = format!("PodCertificateRequest for pod {place:?}");
    let differs = |what: &str, key: &str, found: &Value| {
        let uid = text(found, &["metadata", "uid"]);
        (asked(key) != uid).then(|| forbidden(a, format!("{about} names {what} UID {:?}, not {uid:?}", asked(key))))
    };
    let own = find(world, "nodes", "", node).await?;
    let pod = find(world, "pods", a.namespace, asked("podName")).await?;
    if let Some(refusal) = differs("node", "nodeUID", &own).or_else(|| differs("pod", "podUID", &pod)) {
        return Err(refusal);
    }
    if !bound_to(&pod, node) {
        return Err(forbidden(a, format!("pod {place:?} is not running on node {node:?}")));
    }
    if pod::is_mirror(&pod) {
        return Err(forbidden(a, format!("pod {place:?} is a mirror pod")));
    }
    let account = text(&pod, &["spec", "serviceAccountName"]);
    if asked("serviceAccountName") != account {
        let why = format!("{about} contains serviceAccountName ({:?}), not {account:?}", asked("serviceAccountName"));
        return Err(forbidden(a, why));
    }
    let found = find(world, "serviceaccounts", a.namespace, account).await?;
    if let Some(refusal) = differs("service account", "serviceAccountUID", &found) {
        return Err(refusal);
    }
    let signer = asked("signerName");
    if mounts_certificate(&pod, signer) {
        return Ok(());
    }
    // Without such a volume a node needs to be allowed to, by a rule about the signer for the account's name.
    let info = RequestInfo {
        verb: "request-serviceaccounts-podcertificate-signer".into(),
        is_resource: true,
        group: a.kind.group.as_ref().into(),
        version: a.kind.version.as_ref().into(),
        resource: signer.replace('/', ":").into(),
        namespace: a.namespace.into(),
        name: account.into(),
        ..RequestInfo::default()
    };
    if world.authorizer.authorize(&a.cx.user, &info).await == Decision::Allow {
        return Ok(());
    }
    let why = format!("pod {place:?} does not mount a podCertificate projected volume for signer {signer:?}");
    Err(forbidden(a, why))
}

async fn find(world: &World, resource: &str, namespace: &str, name: &str) -> Result<Value, Status> {
    let missing = apimachinery::GroupResource { group: "".into(), resource: resource.into() };
    world.get("", resource, namespace, name).await?.ok_or_else(|| Status::not_found(&missing, name))
}

fn mounts_certificate(pod: &Value, signer: &str) -> bool {
    let sources = list(pod, &["spec", "volumes"]).iter().flat_map(|volume| list(volume, &["projected", "sources"]));
    sources.into_iter().any(|source| text(source, &["podCertificate", "signerName"]) == signer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::tree::tree;
    use serde_json::json;

    #[test]
    fn labels_of_a_node() {
        let cases = [
            ("kubernetes.io/hostname", true),
            ("node.kubernetes.io/anything", true),
            ("a.kubelet.kubernetes.io/x", true),
            ("example.com/x", true),
            ("plain", true),
            ("node-role.kubernetes.io/control-plane", false),
            ("example.node-restriction.kubernetes.io/x", false),
            ("a.k8s.io/x", false),
        ];
        for (key, wanted) in cases {
            assert_eq!(is_own_label(key), wanted, "{key}");
        }
    }

    #[test]
    fn only_mirrors_of_its_own() {
        let good = json!({
            "metadata": {
                "annotations": {pod::MIRROR: "x"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u", "controller": true}],
            },
            "spec": {"nodeName": "n", "containers": []},
        });
        assert_eq!(check_mirror("n", &tree(good.clone())), Ok("u".into()));
        assert!(check_mirror("m", &tree(good.clone())).unwrap_err().contains("spec.nodeName set to itself"));
        let mut secret = good.clone();
        secret["spec"]["volumes"] = json!([{"secret": {"secretName": "s"}}]);
        assert!(check_mirror("n", &tree(secret)).unwrap_err().contains("reference secrets"));
        let mut plain = good;
        plain["metadata"].as_object_mut().unwrap().remove("annotations");
        assert!(check_mirror("n", &tree(plain)).unwrap_err().contains("can only create mirror pods"));
    }

    #[test]
    fn certificates_are_for_pods_that_mount_them() {
        let pod = tree(json!({"spec": {"volumes": [{"projected": {"sources": [
            {"secret": {}}, {"podCertificate": {"signerName": "a.b/c"}}]}}]}}));
        assert!(mounts_certificate(&pod, "a.b/c"));
        assert!(!mounts_certificate(&pod, "a.b/d"));
        assert!(!mounts_certificate(&tree(json!({"spec": {}})), "a.b/c"));
    }

    #[test]
    fn taints_are_not_a_nodes_to_change() {
        let mut write = Write::new(
            api::core::node::kind(),
            Operation::Update,
            tree(json!({"metadata": {"name": "n"}, "spec": {"taints": []}})),
        );
        write.name = "n";
        write.old = Some(tree(json!({"metadata": {"name": "n"}, "spec": {"taints": [{"key": "k"}]}})));
        assert_eq!(check_node("n", &write.attributes()).unwrap_err(), "node \"n\" is not allowed to modify taints");
        assert!(check_node("m", &write.attributes()).unwrap_err().contains("modify node \"n\""));
    }
}
