//! The small rules about a service's allocated values.

use api::core::service::Service;

pub fn needs_cluster_ip(service: &Service) -> bool {
    service.spec.type_ != "ExternalName"
}

fn needs_node_ports(service: &Service) -> bool {
    match service.spec.type_.as_str() {
        "NodePort" => true,
        "LoadBalancer" => service.spec.allocate_load_balancer_node_ports.unwrap_or(true),
        _ => false,
    }
}

/// Whether ports without a node port get one.
pub fn allocates_node_ports(service: &Service) -> bool {
    needs_node_ports(service)
}

/// Load balancers that keep the client's address ask each node whether it has endpoints.
pub fn needs_health_port(service: &Service) -> bool {
    service.spec.type_ == "LoadBalancer" && service.spec.external_traffic_policy == "Local"
}

/// Lets a client write back what it sent once, without the values that were allocated meanwhile.
pub fn keep_allocated(new: &mut Service, old: &Service) {
    if needs_cluster_ip(old) && needs_cluster_ip(new) {
        if new.spec.cluster_ip.is_empty() {
            new.spec.cluster_ip = old.spec.cluster_ip.clone();
        }
        if new.spec.cluster_ips.is_empty() {
            new.spec.cluster_ips = old.spec.cluster_ips.clone();
        }
    }
    if needs_node_ports(old) && needs_node_ports(new) {
        let used = |s: &Service| -> Vec<i32> { s.spec.ports.iter().map(|p| p.node_port).filter(|p| *p != 0).collect() };
        let (before, after) = (used(old), used(new));
        for port in new.spec.ports.iter_mut().filter(|p| p.node_port == 0) {
            let known = old.spec.ports.iter().rev().find(|p| p.name == port.name).map_or(0, |p| p.node_port);
            if !(before.contains(&known) && after.contains(&known)) {
                port.node_port = known;
            }
        }
    }
    if needs_health_port(old) && needs_health_port(new) && new.spec.health_check_node_port == 0 {
        new.spec.health_check_node_port = old.spec.health_check_node_port;
    }
}

/// Brings `clusterIP` and `clusterIPs` together for clients that know only the first.
pub fn normalize(new: &mut Service, old: Option<&Service>) {
    let Some(old) = old else {
        if !new.spec.cluster_ip.is_empty() && new.spec.cluster_ips.is_empty() {
            new.spec.cluster_ips = vec![new.spec.cluster_ip.clone()];
        }
        return;
    };
    let same_ip = old.spec.cluster_ip == new.spec.cluster_ip;
    if same_ip && new.spec.cluster_ips.is_empty() {
        new.spec.cluster_ips = old.spec.cluster_ips.clone();
    }
    if !same_ip && new.spec.cluster_ips == old.spec.cluster_ips {
        new.spec.cluster_ips = match new.spec.cluster_ip.as_str() {
            "" => Vec::new(),
            ip => vec![ip.to_string()],
        };
    }
}

/// A free port: the upper part of the range first, so that the lower one stays for wishes.
pub fn free_port((first, last): (u16, u16), random: u128, free: impl Fn(u16) -> bool) -> Option<u16> {
    let size = u32::from(last - first) + 1;
    let reserved = if size <= 16 { 0 } else { (size / 32).clamp(16, 128) };
    let part = |from: u32, size: u32| {
        let start = (random % u128::from(size.max(1))) as u32;
        (0..size).map(|i| first + (from + (start + i) % size) as u16).find(|port| free(*port))
    };
    part(reserved, size - reserved).or_else(|| part(0, reserved))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tree;
    use apimachinery::Api;
    use serde_json::json;

    fn service(spec: serde_json::Value) -> Service {
        Service::from_value(&tree(json!({"spec": spec}))).unwrap()
    }

    #[test]
    fn what_was_allocated_is_kept() {
        let old = service(json!({
            "type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
            "ports": [{"name": "a", "port": 1, "nodePort": 30001}, {"name": "b", "port": 2, "nodePort": 30002}],
        }));
        let mut new = service(json!({
            "type": "NodePort", "ports": [{"name": "a", "port": 5}, {"name": "c", "port": 2, "nodePort": 30002}],
        }));
        keep_allocated(&mut new, &old);
        normalize(&mut new, Some(&old));
        assert_eq!(new.spec.cluster_ips, ["10.0.0.1"]);
        assert_eq!(new.spec.ports[0].node_port, 30001);
        let mut external = service(json!({"type": "ExternalName"}));
        keep_allocated(&mut external, &old);
        assert!(external.spec.cluster_ip.is_empty());
    }

    #[test]
    fn singular_and_plural_agree() {
        let mut new = service(json!({"clusterIP": "None"}));
        normalize(&mut new, None);
        assert_eq!(new.spec.cluster_ips, ["None"]);
        let old = service(json!({"clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"]}));
        let mut new = service(json!({"clusterIP": "10.0.0.2", "clusterIPs": ["10.0.0.1"]}));
        normalize(&mut new, Some(&old));
        assert_eq!(new.spec.cluster_ips, ["10.0.0.2"]);
        let mut new = service(json!({"clusterIP": "", "clusterIPs": ["10.0.0.1"]}));
        normalize(&mut new, Some(&old));
        assert!(new.spec.cluster_ips.is_empty());
    }

    #[test]
    fn ports_come_from_the_upper_part_first() {
        assert_eq!(free_port((30_000, 32_767), 0, |_| true), Some(30_086));
        assert_eq!(free_port((30_000, 32_767), 0, |p| p < 30_086), Some(30_000));
        assert_eq!(free_port((30_000, 32_767), 7, |p| p == 32_767), Some(32_767));
        assert_eq!(free_port((1, 4), 2, |p| p == 1), Some(1));
        assert_eq!(free_port((1, 4), 2, |_| false), None);
    }
}
