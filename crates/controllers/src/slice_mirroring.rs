//! Mirrors Endpoints that people wrote themselves into EndpointSlices, for Services without a selector.

use std::collections::BTreeMap;

use api::core::endpoints::{EndpointAddress, Endpoints};
use api::core::service::Service;
use api::discovery::endpointslice::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use apimachinery::meta::OwnerReference;
use apimachinery::{Api, GroupVersionResource, ObjectMeta, Status};
use client::{Informer, Key, Outcome, Queue, Scope, run_workers};

use crate::Context;

const OF_SERVICE: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Endpoints that say so are not mirrored.
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// Addresses of one subset that are mirrored (upstream's default).
const MOST: usize = 1000;

/// Whether a service leaves its endpoints to people.
fn own_endpoints(tree: &apimachinery::Value) -> Option<bool> {
    let service = Service::from_value(tree).ok()?;
    Some(service.spec.selector.is_empty() && service.spec.type_ != "ExternalName")
}

fn mirrored(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    meta.labels.get(SKIP).is_none_or(|v| v != "true") && !meta.annotations.contains_key(LEADER)
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: EndpointConditions { ready: Some(ready), serving: Some(ready), terminating: None },
        hostname: (!address.hostname.is_empty()).then(|| address.hostname.clone()),
        target_ref: address.target_ref.clone(),
        node_name: address.node_name.clone(),
        ..Endpoint::default()
    }
}

/// The slices of an Endpoints object: one for each subset and address family.
fn slices(endpoints: &Endpoints) -> Vec<EndpointSlice> {
    let meta = &endpoints.metadata;
    let mut labels: BTreeMap<String, String> = meta.labels.clone();
    labels.retain(|key, _| key != "endpoints.kubernetes.io/managed-by");
    labels.insert(OF_SERVICE.into(), meta.name.clone());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let mut annotations = meta.annotations.clone();
    annotations.retain(|key, _| key != "kubectl.kubernetes.io/last-applied-configuration");
    let mut all = Vec::new();
    for subset in &endpoints.subsets {
        for (v6, address_type) in [(false, "IPv4"), (true, "IPv6")] {
            let of = |list: &[EndpointAddress], ready| -> Vec<Endpoint> {
                list.iter().filter(|a| a.ip.contains(':') == v6).map(|a| endpoint(a, ready)).collect()
            };
            let mut found = of(&subset.addresses, true);
            found.extend(of(&subset.not_ready_addresses, false));
            found.truncate(MOST);
            if found.is_empty() {
                continue;
            }
            all.push(EndpointSlice {
                metadata: ObjectMeta {
                    generate_name: format!("{}-", meta.name),
                    namespace: meta.namespace.clone(),
                    labels: labels.clone(),
                    annotations: annotations.clone(),
                    owner_references: vec![OwnerReference {
                        api_version: "v1".into(),
                        kind: "Endpoints".into(),
                        name: meta.name.clone(),
                        uid: meta.uid.clone(),
                        controller: Some(true),
                        block_owner_deletion: Some(true),
                    }],
                    ..ObjectMeta::default()
                },
                address_type: address_type.into(),
                endpoints: found,
                ports: subset
                    .ports
                    .iter()
                    .map(|port| EndpointPort {
                        name: Some(port.name.clone()),
                        protocol: Some(port.protocol.clone()),
                        port: Some(port.port),
                        app_protocol: port.app_protocol.clone(),
                    })
                    .collect(),
            });
        }
    }
    all
}

fn same(old: &EndpointSlice, new: &EndpointSlice) -> bool {
    old.address_type == new.address_type
        && old.endpoints == new.endpoints
        && old.ports == new.ports
        && old.metadata.labels == new.metadata.labels
        && old.metadata.annotations == new.metadata.annotations
}

/// Runs the controller.
pub async fn run(cx: Context) {
    let core = |resource| GroupVersionResource::new("", "v1", resource);
    let services = Informer::start(&cx.watcher, core("services"), Scope::default(), own_endpoints);
    let endpoints =
        Informer::start(&cx.watcher, core("endpoints"), Scope::default(), |tree| Endpoints::from_value(tree).ok());
    let ours = Scope { label_selector: format!("{MANAGED_BY}={MANAGER}"), ..Scope::default() };
    let slices = Informer::start(
        &cx.watcher,
        GroupVersionResource::new("discovery.k8s.io", "v1", "endpointslices"),
        ours,
        |tree| {
            let slice = EndpointSlice::from_value(tree).ok()?;
            slice.metadata.labels.get(MANAGED_BY).is_some_and(|m| m == MANAGER).then_some(slice)
        },
    );
    services.synced().await;
    endpoints.synced().await;
    slices.synced().await;
    let queue: Queue<Key> = Queue::new();
    let to = queue.clone();
    services.on_change(move |change| to.add(change.key.clone()));
    let to = queue.clone();
    endpoints.on_change(move |change| to.add(change.key.clone()));
    let to = queue.clone();
    slices.on_change(move |change| {
        if let Some(name) = change.new.or(change.old).and_then(|s| s.metadata.labels.get(OF_SERVICE)) {
            to.add(Key::new(change.key.namespace.clone(), name.as_str()));
        }
    });
    run_workers("endpointslicemirroring-controller", queue, 1, move |key| {
        let (cx, services, endpoints, known) = (cx.clone(), services.clone(), endpoints.clone(), slices.clone());
        async move { sync(&cx, &services, &endpoints, &known, &key).await }
    })
    .await;
}

async fn sync(
    cx: &Context,
    services: &Informer<bool>,
    endpoints: &Informer<Endpoints>,
    known: &Informer<EndpointSlice>,
    key: &Key,
) -> Result<Outcome, Status> {
    let mut old: Vec<EndpointSlice> = known
        .filter(|k, s| {
            k.namespace == key.namespace && s.metadata.labels.get(OF_SERVICE).is_some_and(|n| *n == key.name.as_str())
        })
        .into_iter()
        .map(|(_, slice)| (*slice).clone())
        .collect();
    let ours = services.by_key(key).is_some_and(|own| *own);
    let wanted = match endpoints.by_key(key) {
        Some(endpoints) if ours && mirrored(&endpoints) => slices(&endpoints),
        _ => Vec::new(),
    };
    let mut missing = Vec::new();
    for new in wanted {
        match old.iter().position(|o| same(o, &new)) {
            Some(at) => drop(old.remove(at)),
            None => missing.push(new),
        }
    }
    for mut new in missing {
        // One that is no longer right is made right, before another is made.
        match old.iter().position(|o| o.address_type == new.address_type) {
            Some(at) => {
                let used = old.remove(at).metadata;
                new.metadata.generate_name.clear();
                new.metadata.name = used.name;
                new.metadata.uid = used.uid;
                new.metadata.resource_version = used.resource_version;
                cx.client.update(&new).await?;
            }
            None => match cx.client.create(&new).await {
                Err(status) if crate::ends(&status) => return Ok(Outcome::Done),
                other => drop(other?),
            },
        }
    }
    for gone in old {
        match cx.client.delete::<EndpointSlice>(&key.namespace, &gone.metadata.name).await {
            Err(status) if !status.is_not_found() => return Err(status),
            _ => {}
        }
    }
    Ok(Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsets_become_slices() {
        let text = r#"{"metadata":{"name":"web","namespace":"n","uid":"u"},"subsets":[{"addresses":[{"ip":"192.0.2.1"},
            {"ip":"fd00::1"}],"notReadyAddresses":[{"ip":"192.0.2.2"}],"ports":[{"port":80,"protocol":"TCP"}]}]}"#;
        let tree = apimachinery::codec::json::parse(text.as_bytes()).unwrap();
        let endpoints = Endpoints::from_value(&tree).unwrap();
        let all = slices(&endpoints);
        let shown: Vec<_> = all.iter().map(|s| (s.address_type.as_str(), s.endpoints.len())).collect();
        assert_eq!(shown, [("IPv4", 2), ("IPv6", 1)]);
        assert_eq!(all[0].endpoints[1].conditions.ready, Some(false));
        assert!(mirrored(&endpoints) && same(&all[0], &all[0].clone()));
    }
}
