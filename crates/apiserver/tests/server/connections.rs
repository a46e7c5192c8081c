//! Hostile connections: huge heads, bodies that never end, broken framing; the server answers or closes, and goes on.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::Cluster;
use super::wire::{PATIENCE, Wire, parse};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn status(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| panic!("no Status: {}", String::from_utf8_lossy(body)))
}

async fn alive(wire: &Wire) {
    assert_eq!(wire.send("GET", "/version", &[], &[]).await.code, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_heads_are_taken_up_to_a_limit() {
    let wire = Cluster::start().await;
    let (wire, _cluster) = (wire.listen().await, wire);
    let header = |size: usize| [("X-Large".to_string(), "x".repeat(size))];
    assert_eq!(wire.send("GET", MAPS, &header(300_000), &[]).await.code, 200);
    assert_eq!(wire.send("GET", MAPS, &header(3_000_000), &[]).await.code, 431);
    let many: Vec<(String, String)> = (0..500).map(|i| (format!("X-{i}"), "x".into())).collect();
    assert_eq!(wire.send("GET", MAPS, &many, &[]).await.code, 200);
    let long = format!("{MAPS}?labelSelector=a%20in%20({})", vec!["value"; 20_000].join(","));
    assert!(matches!(wire.send("GET", &long, &[], &[]).await.code, 200 | 414));
    alive(&wire).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_takes_large_heads_too() {
    let cluster = Cluster::start().await;
    let wire = cluster.listen().await;
    let mut tls = rustls::ClientConfig::clone(&wire.tls);
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let stream = Wire { tls: Arc::new(tls), ..wire }.connect().await;
    let io = hyper_util::rt::TokioIo::new(stream);
    let executor = hyper_util::rt::TokioExecutor::new();
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(executor)
        .handshake::<_, http_body_util::Full<bytes::Bytes>>(io)
        .await
        .unwrap();
    tokio::spawn(connection);
    for size in [10, 100_000, 500_000] {
        let request = http::Request::builder()
            .uri(format!("https://test{MAPS}"))
            .header("x-large", "x".repeat(size))
            .body(http_body_util::Full::default())
            .unwrap();
        sender.ready().await.unwrap();
        let answer = tokio::time::timeout(PATIENCE, sender.send_request(request)).await.unwrap().unwrap();
        assert_eq!(answer.status(), 200, "{size} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_never_ends_is_answered_when_the_time_is_over() {
    let cluster = Cluster::start().await;
    let wire = cluster.listen().await;
    for framing in
        ["Content-Length: 1000\r\n\r\n{\"metadata\"", "Transfer-Encoding: chunked\r\n\r\nb\r\n{\"metadata\"\r\n"]
    {
        let json = [("Content-Type".to_string(), "application/json".to_string())];
        let head = wire.head("POST", &format!("{MAPS}?timeout=300ms"), &json);
        let mut stream = wire.connect().await;
        stream.write_all(format!("{head}{framing}").as_bytes()).await.unwrap();
        let mut got = Vec::new();
        let mut chunk = [0; 4096];
        let reading = async {
            while let Ok(count @ 1..) = stream.read(&mut chunk).await {
                got.extend_from_slice(&chunk[..count]);
                if parse(&got).is_some_and(|(_, whole)| whole) {
                    break;
                }
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("the server never answers");
        let (answer, _) = parse(&got).expect("an answer");
        assert_eq!(answer.code, 504);
        let status = status(&answer.body);
        assert_eq!(status["reason"], "Timeout");
        assert_eq!(status["message"], "Timeout: request did not complete within the allotted timeout");
    }
    alive(&wire).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_comes_slowly_is_taken() {
    let cluster = Cluster::start().await;
    let wire = cluster.listen().await;
    let body = r#"{"metadata":{"name":"slow"},"data":{"a":"b"}}"#;
    let json = [("Content-Type".to_string(), "application/json".to_string())];
    let head = wire.head("POST", MAPS, &json);
    let mut stream = wire.connect().await;
    stream.write_all(format!("{head}Content-Length: {}\r\n\r\n", body.len()).as_bytes()).await.unwrap();
    for byte in body.as_bytes() {
        stream.write_all(&[*byte]).await.unwrap();
        stream.flush().await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut got = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut got)).await.unwrap().ok();
    assert_eq!(parse(&got).unwrap().0.code, 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_over_the_limit_is_refused_without_a_length_too() {
    let cluster = Cluster::start().await;
    let wire = cluster.listen().await;
    let json = [("Content-Type".to_string(), "application/json".to_string())];
    let head = wire.head("POST", MAPS, &json);
    let mut bytes = format!("{head}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for _ in 0..64 {
        bytes.extend_from_slice(b"10000\r\n");
        bytes.extend_from_slice(&[b' '; 0x10000]);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    let answer = wire.exchange(&bytes).await.expect("an answer");
    assert_eq!(answer.code, 413);
    let status = status(&answer.body);
    assert_eq!(status["reason"], "RequestEntityTooLarge");
    assert_eq!(status["message"], "Request entity too large: limit is 3145728");
    // A length that is said beforehand is refused before anything is sent.
    let bytes = format!("{head}Content-Length: 99999999999\r\n\r\n");
    assert_eq!(wire.exchange(bytes.as_bytes()).await.expect("an answer").code, 413);
    alive(&wire).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_requests_close_their_connection_only() {
    let cluster = Cluster::start().await;
    let wire = cluster.listen().await;
    let json = [("Content-Type".to_string(), "application/json".to_string())];
    let post = wire.head("POST", MAPS, &json);
    let broken: [Vec<u8>; 9] = [
        b"\r\n\r\n\0\0\0\0".to_vec(),
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET /\xff\xfe HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost a\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n".to_vec(),
        format!("{post}Content-Length: what\r\n\r\n{{}}").into_bytes(),
        format!("{post}Transfer-Encoding: chunked\r\n\r\nZZ\r\n{{}}\r\n").into_bytes(),
        format!("{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n\r\n")
            .into_bytes(),
    ];
    for bytes in &broken {
        if let Some(answer) = wire.exchange(bytes).await {
            assert!((400..500).contains(&answer.code), "{}: {}", String::from_utf8_lossy(bytes), answer.code);
        }
        alive(&wire).await;
    }
    // Ends in the middle of a body, and of a handshake.
    let mut stream = wire.connect().await;
    stream.write_all(format!("{post}Content-Length: 100\r\n\r\n{{").as_bytes()).await.unwrap();
    drop(stream);
    drop(tokio::net::TcpStream::connect(wire.address).await.unwrap());
    alive(&wire).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_told_that_this_is_tls() {
    let cluster = Cluster::start().await;
    let wire = cluster.listen().await;
    let mut stream = tokio::net::TcpStream::connect(wire.address).await.unwrap();
    stream.write_all(b"GET /version HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut got = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut got)).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&got);
    assert!(text.starts_with("HTTP/1.0 400 Bad Request\r\n"), "{text}");
    assert!(text.ends_with("Client sent an HTTP request to an HTTPS server.\n"), "{text}");
    alive(&wire).await;
}
