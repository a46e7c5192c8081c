//! ResourceClaim: asks for devices.

use std::collections::BTreeMap;

use crate::checks::{immutable, name};
use apimachinery::meta::{Condition, ObjectMeta};
use apimachinery::validation::{dns_label, dns_subdomain, require};
use apimachinery::{Api, Errors, Kind, Path, Quantity, RawExtension, Rules, RulesCx, Time, Value};

use crate::cells::count;
use crate::core::nodeselector::NodeSelector;
use crate::resource::deviceclass::{DeviceConfiguration, DeviceSelector};
use crate::served::served;

/// ResourceClaim: asks for devices.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.ResourceClaim")]
pub struct ResourceClaim {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2)]
    pub spec: ResourceClaimSpec,
    #[api(3, omitempty)]
    pub status: ResourceClaimStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.ResourceClaimSpec")]
pub struct ResourceClaimSpec {
    #[api(1)]
    pub devices: DeviceClaim,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceClaim")]
pub struct DeviceClaim {
    #[api(1, list = "atomic")]
    pub requests: Vec<DeviceRequest>,
    #[api(2, omitempty, list = "atomic")]
    pub constraints: Vec<DeviceConstraint>,
    #[api(3, omitempty, list = "atomic")]
    pub config: Vec<DeviceClaimConfiguration>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceRequest")]
pub struct DeviceRequest {
    #[api(1, required)]
    pub name: String,
    #[api(2, omitempty)]
    pub exactly: Option<ExactDeviceRequest>,
    #[api(3, omitempty, list = "atomic")]
    pub first_available: Vec<DeviceSubRequest>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.ExactDeviceRequest")]
pub struct ExactDeviceRequest {
    #[api(1, required)]
    pub device_class_name: String,
    #[api(2, omitempty, list = "atomic")]
    pub selectors: Vec<DeviceSelector>,
    #[api(3, omitempty, enumeration("All", "ExactCount"))]
    pub allocation_mode: String,
    #[api(4, omitempty)]
    pub count: i64,
    #[api(5, omitempty)]
    pub admin_access: Option<bool>,
    #[api(6, omitempty, list = "atomic")]
    pub tolerations: Vec<DeviceToleration>,
    #[api(7, omitempty)]
    pub capacity: Option<CapacityRequirements>,
    #[api(8, omitempty, list = "atomic")]
    pub derived_attributes: Vec<DeviceDerivedAttribute>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceSubRequest")]
pub struct DeviceSubRequest {
    #[api(1, required)]
    pub name: String,
    #[api(2, required)]
    pub device_class_name: String,
    #[api(3, omitempty, list = "atomic")]
    pub selectors: Vec<DeviceSelector>,
    #[api(4, omitempty, enumeration("All", "ExactCount"))]
    pub allocation_mode: String,
    #[api(5, omitempty)]
    pub count: i64,
    #[api(6, omitempty, list = "atomic")]
    pub tolerations: Vec<DeviceToleration>,
    #[api(7, omitempty)]
    pub capacity: Option<CapacityRequirements>,
    #[api(8, omitempty, list = "atomic")]
    pub derived_attributes: Vec<DeviceDerivedAttribute>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.CapacityRequirements")]
pub struct CapacityRequirements {
    #[api(1, omitempty)]
    pub requests: BTreeMap<String, Quantity>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceDerivedAttribute")]
pub struct DeviceDerivedAttribute {
    #[api(1, required)]
    pub name: String,
    #[api(2, required)]
    pub expression: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceConstraint")]
pub struct DeviceConstraint {
    #[api(1, omitempty, list = "atomic")]
    pub requests: Vec<String>,
    #[api(2, omitempty)]
    pub match_attribute: Option<String>,
    #[api(3, omitempty)]
    pub distinct_attribute: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceClaimConfiguration")]
pub struct DeviceClaimConfiguration {
    #[api(1, omitempty, list = "atomic")]
    pub requests: Vec<String>,
    #[api(2, inline)]
    pub device_configuration: DeviceConfiguration,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceToleration")]
pub struct DeviceToleration {
    #[api(1, omitempty)]
    pub key: String,
    #[api(2, omitempty, default = "\"Equal\"", enumeration("Equal", "Exists"))]
    pub operator: String,
    #[api(3, omitempty)]
    pub value: String,
    #[api(4, omitempty, enumeration("NoExecute", "NoSchedule", "None"))]
    pub effect: String,
    #[api(5, omitempty)]
    pub toleration_seconds: Option<i64>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.ResourceClaimStatus")]
pub struct ResourceClaimStatus {
    #[api(1, omitempty)]
    pub allocation: Option<AllocationResult>,
    #[api(2, omitempty, list = "map", keys("uid"), patch = "merge", merge_key = "uid")]
    pub reserved_for: Vec<ResourceClaimConsumerReference>,
    #[api(4, omitempty, list = "map", keys("driver", "device", "pool", "shareID"))]
    pub devices: Vec<AllocatedDeviceStatus>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.ResourceClaimConsumerReference")]
pub struct ResourceClaimConsumerReference {
    #[api(1, omitempty)]
    pub api_group: String,
    #[api(3, required)]
    pub resource: String,
    #[api(4, required)]
    pub name: String,
    #[api(5, required)]
    pub uid: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.AllocationResult")]
pub struct AllocationResult {
    #[api(1, omitempty)]
    pub devices: DeviceAllocationResult,
    #[api(3, omitempty)]
    pub node_selector: Option<NodeSelector>,
    #[api(5, omitempty)]
    pub allocation_timestamp: Option<Time>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceAllocationResult")]
pub struct DeviceAllocationResult {
    #[api(1, omitempty, list = "atomic")]
    pub results: Vec<DeviceRequestAllocationResult>,
    #[api(2, omitempty, list = "atomic")]
    pub config: Vec<DeviceAllocationConfiguration>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceRequestAllocationResult")]
pub struct DeviceRequestAllocationResult {
    #[api(1, required)]
    pub request: String,
    #[api(2, required)]
    pub driver: String,
    #[api(3, required)]
    pub pool: String,
    #[api(4, required)]
    pub device: String,
    #[api(5, omitempty)]
    pub admin_access: Option<bool>,
    #[api(6, omitempty, list = "atomic")]
    pub tolerations: Vec<DeviceToleration>,
    #[api(7, omitempty, list = "atomic")]
    pub binding_conditions: Vec<String>,
    #[api(8, omitempty, list = "atomic")]
    pub binding_failure_conditions: Vec<String>,
    #[api(9, json = "shareID", omitempty)]
    pub share_id: Option<String>,
    #[api(10, omitempty)]
    pub consumed_capacity: BTreeMap<String, Quantity>,
    #[api(11, omitempty, list = "set")]
    pub skip_node_operations: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceAllocationConfiguration")]
pub struct DeviceAllocationConfiguration {
    #[api(1, required, enumeration("FromClaim", "FromClass"))]
    pub source: String,
    #[api(2, omitempty, list = "atomic")]
    pub requests: Vec<String>,
    #[api(3, inline)]
    pub device_configuration: DeviceConfiguration,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.AllocatedDeviceStatus")]
pub struct AllocatedDeviceStatus {
    #[api(1, required)]
    pub driver: String,
    #[api(2, required)]
    pub pool: String,
    #[api(3, required)]
    pub device: String,
    #[api(7, json = "shareID", omitempty)]
    pub share_id: Option<String>,
    #[api(4, list = "map", keys("type"))]
    pub conditions: Vec<Condition>,
    #[api(5, omitempty)]
    pub data: Option<RawExtension>,
    #[api(6, omitempty)]
    pub network_data: Option<NetworkDeviceData>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.NetworkDeviceData")]
pub struct NetworkDeviceData {
    #[api(1, omitempty)]
    pub interface_name: String,
    #[api(2, omitempty, list = "atomic")]
    pub ips: Vec<String>,
    #[api(3, omitempty)]
    pub hardware_address: String,
}

pub fn kind() -> Kind {
    Kind::namespaced::<ResourceClaim>("resource.k8s.io", "v1", "resourceclaims")
        .status()
        .code_column("State", "string", state_cell)
        .age()
        .returns_deleted()
        .status_keeps_metadata()
        .example(
            r#"{"metadata": {"name": "gpu"}, "spec": {"devices": {"requests": [{"name": "gpu",
            "exactly": {"deviceClassName": "gpu"}}]}}}"#,
        )
}

served!(ResourceClaim, "resource.k8s.io", "v1", "resourceclaims", true);

impl Rules for ResourceClaim {
    fn set_defaults(&mut self) {
        for request in &mut self.spec.devices.requests {
            request.set_defaults();
        }
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let spec = Path::new("spec");
        claim_spec(errors, &spec, &self.spec);
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        immutable(errors, &Path::new("spec"), &self.spec, &old.spec);
    }
}

/// Checks what a claim asks for.
pub(crate) fn claim_spec(errors: &mut Errors, path: &Path<'_>, spec: &ResourceClaimSpec) {
    let devices = path.child("devices");
    let requests = devices.child("requests");
    if spec.devices.requests.len() > 32 {
        errors.too_many(&requests, spec.devices.requests.len(), 32);
    }
    for (i, request) in spec.devices.requests.iter().enumerate() {
        let path = requests.index(i);
        require(errors, &path.child("name"), &request.name, dns_label);
        if spec.devices.requests[..i].iter().any(|other| other.name == request.name) {
            errors.duplicate(&path.child("name"), request.name.as_str());
        }
        match (&request.exactly, request.first_available.as_slice()) {
            (None, []) => errors.required(&path, "exactly one of `exactly` or `firstAvailable` is required"),
            (Some(_), [_, ..]) => {
                errors.invalid(
                    &path,
                    request.name.as_str(),
                    "exactly one of `exactly` or `firstAvailable` is required",
                );
            }
            (Some(exact), []) => {
                let path = path.child("exactly");
                let class = path.child("deviceClassName");
                require(errors, &class, &exact.device_class_name, dns_subdomain);
                allocation(errors, &path, &exact.allocation_mode, exact.count);
            }
            (None, alternatives) => {
                let list = path.child("firstAvailable");
                for (j, alternative) in alternatives.iter().enumerate() {
                    let path = list.index(j);
                    require(errors, &path.child("name"), &alternative.name, dns_label);
                    let class = path.child("deviceClassName");
                    require(errors, &class, &alternative.device_class_name, dns_subdomain);
                    allocation(errors, &path, &alternative.allocation_mode, alternative.count);
                }
            }
        }
    }
}

fn allocation(errors: &mut Errors, path: &Path<'_>, mode: &str, count: i64) {
    let field = path.child("count");
    match mode {
        "All" if count != 0 => {
            errors.invalid(&field, count, "must not be specified when allocationMode is 'All'");
        }
        "All" => {}
        "ExactCount" if count <= 0 => errors.invalid(&field, count, "must be greater than zero"),
        "ExactCount" => {}
        other => errors.not_supported(&path.child("allocationMode"), other, &["All", "ExactCount"]),
    }
}

impl DeviceRequest {
    pub(crate) fn set_defaults(&mut self) {
        if let Some(exact) = &mut self.exactly {
            allocation_defaults(&mut exact.allocation_mode, &mut exact.count);
        }
        for subrequest in &mut self.first_available {
            allocation_defaults(&mut subrequest.allocation_mode, &mut subrequest.count);
        }
    }
}

fn allocation_defaults(mode: &mut String, count: &mut i64) {
    if mode.is_empty() {
        *mode = "ExactCount".into();
    }
    if mode == "ExactCount" && *count == 0 {
        *count = 1;
    }
}

fn state_cell(object: &Value, _now: i64) -> Value {
    let deleted = object.at(&["metadata", "deletionTimestamp"]).is_some();
    let mut states = Vec::new();
    if deleted {
        states.push("deleted");
    }
    if object.at(&["status", "allocation"]).is_some() {
        states.push("allocated");
        if count(object, &["status", "reservedFor"]) > 0 {
            states.push("reserved");
        }
    } else if !deleted {
        states.push("pending");
    }
    states.join(",").into()
}
