//! The storage migration group.

use apimachinery::Kind;

pub mod storageversionmigration;

pub use storageversionmigration::{
    StorageVersionMigration, StorageVersionMigrationSpec, StorageVersionMigrationStatus,
};

/// The served kinds of this group.
pub fn kinds() -> Vec<Kind> {
    vec![storageversionmigration::kind()]
}
