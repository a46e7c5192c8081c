//! The options of requests, read and checked.

use std::sync::Arc;

use apimachinery::{Kind, RulesCx, SmolStr, Value};

use crate::cx::Cx;

/// What a request is about.
#[derive(Clone, Debug)]
pub struct Target {
    /// The version that the client speaks.
    pub kind: Arc<Kind>,
    /// Empty for cluster-scoped kinds, and for lists over all namespaces.
    pub namespace: SmolStr,
    /// Empty for lists and creates.
    pub name: SmolStr,
    pub subresource: SmolStr,
}

impl Target {
    /// What a kind's own rules may know of a request. `now` is the wall clock, in seconds since 1970 and nanoseconds.
    pub fn rules<'a>(&'a self, cx: &'a Cx, now: (i64, u32)) -> RulesCx<'a> {
        RulesCx {
            now,
            user: &cx.user.name,
            user_uid: &cx.user.uid,
            user_groups: &cx.user.groups,
            user_extra: &cx.user.extra,
            namespace: &self.namespace,
            subresource: &self.subresource,
            dry_run: false,
        }
    }
}

/// How unknown and duplicate fields are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validation {
    Ignore,
    #[default]
    Warn,
    Strict,
}

/// CreateOptions and UpdateOptions.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    pub field_manager: SmolStr,
    pub dry_run: bool,
    pub validation: Validation,
    /// Server-side apply: take over fields that others own.
    pub force: bool,
    /// The options as a tree with apiVersion and kind, for admission.
    pub tree: Value,
}

/// How a patch body is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchType {
    Json,
    Merge,
    Strategic,
    Apply,
}

/// A patch, parsed.
#[derive(Clone, Debug)]
pub struct Patch {
    pub kind: PatchType,
    pub body: Value,
}

/// What happens to dependents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Orphan,
    Background,
    Foreground,
}

/// What must hold of the object for a write to happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    pub uid: Option<SmolStr>,
    pub resource_version: Option<SmolStr>,
}

/// `metav1.DeleteOptions`.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    pub grace_period_seconds: Option<i64>,
    pub preconditions: Preconditions,
    pub propagation: Option<Propagation>,
    pub dry_run: bool,
    pub tree: Value,
}

/// How a list's resourceVersion binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResourceVersionMatch {
    Exact,
    NotOlderThan,
}

/// `metav1.ListOptions` of a list.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    pub labels: apimachinery::selector::LabelSelector,
    pub fields: apimachinery::selector::FieldSelector,
    /// Absent: the newest; 0: anything.
    pub resource_version: Option<i64>,
    pub version_match: Option<ResourceVersionMatch>,
    /// 0: no limit.
    pub limit: usize,
    pub continue_token: String,
}

/// `metav1.ListOptions` of a watch.
#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    pub labels: apimachinery::selector::LabelSelector,
    pub fields: apimachinery::selector::FieldSelector,
    /// Absent or 0: the current state first, as ADDED events.
    pub resource_version: Option<i64>,
    pub send_initial_events: Option<bool>,
    pub bookmarks: bool,
}
