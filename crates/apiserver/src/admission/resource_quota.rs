//! ResourceQuota: what a write adds is booked on the namespace's quotas in the same transaction, or the write is refused.

use api::quota::{self, Amounts};
use apimachinery::quantity::{Format, Quantity};
use apimachinery::{SmolStr, Status, Value};
use engine::{Attributes, Operation, Target};

use super::{Plugin, Step, World, forbidden, is};
use crate::tree::{set, text};

pub(crate) const PLUGIN: Plugin = Plugin {
    name: "ResourceQuota",
    handles,
    mutate: Step::Nothing,
    validate: Step::Later(|world, a| Box::pin(book(world, a))),
};

/// Short-lived or virtual: never counted.
const IGNORED: [(&str, &str); 5] = [
    ("", "events"),
    ("events.k8s.io", "events"),
    ("", "bindings"),
    ("", "componentstatuses"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
];

fn handles(a: &Attributes<'_>) -> bool {
    if a.namespace.is_empty() || IGNORED.iter().any(|(group, resource)| is(a, group, resource)) {
        return false;
    }
    match (a.operation, a.subresource) {
        (Operation::Create, "") => true,
        (Operation::Update, "resize") => is(a, "", "pods"),
        (Operation::Update, "") => {
            let moves = |tree: &Value| {
                tree.at(&["spec", "activeDeadlineSeconds"]).and_then(Value::as_i64).is_some_and(|s| s >= 0)
            };
            (is(a, "", "pods") && a.old.is_some_and(|old| moves(old) != moves(a.object)))
                || is(a, "", "services")
                || is(a, "", "persistentvolumeclaims")
                || is(a, "resource.k8s.io", "resourceclaims")
        }
        _ => false,
    }
}

async fn book(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    // Most namespaces have no quota, and this look is into memory.
    let names: Vec<SmolStr> = world
        .list("", "resourcequotas", a.namespace)
        .await?
        .iter()
        .map(|q| SmolStr::new(text(q, &["metadata", "name"])))
        .collect();
    if names.is_empty() {
        return Ok(());
    }
    let engine = world.engine()?;
    let kind = world.kind("", "v1", "resourcequotas")?;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    for name in names {
        let target =
            Target { kind: kind.clone(), namespace: a.namespace.into(), name, subresource: SmolStr::default() };
        // The newest state, since the booking holds only if the quota is still what was read.
        let object = match engine.get(world.cx(), &target).await {
            Ok(object) => object,
            Err(status) if status.is_not_found() => continue,
            Err(status) => return Err(status),
        };
        let mut current = engine.tree(&object, &kind).await?;
        let used = match charge(a, &current, now) {
            Ok(Some(used)) => used,
            Ok(None) => continue,
            Err(why) => return Err(forbidden(a, why)),
        };
        set(&mut current, &["status", "used"], quota::to_tree(&used));
        engine.reserve_update(&target, current, object.revision, a.reservations).await?;
    }
    Ok(())
}

/// What the quota says is used once this write is done; `None` when the write does not touch it.
fn charge(a: &Attributes<'_>, current: &Value, now: i64) -> Result<Option<Amounts>, String> {
    let (group, resource) = (a.kind.group.as_ref(), a.kind.resource.as_ref());
    let name = text(current, &["metadata", "name"]);
    let hard = quota::amounts(current.at(&["status", "hard"]));
    let used = quota::amounts(current.at(&["status", "used"]));
    let limited: Vec<SmolStr> = hard.keys().filter(|n| quota::limits(group, resource, n)).cloned().collect();
    if limited.is_empty() || !quota::in_scope(current, group, resource, a.object) {
        return Ok(None);
    }
    if is(a, "", "pods")
        && let Some(missing) = quota::missing_amounts(a.object, &limited)
    {
        return Err(format!("failed quota: {name}: {missing}"));
    }
    if limited.iter().any(|n| !used.contains_key(n)) {
        return Err(format!("status unknown for quota: {name}, resources: {}", limited.join(",")));
    }
    let mut delta = quota::usage(group, resource, a.object, now);
    let negative: Vec<&str> = delta.iter().filter(|(_, v)| v.is_negative()).map(|(k, _)| k.as_str()).collect();
    if !negative.is_empty() {
        return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")));
    }
    if let Some(old) = a.old
        && quota::in_scope(current, group, resource, old)
    {
        let before = quota::usage(group, resource, old, now);
        for (name, amount) in delta.iter_mut() {
            if let Some(before) = before.get(name) {
                // What a write gives back is counted by the controller, never here.
                *amount = if *amount > *before { less(*amount, *before) } else { zero() };
            }
        }
    }
    delta.retain(|name, amount| limited.contains(name) && !amount.is_zero_amount());
    if delta.is_empty() {
        return Ok(None);
    }
    let mut new = used.clone();
    let mut exceeded = Vec::new();
    for (name, amount) in &delta {
        let sum = new.entry(name.clone()).or_insert_with(zero);
        sum.add(*amount);
        if hard.get(name).is_some_and(|most| *sum > *most) {
            exceeded.push(name);
        }
    }
    if !exceeded.is_empty() {
        let show = |amounts: &Amounts| -> String {
            let parts = exceeded.iter().map(|n| format!("{n}={}", amounts.get(*n).copied().unwrap_or_else(zero)));
            parts.collect::<Vec<_>>().join(",")
        };
        return Err(format!(
            "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
            show(&delta),
            show(&used),
            show(&hard)
        ));
    }
    Ok(Some(new))
}

fn zero() -> Quantity {
    Quantity::new(0, Format::DecimalSi)
}

fn less(mut amount: Quantity, before: Quantity) -> Quantity {
    amount.sub(before);
    amount
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::testing::Write;
    use crate::tree::tree;
    use serde_json::json;

    #[test]
    fn a_write_is_charged_or_refused() {
        let pod = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "500m"}}}]}});
        // (hard, used, outcome: used afterwards, or the reason)
        let cases = [
            (json!({"pods": "2"}), json!({"pods": "1"}), Ok(Some("pods=2"))),
            (
                json!({"pods": "1"}),
                json!({"pods": "1"}),
                Err("exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"),
            ),
            (
                json!({"requests.cpu": "1", "services": "1"}),
                json!({"requests.cpu": "750m", "services": "0"}),
                Err(
                    "exceeded quota: q, requested: requests.cpu=500m, used: requests.cpu=750m, limited: requests.cpu=1",
                ),
            ),
            (json!({"services": "1"}), json!({}), Ok(None)),
            (json!({"pods": "1"}), json!({}), Err("status unknown for quota: q, resources: pods")),
            (
                json!({"limits.memory": "1Gi"}),
                json!({"limits.memory": "0"}),
                Err("failed quota: q: must specify limits.memory for: c"),
            ),
            (json!({"count/pods": "5"}), json!({"count/pods": "4"}), Ok(Some("count/pods=5"))),
        ];
        for (hard, used, wanted) in cases {
            let quota = tree(json!({"metadata": {"name": "q"}, "status": {"hard": hard, "used": used}}));
            let mut write = Write::new(api::core::pod::kind(), Operation::Create, tree(pod.clone()));
            let result = charge(&write.attributes(), &quota, 0);
            let shown = result
                .map(|r| r.map(|used| used.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")));
            assert_eq!(shown, wanted.map(|w| w.map(str::to_string)).map_err(str::to_string));
        }
    }

    #[test]
    fn updates_are_charged_by_the_difference() {
        let claim = |size: &str| tree(json!({"spec": {"resources": {"requests": {"storage": size}}}}));
        let quota = tree(json!({
            "metadata": {"name": "q"},
            "status": {"hard": {"requests.storage": "3Gi"}, "used": {"requests.storage": "1Gi"}},
        }));
        let kind = api::core::persistentvolumeclaim::kind();
        let mut write = Write::new(kind, Operation::Update, claim("2Gi"));
        write.old = Some(claim("1Gi"));
        let used = charge(&write.attributes(), &quota, 0).unwrap().unwrap();
        assert_eq!(used["requests.storage"].to_string(), "2Gi");
        write.old = Some(claim("2Gi"));
        assert_eq!(charge(&write.attributes(), &quota, 0), Ok(None));
    }
}
