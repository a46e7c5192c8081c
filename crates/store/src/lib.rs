//! Crash-safe multi-version key-value store with watch, leases and compaction: keys and bytes only.
//!
//! ```text
//! contract ── what a store promises (trait Store): etcd v3's words and rules
//! local ── the embedded store: Config, open, memory
//!   writer ── one thread: collects transactions, evaluates (txn), logs and syncs (medium), publishes, answers
//!   index ── every key's versions; hub ── watchers and the ring of recent events; lease ── who lives how long
//!   medium ── nothing (memory) or RocksDB (disk); record ── how a version lies in the log
//! checkpoints ── copies by hard links: taken, checked, pruned, made a store again
//! grpc ── the store served as etcd v3 (feature `grpc`)
//! ```
//!
//! Laws: no answer and no event leaves before the sync that covers it; readers see published state only; a revision
//! is never given twice; after a failed sync nothing more is acknowledged until the store is opened again.
//! The crate knows no object, kind or format above bytes. Start reading at `contract`, then `writer`.

mod clock;
mod contract;
mod error;
mod failpoint;
#[cfg(feature = "grpc")]
pub mod grpc;
mod hub;
mod index;
mod lease;
mod local;
mod medium;
mod record;
mod txn;
mod writer;

#[cfg(all(test, feature = "rocksdb"))]
mod checker;
#[cfg(feature = "rocksdb")]
mod checkpoints;
#[cfg(all(test, feature = "rocksdb"))]
mod crash;
#[cfg(feature = "rocksdb")]
mod disk;
#[cfg(feature = "rocksdb")]
mod wal;

#[cfg(feature = "rocksdb")]
pub use checkpoints::{Checkpoint, Checkpoints, RESTORE_GAP, check, revive};
pub use clock::{Clock, ManualClock, MonotonicClock};
pub use contract::{
    BoxFuture, Compare, CompareOp, CompareTarget, Event, EventKind, Grant, KeyRange, KeyValue, LeaseStatus, Op,
    OpResponse, Put, RangeRequest, RangeResponse, Stats, Store, Txn, TxnResponse, Verified, WatchBatch, WatchRequest,
    prefix_end,
};
pub use error::Error;
pub use hub::Watch;
pub use local::{Config, LocalStore, SyncObserver};
