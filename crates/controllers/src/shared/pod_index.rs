//! Finds pods by the owner that controls them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use apimachinery::SmolStr;
use client::{Informer, Key};
use parking_lot::RwLock;

use super::PodView;

/// A pod as the cache has it.
pub type CachedPod = (Key, Arc<PodView>);

#[derive(Default)]
struct Sets {
    /// By the uid of the controlling owner.
    owned: HashMap<SmolStr, HashSet<Key>>,
    /// Pods without one, by namespace.
    orphans: HashMap<SmolStr, HashSet<Key>>,
}

/// Finds pods by the owner that controls them.
pub struct PodIndex {
    informer: Informer<PodView>,
    sets: Arc<RwLock<Sets>>,
}

impl PodIndex {
    pub fn new(informer: &Informer<PodView>) -> PodIndex {
        let sets: Arc<RwLock<Sets>> = Arc::default();
        let to = sets.clone();
        informer.on_change(move |change| {
            let mut sets = to.write();
            let before = change.old.map(|p| p.controller.as_ref().map(|o| o.uid.clone()));
            let after = change.new.map(|p| p.controller.as_ref().map(|o| o.uid.clone()));
            if before == after {
                return;
            }
            if let Some(owner) = before {
                let (map, name) = sets.of(owner, change.key);
                if let Some(set) = map.get_mut(&name) {
                    set.remove(change.key);
                    if set.is_empty() {
                        map.remove(&name);
                    }
                }
            }
            if let Some(owner) = after {
                let (map, name) = sets.of(owner, change.key);
                map.entry(name).or_default().insert(change.key.clone());
            }
        });
        PodIndex { informer: informer.clone(), sets }
    }

    fn read(&self, keys: Option<&HashSet<Key>>) -> Vec<CachedPod> {
        let keys = keys.into_iter().flatten();
        keys.filter_map(|key| self.informer.by_key(key).map(|pod| (key.clone(), pod))).collect()
    }

    /// The pods that the owner with this uid controls.
    pub fn owned(&self, uid: &str) -> Vec<CachedPod> {
        self.read(self.sets.read().owned.get(uid))
    }

    /// The pods of a namespace that nobody controls.
    pub fn orphans(&self, namespace: &str) -> Vec<CachedPod> {
        self.read(self.sets.read().orphans.get(namespace))
    }
}

impl Sets {
    fn of(&mut self, owner: Option<SmolStr>, key: &Key) -> (&mut HashMap<SmolStr, HashSet<Key>>, SmolStr) {
        match owner {
            Some(uid) => (&mut self.owned, uid),
            None => (&mut self.orphans, key.namespace.clone()),
        }
    }
}
