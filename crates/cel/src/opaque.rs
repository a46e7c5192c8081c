//! The values of the libraries that expressions can only hand to functions.

use std::net::IpAddr;
use std::sync::Arc;

use crate::library::authz::{Authority, Decision, GroupCheck, PathCheck, ResourceCheck};
use crate::library::format::Format;
use crate::library::quantity::Quantity;
use crate::library::semver::Semver;
use crate::library::url::Url;
use crate::types::opaque as name;

#[derive(Clone, Debug)]
pub enum Opaque<'a> {
    Url(Arc<Url>),
    Quantity(Quantity),
    Semver(Arc<Semver>),
    Format(&'static Format),
    Ip(IpAddr),
    /// An address and how many of its first bits name the network.
    Cidr(IpAddr, u8),
    Authorizer(Authority<'a>),
    PathCheck(Arc<PathCheck<'a>>),
    GroupCheck(Arc<GroupCheck<'a>>),
    ResourceCheck(Arc<ResourceCheck<'a>>),
    Decision(Arc<Decision>),
}

impl Opaque<'_> {
    pub fn type_name(&self) -> &'static str {
        match self {
            Opaque::Url(_) => name::URL,
            Opaque::Quantity(_) => name::QUANTITY,
            Opaque::Semver(_) => name::SEMVER,
            Opaque::Format(_) => name::FORMAT,
            Opaque::Ip(_) => name::IP,
            Opaque::Cidr(..) => name::CIDR,
            Opaque::Authorizer(_) => name::AUTHORIZER,
            Opaque::PathCheck(_) => name::PATH_CHECK,
            Opaque::GroupCheck(_) => name::GROUP_CHECK,
            Opaque::ResourceCheck(_) => name::RESOURCE_CHECK,
            Opaque::Decision(_) => name::DECISION,
        }
    }

    pub(crate) fn equals(&self, other: &Opaque<'_>) -> bool {
        match (self, other) {
            (Opaque::Url(a), Opaque::Url(b)) => a == b,
            (Opaque::Quantity(a), Opaque::Quantity(b)) => a == b,
            (Opaque::Semver(a), Opaque::Semver(b)) => a.order(b).is_eq(),
            (Opaque::Format(a), Opaque::Format(b)) => a.name == b.name,
            (Opaque::Ip(a), Opaque::Ip(b)) => a == b,
            (Opaque::Cidr(a, m), Opaque::Cidr(b, n)) => a == b && m == n,
            (Opaque::Decision(a), Opaque::Decision(b)) => a == b,
            _ => false,
        }
    }

    /// The size that costs are counted by: bytes of an address, 1 otherwise.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Opaque::Ip(IpAddr::V4(_)) | Opaque::Cidr(IpAddr::V4(_), _) => 4,
            Opaque::Ip(IpAddr::V6(_)) | Opaque::Cidr(IpAddr::V6(_), _) => 16,
            _ => 1,
        }
    }
}
