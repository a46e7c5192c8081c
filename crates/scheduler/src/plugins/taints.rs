//! TaintToleration: taints that a pod does not tolerate keep it off, or count against a node.

use super::Candidate;
use crate::model::Taint;

pub fn filter(c: &Candidate<'_>) -> Result<(), String> {
    let repels = |taint: &&Taint| {
        matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
            && !c.pod.tolerations.iter().any(|t| t.tolerates(taint))
    };
    match c.node.taints.iter().find(repels) {
        None => Ok(()),
        Some(taint) if taint.value.is_empty() => Err(format!("node(s) had untolerated taint {{{}: }}", taint.key)),
        Some(taint) => Err(format!("node(s) had untolerated taint {{{}: {}}}", taint.key, taint.value)),
    }
}

pub fn score(c: &Candidate<'_>) -> i64 {
    let disliked =
        c.node.taints.iter().filter(|taint| {
            taint.effect == "PreferNoSchedule" && !c.pod.tolerations.iter().any(|t| t.tolerates(taint))
        });
    100 - 50 * disliked.count() as i64
}
