//! The RBAC group: roles and bindings.

use apimachinery::Kind;

pub mod clusterrole;
pub mod clusterrolebinding;
pub mod role;
pub mod rolebinding;

pub use clusterrole::{AggregationRule, ClusterRole};
pub use clusterrolebinding::ClusterRoleBinding;
pub use role::{PolicyRule, Role};
pub use rolebinding::{RoleBinding, RoleRef, Subject};

/// The served kinds of this group.
pub fn kinds() -> Vec<Kind> {
    vec![clusterrole::kind(), clusterrolebinding::kind(), role::kind(), rolebinding::kind()]
}
