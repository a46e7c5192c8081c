//! Lease: is a lock with a holder and a renewal time.

use crate::checks::name;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::dns_subdomain;
use apimachinery::{Api, Errors, Kind, MicroTime, Path, Rules, RulesCx};

use crate::cells::text;
use crate::served::served;

/// Lease: is a lock with a holder and a renewal time.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.coordination.v1.Lease")]
pub struct Lease {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: LeaseSpec,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.coordination.v1.LeaseSpec")]
pub struct LeaseSpec {
    #[api(1, omitempty)]
    pub holder_identity: Option<String>,
    #[api(2, omitempty)]
    pub lease_duration_seconds: Option<i32>,
    #[api(3, omitempty)]
    pub acquire_time: Option<MicroTime>,
    #[api(4, omitempty)]
    pub renew_time: Option<MicroTime>,
    #[api(5, omitempty)]
    pub lease_transitions: Option<i32>,
    #[api(6, omitempty)]
    pub strategy: Option<String>,
    #[api(7, omitempty)]
    pub preferred_holder: Option<String>,
}

pub fn kind() -> Kind {
    Kind::namespaced::<Lease>("coordination.k8s.io", "v1", "leases")
        .code_column("Holder", "string", |o, _| text(o, &["spec", "holderIdentity"]))
        .age()
        .create_on_update()
        .conditional_update()
        .example(
            r#"{"metadata": {"name": "leader"}, "spec": {"holderIdentity": "one", "leaseDurationSeconds": 15,
            "acquireTime": "2024-01-01T00:00:00.000000Z", "renewTime": "2024-01-01T00:00:05.000000Z"}}"#,
        )
}

served!(Lease, "coordination.k8s.io", "v1", "leases", true);

impl Rules for Lease {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let path = Path::new("spec");
        if let Some(seconds) = self.spec.lease_duration_seconds.filter(|seconds| *seconds <= 0) {
            errors.invalid(&path.child("leaseDurationSeconds"), seconds, "must be greater than 0");
        }
        if let Some(count) = self.spec.lease_transitions.filter(|count| *count < 0) {
            errors.invalid(&path.child("leaseTransitions"), count, "must be greater than or equal to 0");
        }
        let strategy = self.spec.strategy.as_deref().unwrap_or("");
        if self.spec.preferred_holder.as_ref().is_some_and(|holder| !holder.is_empty()) && strategy.is_empty() {
            let message = "may only be specified if `strategy` is defined";
            errors.forbidden(&path.child("preferredHolder"), message);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::tests::refuses;

    #[test]
    fn a_lease_lasts() {
        refuses(
            &super::kind(),
            &[("spec.leaseDurationSeconds", "0")],
            &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
        );
    }
}
