//! Query parameters and option bodies as the engine's options.

use apimachinery::selector::{FieldSelector, LabelSelector};
use apimachinery::{Map, SmolStr, Status, Value};
use engine::{
    DeleteOptions, ListOptions, Preconditions, Propagation, ResourceVersionMatch, Validation, WatchOptions,
    WriteOptions,
};
use http::HeaderMap;
use http::header::USER_AGENT;

use crate::request::RequestInfo;

fn invalid(text: impl Into<String>) -> Status {
    Status::bad_request(text)
}

fn dry_run(values: &[&str]) -> Result<bool, Status> {
    for value in values {
        if *value != "All" {
            return Err(Status::new(
                422,
                "Invalid",
                format!("dryRun: Unsupported value: {value:?}: supported values: \"All\""),
            ));
        }
    }
    Ok(!values.is_empty())
}

fn tree(kind: &str, members: Vec<(&'static str, Value)>) -> Value {
    let mut map = Map::new();
    map.insert("apiVersion", "meta.k8s.io/v1");
    map.insert("kind", kind);
    for (key, value) in members {
        map.insert(key, value);
    }
    Value::Map(map)
}

/// The field manager of a request that names none: the start of its user agent, as upstream.
fn manager(info: &RequestInfo, headers: &HeaderMap) -> SmolStr {
    if let Some(name) = info.param("fieldManager").filter(|n| !n.is_empty()) {
        return name.into();
    }
    let agent = headers.get(USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or_default();
    let product = agent.split('/').next().unwrap_or_default();
    if product.is_empty() { "unknown".into() } else { product.chars().take(128).collect::<String>().into() }
}

/// CreateOptions, UpdateOptions and PatchOptions.
pub fn write(info: &RequestInfo, headers: &HeaderMap, kind: &str) -> Result<WriteOptions, Status> {
    let dry: Vec<&str> = info.query.iter().filter(|(k, _)| k == "dryRun").map(|(_, v)| v.as_str()).collect();
    let dry_run = dry_run(&dry)?;
    if let Some(name) = info.param("fieldManager")
        && (name.len() > 128 || name.chars().any(|c| c.is_control()))
    {
        return Err(Status::new(
            422,
            "Invalid",
            "fieldManager: Invalid value: may not be more than 128 bytes and should only contain printable characters",
        ));
    }
    let validation = match info.param("fieldValidation").unwrap_or_default() {
        "" | "Warn" => Validation::Warn,
        "Ignore" => Validation::Ignore,
        "Strict" => Validation::Strict,
        other => {
            return Err(Status::new(
                422,
                "Invalid",
                format!(
                    "fieldValidation: Unsupported value: {other:?}: supported values: \"\", \"Ignore\", \"Strict\", \"Warn\""
                ),
            ));
        }
    };
    let field_manager = manager(info, headers);
    let mut members = Vec::new();
    if dry_run {
        members.push(("dryRun", Value::List(vec!["All".into()])));
    }
    if let Some(name) = info.param("fieldManager") {
        members.push(("fieldManager", name.into()));
    }
    if let Some(name) = info.param("fieldValidation") {
        members.push(("fieldValidation", name.into()));
    }
    Ok(WriteOptions { field_manager, dry_run, validation, force: info.flag("force"), tree: tree(kind, members) })
}

fn version(text: Option<&str>) -> Result<Option<i64>, Status> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => match text.parse::<i64>() {
            Ok(revision) if revision >= 0 => Ok(Some(revision)),
            _ => Err(invalid(format!("Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: invalid syntax"))),
        },
    }
}

fn selectors(info: &RequestInfo) -> Result<(LabelSelector, FieldSelector), Status> {
    let labels = LabelSelector::parse(info.param("labelSelector").unwrap_or_default())
        .map_err(|e| invalid(format!("unable to parse requirement: {e}")))?;
    let fields =
        FieldSelector::parse(info.param("fieldSelector").unwrap_or_default()).map_err(|e| invalid(e.to_string()))?;
    Ok((labels, fields))
}

/// ListOptions of a list or deletecollection.
pub fn list(info: &RequestInfo) -> Result<ListOptions, Status> {
    let (labels, fields) = selectors(info)?;
    let resource_version = version(info.param("resourceVersion"))?;
    let version_match = match info.param("resourceVersionMatch").unwrap_or_default() {
        "" => None,
        "Exact" => Some(ResourceVersionMatch::Exact),
        "NotOlderThan" => Some(ResourceVersionMatch::NotOlderThan),
        other => {
            return Err(Status::new(
                422,
                "Invalid",
                format!(
                    "resourceVersionMatch: Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\", \"\""
                ),
            ));
        }
    };
    if version_match.is_some() && resource_version.is_none() {
        return Err(Status::new(
            422,
            "Invalid",
            "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided",
        ));
    }
    if version_match == Some(ResourceVersionMatch::Exact) && resource_version == Some(0) {
        return Err(Status::new(
            422,
            "Invalid",
            "resourceVersionMatch: Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"",
        ));
    }
    let limit = match info.param("limit") {
        None | Some("") => 0,
        Some(text) => {
            text.parse::<i64>().map_err(|_| invalid(format!("limit: invalid value {text:?}")))?.max(0) as usize
        }
    };
    Ok(ListOptions {
        labels,
        fields,
        resource_version,
        version_match,
        limit,
        continue_token: info.param("continue").unwrap_or_default().into(),
    })
}

/// ListOptions of a watch, and how many seconds it may last.
pub fn watch(info: &RequestInfo) -> Result<(WatchOptions, Option<u64>), Status> {
    let (labels, fields) = selectors(info)?;
    let send_initial_events = match info.param("sendInitialEvents") {
        None | Some("") => None,
        Some(_) => Some(info.flag("sendInitialEvents")),
    };
    let version_match = info.param("resourceVersionMatch").unwrap_or_default();
    if send_initial_events.is_some() && version_match != "NotOlderThan" {
        return Err(Status::new(
            422,
            "Invalid",
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ));
    }
    if send_initial_events.is_none() && !version_match.is_empty() {
        return Err(Status::new(
            422,
            "Invalid",
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ));
    }
    let options = WatchOptions {
        labels,
        fields,
        resource_version: version(info.param("resourceVersion"))?,
        send_initial_events,
        bookmarks: info.flag("allowWatchBookmarks"),
    };
    let timeout = info.param("timeoutSeconds").and_then(|t| t.parse().ok()).filter(|t| *t > 0);
    Ok((options, timeout))
}

/// DeleteOptions from the query and, where there is one, the body.
pub fn delete(info: &RequestInfo, body: Option<&Value>) -> Result<DeleteOptions, Status> {
    let mut members: Vec<(&'static str, Value)> = Vec::new();
    let empty = Value::Null;
    let from = body.unwrap_or(&empty);
    let query = |key: &str| info.param(key).filter(|v| !v.is_empty());

    let grace = match (from.get("gracePeriodSeconds").and_then(Value::as_i64), query("gracePeriodSeconds")) {
        (Some(seconds), _) => Some(seconds),
        (None, Some(text)) => {
            Some(text.parse().map_err(|_| invalid(format!("gracePeriodSeconds: invalid value {text:?}")))?)
        }
        (None, None) => None,
    };
    if let Some(seconds) = grace {
        members.push(("gracePeriodSeconds", seconds.into()));
    }
    let policy = from.str_at(&["propagationPolicy"]).or_else(|| query("propagationPolicy"));
    let orphan = from
        .get("orphanDependents")
        .and_then(Value::as_bool)
        .or_else(|| query("orphanDependents").map(|v| v == "true"));
    let propagation = match (policy, orphan) {
        (Some(_), Some(_)) => {
            return Err(Status::new(
                422,
                "Invalid",
                "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: \"\": orphanDependents and deletionPropagation cannot be both set",
            ));
        }
        (Some("Orphan"), None) | (None, Some(true)) => Some(Propagation::Orphan),
        (Some("Background"), None) | (None, Some(false)) => Some(Propagation::Background),
        (Some("Foreground"), None) => Some(Propagation::Foreground),
        (Some(other), None) => {
            return Err(Status::new(
                422,
                "Invalid",
                format!(
                    "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: {other:?}: supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\""
                ),
            ));
        }
        (None, None) => None,
    };
    if let Some(policy) = policy {
        members.push(("propagationPolicy", policy.into()));
    }
    let mut dry: Vec<&str> = info.query.iter().filter(|(k, _)| k == "dryRun").map(|(_, v)| v.as_str()).collect();
    dry.extend(from.get("dryRun").and_then(Value::as_list).unwrap_or_default().iter().filter_map(Value::as_str));
    let dry_run = dry_run(&dry)?;
    if dry_run {
        members.push(("dryRun", Value::List(vec!["All".into()])));
    }
    let text = |key: &str| from.str_at(&["preconditions", key]).filter(|t| !t.is_empty()).map(SmolStr::new);
    let preconditions = Preconditions { uid: text("uid"), resource_version: text("resourceVersion") };
    if let Some(value) = from.get("preconditions") {
        members.push(("preconditions", value.clone()));
    }
    Ok(DeleteOptions {
        grace_period_seconds: grace,
        preconditions,
        propagation,
        dry_run,
        tree: tree("DeleteOptions", members),
    })
}
