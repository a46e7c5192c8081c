//! The state of one storage prefix in memory: index, event ring, watchers.
//!
//! ```text
//! feed ──event──> State { entries (by key) , ring (recent events) , watchers (by namespace) }
//!                                                                       └─try_send─> Watch queues
//! ```
//! `State` is changed by the feed alone, under its lock, so that a watcher which registers under that lock sees the
//! current entries or the ring's tail and then every later event: nothing twice, nothing missing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, OnceLock, Weak};

use apimachinery::schema::{Text, Type};
use apimachinery::selector::{FieldSelector, LabelSelector};
use apimachinery::{Kind, Map, SmolStr, Status, Struct, Value};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;

use crate::stored::{Body, Object};
use crate::twin::Twin;

/// A ring holds at most this many bytes of objects and this many events; a watch from before its tail starts over.
const RING_BYTES: usize = 4 << 20;
const RING_EVENTS: usize = 16 << 10;
/// Events that may wait for one watcher before it is cut off.
const WATCH_QUEUE: usize = 8192;

/// One object as lists and watches need it: what selectors look at, and the bytes.
#[derive(Debug)]
pub struct Entry {
    /// `<namespace>/<name>` or `<name>`: the key below the prefix.
    pub key: SmolStr,
    pub namespace: SmolStr,
    pub name: SmolStr,
    pub labels: Map,
    pub revision: i64,
    pub body: Body,
    /// Values of the kind's selectable fields, computed when a field selector first asks.
    fields: OnceLock<Vec<SmolStr>>,
    /// The protobuf form of this object at this revision.
    twin: Arc<Twin>,
}

impl Entry {
    /// Reads what selectors need out of a body.
    pub fn new(key: SmolStr, revision: i64, body: Body) -> Result<Entry, Status> {
        let tree = body.tree()?;
        let text = |path: &[&str]| SmolStr::new(tree.str_at(path).unwrap_or_default());
        let labels = tree.at(&["metadata", "labels"]).and_then(Value::as_map).cloned().unwrap_or_default();
        Ok(Entry {
            namespace: text(&["metadata", "namespace"]),
            name: text(&["metadata", "name"]),
            labels,
            key,
            revision,
            body,
            fields: OnceLock::new(),
            twin: Arc::default(),
        })
    }

    /// The same object said at another revision: what a DELETED event carries.
    pub fn at(&self, revision: i64) -> Entry {
        Entry {
            key: self.key.clone(),
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            labels: self.labels.clone(),
            revision,
            body: self.body.clone(),
            fields: self.fields.clone(),
            twin: Arc::default(),
        }
    }

    /// The object in its storage version.
    pub fn object(&self, kind: &Arc<Kind>) -> Object {
        Object::cached(kind.clone(), self.revision, self.body.clone(), self.twin.clone())
    }

    /// Whether both selectors take this object. `kind` names the selectable fields.
    pub fn matches(&self, labels: &LabelSelector, fields: &FieldSelector, kind: &Kind) -> bool {
        if !labels.is_everything() && !labels.matches(|key| self.labels.get(key).and_then(Value::as_str)) {
            return false;
        }
        fields.is_everything()
            || fields.matches(|path| match path {
                "metadata.name" => Some(self.name.as_str()),
                "metadata.namespace" => Some(self.namespace.as_str()),
                _ => {
                    let index = kind.selectable.iter().position(|p| Kind::selectable_name(p) == path)?;
                    self.fields.get_or_init(|| selectable_values(&self.body, kind)).get(index).map(SmolStr::as_str)
                }
            })
    }
}

fn selectable_values(body: &Body, kind: &Kind) -> Vec<SmolStr> {
    let tree = body.tree().unwrap_or_default();
    let text = |field: &Text| {
        // The first of several places that says something.
        let mut paths = Kind::selectable_paths(field);
        let found = paths.clone().map(|path| apimachinery::selector::field_text(&tree, path)).find(|t| !t.is_empty());
        match found {
            Some(text) => text.into(),
            None => paths.next().map(|path| zero_text(&kind.schema, path)).unwrap_or_default(),
        }
    };
    kind.selectable.iter().map(text).collect()
}

/// What selectors compare an absent field with: Go's zero value of its type as text.
fn zero_text(schema: &Struct, path: &str) -> SmolStr {
    let mut schema = schema;
    let mut steps = path.trim_start_matches('.').split('.').peekable();
    while let Some(step) = steps.next() {
        let Some(field) = schema.fields.iter().find(|f| f.name == step) else { break };
        match (&field.node.ty, steps.peek()) {
            (Type::Struct(inner), Some(_)) => schema = inner,
            (Type::Bool, None) => return SmolStr::new_static("false"),
            (Type::Int32 | Type::Int64, None) => return SmolStr::new_static("0"),
            _ => break,
        }
    }
    SmolStr::default()
}

/// One change of one object.
#[derive(Debug)]
pub struct Event {
    pub revision: i64,
    /// The object after the change; for a deletion the last object, said at the deletion's revision.
    pub entry: Arc<Entry>,
    /// The object before the change.
    pub old: Option<Arc<Entry>>,
    pub deleted: bool,
    /// The parsed object, shared by all in-process watchers while one of them holds it.
    tree: Mutex<Weak<Value>>,
    /// Encoded watch frames, one a form, shared by all watchers of that form.
    frames: Mutex<Vec<(u32, Bytes)>>,
}

impl Event {
    fn new(revision: i64, entry: Arc<Entry>, old: Option<Arc<Entry>>, deleted: bool) -> Event {
        Event { revision, entry, old, deleted, tree: Mutex::default(), frames: Mutex::default() }
    }

    /// The parsed object with resourceVersion.
    pub fn tree(&self, kind: &Arc<Kind>) -> Result<Arc<Value>, Status> {
        let mut slot = self.tree.lock();
        if let Some(tree) = slot.upgrade() {
            return Ok(tree);
        }
        let tree = Arc::new(self.entry.object(kind).tree()?);
        *slot = Arc::downgrade(&tree);
        Ok(tree)
    }

    /// The frame of one form, if somebody has encoded it.
    pub fn known_frame(&self, form: u32) -> Option<Bytes> {
        self.frames.lock().iter().find(|(f, _)| *f == form).map(|(_, bytes)| bytes.clone())
    }

    /// The frame of one form, encoded by whoever asks first. `form` is the caller's number for it.
    pub fn frame(&self, form: u32, encode: impl FnOnce() -> Result<Bytes, Status>) -> Result<Bytes, Status> {
        let mut frames = self.frames.lock();
        if let Some((_, bytes)) = frames.iter().find(|(f, _)| *f == form) {
            return Ok(bytes.clone());
        }
        let bytes = encode()?;
        frames.push((form, bytes.clone()));
        Ok(bytes)
    }
}

/// What a watcher is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Added,
    Modified,
    Deleted,
}

/// What a watcher wants to see.
pub struct Filter {
    pub namespace: SmolStr,
    /// With a name in the field selector only that object's events are looked at.
    pub labels: LabelSelector,
    pub fields: FieldSelector,
    pub kind: Arc<Kind>,
}

impl Filter {
    fn takes(&self, entry: &Entry) -> bool {
        entry.matches(&self.labels, &self.fields, &self.kind)
    }

    /// How an event looks through this filter: an object that stops matching is DELETED, one that starts is ADDED.
    pub fn see(&self, event: &Event) -> Option<Change> {
        let before = event.old.as_ref().is_some_and(|old| self.takes(old));
        let after = !event.deleted && self.takes(&event.entry);
        match (before, after) {
            (false, true) => Some(Change::Added),
            (true, true) => Some(Change::Modified),
            (true, false) => Some(Change::Deleted),
            (false, false) => None,
        }
    }

    fn in_namespace(&self, entry: &Entry) -> bool {
        self.namespace.is_empty() || self.namespace == entry.namespace
    }
}

struct Watcher {
    filter: Filter,
    queue: mpsc::Sender<(Change, Arc<Event>)>,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<SmolStr, Arc<Entry>>,
    ring: VecDeque<Arc<Event>>,
    ring_bytes: usize,
    /// Every event with a greater revision is in the ring.
    floor: i64,
    watchers: HashMap<u64, Watcher>,
    /// Watchers of one namespace; those of all namespaces are under the empty name.
    by_namespace: HashMap<SmolStr, Vec<u64>>,
    next_watcher: u64,
}

/// The state of one prefix.
pub struct Cache {
    state: RwLock<State>,
}

/// A registration: what exists or happened so far, and the queue of what comes.
pub struct Registration {
    pub id: u64,
    /// The state to open with, when asked for.
    pub entries: Vec<Arc<Entry>>,
    /// Events after the revision asked for.
    pub events: Vec<(Change, Arc<Event>)>,
    pub queue: mpsc::Receiver<(Change, Arc<Event>)>,
}

impl Cache {
    pub(crate) fn new(floor: i64) -> Cache {
        Cache { state: RwLock::new(State { floor, ..State::default() }) }
    }

    /// Fills in what existed when the feed started.
    pub(crate) fn load(&self, entry: Entry) {
        self.state.write().entries.insert(entry.key.clone(), Arc::new(entry));
    }

    /// Applies one change and hands it to the watchers that want it.
    pub(crate) fn apply(&self, revision: i64, key: &str, new: Option<Entry>) {
        let mut state = self.state.write();
        let event = match new {
            Some(entry) => {
                let entry = Arc::new(entry);
                let old = state.entries.insert(entry.key.clone(), entry.clone());
                Event::new(revision, entry, old, false)
            }
            None => {
                let Some(old) = state.entries.remove(key) else { return };
                Event::new(revision, Arc::new(old.at(revision)), Some(old), true)
            }
        };
        state.publish(Arc::new(event));
    }

    /// Registers a watcher. `after` is the revision from which events are wanted; `None` opens with the current state.
    pub fn register(&self, filter: Filter, after: Option<i64>) -> Result<Registration, Status> {
        let mut state = self.state.write();
        let mut entries = Vec::new();
        let mut events = Vec::new();
        match after {
            None => {
                entries = state.range(&filter.namespace, None).filter(|e| filter.takes(e)).cloned().collect();
            }
            Some(revision) => {
                if revision < state.floor {
                    let floor = state.floor;
                    return Err(Status::expired(format!("too old resource version: {revision} ({floor})")));
                }
                let from = state.ring.partition_point(|e| e.revision <= revision);
                for event in state.ring.range(from..) {
                    if filter.in_namespace(&event.entry)
                        && let Some(change) = filter.see(event)
                    {
                        events.push((change, event.clone()));
                    }
                }
            }
        }
        let (sender, queue) = mpsc::channel(WATCH_QUEUE);
        state.next_watcher += 1;
        let id = state.next_watcher;
        state.by_namespace.entry(filter.namespace.clone()).or_default().push(id);
        state.watchers.insert(id, Watcher { filter, queue: sender });
        Ok(Registration { id, entries, events, queue })
    }

    pub fn unregister(&self, id: u64) {
        self.state.write().forget(id);
    }

    /// Up to `limit` matching objects (0: all) in key order, from after a key, and how many more match.
    pub fn list(
        &self,
        namespace: &str,
        after: Option<&str>,
        limit: usize,
        takes: impl Fn(&Entry) -> bool,
    ) -> (Vec<Arc<Entry>>, usize) {
        let state = self.state.read();
        let mut found = Vec::new();
        let mut more = 0;
        for entry in state.range(namespace, after) {
            if !takes(entry) {
                continue;
            }
            if limit > 0 && found.len() >= limit {
                more += 1;
            } else {
                found.push(entry.clone());
            }
        }
        (found, more)
    }

    /// The object under a key below the prefix.
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.state.read().entries.get(key).cloned()
    }

    pub fn len(&self) -> usize {
        self.state.read().entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Watchers registered now.
    pub fn watchers(&self) -> usize {
        self.state.read().watchers.len()
    }
}

impl State {
    /// Entries of a namespace (all with an empty one) in key order, from after a key.
    fn range(&self, namespace: &str, after: Option<&str>) -> impl Iterator<Item = &Arc<Entry>> {
        use std::ops::Bound;
        let prefix = if namespace.is_empty() { String::new() } else { format!("{namespace}/") };
        let start = match after {
            Some(key) => Bound::Excluded(SmolStr::new(key)),
            None => Bound::Included(SmolStr::new(&prefix)),
        };
        self.entries
            .range((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix.as_str()))
            .map(|(_, entry)| entry)
    }

    fn publish(&mut self, event: Arc<Event>) {
        let mut slow = Vec::new();
        for group in [event.entry.namespace.as_str(), ""] {
            for id in self.by_namespace.get(group).map(Vec::as_slice).unwrap_or_default() {
                let Some(watcher) = self.watchers.get(id) else { continue };
                if let Some(change) = watcher.filter.see(&event)
                    && watcher.queue.try_send((change, event.clone())).is_err()
                {
                    slow.push(*id);
                }
            }
            // A cluster-scoped object has only the one group.
            if event.entry.namespace.is_empty() {
                break;
            }
        }
        for id in slow {
            self.forget(id);
        }
        self.ring_bytes += event.entry.body.len();
        self.ring.push_back(event);
        while self.ring_bytes > RING_BYTES || self.ring.len() > RING_EVENTS {
            let Some(oldest) = self.ring.pop_front() else { break };
            self.ring_bytes -= oldest.entry.body.len();
            self.floor = oldest.revision;
        }
    }

    /// Removing the sender closes the queue: the watch ends when it has drained it.
    fn forget(&mut self, id: u64) {
        if let Some(watcher) = self.watchers.remove(&id)
            && let Some(ids) = self.by_namespace.get_mut(&watcher.filter.namespace)
        {
            ids.retain(|i| *i != id);
            if ids.is_empty() {
                self.by_namespace.remove(&watcher.filter.namespace);
            }
        }
    }
}
