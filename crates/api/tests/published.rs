//! What we publish about our kinds is what upstream publishes: discovery documents and OpenAPI.
//!
//! The reference is the folder `api` of the module `k8s.io/kubernetes`, found through `KUBERNETES_API_DOCS` or Go's
//! module cache. Without it the tests say so and do nothing: set the variable where they must run.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use apimachinery::codec::json;
use apimachinery::discovery;
use apimachinery::openapi;
use apimachinery::schema::{Api, StructRef, Type};
use apimachinery::{Kind, Map, Value};

fn reference() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("KUBERNETES_API_DOCS") {
        return Some(path.into());
    }
    let path = PathBuf::from(std::env::var_os("HOME")?).join("go/pkg/mod/k8s.io/kubernetes@v1.37.2/api");
    if !path.is_dir() {
        println!("skipped: the documents of k8s.io/kubernetes v1.37.2 are not on this machine");
        return None;
    }
    Some(path)
}

fn read(path: PathBuf) -> Value {
    json::parse(&std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))).unwrap()
}

fn by_version(kinds: &[Kind]) -> BTreeMap<(String, String), Vec<&Kind>> {
    let mut out: BTreeMap<(String, String), Vec<&Kind>> = BTreeMap::new();
    for kind in kinds {
        out.entry((kind.group.to_string(), kind.version.to_string())).or_default().push(kind);
    }
    out
}

/// `api__v1`, `apis__apps__v1`.
fn file_name(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api__{version}") } else { format!("apis__{group}__{version}") }
}

/// Differences that are meant, each with its reason.
const ACCEPTED: &[(&str, &str)] = &[
    ("no schema io.k8s.apimachinery.pkg.apis.meta.v1.APIResource", "discovery's own documents are not described"),
    ("no schema io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent", "the deprecated watch paths are not described"),
    ("no schema io.k8s.apimachinery.pkg.runtime.RawExtension", "only WatchEvent refers to it"),
    ("ShardInfo", "lists come in one piece"),
    ("shardInfo", "lists come in one piece"),
    ("JSONSchemaPropsOr", "a schema or something else is any JSON to us"),
    ("JSONSchemaProps/properties/", "a schema or something else is any JSON to us"),
    ("/proxy: only upstream", "HEAD and OPTIONS of proxies are served but not described"),
    ("/{path}: only upstream", "paths below a proxy are served but not described"),
    ("/log/operationId", "a log is a stream to us, and so described as one"),
    ("/log/x-kubernetes-action", "a log is a stream to us, and so described as one"),
    ("caBundle/x-kubernetes-list-type", "bytes are no list"),
    ("PersistentVolumeClaim/properties/apiVersion", "in a template the kind says nothing"),
    ("PersistentVolumeClaim/properties/kind", "in a template the kind says nothing"),
];

/// `GET /apis/<group>/<version>/` is described in the documents of discovery alone.
fn accepted(difference: &str) -> bool {
    let listing = difference.starts_with("get /api") && difference.ends_with("/: only upstream");
    listing || ACCEPTED.iter().any(|(part, _)| difference.contains(part))
}

#[test]
fn discovery_lists_what_upstream_lists() {
    let Some(reference) = reference() else { return };
    let kinds = api::kinds();
    let mut wrong = Vec::new();
    for ((group, version), kinds) in by_version(&kinds) {
        let ours = discovery::resource_list(&group, &version, kinds.iter().copied());
        let theirs = read(reference.join("discovery").join(file_name(&group, &version) + ".json"));
        let entries = |document: &Value| -> BTreeMap<String, Value> {
            let list = document.get("resources").and_then(Value::as_list).unwrap_or_default();
            let entry = |resource: &Value| {
                let mut resource = resource.clone();
                // It says in which version objects are stored, and that may differ where upstream came from a beta.
                if let Some(map) = resource.as_map_mut() {
                    map.remove("storageVersionHash");
                }
                (resource.str_at(&["name"]).unwrap_or_default().to_string(), resource)
            };
            list.iter().map(entry).collect()
        };
        let (ours, theirs) = (entries(&ours), entries(&theirs));
        for name in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
            if ours.get(name) != theirs.get(name) {
                let show = |v: Option<&Value>| {
                    v.map_or("nothing".into(), |v| String::from_utf8(json::encode_free(v).to_vec()).unwrap())
                };
                wrong.push(format!(
                    "{group}/{version} {name}\n  ours     {}\n  upstream {}",
                    show(ours.get(name)),
                    show(theirs.get(name))
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{} resources differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn bodies(group: &str, version: &str, kind: &str) -> Option<StructRef> {
    let ty = match (group, version, kind) {
        ("autoscaling", "v1", "Scale") => api::autoscaling::Scale::TYPE,
        ("policy", "v1", "Eviction") => api::policy::Eviction::TYPE,
        ("authentication.k8s.io", "v1", "TokenRequest") => api::authentication::TokenRequest::TYPE,
        ("", "v1", "Binding") => api::core::Binding::TYPE,
        _ => return None,
    };
    match ty {
        Type::Struct(schema) => Some(schema),
        _ => None,
    }
}

/// A schema without what is ours to word, and without facets that upstream does not publish.
fn comparable(value: &Value) -> Value {
    const IGNORED: &[&str] = &[
        "description",
        "enum",
        "pattern",
        "minimum",
        "maximum",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "uniqueItems",
        // No client reads unions, and a kind's own name is checked with its operations.
        "x-kubernetes-unions",
        "x-kubernetes-group-version-kind",
    ];
    match value {
        Value::Map(map) => {
            let mut out = Map::new();
            for (key, value) in map.iter() {
                if key == "properties" {
                    let fields: Map = value
                        .as_map()
                        .into_iter()
                        .flat_map(Map::iter)
                        .map(|(k, v)| (k.clone(), comparable(v)))
                        .collect();
                    out.insert("properties", fields);
                } else if key == "allOf" {
                    // A wrapped reference is a reference.
                    for (key, value) in
                        value.as_list().into_iter().flatten().filter_map(Value::as_map).flat_map(Map::iter)
                    {
                        out.insert(key.clone(), value.clone());
                    }
                } else if key == "x-kubernetes-map-type" && value.as_str() == Some("granular") {
                    // What a map is unless it says otherwise.
                } else if key == "required" {
                    let mut list = value.as_list().unwrap_or_default().to_vec();
                    list.sort_by_key(|v| v.as_str().map(str::to_string));
                    out.insert("required", list);
                } else if !IGNORED.contains(&key.as_str()) {
                    out.insert(key.clone(), comparable(value));
                }
            }
            Value::Map(out)
        }
        Value::List(list) => Value::List(list.iter().map(comparable).collect()),
        scalar => scalar.clone(),
    }
}

fn differences(path: &str, ours: &Value, theirs: &Value, out: &mut Vec<String>) {
    match (ours, theirs) {
        (Value::Map(a), Value::Map(b)) => {
            for key in a.keys().chain(b.keys()).collect::<BTreeSet<_>>() {
                let path = format!("{path}/{key}");
                match (a.get(key), b.get(key)) {
                    (Some(a), Some(b)) => differences(&path, a, b, out),
                    (Some(a), None) => out.push(format!("{path}: only ours: {a:?}")),
                    (None, Some(b)) => out.push(format!("{path}: only upstream: {b:?}")),
                    (None, None) => {}
                }
            }
        }
        (a, b) if a != b => out.push(format!("{path}: {a:?} instead of {b:?}")),
        _ => {}
    }
}

#[test]
fn openapi_describes_what_upstream_describes() {
    let Some(reference) = reference() else { return };
    let kinds = api::kinds();
    let mut wrong = Vec::new();
    for ((group, version), kinds) in by_version(&kinds) {
        let ours = json::parse(&openapi::v3(kinds.iter().copied(), &bodies)).unwrap();
        let theirs = read(reference.join("openapi-spec/v3").join(file_name(&group, &version) + "_openapi.json"));
        let (a, b) = (ours.at(&["components", "schemas"]).unwrap(), theirs.at(&["components", "schemas"]).unwrap());
        for (name, schema) in b.as_map().unwrap().iter() {
            match a.get(name) {
                Some(ours) => differences(name, &comparable(ours), &comparable(schema), &mut wrong),
                None => wrong.push(format!("{group}/{version}: no schema {name}")),
            }
        }
        let operations = |document: &Value| -> BTreeMap<String, Value> {
            let mut out = BTreeMap::new();
            for (path, item) in document.get("paths").and_then(Value::as_map).into_iter().flat_map(Map::iter) {
                if path.contains("/watch/") {
                    continue;
                }
                for (method, operation) in item.as_map().into_iter().flat_map(Map::iter) {
                    if operation.get("operationId").is_some() {
                        let mut kept = Map::new();
                        for key in ["operationId", "x-kubernetes-action", "x-kubernetes-group-version-kind", "tags"] {
                            if let Some(value) = operation.get(key) {
                                kept.insert(key, value.clone());
                            }
                        }
                        out.insert(format!("{method} {path}"), Value::Map(kept));
                    }
                }
            }
            out
        };
        let (ours, theirs) = (operations(&ours), operations(&theirs));
        for name in ours.keys().chain(theirs.keys()).collect::<BTreeSet<_>>() {
            match (ours.get(name), theirs.get(name)) {
                (Some(a), Some(b)) => differences(name, a, b, &mut wrong),
                (Some(_), None) => wrong.push(format!("{name}: only ours")),
                (None, Some(_)) => wrong.push(format!("{name}: only upstream")),
                (None, None) => {}
            }
        }
    }
    wrong.retain(|difference| !accepted(difference));
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}
