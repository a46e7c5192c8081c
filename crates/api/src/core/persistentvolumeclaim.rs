//! PersistentVolumeClaim: asks for storage.

use std::collections::BTreeMap;

use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::{Api, Kind, Quantity, Rules, Time, Value};

use crate::cells::{items, scalar_or, str_of, text, text_or};
use crate::core::persistentvolume::access_modes;
use crate::core::persistentvolume::class_cell;
use crate::core::persistentvolume::phase_cell;
use crate::core::references::{TypedLocalObjectReference, TypedObjectReference};
use crate::served::served;

/// PersistentVolumeClaim: asks for storage.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PersistentVolumeClaim")]
pub struct PersistentVolumeClaim {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: PersistentVolumeClaimSpec,
    #[api(3, omitempty)]
    pub status: PersistentVolumeClaimStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PersistentVolumeClaimSpec")]
pub struct PersistentVolumeClaimSpec {
    #[api(1, omitempty, list = "atomic")]
    pub access_modes: Vec<String>,
    #[api(4, omitempty)]
    pub selector: Option<LabelSelector>,
    #[api(2, omitempty)]
    pub resources: VolumeResourceRequirements,
    #[api(3, omitempty)]
    pub volume_name: String,
    #[api(5, omitempty)]
    pub storage_class_name: Option<String>,
    #[api(6, omitempty, enumeration("Block", "Filesystem"))]
    pub volume_mode: Option<String>,
    #[api(7, omitempty)]
    pub data_source: Option<TypedLocalObjectReference>,
    #[api(8, omitempty)]
    pub data_source_ref: Option<TypedObjectReference>,
    #[api(9, omitempty)]
    pub volume_attributes_class_name: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ModifyVolumeStatus")]
pub struct ModifyVolumeStatus {
    #[api(1, omitempty)]
    pub target_volume_attributes_class_name: String,
    #[api(2, required, enumeration("InProgress", "Infeasible", "Pending"))]
    pub status: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PersistentVolumeClaimCondition")]
pub struct PersistentVolumeClaimCondition {
    #[api(1, required)]
    pub type_: String,
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
#[api(name = "io.k8s.api.core.v1.VolumeHealthCondition")]
pub struct VolumeHealthCondition {
    #[api(1, required, enumeration("DataLoss", "Degraded", "Inaccessible"))]
    pub status: String,
    #[api(2, required)]
    pub reason: String,
    #[api(3, omitempty)]
    pub message: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.VolumeHealthStatus")]
pub struct VolumeHealthStatus {
    #[api(1, omitempty, list = "map", keys("status", "reason"), patch = "merge", merge_key = "status")]
    pub health_conditions: Vec<VolumeHealthCondition>,
    #[api(2, omitempty)]
    pub last_transition_time: Time,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PersistentVolumeClaimStatus")]
pub struct PersistentVolumeClaimStatus {
    #[api(1, omitempty, enumeration("Bound", "Lost", "Pending"))]
    pub phase: String,
    #[api(2, omitempty, list = "atomic")]
    pub access_modes: Vec<String>,
    #[api(3, omitempty)]
    pub capacity: BTreeMap<String, Quantity>,
    #[api(4, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<PersistentVolumeClaimCondition>,
    #[api(5, omitempty)]
    pub allocated_resources: BTreeMap<String, Quantity>,
    #[api(7, omitempty)]
    pub allocated_resource_statuses: BTreeMap<String, String>,
    #[api(8, omitempty)]
    pub current_volume_attributes_class_name: Option<String>,
    #[api(9, omitempty)]
    pub modify_volume_status: Option<ModifyVolumeStatus>,
    #[api(10, omitempty)]
    pub health_status: Option<VolumeHealthStatus>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.VolumeResourceRequirements")]
pub struct VolumeResourceRequirements {
    #[api(1, omitempty)]
    pub limits: BTreeMap<String, Quantity>,
    #[api(2, omitempty)]
    pub requests: BTreeMap<String, Quantity>,
}

pub fn kind() -> Kind {
    Kind::namespaced::<PersistentVolumeClaim>("", "v1", "persistentvolumeclaims")
        .short(&["pvc"])
        .status()
        .selectable(&["name"])
        .code_column("Status", "string", phase_cell)
        .code_column("Volume", "string", |o, _| text(o, &["spec", "volumeName"]))
        .code_column("Capacity", "string", capacity_cell)
        .code_column("Access Modes", "string", modes_cell)
        .code_column("StorageClass", "string", |o, _| class_cell(o))
        .code_column("VolumeAttributesClass", "string", |o, _| {
            text_or(o, &["spec", "volumeAttributesClassName"], "<unset>")
        })
        .age()
        .wide_code_column("VolumeMode", "string", |o, _| text_or(o, &["spec", "volumeMode"], "<unset>"))
}

served!(PersistentVolumeClaim, "", "v1", "persistentvolumeclaims", true);

impl Rules for PersistentVolumeClaim {
    fn set_defaults(&mut self) {
        if self.status.phase.is_empty() {
            self.status.phase = "Pending".into();
        }
        self.spec.set_defaults();
    }
}

impl PersistentVolumeClaimSpec {
    pub(crate) fn set_defaults(&mut self) {
        self.volume_mode.get_or_insert_with(|| "Filesystem".into());
    }
}

fn capacity_cell(object: &Value, _now: i64) -> Value {
    match str_of(object, &["spec", "volumeName"]) {
        "" => "".into(),
        _ => scalar_or(object, &["status", "capacity", "storage"], "0"),
    }
}

fn modes_cell(object: &Value, _now: i64) -> Value {
    match str_of(object, &["spec", "volumeName"]) {
        "" => "".into(),
        _ => access_modes(items(object, &["status", "accessModes"])),
    }
}
