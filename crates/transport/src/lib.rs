//! How a connection is opened: one dialer, one resolver, TLS settings, an HTTP client on hyper.
//!
//! Every outgoing connection of the project passes through [`Dialer`], every name through [`Resolver`].
//! Knows sockets, TLS and HTTP; knows no API type and no file of the data folder.
//! Start reading at [`http::Client`], which puts the other modules together.

pub mod body;
pub mod dial;
pub mod http;
pub mod resolve;
pub mod tls;

pub use body::Body;
pub use dial::{Dialer, Stream, Target};
pub use http::{Client, Upgrade};
pub use resolve::Resolver;
pub use tls::{ClientAuth, ClientTls, Identity, ServerCheck, ServerTls, Trust};

use std::io;

/// An error of any kind, as bodies carry it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong on the way to a peer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name does not exist or nobody would resolve it.
    #[error("cannot resolve {host:?}: {reason}")]
    Resolve {
        /// The name.
        host: String,
        /// Why.
        reason: String,
    },
    /// No connection could be opened.
    #[error("cannot connect to {target}: {source}")]
    Connect {
        /// The peer.
        target: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The TLS handshake failed.
    #[error("TLS handshake with {target} failed: {source}")]
    Handshake {
        /// The peer.
        target: String,
        /// What rustls said.
        source: io::Error,
    },
    /// Certificates, keys or names are not usable.
    #[error("TLS settings: {0}")]
    Tls(String),
    /// A limit of time passed.
    #[error("{what} took longer than {limit:?}")]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// The limit.
        limit: std::time::Duration,
    },
    /// The request cannot be sent as it is.
    #[error("invalid request: {0}")]
    Request(String),
    /// The exchange broke.
    #[error("HTTP exchange failed: {0}")]
    Http(String),
    /// A body was longer than its reader allows.
    #[error("body is longer than {0} bytes")]
    TooLarge(usize),
}

impl Error {
    /// Whether no byte of a request can have reached the peer, so that it may be sent again.
    pub fn is_before_request(&self) -> bool {
        matches!(
            self,
            Self::Resolve { .. } | Self::Connect { .. } | Self::Handshake { .. } | Self::Tls(_) | Self::Request(_)
        )
    }
}

/// What functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;
