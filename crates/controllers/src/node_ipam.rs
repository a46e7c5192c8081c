//! Gives each node its ranges of pod addresses, out of the cluster's.
//!
//! What is given stands in the nodes' own specs; nothing else remembers it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::core::node::Node;
use apimachinery::{Map, Status, Value};
use client::{Client, Outcome, PatchKind, Queue, run_workers};

use crate::Context;

/// How long a node's prefix is (upstream's defaults).
const NODE_PREFIX_V4: u8 = 24;
const NODE_PREFIX_V6: u8 = 64;

/// A range of the cluster that is divided among nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pool {
    first: u128,
    v6: bool,
    prefix: u8,
    node_prefix: u8,
}

impl Pool {
    fn parse(text: &str) -> Option<Pool> {
        let (address, prefix) = text.split_once('/')?;
        let prefix: u8 = prefix.parse().ok()?;
        let address: IpAddr = address.parse().ok()?;
        let (number, v6, width, node) = match address {
            IpAddr::V4(ip) => (u128::from(u32::from(ip)), false, 32, NODE_PREFIX_V4),
            IpAddr::V6(ip) => (u128::from(ip), true, 128, NODE_PREFIX_V6),
        };
        if prefix > width {
            return None;
        }
        // A small cluster range is shared by 16 nodes at least, where that leaves addresses.
        let node_prefix = if node < prefix + 4 { (prefix + 4).min(width - 2) } else { node };
        let mask = if prefix == 0 { 0 } else { u128::MAX << (width - prefix) };
        Some(Pool { first: number & mask, v6, prefix, node_prefix })
    }

    fn width(&self) -> u8 {
        if self.v6 { 128 } else { 32 }
    }

    fn count(&self) -> u128 {
        1 << u32::from(self.node_prefix.saturating_sub(self.prefix)).min(64)
    }

    fn range(&self, index: u128) -> String {
        let number = self.first + (index << u32::from(self.width() - self.node_prefix));
        let address = match self.v6 {
            true => IpAddr::V6(Ipv6Addr::from(number)),
            false => IpAddr::V4(Ipv4Addr::from(number as u32)),
        };
        format!("{address}/{}", self.node_prefix)
    }

    /// The first range that is not among those taken.
    fn free(&self, taken: &BTreeSet<String>) -> Option<String> {
        (0..self.count()).map(|index| self.range(index)).find(|range| !taken.contains(range))
    }
}

/// Runs the controller; one node after the other, so that no two get the same range.
pub async fn run(cx: Context) {
    let pools: Vec<Pool> = cx.config.cluster_cidrs.iter().filter_map(|text| Pool::parse(text)).collect();
    if pools.is_empty() {
        return std::future::pending().await;
    }
    let nodes = cx.shared.nodes().clone();
    nodes.synced().await;
    let queue: Queue<apimachinery::SmolStr> = Queue::new();
    let to = queue.clone();
    nodes.on_change(move |change| {
        if change.new.is_some_and(|node| node.pod_cidrs.is_empty()) {
            to.add(change.key.name.clone());
        }
    });
    // Given here, not yet heard back.
    let given = std::sync::Arc::new(parking_lot::Mutex::new(Given::new()));
    run_workers("node-ipam", queue, 1, move |name| {
        let (client, nodes, pools, given) = (cx.client.clone(), nodes.clone(), pools.clone(), given.clone());
        let recorder = cx.recorder.clone();
        async move {
            let Some(node) = nodes.get("", &name).filter(|n| n.pod_cidrs.is_empty()) else {
                given.lock().remove(&name);
                return Ok(Outcome::Done);
            };
            // Another change of the node may come before our own: what is given is given.
            if given.lock().get(&name).is_some_and(|(uid, _)| *uid == node.uid) {
                return Ok(Outcome::Done);
            }
            let mut taken: BTreeSet<String> =
                nodes.all().iter().flat_map(|(_, n)| n.pod_cidrs.iter().map(ToString::to_string)).collect();
            taken.extend(given.lock().values().flat_map(|(_, ranges)| ranges.clone()));
            let Some(ranges) = pools.iter().map(|p| p.free(&taken)).collect::<Option<Vec<String>>>() else {
                let about = client::events::Subject {
                    kind: "Node".into(),
                    name: name.clone(),
                    uid: node.uid.clone(),
                    ..Default::default()
                };
                recorder.normal(&about, "CIDRNotAvailable", format!("Node {name} status is now: CIDRNotAvailable"));
                return Err(Status::internal("the cluster's range of pod addresses is used up"));
            };
            given.lock().insert(name.clone(), (node.uid.clone(), ranges.clone()));
            let done = assign(&client, &name, &ranges).await;
            if done.is_err() {
                given.lock().remove(&name);
            }
            match done {
                Err(status) if status.is_not_found() => Ok(Outcome::Done),
                other => other.map(|()| Outcome::Done),
            }
        }
    })
    .await;
}

/// By node: its uid and its ranges.
type Given = std::collections::HashMap<apimachinery::SmolStr, (apimachinery::SmolStr, Vec<String>)>;

async fn assign(client: &Client, name: &str, ranges: &[String]) -> Result<(), Status> {
    let mut spec = Map::new();
    spec.insert("podCIDR", ranges[0].as_str());
    spec.insert("podCIDRs", ranges.iter().map(|r| Value::from(r.as_str())).collect::<Vec<_>>());
    let mut patch = Map::new();
    patch.insert("spec", spec);
    client.patch::<Node>("", name, "", PatchKind::Merge, Value::Map(patch)).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_divided() {
        let pool = Pool::parse("10.42.0.0/16").unwrap();
        assert_eq!(
            (pool.range(0), pool.range(255), pool.count()),
            ("10.42.0.0/24".into(), "10.42.255.0/24".into(), 256)
        );
        let taken = BTreeSet::from(["10.42.0.0/24".to_owned(), "10.42.2.0/24".to_owned()]);
        assert_eq!(pool.free(&taken).unwrap(), "10.42.1.0/24");
        let six = Pool::parse("fd42::/48").unwrap();
        assert_eq!(six.range(1), "fd42:0:0:1::/64");
        let small = Pool::parse("10.42.0.0/24").unwrap();
        assert_eq!(small.range(1), "10.42.0.16/28");
        assert_eq!(Pool::parse("x"), None);
    }
}
