//! The older form of [`endpoint_slice`](crate::endpoint_slice): one Endpoints object a Service.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::endpoints::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints};
use api::core::references::ObjectReference;
use api::core::service::Service;
use apimachinery::{Api, GroupVersionResource, ObjectMeta, Status};
use client::{Informer, Key, Outcome, Queue, Scope, run_workers};

use crate::endpoint_slice::{ServiceView, counts, follow_pods, port_on, selected, service_view};
use crate::{Context, PodView};

const NAME: &str = "endpoint-controller";
const HEADLESS: &str = "service.kubernetes.io/headless";
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
/// Addresses in an object at most; more only slices tell.
const MOST: usize = 1000;
const OVER: &str = "endpoints.kubernetes.io/over-capacity";

fn address(service: &Service, key: &Key, pod: &PodView) -> Option<EndpointAddress> {
    let v6 = match service.spec.ip_families.first() {
        Some(family) => family == "IPv6",
        None => service.spec.cluster_ip.contains(':'),
    };
    let ip = pod.pod_ips.iter().find(|ip| ip.contains(':') == v6)?;
    let named = !pod.hostname.is_empty() && pod.subdomain == service.metadata.name.as_str();
    Some(EndpointAddress {
        ip: ip.to_string(),
        hostname: if named { pod.hostname.to_string() } else { String::new() },
        node_name: (!pod.node.is_empty()).then(|| pod.node.to_string()),
        target_ref: Some(ObjectReference {
            kind: "Pod".into(),
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            uid: pod.uid.to_string(),
            ..ObjectReference::default()
        }),
    })
}

/// The subsets of a service: addresses that have the same ports stand together.
fn subsets(service: &Service, pods: &[(Key, Arc<PodView>)]) -> (Vec<EndpointSubset>, bool) {
    type Port = (String, i32, String, Option<String>);
    let mut groups: BTreeMap<Vec<Port>, EndpointSubset> = BTreeMap::new();
    let mut all: Vec<&(Key, Arc<PodView>)> = pods.iter().filter(|(_, pod)| counts(pod)).collect();
    all.sort_by(|a, b| a.1.pod_ips.cmp(&b.1.pod_ips));
    let over = all.len() > MOST;
    all.truncate(MOST);
    for (key, pod) in all {
        let publish = service.spec.publish_not_ready_addresses;
        if pod.deleting && !publish {
            continue;
        }
        let Some(address) = address(service, key, pod) else { continue };
        let ports: Vec<Port> = service
            .spec
            .ports
            .iter()
            .filter_map(|port| {
                let number = port_on(pod, &port.target_port, port.port, &port.protocol)?;
                Some((port.name.clone(), number, port.protocol.clone(), port.app_protocol.clone()))
            })
            .collect();
        if ports.is_empty() && !service.spec.ports.is_empty() {
            continue;
        }
        let subset = groups.entry(ports).or_default();
        if pod.ready || publish { subset.addresses.push(address) } else { subset.not_ready_addresses.push(address) }
    }
    let subsets = groups.into_iter().map(|(ports, mut subset)| {
        subset.ports = ports
            .into_iter()
            .map(|(name, port, protocol, app_protocol)| EndpointPort { name, port, protocol, app_protocol })
            .collect();
        subset
    });
    (subsets.collect(), over)
}

/// The object that a service should have.
fn wanted(service: &Service, pods: &[(Key, Arc<PodView>)]) -> Endpoints {
    let meta = &service.metadata;
    let mut labels = meta.labels.clone();
    labels.remove(HEADLESS);
    labels.insert(MANAGED_BY.into(), NAME.into());
    if service.spec.cluster_ip == "None" {
        labels.insert(HEADLESS.into(), String::new());
    }
    let (subsets, over) = subsets(service, pods);
    let mut annotations = BTreeMap::new();
    if over {
        annotations.insert(OVER.to_owned(), "truncated".to_owned());
    }
    Endpoints {
        metadata: ObjectMeta {
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            labels,
            annotations,
            ..ObjectMeta::default()
        },
        subsets,
    }
}

/// Runs the controller.
pub async fn run(cx: Context) {
    let core = |resource| GroupVersionResource::new("", "v1", resource);
    let services = Informer::start(&cx.watcher, core("services"), Scope::default(), service_view);
    let objects =
        Informer::start(&cx.watcher, core("endpoints"), Scope::default(), |tree| Endpoints::from_value(tree).ok());
    let pods = cx.shared.pods().clone();
    services.synced().await;
    objects.synced().await;
    pods.synced().await;
    let queue: Queue<Key> = Queue::new();
    let to = queue.clone();
    services.on_change(move |change| to.add(change.key.clone()));
    let to = queue.clone();
    objects.on_change(move |change| to.add(change.key.clone()));
    follow_pods(&pods, &services, &queue);
    run_workers(NAME, queue, 2, move |key| {
        let (cx, services, objects, pods) = (cx.clone(), services.clone(), objects.clone(), pods.clone());
        async move { sync(&cx, &services, &objects, &pods, &key).await }
    })
    .await;
}

async fn sync(
    cx: &Context,
    services: &Informer<ServiceView>,
    objects: &Informer<Endpoints>,
    pods: &Informer<PodView>,
    key: &Key,
) -> Result<Outcome, Status> {
    let known = objects.by_key(key);
    let Some(view) = services.by_key(key) else {
        // Without its service it goes; upstream's leader-election objects carry no such label and stay.
        if known.is_some_and(|e| e.metadata.labels.get(MANAGED_BY).is_some_and(|m| m == NAME)) {
            match cx.client.delete::<Endpoints>(&key.namespace, &key.name).await {
                Err(status) if !status.is_not_found() => return Err(status),
                _ => {}
            }
        }
        return Ok(Outcome::Done);
    };
    let service = &view.service;
    if service.spec.type_ == "ExternalName" || service.spec.selector.is_empty() {
        return Ok(Outcome::Done);
    }
    let behind = pods.filter(|k, pod| k.namespace == key.namespace && selected(service, pod));
    let mut new = wanted(service, &behind);
    match known {
        Some(old) if old.subsets == new.subsets && old.metadata.labels == new.metadata.labels => Ok(Outcome::Done),
        Some(old) => {
            new.metadata.resource_version = old.metadata.resource_version.clone();
            for (key, value) in &old.metadata.annotations {
                if key != OVER {
                    new.metadata.annotations.entry(key.clone()).or_insert_with(|| value.clone());
                }
            }
            cx.client.update(&new).await.map(|_| Outcome::Done)
        }
        None => match cx.client.create(&new).await {
            // Our own, not yet heard back; it comes.
            Err(status) if status.is_already_exists() || crate::ends(&status) => Ok(Outcome::Done),
            other => other.map(|_| Outcome::Done),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_and_unready_stand_apart() {
        let text = r#"{"metadata":{"name":"web","namespace":"shop"},"spec":{"selector":{"a":"b"},
            "ports":[{"port":80,"protocol":"TCP","targetPort":8080}]}}"#;
        let service = Service::from_value(&apimachinery::codec::json::parse(text.as_bytes()).unwrap()).unwrap();
        let pod = |n: u8, ready, deleting| {
            let view = PodView {
                pod_ips: vec![format!("10.0.0.{n}").into()],
                ready,
                deleting,
                phase: "Running".into(),
                ..PodView::default()
            };
            (Key::new("shop", format!("p{n}")), Arc::new(view))
        };
        let all = wanted(&service, &[pod(2, true, false), pod(1, false, false), pod(3, true, true)]);
        assert_eq!(all.subsets.len(), 1);
        let ips = |list: &[EndpointAddress]| list.iter().map(|a| a.ip.clone()).collect::<Vec<_>>();
        assert_eq!(ips(&all.subsets[0].addresses), ["10.0.0.2"]);
        assert_eq!(ips(&all.subsets[0].not_ready_addresses), ["10.0.0.1"]);
        assert_eq!(all.subsets[0].ports[0].port, 8080);
    }
}
