//! What a pod becomes before it is written: gates, merged label keys, pod-level requests, its class of service.

use std::collections::BTreeMap;

use apimachinery::meta::{LabelSelector, LabelSelectorRequirement};
use apimachinery::{Quantity, Time};

use crate::core::pod::Pod;
use crate::core::pod::affinity::PodAffinityTerm;
use crate::core::pod::container::{Container, ResourceRequirements};
use crate::core::pod::spec::PodSpec;
use crate::core::pod::status::{PodCondition, PodStatus};
use crate::quantities::{Resources, is_huge_page};

pub(super) fn create(pod: &mut Pod, now: i64) {
    pod.status = PodStatus { phase: "Pending".into(), ..PodStatus::default() };
    if !pod.spec.scheduling_gates.is_empty() {
        pod.status.conditions.push(PodCondition {
            type_: "PodScheduled".into(),
            status: "False".into(),
            reason: "SchedulingGated".into(),
            message: "Scheduling is blocked due to non-empty scheduling gates".into(),
            last_transition_time: Time(now),
            ..PodCondition::default()
        });
    }
    merge_label_keys(&mut pod.spec, &pod.metadata.labels);
    pod_level_requests(&mut pod.spec);
    pod.status.qos_class = qos_class(&pod.spec).into();
}

/// Of what a resize says of containers only their resources and resize policies count. Containers that are others than
/// before are left to validation.
pub(super) fn resize(new: &mut PodSpec, old: &PodSpec) {
    if new.containers.len() != old.containers.len() || new.init_containers.len() != old.init_containers.len() {
        return;
    }
    let keep = |new: &mut Vec<Container>, old: &[Container]| {
        if new.iter().zip(old).any(|(new, old)| new.name != old.name) {
            return;
        }
        for (new, old) in new.iter_mut().zip(old) {
            let (resources, resize_policy) = (new.resources.clone(), new.resize_policy.clone());
            *new = Container { resources, resize_policy, ..old.clone() };
        }
    };
    keep(&mut new.containers, &old.containers);
    keep(&mut new.init_containers, &old.init_containers);
    pod_level_requests(new);
}

/// Turns `matchLabelKeys` and `mismatchLabelKeys` into requirements with the pod's own values.
fn merge_label_keys(spec: &mut PodSpec, labels: &BTreeMap<String, String>) {
    let require = |selector: &mut LabelSelector, keys: &[String], operator: &str| {
        for key in keys {
            if let Some(value) = labels.get(key) {
                selector.match_expressions.push(LabelSelectorRequirement {
                    key: key.clone(),
                    operator: operator.into(),
                    values: vec![value.clone()],
                });
            }
        }
    };
    let merge = |term: &mut PodAffinityTerm| {
        if let Some(selector) = &mut term.label_selector {
            require(selector, &term.match_label_keys, "In");
            require(selector, &term.mismatch_label_keys, "NotIn");
        }
    };
    if let Some(affinity) = &mut spec.affinity {
        if let Some(pods) = &mut affinity.pod_affinity {
            pods.required_during_scheduling_ignored_during_execution.iter_mut().for_each(merge);
            let preferred = pods.preferred_during_scheduling_ignored_during_execution.iter_mut();
            preferred.for_each(|weighted| merge(&mut weighted.pod_affinity_term));
        }
        if let Some(pods) = &mut affinity.pod_anti_affinity {
            pods.required_during_scheduling_ignored_during_execution.iter_mut().for_each(merge);
            let preferred = pods.preferred_during_scheduling_ignored_during_execution.iter_mut();
            preferred.for_each(|weighted| merge(&mut weighted.pod_affinity_term));
        }
    }
    for constraint in &mut spec.topology_spread_constraints {
        if let Some(selector) = &mut constraint.label_selector {
            require(selector, &constraint.match_label_keys, "In");
        }
    }
}

fn is_sidecar(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// What all containers take together at the pod's most demanding moment.
fn aggregate(spec: &PodSpec, of: fn(&ResourceRequirements) -> &Resources) -> Resources {
    fn add(sum: &mut Resources, more: &Resources) {
        for (resource, quantity) in more {
            sum.entry(resource.clone()).or_default().add(*quantity);
        }
    }
    fn at_least(most: &mut Resources, other: &Resources) {
        for (resource, quantity) in other {
            let held = most.entry(resource.clone()).or_insert(*quantity);
            *held = (*held).max(*quantity);
        }
    }
    let mut running = Resources::new();
    for container in &spec.containers {
        add(&mut running, of(&container.resources));
    }
    let (mut sidecars, mut starting) = (Resources::new(), Resources::new());
    for container in &spec.init_containers {
        let mut moment = sidecars.clone();
        add(&mut moment, of(&container.resources));
        at_least(&mut starting, &moment);
        if is_sidecar(container) {
            add(&mut sidecars, of(&container.resources));
        }
    }
    add(&mut running, &sidecars);
    at_least(&mut running, &starting);
    running
}

/// A pod with limits of its own requests what its containers request, or else its limits.
fn pod_level_requests(spec: &mut PodSpec) {
    let Some(resources) = &spec.resources else { return };
    if resources.limits.is_empty() && resources.requests.is_empty() {
        return;
    }
    let mut limits = resources.limits.clone();
    for (resource, quantity) in aggregate(spec, |r| &r.limits) {
        if is_huge_page(&resource) && !resources.requests.contains_key(&resource) {
            limits.entry(resource).or_insert(quantity);
        }
    }
    let mut requests = resources.requests.clone();
    if !limits.is_empty() {
        for (resource, quantity) in aggregate(spec, |r| &r.requests) {
            if matches!(resource.as_str(), "cpu" | "memory") {
                requests.entry(resource).or_insert(quantity);
            }
        }
        for (resource, quantity) in &limits {
            requests.entry(resource.clone()).or_insert(*quantity);
        }
    }
    if let Some(resources) = &mut spec.resources {
        resources.limits = limits;
        resources.requests = requests;
    }
}

/// `Guaranteed` when all compute resources are limited to what is requested, `BestEffort` when none is mentioned,
/// `Burstable` between.
pub(crate) fn qos_class(spec: &PodSpec) -> &'static str {
    let computes = |resources: &Resources| -> BTreeMap<String, Quantity> {
        let chosen = resources.iter().filter(|(name, quantity)| {
            matches!(name.as_str(), "cpu" | "memory") && !quantity.is_zero_amount() && !quantity.is_negative()
        });
        chosen.map(|(name, quantity)| (name.clone(), *quantity)).collect()
    };
    let containers: Vec<&ResourceRequirements> = match &spec.resources {
        Some(pod) => vec![pod],
        None => spec.containers.iter().chain(&spec.init_containers).map(|c| &c.resources).collect(),
    };
    let mut mentioned = false;
    let mut guaranteed = true;
    for resources in containers {
        let (requests, limits) = (computes(&resources.requests), computes(&resources.limits));
        mentioned |= !requests.is_empty() || !limits.is_empty();
        guaranteed &= limits.len() == 2 && requests.iter().all(|(name, q)| limits.get(name) == Some(q));
        // What is limited and not requested counts as requested in full.
    }
    match (mentioned, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(requests: &[(&str, &str)], limits: &[(&str, &str)]) -> PodSpec {
        let of = |list: &[(&str, &str)]| {
            list.iter().map(|(n, q)| (n.to_string(), Quantity::parse(q).unwrap())).collect::<Resources>()
        };
        let resources = ResourceRequirements { requests: of(requests), limits: of(limits), ..Default::default() };
        PodSpec { containers: vec![Container { resources, ..Container::default() }], ..PodSpec::default() }
    }

    #[test]
    fn class_of_service_follows_requests_and_limits() {
        let all = [("cpu", "1"), ("memory", "1Gi")];
        for (requests, limits, class) in [
            (&[][..], &[][..], "BestEffort"),
            (&[("cpu", "1")], &[], "Burstable"),
            (&all, &all, "Guaranteed"),
            (&all, &[("cpu", "2"), ("memory", "1Gi")], "Burstable"),
            (&[], &[("cpu", "1")], "Burstable"),
        ] {
            assert_eq!(qos_class(&spec(requests, limits)), class, "{requests:?} {limits:?}");
        }
    }
}
