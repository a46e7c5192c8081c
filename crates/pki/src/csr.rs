//! PKCS#10 requests: made by a joining node, read and checked by whoever signs.

use crate::cert::{self, AlternativeNames};
use crate::issue::{Leaf, distinguished_name, extension};
use crate::key::{PrivateKey, signature_algorithm};
use crate::{Error, Result, der, pem};
use rustls_pki_types::pem::SectionKind;
use std::net::IpAddr;
use x509_parser::prelude::{FromDer, ParsedExtension, X509CertificationRequest};

/// Longest request that is parsed.
const MAX_REQUEST: usize = 64 * 1024;

/// A request whose signature by its own key has been checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Csr {
    /// Common name it asks for.
    pub common_name: String,
    /// Organizations it asks for.
    pub organizations: Vec<String>,
    /// Alternative names it asks for.
    pub names: AlternativeNames,
    subject: Vec<u8>,
    public_key: Vec<u8>,
    alternative_names: Option<Vec<u8>>,
}

impl Csr {
    /// Parses a PEM request and checks its signature.
    pub fn from_pem(text: &[u8]) -> Result<Self> {
        let mut sections = pem::sections(text).ok_or(Error::Pem("certificate request"))?;
        if sections.len() != 1 || sections[0].0 != SectionKind::Csr {
            return Err(Error::Pem("certificate request"));
        }
        Self::from_der(&sections.remove(0).1)
    }

    /// Parses a DER request and checks its signature.
    pub fn from_der(der: &[u8]) -> Result<Self> {
        if der.len() > MAX_REQUEST {
            return Err(Error::Request("it is longer than 64 KiB".into()));
        }
        let (rest, csr) = X509CertificationRequest::from_der(der).map_err(|e| Error::Request(e.to_string()))?;
        if !rest.is_empty() {
            return Err(Error::Request("trailing data".into()));
        }
        csr.verify_signature().map_err(|e| Error::Request(e.to_string()))?;
        let info = &csr.certification_request_info;
        let subject = cert::names(&info.subject);
        let mut names = AlternativeNames::default();
        for ext in csr.requested_extensions().into_iter().flatten() {
            if let ParsedExtension::SubjectAlternativeName(san) = ext {
                names = cert::alternative_names(&san.general_names);
            }
        }
        // Only kinds we understand are carried over: a signer must never vouch for a name it did not see.
        let alternative_names = (names != AlternativeNames::default()).then(|| encode_names(&names));
        Ok(Self {
            common_name: subject.common_name,
            organizations: subject.organizations,
            names,
            subject: info.subject.as_raw().to_vec(),
            public_key: info.subject_pki.raw.to_vec(),
            alternative_names,
        })
    }

    /// Makes a PEM request for what the leaf says, signed by `key`.
    pub fn create(leaf: &Leaf, key: &PrivateKey) -> Result<String> {
        let orgs: Vec<&str> = leaf.organizations.iter().map(String::as_str).collect();
        let names = AlternativeNames { dns_names: leaf.dns_names.clone(), ips: leaf.ips.clone(), ..Default::default() };
        let attributes = if names == AlternativeNames::default() {
            Vec::new()
        } else {
            let extensions = der::seq(&[&extension(&[2, 5, 29, 17], false, &encode_names(&names))]);
            der::seq(&[&der::oid(&[1, 2, 840, 113549, 1, 9, 14]), &der::set(&[&extensions])])
        };
        let info = der::seq(&[
            &der::uint(&[0]),
            &distinguished_name(&leaf.common_name, &orgs),
            &key.public().spki(),
            &der::explicit(0, &attributes),
        ]);
        let signature = key.sign_asn1(&info)?;
        let der = der::seq(&[&info, &signature_algorithm(), &der::bits(&signature)]);
        Ok(pem::encode("CERTIFICATE REQUEST", &der))
    }

    pub(crate) fn raw_subject(&self) -> &[u8] {
        &self.subject
    }

    pub(crate) fn raw_public_key(&self) -> &[u8] {
        &self.public_key
    }

    pub(crate) fn raw_alternative_names(&self) -> Option<&[u8]> {
        self.alternative_names.as_deref()
    }
}

/// A SubjectAltName value.
fn encode_names(names: &AlternativeNames) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(names.dns_names.iter().flat_map(|n| der::implicit(2, n.as_bytes())));
    out.extend(names.emails.iter().flat_map(|n| der::implicit(1, n.as_bytes())));
    out.extend(names.ips.iter().flat_map(|ip| match ip {
        IpAddr::V4(a) => der::implicit(7, &a.octets()),
        IpAddr::V6(a) => der::implicit(7, &a.octets()),
    }));
    out.extend(names.uris.iter().flat_map(|n| der::implicit(6, n.as_bytes())));
    der::tlv(0x30, &out)
}
