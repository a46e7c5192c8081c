//! The plugins: one file each, one line in a table.

mod affinity;
mod nodes;
mod ports;
mod resources;
mod spread;
mod taints;

use crate::cache::{Cache, NodeState};
use crate::model::{NodeInfo, PodInfo};

/// What a filter sees.
pub struct Candidate<'a> {
    pub pod: &'a PodInfo,
    pub node: &'a NodeInfo,
    pub state: &'a NodeState,
    pub cache: &'a Cache,
}

/// Refuses a node with a reason, in upstream's words since people search for them.
pub type Filter = fn(&Candidate<'_>) -> Result<(), String>;

/// Rates a node from 0 to 100.
pub type Score = fn(&Candidate<'_>) -> i64;

/// Every filter, cheap ones first.
pub const FILTERS: &[(&str, Filter)] = &[
    ("NodeUnschedulable", nodes::unschedulable),
    ("NodeAffinity", nodes::affinity),
    ("TaintToleration", taints::filter),
    ("NodePorts", ports::filter),
    ("NodeResourcesFit", resources::filter),
    ("PodTopologySpread", spread::filter),
    ("InterPodAffinity", affinity::filter),
];

/// Every score with its weight.
pub const SCORES: &[(&str, i64, Score)] = &[
    ("NodeResourcesBalancedAllocation", 1, resources::balanced),
    ("NodeResourcesFit", 1, resources::least_allocated),
    ("NodeAffinity", 2, nodes::preferred),
    ("TaintToleration", 3, taints::score),
    ("PodTopologySpread", 2, spread::score),
    ("InterPodAffinity", 2, affinity::score),
];

/// The best node for a pod, or why each is refused: reasons with the number of nodes.
pub fn choose(pod: &PodInfo, cache: &Cache) -> Result<apimachinery::SmolStr, Vec<(String, usize)>> {
    let mut best: Option<(i64, &NodeInfo)> = None;
    let mut refused: std::collections::BTreeMap<String, usize> = Default::default();
    for (node, state) in cache.nodes() {
        let candidate = Candidate { pod, node, state, cache };
        if let Some(reason) = FILTERS.iter().find_map(|(_, filter)| filter(&candidate).err()) {
            *refused.entry(reason).or_default() += 1;
            continue;
        }
        let score = SCORES.iter().map(|(_, weight, score)| weight * score(&candidate).clamp(0, 100)).sum();
        if best.is_none_or(|(top, _)| score > top) {
            best = Some((score, node));
        }
    }
    match best {
        Some((_, node)) => Ok(node.name.clone()),
        None => Err(refused.into_iter().collect()),
    }
}

#[cfg(test)]
mod tests;
