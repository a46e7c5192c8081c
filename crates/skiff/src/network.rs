//! The network of a node beside its pods' own: names, services, routes between nodes.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use client::Client;
use ipnet::IpNet;
use proxy::model::Prefix;
use tokio::task::JoinSet;

/// Where the name server listens on each node that has one; pods ask its Service at port 53.
const DNS_PORT: u16 = 10_053;
/// Which address of the service range is the name server's.
const DNS_HOST: u128 = 10;
const RETRY: Duration = Duration::from_secs(1);

/// What is told to all parts of the network.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_name: String,
    pub node_ips: Vec<IpAddr>,
    pub cluster_ranges: Vec<IpNet>,
    pub service_ranges: Vec<IpNet>,
    pub cluster_domain: String,
    pub data_dir: PathBuf,
    pub resolv_conf: PathBuf,
    /// Whether services are made reachable here.
    pub proxy: bool,
}

impl Config {
    /// Reads ranges as they are written in options.
    pub fn ranges(texts: &[String]) -> anyhow::Result<Vec<IpNet>> {
        texts.iter().map(|text| text.parse().with_context(|| format!("{text:?} is no range of addresses"))).collect()
    }

    /// The addresses at which pods ask for names.
    pub fn dns_ips(&self) -> anyhow::Result<Vec<IpAddr>> {
        self.service_ranges.iter().map(|range| nth(*range, DNS_HOST)).collect()
    }
}

fn nth(range: IpNet, n: u128) -> anyhow::Result<IpAddr> {
    let address = match range.network() {
        IpAddr::V4(ip) => IpAddr::V4(u32::from(ip).wrapping_add(n as u32).into()),
        IpAddr::V6(ip) => IpAddr::V6(u128::from(ip).wrapping_add(n).into()),
    };
    if range.contains(&address) { Ok(address) } else { Err(anyhow!("the service network {range} is too small")) }
}

fn prefix(range: &IpNet) -> Prefix {
    Prefix { address: range.addr(), length: range.prefix_len() }
}

/// Starts what every node needs: services answer, and other nodes' pods are reached. `proxy` is the client of
/// `system:kube-proxy`. The tasks end with the set; what they set up stays.
pub fn start_node(tasks: &mut JoinSet<()>, proxy: Client, network: Arc<cni::Network>, config: &Config) {
    let routes = kubelet::node_network::NodeNetworkConfig {
        node_name: config.node_name.as_str().into(),
        cluster_ranges: config.cluster_ranges.iter().chain(&config.service_ranges).copied().collect(),
        sysctl_record: config.data_dir.join(cni::node::RECORD),
    };
    tasks.spawn(kubelet::node_network::run(proxy.clone(), network, routes));
    let services = proxy::ProxyConfig {
        node_name: config.node_name.as_str().into(),
        node_ips: config.node_ips.clone(),
        pod_ranges: config.cluster_ranges.iter().map(prefix).collect(),
        service_ranges: config.service_ranges.iter().map(prefix).collect(),
    };
    if !config.proxy {
        // What an earlier run set up would stand in the way of whoever does it now.
        tasks.spawn_blocking(move || {
            if let Err(error) = proxy::remove(&services.service_ranges) {
                tracing::error!(%error, "what the service proxy had set up could not be removed");
            }
        });
        return;
    }
    tasks.spawn(async move {
        loop {
            if let Err(error) = proxy::run(proxy.clone(), services.clone()).await {
                tracing::error!(%error, "services do not answer, trying again");
            }
            tokio::time::sleep(RETRY).await;
        }
    });
}

/// Starts a name server and publishes it. `admin` may write anything; `dns` is the client of [`dns::USER`].
pub fn start_dns(tasks: &mut JoinSet<()>, admin: Client, dns: Client, config: &Config) -> anyhow::Result<()> {
    let service_ips = config.dns_ips()?;
    let inside = config.cluster_ranges.iter().chain(&config.service_ranges);
    let allow = inside.map(|range| (range.addr(), range.prefix_len())).collect();
    let server = dns::DnsConfig {
        domain: config.cluster_domain.clone(),
        listen: config.node_ips.iter().map(|ip| SocketAddr::new(*ip, DNS_PORT)).collect(),
        allow,
        service_ips: service_ips.clone(),
        resolv_conf: config.resolv_conf.clone(),
    };
    let publication = dns::Publication {
        service_ips,
        node: config.node_name.clone(),
        addresses: config.node_ips.clone(),
        port: DNS_PORT,
    };
    tasks.spawn(async move {
        while let Err(error) = dns::publish(&admin, &publication).await {
            tracing::warn!(%error, "the name server could not be published, trying again");
            tokio::time::sleep(RETRY).await;
        }
    });
    tasks.spawn(async move {
        loop {
            if let Err(error) = dns::run(dns.clone(), server.clone()).await {
                tracing::error!(%error, "the name server does not answer, trying again");
            }
            tokio::time::sleep(RETRY).await;
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_server_has_the_tenth_address() {
        let ips = |range: &str| nth(range.parse().unwrap(), DNS_HOST).map(|ip| ip.to_string());
        assert_eq!(ips("10.43.0.0/16").unwrap(), "10.43.0.10");
        assert_eq!(ips("fd43::/112").unwrap(), "fd43::a");
        assert!(ips("10.43.0.0/29").is_err());
        assert!(Config::ranges(&["x".to_owned()]).is_err());
    }
}
