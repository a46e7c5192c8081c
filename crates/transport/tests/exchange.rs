//! Whole exchanges on loopback: TLS both ways, HTTP/1.1 and HTTP/2, streaming, upgrades, rotation, proxies.

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use pki::issue::{CA_LIFETIME, Ca, LEAF_LIFETIME, Leaf};
use pki::{Credential, Usage};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio_rustls::TlsAcceptor;
use transport::tls::H2_AND_H1;
use transport::{
    Body, Client, ClientAuth, ClientTls, Dialer, Error, Identity, Resolver, ServerTls, Target, Trust, Upgrade, body,
};

fn ca(name: &str) -> Ca {
    Ca::generate(name, CA_LIFETIME, SystemTime::now()).unwrap()
}

fn issue(ca: &Ca, leaf: &Leaf) -> Credential {
    let (key, cert) = ca.issue_pair(leaf, LEAF_LIFETIME, SystemTime::now()).unwrap();
    Credential { key, chain: vec![cert] }
}

fn identity(c: &Credential) -> Identity {
    Identity::new(c.chain.clone(), c.key_der()).unwrap()
}

fn trust(ca: &Ca) -> Trust {
    Trust::new(ca.trusted()).unwrap()
}

fn dialer() -> Dialer {
    Dialer::direct(Resolver::system()).timeout(Duration::from_secs(5))
}

/// Serves one connection: `/version` tells the protocol, `/who` the verified caller, `/echo` streams back,
/// `/slow` never answers, `/upgrade` becomes an echo of raw bytes.
async fn converse<S>(stream: S, who: String)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |mut request: Request<Incoming>| {
        let who = who.clone();
        async move {
            let answer = |text: String| Response::new(body::full(text));
            Ok::<_, std::convert::Infallible>(match request.uri().path() {
                "/version" => answer(format!("{:?} {}", request.version(), request.headers().contains_key("host"))),
                "/who" => answer(who),
                "/echo" => Response::new(body::wrap(request.into_body())),
                "/slow" => std::future::pending().await,
                "/upgrade" if request.headers().contains_key(header::UPGRADE) => {
                    let upgrade = hyper::upgrade::on(&mut request);
                    tokio::spawn(async move {
                        let mut io = TokioIo::new(upgrade.await.unwrap());
                        io.write_all(b"hello").await.unwrap();
                        let mut word = [0; 4];
                        io.read_exact(&mut word).await.unwrap();
                        io.write_all(&word).await.unwrap();
                        io.shutdown().await.unwrap();
                    });
                    let mut response = Response::new(body::empty());
                    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
                    response.headers_mut().insert(header::CONNECTION, "Upgrade".parse().unwrap());
                    response.headers_mut().insert(header::UPGRADE, "echo".parse().unwrap());
                    response
                }
                _ => {
                    let mut response = answer("no".into());
                    *response.status_mut() = StatusCode::NOT_FOUND;
                    response
                }
            })
        }
    });
    let _ =
        auto::Builder::new(TokioExecutor::new()).serve_connection_with_upgrades(TokioIo::new(stream), service).await;
}

/// A TLS server; says how many connections it accepted. The caller is verified by `clients` as an API server would.
async fn serve(tls: ServerTls, alpn: &'static [&'static [u8]], clients: pki::Chain) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let seen = count.clone();
    let acceptor = TlsAcceptor::from(tls.config(alpn).unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            seen.fetch_add(1, Ordering::Relaxed);
            let (acceptor, clients) = (acceptor.clone(), clients.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let who = match stream.get_ref().1.peer_certificates() {
                    None => "nobody".into(),
                    Some(chain) => match clients.verify(chain, Usage::Client, SystemTime::now()) {
                        Ok(info) => info.common_name,
                        Err(_) => "a stranger".into(),
                    },
                };
                converse(stream, who).await;
            });
        }
    });
    (address, count)
}

fn get(url: &str) -> Request<Body> {
    Request::get(url).body(body::empty()).unwrap()
}

async fn text(client: &Client, url: &str) -> transport::Result<String> {
    let response = client.fetch(Duration::from_secs(10), 1 << 20, get(url)).await?;
    Ok(String::from_utf8(response.into_body().to_vec()).unwrap())
}

struct Setup {
    servers: Ca,
    clients: Ca,
    identity: Identity,
    caller_trust: Trust,
    url: String,
    count: Arc<AtomicUsize>,
}

async fn setup(auth: fn(Trust) -> ClientAuth, alpn: &'static [&'static [u8]]) -> Setup {
    let (servers, clients) = (ca("servers"), ca("clients"));
    let identity = identity(&issue(&servers, &Leaf::server("s", ["localhost", "127.0.0.1"])));
    let caller_trust = trust(&clients);
    let tls = ServerTls { identity: identity.clone(), client_auth: auth(caller_trust.clone()) };
    let (address, count) = serve(tls, alpn, clients.chain()).await;
    Setup { url: format!("https://127.0.0.1:{}", address.port()), servers, clients, identity, caller_trust, count }
}

fn client(tls: ClientTls) -> Client {
    Client::builder(dialer()).tls(tls).build().unwrap()
}

#[tokio::test]
async fn both_protocols_are_spoken_and_connections_are_shared() {
    for (alpn, want) in [(&H2_AND_H1[..], "HTTP/2.0 false"), (&H2_AND_H1[1..], "HTTP/1.1 true")] {
        let s = setup(|_| ClientAuth::None, alpn).await;
        let client = client(ClientTls::trusting(trust(&s.servers)));
        for _ in 0..5 {
            assert_eq!(text(&client.clone(), &format!("{}/version", s.url)).await.unwrap(), want);
        }
        assert_eq!(s.count.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn callers_are_asked_judged_or_left_to_the_reader() {
    let modes: [(fn(Trust) -> ClientAuth, [Option<&str>; 3]); 4] = [
        (|_| ClientAuth::None, [Some("nobody"), Some("nobody"), Some("nobody")]),
        (ClientAuth::Requested, [Some("nobody"), Some("alice"), Some("a stranger")]),
        (ClientAuth::Optional, [Some("nobody"), Some("alice"), None]),
        (ClientAuth::Required, [None, Some("alice"), None]),
    ];
    for (mode, want) in modes {
        let s = setup(mode, &H2_AND_H1).await;
        let base = ClientTls::trusting(trust(&s.servers));
        let alice = identity(&issue(&s.clients, &Leaf::client("alice", &[])));
        let stranger = identity(&issue(&ca("clients"), &Leaf::client("alice", &[])));
        let callers = [base.clone(), base.clone().identity(alice), base.identity(stranger)];
        for (tls, want) in callers.into_iter().zip(want) {
            let got = text(&client(tls), &format!("{}/who", s.url)).await.ok();
            assert_eq!(got.as_deref(), want);
        }
    }
}

#[tokio::test]
async fn servers_are_judged_by_authority_and_name() {
    let s = setup(|_| ClientAuth::None, &H2_AND_H1).await;
    let url = format!("{}/who", s.url);
    let other_host = url.replace("127.0.0.1", "[::ffff:127.0.0.1]");
    let ours = ClientTls::trusting(trust(&s.servers));
    assert!(matches!(
        text(&client(ClientTls::trusting(trust(&ca("servers")))), &url).await,
        Err(Error::Handshake { .. })
    ));
    assert!(matches!(text(&client(ours.clone()), &other_host).await, Err(Error::Handshake { .. })));
    assert!(text(&client(ours.clone().server_name("localhost")), &other_host).await.is_ok());
    assert!(text(&client(ours.server_name("elsewhere")), &url).await.is_err());
    assert!(text(&client(ClientTls::insecure()), &other_host).await.is_ok());
    let plain = Client::builder(dialer()).build().unwrap();
    assert!(matches!(text(&plain, &url).await, Err(Error::Tls(_))));
    assert!(Trust::new([]).is_err() && Trust::from_pem(b"junk").is_err());
    assert!(Identity::from_pem(b"", b"").is_err());
}

#[tokio::test]
async fn certificates_and_trust_are_replaced_while_running() {
    let s = setup(ClientAuth::Required, &H2_AND_H1).await;
    let url = format!("{}/who", s.url);
    let (new_servers, new_clients) = (ca("servers"), ca("clients"));
    let (server_trust, caller) = (trust(&s.servers), identity(&issue(&s.clients, &Leaf::client("old", &[]))));
    let fresh = || client(ClientTls::trusting(server_trust.clone()).identity(caller.clone()));
    assert_eq!(text(&fresh(), &url).await.unwrap(), "old");

    let served = issue(&new_servers, &Leaf::server("s", ["127.0.0.1"]));
    s.identity.replace(served.chain.clone(), served.key_der()).unwrap();
    assert!(text(&fresh(), &url).await.is_err(), "the new certificate is served and not trusted yet");
    server_trust.replace(new_servers.trusted()).unwrap();
    assert_eq!(text(&fresh(), &url).await.unwrap(), "old");

    s.caller_trust.replace(new_clients.trusted()).unwrap();
    assert!(text(&fresh(), &url).await.is_err(), "the old caller is not trusted any more");
    let called = issue(&new_clients, &Leaf::client("new", &[]));
    caller.replace(called.chain.clone(), called.key_der()).unwrap();
    // The server's reader still holds the old chain, so it must call the new one a stranger: it did see the new one.
    assert_eq!(text(&fresh(), &url).await.unwrap(), "a stranger");
    assert!(s.identity.replace(called.chain.clone(), served.key_der()).is_err(), "key of another certificate");
    assert_eq!(s.identity.chain(), served.chain, "and the old pair stays");
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    for alpn in [&H2_AND_H1[..], &H2_AND_H1[1..]] {
        let s = setup(|_| ClientAuth::None, alpn).await;
        let client = client(ClientTls::trusting(trust(&s.servers)));
        let (feed, body) = body::channel(1);
        feed.send(Ok(Bytes::from_static(b"first"))).await.unwrap();
        let request = Request::post(format!("{}/echo", s.url)).body(body).unwrap();
        let mut echo = client.send_within(Duration::from_secs(10), request).await.unwrap().into_body();
        for word in ["first", "second", "third"] {
            if word != "first" {
                feed.send(Ok(Bytes::from(word))).await.unwrap();
            }
            let chunk = echo.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!(chunk, word);
        }
        drop(feed);
        assert!(body::read_all(echo, 10).await.unwrap().is_empty());
        let big = Request::post(format!("{}/echo", s.url)).body(body::full(vec![7; 3 << 20])).unwrap();
        let answer = client.send(big).await.unwrap().into_body();
        assert_eq!(body::read_all(answer, 3 << 20).await.unwrap().len(), 3 << 20);
        let big = Request::post(format!("{}/echo", s.url)).body(body::full(vec![7; 1000])).unwrap();
        assert!(matches!(client.fetch(Duration::from_secs(5), 999, big).await, Err(Error::TooLarge(999))));
    }
}

#[tokio::test]
async fn an_upgrade_gives_the_raw_stream_even_beside_http2() {
    let s = setup(|_| ClientAuth::None, &H2_AND_H1).await;
    let client = client(ClientTls::trusting(trust(&s.servers)));
    assert!(text(&client, &format!("{}/version", s.url)).await.unwrap().starts_with("HTTP/2"));
    let ask = |path: &str| {
        Request::get(format!("{}{path}", s.url))
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "echo")
            .body(body::empty())
            .unwrap()
    };
    let Upgrade::Switched(response, mut io) = client.upgrade(ask("/upgrade")).await.unwrap() else {
        panic!("the server switches")
    };
    assert_eq!(response.headers()[header::UPGRADE], "echo");
    io.write_all(b"ping").await.unwrap();
    let mut all = Vec::new();
    io.read_to_end(&mut all).await.unwrap();
    assert_eq!(all, b"helloping");
    let Upgrade::Refused(response) = client.upgrade(ask("/none")).await.unwrap() else { panic!("no such path") };
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert!(matches!(client.upgrade(get(&s.url)).await, Err(Error::Request(_))));
}

#[tokio::test]
async fn limits_of_time_and_dead_peers_end_in_errors() {
    let s = setup(|_| ClientAuth::None, &H2_AND_H1).await;
    let client = client(ClientTls::trusting(trust(&s.servers)));
    let limit = Duration::from_millis(100);
    let slow = client.send_within(limit, get(&format!("{}/slow", s.url))).await;
    assert!(matches!(slow, Err(Error::Timeout { .. })));
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let dead = client.send(get(&format!("https://{free}/"))).await.unwrap_err();
    assert!(matches!(dead, Error::Connect { .. }) && dead.is_before_request(), "{dead}");
    let unknown = client.send(get("https://nowhere.invalid/")).await.unwrap_err();
    assert!(unknown.is_before_request(), "{unknown}");
    for url in ["/relative", "ftp://h/", "unix:x"] {
        if let Ok(uri) = url.parse::<http::Uri>() {
            let request = Request::get(uri).body(body::empty()).unwrap();
            assert!(matches!(client.send(request).await, Err(Error::Request(_))), "{url}");
        }
    }
}

#[tokio::test]
async fn unix_sockets_speak_http_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let listener = UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, "unix".into()));
        }
    });
    let client = Client::builder(dialer()).target(Target::Unix(path)).build().unwrap();
    assert_eq!(text(&client, "http://localhost/who").await.unwrap(), "unix");
    let nobody = Client::builder(dialer()).target(Target::Unix(dir.path().join("none"))).build().unwrap();
    assert!(matches!(text(&nobody, "http://localhost/who").await, Err(Error::Connect { .. })));
}

#[tokio::test]
async fn a_proxy_is_asked_for_a_tunnel_unless_excepted() {
    let s = setup(|_| ClientAuth::None, &H2_AND_H1).await;
    let proxy = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy_url = format!("http://u:p@{}", proxy.local_addr().unwrap());
    let heads = Arc::new(std::sync::Mutex::new(Vec::new()));
    let log = heads.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = proxy.accept().await {
            let log = log.clone();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.unwrap());
                }
                let head = String::from_utf8(head).unwrap();
                let to = head.split(' ').nth(1).unwrap().to_owned();
                log.lock().unwrap().push(head);
                let mut up = tokio::net::TcpStream::connect(to.parse::<SocketAddr>().unwrap()).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut up).await;
            });
        }
    });
    let through = |except| {
        let tls = ClientTls::trusting(trust(&s.servers));
        Client::builder(dialer()).tls(tls).proxy(&proxy_url, except).build().unwrap()
    };
    assert_eq!(text(&through("10.0.0.0/8"), &format!("{}/version", s.url)).await.unwrap(), "HTTP/2.0 false");
    assert_eq!(heads.lock().unwrap().len(), 1);
    assert!(heads.lock().unwrap()[0].to_lowercase().contains("proxy-authorization: basic dtpw"));
    text(&through("127.0.0.0/8"), &format!("{}/version", s.url)).await.unwrap();
    assert_eq!(heads.lock().unwrap().len(), 1, "excepted hosts are reached directly");
}

#[test]
fn a_proxy_passes_on_no_header_of_one_connection() {
    let mut headers = http::HeaderMap::new();
    for (name, value) in
        [("connection", "close, X-Mine"), ("x-mine", "1"), ("te", "t"), ("upgrade", "h2c"), ("accept", "a")]
    {
        headers.insert(http::HeaderName::from_static(name), value.parse().unwrap());
    }
    transport::http::remove_hop_by_hop(&mut headers);
    assert_eq!(headers.keys().map(|k| k.as_str()).collect::<Vec<_>>(), ["accept"]);
}
