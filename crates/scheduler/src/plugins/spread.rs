//! PodTopologySpread: pods of one kind evenly over zones, hosts or whatever a label says.

use std::collections::BTreeMap;

use apimachinery::Value;

use super::{Candidate, nodes, taints};
use crate::model::{PodInfo, Spread};

/// How many selected pods each domain has, among the nodes that the pod could go to at all.
fn domains<'a>(c: &Candidate<'a>, spread: &Spread) -> BTreeMap<&'a str, i64> {
    let mut counts: BTreeMap<&'a str, i64> = BTreeMap::new();
    for (node, state) in c.cache.nodes() {
        let Some(domain) = node.label(&spread.topology_key) else { continue };
        let candidate = Candidate { pod: c.pod, node, state, cache: c.cache };
        if (spread.honors_affinity && nodes::affinity(&candidate).is_err())
            || (spread.honors_taints && taints::filter(&candidate).is_err())
        {
            continue;
        }
        let count = state.pods.values().filter(|pod| counts_for(pod, c.pod, spread)).count() as i64;
        *counts.entry(domain).or_default() += count;
    }
    counts
}

fn counts_for(pod: &PodInfo, of: &PodInfo, spread: &Spread) -> bool {
    pod.namespace == of.namespace
        && !pod.deleting
        && spread.selector.matches(|key| pod.labels.get(key).and_then(Value::as_str))
}

pub fn filter(c: &Candidate<'_>) -> Result<(), String> {
    for spread in c.pod.spreads.iter().filter(|s| s.required) {
        let Some(domain) = c.node.label(&spread.topology_key) else {
            return Err("node(s) didn't match pod topology spread constraints (missing required label)".into());
        };
        let counts = domains(c, spread);
        // With fewer domains than are asked for, the emptiest counts as empty.
        let least =
            if (counts.len() as i64) < spread.min_domains { 0 } else { counts.values().min().copied().unwrap_or(0) };
        let own = i64::from(spread.selector.matches(|key| c.pod.labels.get(key).and_then(Value::as_str)));
        let here = counts.get(domain).copied().unwrap_or(0) + own;
        if here - least > spread.max_skew {
            return Err("node(s) didn't match pod topology spread constraints".into());
        }
    }
    Ok(())
}

pub fn score(c: &Candidate<'_>) -> i64 {
    let mut total = 0;
    let mut constraints = 0;
    for spread in c.pod.spreads.iter().filter(|s| !s.required) {
        constraints += 1;
        let Some(domain) = c.node.label(&spread.topology_key) else { continue };
        let counts = domains(c, spread);
        let most = counts.values().max().copied().unwrap_or(0);
        let here = counts.get(domain).copied().unwrap_or(0);
        total += if most == 0 { 100 } else { (most - here) * 100 / most };
    }
    if constraints == 0 { 0 } else { total / constraints }
}
