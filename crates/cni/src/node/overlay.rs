//! The overlay: a VXLAN device that carries pods' packets to nodes behind a router.
//!
//! Nothing is learned or exchanged: the link-layer address of a node's tunnel end is computed from the node's address,
//! and its address on the overlay is the first of its pods' range.

use std::net::IpAddr;

use ipnet::IpNet;
use linux::netlink::Socket;
use linux::netlink::link::{Mac, Vxlan};
use linux::netlink::route::Route;

use super::routes::NodeRoute;
use crate::Result;
use crate::plugins::{fingerprint, uplink_mtu};

/// The device's name.
pub const LINK: &str = "skiff-vxlan";
/// The network identifier.
pub const ID: u32 = 5300;
/// The UDP port, as other networks use it.
pub const PORT: u16 = 8472;

/// A range of pods behind a tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    /// The pods.
    pub range: IpNet,
    /// The node they are on.
    pub node: IpAddr,
}

fn mac(node: IpAddr) -> Mac {
    Mac::local(fingerprint(&["vxlan", &node.to_string()]))
}

/// Makes the device fit the peers (or removes it when there are none), and gives the routes to their pods.
pub(super) fn sync(
    socket: &mut Socket,
    own: &NodeRoute,
    peers: &[Peer],
    problems: &mut Vec<String>,
) -> Result<Vec<Route>> {
    // A tunnel has ends of one family; it carries both.
    let Some(outer) = peers.first().map(|peer| peer.node.is_ipv6()) else {
        socket.delete_link_named(LINK)?;
        return Ok(Vec::new());
    };
    let Some(local) = own.ips.iter().copied().find(|ip| ip.is_ipv6() == outer) else {
        problems.push("this node has no address for the overlay".to_owned());
        return Ok(Vec::new());
    };
    let link = match socket.find_link(LINK)? {
        Some(link) if link.mac == Some(mac(local)) => link,
        stale => {
            if let Some(stale) = stale {
                socket.delete_link(stale.index)?;
            }
            let overhead = if outer { 70 } else { 50 };
            let mtu = uplink_mtu(socket)?.saturating_sub(overhead);
            let mac = Some(mac(local));
            socket.add_vxlan(&Vxlan { name: LINK, id: ID, port: PORT, local, device: None, mac, mtu })?;
            let link = socket.link(LINK)?;
            socket.set_link_without_autoconf(link.index)?;
            link
        }
    };
    if !link.is_up() {
        socket.set_link_up(link.index, true)?;
    }
    for range in &own.pod_ranges {
        let address = range.network();
        socket.add_address_without_route(link.index, address, IpNet::from(address).prefix_len())?;
    }
    let (mut routes, mut ends) = (Vec::new(), Vec::new());
    for peer in peers {
        if peer.node.is_ipv6() != outer {
            problems.push(format!("{}: the overlay runs over the other address family", peer.range));
            continue;
        }
        let (mac, address) = (mac(peer.node), peer.range.network());
        socket.set_neighbour(link.index, address, mac)?;
        socket.add_forwarding(link.index, mac, peer.node)?;
        ends.push((address, mac));
        let route = Route::to(address, peer.range.prefix_len());
        routes.push(Route { link: Some(link.index), gateway: Some(address), onlink: true, ..route });
    }
    for (mac, end) in socket.forwardings(link.index)? {
        if !ends.iter().any(|(_, own)| *own == mac) {
            socket.delete_forwarding(link.index, mac, end)?;
        }
    }
    let neighbours = socket.neighbours()?;
    for stale in neighbours.iter().filter(|n| n.link == link.index && n.permanent) {
        if !ends.iter().any(|(address, _)| *address == stale.ip) {
            socket.delete_neighbour(link.index, stale.ip)?;
        }
    }
    Ok(routes)
}
