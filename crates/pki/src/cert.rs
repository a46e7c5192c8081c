//! Reading certificates: who they name, how long they hold, and whether an authority we trust vouches for them.

use crate::{Error, Result, pem};
use rustls_pki_types::pem::SectionKind;
use rustls_pki_types::{CertificateDer, UnixTime};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

/// What a certificate says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertInfo {
    /// Common name of the subject: the user name of a client.
    pub common_name: String,
    /// Organizations of the subject, in order: the groups of a client.
    pub organizations: Vec<String>,
    /// Values of the subject's user UID attribute (OID 1.3.6.1.4.1.57683.2), if any.
    pub uids: Vec<String>,
    /// Common name of the issuer.
    pub issuer: String,
    /// DNS names it serves.
    pub dns_names: Vec<String>,
    /// Addresses it serves.
    pub ips: Vec<IpAddr>,
    /// Mail addresses it names.
    pub emails: Vec<String>,
    /// URIs it names.
    pub uris: Vec<String>,
    /// Valid from, seconds since 1970.
    pub not_before: i64,
    /// Valid until, seconds since 1970.
    pub not_after: i64,
    /// May sign others.
    pub is_ca: bool,
    /// Extended key usages: client authentication.
    pub client_auth: bool,
    /// Extended key usages: server authentication.
    pub server_auth: bool,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// SHA-256 of the DER, lower-case hexadecimal; upstream shows it as the credential id `X509SHA256=…`.
    pub fingerprint: String,
}

impl CertInfo {
    /// Parses one certificate.
    pub fn from_der(der: &[u8]) -> Result<Self> {
        let (rest, x) = X509Certificate::from_der(der).map_err(|e| Error::Certificate(e.to_string()))?;
        if !rest.is_empty() {
            return Err(Error::Certificate("trailing data".into()));
        }
        let subject = names(x.subject());
        let mut info = Self {
            common_name: subject.common_name,
            organizations: subject.organizations,
            uids: subject.uids,
            issuer: names(x.issuer()).common_name,
            not_before: x.validity().not_before.timestamp(),
            not_after: x.validity().not_after.timestamp(),
            is_ca: x.is_ca(),
            serial: crate::hex(x.raw_serial()),
            fingerprint: crate::hex(&crate::sha256(der)),
            ..Self::default()
        };
        for ext in x.extensions() {
            match ext.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(san) => {
                    let s = alternative_names(&san.general_names);
                    (info.dns_names, info.ips, info.emails, info.uris) = (s.dns_names, s.ips, s.emails, s.uris);
                }
                ParsedExtension::ExtendedKeyUsage(eku) => {
                    info.client_auth |= eku.client_auth || eku.any;
                    info.server_auth |= eku.server_auth || eku.any;
                }
                _ => {}
            }
        }
        Ok(info)
    }

    /// Parses the first certificate of a PEM text.
    pub fn from_pem(text: &str) -> Result<Self> {
        Self::from_der(certs_from_pem(text)?.first().ok_or(Error::Pem("certificate"))?)
    }

    /// Time left at `now`; zero once expired.
    pub fn remaining(&self, now: SystemTime) -> Duration {
        Duration::from_secs((self.not_after.max(0) as u64).saturating_sub(crate::unix(now)))
    }
}

/// Every certificate of a PEM text, in order, as DER; an error if there is none.
pub fn certs_from_pem(text: &str) -> Result<Vec<CertificateDer<'static>>> {
    let certs: Vec<_> = pem::sections(text.as_bytes())
        .ok_or(Error::Pem("certificate"))?
        .into_iter()
        .filter(|(kind, _)| *kind == SectionKind::Certificate)
        .map(|(_, der)| CertificateDer::from(der))
        .collect();
    if certs.is_empty() { Err(Error::Pem("certificate")) } else { Ok(certs) }
}

/// One certificate as PEM.
pub fn to_pem(der: &[u8]) -> String {
    pem::encode("CERTIFICATE", der)
}

/// What a presented certificate is to be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// Its holder calls us.
    Client,
    /// We call its holder.
    Server,
}

/// Authorities that vouch for certificates.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    roots: Vec<CertificateDer<'static>>,
}

impl Chain {
    /// Trusts these authorities; each must parse.
    pub fn new(roots: Vec<CertificateDer<'static>>) -> Result<Self> {
        for root in &roots {
            webpki::anchor_from_trusted_cert(root).map_err(|e| Error::Certificate(e.to_string()))?;
        }
        Ok(Self { roots })
    }

    /// Trusts every certificate of a PEM bundle.
    pub fn from_pem(text: &str) -> Result<Self> {
        Self::new(certs_from_pem(text)?)
    }

    /// The trusted certificates.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// Checks signatures, validity and usages from the first certificate up to a trusted one, and says whom it names.
    pub fn verify(&self, presented: &[CertificateDer<'_>], usage: Usage, now: SystemTime) -> Result<CertInfo> {
        let untrusted = |e: webpki::Error| Error::Untrusted(e.to_string());
        let (leaf, intermediates) = presented.split_first().ok_or(Error::Untrusted("none was presented".into()))?;
        let anchors: Vec<_> = self.roots.iter().filter_map(|r| webpki::anchor_from_trusted_cert(r).ok()).collect();
        let entity = webpki::EndEntityCert::try_from(leaf).map_err(untrusted)?;
        let purpose = match usage {
            Usage::Client => webpki::KeyUsage::client_auth(),
            Usage::Server => webpki::KeyUsage::server_auth(),
        };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(crate::unix(now)));
        entity
            .verify_for_usage(webpki::ALL_VERIFICATION_ALGS, &anchors, intermediates, now, purpose, None, None)
            .map_err(untrusted)?;
        CertInfo::from_der(leaf)
    }
}

/// The parts of a distinguished name that Kubernetes reads.
#[derive(Default)]
pub(crate) struct Names {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub uids: Vec<String>,
}

/// Reads a distinguished name; attributes that are not text are skipped.
pub(crate) fn names(name: &x509_parser::x509::X509Name<'_>) -> Names {
    let text = |a: &x509_parser::x509::AttributeTypeAndValue<'_>| a.as_str().map(str::to_owned).ok();
    let uid = x509_parser::der_parser::oid!(1.3.6.1.4.1.57683.2);
    Names {
        // Of several the last counts, as in Go: approval and use of a certificate must never read different names.
        common_name: name.iter_common_name().filter_map(text).last().unwrap_or_default(),
        organizations: name.iter_organization().filter_map(text).collect(),
        uids: name.iter_by_oid(&uid).filter_map(text).collect(),
    }
}

/// The kinds of alternative names that Kubernetes reads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlternativeNames {
    /// DNS names.
    pub dns_names: Vec<String>,
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// Mail addresses.
    pub emails: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
}

pub(crate) fn alternative_names(list: &[GeneralName<'_>]) -> AlternativeNames {
    let mut out = AlternativeNames::default();
    for name in list {
        match name {
            GeneralName::DNSName(s) => out.dns_names.push((*s).to_owned()),
            GeneralName::RFC822Name(s) => out.emails.push((*s).to_owned()),
            GeneralName::URI(s) => out.uris.push((*s).to_owned()),
            GeneralName::IPAddress(b) => {
                if let Ok(v4) = <[u8; 4]>::try_from(*b) {
                    out.ips.push(v4.into());
                } else if let Ok(v6) = <[u8; 16]>::try_from(*b) {
                    out.ips.push(v6.into());
                }
            }
            _ => {}
        }
    }
    out
}
