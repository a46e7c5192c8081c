//! Informers: a projection of every object of a resource, kept current by one watch.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::{GroupVersionResource, SmolStr, Value};
use futures::StreamExt;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use crate::backend::{Body, EventKind, Query, Request, Verb};
use crate::typed::Client;

/// Namespace (empty for cluster-scoped objects) and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    pub namespace: SmolStr,
    pub name: SmolStr,
}

impl Key {
    pub fn new(namespace: impl Into<SmolStr>, name: impl Into<SmolStr>) -> Key {
        Key { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object's tree.
    pub fn of(tree: &Value) -> Key {
        Key::new(
            tree.str_at(&["metadata", "namespace"]).unwrap_or_default(),
            tree.str_at(&["metadata", "name"]).unwrap_or_default(),
        )
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// Which objects an informer follows.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub namespace: SmolStr,
    pub label_selector: String,
    pub field_selector: String,
}

/// One difference between the cache before and after an event. Both sides are present for an update.
#[derive(Debug)]
pub struct Change<'a, V> {
    pub key: &'a Key,
    pub old: Option<&'a Arc<V>>,
    pub new: Option<&'a Arc<V>>,
}

type Handler<V> = Box<dyn Fn(&Change<'_, V>) + Send + Sync>;

struct Shared<V> {
    objects: RwLock<HashMap<Key, Arc<V>>>,
    handlers: Mutex<Vec<Handler<V>>>,
    synced: watch::Sender<bool>,
}

/// A live projection of a resource. Clones are handles to the same one; the watch ends with the last handle.
pub struct Informer<V> {
    shared: Arc<Shared<V>>,
    _task: Arc<Abort>,
}

struct Abort(tokio::task::AbortHandle);

impl Drop for Abort {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<V> Clone for Informer<V> {
    fn clone(&self) -> Self {
        Informer { shared: self.shared.clone(), _task: self._task.clone() }
    }
}

impl<V: Send + Sync + 'static> Informer<V> {
    /// Starts following a resource. `project` takes what is needed out of an object's tree; `None` leaves it out.
    pub fn start(
        client: &Client,
        resource: GroupVersionResource,
        scope: Scope,
        project: impl Fn(&Value) -> Option<V> + Send + Sync + 'static,
    ) -> Informer<V> {
        let shared = Arc::new(Shared {
            objects: RwLock::new(HashMap::new()),
            handlers: Mutex::new(Vec::new()),
            synced: watch::channel(false).0,
        });
        let task = tokio::spawn(follow(client.clone(), resource, scope, project, shared.clone()));
        Informer { shared, _task: Arc::new(Abort(task.abort_handle())) }
    }

    /// Calls `handler` for every object known now and for every change from here on, in order, on the informer's
    /// task: it must be short, such as adding a key to a queue.
    pub fn on_change(&self, handler: impl Fn(&Change<'_, V>) + Send + Sync + 'static) {
        // The handlers' lock is taken before the objects' everywhere, so no change falls between the two.
        let mut handlers = self.shared.handlers.lock();
        for (key, value) in self.shared.objects.read().iter() {
            handler(&Change { key, old: None, new: Some(value) });
        }
        handlers.push(Box::new(handler));
    }

    /// Waits until everything that existed at the start has been seen.
    pub async fn synced(&self) {
        let mut synced = self.shared.synced.subscribe();
        // The sender lives as long as `self`.
        let _ = synced.wait_for(|s| *s).await;
    }

    pub fn is_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<V>> {
        self.shared.objects.read().get(&Key::new(namespace, name)).cloned()
    }

    pub fn by_key(&self, key: &Key) -> Option<Arc<V>> {
        self.shared.objects.read().get(key).cloned()
    }

    pub fn len(&self) -> usize {
        self.shared.objects.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Everything, in no order.
    pub fn all(&self) -> Vec<(Key, Arc<V>)> {
        self.shared.objects.read().iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }

    /// What `pick` accepts, in no order; `pick` runs under the cache's lock.
    pub fn filter(&self, mut pick: impl FnMut(&Key, &V) -> bool) -> Vec<(Key, Arc<V>)> {
        let objects = self.shared.objects.read();
        objects.iter().filter(|(k, v)| pick(k, v)).map(|(k, v)| (k.clone(), v.clone())).collect()
    }
}

impl<V> Shared<V> {
    fn set(&self, key: Key, new: Option<V>) {
        let new = new.map(Arc::new);
        let handlers = self.handlers.lock();
        let old = {
            let mut objects = self.objects.write();
            match &new {
                Some(value) => objects.insert(key.clone(), value.clone()),
                None => objects.remove(&key),
            }
        };
        if old.is_none() && new.is_none() {
            return;
        }
        for handler in handlers.iter() {
            handler(&Change { key: &key, old: old.as_ref(), new: new.as_ref() });
        }
    }
}

/// The watch loop: from the last revision seen, or with initial events when there is none.
async fn follow<V: Send + Sync + 'static>(
    client: Client,
    resource: GroupVersionResource,
    scope: Scope,
    project: impl Fn(&Value) -> Option<V> + Send + Sync + 'static,
    shared: Arc<Shared<V>>,
) {
    let mut revision = String::new();
    let mut failures = 0u32;
    loop {
        let request = Request {
            verb: Verb::List,
            resource: resource.clone(),
            namespace: scope.namespace.clone(),
            name: SmolStr::default(),
            subresource: SmolStr::default(),
            query: Query {
                label_selector: scope.label_selector.clone(),
                field_selector: scope.field_selector.clone(),
                resource_version: revision.clone(),
                ..Query::default()
            },
            body: Body::None,
        };
        let ended = match client.watch(request).await {
            Ok(stream) => drain(stream, &project, &shared, &mut revision, &mut failures).await,
            Err(status) => Some(status),
        };
        if let Some(status) = ended {
            if status.is_expired() {
                revision.clear();
            } else {
                tracing::debug!(resource = %resource.resource, %status, "watch ended");
            }
            failures = failures.saturating_add(1);
        }
        // A server ends watches now and then by design; only failures wait.
        if failures > 0 {
            tokio::time::sleep(
                Duration::from_millis(50u64.saturating_mul(1 << failures.min(8))).min(Duration::from_secs(10)),
            )
            .await;
        }
    }
}

/// Applies one stream's events; answers with the Status that ended it.
async fn drain<V: Send + Sync + 'static>(
    mut stream: crate::backend::WatchStream,
    project: &impl Fn(&Value) -> Option<V>,
    shared: &Shared<V>,
    revision: &mut String,
    failures: &mut u32,
) -> Option<apimachinery::Status> {
    // With initial events, what is not among them is gone.
    let mut initial = revision.is_empty().then(std::collections::HashSet::new);
    while let Some(event) = stream.next().await {
        let event = match event {
            Ok(event) => event,
            Err(status) => return Some(status),
        };
        *failures = 0;
        let tree = match apimachinery::codec::json::parse(&event.object) {
            Ok(tree) => tree,
            Err(error) => return Some(apimachinery::Status::internal(error)),
        };
        let seen = tree.str_at(&["metadata", "resourceVersion"]).unwrap_or_default().to_string();
        match event.kind {
            EventKind::Bookmark => {
                let ends_initial = tree.str_at(&["metadata", "annotations", "k8s.io/initial-events-end"]).is_some();
                if ends_initial && let Some(present) = initial.take() {
                    let gone: Vec<Key> =
                        shared.objects.read().keys().filter(|k| !present.contains(*k)).cloned().collect();
                    for key in gone {
                        shared.set(key, None);
                    }
                    shared.synced.send_replace(true);
                }
            }
            EventKind::Added | EventKind::Modified => {
                let key = Key::of(&tree);
                if let Some(present) = &mut initial {
                    present.insert(key.clone());
                }
                shared.set(key, project(&tree));
            }
            EventKind::Deleted => shared.set(Key::of(&tree), None),
        }
        // During initial events a lost connection must start over, so the revision counts only afterwards.
        if initial.is_none() {
            *revision = seen;
        }
    }
    None
}
