//! The HTTPS server of a node: logs, exec, attach, port-forward, statistics.
//!
//! Its client is the API server, which shows a certificate; others need a token. Whoever it is must be allowed the
//! node's subresource that the path belongs to.

mod auth;
mod logs;
mod routes;
mod stats;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use api::core::pod::Pod;
use client::Client;
use hyper::body::Incoming;
use hyper_util::rt::{TokioIo, TokioTimer};
use runtime::Runtime;
use smol_str::SmolStr;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

pub use logs::Options as LogOptions;

/// A client that does not finish its TLS handshake, or a request's head, in this time is cut off.
const HANDSHAKE: Duration = Duration::from_secs(10);
const HEADERS: Duration = Duration::from_secs(32);

/// The pods of a node, as the server looks them up.
pub trait Pods: Send + Sync {
    fn get(&self, namespace: &str, name: &str) -> Option<Running>;
    fn all(&self) -> Vec<Running>;
}

/// A pod and what the runtime has of it.
pub struct Running {
    pub pod: Arc<Pod>,
    /// The sandbox, if it runs.
    pub sandbox: Option<String>,
    /// The newest container of each name.
    pub containers: Vec<(SmolStr, String)>,
    /// The one before it.
    pub previous: Vec<(SmolStr, String)>,
}

/// What the server is told.
pub struct Config {
    pub address: SocketAddr,
    /// Asks clients for a certificate of the cluster's client authority.
    pub tls: Arc<rustls::ServerConfig>,
    /// Asks the API who a token is, and what anyone may do.
    pub client: Client,
    pub node_name: SmolStr,
    pub runtime: Runtime,
    pub pods: Arc<dyn Pods>,
}

pub(crate) struct Server {
    auth: auth::Auth,
    node_name: SmolStr,
    runtime: Runtime,
    pods: Arc<dyn Pods>,
}

/// Serves until the task is aborted.
pub async fn serve(config: Config) -> crate::Result<()> {
    let mut listener = TcpListener::bind(config.address).await;
    // A kubelet that was killed gets a moment to let the port go.
    for _ in 0..40 {
        if !matches!(&listener, Err(error) if error.kind() == std::io::ErrorKind::AddrInUse) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        listener = TcpListener::bind(config.address).await;
    }
    let listener = listener.map_err(|error| crate::Error::Listen(config.address, error))?;
    let acceptor = TlsAcceptor::from(config.tls);
    let server = Arc::new(Server {
        auth: auth::Auth::new(config.client, config.node_name.clone()),
        node_name: config.node_name,
        runtime: config.runtime,
        pods: config.pods,
    });
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, or a connection that ended at once: go on, but not in a tight loop.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let (server, acceptor) = (server.clone(), acceptor.clone());
        tokio::spawn(async move {
            let _ = stream.set_nodelay(true);
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await else { return };
            // rustls has checked it against the authority.
            let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first().cloned());
            let user = certificate.and_then(|certificate| auth::user_of(&certificate));
            let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
                let (server, user) = (server.clone(), user.clone());
                async move { Ok::<_, std::convert::Infallible>(routes::answer(server, request, user).await) }
            });
            let mut builder = hyper::server::conn::http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(HEADERS);
            if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).with_upgrades().await {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
}
