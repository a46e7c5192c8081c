//! LimitRanger: a namespace's default requests and limits, and the bounds of what pods and claims may ask for.

use api::quota::{self, Amounts};
use apimachinery::quantity::Quantity;
use apimachinery::{Status, Value};
use engine::{Attributes, Operation};

use super::{Plugin, Step, World, forbidden, is};
use crate::tree::{list, list_mut, map_mut, set, text};

pub(crate) const PLUGIN: Plugin = Plugin {
    name: "LimitRanger",
    handles,
    mutate: Step::Later(|world, a| Box::pin(admit(world, a))),
    validate: Step::Later(|world, a| Box::pin(check(world, a))),
};

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

fn handles(a: &Attributes<'_>) -> bool {
    let ending = a.old.is_some_and(|old| old.at(&["metadata", "deletionTimestamp"]).is_some());
    if ending {
        return false;
    }
    let whole = a.subresource.is_empty();
    match a.operation {
        Operation::Create => whole && (is(a, "", "pods") || is(a, "", "persistentvolumeclaims")),
        // A pod's containers only change by resizing.
        Operation::Update => {
            (whole && is(a, "", "persistentvolumeclaims")) || (a.subresource == "resize" && is(a, "", "pods"))
        }
        Operation::Delete | Operation::Connect => false,
    }
}

async fn ranges(world: &World, a: &Attributes<'_>) -> Result<Vec<Value>, Status> {
    world.list("", "limitranges", a.namespace).await
}

async fn admit(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    if !is(a, "", "pods") {
        return Ok(());
    }
    for range in ranges(world, a).await? {
        fill(a.object, &range);
    }
    Ok(())
}

async fn check(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    for range in ranges(world, a).await? {
        let mut errors = Vec::new();
        for limit in list(&range, &["spec", "limits"]) {
            match (a.kind.resource.as_ref(), text(limit, &["type"])) {
                ("pods", _) => check_pod(a.object, limit, &mut errors),
                (_, "PersistentVolumeClaim") => check_claim(a.object, limit, &mut errors),
                _ => {}
            }
        }
        if let Some(why) = aggregate(errors) {
            return Err(forbidden(a, why));
        }
    }
    Ok(())
}

/// Several errors as one text, each once.
fn aggregate(errors: Vec<String>) -> Option<String> {
    let mut seen: Vec<String> = Vec::new();
    for error in errors {
        if !seen.contains(&error) {
            seen.push(error);
        }
    }
    match seen.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        many => Some(format!("[{}]", many.join(", "))),
    }
}

/// Gives containers the default requests and limits that they do not name.
fn fill(pod: &mut Value, range: &Value) {
    let (mut requests, mut limits) = (Amounts::new(), Amounts::new());
    for limit in list(range, &["spec", "limits"]).iter().filter(|l| text(l, &["type"]) == "Container") {
        requests.extend(quota::amounts(limit.get("defaultRequest")));
        limits.extend(quota::amounts(limit.get("default")));
    }
    if requests.is_empty() && limits.is_empty() {
        return;
    }
    let mut notes = Vec::new();
    for (key, what) in [("containers", "container"), ("initContainers", "init container")] {
        if list(pod, &["spec", key]).is_empty() {
            continue;
        }
        for container in list_mut(pod, &["spec", key]).into_iter().flatten() {
            let name = text(container, &["name"]).to_string();
            for (which, word, defaults) in [("requests", "request", &requests), ("limits", "limit", &limits)] {
                if defaults.is_empty() {
                    continue;
                }
                let present = map_mut(container, &["resources", which]);
                let mut added = Vec::new();
                for (resource, amount) in defaults {
                    if !present.contains_key(resource) {
                        present.insert(resource.clone(), amount.to_string());
                        added.push(resource.as_str());
                    }
                }
                if !added.is_empty() {
                    notes.push(format!("{} {word} for {what} {name}", added.join(", ")));
                }
            }
        }
    }
    if !notes.is_empty() {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        set(pod, &["metadata", "annotations", ANNOTATION], note);
    }
}

fn check_pod(pod: &Value, limit: &Value, errors: &mut Vec<String>) {
    match text(limit, &["type"]) {
        "Container" => {
            for key in ["containers", "initContainers"] {
                for container in list(pod, &["spec", key]) {
                    let read = |which| quota::amounts(container.at(&["resources", which]));
                    bounds("Container", limit, &read("requests"), &read("limits"), errors);
                }
            }
        }
        "Pod" => {
            let (requests, limits) = (quota::pod_amounts(pod, "requests"), quota::pod_amounts(pod, "limits"));
            bounds("Pod", limit, &requests, &limits, errors);
        }
        _ => {}
    }
}

fn check_claim(claim: &Value, limit: &Value, errors: &mut Vec<String>) {
    let kind = "PersistentVolumeClaim";
    let requests = quota::amounts(claim.at(&["spec", "resources", "requests"]));
    for (name, bound) in quota::amounts(limit.get("min")) {
        errors.extend(minimum(kind, &name, bound, requests.get(&name), None));
    }
    for (name, bound) in quota::amounts(limit.get("max")) {
        match requests.get(&name) {
            None => errors.push(format!("maximum {name} usage per {kind} is {bound}.  No request is specified")),
            Some(asked) if *asked > bound => {
                errors.push(format!("maximum {name} usage per {kind} is {bound}, but request is {asked}"));
            }
            Some(_) => {}
        }
    }
}

fn bounds(kind: &str, limit: &Value, requests: &Amounts, limits: &Amounts, errors: &mut Vec<String>) {
    for (name, bound) in quota::amounts(limit.get("min")) {
        errors.extend(minimum(kind, &name, bound, requests.get(&name), limits.get(&name)));
    }
    for (name, bound) in quota::amounts(limit.get("max")) {
        errors.extend(maximum(kind, &name, bound, requests.get(&name), limits.get(&name)));
    }
    for (name, bound) in quota::amounts(limit.get("maxLimitRequestRatio")) {
        errors.extend(ratio(kind, &name, bound, requests.get(&name), limits.get(&name)));
    }
}

fn minimum(
    kind: &str,
    name: &str,
    bound: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let start = format!("minimum {name} usage per {kind} is {bound}");
    match (request, limit) {
        (None, _) => Some(format!("{start}.  No request is specified")),
        (Some(request), _) if *request < bound => Some(format!("{start}, but request is {request}")),
        (_, Some(limit)) if *limit < bound => Some(format!("{start}, but limit is {limit}")),
        _ => None,
    }
}

fn maximum(
    kind: &str,
    name: &str,
    bound: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let start = format!("maximum {name} usage per {kind} is {bound}");
    match (request, limit) {
        (_, None) => Some(format!("{start}.  No limit is specified")),
        (_, Some(limit)) if *limit > bound => Some(format!("{start}, but limit is {limit}")),
        (Some(request), _) if *request > bound => Some(format!("{start}, but request is {request}")),
        _ => None,
    }
}

fn ratio(
    kind: &str,
    name: &str,
    bound: Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
) -> Option<String> {
    let start = format!("{name} max limit to request ratio per {kind} is {bound}");
    let Some(request) = request.filter(|r| !r.is_zero_amount()) else {
        return Some(format!("{start}, but no request is specified or request is 0"));
    };
    let Some(limit) = limit.filter(|l| !l.is_zero_amount()) else {
        return Some(format!("{start}, but no limit is specified or limit is 0"));
    };
    let ratio = limit.as_f64() / request.as_f64();
    (ratio > bound.as_f64()).then(|| format!("{start}, but provided ratio is {ratio:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tree;
    use serde_json::json;

    #[test]
    fn defaults_are_filled_in_and_noted() {
        let range = tree(json!({"spec": {"limits": [{
            "type": "Container", "default": {"cpu": "300m"}, "defaultRequest": {"cpu": "100m", "memory": "200Mi"},
        }]}}));
        let mut pod = tree(json!({"spec": {"containers": [
            {"name": "a"}, {"name": "b", "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}},
        ]}}));
        fill(&mut pod, &range);
        assert_eq!(
            text(&pod, &["metadata", "annotations", ANNOTATION]),
            "LimitRanger plugin set: cpu, memory request for container a; cpu limit for container a; memory request for container b"
        );
        let b = &list(&pod, &["spec", "containers"])[1];
        assert_eq!(text(b, &["resources", "requests", "cpu"]), "1");
        assert_eq!(text(b, &["resources", "requests", "memory"]), "200Mi");
    }

    #[test]
    fn bounds_are_kept() {
        let cases = [
            (json!({"min": {"cpu": "1"}}), json!({}), "minimum cpu usage per Container is 1.  No request is specified"),
            (
                json!({"min": {"cpu": "1"}}),
                json!({"requests": {"cpu": "500m"}}),
                "minimum cpu usage per Container is 1, but request is 500m",
            ),
            (json!({"max": {"cpu": "1"}}), json!({}), "maximum cpu usage per Container is 1.  No limit is specified"),
            (
                json!({"max": {"cpu": "1"}}),
                json!({"limits": {"cpu": "2"}}),
                "maximum cpu usage per Container is 1, but limit is 2",
            ),
            (
                json!({"maxLimitRequestRatio": {"cpu": "2"}}),
                json!({"requests": {"cpu": "1"}, "limits": {"cpu": "3"}}),
                "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
            ),
            (
                json!({"max": {"cpu": "2"}, "min": {"cpu": "1"}}),
                json!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}),
                "",
            ),
        ];
        for (limit, resources, wanted) in cases {
            let mut limit = limit;
            limit["type"] = json!("Container");
            let pod = tree(json!({"spec": {"containers": [{"name": "c", "resources": resources}]}}));
            let mut errors = Vec::new();
            check_pod(&pod, &tree(limit), &mut errors);
            assert_eq!(aggregate(errors).unwrap_or_default(), wanted);
        }
    }

    #[test]
    fn claims_have_bounds_too() {
        let limit = tree(json!({"max": {"storage": "1Gi"}, "min": {"storage": "1Mi"}}));
        let claim = tree(json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}}));
        let mut errors = Vec::new();
        check_claim(&claim, &limit, &mut errors);
        assert_eq!(errors, ["maximum storage usage per PersistentVolumeClaim is 1Gi, but request is 2Gi"]);
    }
}
