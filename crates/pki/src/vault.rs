//! Encrypted files: a stream of sealed chunks that opens with a passphrase or a key, and only whole and in order.
//!
//! ```text
//! header:  "skiff vault 1\n" | kind (1) | memory KiB, passes, lanes (4 each) | salt (16) | check (16)
//! chunk:   ciphertext of 64 KiB (the last one: at most as much) | tag (16)
//! nonce:   number of the chunk (11, big-endian) | 1 in the last chunk, else 0
//! ```
//! A passphrase is stretched by Argon2id with the parameters of the header; a key is used as it is. Both give, through
//! HKDF over the whole header, a key for this file alone and the check, which tells a wrong secret from damage.
//!
//! # Why
//! Counted nonces find chunks that were moved, repeated or left out; the mark of the last one finds a file that was cut
//! at a chunk's end (the STREAM construction). Everything read is authentic: nothing is given out before its tag held.

use crate::Error;
use argon2::{Algorithm, Argon2, Params, Version};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;
use std::io::{self, Read, Write};

const MAGIC: &[u8; 14] = b"skiff vault 1\n";
const CHUNK: usize = 64 << 10;
const TAG: usize = 16;
const SALT: usize = 16;
const CHECK: usize = 16;
/// Magic, kind, three parameters, salt.
const HEADER: usize = MAGIC.len() + 1 + 12 + SALT;

/// What opens a vault.
#[derive(Clone)]
pub enum Secret {
    /// Words that a person remembers.
    Passphrase(String),
    /// 32 random bytes.
    Key([u8; 32]),
}

/// How a passphrase is stretched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// Memory to fill, in KiB.
    pub memory: u32,
    /// How often it is filled.
    pub passes: u32,
}

impl Default for Stretch {
    /// The second choice of RFC 9106, for machines that are small.
    fn default() -> Self {
        Self { memory: 64 << 10, passes: 3 }
    }
}

/// What a header may ask of the machine that reads it.
const MOST: Stretch = Stretch { memory: 1 << 20, passes: 64 };

fn damaged(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, Error::Seal(why))
}

/// A fresh key.
///
/// # Errors
/// No randomness.
pub fn new_key() -> crate::Result<[u8; 32]> {
    crate::random()
}

impl Secret {
    /// A key of 64 hexadecimal digits.
    ///
    /// # Errors
    /// For any other text.
    pub fn from_hex(text: &str) -> crate::Result<Self> {
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Error::Seal("a key is 64 hexadecimal digits"));
        }
        let mut key = [0; 32];
        for (n, byte) in key.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * n..2 * n + 2], 16)
                .map_err(|_| Error::Seal("a key is 64 hexadecimal digits"))?;
        }
        Ok(Self::Key(key))
    }

    fn kind(&self) -> u8 {
        match self {
            Self::Passphrase(_) => 1,
            Self::Key(_) => 2,
        }
    }

    /// The file's key and the check, from the header.
    fn derive(&self, header: &[u8; HEADER], stretch: Stretch) -> io::Result<(LessSafeKey, [u8; CHECK])> {
        let salt = &header[HEADER - SALT..];
        let material = match self {
            Self::Key(key) => *key,
            Self::Passphrase(words) => {
                let params = Params::new(stretch.memory, stretch.passes, 1, Some(32));
                let params = params.map_err(|_| damaged("its parameters are not usable"))?;
                let mut out = [0; 32];
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                    .hash_password_into(words.as_bytes(), salt, &mut out)
                    .map_err(|_| damaged("its parameters are not usable"))?;
                out
            }
        };
        let pseudo_random = hkdf::Salt::new(hkdf::HKDF_SHA256, header).extract(&material);
        let expand = |what: &[u8]| -> io::Result<[u8; 32]> {
            let mut out = [0; 32];
            let info = [what];
            let filled = pseudo_random.expand(&info, hkdf::HKDF_SHA256).and_then(|okm| okm.fill(&mut out));
            filled.map_err(|_| damaged("no key can be derived"))?;
            Ok(out)
        };
        let key = UnboundKey::new(&AES_256_GCM, &expand(b"chunks")?).map_err(|_| damaged("no such cipher"))?;
        let mut check = [0; CHECK];
        check.copy_from_slice(&expand(b"check")?[..CHECK]);
        Ok((LessSafeKey::new(key), check))
    }
}

fn nonce(number: u64, last: bool) -> Nonce {
    let mut bytes = [0; 12];
    bytes[3..11].copy_from_slice(&number.to_be_bytes());
    bytes[11] = u8::from(last);
    Nonce::assume_unique_for_key(bytes)
}

/// Seals what is written. Without [`Writer::finish`] the file cannot be opened.
pub struct Writer<W> {
    inner: W,
    key: LessSafeKey,
    number: u64,
    chunk: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Writes the header.
    ///
    /// # Errors
    /// Those of `inner`; no randomness.
    pub fn new(mut inner: W, secret: &Secret, stretch: Stretch) -> io::Result<Self> {
        let mut header = [0; HEADER];
        header[..MAGIC.len()].copy_from_slice(MAGIC);
        header[MAGIC.len()] = secret.kind();
        if matches!(secret, Secret::Passphrase(_)) {
            for (n, number) in [stretch.memory, stretch.passes, 1].into_iter().enumerate() {
                let at = MAGIC.len() + 1 + 4 * n;
                header[at..at + 4].copy_from_slice(&number.to_be_bytes());
            }
        }
        header[HEADER - SALT..].copy_from_slice(&crate::random::<SALT>().map_err(io::Error::other)?);
        let (key, check) = secret.derive(&header, stretch)?;
        inner.write_all(&header)?;
        inner.write_all(&check)?;
        Ok(Self { inner, key, number: 0, chunk: Vec::with_capacity(CHUNK + TAG) })
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        self.key
            .seal_in_place_append_tag(nonce(self.number, last), Aad::empty(), &mut self.chunk)
            .map_err(|_| damaged("a chunk is too long"))?;
        self.number += 1;
        self.inner.write_all(&self.chunk)?;
        self.chunk.clear();
        Ok(())
    }

    /// Writes the last chunk and gives back what was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        self.inner.flush()?;
        Ok(self.inner)
    }
}

impl<W: Write> Write for Writer<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A full chunk waits for what follows: only then it is known not to be the last.
        if self.chunk.len() == CHUNK && !bytes.is_empty() {
            self.seal(false)?;
        }
        let taken = bytes.len().min(CHUNK - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Opens what a [`Writer`] sealed.
pub struct Reader<R> {
    inner: R,
    key: LessSafeKey,
    number: u64,
    /// Opened, and how much of it was given out.
    plain: Vec<u8>,
    given: usize,
    /// The next chunk as it lies in the file.
    sealed: Vec<u8>,
    ended: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// `InvalidData` when it is no vault, the secret is wrong, or the header is damaged.
    pub fn open(mut inner: R, secret: &Secret) -> io::Result<Self> {
        let mut header = [0; HEADER];
        let mut check = [0; CHECK];
        let read = inner.read_exact(&mut header).and_then(|()| inner.read_exact(&mut check));
        match read {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(damaged("the file is too short"));
            }
            other => other?,
        }
        if header[..MAGIC.len()] != MAGIC[..] {
            return Err(damaged("it is not an encrypted file of this kind, or of a newer version"));
        }
        match (header[MAGIC.len()], secret.kind()) {
            (found, asked) if found == asked => {}
            (1, _) => return Err(damaged("it was sealed with a passphrase, not with a key")),
            (2, _) => return Err(damaged("it was sealed with a key, not with a passphrase")),
            _ => return Err(damaged("its header is damaged")),
        }
        let number = |n: usize| {
            let at = MAGIC.len() + 1 + 4 * n;
            header[at..at + 4].iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
        };
        let stretch = Stretch { memory: number(0), passes: number(1) };
        if stretch.memory > MOST.memory || stretch.passes > MOST.passes {
            return Err(damaged("its header asks for too much memory or time, so it is damaged"));
        }
        let (key, wanted) = secret.derive(&header, stretch)?;
        if !crate::constant_time_eq(&check, &wanted) {
            return Err(damaged("the passphrase or key is wrong, or the header is damaged"));
        }
        let mut reader = Self { inner, key, number: 0, plain: Vec::new(), given: 0, sealed: Vec::new(), ended: false };
        reader.sealed = reader.fetch()?;
        Ok(reader)
    }

    /// The next chunk of the file, shorter only at its end.
    fn fetch(&mut self) -> io::Result<Vec<u8>> {
        let mut chunk = Vec::with_capacity(CHUNK + TAG);
        (&mut self.inner).take((CHUNK + TAG) as u64).read_to_end(&mut chunk)?;
        Ok(chunk)
    }

    fn advance(&mut self) -> io::Result<()> {
        let next = if self.sealed.len() == CHUNK + TAG { self.fetch()? } else { Vec::new() };
        let last = next.is_empty();
        let opened =
            self.key.open_in_place(nonce(self.number, last), Aad::empty(), &mut self.sealed).map(|plain| plain.len());
        let length = opened.map_err(|_| damaged("it was cut off or damaged"))?;
        self.sealed.truncate(length);
        self.plain = std::mem::replace(&mut self.sealed, next);
        self.given = 0;
        self.number += 1;
        self.ended = last;
        Ok(())
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.given == self.plain.len() {
            if self.ended {
                return Ok(0);
            }
            self.advance()?;
        }
        let taken = out.len().min(self.plain.len() - self.given);
        out[..taken].copy_from_slice(&self.plain[self.given..self.given + taken]);
        self.given += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Weak, so that tests are quick.
    const WEAK: Stretch = Stretch { memory: 64, passes: 1 };

    fn seal(plain: &[u8], secret: &Secret) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), secret, WEAK).unwrap();
        writer.write_all(plain).unwrap();
        writer.finish().unwrap()
    }

    fn open(sealed: &[u8], secret: &Secret) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        Reader::open(sealed, secret)?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    #[test]
    fn files_come_back_whole() {
        let secrets = [Secret::Passphrase("correct horse".into()), Secret::Key([7; 32])];
        for secret in &secrets {
            for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 17] {
                let plain: Vec<u8> = (0..length).map(|n| (n * 7 % 251) as u8).collect();
                assert_eq!(open(&seal(&plain, secret), secret).unwrap(), plain, "{length} bytes");
            }
        }
        let sealed = seal(b"x", &secrets[0]);
        assert_ne!(sealed, seal(b"x", &secrets[0]), "each file has a key of its own");
        for wrong in [Secret::Passphrase("correct horsf".into()), Secret::Key([7; 32])] {
            assert!(open(&sealed, &wrong).is_err());
        }
    }

    #[test]
    fn damage_is_found_wherever_it_is() {
        let secret = Secret::Key([7; 32]);
        let plain: Vec<u8> = (0..3 * CHUNK + 100).map(|n| (n % 253) as u8).collect();
        let sealed = seal(&plain, &secret);
        for at in (0..HEADER + CHECK + 40).chain((HEADER..sealed.len()).step_by(4099)) {
            let mut bad = sealed.clone();
            bad[at] ^= 1;
            assert!(open(&bad, &secret).is_err(), "a flipped bit in byte {at}");
        }
        let start = HEADER + CHECK;
        let ends = (0..4).map(|n| start + n * (CHUNK + TAG)).chain([0, 10, start + 5, sealed.len() - 1]);
        for end in ends {
            assert!(open(&sealed[..end], &secret).is_err(), "cut at {end}");
        }
        let chunk = |n: usize| &sealed[start + n * (CHUNK + TAG)..(start + (n + 1) * (CHUNK + TAG)).min(sealed.len())];
        for order in [&[1, 0, 2, 3][..], &[0, 2, 3], &[0, 1, 1, 2, 3], &[0, 1, 3], &[3]] {
            let moved = order.iter().fold(sealed[..start].to_vec(), |all, n| [&all, chunk(*n)].concat());
            assert!(open(&moved, &secret).is_err(), "chunks {order:?}");
        }
        let longer = [&sealed[..], b"x"].concat();
        assert!(open(&longer, &secret).is_err());
    }
}
