//! ServiceCIDR: is a range from which service addresses are taken.

use apimachinery::meta::{Condition, ObjectMeta};
use apimachinery::{Api, Kind, Rules};

use crate::cells::strings;
use crate::served::served;

/// ServiceCIDR: is a range from which service addresses are taken.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.ServiceCIDR")]
pub struct ServiceCIDR {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: ServiceCIDRSpec,
    #[api(3, omitempty)]
    pub status: ServiceCIDRStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.ServiceCIDRSpec")]
pub struct ServiceCIDRSpec {
    #[api(1, omitempty, list = "atomic")]
    pub cidrs: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.ServiceCIDRStatus")]
pub struct ServiceCIDRStatus {
    #[api(1, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<Condition>,
}

pub fn kind() -> Kind {
    Kind::cluster::<ServiceCIDR>("networking.k8s.io", "v1", "servicecidrs")
        .status()
        .code_column("CIDRs", "string", |o, _| strings(o, &["spec", "cidrs"]).into())
        .age()
        .example(r#"{"metadata":{"name":"extra"},"spec":{"cidrs":["10.97.0.0/24"]}}"#)
}

served!(ServiceCIDR, "networking.k8s.io", "v1", "servicecidrs", false);

impl Rules for ServiceCIDR {}
