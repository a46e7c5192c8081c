//! ECDSA P-256 key pairs, as ring keeps them, and the public keys that verify their signatures.

use crate::{Error, Result, der, pem};
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, KeyPair};
use rustls_pki_types::pem::SectionKind;
use std::fmt;

/// A private key; its text never reaches a log.
pub struct PrivateKey {
    pkcs8: Vec<u8>,
    asn1: EcdsaKeyPair,
    fixed: EcdsaKeyPair,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({})", self.public().id())
    }
}

impl Clone for PrivateKey {
    fn clone(&self) -> Self {
        Self::from_pkcs8(&self.pkcs8).expect("the same bytes were accepted before")
    }
}

impl PrivateKey {
    /// A fresh key.
    pub fn generate() -> Result<Self> {
        let doc = EcdsaKeyPair::generate_pkcs8(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, &SystemRandom::new())
            .map_err(|_| Error::Random)?;
        Self::from_pkcs8(doc.as_ref())
    }

    /// Reads a PKCS#8 document.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self> {
        let rng = SystemRandom::new();
        let load = |alg| {
            EcdsaKeyPair::from_pkcs8(alg, der, &rng).map_err(|_| Error::Key("only ECDSA P-256 keys in PKCS#8 are read"))
        };
        Ok(Self {
            pkcs8: der.to_vec(),
            asn1: load(&signature::ECDSA_P256_SHA256_ASN1_SIGNING)?,
            fixed: load(&signature::ECDSA_P256_SHA256_FIXED_SIGNING)?,
        })
    }

    /// Reads the first private key of a PEM text.
    pub fn from_pem(text: &str) -> Result<Self> {
        let sections = pem::sections(text.as_bytes()).ok_or(Error::Pem("private key"))?;
        let (kind, der) = sections
            .into_iter()
            .find(|(k, _)| {
                matches!(k, SectionKind::PrivateKey | SectionKind::EcPrivateKey | SectionKind::RsaPrivateKey)
            })
            .ok_or(Error::Pem("private key"))?;
        match kind {
            SectionKind::PrivateKey => Self::from_pkcs8(&der),
            _ => Err(Error::Key("only ECDSA P-256 keys in PKCS#8 are read")),
        }
    }

    /// PKCS#8 DER.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// PKCS#8 PEM.
    pub fn to_pem(&self) -> String {
        pem::encode("PRIVATE KEY", &self.pkcs8)
    }

    /// The half that may be shown.
    pub fn public(&self) -> PublicKey {
        let mut point = [0; 65];
        point.copy_from_slice(self.asn1.public_key().as_ref());
        PublicKey { point }
    }

    /// Signature in ASN.1 form, as X.509 carries it.
    pub fn sign_asn1(&self, message: &[u8]) -> Result<Vec<u8>> {
        Ok(self.asn1.sign(&SystemRandom::new(), message).map_err(|_| Error::Random)?.as_ref().to_vec())
    }

    /// Signature as r and s side by side, as JOSE carries it.
    pub fn sign_fixed(&self, message: &[u8]) -> Result<Vec<u8>> {
        Ok(self.fixed.sign(&SystemRandom::new(), message).map_err(|_| Error::Random)?.as_ref().to_vec())
    }
}

/// A P-256 public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// Uncompressed point: 4, x, y.
    point: [u8; 65],
}

/// `AlgorithmIdentifier` and bit string header that precede the point in a P-256 SubjectPublicKeyInfo.
const SPKI_PREFIX: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce,
    0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

impl PublicKey {
    /// Reads a SubjectPublicKeyInfo.
    pub fn from_spki(der: &[u8]) -> Result<Self> {
        let point = der.strip_prefix(&SPKI_PREFIX[..]).ok_or(Error::Key("not an ECDSA P-256 public key"))?;
        let point: [u8; 65] = point.try_into().map_err(|_| Error::Key("not an ECDSA P-256 public key"))?;
        if point[0] != 4 {
            return Err(Error::Key("public key point must be uncompressed"));
        }
        Ok(Self { point })
    }

    /// SubjectPublicKeyInfo DER.
    pub fn spki(&self) -> Vec<u8> {
        [&SPKI_PREFIX[..], &self.point].concat()
    }

    /// SubjectPublicKeyInfo PEM.
    pub fn to_pem(&self) -> String {
        pem::encode("PUBLIC KEY", &self.spki())
    }

    /// All public keys of a PEM text; private keys count by their public half.
    pub fn all_from_pem(text: &str) -> Result<Vec<Self>> {
        pem::sections(text.as_bytes())
            .ok_or(Error::Pem("public key"))?
            .into_iter()
            .filter_map(|(kind, der)| match kind {
                SectionKind::PublicKey => Some(Self::from_spki(&der)),
                SectionKind::PrivateKey => Some(PrivateKey::from_pkcs8(&der).map(|k| k.public())),
                _ => None,
            })
            .collect()
    }

    /// The uncompressed point without its leading 4: x and y, 32 bytes each.
    pub fn coordinates(&self) -> (&[u8], &[u8]) {
        (&self.point[1..33], &self.point[33..])
    }

    /// Key id as upstream computes it for tokens: unpadded base64url of the SHA-256 of the SubjectPublicKeyInfo.
    pub fn id(&self) -> String {
        use base64::Engine;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(crate::sha256(&self.spki()))
    }

    /// Checks a signature made by [`PrivateKey::sign_fixed`].
    pub fn verify_fixed(&self, message: &[u8], sig: &[u8]) -> bool {
        signature::UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, &self.point).verify(message, sig).is_ok()
    }

    /// Subject key identifier: the first 20 bytes of the SHA-256 of the SubjectPublicKeyInfo.
    pub(crate) fn subject_key_id(spki: &[u8]) -> Vec<u8> {
        crate::sha256(spki)[..20].to_vec()
    }
}

/// `AlgorithmIdentifier` of ecdsa-with-SHA256.
pub(crate) fn signature_algorithm() -> Vec<u8> {
    der::seq(&[&der::oid(&[1, 2, 840, 10045, 4, 3, 2])])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_pem_and_verify_only_their_own_signatures() {
        let key = PrivateKey::generate().unwrap();
        let again = PrivateKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(key.public(), again.public());
        assert_eq!(PublicKey::all_from_pem(&key.public().to_pem()).unwrap(), [key.public()]);
        let sig = again.sign_fixed(b"m").unwrap();
        assert_eq!(sig.len(), 64);
        assert!(key.public().verify_fixed(b"m", &sig));
        assert!(!key.public().verify_fixed(b"n", &sig));
        assert!(!PrivateKey::generate().unwrap().public().verify_fixed(b"m", &sig));
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }

    #[test]
    fn foreign_keys_are_refused_with_a_reason() {
        for text in
            ["", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "-----BEGIN PRIVATE KEY-----\n!"]
        {
            assert!(PrivateKey::from_pem(text).is_err(), "{text:?}");
        }
        assert!(PublicKey::from_spki(&[0x30; 91]).is_err());
    }
}
