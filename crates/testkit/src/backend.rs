//! A cluster of a few objects in memory, for components that ask and listen through `client`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use apimachinery::{GroupVersionResource, Map, Status, Value};
use bytes::Bytes;
use client::backend::BoxFuture;
use client::{Backend, Body, Client, EventKind, Key, Request, Served, Verb, WatchEvent, WatchStream};
use futures::StreamExt;
use futures::channel::mpsc;

type Watcher = (GroupVersionResource, mpsc::UnboundedSender<Result<WatchEvent, Status>>);

#[derive(Default)]
struct State {
    objects: BTreeMap<(GroupVersionResource, Key), Value>,
    watchers: Vec<Watcher>,
    revision: u64,
}

/// Objects without rules: what is put is there, and all who watch its resource hear of it. Selectors are not looked at.
#[derive(Clone, Default)]
pub struct FakeBackend {
    state: Arc<Mutex<State>>,
}

impl FakeBackend {
    /// An empty cluster.
    pub fn new() -> Self {
        Self::default()
    }

    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new(Arc::new(self.clone()), "test")
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds or replaces an object given as JSON.
    pub fn put(&self, resource: &GroupVersionResource, json: &str) {
        let tree = apimachinery::codec::json::parse(json.as_bytes()).unwrap_or_else(|error| panic!("{error}: {json}"));
        self.store(resource, tree);
    }

    fn store(&self, resource: &GroupVersionResource, mut tree: Value) -> Bytes {
        let mut state = self.lock();
        state.revision += 1;
        let revision = state.revision.to_string();
        if let Some(metadata) = tree.as_map_mut().and_then(|map| map.get_mut("metadata")).and_then(Value::as_map_mut) {
            metadata.insert("resourceVersion", revision);
        }
        let key = (resource.clone(), Key::of(&tree));
        let bytes = apimachinery::codec::json::encode_free(&tree);
        let known = state.objects.insert(key, tree).is_some();
        state.tell(resource, if known { EventKind::Modified } else { EventKind::Added }, &bytes);
        bytes
    }

    /// Gives a new object what a server would: a generated name if it asks for one, and a uid.
    fn name(&self, tree: &mut Value) {
        let unique = self.lock().revision + 1;
        let Some(metadata) = tree.as_map_mut().and_then(|map| map.get_mut("metadata")).and_then(Value::as_map_mut)
        else {
            return;
        };
        if let Some(prefix) = metadata.get("generateName").and_then(Value::as_str).map(str::to_string)
            && metadata.get("name").is_none()
        {
            metadata.insert("name", format!("{prefix}{unique:05}"));
        }
        metadata.get_or_insert_with("uid", || format!("uid-{unique}").into());
    }

    /// All objects of a resource.
    pub fn all(&self, resource: &GroupVersionResource) -> Vec<Value> {
        let state = self.lock();
        state.objects.iter().filter(|((known, _), _)| known == resource).map(|(_, tree)| tree.clone()).collect()
    }

    /// How many objects a resource has.
    pub fn count(&self, resource: &GroupVersionResource) -> usize {
        self.lock().objects.keys().filter(|(known, _)| known == resource).count()
    }

    /// Removes an object.
    pub fn remove(&self, resource: &GroupVersionResource, namespace: &str, name: &str) {
        let mut state = self.lock();
        if let Some(tree) = state.objects.remove(&(resource.clone(), Key::new(namespace, name))) {
            let bytes = apimachinery::codec::json::encode_free(&tree);
            state.tell(resource, EventKind::Deleted, &bytes);
        }
    }

    /// An object as it is now.
    pub fn get(&self, resource: &GroupVersionResource, namespace: &str, name: &str) -> Option<Value> {
        self.lock().objects.get(&(resource.clone(), Key::new(namespace, name))).cloned()
    }
}

impl State {
    fn tell(&mut self, resource: &GroupVersionResource, kind: EventKind, bytes: &Bytes) {
        self.watchers.retain(|(watched, sender)| {
            watched != resource || sender.unbounded_send(Ok(WatchEvent { kind, object: bytes.clone() })).is_ok()
        });
    }
}

impl Backend for FakeBackend {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Bytes, Status>> {
        Box::pin(async move {
            let known = self.get(&request.resource, &request.namespace, &request.name);
            let missing = || Status::not_found(&request.resource.group_resource(), &request.name);
            match (request.verb, request.body) {
                (Verb::Create, Body::Object(mut tree)) => {
                    self.name(&mut tree);
                    let key = Key::of(&tree);
                    if self.get(&request.resource, &key.namespace, &key.name).is_some() {
                        return Err(Status::already_exists(&request.resource.group_resource(), &key.name));
                    }
                    Ok(self.store(&request.resource, tree))
                }
                (Verb::Update, Body::Object(tree)) => Ok(self.store(&request.resource, tree)),
                (Verb::Patch, Body::Patch(_, tree)) => {
                    let mut merged = known.ok_or_else(missing)?;
                    merge(&mut merged, tree);
                    Ok(self.store(&request.resource, merged))
                }
                (Verb::List, _) => {
                    let state = self.lock();
                    let items = state.objects.iter().filter(|((resource, key), _)| {
                        *resource == request.resource
                            && (request.namespace.is_empty() || key.namespace == request.namespace)
                    });
                    let items: Vec<Value> = items.map(|(_, tree)| tree.clone()).collect();
                    let mut list = Map::new();
                    list.insert("items", Value::List(items));
                    Ok(apimachinery::codec::json::encode_free(&Value::Map(list)))
                }
                (Verb::Get, _) => Ok(apimachinery::codec::json::encode_free(&known.ok_or_else(missing)?)),
                (Verb::Delete, _) => {
                    known.ok_or_else(missing)?;
                    self.remove(&request.resource, &request.namespace, &request.name);
                    Ok(Bytes::from_static(b"{}"))
                }
                _ => Err(Status::internal("the fake cluster cannot do that")),
            }
        })
    }

    fn watch(&self, request: Request) -> BoxFuture<'_, Result<WatchStream, Status>> {
        Box::pin(async move {
            let mut state = self.lock();
            let (sender, receiver) = mpsc::unbounded();
            let mut initial: Vec<Result<WatchEvent, Status>> = Vec::new();
            for ((resource, _), tree) in &state.objects {
                if *resource == request.resource {
                    let object = apimachinery::codec::json::encode_free(tree);
                    initial.push(Ok(WatchEvent { kind: EventKind::Added, object }));
                }
            }
            let bookmark = format!(
                r#"{{"metadata":{{"resourceVersion":"{}","annotations":{{"k8s.io/initial-events-end":"true"}}}}}}"#,
                state.revision
            );
            initial.push(Ok(WatchEvent { kind: EventKind::Bookmark, object: bookmark.into() }));
            state.watchers.push((request.resource, sender));
            Ok(futures::stream::iter(initial).chain(receiver).boxed() as WatchStream)
        })
    }

    /// Resources of which there is an object.
    fn resources(&self) -> BoxFuture<'_, Result<Vec<Served>, Status>> {
        Box::pin(async move {
            let state = self.lock();
            let mut all: BTreeMap<GroupVersionResource, Served> = BTreeMap::new();
            for ((resource, key), tree) in &state.objects {
                all.entry(resource.clone()).or_insert_with(|| Served {
                    resource: resource.clone(),
                    kind: tree.str_at(&["kind"]).unwrap_or_default().into(),
                    namespaced: !key.namespace.is_empty(),
                    collectable: true,
                    in_collections: true,
                });
            }
            Ok(all.into_values().collect())
        })
    }
}

/// A JSON merge patch.
fn merge(target: &mut Value, patch: Value) {
    match (target, patch) {
        (Value::Map(target), Value::Map(patch)) => {
            for (key, value) in patch.iter() {
                if value.is_null() {
                    target.remove(key);
                } else {
                    merge(target.get_or_insert_with(key, || Value::Null), value.clone());
                }
            }
        }
        (target, patch) => *target = patch,
    }
}
