//! What every cluster has from the start: namespaces, the default RBAC policy, priority classes, flow control, the
//! `kubernetes` Service with its endpoints, and how extension servers authenticate us.
//!
//! Objects that are missing are created, in one burst that the store commits together; objects that are there are
//! reconciled by the rule of their kind: roles gain the rules they lack, bindings the subjects, flow control objects
//! follow unless their annotation says no, and what a person owns (priority classes) is left alone.

mod bindings;
mod cluster_roles;
mod controller_roles;
mod flowcontrol;
mod objects;
pub mod policy;
mod reconcile;

use std::net::IpAddr;
use std::sync::Arc;

use apimachinery::{SmolStr, Status, Value};
use engine::{Cx, Engine, Target, User, Validation, WriteOptions};
use futures::stream::{StreamExt, TryStreamExt};

use reconcile::Rule;

/// Writes in flight at the same time: enough that the store commits them together.
const BURST: usize = 256;

/// What the objects say about this cluster and this server.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Addresses under which the servers are reached from pods; those count that are of the first one's family.
    pub advertise_addresses: Vec<IpAddr>,
    /// The port there.
    pub secure_port: u16,
    /// The service networks, such as `10.96.0.0/12`; the first one's family is the default.
    pub service_cidrs: Vec<String>,
    /// The address of the `kubernetes` Service: the first of the first service network.
    pub service_ip: Option<IpAddr>,
    /// PEM of the authorities that client certificates are checked against.
    pub client_ca: String,
    /// PEM of the authority of front proxies; empty when there is none.
    pub requestheader_ca: String,
    /// Common names that a front proxy may have; empty for any.
    pub requestheader_allowed_names: Vec<String>,
}

/// One object of the burst and what to do when it is there already.
struct Wanted {
    group: &'static str,
    resource: &'static str,
    tree: Value,
    rule: Rule,
}

impl Wanted {
    fn new(group: &'static str, resource: &'static str, tree: Value, rule: Rule) -> Wanted {
        Wanted { group, resource, tree, rule }
    }
}

/// Makes sure that everything is there. Safe to call at every start and again after a change of `config`.
pub async fn ensure(engine: &Engine, config: &Config) -> Result<(), Status> {
    let cx = context();
    // Nothing can be put into a namespace before it exists.
    burst(engine, &cx, objects::namespaces()).await?;
    // The Service needs its network first.
    burst(engine, &cx, objects::service_cidr(config)).await?;
    let mut rest = rbac();
    rest.extend(objects::priority_classes());
    rest.extend(flowcontrol::objects());
    rest.extend(objects::authentication(config)?);
    rest.extend(objects::kubernetes_service(config));
    rest.push(objects::token_tracking(&apimachinery::time::rfc3339(engine.now())[..10]));
    burst(engine, &cx, rest).await
}

/// Makes sure that the Service `kubernetes` leads to the servers, after a change of their addresses.
pub async fn ensure_endpoints(engine: &Engine, config: &Config) -> Result<(), Status> {
    burst(engine, &context(), objects::kubernetes_service(config)).await
}

/// In whose name all of this is written.
fn context() -> Cx {
    let user = User {
        name: SmolStr::new_static("system:apiserver"),
        groups: vec![SmolStr::new_static("system:masters"), SmolStr::new_static("system:authenticated")],
        ..User::default()
    };
    Cx::new(Arc::new(user))
}

fn rbac() -> Vec<Wanted> {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let roles = cluster_roles::CLUSTER_ROLES.iter().chain(controller_roles::CONTROLLER_ROLES);
    let mut all: Vec<Wanted> = roles
        .chain(bindings::NAMESPACE_ROLES)
        .map(|r| Wanted::new(GROUP, r.resource(), r.tree(), Rule::Role))
        .collect();
    let own = bindings::CLUSTER_BINDINGS.iter().chain(bindings::NAMESPACE_BINDINGS);
    all.extend(own.map(|b| Wanted::new(GROUP, b.resource(), b.tree(), Rule::Binding)));
    all.extend(
        controller_roles::CONTROLLER_ROLES
            .iter()
            .map(|role| Wanted::new(GROUP, "clusterrolebindings", policy::controller_binding(role), Rule::Binding)),
    );
    all
}

async fn burst(engine: &Engine, cx: &Cx, wanted: Vec<Wanted>) -> Result<(), Status> {
    futures::stream::iter(wanted.into_iter().map(|one| ensure_one(engine, cx, one)))
        .buffer_unordered(BURST)
        .try_collect::<Vec<()>>()
        .await
        .map(|_| ())
}

async fn ensure_one(engine: &Engine, cx: &Cx, wanted: Wanted) -> Result<(), Status> {
    let kind = engine
        .catalog()
        .kind(wanted.group, "v1", wanted.resource)
        .ok_or_else(|| Status::internal(format!("{} of group {:?} are not served", wanted.resource, wanted.group)))?;
    let text = |key| SmolStr::new(wanted.tree.str_at(&["metadata", key]).unwrap_or_default());
    let (namespace, name) = (text("namespace"), text("name"));
    let target = Target { kind, namespace, name, subresource: SmolStr::default() };
    let options = WriteOptions { field_manager: SmolStr::new_static("skiff-bootstrap"), ..WriteOptions::default() };
    // A delete or a create by another server may come between look and write: look again, but not for ever.
    for _ in 0..3 {
        let current = match engine.get(cx, &target).await {
            Ok(object) => Some(engine.tree(&object, &target.kind).await?),
            Err(status) if status.is_not_found() => None,
            Err(status) => return Err(status),
        };
        let result = match current {
            None => {
                let mut tree = wanted.tree.clone();
                engine::decode::settle(cx, &target.kind, &mut tree, Validation::Ignore)?;
                let create = Target { name: SmolStr::default(), ..target.clone() };
                engine.create(cx, &create, tree, &options).await
            }
            Some(current) => match reconcile::reconcile(wanted.rule, &current, &wanted.tree) {
                None => return Ok(()),
                Some(_) => {
                    let change = |object: &mut Value| {
                        if let Some(new) = reconcile::reconcile(wanted.rule, object, &wanted.tree) {
                            *object = new;
                        }
                        Ok(())
                    };
                    engine.edit(cx, &target, &options, &change).await
                }
            },
        };
        match result {
            Ok(_) => return Ok(()),
            Err(status) if status.is_already_exists() || status.is_not_found() => {}
            Err(status) => return Err(status),
        }
    }
    Err(Status::internal(format!("{} {:?} keeps appearing and vanishing", wanted.resource, target.name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_policy_is_complete() {
        let all = rbac();
        let count = |resource| all.iter().filter(|w| w.resource == resource).count();
        let controllers = controller_roles::CONTROLLER_ROLES.len();
        assert_eq!(count("clusterroles"), cluster_roles::CLUSTER_ROLES.len() + controllers);
        assert_eq!(count("clusterrolebindings"), bindings::CLUSTER_BINDINGS.len() + controllers);
        assert_eq!((count("roles"), count("rolebindings")), (7, 7));
        let mut names: Vec<_> = all.iter().map(|w| (w.resource, client::Key::of(&w.tree))).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), all.len(), "no object comes twice");
        for binding in all.iter().filter(|w| w.resource == "clusterrolebindings") {
            let role = binding.tree.str_at(&["roleRef", "name"]).unwrap();
            let exists = all.iter().any(|w| w.resource == "clusterroles" && client::Key::of(&w.tree).name == role);
            assert!(exists, "{role}");
        }
    }
}
