//! The writer: one thread that carries all waiting transactions in one group commit.
//!
//! ```text
//! collect ─▶ evaluate in order (txn::Staged) ─▶ write ─▶ sync ─▶ publish (index, leases, watchers) ─▶ answer
//! ```
//!
//! # Why
//! A thread, not a task: a sync blocks, and while it runs the next group gathers by itself, so the group's size adapts
//! to the disk. After a failed write or sync the store is read-only until it is opened again, since what reached the
//! disk is unknown; trying again would ask a kernel that may have dropped the pages.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::contract::{Grant, KeyValue, Txn, TxnResponse, Verified};
use crate::error::Error;
use crate::failpoint::{self, seeded};
use crate::hub;
use crate::index::{Dropped, Place};
use crate::local::Shared;
use crate::medium::Batch;
use crate::record;
use crate::txn::{Change, Staged};

/// The most requests of one group commit.
const GROUP: usize = 1024;
/// Keys that a compaction looks at before readers get their turn.
const COMPACTION_STEPS: usize = 2000;
/// Records removed from the log at a time.
const REMOVALS: usize = 4000;

/// When a lease that could not be ended (a full disk) is tried again.
const LEASE_RETRY: Duration = Duration::from_secs(5);

type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// What callers ask of the writer.
pub(crate) enum Command {
    Txn(Txn, Reply<TxnResponse>),
    Grant(Grant, Reply<i64>),
    Revoke(i64, Reply<i64>),
    Compact(i64, Reply<()>),
    Checkpoint(PathBuf, Reply<()>),
    Verify(Reply<Verified>),
    Tick(Reply<()>),
    Stop,
}

/// An answer that waits for its sync.
enum Waiting {
    Txn(Reply<TxnResponse>, Result<TxnResponse, Error>),
    Number(Reply<i64>, Result<i64, Error>),
}

impl Waiting {
    fn answer(self, outcome: &Result<(), Error>) {
        fn settle<T>(reply: Reply<T>, result: Result<T, Error>, outcome: &Result<(), Error>) {
            // Nobody may be waiting any more.
            let _ = reply.send(outcome.clone().and(result));
        }
        match self {
            Waiting::Txn(reply, result) => settle(reply, result, outcome),
            Waiting::Number(reply, result) => settle(reply, result, outcome),
        }
    }
}

/// What a group commit changes, taken out of its evaluation.
struct Group {
    changes: Vec<(i64, Vec<Change>)>,
    leases: Vec<(i64, Option<Duration>)>,
    revision: i64,
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    receiver: Receiver<Command>,
    /// Revisions up to here are reserved in the log.
    ceiling: i64,
    /// Values in memory that the log has too, oldest first.
    resident: VecDeque<(Bytes, i64)>,
    /// Volatile keys changed since the last snapshot, and when the next one is due.
    dirty: BTreeSet<Bytes>,
    snapshot_due: Option<Duration>,
    /// Records of the log that a compaction made useless.
    useless: Vec<Dropped>,
    next_name: u64,
}

impl Writer {
    pub fn new(
        shared: Arc<Shared>,
        receiver: Receiver<Command>,
        ceiling: i64,
        resident: VecDeque<(Bytes, i64)>,
        useless: Vec<Dropped>,
    ) -> Writer {
        let (dirty, snapshot_due) = (BTreeSet::new(), None);
        Writer { shared, receiver, ceiling, resident, dirty, snapshot_due, useless, next_name: 0 }
    }

    /// Starts the thread; without one the store answers `Closed`.
    pub fn spawn(self) -> Option<JoinHandle<()>> {
        let spawned = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || self.run());
        if let Err(error) = &spawned {
            tracing::error!(%error, "the store's writer cannot be started");
        }
        spawned.ok()
    }

    fn run(mut self) {
        loop {
            let first = match self.next() {
                Ok(Some(command)) => command,
                Ok(None) => {
                    self.do_what_is_due();
                    continue;
                }
                Err(()) => break,
            };
            let mut group = vec![first];
            while group.len() < GROUP
                && let Ok(command) = self.receiver.try_recv()
            {
                group.push(command);
            }
            if !self.serve(group) {
                break;
            }
            self.do_what_is_due();
        }
        self.finish();
    }

    /// The next command; nothing when something is due first; an error when nobody can ask any more.
    fn next(&self) -> Result<Option<Command>, ()> {
        if !self.useless.is_empty() {
            return match self.receiver.try_recv() {
                Ok(command) => Ok(Some(command)),
                Err(std::sync::mpsc::TryRecvError::Empty) => Ok(None),
                Err(std::sync::mpsc::TryRecvError::Disconnected) => Err(()),
            };
        }
        let lease = self.shared.leases.lock().next_deadline();
        let due = [lease, self.snapshot_due].into_iter().flatten().min();
        let Some(due) = due else { return self.receiver.recv().map(Some).map_err(|_| ()) };
        let wait = due.saturating_sub(self.shared.config.clock.now());
        match self.receiver.recv_timeout(wait) {
            Ok(command) => Ok(Some(command)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(()),
        }
    }

    /// Serves commands in order; false when one of them was to stop.
    fn serve(&mut self, group: Vec<Command>) -> bool {
        let mut writes = Vec::new();
        for command in group {
            match command {
                Command::Txn(..) | Command::Grant(..) | Command::Revoke(..) => writes.push(command),
                other => {
                    self.commit(std::mem::take(&mut writes));
                    match other {
                        Command::Compact(revision, reply) => drop(reply.send(self.compact(revision))),
                        Command::Checkpoint(folder, reply) => drop(reply.send(self.checkpoint(folder))),
                        Command::Verify(reply) => drop(reply.send(self.verify())),
                        Command::Tick(reply) => {
                            self.do_what_is_due();
                            drop(reply.send(Ok(())));
                        }
                        _ => return false,
                    }
                }
            }
        }
        self.commit(writes);
        true
    }

    /// Why changes are refused right now, if they are.
    fn refusal(&self) -> Option<Error> {
        self.shared.state.read().failed.clone().or_else(|| self.shared.medium.check_room().err())
    }

    /// One group commit.
    fn commit(&mut self, commands: Vec<Command>) {
        if commands.is_empty() {
            return;
        }
        let refusal = self.refusal();
        let shared = self.shared.clone();
        let mut waiting = Vec::with_capacity(commands.len());
        let group = {
            let state = shared.state.read();
            let leases = shared.leases.lock();
            let mut staged = Staged::new(&state, &leases, &shared.medium);
            staged.repeats = seeded!(shared.config, RepeatedRevision);
            for command in commands {
                match command {
                    Command::Txn(txn, reply) => waiting.push(Waiting::Txn(reply, staged.txn(&txn, refusal.as_ref()))),
                    Command::Grant(grant, reply) => {
                        let id = if grant.id != 0 { grant.id } else { self.new_lease() };
                        waiting.push(Waiting::Number(reply, staged.grant(id, grant.ttl, refusal.as_ref())));
                    }
                    Command::Revoke(id, reply) => {
                        waiting.push(Waiting::Number(reply, staged.revoke(id, refusal.as_ref())));
                    }
                    _ => {}
                }
            }
            take(staged)
        };
        let outcome = self.settle(group);
        for waiting in waiting {
            waiting.answer(&outcome);
        }
    }

    /// Makes a group durable and publishes it.
    fn settle(&mut self, group: Group) -> Result<(), Error> {
        if group.changes.is_empty() && group.leases.is_empty() {
            return Ok(());
        }
        let batch = self.batch(&group);
        if !batch.is_empty()
            && let Err(error) = self.make_durable(batch, group.revision)
        {
            return Err(self.fail(error));
        }
        self.publish(group);
        if let Err(error) = failpoint::hit(failpoint::AFTER_PUBLISH) {
            return Err(self.fail(error));
        }
        Ok(())
    }

    /// Every write is synced before the next one: only the last can ever be torn, which `wal` builds upon.
    fn make_durable(&mut self, batch: Batch, revision: i64) -> Result<(), Error> {
        let shared = &self.shared;
        let bytes = batch.bytes();
        shared.medium.write(batch)?;
        if let Some(observer) = &shared.config.observer {
            observer.begins(revision);
        }
        let begin = Instant::now();
        shared.medium.sync()?;
        let took = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if let Some(observer) = &shared.config.observer {
            observer.ended(revision);
        }
        shared.counters.syncs.fetch_add(1, Ordering::Relaxed);
        shared.counters.sync_nanos.fetch_add(took, Ordering::Relaxed);
        shared.counters.sync_longest.fetch_max(took, Ordering::Relaxed);
        shared.counters.logged.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    /// No write is accepted from here on.
    fn fail(&self, error: Error) -> Error {
        let error = Error::ReadOnly(error.to_string());
        tracing::error!(%error, "a write to disk failed");
        self.shared.state.write().failed = Some(error.clone());
        error
    }

    /// What of a group belongs into the log. Volatile changes do not, but what reserves their revisions does.
    fn batch(&mut self, group: &Group) -> Batch {
        let mut batch = Batch::default();
        for (revision, changes) in &group.changes {
            for change in changes {
                if self.shared.config.is_volatile(&change.key) {
                    continue;
                }
                let Place::Memory(value) = &change.version.value else { continue };
                let key = record::change_key(*revision, change.version.sub);
                batch.put(key, record::encode(&change.key, &change.version, value));
            }
        }
        for (id, change) in &group.leases {
            match change {
                Some(ttl) => batch.put(record::lease_key(*id), ttl.as_secs().to_be_bytes().to_vec()),
                None => batch.delete(record::lease_key(*id)),
            }
        }
        if group.revision > self.ceiling {
            self.ceiling = group.revision.saturating_add(self.shared.config.ceiling_block);
            batch.put(record::CEILING, record::encode_numbers([self.ceiling]));
        }
        batch
    }

    /// Shows a group to readers and watchers.
    fn publish(&mut self, group: Group) {
        let shared = self.shared.clone();
        let now = shared.config.clock.now();
        let keeps_values = shared.medium.keeps_values();
        let mut resident = shared.counters.resident.load(Ordering::Relaxed);
        let mut state = shared.state.write();
        let mut leases = shared.leases.lock();
        let mut hub = shared.hub.lock();
        for (id, change) in &group.leases {
            if let Some(ttl) = change {
                leases.insert(*id, *ttl, now);
            }
        }
        for (revision, changes) in group.changes {
            let mut events = Vec::with_capacity(changes.len());
            for Change { key, version, prev } in changes {
                let Place::Memory(value) = &version.value else { continue };
                let value = value.clone();
                if let Some(prev) = prev.as_ref().filter(|p| p.lease != 0 && p.lease != version.lease) {
                    leases.detach(prev.lease, &key);
                }
                if version.lease != 0 {
                    leases.attach(version.lease, &key);
                }
                let logged = keeps_values && !shared.config.is_volatile(&key);
                resident += value.len();
                if logged && !value.is_empty() {
                    self.resident.push_back((key.clone(), revision));
                } else if !logged && keeps_values && self.dirty.insert(key.clone()) && self.snapshot_due.is_none() {
                    self.snapshot_due = Some(now + shared.config.snapshot_every);
                }
                let prev = match prev {
                    Some(prev) if seeded!(shared.config, WrongPrevious) => {
                        Some(KeyValue { value: value.clone(), ..prev })
                    }
                    prev => prev,
                };
                events.push(Arc::new(hub::event(&key, &version, value, prev)));
                resident = resident.saturating_sub(state.index.push(&key, version, logged));
            }
            if seeded!(shared.config, DroppedEvent) && revision % 20 == 0 {
                continue;
            }
            hub.publish(revision, events);
        }
        for (id, change) in group.leases {
            if change.is_none() {
                leases.remove(id);
            }
        }
        while resident > shared.config.value_budget
            && let Some((key, revision)) = self.resident.pop_front()
        {
            resident = resident.saturating_sub(state.index.evict(&key, revision));
        }
        shared.counters.resident.store(resident, Ordering::Relaxed);
        if group.revision > state.revision {
            state.revision = group.revision;
            hub.mark(group.revision);
        }
    }

    fn do_what_is_due(&mut self) {
        self.end_leases();
        let now = self.shared.config.clock.now();
        if self.snapshot_due.is_some_and(|due| due <= now)
            && let Err(error) = self.snapshot()
        {
            self.fail(error);
        }
        self.forget_history();
        if let Err(error) = self.remove_useless(REMOVALS) {
            self.fail(error);
        }
    }

    /// Ends the leases whose time is up. On a store that cannot write they end again after the next start.
    fn end_leases(&mut self) {
        let shared = self.shared.clone();
        let expired = shared.leases.lock().take_expired(shared.config.clock.now());
        if expired.is_empty() {
            return;
        }
        let refusal = self.refusal();
        let mut postponed = Vec::new();
        let group = {
            let state = shared.state.read();
            let leases = shared.leases.lock();
            let mut staged = Staged::new(&state, &leases, &shared.medium);
            for id in &expired {
                if let Err(error) = staged.revoke(*id, refusal.as_ref()) {
                    tracing::warn!(%error, lease = id, "an expired lease cannot be ended yet");
                    postponed.push(*id);
                }
            }
            take(staged)
        };
        let again = shared.config.clock.now() + LEASE_RETRY;
        for id in postponed {
            shared.leases.lock().postpone(id, again);
        }
        if let Err(error) = self.settle(group) {
            tracing::warn!(%error, "expired leases cannot be ended");
        }
    }

    /// Compacts by itself when history has grown too long.
    fn forget_history(&mut self) {
        let keep = self.shared.config.history;
        if keep == 0 {
            return;
        }
        let at = {
            let state = self.shared.state.read();
            if state.index.superseded() <= keep || state.failed.is_some() {
                return;
            }
            state.index.revision_keeping(keep / 2).filter(|at| *at > state.compacted)
        };
        if let Some(at) = at
            && let Err(error) = self.compact(at)
        {
            tracing::warn!(%error, "the store's history cannot be compacted");
        }
    }

    fn compact(&mut self, revision: i64) -> Result<(), Error> {
        let shared = self.shared.clone();
        {
            let state = shared.state.read();
            if let Some(failed) = &state.failed {
                return Err(failed.clone());
            }
            if revision <= state.compacted {
                return Err(Error::Compacted { revision: state.compacted });
            }
            if revision > state.revision {
                return Err(Error::FutureRevision { asked: revision, current: state.revision });
            }
        }
        let gaps: Vec<_> = shared.state.read().gaps.iter().copied().filter(|(_, high)| *high > revision).collect();
        let mut batch = Batch::default();
        batch.put(record::COMPACTED, record::encode_numbers([revision]));
        batch.put(record::GAPS, record::encode_numbers(gaps.iter().flat_map(|(low, high)| [*low, *high])));
        // Durable before anything is forgotten: a reader that was told Compacted is told so after a crash too.
        self.make_durable(batch, shared.state.read().revision).map_err(|error| self.fail(error))?;
        failpoint::hit(failpoint::IN_COMPACTION).map_err(|error| self.fail(error))?;
        shared.compacted.store(revision, Ordering::Release);
        loop {
            let mut state = shared.state.write();
            state.compacted = revision;
            state.gaps.clone_from(&gaps);
            let until = revision + i64::from(seeded!(shared.config, CompactionOffByOne));
            let (freed, done) = state.index.compact(until, COMPACTION_STEPS, &mut self.useless);
            let resident = shared.counters.resident.load(Ordering::Relaxed);
            shared.counters.resident.store(resident.saturating_sub(freed), Ordering::Relaxed);
            if done {
                shared.hub.lock().compact(revision);
                break;
            }
        }
        if !shared.medium.keeps_values() {
            self.useless.clear();
        }
        Ok(())
    }

    /// Removes records that a compaction made useless; what comes back after a crash is removed again.
    fn remove_useless(&mut self, at_most: usize) -> Result<(), Error> {
        if self.useless.is_empty() {
            return Ok(());
        }
        if self.shared.state.read().failed.is_some() {
            self.useless.clear();
            return Ok(());
        }
        let mut batch = Batch::default();
        let keep = self.useless.len().saturating_sub(at_most);
        for (revision, sub) in self.useless.drain(keep..) {
            batch.delete(record::change_key(revision, sub));
        }
        let revision = self.shared.state.read().revision;
        self.make_durable(batch, revision)
    }

    /// Writes the volatile keys that changed since the last snapshot.
    fn snapshot(&mut self) -> Result<(), Error> {
        self.snapshot_due = None;
        let dirty = std::mem::take(&mut self.dirty);
        if dirty.is_empty() || self.shared.state.read().failed.is_some() {
            return Ok(());
        }
        failpoint::hit(failpoint::BEFORE_SNAPSHOT)?;
        let mut batch = Batch::default();
        {
            let state = self.shared.state.read();
            for key in dirty {
                match state.index.newest(&key) {
                    Some((_, version)) if !version.is_deletion() => {
                        let Place::Memory(value) = &version.value else { continue };
                        let mut bytes = version.mod_revision.to_be_bytes().to_vec();
                        bytes.extend_from_slice(&record::encode(&key, version, value));
                        batch.put(record::snapshot_key(&key), bytes);
                    }
                    _ => batch.delete(record::snapshot_key(&key)),
                }
            }
        }
        let revision = self.shared.state.read().revision;
        self.make_durable(batch, revision)
    }

    fn checkpoint(&mut self, folder: PathBuf) -> Result<(), Error> {
        self.snapshot()?;
        self.shared.medium.checkpoint(&folder)
    }

    /// Reads everything and compares it with the index.
    fn verify(&mut self) -> Result<Verified, Error> {
        let state = self.shared.state.read();
        let mut verified = Verified { revision: state.revision, ..Verified::default() };
        verified.keys = state.index.live();
        for (key, versions) in state.index.entries(&crate::contract::KeyRange::all()) {
            let mut last = 0;
            for version in versions {
                verified.versions += 1;
                if version.mod_revision <= last || version.mod_revision > state.revision {
                    return Err(Error::Corrupt(format!("the versions of {} are out of order", key.escape_ascii())));
                }
                last = version.mod_revision;
                if let Place::Memory(value) = &version.value {
                    verified.bytes += value.len() as u64;
                }
                if !self.shared.medium.keeps_values() || self.shared.config.is_volatile(key) {
                    continue;
                }
                let stored = self.shared.medium.value(version.mod_revision, version.sub)?;
                let Some(stored) = stored else {
                    return Err(Error::Corrupt(format!("the record of revision {last} is missing")));
                };
                match &version.value {
                    Place::Memory(value) if *value != stored => {
                        return Err(Error::Corrupt(format!("the record of revision {last} differs from memory")));
                    }
                    Place::Memory(_) => {}
                    Place::Disk => verified.bytes += stored.len() as u64,
                }
            }
        }
        Ok(verified)
    }

    /// A clean end: the next start knows the exact revision.
    fn finish(&mut self) {
        self.shared.hub.lock().end(&Error::Closed);
        if self.shared.state.read().failed.is_some() {
            return;
        }
        let outcome = self.snapshot().and_then(|()| self.remove_useless(usize::MAX)).and_then(|()| {
            let revision = self.shared.state.read().revision;
            let mut batch = Batch::default();
            batch.put(record::CLEAN, record::encode_numbers([revision]));
            self.make_durable(batch, revision)
        });
        if let Err(error) = outcome {
            tracing::warn!(%error, "the store did not stop cleanly; revisions will be skipped at the next start");
        }
        // Late askers are told by the closed channel.
        self.shared.state.write().failed = Some(Error::Closed);
    }

    /// A lease identity nobody guesses by accident.
    fn new_lease(&mut self) -> i64 {
        self.next_name += 1;
        let mut hasher = std::collections::hash_map::RandomState::new().build_hasher();
        hasher.write_u64(self.next_name);
        // The upper bit stays clear: identities are positive.
        i64::from_ne_bytes((hasher.finish() >> 1).max(1).to_ne_bytes())
    }
}

fn take(staged: Staged<'_>) -> Group {
    Group { revision: staged.revision, leases: staged.leases_changed.into_iter().collect(), changes: staged.changes }
}
