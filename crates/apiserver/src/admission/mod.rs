//! What looks at other objects before a write: the table of plugins, in the order in which they run.
//!
//! Mutating steps run in the order of [`PLUGINS`], then (after the object's own validation) the validating steps in
//! the same order. A plugin is one file: a name, which writes it cares for, and its steps.

mod certificates;
mod default_class;
mod default_tolerations;
mod expressions;
mod limit_ranger;
mod namespace_lifecycle;
mod node_restriction;
mod node_taint;
mod pod;
mod pod_security;
mod policy;
mod priority;
mod rbac_escalation;
mod resource_quota;
mod runtime_class;
pub(crate) mod service;
mod service_account;
mod storage;
mod webhook;
mod world;

use std::sync::Arc;

use apimachinery::Status;
use client::Client;
use engine::cx::BoxFuture;
use engine::{Admission, Attributes, Engine, Operation};

use crate::authz::Authorizer;
pub use world::World;

/// One plugin of the table.
pub(crate) struct Plugin {
    /// Upstream's name.
    pub name: &'static str,
    /// Whether the steps have anything to say about a write.
    pub handles: fn(&Attributes<'_>) -> bool,
    pub mutate: Step,
    pub validate: Step,
}

/// What a plugin does at one of the two places.
pub(crate) enum Step {
    Nothing,
    Now(fn(&World, &mut Attributes<'_>) -> Result<(), Status>),
    Later(for<'a, 'b> fn(&'a World, &'a mut Attributes<'b>) -> BoxFuture<'a, Result<(), Status>>),
}

/// Every plugin, in order.
const PLUGINS: &[&Plugin] = &[
    &namespace_lifecycle::PLUGIN,
    &limit_ranger::PLUGIN,
    &service_account::PLUGIN,
    &node_restriction::PLUGIN,
    &node_taint::PLUGIN,
    &pod_security::PLUGIN,
    &priority::PLUGIN,
    &default_tolerations::PLUGIN,
    &default_class::STORAGE,
    &storage::PROTECTION,
    &storage::RESIZE,
    &runtime_class::PLUGIN,
    &certificates::APPROVAL,
    &certificates::SIGNING,
    &certificates::ATTEST,
    &certificates::SUBJECT,
    &default_class::INGRESS,
    &policy::MUTATING,
    &webhook::MUTATING,
    &policy::VALIDATING,
    &webhook::VALIDATING,
    &resource_quota::PLUGIN,
    &rbac_escalation::PLUGIN,
    &service::PLUGIN,
];

/// Those plugins that are asked about requests which connect; all others are about writes.
const CONNECTS: &[&str] = &["MutatingAdmissionWebhook", "ValidatingAdmissionWebhook"];

/// Admission as the engine sees it.
pub struct Plugins {
    world: World,
}

impl Plugins {
    /// Plugins that know nothing yet: [`Plugins::attach`] them to their engine before the first write.
    pub fn new(authorizer: Arc<Authorizer>) -> Arc<Plugins> {
        Arc::new(Plugins { world: World::new(authorizer) })
    }

    /// Says which engine they look into. The engine owns the plugins, so they only hold it weakly.
    pub fn attach(&self, engine: &Arc<Engine>) {
        self.world.attach(engine);
    }

    /// Calls webhooks; whoever wires the server tells it how connections are opened, and shares it with conversion.
    pub fn caller(&self) -> Arc<crate::webhook::Caller> {
        self.world.caller.clone()
    }

    /// Starts what follows other objects. `client` must act as a member of the masters.
    pub async fn start(&self, client: &Client) {
        self.world.start(client).await;
    }
}

async fn run(world: &World, attributes: &mut Attributes<'_>, step: fn(&Plugin) -> &Step) -> Result<(), Status> {
    for plugin in PLUGINS {
        let connects = attributes.operation == Operation::Connect;
        if (connects && !CONNECTS.contains(&plugin.name)) || !(plugin.handles)(attributes) {
            continue;
        }
        let result = match step(plugin) {
            Step::Nothing => continue,
            Step::Now(step) => step(world, attributes),
            Step::Later(step) => step(world, attributes).await,
        };
        if let Err(status) = result {
            tracing::debug!(plugin = plugin.name, %status, "refused");
            return Err(status);
        }
    }
    Ok(())
}

impl Admission for Plugins {
    fn mutate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(run(&self.world, attributes, |p| &p.mutate))
    }

    fn validate<'a>(&'a self, attributes: &'a mut Attributes<'_>) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(run(&self.world, attributes, |p| &p.validate))
    }
}

/// The name that messages give the object: a generated name is not made yet.
pub(crate) fn display_name<'a>(a: &'a Attributes<'_>) -> &'a str {
    if !a.name.is_empty() {
        return a.name;
    }
    let of = |key| a.object.str_at(&["metadata", key]).filter(|text| !text.is_empty());
    of("name").or_else(|| of("generateName")).unwrap_or("Unknown")
}

/// 403 in the words of admission.
pub(crate) fn forbidden(a: &Attributes<'_>, why: impl std::fmt::Display) -> Status {
    Status::forbidden(&a.kind.group_resource(), display_name(a), why)
}

/// Whether the write is about this resource (in any version), itself or a subresource.
pub(crate) fn is(a: &Attributes<'_>, group: &str, resource: &str) -> bool {
    a.kind.group == group && a.kind.resource == resource
}

/// Whether the write is about pods themselves, not a subresource of theirs.
pub(crate) fn is_pod(a: &Attributes<'_>) -> bool {
    is(a, "", "pods") && a.subresource.is_empty()
}

#[cfg(test)]
pub(crate) mod testing {
    //! What tests of plugins share: attributes around a tree.

    use std::sync::Arc;

    use apimachinery::{Kind, Value};
    use engine::cx::Reservations;
    use engine::{Attributes, Cx, Operation};

    /// One write, owned, so that a test can look at it afterwards.
    pub struct Write {
        pub cx: Cx,
        pub kind: Arc<Kind>,
        pub operation: Operation,
        pub namespace: &'static str,
        pub name: &'static str,
        pub subresource: &'static str,
        pub object: Value,
        pub old: Option<Value>,
        pub reservations: Reservations,
    }

    impl Write {
        pub fn new(kind: Kind, operation: Operation, object: Value) -> Write {
            Write {
                cx: Cx::default(),
                namespace: if kind.namespaced { "default" } else { "" },
                kind: Arc::new(kind),
                operation,
                name: "",
                subresource: "",
                object,
                old: None,
                reservations: Reservations::default(),
            }
        }

        pub fn attributes(&mut self) -> Attributes<'_> {
            Attributes {
                cx: &self.cx,
                operation: self.operation,
                kind: &self.kind,
                namespace: self.namespace,
                name: self.name,
                subresource: self.subresource,
                object: &mut self.object,
                old: self.old.as_ref(),
                options: &Value::Null,
                dry_run: false,
                reservations: &mut self.reservations,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plugin_has_a_name_and_a_step() {
        let mut names: Vec<_> = PLUGINS.iter().map(|p| p.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PLUGINS.len());
        for plugin in PLUGINS {
            let idle = matches!((&plugin.mutate, &plugin.validate), (Step::Nothing, Step::Nothing));
            assert!(!idle, "{} does nothing", plugin.name);
        }
    }
}
