//! InterPodAffinity: near pods that a pod wants, away from those it, or they, do not want.

use super::Candidate;
use crate::model::{AffinityTerm, PodInfo};

/// Whether some pod that a term selects runs in the candidate's domain.
fn in_domain(c: &Candidate<'_>, term: &AffinityTerm) -> bool {
    let Some(domain) = c.node.label(&term.topology_key) else { return false };
    c.cache.nodes().any(|(node, state)| {
        node.label(&term.topology_key) == Some(domain)
            && state.pods.values().any(|pod| term.selects(&pod.namespace, &pod.labels))
    })
}

/// Whether any pod anywhere is selected.
fn anywhere(c: &Candidate<'_>, term: &AffinityTerm) -> bool {
    c.cache.nodes().any(|(_, state)| state.pods.values().any(|pod| term.selects(&pod.namespace, &pod.labels)))
}

fn required(terms: &[AffinityTerm]) -> impl Iterator<Item = &AffinityTerm> {
    terms.iter().filter(|t| t.weight == 0)
}

pub fn filter(c: &Candidate<'_>) -> Result<(), String> {
    for term in required(&c.pod.affinity) {
        if in_domain(c, term) {
            continue;
        }
        // The first pod of a group that wants to be together may start anywhere that has the label.
        let first = term.selects(&c.pod.namespace, &c.pod.labels)
            && !anywhere(c, term)
            && c.node.label(&term.topology_key).is_some();
        if !first {
            return Err("node(s) didn't match pod affinity rules".into());
        }
    }
    if required(&c.pod.anti_affinity).any(|term| in_domain(c, term)) {
        return Err("node(s) didn't match pod anti-affinity rules".into());
    }
    let repelled = |pod: &PodInfo, their_domain: &dyn Fn(&str) -> Option<String>| {
        required(&pod.anti_affinity).any(|term| {
            term.selects(&c.pod.namespace, &c.pod.labels)
                && their_domain(&term.topology_key).as_deref() == c.node.label(&term.topology_key)
                && c.node.label(&term.topology_key).is_some()
        })
    };
    for (node, state) in c.cache.nodes() {
        let domain = |key: &str| node.label(key).map(str::to_string);
        if state.pods.values().any(|pod| repelled(pod, &domain)) {
            return Err("node(s) didn't satisfy existing pods anti-affinity rules".into());
        }
    }
    Ok(())
}

pub fn score(c: &Candidate<'_>) -> i64 {
    let sum = |terms: &[AffinityTerm]| -> i64 {
        terms.iter().filter(|t| t.weight > 0 && in_domain(c, t)).map(|t| t.weight).sum()
    };
    // Half way up, so that wishes to be apart can pull a node down.
    50 + (sum(&c.pod.affinity) - sum(&c.pod.anti_affinity)) / 2
}
