//! Endpoints: lists the addresses behind a service, in the form that predates slices.

use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Rules, Value};

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
