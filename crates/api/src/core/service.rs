//! Service: gives a set of pods one name and address.

mod validate;

use std::collections::BTreeMap;

use crate::checks::name;
use apimachinery::kind::{Action, Verbs};
use apimachinery::meta::{Condition, ObjectMeta};
use apimachinery::validation::dns_label;
use apimachinery::{Api, Errors, IntOrString, Kind, Rules, RulesCx, Value};

use crate::cells::{int, items, labels, str_of, strings, text};
use crate::served::served;

/// Service: gives a set of pods one name and address.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.Service")]
pub struct Service {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: ServiceSpec,
    #[api(3, omitempty)]
    pub status: ServiceStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.SessionAffinityConfig")]
pub struct SessionAffinityConfig {
    #[api(1, json = "clientIP", omitempty)]
    pub client_ip: Option<ClientIPConfig>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ClientIPConfig")]
pub struct ClientIPConfig {
    #[api(1, omitempty)]
    pub timeout_seconds: Option<i32>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ServiceStatus")]
pub struct ServiceStatus {
    #[api(1, omitempty)]
    pub load_balancer: LoadBalancerStatus,
    #[api(2, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<Condition>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.LoadBalancerStatus")]
pub struct LoadBalancerStatus {
    #[api(1, omitempty, list = "atomic")]
    pub ingress: Vec<LoadBalancerIngress>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.LoadBalancerIngress")]
pub struct LoadBalancerIngress {
    #[api(1, omitempty)]
    pub ip: String,
    #[api(2, omitempty)]
    pub hostname: String,
    #[api(3, omitempty)]
    pub ip_mode: Option<String>,
    #[api(4, omitempty, list = "atomic")]
    pub ports: Vec<PortStatus>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ServiceSpec")]
pub struct ServiceSpec {
    #[api(1, omitempty, list = "map", keys("port", "protocol"), patch = "merge", merge_key = "port")]
    pub ports: Vec<ServicePort>,
    #[api(2, omitempty, atomic)]
    pub selector: BTreeMap<String, String>,
    #[api(3, json = "clusterIP", omitempty)]
    pub cluster_ip: String,
    #[api(18, json = "clusterIPs", omitempty, list = "atomic")]
    pub cluster_ips: Vec<String>,
    #[api(4, omitempty, enumeration("ClusterIP", "ExternalName", "LoadBalancer", "NodePort"))]
    pub type_: String,
    #[api(5, json = "externalIPs", omitempty, list = "atomic")]
    pub external_ips: Vec<String>,
    #[api(7, omitempty, enumeration("ClientIP", "None"))]
    pub session_affinity: String,
    #[api(8, json = "loadBalancerIP", omitempty)]
    pub load_balancer_ip: String,
    #[api(9, omitempty, list = "atomic")]
    pub load_balancer_source_ranges: Vec<String>,
    #[api(10, omitempty)]
    pub external_name: String,
    #[api(11, omitempty, enumeration("Cluster", "Local"))]
    pub external_traffic_policy: String,
    #[api(12, omitempty)]
    pub health_check_node_port: i32,
    #[api(13, omitempty)]
    pub publish_not_ready_addresses: bool,
    #[api(14, omitempty)]
    pub session_affinity_config: Option<SessionAffinityConfig>,
    #[api(19, omitempty, list = "atomic")]
    pub ip_families: Vec<String>,
    #[api(17, omitempty, enumeration("PreferDualStack", "RequireDualStack", "SingleStack"))]
    pub ip_family_policy: Option<String>,
    #[api(20, omitempty)]
    pub allocate_load_balancer_node_ports: Option<bool>,
    #[api(21, omitempty)]
    pub load_balancer_class: Option<String>,
    #[api(22, omitempty, enumeration("Cluster", "Local"))]
    pub internal_traffic_policy: Option<String>,
    #[api(23, omitempty)]
    pub traffic_distribution: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ServicePort")]
pub struct ServicePort {
    #[api(1, omitempty)]
    pub name: String,
    #[api(2, omitempty, default = "\"TCP\"", enumeration("SCTP", "TCP", "UDP"))]
    pub protocol: String,
    #[api(6, omitempty)]
    pub app_protocol: Option<String>,
    #[api(3, required)]
    pub port: i32,
    #[api(4, omitempty)]
    pub target_port: IntOrString,
    #[api(5, omitempty)]
    pub node_port: i32,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.PortStatus")]
pub struct PortStatus {
    #[api(1, required)]
    pub port: i32,
    #[api(2, required, enumeration("SCTP", "TCP", "UDP"))]
    pub protocol: String,
    #[api(3, omitempty)]
    pub error: Option<String>,
}

pub fn kind() -> Kind {
    Kind::namespaced::<Service>("", "v1", "services")
        .short(&["svc"])
        .category(&["all"])
        .stored_under("services/specs")
        .status()
        .subresource_of(
            "proxy",
            Verbs::ALL.without(Verbs::LIST).without(Verbs::WATCH).without(Verbs::DELETE_COLLECTION),
            Action::Connect,
            ("", "v1", "ServiceProxyOptions"),
        )
        .selectable(&["spec.clusterIP", "spec.type"])
        .code_column("Type", "string", |o, _| text(o, &["spec", "type"]))
        .code_column("Cluster-IP", "string", cluster_ip_cell)
        .code_column("External-IP", "string", external_ip_cell)
        .code_column("Port(s)", "string", ports_cell)
        .age()
        .wide_code_column("Selector", "string", |o, _| labels(o, &["spec", "selector"]))
        .create_on_update()
        .returns_deleted()
        .example(
            r#"{"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"name": "http",
            "port": 80, "targetPort": "http"}]}}"#,
        )
}

served!(Service, "", "v1", "services", true);

impl Rules for Service {
    fn set_defaults(&mut self) {
        let spec = &mut self.spec;
        if spec.session_affinity.is_empty() {
            spec.session_affinity = "None".into();
        }
        match spec.session_affinity.as_str() {
            "None" => spec.session_affinity_config = None,
            "ClientIP" => {
                let config = spec.session_affinity_config.get_or_insert_default();
                config.client_ip.get_or_insert_default().timeout_seconds.get_or_insert(10_800);
            }
            _ => {}
        }
        if spec.type_.is_empty() {
            spec.type_ = "ClusterIP".into();
        }
        for port in &mut spec.ports {
            if port.protocol.is_empty() {
                port.protocol = "TCP".into();
            }
            if matches!(&port.target_port, IntOrString::Int(0)) || port.target_port == IntOrString::String("".into()) {
                port.target_port = IntOrString::Int(port.port);
            }
        }
        let type_ = spec.type_.as_str();
        let external =
            matches!(type_, "LoadBalancer" | "NodePort") || (type_ == "ClusterIP" && !spec.external_ips.is_empty());
        if external && spec.external_traffic_policy.is_empty() {
            spec.external_traffic_policy = "Cluster".into();
        }
        if matches!(type_, "ClusterIP" | "NodePort" | "LoadBalancer") {
            spec.internal_traffic_policy.get_or_insert_with(|| "Cluster".into());
        }
        if type_ == "LoadBalancer" {
            spec.allocate_load_balancer_node_ports.get_or_insert(true);
            for point in self.status.load_balancer.ingress.iter_mut().filter(|point| !point.ip.is_empty()) {
                point.ip_mode.get_or_insert_with(|| "VIP".into());
            }
        }
    }

    fn prepare_create(&mut self, _cx: &RulesCx<'_>) {
        self.normalize(None);
    }

    fn prepare_update(&mut self, old: &Self, _cx: &RulesCx<'_>) {
        self.normalize(Some(old));
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_label);
        validate::service(errors, self);
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        validate::service_update(errors, self, old);
    }

    fn validate_status_update(&self, _old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        validate::load_balancer_status(errors, self);
    }
}

fn cluster_ip_cell(object: &Value, _now: i64) -> Value {
    items(object, &["spec", "clusterIPs"]).first().and_then(Value::as_str).unwrap_or("<none>").into()
}

fn external_ip_cell(object: &Value, _now: i64) -> Value {
    let external = strings(object, &["spec", "externalIPs"]);
    match str_of(object, &["spec", "type"]) {
        "ClusterIP" | "NodePort" if external.is_empty() => "<none>".into(),
        "ClusterIP" | "NodePort" => external.into(),
        "LoadBalancer" => {
            let balancer = load_balancer(object);
            match (balancer.is_empty(), external.is_empty()) {
                (true, true) => "<pending>".into(),
                (false, true) => balancer.into(),
                (true, false) => external.into(),
                (false, false) => format!("{balancer},{external}").into(),
            }
        }
        "ExternalName" => text(object, &["spec", "externalName"]),
        _ => "<unknown>".into(),
    }
}

/// The addresses of a load balancer, sorted, cut to what fits a column.
pub(crate) fn load_balancer(object: &Value) -> String {
    let mut points: Vec<&str> = items(object, &["status", "loadBalancer", "ingress"])
        .iter()
        .map(|point| match str_of(point, &["ip"]) {
            "" => str_of(point, &["hostname"]),
            ip => ip,
        })
        .filter(|point| !point.is_empty())
        .collect();
    points.sort_unstable();
    points.dedup();
    let mut text = points.join(",");
    if text.len() > 16 {
        let cut = (0..=13).rev().find(|i| text.is_char_boundary(*i)).unwrap_or(0);
        text.truncate(cut);
        text.push_str("...");
    }
    text
}

fn ports_cell(object: &Value, _now: i64) -> Value {
    let ports: Vec<String> = items(object, &["spec", "ports"])
        .iter()
        .map(|p| {
            let (port, node, protocol) = (int(p, &["port"]), int(p, &["nodePort"]), str_of(p, &["protocol"]));
            if node > 0 { format!("{port}:{node}/{protocol}") } else { format!("{port}/{protocol}") }
        })
        .collect();
    if ports.is_empty() { "<none>".into() } else { ports.join(",").into() }
}
