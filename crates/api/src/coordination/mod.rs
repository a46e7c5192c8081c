//! The coordination group: leases.

use apimachinery::Kind;

pub mod lease;

pub use lease::{Lease, LeaseSpec};

/// The served kinds of this group.
pub fn kinds() -> Vec<Kind> {
    vec![lease::kind()]
}
