//! Local clusters: nodes as sets of namespaces on this host.
//!
//! ```text
//! <root>/host.json            what the host had before the first cluster: settings with their old values
//! <root>/NAME/cluster.json    what the cluster made on the host, written before it is made
//! <root>/NAME/NODE/etc var    the node's own folders; var/lib/skiff is its data folder
//! ```
//!
//! Start reading at [`Clusters`]; `nodes` makes a node's namespaces, `network` joins them.

mod network;
mod nodes;
mod ready;

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

pub use network::need_forwarding;

use crate::process::Process;

/// Where clusters are kept.
pub const ROOT: &str = "/var/lib/skiff/clusters";
/// The folder around it, which servers and agents use too.
const AROUND: &str = "/var/lib/skiff";
/// More than one subnet has addresses for.
const MOST_NODES: usize = 100;

/// A cluster as it is recorded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cluster {
    pub name: String,
    /// The bridge that joins the nodes.
    pub bridge: String,
    /// The first three numbers of the nodes' addresses.
    pub subnet: Ipv4Addr,
    pub nodes: Vec<Node>,
}

/// A node as it is recorded; the first one is the server.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Node {
    pub name: String,
    pub ip: Ipv4Addr,
    /// The end of its link on this host.
    pub link: String,
    /// Its first process, if it was started.
    #[serde(default)]
    pub process: Option<Process>,
}

/// Has the clusters of this host put back a setting as another found it who goes before them.
pub fn inherit_forwarding(found: &str) -> anyhow::Result<()> {
    let named = std::env::var_os("SKIFF_CLUSTERS_DIR").map(PathBuf::from);
    [Some(PathBuf::from(ROOT)), named]
        .into_iter()
        .flatten()
        .try_for_each(|root| network::inherit_forwarding(&root, found))
}

/// The clusters of this host.
#[derive(Clone, Debug)]
pub struct Clusters {
    root: PathBuf,
}

impl Clusters {
    /// The clusters kept in a folder.
    pub fn open(root: PathBuf) -> Clusters {
        Clusters { root }
    }

    /// Their names, sorted.
    pub fn names(&self) -> anyhow::Result<Vec<String>> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.root.display())),
        };
        let mut names: Vec<String> = entries
            .flatten()
            .filter(|entry| entry.path().join("cluster.json").is_file())
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        Ok(names)
    }

    /// The record of a cluster.
    pub fn read(&self, name: &str) -> anyhow::Result<Cluster> {
        check_name(name)?;
        let path = self.folder(name).join("cluster.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                bail!("there is no cluster {name:?}; `skiff cluster list` shows those there are")
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
    }

    fn write(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let path = self.folder(&cluster.name).join("cluster.json");
        pki::file::write_private(&path, &serde_json::to_vec_pretty(cluster)?, pki::file::Durability::Synced)?;
        Ok(())
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The folder that keeps a node.
    pub fn node_folder(&self, cluster: &Cluster, node: &Node) -> PathBuf {
        self.folder(&cluster.name).join(&node.name)
    }

    /// Where a node's daemon writes its log.
    pub fn log(&self, cluster: &Cluster, node: &Node) -> PathBuf {
        self.node_folder(cluster, node).join("var/log/skiff.log")
    }

    /// Records a new cluster; nothing of it runs yet.
    pub fn define(&self, name: &str, count: usize, subnet: Option<Ipv4Addr>) -> anyhow::Result<Cluster> {
        check_name(name)?;
        ensure!((1..=MOST_NODES).contains(&count), "a cluster has 1 to {MOST_NODES} nodes, not {count}");
        ensure!(
            !self.folder(name).exists(),
            "there is a cluster {name:?} already; `skiff cluster delete {name}` removes it"
        );
        let others: Vec<Cluster> = self.names()?.iter().filter_map(|other| self.read(other).ok()).collect();
        let taken: Vec<Ipv4Addr> = others.iter().map(|other| other.subnet).collect();
        let subnet = network::free_subnet(subnet, &taken)?;
        let [a, b, c, _] = subnet.octets();
        let bridge = network::free_bridge(name, &others)?;
        let nodes = (0..count)
            .map(|i| Node {
                name: format!("{name}-{}", i + 1),
                ip: Ipv4Addr::new(a, b, c, 10 + i as u8),
                link: format!("sk{c:02x}{b:02x}n{}", i + 1),
                process: None,
            })
            .collect();
        let cluster = Cluster { name: name.to_owned(), bridge, subnet, nodes };
        let folder = self.folder(name);
        let missing: Vec<&Path> = folder.ancestors().take_while(|folder| !folder.exists()).collect();
        let written = pki::file::private_dir(&folder).map_err(Into::into).and_then(|()| self.write(&cluster));
        if let Err(error) = written {
            for folder in missing {
                let _ = fs::remove_dir(folder);
            }
            return Err(error);
        }
        Ok(cluster)
    }

    /// Gives every node the settings of registries that its runtime reads.
    pub fn set_registries(&self, cluster: &Cluster, settings: &[u8]) -> anyhow::Result<()> {
        for node in &cluster.nodes {
            let folder = self.node_folder(cluster, node).join("etc/skiff");
            fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            pki::file::write_private(&folder.join("registries.json"), settings, pki::file::Durability::Synced)?;
        }
        Ok(())
    }

    /// Starts what does not run of a cluster. The calling process must have one thread.
    pub fn start(&self, cluster: &mut Cluster) -> anyhow::Result<()> {
        network::record_settings(&self.root)?;
        network::up(cluster)?;
        for i in 0..cluster.nodes.len() {
            if cluster.nodes[i].process.as_ref().is_some_and(Process::is_alive) {
                continue;
            }
            let folder = self.node_folder(cluster, &cluster.nodes[i]);
            let arguments = self.daemon(cluster, i);
            let born = nodes::Born::start(cluster, &cluster.nodes[i], &folder, arguments)?;
            cluster.nodes[i].process = Some(born.process.clone());
            // Recorded before it does anything, so that it can be removed whatever happens next.
            self.write(cluster)?;
            network::connect(cluster, &cluster.nodes[i], &born.process)?;
            born.release()?;
        }
        Ok(())
    }

    /// What a node's daemon is told.
    fn daemon(&self, cluster: &Cluster, index: usize) -> Vec<String> {
        let (node, first) = (&cluster.nodes[index], &cluster.nodes[0]);
        let words: Vec<String> = if index == 0 {
            vec!["server".into(), format!("--advertise-address={}", node.ip), format!("--tls-san={}", node.ip)]
        } else {
            let server = format!("--server=https://{}:6443", first.ip);
            vec!["agent".into(), server, "--token-file=/etc/skiff/token".into(), format!("--node-ip={}", node.ip)]
        };
        words.into_iter().chain([format!("--node-name={}", node.name)]).collect()
    }

    /// Waits until the API answers and gives the token to the other nodes, then until all nodes are ready.
    pub async fn wait(&self, cluster: &Cluster, limit: std::time::Duration) -> anyhow::Result<()> {
        let deadline = tokio::time::Instant::now() + limit;
        let first = self.node_folder(cluster, &cluster.nodes[0]);
        let token = first.join("var/lib/skiff/token");
        while !(token.is_file() && first.join("etc/skiff/kubeconfig").is_file()) {
            self.still_there(cluster, deadline).await?;
        }
        for node in cluster.nodes.iter().skip(1) {
            let text = pki::file::read(&token)?.unwrap_or_default();
            let path = self.node_folder(cluster, node).join("etc/skiff/token");
            pki::file::write_private(&path, text.as_bytes(), pki::file::Durability::Synced)?;
        }
        loop {
            let Some(trouble) = ready::trouble(cluster, &self.kubeconfig(cluster)?).await else { return Ok(()) };
            self.still_there(cluster, deadline).await.context(trouble)?;
        }
    }

    async fn still_there(&self, cluster: &Cluster, deadline: tokio::time::Instant) -> anyhow::Result<()> {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        for node in &cluster.nodes {
            let log = self.log(cluster, node);
            ensure!(
                node.process.as_ref().is_some_and(Process::is_alive),
                "the node {} ended; its log is {}",
                node.name,
                log.display()
            );
        }
        ensure!(
            tokio::time::Instant::now() < deadline,
            "the cluster was not ready in time; the logs are {}/*/var/log/skiff.log",
            self.folder(&cluster.name).display()
        );
        Ok(())
    }

    /// The administrator's kubeconfig, as it is used on this host.
    pub fn kubeconfig(&self, cluster: &Cluster) -> anyhow::Result<String> {
        let first = &cluster.nodes[0];
        let path = self.node_folder(cluster, first).join("etc/skiff/kubeconfig");
        let text = pki::file::read(&path)?
            .with_context(|| format!("the cluster {} has no kubeconfig yet: it never started", cluster.name))?;
        Ok(text.replace("https://127.0.0.1:6443", &format!("https://{}:6443", first.ip)))
    }

    /// Ends all processes of a cluster and takes its links down; what it stored stays.
    pub fn stop(&self, cluster: &mut Cluster) -> anyhow::Result<()> {
        for node in &mut cluster.nodes {
            if let Some(process) = node.process.take() {
                process.end()?;
            }
        }
        for node in &cluster.nodes {
            nodes::remove_groups(cluster, node)?;
        }
        network::down(cluster)?;
        self.write(cluster)
    }

    /// Removes a cluster with all that it stored.
    pub fn delete(&self, mut cluster: Cluster) -> anyhow::Result<()> {
        self.stop(&mut cluster)?;
        nodes::remove_cluster_groups(&cluster)?;
        let folder = self.folder(&cluster.name);
        // The record last: an interrupted removal can be taken up again.
        for node in &cluster.nodes {
            remove_folder(&self.node_folder(&cluster, node))?;
        }
        remove_folder(&folder)?;
        if self.names()?.is_empty() {
            network::restore_settings(&self.root)?;
            // These stay if there is anything else in them.
            let _ = fs::remove_dir(&self.root);
            if self.root == Path::new(ROOT) {
                let _ = fs::remove_dir(AROUND);
            }
        }
        Ok(())
    }
}

fn remove_folder(path: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let fine = (1..=40).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    ensure!(fine, "{name:?} is no name for a cluster: use up to 40 lower-case letters, digits and inner hyphens");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_recorded_and_names_checked() {
        assert!(check_name("a-1").is_ok());
        for bad in ["", "-a", "a-", "A", "a/b", "..", &"a".repeat(41)] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
        let folder = tempfile::tempdir().unwrap();
        let clusters = Clusters::open(folder.path().join("clusters"));
        assert!(clusters.names().unwrap().is_empty());
        let message = clusters.read("one").unwrap_err().to_string();
        assert!(message.contains("there is no cluster"), "{message}");
        let made = clusters.define("a-long-name-of-a-cluster", 2, None).unwrap();
        assert!(made.bridge.len() <= linux::netlink::link::MAX_NAME, "{}", made.bridge);
        assert!(made.nodes.iter().all(|node| node.link.len() <= linux::netlink::link::MAX_NAME));
        assert_eq!(clusters.read(&made.name).unwrap().nodes[1].ip, made.nodes[1].ip);
        assert!(clusters.define(&made.name, 1, None).is_err());
        let other = clusters.define("other", 1, None).unwrap();
        assert_ne!(other.subnet, made.subnet);
        assert!(clusters.define("third", 1, Some(made.subnet)).is_err());
        assert!(clusters.define("none", 0, None).is_err());
        assert_eq!(clusters.names().unwrap(), ["a-long-name-of-a-cluster", "other"]);
    }

    #[test]
    fn of_a_cluster_that_cannot_be_recorded_no_folder_stays() {
        let folder = tempfile::tempdir().unwrap();
        // The cluster's folder can have this path, and a file in it cannot: it is too long for the kernel.
        let mut deep = folder.path().to_owned();
        while deep.as_os_str().len() < 4080 {
            deep.push("a".repeat((4080 - deep.as_os_str().len()).clamp(2, 201) - 1));
        }
        let error = Clusters::open(deep).define("one", 1, None).unwrap_err();
        assert!(format!("{error:#}").contains("cluster.json"), "{error:#}");
        let clusters = Clusters::open(folder.path().join("clusters"));
        assert!(clusters.define("one", 1, Some(Ipv4Addr::new(10, 0, 0, 7))).is_err());
        assert!(clusters.define("one", 0, None).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
