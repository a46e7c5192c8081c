//! What the controllers that keep pods running share: claiming, creating and deleting pods, expectations, histories.

pub mod batch;
pub mod expectations;
pub mod history;
pub mod pods;
pub mod ranking;
pub mod template_hash;

use std::collections::BTreeMap;

use apimachinery::meta::{LabelSelector as Selector, OwnerReference};
use apimachinery::resource::Resource;
use apimachinery::selector::LabelSelector;
use apimachinery::time::parse_rfc3339;
use apimachinery::{Api, GroupVersionResource, SmolStr, Status, Time, Value};
use client::events::Subject;
use client::{Client, Informer, Key, Queue, Scope};

use crate::shared::{Owner, PodView};
use pods::Pods;

/// What a controller keeps of each object that may own pods.
#[derive(Clone, Debug)]
pub struct OwnerView {
    pub uid: SmolStr,
    pub labels: BTreeMap<SmolStr, SmolStr>,
    /// The owner that manages this object in turn.
    pub controller: Option<Owner>,
    pub selector: LabelSelector,
}

impl OwnerView {
    /// Reads an object whose `spec.selector` is a label selector, or a plain map of labels with `map`.
    fn read(tree: &Value, map: bool) -> OwnerView {
        let selector = tree.at(&["spec", "selector"]);
        let selector = if map {
            let labels = selector.and_then(Value::as_map).filter(|m| !m.is_empty());
            labels.map_or_else(LabelSelector::nothing, |m| {
                LabelSelector::from_map(m.iter().map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default())))
            })
        } else {
            LabelSelector::from_value(selector).unwrap_or_else(|_| LabelSelector::nothing())
        };
        OwnerView {
            uid: tree.str_at(&["metadata", "uid"]).unwrap_or_default().into(),
            labels: crate::shared::labels(tree),
            controller: Owner::controller_of(tree),
            selector,
        }
    }

    /// Follows every object of a resource.
    pub fn follow(client: &Client, resource: GroupVersionResource) -> Informer<OwnerView> {
        let map = resource.resource == "replicationcontrollers";
        Informer::start(client, resource, Scope::default(), move |tree| Some(OwnerView::read(tree, map)))
    }
}

/// An object that manages others, as it was just read.
#[derive(Clone, Debug, Default)]
pub struct Manager {
    pub subject: Subject,
    pub deleting: bool,
}

impl Manager {
    pub fn of<T: Resource>(object: &T) -> Manager {
        let meta = object.meta();
        Manager {
            subject: Subject {
                api_version: T::api_version().into(),
                kind: T::KIND.into(),
                namespace: meta.namespace.as_str().into(),
                name: meta.name.as_str().into(),
                uid: meta.uid.as_str().into(),
                field_path: SmolStr::default(),
            },
            deleting: meta.deletion_timestamp.is_some(),
        }
    }

    pub fn key(&self) -> Key {
        Key::new(self.subject.namespace.clone(), self.subject.name.clone())
    }

    /// The owner reference that makes an object managed by this one.
    pub fn reference(&self) -> OwnerReference {
        OwnerReference {
            api_version: self.subject.api_version.to_string(),
            kind: self.subject.kind.to_string(),
            name: self.subject.name.to_string(),
            uid: self.subject.uid.to_string(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }
    }
}

/// Whether a reference manages with this uid.
pub fn controlled_by(references: &[OwnerReference], uid: &str) -> bool {
    references.iter().any(|r| r.controller == Some(true) && r.uid == uid)
}

/// The selector of a workload as one that can be asked.
pub fn selector(selector: Option<&Selector>) -> Result<LabelSelector, Status> {
    let tree = selector.map(Api::to_value);
    // A selector without members is encoded as none at all.
    let tree = tree.map(|t| if t.is_null() { Value::Map(apimachinery::Map::new()) } else { t });
    LabelSelector::from_value(tree.as_ref()).map_err(|error| Status::internal(error.0))
}

/// The wall clock.
pub fn now(cx: &crate::Context) -> Time {
    Time(parse_rfc3339(&(cx.config.now)()).map_or(0, |(seconds, _)| seconds))
}

/// Wakes the owners of pods: of each pod that changes, and of orphans those that may adopt them.
pub fn wake_by_pods(pods: &Pods, owners: &Informer<OwnerView>, kind: &'static str, queue: &Queue<Key>) {
    let (owners, queue, expectations) = (owners.clone(), queue.clone(), pods.expectations.clone());
    pods.informer.on_change(move |change| {
        let of = |pod: &PodView| pod.controller.clone().filter(|o| o.kind == kind);
        let mut woken: Vec<Owner> = Vec::new();
        for pod in [change.old, change.new].into_iter().flatten() {
            if let Some(owner) = of(pod)
                && !woken.contains(&owner)
            {
                woken.push(owner);
            }
        }
        for owner in woken {
            let key = Key::new(change.key.namespace.clone(), owner.name.clone());
            expectations.observe(&key, change);
            if owners.by_key(&key).is_some_and(|o| o.uid == owner.uid) {
                queue.add(key);
            }
        }
        if let Some(pod) = change.new.filter(|p| p.controller.is_none() && !p.deleting) {
            let differs = change.old.is_none_or(|old| old.labels != pod.labels || old.controller.is_some());
            if differs {
                let matching = owners.filter(|key, owner| {
                    key.namespace == change.key.namespace
                        && owner.selector.matches(|label| pod.labels.get(label).map(SmolStr::as_str))
                });
                matching.into_iter().for_each(|(key, _)| queue.add(key));
            }
        }
    });
}

/// Wakes the owners themselves when they change.
pub fn wake_by_owners(owners: &Informer<OwnerView>, queue: &Queue<Key>) {
    let queue = queue.clone();
    owners.on_change(move |change| queue.add(change.key.clone()));
}

/// Whether an error says that the namespace is ending: then nothing more can be created in it.
pub fn namespace_ends(status: &Status) -> bool {
    status.details.as_ref().is_some_and(|d| d.causes.iter().any(|c| c.reason == "NamespaceTerminating"))
}
