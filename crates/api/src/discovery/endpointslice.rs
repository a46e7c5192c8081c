//! EndpointSlice: lists some of the endpoints of a service.

use std::collections::BTreeMap;

use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Rules, Value};

use crate::cells::{first_three, items, text};
use crate::core::references::ObjectReference;
use crate::served::served;

/// EndpointSlice: lists some of the endpoints of a service.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.discovery.v1.EndpointSlice")]
pub struct EndpointSlice {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(4, required, enumeration("FQDN", "IPv4", "IPv6"))]
    pub address_type: String,
    #[api(2, list = "atomic")]
    pub endpoints: Vec<Endpoint>,
    #[api(3, list = "atomic")]
    pub ports: Vec<EndpointPort>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.discovery.v1.Endpoint")]
pub struct Endpoint {
    #[api(1, required, list = "set")]
    pub addresses: Vec<String>,
    #[api(2, omitempty)]
    pub conditions: EndpointConditions,
    #[api(3, omitempty)]
    pub hostname: Option<String>,
    #[api(4, omitempty)]
    pub target_ref: Option<ObjectReference>,
    #[api(5, omitempty)]
    pub deprecated_topology: BTreeMap<String, String>,
    #[api(6, omitempty)]
    pub node_name: Option<String>,
    #[api(7, omitempty)]
    pub zone: Option<String>,
    #[api(8, omitempty)]
    pub hints: Option<EndpointHints>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.discovery.v1.EndpointConditions")]
pub struct EndpointConditions {
    #[api(1, omitempty)]
    pub ready: Option<bool>,
    #[api(2, omitempty)]
    pub serving: Option<bool>,
    #[api(3, omitempty)]
    pub terminating: Option<bool>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.discovery.v1.EndpointHints")]
pub struct EndpointHints {
    #[api(1, omitempty, list = "atomic")]
    pub for_zones: Vec<ForZone>,
    #[api(2, omitempty, list = "atomic")]
    pub for_nodes: Vec<ForNode>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.discovery.v1.ForZone")]
pub struct ForZone {
    #[api(1, required)]
    pub name: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.discovery.v1.ForNode")]
pub struct ForNode {
    #[api(1, required)]
    pub name: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.discovery.v1.EndpointPort", atomic)]
pub struct EndpointPort {
    #[api(1, omitempty)]
    pub name: Option<String>,
    #[api(2, omitempty, enumeration("SCTP", "TCP", "UDP"))]
    pub protocol: Option<String>,
    #[api(3, omitempty)]
    pub port: Option<i32>,
    #[api(4, omitempty)]
    pub app_protocol: Option<String>,
}

pub fn kind() -> Kind {
    Kind::namespaced::<EndpointSlice>("discovery.k8s.io", "v1", "endpointslices")
        .generation(Generation::OnContent)
        .code_column("AddressType", "string", |o, _| text(o, &["addressType"]))
        .code_column("Ports", "string", ports_cell)
        .code_column("Endpoints", "string", endpoints_cell)
        .age()
        .example(
            r#"{"metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.7"], "conditions": {"ready": true}}],
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}"#,
        )
}

served!(EndpointSlice, "discovery.k8s.io", "v1", "endpointslices", true);

impl Rules for EndpointSlice {
    fn set_defaults(&mut self) {
        for port in &mut self.ports {
            port.name.get_or_insert_default();
            port.protocol.get_or_insert_with(|| "TCP".into());
        }
    }
}

fn ports_cell(object: &Value, _now: i64) -> Value {
    let ports: Vec<String> = items(object, &["ports"])
        .iter()
        .map(|p| match (p.get("port"), p.str_at(&["name"])) {
            (Some(Value::Int(port)), _) => port.to_string(),
            (_, Some(name)) => name.to_string(),
            _ => "*".into(),
        })
        .collect();
    unset_or(first_three(&ports))
}

fn endpoints_cell(object: &Value, _now: i64) -> Value {
    let addresses: Vec<String> = items(object, &["endpoints"])
        .iter()
        .flat_map(|e| items(e, &["addresses"]))
        .filter_map(|a| a.as_str().map(String::from))
        .collect();
    unset_or(first_three(&addresses))
}

fn unset_or(text: String) -> Value {
    if text.is_empty() { "<unset>".into() } else { text.into() }
}
