//! Server-side apply: who owns which field of an object, and what an applied configuration makes of it.
//!
//! ```text
//! apply:   live ──merge──> merged ──prune what the applier gave up──> new ──compare with live──> conflicts, owners
//! update:  live ──compare──> new                                          ──────────────────────> owners
//! ```
//!
//! Both are pure: the caller gives the clock, and writes the result. Where nothing is declared about a value its type
//! is deduced, maps granular and lists atomic, so custom resources that keep unknown fields take the same way.

mod compare;
mod managed;
mod merge;
mod set;
mod typed;

use smol_str::SmolStr;

pub use managed::Manager;
pub use set::{PathElement, Set, path_text};

use crate::json_text;
use crate::schema::Struct;
use crate::status::{Cause, Details, Status};
use crate::value::{Map, Value};
use compare::{compare, field_set};
use managed::{Managers, Owned};
use typed::Ty;

/// `kubectl apply` without `--server-side` keeps its last configuration here.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// All annotations together may have this many bytes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Who writes, as what, when, and to what kind of object.
#[derive(Clone, Copy, Debug)]
pub struct ManagerCx<'a> {
    /// The field manager; empty becomes `unknown`.
    pub manager: &'a str,
    /// Empty for a write to the object itself.
    pub subresource: &'a str,
    /// `v1`, `apps/v1`.
    pub api_version: &'a str,
    /// For messages.
    pub kind: &'a str,
    /// RFC 3339 in UTC, to the second.
    pub now: &'a str,
    pub schema: &'a Struct,
    /// Fields that this kind of write resets, and so never owns: `status` for the object, `spec` for its status.
    pub reset_fields: &'a Set,
    /// The versions of the kind; managers of other versions are dropped. Empty when all are known.
    pub versions: &'a [&'a str],
}

/// One field that another manager owns with another value.
#[derive(Clone, Debug, PartialEq)]
pub struct Conflict {
    pub manager: Manager,
    pub path: Vec<PathElement>,
}

/// Why an apply was refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// Others own fields that it changes: 409, unless forced.
    #[error("{}", conflict_message(.0))]
    Conflicts(Vec<Conflict>),
    /// 400.
    #[error("{0}")]
    BadRequest(String),
    /// The configuration does not fit the schema; upstream answers 500.
    #[error("{0}")]
    Mistyped(String),
}

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        let message = error.to_string();
        match error {
            Error::Conflicts(conflicts) => {
                let causes = conflicts
                    .iter()
                    .map(|c| Cause {
                        reason: "FieldManagerConflict".into(),
                        message: format!("conflict with {}", c.manager.describe()),
                        field: path_text(&c.path),
                    })
                    .collect();
                let mut status = Status::new(409, "Conflict", message);
                status.details = Some(Box::new(Details { causes, ..Details::default() }));
                status
            }
            Error::BadRequest(_) => Status::bad_request(message),
            Error::Mistyped(_) => Status::new(500, "", message),
        }
    }
}

fn conflict_message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        let path = path_text(&one.path);
        return format!("Apply failed with 1 conflict: conflict with {}: {path}", one.manager.describe());
    }
    let mut lines = Vec::new();
    let mut last = None;
    for conflict in conflicts {
        if last != Some(&conflict.manager) {
            lines.push(format!("conflicts with {}:", conflict.manager.describe()));
            last = Some(&conflict.manager);
        }
        lines.push(format!("- {}", path_text(&conflict.path)));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

/// Brings `managedFields` of an object up to date that was created, updated or patched (not applied).
///
/// `live` is the object as stored, `None` for a create. The client may give managed fields of its own, or reset
/// them with `[]` or `[{}]`, but not through a subresource.
pub fn update(live: Option<&Value>, new: &mut Value, cx: &ManagerCx<'_>) {
    let live_managers = || managed::decode(live.and_then(managed_fields)).unwrap_or_default();
    let managers = if !cx.subresource.is_empty() {
        live_managers()
    } else if is_reset(managed_fields(new)) {
        Managers::new()
    } else {
        match managed::decode(managed_fields(new)) {
            Ok(managers) if !managers.is_empty() => managers,
            _ => live_managers(),
        }
    };
    set_managed_fields(new, None);
    let empty = empty_object(cx);
    let live = live.unwrap_or(&empty);
    // An object whose fields nobody manages stays so until it is applied to.
    let tracked = !managers.is_empty() || live.str_at(&["metadata", "uid"]).unwrap_or_default().is_empty();
    let managers = if tracked { update_managers(live, new, managers, cx, cx.manager) } else { managers };
    set_managed_fields(new, managed::encode(&managers));
}

/// Applies a configuration: the object as it becomes, with `managedFields`.
///
/// `live` is the object as stored, `None` when the apply creates it. The result has defaults only where `live` had.
pub fn apply(live: Option<&Value>, config: Value, cx: &ManagerCx<'_>, force: bool) -> Result<Value, Error> {
    let managers = managed::decode(live.and_then(managed_fields))
        .map_err(|e| Error::Mistyped(format!("failed to decode managed fields: {e}")))?;
    let version = config.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if version != cx.api_version {
        return Err(Error::BadRequest(format!(
            "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {}",
            cx.api_version
        )));
    }
    if managed_fields(&config).is_some() {
        return Err(Error::BadRequest("metadata.managedFields must be nil".into()));
    }
    check_type(&config, cx)?;
    let mut live = live.cloned().unwrap_or_else(|| empty_object(cx));
    set_managed_fields(&mut live, None);

    let (mut object, managers) = match apply_tracked(&live, &config, managers.clone(), cx, force) {
        // An object that kubectl applied from the client may be taken over by kubectl where it says what was applied.
        Err(Error::Conflicts(conflicts)) if cx.manager == "kubectl" => {
            let Some(allowed) = allowed_by_last_applied(&live, cx) else { return Err(Error::Conflicts(conflicts)) };
            let rest: Vec<Conflict> = conflicts.into_iter().filter(|c| !allowed.has(&c.path)).collect();
            if !rest.is_empty() {
                return Err(Error::Conflicts(rest));
            }
            apply_tracked(&live, &config, managers, cx, true)?
        }
        other => other?,
    };
    if cx.manager == "kubectl" {
        renew_last_applied(&mut object, &config);
    }
    set_managed_fields(&mut object, managed::encode(&managers));
    Ok(object)
}

/// Merges a configuration into an object without regard to who owns what; lists, maps and structs that are replaced as
/// a whole must not be in it.
///
/// # Errors
/// What is wrong with the configuration.
pub fn merge_unowned(live: &Value, config: &Value, schema: &Struct) -> Result<Value, String> {
    let ty = Ty::Root(schema);
    let mut faults = Vec::new();
    typed::validate(ty, config, "", &mut faults);
    if !faults.is_empty() {
        return Err(format!("failed to convert patch object to typed object: {}", faults.join("; ")));
    }
    let mut atomics = Vec::new();
    typed::atomics(ty, config, "", &mut atomics);
    if !atomics.is_empty() {
        let all = atomics.join(", ");
        return Err(format!("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {all}"));
    }
    Ok(merge::merge(ty, live, config))
}

/// Keeps the old `managedFields` when nothing but their times differs, so that a write without effect is none.
pub fn ignore_new_times(old: &Value, new: &mut Value) {
    let (Some(before), Some(after)) = (managed_fields(old), managed_fields(new)) else { return };
    let timeless = |list: &Value| -> Vec<Map> {
        let entries = list.as_list().unwrap_or_default().iter().filter_map(Value::as_map);
        entries
            .map(|entry| {
                let mut entry = entry.clone();
                entry.remove("time");
                entry
            })
            .collect()
    };
    let (before_entries, after_entries) = (timeless(before), timeless(after));
    let same = before_entries.len() == after_entries.len() && before_entries.iter().all(|e| after_entries.contains(e));
    if same {
        let before = before.clone();
        let mut bare_old = old.clone();
        set_managed_fields(&mut bare_old, None);
        let after = set_managed_fields(new, None);
        let unchanged = bare_old == *new;
        set_managed_fields(new, if unchanged { Some(before) } else { after });
    }
}

fn managed_fields(object: &Value) -> Option<&Value> {
    object.at(&["metadata", "managedFields"]).filter(|v| !v.is_null())
}

/// Sets or removes `metadata.managedFields` and returns what was there.
fn set_managed_fields(object: &mut Value, fields: Option<Value>) -> Option<Value> {
    let map = object.as_map_mut()?;
    // Pruning leaves null where all members of a map went.
    if let Some(metadata) = map.get_mut("metadata").filter(|m| m.is_null()) {
        *metadata = Value::Map(Map::new());
    }
    match fields {
        Some(fields) => {
            map.get_or_insert_with("metadata", || Value::Map(Map::new())).as_map_mut()?.insert("managedFields", fields)
        }
        None => map.get_mut("metadata")?.as_map_mut()?.remove("managedFields"),
    }
}

/// `[]` and `[{}]` ask to forget all managers.
fn is_reset(fields: Option<&Value>) -> bool {
    match fields.and_then(Value::as_list) {
        Some([]) => true,
        Some([Value::Map(entry)]) => entry.iter().all(|(_, v)| v.is_null() || v.as_str() == Some("")),
        _ => false,
    }
}

fn empty_object(cx: &ManagerCx<'_>) -> Value {
    let mut map = Map::new();
    map.insert("apiVersion", cx.api_version);
    map.insert("kind", cx.kind);
    Value::Map(map)
}

/// Fields that no manager owns.
fn unowned() -> Set {
    let metadata = |field| vec!["metadata", field];
    let mut paths = vec![vec!["apiVersion"], vec!["kind"], vec!["metadata"]];
    paths.extend(
        [
            "name",
            "namespace",
            "creationTimestamp",
            "selfLink",
            "uid",
            "clusterName",
            "generation",
            "managedFields",
            "resourceVersion",
        ]
        .map(metadata),
    );
    Set::of_fields(&paths.iter().map(Vec::as_slice).collect::<Vec<_>>())
}

/// The managers after an update by one of them.
fn update_managers(live: &Value, new: &Value, managers: Managers, cx: &ManagerCx<'_>, name: &str) -> Managers {
    let ty = Ty::Root(cx.schema);
    let mut managers = reconcile(managers, cx);
    let change = compare(ty, live, new).without(cx.reset_fields);
    let touched = change.modified.union(&change.added);
    for owned in managers.values_mut() {
        owned.set = owned.set.difference(&touched).difference(&change.removed);
    }
    managers.retain(|_, owned| !owned.set.is_empty());
    let own = touched.recursive_difference(cx.reset_fields).difference(&unowned());
    if !own.is_empty() {
        let manager = Manager {
            name: if name.is_empty() { "unknown".into() } else { name.into() },
            operation: "Update".into(),
            api_version: cx.api_version.into(),
            subresource: cx.subresource.into(),
        };
        let set = managers.get(&manager).map(|owned| owned.set.union(&own)).unwrap_or(own);
        let owned = Owned { set, api_version: cx.api_version.into(), time: Some(cx.now.into()) };
        managers.insert(manager, owned);
    }
    managed::cap(&mut managers);
    managers
}

/// Drops managers of versions that are gone and follows changes of the schema.
fn reconcile(mut managers: Managers, cx: &ManagerCx<'_>) -> Managers {
    managers.retain(|_, o| cx.versions.is_empty() || cx.versions.contains(&o.api_version.as_str()));
    for owned in managers.values_mut() {
        owned.set = owned.set.reconciled(Ty::Root(cx.schema));
    }
    managers
}

/// Applies to an object without `managedFields` of its own: the object and its managers.
fn apply_tracked(
    live: &Value,
    config: &Value,
    mut managers: Managers,
    cx: &ManagerCx<'_>,
    force: bool,
) -> Result<(Value, Managers), Error> {
    let ty = Ty::Root(cx.schema);
    if managers.is_empty() {
        managers = update_managers(&empty_object(cx), live, managers, cx, "before-first-apply");
    }
    let mut managers = reconcile(managers, cx);
    let manager = Manager {
        name: if cx.manager.is_empty() { "unknown".into() } else { cx.manager.into() },
        operation: "Apply".into(),
        api_version: SmolStr::default(),
        subresource: cx.subresource.into(),
    };
    let before = managers.get(&manager).cloned();
    let set = field_set(ty, config).recursive_difference(cx.reset_fields);
    let time = before.as_ref().and_then(|b| b.time.clone());
    managers.insert(manager.clone(), Owned { set, api_version: cx.api_version.into(), time });

    let merged = merge::merge(ty, live, config);
    let mut object = match before {
        Some(before) if !before.set.is_empty() => prune(ty, &merged, &managers, &before.set),
        _ => merged,
    };
    if !object.is_map() {
        object = Value::Map(Map::new());
    }

    let change = compare(ty, live, &object).without(cx.reset_fields);
    let touched = change.modified.union(&change.added);
    let mut conflicts = Vec::new();
    for (other, owned) in managers.iter_mut().filter(|(m, _)| **m != manager) {
        let lost = owned.set.intersection(&touched);
        conflicts.extend(lost.paths().into_iter().map(|path| Conflict { manager: other.clone(), path }));
        owned.set = owned.set.difference(&lost).difference(&change.removed);
    }
    if !force && !conflicts.is_empty() {
        return Err(Error::Conflicts(conflicts));
    }
    if let Some(owned) = managers.get_mut(&manager) {
        owned.set = owned.set.difference(&unowned());
        if !typed::values_equal(live, &object) {
            owned.time = Some(cx.now.into());
        }
    }
    managers.retain(|_, owned| !owned.set.is_empty());
    Ok((object, managers))
}

/// Removes what the applier owned before, no longer lists, and nobody else owns.
fn prune(ty: Ty<'_>, merged: &Value, managers: &Managers, before: &Set) -> Value {
    let before = before.with_named_fields(Some(ty));
    let pruned = merge::remove_items(ty, merged, &before);
    let merged_set = field_set(ty, merged).with_named_fields(Some(ty));

    // Back comes what somebody owns, the applier's new configuration included.
    let owned = managers.values().fold(Set::new(), |all, o| all.union(&o.set)).with_named_fields(Some(ty));
    let pruned_set = field_set(ty, &pruned).with_named_fields(Some(ty));
    let pruned = merge::remove_items(ty, merged, &merged_set.difference(&pruned_set.union(&owned)));

    // Back comes what the applier never owned, such as fields of an element that others only defaulted.
    let pruned_set = field_set(ty, &pruned).with_named_fields(Some(ty));
    merge::remove_items(ty, merged, &merged_set.difference(&pruned_set).intersection(&before))
}

fn check_type(config: &Value, cx: &ManagerCx<'_>) -> Result<(), Error> {
    let mut errors = Vec::new();
    typed::validate(Ty::Root(cx.schema), config, "", &mut errors);
    let why = match errors.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    let name = |key| config.str_at(&["metadata", key]).unwrap_or_default();
    // The core group is an empty word before the slash.
    let slash = if cx.api_version.contains('/') { "" } else { "/" };
    Err(Error::Mistyped(format!(
        "failed to create typed patch object ({}/{}; {slash}{}, Kind={}): {why}",
        name("namespace"),
        name("name"),
        cx.api_version,
        cx.kind
    )))
}

/// The fields that a client-side apply set and nobody has changed since; `None` when there was none.
fn allowed_by_last_applied(live: &Value, cx: &ManagerCx<'_>) -> Option<Set> {
    let text = live.str_at(&["metadata", "annotations", LAST_APPLIED]).filter(|t| !t.is_empty())?;
    let last = json_text::read(text).filter(Value::is_map)?;
    if last.get("apiVersion").and_then(Value::as_str) != Some(cx.api_version) {
        return None;
    }
    let mut errors = Vec::new();
    let ty = Ty::Root(cx.schema);
    typed::validate(ty, &last, "", &mut errors);
    if !errors.is_empty() {
        return None;
    }
    let change = compare(ty, &last, live);
    let set = field_set(ty, &last);
    Some(set.difference(&change.modified).difference(&change.added).difference(&change.removed))
}

/// Writes the configuration into the annotation of an object that has one, so that client-side apply can go on.
fn renew_last_applied(object: &mut Value, config: &Value) {
    if object.str_at(&["metadata", "annotations", LAST_APPLIED]).is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    let annotations = |value: &mut Value| -> Option<Map> {
        let map = value.as_map_mut()?.get_mut("metadata")?.as_map_mut()?.get_mut("annotations")?.as_map_mut()?;
        Some(std::mem::take(map))
    };
    let put = |value: &mut Value, annotations: Map| {
        if let Some(metadata) = value.as_map_mut().and_then(|m| m.get_mut("metadata")).and_then(Value::as_map_mut) {
            metadata.insert("annotations", annotations);
        }
    };
    if let Some(mut kept) = annotations(&mut config) {
        kept.remove(LAST_APPLIED);
        put(&mut config, kept);
    }
    let text = json_text::write(&config) + "\n";
    if let Some(mut kept) = annotations(object) {
        kept.insert(LAST_APPLIED, text);
        let size: usize = kept.iter().map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum();
        if size > MAX_ANNOTATIONS {
            kept.remove(LAST_APPLIED);
        }
        put(object, kept);
    }
}

#[cfg(test)]
mod tests;
