//! RuntimeClass: a pod's runtime must exist, and says what it costs and where it runs.

use apimachinery::{Status, Value};
use engine::{Attributes, Operation};

use super::{Plugin, Step, World, forbidden, is_pod};
use crate::tree::{list, list_mut, map_mut, set};

pub(crate) const PLUGIN: Plugin = Plugin {
    name: "RuntimeClass",
    handles: |a| is_pod(a) && a.operation == Operation::Create,
    mutate: Step::Later(|world, a| Box::pin(admit(world, a))),
    validate: Step::Later(|world, a| Box::pin(check(world, a))),
};

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

async fn class(world: &World, a: &Attributes<'_>) -> Result<Option<Value>, Status> {
    let Some(name) = a.object.str_at(&["spec", "runtimeClassName"]) else { return Ok(None) };
    let class = world.get("node.k8s.io", "runtimeclasses", "", name).await?;
    match class {
        Some(class) => Ok(Some(class)),
        None => Err(forbidden(a, format!("pod rejected: RuntimeClass {name:?} not found"))),
    }
}

async fn admit(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    let Some(class) = class(world, a).await? else { return Ok(()) };
    apply(a.object, &class).map_err(|why| forbidden(a, why))
}

fn apply(pod: &mut Value, class: &Value) -> Result<(), String> {
    if let Some(fixed) = class.at(&["overhead", "podFixed"]) {
        if pod.at(&["spec", "overhead"]).is_some_and(|own| !same(own, fixed)) {
            return Err(MISMATCH.into());
        }
        set(pod, &["spec", "overhead"], fixed.clone());
    }
    if let Some(selector) = class.at(&["scheduling", "nodeSelector"]).and_then(Value::as_map) {
        let own = map_mut(pod, &["spec", "nodeSelector"]);
        for (key, value) in selector.iter() {
            let wanted = value.as_str().unwrap_or_default();
            if let Some(present) = own.get(key).and_then(Value::as_str)
                && present != wanted
            {
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {present}"
                ));
            }
            own.insert(key.clone(), value.clone());
        }
    }
    let more = list(class, &["scheduling", "tolerations"]);
    if !more.is_empty()
        && let Some(own) = list_mut(pod, &["spec", "tolerations"])
    {
        for toleration in more {
            if !own.contains(toleration) {
                own.push(toleration.clone());
            }
        }
    }
    Ok(())
}

/// Amounts that mean the same.
fn same(a: &Value, b: &Value) -> bool {
    api::quota::amounts(Some(a)) == api::quota::amounts(Some(b))
}

async fn check(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    let class = class(world, a).await?;
    let own = a.object.at(&["spec", "overhead"]).filter(|o| !o.is_null());
    let defined = class.as_ref().and_then(|c| c.at(&["overhead", "podFixed"]));
    match (defined, own) {
        (Some(defined), own) if !same(defined, own.unwrap_or(&Value::Null)) => Err(forbidden(a, MISMATCH)),
        (None, Some(_)) => {
            Err(forbidden(a, "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::{text, tree};
    use serde_json::json;

    #[test]
    fn the_class_says_what_and_where() {
        let class = tree(json!({
            "overhead": {"podFixed": {"cpu": "250m"}},
            "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [{"key": "k", "operator": "Exists"}]},
        }));
        let mut pod = tree(json!({"spec": {"nodeSelector": {"c": "d"}}}));
        apply(&mut pod, &class).unwrap();
        assert_eq!(text(&pod, &["spec", "overhead", "cpu"]), "250m");
        assert_eq!(text(&pod, &["spec", "nodeSelector", "a"]), "b");
        assert_eq!(list(&pod, &["spec", "tolerations"]).len(), 1);
        let mut same_amount = tree(json!({"spec": {"overhead": {"cpu": "0.25"}}}));
        assert_eq!(apply(&mut same_amount, &class), Ok(()));
        let mut other = tree(json!({"spec": {"overhead": {"cpu": "1"}}}));
        assert_eq!(apply(&mut other, &class), Err(MISMATCH.into()));
        let mut elsewhere = tree(json!({"spec": {"nodeSelector": {"a": "x"}}}));
        assert!(apply(&mut elsewhere, &class).unwrap_err().starts_with("conflict: "));
    }
}
