//! What the server keeps of the cluster's objects.

use std::net::IpAddr;

use apimachinery::Value;
use smol_str::SmolStr;

use crate::records::{EndpointAddress, Service, ServicePort};

/// The label by which a slice names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

fn list<'a>(tree: &'a Value, path: &[&str]) -> &'a [Value] {
    tree.at(path).and_then(Value::as_list).unwrap_or_default()
}

fn ports(tree: &Value, path: &[&str]) -> Vec<ServicePort> {
    list(tree, path)
        .iter()
        .filter_map(|value| {
            let protocol = value.str_at(&["protocol"]).unwrap_or("TCP").to_ascii_lowercase();
            let port = value.get("port").and_then(Value::as_i64).and_then(|number| u16::try_from(number).ok())?;
            Some(ServicePort {
                name: value.str_at(&["name"]).unwrap_or_default().to_ascii_lowercase().into(),
                protocol: protocol.into(),
                port,
            })
        })
        .collect()
}

/// Takes what is needed of a service.
pub fn service(tree: &Value) -> Service {
    if tree.str_at(&["spec", "type"]) == Some("ExternalName") {
        let name = tree.str_at(&["spec", "externalName"]).unwrap_or_default();
        return Service { external_name: Some(name.to_owned()), ..Service::default() };
    }
    let mut cluster_ips: Vec<IpAddr> =
        list(tree, &["spec", "clusterIPs"]).iter().filter_map(|value| value.as_str()?.parse().ok()).collect();
    if cluster_ips.is_empty() {
        cluster_ips.extend(tree.str_at(&["spec", "clusterIP"]).unwrap_or_default().parse::<IpAddr>());
    }
    Service { cluster_ips, external_name: None, ports: ports(tree, &["spec", "ports"]) }
}

/// Takes what is needed of a node: its addresses.
pub fn node(tree: &Value) -> Vec<IpAddr> {
    let addresses = list(tree, &["status", "addresses"]).iter();
    addresses.filter_map(|address| address.str_at(&["address"])?.parse().ok()).collect()
}

/// Takes what is needed of an endpoint slice: its service and the addresses that want traffic.
pub fn slice(tree: &Value) -> Option<(SmolStr, Vec<EndpointAddress>)> {
    let service = tree.str_at(&["metadata", "labels", SERVICE_NAME])?;
    let ports = ports(tree, &["ports"]);
    let addresses = list(tree, &["endpoints"])
        .iter()
        .filter(|endpoint| endpoint.at(&["conditions", "ready"]).and_then(Value::as_bool).unwrap_or(true))
        .flat_map(|endpoint| {
            let hostname = endpoint.str_at(&["hostname"]).filter(|name| !name.is_empty()).map(SmolStr::from);
            let ports = ports.clone();
            list(endpoint, &["addresses"]).iter().filter_map(move |value| {
                let ip = value.as_str()?.parse().ok()?;
                Some(EndpointAddress { ip, hostname: hostname.clone(), ports: ports.clone() })
            })
        })
        .collect();
    Some((service.into(), addresses))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(json: &str) -> Value {
        apimachinery::codec::json::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn services_and_slices() {
        let web = service(&tree(
            r#"{"spec":{"clusterIP":"10.43.0.7","clusterIPs":["10.43.0.7","fd43::7"],
                "ports":[{"name":"http","port":80},{"port":53,"protocol":"UDP"}]}}"#,
        ));
        assert_eq!((web.cluster_ips.len(), web.ports[1].protocol.as_str(), web.is_headless()), (2, "udp", false));
        assert!(service(&tree(r#"{"spec":{"clusterIP":"None"}}"#)).is_headless());
        let out = service(&tree(r#"{"spec":{"type":"ExternalName","externalName":"example.org"}}"#));
        assert_eq!(out.external_name.as_deref(), Some("example.org"));
        let (name, addresses) = slice(&tree(
            r#"{"metadata":{"labels":{"kubernetes.io/service-name":"db"}},"ports":[{"name":"sql","port":5432}],
                "endpoints":[{"addresses":["10.42.0.5"],"hostname":"db-0"},
                             {"addresses":["10.42.0.6"],"conditions":{"ready":false}}]}"#,
        ))
        .unwrap();
        assert_eq!((name.as_str(), addresses.len(), addresses[0].label().as_str()), ("db", 1, "db-0"));
        assert_eq!(slice(&tree("{}")), None);
    }
}
