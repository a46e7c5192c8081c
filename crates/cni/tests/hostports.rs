//! Host ports and masquerading with real packets.

mod lab;

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::Duration;

use cni::{PortMapping, Protocol};
use lab::{Lab, Pod, ask, ip, serve_once};
use linux::nftables::{Batch, Family, Table, Tables};

fn mapping(host_port: u16, host_ip: Option<&str>, protocol: Protocol) -> PortMapping {
    PortMapping { host_port, container_port: 8080, protocol, host_ip: host_ip.map(ip) }
}

fn add(lab: &Lab, name: &str, mappings: Vec<PortMapping>) -> cni::Result<Pod> {
    let (namespace, mut pod) = lab.pod(name);
    pod.port_mappings = mappings;
    let ips = lab.host.run(|| lab.network.add(&pod)).unwrap()?.ips;
    Ok(Pod { namespace, pod, ips })
}

/// Serves once in `pod` on port 8080 of all addresses, asks `address` from `client`, gives the client as the pod saw it.
fn through(pod: &Pod, client: &linux::netlink::namespace::Namespace, address: &str) -> IpAddr {
    let listener = pod.namespace.run(|| TcpListener::bind("[::]:8080")).unwrap().unwrap();
    let seen = serve_once(listener);
    let address: SocketAddr = address.parse().unwrap();
    assert_eq!(ask(client, address).unwrap(), "you said hello", "{address}");
    match seen.join().unwrap() {
        IpAddr::V6(address) => address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4),
        address => address,
    }
}

#[test]
fn a_host_port_leads_into_the_pod_from_everywhere() {
    let lab = Lab::new(&["10.42.0.0/24", "fd42::/64"]);
    let before = lab.state();
    let pod = add(&lab, "a", vec![mapping(5000, None, Protocol::Tcp)]).unwrap();
    let other = lab.add("b");
    assert_eq!(through(&pod, &lab.world, "192.0.2.10:5000"), ip("192.0.2.1"));
    assert_eq!(through(&pod, &lab.world, "[2001:db8::10]:5000"), ip("2001:db8::1"));
    assert_eq!(through(&pod, &other.namespace, "192.0.2.10:5000"), other.ips[0]);
    assert_eq!(through(&pod, &lab.host, "192.0.2.10:5000"), ip("192.0.2.10"));
    assert_eq!(through(&pod, &lab.host, "127.0.0.1:5000"), ip("192.0.2.10"), "localhost is masqueraded");
    assert_eq!(through(&pod, &pod.namespace, "192.0.2.10:5000"), ip("192.0.2.10"), "the pod reaches itself");
    lab.host.run(|| lab.network.check(&pod.pod)).unwrap().unwrap();
    lab.del(&pod.pod).unwrap();
    lab.del(&other.pod).unwrap();
    assert!(ask(&lab.world, "192.0.2.10:5000".parse().unwrap()).is_err());
    assert_eq!(lab.state(), before);
}

#[test]
fn the_same_port_on_other_addresses_and_protocols_is_free() {
    let lab = Lab::new(&["10.42.0.0/24"]);
    let local = add(&lab, "a", vec![mapping(5000, Some("127.0.0.1"), Protocol::Tcp)]).unwrap();
    let bound = add(&lab, "b", vec![mapping(5000, Some("192.0.2.10"), Protocol::Tcp)]).unwrap();
    let udp = add(&lab, "c", vec![mapping(5000, Some("192.0.2.10"), Protocol::Udp)]).unwrap();
    through(&local, &lab.host, "127.0.0.1:5000");
    through(&bound, &lab.world, "192.0.2.10:5000");
    let server = udp.namespace.run(|| UdpSocket::bind("0.0.0.0:8080")).unwrap().unwrap();
    let client = lab.world.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    }
    client.connect("192.0.2.10:5000").unwrap();
    client.send(b"ping").unwrap();
    let mut buffer = [0; 16];
    let (length, peer) = server.recv_from(&mut buffer).unwrap();
    server.send_to(&buffer[..length], peer).unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap(), 4, "the answer comes from the address that was asked");

    let taken = add(&lab, "d", vec![mapping(5000, Some("192.0.2.10"), Protocol::Tcp)]).map(|pod| pod.ips);
    assert!(taken.unwrap_err().to_string().contains("taken"));
    through(&bound, &lab.world, "192.0.2.10:5000");

    // A flow of UDP moves on to the next pod when the old one is gone.
    lab.del(&udp.pod).unwrap();
    let next = add(&lab, "e", vec![mapping(5000, None, Protocol::Udp)]).unwrap();
    let server = next.namespace.run(|| UdpSocket::bind("0.0.0.0:8080")).unwrap().unwrap();
    server.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    client.send(b"again").unwrap();
    assert_eq!(server.recv(&mut buffer).unwrap(), 5);
}

#[test]
fn pods_reach_the_world_as_their_node() {
    let lab = Lab::new(&["10.42.0.0/24", "fd42::/64"]);
    let pod = lab.add("a");
    let net = |text: &str| text.parse::<ipnet::IpNet>().unwrap();
    for _ in 0..2 {
        lab.host
            .run(|| {
                let pods = [net("10.42.0.0/24"), net("fd42::/64")];
                cni::node::sync_masquerade(&pods, &[net("10.42.0.0/16"), net("fd42::/48"), net("10.43.0.0/16")])
            })
            .unwrap()
            .unwrap();
    }
    assert_eq!(lab::exchange(&pod.namespace, &lab.world, ip("192.0.2.1")), ip("192.0.2.10"));
    assert_eq!(lab::exchange(&pod.namespace, &lab.world, ip("2001:db8::1")), ip("2001:db8::10"));
    assert_eq!(lab::exchange(&pod.namespace, &lab.host, ip("192.0.2.10")), pod.ips[0]);
    let other = lab.add("b");
    assert_eq!(lab::exchange(&pod.namespace, &other.namespace, other.ips[0]), pod.ips[0]);

    let (proxy, cluster) = (Table::new(Family::Ip, "skiff-proxy"), Table::new(Family::Ip, "skiff-cluster-demo"));
    lab.host
        .run(|| {
            let mut batch = Batch::new();
            batch.add_table(&proxy).unwrap();
            batch.add_table(&cluster).unwrap();
            Tables::open().unwrap().apply(&batch).unwrap();
        })
        .unwrap();
    let removed = lab.host.run(|| cni::node::remove_all(&["skiff-proxy"])).unwrap().unwrap();
    for name in ["inet skiff-masquerade-pods", "ip skiff-proxy"] {
        assert!(removed.contains(&format!("table {name}")), "{removed:?}");
    }
    let left = lab.host.run(|| Tables::open().unwrap().tables().unwrap()).unwrap();
    assert_eq!(left, [cluster], "a local cluster is not this node's");
    assert!(!lab.state().iter().any(|line| line.contains("link sk") || line.contains("route 10.42.0.")));
}

#[test]
fn forwarding_is_put_back() {
    let space = linux::netlink::namespace::Namespace::create().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let record = folder.path().join("sysctls");
    let read = |key: &str| cni::sysctl::read(key).unwrap();
    space.route_socket().unwrap().add_bridge("up0", 0, None).unwrap();
    let keys = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/up0/accept_ra"];
    space
        .run(|| {
            cni::sysctl::write(keys[0], "0").unwrap();
            let before = keys.map(read);
            cni::node::prepare(&record).unwrap();
            cni::node::prepare(&record).unwrap();
            assert_eq!(keys.map(read), ["1", "1", "2"]);
            cni::node::restore(&record).unwrap();
            assert_eq!(keys.map(read), before);
            cni::node::restore(&record).unwrap();
        })
        .unwrap();
}
