//! EndpointSlice: lists some of the endpoints of a service.

use std::collections::BTreeMap;

use crate::checks::{immutable, maybe_one_of, name, one_of, parse_ip};
use crate::core::endpoints::endpoint_ip;
use apimachinery::kind::Generation;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{check, dns_label, dns_subdomain, label_value, qualified_name};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Value};

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

    fn prepare_update(&mut self, _old: &Self, _cx: &RulesCx<'_>) {
        for endpoint in &mut self.endpoints {
            // The zone has a field of its own; the older map must not contradict it.
            endpoint.deprecated_topology.remove("topology.kubernetes.io/zone");
        }
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        one_of(errors, &Path::new("addressType"), &self.address_type, &["FQDN", "IPv4", "IPv6"]);
        let endpoints = Path::new("endpoints");
        if self.endpoints.len() > 1000 {
            errors.too_many(&endpoints, self.endpoints.len(), 1000);
        } else {
            for (i, endpoint) in self.endpoints.iter().enumerate() {
                endpoint_rules(errors, &endpoints.index(i), endpoint, &self.address_type);
            }
        }
        let ports = Path::new("ports");
        if self.ports.len() > 20_000 {
            errors.too_many(&ports, self.ports.len(), 20_000);
            return;
        }
        let mut names = std::collections::BTreeSet::new();
        for (i, port) in self.ports.iter().enumerate() {
            let path = ports.index(i);
            let name = port.name.as_deref().unwrap_or("");
            if !name.is_empty() {
                check(errors, &path.child("name"), name, dns_label);
            }
            if !names.insert(name) {
                errors.duplicate(&path.child("name"), name);
            }
            match &port.protocol {
                None => errors.required(&path.child("protocol"), ""),
                some => maybe_one_of(errors, &path.child("protocol"), some.as_ref(), &["SCTP", "TCP", "UDP"]),
            }
            if let Some(protocol) = &port.app_protocol {
                check(errors, &path.child("appProtocol"), protocol, qualified_name);
            }
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        immutable(errors, &Path::new("addressType"), &self.address_type, &old.address_type);
    }
}

fn endpoint_rules(errors: &mut Errors, path: &Path<'_>, endpoint: &Endpoint, address_type: &str) {
    let addresses = path.child("addresses");
    if endpoint.addresses.is_empty() {
        errors.required(&addresses, "");
    } else if endpoint.addresses.len() > 100 {
        errors.too_many(&addresses, endpoint.addresses.len(), 100);
    }
    for (i, address) in endpoint.addresses.iter().enumerate() {
        let path = addresses.index(i);
        match address_type {
            "IPv4" | "IPv6" => {
                endpoint_ip(errors, &path, address);
                if parse_ip(address).is_some_and(|ip| ip.is_ipv6() != (address_type == "IPv6")) {
                    errors.invalid(&addresses, address.as_str(), format!("must be an {address_type} address"));
                }
            }
            "FQDN" => {
                let name = address.strip_suffix('.').unwrap_or(address);
                check(errors, &path, name, dns_subdomain);
                if !name.contains('.') {
                    let message = "should be a domain with at least two segments separated by dots";
                    errors.invalid(&path, name, message);
                }
            }
            _ => {}
        }
    }
    if let Some(node) = &endpoint.node_name {
        check(errors, &path.child("nodeName"), node, dns_subdomain);
    }
    if let Some(hostname) = &endpoint.hostname {
        check(errors, &path.child("hostname"), hostname, dns_label);
    }
    if let Some(hints) = &endpoint.hints {
        let path = path.child("hints");
        let zones = path.child("forZones");
        if hints.for_zones.len() > 8 {
            errors.too_many(&zones, hints.for_zones.len(), 8);
        }
        for (i, zone) in hints.for_zones.iter().enumerate() {
            check(errors, &zones.index(i).child("name"), &zone.name, label_value);
            if hints.for_zones[..i].contains(zone) {
                errors.duplicate(&zones.index(i).child("name"), zone.name.as_str());
            }
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
