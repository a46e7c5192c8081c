//! The resource group: devices for pods.

use apimachinery::Kind;

pub mod deviceclass;
pub mod devicetaintrule;
pub mod resourceclaim;
pub mod resourceclaimtemplate;
pub mod resourceslice;

pub use deviceclass::{
    CELDeviceSelector, DeviceClass, DeviceClassConfiguration, DeviceClassSpec, DeviceConfiguration, DeviceSelector,
    OpaqueDeviceConfiguration,
};
pub use devicetaintrule::{DeviceTaintRule, DeviceTaintRuleSpec, DeviceTaintRuleStatus, DeviceTaintSelector};
pub use resourceclaim::{
    AllocatedDeviceStatus, AllocationResult, CapacityRequirements, DeviceAllocationConfiguration,
    DeviceAllocationResult, DeviceClaim, DeviceClaimConfiguration, DeviceConstraint, DeviceDerivedAttribute,
    DeviceRequest, DeviceRequestAllocationResult, DeviceSubRequest, DeviceToleration, ExactDeviceRequest,
    NetworkDeviceData, ResourceClaim, ResourceClaimConsumerReference, ResourceClaimSpec, ResourceClaimStatus,
};
pub use resourceclaimtemplate::{ResourceClaimTemplate, ResourceClaimTemplateSpec};
pub use resourceslice::{
    CapacityRequestPolicy, CapacityRequestPolicyRange, Counter, CounterSet, Device, DeviceAttribute, DeviceCapacity,
    DeviceCounterConsumption, DeviceTaint, NodeAllocatableMapping, NodeAllocatableOverhead, NodeAllocatableResource,
    ResourcePool, ResourceSlice, ResourceSliceSpec,
};

/// The served kinds of this group.
pub fn kinds() -> Vec<Kind> {
    vec![
        deviceclass::kind(),
        devicetaintrule::kind(),
        resourceclaim::kind(),
        resourceclaimtemplate::kind(),
        resourceslice::kind(),
    ]
}
