//! VolumeAttributesClass: names changeable parameters of volumes.

use std::collections::BTreeMap;

use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Rules};

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
        .example(r#"{"metadata":{"name":"fast"},"driverName":"disks.example.com","parameters":{"iops":"1000"}}"#)
}

served!(VolumeAttributesClass, "storage.k8s.io", "v1", "volumeattributesclasses", false);

impl Rules for VolumeAttributesClass {}
