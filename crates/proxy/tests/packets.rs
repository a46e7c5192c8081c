//! Services with real packets: a node, its pods and the world as network namespaces that vanish with the test.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use cni::{Network, NetworkConfig, PodNetwork};
use linux::netlink::link::VethEnd;
use linux::netlink::namespace::Namespace;
use linux::netlink::route::Route;
use linux::nftables::Tables;
use proxy::{Applier, Endpoint, Node, Protocol, ServicePort, ServicePortName, plan};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

struct Pod {
    space: Namespace,
    ips: Vec<IpAddr>,
}

/// A node 192.0.2.10, 2001:db8::10 without a default route, three pods that answer on port 80 with their name and
/// the address of who asks, and a neighbour 192.0.2.1 that knows the node as its router.
struct Lab {
    host: Namespace,
    world: Namespace,
    pods: Vec<Pod>,
    applier: Applier,
    node: Node,
    _folder: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (host, world) = (Namespace::create().unwrap(), Namespace::create().unwrap());
        let far = VethEnd { name: "eth0", namespace: Some(world.as_fd()), ..VethEnd::default() };
        host.route_socket().unwrap().add_veth(&VethEnd { name: "up0", ..VethEnd::default() }, &far, 1400).unwrap();
        for (space, name, last) in [(&host, "up0", "10"), (&world, "eth0", "1")] {
            space.run(|| cni::sysctl::write(&format!("net/ipv6/conf/{name}/accept_dad"), "0")).unwrap().unwrap();
            let mut socket = space.route_socket().unwrap();
            for name in ["lo", name] {
                let index = socket.link(name).unwrap().index;
                socket.set_link_up(index, true).unwrap();
            }
            let index = socket.link(name).unwrap().index;
            socket.add_address(index, ip(&format!("192.0.2.{last}")), 24).unwrap();
            socket.add_address(index, ip(&format!("2001:db8::{last}")), 64).unwrap();
        }
        for (any, gateway) in [("0.0.0.0", "192.0.2.10"), ("::", "2001:db8::10")] {
            let route = Route { gateway: Some(ip(gateway)), ..Route::to(ip(any), 0) };
            world.route_socket().unwrap().replace_route(&route).unwrap();
        }
        let mut config = NetworkConfig::new(folder.path().join("data"));
        config.config_folder = folder.path().join("none");
        config.mtu = 1400;
        config.pod_ranges = vec!["10.42.0.0/24".parse().unwrap(), "fd42::/64".parse().unwrap()];
        let network = Network::new(config);
        let node = Node {
            name: "here".into(),
            zone: "".into(),
            ips: vec![ip("192.0.2.10"), ip("2001:db8::10")],
            pod_ranges: vec!["10.42.0.0/16".parse().unwrap(), "fd42::/48".parse().unwrap()],
            service_ranges: vec!["10.43.0.0/16".parse().unwrap(), "fd43::/112".parse().unwrap()],
        };
        host.run(|| {
            cni::node::enable_forwarding(false).unwrap();
            cni::node::enable_forwarding(true).unwrap();
            proxy::apply::route_services(&node.service_ranges, &node.ips).unwrap();
        })
        .unwrap();
        let pods = (0..3).map(|number| pod(&host, &network, number)).collect();
        let applier = host.run(Applier::open).unwrap().unwrap();
        Self { host, world, pods, applier, node, _folder: folder }
    }

    fn apply(&mut self, services: &[ServicePort]) {
        self.applier.apply(plan(services, &self.node)).unwrap();
    }

    /// A service of pods given by number on port 80, at 10.43.0.N and fd43::N.
    fn service(&self, last: u8, pods: &[usize]) -> ServicePort {
        let ips = vec![ip(&format!("10.43.0.{last}")), ip(&format!("fd43::{last:x}"))];
        let name = ServicePortName { namespace: "ns".into(), service: format!("s{last}").into(), port: "http".into() };
        let mut service = ServicePort::new(name, Protocol::Tcp, 8000, ips);
        for pod in pods {
            service.endpoints.extend(self.pods[*pod].ips.iter().map(|ip| Endpoint::ready(*ip, 80, "here")));
        }
        service
    }
}

fn pod(host: &Namespace, network: &Network, number: usize) -> Pod {
    let space = Namespace::create().unwrap();
    let request = PodNetwork {
        namespace: "ns".into(),
        name: format!("p{number}"),
        uid: format!("u{number}"),
        sandbox_id: format!("s{number}"),
        netns_path: space.path(),
        port_mappings: vec![],
        ips: vec![],
    };
    let ips = host.run(|| network.add(&request)).unwrap().unwrap().ips;
    let listener = space.run(|| TcpListener::bind("[::]:80")).unwrap().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, peer)) = listener.accept() {
            let peer = match peer.ip() {
                IpAddr::V6(peer) => peer.to_ipv4_mapped().map_or(IpAddr::V6(peer), IpAddr::V4),
                peer => peer,
            };
            let _ = stream.write_all(format!("{number} {peer}").as_bytes());
        }
    });
    Pod { space, ips }
}

/// Asks an address; gives the pod's number and who it thinks asked.
fn ask(from: &Namespace, address: &str) -> Result<(usize, IpAddr), ErrorKind> {
    let address: SocketAddr = address.parse().unwrap();
    let attempt = || -> std::io::Result<String> {
        let mut stream = from.run(|| TcpStream::connect_timeout(&address, Duration::from_millis(1500))).unwrap()?;
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = attempt().map_err(|error| error.kind())?;
    let (number, peer) = text.split_once(' ').unwrap();
    Ok((number.parse().unwrap(), ip(peer)))
}

fn pods_seen(from: &Namespace, address: &str, times: usize) -> BTreeSet<usize> {
    (0..times).map(|_| ask(from, address).unwrap().0).collect()
}

#[test]
fn a_cluster_address_spreads_over_its_endpoints() {
    let mut lab = Lab::new();
    let service = lab.service(1, &[0, 1]);
    lab.apply(std::slice::from_ref(&service));
    for address in ["10.43.0.1:8000", "[fd43::1]:8000"] {
        assert_eq!(pods_seen(&lab.pods[2].space, address, 30), BTreeSet::from([0, 1]), "{address} from a pod");
        assert_eq!(pods_seen(&lab.host, address, 30), BTreeSet::from([0, 1]), "{address} from the node");
    }
    assert_eq!(ask(&lab.pods[2].space, "10.43.0.1:8000").unwrap().1, lab.pods[2].ips[0], "pods keep their address");
    assert_eq!(ask(&lab.world, "10.43.0.1:8000").unwrap().1, ip("192.0.2.10"), "others are masqueraded");

    // Endpoints change in one transaction: nothing else is touched.
    let smaller = lab.service(1, &[1]);
    lab.apply(&[smaller]);
    assert_eq!(pods_seen(&lab.pods[2].space, "10.43.0.1:8000", 10), BTreeSet::from([1]));
    lab.apply(&[]);
    assert_eq!(ask(&lab.pods[2].space, "10.43.0.1:8000"), Err(ErrorKind::ConnectionRefused));
}

#[test]
fn a_pod_reaches_itself_by_its_service() {
    let mut lab = Lab::new();
    let service = lab.service(1, &[0]);
    lab.apply(&[service]);
    assert_eq!(ask(&lab.pods[0].space, "10.43.0.1:8000").unwrap(), (0, ip("192.0.2.10")));
    let (number, peer) = ask(&lab.pods[0].space, "[fd43::1]:8000").unwrap();
    assert_eq!((number, peer), (0, ip("2001:db8::10")));
}

#[test]
fn what_does_not_exist_is_refused_at_once() {
    let mut lab = Lab::new();
    let (full, empty) = (lab.service(1, &[0]), lab.service(2, &[]));
    lab.apply(&[full, empty]);
    for (who, space) in [("pod", &lab.pods[2].space), ("node", &lab.host), ("world", &lab.world)] {
        for address in
            ["10.43.0.2:8000", "10.43.0.1:8001", "10.43.0.77:8000", "[fd43::2]:8000", "[fd43::1]:9", "[fd43::77]:8000"]
        {
            // Silence would end in TimedOut.
            assert_eq!(ask(space, address), Err(ErrorKind::ConnectionRefused), "{address}");
        }
        if who == "world" {
            // The kernel sends a neighbour only so many ICMP messages, and hints at a shorter way count too.
            continue;
        }
        let socket = space.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        socket.connect("10.43.0.1:8000").unwrap();
        // The kernel tells a process of this host at once, any other by an error that comes back.
        let error = socket.send(b"x").and_then(|_| socket.recv(&mut [0; 8])).unwrap_err().kind();
        let expected = if who == "node" { ErrorKind::PermissionDenied } else { ErrorKind::ConnectionRefused };
        assert_eq!(error, expected, "the other protocol, from the {who}");
    }
}

#[test]
fn node_ports_and_external_addresses() {
    let mut lab = Lab::new();
    let mut cluster = lab.service(1, &[0, 1]);
    cluster.node_port = Some(30001);
    cluster.external_ips = vec![ip("203.0.113.1")];
    let mut local = lab.service(2, &[0, 1]);
    local.node_port = Some(30002);
    local.load_balancer_ips = vec![ip("203.0.113.2")];
    local.external_local = true;
    local.endpoints.retain(|endpoint| endpoint.ip == lab.pods[1].ips[0] || endpoint.ip == lab.pods[0].ips[0]);
    local.endpoints[0].node = "elsewhere".into();
    let mut far = local.clone();
    far.name.service = "far".into();
    far.cluster_ips = vec![ip("10.43.0.3")];
    far.node_port = Some(30003);
    far.load_balancer_ips = vec![ip("203.0.113.3")];
    far.endpoints.truncate(1);
    let mut none = far.clone();
    none.name.service = "none".into();
    none.cluster_ips = vec![ip("10.43.0.4")];
    none.node_port = Some(30004);
    none.load_balancer_ips = vec![];
    none.endpoints.clear();
    lab.apply(&[cluster, local, far, none]);

    assert_eq!(pods_seen(&lab.world, "192.0.2.10:30001", 30), BTreeSet::from([0, 1]));
    assert_eq!(ask(&lab.world, "192.0.2.10:30001").unwrap().1, ip("192.0.2.10"));
    assert_eq!(ask(&lab.world, "[2001:db8::10]:30001").unwrap().1, ip("2001:db8::10"));
    assert_eq!(pods_seen(&lab.world, "203.0.113.1:8000", 30), BTreeSet::from([0, 1]));
    ask(&lab.host, "192.0.2.10:30001").unwrap();
    ask(&lab.pods[0].space, "192.0.2.10:30001").unwrap();

    // Local: only this node's endpoint, with the client's own address.
    for address in ["192.0.2.10:30002", "203.0.113.2:8000"] {
        for _ in 0..10 {
            assert_eq!(ask(&lab.world, address).unwrap(), (1, ip("192.0.2.1")));
        }
    }
    assert_eq!(pods_seen(&lab.pods[2].space, "203.0.113.2:8000", 30), BTreeSet::from([0, 1]), "pods use all endpoints");

    // All endpoints elsewhere: dropped from outside, served from inside. None at all: refused.
    assert_eq!(ask(&lab.world, "192.0.2.10:30003"), Err(ErrorKind::TimedOut));
    assert_eq!(ask(&lab.pods[2].space, "203.0.113.3:8000").unwrap().0, 0);
    assert_eq!(ask(&lab.world, "192.0.2.10:30004"), Err(ErrorKind::ConnectionRefused));
    assert_eq!(ask(&lab.host, "192.0.2.10:30004"), Err(ErrorKind::ConnectionRefused));
}

#[test]
fn source_ranges_keep_strangers_out() {
    let mut lab = Lab::new();
    let mut service = lab.service(1, &[0]);
    service.load_balancer_ips = vec![ip("203.0.113.1")];
    service.source_ranges = vec!["192.0.2.0/25".parse().unwrap()];
    lab.apply(std::slice::from_ref(&service));
    ask(&lab.world, "203.0.113.1:8000").unwrap();
    service.source_ranges = vec!["198.51.100.0/24".parse().unwrap()];
    lab.apply(std::slice::from_ref(&service));
    assert_eq!(ask(&lab.world, "203.0.113.1:8000"), Err(ErrorKind::TimedOut));
    ask(&lab.world, "10.43.0.1:8000").unwrap();
    service.source_ranges.clear();
    lab.apply(std::slice::from_ref(&service));
    ask(&lab.world, "203.0.113.1:8000").unwrap();
}

#[test]
fn a_client_keeps_its_endpoint() {
    let mut lab = Lab::new();
    let mut service = lab.service(1, &[0, 1, 2]);
    service.affinity = Some(Duration::from_secs(2));
    lab.apply(std::slice::from_ref(&service));
    for address in ["10.43.0.1:8000", "[fd43::1]:8000"] {
        let seen = pods_seen(&lab.host, address, 20);
        assert_eq!(seen.len(), 1, "{address}");
        let kept = *seen.first().unwrap();

        // Another endpoint goes: the client stays. Its own goes: it moves once, and stays there.
        let mut smaller = service.clone();
        let other = &lab.pods[(kept + 1) % 3].ips;
        smaller.endpoints.retain(|endpoint| !other.contains(&endpoint.ip));
        lab.apply(std::slice::from_ref(&smaller));
        assert_eq!(pods_seen(&lab.host, address, 10), BTreeSet::from([kept]));
        let own = lab.pods[kept].ips.clone();
        smaller = service.clone();
        smaller.endpoints.retain(|endpoint| !own.contains(&endpoint.ip));
        lab.apply(std::slice::from_ref(&smaller));
        let moved = pods_seen(&lab.host, address, 20);
        assert!(moved.len() == 1 && !moved.contains(&kept), "{moved:?} after {kept}");
        lab.apply(std::slice::from_ref(&service));
        assert_eq!(pods_seen(&lab.host, address, 10), moved, "the endpoint that came back does not draw it back");
    }
    // Time over, the lot is drawn again.
    let mut seen = BTreeSet::new();
    for _ in 0..6 {
        std::thread::sleep(Duration::from_millis(2300));
        seen.insert(ask(&lab.host, "10.43.0.1:8000").unwrap().0);
        if seen.len() > 1 {
            break;
        }
    }
    assert!(seen.len() > 1, "{seen:?}");
}

#[test]
fn flows_of_udp_leave_endpoints_that_are_gone() {
    let mut lab = Lab::new();
    let servers: Vec<UdpSocket> = (0..2)
        .map(|pod| lab.pods[pod].space.run(|| UdpSocket::bind("0.0.0.0:53")).unwrap().unwrap())
        .inspect(|socket| socket.set_read_timeout(Some(Duration::from_millis(1500))).unwrap())
        .collect();
    let service = |lab: &Lab, pod: Option<usize>| {
        let mut service = lab.service(9, &[]);
        service.protocol = Protocol::Udp;
        service.port = 53;
        service.endpoints = pod.map(|pod| Endpoint::ready(lab.pods[pod].ips[0], 53, "here")).into_iter().collect();
        service
    };
    let client = lab.pods[2].space.run(|| UdpSocket::bind("0.0.0.0:0")).unwrap().unwrap();
    client.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
    client.connect("10.43.0.9:53").unwrap();
    let mut buffer = [0; 16];
    // Without an endpoint the packet is refused; the flow must not be stuck when one comes.
    lab.apply(&[service(&lab, None)]);
    client.send(b"a").unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    for pod in [0, 1] {
        lab.apply(&[service(&lab, Some(pod))]);
        client.send(b"question").unwrap();
        let (length, peer) = servers[pod].recv_from(&mut buffer).unwrap();
        servers[pod].send_to(&buffer[..length], peer).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 8);
    }
}

#[test]
fn internal_local_policy_and_recovery() {
    let mut lab = Lab::new();
    let mut service = lab.service(1, &[0, 1]);
    service.internal_local = true;
    for endpoint in &mut service.endpoints {
        if endpoint.ip == lab.pods[0].ips[0] || endpoint.ip == lab.pods[0].ips[1] {
            endpoint.node = "elsewhere".into();
        }
    }
    lab.apply(std::slice::from_ref(&service));
    assert_eq!(pods_seen(&lab.pods[2].space, "10.43.0.1:8000", 12), BTreeSet::from([1]));
    for endpoint in &mut service.endpoints {
        endpoint.node = "elsewhere".into();
    }
    lab.apply(std::slice::from_ref(&service));
    assert_eq!(ask(&lab.pods[2].space, "10.43.0.1:8000"), Err(ErrorKind::TimedOut));

    // Somebody removes our tables: the next change makes them anew.
    let mut stranger = lab.host.run(Applier::open).unwrap().unwrap();
    stranger.remove().unwrap();
    assert!(!lab.applier.verify().unwrap());
    service.internal_local = false;
    lab.apply(std::slice::from_ref(&service));
    assert!(lab.applier.verify().unwrap());
    ask(&lab.pods[2].space, "10.43.0.1:8000").unwrap();
    stranger.remove().unwrap();
    service.endpoints.truncate(2);
    lab.apply(std::slice::from_ref(&service));
    ask(&lab.pods[2].space, "10.43.0.1:8000").unwrap();
    lab.applier.remove().unwrap();
    assert!(lab.host.run(|| Tables::open().unwrap().tables().unwrap().is_empty()).unwrap());
}

#[test]
fn thousands_of_services_change_by_their_difference() {
    let mut lab = Lab::new();
    let endpoint = |n: u32| Endpoint::ready(IpAddr::from((0x0a2a_0000 + n).to_be_bytes()), 80, "far");
    let mut services: Vec<ServicePort> = (0..2000u32)
        .map(|n| {
            let name = ServicePortName { namespace: "big".into(), service: format!("s{n}").into(), port: "".into() };
            let cluster_ip = IpAddr::from((0x0a2b_1000 + n).to_be_bytes());
            let mut service = ServicePort::new(name, Protocol::Tcp, 80, vec![cluster_ip]);
            service.node_port = (n % 10 == 0).then_some(31000 + (n / 10) as u16);
            service.affinity = (n % 7 == 0).then_some(Duration::from_secs(60));
            service.endpoints = (0..n % 5).map(|m| endpoint(n * 5 + m)).collect();
            service
        })
        .collect();
    let start = Instant::now();
    lab.apply(&services);
    println!("2000 services from nothing: {:?}", start.elapsed());
    let before = plan(&services, &lab.node);
    services[17].endpoints.push(endpoint(60_000));
    services.remove(400);
    let after = plan(&services, &lab.node);
    let batch = after.ruleset.changes_from(Some(&before.ruleset)).unwrap();
    assert!(batch.len() < 6000, "{} bytes", batch.len());
    let start = Instant::now();
    lab.apply(&services);
    println!("one change: {:?}", start.elapsed());
    assert!(after.ruleset.changes_from(Some(&after.ruleset)).unwrap().is_empty());
    // The plans differ by every kind of change and back again: the kernel accepts each.
    let some: Vec<ServicePort> = services.iter().step_by(3).cloned().collect();
    for list in [&some, &services, &some] {
        lab.apply(list);
    }
    lab.apply(&[]);
}
