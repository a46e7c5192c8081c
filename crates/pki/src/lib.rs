//! Certificates, keys, service-account tokens, join tokens, kubeconfigs and sealing of what rests on disk.
//!
//! Knows files and cryptography; knows no network, no async runtime and no API type.
//! Start reading at [`hierarchy`]: it names every authority and identity of a cluster and where each one lies.
//! The rest are its parts: [`key`] and [`der`] below, [`issue`], [`csr`] and [`cert`] for X.509, [`jwt`] for
//! service accounts, [`token`] for joining, [`kubeconfig`] for people, [`seal`] for Secrets at rest,
//! [`vault`] for encrypted files.
//!
//! # Why X.509 is written here
//! Reading and verifying certificates is left to `x509-parser` and `webpki`. Writing them is a few hundred lines over
//! [`der`], because the usual writer (`rcgen`) keeps a subject as a map and so loses all but one of the organizations
//! that Kubernetes reads as groups, and re-encodes the names of a signing request instead of copying them.

pub mod cert;
pub mod csr;
mod der;
pub mod file;
pub mod hierarchy;
pub mod issue;
pub mod jwt;
pub mod key;
pub mod kubeconfig;
mod pem;
pub mod proof;
pub mod renew;
pub mod seal;
pub mod token;
pub mod vault;

pub use cert::{CertInfo, Chain, Usage};
pub use csr::Csr;
pub use hierarchy::{Authority, Credential, Hierarchy, Identity};
pub use issue::{Ca, Leaf};
pub use key::{PrivateKey, PublicKey};

use std::path::PathBuf;

/// What can go wrong with keys, certificates and tokens.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file in question.
        path: PathBuf,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The text is not PEM, or holds no section of the wanted kind.
    #[error("no {0} found in PEM data")]
    Pem(&'static str),
    /// The key is damaged or of a kind that is not supported.
    #[error("invalid private key: {0}")]
    Key(&'static str),
    /// The certificate cannot be parsed.
    #[error("invalid certificate: {0}")]
    Certificate(String),
    /// The certificate is not signed by an authority we trust, expired, or not meant for this use.
    #[error("certificate not accepted: {0}")]
    Untrusted(String),
    /// The signing request cannot be parsed or is not signed by its own key.
    #[error("invalid certificate request: {0}")]
    Request(String),
    /// The bearer token is not a token of ours, or not valid now.
    #[error("invalid token: {0}")]
    Token(&'static str),
    /// The bearer token was valid once.
    #[error("token has expired")]
    TokenExpired,
    /// The join token is malformed, or names another cluster.
    #[error("invalid join token: {0}")]
    JoinToken(&'static str),
    /// The kubeconfig is not usable.
    #[error("invalid kubeconfig: {0}")]
    Kubeconfig(String),
    /// The sealed value was damaged, moved, or sealed by a key that is not in the key file.
    #[error("cannot open sealed value: {0}")]
    Seal(&'static str),
    /// The system gave no randomness.
    #[error("no randomness available from the kernel")]
    Random,
}

/// What functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// Fills a buffer from the kernel's generator.
pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    use ring::rand::SecureRandom;
    let mut out = [0; N];
    ring::rand::SystemRandom::new().fill(&mut out).map_err(|_| Error::Random)?;
    Ok(out)
}

/// Seconds since 1970, zero for times before.
pub(crate) fn unix(t: std::time::SystemTime) -> u64 {
    t.duration_since(std::time::UNIX_EPOCH).map(|d| d.as_secs()).unwrap_or(0)
}

/// Compares secrets in a time that depends on their lengths only.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && std::hint::black_box(a.iter().zip(b).fold(0u8, |acc, (x, y)| acc | (x ^ y))) == 0
}

/// Lower-case hexadecimal text.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut s, b| {
        let _ = write!(s, "{b:02x}");
        s
    })
}

/// SHA-256 of the bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    out
}
