//! Query parameters and option bodies as the engine's options.

use apimachinery::quote::{is_printable, quoted};
use apimachinery::selector::{FieldSelector, LabelSelector, SelectorError};
use apimachinery::{Errors, GroupKind, Map, Path, SmolStr, Status, Value};
use engine::{
    DeleteOptions, ListOptions, Preconditions, Propagation, ResourceVersionMatch, Validation, WatchOptions,
    WriteOptions,
};
use http::HeaderMap;
use http::header::USER_AGENT;

use crate::request::RequestInfo;

/// A field manager's name may be this long, in bytes.
const MOST_MANAGER: usize = 128;

/// 422 about options of a kind, when there is anything to say.
fn checked(kind: &str, errors: &Errors) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&GroupKind { group: "meta.k8s.io".into(), kind: kind.into() }, "", errors))
}

/// An integer of a query, as upstream's converter reads it: a parameter without a value is no number either.
fn integer(info: &RequestInfo, key: &str) -> Result<Option<i64>, Status> {
    let Some(text) = info.param(key) else { return Ok(None) };
    let why = match text.parse::<i64>() {
        // Rust reads a sign alone, or two, no more than Go does; both read `+5`.
        Ok(number) => return Ok(Some(number)),
        Err(error) => match error.kind() {
            std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => "value out of range",
            _ => "invalid syntax",
        },
    };
    Err(Status::bad_request(format!("strconv.ParseInt: parsing {}: {why}", quoted(text))))
}

fn check_dry_run(errors: &mut Errors, values: &[&str]) {
    if values.iter().any(|value| *value != "All") {
        let all: Vec<Value> = values.iter().map(|value| Value::from(*value)).collect();
        errors.not_supported(&Path::new("dryRun"), Value::List(all), &["All"]);
    }
}

fn check_manager(errors: &mut Errors, name: &str) {
    let path = Path::new("fieldManager");
    if name.len() > MOST_MANAGER {
        errors.too_long(&path, MOST_MANAGER);
    }
    for (at, c) in name.char_indices().filter(|(_, c)| !is_printable(*c)) {
        errors.invalid(&path, name, format!("invalid character U+{:04X} (at position {at})", c as u32));
    }
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

/// CreateOptions and UpdateOptions.
pub fn write(info: &RequestInfo, headers: &HeaderMap, kind: &str) -> Result<WriteOptions, Status> {
    read_write(info, headers, kind, Errors::new())
}

/// PatchOptions: an apply must say who applies, and nothing else can be forced.
pub fn patch(info: &RequestInfo, headers: &HeaderMap, apply: bool) -> Result<WriteOptions, Status> {
    let mut errors = Errors::new();
    if apply && info.param("fieldManager").unwrap_or_default().is_empty() {
        errors.required(&Path::new("fieldManager"), "is required for apply patch");
    }
    if !apply && info.param("force").is_some() {
        errors.forbidden(&Path::new("force"), "may not be specified for non-apply patch");
    }
    read_write(info, headers, "PatchOptions", errors)
}

fn read_write(info: &RequestInfo, headers: &HeaderMap, kind: &str, mut errors: Errors) -> Result<WriteOptions, Status> {
    check_manager(&mut errors, info.param("fieldManager").unwrap_or_default());
    let dry: Vec<&str> = info.query.iter().filter(|(k, _)| k == "dryRun").map(|(_, v)| v.as_str()).collect();
    check_dry_run(&mut errors, &dry);
    let validation = match info.param("fieldValidation").unwrap_or_default() {
        "" | "Warn" => Validation::Warn,
        "Ignore" => Validation::Ignore,
        "Strict" => Validation::Strict,
        other => {
            errors.not_supported(&Path::new("fieldValidation"), other, &["", "Ignore", "Strict", "Warn"]);
            Validation::Warn
        }
    };
    checked(kind, &errors)?;
    let dry_run = !dry.is_empty();
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
    Ok(WriteOptions { field_manager, dry_run, validation, force: info.truth("force"), tree: tree(kind, members) })
}

/// A revision that a client names, or why it is none.
fn version(info: &RequestInfo) -> Result<Option<i64>, Errors> {
    let text = info.param("resourceVersion").unwrap_or_default();
    if text.is_empty() {
        return Ok(None);
    }
    let why = match text.parse::<u64>().map(i64::try_from) {
        Ok(Ok(revision)) if !text.starts_with('+') => return Ok(Some(revision)),
        Ok(Err(_)) => "value out of range",
        Err(error) if *error.kind() == std::num::IntErrorKind::PosOverflow => "value out of range",
        _ => "invalid syntax",
    };
    let mut errors = Errors::new();
    errors.invalid(&Path::new("resourceVersion"), text, format!("strconv.ParseUint: parsing {}: {why}", quoted(text)));
    Err(errors)
}

fn selectors(info: &RequestInfo) -> Result<(LabelSelector, FieldSelector), Status> {
    let bad = |error: SelectorError| Status::bad_request(error.to_string());
    let labels = LabelSelector::parse(info.param("labelSelector").unwrap_or_default()).map_err(bad)?;
    let fields = FieldSelector::parse(info.param("fieldSelector").unwrap_or_default()).map_err(bad)?;
    Ok((labels, fields))
}

/// A revision as lists, watches and gets name it. Upstream's watches and gets answer 500 where it is none.
fn revision(info: &RequestInfo) -> Result<Option<i64>, Status> {
    version(info).map_err(|errors| {
        let all: Vec<String> = errors.iter().map(|error| error.to_string()).collect();
        Status::bad_request(format!("invalid resource version: {}", all.join(", ")))
    })
}

/// GetOptions: what is served is at least as new as any revision.
pub fn get(info: &RequestInfo) -> Result<(), Status> {
    revision(info).map(|_| ())
}

/// PodLogOptions, checked before anyone looks for the pod.
pub fn logs(info: &RequestInfo, pod: &str) -> Result<(), Status> {
    let (tail, limit) = (integer(info, "tailLines")?, integer(info, "limitBytes")?);
    let since = integer(info, "sinceSeconds")?;
    let mut errors = Errors::new();
    if let Some(lines) = tail.filter(|lines| *lines < 0) {
        errors.invalid(&Path::new("tailLines"), lines, "must be greater than or equal to 0");
    }
    if let Some(bytes) = limit.filter(|bytes| *bytes < 1) {
        errors.invalid(&Path::new("limitBytes"), bytes, "must be greater than 0");
    }
    match (since, info.param("sinceTime").filter(|time| !time.is_empty())) {
        (Some(_), Some(_)) => {
            errors.forbidden(&Path::new(""), "at most one of `sinceTime` or `sinceSeconds` may be specified");
        }
        (Some(seconds), None) if seconds < 1 => {
            errors.invalid(&Path::new("sinceSeconds"), seconds, "must be greater than 0");
        }
        _ => {}
    }
    if info.param("stream").is_some() {
        errors.forbidden(&Path::new("stream"), "may not be specified");
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&GroupKind { group: "".into(), kind: "PodLogOptions".into() }, pod, &errors))
}

/// ListOptions of a list or deletecollection.
pub fn list(info: &RequestInfo) -> Result<ListOptions, Status> {
    let limit = integer(info, "limit")?.unwrap_or(0);
    integer(info, "timeoutSeconds")?;
    let (labels, fields) = selectors(info)?;
    let (version_text, continue_token) =
        (info.param("resourceVersion").unwrap_or_default(), info.param("continue").unwrap_or_default());
    let mut errors = Errors::new();
    let path = Path::new("resourceVersionMatch");
    let wanted = info.param("resourceVersionMatch").unwrap_or_default();
    if !wanted.is_empty() {
        if version_text.is_empty() {
            errors.forbidden(&path, "resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if !continue_token.is_empty() {
            errors.forbidden(&path, "resourceVersionMatch is forbidden when continue is provided");
        }
    }
    let version_match = match wanted {
        "" => None,
        "Exact" => {
            if version_text == "0" {
                errors.forbidden(&path, "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
            }
            Some(ResourceVersionMatch::Exact)
        }
        "NotOlderThan" => Some(ResourceVersionMatch::NotOlderThan),
        other => {
            errors.not_supported(&path, other, &["Exact", "NotOlderThan", ""]);
            None
        }
    };
    if info.param("sendInitialEvents").is_some() {
        errors.forbidden(&Path::new("sendInitialEvents"), "sendInitialEvents is forbidden for list");
    }
    checked("ListOptions", &errors)?;
    Ok(ListOptions {
        labels,
        fields,
        resource_version: revision(info)?,
        version_match,
        limit: usize::try_from(limit).unwrap_or(0),
        continue_token: continue_token.into(),
    })
}

/// ListOptions of a watch, and how many seconds it may last.
pub fn watch(info: &RequestInfo) -> Result<(WatchOptions, Option<u64>), Status> {
    integer(info, "limit")?;
    let timeout = integer(info, "timeoutSeconds")?;
    let (labels, fields) = selectors(info)?;
    let mut send_initial_events = info.param("sendInitialEvents").map(|_| info.truth("sendInitialEvents"));
    let mut wanted = info.param("resourceVersionMatch").unwrap_or_default();
    // A watch from any state has always begun with all that there is: now it is told where that ends.
    let from_any = matches!(info.param("resourceVersion").unwrap_or_default(), "" | "0");
    if send_initial_events.is_none() && wanted.is_empty() && from_any {
        send_initial_events = Some(true);
        wanted = "NotOlderThan";
    }
    let path = Path::new("resourceVersionMatch");
    let mut errors = Errors::new();
    if send_initial_events.is_some() && wanted != "NotOlderThan" {
        errors.forbidden(&path, "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
    }
    if !wanted.is_empty() {
        if send_initial_events.is_none() {
            errors.forbidden(&path, "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
        }
        if wanted != "NotOlderThan" {
            errors.not_supported(&path, wanted, &["NotOlderThan"]);
        }
        if !info.param("continue").unwrap_or_default().is_empty() {
            errors.forbidden(&path, "resourceVersionMatch is forbidden when continue is provided");
        }
    }
    checked("ListOptions", &errors)?;
    let options = WatchOptions {
        labels,
        fields,
        resource_version: revision(info)?,
        send_initial_events,
        bookmarks: info.truth("allowWatchBookmarks"),
    };
    Ok((options, timeout.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0)))
}

/// DeleteOptions: those of the body, or those of the query where there is no body.
pub fn delete(info: &RequestInfo, body: Option<&Value>) -> Result<DeleteOptions, Status> {
    let none = RequestInfo::default();
    let info = if body.is_some() { &none } else { info };
    let mut members: Vec<(&'static str, Value)> = Vec::new();
    let empty = Value::Null;
    let from = body.unwrap_or(&empty);
    let grace = match from.get("gracePeriodSeconds").and_then(Value::as_i64) {
        Some(seconds) => Some(seconds),
        None => integer(info, "gracePeriodSeconds")?,
    };
    if let Some(seconds) = grace {
        members.push(("gracePeriodSeconds", seconds.into()));
    }
    let policy = from.str_at(&["propagationPolicy"]).or_else(|| info.param("propagationPolicy"));
    let orphan = from
        .get("orphanDependents")
        .and_then(Value::as_bool)
        .or_else(|| info.param("orphanDependents").map(|_| info.truth("orphanDependents")));
    let mut errors = Errors::new();
    let path = Path::new("propagationPolicy");
    if let (Some(policy), Some(_)) = (policy, orphan) {
        errors.invalid(&path, policy, "orphanDependents and deletionPropagation cannot be both set");
    }
    let propagation = match (policy, orphan) {
        (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
        (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
        (Some("Foreground"), _) => Some(Propagation::Foreground),
        (Some(other), _) => {
            errors.not_supported(&path, other, &["Foreground", "Background", "Orphan", "nil"]);
            None
        }
        (None, None) => None,
    };
    if let Some(policy) = policy {
        members.push(("propagationPolicy", policy.into()));
    }
    let mut dry: Vec<&str> = info.query.iter().filter(|(k, _)| k == "dryRun").map(|(_, v)| v.as_str()).collect();
    dry.extend(from.get("dryRun").and_then(Value::as_list).unwrap_or_default().iter().filter_map(Value::as_str));
    check_dry_run(&mut errors, &dry);
    checked("DeleteOptions", &errors)?;
    let dry_run = !dry.is_empty();
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
