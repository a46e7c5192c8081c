//! Preemption: which pods of lower priority have to go so that a pod fits, as a pure function.
//!
//! ```text
//! each node: take all lower pods away ──> fits? ──> give back whom it can spare, the more important first
//! of the nodes: fewest broken budgets, least important victims, fewest of them, those that began last
//! ```

use std::sync::Arc;

use apimachinery::selector::LabelSelector;
use apimachinery::{SmolStr, Value};

use crate::cache::Cache;
use crate::model::PodInfo;
use crate::plugins::{self, Candidate};

/// How many pods of a budget may still be disrupted.
#[derive(Clone, Debug)]
pub struct Budget {
    pub namespace: SmolStr,
    pub selector: LabelSelector,
    pub allowed: i64,
    /// Pods that are counted as disrupted already, by name.
    pub disrupted: Vec<SmolStr>,
}

impl Budget {
    /// Takes what preemption needs out of a budget's tree.
    pub fn read(budget: &Value) -> Budget {
        let disrupted = budget.at(&["status", "disruptedPods"]).and_then(Value::as_map);
        Budget {
            namespace: budget.str_at(&["metadata", "namespace"]).unwrap_or_default().into(),
            selector: LabelSelector::from_value(budget.at(&["spec", "selector"]))
                .unwrap_or_else(|_| LabelSelector::nothing()),
            allowed: budget.at(&["status", "disruptionsAllowed"]).and_then(Value::as_i64).unwrap_or(0),
            disrupted: disrupted.into_iter().flat_map(|map| map.keys().cloned()).collect(),
        }
    }

    fn covers(&self, pod: &PodInfo) -> bool {
        self.namespace == pod.namespace
            && !pod.labels.is_empty()
            && self.selector.matches(|key| pod.labels.get(key).and_then(Value::as_str))
            && !self.disrupted.contains(&pod.name)
    }
}

/// Where a pod can go, and who has to leave for it.
#[derive(Clone, Debug)]
pub struct Choice {
    pub node: SmolStr,
    /// The most important first.
    pub victims: Vec<Arc<PodInfo>>,
    /// Victims whose budgets do not allow it.
    violations: usize,
}

/// Why a pod may not make others leave.
pub fn ineligible(pod: &PodInfo, cache: &Cache) -> Option<&'static str> {
    if pod.never_preempts {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let (_, state) = cache.nodes().find(|(node, _)| !pod.nominated.is_empty() && node.name == pod.nominated)?;
    let leaving = |other: &Arc<PodInfo>| other.preempted && other.priority < pod.priority;
    state.pods.values().any(leaving).then_some("not eligible due to a terminating pod on the nominated node.")
}

/// The more important of two pods: by priority, then by who began first.
fn importance(pod: &PodInfo) -> (i64, i64) {
    (-pod.priority, pod.started)
}

/// The best way to make room for a pod; without one, why: reasons with the number of nodes. `cache` is changed while
/// looking and left as it was.
pub fn choose(pod: &PodInfo, cache: &mut Cache, budgets: &[Budget]) -> Result<Choice, Vec<(String, usize)>> {
    let names: Vec<SmolStr> = cache.nodes().map(|(node, _)| node.name.clone()).collect();
    let mut best: Option<Choice> = None;
    let (mut hopeless, mut nobody) = (0, 0);
    for name in names {
        if !helpful(pod, cache, &name) {
            hopeless += 1;
            continue;
        }
        match on_node(pod, cache, &name, budgets) {
            None => nobody += 1,
            Some(choice) if best.as_ref().is_none_or(|best| rank(&choice) < rank(best)) => best = Some(choice),
            Some(_) => {}
        }
    }
    best.ok_or_else(|| {
        let reasons = [
            ("No preemption victims found for incoming pod", nobody),
            ("Preemption is not helpful for scheduling", hopeless),
        ];
        reasons.into_iter().filter(|(_, count)| *count > 0).map(|(reason, count)| (reason.to_owned(), count)).collect()
    })
}

/// Whether a node could take the pod at all, whoever leaves.
fn helpful(pod: &PodInfo, cache: &Cache, name: &str) -> bool {
    let Some((node, state)) = cache.nodes().find(|(node, _)| node.name == name) else { return false };
    plugins::fits_by_itself(&Candidate { pod, node, state, cache })
}

fn fits(pod: &PodInfo, cache: &Cache, name: &str) -> bool {
    let found = cache.nodes().find(|(node, _)| node.name == name);
    found.is_some_and(|(node, state)| plugins::refusal(&Candidate { pod, node, state, cache }).is_none())
}

fn on_node(pod: &PodInfo, cache: &mut Cache, name: &str, budgets: &[Budget]) -> Option<Choice> {
    let (_, state) = cache.nodes().find(|(node, _)| node.name == name)?;
    let mut lower: Vec<Arc<PodInfo>> = state.pods.values().filter(|p| p.priority < pod.priority).cloned().collect();
    if lower.is_empty() {
        return None;
    }
    lower.sort_by_key(|pod| importance(pod));
    for victim in &lower {
        cache.remove(&victim.uid);
    }
    let mut victims = Vec::new();
    let mut violations = 0;
    if fits(pod, cache, name) {
        let (violating, others) = by_budgets(&lower, budgets);
        // Those whose budgets forbid it are spared before all others.
        let violating = violating.into_iter().map(|pod| (pod, 1));
        for (victim, violates) in violating.chain(others.into_iter().map(|pod| (pod, 0))) {
            cache.place(name, victim.clone());
            if !fits(pod, cache, name) {
                cache.remove(&victim.uid);
                violations += violates;
                victims.push(victim);
            }
        }
        victims.sort_by_key(|pod| importance(pod));
    }
    for pod in lower {
        cache.place(name, pod);
    }
    (!victims.is_empty()).then(|| Choice { node: name.into(), victims, violations })
}

/// Parts pods into those whose budgets do not allow them to go, and the others; the order stays.
fn by_budgets(pods: &[Arc<PodInfo>], budgets: &[Budget]) -> (Vec<Arc<PodInfo>>, Vec<Arc<PodInfo>>) {
    let mut left: Vec<i64> = budgets.iter().map(|budget| budget.allowed).collect();
    pods.iter().cloned().partition(|pod| {
        let mut violates = false;
        for (budget, left) in budgets.iter().zip(&mut left) {
            if budget.covers(pod) {
                *left -= 1;
                violates |= *left < 0;
            }
        }
        violates
    })
}

/// The smaller the better.
fn rank(choice: &Choice) -> (usize, i64, i128, usize, i64) {
    let top = choice.victims.first().map_or(i64::MIN, |pod| pod.priority);
    // Counted from the lowest priority there is, so that more victims are never better.
    let sum = choice.victims.iter().map(|pod| i128::from(pod.priority) + i128::from(i32::MAX) + 1).sum();
    let of_top = choice.victims.iter().filter(|pod| pod.priority == top);
    let earliest = of_top.map(|pod| pod.started).min().unwrap_or(i64::MAX);
    (choice.violations, top, sum, choice.victims.len(), -earliest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::NodeInfo;
    use apimachinery::codec::json::parse;

    /// Nodes with six CPUs each, and pods on them: node, name, priority, CPUs, when they began.
    fn cluster(nodes: &[&str], pods: &[(&str, &str, i64, i64, i64)]) -> Cache {
        let mut cache = Cache::default();
        for name in nodes {
            let text =
                format!(r#"{{"metadata":{{"name":"{name}"}},"status":{{"allocatable":{{"cpu":"6","pods":"10"}}}}}}"#);
            cache.set_node(name, Some(Arc::new(NodeInfo::read(&parse(text.as_bytes()).unwrap()))));
        }
        for (node, name, priority, cpu, started) in pods {
            cache.place(node, Arc::new(PodInfo { started: *started, ..pod(name, *priority, *cpu) }));
        }
        cache
    }

    fn pod(name: &str, priority: i64, cpu: i64) -> PodInfo {
        let text = format!(
            r#"{{"metadata":{{"name":"{name}","namespace":"n","uid":"{name}","labels":{{"app":"{name}"}}}},
            "spec":{{"priority":{priority},"containers":[{{"resources":{{"requests":{{"cpu":"{cpu}"}}}}}}]}}}}"#
        );
        PodInfo::read(&parse(text.as_bytes()).unwrap())
    }

    fn budget(app: &str, allowed: i64) -> Budget {
        let text = format!(
            r#"{{"metadata":{{"namespace":"n"}},"spec":{{"selector":{{"matchLabels":{{"app":"{app}"}}}}}},
            "status":{{"disruptionsAllowed":{allowed}}}}}"#
        );
        Budget::read(&parse(text.as_bytes()).unwrap())
    }

    fn chosen(pod: &PodInfo, cache: &mut Cache, budgets: &[Budget]) -> String {
        match choose(pod, cache, budgets) {
            Ok(choice) => {
                let names: Vec<&str> = choice.victims.iter().map(|pod| pod.name.as_str()).collect();
                format!("{}: {}", choice.node, names.join(" "))
            }
            Err(reasons) => reasons.iter().map(|(r, n)| format!("{n} {r}")).collect::<Vec<_>>().join(", "),
        }
    }

    #[test]
    fn no_more_leave_than_must() {
        let pods = [("a", "p1", 1, 1, 0), ("a", "p2", 2, 2, 0), ("a", "p3", 3, 3, 0)];
        let mut cache = cluster(&["a"], &pods);
        assert_eq!(chosen(&pod("new", 4, 3), &mut cache, &[]), "a: p2 p1", "the most important is spared");
        assert_eq!(chosen(&pod("new", 2, 1), &mut cache, &[]), "a: p1");
        assert_eq!(
            chosen(&pod("new", 1, 1), &mut cache, &[]),
            "1 No preemption victims found for incoming pod",
            "equals are spared"
        );
        assert_eq!(chosen(&pod("new", 9, 7), &mut cache, &[]), "1 No preemption victims found for incoming pod");
        // Looking changes nothing.
        assert_eq!(cache.nodes().next().unwrap().1.requested.get("cpu"), 6000);
    }

    #[test]
    fn the_least_harm_is_done() {
        let mut cache = cluster(&["a", "b"], &[("a", "high", 5, 6, 0), ("b", "low", 1, 6, 0)]);
        assert_eq!(chosen(&pod("new", 9, 6), &mut cache, &[]), "b: low");
        let protected = [budget("low", 0)];
        assert_eq!(chosen(&pod("new", 9, 6), &mut cache, &protected), "a: high", "budgets count more");
        let enough = [budget("low", 1)];
        assert_eq!(chosen(&pod("new", 9, 6), &mut cache, &enough), "b: low");
        let mut cache = cluster(&["a", "b"], &[("a", "one", 1, 6, 10), ("b", "two", 1, 3, 0), ("b", "three", 1, 3, 0)]);
        assert_eq!(chosen(&pod("new", 9, 6), &mut cache, &[]), "a: one", "one rather than two");
        let mut cache = cluster(&["a", "b"], &[("a", "old", 1, 6, 10), ("b", "young", 1, 6, 20)]);
        assert_eq!(chosen(&pod("new", 9, 6), &mut cache, &[]), "b: young");
    }

    #[test]
    fn who_may_preempt() {
        let mut cache = cluster(&["a"], &[("a", "low", 1, 6, 0)]);
        let mut new = pod("new", 9, 6);
        assert_eq!(ineligible(&new, &cache), None);
        new.nominated = "a".into();
        assert_eq!(ineligible(&new, &cache), None);
        cache.place("a", Arc::new(PodInfo { preempted: true, ..pod("low", 1, 6) }));
        assert!(ineligible(&new, &cache).unwrap().contains("terminating pod"));
        new.never_preempts = true;
        assert!(ineligible(&new, &cache).unwrap().contains("Never"));
    }
}
