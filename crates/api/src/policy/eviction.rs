//! Eviction: asks to delete a pod if its disruption budgets allow.

use apimachinery::Api;
use apimachinery::meta::{DeleteOptions, ObjectMeta};

/// Eviction: asks to delete a pod if its disruption budgets allow.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.policy.v1.Eviction")]
pub struct Eviction {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub delete_options: Option<DeleteOptions>,
}
