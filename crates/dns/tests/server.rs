//! The server over real sockets on loopback, with a second one as the resolver it asks about other names.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use dns::{EndpointAddress, Forwarder, Records, Server, ServerConfig, Service, ServicePort};
use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn start(records: Arc<RwLock<Records>>, upstream: Vec<SocketAddr>) -> SocketAddr {
    let config = ServerConfig { listen: vec!["127.0.0.1:0".parse().unwrap()], allow: vec![] };
    let server = Server::bind(&config, records, Forwarder::new(upstream)).await.unwrap();
    let address = server.addresses()[0];
    tokio::spawn(server.run());
    address
}

/// A resolver that knows `www.ns.svc.example.org` and a name with many addresses.
async fn world() -> (SocketAddr, Arc<RwLock<Records>>) {
    let mut records = Records::new("example.org").unwrap();
    records.set_namespace("ns", true);
    let www = Service { cluster_ips: vec![ip("192.0.2.80")], ..Service::default() };
    records.set_service("ns", "www", Some(www));
    let many = |n: u8| EndpointAddress { ip: IpAddr::from([192, 0, 2, n]), hostname: None, ports: vec![] };
    records.set_service("ns", "many", Some(Service::default()));
    records.set_slice("ns", "many", Some(("many", (0..200).map(many).collect())));
    let records = Arc::new(RwLock::new(records));
    (start(records.clone(), vec![]).await, records)
}

async fn cluster(upstream: Vec<SocketAddr>) -> SocketAddr {
    let mut records = Records::new("cluster.local").unwrap();
    records.set_namespace("shop", true);
    let ports = vec![ServicePort { name: "http".into(), protocol: "tcp".into(), port: 80 }];
    let web = Service { cluster_ips: vec![ip("10.43.0.7")], external_name: None, ports };
    records.set_service("shop", "web", Some(web));
    for (name, target) in [
        ("out", "www.ns.svc.example.org"),
        ("in", "web.shop.svc.cluster.local"),
        ("loop", "loop.shop.svc.cluster.local"),
    ] {
        let service = Service { external_name: Some(target.to_owned()), ..Service::default() };
        records.set_service("shop", name, Some(service));
    }
    start(Arc::new(RwLock::new(records)), upstream).await
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

async fn raw_udp(server: SocketAddr, bytes: &[u8]) -> Option<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(bytes, server).await.unwrap();
    let mut buffer = vec![0; 65_535];
    let length = tokio::time::timeout(Duration::from_secs(3), socket.recv(&mut buffer)).await.ok()?.unwrap();
    buffer.truncate(length);
    Some(buffer)
}

async fn by_udp(server: SocketAddr, message: &Message) -> Message {
    let answer = Message::from_vec(&raw_udp(server, &message.to_vec().unwrap()).await.unwrap()).unwrap();
    assert_eq!((answer.metadata.id, &answer.queries), (message.metadata.id, &message.queries));
    answer
}

async fn by_tcp(stream: &mut TcpStream, message: &Message) -> Message {
    let bytes = message.to_vec().unwrap();
    stream.write_u16(bytes.len() as u16).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut answer).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

fn data(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

#[tokio::test]
async fn names_of_the_cluster_over_both_transports() {
    let server = cluster(vec![]).await;
    let ask = question("Web.shop.svc.cluster.LOCAL.", RecordType::A);
    let answer = by_udp(server, &ask).await;
    assert_eq!(data(&answer), ["10.43.0.7"]);
    assert!(answer.metadata.authoritative && answer.metadata.recursion_available);
    assert!(answer.queries[0].name().eq_case(ask.queries[0].name()), "the asker's capitals come back");
    assert!(answer.edns.is_none());

    let mut stream = TcpStream::connect(server).await.unwrap();
    for kind in [RecordType::A, RecordType::AAAA, RecordType::A] {
        let answer = by_tcp(&mut stream, &question("web.shop.svc.cluster.local.", kind)).await;
        assert_eq!(answer.answers.len(), usize::from(kind == RecordType::A));
    }

    let answer = by_udp(server, &question("_http._tcp.web.shop.svc.cluster.local.", RecordType::SRV)).await;
    assert_eq!(data(&answer), ["0 100 80 web.shop.svc.cluster.local."]);
    assert_eq!(answer.additionals.len(), 1);
}

#[tokio::test]
async fn no_data_and_no_name_carry_the_authority() {
    let server = cluster(vec![]).await;
    for (name, kind, code) in [
        ("web.shop.svc.cluster.local.", RecordType::AAAA, ResponseCode::NoError),
        ("shop.svc.cluster.local.", RecordType::A, ResponseCode::NoError),
        ("none.shop.svc.cluster.local.", RecordType::A, ResponseCode::NXDomain),
        ("example.org.shop.svc.cluster.local.", RecordType::A, ResponseCode::NXDomain),
    ] {
        let answer = by_udp(server, &question(name, kind)).await;
        assert_eq!(answer.metadata.response_code, code, "{name}");
        assert!(answer.answers.is_empty());
        assert!(matches!(answer.authorities[0].data, RData::SOA(_)), "{name}");
    }
}

#[tokio::test]
async fn other_names_are_asked_elsewhere_and_kept() {
    let (upstream, world) = world().await;
    // The first resolver is dead: the second one is asked.
    let dead: SocketAddr = "127.0.0.1:1".parse().unwrap();
    let server = cluster(vec![dead, upstream]).await;
    let ask = question("www.ns.svc.example.org.", RecordType::A);
    let answer = by_udp(server, &ask).await;
    assert_eq!(data(&answer), ["192.0.2.80"]);
    world.write().unwrap().set_service("ns", "www", None);
    assert_eq!(data(&by_udp(server, &ask).await), ["192.0.2.80"], "from the cache");
    let gone = by_udp(server, &question("gone.ns.svc.example.org.", RecordType::A)).await;
    assert_eq!(gone.metadata.response_code, ResponseCode::NXDomain);

    let failed = cluster(vec![dead]).await;
    assert_eq!(by_udp(failed, &ask).await.metadata.response_code, ResponseCode::ServFail);
}

#[tokio::test]
async fn external_names_lead_on() {
    let (upstream, _world) = world().await;
    let server = cluster(vec![upstream]).await;
    let answer = by_udp(server, &question("out.shop.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(data(&answer), ["www.ns.svc.example.org.", "192.0.2.80"]);
    let answer = by_udp(server, &question("out.shop.svc.cluster.local.", RecordType::CNAME)).await;
    assert_eq!(data(&answer), ["www.ns.svc.example.org."]);
    let answer = by_udp(server, &question("in.shop.svc.cluster.local.", RecordType::A)).await;
    assert_eq!(data(&answer), ["web.shop.svc.cluster.local.", "10.43.0.7"]);
    let answer = by_udp(server, &question("loop.shop.svc.cluster.local.", RecordType::A)).await;
    assert!(answer.answers.len() <= 2);
}

#[tokio::test]
async fn long_answers_fit_or_say_so() {
    let (server, _world) = world().await;
    let mut ask = question("many.ns.svc.example.org.", RecordType::A);
    let short = by_udp(server, &ask).await;
    assert!(short.metadata.truncation);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    ask.set_edns(edns);
    let bytes = raw_udp(server, &ask.to_vec().unwrap()).await.unwrap();
    assert!(bytes.len() <= 1232);
    let mut stream = TcpStream::connect(server).await.unwrap();
    let whole = by_tcp(&mut stream, &ask).await;
    assert_eq!((whole.answers.len(), whole.metadata.truncation), (200, false));
    // Through a forwarder it comes whole by TCP too, because the forwarder goes on to TCP itself.
    let through = cluster(vec![server]).await;
    let mut stream = TcpStream::connect(through).await.unwrap();
    assert_eq!(by_tcp(&mut stream, &ask).await.answers.len(), 200);
}

#[tokio::test]
async fn malformed_questions_get_errors_or_nothing() {
    let server = cluster(vec![]).await;
    let mut bytes = question("web.shop.svc.cluster.local.", RecordType::A).to_vec().unwrap();
    bytes.truncate(20);
    let answer = Message::from_vec(&raw_udp(server, &bytes).await.unwrap()).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
    let mut update = question("web.shop.svc.cluster.local.", RecordType::A);
    update.metadata.op_code = OpCode::Status;
    assert_eq!(by_udp(server, &update).await.metadata.response_code, ResponseCode::NotImp);
    let transfer = question("cluster.local.", RecordType::AXFR);
    assert_eq!(by_udp(server, &transfer).await.metadata.response_code, ResponseCode::Refused);
    let mut two = question("a.cluster.local.", RecordType::A);
    two.add_query(Query::query(Name::from_ascii("b.cluster.local.").unwrap(), RecordType::A));
    let answer = Message::from_vec(&raw_udp(server, &two.to_vec().unwrap()).await.unwrap()).unwrap();
    assert_eq!(answer.metadata.response_code, ResponseCode::FormErr);
    assert!(raw_udp(server, &[1, 2, 3]).await.is_none());
}
