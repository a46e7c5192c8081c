//! Authorities and what they sign: leaf certificates and others' requests.

use crate::cert::{self, CertInfo, Chain};
use crate::csr::Csr;
use crate::key::{PrivateKey, PublicKey, signature_algorithm};
use crate::{Error, Result, der};
use rustls_pki_types::CertificateDer;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// How far NotBefore is put back, so that machines whose clocks run late accept a fresh certificate.
pub const BACKDATE: Duration = Duration::from_secs(3600);

/// Life of an authority: ten years.
pub const CA_LIFETIME: Duration = Duration::from_secs(3650 * 86_400);

/// Life of a certificate we issue for ourselves: one year, renewed at two thirds.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(365 * 86_400);

/// What a new leaf certificate says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaf {
    /// Common name: the user name of a client.
    pub common_name: String,
    /// Organizations: the groups of a client.
    pub organizations: Vec<String>,
    /// DNS names served.
    pub dns_names: Vec<String>,
    /// Addresses served.
    pub ips: Vec<IpAddr>,
    /// For authentication of a client.
    pub client: bool,
    /// For authentication of a server.
    pub server: bool,
}

impl Leaf {
    /// A client certificate for a user in groups.
    pub fn client(user: &str, groups: &[&str]) -> Self {
        Self {
            common_name: user.into(),
            organizations: groups.iter().map(|g| (*g).to_owned()).collect(),
            client: true,
            ..Self::default()
        }
    }

    /// A server certificate for names and addresses; a text that parses as an address is one.
    pub fn server<S: AsRef<str>>(common_name: &str, sans: impl IntoIterator<Item = S>) -> Self {
        let mut leaf = Self { common_name: common_name.into(), server: true, ..Self::default() };
        for san in sans {
            match san.as_ref().parse::<IpAddr>() {
                Ok(ip) => leaf.ips.push(ip),
                Err(_) => leaf.dns_names.push(san.as_ref().to_owned()),
            }
        }
        leaf.ips.sort();
        leaf.ips.dedup();
        leaf.dns_names.sort();
        leaf.dns_names.dedup();
        leaf
    }

    fn usages(&self) -> Vec<KeyUsage> {
        let mut out = vec![KeyUsage::DigitalSignature];
        out.extend(self.server.then_some(KeyUsage::ServerAuth));
        out.extend(self.client.then_some(KeyUsage::ClientAuth));
        out
    }
}

/// A key usage or extended key usage, by the names `certificates.k8s.io` gives them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum KeyUsage {
    DigitalSignature,
    ContentCommitment,
    KeyEncipherment,
    DataEncipherment,
    KeyAgreement,
    CertSign,
    CrlSign,
    EncipherOnly,
    DecipherOnly,
    Any,
    ServerAuth,
    ClientAuth,
    CodeSigning,
    EmailProtection,
    IpsecEndSystem,
    IpsecTunnel,
    IpsecUser,
    Timestamping,
    OcspSigning,
    MicrosoftSgc,
    NetscapeSgc,
}

impl KeyUsage {
    /// Reads the API's word, such as `digital signature` or `client auth`.
    pub fn from_api(word: &str) -> Option<Self> {
        Some(match word {
            "signing" | "digital signature" => Self::DigitalSignature,
            "content commitment" => Self::ContentCommitment,
            "key encipherment" => Self::KeyEncipherment,
            "data encipherment" => Self::DataEncipherment,
            "key agreement" => Self::KeyAgreement,
            "cert sign" => Self::CertSign,
            "crl sign" => Self::CrlSign,
            "encipher only" => Self::EncipherOnly,
            "decipher only" => Self::DecipherOnly,
            "any" => Self::Any,
            "server auth" => Self::ServerAuth,
            "client auth" => Self::ClientAuth,
            "code signing" => Self::CodeSigning,
            "email protection" | "s/mime" => Self::EmailProtection,
            "ipsec end system" => Self::IpsecEndSystem,
            "ipsec tunnel" => Self::IpsecTunnel,
            "ipsec user" => Self::IpsecUser,
            "timestamping" => Self::Timestamping,
            "ocsp signing" => Self::OcspSigning,
            "microsoft sgc" => Self::MicrosoftSgc,
            "netscape sgc" => Self::NetscapeSgc,
            _ => return None,
        })
    }

    /// Position in the keyUsage bit string, for those that are plain usages.
    fn bit(self) -> Option<u8> {
        Some(match self {
            Self::DigitalSignature => 0,
            Self::ContentCommitment => 1,
            Self::KeyEncipherment => 2,
            Self::DataEncipherment => 3,
            Self::KeyAgreement => 4,
            Self::CertSign => 5,
            Self::CrlSign => 6,
            Self::EncipherOnly => 7,
            Self::DecipherOnly => 8,
            _ => return None,
        })
    }

    fn extended_oid(self) -> Option<&'static [u64]> {
        Some(match self {
            Self::Any => &[2, 5, 29, 37, 0],
            Self::ServerAuth => &[1, 3, 6, 1, 5, 5, 7, 3, 1],
            Self::ClientAuth => &[1, 3, 6, 1, 5, 5, 7, 3, 2],
            Self::CodeSigning => &[1, 3, 6, 1, 5, 5, 7, 3, 3],
            Self::EmailProtection => &[1, 3, 6, 1, 5, 5, 7, 3, 4],
            Self::IpsecEndSystem => &[1, 3, 6, 1, 5, 5, 7, 3, 5],
            Self::IpsecTunnel => &[1, 3, 6, 1, 5, 5, 7, 3, 6],
            Self::IpsecUser => &[1, 3, 6, 1, 5, 5, 7, 3, 7],
            Self::Timestamping => &[1, 3, 6, 1, 5, 5, 7, 3, 8],
            Self::OcspSigning => &[1, 3, 6, 1, 5, 5, 7, 3, 9],
            Self::MicrosoftSgc => &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3],
            Self::NetscapeSgc => &[2, 16, 840, 1, 113730, 4, 1],
            _ => return None,
        })
    }
}

/// A certificate authority: its key, its certificate, and earlier certificates that are still trusted.
#[derive(Clone, Debug)]
pub struct Ca {
    key: PrivateKey,
    cert: CertificateDer<'static>,
    subject: Vec<u8>,
    key_id: Vec<u8>,
    not_after: u64,
    also_trusted: Vec<CertificateDer<'static>>,
}

impl Ca {
    /// A new self-signed authority of that name.
    pub fn generate(common_name: &str, lifetime: Duration, now: SystemTime) -> Result<Self> {
        let key = PrivateKey::generate()?;
        let name = distinguished_name(common_name, &[]);
        let spki = key.public().spki();
        let key_id = PublicKey::subject_key_id(&spki);
        let extensions = [
            extension(&[2, 5, 29, 19], true, &der::seq(&[&der::yes()])),
            key_usage_extension(&[KeyUsage::DigitalSignature, KeyUsage::KeyEncipherment, KeyUsage::CertSign])
                .unwrap_or_default(),
            extension(&[2, 5, 29, 14], false, &der::octets(&key_id)),
        ];
        let window = Window { not_before: crate::unix(now - BACKDATE), not_after: crate::unix(now + lifetime) };
        let cert = build(&key, &name, &name, &spki, &window, &extensions)?;
        Self::new(key, vec![cert])
    }

    /// An authority from its key and its certificates: its own first, then others that stay trusted.
    pub fn new(key: PrivateKey, mut certs: Vec<CertificateDer<'static>>) -> Result<Self> {
        if certs.is_empty() {
            return Err(Error::Pem("certificate"));
        }
        let cert = certs.remove(0);
        let (subject, key_id, not_after) = {
            use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};
            let (_, x) = X509Certificate::from_der(&cert).map_err(|e| Error::Certificate(e.to_string()))?;
            if x.public_key().raw != key.public().spki() {
                return Err(Error::Certificate("the private key belongs to another certificate".into()));
            }
            if !x.is_ca() {
                return Err(Error::Certificate("it may not sign others (basic constraints)".into()));
            }
            let key_id = x.extensions().iter().find_map(|e| match e.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            });
            let key_id = key_id.unwrap_or_else(|| PublicKey::subject_key_id(x.public_key().raw));
            (x.subject().as_raw().to_vec(), key_id, x.validity().not_after.timestamp().max(0) as u64)
        };
        Ok(Self { key, cert, subject, key_id, not_after, also_trusted: certs })
    }

    /// Reads key and certificates from one PEM text.
    pub fn from_pem(text: &str) -> Result<Self> {
        Self::new(PrivateKey::from_pem(text)?, cert::certs_from_pem(text)?)
    }

    /// Key, certificate and the other trusted ones as one PEM text: a pair that cannot be half written.
    pub fn to_pem(&self) -> String {
        self.key.to_pem() + &self.bundle_pem()
    }

    /// DER of the authority's own certificate.
    pub fn cert(&self) -> &CertificateDer<'static> {
        &self.cert
    }

    /// PEM of everything to trust: the authority's certificate and those before it.
    pub fn bundle_pem(&self) -> String {
        self.trusted().iter().map(|c| cert::to_pem(c)).collect()
    }

    /// Everything to trust, as DER.
    pub fn trusted(&self) -> Vec<CertificateDer<'static>> {
        [std::slice::from_ref(&self.cert), &self.also_trusted].concat()
    }

    /// Everything to trust, ready to verify with.
    pub fn chain(&self) -> Chain {
        Chain::new(self.trusted()).unwrap_or_default()
    }

    /// What the authority's own certificate says.
    pub fn info(&self) -> Result<CertInfo> {
        CertInfo::from_der(&self.cert)
    }

    /// Signs a leaf certificate for a public key (SubjectPublicKeyInfo).
    pub fn issue(
        &self,
        leaf: &Leaf,
        spki: &[u8],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>> {
        let orgs: Vec<&str> = leaf.organizations.iter().map(String::as_str).collect();
        let subject = distinguished_name(&leaf.common_name, &orgs);
        let san = (!leaf.dns_names.is_empty() || !leaf.ips.is_empty()).then(|| {
            let dns = leaf.dns_names.iter().map(|n| der::implicit(2, n.as_bytes()));
            let ips = leaf.ips.iter().map(|ip| match ip {
                IpAddr::V4(a) => der::implicit(7, &a.octets()),
                IpAddr::V6(a) => der::implicit(7, &a.octets()),
            });
            der::tlv(0x30, &dns.chain(ips).collect::<Vec<_>>().concat())
        });
        let validity = Validity { from: now - BACKDATE, until: now + lifetime };
        self.sign(&subject, spki, san.as_deref(), &leaf.usages(), &validity, now)
    }

    /// A fresh key and the leaf certificate for it.
    pub fn issue_pair(
        &self,
        leaf: &Leaf,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<(PrivateKey, CertificateDer<'static>)> {
        let key = PrivateKey::generate()?;
        let cert = self.issue(leaf, &key.public().spki(), lifetime, now)?;
        Ok((key, cert))
    }

    /// Signs another's request: its subject, key and alternative names are copied, the usages and the life are ours to say.
    ///
    /// Whether the requester may have that name is the caller's decision; this only makes the certificate.
    pub fn sign_csr(
        &self,
        csr: &Csr,
        usages: &[KeyUsage],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>> {
        self.sign_csr_within(csr, usages, &Validity { from: now - BACKDATE, until: now + lifetime }, now)
    }

    /// [`Ca::sign_csr`] with a beginning and an end of the caller's choice. The end is never after the authority's own;
    /// fails where that has passed.
    pub fn sign_csr_within(
        &self,
        csr: &Csr,
        usages: &[KeyUsage],
        validity: &Validity,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>> {
        self.sign(csr.raw_subject(), csr.raw_public_key(), csr.raw_alternative_names(), usages, validity, now)
    }

    fn sign(
        &self,
        subject: &[u8],
        spki: &[u8],
        san: Option<&[u8]>,
        usages: &[KeyUsage],
        validity: &Validity,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>> {
        // A leaf that outlives its authority would be refused by everyone on that day; upstream caps it likewise.
        let not_after = crate::unix(validity.until).min(self.not_after);
        let window = Window { not_before: crate::unix(validity.from), not_after };
        if window.not_after <= crate::unix(now) {
            return Err(Error::Certificate("the authority has expired".into()));
        }
        let mut extensions = Vec::new();
        extensions.extend(key_usage_extension(usages));
        let extended: Vec<u8> = usages.iter().filter_map(|u| u.extended_oid()).flat_map(der::oid).collect();
        if !extended.is_empty() {
            extensions.push(extension(&[2, 5, 29, 37], false, &der::tlv(0x30, &extended)));
        }
        extensions.push(extension(&[2, 5, 29, 19], true, &der::seq(&[])));
        extensions.push(extension(&[2, 5, 29, 35], false, &der::seq(&[&der::implicit(0, &self.key_id)])));
        if let Some(san) = san {
            // RFC 5280: critical when the subject is empty, since then it is the only name.
            extensions.push(extension(&[2, 5, 29, 17], subject == [0x30, 0], san));
        }
        build(&self.key, &self.subject, subject, spki, &window, &extensions)
    }
}

/// From when until when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The first moment at which it is valid.
    pub from: SystemTime,
    /// The last.
    pub until: SystemTime,
}

/// Validity in seconds since 1970.
struct Window {
    not_before: u64,
    not_after: u64,
}

/// Puts a certificate together and signs it.
fn build(
    key: &PrivateKey,
    issuer: &[u8],
    subject: &[u8],
    spki: &[u8],
    window: &Window,
    extensions: &[Vec<u8>],
) -> Result<CertificateDer<'static>> {
    // The top bit is cleared so that the serial stays positive at 16 bytes; the next is set so that it is never zero.
    let mut serial = crate::random::<16>()?;
    serial[0] = serial[0] & 0x7f | 0x40;
    let tbs = der::seq(&[
        &der::explicit(0, &der::uint(&[2])),
        &der::uint(&serial),
        &signature_algorithm(),
        issuer,
        &der::seq(&[&der::time(window.not_before), &der::time(window.not_after)]),
        subject,
        spki,
        &der::explicit(3, &der::tlv(0x30, &extensions.concat())),
    ]);
    let signature = key.sign_asn1(&tbs)?;
    Ok(CertificateDer::from(der::seq(&[&tbs, &signature_algorithm(), &der::bits(&signature)])))
}

/// A distinguished name of organizations and a common name.
pub(crate) fn distinguished_name(common_name: &str, organizations: &[&str]) -> Vec<u8> {
    let attribute = |arcs: &[u64], value: &str| der::set(&[&der::seq(&[&der::oid(arcs), &der::utf8(value)])]);
    let mut parts: Vec<Vec<u8>> = organizations.iter().map(|o| attribute(&[2, 5, 4, 10], o)).collect();
    if !common_name.is_empty() {
        parts.push(attribute(&[2, 5, 4, 3], common_name));
    }
    der::tlv(0x30, &parts.concat())
}

pub(crate) fn extension(id: &[u64], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { der::yes() } else { Vec::new() };
    der::seq(&[&der::oid(id), &critical, &der::octets(value)])
}

/// The keyUsage extension, if any of the usages belongs there.
fn key_usage_extension(usages: &[KeyUsage]) -> Option<Vec<u8>> {
    let mut mask = 0u16;
    for bit in usages.iter().filter_map(|u| u.bit()) {
        mask |= 0x8000 >> bit;
    }
    if mask == 0 {
        return None;
    }
    let bytes = mask.to_be_bytes();
    let used = if bytes[1] == 0 { &bytes[..1] } else { &bytes[..] };
    let unused = used.last().map_or(0, |b| b.trailing_zeros() as u8);
    Some(extension(&[2, 5, 29, 15], true, &der::bit_string(unused, used)))
}
