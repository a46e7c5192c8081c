//! NodeUnschedulable and NodeAffinity: cordoned nodes, node selectors, required and preferred node affinity.

use apimachinery::Value;

use super::Candidate;
use crate::model::{NodeInfo, Taint};

pub fn unschedulable(c: &Candidate<'_>) -> Result<(), String> {
    let taint = Taint { key: "node.kubernetes.io/unschedulable".into(), value: "".into(), effect: "NoSchedule".into() };
    if c.node.unschedulable && !c.pod.tolerations.iter().any(|t| t.tolerates(&taint)) {
        return Err("node(s) were unschedulable".into());
    }
    Ok(())
}

pub fn affinity(c: &Candidate<'_>) -> Result<(), String> {
    let selected = c.pod.node_selector.iter().all(|(key, value)| c.node.label(key) == Some(value));
    let required = c.pod.required_nodes.as_ref().is_none_or(|terms| terms.iter().any(|t| matches(t, c.node)));
    if selected && required { Ok(()) } else { Err("node(s) didn't match Pod's node affinity/selector".into()) }
}

pub fn preferred(c: &Candidate<'_>) -> i64 {
    let all: i64 = c.pod.preferred_nodes.iter().map(|(weight, _)| weight).sum();
    if all == 0 {
        return 0;
    }
    let won: i64 = c.pod.preferred_nodes.iter().filter(|(_, t)| matches(t, c.node)).map(|(weight, _)| weight).sum();
    won * 100 / all
}

/// Whether a `NodeSelectorTerm` takes a node; an empty term takes none.
pub fn matches(term: &Value, node: &NodeInfo) -> bool {
    let list = |key: &str| term.get(key).and_then(Value::as_list).unwrap_or_default();
    let (expressions, fields) = (list("matchExpressions"), list("matchFields"));
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|e| holds(e, |key| node.label(key).map(str::to_string)))
        && fields.iter().all(|e| holds(e, |key| (key == "metadata.name").then(|| node.name.to_string())))
}

fn holds(expression: &Value, look_up: impl Fn(&str) -> Option<String>) -> bool {
    let found = look_up(expression.str_at(&["key"]).unwrap_or_default());
    let values: Vec<&str> = expression
        .get("values")
        .and_then(Value::as_list)
        .unwrap_or_default()
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let number = |text: &str| text.parse::<i64>().ok();
    let compare = |wanted: fn(i64, i64) -> bool| match (
        found.as_deref().and_then(number),
        values.first().and_then(|v| number(v)),
    ) {
        (Some(have), Some(bound)) => wanted(have, bound),
        _ => false,
    };
    match expression.str_at(&["operator"]).unwrap_or_default() {
        "In" => found.as_deref().is_some_and(|f| values.contains(&f)),
        "NotIn" => !found.as_deref().is_some_and(|f| values.contains(&f)),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => compare(|a, b| a > b),
        "Lt" => compare(|a, b| a < b),
        _ => false,
    }
}
