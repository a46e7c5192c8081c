//! The node group: runtime classes.

use apimachinery::Kind;

pub mod runtimeclass;

pub use runtimeclass::{Overhead, RuntimeClass, Scheduling};

/// The served kinds of this group.
pub fn kinds() -> Vec<Kind> {
    vec![runtimeclass::kind()]
}
