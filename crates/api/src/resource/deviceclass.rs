//! DeviceClass: names a sort of devices and how to configure them.

use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, RawExtension, Rules};

use crate::served::served;

/// DeviceClass: names a sort of devices and how to configure them.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceClass")]
pub struct DeviceClass {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2)]
    pub spec: DeviceClassSpec,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceSelector")]
pub struct DeviceSelector {
    #[api(1, omitempty)]
    pub cel: Option<CELDeviceSelector>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.CELDeviceSelector")]
pub struct CELDeviceSelector {
    #[api(1, required)]
    pub expression: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceConfiguration")]
pub struct DeviceConfiguration {
    #[api(1, omitempty)]
    pub opaque: Option<OpaqueDeviceConfiguration>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.OpaqueDeviceConfiguration")]
pub struct OpaqueDeviceConfiguration {
    #[api(1, required)]
    pub driver: String,
    #[api(2, required)]
    pub parameters: RawExtension,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceClassSpec")]
pub struct DeviceClassSpec {
    #[api(1, omitempty, list = "atomic")]
    pub selectors: Vec<DeviceSelector>,
    #[api(2, omitempty, list = "atomic")]
    pub config: Vec<DeviceClassConfiguration>,
    #[api(4, omitempty)]
    pub extended_resource_name: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.resource.v1.DeviceClassConfiguration")]
pub struct DeviceClassConfiguration {
    #[api(1, inline)]
    pub device_configuration: DeviceConfiguration,
}

pub fn kind() -> Kind {
    Kind::cluster::<DeviceClass>("resource.k8s.io", "v1", "deviceclasses").generation(Generation::OnSpec).age()
        .example(
            r#"{"metadata": {"name": "gpu"}, "spec": {"selectors": [{"cel": {"expression": "device.driver == 'gpu.example.com'"}}]}}"#,
        )
}

served!(DeviceClass, "resource.k8s.io", "v1", "deviceclasses", false);

impl Rules for DeviceClass {}
