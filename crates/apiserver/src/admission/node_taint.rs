//! TaintNodesByCondition: a new node takes no pods until it has said that it is ready.

use apimachinery::{Status, Value};
use engine::{Attributes, Operation};
use serde_json::json;

use super::{Plugin, Step, World, is};
use crate::tree::{list, list_mut, text, tree};

pub(crate) const PLUGIN: Plugin = Plugin {
    name: "TaintNodesByCondition",
    handles: |a| is(a, "", "nodes") && a.subresource.is_empty() && a.operation == Operation::Create,
    mutate: Step::Now(admit),
    validate: Step::Nothing,
};

const TAINT: &str = "node.kubernetes.io/not-ready";

fn admit(_: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    taint(a.object);
    Ok(())
}

fn taint(node: &mut Value) {
    let is_it = |t: &Value| text(t, &["key"]) == TAINT && text(t, &["effect"]) == "NoSchedule";
    if !list(node, &["spec", "taints"]).iter().any(is_it)
        && let Some(taints) = list_mut(node, &["spec", "taints"])
    {
        taints.push(tree(json!({"key": TAINT, "effect": "NoSchedule"})));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_taint_comes_once() {
        let mut node = tree(json!({}));
        taint(&mut node);
        taint(&mut node);
        assert_eq!(list(&node, &["spec", "taints"]).len(), 1);
    }
}
