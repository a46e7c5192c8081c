//! Netlink against the kernel, in network namespaces that vanish with the test.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use linux::netlink::link::{Mac, VethEnd, Vxlan};
use linux::netlink::namespace::Namespace;
use linux::netlink::route::{Route, RouteKind};
use linux::netlink::rule::Rule;
use linux::netlink::watch::{Change, Interest, Watch};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn end(name: &str) -> VethEnd<'_> {
    VethEnd { name, ..VethEnd::default() }
}

/// Two namespaces joined by a pair, addressed without a prefix route in common.
fn pair() -> (Namespace, Namespace) {
    let (host, pod) = (Namespace::create().unwrap(), Namespace::create().unwrap());
    let mut near = host.route_socket().unwrap();
    let (host_mac, pod_mac) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
    near.add_veth(
        &VethEnd { name: "skpair", mac: Some(host_mac), alias: "pod 1", ..VethEnd::default() },
        &VethEnd { name: "eth0", mac: Some(pod_mac), namespace: Some(pod.as_fd()), ..VethEnd::default() },
        1400,
    )
    .unwrap();
    let mut far = pod.route_socket().unwrap();
    let (near_link, far_link) = (near.link("skpair").unwrap(), far.link("eth0").unwrap());
    assert_eq!((near_link.alias.as_str(), near_link.kind.as_str(), near_link.mtu), ("pod 1", "veth", 1400));
    assert_eq!(far_link.mac, Some(pod_mac));
    near.set_link_without_autoconf(near_link.index).unwrap();
    let sides = [
        (&mut near, near_link.index, ["10.1.0.1", "fd00::1"], ["10.1.0.2", "fd00::2"], pod_mac),
        (&mut far, far_link.index, ["10.1.0.2", "fd00::2"], ["10.1.0.1", "fd00::1"], host_mac),
    ];
    for (socket, link, owns, others, mac) in sides {
        socket.set_link_up(link, true).unwrap();
        for (own, other) in owns.into_iter().zip(others) {
            socket.add_address(link, ip(own), if ip(own).is_ipv4() { 32 } else { 128 }).unwrap();
            socket.replace_route(&Route::host(ip(other), link)).unwrap();
            socket.set_neighbour(link, ip(other), mac).unwrap();
        }
    }
    (host, pod)
}

#[test]
fn real_bytes_cross_a_pair() {
    let (host, pod) = pair();
    for (own, other) in [("10.1.0.2", "10.1.0.1"), ("fd00::2", "fd00::1")] {
        let address = SocketAddr::new(ip(own), 80);
        let listener = pod.run(|| TcpListener::bind(address)).unwrap().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, peer) = listener.accept().unwrap();
            stream.write_all(b"hello").unwrap();
            peer.ip()
        });
        let mut stream = host.run(|| TcpStream::connect_timeout(&address, Duration::from_secs(5))).unwrap().unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello");
        assert_eq!(server.join().unwrap(), ip(other));
    }
}

#[test]
fn listings_show_what_was_made() {
    let (host, pod) = pair();
    let mut socket = host.route_socket().unwrap();
    let link = socket.link("skpair").unwrap();
    let addresses = socket.addresses().unwrap();
    let own = addresses.iter().find(|a| a.ip == ip("fd00::1")).unwrap();
    assert!(!own.is_tentative() && own.prefix == 128);
    assert!(!addresses.iter().any(|a| a.link == link.index && a.scope == 253), "no link-local address: {addresses:?}");
    let routes = socket.routes().unwrap();
    assert!(routes.iter().any(|r| r.destination == ip("10.1.0.2") && r.prefix == 32 && r.link == Some(link.index)));
    assert!(routes.iter().any(|r| r.destination == ip("fd00::2") && r.prefix == 128));
    assert!(socket.neighbours().unwrap().iter().any(|n| n.ip == ip("fd00::2") && n.permanent));
    assert_eq!(socket.route_to(ip("10.1.0.2")).unwrap().link, Some(link.index));
    assert!(socket.route_to(ip("10.2.0.2")).unwrap_err().errno().is_some());

    socket.delete_route(&Route::host(ip("10.1.0.2"), link.index)).unwrap();
    assert!(socket.delete_route(&Route::host(ip("10.1.0.2"), link.index)).unwrap_err().is_absent());
    assert!(socket.delete_link_named("skpair").unwrap());
    assert!(!socket.delete_link_named("skpair").unwrap());
    assert!(pod.route_socket().unwrap().find_link("eth0").unwrap().is_none(), "the other end goes too");
}

#[test]
fn bridges_dummies_vxlans_rules_and_special_routes() {
    let space = Namespace::create().unwrap();
    let mut socket = space.route_socket().unwrap();
    socket.add_bridge("br0", 1400, None).unwrap();
    socket.add_veth(&end("dum0"), &end("dum9"), 0).unwrap();
    assert!(socket.add_bridge("dum0", 0, None).unwrap_err().is_present());
    // Not every kernel has this driver; one that lacks it says so.
    match socket.add_dummy("dum5", 0) {
        Ok(()) => assert_eq!(socket.link("dum5").unwrap().kind, "dummy"),
        Err(error) => assert_eq!(error.errno(), Some(nix::errno::Errno::EOPNOTSUPP)),
    }
    let (bridge, dummy) = (socket.link("br0").unwrap(), socket.link("dum0").unwrap());
    socket.set_link_master(dummy.index, Some(bridge.index)).unwrap();
    socket.set_link_hairpin(dummy.index, true).unwrap();
    assert_eq!(socket.link("dum0").unwrap().master, Some(bridge.index));
    socket.set_link_mac(dummy.index, Mac([2, 1, 1, 1, 1, 1])).unwrap();
    socket.set_link_mtu(dummy.index, 1300).unwrap();
    socket.rename_link(dummy.index, "dum1").unwrap();
    let dummy = socket.link_by_index(dummy.index).unwrap();
    assert_eq!((dummy.name.as_str(), dummy.mtu, dummy.mac), ("dum1", 1300, Some(Mac([2, 1, 1, 1, 1, 1]))));

    socket.set_link_up(bridge.index, true).unwrap();
    socket.add_address(bridge.index, ip("192.168.7.1"), 24).unwrap();
    socket
        .add_vxlan(&Vxlan {
            name: "vx0",
            id: 9,
            port: 4789,
            local: ip("192.168.7.1"),
            device: None,
            mac: None,
            mtu: 1350,
        })
        .unwrap();
    let vxlan = socket.link("vx0").unwrap();
    assert_eq!(vxlan.kind, "vxlan");
    socket.add_forwarding(vxlan.index, Mac([2, 9, 9, 9, 9, 9]), ip("192.168.7.2")).unwrap();
    assert_eq!(socket.forwardings(vxlan.index).unwrap(), vec![(Mac([2, 9, 9, 9, 9, 9]), ip("192.168.7.2"))]);
    socket.delete_forwarding(vxlan.index, Mac([2, 9, 9, 9, 9, 9]), ip("192.168.7.2")).unwrap();

    let rule = Rule {
        v6: false,
        priority: 500,
        table: 1000,
        from: Some((ip("10.9.0.0"), 16)),
        to: None,
        mark: Some((0x10, 0xf0)),
        protocol: 0x5b,
    };
    socket.add_rule(&rule).unwrap();
    assert!(socket.rules().unwrap().contains(&rule));
    socket.delete_rule(&rule).unwrap();
    assert!(!socket.rules().unwrap().contains(&rule));

    let blackhole = Route { kind: RouteKind::Blackhole, table: 1000, ..Route::to(ip("10.9.0.0"), 16) };
    socket.replace_route(&blackhole).unwrap();
    let found = socket.routes().unwrap().into_iter().find(|route| route.table == 1000).unwrap();
    assert_eq!((found.kind, found.protocol), (RouteKind::Blackhole, linux::netlink::route::PROTOCOL));
    assert!(socket.replace_route(&Route::to(ip("10.9.0.0"), 33)).is_err());
    assert!(socket.add_dummy("a name that is far too long", 0).is_err());
}

#[test]
fn a_watch_hears_of_changes() {
    let space = Namespace::create().unwrap();
    let mut watch = space
        .run(|| Watch::open(Interest { links: true, addresses: true, routes: true, neighbours: false }))
        .unwrap()
        .unwrap();
    assert_eq!(watch.next(Duration::from_millis(1)).unwrap(), None);
    let mut socket = space.route_socket().unwrap();
    socket.add_bridge("dum0", 0, None).unwrap();
    let index = socket.link("dum0").unwrap().index;
    socket.add_address(index, ip("10.3.0.1"), 24).unwrap();
    socket.delete_link(index).unwrap();
    let mut seen = (false, false, false);
    while let Some(change) = watch.next(Duration::from_millis(200)).unwrap() {
        match change {
            Change::Link(link) if link.name == "dum0" => seen.0 = true,
            Change::Address(address) if address.ip == ip("10.3.0.1") => seen.1 = true,
            Change::LinkGone(link) if link.name == "dum0" => seen.2 = true,
            _ => {}
        }
    }
    assert_eq!(seen, (true, true, true));
}
