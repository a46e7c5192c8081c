//! Which pods of a DaemonSet to create and delete.

use std::collections::BTreeMap;

use api::apps::{DaemonSet, DaemonSetStatus};
use apimachinery::{SmolStr, Time};

use super::placement::Fit;
use crate::shared::PodView;
use crate::shared::pod_index::CachedPod;
use crate::workload::history::HASH_LABEL;
use crate::workload::pods::is_available;

/// The pods of one node, and whether they belong there. A node that is gone has pods but no fit.
#[derive(Clone, Debug, Default)]
pub struct OnNode {
    pub fit: Option<Fit>,
    pub pods: Vec<CachedPod>,
}

/// What the plans go by.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The hash of the current template, and the generation older releases marked pods with.
    pub hash: &'a str,
    pub generation: Option<i64>,
    pub min_ready_seconds: i32,
    /// Whether a node may have an old and a new pod at once.
    pub surges: bool,
    pub now: Time,
}

/// Creations by node, and deletions.
#[derive(Debug, Default)]
pub struct Plan {
    pub create: Vec<SmolStr>,
    pub delete: Vec<CachedPod>,
    /// Pods to delete because they have failed, unless that happened too often lately.
    pub failed: Vec<(SmolStr, CachedPod)>,
    /// Pods to delete because they have ended well, which daemons should not.
    pub succeeded: Vec<(SmolStr, CachedPod)>,
}

impl Rules<'_> {
    pub fn is_current(&self, pod: &PodView) -> bool {
        let label = |name: &str| pod.labels.get(name).map(SmolStr::as_str);
        label(HASH_LABEL) == Some(self.hash)
            || self.generation.is_some_and(|n| label("pod-template-generation") == Some(n.to_string().as_str()))
    }

    fn available(&self, pod: &PodView) -> bool {
        is_available(pod, self.min_ready_seconds, self.now)
    }
}

/// Scheduled ones first, then the oldest.
pub fn sort(pods: &mut [CachedPod]) {
    pods.sort_by(|(a_key, a), (b_key, b)| {
        (a.node.is_empty(), &a.created, &a_key.name).cmp(&(b.node.is_empty(), &b.created, &b_key.name))
    });
}

/// One pod on every node where one belongs, and none elsewhere.
pub fn settle(nodes: &BTreeMap<SmolStr, OnNode>, rules: &Rules<'_>) -> Plan {
    let mut plan = Plan::default();
    for (name, node) in nodes {
        let alive = node.pods.iter().filter(|(_, pod)| !pod.deleting);
        match node.fit {
            // Nothing else cleans up pods that never got to a node.
            None => plan.delete.extend(node.pods.iter().filter(|(_, pod)| pod.node.is_empty()).cloned()),
            Some(fit) if fit.run && node.pods.is_empty() => plan.create.push(name.clone()),
            Some(fit) if fit.stay => settle_node(name, fit, alive.cloned().collect(), rules, &mut plan),
            Some(_) => plan.delete.extend(alive.cloned()),
        }
    }
    plan
}

fn settle_node(name: &SmolStr, fit: Fit, alive: Vec<CachedPod>, rules: &Rules<'_>, plan: &mut Plan) {
    let mut running = Vec::new();
    for pod in alive {
        match pod.1.phase.as_str() {
            "Failed" => plan.failed.push((name.clone(), pod)),
            "Succeeded" => plan.succeeded.push((name.clone(), pod)),
            _ => running.push(pod),
        }
    }
    sort(&mut running);
    if !rules.surges {
        plan.delete.extend(running.into_iter().skip(1));
        return;
    }
    if running.is_empty() && fit.run {
        plan.create.push(name.clone());
    }
    if running.len() <= 1 {
        return;
    }
    let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|(_, pod)| rules.is_current(pod));
    plan.delete.extend(new.iter().skip(1).chain(old.iter().skip(1)).cloned());
    if let (Some((_, new)), Some(old)) = (new.first(), old.first())
        && (!old.1.ready || rules.available(new))
    {
        plan.delete.push(old.clone());
    }
}

/// The numbers that bound a rolling update: pods above one a node, and pods that may be missing.
pub fn limits(set: &DaemonSet, wanted: i32) -> (i32, i32) {
    let rolling = set.spec.update_strategy.rolling_update.as_ref();
    let rolling = rolling.filter(|_| set.spec.update_strategy.type_ == "RollingUpdate");
    let scaled = |value: Option<&apimachinery::IntOrString>| value.and_then(|v| v.scaled(wanted, true)).unwrap_or(0);
    let surge = scaled(rolling.and_then(|r| r.max_surge.as_ref()));
    let unavailable = scaled(rolling.and_then(|r| r.max_unavailable.as_ref()));
    if wanted > 0 && surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
}

/// The new and the old pod of a node; `None` with more than one of either, which is not settled yet.
fn pair<'a>(node: &'a OnNode, rules: &Rules<'_>) -> Option<(Option<&'a CachedPod>, Option<&'a CachedPod>)> {
    let alive = || node.pods.iter().filter(|(_, pod)| !pod.deleting);
    let mut new = alive().filter(|(_, pod)| rules.is_current(pod));
    let mut old = alive().filter(|(_, pod)| !rules.is_current(pod));
    let pair = (new.next(), old.next());
    (new.next().is_none() && old.next().is_none()).then_some(pair)
}

/// One step of a rolling update.
pub fn roll(set: &DaemonSet, nodes: &BTreeMap<SmolStr, OnNode>, rules: &Rules<'_>) -> Plan {
    let runs = |node: &OnNode| node.fit.is_some_and(|fit| fit.run);
    let wanted = nodes.values().filter(|node| runs(node)).count() as i32;
    let (surge, unavailable) = limits(set, wanted);
    let nodes = nodes.iter().filter(|(_, node)| runs(node) || !node.pods.is_empty());
    if surge == 0 { replace(nodes, unavailable, rules) } else { surge_over(nodes, surge, wanted, rules) }
}

/// Deletes old pods: all that are not available, and of the others as many as may be missing.
fn replace<'a>(nodes: impl Iterator<Item = (&'a SmolStr, &'a OnNode)>, limit: i32, rules: &Rules<'_>) -> Plan {
    let (mut missing, mut plan, mut candidates) = (0, Plan::default(), Vec::new());
    for (_, node) in nodes {
        match pair(node, rules) {
            Some((Some((_, new)), None)) => missing += i32::from(!rules.available(new)),
            Some((None, Some(old))) if rules.available(&old.1) => candidates.push(old.clone()),
            Some((None, Some(old))) => {
                plan.delete.push(old.clone());
                missing += 1;
            }
            _ => missing += 1,
        }
    }
    plan.delete.extend(candidates.into_iter().take((limit - missing).max(0) as usize));
    plan
}

/// Creates new pods beside old ones, and deletes an old one when its successor is available.
fn surge_over<'a>(
    nodes: impl Iterator<Item = (&'a SmolStr, &'a OnNode)>,
    limit: i32,
    wanted: i32,
    rules: &Rules<'_>,
) -> Plan {
    let (mut surging, mut available) = (0, 0);
    let (mut plan, mut candidates, mut misplaced) = (Plan::default(), Vec::new(), Vec::new());
    for (name, node) in nodes {
        let Some((new, old)) = pair(node, rules) else {
            surging += 1;
            continue;
        };
        available += i32::from(old.or(new).is_some_and(|(_, pod)| rules.available(pod)));
        let Some(old) = old else { continue };
        let runs = node.fit.is_some_and(|fit| fit.run);
        match (new, rules.available(&old.1)) {
            (Some((_, new)), _) if rules.available(new) => plan.delete.push(old.clone()),
            (Some(_), _) => surging += 1,
            (None, false) if runs => plan.create.push(name.clone()),
            (None, false) => plan.delete.push(old.clone()),
            (None, true) if runs => candidates.push(name.clone()),
            (None, true) => misplaced.push(old.clone()),
        }
    }
    // Where pods no longer belong they stay until others are available elsewhere.
    plan.delete.extend(misplaced.into_iter().take((available - wanted).max(0) as usize));
    plan.create.extend(candidates.into_iter().take((limit - surging).max(0) as usize));
    plan
}

/// What is told about the pods; the rest is taken from the status so far.
pub fn count(set: &DaemonSet, nodes: &BTreeMap<SmolStr, OnNode>, rules: &Rules<'_>) -> DaemonSetStatus {
    let mut status = DaemonSetStatus {
        observed_generation: set.status.observed_generation,
        collision_count: set.status.collision_count,
        conditions: set.status.conditions.clone(),
        ..DaemonSetStatus::default()
    };
    for node in nodes.values() {
        let Some(fit) = node.fit else { continue };
        let mut pods = node.pods.clone();
        sort(&mut pods);
        let first = pods.first();
        if !fit.run {
            status.number_misscheduled += i32::from(first.is_some());
            continue;
        }
        status.desired_number_scheduled += 1;
        if let Some((_, pod)) = first {
            status.current_number_scheduled += 1;
            status.number_ready += i32::from(pod.ready);
            status.number_available += i32::from(rules.available(pod));
            status.updated_number_scheduled += i32::from(rules.is_current(pod));
        }
    }
    status.number_unavailable = status.desired_number_scheduled - status.number_available;
    status
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use api::apps::RollingUpdateDaemonSet;
    use apimachinery::IntOrString;
    use client::Key;

    use super::*;

    const RULES: Rules<'static> =
        Rules { hash: "new", generation: None, min_ready_seconds: 0, surges: false, now: Time(0) };
    const FITS: Option<Fit> = Some(Fit { run: true, stay: true });

    fn pod(name: &str, hash: &str, ready: bool) -> CachedPod {
        let labels = [(HASH_LABEL.into(), hash.into())].into();
        let view = PodView { uid: name.into(), labels, ready, node: "n".into(), ..PodView::default() };
        (Key::new("a", name), Arc::new(view))
    }

    fn nodes(all: &[(Option<Fit>, Vec<CachedPod>)]) -> BTreeMap<SmolStr, OnNode> {
        let node = |(i, (fit, pods)): (usize, &(Option<Fit>, Vec<CachedPod>))| {
            (format!("n{i}").into(), OnNode { fit: *fit, pods: pods.clone() })
        };
        all.iter().enumerate().map(node).collect()
    }

    fn names(plan: &Plan) -> (Vec<&str>, Vec<&str>) {
        (plan.create.iter().map(SmolStr::as_str).collect(), plan.delete.iter().map(|(k, _)| k.name.as_str()).collect())
    }

    #[test]
    fn every_node_gets_one_pod() {
        let away = Some(Fit { run: false, stay: false });
        let keeps = Some(Fit { run: false, stay: true });
        let mut unscheduled = pod("u", "new", false);
        Arc::make_mut(&mut unscheduled.1).node = "".into();
        let all = nodes(&[
            (FITS, vec![]),
            (FITS, vec![pod("a", "old", true)]),
            (FITS, vec![pod("b", "new", true), pod("c", "new", true)]),
            (away, vec![pod("d", "new", true)]),
            (keeps, vec![pod("e", "new", true)]),
            (keeps, vec![]),
            (None, vec![pod("f", "new", true), unscheduled]),
        ]);
        let plan = settle(&all, &RULES);
        assert_eq!(names(&plan), (vec!["n0"], vec!["c", "d", "u"]));
        let status = count(&DaemonSet::default(), &all, &RULES);
        let numbers = (status.desired_number_scheduled, status.current_number_scheduled, status.number_misscheduled);
        assert_eq!(numbers, (3, 2, 2));
        assert_eq!((status.number_ready, status.updated_number_scheduled, status.number_unavailable), (2, 1, 1));
    }

    fn rolling(surge: i32, unavailable: i32) -> DaemonSet {
        let mut set = DaemonSet::default();
        set.spec.update_strategy.type_ = "RollingUpdate".into();
        set.spec.update_strategy.rolling_update = Some(RollingUpdateDaemonSet {
            max_unavailable: Some(IntOrString::Int(unavailable)),
            max_surge: Some(IntOrString::Int(surge)),
        });
        set
    }

    #[test]
    fn old_pods_are_replaced_as_far_as_may_be_missing() {
        let one = |pod| (FITS, vec![pod]);
        let all = [one(pod("a", "old", true)), one(pod("b", "old", true)), one(pod("c", "new", true))];
        assert_eq!(names(&roll(&rolling(0, 1), &nodes(&all), &RULES)).1, ["a"]);
        let all = [one(pod("a", "old", true)), one(pod("b", "old", true)), one(pod("c", "new", false))];
        assert!(names(&roll(&rolling(0, 1), &nodes(&all), &RULES)).1.is_empty());
        // What is broken is replaced whatever the limit.
        let all = [one(pod("a", "old", false)), one(pod("b", "old", false)), one(pod("c", "new", false))];
        assert_eq!(names(&roll(&rolling(0, 1), &nodes(&all), &RULES)).1, ["a", "b"]);
    }

    #[test]
    fn surging_creates_before_it_deletes() {
        let rules = Rules { surges: true, ..RULES };
        let two = |old, new| (FITS, vec![old, new]);
        let all = [
            (FITS, vec![pod("a", "old", true)]),
            (FITS, vec![pod("b", "old", true)]),
            two(pod("c", "old", true), pod("d", "new", true)),
        ];
        assert_eq!(names(&roll(&rolling(1, 0), &nodes(&all), &rules)), (vec!["n0"], vec!["c"]));
        let all = [(FITS, vec![pod("a", "old", true)]), two(pod("c", "old", true), pod("d", "new", false))];
        assert_eq!(names(&roll(&rolling(1, 0), &nodes(&all), &rules)), (vec![], vec![]));
        assert!(settle(&nodes(&all), &rules).delete.is_empty());
        let all = [two(pod("c", "old", false), pod("d", "new", false))];
        assert_eq!(names(&settle(&nodes(&all), &rules)).1, ["c"]);
    }
}
