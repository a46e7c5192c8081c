//! Several nodes: pods of one reach pods of another, straight or through the overlay.

mod lab;

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::Path;

use cni::node::{NodeRoute, sync_node_routes};
use cni::{Network, NetworkConfig, PodNetwork};
use ipnet::IpNet;
use lab::{exchange, ip};
use linux::netlink::link::VethEnd;
use linux::netlink::namespace::Namespace;
use linux::netlink::route::Route;

struct Node {
    space: Namespace,
    route: NodeRoute,
    pod: Namespace,
    pod_ips: Vec<IpAddr>,
}

fn up(space: &Namespace, link: &str, addresses: &[(&str, u8)]) {
    // A real node's link-local addresses are long past their search for duplicates.
    space.run(|| cni::sysctl::write(&format!("net/ipv6/conf/{link}/accept_dad"), "0")).unwrap().unwrap();
    let mut socket = space.route_socket().unwrap();
    let index = socket.link(link).unwrap().index;
    socket.set_link_up(index, true).unwrap();
    for (address, prefix) in addresses {
        socket.add_address(index, ip(address), *prefix).unwrap();
    }
}

fn forward(space: &Namespace) {
    space
        .run(|| {
            cni::node::enable_forwarding(false).unwrap();
            cni::node::enable_forwarding(true).unwrap();
        })
        .unwrap();
}

/// A node with one pod, whose uplink `eth0` is there already.
fn node(folder: &Path, space: Namespace, number: u8, ips: [&str; 2]) -> Node {
    forward(&space);
    let ranges: Vec<IpNet> =
        vec![format!("10.42.{number}.0/24").parse().unwrap(), format!("fd42:0:0:{number}::/64").parse().unwrap()];
    let mut config = NetworkConfig::new(folder.join(number.to_string()));
    config.config_folder = folder.join("none");
    config.pod_ranges = ranges.clone();
    config.mtu = 1300;
    let network = Network::new(config);
    let pod = Namespace::create().unwrap();
    let attached = space
        .run(|| {
            network.add(&PodNetwork {
                namespace: "default".into(),
                name: "p".into(),
                uid: format!("u{number}"),
                sandbox_id: format!("s{number}"),
                netns_path: pod.path(),
                port_mappings: vec![],
                ips: vec![],
            })
        })
        .unwrap()
        .unwrap();
    let route = NodeRoute { name: format!("node-{number}"), ips: ips.map(ip).to_vec(), pod_ranges: ranges };
    Node { space, route, pod, pod_ips: attached.ips }
}

fn veth(near: &Namespace, near_name: &str, far: &Namespace, far_name: &str) {
    let end = VethEnd { name: far_name, namespace: Some(far.as_fd()), ..VethEnd::default() };
    near.route_socket().unwrap().add_veth(&VethEnd { name: near_name, ..VethEnd::default() }, &end, 1500).unwrap();
}

fn sync(node: &Node, all: &[NodeRoute]) -> cni::node::RouteReport {
    let report = node.space.run(|| sync_node_routes(&node.route, all)).unwrap().unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    report
}

#[test]
fn nodes_on_one_link_use_routes() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (Namespace::create().unwrap(), Namespace::create().unwrap());
    veth(&one, "eth0", &two, "eth0");
    up(&one, "eth0", &[("192.0.2.1", 24), ("2001:db8::1", 64)]);
    up(&two, "eth0", &[("192.0.2.2", 24), ("2001:db8::2", 64)]);
    let one = node(folder.path(), one, 1, ["192.0.2.1", "2001:db8::1"]);
    let two = node(folder.path(), two, 2, ["192.0.2.2", "2001:db8::2"]);
    let all = [one.route.clone(), two.route.clone()];
    let report = sync(&one, &all);
    assert_eq!((report.written, report.removed, report.overlaid), (2, 0, 0));
    sync(&two, &all);
    for (from, to) in one.pod_ips.iter().zip(&two.pod_ips) {
        assert_eq!(exchange(&one.pod, &two.pod, *to), *from);
    }
    let node_two = two.route.ips[0];
    assert_eq!(exchange(&one.pod, &two.space, node_two), one.pod_ips[0]);
    assert_eq!(exchange(&two.space, &one.pod, one.pod_ips[0]), node_two);
    assert_eq!(sync(&one, &all).written, 0, "nothing to do the second time");
    assert_eq!(sync(&one, &all[..1]).removed, 2, "a node that left");
    assert!(one.space.route_socket().unwrap().routes().unwrap().iter().any(|r| r.destination == one.pod_ips[0]));
}

#[test]
fn nodes_behind_a_router_use_the_overlay() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two, router) = (Namespace::create().unwrap(), Namespace::create().unwrap(), Namespace::create().unwrap());
    veth(&one, "eth0", &router, "a");
    veth(&two, "eth0", &router, "b");
    up(&one, "eth0", &[("192.0.2.2", 24), ("2001:db8:1::2", 64)]);
    up(&two, "eth0", &[("198.51.100.2", 24), ("2001:db8:2::2", 64)]);
    up(&router, "a", &[("192.0.2.1", 24), ("2001:db8:1::1", 64)]);
    up(&router, "b", &[("198.51.100.1", 24), ("2001:db8:2::1", 64)]);
    forward(&router);
    for (space, gateways) in [(&one, ["192.0.2.1", "2001:db8:1::1"]), (&two, ["198.51.100.1", "2001:db8:2::1"])] {
        for (any, gateway) in ["0.0.0.0", "::"].into_iter().zip(gateways) {
            let route = Route { gateway: Some(ip(gateway)), protocol: 4, ..Route::to(ip(any), 0) };
            space.route_socket().unwrap().replace_route(&route).unwrap();
        }
    }
    // The overlay runs over one family, so these nodes have one.
    let mut one = node(folder.path(), one, 1, ["192.0.2.2", "2001:db8:1::2"]);
    let mut two = node(folder.path(), two, 2, ["198.51.100.2", "2001:db8:2::2"]);
    for node in [&mut one, &mut two] {
        node.route.pod_ranges.truncate(1);
    }
    let all = [one.route.clone(), two.route.clone()];
    for node in [&one, &two] {
        let report = sync(node, &all);
        assert_eq!((report.written, report.overlaid), (1, 1));
        assert_eq!(sync(node, &all).written, 0);
    }
    assert_eq!(exchange(&one.pod, &two.pod, two.pod_ips[0]), one.pod_ips[0]);
    assert_eq!(exchange(&two.pod, &one.pod, one.pod_ips[0]), two.pod_ips[0]);
    sync(&one, &all[..1]);
    let mut socket = one.space.route_socket().unwrap();
    assert!(socket.find_link("skiff-vxlan").unwrap().is_none());
    assert!(!socket.routes().unwrap().iter().any(|route| route.destination == ip("10.42.2.0")));
}
