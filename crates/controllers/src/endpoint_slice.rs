//! Says which pods stand behind each Service, in slices of at most a hundred.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use api::core::references::ObjectReference;
use api::core::service::Service;
use api::discovery::endpointslice::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use apimachinery::meta::OwnerReference;
use apimachinery::{Api, GroupVersionResource, IntOrString, ObjectMeta, Status};
use client::{Client, Informer, Key, Outcome, Queue, Scope, run_workers};
use parking_lot::Mutex;

use crate::{Context, NodeView, PodView};

const NAME: &str = "endpointslice-controller";
const OF_SERVICE: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Tells proxies and measurements when what led to a change happened.
const TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Endpoints in a slice at most (upstream's default).
const MOST: usize = 100;

/// What is kept of a service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ServiceView {
    pub uid: String,
    pub service: Service,
}

/// A service with a selector; others' endpoints are made by others.
pub(crate) fn service_view(tree: &apimachinery::Value) -> Option<ServiceView> {
    let mut service = Service::from_value(tree).ok()?;
    service.metadata.managed_fields.clear();
    service.status = Default::default();
    Some(ServiceView { uid: service.metadata.uid.clone(), service })
}

/// Whether a pod is behind a service at all.
pub(crate) fn selected(service: &Service, pod: &PodView) -> bool {
    let selector = &service.spec.selector;
    !selector.is_empty() && selector.iter().all(|(k, v)| pod.labels.get(k.as_str()).is_some_and(|l| l == v))
}

/// Whether a pod that is selected can be reached: it has an address and will not come to an end by itself.
pub(crate) fn counts(pod: &PodView) -> bool {
    !pod.pod_ips.is_empty() && !matches!(pod.phase.as_str(), "Succeeded" | "Failed")
}

/// The number of a service's port on a pod.
pub(crate) fn port_on(pod: &PodView, target: &IntOrString, port: i32, protocol: &str) -> Option<i32> {
    match target {
        IntOrString::Int(0) => Some(port),
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) if name.is_empty() => Some(port),
        IntOrString::String(name) => pod
            .ports
            .iter()
            .find(|(n, p, _)| n == name.as_str() && p == protocol)
            .and_then(|(_, _, number)| i32::try_from(*number).ok()),
    }
}

/// One port of a slice in a form that sorts.
type Port = (String, String, Option<i32>, Option<String>);

fn ports(service: &Service, pod: &PodView) -> Vec<Port> {
    let found = service.spec.ports.iter().filter_map(|port| {
        let number = port_on(pod, &port.target_port, port.port, &port.protocol)?;
        Some((port.name.clone(), port.protocol.clone(), Some(number), port.app_protocol.clone()))
    });
    let mut all: Vec<Port> = found.collect();
    all.sort();
    all
}

fn endpoint(service: &Service, key: &Key, pod: &PodView, zone: Option<String>, v6: bool) -> Option<Endpoint> {
    let addresses: Vec<String> =
        pod.pod_ips.iter().filter(|ip| ip.contains(':') == v6).map(ToString::to_string).collect();
    if addresses.is_empty() {
        return None;
    }
    let ready = service.spec.publish_not_ready_addresses || (pod.ready && !pod.deleting);
    let named = !pod.hostname.is_empty()
        && pod.subdomain == service.metadata.name.as_str()
        && key.namespace == service.metadata.namespace.as_str();
    Some(Endpoint {
        addresses,
        conditions: EndpointConditions {
            ready: Some(ready),
            serving: Some(pod.ready),
            terminating: Some(pod.deleting),
        },
        hostname: named.then(|| pod.hostname.to_string()),
        target_ref: Some(ObjectReference {
            kind: "Pod".into(),
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            uid: pod.uid.to_string(),
            ..ObjectReference::default()
        }),
        node_name: (!pod.node.is_empty()).then(|| pod.node.to_string()),
        zone,
        ..Endpoint::default()
    })
}

/// The address types that a service has endpoints of.
fn families(service: &Service) -> Vec<bool> {
    let named: Vec<bool> = service.spec.ip_families.iter().map(|f| f == "IPv6").collect();
    if !named.is_empty() {
        return named;
    }
    vec![service.spec.cluster_ip.contains(':')]
}

/// What is to be written.
#[derive(Debug, Default, PartialEq)]
struct Writes {
    create: Vec<EndpointSlice>,
    update: Vec<EndpointSlice>,
    delete: Vec<String>,
}

/// Compares the slices there should be with those there are. Endpoints stay in the slice they are in.
fn compare(
    service: &Service,
    pods: &[(Key, Arc<PodView>)],
    nodes: &dyn Fn(&str) -> Option<Arc<NodeView>>,
    existing: Vec<EndpointSlice>,
    trigger: &str,
) -> Writes {
    let mut writes = Writes::default();
    let mut left: Vec<EndpointSlice> = existing;
    for v6 in families(service) {
        let address_type = if v6 { "IPv6" } else { "IPv4" };
        let mut groups: BTreeMap<Vec<Port>, Vec<Endpoint>> = BTreeMap::new();
        for (key, pod) in pods.iter().filter(|(_, pod)| counts(pod)) {
            let zone =
                nodes(&pod.node).and_then(|n| n.labels.get("topology.kubernetes.io/zone").map(ToString::to_string));
            if let Some(endpoint) = endpoint(service, key, pod, zone, v6) {
                groups.entry(ports(service, pod)).or_default().push(endpoint);
            }
        }
        if groups.is_empty() {
            // One empty slice says that there is a service and nothing behind it.
            groups.insert(Vec::new(), Vec::new());
        }
        let (mine, others) = left.into_iter().partition::<Vec<_>, _>(|s| s.address_type == address_type);
        left = others;
        group_slices(service, address_type, groups, mine, trigger, &mut writes);
    }
    writes.delete.extend(left.into_iter().map(|slice| slice.metadata.name));
    writes
}

fn group_slices(
    service: &Service,
    address_type: &str,
    groups: BTreeMap<Vec<Port>, Vec<Endpoint>>,
    existing: Vec<EndpointSlice>,
    trigger: &str,
    writes: &mut Writes,
) {
    let key_of = |slice: &EndpointSlice| {
        let mut all: Vec<Port> = slice
            .ports
            .iter()
            .map(|p| {
                (
                    p.name.clone().unwrap_or_default(),
                    p.protocol.clone().unwrap_or_default(),
                    p.port,
                    p.app_protocol.clone(),
                )
            })
            .collect();
        all.sort();
        all
    };
    let mut unused: Vec<EndpointSlice> = existing;
    for (ports, mut wanted) in groups {
        wanted.sort_by(|a, b| a.addresses.cmp(&b.addresses));
        let (mut slices, rest) = unused.into_iter().partition::<Vec<_>, _>(|s| key_of(s) == ports);
        unused = rest;
        slices.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
        let uid = |e: &Endpoint| e.target_ref.as_ref().map(|t| t.uid.clone()).unwrap_or_default();
        let mut homes: Vec<Vec<Endpoint>> = vec![Vec::new(); slices.len()];
        let mut homeless = Vec::new();
        for endpoint in wanted {
            let id = uid(&endpoint);
            match slices.iter().position(|s| s.endpoints.iter().any(|e| uid(e) == id)) {
                Some(at) if homes[at].len() < MOST => homes[at].push(endpoint),
                _ => homeless.push(endpoint),
            }
        }
        for endpoint in homeless {
            match homes.iter().position(|home| home.len() < MOST) {
                Some(at) => homes[at].push(endpoint),
                None => homes.push(vec![endpoint]),
            }
        }
        if homes.is_empty() {
            homes.push(Vec::new());
        }
        // Of several only those with something in them stay; one stays in any case.
        let full = homes.iter().filter(|h| !h.is_empty()).count();
        let mut kept = 0;
        for (at, endpoints) in homes.into_iter().enumerate() {
            let keep = !endpoints.is_empty() || (full == 0 && kept == 0);
            match (slices.get(at), keep) {
                (Some(old), true) => {
                    kept += 1;
                    let mut new = make(service, address_type, &ports, endpoints, trigger);
                    let same =
                        same_endpoints(&old.endpoints, &new.endpoints) && old.metadata.labels == new.metadata.labels;
                    if !same {
                        new.metadata.name = old.metadata.name.clone();
                        new.metadata.generate_name.clear();
                        new.metadata.resource_version = old.metadata.resource_version.clone();
                        new.metadata.uid = old.metadata.uid.clone();
                        writes.update.push(new);
                    }
                }
                (Some(old), false) => writes.delete.push(old.metadata.name.clone()),
                (None, true) => {
                    kept += 1;
                    writes.create.push(make(service, address_type, &ports, endpoints, trigger));
                }
                (None, false) => {}
            }
        }
    }
    writes.delete.extend(unused.into_iter().map(|slice| slice.metadata.name));
}

/// Whether two lists say the same, whatever their order.
fn same_endpoints(old: &[Endpoint], new: &[Endpoint]) -> bool {
    let sorted = |list: &[Endpoint]| {
        let mut list = list.to_vec();
        list.sort_by(|a, b| a.addresses.cmp(&b.addresses));
        list
    };
    old.len() == new.len() && sorted(old) == sorted(new)
}

fn make(
    service: &Service,
    address_type: &str,
    ports: &[Port],
    endpoints: Vec<Endpoint>,
    trigger: &str,
) -> EndpointSlice {
    let meta = &service.metadata;
    let mut labels: BTreeMap<String, String> =
        meta.labels.iter().filter(|(k, _)| k.as_str() != HEADLESS).map(|(k, v)| (k.clone(), v.clone())).collect();
    labels.insert(OF_SERVICE.into(), meta.name.clone());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    if service.spec.cluster_ip == "None" {
        labels.insert(HEADLESS.into(), String::new());
    }
    let mut annotations = BTreeMap::new();
    if !trigger.is_empty() {
        annotations.insert(TRIGGER.to_owned(), trigger.to_owned());
    }
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: format!("{}-", meta.name),
            namespace: meta.namespace.clone(),
            labels,
            annotations,
            owner_references: vec![OwnerReference {
                api_version: "v1".into(),
                kind: "Service".into(),
                name: meta.name.clone(),
                uid: meta.uid.clone(),
                controller: Some(true),
                block_owner_deletion: Some(true),
            }],
            ..ObjectMeta::default()
        },
        address_type: address_type.into(),
        endpoints,
        ports: ports
            .iter()
            .map(|(name, protocol, port, app)| EndpointPort {
                name: Some(name.clone()),
                protocol: Some(protocol.clone()),
                port: *port,
                app_protocol: app.clone(),
            })
            .collect(),
    }
}

/// Adds the services to a queue whose endpoints a pod may be.
pub(crate) fn follow_pods(pods: &Informer<PodView>, services: &Informer<ServiceView>, queue: &Queue<Key>) {
    let (services, to) = (services.clone(), queue.clone());
    pods.on_change(move |change| {
        if let (Some(old), Some(new)) = (change.old, change.new)
            && **old == (PodView { resource_version: old.resource_version.clone(), ..(**new).clone() })
        {
            return;
        }
        let namespace = &change.key.namespace;
        let hit = services.filter(|key, view| {
            key.namespace == *namespace
                && [change.old, change.new].into_iter().flatten().any(|pod| selected(&view.service, pod))
        });
        hit.into_iter().for_each(|(key, _)| to.add(key));
    });
}

/// Runs the controller.
pub async fn run(cx: Context) {
    let services =
        Informer::start(&cx.watcher, GroupVersionResource::new("", "v1", "services"), Scope::default(), service_view);
    let ours = Scope { label_selector: format!("{MANAGED_BY}={MANAGER}"), ..Scope::default() };
    let slices = Informer::start(
        &cx.watcher,
        GroupVersionResource::new("discovery.k8s.io", "v1", "endpointslices"),
        ours,
        |tree| {
            EndpointSlice::from_value(tree)
                .ok()
                .filter(|s| s.metadata.labels.get(MANAGED_BY).is_some_and(|m| m == MANAGER))
        },
    );
    let (pods, nodes) = (cx.shared.pods().clone(), cx.shared.nodes().clone());
    services.synced().await;
    slices.synced().await;
    pods.synced().await;
    nodes.synced().await;
    let queue: Queue<Key> = Queue::new();
    let to = queue.clone();
    services.on_change(move |change| to.add(change.key.clone()));
    let to = queue.clone();
    slices.on_change(move |change| {
        if let Some(slice) = change.new.or(change.old)
            && let Some(service) = slice.metadata.labels.get(OF_SERVICE)
        {
            to.add(Key::new(change.key.namespace.clone(), service.as_str()));
        }
    });
    follow_pods(&pods, &services, &queue);
    // What was written and not yet heard back: revisions by slice, to not act on what is older.
    let written: Arc<Mutex<HashMap<Key, Written>>> = Arc::default();
    run_workers(NAME, queue, 2, move |key| {
        let (cx, services, slices, pods, nodes, written) =
            (cx.clone(), services.clone(), slices.clone(), pods.clone(), nodes.clone(), written.clone());
        async move { sync(&cx, &services, &slices, &pods, &nodes, &written, &key).await }
    })
    .await;
}

/// Our own writes to a service's slices that the informer has not shown yet.
#[derive(Default)]
struct Written {
    /// Names that must be seen, with the revision they must have at least.
    present: HashMap<String, u64>,
    gone: BTreeSet<String>,
}

fn revision(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}

async fn sync(
    cx: &Context,
    services: &Informer<ServiceView>,
    slices: &Informer<EndpointSlice>,
    pods: &Informer<PodView>,
    nodes: &Informer<NodeView>,
    written: &Mutex<HashMap<Key, Written>>,
    key: &Key,
) -> Result<Outcome, Status> {
    let existing: Vec<EndpointSlice> = slices
        .filter(|k, s| {
            k.namespace == key.namespace && s.metadata.labels.get(OF_SERVICE).is_some_and(|n| *n == key.name.as_str())
        })
        .into_iter()
        .map(|(_, slice)| (*slice).clone())
        .collect();
    let Some(view) = services.by_key(key) else {
        written.lock().remove(key);
        // The garbage collector takes the slices with their owner.
        return Ok(Outcome::Done);
    };
    let service = &view.service;
    if service.spec.type_ == "ExternalName" || service.spec.selector.is_empty() {
        return Ok(Outcome::Done);
    }
    {
        let mut all = written.lock();
        let own = all.entry(key.clone()).or_default();
        own.present.retain(|name, wanted| {
            !existing.iter().any(|s| s.metadata.name == *name && revision(&s.metadata.resource_version) >= *wanted)
        });
        own.gone.retain(|name| existing.iter().any(|s| s.metadata.name == *name));
        if !own.present.is_empty() || !own.gone.is_empty() {
            // The rest of our own writes comes through the informer and brings this key back.
            return Ok(Outcome::Done);
        }
    }
    let behind = pods.filter(|k, pod| k.namespace == key.namespace && selected(service, pod));
    let newest = behind.iter().map(|(_, pod)| pod.ready_since.clone()).max().unwrap_or_default();
    let trigger = if newest.is_empty() {
        apimachinery::time::rfc3339(service.metadata.creation_timestamp.0)
    } else {
        newest.to_string()
    };
    let writes = compare(service, &behind, &|node| nodes.get("", node), existing, &trigger);
    let note = |slice: EndpointSlice| {
        let mut all = written.lock();
        let own = all.entry(key.clone()).or_default();
        own.present.insert(slice.metadata.name, revision(&slice.metadata.resource_version));
    };
    for slice in writes.create {
        match cx.client.create(&slice).await {
            Ok(made) => note(made),
            Err(status) if crate::ends(&status) => return Ok(Outcome::Done),
            Err(status) => return Err(status),
        }
    }
    for slice in writes.update {
        note(cx.client.update(&slice).await?);
    }
    for name in writes.delete {
        delete(&cx.client, key, &name).await?;
        written.lock().entry(key.clone()).or_default().gone.insert(name);
    }
    Ok(Outcome::Done)
}

async fn delete(client: &Client, key: &Key, name: &str) -> Result<(), Status> {
    match client.delete::<EndpointSlice>(&key.namespace, name).await {
        Err(status) if !status.is_not_found() => Err(status),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(text: &str) -> Service {
        Service::from_value(&apimachinery::codec::json::parse(text.as_bytes()).unwrap()).unwrap()
    }

    fn pod(n: usize, ready: bool) -> (Key, Arc<PodView>) {
        let view = PodView {
            uid: format!("u{n}").into(),
            pod_ips: vec![format!("10.0.{}.{}", n / 200, n % 200).into()],
            ready,
            node: "n1".into(),
            phase: "Running".into(),
            ports: vec![("web".into(), "TCP".into(), 8080)],
            ..PodView::default()
        };
        (Key::new("shop", format!("p{n}")), Arc::new(view))
    }

    const WEB: &str = r#"{"metadata":{"name":"web","namespace":"shop","uid":"s"},"spec":{"clusterIP":"10.43.0.1",
        "selector":{"a":"b"},"ports":[{"name":"http","port":80,"protocol":"TCP","targetPort":"web"}]}}"#;

    fn run(pods: &[(Key, Arc<PodView>)], existing: Vec<EndpointSlice>) -> Writes {
        compare(&service(WEB), pods, &|_| None, existing, "")
    }

    fn stored(mut slice: EndpointSlice, name: &str) -> EndpointSlice {
        slice.metadata.name = name.into();
        slice.metadata.resource_version = "1".into();
        slice
    }

    #[test]
    fn an_empty_service_has_an_empty_slice() {
        let writes = run(&[], vec![]);
        assert_eq!(writes.create.len(), 1);
        assert!(writes.create[0].endpoints.is_empty() && writes.create[0].ports.is_empty());
        assert_eq!(run(&[], vec![stored(writes.create[0].clone(), "x")]), Writes::default());
    }

    #[test]
    fn endpoints_follow_pods() {
        let first = run(&[pod(1, true), pod(2, false)], vec![]);
        let slice = stored(first.create[0].clone(), "web-x");
        assert_eq!(slice.ports[0].port, Some(8080));
        let ready: Vec<_> = slice.endpoints.iter().map(|e| e.conditions.ready).collect();
        assert_eq!(ready, [Some(true), Some(false)]);
        assert_eq!(run(&[pod(1, true), pod(2, false)], vec![slice.clone()]), Writes::default());
        let second = run(&[pod(1, true), pod(2, true)], vec![slice.clone()]);
        assert_eq!((second.create.len(), second.update.len(), second.delete.len()), (0, 1, 0));
        assert_eq!(second.update[0].metadata.name, "web-x");
        // None is left: the slice of these ports goes, an empty one comes.
        let third = run(&[], vec![slice]);
        assert_eq!((third.create.len(), third.delete.len()), (1, 1));
    }

    #[test]
    fn slices_hold_a_hundred() {
        let pods: Vec<_> = (0..250).map(|n| pod(n, true)).collect();
        let writes = run(&pods, vec![]);
        let sizes: Vec<usize> = writes.create.iter().map(|s| s.endpoints.len()).collect();
        assert_eq!(sizes, [100, 100, 50]);
    }
}
