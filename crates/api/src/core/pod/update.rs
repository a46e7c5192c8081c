//! What an update of a pod, of its status, of its resources or of its ephemeral containers may change.

use apimachinery::validation::{IMMUTABLE, check, dns_subdomain, in_range};
use apimachinery::{Api, Errors, Path};

use crate::checks::{immutable, ip};
use crate::core::pod::Pod;
use crate::core::pod::affinity::Affinity;
use crate::core::pod::container::{Container, ResourceRequirements};
use crate::core::pod::spec::PodSpec;
use crate::core::pod::status::ContainerStatus;

/// An update of the pod itself.
pub(super) fn pod(errors: &mut Errors, new: &Pod, old: &Pod) {
    let spec = Path::new("spec");
    for (field, new, old) in [
        ("containers", &new.spec.containers, &old.spec.containers),
        ("initContainers", &new.spec.init_containers, &old.spec.init_containers),
    ] {
        if new.len() != old.len() {
            errors.forbidden(&spec.child(field), "pod updates may not add or remove containers");
            return;
        }
    }
    let deadline = spec.child("activeDeadlineSeconds");
    match (new.spec.active_deadline_seconds, old.spec.active_deadline_seconds) {
        (Some(new), _) if in_range(new, 0, i64::from(i32::MAX)).is_some() => {
            errors.invalid(&deadline, new, in_range(new, 0, i64::from(i32::MAX)).unwrap_or_default());
        }
        (Some(new), Some(old)) if old < new => {
            errors.invalid(&deadline, new, "must be less than or equal to previous value");
        }
        (None, Some(_)) => {
            let message = "must not update from a positive integer to nil value";
            errors.invalid(&deadline, apimachinery::Value::Null, message);
        }
        _ => {}
    }
    for toleration in &old.spec.tolerations {
        let kept = new.spec.tolerations.iter().any(|t| {
            let mut t = t.clone();
            t.toleration_seconds = toleration.toleration_seconds;
            t == *toleration
        });
        if !kept {
            let message = "existing toleration can not be modified except its tolerationSeconds";
            errors.forbidden(&spec.child("tolerations"), message);
            break;
        }
    }
    let gates = spec.child("schedulingGates");
    for (i, gate) in new.spec.scheduling_gates.iter().enumerate() {
        if !old.spec.scheduling_gates.contains(gate) {
            let message = format!("only deletion is allowed, but found new scheduling gate '{}'", gate.name);
            errors.forbidden(&gates.index(i).child("name"), message);
        }
    }
    let mut munged = new.spec.clone();
    for (new, old) in munged.containers.iter_mut().zip(&old.spec.containers) {
        new.image.clone_from(&old.image);
    }
    for (new, old) in munged.init_containers.iter_mut().zip(&old.spec.init_containers) {
        new.image.clone_from(&old.image);
    }
    munged.active_deadline_seconds = old.spec.active_deadline_seconds;
    munged.scheduling_gates.clone_from(&old.spec.scheduling_gates);
    munged.tolerations.clone_from(&old.spec.tolerations);
    if old.spec.termination_grace_period_seconds.is_some_and(|s| s < 0)
        && munged.termination_grace_period_seconds == Some(1)
    {
        munged.termination_grace_period_seconds = old.spec.termination_grace_period_seconds;
    }
    if !old.spec.scheduling_gates.is_empty() {
        gated(errors, &spec, &mut munged, &old.spec);
    }
    if munged != old.spec {
        errors.forbidden(
            &spec,
            "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
        );
    }
}

/// A gated pod's placement may be made narrower.
fn gated(errors: &mut Errors, path: &Path<'_>, new: &mut PodSpec, old: &PodSpec) {
    let narrower = old.node_selector.iter().all(|(k, v)| new.node_selector.get(k) == Some(v));
    if !narrower {
        let message = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        let shown: apimachinery::Map =
            new.node_selector.iter().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect();
        errors.invalid(&path.child("nodeSelector"), shown, message);
    }
    new.node_selector.clone_from(&old.node_selector);
    let of = |spec: &PodSpec| spec.affinity.as_ref().and_then(|a| a.node_affinity.clone());
    let (new_node, old_node) = (of(new), of(old));
    if new_node == old_node {
        return;
    }
    let required = |a: &Option<crate::core::pod::affinity::NodeAffinity>| {
        a.as_ref().and_then(|a| a.required_during_scheduling_ignored_during_execution.clone())
    };
    if let Some(old_required) = required(&old_node) {
        let affinity = path.child("affinity");
        let node_affinity = affinity.child("nodeAffinity");
        let field = node_affinity.child("requiredDuringSchedulingIgnoredDuringExecution");
        let terms = field_terms(&old_required);
        let new_terms = required(&new_node).map(|r| field_terms(&r)).unwrap_or_default();
        let kept = terms.len() == new_terms.len()
            && terms.iter().zip(&new_terms).all(|(old, new)| old.iter().all(|r| new.contains(r)));
        if !kept {
            let message = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
            errors.invalid(&field, old_required.to_value(), message);
        }
    }
    match (&mut new.affinity, old_node) {
        (Some(affinity), old_node) => {
            affinity.node_affinity = old_node;
            if old.affinity.is_none() && *affinity == Affinity::default() {
                new.affinity = None;
            }
        }
        (None, Some(old_node)) => {
            new.affinity = Some(Affinity { node_affinity: Some(old_node), ..Affinity::default() });
        }
        (None, None) => {}
    }
}

/// The requirements of every term.
fn field_terms(
    selector: &crate::core::nodeselector::NodeSelector,
) -> Vec<Vec<crate::core::nodeselector::NodeSelectorRequirement>> {
    let terms = selector.node_selector_terms.iter();
    terms.map(|t| t.match_expressions.iter().chain(&t.match_fields).cloned().collect()).collect()
}

/// A write to `ephemeralcontainers`: additions alone.
pub(super) fn ephemeral_containers(errors: &mut Errors, new: &Pod, old: &Pod) {
    if old.metadata.annotations.contains_key("kubernetes.io/config.mirror") {
        errors.forbidden(&Path::new(""), "static pods do not support ephemeral containers");
        return;
    }
    let spec = Path::new("spec");
    let path = spec.child("ephemeralContainers");
    let name = |c: &crate::core::pod::container::EphemeralContainer| c.ephemeral_container_common.name.clone();
    for container in &old.spec.ephemeral_containers {
        let name_of = name(container);
        match new.spec.ephemeral_containers.iter().find(|c| name(c) == name_of) {
            None => {
                errors.forbidden(&path, format!("existing ephemeral containers {name_of:?} may not be removed\n"));
            }
            Some(other) if other != container => {
                errors.forbidden(&path, format!("existing ephemeral containers {name_of:?} may not be changed\n"));
            }
            Some(_) => {}
        }
    }
}

/// A write to `resize`: CPU and memory alone, of containers and of the pod as a whole, within the pod's class of service.
pub(super) fn resize(errors: &mut Errors, new: &Pod, old: &Pod) {
    let spec = Path::new("spec");
    if old.metadata.annotations.contains_key("kubernetes.io/config.mirror") {
        errors.forbidden(&Path::new(""), "static pods cannot be resized");
        return;
    }
    if old.spec.os.as_ref().is_some_and(|os| os.name == "windows") {
        errors.forbidden(&Path::new(""), "windows pods cannot be resized");
        return;
    }
    let class = match old.status.qos_class.as_str() {
        "" => super::prepare::qos_class(&old.spec),
        class => class,
    };
    if super::prepare::qos_class(&new.spec) != class {
        let message = "Pod QOS Class may not change as a result of resizing";
        errors.invalid(&spec, new.status.qos_class.as_str(), message);
    }
    // A node that says nothing of a running container's resources cannot change them.
    let running = old.status.container_statuses.iter().find(|status| status.state.running.is_some());
    if running.is_some_and(|status| status.resources.is_none()) {
        errors.forbidden(&spec, "Pod running on node without support for resize");
    }
    let mut ordered = true;
    for (field, new, old) in [
        ("containers", &new.spec.containers, &old.spec.containers),
        ("initContainers", &new.spec.init_containers, &old.spec.init_containers),
    ] {
        let path = spec.child(field);
        if new.len() != old.len() {
            errors.forbidden(&path, format!("{field} may not be added or removed on resize"));
            ordered = false;
            continue;
        }
        for (i, _) in new.iter().zip(old).enumerate().filter(|(_, (new, old))| new.name != old.name) {
            let message = format!("{field} may not be renamed or reordered on resize");
            errors.forbidden(&path.index(i).child("name"), message);
            ordered = false;
        }
    }
    if !ordered {
        return;
    }
    resized_whole(errors, &spec, new.spec.resources.as_ref(), old.spec.resources.as_ref());
    for (i, (new, old)) in new.spec.containers.iter().zip(&old.spec.containers).enumerate() {
        resized_container(errors, &spec.child("containers").index(i), new, old, false);
    }
    for (i, (new, old)) in new.spec.init_containers.iter().zip(&old.spec.init_containers).enumerate() {
        resized_container(errors, &spec.child("initContainers").index(i), new, old, true);
    }
    let mut munged = new.spec.clone();
    munged.containers.clone_from(&old.spec.containers);
    munged.init_containers.clone_from(&old.spec.init_containers);
    munged.resources.clone_from(&old.spec.resources);
    if munged != old.spec {
        errors.forbidden(&spec, "only cpu and memory resources are mutable");
    }
}

/// Reports requests and limits that are missing although they were there.
fn kept(errors: &mut Errors, path: &Path<'_>, new: &ResourceRequirements, old: &ResourceRequirements, what: &str) {
    for (kind, new, old) in [("requests", &new.requests, &old.requests), ("limits", &new.limits, &old.limits)] {
        if old.keys().any(|resource| !new.contains_key(resource)) {
            errors.forbidden(&path.child(kind), format!("{what} {kind} cannot be removed"));
        }
    }
}

fn resized_whole(
    errors: &mut Errors,
    spec: &Path<'_>,
    new: Option<&ResourceRequirements>,
    old: Option<&ResourceRequirements>,
) {
    let path = spec.child("resources");
    let none = ResourceRequirements::default();
    match (new, old) {
        (None, None) => return,
        (None, Some(_)) => {
            errors.forbidden(&path, "pod-level resources cannot be removed");
            return;
        }
        (Some(new), Some(old)) => kept(errors, &path, new, old, "pod-level resource"),
        (Some(_), None) => {}
    }
    let (mut munged, old) = (new.unwrap_or(&none).clone(), old.unwrap_or(&none));
    keep_other_resources(&mut munged, old);
    if munged != *old {
        errors.forbidden(spec, "only cpu and memory resources are mutable at pod-level");
    }
}

fn resized_container(errors: &mut Errors, path: &Path<'_>, new: &Container, old: &Container, init: bool) {
    kept(errors, &path.child("resources"), &new.resources, &old.resources, "resource");
    let mut munged = new.clone();
    keep_other_resources(&mut munged.resources, &old.resources);
    if munged != *old {
        match init {
            true => errors.forbidden(path, "only cpu and memory resources for init or sidecar containers are mutable"),
            false => errors.forbidden(&Path::new("spec"), "only cpu and memory resources are mutable"),
        }
    }
    let sidecar = old.restart_policy.as_deref() == Some("Always");
    let restarts = new.resize_policy.iter().any(|policy| policy.restart_policy == "RestartContainer");
    if init && !sidecar && new != old && restarts {
        let message = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized";
        errors.forbidden(path, message);
    }
}

/// Takes CPU and memory from the old requirements, so that only other differences remain.
fn keep_other_resources(new: &mut ResourceRequirements, old: &ResourceRequirements) {
    for (new, old) in [(&mut new.limits, &old.limits), (&mut new.requests, &old.requests)] {
        for resource in ["cpu", "memory"] {
            match old.get(resource) {
                Some(quantity) => new.insert(resource.into(), *quantity),
                None => new.remove(resource),
            };
        }
    }
}

/// A write to `status`.
pub(super) fn status(errors: &mut Errors, new: &Pod, old: &Pod) {
    let path = Path::new("status");
    if new.spec.node_name != old.spec.node_name {
        errors.forbidden(&path.child("nodeName"), "may not be changed directly");
    }
    let nominated = &new.status.nominated_node_name;
    if *nominated != old.status.nominated_node_name && !nominated.is_empty() {
        check(errors, &path.child("nominatedNodeName"), nominated, dns_subdomain);
    }
    if new.status.observed_generation < 0 {
        let message = "must be a non-negative integer";
        errors.invalid(&path.child("observedGeneration"), new.status.observed_generation, message);
    }
    immutable(errors, &path.child("qosClass"), &new.status.qos_class, &old.status.qos_class);
    for (field, new_statuses, old_statuses) in [
        ("containerStatuses", &new.status.container_statuses, &old.status.container_statuses),
        ("initContainerStatuses", &new.status.init_container_statuses, &old.status.init_container_statuses),
    ] {
        transitions(errors, &path.child(field), new_statuses, old_statuses, &old.spec);
    }
    let ips = path.child("podIPs");
    for (i, address) in new.status.pod_ips.iter().enumerate() {
        ip(errors, &ips.index(i), &address.ip);
    }
    let families = new.status.pod_ips.iter().filter(|a| a.ip.contains(':')).count();
    if new.status.pod_ips.len() > 2 || (new.status.pod_ips.len() == 2 && families != 1) {
        errors.invalid(&ips, new.status.pod_ips.to_value(), "may specify no more than one IP for each IP family");
    }
}

/// Whether a container with this outcome is started again.
fn restarts(spec: &PodSpec, name: &str, exit_code: i32) -> bool {
    let container = spec.containers.iter().chain(&spec.init_containers).find(|c| c.name == name);
    if let Some(container) = container {
        for rule in &container.restart_policy_rules {
            let Some(codes) = &rule.exit_codes else { continue };
            let held = codes.values.contains(&exit_code);
            if held == (codes.operator == "In") {
                return true;
            }
        }
    }
    let policy = container.and_then(|c| c.restart_policy.as_deref()).unwrap_or(&spec.restart_policy);
    match policy {
        "Always" => true,
        "OnFailure" => exit_code != 0,
        _ => false,
    }
}

/// A container that ended for good stays ended.
fn transitions(errors: &mut Errors, path: &Path<'_>, new: &[ContainerStatus], old: &[ContainerStatus], spec: &PodSpec) {
    if spec.restart_policy == "Always" {
        return;
    }
    for (i, old) in old.iter().enumerate() {
        let Some(terminated) = &old.state.terminated else { continue };
        let Some(new) = new.iter().find(|s| s.name == old.name) else { continue };
        if new.state.terminated.is_none() && !restarts(spec, &old.name, terminated.exit_code) {
            errors.forbidden(&path.index(i).child("state"), "may not be transitioned to non-terminated state");
        }
    }
}

/// A binding: the node of a pod is set once.
pub(super) fn node_name(errors: &mut Errors, new: &Pod, old: &Pod) {
    if !old.spec.node_name.is_empty() && new.spec.node_name != old.spec.node_name {
        errors.invalid(&Path::new("spec").child("nodeName"), new.spec.node_name.as_str(), IMMUTABLE);
    }
}
