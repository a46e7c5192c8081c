//! `skiff runtime`: the container runtime alone, serving CRI.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use ipnet::IpNet;
use tokio::signal::unix::{SignalKind, signal};

/// Run only the container runtime, and serve CRI on a socket.
#[derive(clap::Args)]
pub struct Runtime {
    /// The socket to serve CRI on.
    #[arg(long, default_value = "/run/skiff/cri.sock", env = "SKIFF_SOCKET")]
    socket: PathBuf,
    /// Where images, pods and containers are kept.
    #[arg(long, default_value = "/var/lib/skiff/runtime", env = "SKIFF_ROOT")]
    root: PathBuf,
    /// The addresses of this node's pods, one range a family; without it only foreign networks are used.
    #[arg(long, value_delimiter = ',', env = "SKIFF_POD_CIDR")]
    pod_cidr: Vec<IpNet>,
    /// Configurations of foreign networks, which go before our own.
    #[arg(long, default_value = "/etc/cni/net.d", env = "SKIFF_CNI_CONFIG_DIR")]
    cni_config_dir: PathBuf,
    /// Foreign network plugins.
    #[arg(long, default_value = "/opt/cni/bin", value_delimiter = ',', env = "SKIFF_CNI_BIN_DIR")]
    cni_bin_dir: Vec<PathBuf>,
    /// The control group under which those of pods and shims are made
    #[arg(long, default_value = "/skiff", env = "SKIFF_CGROUP_PARENT")]
    cgroup_parent: String,
    /// Mirrors and credentials of registries.
    #[arg(long, default_value = "/etc/skiff/registries.json", env = "SKIFF_REGISTRIES")]
    registries: PathBuf,
}

impl Runtime {
    /// Serves until told to stop; pods stay.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        super::log();
        let network = cni::Network::new(cni::NetworkConfig {
            config_folder: self.cni_config_dir,
            plugin_paths: self.cni_bin_dir,
            pod_ranges: self.pod_cidr,
            ..cni::NetworkConfig::new(self.root.join("network"))
        });
        let mut config = runtime::Config::new(self.root, Some(Arc::new(network)))?;
        config.registries = self.registries;
        config.cgroup_parent = self.cgroup_parent;
        super::block_on(async {
            let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
            let stop = async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = tokio::signal::ctrl_c() => {}
                }
            };
            Ok(runtime::serve(config, &self.socket, stop).await?)
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
