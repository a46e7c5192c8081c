//! The server follows a cluster and answers what it says.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use apimachinery::GroupVersionResource;
use dns::{DnsConfig, Publication};
use hickory_proto::op::{Message, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use testkit::FakeBackend;
use tokio::net::UdpSocket;

fn gvr(group: &str, resource: &str) -> GroupVersionResource {
    GroupVersionResource::new(group, "v1", resource)
}

async fn ask(server: SocketAddr, name: &str) -> (ResponseCode, Vec<String>) {
    let mut message = Message::query();
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), RecordType::A));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut buffer = [0; 2048];
    // Asked again while the server is not there yet, as resolvers do.
    let mut length = None;
    for _ in 0..60 {
        socket.send_to(&message.to_vec().unwrap(), server).await.unwrap();
        if let Ok(received) = tokio::time::timeout(Duration::from_secs(1), socket.recv(&mut buffer)).await {
            length = Some(received.unwrap());
            break;
        }
    }
    let length = length.expect("an answer");
    let answer = Message::from_vec(&buffer[..length]).unwrap();
    (answer.metadata.response_code, answer.answers.iter().map(|record| record.data.to_string()).collect())
}

/// Asks until the answer is as wanted; changes come through a watch.
async fn wait_for(server: SocketAddr, name: &str, wanted: &[&str]) {
    for _ in 0..6000 {
        if ask(server, name).await.1 == wanted {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{name}: {:?} instead of {wanted:?}", ask(server, name).await);
}

#[tokio::test]
async fn names_follow_the_cluster() {
    let cluster = FakeBackend::new();
    cluster.put(&gvr("", "namespaces"), r#"{"metadata":{"name":"shop"}}"#);
    let web =
        r#"{"metadata":{"name":"web","namespace":"shop"},"spec":{"clusterIP":"10.43.0.7","ports":[{"port":80}]}}"#;
    cluster.put(&gvr("", "services"), web);
    let folder = tempfile::tempdir().unwrap();
    let resolv_conf = folder.path().join("resolv.conf");
    // Only the server itself is named: it must not ask itself.
    std::fs::write(&resolv_conf, "nameserver 127.0.0.1\n").unwrap();
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = SocketAddr::from(([127, 0, 0, 1], port));
    let config = DnsConfig {
        domain: "cluster.local".to_owned(),
        listen: vec![server],
        allow: vec![],
        service_ips: vec![],
        resolv_conf,
    };
    let task = tokio::spawn(dns::run(cluster.client(), config.clone()));
    tokio::time::sleep(Duration::from_millis(100)).await;
    wait_for(server, "web.shop.svc.cluster.local.", &["10.43.0.7"]).await;
    assert_eq!(ask(server, "example.org.").await.0, ResponseCode::ServFail);

    cluster.put(&gvr("", "services"), r#"{"metadata":{"name":"db","namespace":"shop"},"spec":{"clusterIP":"None"}}"#);
    let slice = |ready: bool| {
        format!(
            r#"{{"metadata":{{"name":"db-x","namespace":"shop","labels":{{"kubernetes.io/service-name":"db"}}}},
                "endpoints":[{{"addresses":["10.42.0.5"],"hostname":"db-0","conditions":{{"ready":{ready}}}}}]}}"#
        )
    };
    cluster.put(&gvr("discovery.k8s.io", "endpointslices"), &slice(true));
    wait_for(server, "db-0.db.shop.svc.cluster.local.", &["10.42.0.5"]).await;
    cluster.put(&gvr("discovery.k8s.io", "endpointslices"), &slice(false));
    wait_for(server, "db.shop.svc.cluster.local.", &[]).await;
    assert_eq!(ask(server, "db-0.db.shop.svc.cluster.local.").await.0, ResponseCode::NXDomain);
    // An external name turned into a service and back.
    let out = |spec: &str| format!(r#"{{"metadata":{{"name":"out","namespace":"shop"}},"spec":{spec}}}"#);
    cluster.put(&gvr("", "services"), &out(r#"{"type":"ExternalName","externalName":"web.shop.svc.cluster.local"}"#));
    wait_for(server, "out.shop.svc.cluster.local.", &["web.shop.svc.cluster.local.", "10.43.0.7"]).await;
    cluster.put(&gvr("", "services"), &out(r#"{"type":"ClusterIP","clusterIP":"10.43.0.9"}"#));
    wait_for(server, "out.shop.svc.cluster.local.", &["10.43.0.9"]).await;
    cluster.remove(&gvr("", "services"), "shop", "out");
    wait_for(server, "out.shop.svc.cluster.local.", &[]).await;
    cluster.remove(&gvr("", "namespaces"), "", "shop");
    cluster.remove(&gvr("", "services"), "shop", "web");
    wait_for(server, "web.shop.svc.cluster.local.", &[]).await;

    let taken = dns::run(cluster.client(), config).await.unwrap_err().to_string();
    assert!(taken.contains(&server.to_string()), "{taken}");
    task.abort();
}

#[tokio::test]
async fn only_the_cluster_is_answered() {
    // Loopback always is, so another address of this host stands for a stranger.
    let Ok(probe) = std::net::UdpSocket::bind("0.0.0.0:0") else { return };
    probe.connect("192.0.2.254:9").expect("a host with a network");
    let own = probe.local_addr().unwrap().ip();
    let cluster = FakeBackend::new();
    let mut free = std::net::UdpSocket::bind((own, 0)).unwrap().local_addr().unwrap();
    free.set_ip(own);
    let config = DnsConfig {
        domain: "cluster.local".to_owned(),
        listen: vec![free],
        allow: vec![("10.42.0.0".parse().unwrap(), 16)],
        service_ips: vec![],
        resolv_conf: "/nonexistent".into(),
    };
    let task = tokio::spawn(dns::run(cluster.client(), config));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let asked = async || {
        let socket = UdpSocket::bind((own, 0)).await.unwrap();
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii("cluster.local.").unwrap(), RecordType::A));
        socket.send_to(&message.to_vec().unwrap(), free).await.unwrap();
        tokio::time::timeout(Duration::from_millis(300), socket.recv(&mut [0; 512])).await.is_ok()
    };
    assert!(!asked().await, "a stranger");
    let node = format!(
        r#"{{"metadata":{{"name":"n"}},"status":{{"addresses":[{{"type":"InternalIP","address":"{own}"}}]}}}}"#
    );
    cluster.put(&gvr("", "nodes"), &node);
    let mut answered = false;
    for _ in 0..200 {
        answered = asked().await;
        if answered {
            break;
        }
    }
    assert!(answered, "a node");
    task.abort();
}

#[tokio::test]
async fn the_server_is_published_and_republished() {
    let cluster = FakeBackend::new();
    let mut publication = Publication {
        service_ips: vec!["10.43.0.10".parse::<IpAddr>().unwrap()],
        node: "n1".to_owned(),
        addresses: vec!["192.0.2.1".parse().unwrap()],
        port: 10053,
    };
    dns::publish(&cluster.client(), &publication).await.unwrap();
    publication.addresses = vec!["192.0.2.2".parse().unwrap()];
    dns::publish(&cluster.client(), &publication).await.unwrap();
    let slice = cluster.get(&gvr("discovery.k8s.io", "endpointslices"), "kube-system", "kube-dns-ipv4-n1").unwrap();
    let (service, addresses) = dns::objects::slice(&slice).unwrap();
    assert_eq!((service.as_str(), addresses.len(), addresses[0].ip), ("kube-dns", 1, publication.addresses[0]));
    let service = cluster.get(&gvr("", "services"), "kube-system", "kube-dns").unwrap();
    assert_eq!(dns::objects::service(&service).cluster_ips, publication.service_ips);
}
