//! Aggregation: API groups that other servers serve. Requests are passed on to the service that an APIService names,
//! with the user in headers under a front-proxy certificate; whether the service answers is kept in a condition.

mod availability;
mod forward;
mod local;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use apimachinery::{GroupVersionResource, SmolStr, Status, Value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use client::{Client, Informer, Key, Queue, Scope, run_workers};
use engine::Cx;
use parking_lot::{Mutex, RwLock};
use serde_json::json;
use tokio::task::AbortHandle;
use transport::{ClientTls, Dialer, Identity, Target, Trust};

use crate::pipeline::Request;
use crate::respond::Response;
use crate::server::ApiServer;
use crate::tree::{flag, list, strings, text, tree};

pub(crate) const GROUP: &str = "apiregistration.k8s.io";
/// Kept clients; beyond it all are dropped, which only costs new handshakes.
const CLIENTS: usize = 128;

/// A group version that another server serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Remote {
    pub group: SmolStr,
    pub version: SmolStr,
    pub namespace: SmolStr,
    pub service: SmolStr,
    pub port: i64,
    pub insecure: bool,
    /// PEM; empty for the system's authorities.
    pub authority: Bytes,
    pub available: bool,
}

impl Remote {
    /// Reads an APIService; `None` for those that this server serves itself.
    fn read(tree: &Value) -> Option<Remote> {
        let service = tree.at(&["spec", "service"]).filter(|s| s.is_map())?;
        Some(Remote {
            group: text(tree, &["spec", "group"]).into(),
            version: text(tree, &["spec", "version"]).into(),
            namespace: text(service, &["namespace"]).into(),
            service: text(service, &["name"]).into(),
            port: service.get("port").and_then(Value::as_i64).unwrap_or(443),
            insecure: flag(tree, &["spec", "insecureSkipTLSVerify"]),
            authority: STANDARD.decode(text(tree, &["spec", "caBundle"])).unwrap_or_default().into(),
            available: list(tree, &["status", "conditions"])
                .iter()
                .any(|c| text(c, &["type"]) == "Available" && text(c, &["status"]) == "True"),
        })
    }

    fn host(&self) -> String {
        format!("{}.{}.svc", self.service, self.namespace)
    }
}

/// How other servers are reached.
struct Outward {
    dialer: Dialer,
    identity: Identity,
}

/// Which groups others serve, and the connections to them.
#[derive(Default)]
pub struct Aggregation {
    services: OnceLock<Informer<Remote>>,
    outward: OnceLock<Outward>,
    clients: Mutex<HashMap<(Bytes, bool, SmolStr, Target), transport::Client>>,
    /// `APIResourceList` by group and version, from the last check that succeeded.
    discovered: RwLock<HashMap<(SmolStr, SmolStr), Value>>,
}

/// Checks availability until it is dropped.
pub struct Checks {
    tasks: Vec<AbortHandle>,
}

impl Drop for Checks {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Aggregation {
    /// Starts to follow APIServices and to check what they name. `identity` is the front proxy's certificate.
    pub async fn start(server: &Arc<ApiServer>, client: &Client, dialer: Dialer, identity: Identity) -> Checks {
        let this = &server.aggregation;
        let _ = this.outward.set(Outward { dialer, identity });
        let resource = GroupVersionResource::new(GROUP, "v1", "apiservices");
        let services =
            this.services.get_or_init(|| Informer::start(client, resource, Scope::default(), Remote::read)).clone();
        services.synced().await;
        let queue: Queue<Key> = Queue::new();
        let changed = queue.clone();
        services.on_change(move |change| changed.add(change.key.clone()));
        let checked = server.clone();
        let checks = tokio::spawn(async move {
            run_workers("apiservices", queue, 2, move |key: Key| {
                let server = checked.clone();
                async move { availability::check(&server, &key.name).await }
            })
            .await;
        });
        let own = server.clone();
        let registered = tokio::spawn(async move { local::register(&own).await });
        Checks { tasks: vec![checks.abort_handle(), registered.abort_handle()] }
    }

    /// The other server that a path belongs to.
    pub(crate) fn remote_of(&self, path: &str) -> Option<Arc<Remote>> {
        let services = self.services.get().filter(|s| !s.is_empty())?;
        let mut parts = path.strip_prefix("/apis/")?.split('/');
        let (group, version) = (parts.next()?, parts.next().filter(|v| !v.is_empty())?);
        services.get("", &format!("{version}.{group}"))
    }

    pub(crate) fn remote(&self, name: &str) -> Option<Arc<Remote>> {
        self.services.get()?.get("", name)
    }

    /// Every group version of other servers.
    pub(crate) fn remotes(&self) -> Vec<Arc<Remote>> {
        let mut all: Vec<Arc<Remote>> =
            self.services.get().map(|s| s.all().into_iter().map(|(_, r)| r).collect()).unwrap_or_default();
        all.sort_by(|a, b| (&a.group, &a.version).cmp(&(&b.group, &b.version)));
        all
    }

    fn remember(&self, remote: &Remote, resources: Option<Value>) {
        let key = (remote.group.clone(), remote.version.clone());
        match resources {
            Some(resources) => self.discovered.write().insert(key, resources),
            None => self.discovered.write().remove(&key),
        };
    }

    /// The groups of other servers as entries of an aggregated discovery document.
    pub(crate) fn discovery(&self) -> Vec<Value> {
        let mut groups: Vec<(SmolStr, Vec<Value>)> = Vec::new();
        for remote in self.remotes() {
            let key = (remote.group.clone(), remote.version.clone());
            let list = self.discovered.read().get(&key).cloned();
            let mut version = tree(json!({
                "version": remote.version.as_str(),
                "freshness": if remote.available && list.is_some() { "Current" } else { "Stale" },
            }));
            if let Some(list) = list {
                crate::tree::set(&mut version, &["resources"], aggregated_resources(&list));
            }
            match groups.iter_mut().find(|(name, _)| *name == remote.group) {
                Some((_, versions)) => versions.push(version),
                None => groups.push((remote.group.clone(), vec![version])),
            }
        }
        groups
            .into_iter()
            .map(|(name, versions)| {
                let mut group = tree(json!({"metadata": {"name": name.as_str(), "creationTimestamp": null}}));
                crate::tree::set(&mut group, &["versions"], versions);
                group
            })
            .collect()
    }

    /// A client for one endpoint of a service.
    fn client(&self, remote: &Remote, target: Target) -> Result<transport::Client, Status> {
        let outward = self.outward.get().ok_or_else(|| {
            Status::service_unavailable("other API servers cannot be reached while the server starts")
        })?;
        let key = (remote.authority.clone(), remote.insecure, remote.host().into(), target.clone());
        if let Some(client) = self.clients.lock().get(&key) {
            return Ok(client.clone());
        }
        let tls = if remote.insecure {
            ClientTls::insecure()
        } else if remote.authority.is_empty() {
            ClientTls::trusting(Trust::system().map_err(Status::internal)?)
        } else {
            ClientTls::trusting(Trust::from_pem(&remote.authority).map_err(Status::internal)?)
        };
        let tls = tls.identity(outward.identity.clone());
        let client = transport::Client::builder(outward.dialer.clone())
            .tls(tls)
            .target(target)
            .build()
            .map_err(Status::internal)?;
        let mut clients = self.clients.lock();
        if clients.len() >= CLIENTS {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }

    /// A ready endpoint of the remote's service, and a client for it.
    async fn reach(&self, server: &ApiServer, cx: &Cx, remote: &Remote) -> Result<transport::Client, Status> {
        let port = remote.port.to_string();
        let (host, port) =
            crate::connect::endpoint(&server.engine, cx, &remote.namespace, &remote.service, &port).await?;
        let port = u16::try_from(port).map_err(|_| Status::service_unavailable("the service's port is not valid"))?;
        self.client(remote, Target::Host(host, port))
    }
}

/// Passes a request on to the server that its group belongs to.
pub(crate) async fn pass(
    server: &Arc<ApiServer>,
    cx: &Cx,
    request: Request,
    remote: &Remote,
) -> Result<Response, Status> {
    if !remote.available {
        return Err(Status::service_unavailable("service unavailable"));
    }
    let client = server.aggregation.reach(server, cx, remote).await?;
    forward::forward(&client, cx, request, remote).await
}

/// The resources of an `APIResourceList` in the form of aggregated discovery.
fn aggregated_resources(resources: &Value) -> Vec<Value> {
    let group_version = text(resources, &["groupVersion"]);
    let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
    let kind_of = |r: &Value| {
        let or = |key, default: &str| match text(r, &[key]) {
            "" => default.to_string(),
            own => own.to_string(),
        };
        json!({"group": or("group", group), "version": or("version", version), "kind": text(r, &["kind"])})
    };
    let all = list(resources, &["resources"]);
    all.iter()
        .filter(|r| !text(r, &["name"]).contains('/'))
        .map(|r| {
            let name = text(r, &["name"]);
            let scope = if flag(r, &["namespaced"]) { "Namespaced" } else { "Cluster" };
            let mut out = json!({
                "resource": name,
                "responseKind": kind_of(r),
                "scope": scope,
                "singularResource": text(r, &["singularName"]),
                "verbs": strings(r, &["verbs"]),
            });
            for key in ["shortNames", "categories"] {
                let items = strings(r, &[key]);
                if !items.is_empty() {
                    out[key] = json!(items);
                }
            }
            let below: Vec<serde_json::Value> = all
                .iter()
                .filter_map(|s| Some((s, text(s, &["name"]).strip_prefix(name)?.strip_prefix('/')?)))
                .map(
                    |(s, sub)| json!({"subresource": sub, "responseKind": kind_of(s), "verbs": strings(s, &["verbs"])}),
                )
                .collect();
            if !below.is_empty() {
                out["subresources"] = json!(below);
            }
            tree(out)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_make_remotes() {
        let local = tree(json!({"spec": {"group": "apps", "version": "v1"}}));
        assert_eq!(Remote::read(&local), None);
        let remote = Remote::read(&tree(json!({
            "spec": {"group": "g", "version": "v1", "service": {"namespace": "n", "name": "s"}, "caBundle": "cGVt"},
            "status": {"conditions": [{"type": "Available", "status": "True"}]},
        })))
        .unwrap();
        assert_eq!((remote.host().as_str(), remote.port, &remote.authority[..]), ("s.n.svc", 443, &b"pem"[..]));
        assert!(remote.available);
    }

    #[test]
    fn lists_become_aggregated_discovery() {
        let resources = aggregated_resources(&tree(json!({
            "groupVersion": "g/v1",
            "resources": [
                {"name": "flunders", "singularName": "flunder", "namespaced": true, "kind": "Flunder", "verbs": ["get"]},
                {"name": "flunders/status", "namespaced": true, "kind": "Flunder", "verbs": ["update"]},
            ],
        })));
        assert_eq!(resources.len(), 1);
        assert_eq!(text(&resources[0], &["responseKind", "group"]), "g");
        assert_eq!(text(&list(&resources[0], &["subresources"])[0], &["subresource"]), "status");
    }
}
