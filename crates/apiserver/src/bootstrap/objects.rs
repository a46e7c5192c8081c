//! Namespaces, priority classes, the `kubernetes` Service with its endpoints and network, and the ConfigMap by which
//! extension servers learn whom to trust.

use apimachinery::{Status, Value};
use serde_json::json;

use super::reconcile::Rule;
use super::{Config, Wanted};
use crate::tree::tree;

/// The namespaces that cannot be missing.
pub const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

pub fn namespaces() -> Vec<Wanted> {
    let make = |name: &&str| {
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        Wanted::new("", "namespaces", tree(object), Rule::Keep)
    };
    NAMESPACES.iter().map(make).collect()
}

pub fn priority_classes() -> Vec<Wanted> {
    let classes = [
        (
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        (
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ];
    let make = |(name, value, description)| {
        let object = json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": description,
        });
        Wanted::new("scheduling.k8s.io", "priorityclasses", tree(object), Rule::Keep)
    };
    classes.into_iter().map(make).collect()
}

/// The day since which the uses of service accounts' tokens in Secrets are noted; upstream's cleaner asks for it.
pub fn token_tracking(today: &str) -> Wanted {
    let object = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "kube-apiserver-legacy-service-account-token-tracking", "namespace": "kube-system"},
        "data": {"since": today},
    });
    Wanted::new("", "configmaps", tree(object), Rule::Keep)
}

/// The default service network. Its readiness is set by the controller of service networks.
pub fn service_cidr(config: &Config) -> Vec<Wanted> {
    if config.service_cidrs.is_empty() {
        return Vec::new();
    }
    let object = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": config.service_cidrs},
    });
    vec![Wanted::new("networking.k8s.io", "servicecidrs", tree(object), Rule::Keep)]
}

/// `default/kubernetes` and where it leads.
pub fn kubernetes_service(config: &Config) -> Vec<Wanted> {
    let (Some(first), Some(service_ip)) = (config.advertise_addresses.first(), config.service_ip) else {
        return Vec::new();
    };
    let port = config.secure_port;
    let alike = config.advertise_addresses.iter().filter(|address| address.is_ipv4() == first.is_ipv4());
    let addresses: Vec<String> = alike.map(ToString::to_string).collect();
    let listed: Vec<_> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
    let ready: Vec<_> = addresses.iter().map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}})).collect();
    let family = |ip: std::net::IpAddr| if ip.is_ipv4() { "IPv4" } else { "IPv6" };
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"provider": "kubernetes", "component": "apiserver"},
        },
        "spec": {
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": port}],
            "type": "ClusterIP",
            "clusterIP": service_ip.to_string(),
            "clusterIPs": [service_ip.to_string()],
            "ipFamilies": [family(service_ip)],
            "ipFamilyPolicy": "SingleStack",
            "sessionAffinity": "None",
        },
    });
    let endpoints = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": [{
            "addresses": listed,
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
        }],
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": family(*first),
        "endpoints": ready,
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    vec![
        Wanted::new("", "services", tree(service), Rule::Fields(&[&["spec", "ports"]])),
        Wanted::new("", "endpoints", tree(endpoints), Rule::Fields(&[&["subsets"]])),
        Wanted::new("discovery.k8s.io", "endpointslices", tree(slice), Rule::Fields(&[&["endpoints"], &["ports"]])),
    ]
}

/// `kube-system/extension-apiserver-authentication`.
pub fn authentication(config: &Config) -> Result<Vec<Wanted>, Status> {
    if config.client_ca.is_empty() && config.requestheader_ca.is_empty() {
        return Ok(Vec::new());
    }
    let mut data = serde_json::Map::new();
    if !config.client_ca.is_empty() {
        data.insert("client-ca-file".into(), json!(config.client_ca));
    }
    if !config.requestheader_ca.is_empty() {
        let list = |items: &[&str]| serde_json::to_string(items).map_err(Status::internal);
        let names: Vec<&str> = config.requestheader_allowed_names.iter().map(String::as_str).collect();
        data.insert("requestheader-client-ca-file".into(), json!(config.requestheader_ca));
        data.insert("requestheader-allowed-names".into(), json!(list(&names)?));
        data.insert("requestheader-username-headers".into(), json!(list(&["X-Remote-User"])?));
        data.insert("requestheader-uid-headers".into(), json!(list(&["X-Remote-Uid"])?));
        data.insert("requestheader-group-headers".into(), json!(list(&["X-Remote-Group"])?));
        data.insert("requestheader-extra-headers-prefix".into(), json!(list(&["X-Remote-Extra-"])?));
    }
    let object: Value = tree(json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": data,
    }));
    Ok(vec![Wanted::new("", "configmaps", object, Rule::Fields(&[&["data"]]))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubernetes_service_leads_to_the_advertised_address() {
        let config = Config {
            advertise_addresses: ["192.0.2.7", "2001:db8::7", "192.0.2.8"].map(|ip| ip.parse().unwrap()).to_vec(),
            secure_port: 6443,
            service_ip: Some("10.96.0.1".parse().unwrap()),
            requestheader_ca: "pem".into(),
            requestheader_allowed_names: vec!["front-proxy-client".into()],
            ..Config::default()
        };
        let objects = kubernetes_service(&config);
        assert_eq!(objects[0].tree.str_at(&["spec", "clusterIP"]), Some("10.96.0.1"));
        let subset = &objects[1].tree.get("subsets").and_then(Value::as_list).unwrap()[0];
        let listed = subset.get("addresses").and_then(Value::as_list).unwrap();
        let listed: Vec<_> = listed.iter().map(|address| address.str_at(&["ip"]).unwrap()).collect();
        assert_eq!(listed, ["192.0.2.7", "192.0.2.8"]);
        let slice = objects[2].tree.get("endpoints").and_then(Value::as_list).unwrap();
        assert_eq!(slice.len(), 2);
        let trust = &authentication(&config).unwrap()[0].tree;
        assert_eq!(trust.str_at(&["data", "requestheader-allowed-names"]), Some(r#"["front-proxy-client"]"#));
        assert_eq!(trust.str_at(&["data", "client-ca-file"]), None);
        assert!(kubernetes_service(&Config::default()).is_empty(), "without an address there is nothing to lead to");
    }
}
