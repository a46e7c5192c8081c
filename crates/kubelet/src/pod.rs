//! What many parts of a node ask of a pod: one of its containers, whom events are about, how long its end may take.

use api::core::pod::Pod;
use api::core::pod::container::Container;
use client::events::Subject;

use crate::status;

/// A container of any sort, by its name.
pub fn find(pod: &Pod, name: &str) -> Option<Container> {
    let spec = &pod.spec;
    let plain = spec.containers.iter().chain(&spec.init_containers).find(|c| c.name == name).cloned();
    plain.or_else(|| status::ephemeral_containers(pod).into_iter().find(|c| c.name == name))
}

/// The subject of events about a pod, or about one of its containers.
pub fn subject(pod: &Pod, container: &str) -> Subject {
    let spec = &pod.spec;
    let place = if container.is_empty() {
        String::new()
    } else if spec.init_containers.iter().any(|c| c.name == container) {
        format!("spec.initContainers{{{container}}}")
    } else if spec.ephemeral_containers.iter().any(|c| c.ephemeral_container_common.name == container) {
        format!("spec.ephemeralContainers{{{container}}}")
    } else {
        format!("spec.containers{{{container}}}")
    };
    Subject {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: pod.metadata.namespace.as_str().into(),
        name: pod.metadata.name.as_str().into(),
        uid: pod.metadata.uid.as_str().into(),
        field_path: place.into(),
    }
}

/// How long the pod's end may take, in seconds, where nobody asked for less.
pub fn grace(pod: &Pod) -> i64 {
    pod.spec.termination_grace_period_seconds.unwrap_or(30).max(0)
}

/// How long a pod that is being deleted has; at least a second. In seconds.
pub fn deletion_grace(pod: &Pod) -> i64 {
    pod.metadata.deletion_grace_period_seconds.unwrap_or_else(|| grace(pod)).max(1)
}
