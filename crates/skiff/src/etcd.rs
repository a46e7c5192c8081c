//! The store served as etcd, so that etcd's own programs can look into it, copy it and change it.
//!
//! Whoever may do that holds the cluster: callers show an administrator's certificate, or are on this machine where the
//! operator has asked for a plain port on loopback. Nothing is served unless asked for.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use pki::{Authority, CertInfo, Hierarchy};
use store::LocalStore;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use transport::{ClientAuth, ServerTls, Trust};

/// gRPC is spoken over HTTP/2 alone.
pub const ALPN: &[&[u8]] = &[b"h2"];
/// How long a caller may take to show who it is.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes that may be under way at a time; further callers wait.
const HANDSHAKES: usize = 64;
/// Who may use the store as etcd: everything in it is theirs anyway.
const MASTERS: &str = "system:masters";

/// Where an etcd is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
}

impl Endpoint {
    /// Reads `https://HOST[:PORT]` or `http://HOST[:PORT]`; the port is 2379 when it is left out.
    pub fn parse(url: &str) -> anyhow::Result<Endpoint> {
        let uri: http::Uri = url.parse().ok().with_context(|| format!("{url:?} is no address of an etcd"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => bail!("{url:?} must begin with https:// or http://"),
        };
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
        ensure!(!host.is_empty(), "{url:?} names no host");
        ensure!(
            matches!(uri.path(), "" | "/") && uri.query().is_none() && !url.contains('@'),
            "{url:?} must end after its port and name no user"
        );
        Ok(Endpoint { tls, host, port: uri.port_u16().unwrap_or(2379) })
    }
}

/// An address that is listened on and not served yet.
pub struct Bound {
    endpoint: Endpoint,
    listener: TcpListener,
}

/// Listens on the addresses of `--etcd-listen-client-urls`. Without TLS only loopback will do.
pub async fn listen(urls: &[String]) -> anyhow::Result<Vec<Bound>> {
    let mut bound = Vec::new();
    for url in urls {
        let endpoint = Endpoint::parse(url)?;
        let ip: IpAddr = match endpoint.host.as_str() {
            "localhost" => IpAddr::from([127, 0, 0, 1]),
            host => host.parse().ok().with_context(|| format!("{url:?} names no address of this machine"))?,
        };
        ensure!(
            endpoint.tls || ip.is_loopback(),
            "{url:?} would let anyone who reaches it read and change everything: use https://, or a loopback address"
        );
        let address = SocketAddr::new(ip, endpoint.port);
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| {
            format!("cannot listen on {address} as etcd; must --etcd-listen-client-urls name another port")
        })?;
        bound.push(Bound { endpoint, listener });
    }
    Ok(bound)
}

/// Serves a store on what is listened on, for as long as the tasks run. `names` are further names and addresses for the
/// certificate.
pub fn serve(
    tasks: &mut JoinSet<()>,
    bound: Vec<Bound>,
    store: &Arc<LocalStore>,
    hierarchy: &Hierarchy,
    names: &[String],
) -> anyhow::Result<()> {
    let ended = |served: Result<(), _>| {
        if let Err(error) = served {
            tracing::error!(%error, "the store is no longer served as etcd");
        }
    };
    for Bound { endpoint, listener } in bound {
        let (address, store) = (listener.local_addr()?, store.clone());
        if !endpoint.tls {
            tracing::warn!(%address, "serving the store as etcd to every user of this machine");
            tasks.spawn(async move { ended(store::grpc::serve(store, listener, std::future::pending()).await) });
            continue;
        }
        tracing::info!(%address, "serving the store as etcd to administrators");
        let names = names.iter().cloned().chain([endpoint.host, "localhost".into(), "127.0.0.1".into()]);
        let names: std::collections::BTreeSet<String> = names.collect();
        let credential = hierarchy.server("etcd", &names)?;
        let tls = ServerTls {
            identity: transport::Identity::new(credential.chain.clone(), credential.key_der())?,
            client_auth: ClientAuth::Required(Trust::new(hierarchy.trust(Authority::Client)?.roots().to_vec())?),
        };
        let acceptor = TlsAcceptor::from(tls.config(ALPN)?);
        let (sender, accepted) = mpsc::channel(16);
        tasks.spawn(async move { ended(store::grpc::serve_accepted(store, accepted, std::future::pending()).await) });
        tasks.spawn(accept(listener, acceptor, sender));
    }
    Ok(())
}

type Admitted = store::grpc::Accepted<TlsStream<TcpStream>>;

/// Lets administrators through.
async fn accept(listener: TcpListener, acceptor: TlsAcceptor, sender: mpsc::Sender<std::io::Result<Admitted>>) {
    let mut greeting = JoinSet::new();
    loop {
        while greeting.len() >= HANDSHAKES {
            greeting.join_next().await;
        }
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        while greeting.try_join_next().is_some() {}
        let (acceptor, sender) = (acceptor.clone(), sender.clone());
        greeting.spawn(async move {
            let _ = stream.set_nodelay(true);
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            match shown.map(|leaf| CertInfo::from_der(leaf)) {
                Some(Ok(info)) if info.organizations.iter().any(|group| group == MASTERS) => {
                    let _ = sender.send(Ok(store::grpc::Accepted(stream))).await;
                }
                Some(Ok(info)) => {
                    tracing::warn!(user = info.common_name, "not an administrator: refused as a client of etcd");
                }
                _ => {}
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_apart() {
        let endpoint = |tls, host: &str, port| Endpoint { tls, host: host.to_owned(), port };
        assert_eq!(Endpoint::parse("https://a:2380").unwrap(), endpoint(true, "a", 2380));
        assert_eq!(Endpoint::parse("http://[::1]:1/").unwrap(), endpoint(false, "::1", 1));
        assert_eq!(Endpoint::parse("http://127.0.0.1").unwrap(), endpoint(false, "127.0.0.1", 2379));
        for wrong in
            ["", "a", "a:1", "ftp://a:1", "https://a:1/x", "https://a:1?x", "https://u:p@a:1", "https://", "//a"]
        {
            assert!(Endpoint::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn plain_ports_are_on_loopback_alone() {
        for wrong in ["http://0.0.0.0:0", "http://[::]:0", "http://192.0.2.1:0", "http://elsewhere:0"] {
            let refused = listen(&[wrong.to_owned()]).await.err();
            let refused = refused.map(|error| format!("{error:#}")).unwrap_or_default();
            assert!(refused.contains(wrong), "{wrong}: {refused}");
        }
        let bound = listen(&["http://127.0.0.1:0".to_owned(), "http://localhost:0".to_owned()]).await.unwrap();
        assert!(bound.iter().all(|bound| bound.listener.local_addr().unwrap().ip().is_loopback()));
        let taken = format!("https://{}", bound[0].listener.local_addr().unwrap());
        let refused = format!("{:#}", listen(&[taken]).await.err().unwrap());
        assert!(refused.contains("--etcd-listen-client-urls"), "{refused}");
    }

    /// What is answered to a caller that says hello as HTTP/2 does, with or without certificates: the first byte.
    async fn greeted(address: SocketAddr, tls: &transport::ClientTls) -> bool {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let stream = TcpStream::connect(address).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(tls.config(ALPN).unwrap());
        let Ok(mut stream) = connector.connect(tls.name_for("127.0.0.1").unwrap(), stream).await else { return false };
        let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        let answered = async {
            stream.write_all(hello).await.ok()?;
            stream.read_u8().await.ok()
        };
        tokio::time::timeout(Duration::from_secs(60), answered).await.expect("an answer or an end").is_some()
    }

    #[tokio::test]
    async fn over_tls_administrators_are_served_and_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let hierarchy = Hierarchy::open(folder.path()).unwrap();
        let bound = listen(&["https://127.0.0.1:0".to_owned()]).await.unwrap();
        let address = bound[0].listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let store = Arc::new(LocalStore::memory(store::Config::default()));
        serve(&mut tasks, bound, &store, &hierarchy, &[]).unwrap();
        let trusting = || {
            let roots = hierarchy.trust(Authority::Server).unwrap().roots().to_vec();
            transport::ClientTls::trusting(Trust::new(roots).unwrap())
        };
        let shown = |identity| {
            let own = hierarchy.client(&identity).unwrap();
            trusting().identity(transport::Identity::new(own.chain.clone(), own.key_der()).unwrap())
        };
        assert!(greeted(address, &shown(pki::Identity::Admin)).await);
        assert!(!greeted(address, &trusting()).await, "no certificate");
        assert!(!greeted(address, &shown(pki::Identity::Node("a".into()))).await, "a node");
        assert!(!greeted(address, &shown(pki::Identity::FrontProxyClient)).await, "another authority");
        assert!(greeted(address, &shown(pki::Identity::Admin)).await);
    }
}
