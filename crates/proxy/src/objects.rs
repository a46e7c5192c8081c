//! What the proxy keeps of the cluster's objects, and how services and endpoint slices become service ports.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::Value;
use client::Key;
use smol_str::SmolStr;

use crate::model::{Endpoint, Prefix, Protocol, ServicePort, ServicePortName};

/// The label by which a slice names its service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// A service with this label has a proxy of its own.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Slices of headless services carry this label: nobody asks them through us.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// The default time a client keeps its endpoint.
const DEFAULT_AFFINITY: u64 = 10_800;

/// What is kept of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceView {
    cluster_ips: Vec<IpAddr>,
    external_ips: Vec<IpAddr>,
    load_balancer_ips: Vec<IpAddr>,
    ports: Vec<PortView>,
    source_ranges: Vec<Prefix>,
    affinity: Option<Duration>,
    external_local: bool,
    internal_local: bool,
    health_check_port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PortView {
    name: SmolStr,
    protocol: Protocol,
    port: u16,
    node_port: Option<u16>,
}

/// What is kept of an endpoint slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SliceView {
    service: SmolStr,
    ports: Vec<(SmolStr, Protocol, u16)>,
    endpoints: Vec<Endpoint>,
}

/// What is kept of the node itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeView {
    /// Its zone.
    pub zone: SmolStr,
    /// Its internal addresses.
    pub ips: Vec<IpAddr>,
}

fn text<'a>(tree: &'a Value, path: &[&str]) -> &'a str {
    tree.str_at(path).unwrap_or_default()
}

fn list<'a>(tree: &'a Value, path: &[&str]) -> &'a [Value] {
    tree.at(path).and_then(Value::as_list).unwrap_or_default()
}

fn addresses(tree: &Value, path: &[&str]) -> Vec<IpAddr> {
    list(tree, path).iter().filter_map(|value| value.as_str()?.parse().ok()).collect()
}

fn port(value: Option<&Value>) -> Option<u16> {
    value.and_then(Value::as_i64).and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0)
}

/// Takes what is needed of a service; `None` for those that need no proxy.
pub fn service(tree: &Value) -> Option<ServiceView> {
    if tree.at(&["metadata", "labels", PROXY_NAME]).is_some() || text(tree, &["spec", "type"]) == "ExternalName" {
        return None;
    }
    let mut cluster_ips = addresses(tree, &["spec", "clusterIPs"]);
    if cluster_ips.is_empty() {
        cluster_ips.extend(text(tree, &["spec", "clusterIP"]).parse::<IpAddr>());
    }
    if cluster_ips.is_empty() {
        return None;
    }
    let ports = list(tree, &["spec", "ports"])
        .iter()
        .filter_map(|value| {
            Some(PortView {
                name: text(value, &["name"]).into(),
                protocol: Protocol::parse(text(value, &["protocol"]))?,
                port: port(value.get("port"))?,
                node_port: port(value.get("nodePort")),
            })
        })
        .collect();
    let balanced = text(tree, &["spec", "type"]) == "LoadBalancer";
    let load_balancer_ips = list(tree, &["status", "loadBalancer", "ingress"])
        .iter()
        .filter(|_| balanced)
        // A balancer that changes the destination address sends to node ports.
        .filter(|ingress| ingress.str_at(&["ipMode"]).is_none_or(|mode| mode == "VIP"))
        .filter_map(|ingress| ingress.str_at(&["ip"])?.parse().ok())
        .collect();
    let mut source_ranges: Vec<Prefix> = list(tree, &["spec", "loadBalancerSourceRanges"])
        .iter()
        .filter_map(|value| value.as_str()?.parse().ok())
        .collect();
    if source_ranges.is_empty() {
        let annotation =
            text(tree, &["metadata", "annotations", "service.beta.kubernetes.io/load-balancer-source-ranges"]);
        source_ranges.extend(annotation.split(',').filter_map(|range| range.parse::<Prefix>().ok()));
    }
    let affinity = (text(tree, &["spec", "sessionAffinity"]) == "ClientIP").then(|| {
        let seconds = tree.at(&["spec", "sessionAffinityConfig", "clientIP", "timeoutSeconds"]);
        let seconds = seconds.and_then(Value::as_i64).and_then(|seconds| u64::try_from(seconds).ok());
        Duration::from_secs(seconds.filter(|seconds| *seconds > 0).unwrap_or(DEFAULT_AFFINITY))
    });
    let external_local = text(tree, &["spec", "externalTrafficPolicy"]) == "Local";
    Some(ServiceView {
        cluster_ips,
        external_ips: addresses(tree, &["spec", "externalIPs"]),
        load_balancer_ips,
        ports,
        source_ranges,
        affinity,
        external_local,
        internal_local: text(tree, &["spec", "internalTrafficPolicy"]) == "Local",
        health_check_port: port(tree.at(&["spec", "healthCheckNodePort"])).filter(|_| external_local && balanced),
    })
}

/// Takes what is needed of an endpoint slice; `None` for those nobody asks through us.
pub fn slice(tree: &Value) -> Option<SliceView> {
    let service = tree.str_at(&["metadata", "labels", SERVICE_NAME])?;
    if tree.at(&["metadata", "labels", HEADLESS]).is_some() || text(tree, &["addressType"]) == "FQDN" {
        return None;
    }
    let ports = list(tree, &["ports"])
        .iter()
        .filter_map(|value| {
            let protocol = Protocol::parse(text(value, &["protocol"]))?;
            Some((text(value, &["name"]).into(), protocol, port(value.get("port"))?))
        })
        .collect();
    let names = |value: &Value, kind: &str| -> Vec<SmolStr> {
        list(value, &["hints", kind]).iter().map(|hint| text(hint, &["name"]).into()).collect()
    };
    let endpoints = list(tree, &["endpoints"])
        .iter()
        .filter_map(|value| {
            // All addresses of one endpoint lead to the same pod: the first one is used.
            let ip = list(value, &["addresses"]).first()?.as_str()?.parse().ok()?;
            let condition = |name: &str| value.at(&["conditions", name]).and_then(Value::as_bool);
            let ready = condition("ready").unwrap_or(true);
            Some(Endpoint {
                ip,
                port: 0,
                node: text(value, &["nodeName"]).into(),
                ready,
                serving: condition("serving").unwrap_or(ready),
                terminating: condition("terminating").unwrap_or(false),
                zone_hints: names(value, "forZones"),
                node_hints: names(value, "forNodes"),
            })
        })
        .collect();
    Some(SliceView { service: service.into(), ports, endpoints })
}

/// Takes what is needed of a node.
pub fn node(tree: &Value) -> NodeView {
    let zone = text(tree, &["metadata", "labels", "topology.kubernetes.io/zone"]).into();
    let ips = list(tree, &["status", "addresses"])
        .iter()
        .filter(|address| text(address, &["type"]) == "InternalIP")
        .filter_map(|address| text(address, &["address"]).parse().ok())
        .collect();
    NodeView { zone, ips }
}

/// Puts services and slices together, in the order of their names.
pub fn assemble(services: &[(Key, Arc<ServiceView>)], slices: &[(Key, Arc<SliceView>)]) -> Vec<ServicePort> {
    let mut slices_of: HashMap<(&str, &str), Vec<&SliceView>> = HashMap::new();
    for (key, slice) in slices {
        slices_of.entry((&key.namespace, &slice.service)).or_default().push(slice);
    }
    let mut ports = Vec::new();
    for (key, service) in services {
        let slices = slices_of.get(&(key.namespace.as_str(), key.name.as_str()));
        for view in &service.ports {
            let name = ServicePortName {
                namespace: key.namespace.clone(),
                service: key.name.clone(),
                port: view.name.clone(),
            };
            let mut port = ServicePort::new(name, view.protocol, view.port, service.cluster_ips.clone());
            port.external_ips.clone_from(&service.external_ips);
            port.load_balancer_ips.clone_from(&service.load_balancer_ips);
            port.node_port = view.node_port;
            port.source_ranges.clone_from(&service.source_ranges);
            port.affinity = service.affinity;
            port.external_local = service.external_local;
            port.internal_local = service.internal_local;
            port.health_check_port = service.health_check_port;
            for slice in slices.into_iter().flatten() {
                let numbers =
                    slice.ports.iter().filter(|(name, protocol, _)| *name == view.name && *protocol == view.protocol);
                for (_, _, number) in numbers {
                    port.endpoints.extend(slice.endpoints.iter().map(|e| Endpoint { port: *number, ..e.clone() }));
                }
            }
            ports.push(port);
        }
    }
    ports.sort_by(|a, b| (&a.name, a.protocol).cmp(&(&b.name, b.protocol)));
    ports
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(json: &str) -> Value {
        apimachinery::codec::json::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn objects_become_service_ports() {
        let service_tree = tree(
            r#"{"metadata":{"name":"web","namespace":"shop"},
                "spec":{"type":"LoadBalancer","clusterIP":"10.43.0.7","clusterIPs":["10.43.0.7","fd43::7"],
                        "sessionAffinity":"ClientIP","externalTrafficPolicy":"Local","healthCheckNodePort":31000,
                        "loadBalancerSourceRanges":["192.0.2.0/24"],
                        "ports":[{"name":"http","port":80,"nodePort":30080},{"name":"dns","port":53,"protocol":"UDP"}]},
                "status":{"loadBalancer":{"ingress":[{"ip":"203.0.113.1"},{"ip":"203.0.113.2","ipMode":"Proxy"}]}}}"#,
        );
        let slice_tree = tree(
            r#"{"metadata":{"labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4",
                "ports":[{"name":"http","port":8080},{"name":"dns","port":5353,"protocol":"UDP"}],
                "endpoints":[{"addresses":["10.42.0.5"],"nodeName":"n1","hints":{"forZones":[{"name":"z"}]}},
                             {"addresses":["10.42.0.6"],"conditions":{"ready":false,"serving":true,"terminating":true}}]}"#,
        );
        let services = [(Key::new("shop", "web"), Arc::new(service(&service_tree).unwrap()))];
        let slices = [(Key::new("shop", "web-1"), Arc::new(slice(&slice_tree).unwrap()))];
        let ports = assemble(&services, &slices);
        let [dns, http] = ports.as_slice() else { panic!("{ports:?}") };
        assert_eq!((dns.protocol, dns.port, dns.endpoints[0].port, dns.node_port), (Protocol::Udp, 53, 5353, None));
        assert_eq!(
            (http.node_port, http.endpoints[0].port, http.affinity),
            (Some(30080), 8080, Some(Duration::from_secs(10_800)))
        );
        assert_eq!(http.load_balancer_ips, ["203.0.113.1".parse::<IpAddr>().unwrap()]);
        assert_eq!((http.health_check_port, http.external_local, http.source_ranges.len()), (Some(31000), true, 1));
        assert_eq!((http.endpoints[0].ready, http.endpoints[0].zone_hints.len()), (true, 1));
        assert_eq!(
            (http.endpoints[1].ready, http.endpoints[1].serving, http.endpoints[1].terminating),
            (false, true, true)
        );
    }

    #[test]
    fn what_needs_no_proxy_is_left_out() {
        for none in [
            r#"{"spec":{"clusterIP":"None","ports":[{"port":80}]}}"#,
            r#"{"spec":{"type":"ExternalName","externalName":"example.org"}}"#,
            r#"{"metadata":{"labels":{"service.kubernetes.io/service-proxy-name":"x"}},"spec":{"clusterIP":"10.43.0.1"}}"#,
        ] {
            assert_eq!(service(&tree(none)), None, "{none}");
        }
        assert_eq!(slice(&tree(r#"{"metadata":{},"endpoints":[]}"#)), None);
    }

    #[test]
    fn a_node_has_a_zone_and_addresses() {
        let view = node(&tree(
            r#"{"metadata":{"labels":{"topology.kubernetes.io/zone":"z1"}},
                "status":{"addresses":[{"type":"Hostname","address":"n"},{"type":"InternalIP","address":"192.0.2.1"}]}}"#,
        ));
        assert_eq!(view, NodeView { zone: "z1".into(), ips: vec!["192.0.2.1".parse().unwrap()] });
    }
}
