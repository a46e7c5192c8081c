//! Rules of services: addresses, ports, traffic policies, and what may change between types.

use std::collections::BTreeSet;

use apimachinery::validation::{self, check, dns_label, dns_subdomain, port_number, qualified_name};
use apimachinery::{Errors, Path, Value};

use crate::checks::{cidr, ip, maybe_one_of, one_of};
use crate::core::endpoints::endpoint_ip;
use crate::core::pod::validate_container::port_or_name;
use crate::core::service::{Service, ServicePort, ServiceSpec};

impl Service {
    pub(super) fn normalize(&mut self, old: Option<&Service>) {
        let spec = &mut self.spec;
        let Some(old) = old else {
            if spec.cluster_ips.is_empty() && !spec.cluster_ip.is_empty() {
                spec.cluster_ips.push(spec.cluster_ip.clone());
            }
            return;
        };
        let old = &old.spec;
        // A client that leaves an allocated value out means to keep it.
        if spec.type_ != "ExternalName" && old.type_ != "ExternalName" {
            if spec.cluster_ip.is_empty() && spec.cluster_ips.is_empty() {
                spec.cluster_ip.clone_from(&old.cluster_ip);
                spec.cluster_ips.clone_from(&old.cluster_ips);
            }
            if spec.ip_families.is_empty() {
                spec.ip_families.clone_from(&old.ip_families);
            }
            if spec.ip_family_policy.is_none() {
                spec.ip_family_policy.clone_from(&old.ip_family_policy);
            }
        }
        // Clients that know one of the two fields change the other by it.
        if spec.cluster_ip != old.cluster_ip && spec.cluster_ips == old.cluster_ips {
            spec.cluster_ips = if spec.cluster_ip.is_empty() { Vec::new() } else { vec![spec.cluster_ip.clone()] };
        } else if spec.cluster_ips != old.cluster_ips && spec.cluster_ip == old.cluster_ip {
            spec.cluster_ip = spec.cluster_ips.first().cloned().unwrap_or_default();
        } else if spec.cluster_ips.is_empty() && !spec.cluster_ip.is_empty() {
            spec.cluster_ips.push(spec.cluster_ip.clone());
        }
        keep_node_ports(spec, old);
        drop_type_dependent(spec, old);
    }
}

fn has_node_ports(spec: &ServiceSpec) -> bool {
    matches!(spec.type_.as_str(), "NodePort" | "LoadBalancer")
}

fn needs_health_check(spec: &ServiceSpec) -> bool {
    spec.type_ == "LoadBalancer" && spec.external_traffic_policy == "Local"
}

fn externally_accessible(spec: &ServiceSpec) -> bool {
    has_node_ports(spec) || (spec.type_ == "ClusterIP" && !spec.external_ips.is_empty())
}

/// Ports that name no node port keep the one they had.
fn keep_node_ports(spec: &mut ServiceSpec, old: &ServiceSpec) {
    if has_node_ports(spec) && has_node_ports(old) {
        let used: BTreeSet<i32> = spec.ports.iter().map(|p| p.node_port).filter(|p| *p != 0).collect();
        for port in spec.ports.iter_mut().filter(|port| port.node_port == 0) {
            let same = |p: &&ServicePort| p.port == port.port && p.protocol == port.protocol;
            if let Some(kept) = old.ports.iter().find(same).filter(|p| !used.contains(&p.node_port)) {
                port.node_port = kept.node_port;
            }
        }
    }
    if needs_health_check(spec) && needs_health_check(old) && spec.health_check_node_port == 0 {
        spec.health_check_node_port = old.health_check_node_port;
    }
    if spec.type_ == "LoadBalancer" && old.type_ == "LoadBalancer" && spec.load_balancer_class.is_none() {
        spec.load_balancer_class.clone_from(&old.load_balancer_class);
    }
}

/// A change of type takes along what only the old type had, unless the client changed it itself.
fn drop_type_dependent(spec: &mut ServiceSpec, old: &ServiceSpec) {
    let used_cluster_ips = |spec: &ServiceSpec| spec.type_ != "ExternalName";
    if used_cluster_ips(old) && !used_cluster_ips(spec) && spec.cluster_ips == old.cluster_ips {
        spec.cluster_ip.clear();
        spec.cluster_ips.clear();
        spec.ip_families.clear();
        spec.ip_family_policy = None;
    }
    if has_node_ports(old) && !has_node_ports(spec) {
        for port in &mut spec.ports {
            if old.ports.iter().any(|p| p.node_port == port.node_port) {
                port.node_port = 0;
            }
        }
    }
    if needs_health_check(old) && !needs_health_check(spec) && spec.health_check_node_port == old.health_check_node_port
    {
        spec.health_check_node_port = 0;
    }
    if old.type_ == "LoadBalancer" && spec.type_ != "LoadBalancer" {
        if spec.allocate_load_balancer_node_ports == old.allocate_load_balancer_node_ports {
            spec.allocate_load_balancer_node_ports = None;
        }
        if spec.load_balancer_class == old.load_balancer_class {
            spec.load_balancer_class = None;
        }
    }
    if externally_accessible(old)
        && !externally_accessible(spec)
        && spec.external_traffic_policy == old.external_traffic_policy
    {
        spec.external_traffic_policy.clear();
    }
}

fn is_headless(spec: &ServiceSpec) -> bool {
    spec.cluster_ips.first().is_some_and(|ip| ip == "None") || spec.cluster_ip == "None"
}

fn shown(texts: &[String]) -> Value {
    Value::List(texts.iter().map(|t| t.as_str().into()).collect())
}

pub(super) fn service(errors: &mut Errors, service: &Service) {
    let spec = &service.spec;
    let path = Path::new("spec");
    let (ports, cluster_ips) = (path.child("ports"), path.child("clusterIPs"));
    let headless = is_headless(spec);
    if spec.ports.is_empty() && !headless && spec.type_ != "ExternalName" {
        errors.required(&ports, "");
    }
    match spec.type_.as_str() {
        "LoadBalancer" | "NodePort" if headless => {
            let message = format!("may not be set to 'None' for {} services", spec.type_);
            errors.invalid(&cluster_ips.index(0), "None", message);
        }
        "ExternalName" => external_name(errors, &path, spec),
        _ => {}
    }
    let mut names = BTreeSet::new();
    for (i, port) in spec.ports.iter().enumerate() {
        service_port(errors, &ports.index(i), port, spec.ports.len() > 1, &mut names);
    }
    validation::labels(errors, &path.child("selector"), &spec.selector);
    affinity(errors, &path, spec);
    if spec.type_ != "ExternalName" {
        addresses(errors, &path, spec);
    }
    for (i, address) in spec.external_ips.iter().enumerate() {
        let ips = path.child("externalIPs");
        endpoint_ip(errors, &ips.index(i), address);
    }
    one_of(errors, &path.child("type"), &spec.type_, &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"]);
    for (i, port) in spec.ports.iter().enumerate() {
        let path = ports.index(i);
        if spec.type_ == "ClusterIP" && port.node_port != 0 {
            errors.forbidden(&path.child("nodePort"), "may not be used when `type` is 'ClusterIP'");
        }
        let before = &spec.ports[..i];
        let same_node_port = |p: &ServicePort| p.node_port == port.node_port && p.protocol == port.protocol;
        if port.node_port != 0 && before.iter().any(same_node_port) {
            errors.duplicate(&path.child("nodePort"), port.node_port);
        }
        if before.iter().any(|p| p.port == port.port && p.protocol == port.protocol) {
            let mut key = apimachinery::Map::new();
            key.insert("port", port.port);
            key.insert("protocol", port.protocol.as_str());
            errors.duplicate(&path, key);
        }
    }
    let ranges = path.child("LoadBalancerSourceRanges");
    if !spec.load_balancer_source_ranges.is_empty() && spec.type_ != "LoadBalancer" {
        errors.forbidden(&ranges, "may only be used when `type` is 'LoadBalancer'");
    }
    for (i, range) in spec.load_balancer_source_ranges.iter().enumerate() {
        cidr(errors, &ranges.index(i), range.trim());
    }
    let allocate = path.child("allocateLoadBalancerNodePorts");
    match (spec.type_ == "LoadBalancer", spec.allocate_load_balancer_node_ports) {
        (true, None) => errors.required(&allocate, ""),
        (false, Some(_)) => errors.forbidden(&allocate, "may only be used when `type` is 'LoadBalancer'"),
        _ => {}
    }
    if let Some(class) = &spec.load_balancer_class {
        let field = path.child("loadBalancerClass");
        if spec.type_ != "LoadBalancer" {
            errors.forbidden(&field, "may only be used when `type` is 'LoadBalancer'");
        }
        check(errors, &field, class, qualified_name);
    }
    traffic(errors, &path, spec);
}

fn external_name(errors: &mut Errors, path: &Path<'_>, spec: &ServiceSpec) {
    let set = [
        ("clusterIPs", !spec.cluster_ips.is_empty()),
        ("ipFamilies", !spec.ip_families.is_empty()),
        ("ipFamilyPolicy", spec.ip_family_policy.is_some()),
    ];
    for (field, _) in set.into_iter().filter(|(_, set)| *set) {
        errors.forbidden(&path.child(field), "may not be set for ExternalName services");
    }
    let name = spec.external_name.strip_suffix('.').unwrap_or(&spec.external_name);
    validation::require(errors, &path.child("externalName"), name, dns_subdomain);
}

fn service_port<'a>(
    errors: &mut Errors,
    path: &Path<'_>,
    port: &'a ServicePort,
    named: bool,
    names: &mut BTreeSet<&'a str>,
) {
    let name = path.child("name");
    if port.name.is_empty() {
        if named {
            errors.required(&name, "");
        }
    } else {
        check(errors, &name, &port.name, dns_label);
        if !names.insert(&port.name) {
            errors.duplicate(&name, port.name.as_str());
        }
    }
    if let Some(fault) = port_number(i64::from(port.port)) {
        errors.invalid(&path.child("port"), port.port, fault);
    }
    one_of(errors, &path.child("protocol"), &port.protocol, &["SCTP", "TCP", "UDP"]);
    port_or_name(errors, &path.child("targetPort"), &port.target_port);
    if let Some(protocol) = &port.app_protocol {
        check(errors, &path.child("appProtocol"), protocol, qualified_name);
    }
}

fn affinity(errors: &mut Errors, path: &Path<'_>, spec: &ServiceSpec) {
    one_of(errors, &path.child("sessionAffinity"), &spec.session_affinity, &["ClientIP", "None"]);
    let field = path.child("sessionAffinityConfig");
    match spec.session_affinity.as_str() {
        "ClientIP" => {
            let client_ip = spec.session_affinity_config.as_ref().and_then(|c| c.client_ip.as_ref());
            match client_ip.map(|c| c.timeout_seconds) {
                None => errors.required(&field, "when session affinity type is ClientIP"),
                Some(None) => {
                    let client = field.child("clientIP");
                    let message = "when session affinity type is ClientIP";
                    errors.required(&client.child("timeoutSeconds"), message);
                }
                Some(Some(seconds)) if !(1..=86_400).contains(&seconds) => {
                    let client = field.child("clientIP");
                    let message = "must be greater than 0 and less than 86400";
                    errors.invalid(&client.child("timeoutSeconds"), seconds, message);
                }
                Some(Some(_)) => {}
            }
        }
        "None" if spec.session_affinity_config.is_some() => {
            errors.forbidden(&field, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

fn addresses(errors: &mut Errors, path: &Path<'_>, spec: &ServiceSpec) {
    let (ips, families) = (path.child("clusterIPs"), path.child("ipFamilies"));
    match (spec.cluster_ip.is_empty(), spec.cluster_ips.first()) {
        (false, None) => errors.required(&ips, ""),
        (false, Some(first)) if *first != spec.cluster_ip => {
            errors.invalid(&ips, shown(&spec.cluster_ips), "first value must match `clusterIP`");
        }
        (true, Some(_)) => {
            let message = "must be empty when `clusterIP` is not specified";
            errors.invalid(&ips, shown(&spec.cluster_ips), message);
        }
        _ => {}
    }
    for (i, family) in spec.ip_families.iter().enumerate() {
        if !matches!(family.as_str(), "IPv4" | "IPv6") {
            errors.not_supported(&families.index(i), family.as_str(), &["IPv4", "IPv6"]);
        }
        if spec.ip_families[..i].contains(family) {
            errors.duplicate(&families.index(i), family.as_str());
        }
    }
    let policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    maybe_one_of(errors, &path.child("ipFamilyPolicy"), spec.ip_family_policy.as_ref(), &policies);
    let before = errors.len();
    for (i, address) in spec.cluster_ips.iter().enumerate() {
        if i == 0 && address == "None" {
            if spec.cluster_ips.len() > 1 {
                errors.invalid(&ips, shown(&spec.cluster_ips), "'None' must be the first and only value");
            }
        } else {
            ip(errors, &ips.index(i), address);
        }
    }
    let sound = errors.len() == before;
    if spec.cluster_ips.len() > 2 {
        errors.invalid(&ips, shown(&spec.cluster_ips), "may only hold up to 2 values");
    }
    if !sound {
        return;
    }
    let six = |address: &String| address.contains(':');
    if spec.cluster_ips.len() > 1 && spec.cluster_ips.iter().filter(|a| six(a)).count() != 1 {
        let message = "may specify no more than one IP for each IP family";
        errors.invalid(&ips, shown(&spec.cluster_ips), message);
    }
    if !is_headless(spec) {
        for (i, (address, family)) in spec.cluster_ips.iter().zip(&spec.ip_families).enumerate() {
            if six(address) != (family == "IPv6") {
                let message = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
                errors.invalid(&ips.index(i), address.as_str(), message);
            }
        }
    }
}

fn traffic(errors: &mut Errors, path: &Path<'_>, spec: &ServiceSpec) {
    let external = path.child("externalTrafficPolicy");
    if externally_accessible(spec) {
        one_of(errors, &external, &spec.external_traffic_policy, &["Cluster", "Local"]);
    } else if !spec.external_traffic_policy.is_empty() {
        let message = "may only be set for externally-accessible services";
        errors.invalid(&external, spec.external_traffic_policy.as_str(), message);
    }
    let health = path.child("healthCheckNodePort");
    let port = spec.health_check_node_port;
    if port != 0 && !needs_health_check(spec) {
        let message = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.invalid(&health, port, message);
    } else if port != 0
        && let Some(fault) = port_number(i64::from(port))
    {
        errors.invalid(&health, port, fault);
    }
    let internal = path.child("internalTrafficPolicy");
    if spec.type_ != "ExternalName" && spec.internal_traffic_policy.is_none() {
        errors.required(&internal, "");
    }
    maybe_one_of(errors, &internal, spec.internal_traffic_policy.as_ref(), &["Cluster", "Local"]);
    let distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    let distribution = spec.traffic_distribution.as_ref();
    maybe_one_of(errors, &path.child("trafficDistribution"), distribution, &distributions);
}

pub(super) fn service_update(errors: &mut Errors, new: &Service, old: &Service) {
    let path = Path::new("spec");
    let (new, old) = (&new.spec, &old.spec);
    let class = path.child("loadBalancerClass");
    if new.type_ == "LoadBalancer" && old.type_ == "LoadBalancer" && old.load_balancer_class != new.load_balancer_class
    {
        let value = new.load_balancer_class.as_deref().map_or(Value::Null, Value::from);
        errors.invalid(&class, value, "may not change once set");
    }
    if new.type_ == "ExternalName" || old.type_ == "ExternalName" {
        return;
    }
    let ips = path.child("clusterIPs");
    if !(is_headless(new) && is_headless(old)) {
        let unset = new.cluster_ips.is_empty() && !old.cluster_ips.is_empty();
        if unset {
            errors.invalid(&ips.index(0), shown(&new.cluster_ips), "primary clusterIP can not be unset");
        }
        for (i, (new_ip, old_ip)) in new.cluster_ips.iter().zip(&old.cluster_ips).enumerate() {
            if new_ip != old_ip {
                errors.invalid(&ips.index(i), shown(&new.cluster_ips), "may not change once set");
            }
        }
        let released = old.cluster_ips.len() == 2 && new.cluster_ips.len() == 1;
        if released && new.ip_family_policy.as_deref() != Some("SingleStack") {
            let message = "must be set to 'SingleStack' when releasing the secondary clusterIP";
            let value = new.ip_family_policy.as_deref().map_or(Value::Null, Value::from);
            errors.invalid(&path.child("ipFamilyPolicy"), value, message);
        }
    }
    if let (Some(new_family), Some(old_family)) = (new.ip_families.first(), old.ip_families.first())
        && new_family != old_family
        && !is_headless(new)
    {
        let families = path.child("ipFamilies");
        errors.invalid(&families.index(0), shown(&new.ip_families), "may not change once set");
    }
}

pub(super) fn load_balancer_status(errors: &mut Errors, service: &Service) {
    let points = &service.status.load_balancer.ingress;
    let status = Path::new("status");
    let balancer = status.child("loadBalancer");
    let ingress = balancer.child("ingress");
    if service.spec.type_ != "LoadBalancer" && !points.is_empty() {
        errors.forbidden(&ingress, "may only be used when `spec.type` is \"LoadBalancer\"");
        return;
    }
    for (i, point) in points.iter().enumerate() {
        let path = ingress.index(i);
        if !point.ip.is_empty() {
            ip(errors, &path.child("ip"), &point.ip);
        }
        if !point.hostname.is_empty() {
            check(errors, &path.child("hostname"), &point.hostname, dns_subdomain);
            if point.hostname.parse::<std::net::IpAddr>().is_ok() {
                let message = "must be a DNS name, not an IP address";
                errors.invalid(&path.child("hostname"), point.hostname.as_str(), message);
            }
        }
        if let Some(mode) = &point.ip_mode {
            if point.ip.is_empty() {
                errors.forbidden(&path.child("ipMode"), "may not be specified when `ip` is not set");
            }
            maybe_one_of(errors, &path.child("ipMode"), Some(mode), &["Proxy", "VIP"]);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::core::service::kind;
    use crate::tests::{refuses, refuses_update};

    #[test]
    fn types_bring_their_demands() {
        refuses(&kind(), &[("spec.ports", "[]")], &["spec.ports: Required value"]);
        refuses(&kind(), &[("spec", r#"{"type":"ExternalName"}"#)], &["spec.externalName: Required value"]);
        refuses(
            &kind(),
            &[("spec.ports.0.nodePort", "30000")],
            &["spec.ports[0].nodePort: Forbidden: may not be used when `type` is 'ClusterIP'"],
        );
        refuses(
            &kind(),
            &[("spec.clusterIP", "\"10.96.0.300\"")],
            &[
                "spec.clusterIPs[0]: Invalid value: \"10.96.0.300\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ],
        );
    }

    #[test]
    fn a_service_may_become_external_and_back() {
        refuses_update(&kind(), &[("spec.type", "\"ExternalName\""), ("spec.externalName", "\"a.b\"")], &[]);
        refuses_update(&kind(), &[("spec.type", "\"NodePort\"")], &[]);
    }
}
