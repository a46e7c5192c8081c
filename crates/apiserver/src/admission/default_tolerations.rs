//! DefaultTolerationSeconds: pods stay five minutes on a node that is not ready or not reachable.

use apimachinery::{Status, Value};
use engine::{Attributes, Operation};
use serde_json::json;

use super::{Plugin, Step, World, is_pod};
use crate::tree::{list, list_mut, text, tree};

pub(crate) const PLUGIN: Plugin = Plugin {
    name: "DefaultTolerationSeconds",
    handles: |a| is_pod(a) && matches!(a.operation, Operation::Create | Operation::Update),
    mutate: Step::Now(admit),
    validate: Step::Nothing,
};

const SECONDS: i64 = 300;
const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];

fn admit(_: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    tolerate(a.object);
    Ok(())
}

fn tolerate(pod: &mut Value) {
    for taint in TAINTS {
        let tolerated = list(pod, &["spec", "tolerations"]).iter().any(|t| {
            let (key, effect) = (text(t, &["key"]), text(t, &["effect"]));
            (key == taint || key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
        });
        if !tolerated && let Some(tolerations) = list_mut(pod, &["spec", "tolerations"]) {
            tolerations.push(tree(json!({
                "key": taint,
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": SECONDS,
            })));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_tolerated_is_added() {
        let cases = [
            (json!([]), 2),
            (json!([{"operator": "Exists"}]), 1),
            (json!([{"key": TAINTS[0], "operator": "Exists", "effect": "NoExecute"}]), 2),
            (json!([{"key": TAINTS[0], "operator": "Exists", "effect": "NoSchedule"}]), 3),
            (json!([{"key": TAINTS[1]}, {"key": TAINTS[0]}]), 2),
        ];
        for (tolerations, wanted) in cases {
            let mut pod = tree(json!({"spec": {"tolerations": tolerations}}));
            tolerate(&mut pod);
            assert_eq!(list(&pod, &["spec", "tolerations"]).len(), wanted, "{tolerations}");
        }
    }
}
