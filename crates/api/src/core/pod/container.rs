//! Container: one process image of a pod, its environment, ports, mounts and resources.

use std::collections::BTreeMap;

use apimachinery::{Api, Quantity};

use crate::core::pod::probe::{Lifecycle, Probe};
use crate::core::pod::security::SecurityContext;
use crate::core::references::LocalObjectReference;

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ContainerPort")]
pub struct ContainerPort {
    #[api(1, omitempty)]
    pub name: String,
    #[api(2, omitempty)]
    pub host_port: i32,
    #[api(3, required)]
    pub container_port: i32,
    #[api(4, omitempty, default = "\"TCP\"", enumeration("SCTP", "TCP", "UDP"))]
    pub protocol: String,
    #[api(5, json = "hostIP", omitempty)]
    pub host_ip: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.VolumeMount")]
pub struct VolumeMount {
    #[api(1, required)]
    pub name: String,
    #[api(2, omitempty)]
    pub read_only: bool,
    #[api(7, omitempty)]
    pub recursive_read_only: Option<String>,
    #[api(3, required)]
    pub mount_path: String,
    #[api(4, omitempty)]
    pub sub_path: String,
    #[api(5, omitempty, enumeration("Bidirectional", "HostToContainer", "None"))]
    pub mount_propagation: Option<String>,
    #[api(6, omitempty)]
    pub sub_path_expr: String,
    #[api(8, omitempty, list = "set")]
    pub bind_mount_options: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.VolumeDevice")]
pub struct VolumeDevice {
    #[api(1, required)]
    pub name: String,
    #[api(2, required)]
    pub device_path: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.EnvVar")]
pub struct EnvVar {
    #[api(1, required)]
    pub name: String,
    #[api(2, omitempty)]
    pub value: String,
    #[api(3, omitempty)]
    pub value_from: Option<EnvVarSource>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.EnvVarSource")]
pub struct EnvVarSource {
    #[api(1, omitempty)]
    pub field_ref: Option<ObjectFieldSelector>,
    #[api(2, omitempty)]
    pub resource_field_ref: Option<ResourceFieldSelector>,
    #[api(3, omitempty)]
    pub config_map_key_ref: Option<ConfigMapKeySelector>,
    #[api(4, omitempty)]
    pub secret_key_ref: Option<SecretKeySelector>,
    #[api(5, omitempty)]
    pub file_key_ref: Option<FileKeySelector>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.FileKeySelector", atomic)]
pub struct FileKeySelector {
    #[api(1, required)]
    pub volume_name: String,
    #[api(2, required)]
    pub path: String,
    #[api(3, required)]
    pub key: String,
    #[api(4, omitempty, default = "false")]
    pub optional: Option<bool>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ObjectFieldSelector", atomic)]
pub struct ObjectFieldSelector {
    #[api(1, omitempty)]
    pub api_version: String,
    #[api(2, required)]
    pub field_path: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ResourceFieldSelector", atomic)]
pub struct ResourceFieldSelector {
    #[api(1, omitempty)]
    pub container_name: String,
    #[api(2, required)]
    pub resource: String,
    #[api(3, omitempty)]
    pub divisor: Quantity,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ConfigMapKeySelector", atomic)]
pub struct ConfigMapKeySelector {
    #[api(1, inline)]
    pub local_object_reference: LocalObjectReference,
    #[api(2, required)]
    pub key: String,
    #[api(3, omitempty)]
    pub optional: Option<bool>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.SecretKeySelector", atomic)]
pub struct SecretKeySelector {
    #[api(1, inline)]
    pub local_object_reference: LocalObjectReference,
    #[api(2, required)]
    pub key: String,
    #[api(3, omitempty)]
    pub optional: Option<bool>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.EnvFromSource")]
pub struct EnvFromSource {
    #[api(1, omitempty)]
    pub prefix: String,
    #[api(2, omitempty)]
    pub config_map_ref: Option<ConfigMapEnvSource>,
    #[api(3, omitempty)]
    pub secret_ref: Option<SecretEnvSource>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ConfigMapEnvSource")]
pub struct ConfigMapEnvSource {
    #[api(1, inline)]
    pub local_object_reference: LocalObjectReference,
    #[api(2, omitempty)]
    pub optional: Option<bool>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.SecretEnvSource")]
pub struct SecretEnvSource {
    #[api(1, inline)]
    pub local_object_reference: LocalObjectReference,
    #[api(2, omitempty)]
    pub optional: Option<bool>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ContainerResizePolicy")]
pub struct ContainerResizePolicy {
    #[api(1, required)]
    pub resource_name: String,
    #[api(2, required)]
    pub restart_policy: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ResourceRequirements")]
pub struct ResourceRequirements {
    #[api(1, omitempty)]
    pub limits: BTreeMap<String, Quantity>,
    #[api(2, omitempty)]
    pub requests: BTreeMap<String, Quantity>,
    #[api(3, omitempty, list = "map", keys("name"))]
    pub claims: Vec<ResourceClaim>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ResourceClaim")]
pub struct ResourceClaim {
    #[api(1, required)]
    pub name: String,
    #[api(2, omitempty)]
    pub request: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.Container")]
pub struct Container {
    #[api(1, required)]
    pub name: String,
    #[api(2, omitempty)]
    pub image: String,
    #[api(3, omitempty, list = "atomic")]
    pub command: Vec<String>,
    #[api(4, omitempty, list = "atomic")]
    pub args: Vec<String>,
    #[api(5, omitempty)]
    pub working_dir: String,
    #[api(6, omitempty, list = "map", keys("containerPort", "protocol"), patch = "merge", merge_key = "containerPort")]
    pub ports: Vec<ContainerPort>,
    #[api(19, omitempty, list = "atomic")]
    pub env_from: Vec<EnvFromSource>,
    #[api(7, omitempty, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub env: Vec<EnvVar>,
    #[api(8, omitempty)]
    pub resources: ResourceRequirements,
    #[api(23, omitempty, list = "atomic")]
    pub resize_policy: Vec<ContainerResizePolicy>,
    #[api(24, omitempty)]
    pub restart_policy: Option<String>,
    #[api(25, omitempty, list = "atomic")]
    pub restart_policy_rules: Vec<ContainerRestartRule>,
    #[api(9, omitempty, list = "map", keys("mountPath"), patch = "merge", merge_key = "mountPath")]
    pub volume_mounts: Vec<VolumeMount>,
    #[api(21, omitempty, list = "map", keys("devicePath"), patch = "merge", merge_key = "devicePath")]
    pub volume_devices: Vec<VolumeDevice>,
    #[api(10, omitempty)]
    pub liveness_probe: Option<Probe>,
    #[api(11, omitempty)]
    pub readiness_probe: Option<Probe>,
    #[api(22, omitempty)]
    pub startup_probe: Option<Probe>,
    #[api(12, omitempty)]
    pub lifecycle: Option<Lifecycle>,
    #[api(13, omitempty)]
    pub termination_message_path: String,
    #[api(20, omitempty, enumeration("FallbackToLogsOnError", "File"))]
    pub termination_message_policy: String,
    #[api(14, omitempty, enumeration("Always", "IfNotPresent", "Never"))]
    pub image_pull_policy: String,
    #[api(15, omitempty)]
    pub security_context: Option<SecurityContext>,
    #[api(16, omitempty)]
    pub stdin: bool,
    #[api(17, omitempty)]
    pub stdin_once: bool,
    #[api(18, omitempty)]
    pub tty: bool,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ContainerRestartRule")]
pub struct ContainerRestartRule {
    #[api(1, omitempty, required)]
    pub action: String,
    #[api(2, omitempty)]
    pub exit_codes: Option<ContainerRestartRuleOnExitCodes>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ContainerRestartRuleOnExitCodes")]
pub struct ContainerRestartRuleOnExitCodes {
    #[api(1, omitempty, required)]
    pub operator: String,
    #[api(2, omitempty, list = "set")]
    pub values: Vec<i32>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.EphemeralContainerCommon")]
pub struct EphemeralContainerCommon {
    #[api(1, required)]
    pub name: String,
    #[api(2, omitempty)]
    pub image: String,
    #[api(3, omitempty, list = "atomic")]
    pub command: Vec<String>,
    #[api(4, omitempty, list = "atomic")]
    pub args: Vec<String>,
    #[api(5, omitempty)]
    pub working_dir: String,
    #[api(6, omitempty, list = "map", keys("containerPort", "protocol"), patch = "merge", merge_key = "containerPort")]
    pub ports: Vec<ContainerPort>,
    #[api(19, omitempty, list = "atomic")]
    pub env_from: Vec<EnvFromSource>,
    #[api(7, omitempty, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub env: Vec<EnvVar>,
    #[api(8, omitempty)]
    pub resources: ResourceRequirements,
    #[api(23, omitempty, list = "atomic")]
    pub resize_policy: Vec<ContainerResizePolicy>,
    #[api(24, omitempty)]
    pub restart_policy: Option<String>,
    #[api(25, omitempty, list = "atomic")]
    pub restart_policy_rules: Vec<ContainerRestartRule>,
    #[api(9, omitempty, list = "map", keys("mountPath"), patch = "merge", merge_key = "mountPath")]
    pub volume_mounts: Vec<VolumeMount>,
    #[api(21, omitempty, list = "map", keys("devicePath"), patch = "merge", merge_key = "devicePath")]
    pub volume_devices: Vec<VolumeDevice>,
    #[api(10, omitempty)]
    pub liveness_probe: Option<Probe>,
    #[api(11, omitempty)]
    pub readiness_probe: Option<Probe>,
    #[api(22, omitempty)]
    pub startup_probe: Option<Probe>,
    #[api(12, omitempty)]
    pub lifecycle: Option<Lifecycle>,
    #[api(13, omitempty)]
    pub termination_message_path: String,
    #[api(20, omitempty, enumeration("FallbackToLogsOnError", "File"))]
    pub termination_message_policy: String,
    #[api(14, omitempty, enumeration("Always", "IfNotPresent", "Never"))]
    pub image_pull_policy: String,
    #[api(15, omitempty)]
    pub security_context: Option<SecurityContext>,
    #[api(16, omitempty)]
    pub stdin: bool,
    #[api(17, omitempty)]
    pub stdin_once: bool,
    #[api(18, omitempty)]
    pub tty: bool,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.EphemeralContainer")]
pub struct EphemeralContainer {
    #[api(1, inline)]
    pub ephemeral_container_common: EphemeralContainerCommon,
    #[api(2, omitempty)]
    pub target_container_name: String,
}
