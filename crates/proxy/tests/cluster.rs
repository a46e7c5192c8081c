//! The proxy follows a cluster: real connections in a network namespace that vanishes with the test.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use apimachinery::GroupVersionResource;
use linux::netlink::namespace::Namespace;
use linux::nftables::{Batch, Family, Table, Tables};
use proxy::ProxyConfig;
use testkit::FakeBackend;

fn gvr(group: &str, resource: &str) -> GroupVersionResource {
    GroupVersionResource::new(group, "v1", resource)
}

fn ask(address: &str) -> Option<String> {
    let address: SocketAddr = address.parse().unwrap();
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

fn wait_for(address: &str, wanted: Option<&str>) -> Duration {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        if ask(address).as_deref() == wanted {
            return start.elapsed();
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    panic!("{address}: {:?} instead of {wanted:?}", ask(address));
}

fn server(port: u16, name: &'static str) {
    let listener = TcpListener::bind(("192.0.2.10", port)).unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.write_all(name.as_bytes());
        }
    });
}

#[test]
fn services_follow_the_cluster() {
    let space = Namespace::create().unwrap();
    // All threads of a runtime made inside stay inside.
    space.run(inside).unwrap();
}

fn inside() {
    let mut socket = linux::netlink::Socket::route().unwrap();
    let lo = socket.link("lo").unwrap().index;
    socket.set_link_up(lo, true).unwrap();
    socket.add_bridge("br0", 0, None).unwrap();
    let bridge = socket.link("br0").unwrap().index;
    socket.set_link_up(bridge, true).unwrap();
    socket.add_address(bridge, "192.0.2.10".parse().unwrap(), 24).unwrap();
    server(8001, "one");
    server(8002, "two");

    let cluster = FakeBackend::new();
    let node = r#"{"metadata":{"name":"here"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.10"}]}}"#;
    cluster.put(&gvr("", "nodes"), node);
    let service = r#"{"metadata":{"name":"web","namespace":"shop"},"spec":{"clusterIP":"10.43.0.7","ports":[{"port":80,"nodePort":30080}]}}"#;
    cluster.put(&gvr("", "services"), service);
    let slice = |port: u16| {
        format!(
            r#"{{"metadata":{{"name":"web-x","namespace":"shop","labels":{{"kubernetes.io/service-name":"web"}}}},
                "ports":[{{"port":{port}}}],"endpoints":[{{"addresses":["192.0.2.10"],"nodeName":"here"}}]}}"#
        )
    };
    cluster.put(&gvr("discovery.k8s.io", "endpointslices"), &slice(8001));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let config = ProxyConfig {
        node_name: "here".into(),
        node_ips: vec![],
        pod_ranges: vec!["10.42.0.0/16".parse().unwrap()],
        service_ranges: vec!["10.43.0.0/16".parse().unwrap()],
    };
    let task = runtime.spawn(proxy::run(cluster.client(), config));
    wait_for("10.43.0.7:80", Some("one"));
    wait_for("192.0.2.10:30080", Some("one"));
    cluster.put(&gvr("discovery.k8s.io", "endpointslices"), &slice(8002));
    println!("a new endpoint answers after {:?}", wait_for("10.43.0.7:80", Some("two")));
    cluster.remove(&gvr("discovery.k8s.io", "endpointslices"), "shop", "web-x");
    wait_for("10.43.0.7:80", None);
    cluster.put(&gvr("discovery.k8s.io", "endpointslices"), &slice(8001));
    wait_for("10.43.0.7:80", Some("one"));

    // Somebody removes a table: the next change heals it.
    let mut batch = Batch::new();
    batch.destroy_table(&Table::new(Family::Ip, "skiff-proxy")).unwrap();
    Tables::open().unwrap().apply(&batch).unwrap();
    cluster.put(&gvr("discovery.k8s.io", "endpointslices"), &slice(8002));
    wait_for("10.43.0.7:80", Some("two"));
    cluster.remove(&gvr("", "services"), "shop", "web");
    wait_for("10.43.0.7:80", None);
    assert!(!task.is_finished());
    task.abort();
    runtime.shutdown_timeout(Duration::from_secs(1));
}
