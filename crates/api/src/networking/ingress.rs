//! Ingress: routes HTTP from outside to services.

use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Rules, Value};

use crate::cells::{count, items, str_of, text_or};
use crate::core::references::TypedLocalObjectReference;
use crate::core::service::load_balancer;
use crate::served::served;

/// Ingress: routes HTTP from outside to services.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.Ingress")]
pub struct Ingress {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: IngressSpec,
    #[api(3, omitempty)]
    pub status: IngressStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressSpec")]
pub struct IngressSpec {
    #[api(4, omitempty)]
    pub ingress_class_name: Option<String>,
    #[api(1, omitempty)]
    pub default_backend: Option<IngressBackend>,
    #[api(2, omitempty, list = "atomic")]
    pub tls: Vec<IngressTLS>,
    #[api(3, omitempty, list = "atomic")]
    pub rules: Vec<IngressRule>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressTLS")]
pub struct IngressTLS {
    #[api(1, omitempty, list = "atomic")]
    pub hosts: Vec<String>,
    #[api(2, omitempty)]
    pub secret_name: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressStatus")]
pub struct IngressStatus {
    #[api(1, omitempty)]
    pub load_balancer: IngressLoadBalancerStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressLoadBalancerStatus")]
pub struct IngressLoadBalancerStatus {
    #[api(1, omitempty, list = "atomic")]
    pub ingress: Vec<IngressLoadBalancerIngress>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressLoadBalancerIngress")]
pub struct IngressLoadBalancerIngress {
    #[api(1, omitempty)]
    pub ip: String,
    #[api(2, omitempty)]
    pub hostname: String,
    #[api(4, omitempty, list = "atomic")]
    pub ports: Vec<IngressPortStatus>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressPortStatus")]
pub struct IngressPortStatus {
    #[api(1, required)]
    pub port: i32,
    #[api(2, required, enumeration("SCTP", "TCP", "UDP"))]
    pub protocol: String,
    #[api(3, omitempty)]
    pub error: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressRule")]
pub struct IngressRule {
    #[api(1, omitempty)]
    pub host: String,
    #[api(2, inline)]
    pub ingress_rule_value: IngressRuleValue,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressRuleValue")]
pub struct IngressRuleValue {
    #[api(1, omitempty)]
    pub http: Option<HTTPIngressRuleValue>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.HTTPIngressRuleValue")]
pub struct HTTPIngressRuleValue {
    #[api(1, required, list = "atomic")]
    pub paths: Vec<HTTPIngressPath>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.HTTPIngressPath")]
pub struct HTTPIngressPath {
    #[api(1, omitempty)]
    pub path: String,
    #[api(3, required, enumeration("Exact", "ImplementationSpecific", "Prefix"))]
    pub path_type: Option<String>,
    #[api(2, required)]
    pub backend: IngressBackend,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressBackend")]
pub struct IngressBackend {
    #[api(4, omitempty)]
    pub service: Option<IngressServiceBackend>,
    #[api(3, omitempty)]
    pub resource: Option<TypedLocalObjectReference>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.IngressServiceBackend")]
pub struct IngressServiceBackend {
    #[api(1, required)]
    pub name: String,
    #[api(2, omitempty)]
    pub port: ServiceBackendPort,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.networking.v1.ServiceBackendPort", atomic)]
pub struct ServiceBackendPort {
    #[api(1, omitempty)]
    pub name: String,
    #[api(2, omitempty)]
    pub number: i32,
}

pub fn kind() -> Kind {
    Kind::namespaced::<Ingress>("networking.k8s.io", "v1", "ingresses")
        .short(&["ing"])
        .stored_under("ingress")
        .status()
        .generation(Generation::OnSpec)
        .code_column("Class", "string", |o, _| text_or(o, &["spec", "ingressClassName"], "<none>"))
        .code_column("Hosts", "string", hosts_cell)
        .code_column("Address", "string", |o, _| load_balancer(o).into())
        .code_column("Ports", "string", |o, _| if count(o, &["spec", "tls"]) > 0 { "80, 443" } else { "80" }.into())
        .age()
        .example(
            r#"{"metadata": {"name": "web"}, "spec": {"ingressClassName": "public", "rules": [{"host": "web.example.com",
            "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web",
            "port": {"number": 80}}}}]}}]}}"#,
        )
}

served!(Ingress, "networking.k8s.io", "v1", "ingresses", true);

impl Rules for Ingress {}

fn hosts_cell(object: &Value, _now: i64) -> Value {
    let rules = items(object, &["spec", "rules"]);
    let hosts: Vec<&str> = rules.iter().map(|r| str_of(r, &["host"])).filter(|h| !h.is_empty()).collect();
    match hosts.len() {
        0 => "*".into(),
        1..=3 => hosts.join(",").into(),
        _ => format!("{} + {} more...", hosts[..3].join(","), rules.len() - 3).into(),
    }
}
