//! `skiff agent`: a node on a machine of its own.

use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use crate::agent;

/// Run a node that belongs to a server's cluster.
#[derive(clap::Args, Clone, Debug)]
pub struct Agent {
    /// Read settings from this file; keys are the names of these options.
    #[arg(long, env = "SKIFF_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The server, such as https://192.0.2.1:6443.
    #[arg(long, env = "SKIFF_SERVER", value_name = "URL")]
    pub server: String,
    /// The file that holds the join token, a copy of <data-dir>/token of the server.
    #[arg(long, env = "SKIFF_TOKEN_FILE", value_name = "FILE")]
    pub token_file: PathBuf,
    /// Keep all state here.
    #[arg(long, env = "SKIFF_DATA_DIR", value_name = "FOLDER", default_value = "/var/lib/skiff")]
    pub data_dir: PathBuf,
    /// Call this node so (default: the host's name).
    #[arg(long, env = "SKIFF_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Tell others to reach this node under these addresses (default: the one that leads to the server).
    #[arg(long, env = "SKIFF_NODE_IP", value_name = "IP", value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// Labels for this node when it is new, as key=value.
    #[arg(long, env = "SKIFF_NODE_LABEL", value_name = "LABEL", value_delimiter = ',')]
    pub node_label: Vec<String>,
    /// Taints for this node when it is new, as key=value:Effect.
    #[arg(long, env = "SKIFF_NODE_TAINT", value_name = "TAINT", value_delimiter = ',')]
    pub node_taint: Vec<String>,
}

impl Agent {
    /// Runs until told to stop; pods stay.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        super::log();
        let token = std::fs::read_to_string(&self.token_file)
            .with_context(|| format!("cannot read the join token {}", self.token_file.display()))?;
        let config = agent::Config {
            server: self.server,
            token,
            data_dir: std::path::absolute(self.data_dir).context("cannot find the data folder")?,
            node_name: self.node_name.unwrap_or_else(super::server::host_name),
            node_ips: self.node_ip,
            node_labels: self.node_label,
            node_taints: self.node_taint,
        };
        super::block_on(agent::run(config))?;
        Ok(ExitCode::SUCCESS)
    }
}
