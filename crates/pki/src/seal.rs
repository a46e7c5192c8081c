//! Sealing of Secrets at rest: AES-256-GCM under keys that live beside the store, named by small ids.
//!
//! ```text
//! sealed value:  key id (4, big-endian) | salt (16) | nonce (12) | ciphertext | tag (16)
//! key file:      one key a line, "<id> <base64 of 32 bytes>"; the first line seals, all of them open
//! ```
//! # Why a salt
//! A random 12-byte nonce alone must not be used more than 2^32 times with one key. Each value is sealed under a key
//! of its own, derived from the salt, so that the limit is out of reach and keys need rotation by policy only.

use crate::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as B64;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hmac;
use std::fmt;

const HEADER: usize = 4 + 16 + 12;
const TAG: usize = 16;

/// The keys that seal and open, the sealing one first.
#[derive(Clone)]
pub struct Keyring {
    keys: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    id: u32,
    bytes: [u8; 32],
    mac: hmac::Key,
}

impl Key {
    fn new(id: u32, bytes: [u8; 32]) -> Self {
        Self { id, bytes, mac: hmac::Key::new(hmac::HMAC_SHA256, &bytes) }
    }

    /// The key for one value.
    fn derive(&self, salt: &[u8]) -> Result<LessSafeKey> {
        let mut context = hmac::Context::with_key(&self.mac);
        context.update(b"skiff secret v1");
        context.update(salt);
        let key = UnboundKey::new(&AES_256_GCM, context.sign().as_ref()).map_err(|_| Error::Seal("no such cipher"))?;
        Ok(LessSafeKey::new(key))
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

impl Keyring {
    /// One fresh key, id 1.
    pub fn generate() -> Result<Self> {
        Ok(Self { keys: vec![Key::new(1, crate::random()?)] })
    }

    /// Reads a key file.
    pub fn parse(text: &str) -> Result<Self> {
        let mut keys: Vec<Key> = Vec::new();
        for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#')) {
            let (id, key) = line.split_once(' ').ok_or(Error::Seal("a line of the key file is damaged"))?;
            let id: u32 = id.parse().map_err(|_| Error::Seal("a key id of the key file is not a number"))?;
            let bytes = B64.decode(key.trim()).ok().and_then(|k| <[u8; 32]>::try_from(k).ok());
            let bytes = bytes.ok_or(Error::Seal("a key of the key file does not have 32 bytes"))?;
            if keys.iter().any(|k| k.id == id) {
                return Err(Error::Seal("a key id appears twice in the key file"));
            }
            keys.push(Key::new(id, bytes));
        }
        if keys.is_empty() { Err(Error::Seal("the key file holds no key")) } else { Ok(Self { keys }) }
    }

    /// The text of the key file.
    pub fn to_text(&self) -> String {
        self.keys.iter().map(|k| format!("{} {}\n", k.id, B64.encode(k.bytes))).collect()
    }

    /// Ids of all keys, the sealing one first.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.keys.iter().map(|k| k.id)
    }

    /// The id of the key that seals.
    pub fn active(&self) -> u32 {
        self.keys[0].id
    }

    /// Puts a fresh key in front.
    pub fn add_key(&mut self) -> Result<u32> {
        let id = self.ids().max().unwrap_or(0).checked_add(1).ok_or(Error::Seal("no key id is left"))?;
        self.keys.insert(0, Key::new(id, crate::random()?));
        Ok(id)
    }

    /// Forgets every key but the sealing one; what the others sealed is lost unless it was sealed again.
    pub fn drop_old(&mut self) {
        self.keys.truncate(1);
    }

    /// Seals a value; `place` is where it lies, such as its store key, and must be given again to open it.
    pub fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>> {
        let (salt, nonce) = (crate::random::<16>()?, crate::random::<12>()?);
        let key = &self.keys[0];
        let mut out = Vec::with_capacity(HEADER + plain.len() + TAG);
        out.extend_from_slice(&key.id.to_be_bytes());
        out.extend_from_slice(&salt);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(plain);
        let tag = key
            .derive(&salt)?
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut out[HEADER..])
            .map_err(|_| Error::Seal("value too long"))?;
        out.extend_from_slice(tag.as_ref());
        Ok(out)
    }

    /// Opens a value sealed for the same place.
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>> {
        let id = Self::key_id(sealed).ok_or(Error::Seal("it is too short"))?;
        let key = self.keys.iter().find(|k| k.id == id).ok_or(Error::Seal("its key is not in the key file"))?;
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&sealed[20..HEADER]);
        let mut body = sealed[HEADER..].to_vec();
        let opened = key.derive(&sealed[4..20])?;
        let opened = opened.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut body);
        let length = opened.map_err(|_| Error::Seal("it was damaged or moved"))?.len();
        body.truncate(length);
        Ok(body)
    }

    /// The id of the key that sealed a value, to find those that an old key sealed.
    pub fn key_id(sealed: &[u8]) -> Option<u32> {
        let id = sealed.first_chunk::<4>().filter(|_| sealed.len() >= HEADER + TAG)?;
        Some(u32::from_be_bytes(*id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_open_only_whole_and_in_their_place() {
        let ring = Keyring::generate().unwrap();
        for plain in [&b""[..], b"x", &[7; 5000]] {
            let sealed = ring.seal(b"/registry/secrets/a", plain).unwrap();
            assert_eq!(ring.open(b"/registry/secrets/a", &sealed).unwrap(), plain);
            assert!(ring.open(b"/registry/secrets/b", &sealed).is_err());
            for i in (0..sealed.len()).step_by(1 + sealed.len() / 97) {
                let mut bad = sealed.clone();
                bad[i] ^= 1;
                assert!(ring.open(b"/registry/secrets/a", &bad).is_err(), "byte {i}");
                assert!(ring.open(b"/registry/secrets/a", &sealed[..i]).is_err(), "cut at {i}");
            }
            assert_ne!(sealed, ring.seal(b"/registry/secrets/a", plain).unwrap());
        }
    }

    #[test]
    fn old_keys_open_until_they_are_dropped() {
        let mut ring = Keyring::generate().unwrap();
        let old = ring.seal(b"p", b"v").unwrap();
        assert_eq!(ring.add_key().unwrap(), 2);
        let mut ring = Keyring::parse(&ring.to_text()).unwrap();
        let new = ring.seal(b"p", b"v").unwrap();
        assert_eq!((Keyring::key_id(&old), Keyring::key_id(&new), ring.active()), (Some(1), Some(2), 2));
        assert_eq!(ring.open(b"p", &old).unwrap(), b"v");
        ring.drop_old();
        assert!(ring.open(b"p", &old).is_err());
        assert_eq!(ring.open(b"p", &new).unwrap(), b"v");
        assert_eq!(format!("{ring:?}"), "[2]");
    }

    #[test]
    fn damaged_key_files_are_refused() {
        let line = format!("1 {}", B64.encode([1; 32]));
        for text in ["", "1", "x AAAA", "1 AAAA", &format!("{line}\n{line}")] {
            assert!(Keyring::parse(text).is_err(), "{text}");
        }
    }
}
