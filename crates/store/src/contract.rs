//! The contract: what every store promises, in etcd v3's words and with its rules.
//!
//! Every change has a revision, greater than all before it; a transaction's changes share one. A key remembers the
//! revision that made it, the one that last changed it, and how often it was changed since it was made.

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::error::Error;
use crate::hub::Watch;

/// A boxed future, since the trait is used as an object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A store. Reads are linearizable: they see every write that was acknowledged before they began.
pub trait Store: Send + Sync + 'static {
    /// The keys of a range in byte order, now or at a revision that is still kept.
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse, Error>>;

    /// Compares, then does one of two lists of operations, all or nothing, at one revision.
    /// The answer comes when the changes are durable (or, for volatile prefixes, published).
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse, Error>>;

    /// Follows the changes of a range, without gap or repetition, from a revision that is still kept.
    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch, Error>>;

    /// The newest revision, linearizable: at least that of every write acknowledged before the call.
    fn read_revision(&self) -> BoxFuture<'_, Result<i64, Error>>;

    /// Forgets what was overwritten or deleted at or before a revision; reads before it are `Compacted` from now on.
    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<(), Error>>;

    /// Grants a lease; keys put with it are deleted when it ends. Answers with its identity.
    fn grant(&self, grant: Grant) -> BoxFuture<'_, Result<i64, Error>>;

    /// Starts a lease's time anew; answers with its time to live.
    fn keep_alive(&self, lease: i64) -> BoxFuture<'_, Result<Duration, Error>>;

    /// Ends a lease and deletes its keys at one revision.
    fn revoke(&self, lease: i64) -> BoxFuture<'_, Result<i64, Error>>;

    /// What is left of a lease, and its keys.
    fn lease(&self, lease: i64) -> BoxFuture<'_, Result<LeaseStatus, Error>>;

    /// All leases.
    fn leases(&self) -> BoxFuture<'_, Result<Vec<i64>, Error>>;

    /// Checks that what is in memory and what is on disk agree; reads everything.
    fn verify(&self) -> BoxFuture<'_, Result<Verified, Error>>;

    /// Writes a consistent copy that can be opened as a store into a folder that must not exist yet, by hard links.
    fn checkpoint(&self, folder: PathBuf) -> BoxFuture<'_, Result<(), Error>>;

    /// Figures for people and metrics.
    fn stats(&self) -> BoxFuture<'_, Result<Stats, Error>>;

    /// One key, now.
    fn get<'a>(&'a self, key: &'a [u8]) -> BoxFuture<'a, Result<Option<KeyValue>, Error>> {
        Box::pin(async move {
            let response = self.range(RangeRequest::key(Bytes::copy_from_slice(key))).await?;
            Ok(response.kvs.into_iter().next())
        })
    }

    /// Puts one key unconditionally; answers with the revision.
    fn put(&self, key: Bytes, value: Bytes) -> BoxFuture<'_, Result<i64, Error>> {
        Box::pin(async move { Ok(self.txn(Txn::new().then(Op::put(key, value))).await?.revision) })
    }

    /// Deletes one key if it is there; answers with the newest revision.
    fn delete(&self, key: Bytes) -> BoxFuture<'_, Result<i64, Error>> {
        Box::pin(async move { Ok(self.txn(Txn::new().then(Op::delete(key))).await?.revision) })
    }
}

/// A key with its value and its history's three numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    /// Empty when only keys were asked for.
    pub value: Bytes,
    pub create_revision: i64,
    pub mod_revision: i64,
    /// 1 when made, one more with each change; 0 in the event of a deletion.
    pub version: i64,
    /// The lease that the key lives by; 0 for none.
    pub lease: i64,
}

/// Which keys: one, `[start, end)`, or from `start` on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    pub start: Bytes,
    /// Empty: `start` alone. A single zero byte: every key from `start` on. Else the first key outside.
    pub end: Bytes,
}

/// What `end` says for "every key from here on".
const OPEN_END: &[u8] = &[0];

impl KeyRange {
    pub fn key(key: Bytes) -> KeyRange {
        KeyRange { start: key, end: Bytes::new() }
    }

    pub fn between(start: Bytes, end: Bytes) -> KeyRange {
        KeyRange { start, end }
    }

    pub fn prefix(prefix: Bytes) -> KeyRange {
        let end = prefix_end(&prefix);
        KeyRange { start: prefix, end }
    }

    /// Every key there is.
    pub fn all() -> KeyRange {
        KeyRange { start: Bytes::from_static(OPEN_END), end: Bytes::from_static(OPEN_END) }
    }

    pub fn is_single(&self) -> bool {
        self.end.is_empty()
    }

    pub(crate) fn is_open(&self) -> bool {
        &self.end[..] == OPEN_END
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        if self.is_single() {
            return key == &self.start[..];
        }
        key >= &self.start[..] && (self.is_open() || key < &self.end[..])
    }

    /// Whether a key with this prefix could lie in the range.
    pub(crate) fn touches_prefix(&self, prefix: &[u8]) -> bool {
        if self.start.starts_with(prefix) {
            return true;
        }
        // Else the range must begin before the prefix and reach into it.
        !self.is_single() && &self.start[..] <= prefix && (self.is_open() || &self.end[..] > prefix)
    }
}

/// The first key after all keys with a prefix.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return Bytes::from(end);
        }
    }
    Bytes::from_static(OPEN_END)
}

/// A read of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeRequest {
    pub range: KeyRange,
    /// At which revision; 0 for now.
    pub revision: i64,
    /// At most so many keys; 0 for all.
    pub limit: usize,
    pub keys_only: bool,
    pub count_only: bool,
}

impl RangeRequest {
    pub fn over(range: KeyRange) -> RangeRequest {
        RangeRequest { range, revision: 0, limit: 0, keys_only: false, count_only: false }
    }

    pub fn key(key: Bytes) -> RangeRequest {
        RangeRequest::over(KeyRange::key(key))
    }

    /// `[start, end)`; see [`prefix_end`].
    pub fn between(start: Bytes, end: Bytes) -> RangeRequest {
        RangeRequest::over(KeyRange::between(start, end))
    }

    pub fn prefix(prefix: Bytes) -> RangeRequest {
        RangeRequest::over(KeyRange::prefix(prefix))
    }

    /// At a revision; 0 for now.
    pub fn at(mut self, revision: i64) -> RangeRequest {
        self.revision = revision;
        self
    }

    pub fn limit(mut self, limit: usize) -> RangeRequest {
        self.limit = limit;
        self
    }

    pub fn keys_only(mut self) -> RangeRequest {
        self.keys_only = true;
        self
    }

    pub fn count_only(mut self) -> RangeRequest {
        self.count_only = true;
        self
    }
}

/// The answer to a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeResponse {
    /// The newest revision when the range was read, also for a read of an older one.
    pub revision: i64,
    pub kvs: Vec<KeyValue>,
    /// How many keys the range holds, whatever the limit.
    pub count: usize,
    /// Whether the limit cut keys off.
    pub more: bool,
}

/// What a compare looks at, and with what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    ModRevision(i64),
    CreateRevision(i64),
    Version(i64),
    Value(Bytes),
    Lease(i64),
}

/// How the key's side must stand to the given side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOp {
    Equal,
    NotEqual,
    Greater,
    Less,
}

/// A condition of a transaction. A missing key has all numbers 0 and no value, to which no value compares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    /// Every key of the range must satisfy it.
    pub range: KeyRange,
    pub op: CompareOp,
    pub target: CompareTarget,
}

impl Compare {
    fn equal(key: Bytes, target: CompareTarget) -> Compare {
        Compare { range: KeyRange::key(key), op: CompareOp::Equal, target }
    }

    /// The key is not there.
    pub fn absent(key: Bytes) -> Compare {
        Compare::mod_revision(key, 0)
    }

    /// The key was last changed at this revision; 0 for a key that is not there.
    pub fn mod_revision(key: Bytes, revision: i64) -> Compare {
        Compare::equal(key, CompareTarget::ModRevision(revision))
    }

    pub fn create_revision(key: Bytes, revision: i64) -> Compare {
        Compare::equal(key, CompareTarget::CreateRevision(revision))
    }

    pub fn version(key: Bytes, version: i64) -> Compare {
        Compare::equal(key, CompareTarget::Version(version))
    }

    pub fn value(key: Bytes, value: Bytes) -> Compare {
        Compare::equal(key, CompareTarget::Value(value))
    }
}

/// A write of one key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Put {
    pub key: Bytes,
    pub value: Bytes,
    /// The lease to live by; 0 for none.
    pub lease: i64,
    /// Keep the value that is there.
    pub ignore_value: bool,
    /// Keep the lease that is there.
    pub ignore_lease: bool,
    /// Answer with what was there before.
    pub prev: bool,
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Put(Put),
    Delete { range: KeyRange, prev: bool },
    Range(RangeRequest),
    Txn(Box<Txn>),
}

impl Op {
    pub fn put(key: Bytes, value: Bytes) -> Op {
        Op::Put(Put { key, value, ..Put::default() })
    }

    pub fn put_with_lease(key: Bytes, value: Bytes, lease: i64) -> Op {
        Op::Put(Put { key, value, lease, ..Put::default() })
    }

    pub fn delete(key: Bytes) -> Op {
        Op::Delete { range: KeyRange::key(key), prev: false }
    }

    pub fn delete_range(range: KeyRange) -> Op {
        Op::Delete { range, prev: false }
    }

    pub fn range(request: RangeRequest) -> Op {
        Op::Range(request)
    }
}

/// Compares, and what to do when all hold or when one does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    pub compares: Vec<Compare>,
    pub success: Vec<Op>,
    pub failure: Vec<Op>,
}

impl Txn {
    pub fn new() -> Txn {
        Txn::default()
    }

    pub fn when(mut self, compare: Compare) -> Txn {
        self.compares.push(compare);
        self
    }

    pub fn then(mut self, op: Op) -> Txn {
        self.success.push(op);
        self
    }

    pub fn otherwise(mut self, op: Op) -> Txn {
        self.failure.push(op);
        self
    }
}

/// What one step of a transaction answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OpResponse {
    Put { prev: Option<KeyValue> },
    Delete { deleted: usize, prev: Vec<KeyValue> },
    Range(RangeResponse),
    Txn(TxnResponse),
}

/// The answer to a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TxnResponse {
    /// Whether all compares held.
    pub succeeded: bool,
    /// The revision of the changes; the newest one when nothing changed.
    pub revision: i64,
    pub responses: Vec<OpResponse>,
}

/// Which changes to follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchRequest {
    pub range: KeyRange,
    /// The first revision to see; 0 for whatever comes next.
    pub from: i64,
    /// Whether empty batches tell how far the store is when it moved on without changes in the range.
    pub progress: bool,
}

impl WatchRequest {
    pub fn over(range: KeyRange) -> WatchRequest {
        WatchRequest { range, from: 0, progress: true }
    }

    pub fn between(start: Bytes, end: Bytes) -> WatchRequest {
        WatchRequest::over(KeyRange::between(start, end))
    }

    pub fn prefix(prefix: Bytes) -> WatchRequest {
        WatchRequest::over(KeyRange::prefix(prefix))
    }

    /// What changed after a revision, as a range answered with it.
    pub fn after(self, revision: i64) -> WatchRequest {
        self.from(revision + 1)
    }

    /// What changed at a revision and later.
    pub fn from(mut self, revision: i64) -> WatchRequest {
        self.from = revision;
        self
    }

    /// Only batches with events.
    pub fn without_progress(mut self) -> WatchRequest {
        self.progress = false;
        self
    }
}

/// Whether a key was written or deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    Put,
    Delete,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    /// The key as it is now; a deletion has only `key` and `mod_revision`.
    pub kv: KeyValue,
    /// The key before the change; absent when it was not there, and perhaps when that version was compacted.
    pub prev: Option<KeyValue>,
}

impl Event {
    pub fn is_delete(&self) -> bool {
        self.kind == EventKind::Delete
    }

    /// What the event costs to keep, roughly.
    pub(crate) fn weight(&self) -> usize {
        let kv = |kv: &KeyValue| kv.key.len() + kv.value.len() + std::mem::size_of::<KeyValue>();
        kv(&self.kv) + self.prev.as_ref().map_or(0, kv)
    }
}

/// All changes of a watched range at one revision; or, without events, a mark that all up to `revision` was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    pub revision: i64,
    pub events: Vec<Arc<Event>>,
}

/// A wish for a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its identity; 0 to be given one.
    pub id: i64,
    /// Whole seconds, at least 1.
    pub ttl: Duration,
}

/// How a lease stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseStatus {
    pub granted: Duration,
    pub remaining: Duration,
    pub keys: Vec<Bytes>,
}

/// What a verification read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub revision: i64,
    pub keys: usize,
    pub versions: usize,
    pub bytes: u64,
}

/// Figures of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub revision: i64,
    pub compacted: i64,
    pub keys: usize,
    pub versions: usize,
    pub watchers: usize,
    pub leases: usize,
    /// Value bytes held in memory.
    pub resident_bytes: usize,
    /// Bytes on disk; 0 for a store in memory.
    pub disk_bytes: u64,
    /// Syncs since the store was opened, how long they took in all, and the longest.
    pub syncs: u64,
    pub sync_total: Duration,
    pub sync_longest: Duration,
    /// Bytes given to the log since the store was opened.
    pub logged_bytes: u64,
    /// Why writes are refused, if they are.
    pub read_only: Option<String>,
}
