//! Kinds that are never served at a path of their own: the bodies of subresources.

use apimachinery::{Kind, Rules};

use crate::authentication::tokenrequest::TokenRequest;
use crate::autoscaling::scale::Scale;
use crate::policy::eviction::Eviction;

impl Rules for Scale {}
impl Rules for Eviction {}
impl Rules for TokenRequest {}

/// Their descriptions, so that bodies decode like any other object.
pub fn body_kinds() -> Vec<Kind> {
    vec![
        Kind::namespaced::<Scale>("autoscaling", "v1", "scale").virtual_(),
        Kind::namespaced::<Eviction>("policy", "v1", "evictions").virtual_(),
        Kind::namespaced::<TokenRequest>("authentication.k8s.io", "v1", "tokenrequests").virtual_(),
    ]
}
