//! Lease: is a lock with a holder and a renewal time.

use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, MicroTime, Rules};

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
        .example(
            r#"{"metadata": {"name": "leader"}, "spec": {"holderIdentity": "one", "leaseDurationSeconds": 15,
            "acquireTime": "2024-01-01T00:00:00.000000Z", "renewTime": "2024-01-01T00:00:05.000000Z"}}"#,
        )
}

served!(Lease, "coordination.k8s.io", "v1", "leases", true);

impl Rules for Lease {}
