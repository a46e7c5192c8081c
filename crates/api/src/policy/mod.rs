//! The policy group: disruption budgets and evictions.

use apimachinery::Kind;

pub mod eviction;
pub mod poddisruptionbudget;

pub use eviction::Eviction;
pub use poddisruptionbudget::{PodDisruptionBudget, PodDisruptionBudgetSpec, PodDisruptionBudgetStatus};

/// The served kinds of this group.
pub fn kinds() -> Vec<Kind> {
    vec![poddisruptionbudget::kind()]
}
