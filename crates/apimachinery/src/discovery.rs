//! Discovery documents: which groups, versions and resources there are, in the plain and the aggregated form.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use smol_str::SmolStr;

use crate::kind::{Kind, Storage, Verbs};
use crate::value::{Map, Value};

/// Versions sort by priority: GA before beta before alpha, higher numbers first, everything else by name.
pub fn version_order(a: &str, b: &str) -> std::cmp::Ordering {
    let rank = |version: &str| -> Option<(u8, u64, u64)> {
        let rest = version.strip_prefix('v')?;
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let major = rest[..digits].parse().ok()?;
        let (stage, minor) = match &rest[digits..] {
            "" => (2, 0),
            tail => {
                let (stage, number) =
                    tail.strip_prefix("beta").map(|n| (1, n)).or_else(|| tail.strip_prefix("alpha").map(|n| (0, n)))?;
                (stage, if number.is_empty() { 0 } else { number.parse().ok()? })
            }
        };
        Some((stage, major, minor))
    };
    match (rank(a), rank(b)) {
        (Some(ra), Some(rb)) => rb.cmp(&ra),
        (Some(_), None) => std::cmp::Ordering::Less,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// `GET /api`: the versions of the core group.
pub fn api_versions(server_address: &str) -> Value {
    let mut address = Map::new();
    address.insert("clientCIDR", "0.0.0.0/0");
    address.insert("serverAddress", server_address);
    let mut map = Map::new();
    map.insert("kind", "APIVersions");
    map.insert("versions", vec![Value::from("v1")]);
    map.insert("serverAddressByClientCIDRs", vec![Value::Map(address)]);
    Value::Map(map)
}

/// One group with its versions, preferred first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub name: SmolStr,
    pub versions: Vec<SmolStr>,
}

/// The groups of some kinds in the order of their first kind, versions by priority. The core group is left out.
pub fn groups<'a>(kinds: impl IntoIterator<Item = &'a Kind>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for kind in kinds {
        if kind.group.is_empty() {
            continue;
        }
        let group = match groups.iter_mut().position(|g| g.name == *kind.group) {
            Some(i) => &mut groups[i],
            None => {
                groups.push(Group { name: (&*kind.group).into(), versions: Vec::new() });
                let last = groups.len() - 1;
                &mut groups[last]
            }
        };
        if !group.versions.iter().any(|v| *v == *kind.version) {
            group.versions.push((&*kind.version).into());
        }
    }
    for group in &mut groups {
        group.versions.sort_by(|a, b| version_order(a, b));
    }
    groups
}

/// `GET /apis`.
pub fn group_list(groups: &[Group]) -> Value {
    let mut map = Map::new();
    map.insert("kind", "APIGroupList");
    map.insert("apiVersion", "v1");
    map.insert("groups", groups.iter().map(group_entry).collect::<Vec<_>>());
    Value::Map(map)
}

/// `GET /apis/<group>`.
pub fn group(group: &Group) -> Value {
    let mut value = group_entry(group);
    if let Value::Map(map) = &mut value {
        map.insert("kind", "APIGroup");
        map.insert("apiVersion", "v1");
    }
    value
}

fn group_entry(group: &Group) -> Value {
    let version = |version: &SmolStr| {
        let mut map = Map::new();
        map.insert("groupVersion", format!("{}/{version}", group.name));
        map.insert("version", version.clone());
        Value::Map(map)
    };
    let mut map = Map::new();
    map.insert("name", group.name.clone());
    map.insert("versions", group.versions.iter().map(version).collect::<Vec<_>>());
    if let Some(first) = group.versions.first() {
        map.insert("preferredVersion", version(first));
    }
    Value::Map(map)
}

/// `GET /api/v1` and `GET /apis/<group>/<version>`, of the kinds of one group and version.
pub fn resource_list<'a>(group: &str, version: &str, kinds: impl IntoIterator<Item = &'a Kind>) -> Value {
    let mut resources: Vec<(String, Value)> = Vec::new();
    for kind in kinds {
        let mut map = Map::new();
        map.insert("name", kind.resource.to_string());
        map.insert("singularName", kind.singular.to_string());
        map.insert("namespaced", kind.namespaced);
        map.insert("kind", kind.kind.to_string());
        map.insert("verbs", verb_list(kind.verbs));
        texts(&mut map, "shortNames", &kind.short_names);
        texts(&mut map, "categories", &kind.categories);
        if let Some(hash) = storage_version_hash(kind) {
            map.insert("storageVersionHash", hash);
        }
        resources.push((kind.resource.to_string(), Value::Map(map)));
        for sub in subresources(kind) {
            let name = format!("{}/{}", kind.resource, sub.name);
            let mut map = Map::new();
            map.insert("name", name.as_str());
            map.insert("singularName", "");
            map.insert("namespaced", kind.namespaced);
            if let Some((group, version)) = &sub.group_version {
                map.insert("group", group.clone());
                map.insert("version", version.clone());
            }
            map.insert("kind", sub.kind);
            map.insert("verbs", verb_list(sub.verbs));
            resources.push((name, Value::Map(map)));
        }
    }
    resources.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut map = Map::new();
    map.insert("kind", "APIResourceList");
    if !group.is_empty() {
        map.insert("apiVersion", "v1");
    }
    let group_version = if group.is_empty() { version.to_string() } else { format!("{group}/{version}") };
    map.insert("groupVersion", group_version);
    map.insert("resources", resources.into_iter().map(|(_, v)| v).collect::<Vec<_>>());
    Value::Map(map)
}

/// One version for [`aggregated`]: its kinds, or nothing known when the server behind it does not answer.
#[derive(Debug)]
pub struct AggregatedVersion<'a> {
    pub version: SmolStr,
    pub kinds: Vec<&'a Kind>,
    pub stale: bool,
}

/// One group of `apidiscovery.k8s.io/v2` `APIGroupDiscoveryList`; the core group's name is empty.
pub fn aggregated_group(name: &str, versions: &[AggregatedVersion<'_>]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|version| {
            let mut resources: Vec<&Kind> = version.kinds.clone();
            resources.sort_by(|a, b| a.resource.cmp(&b.resource));
            let mut map = Map::new();
            map.insert("version", version.version.clone());
            map.insert("freshness", if version.stale { "Stale" } else { "Current" });
            if !resources.is_empty() {
                map.insert("resources", resources.into_iter().map(aggregated_resource).collect::<Vec<_>>());
            }
            Value::Map(map)
        })
        .collect();
    let mut metadata = Map::new();
    if !name.is_empty() {
        metadata.insert("name", name);
    }
    metadata.insert("creationTimestamp", Value::Null);
    let mut map = Map::new();
    map.insert("metadata", metadata);
    map.insert("versions", versions);
    Value::Map(map)
}

/// The list of groups from [`aggregated_group`].
pub fn aggregated(groups: Vec<Value>) -> Value {
    let mut map = Map::new();
    map.insert("kind", "APIGroupDiscoveryList");
    map.insert("apiVersion", "apidiscovery.k8s.io/v2");
    map.insert("metadata", Map::new());
    map.insert("items", groups);
    Value::Map(map)
}

fn aggregated_resource(kind: &Kind) -> Value {
    let mut map = Map::new();
    map.insert("resource", kind.resource.to_string());
    map.insert("responseKind", response_kind("", "", &kind.kind));
    map.insert("scope", if kind.namespaced { "Namespaced" } else { "Cluster" });
    map.insert("singularResource", kind.singular.to_string());
    map.insert("verbs", verb_list(kind.verbs));
    texts(&mut map, "shortNames", &kind.short_names);
    texts(&mut map, "categories", &kind.categories);
    let subresources: Vec<Value> = subresources(kind)
        .into_iter()
        .map(|sub| {
            let (group, version) = sub.group_version.unwrap_or_default();
            let mut map = Map::new();
            map.insert("subresource", sub.name);
            map.insert("responseKind", response_kind(&group, &version, &sub.kind));
            map.insert("verbs", verb_list(sub.verbs));
            Value::Map(map)
        })
        .collect();
    if !subresources.is_empty() {
        map.insert("subresources", subresources);
    }
    Value::Map(map)
}

/// An empty group and version mean those of the document.
fn response_kind(group: &str, version: &str, kind: &str) -> Value {
    let mut map = Map::new();
    map.insert("group", group);
    map.insert("version", version);
    map.insert("kind", kind);
    Value::Map(map)
}

struct Sub {
    name: String,
    kind: String,
    /// Where the body is of another group or version.
    group_version: Option<(String, String)>,
    verbs: Verbs,
}

/// All subresources, `status` and `scale` included, by name.
fn subresources(kind: &Kind) -> Vec<Sub> {
    let write = Verbs::GET.with(Verbs::PATCH).with(Verbs::UPDATE);
    let mut out = Vec::new();
    let listed = |name: &str| kind.subresources.iter().any(|s| s.name == name);
    if kind.status && !listed("status") {
        out.push(Sub { name: "status".into(), kind: kind.kind.to_string(), group_version: None, verbs: write });
    }
    if kind.scale.is_some() && !listed("scale") {
        out.push(Sub {
            name: "scale".into(),
            kind: "Scale".into(),
            group_version: Some(("autoscaling".into(), "v1".into())),
            verbs: write,
        });
    }
    for sub in kind.subresources.iter() {
        let (name, group_version) = match &sub.body {
            Some((group, version, name)) => {
                let own = *group == kind.group && *version == kind.version;
                (name.to_string(), (!own).then(|| (group.to_string(), version.to_string())))
            }
            None => (kind.kind.to_string(), None),
        };
        // A stream has no verbs of its own in discovery, but those that open it.
        out.push(Sub { name: sub.name.to_string(), kind: name, group_version, verbs: sub.verbs });
    }
    out.sort_by(|a, b| a.name.cmp(&b.name));
    out
}

fn verb_list(verbs: Verbs) -> Value {
    Value::List(verbs.names().into_iter().map(Value::from).collect())
}

fn texts(map: &mut Map, key: &str, texts: &[crate::schema::Text]) {
    if !texts.is_empty() {
        map.insert(key, texts.iter().map(|t| Value::from(&**t)).collect::<Vec<_>>());
    }
}

/// Tells clients whether two versions are stored the same way; only what is stored has one.
fn storage_version_hash(kind: &Kind) -> Option<String> {
    let Storage::Stored { storage: true, .. } = &kind.storage else { return None };
    let digest = sha256(format!("{}/{}/{}", kind.group, kind.version, kind.kind).as_bytes());
    Some(STANDARD.encode(&digest[..8]))
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_by_maturity_then_number() {
        let mut versions = ["v1alpha1", "v2", "foo", "v1beta2", "v1", "v10", "v2beta1", "v1beta10", "bar"];
        versions.sort_by(|a, b| version_order(a, b));
        assert_eq!(versions, ["v10", "v2", "v1", "v2beta1", "v1beta10", "v1beta2", "v1alpha1", "bar", "foo"]);
    }

    #[test]
    fn the_hash_is_the_one_that_clients_know() {
        let digest = sha256(b"/v1/ConfigMap");
        assert_eq!(STANDARD.encode(&digest[..8]), "qFsyl6wFWjQ=");
    }
}
