//! Every authority and identity of one cluster, and the file of the data folder where each one lies.
//!
//! ```text
//! <dir>/server-ca.pem            signs serving certificates; its hash is in join tokens
//! <dir>/client-ca.pem            signs users, nodes and components
//! <dir>/front-proxy-ca.pem       signs the aggregator's proxy identity
//! <dir>/service-account.pem      signs service-account tokens (ES256); further keys in it only verify
//! <dir>/issued/<name>.pem        leaf pairs, made again whenever they are missing, damaged or due
//! ```
//! A pair is one file, key first: a crash can never leave a key beside another key's certificate.
//! Nothing is made before it is asked for, and what already exists is never replaced except leaf pairs.

use crate::cert::{self, CertInfo, Chain};
use crate::file::{self, Durability};
use crate::issue::{CA_LIFETIME, Ca, LEAF_LIFETIME, Leaf};
use crate::jwt::{TokenSigner, TokenVerifier};
use crate::key::{PrivateKey, PublicKey};
use crate::kubeconfig::{Kubeconfig, Source};
use crate::renew::{Renewal, decide};
use crate::{Error, Result};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

/// The three authorities of a cluster; one must not vouch for what another does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Authority {
    /// Vouches for servers: API server and kubelets.
    Server,
    /// Vouches for clients: users, nodes, components.
    Client,
    /// Vouches for the aggregator, whose headers name the real user.
    FrontProxy,
}

impl Authority {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Server, Self::Client, Self::FrontProxy];

    /// Its name in files and subjects.
    pub fn name(self) -> &'static str {
        match self {
            Self::Server => "server-ca",
            Self::Client => "client-ca",
            Self::FrontProxy => "front-proxy-ca",
        }
    }
}

/// A client identity of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Identity {
    /// The administrator of the kubeconfig that is handed out; member of system:masters.
    Admin,
    /// system:kube-controller-manager.
    ControllerManager,
    /// system:kube-scheduler.
    Scheduler,
    /// system:kube-proxy.
    Proxy,
    /// The API server calling kubelets: kube-apiserver-kubelet-client.
    KubeletClient,
    /// The aggregator calling extension API servers; signed by the front-proxy authority.
    FrontProxyClient,
    /// system:node:NAME of system:nodes.
    Node(String),
}

impl Identity {
    /// User name and groups that the certificate carries.
    pub fn leaf(&self) -> Leaf {
        match self {
            Self::Admin => Leaf::client("system:admin", &["system:masters"]),
            Self::ControllerManager => Leaf::client("system:kube-controller-manager", &[]),
            Self::Scheduler => Leaf::client("system:kube-scheduler", &[]),
            Self::Proxy => Leaf::client("system:kube-proxy", &["system:node-proxier"]),
            Self::KubeletClient => Leaf::client("kube-apiserver-kubelet-client", &["system:masters"]),
            Self::FrontProxyClient => Leaf::client("front-proxy-client", &[]),
            Self::Node(name) => Leaf::client(&format!("system:node:{name}"), &["system:nodes"]),
        }
    }

    fn authority(&self) -> Authority {
        if *self == Self::FrontProxyClient { Authority::FrontProxy } else { Authority::Client }
    }

    fn file(&self) -> Result<String> {
        Ok(match self {
            Self::Admin => "admin".into(),
            Self::ControllerManager => "kube-controller-manager".into(),
            Self::Scheduler => "kube-scheduler".into(),
            Self::Proxy => "kube-proxy".into(),
            Self::KubeletClient => "kube-apiserver-kubelet-client".into(),
            Self::FrontProxyClient => "front-proxy-client".into(),
            Self::Node(name) => format!("node-{}", file_name(name)?),
        })
    }
}

/// A private key with the certificates that prove it: own first.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The key.
    pub key: PrivateKey,
    /// The chain, leaf first.
    pub chain: Vec<CertificateDer<'static>>,
}

impl Credential {
    /// Reads a pair from one PEM text and checks that key and certificate belong together.
    pub fn from_pem(text: &str) -> Result<Self> {
        let (key, chain) = (PrivateKey::from_pem(text)?, cert::certs_from_pem(text)?);
        use x509_parser::prelude::{FromDer, X509Certificate};
        let (_, x) = X509Certificate::from_der(&chain[0]).map_err(|e| Error::Certificate(e.to_string()))?;
        if x.public_key().raw != key.public().spki() {
            return Err(Error::Certificate("the private key belongs to another certificate".into()));
        }
        Ok(Self { key, chain })
    }

    /// Both as one PEM text, key first.
    pub fn to_pem(&self) -> String {
        self.key.to_pem() + &self.cert_pem()
    }

    /// The chain as PEM.
    pub fn cert_pem(&self) -> String {
        self.chain.iter().map(|c| cert::to_pem(c)).collect()
    }

    /// The key as rustls takes it.
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.pkcs8().to_vec()).into()
    }

    /// What the leaf says.
    pub fn info(&self) -> Result<CertInfo> {
        CertInfo::from_der(&self.chain[0])
    }
}

/// The keys and certificates of one cluster, in one folder.
#[derive(Debug)]
pub struct Hierarchy {
    dir: PathBuf,
    authorities: [OnceLock<Arc<Ca>>; 3],
}

impl Hierarchy {
    /// Uses that folder, which is made if missing; nothing else is made yet.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self> {
        let dir = dir.into();
        file::private_dir(&dir.join("issued"))?;
        Ok(Self { dir, authorities: Default::default() })
    }

    /// Uses that folder if it holds every authority; makes nothing. For those who look at what another process has made.
    pub fn existing(dir: impl Into<PathBuf>) -> Option<Self> {
        let dir = dir.into();
        let whole = Authority::ALL.into_iter().all(|which| dir.join(format!("{}.pem", which.name())).is_file());
        whole.then(|| Self { dir, authorities: Default::default() })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// One of the authorities, made if this is the first time it is asked for.
    pub fn ca(&self, which: Authority) -> Result<Arc<Ca>> {
        let slot = &self.authorities[which as usize];
        if let Some(ca) = slot.get() {
            return Ok(ca.clone());
        }
        let now = SystemTime::now();
        let text = file::create_once(&self.dir.join(format!("{}.pem", which.name())), || {
            let name = format!("skiff-{}@{}", which.name(), crate::unix(now));
            Ok(Ca::generate(&name, CA_LIFETIME, now)?.to_pem())
        })?;
        let ca = Arc::new(Ca::from_pem(&text)?);
        Ok(slot.get_or_init(|| ca).clone())
    }

    /// Makes whatever lasting file is missing, all at once: the disk is waited for once, not once a file.
    pub fn prepare(&self) -> Result<()> {
        std::thread::scope(|s| {
            let mut jobs: Vec<_> =
                Authority::ALL.into_iter().map(|which| s.spawn(move || self.ca(which).map(drop))).collect();
            jobs.push(s.spawn(|| self.service_account_keys().map(drop)));
            jobs.into_iter().try_for_each(|j| j.join().unwrap_or(Err(Error::Random)))
        })
    }

    /// The client certificate of an identity, renewed if due.
    pub fn client(&self, identity: &Identity) -> Result<Credential> {
        self.pair(&identity.file()?, identity.authority(), &identity.leaf(), SystemTime::now())
    }

    /// A serving certificate for these names and addresses, renewed if due or if the names changed.
    pub fn server<S: AsRef<str>>(&self, name: &str, sans: impl IntoIterator<Item = S>) -> Result<Credential> {
        let leaf = Leaf::server(name, sans);
        self.pair(&format!("serving-{}", file_name(name)?), Authority::Server, &leaf, SystemTime::now())
    }

    fn pair(&self, file: &str, authority: Authority, leaf: &Leaf, now: SystemTime) -> Result<Credential> {
        let path = self.dir.join("issued").join(format!("{file}.pem"));
        let ca = self.ca(authority)?;
        // A pair that cannot be read is made again: it holds nothing that the authority cannot give anew.
        if let Some(text) = file::read(&path).unwrap_or_default()
            && let Ok(found) = Credential::from_pem(&text)
            && let Ok(info) = found.info()
            && matches!(decide(&info, now), Renewal::Keep(_))
            && says(&info, leaf)
            && ca.chain().verify(&found.chain, usage_of(leaf), now).is_ok()
        {
            return Ok(found);
        }
        let (key, cert) = ca.issue_pair(leaf, LEAF_LIFETIME, now)?;
        let made = Credential { key, chain: vec![cert] };
        file::write_private(&path, made.to_pem().as_bytes(), Durability::Remade)?;
        Ok(made)
    }

    /// A kubeconfig for an identity, with everything it needs inside.
    pub fn kubeconfig(&self, identity: &Identity, server: &str) -> Result<Kubeconfig> {
        let credential = self.client(identity)?;
        let mut config = Kubeconfig::new("skiff", server);
        config.cluster.certificate_authority =
            Some(Source::Data(self.ca(Authority::Server)?.bundle_pem().into_bytes()));
        config.user.client_certificate = Some(Source::Data(credential.cert_pem().into_bytes()));
        config.user.client_key = Some(Source::Data(credential.key.to_pem().into_bytes()));
        Ok(config)
    }

    /// Who vouches for that authority's certificates.
    pub fn trust(&self, which: Authority) -> Result<Chain> {
        Ok(self.ca(which)?.chain())
    }

    fn service_account_keys(&self) -> Result<(PrivateKey, Vec<PublicKey>)> {
        let text = file::create_once(&self.dir.join("service-account.pem"), || Ok(PrivateKey::generate()?.to_pem()))?;
        Ok((PrivateKey::from_pem(&text)?, PublicKey::all_from_pem(&text)?))
    }

    /// Signs service-account tokens in the name of `issuer`.
    pub fn token_signer(&self, issuer: &str) -> Result<TokenSigner> {
        Ok(TokenSigner::new(issuer, self.service_account_keys()?.0))
    }

    /// Verifies service-account tokens of `issuers`, the first being the one that signs now.
    pub fn token_verifier(&self, issuers: Vec<String>) -> Result<TokenVerifier> {
        Ok(TokenVerifier::new(issuers, self.service_account_keys()?.1))
    }
}

fn usage_of(leaf: &Leaf) -> crate::Usage {
    if leaf.server { crate::Usage::Server } else { crate::Usage::Client }
}

/// Whether a certificate says what the leaf asks for.
fn says(info: &CertInfo, leaf: &Leaf) -> bool {
    info.common_name == leaf.common_name
        && info.organizations == leaf.organizations
        && info.dns_names == leaf.dns_names
        && info.ips == leaf.ips
        && info.client_auth == leaf.client
        && info.server_auth == leaf.server
}

/// Refuses names that would leave the folder.
fn file_name(name: &str) -> Result<&str> {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if !name.is_empty() && name.len() <= 253 && !name.starts_with('.') && name.chars().all(fine) {
        Ok(name)
    } else {
        Err(Error::Certificate("a name in it is not usable as a file name".into()))
    }
}
