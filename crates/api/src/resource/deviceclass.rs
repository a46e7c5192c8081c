//! DeviceClass: names a sort of devices and how to configure them.

use crate::checks::name;
use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::dns_subdomain;
use apimachinery::{Api, Errors, Kind, Path, RawExtension, Rules, RulesCx};

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
        .returns_deleted()
        .example(
            r#"{"metadata": {"name": "gpu"}, "spec": {"selectors": [{"cel": {"expression": "device.driver == 'gpu.example.com'"}}]}}"#,
        )
}

served!(DeviceClass, "resource.k8s.io", "v1", "deviceclasses", false);

impl Rules for DeviceClass {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let spec = Path::new("spec");
        let selectors = spec.child("selectors");
        if self.spec.selectors.len() > 32 {
            errors.too_many(&selectors, self.spec.selectors.len(), 32);
        }
        for (i, selector) in self.spec.selectors.iter().enumerate() {
            let path = selectors.index(i);
            match &selector.cel {
                None => errors.required(&path.child("cel"), ""),
                Some(cel) if cel.expression.is_empty() => {
                    let cel = path.child("cel");
                    errors.required(&cel.child("expression"), "");
                }
                Some(_) => {}
            }
        }
    }
}
