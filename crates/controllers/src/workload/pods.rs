//! The pods of a controller: claimed, created and deleted under its expectations, with events on their owner.

use std::sync::Arc;

use api::core::pod::Pod;
use api::core::pod::spec::PodTemplateSpec;
use apimachinery::selector::LabelSelector;
use apimachinery::time::parse_rfc3339;
use apimachinery::{Api, Map, ObjectMeta, SmolStr, Status, Time, Value};
use client::events::Subject;
use client::{Client, Informer, Key, PatchKind, Recorder};
use futures::future::join_all;

use super::expectations::Expectations;
use super::{Manager, namespace_ends};
use crate::Context;
use crate::shared::PodView;
use crate::shared::pod_index::{CachedPod, PodIndex};

/// One controller's hands on pods. Clones are handles to the same.
#[derive(Clone)]
pub struct Pods {
    pub client: Client,
    pub recorder: Recorder,
    pub informer: Informer<PodView>,
    pub index: Arc<PodIndex>,
    pub expectations: Arc<Expectations>,
    /// The finalizer that pods get when they are adopted and lose when they are released.
    pub finalizer: Option<&'static str>,
}

/// Neither finished nor being deleted.
pub fn is_active(pod: &PodView) -> bool {
    !pod.deleting && pod.phase != "Succeeded" && pod.phase != "Failed"
}

/// Being deleted and not finished.
pub fn is_terminating(pod: &PodView) -> bool {
    pod.deleting && pod.phase != "Succeeded" && pod.phase != "Failed"
}

/// Seconds until a ready pod counts as available, 0 when it does; `None` when it is not ready.
pub fn available_in(pod: &PodView, min_ready_seconds: i32, now: Time) -> Option<i64> {
    if !pod.ready {
        return None;
    }
    if min_ready_seconds == 0 {
        return Some(0);
    }
    let (since, _) = parse_rfc3339(&pod.ready_since)?;
    Some((since + i64::from(min_ready_seconds) - now.0).max(0))
}

/// Whether a pod has been ready for long enough.
pub fn is_available(pod: &PodView, min_ready_seconds: i32, now: Time) -> bool {
    available_in(pod, min_ready_seconds, now) == Some(0)
}

/// A pod made from a template, owned, its name left to the server or to the caller.
pub fn from_template(template: &PodTemplateSpec, owner: &Manager) -> Pod {
    Pod {
        metadata: ObjectMeta {
            namespace: owner.subject.namespace.to_string(),
            generate_name: format!("{}-", owner.subject.name),
            labels: template.metadata.labels.clone(),
            annotations: template.metadata.annotations.clone(),
            finalizers: template.metadata.finalizers.clone(),
            owner_references: vec![owner.reference()],
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        ..Pod::default()
    }
}

impl Pods {
    pub fn new(cx: &Context) -> Pods {
        Pods {
            client: cx.client.clone(),
            recorder: cx.recorder.clone(),
            informer: cx.shared.pods().clone(),
            index: cx.shared.pod_index().clone(),
            expectations: Arc::default(),
            finalizer: None,
        }
    }

    /// Creates a pod and expects to see it; tells it on the owner.
    pub async fn create(&self, owner: &Manager, pod: &Pod) -> Result<Pod, Status> {
        let created = self.create_untold(owner, pod).await;
        match &created {
            Ok(pod) => {
                let message = format!("Created pod: {}", pod.metadata.name);
                self.recorder.normal(&owner.subject, "SuccessfulCreate", message);
            }
            Err(status) if namespace_ends(status) => {}
            Err(status) => {
                let message = format!("Error creating: {}", status.message);
                self.recorder.warning(&owner.subject, "FailedCreate", message);
            }
        }
        created
    }

    /// [`Pods::create`] without an event.
    pub async fn create_untold(&self, owner: &Manager, pod: &Pod) -> Result<Pod, Status> {
        let created = self.client.create(pod).await?;
        let meta = &created.metadata;
        let key = Key::new(meta.namespace.as_str(), meta.name.as_str());
        self.expectations.created(&owner.key(), key, &meta.uid);
        Ok(created)
    }

    /// Deletes a pod, if it is still the one that was seen, and expects to see that; tells it on the owner.
    pub async fn delete(&self, owner: &Manager, pod: &CachedPod) -> Result<(), Status> {
        let deleted = self.delete_untold(owner, pod).await;
        match &deleted {
            Ok(true) => {
                let message = format!("Deleted pod: {}", pod.0.name);
                self.recorder.normal(&owner.subject, "SuccessfulDelete", message);
            }
            Ok(false) => {}
            Err(status) => {
                let message = format!("Error deleting: {}", status.message);
                self.recorder.warning(&owner.subject, "FailedDelete", message);
            }
        }
        deleted.map(drop)
    }

    /// [`Pods::delete`] without an event; says whether there was anything to delete.
    pub async fn delete_untold(&self, owner: &Manager, (key, pod): &CachedPod) -> Result<bool, Status> {
        self.expectations.deleting(&owner.key(), key.clone(), &pod.uid);
        let options = Client::only_uid(&pod.uid);
        match self.client.delete_with::<Pod>(&key.namespace, &key.name, options).await {
            Ok(()) => Ok(true),
            Err(status) => {
                self.expectations.not_deleted(&owner.key(), &pod.uid);
                // Gone, or replaced by another of the same name: what was to go is gone.
                if status.is_not_found() || status.is_conflict() { Ok(false) } else { Err(status) }
            }
        }
    }

    /// Deletes pods side by side; answers with the first error.
    pub async fn delete_all(&self, owner: &Manager, pods: &[CachedPod]) -> Result<(), Status> {
        self.expectations.open(&owner.key());
        join_all(pods.iter().map(|pod| self.delete(owner, pod))).await.into_iter().collect()
    }

    /// The pods that are the owner's: those it controls and that still match, and orphans that it adopts. Pods that
    /// match no longer are released. `owner` must have been read just now, since a cached one may be deleted already.
    pub async fn claim(
        &self,
        owner: &Manager,
        selector: &LabelSelector,
        consider: impl Fn(&Key, &PodView) -> bool,
    ) -> Result<Vec<CachedPod>, Status> {
        let matches = |pod: &PodView| selector.matches(|label| pod.labels.get(label).map(SmolStr::as_str));
        let mut claimed = Vec::new();
        let mut failure = None;
        for (key, pod) in self.index.owned(&owner.subject.uid) {
            if !consider(&key, &pod) {
                continue;
            }
            if matches(&pod) {
                claimed.push((key, pod));
            } else if !owner.deleting {
                match self.patch_owner(&key, &pod.uid, release(&owner.subject)).await {
                    Ok(()) => {}
                    // Gone or not to be patched any more: no longer ours either way.
                    Err(status) if status.is_not_found() || status.code == 422 => {}
                    Err(status) => failure = Some(status),
                }
            }
        }
        if !owner.deleting {
            for (key, pod) in self.index.orphans(&owner.subject.namespace) {
                if pod.deleting || !consider(&key, &pod) || !matches(&pod) {
                    continue;
                }
                match self.patch_owner(&key, &pod.uid, owner.reference().to_value()).await {
                    Ok(()) => claimed.push((key, pod)),
                    Err(status) if status.is_not_found() => {}
                    Err(status) => failure = Some(status),
                }
            }
        }
        match failure {
            Some(status) => Err(status),
            None => Ok(claimed),
        }
    }

    async fn patch_owner(&self, key: &Key, uid: &str, reference: Value) -> Result<(), Status> {
        let mut patch = owner_patch(uid, reference.clone());
        if let (Some(finalizer), Some(Value::Map(metadata))) =
            (self.finalizer, patch.as_map_mut().and_then(|m| m.get_mut("metadata")))
        {
            let released = reference.str_at(&["$patch"]).is_some();
            let member = if released { "$deleteFromPrimitiveList/finalizers" } else { "finalizers" };
            metadata.insert(member, Value::List(vec![finalizer.into()]));
        }
        self.client.patch::<Pod>(&key.namespace, &key.name, "", PatchKind::Strategic, patch).await.map(drop)
    }
}

/// A strategic merge patch that changes one owner reference of the object with this uid.
pub fn owner_patch(uid: &str, reference: Value) -> Value {
    let mut metadata = Map::new();
    metadata.insert("uid", uid);
    metadata.insert("ownerReferences", Value::List(vec![reference]));
    let mut patch = Map::new();
    patch.insert("metadata", metadata);
    Value::Map(patch)
}

/// The entry of a strategic merge patch that removes an owner.
pub fn release(owner: &Subject) -> Value {
    let mut entry = Map::new();
    entry.insert("$patch", "delete");
    entry.insert("uid", owner.uid.clone());
    Value::Map(entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn availability_is_a_matter_of_time() {
        let pod = |ready| PodView { ready, ready_since: "1970-01-01T00:01:40Z".into(), ..PodView::default() };
        for (ready, min, now, expected) in [
            (false, 0, 100, None),
            (true, 0, 100, Some(0)),
            (true, 10, 100, Some(10)),
            (true, 10, 107, Some(3)),
            (true, 10, 110, Some(0)),
        ] {
            assert_eq!(available_in(&pod(ready), min, Time(now)), expected);
        }
    }

    #[tokio::test]
    async fn orphans_are_adopted_and_strangers_released() {
        let backend = testkit::FakeBackend::new();
        let resource = apimachinery::GroupVersionResource::new("", "v1", "pods");
        backend.put(&resource, r#"{"metadata":{"name":"orphan","namespace":"a","uid":"1","labels":{"app":"web"}}}"#);
        backend.put(&resource, r#"{"metadata":{"name":"other","namespace":"a","uid":"2","labels":{"app":"db"}}}"#);
        backend.put(
            &resource,
            r#"{"metadata":{"name":"left","namespace":"a","uid":"3","labels":{"app":"db"},"ownerReferences":
            [{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web","uid":"u","controller":true}]}}"#,
        );
        let cx = crate::context::tests::context(&backend);
        let pods = Pods::new(&cx);
        pods.informer.synced().await;
        let subject = Subject { namespace: "a".into(), name: "web".into(), uid: "u".into(), ..Subject::default() };
        let mut owner = Manager { subject, deleting: true };
        let selector = LabelSelector::from_map([("app", "web")]);
        assert!(pods.claim(&owner, &selector, |_, _| true).await.unwrap().is_empty());
        owner.deleting = false;
        let claimed = pods.claim(&owner, &selector, |_, _| true).await.unwrap();
        assert_eq!(claimed.iter().map(|(key, _)| key.name.as_str()).collect::<Vec<_>>(), ["orphan"]);
        let uid = |name: &str| {
            let pod = backend.get(&resource, "a", name).unwrap();
            let references = pod.at(&["metadata", "ownerReferences"]).and_then(Value::as_list).unwrap().to_vec();
            (references[0].str_at(&["uid"]).unwrap().to_string(), references[0].str_at(&["$patch"]).is_some())
        };
        assert_eq!(uid("orphan"), ("u".into(), false));
        // The fake keeps the directive that a server would obey.
        assert_eq!(uid("left"), ("u".into(), true));
    }
}
