//! Node: is a machine that runs pods.

use std::collections::BTreeMap;

use crate::checks::{cidr, name, one_of};
use crate::core::pod::validate_volumes::capacity;
use apimachinery::field::{ErrorKind, FieldError};
use apimachinery::kind::{Action, Verbs};
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{check, dns_subdomain, label_value, qualified_name};
use apimachinery::{Api, Errors, Kind, Path, Quantity, Rules, RulesCx, Time, Value};

use crate::cells::{items, str_of, text, text_or};
use crate::core::nodeselector::Taint;
use crate::served::served;

/// Node: is a machine that runs pods.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.Node")]
pub struct Node {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: NodeSpec,
    #[api(3, omitempty)]
    pub status: NodeStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NodeSpec")]
pub struct NodeSpec {
    #[api(1, json = "podCIDR", omitempty)]
    pub pod_cidr: String,
    #[api(7, json = "podCIDRs", omitempty, list = "set", patch = "merge")]
    pub pod_cidrs: Vec<String>,
    #[api(3, json = "providerID", omitempty)]
    pub provider_id: String,
    #[api(4, omitempty)]
    pub unschedulable: bool,
    #[api(5, omitempty, list = "atomic")]
    pub taints: Vec<Taint>,
    #[api(6, omitempty)]
    pub config_source: Option<NodeConfigSource>,
    #[api(2, json = "externalID", omitempty)]
    pub external_id: String,
    #[api(8, omitempty)]
    pub pod_preemption_policy: Option<NodePodPreemptionPolicy>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NodePodPreemptionPolicy")]
pub struct NodePodPreemptionPolicy {
    #[api(1, omitempty, list = "set")]
    pub disable_resize_preemption: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NodeConfigSource")]
pub struct NodeConfigSource {
    #[api(2, omitempty)]
    pub config_map: Option<ConfigMapNodeConfigSource>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ConfigMapNodeConfigSource")]
pub struct ConfigMapNodeConfigSource {
    #[api(1, required)]
    pub namespace: String,
    #[api(2, required)]
    pub name: String,
    #[api(3, omitempty)]
    pub uid: String,
    #[api(4, omitempty)]
    pub resource_version: String,
    #[api(5, required)]
    pub kubelet_config_key: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.DaemonEndpoint")]
pub struct DaemonEndpoint {
    #[api(1, json = "Port", required)]
    pub port: i32,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NodeDaemonEndpoints")]
pub struct NodeDaemonEndpoints {
    #[api(1, omitempty)]
    pub kubelet_endpoint: DaemonEndpoint,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NodeRuntimeHandlerFeatures")]
pub struct NodeRuntimeHandlerFeatures {
    #[api(1, omitempty)]
    pub recursive_read_only_mounts: Option<bool>,
    #[api(2, omitempty)]
    pub user_namespaces: Option<bool>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NodeRuntimeHandler")]
pub struct NodeRuntimeHandler {
    #[api(1)]
    pub name: String,
    #[api(2, omitempty)]
    pub features: Option<NodeRuntimeHandlerFeatures>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NodeFeatures")]
pub struct NodeFeatures {
    #[api(1, omitempty)]
    pub supplemental_groups_policy: Option<bool>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NodeSystemInfo")]
pub struct NodeSystemInfo {
    #[api(1, json = "machineID", required)]
    pub machine_id: String,
    #[api(2, json = "systemUUID", required)]
    pub system_uuid: String,
    #[api(3, json = "bootID", required)]
    pub boot_id: String,
    #[api(4, required)]
    pub kernel_version: String,
    #[api(5, required)]
    pub os_image: String,
    #[api(6, required)]
    pub container_runtime_version: String,
    #[api(7, required)]
    pub kubelet_version: String,
    #[api(8, required)]
    pub kube_proxy_version: String,
    #[api(9, required)]
    pub operating_system: String,
    #[api(10, required)]
    pub architecture: String,
    #[api(11, omitempty)]
    pub swap: Option<NodeSwapStatus>,
    #[api(12, omitempty)]
    pub running_in_user_namespace: Option<bool>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NodeSwapStatus")]
pub struct NodeSwapStatus {
    #[api(1, omitempty)]
    pub capacity: Option<i64>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NodeConfigStatus")]
pub struct NodeConfigStatus {
    #[api(1, omitempty)]
    pub assigned: Option<NodeConfigSource>,
    #[api(2, omitempty)]
    pub active: Option<NodeConfigSource>,
    #[api(3, omitempty)]
    pub last_known_good: Option<NodeConfigSource>,
    #[api(4, omitempty)]
    pub error: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NodeStatus")]
pub struct NodeStatus {
    #[api(1, omitempty)]
    pub capacity: BTreeMap<String, Quantity>,
    #[api(2, omitempty)]
    pub allocatable: BTreeMap<String, Quantity>,
    #[api(3, omitempty, enumeration("Pending", "Running", "Terminated"))]
    pub phase: String,
    #[api(4, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<NodeCondition>,
    #[api(5, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub addresses: Vec<NodeAddress>,
    #[api(6, omitempty)]
    pub daemon_endpoints: NodeDaemonEndpoints,
    #[api(7, omitempty)]
    pub node_info: NodeSystemInfo,
    #[api(8, omitempty, list = "atomic")]
    pub images: Vec<ContainerImage>,
    #[api(9, omitempty, list = "atomic")]
    pub volumes_in_use: Vec<String>,
    #[api(10, omitempty, list = "atomic")]
    pub volumes_attached: Vec<AttachedVolume>,
    #[api(11, omitempty)]
    pub config: Option<NodeConfigStatus>,
    #[api(12, omitempty, list = "atomic")]
    pub runtime_handlers: Vec<NodeRuntimeHandler>,
    #[api(13, omitempty)]
    pub features: Option<NodeFeatures>,
    #[api(14, omitempty, list = "atomic")]
    pub declared_features: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.AttachedVolume")]
pub struct AttachedVolume {
    #[api(1, required)]
    pub name: String,
    #[api(2, required)]
    pub device_path: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ContainerImage")]
pub struct ContainerImage {
    #[api(1, list = "atomic")]
    pub names: Vec<String>,
    #[api(2, omitempty)]
    pub size_bytes: i64,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NodeCondition")]
pub struct NodeCondition {
    #[api(1, required)]
    pub type_: String,
    #[api(2, required)]
    pub status: String,
    #[api(3, omitempty)]
    pub last_heartbeat_time: Time,
    #[api(4, omitempty)]
    pub last_transition_time: Time,
    #[api(5, omitempty)]
    pub reason: String,
    #[api(6, omitempty)]
    pub message: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NodeAddress")]
pub struct NodeAddress {
    #[api(1, required)]
    pub type_: String,
    #[api(2, required)]
    pub address: String,
}

pub fn kind() -> Kind {
    Kind::cluster::<Node>("", "v1", "nodes")
        .short(&["no"])
        .stored_under("minions")
        .status()
        .subresource_of(
            "proxy",
            Verbs::ALL.without(Verbs::LIST).without(Verbs::WATCH).without(Verbs::DELETE_COLLECTION),
            Action::Connect,
            ("", "v1", "NodeProxyOptions"),
        )
        .selectable(&["spec.unschedulable"])
        .code_column("Status", "string", status_cell)
        .code_column("Roles", "string", roles_cell)
        .age()
        .code_column("Version", "string", |o, _| text(o, &["status", "nodeInfo", "kubeletVersion"]))
        .wide_code_column("Internal-IP", "string", |o, _| address(o, "InternalIP"))
        .wide_code_column("External-IP", "string", |o, _| address(o, "ExternalIP"))
        .wide_code_column("OS-Image", "string", |o, _| text_or(o, &["status", "nodeInfo", "osImage"], "<unknown>"))
        .wide_code_column("Kernel-Version", "string", kernel_cell)
        .wide_code_column("Container-Runtime", "string", |o, _| {
            text_or(o, &["status", "nodeInfo", "containerRuntimeVersion"], "<unknown>")
        })
        .example(
            r#"{"metadata": {"name": "node-1", "labels": {"kubernetes.io/hostname": "node-1"}},
            "spec": {"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"], "taints": [{"key": "dedicated",
            "value": "db", "effect": "NoSchedule"}]}}"#,
        )
}

served!(Node, "", "v1", "nodes", false);

impl Rules for Node {
    fn set_defaults(&mut self) {
        // The older field names the first range.
        let spec = &mut self.spec;
        if !spec.pod_cidr.is_empty() && spec.pod_cidrs.first() != Some(&spec.pod_cidr) {
            spec.pod_cidrs = vec![spec.pod_cidr.clone()];
        }
        if let Some(first) = spec.pod_cidrs.first() {
            spec.pod_cidr.clone_from(first);
        }
        if self.status.allocatable.is_empty() {
            self.status.allocatable = self.status.capacity.clone();
        }
    }

    fn validate(&self, cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let (metadata, spec) = (Path::new("metadata"), Path::new("spec"));
        taints(errors, &metadata.child("taints"), &self.spec.taints);
        let ranges = spec.child("podCIDRs");
        for (i, range) in self.spec.pod_cidrs.iter().enumerate() {
            cidr(errors, &ranges.index(i), range);
        }
        let six = self.spec.pod_cidrs.iter().filter(|range| range.contains(':')).count();
        if self.spec.pod_cidrs.len() > 2 || (self.spec.pod_cidrs.len() == 2 && six != 1) {
            let shown: Vec<Value> = self.spec.pod_cidrs.iter().map(|c| c.as_str().into()).collect();
            errors.invalid(&ranges, shown, "may specify no more than one CIDR for each IP family");
        }
        self.status_rules(cx, errors);
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let spec = Path::new("spec");
        if !old.spec.pod_cidrs.is_empty() && old.spec.pod_cidrs != self.spec.pod_cidrs {
            let message = "node updates may not change podCIDR except from \"\" to valid";
            errors.forbidden(&spec.child("podCIDRs"), message);
        }
        if !old.spec.provider_id.is_empty() && old.spec.provider_id != self.spec.provider_id {
            let word = if self.spec.provider_id.is_empty() { "cleared" } else { "modified" };
            errors.invalid(&spec.child("providerID"), Value::Null, format!("field cannot be {word} once set"));
        }
    }

    fn validate_status_update(&self, _old: &Self, cx: &RulesCx<'_>, errors: &mut Errors) {
        self.status_rules(cx, errors);
    }
}

impl Node {
    fn status_rules(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let status = Path::new("status");
        for (field, resources) in [("capacity", &self.status.capacity), ("allocatable", &self.status.allocatable)] {
            capacity(errors, &status.child(field), resources);
        }
        let addresses = status.child("addresses");
        for (i, address) in self.status.addresses.iter().enumerate() {
            if self.status.addresses[..i].contains(address) {
                errors.duplicate(&addresses.index(i), apimachinery::Api::to_value(address));
            }
        }
    }
}

/// Checks the taints of a node.
pub(crate) fn taints(errors: &mut Errors, path: &Path<'_>, taints: &[Taint]) {
    for (i, taint) in taints.iter().enumerate() {
        let path = path.index(i);
        check(errors, &path.child("key"), &taint.key, qualified_name);
        let faults = label_value(&taint.value);
        if !faults.is_empty() {
            errors.invalid(&path.child("value"), taint.value.as_str(), faults.join(";"));
        }
        one_of(errors, &path.child("effect"), &taint.effect, &["NoSchedule", "PreferNoSchedule", "NoExecute"]);
        if taints[..i].iter().any(|other| other.key == taint.key && other.effect == taint.effect) {
            let detail = "taints must be unique by key and effect pair".to_string();
            let value = Some(apimachinery::Api::to_value(taint));
            errors.push(FieldError { kind: ErrorKind::Duplicate, field: path.to_string(), value, detail });
        }
    }
}

fn status_cell(object: &Value, _now: i64) -> Value {
    let conditions = items(object, &["status", "conditions"]);
    let ready = conditions.iter().rev().find(|c| str_of(c, &["type"]) == "Ready");
    let status = match ready.map(|c| str_of(c, &["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    match object.at(&["spec", "unschedulable"]) {
        Some(Value::Bool(true)) => format!("{status},SchedulingDisabled").into(),
        _ => status.into(),
    }
}

fn roles_cell(object: &Value, _now: i64) -> Value {
    let Some(labels) = object.at(&["metadata", "labels"]).and_then(Value::as_map) else { return "<none>".into() };
    let mut roles: Vec<&str> = labels
        .iter()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { "<none>".into() } else { roles.join(",").into() }
}

fn address(object: &Value, wanted: &str) -> Value {
    let addresses = items(object, &["status", "addresses"]);
    match addresses.iter().find(|a| str_of(a, &["type"]) == wanted) {
        Some(address) => text(address, &["address"]),
        None => "<none>".into(),
    }
}

fn kernel_cell(object: &Value, _now: i64) -> Value {
    let kernel = match str_of(object, &["status", "nodeInfo", "kernelVersion"]) {
        "" => "<unknown>",
        kernel => kernel,
    };
    match str_of(object, &["status", "nodeInfo", "architecture"]) {
        "" => kernel.into(),
        architecture => format!("{kernel} ({architecture})").into(),
    }
}
