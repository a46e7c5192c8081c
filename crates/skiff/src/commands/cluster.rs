//! `skiff cluster`: local clusters whose nodes are namespaces of this host.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use runtime::grpc::Client;

use crate::local::{self, Cluster, Clusters, Process};

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
        /// The nodes' network, a /24 (default: the first free one from 172.29.0.0)
        #[arg(long, value_name = "IP")]
        subnet: Option<Ipv4Addr>,
        /// How many seconds the nodes may take to be ready
        #[arg(long, default_value_t = 120, value_name = "SECONDS")]
        wait: u64,
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
            LocalCluster::Create { place, name, nodes, kubeconfig, image_archive, subnet, wait } => {
                let clusters = place.open()?;
                for archive in &image_archive {
                    ensure!(archive.is_file(), "there is no image archive {}", archive.display());
                }
                let mut cluster = clusters.define(&name, nodes, subnet)?;
                let made = clusters.start(&mut cluster);
                let made = made.and_then(|()| finish(&clusters, &cluster, wait, &image_archive));
                if let Err(error) = made {
                    return Err(error.context(format!(
                        "the cluster {name} is not ready; look at its logs, then remove it with `skiff cluster delete {name}`"
                    )));
                }
                let text = clusters.kubeconfig(&cluster)?;
                match kubeconfig {
                    Some(path) => {
                        pki::file::write_private(&path, text.as_bytes(), pki::file::Durability::Synced)?;
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

async fn load(cluster: &Cluster, archives: &[PathBuf]) -> anyhow::Result<()> {
    for node in &cluster.nodes {
        let process = node.process.as_ref().filter(|process| process.is_alive());
        let process = process.with_context(|| {
            format!("the node {} does not run; `skiff cluster start {}` starts it", node.name, cluster.name)
        })?;
        if archives.is_empty() {
            continue;
        }
        // The node's own files, seen from here.
        let socket = PathBuf::from(format!("/proc/{}/root/run/skiff/cri.sock", process.pid));
        let client = Client::connect(&socket).await?;
        for archive in archives {
            import(&client, archive).await.with_context(|| format!("cannot import {}", archive.display()))?;
            println!("{}: {}", node.name, archive.display());
        }
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
