//! Objects between the versions of their resource: by code for the built-in kinds with two shapes, by webhook or not at
//! all for custom resources.

mod autoscaling;
mod events;

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use apimachinery::{GroupResource, Kind, Status, Value};
use engine::cx::BoxFuture;
use engine::{Converter, Cx, Engine};
use parking_lot::RwLock;
use serde_json::json;

use crate::tree::{list, text, tree};
use crate::webhook::{Caller, Hook};

/// How long a conversion webhook may take.
const WEBHOOK_LIMIT: Duration = Duration::from_secs(30);

/// Converts; knows the webhooks of custom resources.
#[derive(Default)]
pub struct Conversions {
    engine: OnceLock<Weak<Engine>>,
    webhooks: RwLock<HashMap<GroupResource, Arc<Hook>>>,
    caller: Arc<Caller>,
}

impl Conversions {
    /// `caller` is the one that admission uses too, so that connections are shared.
    pub fn new(caller: Arc<Caller>) -> Arc<Conversions> {
        Arc::new(Conversions { caller, ..Conversions::default() })
    }

    /// Says in which engine services are looked up.
    pub fn attach(&self, engine: &Arc<Engine>) {
        let _ = self.engine.set(Arc::downgrade(engine));
    }

    /// Says by which webhook a custom resource is converted; `None`: versions differ in apiVersion alone.
    pub fn set_webhook(&self, resource: GroupResource, hook: Option<Hook>) {
        let mut webhooks = self.webhooks.write();
        match hook {
            Some(hook) => webhooks.insert(resource, Arc::new(hook)),
            None => webhooks.remove(&resource),
        };
    }

    async fn ask(&self, hook: &Hook, object: Value, from: &Kind, to: &Kind) -> Result<Value, Status> {
        let engine = self
            .engine
            .get()
            .and_then(Weak::upgrade)
            .ok_or_else(|| Status::service_unavailable("not yet ready to convert"))?;
        let uid = uuid::Uuid::new_v4().to_string();
        let mut review = tree(json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "ConversionReview",
            "request": {"uid": uid, "desiredAPIVersion": to.group_version().to_string()},
        }));
        crate::tree::set(&mut review, &["request", "objects"], vec![object.clone()]);
        let failed = |why: String| {
            Status::internal(format!(
                "conversion webhook for {}/{}, Kind={} failed: {why}",
                from.group, from.version, from.kind
            ))
        };
        let cx = Cx::default();
        let answer =
            self.caller.post(&engine, &cx, hook, &review, "timeout=30s", WEBHOOK_LIMIT).await.map_err(failed)?;
        let converted = read_answer(&answer, &uid).map_err(failed)?;
        accept(object, converted, to).map_err(failed)
    }
}

/// The one object of a ConversionReview's response.
fn read_answer(answer: &Value, uid: &str) -> Result<Value, String> {
    let response = answer.get("response").ok_or("no response provided")?;
    if text(response, &["uid"]) != uid {
        return Err(format!("expected response.uid={uid:?}, got {:?}", text(response, &["uid"])));
    }
    if text(response, &["result", "status"]) != "Success" {
        let message = text(response, &["result", "message"]);
        return Err(if message.is_empty() { "no message".into() } else { message.to_string() });
    }
    match list(response, &["convertedObjects"]) {
        [one] => Ok(one.clone()),
        many => Err(format!("webhook returned {} objects, expected 1", many.len())),
    }
}

/// A webhook may change anything but identity; of metadata only labels and annotations.
fn accept(original: Value, mut converted: Value, to: &Kind) -> Result<Value, String> {
    let wanted = to.group_version().to_string();
    if text(&converted, &["apiVersion"]) != wanted || text(&converted, &["kind"]) != to.kind {
        return Err(format!("returned object is not {wanted}, Kind={}", to.kind));
    }
    for key in ["name", "namespace", "uid"] {
        let path = ["metadata", key];
        if text(&original, &path) != text(&converted, &path) {
            return Err(format!("the returned object must have the same {key}"));
        }
    }
    let mut metadata = original.get("metadata").cloned().unwrap_or_default();
    for key in ["labels", "annotations"] {
        let value = converted.at(&["metadata", key]).cloned();
        if let Some(map) = metadata.as_map_mut() {
            match value {
                Some(value) => map.insert(key, value),
                None => map.remove(key),
            };
        }
    }
    crate::tree::set(&mut converted, &["metadata"], metadata);
    Ok(converted)
}

fn retype(mut object: Value, to: &Kind) -> Value {
    if let Value::Map(map) = &mut object {
        map.insert("apiVersion", to.group_version().to_string());
        map.insert("kind", &*to.kind);
    }
    object
}

impl Converter for Conversions {
    fn convert<'a>(&'a self, object: Value, from: &'a Kind, to: &'a Kind) -> BoxFuture<'a, Result<Value, Status>> {
        Box::pin(async move {
            let object = match (&*from.kind, &*from.group, &*from.version, &*to.group, &*to.version) {
                ("HorizontalPodAutoscaler", "autoscaling", "v1", _, "v2") => autoscaling::upgrade(object),
                ("HorizontalPodAutoscaler", "autoscaling", "v2", _, "v1") => autoscaling::downgrade(object),
                ("Event", "", _, "events.k8s.io", _) => events::upgrade(object),
                ("Event", "events.k8s.io", _, "", _) => events::downgrade(object),
                _ => {
                    let hook = self.webhooks.read().get(&from.group_resource()).cloned();
                    // Written before the storage version changed: it is in the wanted form already.
                    if hook.is_some() && text(&object, &["apiVersion"]) == to.group_version().to_string() {
                        return Ok(object);
                    }
                    if let Some(hook) = hook {
                        return self.ask(&hook, object, from, to).await;
                    }
                    object
                }
            };
            Ok(retype(object, to))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhooks_may_not_change_identity() {
        let kind = api::core::configmap::kind();
        let original = tree(json!({"metadata": {"name": "a", "uid": "u", "labels": {"x": "1"}, "generation": 3}}));
        let converted = |metadata| tree(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}));
        let good = accept(
            original.clone(),
            converted(json!({"name": "a", "uid": "u", "labels": {"y": "2"}, "generation": 9})),
            &kind,
        );
        let good = good.unwrap();
        assert_eq!(text(&good, &["metadata", "labels", "y"]), "2");
        assert_eq!(good.at(&["metadata", "generation"]), Some(&Value::Int(3)));
        assert!(accept(original.clone(), converted(json!({"name": "b", "uid": "u"})), &kind).is_err());
        assert!(accept(original.clone(), original, &kind).is_err(), "the type must be the one asked for");
    }

    #[test]
    fn answers_are_checked() {
        let answer = |response| tree(json!({"response": response}));
        let good = answer(json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [{"kind": "A"}]}));
        assert!(read_answer(&good, "u").is_ok());
        assert!(read_answer(&good, "v").is_err());
        let bad = answer(json!({"uid": "u", "result": {"status": "Failed", "message": "no way"}}));
        assert_eq!(read_answer(&bad, "u").unwrap_err(), "no way");
    }
}
