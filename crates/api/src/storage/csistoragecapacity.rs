//! CSIStorageCapacity: reports free capacity in one part of the topology.

use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::{Api, Kind, Quantity, Rules};

use crate::cells::{scalar_or, text};
use crate::served::served;

/// CSIStorageCapacity: reports free capacity in one part of the topology.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.storage.v1.CSIStorageCapacity")]
pub struct CSIStorageCapacity {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub node_topology: Option<LabelSelector>,
    #[api(3, required)]
    pub storage_class_name: String,
    #[api(4, omitempty)]
    pub capacity: Option<Quantity>,
    #[api(5, omitempty)]
    pub maximum_volume_size: Option<Quantity>,
}

pub fn kind() -> Kind {
    Kind::namespaced::<CSIStorageCapacity>("storage.k8s.io", "v1", "csistoragecapacities")
        .code_column("StorageClassName", "string", |o, _| text(o, &["storageClassName"]))
        .code_column("Capacity", "string", |o, _| scalar_or(o, &["capacity"], "<unset>"))
        .example(
            r#"{"metadata": {"name": "zone-a"}, "storageClassName": "slow", "nodeTopology": {"matchLabels": {"zone": "a"}},
            "capacity": "10Gi"}"#,
        )
}

served!(CSIStorageCapacity, "storage.k8s.io", "v1", "csistoragecapacities", true);

impl Rules for CSIStorageCapacity {}
