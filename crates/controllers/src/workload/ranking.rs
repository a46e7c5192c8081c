//! Which pods to delete first when there are too many.

use std::cmp::Ordering;
use std::collections::HashMap;

use apimachinery::SmolStr;
use apimachinery::time::parse_rfc3339;

use crate::shared::PodView;
use crate::shared::pod_index::CachedPod;

fn seconds(text: &str) -> i64 {
    parse_rfc3339(text).map_or(0, |(seconds, _)| seconds)
}

/// Ages that differ by less than a power of two count as equal, so that the choice among old pods is no pattern.
fn bucket(since: i64, now: i64) -> u32 {
    (now - since).max(0).checked_ilog2().map_or(0, |log| log + 1)
}

/// Orders pods so that the first are the first to go. `doubled` says how many related pods run on a pod's node.
fn first_to_go(a: &PodView, b: &PodView, doubled: &HashMap<SmolStr, usize>, now: i64) -> Ordering {
    let phase = |pod: &PodView| match pod.phase.as_str() {
        "Pending" | "" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let crowd = |pod: &PodView| doubled.get(&pod.node).copied().unwrap_or_default();
    // The younger goes first; a time that is not known counts as younger than any.
    let younger = |a: i64, b: i64| match (a, b) {
        (0, 0) => Ordering::Equal,
        (0, _) => Ordering::Less,
        (_, 0) => Ordering::Greater,
        (a, b) => bucket(a, now).cmp(&bucket(b, now)),
    };
    (!a.node.is_empty())
        .cmp(&!b.node.is_empty())
        .then_with(|| phase(a).cmp(&phase(b)))
        .then_with(|| a.ready.cmp(&b.ready))
        .then_with(|| a.deletion_cost.cmp(&b.deletion_cost))
        .then_with(|| crowd(b).cmp(&crowd(a)))
        .then_with(|| {
            if a.ready && b.ready { younger(seconds(&a.ready_since), seconds(&b.ready_since)) } else { Ordering::Equal }
        })
        .then_with(|| b.restarts.cmp(&a.restarts))
        .then_with(|| younger(seconds(&a.created), seconds(&b.created)))
        .then_with(|| a.uid.cmp(&b.uid))
}

/// The `count` pods to delete; `related` are all running pods of the same purpose, these included.
pub fn choose(mut pods: Vec<CachedPod>, related: &[CachedPod], count: usize, now: i64) -> Vec<CachedPod> {
    if count < pods.len() {
        pods = rank(pods, related, now);
        pods.truncate(count);
    }
    pods
}

/// Orders pods, those first that should go first.
pub fn rank(mut pods: Vec<CachedPod>, related: &[CachedPod], now: i64) -> Vec<CachedPod> {
    let mut doubled: HashMap<SmolStr, usize> = HashMap::new();
    for (_, pod) in related.iter().filter(|(_, p)| !p.node.is_empty()) {
        *doubled.entry(pod.node.clone()).or_default() += 1;
    }
    pods.sort_by(|(_, a), (_, b)| first_to_go(a, b, &doubled, now));
    pods
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use client::Key;

    use super::*;

    #[test]
    fn the_least_useful_go_first() {
        let ready = |uid: &str| PodView {
            uid: uid.into(),
            node: "n".into(),
            phase: "Running".into(),
            ready: true,
            ready_since: "2026-01-01T00:00:00Z".into(),
            created: "2026-01-01T00:00:00Z".into(),
            ..PodView::default()
        };
        let now = seconds("2026-01-02T00:00:00Z");
        // Of each pair the first goes first.
        let table = [
            (PodView { node: "".into(), ..ready("z") }, ready("a")),
            (PodView { phase: "Pending".into(), ..ready("z") }, ready("a")),
            (PodView { ready: false, ..ready("z") }, ready("a")),
            (PodView { deletion_cost: -1, ..ready("z") }, ready("a")),
            (PodView { node: "crowded".into(), ..ready("z") }, ready("a")),
            (PodView { ready_since: "2026-01-01T23:59:00Z".into(), ..ready("z") }, ready("a")),
            (PodView { restarts: 3, ..ready("z") }, ready("a")),
            (PodView { created: "2026-01-01T23:59:00Z".into(), ..ready("z") }, ready("a")),
            (ready("a"), ready("z")),
        ];
        let doubled = HashMap::from([("crowded".into(), 5), ("n".into(), 1)]);
        for (i, (first, second)) in table.iter().enumerate() {
            assert_eq!(first_to_go(first, second, &doubled, now), Ordering::Less, "row {i}");
        }
        let pods: Vec<_> = ["b", "a"].map(|uid| (Key::new("", uid), Arc::new(ready(uid)))).into();
        assert_eq!(choose(pods.clone(), &pods, 1, now)[0].0.name, "a");
    }
}
