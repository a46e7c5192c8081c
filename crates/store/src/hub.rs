//! The hub: watchers, and the ring of recent events that new watchers catch up from.
//!
//! The writer pushes each revision's events into the queues of the watchers whose range they touch; a watcher reads its
//! own queue. Ring and queues are bounded in bytes: the ring forgets the oldest, a full queue cuts its watcher off.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::contract::{Event, EventKind, KeyRange, KeyValue, WatchBatch};
use crate::error::Error;
use crate::index::{Place, Version};
use crate::medium::Medium;

/// All watchers. Locked after the state, never before it.
pub(crate) struct Hub {
    watchers: HashMap<u64, Watcher>,
    next_id: u64,
    ring: VecDeque<(i64, Vec<Arc<Event>>)>,
    ring_bytes: usize,
    ring_limit: usize,
    /// The ring holds every event from this revision on.
    ring_start: i64,
    queue_limit: usize,
}

struct Watcher {
    range: KeyRange,
    from: i64,
    progress: bool,
    queue: Arc<Queue>,
}

impl Hub {
    pub fn new(revision: i64, ring_limit: usize, queue_limit: usize) -> Hub {
        Hub {
            watchers: HashMap::new(),
            next_id: 0,
            ring: VecDeque::new(),
            ring_bytes: 0,
            ring_limit,
            ring_start: revision + 1,
            queue_limit,
        }
    }

    pub fn watchers(&self) -> usize {
        self.watchers.len()
    }

    /// Whether the ring reaches back to a revision.
    pub fn reaches(&self, from: i64) -> bool {
        from >= self.ring_start
    }

    /// Adds a watcher that is pushed what is published from now on, after what `backlog` and the ring hold.
    pub fn add(
        this: &Arc<Mutex<Hub>>,
        range: KeyRange,
        from: i64,
        current: i64,
        progress: bool,
        backlog: Option<Backlog>,
    ) -> Watch {
        let mut hub = this.lock();
        let mut waiting = VecDeque::new();
        if backlog.is_none() {
            let first = hub.ring.partition_point(|(revision, _)| *revision < from);
            for (revision, events) in hub.ring.range(first..) {
                let events: Vec<_> = events.iter().filter(|e| range.contains(&e.kv.key)).cloned().collect();
                if !events.is_empty() {
                    waiting.push_back(WatchBatch { revision: *revision, events });
                }
            }
        }
        // What the ring gave is not counted: it is bounded by the ring.
        let told = if progress { current } else { 0 };
        let queue = Queue::new(from, told, hub.queue_limit);
        queue.state.lock().waiting = waiting;
        let id = hub.next_id;
        hub.next_id += 1;
        hub.watchers.insert(id, Watcher { range, from, progress, queue: queue.clone() });
        Watch { queue, backlog, finished: false, _leave: Box::new(Leave { hub: Arc::downgrade(this), id }) }
    }

    /// Hands one revision's events to the ring and to whom they concern.
    pub fn publish(&mut self, revision: i64, events: Vec<Arc<Event>>) {
        let mut slow = Vec::new();
        for (id, watcher) in &self.watchers {
            if revision < watcher.from {
                continue;
            }
            let mut matching: Vec<Arc<Event>> = Vec::new();
            for event in &events {
                if watcher.range.contains(&event.kv.key) {
                    matching.push(event.clone());
                }
            }
            if !matching.is_empty() && !watcher.queue.push(WatchBatch { revision, events: matching }) {
                slow.push(*id);
            }
        }
        for id in slow {
            self.watchers.remove(&id);
        }
        self.ring_bytes += events.iter().map(|e| e.weight()).sum::<usize>();
        self.ring.push_back((revision, events));
        while self.ring_bytes > self.ring_limit {
            let Some((revision, events)) = self.ring.pop_front() else { break };
            self.ring_bytes -= events.iter().map(|e| e.weight()).sum::<usize>();
            self.ring_start = revision + 1;
        }
    }

    /// Tells watchers that want to know that everything up to a revision has been published.
    pub fn mark(&self, revision: i64) {
        for watcher in self.watchers.values().filter(|w| w.progress && revision >= w.from) {
            watcher.queue.mark(revision);
        }
    }

    /// Ends every watcher.
    pub fn end(&mut self, error: &Error) {
        for (_, watcher) in self.watchers.drain() {
            watcher.queue.end(error.clone());
        }
    }

    /// Forgets events at or before a compacted revision.
    pub fn compact(&mut self, revision: i64) {
        while let Some((first, _)) = self.ring.front() {
            if *first >= revision {
                break;
            }
            if let Some((_, events)) = self.ring.pop_front() {
                self.ring_bytes -= events.iter().map(|e| e.weight()).sum::<usize>();
            }
        }
        self.ring_start = self.ring_start.max(revision);
    }
}

/// One watcher's waiting batches.
pub(crate) struct Queue {
    state: Mutex<QueueState>,
    notify: Notify,
    limit: usize,
}

struct QueueState {
    waiting: VecDeque<WatchBatch>,
    bytes: usize,
    /// Everything up to here was pushed.
    progress: i64,
    /// What the watcher has been told of.
    delivered: i64,
    ended: Option<Error>,
}

fn weight(batch: &WatchBatch) -> usize {
    batch.events.iter().map(|e| e.weight()).sum()
}

impl Queue {
    /// A queue of what happens from a revision on, of which everything up to `told` is known to be pushed.
    pub fn new(from: i64, told: i64, limit: usize) -> Arc<Queue> {
        let state = QueueState { waiting: VecDeque::new(), bytes: 0, progress: told, delivered: from - 1, ended: None };
        Arc::new(Queue { state: Mutex::new(state), notify: Notify::new(), limit })
    }

    /// Whether there was room; when not, the watch has ended.
    pub fn push(&self, batch: WatchBatch) -> bool {
        let mut state = self.state.lock();
        state.bytes += weight(&batch);
        let fits = state.bytes <= self.limit || state.waiting.is_empty();
        if fits {
            state.progress = batch.revision;
            state.waiting.push_back(batch);
        } else {
            state.waiting.clear();
            state.progress = state.delivered;
            state.ended = Some(Error::SlowWatcher { limit: self.limit });
        }
        drop(state);
        self.notify.notify_one();
        fits
    }

    pub fn mark(&self, revision: i64) {
        self.state.lock().progress = revision;
        self.notify.notify_one();
    }

    pub fn end(&self, error: Error) {
        self.state.lock().ended = Some(error);
        self.notify.notify_one();
    }

    fn take(&self) -> Option<Result<WatchBatch, Error>> {
        let mut state = self.state.lock();
        if let Some(batch) = state.waiting.pop_front() {
            state.bytes = state.bytes.saturating_sub(weight(&batch));
            state.delivered = batch.revision;
            return Some(Ok(batch));
        }
        if state.progress > state.delivered {
            state.delivered = state.progress;
            return Some(Ok(WatchBatch { revision: state.progress, events: Vec::new() }));
        }
        state.ended.clone().map(Err)
    }
}

/// Takes the watcher out of the hub when it is dropped.
struct Leave {
    hub: Weak<Mutex<Hub>>,
    id: u64,
}

impl Drop for Leave {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            hub.lock().watchers.remove(&self.id);
        }
    }
}

/// A stream of batches in rising order of revision; a revision's events are never split.
pub struct Watch {
    queue: Arc<Queue>,
    backlog: Option<Backlog>,
    finished: bool,
    /// Ends what fills the queue.
    _leave: Box<dyn std::any::Any + Send + Sync>,
}

impl Watch {
    /// A watch whose queue somebody else fills, until `leave` is dropped.
    #[cfg(feature = "grpc")]
    pub(crate) fn of(queue: Arc<Queue>, leave: impl std::any::Any + Send + Sync) -> Watch {
        Watch { queue, backlog: None, finished: false, _leave: Box::new(leave) }
    }

    /// The next batch; one error, then nothing. Can be cancelled without losing a batch.
    pub async fn next(&mut self) -> Option<Result<WatchBatch, Error>> {
        if self.finished {
            return None;
        }
        if let Some(backlog) = &mut self.backlog {
            match backlog.next().await {
                Ok(Some(batch)) => {
                    self.queue.state.lock().delivered = batch.revision;
                    return Some(Ok(batch));
                }
                Ok(None) => self.backlog = None,
                Err(error) => {
                    self.finished = true;
                    return Some(Err(error));
                }
            }
        }
        loop {
            if let Some(item) = self.queue.take() {
                self.finished = item.is_err();
                return Some(item);
            }
            self.queue.notify.notified().await;
        }
    }

    /// The next batch, the past included, if it needs no waiting for new ones.
    #[cfg(test)]
    pub(crate) async fn try_next_or_backlog(&mut self) -> Option<Result<WatchBatch, Error>> {
        match self.backlog {
            Some(_) => self.next().await,
            None => self.try_next(),
        }
    }

    /// The next batch if one is waiting already.
    pub fn try_next(&mut self) -> Option<Result<WatchBatch, Error>> {
        if self.finished || self.backlog.is_some() {
            return None;
        }
        let item = self.queue.take()?;
        self.finished = item.is_err();
        Some(item)
    }
}

/// An event of the past: versions whose values may have to be read from the log.
pub(crate) struct Past {
    pub key: Bytes,
    pub new: Version,
    pub prev: Option<Version>,
}

/// Events older than the ring, read a few revisions at a time.
pub(crate) struct Backlog {
    events: VecDeque<Past>,
    medium: Arc<Medium>,
    /// The revision compacted up to, to tell a record that is gone from one that is damaged.
    compacted: Arc<std::sync::atomic::AtomicI64>,
}

impl Backlog {
    /// `events` in rising order.
    pub fn new(events: VecDeque<Past>, medium: Arc<Medium>, compacted: Arc<std::sync::atomic::AtomicI64>) -> Backlog {
        Backlog { events, medium, compacted }
    }

    async fn next(&mut self) -> Result<Option<WatchBatch>, Error> {
        let Some(revision) = self.events.front().map(|e| e.new.mod_revision) else { return Ok(None) };
        let end = self.events.partition_point(|e| e.new.mod_revision <= revision);
        let on_disk = |v: &Version| !v.is_deletion() && matches!(v.value, Place::Disk);
        let must_read = self.events.range(..end).any(|e| on_disk(&e.new) || e.prev.as_ref().is_some_and(on_disk));
        let events: Vec<(Bytes, Version, Option<Version>)> =
            self.events.range(..end).map(|e| (e.key.clone(), e.new.clone(), e.prev.clone())).collect();
        let loaded = if must_read {
            let (medium, compacted) = (self.medium.clone(), self.compacted.clone());
            tokio::task::spawn_blocking(move || load(&medium, &compacted, events))
                .await
                .map_err(|_| Error::Closed)??
        } else {
            load(&self.medium, &self.compacted, events)?
        };
        // Taken only now: a caller that gave up while the log was read loses nothing.
        self.events.drain(..end);
        Ok(Some(WatchBatch { revision, events: loaded }))
    }
}

fn load(
    medium: &Medium,
    compacted: &std::sync::atomic::AtomicI64,
    events: Vec<(Bytes, Version, Option<Version>)>,
) -> Result<Vec<Arc<Event>>, Error> {
    let value = |version: &Version| -> Result<Option<Bytes>, Error> {
        match &version.value {
            _ if version.is_deletion() => Ok(Some(Bytes::new())),
            Place::Memory(bytes) => Ok(Some(bytes.clone())),
            Place::Disk => medium.value(version.mod_revision, version.sub),
        }
    };
    let mut loaded = Vec::with_capacity(events.len());
    for (key, new, prev) in events {
        let Some(bytes) = value(&new)? else {
            let floor = compacted.load(std::sync::atomic::Ordering::Acquire);
            if new.mod_revision <= floor {
                return Err(Error::Compacted { revision: floor });
            }
            return Err(Error::Corrupt(format!("the record of revision {} is missing", new.mod_revision)));
        };
        let prev = match prev {
            Some(version) if !version.is_deletion() => {
                value(&version)?.map(|value| KeyValue { value, ..version.head(&key) })
            }
            _ => None,
        };
        loaded.push(Arc::new(event(&key, &new, bytes, prev)));
    }
    Ok(loaded)
}

/// The event that a version is.
pub(crate) fn event(key: &Bytes, version: &Version, value: Bytes, prev: Option<KeyValue>) -> Event {
    if version.is_deletion() {
        let kv = KeyValue { key: key.clone(), mod_revision: version.mod_revision, ..KeyValue::default() };
        return Event { kind: EventKind::Delete, kv, prev };
    }
    Event { kind: EventKind::Put, kv: KeyValue { value, ..version.head(key) }, prev }
}
