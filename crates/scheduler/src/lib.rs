//! Gives a pod its node: one file a plugin.
//!
//! ```text
//! pods ──> queue (by priority) ──> filter (each node) ──> score (those left) ──> assume ──> bind
//!  nodes ──> cache (allocatable, what runs there) ──────────^   └─ fits nowhere ──> preempt
//! ```
//! Filters and scores are pure functions of a pod's projection and a node's state; [`plugins::FILTERS`] and
//! [`plugins::SCORES`] are the tables. A pod that fits nowhere waits until something changes that could help it.

mod cache;
mod model;
pub mod plugins;
mod preempt;
mod run;

pub use cache::{Cache, NodeState};
pub use model::{NodeInfo, PodInfo, Resources, Taint, Toleration};
pub use run::{Config, run};
