//! Priority: a pod's number comes from its priority class; at most one class is the default.

use apimachinery::{Status, Value};
use engine::{Attributes, Operation};

use super::{Plugin, Step, World, forbidden, is};
use crate::tree::{flag, set, text};

pub(crate) const PLUGIN: Plugin = Plugin {
    name: "Priority",
    handles,
    mutate: Step::Later(|world, a| Box::pin(admit(world, a))),
    validate: Step::Later(|world, a| Box::pin(check_class(world, a))),
};

const GROUP: &str = "scheduling.k8s.io";

fn handles(a: &Attributes<'_>) -> bool {
    a.subresource.is_empty()
        && matches!(a.operation, Operation::Create | Operation::Update)
        && (is(a, "", "pods") || is(a, GROUP, "priorityclasses"))
}

async fn admit(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    if !is(a, "", "pods") {
        return Ok(());
    }
    if let Some(old) = a.old {
        // Clients that do not know these fields must be able to write the pod back.
        for key in ["priority", "preemptionPolicy"] {
            let (path, kept) = (["spec", key], old.at(&["spec", key]));
            if a.object.at(&path).is_none_or(Value::is_null)
                && let Some(kept) = kept
            {
                set(a.object, &path, kept.clone());
            }
        }
        return Ok(());
    }
    let name = text(a.object, &["spec", "priorityClassName"]).to_string();
    let class = if name.is_empty() {
        default_class(&world.list(GROUP, "priorityclasses", "").await?)
    } else {
        let class = world.get(GROUP, "priorityclasses", "", &name).await?;
        let missing = || forbidden(a, format!("no PriorityClass with name {name} was found"));
        Some(class.ok_or_else(missing)?)
    };
    resolve(a, class.as_ref())
}

/// The default class: the lowest of those that say so.
fn default_class(classes: &[Value]) -> Option<Value> {
    let value = |c: &&Value| c.get("value").and_then(Value::as_i64).unwrap_or(0);
    classes.iter().filter(|c| flag(c, &["globalDefault"])).min_by_key(value).cloned()
}

fn resolve(a: &mut Attributes<'_>, class: Option<&Value>) -> Result<(), Status> {
    let priority = class.and_then(|c| c.get("value")).and_then(Value::as_i64).unwrap_or(0);
    let policy = class.map(|c| text(c, &["preemptionPolicy"])).filter(|p| !p.is_empty());
    // Without a class, pods may still preempt.
    let policy = policy.unwrap_or("PreemptLowerPriority");
    if let Some(given) = a.object.at(&["spec", "priority"]).and_then(Value::as_i64)
        && given != priority
    {
        return Err(forbidden(
            a,
            format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {priority} from the given PriorityClass name"
            ),
        ));
    }
    if let Some(given) = a.object.str_at(&["spec", "preemptionPolicy"])
        && !given.is_empty()
        && given != policy
    {
        return Err(forbidden(
            a,
            format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
            ),
        ));
    }
    if let Some(class) = class {
        let name = text(class, &["metadata", "name"]).to_string();
        set(a.object, &["spec", "priorityClassName"], name);
    }
    set(a.object, &["spec", "priority"], priority);
    set(a.object, &["spec", "preemptionPolicy"], policy);
    Ok(())
}

async fn check_class(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    if !is(a, GROUP, "priorityclasses") || !flag(a.object, &["globalDefault"]) {
        return Ok(());
    }
    let Some(default) = default_class(&world.list(GROUP, "priorityclasses", "").await?) else { return Ok(()) };
    let name = text(&default, &["metadata", "name"]);
    if a.operation == Operation::Create || name != a.name {
        let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
        return Err(forbidden(a, why));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::tree::tree;
    use serde_json::json;

    #[test]
    fn the_class_decides() {
        let class = tree(json!({"metadata": {"name": "high"}, "value": 7, "preemptionPolicy": "Never"}));
        let cases = [
            (json!({"spec": {}}), None, Ok((0, "PreemptLowerPriority", ""))),
            (json!({"spec": {}}), Some(&class), Ok((7, "Never", "high"))),
            (json!({"spec": {"priority": 7}}), Some(&class), Ok((7, "Never", "high"))),
            (json!({"spec": {"priority": 8}}), Some(&class), Err("the integer value of priority (8)")),
            (json!({"spec": {"preemptionPolicy": "Never"}}), None, Err("the string value of PreemptionPolicy (Never)")),
        ];
        for (pod, class, wanted) in cases {
            let mut write = Write::new(api::core::pod::kind(), Operation::Create, tree(pod));
            let result = resolve(&mut write.attributes(), class);
            match wanted {
                Ok((priority, policy, name)) => {
                    assert_eq!(result, Ok(()));
                    assert_eq!(write.object.at(&["spec", "priority"]), Some(&Value::Int(priority)));
                    assert_eq!(text(&write.object, &["spec", "preemptionPolicy"]), policy);
                    assert_eq!(text(&write.object, &["spec", "priorityClassName"]), name);
                }
                Err(part) => assert!(result.unwrap_err().message.contains(part), "{part}"),
            }
        }
    }

    #[test]
    fn the_lowest_default_wins() {
        let class = |value: i64, default: bool| tree(json!({"value": value, "globalDefault": default}));
        let classes = [class(5, true), class(1, false), class(3, true)];
        assert_eq!(default_class(&classes), Some(classes[2].clone()));
        assert_eq!(default_class(&classes[1..2]), None);
    }
}
