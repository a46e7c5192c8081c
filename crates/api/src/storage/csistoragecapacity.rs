//! CSIStorageCapacity: reports free capacity in one part of the topology.

use crate::checks::{immutable, label_selector, name};
use apimachinery::meta::{LabelSelector, ObjectMeta};
use apimachinery::validation::{check, dns_subdomain};
use apimachinery::{Api, Errors, Kind, Path, Quantity, Rules, RulesCx};

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
        .conditional_update()
        .example(
            r#"{"metadata": {"name": "zone-a"}, "storageClassName": "slow", "nodeTopology": {"matchLabels": {"zone": "a"}},
            "capacity": "10Gi"}"#,
        )
}

served!(CSIStorageCapacity, "storage.k8s.io", "v1", "csistoragecapacities", true);

impl Rules for CSIStorageCapacity {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        if let Some(topology) = &self.node_topology {
            label_selector(errors, &Path::new("nodeTopology"), topology);
        }
        check(errors, &Path::new("storageClassName"), &self.storage_class_name, dns_subdomain);
        if let Some(capacity) = &self.capacity {
            crate::quantities::nonnegative(errors, &Path::new("capacity"), capacity);
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        immutable(errors, &Path::new("nodeTopology"), &self.node_topology, &old.node_topology);
        immutable(errors, &Path::new("storageClassName"), &self.storage_class_name, &old.storage_class_name);
    }
}
