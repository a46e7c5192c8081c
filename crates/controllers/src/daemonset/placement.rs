//! On which nodes a DaemonSet runs its pods.

use api::apps::DaemonSet;
use api::core::nodeselector::{NodeSelectorRequirement, NodeSelectorTerm, Toleration};
use api::core::pod::affinity::{Affinity, NodeAffinity};
use api::core::pod::spec::PodSpec;
use apimachinery::SmolStr;

use crate::shared::NodeView;

const NO_EXECUTE: &str = "NoExecute";
const NO_SCHEDULE: &str = "NoSchedule";
/// Taints that every daemon pod tolerates.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", NO_EXECUTE),
    ("node.kubernetes.io/unreachable", NO_EXECUTE),
    ("node.kubernetes.io/disk-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/memory-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/pid-pressure", NO_SCHEDULE),
    ("node.kubernetes.io/unschedulable", NO_SCHEDULE),
];
/// One more for those on the host's network.
const TOLERATED_ON_HOST_NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", NO_SCHEDULE);

/// Adds the tolerations of daemon pods.
pub fn tolerate(spec: &mut PodSpec) {
    let on_host = spec.host_network.then_some(TOLERATED_ON_HOST_NETWORK);
    for (key, effect) in TOLERATED.into_iter().chain(on_host) {
        let toleration =
            Toleration { key: key.into(), operator: "Exists".into(), effect: effect.into(), ..Toleration::default() };
        // The same toleration with other seconds is replaced.
        let known = spec.tolerations.iter_mut().find(|t| {
            t.key == toleration.key
                && t.effect == toleration.effect
                && t.operator == toleration.operator
                && t.value == toleration.value
        });
        match known {
            Some(known) => *known = toleration,
            None => spec.tolerations.push(toleration),
        }
    }
}

/// Pins a pod to a node, in place of whatever nodes its template requires: those have been looked at already.
pub fn pin(spec: &mut PodSpec, node: &str) {
    let affinity = spec.affinity.get_or_insert_with(Affinity::default);
    let affinity = affinity.node_affinity.get_or_insert_with(NodeAffinity::default);
    let required = affinity.required_during_scheduling_ignored_during_execution.get_or_insert_default();
    let by_name =
        NodeSelectorRequirement { key: "metadata.name".into(), operator: "In".into(), values: vec![node.into()] };
    required.node_selector_terms =
        vec![NodeSelectorTerm { match_fields: vec![by_name], ..NodeSelectorTerm::default() }];
}

/// Whether a pod belongs on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fit {
    /// One should be started.
    pub run: bool,
    /// One that is there may stay.
    pub stay: bool,
}

/// Where the pods of one DaemonSet belong.
pub struct Placement<'a> {
    spec: &'a PodSpec,
    tolerations: Vec<Toleration>,
}

impl<'a> Placement<'a> {
    pub fn of(set: &'a DaemonSet) -> Placement<'a> {
        let mut tolerating = PodSpec {
            host_network: set.spec.template.spec.host_network,
            tolerations: set.spec.template.spec.tolerations.clone(),
            ..PodSpec::default()
        };
        tolerate(&mut tolerating);
        Placement { spec: &set.spec.template.spec, tolerations: tolerating.tolerations }
    }

    pub fn fit(&self, name: &str, node: &NodeView) -> Fit {
        let never = Fit { run: false, stay: false };
        if !self.spec.node_name.is_empty() && self.spec.node_name != name || !self.selects(name, node) {
            return never;
        }
        let tolerated = |effects: &[&str]| {
            let matter = node.taints.iter().filter(|(_, _, effect)| effects.contains(&effect.as_str()));
            matter.into_iter().all(|taint| self.tolerations.iter().any(|t| tolerates(t, taint)))
        };
        Fit { run: tolerated(&[NO_EXECUTE, NO_SCHEDULE]), stay: tolerated(&[NO_EXECUTE]) }
    }

    fn selects(&self, name: &str, node: &NodeView) -> bool {
        let label = |key: &str| node.labels.get(key).map(SmolStr::as_str);
        if !self.spec.node_selector.iter().all(|(key, value)| label(key) == Some(value)) {
            return false;
        }
        let affinity = self.spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
        let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        required.is_none_or(|selector| {
            selector.node_selector_terms.iter().any(|term| {
                let empty = term.match_expressions.is_empty() && term.match_fields.is_empty();
                let field = |key: &str| (key == "metadata.name").then_some(name);
                !empty
                    && term.match_expressions.iter().all(|r| meets(r, label(&r.key)))
                    && term.match_fields.iter().all(|r| meets(r, field(&r.key)))
            })
        })
    }
}

fn meets(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let is_listed = || value.is_some_and(|value| requirement.values.iter().any(|v| v == value));
    let compared = |wanted: std::cmp::Ordering| {
        let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
        match (number(value), number(requirement.values.first().map(String::as_str))) {
            (Some(value), Some(bound)) => value.cmp(&bound) == wanted,
            _ => false,
        }
    };
    match requirement.operator.as_str() {
        "In" => is_listed(),
        "NotIn" => !is_listed(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared(std::cmp::Ordering::Greater),
        "Lt" => compared(std::cmp::Ordering::Less),
        _ => false,
    }
}

fn tolerates(toleration: &Toleration, (key, value, effect): &(SmolStr, SmolStr, SmolStr)) -> bool {
    let same = |ours: &str, taints: &str| ours.is_empty() || ours == taints;
    if !same(&toleration.effect, effect) || !same(&toleration.key, key) {
        return false;
    }
    let compared = |wanted| match (value.parse::<i64>(), toleration.value.parse::<i64>()) {
        (Ok(taint), Ok(bound)) => taint.cmp(&bound) == wanted,
        _ => false,
    };
    match toleration.operator.as_str() {
        "" | "Equal" => toleration.value == value.as_str(),
        "Exists" => true,
        "Gt" => compared(std::cmp::Ordering::Greater),
        "Lt" => compared(std::cmp::Ordering::Less),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(labels: &[(&str, &str)], taints: &[(&str, &str, &str)]) -> NodeView {
        NodeView {
            labels: labels.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            taints: taints.iter().map(|(k, v, e)| ((*k).into(), (*v).into(), (*e).into())).collect(),
            ..NodeView::default()
        }
    }

    #[test]
    fn taints_and_labels_decide() {
        let mut set = DaemonSet::default();
        set.spec.template.spec.node_selector = [("disk".to_string(), "ssd".to_string())].into();
        let ssd: &[(&str, &str)] = &[("disk", "ssd")];
        for (node, run, stay) in [
            (node(ssd, &[]), true, true),
            (node(&[("disk", "hdd")], &[]), false, false),
            (node(ssd, &[("node.kubernetes.io/not-ready", "", NO_EXECUTE)]), true, true),
            (node(ssd, &[("node.kubernetes.io/unschedulable", "", NO_SCHEDULE)]), true, true),
            (node(ssd, &[("node.kubernetes.io/network-unavailable", "", NO_SCHEDULE)]), false, true),
            (node(ssd, &[("dedicated", "db", NO_SCHEDULE)]), false, true),
            (node(ssd, &[("dedicated", "db", NO_EXECUTE)]), false, false),
            (node(ssd, &[("dedicated", "db", "PreferNoSchedule")]), true, true),
        ] {
            assert_eq!(Placement::of(&set).fit("n", &node), Fit { run, stay }, "{node:?}");
        }
        set.spec.template.spec.node_name = "other".into();
        assert!(!Placement::of(&set).fit("n", &node(ssd, &[])).run);
    }

    #[test]
    fn affinity_is_met_by_any_term() {
        let require = |key: &str, operator: &str, values: &[&str]| NodeSelectorRequirement {
            key: key.into(),
            operator: operator.into(),
            values: values.iter().map(|v| v.to_string()).collect(),
        };
        let mut set = DaemonSet::default();
        pin(&mut set.spec.template.spec, "one");
        assert!(Placement::of(&set).fit("one", &node(&[], &[])).run);
        assert!(!Placement::of(&set).fit("two", &node(&[], &[])).run);
        for (requirement, met) in [
            (require("cores", "Gt", &["3"]), true),
            (require("cores", "Lt", &["4"]), false),
            (require("cores", "In", &["2", "4"]), true),
            (require("gpu", "NotIn", &["a"]), true),
            (require("gpu", "Exists", &[]), false),
            (require("gpu", "DoesNotExist", &[]), true),
        ] {
            let affinity = set.spec.template.spec.affinity.as_mut().and_then(|a| a.node_affinity.as_mut()).unwrap();
            let required = affinity.required_during_scheduling_ignored_during_execution.as_mut().unwrap();
            required.node_selector_terms =
                vec![NodeSelectorTerm { match_expressions: vec![requirement.clone()], ..Default::default() }];
            assert_eq!(Placement::of(&set).fit("n", &node(&[("cores", "4")], &[])).run, met, "{requirement:?}");
        }
    }
}
