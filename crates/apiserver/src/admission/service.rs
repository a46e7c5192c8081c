//! Service addresses and ports: chosen before validation, and taken or given back in the transaction that carries the
//! write, so that a crash can neither leak nor double one.
//!
//! An address is taken by an IPAddress object, as upstream; a node port by a key of its own next to the registry.

pub(crate) mod families;
pub(crate) mod networks;
mod values;

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::core::service::Service;
use apimachinery::{Errors, Path, SmolStr, Status, Value};
use engine::{Attributes, Operation, Target};
use serde_json::json;
use store::{Compare, Op};

use super::{Plugin, Step, World, is};
use crate::tree::tree;
use networks::{Family, Networks};

pub(crate) const PLUGIN: Plugin = Plugin {
    name: "ServiceAllocation",
    handles: |a| {
        is(a, "", "services")
            && a.subresource.is_empty()
            && matches!(a.operation, Operation::Create | Operation::Update | Operation::Delete)
    },
    mutate: Step::Later(|world, a| Box::pin(choose(world, a))),
    validate: Step::Later(|world, a| Box::pin(reserve(world, a))),
};

/// Node ports, first and last, as upstream's default.
pub const NODE_PORTS: (u16, u16) = (30_000, 32_767);
/// One key a node port; the value says which service has it.
const PORT_KEYS: &str = "/skiff/nodeports/";
const NONE: &str = "None";
/// Random tries before the whole range is searched.
const LUCKY_TRIES: usize = 8;

fn port_key(port: u16) -> String {
    format!("{PORT_KEYS}{port}")
}

fn read(tree: &Value) -> Result<Service, Status> {
    use apimachinery::Api;
    Service::from_value(tree).map_err(|e| Status::bad_request(e.to_string()))
}

/// Puts the service back where the tree was, with the tree's type fields.
fn write(tree: &mut Value, service: &Service) {
    use apimachinery::Api;
    let mut new = service.to_value();
    if let (Value::Map(old), Value::Map(new)) = (&mut *tree, &mut new) {
        for key in ["apiVersion", "kind"] {
            if let Some(value) = old.remove(key) {
                new.insert(key, value);
            }
        }
    }
    *tree = new;
}

fn invalid(service: &Service, errors: &Errors) -> Status {
    let kind = apimachinery::GroupKind { group: "".into(), kind: "Service".into() };
    Status::invalid(&kind, &service.metadata.name, errors)
}

/// What a service holds.
#[derive(Debug, Default, PartialEq)]
struct Held {
    addresses: BTreeSet<IpAddr>,
    ports: BTreeSet<u16>,
}

impl Held {
    fn of(service: &Service) -> Held {
        let spec = &service.spec;
        let mut held = Held::default();
        if spec.type_ != "ExternalName" {
            held.addresses = spec.cluster_ips.iter().filter_map(|ip| ip.parse().ok()).collect();
        }
        let ports = spec.ports.iter().map(|p| p.node_port);
        let health = values::needs_health_port(service).then_some(spec.health_check_node_port);
        held.ports = ports.chain(health).filter_map(|p| u16::try_from(p).ok()).filter(|p| *p != 0).collect();
        held
    }
}

async fn choose(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    if a.operation == Operation::Delete {
        return Ok(());
    }
    let mut service = read(a.object)?;
    let old = a.old.map(read).transpose()?;
    let before = service.clone();
    if let Some(old) = &old {
        values::keep_allocated(&mut service, old);
    }
    values::normalize(&mut service, old.as_ref());
    let networks = Networks::read(&world.list("networking.k8s.io", "servicecidrs", "").await?);
    let mut errors = Errors::new();
    let settled = families::settle(&mut service, old.as_ref(), &networks, &mut errors);
    if !errors.is_empty() {
        return Err(invalid(&service, &errors));
    }
    if settled {
        choose_addresses(world, &mut service, old.as_ref(), &networks).await?;
    }
    choose_ports(world, &mut service, old.as_ref()).await?;
    if service != before {
        write(a.object, &service);
    }
    Ok(())
}

async fn choose_addresses(
    world: &World,
    service: &mut Service,
    old: Option<&Service>,
    networks: &Networks,
) -> Result<(), Status> {
    let headless = |s: &Service| s.spec.cluster_ips.first().is_some_and(|ip| ip == NONE);
    if service.spec.type_ == "ExternalName" || headless(service) {
        return Ok(());
    }
    let held = match old {
        Some(old) if old.spec.type_ != "ExternalName" => {
            if headless(old) || service.spec.ip_families.len() <= old.spec.ip_families.len() {
                return Ok(());
            }
            Held::of(old).addresses
        }
        _ => BTreeSet::new(),
    };
    let path = Path::new("spec");
    let path = path.child("clusterIPs");
    let given = |service: &Service| Value::List(service.spec.cluster_ips.iter().map(|ip| ip.as_str().into()).collect());
    for (i, name) in service.spec.ip_families.clone().iter().enumerate() {
        let Some(family) = Family::of_name(name) else { continue };
        match service.spec.cluster_ips.get(i).cloned() {
            Some(text) => {
                // Text that is no address is for validation to refuse.
                let Ok(ip) = text.parse::<IpAddr>() else { continue };
                if held.contains(&ip) {
                    continue;
                }
                if let Err(why) = check_address(world, networks, ip).await? {
                    let mut errors = Errors::new();
                    errors.invalid(&path, given(service), format!("failed to allocate IP {text}: {why}"));
                    return Err(invalid(service, &errors));
                }
            }
            None => match free_address(world, networks, family).await? {
                Some(ip) => service.spec.cluster_ips.push(ip.to_string()),
                None => {
                    return Err(Status::internal(format!(
                        "failed to allocate a serviceIP for Service {:?}: range is full",
                        service.metadata.name
                    )));
                }
            },
        }
    }
    service.spec.cluster_ip = service.spec.cluster_ips.first().cloned().unwrap_or_default();
    Ok(())
}

/// Whether a wished-for address can be had; the inner error is why not.
async fn check_address(world: &World, networks: &Networks, ip: IpAddr) -> Result<Result<(), String>, Status> {
    if let Err(why) = networks.check(ip) {
        return Ok(Err(why));
    }
    let taken = world.get("networking.k8s.io", "ipaddresses", "", &ip.to_string()).await?.is_some();
    Ok(if taken { Err("provided IP is already allocated".into()) } else { Ok(()) })
}

/// A free address: the upper part of each network first, so that the lower one stays for wishes.
async fn free_address(world: &World, networks: &Networks, family: Family) -> Result<Option<IpAddr>, Status> {
    for network in networks.of(family) {
        for _ in 0..LUCKY_TRIES {
            let Some(ip) = network.random_upper(random()) else { break };
            if world.get("networking.k8s.io", "ipaddresses", "", &ip.to_string()).await?.is_none() {
                return Ok(Some(ip));
            }
        }
        let taken: BTreeSet<IpAddr> = world
            .list("networking.k8s.io", "ipaddresses", "")
            .await?
            .iter()
            .filter_map(|o| o.str_at(&["metadata", "name"])?.parse().ok())
            .collect();
        if let Some(ip) = network.search(random(), |ip| !taken.contains(&ip)) {
            return Ok(Some(ip));
        }
    }
    Ok(None)
}

fn random() -> u128 {
    uuid::Uuid::new_v4().as_u128()
}

/// The node ports that are taken, and those that this write adds.
struct Ports {
    taken: BTreeSet<u16>,
}

impl Ports {
    async fn read(world: &World) -> Result<Ports, Status> {
        let engine = world.engine()?;
        let end = store::prefix_end(PORT_KEYS.as_bytes());
        let range = store::RangeRequest::between(PORT_KEYS.into(), end);
        let range = engine.store().range(range).await.map_err(Status::internal)?;
        let number = |key: &[u8]| std::str::from_utf8(key).ok()?.strip_prefix(PORT_KEYS)?.parse().ok();
        Ok(Ports { taken: range.kvs.iter().filter_map(|kv| number(&kv.key)).collect() })
    }

    fn take(&mut self, port: i32) -> Result<(), String> {
        let (first, last) = NODE_PORTS;
        match u16::try_from(port) {
            Ok(port) if (first..=last).contains(&port) => {
                if self.taken.insert(port) {
                    Ok(())
                } else {
                    Err("provided port is already allocated".into())
                }
            }
            _ => Err(format!("provided port is not in the valid range. The range of valid ports is {first}-{last}")),
        }
    }

    fn next(&mut self) -> Option<i32> {
        let port = values::free_port(NODE_PORTS, random(), |port| !self.taken.contains(&port))?;
        self.taken.insert(port);
        Some(port.into())
    }
}

async fn choose_ports(world: &World, service: &mut Service, old: Option<&Service>) -> Result<(), Status> {
    let uses = matches!(service.spec.type_.as_str(), "NodePort" | "LoadBalancer");
    let health = values::needs_health_port(service) && !old.is_some_and(values::needs_health_port);
    if !uses && !health {
        return Ok(());
    }
    let mut ports = Ports::read(world).await?;
    if let Some(old) = old {
        // What the service has already is not taken by someone else.
        for port in Held::of(old).ports {
            ports.taken.remove(&port);
        }
    }
    let mut errors = Errors::new();
    if uses {
        assign_ports(service, old.is_some(), &mut ports, &mut errors)?;
    }
    if !errors.is_empty() {
        return Err(invalid(service, &errors));
    }
    if health {
        let wished = service.spec.health_check_node_port;
        if wished != 0 {
            ports.take(wished).map_err(|why| {
                Status::internal(format!("failed to allocate requested HealthCheck NodePort {wished}: {why}"))
            })?;
        } else {
            let why = "failed to allocate a HealthCheck NodePort 0: range is full";
            service.spec.health_check_node_port = ports.next().ok_or_else(|| Status::internal(why))?;
        }
    }
    Ok(())
}

/// Gives every port that needs one a node port. A new service's ports of the same number but another protocol share.
fn assign_ports(service: &mut Service, update: bool, ports: &mut Ports, errors: &mut Errors) -> Result<(), Status> {
    let allocate = values::allocates_node_ports(service);
    let wishes: Vec<(i32, i32)> = service.spec.ports.iter().map(|p| (p.port, p.node_port)).collect();
    let mut shared: Vec<(i32, i32)> = Vec::new();
    let mut own: BTreeSet<i32> = BTreeSet::new();
    let spec = Path::new("spec");
    let list = spec.child("ports");
    for (i, port) in service.spec.ports.iter_mut().enumerate() {
        if port.node_port == 0 && !allocate {
            continue;
        }
        if port.node_port == 0 && !update {
            let same = shared.iter().find(|(p, _)| *p == port.port).map(|(_, node)| *node);
            let wished = wishes.iter().find(|(p, node)| *p == port.port && *node != 0).map(|(_, node)| *node);
            port.node_port = same.or(wished).unwrap_or(0);
        }
        if port.node_port == 0 {
            let full = || Status::internal("failed to allocate a nodePort: range is full");
            port.node_port = ports.next().ok_or_else(full)?;
            own.insert(port.node_port);
        } else if own.insert(port.node_port)
            && let Err(why) = ports.take(port.node_port)
        {
            let item = list.index(i);
            errors.invalid(&item.child("nodePort"), i64::from(port.node_port), why);
            return Ok(());
        }
        shared.push((port.port, port.node_port));
    }
    Ok(())
}

async fn reserve(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    let before = a.old.map(|old| read(old).map(|s| Held::of(&s))).transpose()?.unwrap_or_default();
    let after = match a.operation {
        Operation::Delete => Held::default(),
        _ => {
            let service = read(a.object)?;
            // The update that removes the last finalizer of a deleted service is its end.
            let ends = service.metadata.deletion_timestamp.is_some() && service.metadata.finalizers.is_empty();
            if ends { Held::default() } else { Held::of(&service) }
        }
    };
    if before == after {
        return Ok(());
    }
    let engine = world.engine()?;
    let kind = world.kind("networking.k8s.io", "v1", "ipaddresses")?;
    let target = |ip: &IpAddr| Target {
        kind: kind.clone(),
        namespace: SmolStr::default(),
        name: ip.to_string().into(),
        subresource: SmolStr::default(),
    };
    for ip in after.addresses.difference(&before.addresses) {
        let object = address_object(ip, a.namespace, a.name);
        engine.reserve(&target(ip), object, a.reservations).await?;
    }
    for ip in before.addresses.difference(&after.addresses) {
        engine.release(&target(ip), a.reservations)?;
    }
    for port in after.ports.difference(&before.ports) {
        let key = port_key(*port);
        a.reservations.compares.push(Compare::absent(key.clone().into()));
        a.reservations.operations.push(Op::put(key.into(), format!("{}/{}", a.namespace, a.name).into()));
    }
    for port in before.ports.difference(&after.ports) {
        a.reservations.operations.push(Op::delete(port_key(*port).into()));
    }
    Ok(())
}

/// The IPAddress that says who has an address.
fn address_object(ip: &IpAddr, namespace: &str, name: &str) -> Value {
    tree(json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IPAddress",
        "metadata": {"labels": {
            "ipaddress.kubernetes.io/ip-family": if ip.is_ipv4() { "IPv4" } else { "IPv6" },
            "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
        }},
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": namespace, "name": name}},
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(spec: serde_json::Value) -> Service {
        read(&tree(json!({"metadata": {"name": "s"}, "spec": spec}))).unwrap()
    }

    #[test]
    fn what_a_service_holds() {
        let held = Held::of(&service(json!({
            "type": "LoadBalancer",
            "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 30100,
            "clusterIPs": ["10.0.0.7", "fd00::7"],
            "ports": [{"port": 80, "nodePort": 30001}, {"port": 81, "nodePort": 30001}, {"port": 82}],
        })));
        assert_eq!(held.addresses.len(), 2);
        assert_eq!(held.ports, BTreeSet::from([30001, 30100]));
        assert_eq!(Held::of(&service(json!({"clusterIPs": ["None"]}))), Held::default());
        assert_eq!(Held::of(&service(json!({"type": "ExternalName", "clusterIPs": ["10.0.0.7"]}))), Held::default());
    }

    #[test]
    fn node_ports_are_wished_for_shared_or_found() {
        let mut ports = Ports { taken: BTreeSet::from([30_500]) };
        let mut errors = Errors::new();
        let mut dns = service(json!({"type": "NodePort", "ports": [
            {"name": "tcp", "port": 53, "protocol": "TCP", "nodePort": 30053},
            {"name": "udp", "port": 53, "protocol": "UDP"},
            {"name": "web", "port": 80, "protocol": "TCP"},
        ]}));
        assign_ports(&mut dns, false, &mut ports, &mut errors).unwrap();
        assert!(errors.is_empty());
        let got: Vec<i32> = dns.spec.ports.iter().map(|p| p.node_port).collect();
        assert_eq!(got[..2], [30053, 30053]);
        assert!((30_000..=32_767).contains(&got[2]) && got[2] != 30053 && got[2] != 30_500);

        for (wish, message) in [
            (30_500, "provided port is already allocated"),
            (80, "provided port is not in the valid range. The range of valid ports is 30000-32767"),
        ] {
            let mut taken = service(json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": wish}]}));
            let mut errors = Errors::new();
            assign_ports(&mut taken, false, &mut ports, &mut errors).unwrap();
            let text = errors.iter().next().unwrap().to_string();
            assert_eq!(text, format!("spec.ports[0].nodePort: Invalid value: {wish}: {message}"));
        }
        let mut none = service(json!({
            "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": [{"port": 80}],
        }));
        assign_ports(&mut none, false, &mut ports, &mut Errors::new()).unwrap();
        assert_eq!(none.spec.ports[0].node_port, 0);
    }
}
