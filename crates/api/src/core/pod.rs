//! Pod: is a group of containers that share a node, a network and volumes.

pub mod affinity;
pub mod container;
pub(crate) mod defaults;
mod printing;
pub mod probe;
pub mod security;
pub mod spec;
pub mod status;

use crate::core::pod::defaults::{pod_only_defaults, pod_spec_defaults};
use crate::core::pod::status::PodIP;
use apimachinery::kind::{Action, Generation, Verbs};
use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Rules, Value};

use crate::cells::text_or;
use crate::core::pod::printing::{gates_cell, ip_cell, ready_cell, restarts_cell, status_cell};
use crate::core::pod::spec::PodSpec;
use crate::core::pod::status::PodStatus;
use crate::served::served;

/// Pod: is a group of containers that share a node, a network and volumes.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.Pod")]
pub struct Pod {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: PodSpec,
    #[api(3, omitempty)]
    pub status: PodStatus,
}

pub fn kind() -> Kind {
    Kind::namespaced::<Pod>("", "v1", "pods")
        .short(&["po"])
        .category(&["all"])
        .status()
        .generation(Generation::OnSpec)
        .subresource_of("attach", Verbs::CREATE.with(Verbs::GET), Action::Connect, ("", "v1", "PodAttachOptions"))
        .subresource_of("binding", Verbs::CREATE, Action::Handler, ("", "v1", "Binding"))
        .subresource(
            "ephemeralcontainers",
            Verbs::GET.with(Verbs::UPDATE).with(Verbs::PATCH),
            Action::Fields(&["spec.ephemeralContainers"]),
        )
        .subresource_of("eviction", Verbs::CREATE, Action::Handler, ("policy", "v1", "Eviction"))
        .subresource_of("exec", Verbs::CREATE.with(Verbs::GET), Action::Connect, ("", "v1", "PodExecOptions"))
        .subresource("log", Verbs::GET, Action::Connect)
        .subresource_of(
            "portforward",
            Verbs::CREATE.with(Verbs::GET),
            Action::Connect,
            ("", "v1", "PodPortForwardOptions"),
        )
        .subresource_of(
            "proxy",
            Verbs::ALL.without(Verbs::LIST).without(Verbs::WATCH).without(Verbs::DELETE_COLLECTION),
            Action::Connect,
            ("", "v1", "PodProxyOptions"),
        )
        .subresource(
            "resize",
            Verbs::GET.with(Verbs::UPDATE).with(Verbs::PATCH),
            Action::Fields(&["spec.containers", "spec.initContainers", "spec.resources"]),
        )
        .selectable(&[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.podIPs",
            "status.nominatedNodeName",
        ])
        .grace(grace_seconds)
        .code_column("Ready", "string", ready_cell)
        .code_column("Status", "string", status_cell)
        .code_column("Restarts", "string", restarts_cell)
        .age()
        .wide_code_column("IP", "string", ip_cell)
        .wide_code_column("Node", "string", |o, _| text_or(o, &["spec", "nodeName"], "<none>"))
        .wide_code_column("Nominated Node", "string", |o, _| text_or(o, &["status", "nominatedNodeName"], "<none>"))
        .wide_code_column("Readiness Gates", "string", gates_cell)
}

served!(Pod, "", "v1", "pods", true);

impl Rules for Pod {
    fn set_defaults(&mut self) {
        pod_spec_defaults(&mut self.spec);
        pod_only_defaults(&mut self.spec);
        let status = &mut self.status;
        match (status.pod_ip.is_empty(), status.pod_ips.first()) {
            (true, Some(first)) => status.pod_ip = first.ip.clone(),
            (false, first) if first.is_none_or(|first| first.ip != status.pod_ip) => {
                status.pod_ips = vec![PodIP { ip: status.pod_ip.clone() }];
            }
            _ => {}
        }
    }
}

/// Seconds that the kubelet gives the containers to end; 0, whatever was asked, where no kubelet has to end any.
fn grace_seconds(pod: &Value) -> i64 {
    let assigned = pod.str_at(&["spec", "nodeName"]).is_some_and(|node| !node.is_empty());
    if !assigned || matches!(pod.str_at(&["status", "phase"]), Some("Succeeded" | "Failed")) {
        return 0;
    }
    match pod.at(&["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64) {
        Some(seconds) if seconds < 0 => 1,
        Some(seconds) => seconds,
        None => 30,
    }
}
