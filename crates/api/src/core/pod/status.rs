//! PodStatus: what became of a pod.

use std::collections::BTreeMap;

use apimachinery::{Api, Quantity, Time};

use crate::core::persistentvolumeclaim::VolumeHealthCondition;
use crate::core::pod::container::ResourceRequirements;

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodVolumeHealth")]
pub struct PodVolumeHealth {
    #[api(1, required)]
    pub name: String,
    #[api(2, omitempty, list = "map", keys("status", "reason"), patch = "merge", merge_key = "status")]
    pub health_conditions: Vec<VolumeHealthCondition>,
    #[api(3, omitempty)]
    pub last_transition_time: Time,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ContainerStateWaiting")]
pub struct ContainerStateWaiting {
    #[api(1, omitempty)]
    pub reason: String,
    #[api(2, omitempty)]
    pub message: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ContainerStateRunning")]
pub struct ContainerStateRunning {
    #[api(1, omitempty)]
    pub started_at: Time,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ContainerStateTerminated")]
pub struct ContainerStateTerminated {
    #[api(1, required)]
    pub exit_code: i32,
    #[api(2, omitempty)]
    pub signal: i32,
    #[api(3, omitempty)]
    pub reason: String,
    #[api(4, omitempty)]
    pub message: String,
    #[api(5, omitempty)]
    pub started_at: Time,
    #[api(6, omitempty)]
    pub finished_at: Time,
    #[api(7, json = "containerID", omitempty)]
    pub container_id: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ContainerState")]
pub struct ContainerState {
    #[api(1, omitempty)]
    pub waiting: Option<ContainerStateWaiting>,
    #[api(2, omitempty)]
    pub running: Option<ContainerStateRunning>,
    #[api(3, omitempty)]
    pub terminated: Option<ContainerStateTerminated>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ContainerStatus")]
pub struct ContainerStatus {
    #[api(1, required)]
    pub name: String,
    #[api(2, omitempty)]
    pub state: ContainerState,
    #[api(3, omitempty)]
    pub last_state: ContainerState,
    #[api(4, required)]
    pub ready: bool,
    #[api(5, required)]
    pub restart_count: i32,
    #[api(6, required)]
    pub image: String,
    #[api(7, json = "imageID", required)]
    pub image_id: String,
    #[api(8, json = "containerID", omitempty)]
    pub container_id: String,
    #[api(9, omitempty)]
    pub started: Option<bool>,
    #[api(10, omitempty)]
    pub allocated_resources: BTreeMap<String, Quantity>,
    #[api(11, omitempty)]
    pub resources: Option<ResourceRequirements>,
    #[api(12, omitempty, list = "map", keys("mountPath"), patch = "merge", merge_key = "mountPath")]
    pub volume_mounts: Vec<VolumeMountStatus>,
    #[api(13, omitempty)]
    pub user: Option<ContainerUser>,
    #[api(14, omitempty, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub allocated_resources_status: Vec<ResourceStatus>,
    #[api(
        15,
        omitempty,
        enumeration(
            "SIGABRT",
            "SIGALRM",
            "SIGBUS",
            "SIGCHLD",
            "SIGCLD",
            "SIGCONT",
            "SIGFPE",
            "SIGHUP",
            "SIGILL",
            "SIGINT",
            "SIGIO",
            "SIGIOT",
            "SIGKILL",
            "SIGPIPE",
            "SIGPOLL",
            "SIGPROF",
            "SIGPWR",
            "SIGQUIT",
            "SIGRTMAX",
            "SIGRTMAX-1",
            "SIGRTMAX-10",
            "SIGRTMAX-11",
            "SIGRTMAX-12",
            "SIGRTMAX-13",
            "SIGRTMAX-14",
            "SIGRTMAX-2",
            "SIGRTMAX-3",
            "SIGRTMAX-4",
            "SIGRTMAX-5",
            "SIGRTMAX-6",
            "SIGRTMAX-7",
            "SIGRTMAX-8",
            "SIGRTMAX-9",
            "SIGRTMIN",
            "SIGRTMIN+1",
            "SIGRTMIN+10",
            "SIGRTMIN+11",
            "SIGRTMIN+12",
            "SIGRTMIN+13",
            "SIGRTMIN+14",
            "SIGRTMIN+15",
            "SIGRTMIN+2",
            "SIGRTMIN+3",
            "SIGRTMIN+4",
            "SIGRTMIN+5",
            "SIGRTMIN+6",
            "SIGRTMIN+7",
            "SIGRTMIN+8",
            "SIGRTMIN+9",
            "SIGSEGV",
            "SIGSTKFLT",
            "SIGSTOP",
            "SIGSYS",
            "SIGTERM",
            "SIGTRAP",
            "SIGTSTP",
            "SIGTTIN",
            "SIGTTOU",
            "SIGURG",
            "SIGUSR1",
            "SIGUSR2",
            "SIGVTALRM",
            "SIGWINCH",
            "SIGXCPU",
            "SIGXFSZ"
        )
    )]
    pub stop_signal: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ResourceStatus")]
pub struct ResourceStatus {
    #[api(1, required)]
    pub name: String,
    #[api(2, omitempty, list = "map", keys("resourceID"))]
    pub resources: Vec<ResourceHealth>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ResourceHealth")]
pub struct ResourceHealth {
    #[api(1, json = "resourceID", required)]
    pub resource_id: String,
    #[api(2, omitempty)]
    pub health: String,
    #[api(6, omitempty)]
    pub message: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ContainerUser")]
pub struct ContainerUser {
    #[api(1, omitempty)]
    pub linux: Option<LinuxContainerUser>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.LinuxContainerUser")]
pub struct LinuxContainerUser {
    #[api(1, required)]
    pub uid: i64,
    #[api(2, required)]
    pub gid: i64,
    #[api(3, omitempty, list = "atomic")]
    pub supplemental_groups: Vec<i64>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodCondition")]
pub struct PodCondition {
    #[api(1, required)]
    pub type_: String,
    #[api(7, omitempty)]
    pub observed_generation: i64,
    #[api(2, required)]
    pub status: String,
    #[api(3, omitempty)]
    pub last_probe_time: Time,
    #[api(4, omitempty)]
    pub last_transition_time: Time,
    #[api(5, omitempty)]
    pub reason: String,
    #[api(6, omitempty)]
    pub message: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.VolumeMountStatus")]
pub struct VolumeMountStatus {
    #[api(1, required)]
    pub name: String,
    #[api(2, required)]
    pub mount_path: String,
    #[api(3, omitempty)]
    pub read_only: bool,
    #[api(4, omitempty)]
    pub recursive_read_only: Option<String>,
    #[api(5, omitempty)]
    pub volume_status: Option<VolumeStatus>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.VolumeStatus")]
pub struct VolumeStatus {
    #[api(1, omitempty)]
    pub image: Option<ImageVolumeStatus>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ImageVolumeStatus")]
pub struct ImageVolumeStatus {
    #[api(1, omitempty, required)]
    pub image_ref: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodResourceClaimStatus")]
pub struct PodResourceClaimStatus {
    #[api(1, required)]
    pub name: String,
    #[api(2, omitempty)]
    pub resource_claim_name: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodExtendedResourceClaimStatus")]
pub struct PodExtendedResourceClaimStatus {
    #[api(1, required, list = "atomic")]
    pub request_mappings: Vec<ContainerExtendedResourceRequest>,
    #[api(2, required)]
    pub resource_claim_name: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ContainerExtendedResourceRequest")]
pub struct ContainerExtendedResourceRequest {
    #[api(1, required)]
    pub container_name: String,
    #[api(2, required)]
    pub resource_name: String,
    #[api(3, required)]
    pub request_name: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodIP")]
pub struct PodIP {
    #[api(1, required)]
    pub ip: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.HostIP")]
pub struct HostIP {
    #[api(1, required)]
    pub ip: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodStatus")]
pub struct PodStatus {
    #[api(17, omitempty)]
    pub observed_generation: i64,
    #[api(1, omitempty, enumeration("Failed", "Pending", "Running", "Succeeded", "Unknown"))]
    pub phase: String,
    #[api(2, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<PodCondition>,
    #[api(3, omitempty)]
    pub message: String,
    #[api(4, omitempty)]
    pub reason: String,
    #[api(11, omitempty)]
    pub nominated_node_name: String,
    #[api(5, json = "hostIP", omitempty)]
    pub host_ip: String,
    #[api(16, json = "hostIPs", omitempty, list = "atomic", patch = "merge", merge_key = "ip")]
    pub host_ips: Vec<HostIP>,
    #[api(6, json = "podIP", omitempty)]
    pub pod_ip: String,
    #[api(12, json = "podIPs", omitempty, list = "map", keys("ip"), patch = "merge", merge_key = "ip")]
    pub pod_ips: Vec<PodIP>,
    #[api(7, omitempty)]
    pub start_time: Option<Time>,
    #[api(10, omitempty, list = "atomic")]
    pub init_container_statuses: Vec<ContainerStatus>,
    #[api(8, omitempty, list = "atomic")]
    pub container_statuses: Vec<ContainerStatus>,
    #[api(9, omitempty, enumeration("BestEffort", "Burstable", "Guaranteed"))]
    pub qos_class: String,
    #[api(13, omitempty, list = "atomic")]
    pub ephemeral_container_statuses: Vec<ContainerStatus>,
    #[api(14, omitempty)]
    pub resize: String,
    #[api(15, omitempty, list = "map", keys("name"), patch = "merge,retainKeys", merge_key = "name")]
    pub resource_claim_statuses: Vec<PodResourceClaimStatus>,
    #[api(18, omitempty)]
    pub extended_resource_claim_status: Option<PodExtendedResourceClaimStatus>,
    #[api(19, omitempty)]
    pub allocated_resources: BTreeMap<String, Quantity>,
    #[api(20, omitempty)]
    pub resources: Option<ResourceRequirements>,
    #[api(21, omitempty, list = "map", keys("resourceClaimName"), patch = "merge", merge_key = "resourceClaimName")]
    pub node_allocatable_resource_claim_statuses: Vec<NodeAllocatableResourceClaimStatus>,
    #[api(22, omitempty, list = "map", keys("name"))]
    pub volume_health: Vec<PodVolumeHealth>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NodeAllocatableResourceClaimStatus")]
pub struct NodeAllocatableResourceClaimStatus {
    #[api(1, required)]
    pub resource_claim_name: String,
    #[api(2, omitempty, list = "set")]
    pub containers: Vec<String>,
    #[api(4, omitempty, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub mapping: Vec<NodeAllocatableMappedResources>,
    #[api(5, omitempty, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub overhead: Vec<NodeAllocatableOverheadResources>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NodeAllocatableMappedResources")]
pub struct NodeAllocatableMappedResources {
    #[api(1, required)]
    pub name: String,
    #[api(2, required)]
    pub quantity: Option<Quantity>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NodeAllocatableOverheadResources")]
pub struct NodeAllocatableOverheadResources {
    #[api(1, required)]
    pub name: String,
    #[api(2, omitempty)]
    pub per_pod: Option<Quantity>,
    #[api(3, omitempty)]
    pub per_container: Option<Quantity>,
}
