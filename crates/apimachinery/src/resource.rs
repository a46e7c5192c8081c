//! Resource: what a typed client must know of a kind at compile time.

use crate::kind::Rules;
use crate::meta::ObjectMeta;
use crate::names::GroupVersionResource;

/// A kind with a Rust type: its names, and its metadata.
pub trait Resource: Rules + Send + Sync + 'static {
    const GROUP: &'static str;
    const VERSION: &'static str;
    const KIND: &'static str;
    /// Plural, lower case.
    const RESOURCE: &'static str;
    const NAMESPACED: bool;

    fn meta(&self) -> &ObjectMeta;
    fn meta_mut(&mut self) -> &mut ObjectMeta;

    /// `v1` or `apps/v1`.
    fn api_version() -> String {
        if Self::GROUP.is_empty() { Self::VERSION.into() } else { format!("{}/{}", Self::GROUP, Self::VERSION) }
    }

    fn resource() -> GroupVersionResource {
        GroupVersionResource::new(Self::GROUP, Self::VERSION, Self::RESOURCE)
    }
}
