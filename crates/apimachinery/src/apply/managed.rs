//! `metadata.managedFields`: who owns what, read, capped and written.

use std::collections::BTreeMap;

use smol_str::SmolStr;

use super::set::Set;
use crate::value::{Map, Value};

/// How many managers that update (instead of apply) an object remembers apart.
const MAX_UPDATERS: usize = 10;

/// Stands for the updates of managers beyond that.
const ANCIENT: &str = "ancient-changes";

/// Tells managers apart. An applier is one manager whatever version it applies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    pub name: SmolStr,
    /// `Apply` or `Update`.
    pub operation: SmolStr,
    /// Empty for appliers.
    pub api_version: SmolStr,
    pub subresource: SmolStr,
}

impl Manager {
    /// How conflicts call a manager.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("{:?}", self.name.as_str());
        if !self.subresource.is_empty() {
            text.push_str(&format!(" with subresource {:?}", self.subresource.as_str()));
        }
        if self.operation == "Update" {
            text.push_str(&format!(" using {}", self.api_version));
        }
        text
    }
}

/// What one manager owns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Owned {
    pub(crate) set: Set,
    pub(crate) api_version: SmolStr,
    /// RFC 3339; absent where nobody wrote one.
    pub(crate) time: Option<SmolStr>,
}

/// All managers of an object.
pub(crate) type Managers = BTreeMap<Manager, Owned>;

/// Reads a `managedFields` list; absent is nobody.
pub(crate) fn decode(list: Option<&Value>) -> Result<Managers, String> {
    let mut managers = Managers::new();
    for (i, entry) in list.and_then(Value::as_list).unwrap_or_default().iter().enumerate() {
        let text = |key: &str| SmolStr::from(entry.get(key).and_then(Value::as_str).unwrap_or_default());
        let operation = text("operation");
        if operation != "Apply" && operation != "Update" {
            return Err("operation must be `Apply` or `Update`".into());
        }
        let api_version = text("apiVersion");
        if api_version.is_empty() {
            return Err("apiVersion must not be empty".into());
        }
        match text("fieldsType").as_str() {
            "FieldsV1" => {}
            "" => return Err(format!("missing fieldsType in managed fields entry {i}")),
            other => return Err(format!("invalid fieldsType {other:?} in managed fields entry {i}")),
        }
        let set = match entry.get("fieldsV1").filter(|f| !f.is_null()) {
            Some(fields) => Set::from_value(fields).map_err(|e| format!("error decoding set: {e}"))?,
            None => Set::new(),
        };
        let manager = Manager {
            name: text("manager"),
            api_version: if operation == "Apply" { SmolStr::default() } else { api_version.clone() },
            operation,
            subresource: text("subresource"),
        };
        let time = entry.get("time").and_then(Value::as_str).map(SmolStr::from);
        managers.insert(manager, Owned { set, api_version, time });
    }
    Ok(managers)
}

/// Writes managers in upstream's order; `None` when there are none.
pub(crate) fn encode(managers: &Managers) -> Option<Value> {
    let mut entries: Vec<(&Manager, &Owned)> = managers.iter().collect();
    entries.sort_by(|(a, own_a), (b, own_b)| {
        a.operation
            .cmp(&b.operation)
            .then_with(|| seconds(own_a).cmp(seconds(own_b)))
            .then_with(|| a.name.cmp(&b.name))
            .then_with(|| own_a.api_version.cmp(&own_b.api_version))
            .then_with(|| a.subresource.cmp(&b.subresource))
    });
    let list: Vec<Value> = entries
        .into_iter()
        .map(|(manager, owned)| {
            let mut entry = Map::new();
            entry.insert("apiVersion", owned.api_version.clone());
            entry.insert("fieldsType", "FieldsV1");
            entry.insert("fieldsV1", owned.set.to_value());
            if !manager.name.is_empty() {
                entry.insert("manager", manager.name.clone());
            }
            entry.insert("operation", manager.operation.clone());
            if !manager.subresource.is_empty() {
                entry.insert("subresource", manager.subresource.clone());
            }
            if let Some(time) = &owned.time {
                entry.insert("time", time.clone());
            }
            Value::Map(entry)
        })
        .collect();
    (!list.is_empty()).then_some(Value::List(list))
}

/// RFC 3339 in UTC to the second sorts as text; absence comes first.
fn seconds(owned: &Owned) -> &str {
    owned.time.as_deref().unwrap_or_default()
}

/// Merges the oldest updaters beyond the limit, version by version.
pub(crate) fn cap(managers: &mut Managers) {
    let mut updaters: Vec<Manager> = managers.keys().filter(|m| m.operation == "Update").cloned().collect();
    let mut count = updaters.len();
    if count <= MAX_UPDATERS {
        return;
    }
    updaters.sort_by(|a, b| {
        let time = |m: &Manager| managers.get(m).map(|o| seconds(o).to_string()).unwrap_or_default();
        time(a).cmp(&time(b)).then_with(|| a.cmp(b))
    });
    let mut first_of: BTreeMap<SmolStr, Manager> = BTreeMap::new();
    for manager in updaters {
        if count <= MAX_UPDATERS {
            return;
        }
        let Some(version) = managers.get(&manager).map(|o| o.api_version.clone()) else { continue };
        let Some(first) = first_of.get(&version) else {
            first_of.insert(version, manager);
            continue;
        };
        let bucket = Manager {
            name: ANCIENT.into(),
            operation: "Update".into(),
            api_version: version.clone(),
            subresource: SmolStr::default(),
        };
        if !managers.contains_key(&bucket)
            && let Some(owned) = managers.remove(first)
        {
            managers.insert(bucket.clone(), owned);
        }
        let Some(gone) = managers.remove(&manager) else { continue };
        if let Some(bucket) = managers.get_mut(&bucket) {
            bucket.set = bucket.set.union(&gone.set);
            bucket.time = gone.time;
        }
        count -= 1;
    }
}
