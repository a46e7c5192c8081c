//! The HTTP client: pooled HTTP/1.1 and HTTP/2 connections through the dialer, streaming both ways, with upgrades.

use crate::body::Body;
use crate::dial::{Dialer, Stream, Target};
use crate::tls::{ClientTls, H2_AND_H1};
use crate::{BoxError, Error, Result};
use ::http::{HeaderMap, Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::client::legacy::{self, Client as Pool};
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tower_service::Service;

/// Limit for the TLS handshake, and for a proxy's answer.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Silence after which a peer on HTTP/2 is asked whether it still lives, and how long it may take to say so.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(15));

/// How a client is made.
#[derive(Clone, Debug)]
pub struct Builder {
    dialer: Dialer,
    tls: Option<ClientTls>,
    target: Option<Target>,
    proxy: Option<Arc<Matcher>>,
    http1_only: bool,
    idle: Duration,
}

impl Builder {
    /// Settings for `https` addresses; without them such requests fail.
    pub fn tls(mut self, tls: ClientTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Connects there, whatever host a request names: a socket in the file system, or an endpoint picked by the caller.
    pub fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Goes through the proxy that HTTPS_PROXY, HTTP_PROXY and NO_PROXY name.
    pub fn proxy_from_env(mut self) -> Self {
        self.proxy = Some(Arc::new(Matcher::from_env()));
        self
    }

    /// Goes through this proxy, except for the hosts listed in NO_PROXY's form.
    pub fn proxy(mut self, url: &str, except: &str) -> Self {
        self.proxy = Some(Arc::new(Matcher::builder().all(url.to_owned()).no(except.to_owned()).build()));
        self
    }

    /// Never offers HTTP/2.
    pub fn http1_only(mut self) -> Self {
        self.http1_only = true;
        self
    }

    /// How long an unused connection is kept (90 s unless told).
    pub fn idle_timeout(mut self, idle: Duration) -> Self {
        self.idle = idle;
        self
    }

    /// The client.
    pub fn build(self) -> Result<Client> {
        let pool = |alpn: &[&[u8]]| -> Result<Pool<Connector, Body>> {
            let config = self.tls.as_ref().map(|t| t.config(alpn)).transpose()?;
            let connector = Connector {
                dialer: self.dialer.clone(),
                tls: self.tls.clone().zip(config),
                target: self.target.clone(),
                proxy: self.proxy.clone(),
            };
            Ok(Pool::builder(TokioExecutor::new())
                .timer(TokioTimer::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(self.idle)
                .http2_keep_alive_interval(PING.0)
                .http2_keep_alive_timeout(PING.1)
                .http2_adaptive_window(true)
                .build(connector))
        };
        let upgrading = pool(&H2_AND_H1[1..])?;
        let usual = if self.http1_only { upgrading.clone() } else { pool(&H2_AND_H1)? };
        Ok(Client { usual, upgrading })
    }
}

/// Sends requests; cheap to clone, and clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    usual: Pool<Connector, Body>,
    /// An upgrade takes its connection away, which only HTTP/1.1 can give.
    upgrading: Pool<Connector, Body>,
}

/// What became of a request to switch protocols.
#[derive(Debug)]
pub enum Upgrade {
    /// The peer switched: its answer, and the raw stream from the first byte after it.
    Switched(Response<()>, TokioIo<Upgraded>),
    /// The peer answered otherwise.
    Refused(Response<Incoming>),
}

impl Client {
    /// Starts with defaults: no TLS settings, no proxy.
    pub fn builder(dialer: Dialer) -> Builder {
        Builder { dialer, tls: None, target: None, proxy: None, http1_only: false, idle: Duration::from_secs(90) }
    }

    /// Sends a request with an absolute URI; returns once the head of the response is there. There is no time limit,
    /// as watches and logs need none.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>> {
        check(&request)?;
        self.usual.request(request).await.map_err(failed)
    }

    /// As [`Client::send`], but the head must be there within `limit`.
    pub async fn send_within(&self, limit: Duration, request: Request<Body>) -> Result<Response<Incoming>> {
        let sent = tokio::time::timeout(limit, self.send(request)).await;
        sent.unwrap_or(Err(Error::Timeout { what: "the response", limit }))
    }

    /// Sends a request and reads the whole response, of at most `max` bytes, within `limit`.
    pub async fn fetch(&self, limit: Duration, max: usize, request: Request<Body>) -> Result<Response<bytes::Bytes>> {
        let whole = async {
            let (head, body) = self.send(request).await?.into_parts();
            Ok(Response::from_parts(head, crate::body::read_all(body, max).await?))
        };
        tokio::time::timeout(limit, whole).await.unwrap_or(Err(Error::Timeout { what: "the response", limit }))
    }

    /// Sends a request that carries `Connection: Upgrade` and `Upgrade: …` over a connection of its own.
    pub async fn upgrade(&self, request: Request<Body>) -> Result<Upgrade> {
        check(&request)?;
        if !request.headers().contains_key(header::UPGRADE) {
            return Err(Error::Request("an upgrade needs the Upgrade header".into()));
        }
        let mut response = self.upgrading.request(request).await.map_err(failed)?;
        if response.status() != ::http::StatusCode::SWITCHING_PROTOCOLS {
            return Ok(Upgrade::Refused(response));
        }
        let stream = hyper::upgrade::on(&mut response).await.map_err(|e| Error::Http(reasons(&e)))?;
        Ok(Upgrade::Switched(response.map(drop), TokioIo::new(stream)))
    }
}

/// Headers that belong to one connection and must not be passed on by a proxy; those `Connection` names go too.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<String> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(',').map(|n| n.trim().to_ascii_lowercase()).collect::<Vec<_>>())
        .collect();
    let fixed = ["connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"];
    for name in named.iter().map(String::as_str).chain(fixed) {
        headers.remove(name);
    }
}

fn check(request: &Request<Body>) -> Result<()> {
    match (request.uri().scheme_str(), request.uri().host()) {
        (Some("http" | "https"), Some(_)) => Ok(()),
        _ => Err(Error::Request("the URI must be absolute and start with http or https".into())),
    }
}

/// Our own error if the connector raised it, otherwise hyper's with all its reasons.
fn failed(e: legacy::Error) -> Error {
    let mut source = std::error::Error::source(&e);
    while let Some(inner) = source {
        if let Some(Shared(ours)) = inner.downcast_ref::<Shared>() {
            return ours.copy();
        }
        source = inner.source();
    }
    Error::Http(reasons(&e))
}

/// An error with the errors below it, in one line.
pub(crate) fn reasons(e: &(dyn std::error::Error + 'static)) -> String {
    let mut text = e.to_string();
    let mut source = e.source();
    while let Some(inner) = source {
        let part = inner.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        source = inner.source();
    }
    text
}

/// Carries our error through hyper's boxes.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Shared(Error);

impl Error {
    /// The same error again; the parts of the kernel's that cannot be copied are kept as text.
    fn copy(&self) -> Self {
        let io = |e: &io::Error| io::Error::new(e.kind(), e.to_string());
        match self {
            Self::Resolve { host, reason } => Self::Resolve { host: host.clone(), reason: reason.clone() },
            Self::Connect { target, source } => Self::Connect { target: target.clone(), source: io(source) },
            Self::Handshake { target, source } => Self::Handshake { target: target.clone(), source: io(source) },
            Self::Tls(s) => Self::Tls(s.clone()),
            Self::Timeout { what, limit } => Self::Timeout { what, limit: *limit },
            Self::Request(s) => Self::Request(s.clone()),
            Self::Http(s) => Self::Http(s.clone()),
            Self::TooLarge(n) => Self::TooLarge(*n),
        }
    }
}

/// Opens connections for the pool: dial, through a proxy if one is due, then TLS.
#[derive(Clone, Debug)]
struct Connector {
    dialer: Dialer,
    tls: Option<(ClientTls, Arc<ClientConfig>)>,
    target: Option<Target>,
    proxy: Option<Arc<Matcher>>,
}

impl Connector {
    async fn open(self, uri: Uri) -> Result<TokioIo<Io>> {
        let secure = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default().to_owned();
        let fixed = self.target.is_some();
        let intercept = self.proxy.as_ref().filter(|_| !fixed).and_then(|m| m.intercept(&uri));
        let target = self.target.clone().unwrap_or_else(|| target_of(&uri));
        let Some((tls, config)) = self.tls.as_ref().filter(|_| secure) else {
            if secure {
                return Err(Error::Tls("this client has no TLS settings".into()));
            }
            let through = intercept.as_ref().map(|i| target_of(i.uri()));
            let stream = self.dialer.dial(through.as_ref().unwrap_or(&target)).await?;
            return Ok(TokioIo::new(Io::Plain(stream, through.is_some())));
        };
        let name = tls.name_for(&host)?;
        let stream = match intercept {
            None => self.dialer.dial(&target).await?,
            Some(proxy) => {
                if proxy.uri().scheme_str() != Some("http") {
                    return Err(Error::Request("only proxies spoken to over plain HTTP are supported".into()));
                }
                let mut tunnel = Tunnel::new(proxy.uri().clone(), Plain(self.dialer.clone()));
                if let Some(auth) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                let refused = |e: &dyn std::fmt::Display| Error::Connect {
                    target: format!("{target} through its proxy"),
                    source: io::Error::other(e.to_string()),
                };
                let through = tokio::time::timeout(HANDSHAKE, tunnel.call(uri)).await;
                let through = through.map_err(|_| Error::Timeout { what: "the proxy", limit: HANDSHAKE })?;
                match through.map_err(|e| refused(&e))?.into_inner() {
                    Io::Plain(stream, _) => stream,
                    Io::Tls(_) => return Err(refused(&"unexpected TLS")),
                }
            }
        };
        let shaken = tokio::time::timeout(HANDSHAKE, TlsConnector::from(config.clone()).connect(name, stream)).await;
        let shaken = shaken.map_err(|_| Error::Timeout { what: "the TLS handshake", limit: HANDSHAKE })?;
        let stream = shaken.map_err(|source| Error::Handshake { target: target.to_string(), source })?;
        Ok(TokioIo::new(Io::Tls(Box::new(stream))))
    }
}

/// Host and port of a URI.
fn target_of(uri: &Uri) -> Target {
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    Target::Host(uri.host().unwrap_or_default().to_owned(), port)
}

type Opening = Pin<Box<dyn Future<Output = std::result::Result<TokioIo<Io>, BoxError>> + Send>>;

impl Service<Uri> for Connector {
    type Response = TokioIo<Io>;
    type Error = BoxError;
    type Future = Opening;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Opening {
        let this = self.clone();
        Box::pin(async move { this.open(uri).await.map_err(|e| Shared(e).into()) })
    }
}

/// Dials without TLS: the way to a proxy.
#[derive(Clone, Debug)]
struct Plain(Dialer);

impl Service<Uri> for Plain {
    type Response = TokioIo<Io>;
    type Error = BoxError;
    type Future = Opening;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Opening {
        let dialer = self.0.clone();
        Box::pin(async move {
            let stream = dialer.dial(&target_of(&uri)).await.map_err(Shared)?;
            Ok(TokioIo::new(Io::Plain(stream, false)))
        })
    }
}

/// A connection of the pool; the flag says whether a proxy reads our requests.
#[derive(Debug)]
enum Io {
    Plain(Stream, bool),
    Tls(Box<TlsStream<Stream>>),
}

impl Connection for Io {
    fn connected(&self) -> Connected {
        match self {
            Self::Plain(_, proxied) => Connected::new().proxy(*proxied),
            Self::Tls(s) if s.get_ref().1.alpn_protocol() == Some(H2_AND_H1[0]) => Connected::new().negotiated_h2(),
            Self::Tls(_) => Connected::new(),
        }
    }
}

macro_rules! forward {
    ($self:ident, $s:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Plain($s, _) => $call,
            Self::Tls($s) => $call,
        }
    };
}

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        forward!(self, s => Pin::new(s).poll_read(cx, buf))
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        forward!(self, s => Pin::new(s).poll_write(cx, buf))
    }
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, s => Pin::new(s).poll_flush(cx))
    }
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        forward!(self, s => Pin::new(s).poll_shutdown(cx))
    }
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        forward!(self, s => Pin::new(s).poll_write_vectored(cx, bufs))
    }
    fn is_write_vectored(&self) -> bool {
        true
    }
}
