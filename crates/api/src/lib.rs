//! Which objects exist: one page a kind. No I/O.
//!
//! A page holds the structs of a kind, `kind()` (names, verbs, subresources, columns, an example), its `Rules` and
//! their tests. A group's `kinds()` lists its pages; [`kinds`] lists the groups. To add a kind, write its page and its
//! line in the table. `cargo xtask import --check` compares names, tags and list types with upstream's Go types.
//!
//! Start reading at [`core::pod`].

use apimachinery::Kind;

mod bodies;
mod cells;
mod checks;
mod quantities;
mod served;

pub mod admission;
pub mod admissionregistration;
pub mod apiextensions;
pub mod apiregistration;
pub mod apps;
pub mod authentication;
pub mod authorization;
pub mod autoscaling;
pub mod batch;
pub mod certificates;
pub mod coordination;
pub mod core;
pub mod discovery;
pub mod events;
pub mod flowcontrol;
pub mod networking;
pub mod node;
pub mod policy;
pub mod quota;
pub mod rbac;
pub mod resource;
pub mod scheduling;
pub mod storage;
pub mod storagemigration;

pub use bodies::body_kinds;

/// Every kind that a server serves by default.
pub fn kinds() -> Vec<Kind> {
    let groups = [
        admissionregistration::kinds(),
        apiextensions::kinds(),
        apiregistration::kinds(),
        apps::kinds(),
        authentication::kinds(),
        authorization::kinds(),
        autoscaling::kinds(),
        batch::kinds(),
        certificates::kinds(),
        coordination::kinds(),
        core::kinds(),
        discovery::kinds(),
        events::kinds(),
        flowcontrol::kinds(),
        networking::kinds(),
        node::kinds(),
        policy::kinds(),
        rbac::kinds(),
        resource::kinds(),
        scheduling::kinds(),
        storage::kinds(),
        storagemigration::kinds(),
    ];
    groups.into_iter().flatten().collect()
}

#[cfg(test)]
pub(crate) mod tests;
