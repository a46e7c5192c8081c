//! ResourceSlice: publishes devices of a driver.

use std::collections::BTreeMap;

use crate::checks::{immutable, name};
use crate::core::pod::validate_volumes::driver_name;
use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{dns_label, dns_subdomain, nonnegative, positive, require};
use apimachinery::{Api, Errors, Kind, Path, Quantity, Rules, RulesCx, Time};

use crate::cells::text;
use crate::core::nodeselector::NodeSelector;
use crate::served::served;

/// ResourceSlice: publishes devices of a driver.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.ResourceSlice")]
pub struct ResourceSlice {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub spec: ResourceSliceSpec,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.ResourceSliceSpec")]
pub struct ResourceSliceSpec {
    #[api(1, required)]
    pub driver: String,
    #[api(2, required)]
    pub pool: ResourcePool,
    #[api(3, omitempty)]
    pub node_name: Option<String>,
    #[api(4, omitempty)]
    pub node_selector: Option<NodeSelector>,
    #[api(5, omitempty)]
    pub all_nodes: Option<bool>,
    #[api(6, omitempty, list = "atomic")]
    pub devices: Vec<Device>,
    #[api(7, omitempty)]
    pub per_device_node_selection: Option<bool>,
    #[api(8, omitempty, list = "atomic")]
    pub shared_counters: Vec<CounterSet>,
    #[api(9, omitempty)]
    pub partition_type_attribute: Option<String>,
    #[api(10, omitempty, list = "set")]
    pub skip_node_operations: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.CounterSet")]
pub struct CounterSet {
    #[api(1, required)]
    pub name: String,
    #[api(2, omitempty, required)]
    pub counters: BTreeMap<String, Counter>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.ResourcePool")]
pub struct ResourcePool {
    #[api(1, required)]
    pub name: String,
    #[api(2, required)]
    pub generation: i64,
    #[api(3, required)]
    pub resource_slice_count: i64,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.Device")]
pub struct Device {
    #[api(1, required)]
    pub name: String,
    #[api(2, omitempty)]
    pub attributes: BTreeMap<String, DeviceAttribute>,
    #[api(3, omitempty)]
    pub capacity: BTreeMap<String, DeviceCapacity>,
    #[api(4, omitempty, list = "atomic")]
    pub consumes_counters: Vec<DeviceCounterConsumption>,
    #[api(5, omitempty)]
    pub node_name: Option<String>,
    #[api(6, omitempty)]
    pub node_selector: Option<NodeSelector>,
    #[api(7, omitempty)]
    pub all_nodes: Option<bool>,
    #[api(8, omitempty, list = "atomic")]
    pub taints: Vec<DeviceTaint>,
    #[api(9, omitempty)]
    pub binds_to_node: Option<bool>,
    #[api(10, omitempty, list = "atomic")]
    pub binding_conditions: Vec<String>,
    #[api(11, omitempty, list = "atomic")]
    pub binding_failure_conditions: Vec<String>,
    #[api(12, omitempty)]
    pub allow_multiple_allocations: Option<bool>,
    #[api(14, omitempty)]
    pub node_allocatable_resources: BTreeMap<String, NodeAllocatableResource>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.NodeAllocatableResource")]
pub struct NodeAllocatableResource {
    #[api(3, omitempty)]
    pub mapping: Option<NodeAllocatableMapping>,
    #[api(4, omitempty)]
    pub overhead: Option<NodeAllocatableOverhead>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.NodeAllocatableMapping")]
pub struct NodeAllocatableMapping {
    #[api(1, omitempty)]
    pub capacity_key: Option<String>,
    #[api(2, omitempty)]
    pub capacity_multiplier: Option<Quantity>,
    #[api(3, omitempty)]
    pub device_multiplier: Option<Quantity>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.NodeAllocatableOverhead")]
pub struct NodeAllocatableOverhead {
    #[api(1, omitempty)]
    pub per_pod: Option<Quantity>,
    #[api(2, omitempty)]
    pub per_container: Option<Quantity>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceCounterConsumption")]
pub struct DeviceCounterConsumption {
    #[api(1, required)]
    pub counter_set: String,
    #[api(2, omitempty, required)]
    pub counters: BTreeMap<String, Counter>,
    #[api(3, omitempty, list = "atomic")]
    pub compatibility_groups: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceCapacity")]
pub struct DeviceCapacity {
    #[api(1, required)]
    pub value: Quantity,
    #[api(2, omitempty)]
    pub request_policy: Option<CapacityRequestPolicy>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.Counter")]
pub struct Counter {
    #[api(1, required)]
    pub value: Quantity,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.CapacityRequestPolicy")]
pub struct CapacityRequestPolicy {
    #[api(1)]
    pub default: Option<Quantity>,
    #[api(3, omitempty, list = "atomic")]
    pub valid_values: Vec<Quantity>,
    #[api(4, omitempty)]
    pub valid_range: Option<CapacityRequestPolicyRange>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.CapacityRequestPolicyRange")]
pub struct CapacityRequestPolicyRange {
    #[api(1, omitempty, required)]
    pub min: Option<Quantity>,
    #[api(2, omitempty)]
    pub max: Option<Quantity>,
    #[api(3, omitempty)]
    pub step: Option<Quantity>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceAttribute")]
pub struct DeviceAttribute {
    #[api(2, omitempty)]
    pub int: Option<i64>,
    #[api(3, omitempty)]
    pub bool: Option<bool>,
    #[api(4, omitempty)]
    pub string: Option<String>,
    #[api(5, omitempty)]
    pub version: Option<String>,
    #[api(6, omitempty, list = "atomic")]
    pub ints: Vec<i64>,
    #[api(7, omitempty, list = "atomic")]
    pub bools: Vec<bool>,
    #[api(8, omitempty, list = "atomic")]
    pub strings: Vec<String>,
    #[api(9, omitempty, list = "atomic")]
    pub versions: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceTaint")]
pub struct DeviceTaint {
    #[api(1, required)]
    pub key: String,
    #[api(2, omitempty)]
    pub value: String,
    #[api(3, required, enumeration("NoExecute", "NoSchedule", "None"))]
    pub effect: String,
    #[api(4, omitempty)]
    pub time_added: Option<Time>,
}

pub fn kind() -> Kind {
    Kind::cluster::<ResourceSlice>("resource.k8s.io", "v1", "resourceslices")
        .generation(Generation::OnSpec)
        .selectable(&["spec.nodeName", "spec.driver"])
        .code_column("Node", "string", |o, _| text(o, &["spec", "nodeName"]))
        .code_column("Driver", "string", |o, _| text(o, &["spec", "driver"]))
        .code_column("Pool", "string", |o, _| text(o, &["spec", "pool", "name"]))
        .age()
        .returns_deleted()
        .example(
            r#"{"metadata": {"name": "node-1-gpu"}, "spec": {"driver": "gpu.example.com",
            "nodeName": "node-1", "pool": {"name": "node-1", "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": "gpu-0", "attributes": {"model": {"string": "a1"}},
            "capacity": {"memory": {"value": "8Gi"}}}]}}"#,
        )
}

served!(ResourceSlice, "resource.k8s.io", "v1", "resourceslices", false);

impl Rules for ResourceSlice {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let path = Path::new("spec");
        let spec = &self.spec;
        driver_name(errors, &path.child("driver"), &spec.driver);
        let pool = path.child("pool");
        if spec.pool.name.is_empty() {
            errors.required(&pool.child("name"), "");
        }
        nonnegative(errors, &pool.child("generation"), spec.pool.generation);
        positive(errors, &pool.child("resourceSliceCount"), spec.pool.resource_slice_count);
        let where_ = [
            spec.node_name.is_some(),
            spec.node_selector.is_some(),
            spec.all_nodes == Some(true),
            spec.per_device_node_selection == Some(true),
        ];
        if where_.into_iter().filter(|set| *set).count() != 1 {
            let message = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
            errors.required(&path, message);
        }
        let devices = path.child("devices");
        if spec.devices.len() > 128 {
            errors.too_many(&devices, spec.devices.len(), 128);
        }
        for (i, device) in spec.devices.iter().enumerate() {
            let path = devices.index(i);
            require(errors, &path.child("name"), &device.name, dns_label);
            if spec.devices[..i].iter().any(|other| other.name == device.name) {
                errors.duplicate(&path.child("name"), device.name.as_str());
            }
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let spec = Path::new("spec");
        immutable(errors, &spec.child("driver"), &self.spec.driver, &old.spec.driver);
        let pool = spec.child("pool");
        immutable(errors, &pool.child("name"), &self.spec.pool.name, &old.spec.pool.name);
        immutable(errors, &spec.child("nodeName"), &self.spec.node_name, &old.spec.node_name);
    }
}
