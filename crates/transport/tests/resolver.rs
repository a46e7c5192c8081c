//! The resolver against a name server on loopback that misbehaves in every way it is told to.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use transport::{Error, Resolver};

/// Answers by the first label of the name; counts the questions.
fn answer(question: &[u8], tcp: bool) -> Vec<Vec<u8>> {
    let question = Message::from_vec(question).unwrap();
    let query = question.queries[0].clone();
    let mut reply = question.clone().into_response();
    let name = query.name().to_ascii();
    let record = |data| Record::from_rdata(query.name().clone(), 60, data);
    let v4 = || record(RData::A(A(Ipv4Addr::new(10, 0, 0, 1))));
    let v6 = || record(RData::AAAA(AAAA(Ipv6Addr::LOCALHOST)));
    let first = name.split('.').next().unwrap_or_default();
    match (first, query.query_type()) {
        ("both", RecordType::A) | ("v4only", RecordType::A) => drop(reply.add_answer(v4())),
        ("both", RecordType::AAAA) => drop(reply.add_answer(v6())),
        ("v4only", _) => {}
        ("alias", RecordType::A) => {
            reply.add_answer(record(RData::CNAME(CNAME(Name::from_ascii("both.").unwrap()))));
            reply.add_answer(v4());
        }
        ("svc", RecordType::A) if name == "svc.ns.svc.cluster.local." => drop(reply.add_answer(v4())),
        ("big", RecordType::A) if tcp => {
            for i in 0..200 {
                reply.add_answer(record(RData::A(A(Ipv4Addr::new(10, 1, 0, i)))));
            }
        }
        ("big", RecordType::A) => reply.metadata.truncation = true,
        ("forged", RecordType::A) => {
            // Wrong id, wrong question, junk: all must be skipped until the right answer comes.
            let mut wrong_id = reply.clone();
            wrong_id.metadata.id = wrong_id.metadata.id.wrapping_add(1);
            wrong_id.add_answer(record(RData::A(A(Ipv4Addr::new(6, 6, 6, 6)))));
            let mut wrong_name = reply.clone();
            wrong_name.queries[0].set_name(Name::from_ascii("evil.").unwrap());
            wrong_name.add_answer(record(RData::A(A(Ipv4Addr::new(6, 6, 6, 6)))));
            reply.add_answer(v4());
            return vec![
                wrong_id.to_vec().unwrap(),
                wrong_name.to_vec().unwrap(),
                b"junk".to_vec(),
                reply.to_vec().unwrap(),
            ];
        }
        ("broken", _) => reply.metadata.response_code = ResponseCode::ServFail,
        ("silent", _) => return Vec::new(),
        _ => reply.metadata.response_code = ResponseCode::NXDomain,
    }
    vec![reply.to_vec().unwrap()]
}

/// A name server at one port of UDP and TCP; returns the port and the count of questions.
async fn serve() -> (u16, Arc<AtomicUsize>) {
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
            break (udp, tcp);
        }
    };
    let port = udp.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    tokio::spawn(async move {
        let mut buffer = [0; 1024];
        while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
            seen.fetch_add(1, Ordering::Relaxed);
            for reply in answer(&buffer[..length], false) {
                udp.send_to(&reply, from).await.unwrap();
            }
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = tcp.accept().await {
            let length = stream.read_u16().await.unwrap();
            let mut question = vec![0; length.into()];
            stream.read_exact(&mut question).await.unwrap();
            for reply in answer(&question, true) {
                stream.write_u16(reply.len() as u16).await.unwrap();
                stream.write_all(&reply).await.unwrap();
            }
        }
    });
    (port, count)
}

fn resolver(dir: &Path, port: u16, resolv: &str) -> Resolver {
    std::fs::write(dir.join("hosts"), "10.9.9.9 node1 node1.example\nfd00::9 node1\n").unwrap();
    std::fs::write(dir.join("resolv.conf"), resolv).unwrap();
    Resolver::with_files(dir.join("hosts"), dir.join("resolv.conf"), port)
}

const CONF: &str =
    "nameserver 127.0.0.1\nsearch ns.svc.cluster.local svc.cluster.local\noptions ndots:5 timeout:1 attempts:1\n";

fn ips(list: &[&str]) -> Vec<IpAddr> {
    list.iter().map(|s| s.parse().unwrap()).collect()
}

#[tokio::test]
async fn names_resolve_as_files_and_server_say() {
    let dir = tempfile::tempdir().unwrap();
    let (port, count) = serve().await;
    let r = resolver(dir.path(), port, CONF);
    for (name, want) in [
        ("192.0.2.1", &["192.0.2.1"][..]),
        ("::1", &["::1"]),
        ("[::1]", &["::1"]),
        ("node1", &["10.9.9.9", "fd00::9"]),
        ("NODE1.example.", &["10.9.9.9"]),
        ("localhost", &["127.0.0.1", "::1"]),
        ("a.localhost", &["127.0.0.1", "::1"]),
    ] {
        assert_eq!(r.lookup(name).await.unwrap(), ips(want), "{name}");
    }
    assert_eq!(count.load(Ordering::Relaxed), 0, "none of these is asked of a server");
    for (name, want) in [
        ("both.", &["10.0.0.1", "::1"][..]),
        ("v4only", &["10.0.0.1"]),
        ("alias.", &["10.0.0.1"]),
        ("svc", &["10.0.0.1"]),
        ("forged.", &["10.0.0.1"]),
    ] {
        assert_eq!(r.lookup(name).await.unwrap(), ips(want), "{name}");
    }
    assert_eq!(r.lookup("big.").await.unwrap().len(), 200);
}

#[tokio::test]
async fn answers_are_kept_until_the_files_change() {
    let dir = tempfile::tempdir().unwrap();
    let (port, count) = serve().await;
    let r = resolver(dir.path(), port, CONF);
    r.lookup("both.").await.unwrap();
    let asked = count.load(Ordering::Relaxed);
    r.lookup("both.").await.unwrap();
    assert_eq!(count.load(Ordering::Relaxed), asked);
    std::fs::write(dir.path().join("hosts"), "10.8.8.8 both\n").unwrap();
    let later = std::time::SystemTime::now() + Duration::from_secs(5);
    std::fs::File::open(dir.path().join("hosts")).unwrap().set_modified(later).unwrap();
    assert_eq!(r.lookup("both.").await.unwrap(), ips(&["10.8.8.8"]));
}

#[tokio::test]
async fn failures_say_why_and_the_next_server_is_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (port, _) = serve().await;
    let r = resolver(dir.path(), port, CONF);
    for (name, why) in
        [("nowhere.", "no such name"), ("broken.", "answered"), ("silent.", "did not answer"), ("", "not a host name")]
    {
        match r.lookup(name).await {
            Err(Error::Resolve { reason, .. }) => assert!(reason.contains(why), "{name}: {reason}"),
            other => panic!("{name}: {other:?}"),
        }
    }
    let long = "a".repeat(64);
    for name in [long.as_str(), "a..b", &"a.".repeat(200)] {
        assert!(r.lookup(name).await.is_err(), "{name}");
    }
    // Nothing listens at 127.0.0.2; the second server answers.
    let r = resolver(dir.path(), port, "nameserver 127.0.0.2\nnameserver 127.0.0.1\noptions timeout:1\n");
    assert_eq!(r.lookup("v4only.").await.unwrap(), ips(&["10.0.0.1"]));
}
