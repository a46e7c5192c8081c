//! The scheduling group: priorities.

use apimachinery::Kind;

pub mod priorityclass;

pub use priorityclass::PriorityClass;

/// The served kinds of this group.
pub fn kinds() -> Vec<Kind> {
    vec![priorityclass::kind()]
}
