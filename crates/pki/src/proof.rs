//! Fresh keys of the sorts that pods may ask for, each with a request that proves its possession.

use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair};

use crate::{Error, Result, der, pem};

/// A sort of key, by the names that `podCertificate.keyType` has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyType {
    /// ECDSA on the curve P-256, signing with SHA-256.
    EcdsaP256,
    /// ECDSA on the curve P-384, signing with SHA-384.
    EcdsaP384,
    /// Ed25519.
    Ed25519,
}

/// A key, and a request for a certificate that says nothing but that its maker has the key.
#[derive(Clone)]
pub struct Proven {
    /// The private key as PKCS#8 in PEM.
    pub key_pem: String,
    /// PKCS#10 in DER, without a name, signed by the key.
    pub request: Vec<u8>,
}

const EC_PUBLIC_KEY: &[u64] = &[1, 2, 840, 10045, 2, 1];
const ED25519: &[u64] = &[1, 3, 101, 112];

impl KeyType {
    /// Reads the API's word. `None` for words it does not have, and for sorts that cannot be made here.
    pub fn from_api(word: &str) -> Option<Self> {
        Some(match word {
            "ECDSAP256" => Self::EcdsaP256,
            "ECDSAP384" => Self::EcdsaP384,
            "ED25519" => Self::Ed25519,
            _ => return None,
        })
    }

    /// Makes a key and proves it.
    pub fn generate(self) -> Result<Proven> {
        match self {
            Self::EcdsaP256 => {
                let curve: &[u64] = &[1, 2, 840, 10045, 3, 1, 7];
                ecdsa(&signature::ECDSA_P256_SHA256_ASN1_SIGNING, curve, &[1, 2, 840, 10045, 4, 3, 2])
            }
            Self::EcdsaP384 => {
                let curve: &[u64] = &[1, 3, 132, 0, 34];
                ecdsa(&signature::ECDSA_P384_SHA384_ASN1_SIGNING, curve, &[1, 2, 840, 10045, 4, 3, 3])
            }
            Self::Ed25519 => ed25519(),
        }
    }
}

fn ecdsa(algorithm: &'static EcdsaSigningAlgorithm, curve: &[u64], signs: &[u64]) -> Result<Proven> {
    let rng = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &rng).map_err(|_| Error::Random)?;
    let key = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &rng)
        .map_err(|_| Error::Key("a key that was just made is not one"))?;
    let kind = der::seq(&[&der::oid(EC_PUBLIC_KEY), &der::oid(curve)]);
    let public = der::seq(&[&kind, &der::bits(key.public_key().as_ref())]);
    let sign = |message: &[u8]| key.sign(&rng, message).map(|s| s.as_ref().to_vec()).map_err(|_| Error::Random);
    let request = request(&public, &der::seq(&[&der::oid(signs)]), sign)?;
    Ok(Proven { key_pem: pem::encode("PRIVATE KEY", document.as_ref()), request })
}

fn ed25519() -> Result<Proven> {
    let seed = crate::random::<32>()?;
    let key =
        Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| Error::Key("a key that was just made is not one"))?;
    let kind = der::seq(&[&der::oid(ED25519)]);
    let public = der::seq(&[&kind, &der::bits(key.public_key().as_ref())]);
    let request = request(&public, &kind, |message| Ok(key.sign(message).as_ref().to_vec()))?;
    // The first version of PKCS#8, without the public key, is what every reader takes (RFC 8410).
    let document = der::seq(&[&der::uint(&[0]), &kind, &der::octets(&der::octets(&seed))]);
    Ok(Proven { key_pem: pem::encode("PRIVATE KEY", &document), request })
}

/// A request without subject and attributes.
fn request(public: &[u8], signs: &[u8], sign: impl Fn(&[u8]) -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let info = der::seq(&[&der::uint(&[0]), &der::seq(&[]), public, &der::explicit(0, &[])]);
    let signature = sign(&info)?;
    Ok(der::seq(&[&info, signs, &der::bits(&signature)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::csr::Csr;

    #[test]
    fn every_sort_proves_its_key() {
        for (word, section) in [("ECDSAP256", 138), ("ECDSAP384", 185), ("ED25519", 48)] {
            let proven = KeyType::from_api(word).unwrap().generate().unwrap();
            // Parsing checks the signature.
            let csr = Csr::from_der(&proven.request).unwrap();
            assert_eq!((csr.common_name.as_str(), csr.organizations.len()), ("", 0));
            let sections = pem::sections(proven.key_pem.as_bytes()).unwrap();
            assert_eq!(sections.len(), 1);
            assert_eq!(sections[0].1.len(), section, "{word}");
            let mut broken = proven.request.clone();
            *broken.last_mut().unwrap() ^= 1;
            assert!(Csr::from_der(&broken).is_err());
        }
        assert_eq!(KeyType::from_api("RSA3072"), None);
    }
}
