//! The `scale` subresource: a view of three numbers of any kind that declares where they are.

use apimachinery::kind::Scale;
use apimachinery::selector::LabelSelector;
use apimachinery::{Map, Status, Value};

use crate::metadata::metadata;

/// The `autoscaling/v1` Scale of an object.
pub fn view(object: &Value, scale: &Scale) -> Value {
    let source = metadata(object);
    let mut meta = Map::new();
    for key in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = source.get(key) {
            meta.insert(key, value.clone());
        }
    }
    let number = |path: &str| at(object, path).and_then(Value::as_i64);
    let mut spec = Map::new();
    if let Some(n) = number(&scale.spec_replicas).filter(|n| *n != 0) {
        spec.insert("replicas", n);
    }
    let mut status = Map::new();
    status.insert("replicas", number(&scale.status_replicas).unwrap_or(0));
    if let Some(selector) = at(object, &scale.label_selector) {
        let text = match selector {
            Value::String(text) => Some(text.clone()),
            // A LabelSelector object, or the plain map of a replication controller.
            Value::Map(map) if map.contains_key("matchLabels") || map.contains_key("matchExpressions") => {
                LabelSelector::from_value(Some(selector)).ok().map(|s| s.to_string().into())
            }
            Value::Map(map) => {
                let labels = map.iter().filter_map(|(k, v)| Some((k.as_str(), v.as_str()?)));
                Some(LabelSelector::from_map(labels).to_string().into())
            }
            _ => None,
        };
        if let Some(text) = text.filter(|t| !t.is_empty()) {
            status.insert("selector", text);
        }
    }
    let mut view = Map::new();
    view.insert("apiVersion", "autoscaling/v1");
    view.insert("kind", "Scale");
    view.insert("metadata", meta);
    view.insert("spec", spec);
    view.insert("status", status);
    Value::Map(view)
}

/// Writes a Scale's `spec.replicas` into an object.
pub fn set(object: &mut Value, scale: &Scale, view: &Value) -> Result<(), Status> {
    let replicas = view.at(&["spec", "replicas"]).and_then(Value::as_i64).unwrap_or(0);
    let keys: Vec<&str> = scale.spec_replicas.split('.').filter(|k| !k.is_empty()).collect();
    let Some((last, parents)) = keys.split_last() else {
        return Err(Status::internal("the scale subresource names no replicas path"));
    };
    let mut place = object;
    for key in parents {
        let Some(map) = place.as_map_mut() else {
            return Err(Status::internal("the scale subresource's replicas path meets something that is no object"));
        };
        place = map.get_or_insert_with(key, || Value::Map(Map::new()));
    }
    if let Some(map) = place.as_map_mut() {
        map.insert(*last, replicas);
    }
    Ok(())
}

fn at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    if path.is_empty() {
        return None;
    }
    path.split('.').filter(|k| !k.is_empty()).try_fold(object, |v, key| v.get(key))
}
