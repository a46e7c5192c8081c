//! The commands: one file each, one line in the table.

mod agent;
mod backup;
mod cluster;
pub mod cni;
mod image;
mod node_init;
mod reset;
mod runtime;
mod server;
mod shim;
mod status;

use std::path::PathBuf;
use std::process::ExitCode;

/// Whose data folder a command is about.
#[derive(clap::Args, Clone, Debug)]
#[group(skip)]
pub struct DataFolder {
    /// Take the data folder from this file of the server or agent.
    #[arg(long, env = "SKIFF_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data folder of the server or agent.
    #[arg(long, env = "SKIFF_DATA_DIR", value_name = "FOLDER", default_value = "/var/lib/skiff")]
    pub data_dir: PathBuf,
}

#[derive(clap::Subcommand)]
pub enum Command {
    Server(Box<server::Server>),
    Agent(agent::Agent),
    Status(status::Status),
    Reset(reset::Reset),
    Backup(backup::Backup),
    Restore(backup::Restore),
    Runtime(runtime::Runtime),
    Cni(cni::Cni),
    /// The node's images.
    #[command(subcommand)]
    Image(image::Image),
    /// Local clusters, whose nodes are namespaces of this host.
    #[command(subcommand)]
    Cluster(cluster::LocalCluster),
    #[command(hide = true)]
    NodeInit(node_init::NodeInit),
    #[command(hide = true)]
    Shim(shim::Shim),
}

impl Command {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Command::Server(command) => command.run(),
            Command::Agent(command) => command.run(),
            Command::Status(command) => command.run(),
            Command::Reset(command) => command.run(),
            Command::Backup(command) => command.run(),
            Command::Restore(command) => command.run(),
            Command::Runtime(command) => command.run(),
            Command::Cni(command) => command.run(),
            Command::Image(command) => command.run(),
            Command::Cluster(command) => command.run(),
            Command::NodeInit(command) => command.run(),
            Command::Shim(command) => command.run(),
        }
    }
}

/// Logs go to standard error; `SKIFF_LOG` says how much (`info` by default).
pub fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("SKIFF_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}

/// Runs a command's asynchronous part.
pub fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}
