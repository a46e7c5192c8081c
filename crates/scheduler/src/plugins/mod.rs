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

/// How many of [`FILTERS`] look at the node alone and not at the pods there: whoever leaves, they refuse the same.
const BY_ITSELF: usize = 3;

/// Every score with its weight.
pub const SCORES: &[(&str, i64, Score)] = &[
    ("NodeResourcesBalancedAllocation", 1, resources::balanced),
    ("NodeResourcesFit", 1, resources::least_allocated),
    ("NodeAffinity", 2, nodes::preferred),
    ("TaintToleration", 3, taints::score),
    ("PodTopologySpread", 2, spread::score),
    ("InterPodAffinity", 2, affinity::score),
];

/// Why a node is refused, if it is.
pub fn refusal(candidate: &Candidate<'_>) -> Option<String> {
    FILTERS.iter().find_map(|(_, filter)| filter(candidate).err())
}

/// Whether a node takes a pod as far as that does not depend on other pods.
pub fn fits_by_itself(candidate: &Candidate<'_>) -> bool {
    FILTERS.iter().take(BY_ITSELF).all(|(_, filter)| filter(candidate).is_ok())
}

/// The best node for a pod, or why each is refused: reasons with the number of nodes. `expected` is the cluster with
/// those pods of no less priority that others are leaving for: the pod must fit with them and without.
pub fn choose(
    pod: &PodInfo,
    cache: &Cache,
    expected: Option<&Cache>,
) -> Result<apimachinery::SmolStr, Vec<(String, usize)>> {
    let mut best: Option<(i64, &NodeInfo)> = None;
    let mut refused: std::collections::BTreeMap<String, usize> = Default::default();
    for (node, state) in cache.nodes() {
        let candidate = Candidate { pod, node, state, cache };
        let later = expected.and_then(|cache| {
            let state = cache.nodes().find(|(other, _)| other.name == node.name)?.1;
            refusal(&Candidate { pod, node, state, cache })
        });
        if let Some(reason) = later.or_else(|| refusal(&candidate)) {
            *refused.entry(reason).or_default() += 1;
            continue;
        }
        // The node that others leave for it comes first.
        if node.name == pod.nominated {
            return Ok(node.name.clone());
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
