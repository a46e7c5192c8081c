//! HorizontalPodAutoscaler between autoscaling/v1 and v2: what v1 has no fields for travels in annotations.

use apimachinery::{Map, Value, codec};

use crate::tree::{list, map_mut, set, text};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// The member that holds a metric's source, by type, and whether its metric has a name of its own.
const SOURCES: [(&str, &str); 5] = [
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
    ("ContainerResource", "containerResource"),
    ("External", "external"),
];

fn json(value: &Value) -> String {
    String::from_utf8_lossy(&codec::json::encode_free(value)).into_owned()
}

fn is_plain_cpu(metric: &Value) -> bool {
    text(metric, &["type"]) == "Resource"
        && text(metric, &["resource", "name"]) == "cpu"
        && metric.at(&["resource", "target", "averageUtilization"]).is_some()
}

fn cpu_current(metric: &Value) -> Option<Value> {
    let cpu = text(metric, &["type"]) == "Resource" && text(metric, &["resource", "name"]) == "cpu";
    metric.at(&["resource", "current", "averageUtilization"]).filter(|_| cpu).cloned()
}

/// v2 to v1.
pub fn downgrade(mut object: Value) -> Value {
    let mut notes: Vec<(&str, Value)> = Vec::new();
    let metrics = list(&object, &["spec", "metrics"]).to_vec();
    // v1 has one field, for the use of cpu; the first such metric goes there.
    let cpu = metrics.iter().position(is_plain_cpu);
    let rest: Vec<Value> =
        metrics.iter().enumerate().filter(|(i, _)| Some(*i) != cpu).map(|(_, m)| old_form(m, "target")).collect();
    if !rest.is_empty() {
        notes.push((METRICS, rest.into()));
    }
    let currents = list(&object, &["status", "currentMetrics"]).to_vec();
    if !currents.is_empty() {
        notes.push((CURRENT, currents.iter().map(|m| old_form(m, "current")).collect::<Vec<_>>().into()));
    }
    let conditions = list(&object, &["status", "conditions"]).to_vec();
    if !conditions.is_empty() {
        notes.push((CONDITIONS, conditions.into()));
    }
    if let Some(behavior) = object.at(&["spec", "behavior"]).filter(|b| !b.is_null()) {
        notes.push((BEHAVIOR, behavior.clone()));
    }
    let spec = map_mut(&mut object, &["spec"]);
    spec.remove("metrics");
    spec.remove("behavior");
    if let Some(target) = cpu.and_then(|i| metrics[i].at(&["resource", "target", "averageUtilization"])) {
        spec.insert("targetCPUUtilizationPercentage", target.clone());
    }
    let status = map_mut(&mut object, &["status"]);
    status.remove("currentMetrics");
    status.remove("conditions");
    if let Some(current) = currents.iter().find_map(cpu_current) {
        status.insert("currentCPUUtilizationPercentage", current);
    }
    for (key, value) in notes {
        set(&mut object, &["metadata", "annotations", key], json(&value));
    }
    object
}

/// v1 to v2.
pub fn upgrade(mut object: Value) -> Value {
    let mut take = |key: &str| -> Option<Value> {
        let annotations =
            object.as_map_mut()?.get_mut("metadata")?.as_map_mut()?.get_mut("annotations")?.as_map_mut()?;
        let note = annotations.remove(key)?;
        codec::json::parse(note.as_str()?.as_bytes()).ok()
    };
    let (metrics, current, conditions, behavior) = (take(METRICS), take(CURRENT), take(CONDITIONS), take(BEHAVIOR));
    if object.at(&["metadata", "annotations"]).and_then(Value::as_map).is_some_and(Map::is_empty) {
        map_mut(&mut object, &["metadata"]).remove("annotations");
    }
    let lists = |note: Option<Value>| match note {
        Some(Value::List(items)) => items,
        _ => Vec::new(),
    };
    let mut all: Vec<Value> = lists(metrics).iter().map(|m| new_form(m, "target")).collect();
    let spec = map_mut(&mut object, &["spec"]);
    if let Some(percent) = spec.remove("targetCPUUtilizationPercentage") {
        all.push(resource_metric("target", percent, true));
    }
    if !all.is_empty() {
        spec.insert("metrics", all);
    }
    if let Some(behavior) = behavior.filter(Value::is_map) {
        spec.insert("behavior", behavior);
    }
    let mut currents: Vec<Value> = lists(current).iter().map(|m| new_form(m, "current")).collect();
    let conditions = lists(conditions);
    if object.get("status").is_some() || !currents.is_empty() || !conditions.is_empty() {
        let status = map_mut(&mut object, &["status"]);
        let percent = status.remove("currentCPUUtilizationPercentage");
        if let Some(percent) = percent
            && !currents.iter().any(|m| cpu_current(m).is_some())
        {
            currents.push(resource_metric("current", percent, false));
        }
        if !currents.is_empty() {
            status.insert("currentMetrics", currents);
        }
        if !conditions.is_empty() {
            status.insert("conditions", conditions);
        }
    }
    object
}

fn resource_metric(side: &str, percent: Value, typed: bool) -> Value {
    let mut metric = Value::Map(Map::new());
    set(&mut metric, &["type"], "Resource");
    set(&mut metric, &["resource", "name"], "cpu");
    set(&mut metric, &["resource", side, "averageUtilization"], percent);
    if typed {
        set(&mut metric, &["resource", side, "type"], "Utilization");
    }
    metric
}

/// The names that v1's annotation form has for `value`, `averageValue` and `averageUtilization`.
fn value_names(kind: &str, side: &str) -> [&'static str; 3] {
    match (kind, side) {
        ("Object", "target") => ["targetValue", "averageValue", ""],
        ("Object", _) => ["currentValue", "averageValue", ""],
        (_, "target") => ["targetValue", "targetAverageValue", "targetAverageUtilization"],
        _ => ["currentValue", "currentAverageValue", "currentAverageUtilization"],
    }
}

const VALUES: [&str; 3] = ["value", "averageValue", "averageUtilization"];

/// A metric of v2 as v1 writes it into annotations.
fn old_form(metric: &Value, side: &str) -> Value {
    let kind = text(metric, &["type"]);
    let Some((_, member)) = SOURCES.iter().find(|(k, _)| *k == kind) else { return metric.clone() };
    let mut source = Value::Map(Map::new());
    let from = metric.get(member).cloned().unwrap_or_default();
    let mut copy = |from_path: &[&str], to: &str| {
        if let Some(value) = from.at(from_path)
            && !to.is_empty()
        {
            set(&mut source, &[to], value.clone());
        }
    };
    copy(&["name"], "name");
    copy(&["container"], "container");
    copy(&["describedObject"], "target");
    copy(&["metric", "name"], "metricName");
    copy(&["metric", "selector"], if kind == "External" { "metricSelector" } else { "selector" });
    for (new, old) in VALUES.iter().zip(value_names(kind, side)) {
        copy(&[side, new], old);
    }
    let mut out = Value::Map(Map::new());
    set(&mut out, &["type"], kind);
    set(&mut out, &[member], source);
    out
}

/// A metric out of v1's annotations.
fn new_form(metric: &Value, side: &str) -> Value {
    let kind = text(metric, &["type"]);
    let Some((_, member)) = SOURCES.iter().find(|(k, _)| *k == kind) else { return metric.clone() };
    let from = metric.get(member).cloned().unwrap_or_default();
    let mut source = Value::Map(Map::new());
    let mut copy = |from_key: &str, to: &[&str]| {
        if let Some(value) = from.get(from_key) {
            set(&mut source, to, value.clone());
        }
    };
    copy("name", &["name"]);
    copy("container", &["container"]);
    if kind == "Object" {
        copy("target", &["describedObject"]);
    }
    copy("metricName", &["metric", "name"]);
    copy("selector", &["metric", "selector"]);
    copy("metricSelector", &["metric", "selector"]);
    let mut ty = "";
    for ((new, old), word) in VALUES.iter().zip(value_names(kind, side)).zip(["Value", "AverageValue", "Utilization"]) {
        // An amount of zero says that the other one counts.
        if from.get(old).is_some_and(|v| v.as_str() != Some("0")) {
            copy(old, &[side, new]);
            ty = word;
        }
    }
    if side == "target" && !ty.is_empty() {
        set(&mut source, &["target", "type"], ty);
    }
    let mut out = Value::Map(Map::new());
    set(&mut out, &["type"], kind);
    set(&mut out, &[member], source);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tree;
    use serde_json::json;

    #[test]
    fn nothing_is_lost_on_the_way_through_v1() {
        let v2 = tree(json!({
            "metadata": {"name": "h"},
            "spec": {
                "maxReplicas": 3,
                "metrics": [
                    {"type": "External", "external": {
                        "metric": {"name": "q", "selector": {"matchLabels": {"a": "b"}}},
                        "target": {"type": "AverageValue", "averageValue": "30"},
                    }},
                    {"type": "Object", "object": {
                        "describedObject": {"kind": "Service", "name": "s"},
                        "metric": {"name": "hits"},
                        "target": {"type": "Value", "value": "10k"},
                    }},
                    {"type": "Resource", "resource": {
                        "name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80},
                    }},
                ],
                "behavior": {"scaleUp": {"stabilizationWindowSeconds": 5}},
            },
            "status": {
                "currentMetrics": [{"type": "Resource", "resource": {
                    "name": "cpu", "current": {"averageUtilization": 42, "averageValue": "200m"},
                }}],
                "conditions": [{"type": "AbleToScale", "status": "True"}],
            },
        }));
        let v1 = downgrade(v2.clone());
        assert_eq!(v1.at(&["spec", "targetCPUUtilizationPercentage"]), Some(&Value::Int(80)));
        assert_eq!(v1.at(&["status", "currentCPUUtilizationPercentage"]), Some(&Value::Int(42)));
        assert!(text(&v1, &["metadata", "annotations", METRICS]).contains("\"targetAverageValue\":\"30\""));
        assert_eq!(upgrade(v1), v2);
    }

    #[test]
    fn plain_v1_objects_gain_a_metric() {
        let v1 = tree(json!({"spec": {"maxReplicas": 2, "targetCPUUtilizationPercentage": 50}}));
        let v2 = upgrade(v1.clone());
        let metric = &list(&v2, &["spec", "metrics"])[0];
        assert_eq!(text(metric, &["resource", "target", "type"]), "Utilization");
        let mut back = downgrade(v2);
        back.as_map_mut().unwrap().remove("status");
        assert_eq!(back, v1);
    }
}
