//! How a worker tells the API what is.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::core::pod::Pod;
use api::core::pod::status::{PodCondition, PodStatus};
use apimachinery::{Api, Map, Value};
use client::PatchKind;

use super::Worker;
use crate::observed::Observed;
use crate::status;

impl Worker {
    /// Tells the API what is; answers whether it knows.
    pub(super) async fn tell(&mut self, pod: &Arc<Pod>, seen: &Observed, ending: bool) -> bool {
        // What runs waits no longer.
        for container in seen.running() {
            self.waiting.remove(&container.name);
        }
        let probe = |id: &str| self.shared.probes.state(id);
        let mut base = match &self.granted {
            Some(granted) => (*granted.apply(pod)).clone(),
            None => (**pod).clone(),
        };
        if let Some(sent) = &self.sent {
            // Our own last word may be newer than what we have heard back; other writers' conditions are not.
            let others = base.status.conditions.iter().filter(|c| !status::OWNED.contains(&c.type_.as_str())).cloned();
            let own = sent.conditions.iter().filter(|c| status::OWNED.contains(&c.type_.as_str())).cloned();
            let conditions = own.chain(others).collect();
            base.status = PodStatus { conditions, ..sent.clone() };
        }
        let new = status::status(
            &base,
            seen,
            &status::Inputs {
                probe: &probe,
                waiting: &self.waiting,
                verdict: self.verdict.as_ref(),
                ending,
                node_ips: &self.shared.ips,
                given: &self.given,
                resize: &self.progress,
                now: crate::seconds(),
            },
        );
        if new == pod.status && self.sent.as_ref().is_none_or(|sent| *sent == new) || self.sent.as_ref() == Some(&new) {
            return true;
        }
        // A static pod's mirror has an identity of its own.
        let uid = (!crate::static_pods::is_static(pod)).then_some(pod.metadata.uid.as_str());
        let before = pod.status.conditions.iter().chain(self.sent.iter().flat_map(|sent| &sent.conditions));
        let Some(patch) = difference(uid, &new, before) else { return true };
        let meta = &pod.metadata;
        match self.client.patch::<Pod>(&meta.namespace, &meta.name, "status", PatchKind::Strategic, patch).await {
            Ok(_) => {
                self.sent = Some(new);
                true
            }
            // Gone, or another of the same name.
            Err(status) if status.is_not_found() || status.is_conflict() => true,
            Err(status) => {
                tracing::warn!(pod = self.name(), %status, "a pod's status could not be written");
                false
            }
        }
    }
}

/// The patch that tells a status whole, but for conditions of others. Keys that are not in it are taken away, and so are
/// own conditions that were told before.
fn difference<'a>(
    uid: Option<&str>,
    status: &PodStatus,
    before: impl Iterator<Item = &'a PodCondition>,
) -> Option<Value> {
    let Value::Map(mut tree) = status.to_value() else { return None };
    let before: Vec<&PodCondition> = before.collect();
    let own = status.conditions.iter().filter(|c| status::OWNED.contains(&c.type_.as_str()));
    let whole = |condition: &PodCondition| {
        let mut tree = condition.to_value();
        // What is empty now and was not has to be said.
        let old = before.iter().filter(|old| old.type_ == condition.type_);
        for (key, had) in old.flat_map(|old| [("reason", &old.reason), ("message", &old.message)]) {
            if let Some(map) = tree.as_map_mut().filter(|map| !had.is_empty() && map.get(key).is_none()) {
                map.insert(key, Value::Null);
            }
        }
        tree
    };
    let mut conditions: Vec<Value> = own.map(whole).collect();
    let gone: BTreeSet<&str> = before
        .iter()
        .map(|c| c.type_.as_str())
        .filter(|t| status::OWNED.contains(t) && !status.conditions.iter().any(|c| c.type_ == *t))
        .collect();
    for type_ in gone {
        let mut directive = Map::new();
        directive.insert("type", type_);
        directive.insert("$patch", "delete");
        conditions.push(Value::Map(directive));
    }
    tree.insert("conditions", conditions);
    for key in ["message", "reason", "podIP", "podIPs"] {
        if tree.get(key).is_none() {
            tree.insert(key, Value::Null);
        }
    }
    // By their keys, the addresses of a sandbox that is gone would stay beside those of its successor.
    for key in ["podIPs", "hostIPs"] {
        if let Some(Value::List(items)) = tree.get_mut(key) {
            let mut directive = Map::new();
            directive.insert("$patch", "replace");
            items.push(Value::Map(directive));
        }
    }
    // These belong to others.
    for key in ["qosClass", "nominatedNodeName", "resourceClaimStatuses", "extendedResourceClaimStatus", "resize"] {
        tree.remove(key);
    }
    let mut patch = Map::new();
    if let Some(uid) = uid {
        let mut metadata = Map::new();
        metadata.insert("uid", uid);
        patch.insert("metadata", metadata);
    }
    patch.insert("status", tree);
    Some(Value::Map(patch))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_conditions_are_not_told() {
        let text = r#"{"phase":"Running","qosClass":"Burstable","conditions":[{"type":"x/y","status":"True"},
            {"type":"Ready","status":"True"}]}"#;
        let tree = apimachinery::codec::json::parse(text.as_bytes()).unwrap();
        let gone = PodCondition { type_: "PodResizePending".into(), ..PodCondition::default() };
        let other = PodCondition { type_: "x/z".into(), ..PodCondition::default() };
        let unready = PodCondition { type_: "Ready".into(), reason: "No".into(), ..PodCondition::default() };
        let before = [&gone, &other, &unready].into_iter();
        let patch = difference(Some("u"), &PodStatus::from_value(&tree).unwrap(), before).unwrap();
        let conditions = patch.at(&["status", "conditions"]).unwrap().as_list().unwrap();
        assert_eq!(conditions.len(), 2);
        assert_eq!(conditions[0].get("reason"), Some(&Value::Null));
        assert_eq!(conditions[0].get("message"), None);
        assert_eq!(conditions[1].str_at(&["type"]), Some("PodResizePending"));
        assert_eq!(conditions[1].str_at(&["$patch"]), Some("delete"));
        assert!(patch.at(&["status", "qosClass"]).is_none());
        assert_eq!(patch.at(&["status", "reason"]), Some(&Value::Null));
    }

    #[test]
    fn addresses_replace_those_of_an_earlier_sandbox() {
        let tree = apimachinery::codec::json::parse(br#"{"podIPs":[{"ip":"10.42.0.3"}]}"#).unwrap();
        let patch = difference(None, &PodStatus::from_value(&tree).unwrap(), std::iter::empty()).unwrap();
        let expected = br#"[{"ip":"10.42.0.3"},{"$patch":"replace"}]"#;
        assert_eq!(patch.at(&["status", "podIPs"]), Some(&apimachinery::codec::json::parse(expected).unwrap()));
    }
}
