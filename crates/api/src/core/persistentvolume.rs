//! PersistentVolume: is a piece of storage that a claim can bind.

use std::collections::BTreeMap;

use crate::checks::{immutable, maybe_one_of, name, no_backsteps};
use crate::core::persistentvolumeclaim::access_mode_rules;
use crate::core::pod::validate::node_selector;
use crate::core::pod::validate_volumes::driver_name;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{check, dns_subdomain};
use apimachinery::{Api, Errors, Kind, Path, Quantity, Rules, RulesCx, Time, Value};

use crate::cells::{items, scalar_or, str_of, text, text_or};
use crate::core::nodeselector::NodeSelector;
use crate::core::references::{ObjectReference, SecretReference};
use crate::core::volumes::{
    AWSElasticBlockStoreVolumeSource, AzureDiskVolumeSource, FCVolumeSource, FlockerVolumeSource,
    GCEPersistentDiskVolumeSource, HostPathVolumeSource, NFSVolumeSource, PhotonPersistentDiskVolumeSource,
    PortworxVolumeSource, QuobyteVolumeSource, VsphereVirtualDiskVolumeSource,
};
use crate::served::served;

/// PersistentVolume: is a piece of storage that a claim can bind.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PersistentVolume")]
pub struct PersistentVolume {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: PersistentVolumeSpec,
    #[api(3, omitempty)]
    pub status: PersistentVolumeStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PersistentVolumeSource")]
pub struct PersistentVolumeSource {
    #[api(1, omitempty)]
    pub gce_persistent_disk: Option<GCEPersistentDiskVolumeSource>,
    #[api(2, omitempty)]
    pub aws_elastic_block_store: Option<AWSElasticBlockStoreVolumeSource>,
    #[api(3, omitempty)]
    pub host_path: Option<HostPathVolumeSource>,
    #[api(4, omitempty)]
    pub glusterfs: Option<GlusterfsPersistentVolumeSource>,
    #[api(5, omitempty)]
    pub nfs: Option<NFSVolumeSource>,
    #[api(6, omitempty)]
    pub rbd: Option<RBDPersistentVolumeSource>,
    #[api(7, omitempty)]
    pub iscsi: Option<ISCSIPersistentVolumeSource>,
    #[api(8, omitempty)]
    pub cinder: Option<CinderPersistentVolumeSource>,
    #[api(9, omitempty)]
    pub cephfs: Option<CephFSPersistentVolumeSource>,
    #[api(10, omitempty)]
    pub fc: Option<FCVolumeSource>,
    #[api(11, omitempty)]
    pub flocker: Option<FlockerVolumeSource>,
    #[api(12, omitempty)]
    pub flex_volume: Option<FlexPersistentVolumeSource>,
    #[api(13, omitempty)]
    pub azure_file: Option<AzureFilePersistentVolumeSource>,
    #[api(14, omitempty)]
    pub vsphere_volume: Option<VsphereVirtualDiskVolumeSource>,
    #[api(15, omitempty)]
    pub quobyte: Option<QuobyteVolumeSource>,
    #[api(16, omitempty)]
    pub azure_disk: Option<AzureDiskVolumeSource>,
    #[api(17, omitempty)]
    pub photon_persistent_disk: Option<PhotonPersistentDiskVolumeSource>,
    #[api(18, omitempty)]
    pub portworx_volume: Option<PortworxVolumeSource>,
    #[api(19, json = "scaleIO", omitempty)]
    pub scale_io: Option<ScaleIOPersistentVolumeSource>,
    #[api(20, omitempty)]
    pub local: Option<LocalVolumeSource>,
    #[api(21, omitempty)]
    pub storageos: Option<StorageOSPersistentVolumeSource>,
    #[api(22, omitempty)]
    pub csi: Option<CSIPersistentVolumeSource>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PersistentVolumeSpec")]
pub struct PersistentVolumeSpec {
    #[api(1, omitempty)]
    pub capacity: BTreeMap<String, Quantity>,
    #[api(2, inline)]
    pub persistent_volume_source: PersistentVolumeSource,
    #[api(3, omitempty, list = "atomic")]
    pub access_modes: Vec<String>,
    #[api(4, omitempty, granular)]
    pub claim_ref: Option<ObjectReference>,
    #[api(5, omitempty, enumeration("Delete", "Recycle", "Retain"))]
    pub persistent_volume_reclaim_policy: String,
    #[api(6, omitempty)]
    pub storage_class_name: String,
    #[api(7, omitempty, list = "atomic")]
    pub mount_options: Vec<String>,
    #[api(8, omitempty, enumeration("Block", "Filesystem"))]
    pub volume_mode: Option<String>,
    #[api(9, omitempty)]
    pub node_affinity: Option<VolumeNodeAffinity>,
    #[api(10, omitempty)]
    pub volume_attributes_class_name: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.VolumeNodeAffinity")]
pub struct VolumeNodeAffinity {
    #[api(1, omitempty)]
    pub required: Option<NodeSelector>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PersistentVolumeStatus")]
pub struct PersistentVolumeStatus {
    #[api(1, omitempty, enumeration("Available", "Bound", "Failed", "Pending", "Released"))]
    pub phase: String,
    #[api(2, omitempty)]
    pub message: String,
    #[api(3, omitempty)]
    pub reason: String,
    #[api(4, omitempty)]
    pub last_phase_transition_time: Option<Time>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.GlusterfsPersistentVolumeSource")]
pub struct GlusterfsPersistentVolumeSource {
    #[api(1, required)]
    pub endpoints: String,
    #[api(2, required)]
    pub path: String,
    #[api(3, omitempty)]
    pub read_only: bool,
    #[api(4, omitempty)]
    pub endpoints_namespace: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.RBDPersistentVolumeSource")]
pub struct RBDPersistentVolumeSource {
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
    pub secret_ref: Option<SecretReference>,
    #[api(8, omitempty)]
    pub read_only: bool,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.CinderPersistentVolumeSource")]
pub struct CinderPersistentVolumeSource {
    #[api(1, json = "volumeID", required)]
    pub volume_id: String,
    #[api(2, omitempty)]
    pub fs_type: String,
    #[api(3, omitempty)]
    pub read_only: bool,
    #[api(4, omitempty)]
    pub secret_ref: Option<SecretReference>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.CephFSPersistentVolumeSource")]
pub struct CephFSPersistentVolumeSource {
    #[api(1, required, list = "atomic")]
    pub monitors: Vec<String>,
    #[api(2, omitempty)]
    pub path: String,
    #[api(3, omitempty)]
    pub user: String,
    #[api(4, omitempty)]
    pub secret_file: String,
    #[api(5, omitempty)]
    pub secret_ref: Option<SecretReference>,
    #[api(6, omitempty)]
    pub read_only: bool,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.FlexPersistentVolumeSource")]
pub struct FlexPersistentVolumeSource {
    #[api(1, required)]
    pub driver: String,
    #[api(2, omitempty)]
    pub fs_type: String,
    #[api(3, omitempty)]
    pub secret_ref: Option<SecretReference>,
    #[api(4, omitempty)]
    pub read_only: bool,
    #[api(5, omitempty)]
    pub options: BTreeMap<String, String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ISCSIPersistentVolumeSource")]
pub struct ISCSIPersistentVolumeSource {
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
    pub secret_ref: Option<SecretReference>,
    #[api(12, omitempty)]
    pub initiator_name: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.AzureFilePersistentVolumeSource")]
pub struct AzureFilePersistentVolumeSource {
    #[api(1, required)]
    pub secret_name: String,
    #[api(2, required)]
    pub share_name: String,
    #[api(3, omitempty)]
    pub read_only: bool,
    #[api(4)]
    pub secret_namespace: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ScaleIOPersistentVolumeSource")]
pub struct ScaleIOPersistentVolumeSource {
    #[api(1, required)]
    pub gateway: String,
    #[api(2, required)]
    pub system: String,
    #[api(3, required)]
    pub secret_ref: Option<SecretReference>,
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
#[api(name = "io.k8s.api.core.v1.StorageOSPersistentVolumeSource")]
pub struct StorageOSPersistentVolumeSource {
    #[api(1, omitempty)]
    pub volume_name: String,
    #[api(2, omitempty)]
    pub volume_namespace: String,
    #[api(3, omitempty)]
    pub fs_type: String,
    #[api(4, omitempty)]
    pub read_only: bool,
    #[api(5, omitempty)]
    pub secret_ref: Option<ObjectReference>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.LocalVolumeSource")]
pub struct LocalVolumeSource {
    #[api(1, required)]
    pub path: String,
    #[api(2, omitempty)]
    pub fs_type: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.CSIPersistentVolumeSource")]
pub struct CSIPersistentVolumeSource {
    #[api(1, required)]
    pub driver: String,
    #[api(2, required)]
    pub volume_handle: String,
    #[api(3, omitempty)]
    pub read_only: bool,
    #[api(4, omitempty)]
    pub fs_type: String,
    #[api(5, omitempty)]
    pub volume_attributes: BTreeMap<String, String>,
    #[api(6, omitempty)]
    pub controller_publish_secret_ref: Option<SecretReference>,
    #[api(7, omitempty)]
    pub node_stage_secret_ref: Option<SecretReference>,
    #[api(8, omitempty)]
    pub node_publish_secret_ref: Option<SecretReference>,
    #[api(9, omitempty)]
    pub controller_expand_secret_ref: Option<SecretReference>,
    #[api(10, omitempty)]
    pub node_expand_secret_ref: Option<SecretReference>,
}

pub fn kind() -> Kind {
    Kind::cluster::<PersistentVolume>("", "v1", "persistentvolumes")
        .short(&["pv"])
        .status()
        .selectable(&["name"])
        .code_column("Capacity", "string", |o, _| scalar_or(o, &["spec", "capacity", "storage"], "0"))
        .code_column("Access Modes", "string", |o, _| access_modes(items(o, &["spec", "accessModes"])))
        .code_column("Reclaim Policy", "string", |o, _| text(o, &["spec", "persistentVolumeReclaimPolicy"]))
        .code_column("Status", "string", phase_cell)
        .code_column("Claim", "string", claim_cell)
        .code_column("StorageClass", "string", |o, _| class_cell(o))
        .code_column("VolumeAttributesClass", "string", |o, _| {
            text_or(o, &["spec", "volumeAttributesClassName"], "<unset>")
        })
        .code_column("Reason", "string", |o, _| text(o, &["status", "reason"]))
        .age()
        .wide_code_column("VolumeMode", "string", |o, _| text_or(o, &["spec", "volumeMode"], "<unset>"))
        .returns_deleted()
        .example(
            r#"{"metadata": {"name": "disk-1"}, "spec": {"capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"], "storageClassName": "slow", "hostPath": {"path": "/srv/disk-1"}}}"#,
        )
}

served!(PersistentVolume, "", "v1", "persistentvolumes", false);

impl Rules for PersistentVolume {
    fn set_defaults(&mut self) {
        if self.status.phase.is_empty() {
            self.status.phase = "Pending".into();
        }
        let spec = &mut self.spec;
        if spec.persistent_volume_reclaim_policy.is_empty() {
            spec.persistent_volume_reclaim_policy = "Retain".into();
        }
        spec.volume_mode.get_or_insert_with(|| "Filesystem".into());
        if let Some(path) = &mut spec.persistent_volume_source.host_path {
            path.type_.get_or_insert_default();
        }
    }

    fn prepare_create(&mut self, _cx: &RulesCx<'_>) {
        self.status = PersistentVolumeStatus { phase: "Pending".into(), ..PersistentVolumeStatus::default() };
    }

    fn prepare_update(&mut self, old: &Self, cx: &RulesCx<'_>) {
        if cx.subresource == "status" && self.status.phase != old.status.phase {
            self.status.last_phase_transition_time = Some(Time(cx.now.0));
        }
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let path = Path::new("spec");
        let spec = &self.spec;
        access_mode_rules(errors, &path.child("accessModes"), &spec.access_modes, "");
        let capacity = path.child("capacity");
        match spec.capacity.get("storage") {
            _ if spec.capacity.is_empty() => {
                errors.required(&capacity, "");
                errors.not_supported(&capacity, Value::Null, &["storage"]);
            }
            None => errors.not_supported(&capacity, apimachinery::Api::to_value(&spec.capacity), &["storage"]),
            Some(size) if size.is_negative() || size.is_zero_amount() => {
                errors.invalid(&capacity.key("storage"), size.to_string(), "must be greater than zero");
            }
            Some(_) => {}
        }
        let policies = ["Delete", "Recycle", "Retain"];
        let policy = &spec.persistent_volume_reclaim_policy;
        if !policies.contains(&policy.as_str()) {
            errors.not_supported(&path.child("persistentVolumeReclaimPolicy"), policy.as_str(), &policies);
        }
        if let Some(affinity) = &spec.node_affinity {
            let path = path.child("nodeAffinity");
            match &affinity.required {
                None => errors.required(&path.child("required"), "must specify required node constraints"),
                Some(required) => node_selector(errors, &path.child("required"), required),
            }
        }
        source(errors, &path, spec);
        if !spec.storage_class_name.is_empty() {
            check(errors, &path.child("storageClassName"), &spec.storage_class_name, dns_subdomain);
        }
        maybe_one_of(errors, &path.child("volumeMode"), spec.volume_mode.as_ref(), &["Block", "Filesystem"]);
        if let Some(class) = &spec.volume_attributes_class_name {
            let field = path.child("volumeAttributesClassName");
            if class.is_empty() {
                errors.required(&field, "an empty string is disallowed");
            } else {
                check(errors, &field, class, dns_subdomain);
            }
            if spec.persistent_volume_source.csi.is_none() {
                errors.required(&path.child("csi"), "has to be specified when using volumeAttributesClassName");
            }
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let spec = Path::new("spec");
        let mut new_source = self.spec.persistent_volume_source.clone();
        let old_source = &old.spec.persistent_volume_source;
        if let (Some(new), Some(old)) = (&mut new_source.csi, &old_source.csi)
            && old.controller_expand_secret_ref.is_none()
        {
            new.controller_expand_secret_ref = None;
        }
        if new_source != *old_source {
            let message = "spec.persistentvolumesource is immutable after creation";
            errors.forbidden(&spec.child("persistentvolumesource"), message);
        }
        immutable(errors, &Path::new("volumeMode"), &self.spec.volume_mode, &old.spec.volume_mode);
        if old.spec.node_affinity.is_some() && self.spec.node_affinity != old.spec.node_affinity {
            immutable(errors, &Path::new("nodeAffinity"), &self.spec.node_affinity, &old.spec.node_affinity);
        }
        if old.spec.volume_attributes_class_name.is_some() && self.spec.volume_attributes_class_name.is_none() {
            let message = "update from non-nil value to nil is forbidden";
            errors.forbidden(&spec.child("volumeAttributesClassName"), message);
        }
    }
}

/// Exactly one source, sound where drivers of ours read it.
fn source(errors: &mut Errors, path: &Path<'_>, spec: &PersistentVolumeSpec) {
    let source = &spec.persistent_volume_source;
    let set = [
        ("hostPath", source.host_path.is_some()),
        ("gcePersistentDisk", source.gce_persistent_disk.is_some()),
        ("awsElasticBlockStore", source.aws_elastic_block_store.is_some()),
        ("glusterfs", source.glusterfs.is_some()),
        ("flocker", source.flocker.is_some()),
        ("nfs", source.nfs.is_some()),
        ("rbd", source.rbd.is_some()),
        ("quobyte", source.quobyte.is_some()),
        ("cephFS", source.cephfs.is_some()),
        ("iscsi", source.iscsi.is_some()),
        ("cinder", source.cinder.is_some()),
        ("fc", source.fc.is_some()),
        ("flexVolume", source.flex_volume.is_some()),
        ("azureFile", source.azure_file.is_some()),
        ("vsphereVolume", source.vsphere_volume.is_some()),
        ("photonPersistentDisk", source.photon_persistent_disk.is_some()),
        ("portworxVolume", source.portworx_volume.is_some()),
        ("azureDisk", source.azure_disk.is_some()),
        ("scaleIO", source.scale_io.is_some()),
        ("local", source.local.is_some()),
        ("storageos", source.storageos.is_some()),
        ("csi", source.csi.is_some()),
    ];
    let mut present = set.into_iter().filter(|(_, set)| *set).map(|(field, _)| field);
    if present.next().is_none() {
        errors.required(path, "must specify a volume type");
    }
    for field in present {
        errors.forbidden(&path.child(field), "may not specify more than 1 volume type");
    }
    if let Some(host) = &source.host_path {
        let field = path.child("hostPath");
        let path_field = field.child("path");
        if host.path.is_empty() {
            errors.required(&path_field, "");
        } else {
            no_backsteps(errors, &path_field, &host.path);
        }
        if host.path.trim_end_matches('/').is_empty() && spec.persistent_volume_reclaim_policy == "Recycle" {
            let message = "may not be 'recycle' for a hostPath mount of '/'";
            errors.forbidden(&path.child("persistentVolumeReclaimPolicy"), message);
        }
    }
    if let Some(local) = &source.local {
        let field = path.child("local");
        if local.path.is_empty() {
            errors.required(&field.child("path"), "");
        } else {
            no_backsteps(errors, &field.child("path"), &local.path);
        }
        if spec.node_affinity.is_none() {
            errors.required(&path.child("nodeAffinity"), "Local volume requires node affinity");
        }
    }
    if let Some(csi) = &source.csi {
        let field = path.child("csi");
        driver_name(errors, &field.child("driver"), &csi.driver);
        if csi.volume_handle.is_empty() {
            errors.required(&field.child("volumeHandle"), "");
        }
    }
}

pub(crate) fn phase_cell(object: &Value, _now: i64) -> Value {
    match object.at(&["metadata", "deletionTimestamp"]) {
        Some(_) => "Terminating".into(),
        None => text(object, &["status", "phase"]),
    }
}

fn claim_cell(object: &Value, _now: i64) -> Value {
    match object.at(&["spec", "claimRef"]) {
        Some(claim) => format!("{}/{}", str_of(claim, &["namespace"]), str_of(claim, &["name"])).into(),
        None => "".into(),
    }
}

/// Access modes in their short forms.
pub(crate) fn access_modes(modes: &[Value]) -> Value {
    const SHORT: [(&str, &str); 4] =
        [("ReadWriteOnce", "RWO"), ("ReadOnlyMany", "ROX"), ("ReadWriteMany", "RWX"), ("ReadWriteOncePod", "RWOP")];
    let held = SHORT.iter().filter(|(long, _)| modes.iter().any(|m| m.as_str() == Some(long)));
    held.map(|(_, short)| *short).collect::<Vec<_>>().join(",").into()
}

/// The storage class, from the annotation that predates the field where it is set.
pub(crate) fn class_cell(object: &Value) -> Value {
    match object.str_at(&["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]) {
        Some(class) => class.into(),
        None => text(object, &["spec", "storageClassName"]),
    }
}
