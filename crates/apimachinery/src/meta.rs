//! `meta/v1`: what every object and every request carries.

use std::collections::BTreeMap;

use crate::Api;
use crate::leaf::{FieldsV1, RawExtension};
use crate::time::Time;

/// Standard object's metadata: what every object says about itself.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")]
pub struct ObjectMeta {
    /// Unique among objects of its kind in its namespace. It cannot be changed.
    #[api(1, omitempty)]
    pub name: String,
    /// Start of a name that the server completes when `name` is not given.
    #[api(2, omitempty)]
    pub generate_name: String,
    /// The space in which the name is unique. It cannot be changed.
    #[api(3, omitempty)]
    pub namespace: String,
    #[api(4, omitempty)]
    pub self_link: String,
    /// Unique over time and space; given by the server.
    #[api(5, omitempty)]
    pub uid: String,
    /// The version of this object as stored, to be compared for equality and to watch from.
    #[api(6, omitempty)]
    pub resource_version: String,
    /// Grows when the wished-for state changes; given by the server.
    #[api(7, omitempty)]
    pub generation: i64,
    /// CreationTimestamp is a timestamp of when the server made the object.
    #[api(8, omitempty, omitzero)]
    pub creation_timestamp: Time,
    /// When a deletion was asked for, or the grace period ends; given by the server.
    #[api(9, omitempty)]
    pub deletion_timestamp: Option<Time>,
    /// Seconds that the object may take to end gracefully.
    #[api(10, omitempty)]
    pub deletion_grace_period_seconds: Option<i64>,
    /// Keys and values by which objects are selected.
    #[api(11, omitempty)]
    pub labels: BTreeMap<String, String>,
    /// Keys and values that say something about the object and are not selected by.
    #[api(12, omitempty)]
    pub annotations: BTreeMap<String, String>,
    /// Objects that this one depends on; it is collected when all of them are gone.
    #[api(13, omitempty, list = "map", keys("uid"), patch = "merge", merge_key = "uid")]
    pub owner_references: Vec<OwnerReference>,
    /// Names of those who must act before the object goes.
    #[api(14, omitempty, list = "set", patch = "merge")]
    pub finalizers: Vec<String>,
    /// Who set which field, by manager and version; kept by the server.
    #[api(17, omitempty, list = "atomic")]
    pub managed_fields: Vec<ManagedFieldsEntry>,
}

/// An owner of an object, in the same namespace or cluster-scoped.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference", atomic)]
pub struct OwnerReference {
    #[api(5, required)]
    pub api_version: String,
    #[api(1, required)]
    pub kind: String,
    #[api(3, required)]
    pub name: String,
    #[api(4, required)]
    pub uid: String,
    /// Whether this owner is the managing controller.
    #[api(6, omitempty)]
    pub controller: Option<bool>,
    /// Whether a foreground deletion of the owner waits for this object.
    #[api(7, omitempty)]
    pub block_owner_deletion: Option<bool>,
}

/// The fields that one manager has set through one operation.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apimachinery.pkg.apis.meta.v1.ManagedFieldsEntry")]
pub struct ManagedFieldsEntry {
    #[api(1, omitempty)]
    pub manager: String,
    #[api(2, omitempty)]
    pub operation: String,
    #[api(3, omitempty)]
    pub api_version: String,
    #[api(4, omitempty)]
    pub time: Option<Time>,
    #[api(6, omitempty)]
    pub fields_type: String,
    #[api(7, omitempty, json = "fieldsV1")]
    pub fields_v1: Option<FieldsV1>,
    #[api(8, omitempty)]
    pub subresource: String,
}

/// What a list says about itself.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta")]
pub struct ListMeta {
    #[api(1, omitempty)]
    pub self_link: String,
    #[api(2, omitempty)]
    pub resource_version: String,
    #[api(3, omitempty, json = "continue")]
    pub continue_: String,
    #[api(4, omitempty)]
    pub remaining_item_count: Option<i64>,
    /// Which part of the collection a sharded list holds.
    #[api(5, omitempty)]
    pub shard_info: Option<ShardInfo>,
}

/// The part of a collection that a sharded list or watch was asked for.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apimachinery.pkg.apis.meta.v1.ShardInfo")]
pub struct ShardInfo {
    /// The selector of the shard, as the request had it.
    #[api(1, required)]
    pub selector: String,
}

/// A selection by labels: all of both lists must hold.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelector", atomic)]
pub struct LabelSelector {
    #[api(1, omitempty)]
    pub match_labels: BTreeMap<String, String>,
    #[api(2, omitempty, list = "atomic")]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// One requirement on one label.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apimachinery.pkg.apis.meta.v1.LabelSelectorRequirement")]
pub struct LabelSelectorRequirement {
    #[api(1, required)]
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    #[api(2, required)]
    pub operator: String,
    #[api(3, omitempty, list = "atomic")]
    pub values: Vec<String>,
}

/// One requirement on one field.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apimachinery.pkg.apis.meta.v1.FieldSelectorRequirement")]
pub struct FieldSelectorRequirement {
    #[api(1, required)]
    pub key: String,
    #[api(2, required)]
    pub operator: String,
    #[api(3, omitempty, list = "atomic")]
    pub values: Vec<String>,
}

/// One aspect of an object's state.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apimachinery.pkg.apis.meta.v1.Condition")]
pub struct Condition {
    #[api(1, required, json = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    #[api(2, required)]
    pub status: String,
    #[api(3, omitempty)]
    pub observed_generation: i64,
    #[api(4, required)]
    pub last_transition_time: Time,
    #[api(5, required)]
    pub reason: String,
    #[api(6, required)]
    pub message: String,
}

/// What must hold of an object for a delete to happen.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apimachinery.pkg.apis.meta.v1.Preconditions")]
pub struct Preconditions {
    #[api(1, omitempty)]
    pub uid: Option<String>,
    #[api(2, omitempty)]
    pub resource_version: Option<String>,
}

/// How to delete.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions")]
pub struct DeleteOptions {
    #[api(1, omitempty)]
    pub grace_period_seconds: Option<i64>,
    #[api(2, omitempty)]
    pub preconditions: Option<Preconditions>,
    #[api(3, omitempty)]
    pub orphan_dependents: Option<bool>,
    #[api(4, omitempty)]
    pub propagation_policy: Option<String>,
    #[api(5, omitempty, list = "atomic")]
    pub dry_run: Vec<String>,
    #[api(6, omitempty)]
    pub ignore_store_read_error_with_cluster_breaking_potential: Option<bool>,
}

/// A resource without its version.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apimachinery.pkg.apis.meta.v1.GroupResource")]
pub struct GroupResource {
    #[api(1, required)]
    pub group: String,
    #[api(2, required)]
    pub resource: String,
}

/// What an object says it is.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apimachinery.pkg.apis.meta.v1.GroupVersionKind")]
pub struct GroupVersionKind {
    #[api(1, required)]
    pub group: String,
    #[api(2, required)]
    pub version: String,
    #[api(3, required)]
    pub kind: String,
}

/// Where objects of a kind are found.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apimachinery.pkg.apis.meta.v1.GroupVersionResource")]
pub struct GroupVersionResource {
    #[api(1, required)]
    pub group: String,
    #[api(2, required)]
    pub version: String,
    #[api(3, required)]
    pub resource: String,
}

/// An answer that is no object.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apimachinery.pkg.apis.meta.v1.Status")]
pub struct Status {
    #[api(1, omitempty)]
    pub metadata: ListMeta,
    #[api(2, omitempty)]
    pub status: String,
    #[api(3, omitempty)]
    pub message: String,
    #[api(4, omitempty)]
    pub reason: String,
    #[api(5, omitempty)]
    pub details: Option<StatusDetails>,
    #[api(6, omitempty)]
    pub code: i32,
}

/// What an answer is about.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apimachinery.pkg.apis.meta.v1.StatusDetails")]
pub struct StatusDetails {
    #[api(1, omitempty)]
    pub name: String,
    #[api(2, omitempty)]
    pub group: String,
    #[api(3, omitempty)]
    pub kind: String,
    #[api(6, omitempty)]
    pub uid: String,
    #[api(4, omitempty, list = "atomic")]
    pub causes: Vec<StatusCause>,
    #[api(5, omitempty)]
    pub retry_after_seconds: i32,
}

/// One cause of an error.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apimachinery.pkg.apis.meta.v1.StatusCause")]
pub struct StatusCause {
    #[api(1, omitempty)]
    pub reason: String,
    #[api(2, omitempty)]
    pub message: String,
    #[api(3, omitempty)]
    pub field: String,
}

/// One event of a watch.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent")]
pub struct WatchEvent {
    #[api(1, json = "type")]
    pub type_: String,
    #[api(2)]
    pub object: RawExtension,
}

/// An object of which only metadata is shown.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadata")]
pub struct PartialObjectMetadata {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
}

/// A list of such.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.apimachinery.pkg.apis.meta.v1.PartialObjectMetadataList")]
pub struct PartialObjectMetadataList {
    #[api(1, omitempty)]
    pub metadata: ListMeta,
    #[api(2)]
    pub items: Vec<RawExtension>,
}
