//! Questions that rules ask about quantities.

use std::collections::BTreeMap;

use apimachinery::validation::{check, qualified_name};
use apimachinery::{Errors, Path, Quantity};

/// Resources by name.
pub(crate) type Resources = BTreeMap<String, Quantity>;

/// Reports a quantity below zero.
pub(crate) fn nonnegative(errors: &mut Errors, path: &Path<'_>, quantity: &Quantity) {
    if quantity.is_negative() {
        errors.invalid(path, quantity.to_string(), "must be greater than or equal to 0");
    }
}

/// Reports a quantity that may not be used for a resource: negative, or broken where only whole ones exist.
pub(crate) fn resource_value(errors: &mut Errors, path: &Path<'_>, resource: &str, quantity: &Quantity) {
    nonnegative(errors, path, quantity);
    let countable = matches!(
        resource,
        "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    );
    if (countable || is_extended(resource)) && quantity.milli_value() % 1000 != 0 {
        errors.invalid(path, quantity.to_string(), "must be an integer");
    }
}

pub(crate) fn is_huge_page(resource: &str) -> bool {
    resource.starts_with("hugepages-")
}

/// A resource outside Kubernetes' own names, such as `example.com/gpu`.
pub(crate) fn is_extended(resource: &str) -> bool {
    let native = !resource.contains('/') || resource.contains("kubernetes.io/");
    !native && !resource.starts_with("requests.") && qualified_name(&format!("requests.{resource}")).is_empty()
}

/// Whether a container may be limited to more than it requests.
pub(crate) fn may_overcommit(resource: &str) -> bool {
    let native = !resource.contains('/') || resource.contains("kubernetes.io/");
    native && !is_huge_page(resource)
}

/// The name of a resource that a container can ask for.
pub(crate) fn container_resource_name(errors: &mut Errors, path: &Path<'_>, resource: &str) {
    let before = errors.len();
    check(errors, path, resource, qualified_name);
    if errors.len() > before {
        return;
    }
    if !resource.contains('/') {
        if !matches!(resource, "cpu" | "memory" | "ephemeral-storage") && !is_huge_page(resource) {
            errors.invalid(path, resource, "must be a standard resource type or fully qualified");
            errors.invalid(path, resource, "must be a standard resource for containers");
        }
    } else if !resource.contains("kubernetes.io/") && !is_extended(resource) {
        errors.invalid(path, resource, "doesn't follow extended resource name standard");
    }
}
