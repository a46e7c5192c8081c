//! What can go wrong, as callers must tell it apart.

/// A store's refusal or failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The revision asked for is no longer kept; `revision` is the oldest that can still be read.
    #[error("the required revision has been compacted: the oldest that is kept is {revision}")]
    Compacted { revision: i64 },
    /// The revision asked for has not been given yet.
    #[error("revision {asked} lies in the future: the newest is {current}")]
    FutureRevision { asked: i64, current: i64 },
    /// A transaction changes one key twice.
    #[error("a transaction may change a key only once")]
    DuplicateKey,
    /// The key of an operation is empty.
    #[error("a key must not be empty")]
    EmptyKey,
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    #[error("the key is not there, so nothing of it can be kept")]
    KeyNotFound,
    /// A lease that does not exist, or has expired.
    #[error("lease {0} does not exist or has expired")]
    LeaseNotFound(i64),
    /// A lease with this identity exists already.
    #[error("lease {0} exists already")]
    LeaseExists(i64),
    /// A lease's time to live is below one second or above what is allowed.
    #[error("a lease lives between 1 and {max} seconds, not {asked}")]
    LeaseTtl { asked: i64, max: i64 },
    /// A request above a limit.
    #[error("{what} of {size} is above the limit of {limit}")]
    TooLarge { what: &'static str, size: usize, limit: usize },
    /// The watcher did not read as fast as changes came.
    #[error("the watcher was cut off: it read too slowly and {limit} bytes were waiting for it")]
    SlowWatcher { limit: usize },
    /// The disk has no room; reads go on, writes go on by themselves once there is room.
    #[error("the disk is full: {free} bytes are free where {wanted} are kept in reserve; make room to write again")]
    NoSpace { free: u64, wanted: u64 },
    /// A write or a sync failed; what reached the disk is unknown until the store is opened again.
    #[error("the store accepts no writes since a write to disk failed ({0}); check the disk and restart")]
    ReadOnly(String),
    /// Another process has the folder open.
    #[error("the folder {0} is held by another process: stop it first")]
    Locked(String),
    /// The folder was written by a newer version.
    #[error("the folder has format {found}, this version reads up to {known}: run a newer version")]
    NewerFormat { found: String, known: u32 },
    /// What lies on disk contradicts itself.
    #[error("the data is damaged: {0}; restore the last good checkpoint or backup")]
    Corrupt(String),
    /// The operating system refused.
    #[error("the data folder cannot be used: {0}")]
    Io(String),
    /// This backend cannot do it.
    #[error("this store cannot do that: {0}")]
    Unsupported(&'static str),
    /// No member of the datastore answers; whether a write that was sent has happened is unknown.
    #[error("the datastore does not answer: {0}")]
    Unavailable(String),
    /// The store was shut down.
    #[error("the store is shut down")]
    Closed,
}

impl Error {
    /// Whether the answer lies before the oldest kept revision: the caller must start anew from a fresh read.
    pub fn is_compacted(&self) -> bool {
        matches!(self, Error::Compacted { .. })
    }
}
