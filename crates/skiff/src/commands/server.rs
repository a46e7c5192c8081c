//! `skiff server`: a control plane, with a node beside it unless that is disabled.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::cluster;
use crate::parts::Disabled;

/// Run a server: the control plane, and a node unless `--disable node`.
#[derive(clap::Args, Clone, Debug)]
pub struct Server {
    /// Read settings from this file; keys are the names of these options.
    #[arg(long, env = "SKIFF_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Keep all state here.
    #[arg(long, env = "SKIFF_DATA_DIR", value_name = "FOLDER", default_value = "/var/lib/skiff")]
    pub data_dir: PathBuf,
    /// Listen on this address.
    #[arg(long, env = "SKIFF_BIND_ADDRESS", value_name = "IP", default_value = "0.0.0.0")]
    pub bind_address: IpAddr,
    /// Listen on this port.
    #[arg(long, env = "SKIFF_HTTPS_LISTEN_PORT", value_name = "PORT", default_value_t = 6443)]
    pub https_listen_port: u16,
    /// Tell others to reach this server under this address (default: the bind address, or the node's own).
    #[arg(long, env = "SKIFF_ADVERTISE_ADDRESS", value_name = "IP")]
    pub advertise_address: Option<IpAddr>,
    /// Further names and addresses for the server's certificate.
    #[arg(long, env = "SKIFF_TLS_SAN", value_name = "NAME", value_delimiter = ',')]
    pub tls_san: Vec<String>,
    /// Network of pods; one of each family for dual-stack.
    #[arg(
        long,
        env = "SKIFF_CLUSTER_CIDR",
        value_name = "CIDR",
        value_delimiter = ',',
        default_value = "10.42.0.0/16"
    )]
    pub cluster_cidr: Vec<String>,
    /// Network of services; one of each family for dual-stack.
    #[arg(
        long,
        env = "SKIFF_SERVICE_CIDR",
        value_name = "CIDR",
        value_delimiter = ',',
        default_value = "10.43.0.0/16"
    )]
    pub service_cidr: Vec<String>,
    /// Domain under which DNS answers for the cluster.
    #[arg(long, env = "SKIFF_CLUSTER_DOMAIN", value_name = "DOMAIN", default_value = "cluster.local")]
    pub cluster_domain: String,
    /// Write the administrator's kubeconfig here (default: /etc/skiff/kubeconfig, or below another data folder).
    #[arg(long, env = "SKIFF_WRITE_KUBECONFIG", value_name = "FILE")]
    pub write_kubeconfig: Option<PathBuf>,
    /// Call this server's node so (default: the host's name).
    #[arg(long, env = "SKIFF_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Labels for this server's node when it is new, as key=value.
    #[arg(long, env = "SKIFF_NODE_LABEL", value_name = "LABEL", value_delimiter = ',')]
    pub node_label: Vec<String>,
    /// Taints for this server's node when it is new, as key=value:Effect.
    #[arg(long, env = "SKIFF_NODE_TAINT", value_name = "TAINT", value_delimiter = ',')]
    pub node_taint: Vec<String>,
    #[command(flatten)]
    pub storage: crate::storage::Options,
    #[command(flatten)]
    pub datastore: crate::datastore::Options,
    /// Serve the store as etcd here: https:// for administrators' certificates, http:// on loopback alone.
    #[arg(
        long,
        env = "SKIFF_ETCD_LISTEN_CLIENT_URLS",
        value_name = "URL",
        value_delimiter = ',',
        conflicts_with = "datastore_endpoint"
    )]
    pub etcd_listen_client_urls: Vec<String>,
    /// Leave parts out: node, controllers, scheduler, dns, proxy.
    #[arg(long, env = "SKIFF_DISABLE", value_name = "PART", value_delimiter = ',')]
    pub disable: Vec<String>,
}

impl Server {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        super::log();
        let config = self.into_config()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .thread_name("skiff")
            .build()
            .context("cannot start the async runtime")?;
        runtime.block_on(cluster::run(config))?;
        Ok(ExitCode::SUCCESS)
    }

    fn into_config(self) -> anyhow::Result<cluster::Config> {
        let disabled = Disabled::parse(&self.disable)?;
        let data_dir = std::path::absolute(&self.data_dir).context("cannot find the data folder")?;
        let kubeconfig = match self.write_kubeconfig {
            Some(path) => std::path::absolute(path).context("cannot find where the kubeconfig goes")?,
            None if data_dir == std::path::Path::new("/var/lib/skiff") => PathBuf::from("/etc/skiff/kubeconfig"),
            None => data_dir.join("kubeconfig"),
        };
        Ok(cluster::Config {
            kubeconfig,
            data_dir,
            bind_address: self.bind_address,
            port: self.https_listen_port,
            advertise_address: self.advertise_address,
            tls_sans: self.tls_san,
            cluster_cidrs: self.cluster_cidr,
            service_cidrs: self.service_cidr,
            cluster_domain: self.cluster_domain,
            storage: self.storage,
            datastore: self.datastore,
            etcd_urls: self.etcd_listen_client_urls,
            disabled,
            node_labels: self.node_label,
            node_taints: self.node_taint,
            node_name: self.node_name.unwrap_or_else(host_name),
        })
    }
}

/// The host's name in the form that node names have.
pub fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim().to_lowercase();
    if name.is_empty() { "localhost".to_owned() } else { name }
}
