//! Merging an applied configuration into an object, and removing fields from one.

use std::collections::{BTreeMap, BTreeSet};

use super::set::{PathElement, Set};
use super::typed::{Atom, ListAtom, Shape, Ty, list_element, members};
use crate::value::{Map, Value};

/// The object with the configuration merged in; the configuration wins.
pub(crate) fn merge(ty: Ty<'_>, live: &Value, config: &Value) -> Value {
    merge_values(ty, Some(live), Some(config)).unwrap_or_else(|| Value::Map(Map::new()))
}

fn merge_values(ty: Ty<'_>, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    let atom = ty.atom();
    let chosen: Atom<'_> = if config.is_none() { atom.deduce(live) } else { atom.deduce(config) };
    let whole = || config.or(live).cloned();
    match chosen.shape() {
        Shape::Scalar(_) => whole(),
        Shape::List(list) => {
            let (left, right) = (live.and_then(Value::as_list), config.and_then(Value::as_list));
            let empty = left.is_none_or(<[Value]>::is_empty) && right.is_none_or(<[Value]>::is_empty);
            if !list.associative || empty {
                return whole();
            }
            let merged = merge_items(&list, left.unwrap_or_default(), right.unwrap_or_default());
            (!merged.is_empty()).then_some(Value::List(merged))
        }
        Shape::Map(map) => {
            let (left, right) = (members(live), members(config));
            let empty = left.is_none_or(Map::is_empty) && right.is_none_or(Map::is_empty);
            if map.atomic || empty {
                return whole();
            }
            let nothing = Map::new();
            let (left, right) = (left.unwrap_or(&nothing), right.unwrap_or(&nothing));
            let keys: BTreeSet<_> = left.keys().chain(right.keys()).collect();
            let merged: Map = keys
                .into_iter()
                .filter_map(|key| {
                    let ty = map.member(key).unwrap_or(Ty::Deduced);
                    Some((key.clone(), merge_values(ty, left.get(key), right.get(key))?))
                })
                .collect();
            (!merged.is_empty()).then_some(Value::Map(merged))
        }
    }
}

/// Merges keyed lists and sets: shared elements in the configuration's order, the live list's own where they stood.
fn merge_items(list: &ListAtom<'_>, left: &[Value], right: &[Value]) -> Vec<Value> {
    let elements = |items: &[Value]| -> Vec<(usize, PathElement)> {
        items.iter().enumerate().filter_map(|(i, item)| Some((i, list_element(list, item).ok()?))).collect()
    };
    let (left_elements, right_elements) = (elements(left), elements(right));
    // Where an element of the live list is; duplicates are not merged with.
    let mut in_left: BTreeMap<&PathElement, Option<usize>> = BTreeMap::new();
    for (i, element) in &left_elements {
        in_left.entry(element).and_modify(|at| *at = None).or_insert(Some(*i));
    }
    let in_right: BTreeSet<&PathElement> = right_elements.iter().map(|(_, e)| e).collect();
    let mut shared = right_elements.iter().map(|(_, e)| e).filter(|e| in_left.contains_key(e));
    let mut next_shared = shared.next();

    let null = Value::Null;
    let partner = |element: &PathElement| in_left.get(element).map(|at| at.map_or(&null, |i| &left[i]));
    let mut merged: BTreeSet<&PathElement> = BTreeSet::new();
    let mut out = Vec::with_capacity(left.len().max(right.len()));
    let (mut l, mut r) = (0, 0);
    while l < left_elements.len() || r < right_elements.len() {
        if let (Some((_, ours)), Some((i, theirs))) = (left_elements.get(l), right_elements.get(r)) {
            if ours == theirs {
                merged.insert(theirs);
                out.extend(merge_values(list.element, partner(ours), Some(&right[*i])));
                l += 1;
                r += 1;
                next_shared = shared.next();
                continue;
            }
            if in_right.contains(ours) && next_shared.is_some_and(|next| next != ours) {
                // A shared element, but not the one whose turn it is.
                l += 1;
                continue;
            }
        }
        if let Some((i, ours)) = left_elements.get(l) {
            if !in_right.contains(ours) {
                out.extend(merge_values(list.element, Some(&left[*i]), None));
                l += 1;
                continue;
            }
            if merged.contains(ours) {
                l += 1;
            }
        }
        match right_elements.get(r) {
            Some((i, theirs)) => {
                merged.insert(theirs);
                out.extend(merge_values(list.element, partner(theirs), Some(&right[*i])));
                r += 1;
                if next_shared == Some(theirs) {
                    next_shared = shared.next();
                }
            }
            // Only merged elements of the live list are left.
            None => l += 1,
        }
    }
    out
}

/// The object without the fields of a set.
pub(crate) fn remove_items(ty: Ty<'_>, value: &Value, fields: &Set) -> Value {
    match ty.atom().deduce(Some(value)).shape() {
        Shape::Scalar(_) => value.clone(),
        Shape::List(list) => {
            let Some(items) = value.as_list().filter(|_| list.associative) else { return Value::Null };
            let mut kept = Vec::with_capacity(items.len());
            for item in items {
                let entry = list_element(&list, item).ok().and_then(|e| fields.entries.get(&e));
                match entry {
                    None => kept.push(item.clone()),
                    Some(entry) if entry.member => {}
                    Some(entry) => kept.push(remove_items(list.element, item, &entry.children)),
                }
            }
            if kept.is_empty() { Value::Null } else { Value::List(kept) }
        }
        Shape::Map(map) => {
            let Some(items) = members(Some(value)).filter(|_| !map.atomic) else { return Value::Null };
            let kept: Map = items
                .iter()
                .filter_map(|(key, item)| {
                    let kept = match fields.entries.get(&PathElement::Field(key.clone())) {
                        None => item.clone(),
                        Some(entry) if entry.member => return None,
                        Some(entry) => remove_items(map.member(key).unwrap_or(Ty::Deduced), item, &entry.children),
                    };
                    Some((key.clone(), kept))
                })
                .collect();
            if kept.is_empty() { Value::Null } else { Value::Map(kept) }
        }
    }
}
