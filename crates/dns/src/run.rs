//! Keeps the records in step with the cluster and serves them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use apimachinery::{GroupVersionResource, Map, SmolStr, Status, Value};
use client::{Body, Client, Informer, PatchKind, Query, Request, Scope, Verb};

use crate::records::{EndpointAddress, Service};
use crate::{Forwarder, Records, Result, Server, ServerConfig, objects};

/// What the server must be told.
#[derive(Debug, Clone)]
pub struct DnsConfig {
    /// The cluster's domain, such as `cluster.local`.
    pub domain: String,
    /// Where to listen, by UDP and TCP.
    pub listen: Vec<SocketAddr>,
    /// Who is answered beside nodes: the cluster's pods and services; everybody when empty.
    pub allow: Vec<(IpAddr, u8)>,
    /// The addresses by which pods reach the servers (of the Service), told as those of `ns.dns.DOMAIN`.
    pub service_ips: Vec<IpAddr>,
    /// Which resolvers to ask about other names; the host's file.
    pub resolv_conf: PathBuf,
}

/// Follows services, endpoint slices and namespaces and answers questions, until the task is aborted.
pub async fn run(client: Client, config: DnsConfig) -> Result<()> {
    let mut records = Records::new(&config.domain)?;
    records.servers.clone_from(&config.service_ips);
    let records = Arc::new(RwLock::new(records));
    let mut own: Vec<IpAddr> = config.service_ips.clone();
    own.extend(config.listen.iter().map(SocketAddr::ip));
    let text = tokio::fs::read_to_string(&config.resolv_conf).await.unwrap_or_default();
    let forwarder = Forwarder::from_resolv_conf(&text, &own);
    tracing::info!(listen = ?config.listen, resolvers = ?forwarder.servers(), "answering cluster names");
    // Opened before the first wait: a port in use is told at once.
    let server = Server::bind(
        &ServerConfig { listen: config.listen.clone(), allow: config.allow.clone() },
        records.clone(),
        forwarder,
    )
    .await?;

    let gvr = GroupVersionResource::new;
    let namespaces: Informer<()> =
        Informer::start(&client, gvr("", "v1", "namespaces"), Scope::default(), |_| Some(()));
    let services: Informer<Service> =
        Informer::start(&client, gvr("", "v1", "services"), Scope::default(), |tree| Some(objects::service(tree)));
    let slices: Informer<(SmolStr, Vec<EndpointAddress>)> =
        Informer::start(&client, gvr("discovery.k8s.io", "v1", "endpointslices"), Scope::default(), objects::slice);
    let target = records.clone();
    namespaces.on_change(move |change| {
        let mut records = target.write().unwrap_or_else(PoisonError::into_inner);
        records.set_namespace(&change.key.name, change.new.is_some());
    });
    let nodes: Informer<Vec<IpAddr>> =
        Informer::start(&client, gvr("", "v1", "nodes"), Scope::default(), |tree| Some(objects::node(tree)));
    let target = records.clone();
    nodes.on_change(move |change| {
        if change.old != change.new {
            let ips = change.new.map(|ips| Vec::clone(ips)).unwrap_or_default();
            target.write().unwrap_or_else(PoisonError::into_inner).set_node(&change.key.name, ips);
        }
    });
    let target = records.clone();
    services.on_change(move |change| {
        let service = change.new.map(|service| Service::clone(service));
        let mut records = target.write().unwrap_or_else(PoisonError::into_inner);
        records.set_service(&change.key.namespace, &change.key.name, service);
    });
    let target = records.clone();
    slices.on_change(move |change| {
        let content = change.new.map(|content| (content.0.as_str(), content.1.clone()));
        let mut records = target.write().unwrap_or_else(PoisonError::into_inner);
        records.set_slice(&change.key.namespace, &change.key.name, content);
    });
    // An early "no such name" would be remembered by those who ask.
    namespaces.synced().await;
    services.synced().await;
    slices.synced().await;
    server.run().await;
    Ok(())
}

/// Where the servers are found: the Service and this server's place behind it.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The cluster addresses of the Service, one a family.
    pub service_ips: Vec<IpAddr>,
    /// This server's node.
    pub node: String,
    /// This server's addresses, as pods reach them.
    pub addresses: Vec<IpAddr>,
    /// This server's port.
    pub port: u16,
}

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";
const ROLE: &str = "system:skiff-dns";

/// The user as whom [`run`] listens; [`publish`] gives it what it needs.
pub const USER: &str = "system:skiff-dns";

/// Makes the Service `kube-system/kube-dns` and this server's endpoint slices in it, or brings them up to date, and
/// lets [`USER`] read what it answers from. The client must be an administrator's.
pub async fn publish(client: &Client, publication: &Publication) -> std::result::Result<(), Status> {
    for (resource, tree) in rbac_trees() {
        put(client, GroupVersionResource::new("rbac.authorization.k8s.io", "v1", resource), ROLE, tree).await?;
    }
    let service = service_tree(publication);
    put(client, GroupVersionResource::new("", "v1", "services"), NAME, service).await?;
    for v6 in [false, true] {
        let ips: Vec<Value> = publication
            .addresses
            .iter()
            .filter(|ip| ip.is_ipv6() == v6)
            .map(|ip| Value::from(ip.to_string()))
            .collect();
        if ips.is_empty() {
            continue;
        }
        let name = format!("{NAME}-{}-{}", if v6 { "ipv6" } else { "ipv4" }, publication.node);
        let slice = slice_tree(publication, &name, v6, ips);
        put(client, GroupVersionResource::new("discovery.k8s.io", "v1", "endpointslices"), &name, slice).await?;
    }
    Ok(())
}

fn map<const N: usize>(entries: [(&str, Value); N]) -> Value {
    let mut map = Map::new();
    for (key, value) in entries {
        map.insert(key, value);
    }
    Value::Map(map)
}

fn metadata(name: &str, labels: Value) -> Value {
    map([("name", name.into()), ("namespace", NAMESPACE.into()), ("labels", labels)])
}

fn rbac_trees() -> [(&'static str, Value); 2] {
    const GROUP: &str = "rbac.authorization.k8s.io";
    let list = |words: &[&str]| Value::List(words.iter().map(|word| Value::from(*word)).collect());
    let rule = |group: &str, resources: &[&str]| {
        map([("apiGroups", list(&[group])), ("resources", list(resources)), ("verbs", list(&["list", "watch"]))])
    };
    let rules = vec![rule("", &["services", "namespaces", "nodes"]), rule("discovery.k8s.io", &["endpointslices"])];
    let head = |kind: &str| {
        [
            ("apiVersion", "rbac.authorization.k8s.io/v1".into()),
            ("kind", kind.into()),
            ("metadata", map([("name", ROLE.into())])),
        ]
    };
    let [version, kind, metadata] = head("ClusterRole");
    let role = map([version, kind, metadata, ("rules", rules.into())]);
    let [version, kind, metadata] = head("ClusterRoleBinding");
    let role_ref = map([("apiGroup", GROUP.into()), ("kind", "ClusterRole".into()), ("name", ROLE.into())]);
    let subject = map([("apiGroup", GROUP.into()), ("kind", "User".into()), ("name", USER.into())]);
    let binding = map([version, kind, metadata, ("roleRef", role_ref), ("subjects", vec![subject].into())]);
    [("clusterroles", role), ("clusterrolebindings", binding)]
}

fn service_tree(publication: &Publication) -> Value {
    let ips: Vec<Value> = publication.service_ips.iter().map(|ip| Value::from(ip.to_string())).collect();
    let port = |name: &str, protocol: &str| {
        map([
            ("name", name.into()),
            ("port", 53.into()),
            ("protocol", protocol.into()),
            ("targetPort", i32::from(publication.port).into()),
        ])
    };
    let policy = if ips.len() > 1 { "RequireDualStack" } else { "SingleStack" };
    let spec = map([
        ("clusterIP", ips.first().cloned().unwrap_or_default()),
        ("clusterIPs", ips.into()),
        ("ipFamilyPolicy", policy.into()),
        ("ports", vec![port("dns", "UDP"), port("dns-tcp", "TCP")].into()),
    ]);
    // The name by which people and suites look for the cluster's name server.
    let labels = map([("k8s-app", NAME.into()), ("kubernetes.io/name", "CoreDNS".into())]);
    let metadata = metadata(NAME, labels);
    map([("apiVersion", "v1".into()), ("kind", "Service".into()), ("metadata", metadata), ("spec", spec)])
}

fn slice_tree(publication: &Publication, name: &str, v6: bool, ips: Vec<Value>) -> Value {
    let port = |name: &str, protocol: &str| {
        map([("name", name.into()), ("port", i32::from(publication.port).into()), ("protocol", protocol.into())])
    };
    let conditions = map([("ready", true.into()), ("serving", true.into()), ("terminating", false.into())]);
    let endpoint =
        map([("addresses", ips.into()), ("conditions", conditions), ("nodeName", publication.node.as_str().into())]);
    let labels = map([
        ("kubernetes.io/service-name", NAME.into()),
        ("endpointslice.kubernetes.io/managed-by", "skiff-dns".into()),
    ]);
    map([
        ("apiVersion", "discovery.k8s.io/v1".into()),
        ("kind", "EndpointSlice".into()),
        ("metadata", metadata(name, labels)),
        ("addressType", if v6 { "IPv6" } else { "IPv4" }.into()),
        ("endpoints", vec![endpoint].into()),
        ("ports", vec![port("dns", "UDP"), port("dns-tcp", "TCP")].into()),
    ])
}

/// Creates an object, or merges it into the one that is there.
async fn put(
    client: &Client,
    resource: GroupVersionResource,
    name: &str,
    tree: Value,
) -> std::result::Result<(), Status> {
    let namespace: SmolStr = tree.str_at(&["metadata", "namespace"]).unwrap_or_default().into();
    let request = |verb, name: &str, body| Request {
        verb,
        resource: resource.clone(),
        namespace: namespace.clone(),
        name: name.into(),
        subresource: SmolStr::default(),
        query: Query::default(),
        body,
    };
    // What is there first: a service that is made again would ask for its own address.
    match client.send(request(Verb::Patch, name, Body::Patch(PatchKind::Merge, tree.clone()))).await {
        Err(status) if status.is_not_found() => {
            client.send(request(Verb::Create, "", Body::Object(tree))).await.map(|_| ())
        }
        other => other.map(|_| ()),
    }
}
