//! Which endpoints of a service take traffic here.

use std::net::IpAddr;

use crate::model::{Endpoint, Node, ServicePort};

/// The endpoints that count, by policy, for one address family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selected {
    /// For traffic that may go to any node.
    pub cluster: Vec<(IpAddr, u16)>,
    /// For traffic that must stay on this node.
    pub local: Vec<(IpAddr, u16)>,
    /// Whether any node has an endpoint.
    pub anywhere: bool,
}

/// Picks endpoints: ready ones, else those that end but still serve; nearer ones if the hints say so.
pub fn select(service: &ServicePort, node: &Node, v6: bool) -> Selected {
    let endpoints: Vec<&Endpoint> = service.endpoints.iter().filter(|endpoint| endpoint.ip.is_ipv6() == v6).collect();
    let ready: Vec<&Endpoint> = endpoints.iter().copied().filter(|endpoint| endpoint.ready).collect();
    let ending: Vec<&Endpoint> =
        endpoints.iter().copied().filter(|endpoint| endpoint.serving && endpoint.terminating).collect();
    let on_node = |list: &[&Endpoint]| -> Vec<(IpAddr, u16)> {
        addresses(list.iter().copied().filter(|endpoint| endpoint.node == node.name))
    };
    let cluster = if ready.is_empty() { addresses(ending.iter().copied()) } else { addresses(near(&ready, node)) };
    let local = match on_node(&ready) {
        none if none.is_empty() => on_node(&ending),
        some => some,
    };
    Selected { anywhere: !cluster.is_empty(), cluster, local }
}

fn addresses<'a>(endpoints: impl IntoIterator<Item = &'a Endpoint>) -> Vec<(IpAddr, u16)> {
    let mut list: Vec<_> = endpoints.into_iter().map(|endpoint| (endpoint.ip, endpoint.port)).collect();
    list.sort_unstable();
    list.dedup();
    list
}

/// The ready endpoints meant for this node or its zone, if every one says whom it is meant for; else all.
fn near<'a>(ready: &[&'a Endpoint], node: &Node) -> Vec<&'a Endpoint> {
    let hinted = |endpoint: &Endpoint| endpoint.node_hints.contains(&node.name);
    if ready.iter().all(|endpoint| !endpoint.node_hints.is_empty()) && ready.iter().any(|endpoint| hinted(endpoint)) {
        return ready.iter().copied().filter(|endpoint| hinted(endpoint)).collect();
    }
    let in_zone = |endpoint: &Endpoint| !node.zone.is_empty() && endpoint.zone_hints.contains(&node.zone);
    if ready.iter().all(|endpoint| !endpoint.zone_hints.is_empty()) && ready.iter().any(|endpoint| in_zone(endpoint)) {
        return ready.iter().copied().filter(|endpoint| in_zone(endpoint)).collect();
    }
    ready.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Protocol, ServicePortName};

    fn service(endpoints: Vec<Endpoint>) -> ServicePort {
        let name = ServicePortName { namespace: "ns".into(), service: "s".into(), port: "".into() };
        ServicePort { endpoints, ..ServicePort::new(name, Protocol::Tcp, 80, vec![]) }
    }

    fn endpoint(last: u8, node: &str) -> Endpoint {
        Endpoint::ready(IpAddr::from([10, 0, 0, last]), 80, node)
    }

    fn node() -> Node {
        Node { name: "here".into(), zone: "z1".into(), ..Node::default() }
    }

    fn lasts(list: &[(IpAddr, u16)]) -> Vec<u8> {
        list.iter()
            .map(|(ip, _)| match ip {
                IpAddr::V4(ip) => ip.octets()[3],
                IpAddr::V6(_) => 0,
            })
            .collect()
    }

    #[test]
    fn ready_ones_go_before_ending_ones() {
        let ending = Endpoint { ready: false, terminating: true, ..endpoint(3, "here") };
        let dead = Endpoint { ready: false, serving: false, ..endpoint(4, "here") };
        let picked = select(&service(vec![endpoint(1, "there"), ending.clone(), dead.clone()]), &node(), false);
        assert_eq!((lasts(&picked.cluster), lasts(&picked.local)), (vec![1], vec![3]));
        let picked = select(&service(vec![ending, dead.clone()]), &node(), false);
        assert_eq!((lasts(&picked.cluster), picked.anywhere), (vec![3], true));
        let picked = select(&service(vec![dead]), &node(), false);
        assert_eq!(picked, Selected::default());
        assert_eq!(select(&service(vec![endpoint(1, "here")]), &node(), true), Selected::default());
    }

    #[test]
    fn hints_count_only_when_all_have_them() {
        let zone = |last, zone: &str| Endpoint { zone_hints: vec![zone.into()], ..endpoint(last, "there") };
        let picked = select(&service(vec![zone(1, "z1"), zone(2, "z2")]), &node(), false);
        assert_eq!(lasts(&picked.cluster), [1]);
        let picked = select(&service(vec![zone(1, "z1"), endpoint(2, "there")]), &node(), false);
        assert_eq!(lasts(&picked.cluster), [1, 2]);
        let picked = select(&service(vec![zone(1, "z3"), zone(2, "z2")]), &node(), false);
        assert_eq!(lasts(&picked.cluster), [1, 2]);
        let here = |last, node: &str| Endpoint { node_hints: vec![node.into()], ..zone(last, "z1") };
        let picked = select(&service(vec![here(1, "here"), here(2, "there")]), &node(), false);
        assert_eq!(lasts(&picked.cluster), [1]);
    }
}
