//! Pod: is a group of containers that share a node, a network and volumes.

pub mod affinity;
pub mod container;
pub(crate) mod defaults;
mod prepare;
mod printing;
pub mod probe;
pub mod security;
pub mod spec;
pub mod status;
mod update;
pub(crate) mod validate;
pub(crate) mod validate_container;
pub(crate) mod validate_volumes;

use crate::checks::name;
use crate::core::pod::defaults::{pod_only_defaults, pod_spec_defaults};
use crate::core::pod::status::PodIP;
use apimachinery::kind::{Action, Generation, Verbs};
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{dns_label, dns_subdomain, nonnegative};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Value};

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
        .returns_deleted()
        .example(
            r#"{"metadata": {"name": "web", "labels": {"app": "web"}}, "spec": {"containers": [{"name": "web",
            "image": "registry.example/web:1", "ports": [{"name": "http", "containerPort": 8080}],
            "env": [{"name": "COLOR", "value": "blue"}], "resources": {"limits": {"memory": "64Mi"},
            "requests": {"cpu": "100m"}}, "readinessProbe": {"httpGet": {"path": "/ready",
            "port": "http"}}, "volumeMounts": [{"name": "scratch", "mountPath": "/scratch"}]}],
            "volumes": [{"name": "scratch", "emptyDir": {}}], "tolerations": [{"key": "dedicated",
            "operator": "Exists"}]}}"#,
        )
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

    fn prepare_create(&mut self, cx: &RulesCx<'_>) {
        prepare::create(self, cx.now.0);
    }

    fn prepare_update(&mut self, old: &Self, cx: &RulesCx<'_>) {
        if cx.subresource == "status" {
            let (new, old) = (&mut self.status, &old.status);
            if new.qos_class.is_empty() {
                new.qos_class.clone_from(&old.qos_class);
            }
            if new.resource_claim_statuses.is_empty() {
                new.resource_claim_statuses.clone_from(&old.resource_claim_statuses);
            }
            if new.observed_generation == 0 {
                new.observed_generation = old.observed_generation;
            }
        } else if self.spec.resources.is_none() {
            self.spec.resources.clone_from(&old.spec.resources);
        }
        if cx.subresource == "resize" {
            prepare::resize(&mut self.spec, &old.spec);
        }
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let spec = Path::new("spec");
        name(errors, &self.metadata, dns_subdomain);
        validate::pod_annotations(errors, &self.metadata.annotations, &self.spec);
        let around = validate::Surroundings { metadata: Some(&self.metadata) };
        validate::pod_spec(errors, &spec, &self.spec, &around);
        if self.spec.service_account_name.is_empty() {
            validate::no_tokens(errors, &spec.child("volumes"), &self.spec.volumes);
        }
        if let Some(seconds) = self.spec.termination_grace_period_seconds {
            nonnegative(errors, &spec.child("terminationGracePeriodSeconds"), seconds);
        }
    }

    fn validate_create(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let spec = Path::new("spec");
        if !self.spec.ephemeral_containers.is_empty() {
            errors.forbidden(&spec.child("ephemeralContainers"), "cannot be set on create");
        }
        if !self.spec.node_name.is_empty() && !self.spec.scheduling_gates.is_empty() {
            errors.forbidden(&spec.child("nodeName"), "cannot be set until all schedulingGates have been cleared");
        }
    }

    fn validate_update(&self, old: &Self, cx: &RulesCx<'_>, errors: &mut Errors) {
        match cx.subresource {
            "ephemeralcontainers" => update::ephemeral_containers(errors, self, old),
            "resize" => update::resize(errors, self, old),
            "binding" => update::node_name(errors, self, old),
            _ => update::pod(errors, self, old),
        }
    }

    fn validate_status_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        update::status(errors, self, old);
    }

    fn warnings(&self, old: Option<&Self>, _cx: &RulesCx<'_>, out: &mut Vec<String>) {
        let faults = dns_label(&self.metadata.name);
        if old.is_none() && !faults.is_empty() {
            out.push(format!(
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{}]",
                faults.join(" ")
            ));
        }
    }
}

/// Seconds that the kubelet gives the containers to end; less than 0 where no kubelet has to end any, whatever is asked.
fn grace_seconds(pod: &Value) -> i64 {
    let assigned = pod.str_at(&["spec", "nodeName"]).is_some_and(|node| !node.is_empty());
    if !assigned || matches!(pod.str_at(&["status", "phase"]), Some("Succeeded" | "Failed")) {
        return -1;
    }
    match pod.at(&["spec", "terminationGracePeriodSeconds"]).and_then(Value::as_i64) {
        Some(seconds) if seconds < 0 => 1,
        Some(seconds) => seconds,
        None => 30,
    }
}
