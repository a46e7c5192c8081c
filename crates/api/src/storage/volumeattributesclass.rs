//! VolumeAttributesClass: names changeable parameters of volumes.

use std::collections::BTreeMap;

use crate::checks::{immutable, name};
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{dns_subdomain, qualified_name, require};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx};

use crate::cells::text;
use crate::served::served;

/// VolumeAttributesClass: names changeable parameters of volumes.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.storage.v1.VolumeAttributesClass")]
pub struct VolumeAttributesClass {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub driver_name: String,
    #[api(3, omitempty)]
    pub parameters: BTreeMap<String, String>,
}

pub fn kind() -> Kind {
    Kind::cluster::<VolumeAttributesClass>("storage.k8s.io", "v1", "volumeattributesclasses")
        .short(&["vac"])
        .code_column("DriverName", "string", |o, _| text(o, &["driverName"]))
        .age()
        .returns_deleted()
        .example(r#"{"metadata":{"name":"fast"},"driverName":"disks.example.com","parameters":{"iops":"1000"}}"#)
}

served!(VolumeAttributesClass, "storage.k8s.io", "v1", "volumeattributesclasses", false);

impl Rules for VolumeAttributesClass {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        require(errors, &Path::new("driverName"), &self.driver_name.to_lowercase(), qualified_name);
        let parameters = Path::new("parameters");
        if self.parameters.is_empty() {
            errors.required(&parameters, "must contain at least one key/value pair");
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        immutable(errors, &Path::new("driverName"), &self.driver_name, &old.driver_name);
        immutable(errors, &Path::new("parameters"), &self.parameters, &old.parameters);
    }
}
