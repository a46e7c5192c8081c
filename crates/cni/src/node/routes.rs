//! Routes to other nodes' pods: straight to a node on the same link, through the overlay to any other.

use std::net::IpAddr;

use ipnet::IpNet;
use linux::netlink::Socket;
use linux::netlink::route::{MAIN, PROTOCOL, Route};

use super::overlay::{self, Peer};
use crate::Result;

/// Another node, and the pods behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeRoute {
    /// Its name, for reports.
    pub name: String,
    /// Its addresses, the preferred one of each family first.
    pub ips: Vec<IpAddr>,
    /// The ranges of its pods.
    pub pod_ranges: Vec<IpNet>,
}

/// What [`sync_node_routes`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouteReport {
    /// Routes added or changed.
    pub written: usize,
    /// Routes removed.
    pub removed: usize,
    /// Ranges reached through the overlay.
    pub overlaid: usize,
    /// Nodes that cannot be reached, and why.
    pub problems: Vec<String>,
}

/// Makes the routes to other nodes' pods what `nodes` says: adds, changes and removes.
///
/// `own` is this node; its ranges give the overlay its addresses.
pub fn sync_node_routes(own: &NodeRoute, nodes: &[NodeRoute]) -> Result<RouteReport> {
    let mut socket = Socket::route()?;
    let mut report = RouteReport::default();
    let mut wanted: Vec<Route> = Vec::new();
    let mut peers = Vec::new();
    for node in nodes.iter().filter(|node| node.name != own.name) {
        for range in &node.pod_ranges {
            let v6 = range.addr().is_ipv6();
            let Some(gateway) = node.ips.iter().copied().find(|ip| ip.is_ipv6() == v6) else {
                report.problems.push(format!("node {}: no address of the family of its pods {range}", node.name));
                continue;
            };
            let path = match socket.route_to(gateway) {
                Ok(path) => path,
                Err(error) => {
                    report.problems.push(format!("node {}: {error}", node.name));
                    continue;
                }
            };
            let base = Route::to(range.network(), range.prefix_len());
            if path.gateway.is_none() && path.kind == linux::netlink::route::RouteKind::Unicast {
                wanted.push(Route { gateway: Some(gateway), link: path.link, ..base });
            } else if path.gateway.is_some() {
                peers.push(Peer { range: *range, node: gateway });
            } else {
                report.problems.push(format!("node {}: {gateway} is an address of this node", node.name));
            }
        }
    }
    report.overlaid = peers.len();
    wanted.extend(overlay::sync(&mut socket, own, &peers, &mut report.problems)?);

    let present: Vec<Route> = socket
        .routes()?
        .into_iter()
        // Pods' own routes are marked too; those of nodes have a next hop.
        .filter(|route| route.protocol == PROTOCOL && route.table == MAIN && route.gateway.is_some())
        .collect();
    for route in &wanted {
        let same =
            |other: &Route| same_prefix(route, other) && route.gateway == other.gateway && route.link == other.link;
        if !present.iter().any(same) {
            socket.replace_route(route)?;
            report.written += 1;
        }
    }
    for route in &present {
        if !wanted.iter().any(|other| same_prefix(route, other)) {
            match socket.delete_route(route) {
                Err(error) if !error.is_absent() => return Err(error.into()),
                _ => report.removed += 1,
            }
        }
    }
    Ok(report)
}

fn same_prefix(one: &Route, other: &Route) -> bool {
    one.destination == other.destination && one.prefix == other.prefix
}
