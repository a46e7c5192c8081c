//! The node authorizer: a kubelet may read what the pods bound to it need, and nothing of others.
//!
//! Upstream keeps a graph from nodes to everything that their pods name. Here each pod's projection carries its own
//! few references, and a request looks at the pods of the one node that asks.

use std::sync::Arc;

use apimachinery::{GroupVersionResource, SmolStr, Value};
use client::{Client, Informer, Key, Scope};
use engine::User;

use crate::request::RequestInfo;

/// What one pod makes its node entitled to.
struct PodRefs {
    node: SmolStr,
    service_account: SmolStr,
    secrets: Vec<SmolStr>,
    config_maps: Vec<SmolStr>,
    claims: Vec<SmolStr>,
    resource_claims: Vec<SmolStr>,
}

/// Names under every object that has `member`, wherever it is: `secretKeyRef.name`, `configMap.name`, ...
fn gather(tree: &Value, member: &str, key: &str, into: &mut Vec<SmolStr>) {
    match tree {
        Value::Map(map) => {
            for (name, value) in map.iter() {
                if name == member
                    && let Some(text) = value.get(key).and_then(Value::as_str)
                    && !into.iter().any(|t| t == text)
                {
                    into.push(text.into());
                }
                gather(value, member, key, into);
            }
        }
        Value::List(items) => items.iter().for_each(|item| gather(item, member, key, into)),
        _ => {}
    }
}

impl PodRefs {
    fn read(pod: &Value) -> Option<PodRefs> {
        let spec = pod.get("spec")?;
        let node = spec.str_at(&["nodeName"]).filter(|n| !n.is_empty())?;
        // A static pod's mirror entitles its node to nothing: the node itself made it.
        if pod.at(&["metadata", "annotations", "kubernetes.io/config.mirror"]).is_some() {
            return None;
        }
        let mut refs = PodRefs {
            node: node.into(),
            service_account: spec.str_at(&["serviceAccountName"]).unwrap_or_default().into(),
            secrets: Vec::new(),
            config_maps: Vec::new(),
            claims: Vec::new(),
            resource_claims: Vec::new(),
        };
        for member in ["secretKeyRef", "secretRef", "nodePublishSecretRef"] {
            gather(spec, member, "name", &mut refs.secrets);
        }
        gather(spec, "secret", "secretName", &mut refs.secrets);
        gather(spec, "secret", "name", &mut refs.secrets);
        for item in spec.get("imagePullSecrets").and_then(Value::as_list).unwrap_or_default() {
            refs.secrets.extend(item.str_at(&["name"]).map(SmolStr::new));
        }
        for member in ["configMapKeyRef", "configMapRef", "configMap"] {
            gather(spec, member, "name", &mut refs.config_maps);
        }
        gather(spec, "persistentVolumeClaim", "claimName", &mut refs.claims);
        let pod_name = pod.str_at(&["metadata", "name"]).unwrap_or_default();
        for volume in spec.get("volumes").and_then(Value::as_list).unwrap_or_default() {
            if volume.get("ephemeral").is_some()
                && let Some(name) = volume.str_at(&["name"])
            {
                refs.claims.push(format!("{pod_name}-{name}").into());
            }
        }
        for status in pod.at(&["status", "resourceClaimStatuses"]).and_then(Value::as_list).unwrap_or_default() {
            refs.resource_claims.extend(status.str_at(&["resourceClaimName"]).map(SmolStr::new));
        }
        for claim in spec.get("resourceClaims").and_then(Value::as_list).unwrap_or_default() {
            refs.resource_claims.extend(claim.str_at(&["resourceClaimName"]).map(SmolStr::new));
        }
        Some(refs)
    }
}

/// Whether only objects of that node are asked for.
fn only_of(info: &RequestInfo, node: &str) -> bool {
    let of = |selector: &str| selector.split(',').any(|term| term.strip_prefix("spec.nodeName=") == Some(node));
    info.param("fieldSelector").is_some_and(of)
}

/// The live view.
pub struct Node {
    pods: Informer<PodRefs>,
    /// Volume names of claims.
    claims: Informer<SmolStr>,
    /// Nodes of volume attachments.
    attachments: Informer<SmolStr>,
}

impl Node {
    pub fn start(client: &Client) -> Node {
        let core = |name| GroupVersionResource::new("", "v1", name);
        let text = |path: &'static [&'static str]| move |tree: &Value| tree.str_at(path).map(SmolStr::new);
        Node {
            pods: Informer::start(client, core("pods"), Scope::default(), PodRefs::read),
            claims: Informer::start(
                client,
                core("persistentvolumeclaims"),
                Scope::default(),
                text(&["spec", "volumeName"]),
            ),
            attachments: Informer::start(
                client,
                GroupVersionResource::new("storage.k8s.io", "v1", "volumeattachments"),
                Scope::default(),
                text(&["spec", "nodeName"]),
            ),
        }
    }

    pub async fn synced(&self) {
        self.pods.synced().await;
        self.claims.synced().await;
        self.attachments.synced().await;
    }

    fn pods_of(&self, node: &str, namespace: &str, pick: impl Fn(&PodRefs) -> bool) -> Vec<(Key, Arc<PodRefs>)> {
        self.pods
            .filter(|key, pod| pod.node == node && (namespace.is_empty() || key.namespace == namespace) && pick(pod))
    }

    /// Whether a node may do this because of its pods. What every node may do is RBAC's `system:node`.
    pub fn allows(&self, user: &User, info: &RequestInfo) -> bool {
        let Some(node) = user.name.strip_prefix("system:node:") else { return false };
        if !user.groups.iter().any(|g| g == "system:nodes") || !info.is_resource {
            return false;
        }
        let verb = info.verb.as_str();
        let reading = matches!(verb, "get" | "list" | "watch");
        let any = |pick: &dyn Fn(&PodRefs) -> bool| !self.pods_of(node, &info.namespace, pick).is_empty();
        let name = &info.name;
        match (info.group.as_str(), info.resource.as_str(), info.subresource.as_str()) {
            ("", "secrets", "") => reading && !name.is_empty() && any(&|p| p.secrets.contains(name)),
            ("", "configmaps", "") => {
                reading && !name.is_empty() && (name == "kube-root-ca.crt" || any(&|p| p.config_maps.contains(name)))
            }
            ("", "persistentvolumeclaims", "") => verb == "get" && any(&|p| p.claims.contains(name)),
            ("", "persistentvolumeclaims", "status") => {
                matches!(verb, "get" | "update" | "patch") && any(&|p| p.claims.contains(name))
            }
            ("", "persistentvolumes", "") => {
                verb == "get"
                    && self.pods_of(node, "", |p| !p.claims.is_empty()).iter().any(|(key, pod)| {
                        pod.claims
                            .iter()
                            .any(|claim| self.claims.get(&key.namespace, claim).is_some_and(|volume| *volume == *name))
                    })
            }
            ("", "serviceaccounts", "token") => verb == "create" && any(&|p| p.service_account == *name),
            ("", "serviceaccounts", "") => verb == "get" && any(&|p| p.service_account == *name),
            ("", "nodes", "") => match verb {
                "create" => true,
                _ => name == node && matches!(verb, "get" | "list" | "watch" | "update" | "patch"),
            },
            ("", "nodes", "status") => name == node && matches!(verb, "get" | "update" | "patch"),
            ("", "pods", "") => match verb {
                "get" => self.pods.get(&info.namespace, name).is_some_and(|p| p.node == node),
                "list" | "watch" => only_of(info, node),
                "create" | "delete" => true,
                _ => false,
            },
            ("", "pods", "status") => {
                matches!(verb, "get" | "update" | "patch")
                    && self.pods.get(&info.namespace, name).is_none_or(|p| p.node == node)
            }
            ("coordination.k8s.io", "leases", "") => {
                info.namespace == "kube-node-lease" && (verb == "create" || name == node)
            }
            ("storage.k8s.io", "csinodes", "") => verb == "create" || name == node,
            ("storage.k8s.io", "volumeattachments", "") => {
                verb == "get" && self.attachments.get("", name).is_some_and(|n| *n == node)
            }
            ("resource.k8s.io", "resourceclaims", "") => verb == "get" && any(&|p| p.resource_claims.contains(name)),
            ("resource.k8s.io", "resourceslices", "") => true,
            // What every node may do, whatever pods it has: upstream's rules of the role `system:node`.
            ("authentication.k8s.io", "tokenreviews", "")
            | ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews", "") => verb == "create",
            ("", "services", "")
            | ("storage.k8s.io", "csidrivers", "")
            | ("node.k8s.io", "runtimeclasses", "")
            | ("certificates.k8s.io", "clustertrustbundles", "") => reading,
            ("" | "events.k8s.io", "events", "") => matches!(verb, "create" | "update" | "patch"),
            ("", "pods", "eviction") => verb == "create",
            ("", "endpoints", "") => verb == "get",
            ("certificates.k8s.io", "certificatesigningrequests", "") => reading || verb == "create",
            // NodeRestriction looks at what is asked for.
            ("certificates.k8s.io", "podcertificaterequests", "") => match verb {
                "create" => true,
                "list" | "watch" => only_of(info, node),
                _ => false,
            },
            _ => false,
        }
    }
}
