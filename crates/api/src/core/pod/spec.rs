//! PodSpec: what a pod wants, and what only it uses.

use std::collections::BTreeMap;

use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::{Api, Quantity};

use crate::core::nodeselector::Toleration;
use crate::core::pod::affinity::Affinity;
use crate::core::pod::container::{Container, EphemeralContainer, ResourceRequirements};
use crate::core::pod::security::PodSecurityContext;
use crate::core::references::LocalObjectReference;
use crate::core::volumes::Volume;

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodReadinessGate")]
pub struct PodReadinessGate {
    #[api(1, required)]
    pub condition_type: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodSpec")]
pub struct PodSpec {
    #[api(1, omitempty, list = "map", keys("name"), patch = "merge,retainKeys", merge_key = "name")]
    pub volumes: Vec<Volume>,
    #[api(20, omitempty, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub init_containers: Vec<Container>,
    #[api(2, required, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub containers: Vec<Container>,
    #[api(34, omitempty, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub ephemeral_containers: Vec<EphemeralContainer>,
    #[api(3, omitempty, enumeration("Always", "Never", "OnFailure"))]
    pub restart_policy: String,
    #[api(4, omitempty)]
    pub termination_grace_period_seconds: Option<i64>,
    #[api(5, omitempty)]
    pub active_deadline_seconds: Option<i64>,
    #[api(6, omitempty, enumeration("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"))]
    pub dns_policy: String,
    #[api(7, omitempty, atomic)]
    pub node_selector: BTreeMap<String, String>,
    #[api(8, omitempty)]
    pub service_account_name: String,
    #[api(9, omitempty)]
    pub service_account: String,
    #[api(21, omitempty)]
    pub automount_service_account_token: Option<bool>,
    #[api(10, omitempty)]
    pub node_name: String,
    #[api(11, omitempty)]
    pub host_network: bool,
    #[api(12, json = "hostPID", omitempty)]
    pub host_pid: bool,
    #[api(13, json = "hostIPC", omitempty)]
    pub host_ipc: bool,
    #[api(27, omitempty)]
    pub share_process_namespace: Option<bool>,
    #[api(14, omitempty)]
    pub security_context: Option<PodSecurityContext>,
    #[api(15, omitempty, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub image_pull_secrets: Vec<LocalObjectReference>,
    #[api(16, omitempty)]
    pub hostname: String,
    #[api(17, omitempty)]
    pub subdomain: String,
    #[api(18, omitempty)]
    pub affinity: Option<Affinity>,
    #[api(19, omitempty)]
    pub scheduler_name: String,
    #[api(22, omitempty, list = "atomic")]
    pub tolerations: Vec<Toleration>,
    #[api(23, omitempty, list = "map", keys("ip"), patch = "merge", merge_key = "ip")]
    pub host_aliases: Vec<HostAlias>,
    #[api(24, omitempty)]
    pub priority_class_name: String,
    #[api(25, omitempty)]
    pub priority: Option<i32>,
    #[api(26, omitempty)]
    pub dns_config: Option<PodDNSConfig>,
    #[api(28, omitempty, list = "atomic")]
    pub readiness_gates: Vec<PodReadinessGate>,
    #[api(29, omitempty)]
    pub runtime_class_name: Option<String>,
    #[api(30, omitempty)]
    pub enable_service_links: Option<bool>,
    #[api(31, omitempty, enumeration("Never", "PreemptLowerPriority"))]
    pub preemption_policy: Option<String>,
    #[api(32, omitempty)]
    pub overhead: BTreeMap<String, Quantity>,
    #[api(
        33,
        omitempty,
        list = "map",
        keys("topologyKey", "whenUnsatisfiable"),
        patch = "merge",
        merge_key = "topologyKey"
    )]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,
    #[api(35, json = "setHostnameAsFQDN", omitempty)]
    pub set_hostname_as_fqdn: Option<bool>,
    #[api(36, omitempty)]
    pub os: Option<PodOS>,
    #[api(37, omitempty)]
    pub host_users: Option<bool>,
    #[api(38, omitempty, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub scheduling_gates: Vec<PodSchedulingGate>,
    #[api(39, omitempty, list = "map", keys("name"), patch = "merge,retainKeys", merge_key = "name")]
    pub resource_claims: Vec<PodResourceClaim>,
    #[api(40, omitempty)]
    pub resources: Option<ResourceRequirements>,
    #[api(41, omitempty)]
    pub hostname_override: Option<String>,
    #[api(43, omitempty)]
    pub scheduling_group: Option<PodSchedulingGroup>,
    #[api(44, omitempty, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub eviction_responders: Vec<EvictionResponder>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodResourceClaim")]
pub struct PodResourceClaim {
    #[api(1, required)]
    pub name: String,
    #[api(3, omitempty)]
    pub resource_claim_name: Option<String>,
    #[api(4, omitempty)]
    pub resource_claim_template_name: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodOS")]
pub struct PodOS {
    #[api(1, required)]
    pub name: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodSchedulingGate")]
pub struct PodSchedulingGate {
    #[api(1, required)]
    pub name: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodSchedulingGroup")]
pub struct PodSchedulingGroup {
    #[api(1, omitempty)]
    pub pod_group_name: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.TopologySpreadConstraint")]
pub struct TopologySpreadConstraint {
    #[api(1, required)]
    pub max_skew: i32,
    #[api(2, required)]
    pub topology_key: String,
    #[api(3, required, enumeration("DoNotSchedule", "ScheduleAnyway"))]
    pub when_unsatisfiable: String,
    #[api(4, omitempty)]
    pub label_selector: Option<LabelSelector>,
    #[api(5, omitempty)]
    pub min_domains: Option<i32>,
    #[api(6, omitempty, enumeration("Honor", "Ignore"))]
    pub node_affinity_policy: Option<String>,
    #[api(7, omitempty, enumeration("Honor", "Ignore"))]
    pub node_taints_policy: Option<String>,
    #[api(8, omitempty, list = "atomic")]
    pub match_label_keys: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.HostAlias")]
pub struct HostAlias {
    #[api(1, required)]
    pub ip: String,
    #[api(2, omitempty, list = "atomic")]
    pub hostnames: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodDNSConfig")]
pub struct PodDNSConfig {
    #[api(1, omitempty, list = "atomic")]
    pub nameservers: Vec<String>,
    #[api(2, omitempty, list = "atomic")]
    pub searches: Vec<String>,
    #[api(3, omitempty, list = "atomic")]
    pub options: Vec<PodDNSConfigOption>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodDNSConfigOption")]
pub struct PodDNSConfigOption {
    #[api(1, omitempty)]
    pub name: String,
    #[api(2, omitempty)]
    pub value: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.EvictionResponder", atomic)]
pub struct EvictionResponder {
    #[api(1, required)]
    pub name: String,
    #[api(2, required)]
    pub priority: Option<i32>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodTemplateSpec")]
pub struct PodTemplateSpec {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: PodSpec,
}
