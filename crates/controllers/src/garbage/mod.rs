//! Deletes what nobody owns any more: the graph of owners and dependents over every resource.
//!
//! `graph` is the pure part: what is known, and what is to be looked at. This part follows every resource that the API
//! serves, feeds the graph, and carries out what [`graph::decide`] says of one object at a time. The graph may be
//! behind; before anything is deleted for lack of an owner, the API is asked whether the owner is there.

mod graph;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use apimachinery::{GroupVersionResource, Map, SmolStr, Status, Value};
use client::{
    Body, Client, Informer, Key, Outcome, PatchKind, Query, Queue, Request, Scope, Served, Verb, run_workers,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::Context;
use graph::{Decision, FOREGROUND, Graph, ORPHAN, Object, OwnerState, decide};

/// Resources that come and go too fast to own anything, as upstream leaves them out.
const IGNORED: &[(&str, &str)] = &[("", "events"), ("events.k8s.io", "events"), ("coordination.k8s.io", "leases")];
/// How long changes of custom resource definitions are collected.
const COLLECT: Duration = Duration::from_millis(100);
const RETRY: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Collector {
    client: Client,
    graph: Arc<Mutex<Graph>>,
    queue: Queue<SmolStr>,
    /// By apiVersion and kind.
    kinds: Arc<Mutex<HashMap<(SmolStr, SmolStr), Served>>>,
}

/// Runs the controller.
pub async fn run(cx: Context) {
    let collector =
        Collector { client: cx.client.clone(), graph: Arc::default(), queue: Queue::new(), kinds: Arc::default() };
    let following = follow(cx, collector.clone());
    let queue = collector.queue.clone();
    let working = run_workers("generic-garbage-collector", queue, 4, move |uid| {
        let collector = collector.clone();
        async move { collector.look(&uid).await }
    });
    tokio::join!(following, working);
}

/// Follows every resource, also those that come later.
async fn follow(cx: Context, collector: Collector) {
    let changed = Arc::new(Notify::new());
    let definitions = GroupVersionResource::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let wake = changed.clone();
    let crds = Informer::start(&cx.watcher, definitions, Scope::default(), |tree| {
        tree.str_at(&["metadata", "generation"]).map(str::to_owned).or(Some(String::new()))
    });
    crds.on_change(move |_| wake.notify_one());
    let mut followed: BTreeMap<GroupVersionResource, Informer<Object>> = BTreeMap::new();
    loop {
        match collector.client.resources().await {
            Ok(served) => collector.follow_all(&cx, served, &mut followed).await,
            Err(status) => {
                tracing::warn!(%status, "what is served is not known, trying again");
                tokio::time::sleep(RETRY).await;
                continue;
            }
        }
        changed.notified().await;
        tokio::time::sleep(COLLECT).await;
    }
}

impl Collector {
    async fn follow_all(
        &self,
        cx: &Context,
        served: Vec<Served>,
        followed: &mut BTreeMap<GroupVersionResource, Informer<Object>>,
    ) {
        let wanted: Vec<Served> = served
            .into_iter()
            .filter(|s| s.collectable && !IGNORED.contains(&(s.resource.group.as_str(), s.resource.resource.as_str())))
            .collect();
        {
            let mut kinds = self.kinds.lock();
            kinds.clear();
            for s in &wanted {
                kinds.insert((api_version(&s.resource), s.kind.clone()), s.clone());
            }
        }
        followed.retain(|resource, _| wanted.iter().any(|s| s.resource == *resource));
        let fresh: Vec<&Served> = wanted.iter().filter(|s| !followed.contains_key(&s.resource)).collect();
        let mut started = Vec::new();
        for s in fresh {
            let (of, watcher) = (s.resource.clone(), cx.watcher.clone());
            let informer = Informer::start(&watcher, s.resource.clone(), Scope::default(), move |tree| {
                Some(Object::read(&of, tree))
            });
            started.push(informer.clone());
            followed.insert(s.resource.clone(), informer);
        }
        // Only when all is known can something be missing.
        for informer in &started {
            let _ = tokio::time::timeout(Duration::from_secs(30), informer.synced()).await;
        }
        for informer in started {
            let collector = self.clone();
            informer.on_change(move |change| {
                let look = collector.graph.lock().take(change.old.map(AsRef::as_ref), change.new.map(AsRef::as_ref));
                look.into_iter().for_each(|uid| collector.queue.add(uid));
            });
        }
    }

    /// Looks at one object and does what is due.
    async fn look(&self, uid: &SmolStr) -> Result<Outcome, Status> {
        let Some(known) = self.graph.lock().object(uid) else { return Ok(Outcome::Done) };
        let Some(live) = self.get(&known).await? else { return Ok(Outcome::Done) };
        if live.uid != *uid {
            return Ok(Outcome::Done);
        }
        let mut owners = Vec::new();
        for owner in &live.owners {
            owners.push(self.state_of(&live, owner).await?);
        }
        let (dependents, waiting) = {
            let graph = self.graph.lock();
            (graph.dependents(uid), graph.waiting_for(uid))
        };
        match decide(&live, &owners, &dependents, &waiting) {
            Decision::Nothing => {}
            Decision::WaitFor(blocking) => blocking.into_iter().for_each(|dependent| self.queue.add(dependent)),
            Decision::Finish(finalizer) => self.remove_finalizer(&live, finalizer).await?,
            Decision::Orphan(dependents) => {
                for dependent in dependents {
                    self.release(&dependent, uid).await?;
                }
                self.remove_finalizer(&live, ORPHAN).await?;
            }
            Decision::DropOwners(uids) => self.keep_owners(&live, |owner| !uids.contains(owner)).await?,
            Decision::Delete(policy) => self.delete(&live, policy).await?,
        }
        Ok(Outcome::Done)
    }

    async fn get(&self, object: &Object) -> Result<Option<Object>, Status> {
        match self.client.send_tree(request(Verb::Get, object, Body::None)).await {
            Ok(tree) => Ok(Some(Object::read(&object.resource, &tree))),
            Err(status) if status.is_not_found() => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Whether an owner is there. The graph knows of those that it has seen; of others the API is asked.
    async fn state_of(&self, of: &Object, owner: &graph::Owner) -> Result<OwnerState, Status> {
        if let Some(known) = self.graph.lock().object(&owner.uid) {
            return Ok(if known.is_ending_with(FOREGROUND) { OwnerState::Waiting } else { OwnerState::Present });
        }
        let served = self.kinds.lock().get(&(owner.api_version.clone(), owner.kind.clone())).cloned();
        let Some(served) = served.or_else(|| self.other_version(owner)) else {
            // Of a kind that is not known nobody can say that it is gone.
            return Ok(OwnerState::Present);
        };
        if served.namespaced && of.key.namespace.is_empty() {
            // A cluster-wide object cannot have an owner in a namespace: nothing is decided on that.
            return Ok(OwnerState::Present);
        }
        let namespace = if served.namespaced { of.key.namespace.clone() } else { SmolStr::default() };
        let key = Key::new(namespace, owner.name.clone());
        let probe = Object { resource: served.resource, key, ..Object::default() };
        Ok(match self.get(&probe).await? {
            Some(found) if found.uid == owner.uid => {
                if found.is_ending_with(FOREGROUND) {
                    OwnerState::Waiting
                } else {
                    OwnerState::Present
                }
            }
            _ => OwnerState::Gone,
        })
    }

    /// An owner may be named by a version that is not the preferred one.
    fn other_version(&self, owner: &graph::Owner) -> Option<Served> {
        let group = owner.api_version.split_once('/').map_or("", |(group, _)| group);
        let kinds = self.kinds.lock();
        kinds.values().find(|s| s.resource.group == group && s.kind == owner.kind).cloned()
    }

    async fn patch(&self, object: &Object, metadata: Map) -> Result<(), Status> {
        let mut metadata = metadata;
        // Whoever changed it meanwhile goes first.
        metadata.insert("resourceVersion", object.revision.clone());
        metadata.insert("uid", object.uid.clone());
        let mut patch = Map::new();
        patch.insert("metadata", metadata);
        let body = Body::Patch(PatchKind::Merge, Value::Map(patch));
        match self.client.send(request(Verb::Patch, object, body)).await {
            Err(status) if !status.is_not_found() => Err(status),
            _ => Ok(()),
        }
    }

    async fn remove_finalizer(&self, object: &Object, finalizer: &str) -> Result<(), Status> {
        let left: Vec<Value> =
            object.finalizers.iter().filter(|f| *f != finalizer).map(|f| Value::from(f.as_str())).collect();
        let mut metadata = Map::new();
        metadata.insert("finalizers", left);
        self.patch(object, metadata).await
    }

    async fn keep_owners(&self, object: &Object, keep: impl Fn(&SmolStr) -> bool) -> Result<(), Status> {
        let left: Vec<Value> = object.owners.iter().filter(|o| keep(&o.uid)).map(|o| o.tree.clone()).collect();
        let mut metadata = Map::new();
        metadata.insert("ownerReferences", left);
        self.patch(object, metadata).await
    }

    /// Takes one owner from a dependent.
    async fn release(&self, dependent: &Object, owner: &SmolStr) -> Result<(), Status> {
        let Some(live) = self.get(dependent).await? else { return Ok(()) };
        if live.uid != dependent.uid || !live.owners.iter().any(|o| o.uid == *owner) {
            return Ok(());
        }
        self.keep_owners(&live, |uid| uid != owner).await
    }

    async fn delete(&self, object: &Object, policy: &'static str) -> Result<(), Status> {
        let mut options = match Client::only_uid(&object.uid) {
            Value::Map(map) => map,
            _ => Map::new(),
        };
        options.insert("propagationPolicy", policy);
        let (namespace, name) = (&object.key.namespace, &object.key.name);
        match self.client.delete_resource(&object.resource, namespace, name, Value::Map(options)).await {
            Err(status) if status.is_not_found() || status.is_conflict() => Ok(()),
            other => other,
        }
    }
}

fn api_version(resource: &GroupVersionResource) -> SmolStr {
    if resource.group.is_empty() {
        resource.version.clone()
    } else {
        format!("{}/{}", resource.group, resource.version).into()
    }
}

fn request(verb: Verb, object: &Object, body: Body) -> Request {
    Request {
        verb,
        resource: object.resource.clone(),
        namespace: object.key.namespace.clone(),
        name: object.key.name.clone(),
        subresource: SmolStr::default(),
        query: Query::default(),
        body,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::{context, eventually};

    #[tokio::test]
    async fn dependents_go_with_their_owner() {
        let cluster = testkit::FakeBackend::new();
        let maps = GroupVersionResource::new("", "v1", "configmaps");
        let owner = r#"{"kind":"ConfigMap","metadata":{"name":"owner","namespace":"n","uid":"1"}}"#;
        let owned = |name: &str, uid: &str| {
            format!(
                r#"{{"kind":"ConfigMap","metadata":{{"name":"{name}","namespace":"n","uid":"{uid}","ownerReferences":[
                {{"apiVersion":"v1","kind":"ConfigMap","name":"owner","uid":"1"}}]}}}}"#
            )
        };
        cluster.put(&maps, owner);
        cluster.put(&maps, &owned("a", "2"));
        let lost = owned("b", "3").replace("\"uid\":\"1\"", "\"uid\":\"0\"");
        cluster.put(&maps, &lost);
        let task = tokio::spawn(run(context(&cluster)));
        eventually(|| cluster.get(&maps, "n", "b").is_none()).await;
        assert!(cluster.get(&maps, "n", "a").is_some());
        cluster.remove(&maps, "n", "owner");
        eventually(|| cluster.get(&maps, "n", "a").is_none()).await;
        task.abort();
    }
}
