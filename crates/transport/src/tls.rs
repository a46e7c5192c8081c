//! TLS settings for both sides: certificates and trust that can be replaced while connections run.
//!
//! [`Identity`] and [`Trust`] are handles: a clone put into a rustls config sees what `replace` later puts there, so
//! rotating a certificate needs no restart. Handshakes done before keep what they had.

use crate::{Error, Result};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

/// Bundles of public authorities, where distributions keep them.
const SYSTEM_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// ALPN of a peer that speaks both.
pub const H2_AND_H1: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// The one cryptography provider.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider())).clone()
}

fn tls(e: impl fmt::Display) -> Error {
    Error::Tls(e.to_string())
}

/// Certificates of a PEM text.
fn certs(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem).collect::<std::result::Result<_, _>>().map_err(tls)
}

/// A key with its certificates, replaceable while in use.
#[derive(Clone)]
pub struct Identity {
    current: Arc<RwLock<Arc<CertifiedKey>>>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity")
    }
}

impl Identity {
    /// From a chain, leaf first, and its key.
    pub fn new(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Self> {
        Ok(Self { current: Arc::new(RwLock::new(certified(chain, key)?)) })
    }

    /// From PEM texts, which may be the same.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self> {
        Self::new(certs(chain)?, PrivateKeyDer::from_pem_slice(key).map_err(tls)?)
    }

    /// Presents this from the next handshake on; on error the old one stays.
    pub fn replace(&self, chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<()> {
        let new = certified(chain, key)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    /// The chain presented now.
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        self.get().cert.clone()
    }

    fn get(&self) -> Arc<CertifiedKey> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn certified(chain: Vec<CertificateDer<'static>>, key: PrivateKeyDer<'static>) -> Result<Arc<CertifiedKey>> {
    if chain.is_empty() {
        return Err(Error::Tls("no certificate was given".into()));
    }
    CertifiedKey::from_der(chain, key, &provider()).map(Arc::new).map_err(tls)
}

impl ResolvesServerCert for Identity {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.get())
    }
}

impl ResolvesClientCert for Identity {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let key = self.get();
        key.key.choose_scheme(schemes).is_some().then_some(key)
    }
    fn has_certs(&self) -> bool {
        true
    }
}

/// Authorities that vouch for peers, replaceable while in use.
#[derive(Clone)]
pub struct Trust {
    current: Arc<RwLock<Arc<Verifiers>>>,
}

struct Verifiers {
    server: Arc<WebPkiServerVerifier>,
    client: Arc<dyn ClientCertVerifier>,
    /// Subjects of the authorities, told to callers so that they can choose a certificate.
    hints: Arc<[DistinguishedName]>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({} authorities)", self.get().hints.len())
    }
}

impl Trust {
    /// These authorities; there must be at least one, and each must parse.
    pub fn new(roots: impl IntoIterator<Item = CertificateDer<'static>>) -> Result<Self> {
        Ok(Self { current: Arc::new(RwLock::new(verifiers(roots, false)?)) })
    }

    /// Every certificate of a PEM bundle.
    pub fn from_pem(pem: &[u8]) -> Result<Self> {
        Self::new(certs(pem)?)
    }

    /// The public authorities this machine trusts, for registries and webhooks outside.
    pub fn system() -> Result<Self> {
        let bundle = std::env::var("SSL_CERT_FILE").ok();
        let paths = bundle.as_deref().into_iter().chain(SYSTEM_BUNDLES);
        let pem = paths.filter_map(|p| std::fs::read(p).ok()).find(|p| !p.is_empty());
        let pem = pem.ok_or_else(|| Error::Tls("no bundle of public authorities found; set SSL_CERT_FILE".into()))?;
        // One authority with an odd encoding must not make the rest of a distribution's bundle unusable.
        Ok(Self { current: Arc::new(RwLock::new(verifiers(certs(&pem)?, true)?)) })
    }

    /// Trusts these instead from the next handshake on; on error the old ones stay.
    pub fn replace(&self, roots: impl IntoIterator<Item = CertificateDer<'static>>) -> Result<()> {
        let new = verifiers(roots, false)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }

    fn get(&self) -> Arc<Verifiers> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn verifiers(roots: impl IntoIterator<Item = CertificateDer<'static>>, lenient: bool) -> Result<Arc<Verifiers>> {
    let mut store = RootCertStore::empty();
    for root in roots {
        match store.add(root) {
            Ok(()) => {}
            Err(_) if lenient => {}
            Err(e) => return Err(tls(e)),
        }
    }
    let store = Arc::new(store);
    let hints = store.subjects().into();
    let server = WebPkiServerVerifier::builder_with_provider(store.clone(), provider()).build().map_err(tls)?;
    let client = WebPkiClientVerifier::builder_with_provider(store, provider()).build().map_err(tls)?;
    Ok(Arc::new(Verifiers { server, client, hints }))
}

/// How a server's certificate is judged.
#[derive(Clone, Debug)]
pub enum ServerCheck {
    /// An authority of these vouches for it, and it carries the name.
    Trust(Trust),
    /// Not at all, as `insecure-skip-tls-verify` asks.
    Insecure,
}

/// Settings of the calling side.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// How the server is judged.
    pub check: ServerCheck,
    /// Who we are, if the server asks.
    pub identity: Option<Identity>,
    /// Name to send and verify instead of the one dialled.
    pub server_name: Option<String>,
}

impl ClientTls {
    /// Servers vouched for by these authorities, without an identity.
    pub fn trusting(trust: Trust) -> Self {
        Self { check: ServerCheck::Trust(trust), identity: None, server_name: None }
    }

    /// Any server.
    pub fn insecure() -> Self {
        Self { check: ServerCheck::Insecure, identity: None, server_name: None }
    }

    /// Presents this identity.
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = Some(identity);
        self
    }

    /// Expects this name whatever is dialled.
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// The rustls config, offering these protocols.
    pub fn config(&self, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>> {
        let builder =
            ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(tls)?;
        let verifier: Arc<dyn ServerCertVerifier> = match &self.check {
            ServerCheck::Trust(trust) => Arc::new(CurrentServers(trust.clone())),
            ServerCheck::Insecure => Arc::new(AnyServer),
        };
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let mut config = match &self.identity {
            Some(identity) => builder.with_client_cert_resolver(Arc::new(identity.clone())),
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        // A resumed session carries the identity and the verdict of an earlier handshake; both may have been replaced.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    /// The name to verify for a host that is dialled.
    pub fn name_for(&self, host: &str) -> Result<ServerName<'static>> {
        let name = self.server_name.as_deref().unwrap_or(host);
        let name = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name).trim_end_matches('.');
        ServerName::try_from(name.to_owned()).map_err(|_| Error::Tls(format!("{name:?} is not a server name")))
    }
}

/// What a server asks of its callers.
#[derive(Clone, Debug)]
pub enum ClientAuth {
    /// No certificate.
    None,
    /// A certificate may be shown, and the caller proves to hold its key, but **nobody has vouched for it**: whoever
    /// reads `peer_certificates` must verify the chain. This is how an API server answers 401 instead of closing.
    Requested(Trust),
    /// A certificate may be shown and must then be vouched for.
    Optional(Trust),
    /// A certificate must be shown and vouched for.
    Required(Trust),
}

/// Settings of the answering side.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// Who we are.
    pub identity: Identity,
    /// What callers must show.
    pub client_auth: ClientAuth,
}

impl ServerTls {
    /// The rustls config, offering these protocols.
    pub fn config(&self, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>> {
        let builder =
            ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().map_err(tls)?;
        let callers = |trust: &Trust, judged, mandatory| {
            let hints = trust.get().hints.clone();
            Arc::new(CurrentClients { trust: trust.clone(), hints, judged, mandatory })
        };
        let builder = match &self.client_auth {
            ClientAuth::None => builder.with_no_client_auth(),
            ClientAuth::Requested(t) => builder.with_client_cert_verifier(callers(t, false, false)),
            ClientAuth::Optional(t) => builder.with_client_cert_verifier(callers(t, true, false)),
            ClientAuth::Required(t) => builder.with_client_cert_verifier(callers(t, true, true)),
        };
        let mut config = builder.with_cert_resolver(Arc::new(self.identity.clone()));
        config.alpn_protocols = alpn.iter().map(|p| p.to_vec()).collect();
        if !matches!(self.client_auth, ClientAuth::None) {
            // A resumed session would let in a caller whose authority has been dropped since.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Arc::new(config))
    }
}

type Verdict<T> = std::result::Result<T, rustls::Error>;

/// Verifies the signature of a TLS 1.2 handshake by the peer's own certificate.
fn signature12(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Verdict<HandshakeSignatureValid> {
    rustls::crypto::verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
}

/// Verifies the signature of a TLS 1.3 handshake by the peer's own certificate.
fn signature13(
    message: &[u8],
    cert: &CertificateDer<'_>,
    dss: &DigitallySignedStruct,
) -> Verdict<HandshakeSignatureValid> {
    rustls::crypto::verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
}

macro_rules! signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Verdict<HandshakeSignatureValid> {
            signature12(message, cert, dss)
        }
        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Verdict<HandshakeSignatureValid> {
            signature13(message, cert, dss)
        }
        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            provider().signature_verification_algorithms.supported_schemes()
        }
    };
}

/// Judges servers by whom is trusted at that moment.
#[derive(Debug)]
struct CurrentServers(Trust);

impl ServerCertVerifier for CurrentServers {
    fn verify_server_cert(
        &self,
        cert: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Verdict<ServerCertVerified> {
        self.0.get().server.verify_server_cert(cert, intermediates, name, ocsp, now)
    }
    signatures!();
}

/// Accepts every server that holds the key of the certificate it shows.
#[derive(Debug)]
struct AnyServer;

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Verdict<ServerCertVerified> {
        Ok(ServerCertVerified::assertion())
    }
    signatures!();
}

/// Judges callers by whom is trusted at that moment, or leaves the judgement to the reader of the chain.
#[derive(Debug)]
struct CurrentClients {
    trust: Trust,
    /// Subjects told to callers; those of the start, as rustls borrows them. They only help a caller to choose.
    hints: Arc<[DistinguishedName]>,
    judged: bool,
    mandatory: bool,
}

impl ClientCertVerifier for CurrentClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }
    fn verify_client_cert(
        &self,
        cert: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Verdict<ClientCertVerified> {
        if self.judged {
            self.trust.get().client.verify_client_cert(cert, intermediates, now)
        } else {
            Ok(ClientCertVerified::assertion())
        }
    }
    signatures!();
}
