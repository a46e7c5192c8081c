//! Eviction: a delete that disruption budgets may refuse.

use apimachinery::selector::LabelSelector;
use apimachinery::{Map, SmolStr, Status, Value};
use engine::{Cx, DeleteOptions, ListOptions, Target, WriteOptions};

use crate::server::ApiServer;

/// A budget that cannot decide yet is asked again after this many seconds.
const RETRY_SECONDS: i32 = 10;

/// Evicts a pod.
pub async fn evict(
    server: &ApiServer,
    cx: &Cx,
    target: &Target,
    body: &Value,
    options: &WriteOptions,
) -> Result<Value, Status> {
    let named = body.str_at(&["metadata", "name"]).unwrap_or_default();
    if !named.is_empty() && named != target.name {
        return Err(Status::bad_request("name in URL does not match name in Eviction object: Bad Request"));
    }
    let target = Target { subresource: SmolStr::default(), ..target.clone() };
    let pod = server.engine.get(cx, &target).await?.tree()?;
    let mut delete = crate::options::delete(&Default::default(), body.get("deleteOptions"))?;
    delete.dry_run |= options.dry_run;
    if !ignores_budgets(&pod) {
        spend(server, cx, &target, &pod, delete.dry_run).await?;
    }
    if !delete.dry_run && delete.preconditions.resource_version.is_none() {
        tell(server, cx, &target).await?;
    }
    // What was checked is what is deleted.
    let uid = pod.str_at(&["metadata", "uid"]).map(SmolStr::new);
    let mut preconditions = delete.preconditions.clone();
    preconditions.uid = preconditions.uid.or(uid);
    server.engine.delete(cx, &target, &DeleteOptions { preconditions, ..delete }).await?;
    Ok(Status::new(201, "", "").to_value())
}

/// Tells on the pod why it ends, which controllers may count otherwise than a failure.
async fn tell(server: &ApiServer, cx: &Cx, pod: &Target) -> Result<(), Status> {
    let now = server.now();
    let change = move |pod: &mut Value| {
        let Some(pod) = pod.as_map_mut() else { return Ok(()) };
        let status = pod.get_or_insert_with("status", || Value::Map(Map::new()));
        let Some(status) = status.as_map_mut() else { return Ok(()) };
        let conditions = status.get_or_insert_with("conditions", || Value::List(Vec::new()));
        let Some(conditions) = conditions.as_list_mut() else { return Ok(()) };
        let told = conditions.iter().find(|c| c.str_at(&["type"]) == Some("DisruptionTarget"));
        if told.is_some_and(|c| c.str_at(&["status"]) == Some("True")) {
            return Ok(());
        }
        conditions.retain(|c| c.str_at(&["type"]) != Some("DisruptionTarget"));
        let mut condition = Map::new();
        condition.insert("type", "DisruptionTarget");
        condition.insert("status", "True");
        condition.insert("reason", "EvictionByEvictionAPI");
        condition.insert("message", "Eviction API: evicting");
        condition.insert("lastTransitionTime", apimachinery::time::rfc3339(now));
        conditions.push(Value::Map(condition));
        Ok(())
    };
    let status = Target { subresource: SmolStr::new_static("status"), ..pod.clone() };
    let options = WriteOptions { field_manager: "skiff".into(), ..WriteOptions::default() };
    server.engine.edit(cx, &status, &options, &change).await.map(|_| ())
}

/// Pods that run no more, or never ran, are not what budgets protect.
fn ignores_budgets(pod: &Value) -> bool {
    matches!(pod.str_at(&["status", "phase"]), Some("Succeeded" | "Failed" | "Pending"))
        || pod.str_at(&["metadata", "deletionTimestamp"]).is_some()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.at(&["status", "conditions"]).and_then(Value::as_list).unwrap_or_default();
    conditions.iter().any(|c| c.str_at(&["type"]) == Some("Ready") && c.str_at(&["status"]) == Some("True"))
}

/// Takes one allowed disruption from the budget that selects the pod.
async fn spend(server: &ApiServer, cx: &Cx, target: &Target, pod: &Value, dry_run: bool) -> Result<(), Status> {
    let Some(kind) = server.engine.catalog().kind("policy", "v1", "poddisruptionbudgets") else { return Ok(()) };
    let all = Target {
        kind: kind.clone(),
        namespace: target.namespace.clone(),
        name: SmolStr::default(),
        subresource: SmolStr::default(),
    };
    let empty = Map::new();
    let labels = pod.at(&["metadata", "labels"]).and_then(Value::as_map).unwrap_or(&empty);
    let mut budgets = Vec::new();
    for object in server.engine.list(cx, &all, &ListOptions::default()).await?.objects {
        let tree = object.tree()?;
        let selector = LabelSelector::from_value(tree.at(&["spec", "selector"]));
        if selector.is_ok_and(|s| s.matches(|key| labels.get(key).and_then(Value::as_str))) {
            budgets.push(tree);
        }
    }
    let budget = match budgets.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            return Err(Status::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let always = budget.str_at(&["spec", "unhealthyPodEvictionPolicy"]) == Some("AlwaysAllow");
    if !is_ready(pod) {
        let number = |key: &str| budget.at(&["status", key]).and_then(Value::as_i64).unwrap_or(0);
        if always || (number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0) {
            return Ok(());
        }
    }
    let name: SmolStr = budget.str_at(&["metadata", "name"]).unwrap_or_default().into();
    let pod_name = target.name.clone();
    let now = server.now();
    let budget_name = name.clone();
    let change = move |budget: &mut Value| take_one(budget, &budget_name, &pod_name, now);
    let status = Target { kind, namespace: target.namespace.clone(), name, subresource: SmolStr::new_static("status") };
    let options = WriteOptions { field_manager: "skiff".into(), dry_run, ..WriteOptions::default() };
    server.engine.edit(cx, &status, &options, &change).await.map(|_| ())
}

fn take_one(budget: &mut Value, name: &str, pod: &str, now: i64) -> Result<(), Status> {
    let number = |path: &[&str]| budget.at(path).and_then(Value::as_i64).unwrap_or(0);
    if number(&["status", "observedGeneration"]) < number(&["metadata", "generation"]) {
        return Err(Status::too_many_requests(
            "Cannot evict pod as it would violate the pod's disruption budget.",
            RETRY_SECONDS,
        ));
    }
    let allowed = number(&["status", "disruptionsAllowed"]);
    if allowed <= 0 {
        let mut status =
            Status::too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", 0);
        status.details = Some(Box::new(apimachinery::status::Details {
            causes: vec![apimachinery::status::Cause {
                reason: "DisruptionBudget".into(),
                message: format!(
                    "The disruption budget {name} needs {} healthy pods and has {} currently",
                    number(&["status", "desiredHealthy"]),
                    number(&["status", "currentHealthy"])
                ),
                ..Default::default()
            }],
            ..Default::default()
        }));
        return Err(status);
    }
    if let Some(status) = budget.as_map_mut().and_then(|m| m.get_mut("status")).and_then(Value::as_map_mut) {
        status.insert("disruptionsAllowed", allowed - 1);
        let disrupted = status.get_or_insert_with("disruptedPods", || Value::Map(Map::new()));
        if let Value::Map(disrupted) = disrupted {
            disrupted.insert(pod, apimachinery::time::rfc3339(now));
        }
    }
    Ok(())
}
