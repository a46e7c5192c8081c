//! `skiff cluster`: local clusters whose nodes are namespaces of this host.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use runtime::grpc::Client;

use crate::local::{self, Cluster, Clusters};
use crate::process::Process;

/// Where clusters are kept.
#[derive(Args)]
pub struct Place {
    /// Keep clusters in this folder, on a real file system
    #[arg(long, env = "SKIFF_CLUSTERS_DIR", value_name = "FOLDER", default_value = local::ROOT)]
    clusters_dir: PathBuf,
}

/// Commands about local clusters.
#[derive(Subcommand)]
pub enum LocalCluster {
    /// Make a cluster on this host and wait until its nodes are ready
    Create {
        #[command(flatten)]
        place: Place,
        name: String,
        /// How many nodes; the first one is the server
        #[arg(long, default_value_t = 1, value_name = "N")]
        nodes: usize,
        /// Write the administrator's kubeconfig here
        #[arg(long, value_name = "FILE")]
        kubeconfig: Option<PathBuf>,
        /// Bring the images of this archive to every node
        #[arg(long, value_name = "ARCHIVE")]
        image_archive: Vec<PathBuf>,
        /// Mirrors and credentials of registries, for every node
        #[arg(long, value_name = "FILE")]
        registries: Option<PathBuf>,
        /// The nodes' network, a /24 (default: the first free one from 172.29.0.0)
        #[arg(long, value_name = "IP")]
        subnet: Option<Ipv4Addr>,
        /// How many seconds the nodes may take to be ready
        #[arg(long, default_value_t = 120, value_name = "SECONDS")]
        wait: u64,
        /// Keep the nodes of a cluster that does not become ready, to look at them
        #[arg(long)]
        retain: bool,
    },
    /// List the clusters of this host
    List {
        #[command(flatten)]
        place: Place,
    },
    /// Start the nodes of a cluster that do not run
    Start {
        #[command(flatten)]
        place: Place,
        name: String,
        /// How many seconds the nodes may take to be ready
        #[arg(long, default_value_t = 120, value_name = "SECONDS")]
        wait: u64,
    },
    /// End the nodes of a cluster and keep what they store
    Stop {
        #[command(flatten)]
        place: Place,
        name: String,
    },
    /// Remove a cluster with all that it stores
    Delete {
        #[command(flatten)]
        place: Place,
        name: String,
    },
    /// Print the administrator's kubeconfig
    Kubeconfig {
        #[command(flatten)]
        place: Place,
        name: String,
    },
    /// Bring the images of archives to every node of a cluster
    LoadImage {
        #[command(flatten)]
        place: Place,
        name: String,
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
}

impl LocalCluster {
    /// Carries the command out.
    pub fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            LocalCluster::Create {
                place,
                name,
                nodes,
                kubeconfig,
                image_archive,
                registries,
                subnet,
                wait,
                retain,
            } => {
                let clusters = place.open()?;
                for archive in &image_archive {
                    ensure!(archive.is_file(), "there is no image archive {}", archive.display());
                }
                if let Some(folder) = kubeconfig.as_deref().and_then(Path::parent) {
                    let there = folder.as_os_str().is_empty() || folder.is_dir();
                    ensure!(there, "there is no folder {} for the kubeconfig: make it first", folder.display());
                }
                let registries = registries.as_deref().map(runtime::read_registries).transpose()?;
                runtime::check_file_system(&place.clusters_dir)?;
                let mut cluster = clusters.define(&name, nodes, subnet)?;
                let made = registries.map_or(Ok(()), |settings| clusters.set_registries(&cluster, &settings));
                let made = made.and_then(|()| clusters.start(&mut cluster));
                let made = made.and_then(|()| finish(&clusters, &cluster, wait, &image_archive));
                let made = made.and_then(|()| write_kubeconfig(&clusters, &cluster, kubeconfig.as_deref()));
                if let Err(error) = made {
                    return Err(give_up(&clusters, cluster, error, retain));
                }
                match kubeconfig {
                    Some(path) => {
                        println!("cluster {name} is ready: kubectl --kubeconfig {} get nodes", path.display());
                    }
                    None => println!("cluster {name} is ready: skiff cluster kubeconfig {name} prints how to reach it"),
                }
            }
            LocalCluster::List { place } => list(&place.open()?)?,
            LocalCluster::Start { place, name, wait } => {
                let clusters = place.open()?;
                let mut cluster = clusters.read(&name)?;
                clusters.start(&mut cluster)?;
                finish(&clusters, &cluster, wait, &[])?;
                println!("cluster {name} is ready");
            }
            LocalCluster::Stop { place, name } => {
                let clusters = place.open()?;
                clusters.stop(&mut clusters.read(&name)?)?;
                println!("cluster {name} is stopped");
            }
            LocalCluster::Delete { place, name } => {
                let clusters = place.open()?;
                clusters.delete(clusters.read(&name)?)?;
                println!("cluster {name} is deleted");
            }
            LocalCluster::Kubeconfig { place, name } => {
                let clusters = place.open()?;
                print!("{}", clusters.kubeconfig(&clusters.read(&name)?)?);
            }
            LocalCluster::LoadImage { place, name, archives } => {
                let clusters = place.open()?;
                let cluster = clusters.read(&name)?;
                super::block_on(load(&cluster, &archives))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Place {
    fn open(&self) -> anyhow::Result<Clusters> {
        ensure!(nix::unistd::geteuid().is_root(), "local clusters need root: run this with sudo");
        let folder = std::path::absolute(&self.clusters_dir).context("cannot find the folder of clusters")?;
        Ok(Clusters::open(folder))
    }
}

fn finish(clusters: &Clusters, cluster: &Cluster, wait: u64, archives: &[PathBuf]) -> anyhow::Result<()> {
    super::block_on(async {
        clusters.wait(cluster, Duration::from_secs(wait)).await?;
        load(cluster, archives).await
    })
}

fn write_kubeconfig(clusters: &Clusters, cluster: &Cluster, path: Option<&Path>) -> anyhow::Result<()> {
    let text = clusters.kubeconfig(cluster)?;
    if let Some(path) = path {
        pki::file::write_private(path, text.as_bytes(), pki::file::Durability::Synced)?;
    }
    Ok(())
}

/// Removes a cluster that could not be made, once the last words of its nodes are told.
fn give_up(clusters: &Clusters, cluster: Cluster, error: anyhow::Error, retain: bool) -> anyhow::Error {
    const LINES: usize = 10;
    let name = cluster.name.clone();
    if retain {
        return error.context(format!(
            "the cluster {name} is not ready; look at its logs, then remove it with `skiff cluster delete {name}`"
        ));
    }
    for node in &cluster.nodes {
        let log = std::fs::read_to_string(clusters.log(&cluster, node)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        for line in &lines[lines.len().saturating_sub(LINES)..] {
            eprintln!("{}: {line}", node.name);
        }
    }
    let error =
        error.context(format!("the cluster {name} could not be made, and nothing of it is kept (--retain keeps it)"));
    match clusters.delete(cluster) {
        Ok(()) => error,
        Err(left) => error.context(format!("{left:#}; `skiff cluster delete {name}` tries again")),
    }
}

/// Brings images to all nodes at the same time. A node that fails keeps no other from its images.
async fn load(cluster: &Cluster, archives: &[PathBuf]) -> anyhow::Result<()> {
    let mut sockets = Vec::new();
    for node in &cluster.nodes {
        let process = node.process.as_ref().filter(|process| process.is_alive());
        let process = process.with_context(|| {
            format!("the node {} does not run; `skiff cluster start {}` starts it", node.name, cluster.name)
        })?;
        // The node's own files, seen from here.
        sockets.push((&node.name, PathBuf::from(format!("/proc/{}/root/run/skiff/cri.sock", process.pid))));
    }
    if archives.is_empty() {
        return Ok(());
    }
    let loads = sockets.iter().map(|(node, socket)| async move {
        let loaded = load_node(node, socket, archives).await;
        loaded.with_context(|| format!("the node {node} did not get all images"))
    });
    futures::future::join_all(loads).await.into_iter().collect()
}

async fn load_node(node: &str, socket: &Path, archives: &[PathBuf]) -> anyhow::Result<()> {
    let client = Client::connect(socket).await?;
    for archive in archives {
        import(&client, archive).await.with_context(|| format!("cannot import {}", archive.display()))?;
        println!("{node}: {}", archive.display());
    }
    Ok(())
}

async fn import(client: &Client, archive: &Path) -> anyhow::Result<()> {
    client.import(Box::new(std::fs::File::open(archive)?), true).await?;
    Ok(())
}

fn list(clusters: &Clusters) -> anyhow::Result<()> {
    println!("{:<24} {:<8} {:<18} BRIDGE", "NAME", "RUNNING", "NETWORK");
    for name in clusters.names()? {
        let cluster = clusters.read(&name)?;
        let running = cluster.nodes.iter().filter(|n| n.process.as_ref().is_some_and(Process::is_alive)).count();
        let running = format!("{running}/{}", cluster.nodes.len());
        println!("{name:<24} {running:<8} {:<18} {}", format!("{}/24", cluster.subnet), cluster.bridge);
    }
    Ok(())
}
