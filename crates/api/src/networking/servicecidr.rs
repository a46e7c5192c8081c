//! ServiceCIDR: is a range from which service addresses are taken.

use crate::checks::{cidr, name};
use apimachinery::meta::{Condition, ObjectMeta};
use apimachinery::validation::{IMMUTABLE, dns_subdomain};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx};

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
        .status_keeps_metadata()
        .example(r#"{"metadata":{"name":"extra"},"spec":{"cidrs":["10.97.0.0/24"]}}"#)
}

served!(ServiceCIDR, "networking.k8s.io", "v1", "servicecidrs", false);

impl Rules for ServiceCIDR {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let spec = Path::new("spec");
        let path = spec.child("cidrs");
        let ranges = &self.spec.cidrs;
        if ranges.is_empty() {
            errors.required(&path, "at least one CIDR required");
        } else if ranges.len() > 2 {
            errors.invalid(&path, apimachinery::Api::to_value(&self.spec), "may only hold up to 2 values");
            return;
        }
        for (i, range) in ranges.iter().enumerate() {
            cidr(errors, &path.index(i), range);
        }
        if ranges.len() == 2 && ranges[0].contains(':') == ranges[1].contains(':') {
            let message = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
            errors.invalid(&path, apimachinery::Api::to_value(ranges), message);
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let spec = Path::new("spec");
        let path = spec.child("cidrs");
        let (new, old) = (&self.spec.cidrs, &old.spec.cidrs);
        let grows = old.len() == 1 && new.len() == 2;
        if new.len() != old.len() && !grows {
            errors.invalid(&path, apimachinery::Api::to_value(new), IMMUTABLE);
            return;
        }
        for (i, (new, old)) in new.iter().zip(old).enumerate() {
            if new != old {
                errors.invalid(&path.index(i), new.as_str(), IMMUTABLE);
            }
        }
    }
}
