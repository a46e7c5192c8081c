//! Asks a local cluster's API whether its nodes are ready.

use super::Cluster;
use crate::ask::{Api, has_condition};

/// Why not all nodes of a cluster are ready, or nothing if they are. `kubeconfig` is its administrator's.
pub async fn trouble(cluster: &Cluster, kubeconfig: &str) -> Option<String> {
    let count = cluster.nodes.len();
    match ready(cluster, kubeconfig).await {
        Ok(ready) if ready.len() < count => Some(format!("{} of {count} nodes have joined", ready.len())),
        Ok(ready) => {
            let waiting = ready.iter().filter(|one| !**one).count();
            (waiting > 0).then(|| format!("{waiting} of {count} nodes are not ready"))
        }
        Err(error) => Some(format!("{error:#}")),
    }
}

async fn ready(cluster: &Cluster, kubeconfig: &str) -> anyhow::Result<Vec<bool>> {
    // Connected anew each time: a connection from before the API was ready may never answer.
    let api = Api::of_kubeconfig(&format!("https://{}:6443", cluster.nodes[0].ip), kubeconfig)?;
    let nodes = api.list("/api/v1/nodes").await?;
    Ok(nodes.iter().map(|node| has_condition(node, "Ready")).collect())
}
