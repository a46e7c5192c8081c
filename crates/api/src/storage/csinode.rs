//! CSINode: lists the storage drivers on a node.

use crate::checks::name;
use crate::core::pod::validate_volumes::driver_name;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{check, dns_subdomain, qualified_name};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Time, Value};

use crate::cells::count;
use crate::served::served;

/// CSINode: lists the storage drivers on a node.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.storage.v1.CSINode")]
pub struct CSINode {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub spec: CSINodeSpec,
    #[api(3, omitempty)]
    pub status: CSINodeStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.storage.v1.CSINodeSpec")]
pub struct CSINodeSpec {
    #[api(1, required, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub drivers: Vec<CSINodeDriver>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.storage.v1.CSINodeDriver")]
pub struct CSINodeDriver {
    #[api(1, required)]
    pub name: String,
    #[api(2, json = "nodeID", required)]
    pub node_id: String,
    #[api(3, list = "atomic")]
    pub topology_keys: Vec<String>,
    #[api(4, omitempty)]
    pub allocatable: Option<VolumeNodeResources>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.storage.v1.VolumeNodeResources")]
pub struct VolumeNodeResources {
    #[api(1, omitempty)]
    pub count: Option<i32>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.storage.v1.StorageHealthCondition")]
pub struct StorageHealthCondition {
    #[api(1, required, enumeration("StorageDegraded", "StorageUnreachable"))]
    pub status: String,
    #[api(2, required)]
    pub reason: String,
    #[api(3, omitempty)]
    pub message: String,
    #[api(4, omitempty, enumeration("ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"))]
    pub access_mode: Option<String>,
    #[api(5, omitempty, enumeration("Block", "Filesystem"))]
    pub volume_mode: Option<String>,
    #[api(6, omitempty)]
    pub last_transition_time: Time,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.storage.v1.StorageHealth")]
pub struct StorageHealth {
    #[api(1, required)]
    pub name: String,
    #[api(2, omitempty, list = "atomic")]
    pub health_conditions: Vec<StorageHealthCondition>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.storage.v1.CSINodeStatus")]
pub struct CSINodeStatus {
    #[api(1, omitempty, list = "map", keys("name"), patch = "merge", merge_key = "name")]
    pub storage_health: Vec<StorageHealth>,
}

pub fn kind() -> Kind {
    Kind::cluster::<CSINode>("storage.k8s.io", "v1", "csinodes")
        .status()
        .code_column("Drivers", "integer", |o, _| Value::Int(count(o, &["spec", "drivers"])))
        .age()
        .conditional_update()
        .returns_deleted()
        .status_keeps_metadata()
        .example(
            r#"{"metadata": {"name": "node-1"}, "spec": {"drivers": [{"name": "disks.example.com",
            "nodeID": "node-1", "topologyKeys": ["example.com/zone"]}]}}"#,
        )
}

served!(CSINode, "storage.k8s.io", "v1", "csinodes", false);

impl Rules for CSINode {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let spec = Path::new("spec");
        let drivers = spec.child("drivers");
        for (i, driver) in self.spec.drivers.iter().enumerate() {
            let path = drivers.index(i);
            driver_name(errors, &path.child("name"), &driver.name);
            if self.spec.drivers[..i].iter().any(|other| other.name == driver.name) {
                errors.duplicate(&path.child("name"), driver.name.as_str());
            }
            if driver.node_id.is_empty() {
                errors.required(&path.child("nodeID"), "");
            } else if driver.node_id.len() > 256 {
                errors.invalid(&path.child("nodeID"), driver.node_id.as_str(), "must be 256 characters or less");
            }
            for (j, key) in driver.topology_keys.iter().enumerate() {
                if key.is_empty() {
                    errors.required(&path, "");
                }
                check(errors, &path, key, qualified_name);
                if driver.topology_keys[..j].contains(key) {
                    errors.duplicate(&path, key.as_str());
                }
            }
        }
    }
}
