//! The API registration group: aggregated servers.

use apimachinery::Kind;

pub mod apiservice;

pub use apiservice::{APIService, APIServiceCondition, APIServiceSpec, APIServiceStatus, ServiceReference};

/// The served kinds of this group.
pub fn kinds() -> Vec<Kind> {
    vec![apiservice::kind()]
}
