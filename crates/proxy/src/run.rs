//! Keeps a node's kernel in step with the cluster's services.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apimachinery::GroupVersionResource;
use client::{Client, Informer, Scope};
use smol_str::SmolStr;
use tokio::sync::Notify;

use crate::apply::{Applier, route_services};
use crate::health::HealthPorts;
use crate::model::{Node, Prefix};
use crate::objects::{self, NodeView, ServiceView, SliceView};
use crate::plan::plan;
use crate::{Error, Result};

/// How long changes are collected before they are applied together.
const COLLECT: Duration = Duration::from_millis(10);
/// How often we look whether somebody removed our tables, which nobody tells us.
const VERIFY: Duration = Duration::from_secs(60);
/// How long to wait after the kernel refused.
const RETRY: Duration = Duration::from_secs(1);

/// What the proxy must be told.
#[derive(Debug, Clone)]
pub struct ProxyConfig {
    /// This node's name.
    pub node_name: SmolStr,
    /// Addresses at which node ports answer; those of the Node object when empty.
    pub node_ips: Vec<IpAddr>,
    /// The ranges of all pods.
    pub pod_ranges: Vec<Prefix>,
    /// The ranges of cluster addresses.
    pub service_ranges: Vec<Prefix>,
}

/// Follows services, endpoint slices and this node until the task is aborted. Must run in the node's network
/// namespace. What was set up stays: connections outlive the daemon.
pub async fn run(client: Client, config: ProxyConfig) -> Result<()> {
    let changed = Arc::new(Notify::new());
    let services: Informer<ServiceView> =
        Informer::start(&client, GroupVersionResource::new("", "v1", "services"), Scope::default(), objects::service);
    let slices: Informer<SliceView> = Informer::start(
        &client,
        GroupVersionResource::new("discovery.k8s.io", "v1", "endpointslices"),
        Scope { label_selector: "!service.kubernetes.io/headless".to_owned(), ..Scope::default() },
        objects::slice,
    );
    let nodes: Informer<NodeView> = Informer::start(
        &client,
        GroupVersionResource::new("", "v1", "nodes"),
        Scope { field_selector: format!("metadata.name={}", config.node_name), ..Scope::default() },
        |tree| Some(objects::node(tree)),
    );
    // A status that changes every few seconds (leases, resource versions) leaves the view as it was.
    fn wake_on<V: PartialEq + Send + Sync + 'static>(informer: &Informer<V>, changed: &Arc<Notify>) {
        let changed = changed.clone();
        informer.on_change(move |change| {
            if change.old.map(Arc::as_ref) != change.new.map(Arc::as_ref) {
                changed.notify_one();
            }
        });
    }
    services.synced().await;
    slices.synced().await;
    nodes.synced().await;
    wake_on(&services, &changed);
    wake_on(&slices, &changed);
    wake_on(&nodes, &changed);
    changed.notify_one();

    let mut applier = Some(Applier::open()?);
    let mut health = HealthPorts::default();
    let mut routed_for: Vec<IpAddr> = Vec::new();
    let mut cost = Duration::ZERO;
    loop {
        let verify = tokio::select! {
            () = changed.notified() => false,
            () = tokio::time::sleep(VERIFY) => true,
        };
        // A burst of changes costs one transaction; the more a change costs, the longer the next waits.
        tokio::time::sleep(COLLECT.max(cost.saturating_mul(2)).min(Duration::from_secs(1))).await;
        let node = node_of(&config, nodes.get("", &config.node_name).as_deref());
        let (all_services, all_slices) = (services.all(), slices.all());
        let mut own = match applier.take() {
            Some(applier) => applier,
            None => Applier::open()?,
        };
        let sources = (routed_for != node.ips).then(|| node.ips.clone());
        let ranges = config.service_ranges.clone();
        let worked = tokio::task::spawn_blocking(move || {
            let start = Instant::now();
            if let Some(sources) = &sources {
                route_services(&ranges, sources)?;
            }
            if verify && own.verify()? {
                return Ok((own, None, sources, start.elapsed()));
            }
            let plan = plan(&objects::assemble(&all_services, &all_slices), &node);
            let wanted = plan.health.clone();
            own.apply(plan)?;
            Ok::<_, Error>((own, Some(wanted), sources, start.elapsed()))
        })
        .await;
        match worked {
            Ok(Ok((own, wanted, sources, took))) => {
                applier = Some(own);
                cost = took;
                routed_for = sources.unwrap_or(routed_for);
                if let Some(wanted) = wanted {
                    for error in health.sync(&wanted).await {
                        tracing::warn!(%error, "a health check port stays closed");
                    }
                }
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "services could not be updated, trying again");
                tokio::time::sleep(RETRY).await;
                changed.notify_one();
            }
            Err(error) => {
                tracing::error!(%error, "updating services panicked, trying again");
                tokio::time::sleep(RETRY).await;
                changed.notify_one();
            }
        }
    }
}

fn node_of(config: &ProxyConfig, view: Option<&NodeView>) -> Node {
    let known = view.map(|view| view.ips.clone()).unwrap_or_default();
    Node {
        name: config.node_name.clone(),
        zone: view.map(|view| view.zone.clone()).unwrap_or_default(),
        ips: if config.node_ips.is_empty() { known } else { config.node_ips.clone() },
        pod_ranges: config.pod_ranges.clone(),
        service_ranges: config.service_ranges.clone(),
    }
}
