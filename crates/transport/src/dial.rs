//! The dialer: from a target to an open stream. Direct today; a tunnel to nodes behind NAT will be a second way.

use crate::resolve::Resolver;
use crate::{Error, Result};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::task::JoinSet;

/// Head start of an address before the next one is tried beside it (RFC 8305).
const STAGGER: Duration = Duration::from_millis(250);

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A name or address, and a port.
    Host(String, u16),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host, port) if host.contains(':') && !host.starts_with('[') => write!(f, "[{host}]:{port}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for Target {
    fn from(a: SocketAddr) -> Self {
        Self::Host(a.ip().to_string(), a.port())
    }
}

/// Opens connections; cheap to clone.
#[derive(Clone, Debug)]
pub struct Dialer {
    resolver: Resolver,
    timeout: Duration,
}

impl Dialer {
    /// Connects from this machine, resolving names with that resolver.
    pub fn direct(resolver: Resolver) -> Self {
        Self { resolver, timeout: Duration::from_secs(10) }
    }

    /// Another limit for name resolution and connecting together (10 s unless told).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The resolver names go through.
    pub fn resolver(&self) -> &Resolver {
        &self.resolver
    }

    /// Opens a stream to the target.
    pub async fn dial(&self, target: &Target) -> Result<Stream> {
        let limit = self.timeout;
        let opened = async {
            let failed = |source| Error::Connect { target: target.to_string(), source };
            match target {
                Target::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await.map_err(failed)?)),
                Target::Host(host, port) => {
                    let ips = self.resolver.lookup(host).await?;
                    Ok(Stream::Tcp(race(ips, *port).await.map_err(failed)?))
                }
            }
        };
        tokio::time::timeout(limit, opened).await.unwrap_or(Err(Error::Timeout { what: "connecting", limit }))
    }
}

/// Connects to the first address that answers, giving each a head start on the next; the losers are dropped.
async fn race(ips: Vec<IpAddr>, port: u16) -> io::Result<TcpStream> {
    let mut rest = ips.into_iter();
    let mut running = JoinSet::new();
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "the name has no address");
    loop {
        if let Some(ip) = rest.next() {
            running.spawn(connect(SocketAddr::new(ip, port)));
        } else if running.is_empty() {
            return Err(last);
        }
        let finished = if rest.len() == 0 {
            running.join_next().await
        } else {
            match tokio::time::timeout(STAGGER, running.join_next()).await {
                Ok(finished) => finished,
                Err(_) => continue,
            }
        };
        match finished {
            Some(Ok(Ok(stream))) => return Ok(stream),
            Some(Ok(Err(e))) => last = e,
            Some(Err(e)) => last = io::Error::other(e),
            None => {}
        }
    }
}

async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_keepalive(true)?;
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// An open stream of either kind.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a socket in the file system.
    Unix(UnixStream),
}

impl Stream {
    /// The other side's address, if it has one.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(s) => s.peer_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Our own address, if the stream has one.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(s) => s.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }
}

macro_rules! forward {
    ($self:ident, $s:ident => $call:expr) => {
        match $self.get_mut() {
            Self::Tcp($s) => $call,
            Self::Unix($s) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        forward!(self, s => Pin::new(s).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
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
