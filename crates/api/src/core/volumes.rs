//! Volumes that pods declare, and their sources.

use std::collections::BTreeMap;

use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::{Api, Quantity};

use crate::core::persistentvolumeclaim::PersistentVolumeClaimSpec;
use crate::core::pod::container::{ObjectFieldSelector, ResourceFieldSelector};
use crate::core::references::LocalObjectReference;

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.Volume")]
pub struct Volume {
    #[api(1, required)]
    pub name: String,
    #[api(2, inline)]
    pub volume_source: VolumeSource,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.VolumeSource")]
pub struct VolumeSource {
    #[api(1, omitempty)]
    pub host_path: Option<HostPathVolumeSource>,
    #[api(2, omitempty)]
    pub empty_dir: Option<EmptyDirVolumeSource>,
    #[api(3, omitempty)]
    pub gce_persistent_disk: Option<GCEPersistentDiskVolumeSource>,
    #[api(4, omitempty)]
    pub aws_elastic_block_store: Option<AWSElasticBlockStoreVolumeSource>,
    #[api(5, omitempty)]
    pub git_repo: Option<GitRepoVolumeSource>,
    #[api(6, omitempty)]
    pub secret: Option<SecretVolumeSource>,
    #[api(7, omitempty)]
    pub nfs: Option<NFSVolumeSource>,
    #[api(8, omitempty)]
    pub iscsi: Option<ISCSIVolumeSource>,
    #[api(9, omitempty)]
    pub glusterfs: Option<GlusterfsVolumeSource>,
    #[api(10, omitempty)]
    pub persistent_volume_claim: Option<PersistentVolumeClaimVolumeSource>,
    #[api(11, omitempty)]
    pub rbd: Option<RBDVolumeSource>,
    #[api(12, omitempty)]
    pub flex_volume: Option<FlexVolumeSource>,
    #[api(13, omitempty)]
    pub cinder: Option<CinderVolumeSource>,
    #[api(14, omitempty)]
    pub cephfs: Option<CephFSVolumeSource>,
    #[api(15, omitempty)]
    pub flocker: Option<FlockerVolumeSource>,
    #[api(16, json = "downwardAPI", omitempty)]
    pub downward_api: Option<DownwardAPIVolumeSource>,
    #[api(17, omitempty)]
    pub fc: Option<FCVolumeSource>,
    #[api(18, omitempty)]
    pub azure_file: Option<AzureFileVolumeSource>,
    #[api(19, omitempty)]
    pub config_map: Option<ConfigMapVolumeSource>,
    #[api(20, omitempty)]
    pub vsphere_volume: Option<VsphereVirtualDiskVolumeSource>,
    #[api(21, omitempty)]
    pub quobyte: Option<QuobyteVolumeSource>,
    #[api(22, omitempty)]
    pub azure_disk: Option<AzureDiskVolumeSource>,
    #[api(23, omitempty)]
    pub photon_persistent_disk: Option<PhotonPersistentDiskVolumeSource>,
    #[api(26, omitempty)]
    pub projected: Option<ProjectedVolumeSource>,
    #[api(24, omitempty)]
    pub portworx_volume: Option<PortworxVolumeSource>,
    #[api(25, json = "scaleIO", omitempty)]
    pub scale_io: Option<ScaleIOVolumeSource>,
    #[api(27, omitempty)]
    pub storageos: Option<StorageOSVolumeSource>,
    #[api(28, omitempty)]
    pub csi: Option<CSIVolumeSource>,
    #[api(29, omitempty)]
    pub ephemeral: Option<EphemeralVolumeSource>,
    #[api(30, omitempty)]
    pub image: Option<ImageVolumeSource>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PersistentVolumeClaimVolumeSource")]
pub struct PersistentVolumeClaimVolumeSource {
    #[api(1, required)]
    pub claim_name: String,
    #[api(2, omitempty)]
    pub read_only: bool,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.HostPathVolumeSource")]
pub struct HostPathVolumeSource {
    #[api(1, required)]
    pub path: String,
    #[api(
        2,
        omitempty,
        enumeration(
            "",
            "BlockDevice",
            "CharDevice",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket"
        )
    )]
    pub type_: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.EmptyDirVolumeSource")]
pub struct EmptyDirVolumeSource {
    #[api(1, omitempty)]
    pub medium: String,
    #[api(2, omitempty)]
    pub size_limit: Option<Quantity>,
    #[api(3, omitempty)]
    pub mode: Option<i32>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.GlusterfsVolumeSource")]
pub struct GlusterfsVolumeSource {
    #[api(1, required)]
    pub endpoints: String,
    #[api(2, required)]
    pub path: String,
    #[api(3, omitempty)]
    pub read_only: bool,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.RBDVolumeSource")]
pub struct RBDVolumeSource {
    #[api(1, required, list = "atomic")]
    pub monitors: Vec<String>,
    #[api(2, required)]
    pub image: String,
    #[api(3, omitempty)]
    pub fs_type: String,
    #[api(4, omitempty, default = "\"rbd\"")]
    pub pool: String,
    #[api(5, omitempty, default = "\"admin\"")]
    pub user: String,
    #[api(6, omitempty, default = "\"/etc/ceph/keyring\"")]
    pub keyring: String,
    #[api(7, omitempty)]
    pub secret_ref: Option<LocalObjectReference>,
    #[api(8, omitempty)]
    pub read_only: bool,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.CinderVolumeSource")]
pub struct CinderVolumeSource {
    #[api(1, json = "volumeID", required)]
    pub volume_id: String,
    #[api(2, omitempty)]
    pub fs_type: String,
    #[api(3, omitempty)]
    pub read_only: bool,
    #[api(4, omitempty)]
    pub secret_ref: Option<LocalObjectReference>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.CephFSVolumeSource")]
pub struct CephFSVolumeSource {
    #[api(1, required, list = "atomic")]
    pub monitors: Vec<String>,
    #[api(2, omitempty)]
    pub path: String,
    #[api(3, omitempty)]
    pub user: String,
    #[api(4, omitempty)]
    pub secret_file: String,
    #[api(5, omitempty)]
    pub secret_ref: Option<LocalObjectReference>,
    #[api(6, omitempty)]
    pub read_only: bool,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.FlockerVolumeSource")]
pub struct FlockerVolumeSource {
    #[api(1, omitempty)]
    pub dataset_name: String,
    #[api(2, json = "datasetUUID", omitempty)]
    pub dataset_uuid: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.GCEPersistentDiskVolumeSource")]
pub struct GCEPersistentDiskVolumeSource {
    #[api(1, required)]
    pub pd_name: String,
    #[api(2, omitempty)]
    pub fs_type: String,
    #[api(3, omitempty)]
    pub partition: i32,
    #[api(4, omitempty)]
    pub read_only: bool,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.QuobyteVolumeSource")]
pub struct QuobyteVolumeSource {
    #[api(1, required)]
    pub registry: String,
    #[api(2, required)]
    pub volume: String,
    #[api(3, omitempty)]
    pub read_only: bool,
    #[api(4, omitempty)]
    pub user: String,
    #[api(5, omitempty)]
    pub group: String,
    #[api(6, omitempty)]
    pub tenant: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.FlexVolumeSource")]
pub struct FlexVolumeSource {
    #[api(1, required)]
    pub driver: String,
    #[api(2, omitempty)]
    pub fs_type: String,
    #[api(3, omitempty)]
    pub secret_ref: Option<LocalObjectReference>,
    #[api(4, omitempty)]
    pub read_only: bool,
    #[api(5, omitempty)]
    pub options: BTreeMap<String, String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.AWSElasticBlockStoreVolumeSource")]
pub struct AWSElasticBlockStoreVolumeSource {
    #[api(1, json = "volumeID", required)]
    pub volume_id: String,
    #[api(2, omitempty)]
    pub fs_type: String,
    #[api(3, omitempty)]
    pub partition: i32,
    #[api(4, omitempty)]
    pub read_only: bool,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.GitRepoVolumeSource")]
pub struct GitRepoVolumeSource {
    #[api(1, required)]
    pub repository: String,
    #[api(2, omitempty)]
    pub revision: String,
    #[api(3, omitempty)]
    pub directory: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.SecretVolumeSource")]
pub struct SecretVolumeSource {
    #[api(1, omitempty)]
    pub secret_name: String,
    #[api(2, omitempty, list = "atomic")]
    pub items: Vec<KeyToPath>,
    #[api(3, omitempty)]
    pub default_mode: Option<i32>,
    #[api(4, omitempty)]
    pub optional: Option<bool>,
    #[api(5, omitempty)]
    pub default_user: Option<i64>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.SecretProjection")]
pub struct SecretProjection {
    #[api(1, inline)]
    pub local_object_reference: LocalObjectReference,
    #[api(2, omitempty, list = "atomic")]
    pub items: Vec<KeyToPath>,
    #[api(4, omitempty)]
    pub optional: Option<bool>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.NFSVolumeSource")]
pub struct NFSVolumeSource {
    #[api(1, required)]
    pub server: String,
    #[api(2, required)]
    pub path: String,
    #[api(3, omitempty)]
    pub read_only: bool,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ISCSIVolumeSource")]
pub struct ISCSIVolumeSource {
    #[api(1, required)]
    pub target_portal: String,
    #[api(2, required)]
    pub iqn: String,
    #[api(3, required)]
    pub lun: i32,
    #[api(4, omitempty, default = "\"default\"")]
    pub iscsi_interface: String,
    #[api(5, omitempty)]
    pub fs_type: String,
    #[api(6, omitempty)]
    pub read_only: bool,
    #[api(7, omitempty, list = "atomic")]
    pub portals: Vec<String>,
    #[api(8, omitempty)]
    pub chap_auth_discovery: bool,
    #[api(11, omitempty)]
    pub chap_auth_session: bool,
    #[api(10, omitempty)]
    pub secret_ref: Option<LocalObjectReference>,
    #[api(12, omitempty)]
    pub initiator_name: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.FCVolumeSource")]
pub struct FCVolumeSource {
    #[api(1, json = "targetWWNs", omitempty, list = "atomic")]
    pub target_wwns: Vec<String>,
    #[api(2, omitempty)]
    pub lun: Option<i32>,
    #[api(3, omitempty)]
    pub fs_type: String,
    #[api(4, omitempty)]
    pub read_only: bool,
    #[api(5, omitempty, list = "atomic")]
    pub wwids: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.AzureFileVolumeSource")]
pub struct AzureFileVolumeSource {
    #[api(1, required)]
    pub secret_name: String,
    #[api(2, required)]
    pub share_name: String,
    #[api(3, omitempty)]
    pub read_only: bool,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.VsphereVirtualDiskVolumeSource")]
pub struct VsphereVirtualDiskVolumeSource {
    #[api(1, required)]
    pub volume_path: String,
    #[api(2, omitempty)]
    pub fs_type: String,
    #[api(3, omitempty)]
    pub storage_policy_name: String,
    #[api(4, json = "storagePolicyID", omitempty)]
    pub storage_policy_id: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PhotonPersistentDiskVolumeSource")]
pub struct PhotonPersistentDiskVolumeSource {
    #[api(1, json = "pdID", required)]
    pub pd_id: String,
    #[api(2, omitempty)]
    pub fs_type: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.AzureDiskVolumeSource")]
pub struct AzureDiskVolumeSource {
    #[api(1, required)]
    pub disk_name: String,
    #[api(2, json = "diskURI", required)]
    pub disk_uri: String,
    #[api(3, omitempty, default = "\"ReadWrite\"", enumeration("None", "ReadOnly", "ReadWrite"))]
    pub caching_mode: Option<String>,
    #[api(4, omitempty, default = "\"ext4\"")]
    pub fs_type: Option<String>,
    #[api(5, omitempty, default = "false")]
    pub read_only: Option<bool>,
    #[api(6, omitempty, default = "\"Shared\"", enumeration("Dedicated", "Managed", "Shared"))]
    pub kind: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PortworxVolumeSource")]
pub struct PortworxVolumeSource {
    #[api(1, json = "volumeID", required)]
    pub volume_id: String,
    #[api(2, omitempty)]
    pub fs_type: String,
    #[api(3, omitempty)]
    pub read_only: bool,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ScaleIOVolumeSource")]
pub struct ScaleIOVolumeSource {
    #[api(1, required)]
    pub gateway: String,
    #[api(2, required)]
    pub system: String,
    #[api(3, required)]
    pub secret_ref: Option<LocalObjectReference>,
    #[api(4, omitempty)]
    pub ssl_enabled: bool,
    #[api(5, omitempty)]
    pub protection_domain: String,
    #[api(6, omitempty)]
    pub storage_pool: String,
    #[api(7, omitempty, default = "\"ThinProvisioned\"")]
    pub storage_mode: String,
    #[api(8, omitempty)]
    pub volume_name: String,
    #[api(9, omitempty, default = "\"xfs\"")]
    pub fs_type: String,
    #[api(10, omitempty)]
    pub read_only: bool,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.StorageOSVolumeSource")]
pub struct StorageOSVolumeSource {
    #[api(1, omitempty)]
    pub volume_name: String,
    #[api(2, omitempty)]
    pub volume_namespace: String,
    #[api(3, omitempty)]
    pub fs_type: String,
    #[api(4, omitempty)]
    pub read_only: bool,
    #[api(5, omitempty)]
    pub secret_ref: Option<LocalObjectReference>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ConfigMapVolumeSource")]
pub struct ConfigMapVolumeSource {
    #[api(1, inline)]
    pub local_object_reference: LocalObjectReference,
    #[api(2, omitempty, list = "atomic")]
    pub items: Vec<KeyToPath>,
    #[api(3, omitempty)]
    pub default_mode: Option<i32>,
    #[api(4, omitempty)]
    pub optional: Option<bool>,
    #[api(5, omitempty)]
    pub default_user: Option<i64>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ConfigMapProjection")]
pub struct ConfigMapProjection {
    #[api(1, inline)]
    pub local_object_reference: LocalObjectReference,
    #[api(2, omitempty, list = "atomic")]
    pub items: Vec<KeyToPath>,
    #[api(4, omitempty)]
    pub optional: Option<bool>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ServiceAccountTokenProjection")]
pub struct ServiceAccountTokenProjection {
    #[api(1, omitempty)]
    pub audience: String,
    #[api(2, omitempty)]
    pub expiration_seconds: Option<i64>,
    #[api(3, required)]
    pub path: String,
    #[api(4, omitempty)]
    pub user: Option<i64>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ClusterTrustBundleProjection")]
pub struct ClusterTrustBundleProjection {
    #[api(1, omitempty)]
    pub name: Option<String>,
    #[api(2, omitempty)]
    pub signer_name: Option<String>,
    #[api(3, omitempty)]
    pub label_selector: Option<LabelSelector>,
    #[api(5, omitempty)]
    pub optional: Option<bool>,
    #[api(4, required)]
    pub path: String,
    #[api(6, omitempty)]
    pub user: Option<i64>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PodCertificateProjection")]
pub struct PodCertificateProjection {
    #[api(1, omitempty, required)]
    pub signer_name: String,
    #[api(2, omitempty, required)]
    pub key_type: String,
    #[api(3, omitempty)]
    pub max_expiration_seconds: Option<i32>,
    #[api(4, omitempty)]
    pub credential_bundle_path: String,
    #[api(5, omitempty)]
    pub key_path: String,
    #[api(6, omitempty)]
    pub certificate_chain_path: String,
    #[api(7, omitempty)]
    pub user_annotations: BTreeMap<String, String>,
    #[api(8, omitempty)]
    pub user: Option<i64>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ProjectedVolumeSource")]
pub struct ProjectedVolumeSource {
    #[api(1, list = "atomic")]
    pub sources: Vec<VolumeProjection>,
    #[api(2, omitempty)]
    pub default_mode: Option<i32>,
    #[api(3, omitempty)]
    pub default_user: Option<i64>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.VolumeProjection")]
pub struct VolumeProjection {
    #[api(1, omitempty)]
    pub secret: Option<SecretProjection>,
    #[api(2, json = "downwardAPI", omitempty)]
    pub downward_api: Option<DownwardAPIProjection>,
    #[api(3, omitempty)]
    pub config_map: Option<ConfigMapProjection>,
    #[api(4, omitempty)]
    pub service_account_token: Option<ServiceAccountTokenProjection>,
    #[api(5, omitempty)]
    pub cluster_trust_bundle: Option<ClusterTrustBundleProjection>,
    #[api(6, omitempty)]
    pub pod_certificate: Option<PodCertificateProjection>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.KeyToPath")]
pub struct KeyToPath {
    #[api(1, required)]
    pub key: String,
    #[api(2, required)]
    pub path: String,
    #[api(3, omitempty)]
    pub mode: Option<i32>,
    #[api(4, omitempty)]
    pub user: Option<i64>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.CSIVolumeSource")]
pub struct CSIVolumeSource {
    #[api(1, required)]
    pub driver: String,
    #[api(2, omitempty)]
    pub read_only: Option<bool>,
    #[api(3, omitempty)]
    pub fs_type: Option<String>,
    #[api(4, omitempty)]
    pub volume_attributes: BTreeMap<String, String>,
    #[api(5, omitempty)]
    pub node_publish_secret_ref: Option<LocalObjectReference>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.EphemeralVolumeSource")]
pub struct EphemeralVolumeSource {
    #[api(1, omitempty)]
    pub volume_claim_template: Option<PersistentVolumeClaimTemplate>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PersistentVolumeClaimTemplate")]
pub struct PersistentVolumeClaimTemplate {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub spec: PersistentVolumeClaimSpec,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.DownwardAPIVolumeSource")]
pub struct DownwardAPIVolumeSource {
    #[api(1, omitempty, list = "atomic")]
    pub items: Vec<DownwardAPIVolumeFile>,
    #[api(2, omitempty)]
    pub default_mode: Option<i32>,
    #[api(3, omitempty)]
    pub default_user: Option<i64>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.DownwardAPIVolumeFile")]
pub struct DownwardAPIVolumeFile {
    #[api(1, required)]
    pub path: String,
    #[api(2, omitempty)]
    pub field_ref: Option<ObjectFieldSelector>,
    #[api(3, omitempty)]
    pub resource_field_ref: Option<ResourceFieldSelector>,
    #[api(4, omitempty)]
    pub mode: Option<i32>,
    #[api(5, omitempty)]
    pub user: Option<i64>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.DownwardAPIProjection")]
pub struct DownwardAPIProjection {
    #[api(1, omitempty, list = "atomic")]
    pub items: Vec<DownwardAPIVolumeFile>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ImageVolumeSource")]
pub struct ImageVolumeSource {
    #[api(1, omitempty)]
    pub reference: String,
    #[api(2, omitempty, enumeration("Always", "IfNotPresent", "Never"))]
    pub pull_policy: String,
}
