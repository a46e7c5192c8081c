//! A node: container runtime, kubelet, and the network beside them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use api::core::nodeselector::Taint;
use client::Client;
use tokio::task::JoinSet;

use crate::{host, network};

/// Where the kubelet listens.
pub const KUBELET_PORT: u16 = 10250;

/// What a node is told, on a server and elsewhere.
#[derive(Clone, Debug)]
pub struct Config {
    pub labels: Vec<String>,
    pub taints: Vec<String>,
    pub network: network::Config,
}

/// As whom the parts of a node ask the API.
pub struct Clients {
    /// `system:node:<name>` of `system:nodes`.
    pub node: Client,
    /// `system:kube-proxy`.
    pub proxy: Client,
}

/// Refuses a host that cannot run a node with its data in this folder, before anything is made.
pub fn check(data: &Path) -> anyhow::Result<()> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "a node needs root: run this as root, or a server alone with `skiff server --disable node`"
    );
    Ok(runtime::check_host(&data.join("runtime"))?)
}

/// Starts a node. The tasks end with the set; pods run on.
pub async fn start(
    tasks: &mut JoinSet<()>,
    clients: Clients,
    serving: transport::ServerTls,
    config: Config,
) -> anyhow::Result<()> {
    let data = config.network.data_dir.clone();
    let network = Arc::new(cni::Network::new(cni::NetworkConfig::new(data.join("network"))));
    let runtime = runtime::Runtime::open(runtime::Config::new(data.join("runtime"), Some(network.clone()))?)
        .await
        .context("the container runtime could not be opened")?;
    let ips = config.network.node_ips.clone();
    let name: apimachinery::SmolStr = config.network.node_name.as_str().into();
    let agent = kubelet::Agent::new(
        clients.node.with_manager("kubelet"),
        runtime.clone(),
        network.clone(),
        kubelet::Config {
            node: kubelet::node::Identity {
                name: name.clone(),
                ips: ips.clone(),
                labels: labels(&config.labels)?,
                taints: taints(&config.taints)?,
                port: KUBELET_PORT,
                max_pods: kubelet::MAX_PODS,
                data: data.clone(),
            },
            cluster_dns: config.network.dns_ips()?,
            cluster_domain: config.network.cluster_domain.clone(),
            resolv_conf: config.network.resolv_conf.clone(),
            root: data.join("kubelet"),
            logs: PathBuf::from(host::LOGS),
            static_pods: data.join("pod-manifests"),
        },
    )?;
    let server = kubelet::server::Config {
        address: SocketAddr::new(any(&ips), KUBELET_PORT),
        tls: serving.config(&[b"http/1.1"])?,
        client: clients.node.clone(),
        node_name: name,
        runtime: runtime.clone(),
        pods: agent.pods(),
    };
    tasks.spawn(async move {
        if let Err(error) = kubelet::server::serve(server).await {
            tracing::error!(%error, "logs and streams of this node's pods cannot be served");
        }
    });
    // Others' tools and `skiff image` reach the images and containers of this node by its socket.
    let (served, socket) = (runtime.clone(), PathBuf::from(host::SOCKET));
    tasks.spawn(async move {
        if let Err(error) = runtime::grpc::serve(served, &socket, std::future::pending()).await {
            tracing::error!(%error, socket = %socket.display(), "CRI is not served");
        }
    });
    // The node takes pods once it has the images that wait for it; the API does not wait.
    let images = data.join("images");
    tasks.spawn(async move {
        preload(&runtime, &images).await;
        agent.run().await;
    });
    network::start_node(tasks, clients.proxy, network, &config.network);
    Ok(())
}

fn any(ips: &[IpAddr]) -> IpAddr {
    match ips.iter().any(IpAddr::is_ipv6) {
        true => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        false => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
    }
}

/// Brings in the archives that wait in a folder; what cannot be read is told and left.
async fn preload(runtime: &runtime::Runtime, folder: &std::path::Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if !path.is_file() {
            continue;
        }
        if let Err(error) = runtime.import_archive(path.clone(), true).await {
            tracing::error!(archive = %path.display(), %error, "an image archive could not be brought in");
        }
    }
}

/// Labels as they are written in options: `key=value`.
fn labels(texts: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    texts
        .iter()
        .map(|text| match text.split_once('=') {
            Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => bail!("{text:?} is no label; write key=value"),
        })
        .collect()
}

/// Taints as they are written in options: `key=value:Effect` or `key:Effect`.
fn taints(texts: &[String]) -> anyhow::Result<Vec<Taint>> {
    texts
        .iter()
        .map(|text| {
            let (rest, effect) = text.rsplit_once(':').unwrap_or_default();
            if rest.is_empty() || !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
                bail!("{text:?} is no taint; write key=value:NoSchedule, or another effect");
            }
            let (key, value) = rest.split_once('=').unwrap_or((rest, ""));
            Ok(Taint { key: key.into(), value: value.into(), effect: effect.into(), ..Taint::default() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_taints() {
        assert_eq!(labels(&["a=b".to_owned()]).unwrap()["a"], "b");
        assert!(labels(&["a".to_owned()]).is_err());
        let read = taints(&["k=v:NoSchedule".to_owned(), "k:NoExecute".to_owned()]).unwrap();
        assert_eq!((read[0].value.as_str(), read[1].value.as_str()), ("v", ""));
        assert!(taints(&["k=v".to_owned()]).is_err());
    }
}
