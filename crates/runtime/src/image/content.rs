//! Blobs by their SHA-256, verified while they are written and never seen half-made.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

/// How long a partial download waits for someone to go on with it.
const PART_LIFE: Duration = Duration::from_secs(6 * 3600);

/// The SHA-256 of some bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// Reads `sha256:` followed by 64 hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self> {
        let hex = text.strip_prefix("sha256:").unwrap_or_default();
        if hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            return Ok(Self(hex.to_owned()));
        }
        Err(Error::Invalid(format!("{text:?} is not a sha256 digest")))
    }

    /// The digest of bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_hasher(Sha256::new_with_prefix(bytes))
    }

    /// The digest of what a hasher has seen.
    pub fn from_hasher(hasher: Sha256) -> Self {
        let mut hex = String::with_capacity(64);
        for byte in hasher.finalize() {
            hex.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            hex.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        }
        Self(hex)
    }

    /// The 64 hexadecimal digits.
    pub fn hex(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

/// The folder of blobs: `sha256/<hex>`, and `ingest/` for what is being written.
#[derive(Debug)]
pub struct ContentStore {
    blobs: PathBuf,
    ingest: PathBuf,
    next: AtomicU64,
}

impl ContentStore {
    /// Opens the folder, making it where missing. Partial downloads stay for a later try; other leftovers go.
    pub fn open(root: &Path) -> Result<Self> {
        let (blobs, ingest) = (root.join("sha256"), root.join("ingest"));
        for folder in [&blobs, &ingest] {
            fs::create_dir_all(folder).map_err(Error::file(folder))?;
        }
        for entry in fs::read_dir(&ingest).map_err(Error::file(&ingest))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("new-") {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Self { blobs, ingest, next: AtomicU64::new(0) })
    }

    /// Where a blob is or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.hex())
    }

    /// The length of a blob, if it is here.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().map(|m| m.len())
    }

    /// Opens a blob.
    pub fn open_blob(&self, digest: &Digest) -> Result<File> {
        let path = self.path(digest);
        match File::open(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(Error::NotFound { what: "blob", id: digest.to_string() })
            }
            opened => opened.map_err(Error::file(path)),
        }
    }

    /// Reads a small blob whole and verifies it again, as manifests decide what is run.
    pub fn read(&self, digest: &Digest, max: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let read = self.open_blob(digest)?.take(max + 1).read_to_end(&mut bytes);
        read.map_err(Error::file(self.path(digest)))?;
        if bytes.len() as u64 > max {
            return Err(Error::Corrupt(format!("{digest} is longer than {max} bytes")));
        }
        if Digest::of(&bytes) != *digest {
            return Err(Error::Corrupt(format!("{digest} does not have that digest any more")));
        }
        Ok(bytes)
    }

    /// Starts a blob of unknown digest.
    pub fn writer(&self) -> Result<BlobWriter<'_>> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.ingest.join(format!("new-{}-{number}", std::process::id()));
        let file = File::create(&path).map_err(Error::file(&path))?;
        Ok(BlobWriter { store: self, path, file, hasher: Sha256::new(), length: 0, keep: false })
    }

    /// Goes on with the download of a blob whose digest is known; what is there already counts.
    pub fn resume(&self, digest: &Digest) -> Result<BlobWriter<'_>> {
        let path = self.ingest.join(format!("part-{}", digest.hex()));
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::file(&path))?;
        let mut hasher = Sha256::new();
        let length = io::copy(&mut file, &mut hasher).map_err(Error::file(&path))?;
        Ok(BlobWriter { store: self, path, file, hasher, length, keep: true })
    }

    /// Stores bytes.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let mut writer = self.writer()?;
        writer.write(bytes)?;
        writer.commit(None)
    }

    /// Removes every blob that `keep` does not name, and partial downloads that nobody went on with; says how many bytes that freed.
    pub fn retain(&self, keep: impl Fn(&Digest) -> bool) -> Result<u64> {
        let mut freed = 0;
        for entry in fs::read_dir(&self.blobs).map_err(Error::file(&self.blobs))?.flatten() {
            let name = entry.file_name();
            let digest = Digest::parse(&format!("sha256:{}", name.to_string_lossy()));
            if digest.is_ok_and(|digest| keep(&digest)) {
                continue;
            }
            freed += entry.metadata().map(|m| m.len()).unwrap_or(0);
            fs::remove_file(entry.path()).map_err(Error::file(entry.path()))?;
        }
        for entry in fs::read_dir(&self.ingest).map_err(Error::file(&self.ingest))?.flatten() {
            let is_part = entry.file_name().to_string_lossy().starts_with("part-");
            let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|time| time.elapsed().ok());
            if is_part && age.is_none_or(|age| age > PART_LIFE) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(freed)
    }
}

/// A blob that is being written. Dropped without [`BlobWriter::commit`], it leaves nothing (a resumable one its part).
#[derive(Debug)]
pub struct BlobWriter<'a> {
    store: &'a ContentStore,
    path: PathBuf,
    file: File,
    hasher: Sha256,
    length: u64,
    keep: bool,
}

impl BlobWriter<'_> {
    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(Error::file(&self.path))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// How many bytes there are so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Begins anew: the peer does not resume.
    pub fn restart(&mut self) -> Result<()> {
        use std::io::Seek;
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(Error::file(&self.path))?;
        self.hasher = Sha256::new();
        self.length = 0;
        Ok(())
    }

    /// Adds all that a reader gives, at most `max` bytes.
    pub fn copy_from(&mut self, reader: &mut dyn Read, max: u64) -> Result<()> {
        let mut buffer = vec![0; 128 << 10];
        loop {
            let n = reader.read(&mut buffer).map_err(|e| Error::Corrupt(format!("cannot read the blob: {e}")))?;
            if n == 0 {
                return Ok(());
            }
            if self.length + n as u64 > max {
                return Err(Error::Corrupt(format!("a blob is longer than the {max} bytes it may have")));
            }
            self.write(&buffer[..n])?;
        }
    }

    /// Makes the blob visible if it has the digest it should have.
    pub fn commit(mut self, expected: Option<&Digest>) -> Result<Digest> {
        let digest = Digest::from_hasher(std::mem::take(&mut self.hasher));
        self.keep = false;
        if let Some(expected) = expected
            && digest != *expected
        {
            return Err(Error::Corrupt(format!("a blob has digest {digest}, not {expected} as it should")));
        }
        // Large data may reach the disk late, but never after the name that vouches for it.
        self.file.sync_data().map_err(Error::file(&self.path))?;
        let path = self.store.path(&digest);
        fs::rename(&self.path, &path).map_err(Error::file(path))?;
        Ok(digest)
    }
}

impl Drop for BlobWriter<'_> {
    fn drop(&mut self) {
        if !self.keep {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Replaces a file by new bytes so that a reader or a crash of this program sees the old or the new. A power cut may
/// lose both: for what is of no use after a reboot, so that disks are not worn by it.
pub(crate) fn replace_volatile(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    fs::write(&temporary, bytes).map_err(Error::file(&temporary))?;
    fs::rename(&temporary, path).map_err(Error::file(path))
}

/// Replaces a file by new bytes so that a reader or a crash sees the old or the new, and the new is durable.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    let written = File::create(&temporary).and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_data()));
    written.map_err(Error::file(&temporary))?;
    fs::rename(&temporary, path).map_err(Error::file(path))?;
    let folder = path.parent().unwrap_or(Path::new("/"));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(Error::file(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_digest_leaves_nothing() {
        let root = tempfile::tempdir().unwrap();
        let store = ContentStore::open(root.path()).unwrap();
        let mut writer = store.writer().unwrap();
        writer.write(b"abc").unwrap();
        assert!(matches!(writer.commit(Some(&Digest::of(b"abd"))), Err(Error::Corrupt(_))));
        assert_eq!(fs::read_dir(root.path().join("ingest")).unwrap().count(), 0);
        let digest = store.put(b"abc").unwrap();
        assert_eq!(store.read(&digest, 3).unwrap(), b"abc");
        assert!(store.read(&digest, 2).is_err());
        assert_eq!(store.retain(|_| false).unwrap(), 3);
        assert!(store.open_blob(&digest).unwrap_err().is_not_found());
    }

    #[test]
    fn a_download_goes_on_where_it_stopped() {
        let root = tempfile::tempdir().unwrap();
        let store = ContentStore::open(root.path()).unwrap();
        let digest = Digest::of(b"hello world");
        store.resume(&digest).unwrap().write(b"hello ").unwrap();
        let mut writer = store.resume(&digest).unwrap();
        assert_eq!(writer.length(), 6);
        writer.write(b"world").unwrap();
        assert_eq!(writer.commit(Some(&digest)).unwrap(), digest);
    }
}
