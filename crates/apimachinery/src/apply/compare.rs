//! What changed between two objects, what an object's field set is, and field sets under a changed schema.

use super::set::{PathElement, Set};
use super::typed::{Atom, Shape, Ty, list_element, members, values_equal};
use crate::value::{Map, Value};

/// Field sets of a change.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Comparison {
    pub(crate) removed: Set,
    pub(crate) modified: Set,
    pub(crate) added: Set,
}

impl Comparison {
    /// Without the fields that this kind of write resets.
    pub(crate) fn without(self, fields: &Set) -> Comparison {
        if fields.is_empty() {
            return self;
        }
        Comparison {
            removed: self.removed.recursive_difference(fields),
            modified: self.modified.recursive_difference(fields),
            added: self.added.recursive_difference(fields),
        }
    }
}

/// Compares two objects of one schema.
pub(crate) fn compare(ty: Ty<'_>, old: &Value, new: &Value) -> Comparison {
    let mut walk = Compare::default();
    walk.visit(ty, Some(old), Some(new));
    walk.out
}

#[derive(Default)]
struct Compare {
    path: Vec<PathElement>,
    out: Comparison,
}

impl Compare {
    fn visit(&mut self, ty: Ty<'_>, old: Option<&Value>, new: Option<&Value>) {
        let atom = ty.atom();
        let (of_old, of_new) = (atom.deduce(old), atom.deduce(new));
        let leaf = if new.is_none() {
            self.handle(of_old, old, new)
        } else if old.is_none() || of_old.same_as(&of_new) {
            self.handle(of_new, old, new)
        } else {
            self.handle(of_old, old, new);
            self.handle(of_new, old, new)
        };
        if !leaf {
            match (old, new) {
                (None, _) => self.out.added.insert(&self.path),
                (_, None) => self.out.removed.insert(&self.path),
                _ => {}
            }
        }
    }

    /// Handles a position as what `atom` says; true when it was one value.
    fn handle(&mut self, atom: Atom<'_>, old: Option<&Value>, new: Option<&Value>) -> bool {
        match atom.shape() {
            Shape::Scalar(_) => self.leaf(old, new),
            Shape::List(list) => {
                let (old_items, new_items) = (old.and_then(Value::as_list), new.and_then(Value::as_list));
                let empty = old_items.is_none_or(<[Value]>::is_empty) && new_items.is_none_or(<[Value]>::is_empty);
                if !list.associative || empty {
                    return self.leaf(old, new);
                }
                let group = |items: Option<&[Value]>| {
                    let mut groups: Vec<(PathElement, Vec<usize>)> = Vec::new();
                    let mut places = std::collections::BTreeMap::new();
                    for (i, item) in items.unwrap_or_default().iter().enumerate() {
                        let Ok(element) = list_element(&list, item) else { continue };
                        let at = *places.entry(element.clone()).or_insert_with(|| {
                            groups.push((element, Vec::new()));
                            groups.len() - 1
                        });
                        groups[at].1.push(i);
                    }
                    (groups, places)
                };
                let (old_groups, _) = group(old_items);
                let (mut new_groups, new_places) = group(new_items);
                let old_items = old_items.unwrap_or_default();
                let new_items = new_items.unwrap_or_default();
                for (element, left) in old_groups {
                    let right = new_places.get(&element).map(|i| std::mem::take(&mut new_groups[*i].1));
                    self.elements(list.element, element, &left, right.as_deref().unwrap_or(&[]), old_items, new_items);
                }
                for (element, right) in new_groups.into_iter().filter(|(_, right)| !right.is_empty()) {
                    self.elements(list.element, element, &[], &right, old_items, new_items);
                }
                false
            }
            Shape::Map(map) => {
                let (old_map, new_map) = (members(old), members(new));
                let empty = old_map.is_none_or(Map::is_empty) && new_map.is_none_or(Map::is_empty);
                if map.atomic || empty {
                    return self.leaf(old, new);
                }
                let nothing = Map::new();
                let (old_map, new_map) = (old_map.unwrap_or(&nothing), new_map.unwrap_or(&nothing));
                let added = new_map.iter().filter(|(k, _)| !old_map.contains_key(k)).map(|(k, v)| (k, None, Some(v)));
                let both = old_map.iter().map(|(k, v)| (k, Some(v), new_map.get(k)));
                for (key, old, new) in both.chain(added) {
                    self.path.push(PathElement::Field(key.clone()));
                    self.visit(map.member(key).unwrap_or(Ty::Deduced), old, new);
                    self.path.pop();
                }
                false
            }
        }
    }

    /// Elements of a list with one path; more than one on a side are compared as a whole.
    fn elements(
        &mut self,
        ty: Ty<'_>,
        element: PathElement,
        left: &[usize],
        right: &[usize],
        old: &[Value],
        new: &[Value],
    ) {
        self.path.push(element);
        match (left, right) {
            ([] | [_], [] | [_]) => self.visit(ty, left.first().map(|i| &old[*i]), right.first().map(|i| &new[*i])),
            ([_, _, ..], [_, _, ..]) => {
                let equal =
                    left.len() == right.len() && left.iter().zip(right).all(|(l, r)| values_equal(&old[*l], &new[*r]));
                if !equal {
                    self.out.modified.insert(&self.path);
                }
            }
            ([_, _, ..], _) => {
                if let Some(r) = right.first() {
                    self.visit(ty, None, Some(&new[*r]));
                }
                self.out.removed.insert(&self.path);
            }
            (_, _) => {
                if let Some(l) = left.first() {
                    self.visit(ty, Some(&old[*l]), None);
                }
                self.out.added.insert(&self.path);
            }
        }
        self.path.pop();
    }

    fn leaf(&mut self, old: Option<&Value>, new: Option<&Value>) -> bool {
        match (old, new) {
            (None, _) => self.out.added.insert(&self.path),
            (_, None) => self.out.removed.insert(&self.path),
            (Some(old), Some(new)) if !values_equal(old, new) => self.out.modified.insert(&self.path),
            _ => {}
        }
        true
    }
}

/// The set of fields that an object has.
pub(crate) fn field_set(ty: Ty<'_>, value: &Value) -> Set {
    let mut set = Set::new();
    collect(ty, value, &mut Vec::new(), &mut set);
    set
}

fn collect(ty: Ty<'_>, value: &Value, path: &mut Vec<PathElement>, set: &mut Set) {
    match ty.atom().deduce(Some(value)).shape() {
        Shape::Scalar(_) => set.insert(path),
        Shape::List(list) if !list.associative => set.insert(path),
        Shape::List(list) => {
            let items: Vec<(PathElement, &Value)> = value
                .as_list()
                .unwrap_or_default()
                .iter()
                .filter_map(|item| Some((list_element(&list, item).ok()?, item)))
                .collect();
            let mut count = std::collections::BTreeMap::new();
            for (element, _) in &items {
                *count.entry(element.clone()).or_insert(0) += 1;
            }
            for (element, item) in items {
                let duplicate = count.get(&element).is_some_and(|n| *n > 1);
                path.push(element);
                if !duplicate {
                    collect(list.element, item, path, set);
                }
                set.insert(path);
                path.pop();
            }
        }
        Shape::Map(map) if map.atomic => set.insert(path),
        Shape::Map(map) => {
            for (key, item) in members(Some(value)).into_iter().flat_map(Map::iter) {
                path.push(PathElement::Field(key.clone()));
                collect(map.member(key).unwrap_or(Ty::Deduced), item, path, set);
                let empty = item.is_null() || item.as_map().is_some_and(Map::is_empty);
                if empty || map.field(key).is_none() {
                    set.insert(path);
                }
                path.pop();
            }
        }
    }
}

impl Set {
    /// Makes members of declared fields that only lead to members.
    pub(crate) fn with_named_fields(&self, ty: Option<Ty<'_>>) -> Set {
        let atom = ty.map(Ty::atom).unwrap_or_default();
        let mut out = self.clone();
        for (element, entry) in &mut out.entries {
            if entry.children.is_empty() {
                continue;
            }
            let below = match (element, &atom.map, &atom.list) {
                (PathElement::Field(name), Some(map), _) => {
                    entry.member |= map.field(name).is_some();
                    map.member(name)
                }
                (PathElement::Key(_), _, Some(list)) => Some(list.element),
                _ => None,
            };
            entry.children = entry.children.with_named_fields(below);
        }
        out
    }

    /// Follows a schema in which a granular value has become atomic: its owner owns the whole.
    pub(crate) fn reconciled(&self, ty: Ty<'_>) -> Set {
        let mut out = Set::new();
        let atom = ty.atom();
        for (element, entry) in &self.entries {
            let below = match (element, &atom.map, &atom.list) {
                (PathElement::Field(name), Some(map), _) => map.member(name),
                (PathElement::Field(_), None, _) => None,
                (_, _, Some(list)) => Some(list.element),
                _ => None,
            };
            let mut entry = entry.clone();
            if let (Some(below), false) = (below, entry.children.is_empty()) {
                let atomic = match below.atom().shape() {
                    Shape::List(list) => !list.associative,
                    Shape::Map(map) if map.is_deduced() => false,
                    Shape::Map(map) => map.atomic,
                    Shape::Scalar(_) => false,
                };
                if atomic {
                    entry.member = true;
                    entry.children = Set::new();
                } else if !matches!(below, Ty::Deduced) {
                    entry.children = entry.children.reconciled(below);
                }
            }
            out.entries.insert(element.clone(), entry);
        }
        out
    }
}
