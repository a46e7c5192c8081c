//! The other objects, as plugins look at them: read out of the engine itself, so that nothing is stale.

use std::sync::{Arc, OnceLock, Weak};

use apimachinery::{Kind, SmolStr, Status, Value};
use client::Client;
use engine::{Cx, Engine, ListOptions, Target, User};

use super::policy::Policies;
use super::webhook::Webhooks;
use crate::authz::Authorizer;
use crate::webhook::Caller;

/// What plugins may ask about the rest of the cluster.
pub struct World {
    engine: OnceLock<Weak<Engine>>,
    pub authorizer: Arc<Authorizer>,
    /// Calls webhooks.
    pub caller: Arc<Caller>,
    pub(super) webhooks: Webhooks,
    pub(super) policies: Policies,
    /// Who the plugins are when they look.
    cx: Cx,
}

impl World {
    pub(super) fn new(authorizer: Arc<Authorizer>) -> World {
        let user = User {
            name: SmolStr::new_static("system:apiserver"),
            groups: vec![SmolStr::new_static("system:masters")],
            ..User::default()
        };
        World {
            engine: OnceLock::new(),
            authorizer,
            caller: Arc::default(),
            webhooks: Webhooks::default(),
            policies: Policies::default(),
            cx: Cx::new(Arc::new(user)),
        }
    }

    pub(super) fn attach(&self, engine: &Arc<Engine>) {
        if self.engine.set(Arc::downgrade(engine)).is_err() {
            tracing::warn!("admission is attached to an engine already");
        }
    }

    pub(super) async fn start(&self, client: &Client) {
        self.webhooks.start(client).await;
        self.policies.start(client).await;
    }

    /// The engine.
    ///
    /// # Errors
    /// 503 before [`super::Plugins::attach`] and while the process ends.
    pub fn engine(&self) -> Result<Arc<Engine>, Status> {
        self.engine
            .get()
            .and_then(Weak::upgrade)
            .ok_or_else(|| Status::service_unavailable("not yet ready to handle request"))
    }

    /// The context of the plugins' own reads.
    pub fn cx(&self) -> &Cx {
        &self.cx
    }

    /// The served kind of a resource.
    pub fn kind(&self, group: &str, version: &str, resource: &str) -> Result<Arc<Kind>, Status> {
        self.engine()?
            .catalog()
            .kind(group, version, resource)
            .ok_or_else(|| Status::internal(format!("{resource} of group {group:?} are not served")))
    }

    /// The newest state of one object of version v1; `None` when it does not exist.
    pub async fn get(&self, group: &str, resource: &str, namespace: &str, name: &str) -> Result<Option<Value>, Status> {
        let engine = self.engine()?;
        let kind = self.kind(group, "v1", resource)?;
        let target = Target { kind, namespace: namespace.into(), name: name.into(), subresource: SmolStr::default() };
        match engine.get(&self.cx, &target).await {
            Ok(object) => engine.tree(&object, &target.kind).await.map(Some),
            Err(status) if status.is_not_found() => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// All objects of version v1 of a resource, in one namespace or in all, out of the engine's memory. They include
    /// whatever was acknowledged before: a quota or a limit holds from the moment its maker has the answer.
    pub async fn list(&self, group: &str, resource: &str, namespace: &str) -> Result<Vec<Value>, Status> {
        let engine = self.engine()?;
        let kind = self.kind(group, "v1", resource)?;
        let target =
            Target { kind, namespace: namespace.into(), name: SmolStr::default(), subresource: SmolStr::default() };
        let page = engine.list(&self.cx, &target, &ListOptions::default()).await?;
        let mut trees = Vec::with_capacity(page.objects.len());
        for object in &page.objects {
            trees.push(engine.tree(object, &target.kind).await?);
        }
        Ok(trees)
    }
}
