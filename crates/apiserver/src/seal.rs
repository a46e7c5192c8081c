//! Sealing at rest: Secrets are stored encrypted under keys that live beside the store.

use std::sync::Arc;

use apimachinery::Status;
use bytes::Bytes;
use engine::Sealer;
use parking_lot::RwLock;
use pki::seal::Keyring;

/// Storage prefixes whose values are sealed.
const SEALED: [&str; 1] = ["secrets"];

/// Seals with the first key of a keyring and opens with any of them; the keyring can be replaced while running.
pub struct Seal {
    keys: RwLock<Arc<Keyring>>,
}

impl Seal {
    pub fn new(keys: Keyring) -> Seal {
        Seal { keys: RwLock::new(Arc::new(keys)) }
    }

    /// Uses other keys from now on; they must open what the old ones sealed.
    pub fn replace(&self, keys: Keyring) {
        *self.keys.write() = Arc::new(keys);
    }

    fn keys(&self) -> Arc<Keyring> {
        self.keys.read().clone()
    }
}

impl Sealer for Seal {
    fn seals(&self, prefix: &str) -> bool {
        SEALED.contains(&prefix)
    }

    fn seal(&self, key: &[u8], plain: &[u8]) -> Result<(u32, Vec<u8>), Status> {
        let keys = self.keys();
        let sealed = keys.seal(key, plain).map_err(Status::internal)?;
        Ok((keys.active(), sealed))
    }

    fn open(&self, key: &[u8], key_id: u32, sealed: &[u8]) -> Result<Bytes, Status> {
        if Keyring::key_id(sealed) != Some(key_id) {
            return Err(Status::internal("a sealed value names two keys"));
        }
        self.keys().open(key, sealed).map(Bytes::from).map_err(Status::internal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_open_only_in_their_place() {
        let mut keys = Keyring::generate().unwrap();
        let seal = Seal::new(keys.clone());
        assert!(seal.seals("secrets") && !seal.seals("configmaps"));
        let (id, sealed) = seal.seal(b"/registry/secrets/a/b", b"hidden").unwrap();
        assert!(!sealed.windows(6).any(|w| w == b"hidden"));
        assert_eq!(seal.open(b"/registry/secrets/a/b", id, &sealed).unwrap(), "hidden");
        assert!(seal.open(b"/registry/secrets/a/c", id, &sealed).is_err());
        assert!(seal.open(b"/registry/secrets/a/b", id + 1, &sealed).is_err());
        keys.add_key().unwrap();
        seal.replace(keys);
        assert_eq!(seal.open(b"/registry/secrets/a/b", id, &sealed).unwrap(), "hidden");
        assert_ne!(seal.seal(b"x", b"y").unwrap().0, id);
    }
}
