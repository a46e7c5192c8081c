//! The link from a Rust type to the resource it is served as.

/// Implements [`apimachinery::resource::Resource`] for a page's kind.
macro_rules! served {
    ($kind:ident, $group:literal, $version:literal, $resource:literal, $namespaced:literal) => {
        impl apimachinery::resource::Resource for $kind {
            const GROUP: &'static str = $group;
            const VERSION: &'static str = $version;
            const KIND: &'static str = stringify!($kind);
            const RESOURCE: &'static str = $resource;
            const NAMESPACED: bool = $namespaced;

            fn meta(&self) -> &apimachinery::meta::ObjectMeta {
                &self.metadata
            }

            fn meta_mut(&mut self) -> &mut apimachinery::meta::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

pub(crate) use served;
