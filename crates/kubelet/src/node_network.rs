//! Keeps the node's pod network in step with the cluster's nodes: its own pod ranges, routes to other nodes' pods,
//! masquerading of what leaves the cluster.
//!
//! A network that an administrator configured below `/etc/cni/net.d` routes by itself; then this does nothing but pass
//! the pod ranges on.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::{GroupVersionResource, Value};
use client::{Client, Informer, Scope};
use cni::Network;
use cni::node::{NodeRoute, RouteReport, sync_masquerade, sync_node_routes};
use ipnet::IpNet;
use smol_str::SmolStr;
use tokio::sync::Notify;

/// How long changes are collected: nodes come in groups when a cluster starts.
const COLLECT: Duration = Duration::from_millis(20);
/// How often routes are compared with the kernel's, which somebody else may have changed.
const RESYNC: Duration = Duration::from_secs(120);
const RETRY: Duration = Duration::from_secs(2);

/// What the loop must be told.
#[derive(Debug, Clone)]
pub struct NodeNetworkConfig {
    /// This node's name.
    pub node_name: SmolStr,
    /// The ranges of the cluster: of all pods and of service addresses.
    pub cluster_ranges: Vec<IpNet>,
    /// Where the settings of the host are recorded before they are changed, for `reset`.
    pub sysctl_record: PathBuf,
}

/// What is kept of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NodeView {
    ips: Vec<IpAddr>,
    pod_ranges: Vec<IpNet>,
}

fn view(tree: &Value) -> Option<NodeView> {
    let list = |path: &[&str]| tree.at(path).and_then(Value::as_list).unwrap_or_default();
    let ips = list(&["status", "addresses"])
        .iter()
        .filter(|address| address.str_at(&["type"]) == Some("InternalIP"))
        .filter_map(|address| address.str_at(&["address"])?.parse().ok())
        .collect();
    let mut pod_ranges: Vec<IpNet> =
        list(&["spec", "podCIDRs"]).iter().filter_map(|range| range.as_str()?.parse().ok()).collect();
    if pod_ranges.is_empty() {
        pod_ranges.extend(tree.str_at(&["spec", "podCIDR"]).and_then(|range| range.parse::<IpNet>().ok()));
    }
    Some(NodeView { ips, pod_ranges })
}

/// Follows nodes until the task is aborted. Must run in the node's network namespace. What was set up stays.
///
/// The client must be one that may list all nodes, such as the service proxy's: a node itself may see only its own.
pub async fn run(client: Client, network: Arc<Network>, config: NodeNetworkConfig) {
    let nodes: Informer<NodeView> =
        Informer::start(&client, GroupVersionResource::new("", "v1", "nodes"), Scope::default(), view);
    nodes.synced().await;
    let changed = Arc::new(Notify::new());
    let wake = changed.clone();
    nodes.on_change(move |change| {
        // Heartbeats change nodes all the time, but not what is kept of them.
        if change.old.map(Arc::as_ref) != change.new.map(Arc::as_ref) {
            wake.notify_one();
        }
    });
    changed.notify_one();
    let mut told: Vec<String> = Vec::new();
    loop {
        tokio::select! {
            () = changed.notified() => tokio::time::sleep(COLLECT).await,
            () = tokio::time::sleep(RESYNC) => {}
        }
        let all: Vec<NodeRoute> = nodes
            .all()
            .into_iter()
            .map(|(key, view)| NodeRoute {
                name: key.name.to_string(),
                ips: view.ips.clone(),
                pod_ranges: view.pod_ranges.clone(),
            })
            .collect();
        let (network, config) = (network.clone(), config.clone());
        let synced = tokio::task::spawn_blocking(move || sync(&network, &config, &all)).await;
        match synced {
            Ok(Ok(report)) => {
                for problem in report.problems.iter().filter(|problem| !told.contains(problem)) {
                    tracing::warn!(problem, "pods of a node cannot be reached");
                }
                told = report.problems;
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "the pod network could not be brought up to date, trying again");
                tokio::time::sleep(RETRY).await;
                changed.notify_one();
            }
            Err(error) => {
                tracing::error!(%error, "bringing the pod network up to date panicked, trying again");
                tokio::time::sleep(RETRY).await;
                changed.notify_one();
            }
        }
    }
}

fn sync(network: &Network, config: &NodeNetworkConfig, all: &[NodeRoute]) -> cni::Result<RouteReport> {
    let Some(own) = all.iter().find(|node| node.name == config.node_name) else {
        // Not registered yet: the node's appearance wakes us.
        return Ok(RouteReport::default());
    };
    network.set_pod_ranges(own.pod_ranges.clone());
    if network.is_foreign()? {
        return Ok(RouteReport::default());
    }
    cni::node::prepare(&config.sysctl_record)?;
    let mut inside = config.cluster_ranges.clone();
    inside.extend(all.iter().flat_map(|node| &node.pod_ranges));
    // Nodes have routes to pods, so they may see their addresses.
    inside.extend(all.iter().flat_map(|node| &node.ips).map(|ip| IpNet::from(*ip)));
    sync_masquerade(&own.pod_ranges, &inside)?;
    sync_node_routes(own, all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cni::NetworkConfig;
    use linux::netlink::Socket;
    use linux::netlink::namespace::Namespace;
    use linux::nftables::Tables;
    use testkit::FakeBackend;

    fn node(name: &str, ip: &str, range: &str) -> String {
        format!(
            r#"{{"metadata":{{"name":"{name}"}},"spec":{{"podCIDR":"{range}","podCIDRs":["{range}"]}},
                "status":{{"addresses":[{{"type":"InternalIP","address":"{ip}"}}]}}}}"#
        )
    }

    #[test]
    fn routes_and_masquerading_follow_the_nodes() {
        Namespace::create().unwrap().run(inside).unwrap();
    }

    fn inside() {
        let mut socket = Socket::route().unwrap();
        socket.add_bridge("br0", 0, None).unwrap();
        let bridge = socket.link("br0").unwrap().index;
        socket.set_link_up(bridge, true).unwrap();
        socket.add_address(bridge, "192.0.2.1".parse().unwrap(), 24).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut network_config = NetworkConfig::new(folder.path().join("data"));
        network_config.config_folder = folder.path().join("net.d");
        let network = Arc::new(Network::new(network_config));
        let config = NodeNetworkConfig {
            node_name: "one".into(),
            cluster_ranges: vec!["10.42.0.0/16".parse().unwrap(), "10.43.0.0/16".parse().unwrap()],
            sysctl_record: folder.path().join("sysctls"),
        };
        let nodes = GroupVersionResource::new("", "v1", "nodes");
        let cluster = FakeBackend::new();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let task = runtime.spawn(run(cluster.client(), network.clone(), config));
        let mut wait_for = |what: &str, good: &mut dyn FnMut(&mut Socket) -> bool| {
            for _ in 0..300 {
                if good(&mut socket) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            panic!("{what}");
        };
        cluster.put(&nodes, &node("one", "192.0.2.1", "10.42.1.0/24"));
        wait_for("own range", &mut |_| network.pod_ranges() == ["10.42.1.0/24".parse::<IpNet>().unwrap()]);
        cluster.put(&nodes, &node("two", "192.0.2.2", "10.42.2.0/24"));
        let routed = |socket: &mut Socket, to: &str, by: &str| {
            let (to, by): (IpAddr, IpAddr) = (to.parse().unwrap(), by.parse().unwrap());
            socket.routes().unwrap().iter().any(|route| route.destination == to && route.gateway == Some(by))
        };
        wait_for("route", &mut |socket| routed(socket, "10.42.2.0", "192.0.2.2"));
        assert_eq!(cni::sysctl::read("net/ipv4/ip_forward").unwrap(), "1");
        let tables = Tables::open().unwrap().tables().unwrap();
        assert!(tables.iter().any(|table| table.name == "skiff-masquerade-pods"), "{tables:?}");
        cluster.put(&nodes, &node("two", "192.0.2.3", "10.42.2.0/24"));
        wait_for("moved", &mut |socket| routed(socket, "10.42.2.0", "192.0.2.3"));
        cluster.remove(&nodes, "", "two");
        wait_for("gone", &mut |socket| !routed(socket, "10.42.2.0", "192.0.2.3"));
        assert!(!task.is_finished());
        task.abort();
        runtime.shutdown_timeout(Duration::from_secs(1));
    }
}
