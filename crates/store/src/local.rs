//! The embedded store: its settings, how it is opened, and its side of the contract.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Semaphore, oneshot};

use crate::clock::{Clock, MonotonicClock};
use crate::contract::{
    BoxFuture, Grant, KeyRange, LeaseStatus, RangeRequest, RangeResponse, Stats, Store, Txn, TxnResponse, Verified,
    WatchRequest,
};
use crate::error::Error;
use crate::failpoint::seeded;
use crate::hub::{Backlog, Hub, Past, Watch};
use crate::index::{Index, Place, Version};
use crate::lease::Leases;
use crate::medium::Medium;
use crate::txn::check_range;
use crate::writer::{Command, Writer};

/// How many requests may wait for the writer; more wait outside, holding nothing but themselves.
const WAITING: usize = 4096;
/// How often a read of the present is repeated when a compaction takes the record from under it.
const READ_TRIES: usize = 8;

/// Looks on when the log is synced, for tests that prove what leaves when.
pub trait SyncObserver: Send + Sync + 'static {
    /// A sync that covers everything up to `revision` begins.
    fn begins(&self, revision: i64);
    /// It has succeeded.
    fn ended(&self, revision: i64);
}

/// The settings of an embedded store.
#[derive(Clone)]
pub struct Config {
    /// Prefixes whose keys live in memory, with snapshots now and then: after a crash they may be older than what was
    /// acknowledged. Everything else is durable before it is acknowledged.
    pub volatile: Vec<Bytes>,
    /// How often changed volatile keys are snapshot.
    pub snapshot_every: Duration,
    pub clock: Arc<dyn Clock>,
    /// Value bytes held in memory; what is beyond is read back from disk.
    pub value_budget: usize,
    /// Recent events kept for watchers that start in the past.
    pub ring_bytes: usize,
    /// Events that may wait for one watcher before it is cut off.
    pub watcher_bytes: usize,
    /// Superseded versions kept before the oldest half is compacted; 0 to compact only when asked.
    pub history: usize,
    /// Revisions reserved at a time.
    pub ceiling_block: i64,
    pub observer: Option<Arc<dyn SyncObserver>>,
    /// A mistake to make, for tests of the tests.
    #[cfg(test)]
    pub(crate) bug: Option<crate::failpoint::Bug>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            volatile: Vec::new(),
            snapshot_every: Duration::from_secs(60),
            clock: Arc::new(MonotonicClock::default()),
            value_budget: 32 << 20,
            ring_bytes: 8 << 20,
            watcher_bytes: 16 << 20,
            history: 20_000,
            ceiling_block: 10_000,
            observer: None,
            #[cfg(test)]
            bug: None,
        }
    }
}

impl Config {
    pub(crate) fn is_volatile(&self, key: &[u8]) -> bool {
        self.volatile.iter().any(|prefix| key.starts_with(prefix))
    }
}

/// What readers see. Changed by the writer only.
pub(crate) struct State {
    pub index: Index,
    pub revision: i64,
    pub compacted: i64,
    /// Revisions skipped after unclean stops: what a client saw there may be lost.
    pub gaps: Vec<(i64, i64)>,
    /// Of volatile keys nothing older than this is known.
    pub volatile_since: i64,
    pub volatile: Vec<Bytes>,
    /// Why nothing is written any more.
    pub failed: Option<Error>,
}

impl State {
    /// Whether a range can be read at a revision (0 for now).
    pub fn check_readable(&self, range: &KeyRange, revision: i64) -> Result<(), Error> {
        if revision <= 0 {
            return Ok(());
        }
        let floor = self.floor(range);
        if revision < floor {
            return Err(Error::Compacted { revision: floor });
        }
        self.check_gaps(revision)
    }

    fn check_gaps(&self, revision: i64) -> Result<(), Error> {
        match self.gaps.iter().find(|(low, high)| *low < revision && revision < *high) {
            Some((_, high)) => Err(Error::Compacted { revision: *high }),
            None => Ok(()),
        }
    }

    fn floor(&self, range: &KeyRange) -> i64 {
        match self.volatile.iter().any(|prefix| range.touches_prefix(prefix)) {
            true => self.compacted.max(self.volatile_since),
            false => self.compacted,
        }
    }

    /// Whether a range can be followed from a revision on. To begin right after the last revision before a gap is fine:
    /// whoever saw that missed nothing durable.
    fn check_watchable(&self, range: &KeyRange, from: i64) -> Result<(), Error> {
        let since = if self.floor(range) > self.compacted { self.volatile_since + 1 } else { self.compacted };
        if from < since {
            return Err(Error::Compacted { revision: since });
        }
        self.check_gaps(from - 1)
    }
}

/// Running totals.
#[derive(Default)]
pub(crate) struct Counters {
    pub syncs: AtomicU64,
    pub sync_nanos: AtomicU64,
    pub sync_longest: AtomicU64,
    pub logged: AtomicU64,
    pub resident: AtomicUsize,
}

/// What the writer and its callers share. Locks are taken in the order state, leases, hub.
pub(crate) struct Shared {
    pub config: Config,
    pub medium: Arc<Medium>,
    pub state: RwLock<State>,
    pub leases: Mutex<Leases>,
    pub hub: Arc<Mutex<Hub>>,
    /// A copy of the state's, for those who cannot lock.
    pub compacted: Arc<AtomicI64>,
    pub counters: Counters,
}

/// An embedded store. Dropping it stops it cleanly.
pub struct LocalStore {
    shared: Arc<Shared>,
    sender: std::sync::mpsc::Sender<Command>,
    permits: Arc<Semaphore>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What a log holds besides its changes.
pub(crate) struct Loaded {
    pub state: State,
    pub leases: Leases,
    pub resident: VecDeque<(Bytes, i64)>,
    pub resident_bytes: usize,
    pub ceiling: i64,
    /// Records that a compaction had not yet removed.
    pub leftover: Vec<(i64, u32)>,
}

impl LocalStore {
    /// A store in memory: everything of the contract, gone with the process.
    pub fn memory(config: Config) -> LocalStore {
        let state = State {
            index: Index::default(),
            revision: 1,
            compacted: 0,
            gaps: Vec::new(),
            volatile_since: 0,
            volatile: Vec::new(),
            failed: None,
        };
        let loaded = Loaded {
            state,
            leases: Leases::default(),
            resident: VecDeque::new(),
            resident_bytes: 0,
            ceiling: i64::MAX,
            leftover: Vec::new(),
        };
        LocalStore::start(config, Medium::Memory, loaded)
    }

    /// Whether a folder could be opened as far as its format goes; touches nothing.
    ///
    /// # Errors
    /// [`Error::NewerFormat`] for one that a newer version wrote. What else is wrong is told by [`LocalStore::open`].
    #[cfg(feature = "rocksdb")]
    pub fn check_format(folder: &std::path::Path) -> Result<(), Error> {
        match crate::disk::read_format(folder) {
            Err(error @ Error::NewerFormat { .. }) => Err(error),
            _ => Ok(()),
        }
    }

    /// Opens the store of a folder, made when it is not there; the folder belongs to this process until it is dropped.
    #[cfg(feature = "rocksdb")]
    pub fn open(folder: &std::path::Path, config: Config) -> Result<LocalStore, Error> {
        let (disk, loaded) = crate::disk::Disk::open(folder, &config)?;
        Ok(LocalStore::start(config, Medium::Disk(Box::new(disk)), loaded))
    }

    fn start(config: Config, medium: Medium, loaded: Loaded) -> LocalStore {
        let counters = Counters::default();
        counters.resident.store(loaded.resident_bytes, Ordering::Relaxed);
        let shared = Arc::new(Shared {
            hub: Arc::new(Mutex::new(Hub::new(loaded.state.revision, config.ring_bytes, config.watcher_bytes))),
            compacted: Arc::new(AtomicI64::new(loaded.state.compacted)),
            medium: Arc::new(medium),
            state: RwLock::new(loaded.state),
            leases: Mutex::new(loaded.leases),
            counters,
            config,
        });
        let (sender, receiver) = std::sync::mpsc::channel();
        let writer = Writer::new(shared.clone(), receiver, loaded.ceiling, loaded.resident, loaded.leftover);
        let writer = writer.spawn();
        LocalStore { shared, sender, permits: Arc::new(Semaphore::new(WAITING)), writer: Mutex::new(writer) }
    }

    /// Lets the writer look at the clock: for tests that move it by hand.
    pub async fn tick(&self) -> Result<(), Error> {
        self.ask(Command::Tick).await
    }

    /// The thread in which fail points can be armed.
    #[cfg(test)]
    pub(crate) fn writer_thread(&self) -> std::thread::ThreadId {
        self.writer.lock().as_ref().expect("a running writer").thread().id()
    }

    /// The gaps in numbering that unclean stops left.
    #[cfg(test)]
    pub(crate) fn gaps(&self) -> Vec<(i64, i64)> {
        self.shared.state.read().gaps.clone()
    }

    /// Stops cleanly and lets the folder go.
    pub fn close(self) {
        self.stop();
    }

    /// Stops cleanly: what is volatile is snapshot, and numbering goes on without a gap next time. What is asked later
    /// is answered with [`Error::Closed`]; the folder stays held until the store is dropped.
    pub fn stop(&self) {
        if let Some(writer) = self.writer.lock().take() {
            let _ = self.sender.send(Command::Stop);
            if writer.join().is_err() {
                tracing::error!("the store's writer died; the next start goes on from what was synced");
            }
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Command) -> Result<T, Error> {
        let _permit = self.permits.acquire().await.map_err(|_| Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        self.sender.send(command(reply)).map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    async fn read(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        check_range(&request.range)?;
        for _ in 0..READ_TRIES {
            let (mut response, on_disk) = self.shared.collect(&request)?;
            if on_disk.is_empty() {
                return Ok(response);
            }
            let medium = self.shared.medium.clone();
            let loaded = tokio::task::spawn_blocking(move || {
                on_disk.into_iter().map(|(at, revision, sub)| Ok((at, medium.value(revision, sub)?))).collect::<Result<
                    Vec<_>,
                    Error,
                >>(
                )
            });
            let mut complete = true;
            for (at, value) in loaded.await.map_err(|_| Error::Closed)?? {
                match value {
                    Some(value) => response.kvs[at].value = value,
                    None => complete = false,
                }
            }
            if complete {
                return Ok(response);
            }
            // A compaction took a record meanwhile; the next look says Compacted, or finds a newer version.
        }
        Err(Error::Corrupt("a record of the log is missing".to_owned()))
    }
}

impl Drop for LocalStore {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// The part of a range that memory can answer, and where the missing values lie.
    fn collect(&self, request: &RangeRequest) -> Result<(RangeResponse, Vec<(usize, i64, u32)>), Error> {
        let state = self.state.read();
        if request.revision > state.revision {
            return Err(Error::FutureRevision { asked: request.revision, current: state.revision });
        }
        state.check_readable(&request.range, request.revision)?;
        let mut at = if request.revision > 0 { request.revision } else { i64::MAX };
        if seeded!(self.config, StaleRead) && request.revision == 0 && state.revision % 5 == 0 {
            at = state.revision - 1;
        }
        let limit = if request.limit > 0 { request.limit } else { usize::MAX };
        let mut response = RangeResponse { revision: state.revision, ..RangeResponse::default() };
        let mut on_disk = Vec::new();
        for (key, version) in state.index.range(&request.range, at) {
            response.count += 1;
            if request.count_only || response.kvs.len() >= limit {
                continue;
            }
            let mut kv = version.head(key);
            if !request.keys_only {
                match &version.value {
                    Place::Memory(bytes) => kv.value = bytes.clone(),
                    Place::Disk => on_disk.push((response.kvs.len(), version.mod_revision, version.sub)),
                }
            }
            response.kvs.push(kv);
        }
        response.more = !request.count_only && response.count > response.kvs.len();
        Ok((response, on_disk))
    }

    /// Adds a watcher; nothing is published between the look into the past and its joining.
    fn watch(&self, request: WatchRequest) -> Result<Watch, Error> {
        check_range(&request.range)?;
        let state = self.state.read();
        let from = if request.from > 0 { request.from } else { state.revision + 1 };
        if request.from > 0 {
            state.check_watchable(&request.range, from)?;
        }
        let reached = self.hub.lock().reaches(from);
        let backlog = if reached {
            None
        } else {
            let mut past = Vec::new();
            for (key, versions) in state.index.entries(&request.range) {
                past_of(key, versions, from, &mut past);
            }
            past.sort_by_key(|p| (p.new.mod_revision, p.new.sub));
            let past = VecDeque::from(past);
            Some(Backlog::new(past, self.medium.clone(), self.compacted.clone()))
        };
        Ok(Hub::add(&self.hub, request.range, from, state.revision, request.progress, backlog))
    }
}

fn past_of(key: &Bytes, versions: &[Version], from: i64, past: &mut Vec<Past>) {
    let first = versions.partition_point(|v| v.mod_revision < from);
    for at in first..versions.len() {
        let prev = at.checked_sub(1).map(|before| versions[before].clone()).filter(|v| !v.is_deletion());
        past.push(Past { key: key.clone(), new: versions[at].clone(), prev });
    }
}

impl Store for LocalStore {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse, Error>> {
        Box::pin(self.read(request))
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse, Error>> {
        Box::pin(self.ask(|reply| Command::Txn(txn, reply)))
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch, Error>> {
        Box::pin(async move { self.shared.watch(request) })
    }

    fn read_revision(&self) -> BoxFuture<'_, Result<i64, Error>> {
        // What is acknowledged is published, so the published revision is linearizable.
        Box::pin(async move { Ok(self.shared.state.read().revision) })
    }

    fn compact(&self, revision: i64) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.ask(move |reply| Command::Compact(revision, reply)))
    }

    fn grant(&self, grant: Grant) -> BoxFuture<'_, Result<i64, Error>> {
        Box::pin(self.ask(|reply| Command::Grant(grant, reply)))
    }

    fn keep_alive(&self, lease: i64) -> BoxFuture<'_, Result<Duration, Error>> {
        Box::pin(async move {
            let now = self.shared.config.clock.now();
            self.shared.leases.lock().keep_alive(lease, now).ok_or(Error::LeaseNotFound(lease))
        })
    }

    fn revoke(&self, lease: i64) -> BoxFuture<'_, Result<i64, Error>> {
        Box::pin(self.ask(move |reply| Command::Revoke(lease, reply)))
    }

    fn lease(&self, lease: i64) -> BoxFuture<'_, Result<LeaseStatus, Error>> {
        Box::pin(async move {
            let now = self.shared.config.clock.now();
            let leases = self.shared.leases.lock();
            let found = leases.get(lease).ok_or(Error::LeaseNotFound(lease))?;
            Ok(LeaseStatus {
                granted: found.ttl,
                remaining: found.deadline.saturating_sub(now),
                keys: found.keys.iter().cloned().collect(),
            })
        })
    }

    fn leases(&self) -> BoxFuture<'_, Result<Vec<i64>, Error>> {
        Box::pin(async move { Ok(self.shared.leases.lock().ids()) })
    }

    fn verify(&self) -> BoxFuture<'_, Result<Verified, Error>> {
        // Asked of the writer, so that log and index stand still meanwhile.
        Box::pin(self.ask(Command::Verify))
    }

    fn checkpoint(&self, folder: PathBuf) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(self.ask(|reply| Command::Checkpoint(folder, reply)))
    }

    fn stats(&self) -> BoxFuture<'_, Result<Stats, Error>> {
        Box::pin(async move {
            let counters = &self.shared.counters;
            let disk_bytes = self.shared.medium.disk_bytes();
            let state = self.shared.state.read();
            Ok(Stats {
                revision: state.revision,
                compacted: state.compacted,
                keys: state.index.live(),
                versions: state.index.versions(),
                leases: self.shared.leases.lock().len(),
                watchers: self.shared.hub.lock().watchers(),
                resident_bytes: counters.resident.load(Ordering::Relaxed),
                disk_bytes,
                syncs: counters.syncs.load(Ordering::Relaxed),
                sync_total: Duration::from_nanos(counters.sync_nanos.load(Ordering::Relaxed)),
                sync_longest: Duration::from_nanos(counters.sync_longest.load(Ordering::Relaxed)),
                logged_bytes: counters.logged.load(Ordering::Relaxed),
                read_only: state.failed.as_ref().map(Error::to_string),
            })
        })
    }
}
