//! What is known of owners and dependents, and what follows from it. No I/O.

use std::collections::{HashMap, HashSet};

use apimachinery::{GroupVersionResource, SmolStr, Value};
use client::Key;

pub const FOREGROUND: &str = "foregroundDeletion";
pub const ORPHAN: &str = "orphan";

/// One owner reference.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Owner {
    pub api_version: SmolStr,
    pub kind: SmolStr,
    pub name: SmolStr,
    pub uid: SmolStr,
    /// The owner may not go in the foreground as long as this dependent is there.
    pub blocks: bool,
    /// As it stands in the object.
    pub tree: Value,
}

/// What is kept of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    pub resource: GroupVersionResource,
    pub key: Key,
    pub uid: SmolStr,
    pub revision: SmolStr,
    pub deleting: bool,
    pub finalizers: Vec<SmolStr>,
    pub owners: Vec<Owner>,
}

impl Default for Object {
    fn default() -> Self {
        Object {
            resource: GroupVersionResource::new("", "", ""),
            key: Key::new("", ""),
            uid: SmolStr::default(),
            revision: SmolStr::default(),
            deleting: false,
            finalizers: Vec::new(),
            owners: Vec::new(),
        }
    }
}

impl Object {
    pub fn read(resource: &GroupVersionResource, tree: &Value) -> Object {
        let text = |value: &Value, path: &[&str]| SmolStr::from(value.str_at(path).unwrap_or_default());
        let list = |key| tree.at(&["metadata", key]).and_then(Value::as_list).unwrap_or_default();
        Object {
            resource: resource.clone(),
            key: Key::of(tree),
            uid: text(tree, &["metadata", "uid"]),
            revision: text(tree, &["metadata", "resourceVersion"]),
            deleting: tree.at(&["metadata", "deletionTimestamp"]).is_some(),
            finalizers: list("finalizers").iter().filter_map(|f| f.as_str().map(SmolStr::from)).collect(),
            owners: list("ownerReferences")
                .iter()
                .map(|owner| Owner {
                    api_version: text(owner, &["apiVersion"]),
                    kind: text(owner, &["kind"]),
                    name: text(owner, &["name"]),
                    uid: text(owner, &["uid"]),
                    blocks: owner.get("blockOwnerDeletion").and_then(Value::as_bool) == Some(true),
                    tree: owner.clone(),
                })
                .collect(),
        }
    }

    /// Whether it is being deleted and a finalizer of ours holds it.
    pub fn is_ending_with(&self, finalizer: &str) -> bool {
        self.deleting && self.finalizers.iter().any(|f| f == finalizer)
    }
}

/// Whether an owner is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerState {
    Present,
    /// It is being deleted in the foreground: its dependents go first.
    Waiting,
    Gone,
}

/// Everything that was seen, by uid.
#[derive(Default)]
pub struct Graph {
    objects: HashMap<SmolStr, Object>,
    /// The dependents of each owner, whether the owner was seen or not.
    dependents: HashMap<SmolStr, HashSet<SmolStr>>,
}

impl Graph {
    /// Takes a change in; answers with what is to be looked at.
    pub fn take(&mut self, old: Option<&Object>, new: Option<&Object>) -> Vec<SmolStr> {
        let mut look = Vec::new();
        // Another object of the same name.
        if let (Some(old), Some(new)) = (old, new)
            && old.uid != new.uid
        {
            look.extend(self.take(Some(old), None));
            look.extend(self.take(None, Some(new)));
            return look;
        }
        match (old, new) {
            (old, Some(new)) => {
                for owner in old.map(|o| o.owners.as_slice()).unwrap_or_default() {
                    if !new.owners.iter().any(|o| o.uid == owner.uid) {
                        self.forget_dependent(&owner.uid, &new.uid);
                        // It may have waited for this dependent alone.
                        look.push(owner.uid.clone());
                    }
                }
                for owner in &new.owners {
                    self.dependents.entry(owner.uid.clone()).or_default().insert(new.uid.clone());
                }
                let new_owners = old.is_none_or(|old| old.owners != new.owners);
                let unknown = new
                    .owners
                    .iter()
                    .any(|o| self.objects.get(&o.uid).is_none_or(|owner| owner.is_ending_with(FOREGROUND)));
                if (new_owners && unknown) || new.is_ending_with(FOREGROUND) || new.is_ending_with(ORPHAN) {
                    look.push(new.uid.clone());
                }
                self.objects.insert(new.uid.clone(), new.clone());
            }
            (Some(old), None) => {
                self.objects.remove(&old.uid);
                for owner in &old.owners {
                    self.forget_dependent(&owner.uid, &old.uid);
                    if self.objects.get(&owner.uid).is_some_and(|o| o.is_ending_with(FOREGROUND)) {
                        look.push(owner.uid.clone());
                    }
                }
                look.extend(self.dependents.get(&old.uid).into_iter().flatten().cloned());
            }
            (None, None) => {}
        }
        look
    }

    fn forget_dependent(&mut self, owner: &SmolStr, dependent: &SmolStr) {
        if let Some(all) = self.dependents.get_mut(owner) {
            all.remove(dependent);
            if all.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    pub fn object(&self, uid: &SmolStr) -> Option<Object> {
        self.objects.get(uid).cloned()
    }

    pub fn dependents(&self, uid: &SmolStr) -> Vec<Object> {
        let all = self.dependents.get(uid).into_iter().flatten();
        all.filter_map(|dependent| self.objects.get(dependent).cloned()).collect()
    }

    /// All that are being deleted in the foreground and cannot go before this one has gone: its owners that it blocks,
    /// the owners that these block, and so on. A dependent among them closes a circle, in which all would wait for ever.
    pub fn waiting_for(&self, uid: &SmolStr) -> HashSet<SmolStr> {
        let mut waiting = HashSet::new();
        let mut next = vec![uid];
        while let Some(object) = next.pop().and_then(|uid| self.objects.get(uid)) {
            for owner in object.owners.iter().filter(|owner| owner.blocks) {
                let ends = self.objects.get(&owner.uid).is_some_and(|o| o.is_ending_with(FOREGROUND));
                if ends && waiting.insert(owner.uid.clone()) {
                    next.push(&owner.uid);
                }
            }
        }
        waiting
    }
}

/// What is to be done about an object.
#[derive(Debug, PartialEq)]
pub enum Decision {
    Nothing,
    /// Its deletion waits for these dependents, which are to be looked at.
    WaitFor(Vec<SmolStr>),
    /// Nothing holds it any more: the finalizer goes.
    Finish(&'static str),
    /// Its dependents are let go, then it.
    Orphan(Vec<Object>),
    /// These owners are gone; others hold it.
    DropOwners(Vec<SmolStr>),
    /// Nobody holds it: it is deleted, with this propagation.
    Delete(&'static str),
}

/// Decides about one object. `owners` goes with `object.owners`; `waiting` is who waits for the object.
pub fn decide(object: &Object, owners: &[OwnerState], dependents: &[Object], waiting: &HashSet<SmolStr>) -> Decision {
    if object.is_ending_with(ORPHAN) {
        return Decision::Orphan(dependents.to_vec());
    }
    if object.is_ending_with(FOREGROUND) {
        let blocking: Vec<SmolStr> = dependents
            .iter()
            .filter(|d| !waiting.contains(&d.uid))
            .filter(|d| d.owners.iter().any(|o| o.uid == object.uid && o.blocks))
            .map(|d| d.uid.clone())
            .collect();
        if blocking.is_empty() {
            return Decision::Finish(FOREGROUND);
        }
        // All of them go, not only those that block.
        return Decision::WaitFor(dependents.iter().map(|d| d.uid.clone()).collect());
    }
    if object.deleting || object.owners.is_empty() {
        return Decision::Nothing;
    }
    let of = |state: OwnerState| -> Vec<SmolStr> {
        let pairs = object.owners.iter().zip(owners);
        pairs.filter(|(_, s)| **s == state).map(|(o, _)| o.uid.clone()).collect()
    };
    let (present, ending, gone) = (of(OwnerState::Present), of(OwnerState::Waiting), of(OwnerState::Gone));
    if !present.is_empty() {
        let away: Vec<SmolStr> = ending.into_iter().chain(gone).collect();
        return if away.is_empty() { Decision::Nothing } else { Decision::DropOwners(away) };
    }
    if !ending.is_empty() && !dependents.is_empty() {
        return Decision::Delete("Foreground");
    }
    let holds = |finalizer: &str| object.finalizers.iter().any(|f| f == finalizer);
    Decision::Delete(if holds(ORPHAN) {
        "Orphan"
    } else if holds(FOREGROUND) {
        "Foreground"
    } else {
        "Background"
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use OwnerState::{Gone, Present, Waiting};

    fn object(uid: &str, owners: &[&str]) -> Object {
        let owner = |uid: &&str| Owner { uid: SmolStr::from(*uid), blocks: true, ..Owner::default() };
        Object { uid: uid.into(), owners: owners.iter().map(owner).collect(), ..Object::default() }
    }

    fn ending(mut object: Object, finalizer: &str) -> Object {
        object.deleting = true;
        object.finalizers = vec![finalizer.into()];
        object
    }

    #[test]
    fn decisions() {
        let decided =
            |o: &Object, owners: &[OwnerState], dependents: &[Object]| decide(o, owners, dependents, &HashSet::new());
        let two = object("c", &["a", "b"]);
        assert_eq!(decided(&two, &[Present, Present], &[]), Decision::Nothing);
        assert_eq!(decided(&two, &[Present, Gone], &[]), Decision::DropOwners(vec!["b".into()]));
        assert_eq!(decided(&two, &[Gone, Gone], &[]), Decision::Delete("Background"));
        assert_eq!(decided(&two, &[Waiting, Gone], &[]), Decision::Delete("Background"));
        assert_eq!(decided(&two, &[Waiting, Gone], &[object("d", &["c"])]), Decision::Delete("Foreground"));
        let front = ending(object("a", &[]), FOREGROUND);
        assert_eq!(decided(&front, &[], &[]), Decision::Finish(FOREGROUND));
        assert_eq!(decided(&front, &[], &[object("c", &["a"])]), Decision::WaitFor(vec!["c".into()]));
        let mut free = object("c", &["a"]);
        free.owners[0].blocks = false;
        assert_eq!(decided(&front, &[], &[free]), Decision::Finish(FOREGROUND));
        let let_go = ending(object("a", &[]), ORPHAN);
        assert_eq!(decided(&let_go, &[], std::slice::from_ref(&two)), Decision::Orphan(vec![two]));
    }

    #[test]
    fn a_circle_of_owners_does_not_hold_itself() {
        let mut graph = Graph::default();
        let circle = [object("a", &["c"]), object("b", &["a"]), object("c", &["b"])];
        let decided = |graph: &Graph, object: &Object| {
            let (dependents, waiting) = (graph.dependents(&object.uid), graph.waiting_for(&object.uid));
            decide(object, &[Waiting], &dependents, &waiting)
        };
        let ending = circle.clone().map(|o| ending(o, FOREGROUND));
        circle.iter().for_each(|o| drop(graph.take(None, Some(o))));
        graph.take(Some(&circle[0]), Some(&ending[0]));
        assert_eq!(decided(&graph, &ending[0]), Decision::WaitFor(vec!["b".into()]));
        graph.take(Some(&circle[1]), Some(&ending[1]));
        assert_eq!(decided(&graph, &ending[0]), Decision::WaitFor(vec!["b".into()]));
        // Only with the last one is nobody left who could go first.
        graph.take(Some(&circle[2]), Some(&ending[2]));
        ending.iter().for_each(|o| assert_eq!(decided(&graph, o), Decision::Finish(FOREGROUND)));
        // Who hangs on a circle, but is no part of it, still goes first.
        graph.take(None, Some(&object("d", &["a"])));
        assert!(matches!(decided(&graph, &ending[0]), Decision::WaitFor(all) if all.len() == 2));
    }

    #[test]
    fn changes_say_what_to_look_at() {
        let mut graph = Graph::default();
        let (owner, child) = (object("a", &[]), object("b", &["a"]));
        // A dependent whose owner was not seen yet is looked at.
        assert_eq!(graph.take(None, Some(&child)), ["b"]);
        assert!(graph.take(None, Some(&owner)).is_empty());
        assert_eq!(graph.dependents(&"a".into()).len(), 1);
        let front = ending(owner.clone(), FOREGROUND);
        assert_eq!(graph.take(Some(&owner), Some(&front)), ["a"]);
        assert_eq!(graph.take(Some(&child), None), ["a"]);
        graph.take(None, Some(&child));
        assert_eq!(graph.take(Some(&front), None), ["b"]);
        // Another object of the same name.
        let other = object("c", &[]);
        assert_eq!(graph.take(Some(&child), Some(&other)), Vec::<SmolStr>::new());
        assert!(graph.object(&"b".into()).is_none() && graph.object(&"c".into()).is_some());
    }
}
