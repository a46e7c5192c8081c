//! Custom resource definitions: their names are accepted or refused, their kinds enter and leave the catalog, and a
//! deleted definition takes its instances with it.

mod names;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::crd::{self, Conversion};
use apimachinery::kind::Verbs;
use apimachinery::{GroupResource, GroupVersionResource, SmolStr, Status, Value};
use client::{Client, Informer, Outcome, Queue, Scope, run_workers};
use engine::{Clock, Cx, DeleteOptions, Engine, ListOptions, Resource, Target, User, WriteOptions};
use parking_lot::Mutex;
use tokio::task::AbortHandle;

use crate::convert::Conversions;
use crate::tree::{strings, text};
use crate::webhook::Hook;
use names::{Condition, FINALIZER};

const GROUP: &str = "apiextensions.k8s.io";
const RESOURCE: &str = "customresourcedefinitions";
/// How soon instances that finalizers hold are looked at again.
const HELD: Duration = Duration::from_secs(1);

/// Follows the definitions until it is dropped.
pub struct Definitions {
    _informer: Informer<SmolStr>,
    worker: AbortHandle,
}

impl Drop for Definitions {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

/// What is served for a definition, to see whether it must be made anew.
struct Installed {
    resource: GroupResource,
    /// Spec, accepted names, and whether it is ending.
    made_of: Value,
}

struct Worker {
    engine: Arc<Engine>,
    conversions: Arc<Conversions>,
    clock: Arc<dyn Clock>,
    cx: Cx,
    queue: Queue<SmolStr>,
    installed: Mutex<HashMap<SmolStr, Installed>>,
}

impl Definitions {
    /// Installs what is defined now, then follows. `client` must act as a member of the masters.
    pub async fn start(
        engine: Arc<Engine>,
        client: &Client,
        conversions: Arc<Conversions>,
        clock: Arc<dyn Clock>,
    ) -> Result<Definitions, Status> {
        let user = User {
            name: SmolStr::new_static("system:apiserver"),
            groups: vec![SmolStr::new_static(crate::authz::MASTERS)],
            ..User::default()
        };
        let queue = Queue::new();
        let worker = Arc::new(Worker {
            engine,
            conversions,
            clock,
            cx: Cx::new(Arc::new(user)),
            queue: queue.clone(),
            installed: Mutex::default(),
        });
        // The projection is the group: when a definition goes, others of its group may have its names.
        let resource = GroupVersionResource::new(GROUP, "v1", RESOURCE);
        let informer =
            Informer::start(client, resource, Scope::default(), |t| Some(text(t, &["spec", "group"]).into()));
        informer.synced().await;
        for (key, _) in informer.all() {
            if let Err(status) = worker.sync(&key.name).await {
                // A bad definition must not keep the server from starting.
                tracing::warn!(definition = %key.name, %status, "a custom resource is not served");
                queue.retry(key.name);
            }
        }
        let changed = queue.clone();
        informer.on_change(move |change| changed.add(change.key.name.clone()));
        let task = tokio::spawn(async move {
            run_workers("customresourcedefinitions", queue, 1, move |name: SmolStr| {
                let worker = worker.clone();
                async move { worker.sync(&name).await }
            })
            .await;
        });
        Ok(Definitions { _informer: informer, worker: task.abort_handle() })
    }
}

impl Worker {
    fn target(&self, name: &str, subresource: &'static str) -> Result<Target, Status> {
        let kind = self.engine.catalog().kind(GROUP, "v1", RESOURCE);
        let kind = kind.ok_or_else(|| Status::internal("custom resource definitions are not served"))?;
        Ok(Target { kind, namespace: "".into(), name: name.into(), subresource: subresource.into() })
    }

    async fn sync(&self, name: &SmolStr) -> Result<Outcome, Status> {
        let target = self.target(name, "")?;
        let definition = match self.engine.get(&self.cx, &target).await {
            Ok(object) => self.engine.tree(&object, &target.kind).await?,
            Err(status) if status.is_not_found() => {
                self.uninstall(name).await?;
                return Ok(Outcome::Done);
            }
            Err(status) => return Err(status),
        };
        if definition.at(&["metadata", "deletionTimestamp"]).is_some()
            && strings(&definition, &["metadata", "finalizers"]).contains(&FINALIZER)
        {
            return self.end(name, &definition).await;
        }
        let taken = self.taken(name, &definition).await?;
        let mut new = names::settle(&definition, &taken, self.now());
        let accepted = names::is_true(&new, "NamesAccepted");
        if accepted || names::is_true(&new, "Established") {
            match self.install(name, &new, false) {
                Ok(()) if accepted => names::set(&mut new, &Condition::ESTABLISHED, self.now()),
                Ok(()) => {}
                Err(why) => names::set(&mut new, &Condition::not_established(&why), self.now()),
            }
        }
        if new.get("status") != definition.get("status") {
            self.write_status(name, &new).await?;
            if new.at(&["status", "acceptedNames"]) != definition.at(&["status", "acceptedNames"]) {
                self.wake_group(name, text(&definition, &["spec", "group"])).await?;
            }
        }
        Ok(Outcome::Done)
    }

    fn now(&self) -> i64 {
        self.clock.now().0
    }

    async fn all(&self) -> Result<Vec<Value>, Status> {
        let target = self.target("", "")?;
        let page = self.engine.list(&self.cx, &target, &ListOptions::default()).await?;
        page.objects.iter().map(|object| object.tree()).collect()
    }

    /// The names that others of the group hold: other definitions, and kinds that are built in.
    async fn taken(&self, name: &str, definition: &Value) -> Result<names::Taken, Status> {
        let group = text(definition, &["spec", "group"]);
        let mut taken = names::Taken::default();
        for other in self.all().await? {
            if text(&other, &["spec", "group"]) == group && text(&other, &["metadata", "name"]) != name {
                taken.add(&other);
            }
        }
        let custom: Vec<GroupResource> = self.installed.lock().values().map(|i| i.resource.clone()).collect();
        for resource in self.engine.catalog().all() {
            if resource.group_resource.group == group && !custom.contains(&resource.group_resource) {
                taken.add_kind(resource.preferred());
            }
        }
        Ok(taken)
    }

    async fn wake_group(&self, name: &str, group: &str) -> Result<(), Status> {
        for other in self.all().await? {
            let other_name = text(&other, &["metadata", "name"]);
            if text(&other, &["spec", "group"]) == group && other_name != name {
                self.queue.add(other_name.into());
            }
        }
        Ok(())
    }

    async fn write_status(&self, name: &str, new: &Value) -> Result<(), Status> {
        let status = new.get("status").cloned().unwrap_or_default();
        let change = |object: &mut Value| {
            crate::tree::set(object, &["status"], status.clone());
            Ok(())
        };
        let target = self.target(name, "status")?;
        self.engine.edit(&self.cx, &target, &WriteOptions::default(), &change).await.map(|_| ())
    }

    /// Puts a definition's kinds into the catalog, or newer ones in their place.
    fn install(&self, name: &SmolStr, definition: &Value, ending: bool) -> Result<(), String> {
        let mut made_of = Value::Map(Default::default());
        for (key, path) in [("spec", &["spec"][..]), ("names", &["status", "acceptedNames"])] {
            crate::tree::set(&mut made_of, &[key], definition.at(path).cloned().unwrap_or_default());
        }
        crate::tree::set(&mut made_of, &["ending"], ending);
        let mut installed = self.installed.lock();
        let present = installed.get(name);
        if present.is_some_and(|p| p.made_of == made_of) {
            return Ok(());
        }
        let mut definition = crd::define(definition)?;
        if ending {
            for kind in &mut definition.served {
                kind.verbs = kind.verbs.without(Verbs::CREATE);
            }
        }
        let resource = definition.storage.group_resource();
        let hook = match &definition.conversion {
            Conversion::None => None,
            Conversion::Webhook(webhook) => Some(Hook::read(webhook.get("clientConfig").unwrap_or(&Value::Null))?),
        };
        if definition.served.is_empty() {
            // Nothing to serve, but what is stored must still be deleted with the definition.
            self.engine.catalog().remove(&resource);
        } else {
            let versions: Vec<Arc<apimachinery::Kind>> = definition.served.into_iter().map(Arc::new).collect();
            let stored = versions.iter().find(|k| k.version == definition.storage.version).cloned();
            let served = Resource {
                group_resource: resource.clone(),
                prefix: format!("{}/{}", resource.group, resource.resource).into(),
                storage: Some(stored.unwrap_or_else(|| Arc::new(definition.storage))),
                versions,
            };
            self.engine.catalog().insert(served, present.is_some())?;
        }
        self.conversions.set_webhook(resource.clone(), hook);
        tracing::info!(definition = %name, "a custom resource is served");
        installed.insert(name.clone(), Installed { resource, made_of });
        Ok(())
    }

    async fn uninstall(&self, name: &SmolStr) -> Result<(), Status> {
        let gone = self.installed.lock().remove(name);
        if let Some(gone) = gone {
            self.engine.catalog().remove(&gone.resource);
            self.conversions.set_webhook(gone.resource.clone(), None);
            tracing::info!(definition = %name, "a custom resource is no longer served");
            self.wake_group(name, &gone.resource.group).await?;
        }
        Ok(())
    }

    /// Deletes the instances of a deleted definition, then lets it go.
    async fn end(&self, name: &SmolStr, definition: &Value) -> Result<Outcome, Status> {
        let mut new = definition.clone();
        if names::is_true(definition, "Established") {
            if let Err(why) = self.install(name, definition, true) {
                tracing::warn!(definition = %name, why, "a deleted custom resource cannot be served any more");
            }
            names::set(&mut new, &Condition::DELETING, self.now());
            if new.get("status") != definition.get("status") {
                self.write_status(name, &new).await?;
            }
            if self.delete_instances(definition).await? {
                return Ok(Outcome::After(HELD));
            }
            names::set(&mut new, &Condition::DELETED, self.now());
        } else {
            names::set(&mut new, &Condition::NEVER, self.now());
        }
        self.write_status(name, &new).await?;
        let change = |object: &mut Value| {
            if let Some(finalizers) = crate::tree::list_mut(object, &["metadata", "finalizers"]) {
                finalizers.retain(|f| f.as_str() != Some(FINALIZER));
            }
            Ok(())
        };
        self.engine.edit(&self.cx, &self.target(name, "")?, &WriteOptions::default(), &change).await?;
        self.uninstall(name).await?;
        Ok(Outcome::Done)
    }

    /// Deletes every instance; answers whether some are still there, held by their finalizers.
    async fn delete_instances(&self, definition: &Value) -> Result<bool, Status> {
        let accepted = text(definition, &["status", "acceptedNames", "plural"]);
        let Some(resource) = self.engine.catalog().get(text(definition, &["spec", "group"]), accepted) else {
            return Ok(false);
        };
        let all = Target {
            kind: resource.preferred().clone(),
            namespace: "".into(),
            name: "".into(),
            subresource: "".into(),
        };
        let options = DeleteOptions::default();
        self.engine.delete_collection(&self.cx, &all, &ListOptions::default(), &options).await?;
        let left = self.engine.list(&self.cx, &all, &ListOptions { limit: 1, ..ListOptions::default() }).await?;
        Ok(!left.objects.is_empty())
    }
}
