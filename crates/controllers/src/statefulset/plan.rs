//! What a StatefulSet does next: in order of ordinals, one pod after the other or all at once.

use api::apps::{StatefulSet, StatefulSetStatus};
use apimachinery::{IntOrString, SmolStr, Time};

use crate::shared::PodView;
use crate::shared::pod_index::CachedPod;
use crate::workload::history::HASH_LABEL;
use crate::workload::pods::is_available;

/// The label with a pod's own name, which a pod must carry to be the one of its ordinal.
pub const NAME_LABEL: &str = "statefulset.kubernetes.io/pod-name";

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Create the pod of an ordinal, and its claims before it.
    Create {
        ordinal: i32,
        new_revision: bool,
    },
    Delete(CachedPod),
    /// Create the claims that a pod which cannot start may be missing.
    EnsureClaims(CachedPod),
    /// Bring the labels and the owners of the claims up to date.
    Align(CachedPod),
}

/// The parent and the ordinal in a pod's name.
pub fn parse_name(name: &str) -> Option<(&str, i32)> {
    let (parent, ordinal) = name.rsplit_once('-')?;
    if !ordinal.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((parent, ordinal.parse().ok()?))
}

fn ordinal(pod: &CachedPod) -> i32 {
    parse_name(&pod.0.name).map_or(-1, |(_, ordinal)| ordinal)
}

pub fn start(set: &StatefulSet) -> i32 {
    set.spec.ordinals.as_ref().map_or(0, |o| o.start)
}

pub fn replicas(set: &StatefulSet) -> i32 {
    set.spec.replicas.unwrap_or(1).max(0)
}

/// Whether the set wants a pod of this ordinal.
pub fn wants(set: &StatefulSet, ordinal: i32) -> bool {
    (start(set)..start(set).saturating_add(replicas(set))).contains(&ordinal)
}

pub fn is_parallel(set: &StatefulSet) -> bool {
    set.spec.pod_management_policy == "Parallel"
}

fn revision(pod: &PodView) -> Option<&SmolStr> {
    pod.labels.get(HASH_LABEL)
}

/// What the plan goes by.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// Names of the revisions that pods come from and go to.
    pub current: &'a str,
    pub update: &'a str,
    pub now: Time,
}

/// The pods of a set, told apart.
#[derive(Debug, Default)]
pub struct Pods {
    /// One place for each ordinal that is wanted, ascending.
    replicas: Vec<Option<CachedPod>>,
    /// Pods of other ordinals, descending.
    condemned: Vec<CachedPod>,
}

impl Pods {
    pub fn sort(set: &StatefulSet, all: Vec<CachedPod>) -> Pods {
        let mut pods = Pods { replicas: vec![None; replicas(set) as usize], condemned: Vec::new() };
        for pod in all {
            let at = ordinal(&pod);
            if wants(set, at) {
                pods.replicas[(at - start(set)) as usize] = Some(pod);
            } else if at >= 0 {
                pods.condemned.push(pod);
            }
        }
        pods.condemned.sort_by_key(|pod| std::cmp::Reverse(ordinal(pod)));
        pods
    }

    fn all(&self) -> impl Iterator<Item = &CachedPod> {
        self.replicas.iter().flatten().chain(&self.condemned)
    }
}

struct Planner<'a> {
    set: &'a StatefulSet,
    rules: &'a Rules<'a>,
    actions: Vec<Action>,
}

/// What to do now. How many pods a rolling update lets go comes second: they no longer count as current.
pub fn plan(set: &StatefulSet, pods: &Pods, rules: &Rules<'_>) -> (Vec<Action>, i32) {
    let mut planner = Planner { set, rules, actions: Vec::new() };
    let settled = planner.settle(pods);
    let replaced = if settled && set.spec.update_strategy.type_ != "OnDelete" { planner.roll(pods) } else { 0 };
    (planner.actions, replaced)
}

impl Planner<'_> {
    fn available(&self, pod: &PodView) -> bool {
        is_available(pod, self.set.spec.min_ready_seconds, self.rules.now)
    }

    fn missing(&self, pod: &Option<CachedPod>) -> bool {
        pod.as_ref().is_none_or(|(_, pod)| pod.deleting || !self.available(pod))
    }

    /// Makes every wanted pod be there and every other be gone. False: that takes another look later.
    fn settle(&mut self, pods: &Pods) -> bool {
        let one_by_one = !is_parallel(self.set);
        for (at, pod) in pods.replicas.iter().enumerate() {
            if self.settle_replica(at as i32, pod.as_ref()) && one_by_one {
                return false;
            }
        }
        // The first that is not available, counted upwards: a broken pod must not keep itself from being removed.
        let broken = match pods.replicas.iter().any(|pod| self.missing(pod)) {
            true => None,
            false => pods.condemned.iter().rev().find(|(_, pod)| pod.deleting || !self.available(pod)),
        };
        self.actions.extend(pods.condemned.iter().cloned().map(Action::Align));
        for pod in &pods.condemned {
            let view = &pod.1;
            let ready = view.phase == "Running" && self.available(view);
            let waits = view.deleting || !ready && broken.is_none_or(|(key, _)| *key != pod.0);
            if one_by_one && waits {
                return false;
            }
            if !view.deleting {
                self.actions.push(Action::Delete(pod.clone()));
                if one_by_one {
                    return false;
                }
            }
        }
        true
    }

    /// Says whether the pods after this one have to wait.
    fn settle_replica(&mut self, at: i32, pod: Option<&CachedPod>) -> bool {
        let Some(pod) = pod else {
            let new_revision = !self.keeps_revision(at);
            self.actions.push(Action::Create { ordinal: start(self.set) + at, new_revision });
            return true;
        };
        let view = &pod.1;
        if matches!(view.phase.as_str(), "Failed" | "Succeeded") {
            if !view.deleting {
                self.actions.push(Action::Delete(pod.clone()));
            }
            return true;
        }
        if view.phase == "Pending" {
            self.actions.push(Action::EnsureClaims(pod.clone()));
        }
        let waits = view.deleting || view.phase != "Running" || !self.available(view);
        if !waits || is_parallel(self.set) {
            self.actions.push(Action::Align(pod.clone()));
        }
        waits
    }

    /// Whether a pod that has to be created is one that the update has not reached.
    fn keeps_revision(&self, at: i32) -> bool {
        let strategy = &self.set.spec.update_strategy;
        match strategy.rolling_update.as_ref() {
            Some(rolling) => at < rolling.partition.unwrap_or(0),
            None => strategy.type_ == "RollingUpdate" && at < self.set.status.current_replicas,
        }
    }

    /// Lets go of pods of another revision, the highest ordinal first, as far as pods may be missing.
    fn roll(&mut self, pods: &Pods) -> i32 {
        let rolling = self.set.spec.update_strategy.rolling_update.as_ref();
        let partition = rolling.and_then(|r| r.partition).unwrap_or(0).max(0) as usize;
        let limit = rolling.and_then(|r| r.max_unavailable.clone()).unwrap_or(IntOrString::Int(1));
        let limit = limit.scaled(replicas(self.set), false).unwrap_or(1).max(1);
        let is_old = |pod: &PodView| revision(pod).is_none_or(|name| name != self.rules.update) && !pod.deleting;
        let missing = pods.replicas.iter().filter(|pod| self.missing(pod)).count() as i32;
        let reached = pods.replicas.iter().skip(partition).rev().flatten().filter(|(_, pod)| is_old(pod));
        let parallel = is_parallel(self.set);
        let mut budget = limit - missing;
        let mut doomed = Vec::new();
        if parallel {
            // What is broken already costs nothing.
            doomed.extend(reached.clone().filter(|(_, pod)| !self.available(pod)).cloned());
        }
        for pod in reached.filter(|(_, pod)| !parallel || self.available(pod)) {
            if budget <= 0 {
                break;
            }
            budget -= 1;
            doomed.push(pod.clone());
        }
        let count = doomed.len() as i32;
        self.actions.extend(doomed.into_iter().map(Action::Delete));
        count
    }
}

/// What is told about the pods, and whether the update is through.
pub fn count(set: &StatefulSet, pods: &Pods, rules: &Rules<'_>) -> StatefulSetStatus {
    let mut status = StatefulSetStatus {
        observed_generation: set.metadata.generation,
        current_revision: rules.current.into(),
        update_revision: rules.update.into(),
        collision_count: set.status.collision_count,
        conditions: set.status.conditions.clone(),
        ..StatefulSetStatus::default()
    };
    for (_, pod) in pods.all() {
        status.replicas += 1;
        if pod.phase == "Running" && pod.ready {
            status.ready_replicas += 1;
            let available = is_available(pod, set.spec.min_ready_seconds, rules.now);
            status.available_replicas += i32::from(available);
        }
        if !pod.deleting {
            let is = |name: &str| i32::from(revision(pod).is_some_and(|revision| revision == name));
            status.current_replicas += is(rules.current);
            status.updated_replicas += is(rules.update);
        }
    }
    status
}

/// When every pod is there, ready and updated, the update revision becomes the current one.
pub fn complete(set: &StatefulSet, status: &mut StatefulSetStatus) {
    let wanted = replicas(set);
    if status.updated_replicas == wanted && status.ready_replicas == wanted && status.replicas == wanted {
        status.current_replicas = status.updated_replicas;
        status.current_revision = status.update_revision.clone();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use api::apps::{RollingUpdateStatefulSetStrategy, StatefulSetOrdinals};
    use client::Key;

    use super::*;

    const RULES: Rules<'static> = Rules { current: "old", update: "new", now: Time(0) };

    fn set(replicas: i32, policy: &str) -> StatefulSet {
        let mut set = StatefulSet::default();
        set.metadata.name = "db".into();
        set.spec.replicas = Some(replicas);
        set.spec.pod_management_policy = policy.into();
        set.spec.update_strategy.type_ = "RollingUpdate".into();
        set
    }

    /// `state`: r running and ready, p pending, f failed, d being deleted.
    fn pod(ordinal: i32, state: char, revision: &str) -> CachedPod {
        let phase = match state {
            'p' => "Pending",
            'f' => "Failed",
            _ => "Running",
        };
        let view = PodView {
            phase: phase.into(),
            ready: state == 'r',
            deleting: state == 'd',
            labels: [(HASH_LABEL.into(), revision.into())].into(),
            ..PodView::default()
        };
        (Key::new("a", format!("db-{ordinal}")), Arc::new(view))
    }

    fn steps(set: &StatefulSet, pods: Vec<CachedPod>) -> Vec<String> {
        let (actions, _) = plan(set, &Pods::sort(set, pods), &RULES);
        let text = |action: &Action| match action {
            Action::Create { ordinal, new_revision: true } => format!("+{ordinal}"),
            Action::Create { ordinal, new_revision: false } => format!("+{ordinal} old"),
            Action::Delete((key, _)) => format!("-{}", &key.name[3..]),
            Action::EnsureClaims((key, _)) => format!("claims {}", &key.name[3..]),
            Action::Align(_) => String::new(),
        };
        actions.iter().map(text).filter(|text| !text.is_empty()).collect()
    }

    #[test]
    fn ordered_pods_wait_for_each_other() {
        let three = set(3, "OrderedReady");
        for (pods, expected) in [
            (vec![], vec!["+0"]),
            (vec![pod(0, 'p', "new")], vec!["claims 0"]),
            (vec![pod(0, 'r', "new")], vec!["+1"]),
            (vec![pod(0, 'd', "new")], vec![]),
            (vec![pod(0, 'f', "new"), pod(1, 'r', "new")], vec!["-0"]),
            (vec![pod(0, 'r', "new"), pod(2, 'r', "new")], vec!["+1"]),
            ((0..5).map(|i| pod(i, 'r', "new")).collect(), vec!["-4"]),
            ((0..4).map(|i| pod(i, if i == 3 { 'd' } else { 'r' }, "new")).collect(), vec![]),
            // The broken one is the one that goes.
            ((0..4).map(|i| pod(i, if i == 3 { 'p' } else { 'r' }, "new")).collect(), vec!["-3"]),
        ] {
            assert_eq!(steps(&three, pods.clone()), expected, "{pods:?}");
        }
    }

    #[test]
    fn parallel_pods_do_not() {
        let three = set(3, "Parallel");
        assert_eq!(steps(&three, vec![]), ["+0", "+1", "+2"]);
        assert_eq!(
            steps(&three, vec![pod(1, 'p', "new"), pod(4, 'p', "new"), pod(3, 'r', "new")]),
            ["+0", "claims 1", "+2", "-4", "-3"]
        );
    }

    #[test]
    fn updates_go_from_the_top_down_to_the_partition() {
        let mut three = set(3, "OrderedReady");
        let all = |state: char| (0..3).map(|i| pod(i, state, "old")).collect::<Vec<_>>();
        assert_eq!(steps(&three, all('r')), ["-2"]);
        let some = vec![pod(0, 'r', "old"), pod(1, 'r', "old"), pod(2, 'r', "new")];
        assert_eq!(steps(&three, some.clone()), ["-1"]);
        let rolling = |partition, unavailable| {
            Some(RollingUpdateStatefulSetStrategy {
                partition: Some(partition),
                max_unavailable: Some(IntOrString::Int(unavailable)),
            })
        };
        three.spec.update_strategy.rolling_update = rolling(2, 1);
        assert!(steps(&three, some).is_empty());
        // Below the partition a lost pod comes back as it was.
        assert_eq!(steps(&three, vec![pod(1, 'r', "old"), pod(2, 'r', "new")]), ["+0 old"]);
        three.spec.update_strategy.rolling_update = rolling(0, 2);
        assert_eq!(steps(&three, all('r')), ["-2", "-1"]);
        three.spec.update_strategy.type_ = "OnDelete".into();
        assert!(steps(&three, all('r')).is_empty());
        let mut three = set(3, "Parallel");
        three.spec.update_strategy.rolling_update = rolling(0, 1);
        let broken = vec![pod(0, 'p', "old"), pod(1, 'r', "old"), pod(2, 'r', "old")];
        assert_eq!(steps(&three, broken), ["claims 0", "-0"]);
    }

    #[test]
    fn ordinals_may_start_anywhere() {
        let mut two = set(2, "Parallel");
        two.spec.ordinals = Some(StatefulSetOrdinals { start: 5 });
        assert_eq!(steps(&two, vec![pod(0, 'r', "new"), pod(5, 'r', "new")]), ["+6", "-0"]);
        assert_eq!(parse_name("db-a-12"), Some(("db-a", 12)));
        for bad in ["db", "db-x", "db-99999999999"] {
            assert_eq!(parse_name(bad), None);
        }
    }

    #[test]
    fn an_update_completes_when_all_are_ready() {
        let two = set(2, "OrderedReady");
        let told = |pods| {
            let mut status = count(&two, &Pods::sort(&two, pods), &RULES);
            complete(&two, &mut status);
            (status.current_revision, status.current_replicas, status.updated_replicas, status.ready_replicas)
        };
        assert_eq!(told(vec![pod(0, 'r', "old"), pod(1, 'r', "new")]), ("old".into(), 1, 1, 2));
        assert_eq!(told(vec![pod(0, 'r', "new"), pod(1, 'r', "new")]), ("new".into(), 2, 2, 2));
    }
}
