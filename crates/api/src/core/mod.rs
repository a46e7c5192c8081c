//! The core group: pods, services, nodes and what they need.

use apimachinery::Kind;

pub mod binding;
pub mod componentstatus;
pub mod configmap;
pub mod endpoints;
pub mod event;
pub mod limitrange;
pub mod namespace;
pub mod node;
pub mod nodeselector;
pub mod options;
pub mod persistentvolume;
pub mod persistentvolumeclaim;
pub mod pod;
pub mod podtemplate;
pub mod references;
pub mod replicationcontroller;
pub mod resourcequota;
pub mod secret;
pub mod service;
pub mod serviceaccount;
pub mod volumes;

pub use binding::Binding;
pub use componentstatus::{ComponentCondition, ComponentStatus};
pub use configmap::ConfigMap;
pub use endpoints::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints};
pub use event::{Event, EventSeries, EventSource};
pub use limitrange::{LimitRange, LimitRangeItem, LimitRangeSpec};
pub use namespace::{Namespace, NamespaceCondition, NamespaceSpec, NamespaceStatus};
pub use node::{
    AttachedVolume, ConfigMapNodeConfigSource, ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition,
    NodeConfigSource, NodeConfigStatus, NodeDaemonEndpoints, NodeFeatures, NodePodPreemptionPolicy, NodeRuntimeHandler,
    NodeRuntimeHandlerFeatures, NodeSpec, NodeStatus, NodeSwapStatus, NodeSystemInfo,
};
pub use nodeselector::{
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Taint, Toleration, TopologySelectorLabelRequirement,
    TopologySelectorTerm,
};
pub use options::{
    NodeProxyOptions, PodAttachOptions, PodExecOptions, PodLogOptions, PodPortForwardOptions, PodProxyOptions,
    ServiceProxyOptions,
};
pub use persistentvolume::{
    AzureFilePersistentVolumeSource, CSIPersistentVolumeSource, CephFSPersistentVolumeSource,
    CinderPersistentVolumeSource, FlexPersistentVolumeSource, GlusterfsPersistentVolumeSource,
    ISCSIPersistentVolumeSource, LocalVolumeSource, PersistentVolume, PersistentVolumeSource, PersistentVolumeSpec,
    PersistentVolumeStatus, RBDPersistentVolumeSource, ScaleIOPersistentVolumeSource, StorageOSPersistentVolumeSource,
    VolumeNodeAffinity,
};
pub use persistentvolumeclaim::{
    ModifyVolumeStatus, PersistentVolumeClaim, PersistentVolumeClaimCondition, PersistentVolumeClaimSpec,
    PersistentVolumeClaimStatus, VolumeHealthCondition, VolumeHealthStatus, VolumeResourceRequirements,
};
pub use pod::Pod;
pub use pod::affinity::{
    Affinity, NodeAffinity, PodAffinity, PodAffinityTerm, PodAntiAffinity, PreferredSchedulingTerm,
    WeightedPodAffinityTerm,
};
pub use pod::container::{
    ConfigMapEnvSource, ConfigMapKeySelector, Container, ContainerPort, ContainerResizePolicy, ContainerRestartRule,
    ContainerRestartRuleOnExitCodes, EnvFromSource, EnvVar, EnvVarSource, EphemeralContainer, EphemeralContainerCommon,
    FileKeySelector, ObjectFieldSelector, ResourceClaim, ResourceFieldSelector, ResourceRequirements, SecretEnvSource,
    SecretKeySelector, VolumeDevice, VolumeMount,
};
pub use pod::probe::{
    ExecAction, GRPCAction, HTTPGetAction, HTTPHeader, Lifecycle, LifecycleHandler, Probe, ProbeHandler, SleepAction,
    TCPSocketAction,
};
pub use pod::security::{
    AppArmorProfile, Capabilities, PodSecurityContext, SELinuxOptions, SeccompProfile, SecurityContext, Sysctl,
    WindowsSecurityContextOptions,
};
pub use pod::spec::{
    EvictionResponder, HostAlias, PodDNSConfig, PodDNSConfigOption, PodOS, PodReadinessGate, PodResourceClaim,
    PodSchedulingGate, PodSchedulingGroup, PodSpec, PodTemplateSpec, TopologySpreadConstraint,
};
pub use pod::status::{
    ContainerExtendedResourceRequest, ContainerState, ContainerStateRunning, ContainerStateTerminated,
    ContainerStateWaiting, ContainerStatus, ContainerUser, HostIP, ImageVolumeStatus, LinuxContainerUser,
    NodeAllocatableMappedResources, NodeAllocatableOverheadResources, NodeAllocatableResourceClaimStatus, PodCondition,
    PodExtendedResourceClaimStatus, PodIP, PodResourceClaimStatus, PodStatus, PodVolumeHealth, ResourceHealth,
    ResourceStatus, VolumeMountStatus, VolumeStatus,
};
pub use podtemplate::PodTemplate;
pub use references::{
    LocalObjectReference, ObjectReference, SecretReference, SerializedReference, TypedLocalObjectReference,
    TypedObjectReference,
};
pub use replicationcontroller::{
    ReplicationController, ReplicationControllerCondition, ReplicationControllerSpec, ReplicationControllerStatus,
};
pub use resourcequota::{
    ResourceQuota, ResourceQuotaSpec, ResourceQuotaStatus, ScopeSelector, ScopedResourceSelectorRequirement,
};
pub use secret::Secret;
pub use service::{
    ClientIPConfig, LoadBalancerIngress, LoadBalancerStatus, PortStatus, Service, ServicePort, ServiceSpec,
    ServiceStatus, SessionAffinityConfig,
};
pub use serviceaccount::ServiceAccount;
pub use volumes::{
    AWSElasticBlockStoreVolumeSource, AzureDiskVolumeSource, AzureFileVolumeSource, CSIVolumeSource,
    CephFSVolumeSource, CinderVolumeSource, ClusterTrustBundleProjection, ConfigMapProjection, ConfigMapVolumeSource,
    DownwardAPIProjection, DownwardAPIVolumeFile, DownwardAPIVolumeSource, EmptyDirVolumeSource, EphemeralVolumeSource,
    FCVolumeSource, FlexVolumeSource, FlockerVolumeSource, GCEPersistentDiskVolumeSource, GitRepoVolumeSource,
    GlusterfsVolumeSource, HostPathVolumeSource, ISCSIVolumeSource, ImageVolumeSource, KeyToPath, NFSVolumeSource,
    PersistentVolumeClaimTemplate, PersistentVolumeClaimVolumeSource, PhotonPersistentDiskVolumeSource,
    PodCertificateProjection, PortworxVolumeSource, ProjectedVolumeSource, QuobyteVolumeSource, RBDVolumeSource,
    ScaleIOVolumeSource, SecretProjection, SecretVolumeSource, ServiceAccountTokenProjection, StorageOSVolumeSource,
    Volume, VolumeProjection, VolumeSource, VsphereVirtualDiskVolumeSource,
};

/// The served kinds of this group.
pub fn kinds() -> Vec<Kind> {
    vec![
        binding::kind(),
        componentstatus::kind(),
        configmap::kind(),
        endpoints::kind(),
        event::kind(),
        limitrange::kind(),
        namespace::kind(),
        node::kind(),
        persistentvolume::kind(),
        persistentvolumeclaim::kind(),
        pod::kind(),
        podtemplate::kind(),
        replicationcontroller::kind(),
        resourcequota::kind(),
        secret::kind(),
        service::kind(),
        serviceaccount::kind(),
    ]
}
