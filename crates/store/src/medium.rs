//! What lies under the index: nothing, or a log on disk.

use std::path::Path;

use bytes::Bytes;

use crate::error::Error;
use crate::failpoint;

/// Puts and deletes that reach the log together or not at all.
#[derive(Default)]
pub(crate) struct Batch {
    pub puts: Vec<(Vec<u8>, Vec<u8>)>,
    pub deletes: Vec<Vec<u8>>,
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty() && self.deletes.is_empty()
    }

    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: Vec<u8>) {
        self.puts.push((key.into(), value));
    }

    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.deletes.push(key.into());
    }

    pub fn bytes(&self) -> usize {
        self.puts.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>()
            + self.deletes.iter().map(Vec::len).sum::<usize>()
    }
}

/// Where changes go to last.
pub(crate) enum Medium {
    /// Nowhere: for tests, and what needs a store for its own lifetime only.
    Memory,
    #[cfg(feature = "rocksdb")]
    Disk(Box<crate::disk::Disk>),
}

impl Medium {
    /// Whether values can be read back, so that memory may let them go.
    pub fn keeps_values(&self) -> bool {
        !matches!(self, Medium::Memory)
    }

    /// The value of a change, if its record is still there.
    pub fn value(&self, revision: i64, sub: u32) -> Result<Option<Bytes>, Error> {
        match self {
            Medium::Memory => {
                let _ = (revision, sub);
                Ok(None)
            }
            #[cfg(feature = "rocksdb")]
            Medium::Disk(disk) => disk.value(revision, sub),
        }
    }

    /// Hands a batch to the operating system.
    pub fn write(&self, batch: Batch) -> Result<(), Error> {
        failpoint::hit(failpoint::BEFORE_WRITE)?;
        match self {
            Medium::Memory => drop(batch),
            #[cfg(feature = "rocksdb")]
            Medium::Disk(disk) => disk.write(batch)?,
        }
        failpoint::hit(failpoint::AFTER_WRITE)
    }

    /// Makes everything written so far durable. Never tried again after an error: the kernel may have dropped the
    /// pages and would call the second try a success.
    pub fn sync(&self) -> Result<(), Error> {
        failpoint::hit(failpoint::BEFORE_SYNC)?;
        match self {
            Medium::Memory => {}
            #[cfg(feature = "rocksdb")]
            Medium::Disk(disk) => disk.sync()?,
        }
        failpoint::hit(failpoint::AFTER_SYNC)
    }

    /// An error when the disk has too little room for another write.
    pub fn check_room(&self) -> Result<(), Error> {
        match self {
            Medium::Memory => Ok(()),
            #[cfg(feature = "rocksdb")]
            Medium::Disk(disk) => disk.check_room(),
        }
    }

    pub fn disk_bytes(&self) -> u64 {
        match self {
            Medium::Memory => 0,
            #[cfg(feature = "rocksdb")]
            Medium::Disk(disk) => disk.bytes(),
        }
    }

    /// A copy by hard links.
    pub fn checkpoint(&self, folder: &Path) -> Result<(), Error> {
        match self {
            Medium::Memory => {
                let _ = folder;
                Err(Error::Unsupported("a store in memory has no files to copy"))
            }
            #[cfg(feature = "rocksdb")]
            Medium::Disk(disk) => disk.checkpoint(folder),
        }
    }
}
