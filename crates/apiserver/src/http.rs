//! Listening: TCP, TLS, HTTP/1.1 and HTTP/2, and the end of it all.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::pipeline::{self, Peer};
use crate::server::ApiServer;

/// A client that does not finish its TLS handshake in this time is cut off.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A client that does not finish a request's head in this time is cut off.
const HEADERS: Duration = Duration::from_secs(32);
/// A request's head may be this long, as upstream's may: long selectors and tokens are part of it.
const MAX_HEAD: usize = 1 << 20;
/// As many header lines may a request have.
const MAX_HEADERS: usize = 1000;
/// Requests under way when the server ends have this long to finish.
const DRAIN: Duration = Duration::from_secs(2);
/// Streams one HTTP/2 client may hold open.
const MAX_STREAMS: u32 = 1000;

/// Serves until `shutdown` completes, then lets what is under way finish for a moment.
pub async fn listen(
    server: Arc<ApiServer>,
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    shutdown: impl Future<Output = ()> + Send,
) {
    let acceptor = TlsAcceptor::from(tls);
    let graceful = hyper_util::server::graceful::GracefulShutdown::new();
    tokio::pin!(shutdown);
    loop {
        let (stream, address) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, or a connection that ended at once: go on, but not in a tight loop.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
            _ = &mut shutdown => break,
        };
        let (server, acceptor, watcher) = (server.clone(), acceptor.clone(), graceful.watcher());
        tokio::spawn(async move {
            // Answers are written in whole frames, so waiting for more bytes only delays them.
            let _ = stream.set_nodelay(true);
            if matches!(tokio::time::timeout(HANDSHAKE, speaks_plainly(&stream)).await, Ok(true)) {
                let _ = tokio::time::timeout(HANDSHAKE, turn_away(stream)).await;
                return;
            }
            let stream = match tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(error)) => {
                    tracing::debug!(%address, %error, "TLS handshake failed");
                    return;
                }
                Err(_) => return,
            };
            let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
            let peer = Peer {
                address: Some(address),
                certificates: Arc::new(certificates.iter().map(|c| c.as_ref().to_vec()).collect()),
                proof: Arc::default(),
            };
            let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
                let (server, peer) = (server.clone(), peer.clone());
                async move { Ok::<_, std::convert::Infallible>(pipeline::serve(server, request, peer).await) }
            });
            let mut builder = auto::Builder::new(TokioExecutor::new());
            builder
                .http1()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADERS)
                .max_buf_size(MAX_HEAD)
                .max_headers(MAX_HEADERS);
            builder
                .http2()
                .timer(TokioTimer::new())
                .max_concurrent_streams(MAX_STREAMS)
                .max_header_list_size(MAX_HEAD as u32)
                .adaptive_window(true);
            let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service).into_owned();
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(%address, %error, "connection ended");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown()).await.is_err() {
        tracing::debug!("connections were still open at the end");
    }
}

/// Whether a client begins with a request where a TLS handshake must begin.
async fn speaks_plainly(stream: &TcpStream) -> bool {
    let mut start = [0; 5];
    let seen = stream.peek(&mut start).await.unwrap_or(0);
    [&b"GET /"[..], b"HEAD ", b"POST ", b"PUT /", b"PATCH", b"DELET", b"OPTIO"]
        .iter()
        .any(|word| start[..seen] == **word)
}

/// Says in plain words what is wrong, as Go's server does.
async fn turn_away(mut stream: TcpStream) {
    // What came is taken first: closing with it unread would take the answer back.
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).await;
    let answer = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
    let _ = stream.write_all(answer).await;
    let _ = stream.shutdown().await;
}
