//! The nodes and what runs, or is about to run, on each.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use apimachinery::SmolStr;

use crate::model::{NodeInfo, PodInfo, Resources};

/// One node with its pods.
#[derive(Clone, Debug, Default)]
pub struct NodeState {
    /// Absent while pods are known of a node that is not (yet, or any more).
    pub info: Option<Arc<NodeInfo>>,
    pub pods: HashMap<SmolStr, Arc<PodInfo>>,
    pub requested: Resources,
}

/// The scheduler's picture, changed by one task only.
#[derive(Clone, Default)]
pub struct Cache {
    nodes: BTreeMap<SmolStr, NodeState>,
    /// Where each pod is counted, by uid.
    placed: HashMap<SmolStr, SmolStr>,
}

impl Cache {
    pub fn set_node(&mut self, name: &str, info: Option<Arc<NodeInfo>>) {
        match info {
            Some(info) => self.nodes.entry(name.into()).or_default().info = Some(info),
            None => {
                if let Some(state) = self.nodes.get_mut(name) {
                    state.info = None;
                    if state.pods.is_empty() {
                        self.nodes.remove(name);
                    }
                }
            }
        }
    }

    /// Counts a pod on a node, replacing what was known of it.
    pub fn place(&mut self, node: &str, pod: Arc<PodInfo>) {
        self.remove(&pod.uid);
        let state = self.nodes.entry(node.into()).or_default();
        state.requested.add(&pod.requests);
        self.placed.insert(pod.uid.clone(), node.into());
        state.pods.insert(pod.uid.clone(), pod);
    }

    pub fn remove(&mut self, uid: &str) {
        let Some(node) = self.placed.remove(uid) else { return };
        if let Some(state) = self.nodes.get_mut(&node)
            && let Some(pod) = state.pods.remove(uid)
        {
            state.requested.sub(&pod.requests);
            if state.pods.is_empty() && state.info.is_none() {
                self.nodes.remove(&node);
            }
        }
    }

    /// A pod that is counted somewhere.
    pub fn pod(&self, uid: &str) -> Option<&Arc<PodInfo>> {
        self.nodes.get(self.placed.get(uid)?)?.pods.get(uid)
    }

    /// Nodes that exist.
    pub fn nodes(&self) -> impl Iterator<Item = (&Arc<NodeInfo>, &NodeState)> {
        self.nodes.values().filter_map(|state| Some((state.info.as_ref()?, state)))
    }

    pub fn len(&self) -> usize {
        self.nodes().count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
