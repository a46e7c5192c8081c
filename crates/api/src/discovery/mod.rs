//! The discovery group: endpoint slices.

use apimachinery::Kind;

pub mod endpointslice;

pub use endpointslice::{Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone};

/// The served kinds of this group.
pub fn kinds() -> Vec<Kind> {
    vec![endpointslice::kind()]
}
