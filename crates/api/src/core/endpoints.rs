//! Endpoints: lists the addresses behind a service, in the form that predates slices.

use crate::checks::{ip, name, one_of, parse_ip};
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{check, dns_label, dns_subdomain, port_number, qualified_name};
use apimachinery::{Api, Errors, Kind, Path, Rules, RulesCx, Value};

use crate::cells::{first_three, int, items, str_of};
use crate::core::references::ObjectReference;
use crate::served::served;

/// Endpoints: lists the addresses behind a service, in the form that predates slices.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.Endpoints")]
pub struct Endpoints {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty, list = "atomic")]
    pub subsets: Vec<EndpointSubset>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.EndpointSubset")]
pub struct EndpointSubset {
    #[api(1, omitempty, list = "atomic")]
    pub addresses: Vec<EndpointAddress>,
    #[api(2, omitempty, list = "atomic")]
    pub not_ready_addresses: Vec<EndpointAddress>,
    #[api(3, omitempty, list = "atomic")]
    pub ports: Vec<EndpointPort>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.EndpointAddress", atomic)]
pub struct EndpointAddress {
    #[api(1, required)]
    pub ip: String,
    #[api(3, omitempty)]
    pub hostname: String,
    #[api(4, omitempty)]
    pub node_name: Option<String>,
    #[api(2, omitempty)]
    pub target_ref: Option<ObjectReference>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.EndpointPort", atomic)]
pub struct EndpointPort {
    #[api(1, omitempty)]
    pub name: String,
    #[api(2, required)]
    pub port: i32,
    #[api(3, omitempty, enumeration("SCTP", "TCP", "UDP"))]
    pub protocol: String,
    #[api(4, omitempty)]
    pub app_protocol: Option<String>,
}

pub fn kind() -> Kind {
    Kind::namespaced::<Endpoints>("", "v1", "endpoints")
        .short(&["ep"])
        .stored_under("services/endpoints")
        .deprecated("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
        .code_column("Endpoints", "string", endpoints_cell)
        .age()
        .create_on_update()
        .example(
            r#"{"metadata": {"name": "web"}, "subsets": [{"addresses": [{"ip": "10.0.0.7"}],
            "ports": [{"name": "http", "port": 8080}]}]}"#,
        )
}

served!(Endpoints, "", "v1", "endpoints", true);

impl Rules for Endpoints {
    fn set_defaults(&mut self) {
        for port in self.subsets.iter_mut().flat_map(|subset| &mut subset.ports) {
            if port.protocol.is_empty() {
                port.protocol = "TCP".into();
            }
        }
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let subsets = Path::new("subsets");
        for (i, subset) in self.subsets.iter().enumerate() {
            let path = subsets.index(i);
            if subset.addresses.is_empty() && subset.not_ready_addresses.is_empty() {
                errors.required(&path, "must specify `addresses` or `notReadyAddresses`");
            }
            for (field, addresses) in
                [("addresses", &subset.addresses), ("notReadyAddresses", &subset.not_ready_addresses)]
            {
                let path = path.child(field);
                for (j, address) in addresses.iter().enumerate() {
                    let path = path.index(j);
                    endpoint_ip(errors, &path.child("ip"), &address.ip);
                    if parse_ip(&address.ip).is_none() {
                        errors.invalid(&path.child("ip"), address.ip.as_str(), "must be a valid IP address");
                    }
                    if !address.hostname.is_empty() {
                        check(errors, &path.child("hostname"), &address.hostname, dns_label);
                    }
                    if let Some(node) = &address.node_name {
                        check(errors, &path.child("nodeName"), node, dns_subdomain);
                    }
                }
            }
            let ports = path.child("ports");
            for (j, port) in subset.ports.iter().enumerate() {
                let path = ports.index(j);
                if port.name.is_empty() {
                    if subset.ports.len() > 1 {
                        errors.required(&path.child("name"), "");
                    }
                } else {
                    check(errors, &path.child("name"), &port.name, dns_label);
                }
                if let Some(fault) = port_number(i64::from(port.port)) {
                    errors.invalid(&path.child("port"), port.port, fault);
                }
                one_of(errors, &path.child("protocol"), &port.protocol, &["TCP", "UDP", "SCTP"]);
                if let Some(protocol) = &port.app_protocol {
                    check(errors, &path.child("appProtocol"), protocol, qualified_name);
                }
            }
        }
    }
}

/// An address that traffic can be sent to.
pub(crate) fn endpoint_ip(errors: &mut Errors, path: &Path<'_>, value: &str) {
    ip(errors, path, value);
    let Some(address) = parse_ip(value) else { return };
    let (link_local, link_multicast) = match address {
        std::net::IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        std::net::IpAddr::V6(v6) => (v6.segments()[0] & 0xffc0 == 0xfe80, v6.segments()[0] & 0xff0f == 0xff02),
    };
    let message = match () {
        _ if address.is_unspecified() => format!("may not be unspecified ({value})"),
        _ if address.is_loopback() => "may not be in the loopback range (127.0.0.0/8, ::1/128)".into(),
        _ if link_local => "may not be in the link-local range (169.254.0.0/16, fe80::/10)".into(),
        _ if link_multicast => "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".into(),
        _ => return,
    };
    errors.invalid(path, value, message);
}

fn endpoints_cell(object: &Value, _now: i64) -> Value {
    let subsets = items(object, &["subsets"]);
    if subsets.is_empty() {
        return "<none>".into();
    }
    let mut parts = Vec::new();
    for subset in subsets {
        let addresses = || items(subset, &["addresses"]).iter().map(|a| str_of(a, &["ip"]));
        let ports = items(subset, &["ports"]);
        if ports.is_empty() {
            parts.extend(addresses().map(String::from));
        }
        for port in ports {
            let port = int(port, &["port"]);
            parts.extend(
                addresses().map(|ip| if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }),
            );
        }
    }
    first_three(&parts).into()
}
