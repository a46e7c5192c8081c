//! The history of a workload's template as ControllerRevisions, which `kubectl rollout` reads.

use std::collections::BTreeMap;

use api::apps::controllerrevision::ControllerRevision;
use api::core::pod::spec::PodTemplateSpec;
use apimachinery::codec::json;
use apimachinery::selector::LabelSelector;
use apimachinery::{Api, Map, ObjectMeta, RawExtension, Status, Type, Value};
use client::{Client, PatchKind, Query};

use super::{Manager, pods, template_hash};

/// The label that carries a revision's hash, on revisions and on pods.
pub const HASH_LABEL: &str = "controller-revision-hash";

/// What a revision keeps: a strategic merge patch that puts this template back.
pub fn data(template: &PodTemplateSpec) -> RawExtension {
    // Clients compare it byte by byte with the template as the API writes it, empty members included.
    let tree = template.to_value();
    let written = match PodTemplateSpec::TYPE {
        Type::Struct(schema) => json::parse(&json::encode(&tree, &schema)).ok(),
        _ => None,
    };
    let mut template = written.unwrap_or(tree);
    if let Value::Map(map) = &mut template {
        map.insert("$patch", "replace");
    }
    let mut spec = Map::new();
    spec.insert("template", template);
    let mut patch = Map::new();
    patch.insert("spec", spec);
    RawExtension(Value::Map(patch))
}

/// The template that a revision keeps.
pub fn template(revision: &ControllerRevision) -> Result<PodTemplateSpec, Status> {
    let mut template = revision.data.0.at(&["spec", "template"]).cloned().unwrap_or(Value::Null);
    if let Value::Map(map) = &mut template {
        map.remove("$patch");
    }
    PodTemplateSpec::from_value(&template).map_err(Status::internal)
}

/// A revision that is not stored yet.
pub fn revision(
    owner: &Manager,
    labels: &BTreeMap<String, String>,
    data: RawExtension,
    number: i64,
    collisions: Option<i32>,
) -> ControllerRevision {
    let hash = template_hash::hash(&data.0, collisions);
    let mut labels = labels.clone();
    labels.insert(HASH_LABEL.into(), hash.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: name(owner, &hash),
            namespace: owner.subject.namespace.to_string(),
            labels,
            owner_references: vec![owner.reference()],
            ..ObjectMeta::default()
        },
        data,
        revision: number,
    }
}

/// Names are at most 253 bytes, and a hash at most 10 with its hyphen 11; upstream leaves 223 for the owner.
fn name(owner: &Manager, hash: &str) -> String {
    let owner = owner.subject.name.as_str();
    format!("{}-{hash}", owner.get(..223).unwrap_or(owner))
}

/// The owner's revisions, oldest first. Orphans that match are adopted.
pub async fn list(
    client: &Client,
    owner: &Manager,
    selector: &LabelSelector,
) -> Result<Vec<ControllerRevision>, Status> {
    let query = Query { label_selector: selector.to_string(), ..Query::default() };
    let all = client.list::<ControllerRevision>(&owner.subject.namespace, query).await?.items;
    let mut owned = Vec::new();
    for revision in all {
        let manager = revision.metadata.owner_references.iter().find(|r| r.controller == Some(true));
        match manager {
            Some(reference) if reference.uid == owner.subject.uid.as_str() => owned.push(revision),
            None if !owner.deleting && revision.metadata.deletion_timestamp.is_none() => {
                let patch = pods::owner_patch(&revision.metadata.uid, owner.reference().to_value());
                let (namespace, name) = (&revision.metadata.namespace, &revision.metadata.name);
                owned.push(client.patch(namespace, name, "", PatchKind::Strategic, patch).await?);
            }
            _ => {}
        }
    }
    sort(&mut owned);
    Ok(owned)
}

/// Oldest first.
pub fn sort(revisions: &mut [ControllerRevision]) {
    revisions.sort_by(|a, b| {
        let key = |r: &ControllerRevision| (r.revision, r.metadata.creation_timestamp);
        key(a).cmp(&key(b)).then_with(|| a.metadata.name.cmp(&b.metadata.name))
    });
}

/// The number after the highest.
pub fn next_number(revisions: &[ControllerRevision]) -> i64 {
    revisions.iter().map(|r| r.revision).max().unwrap_or(0) + 1
}

/// Stores a revision; while another of the same name has other data, counts collisions up and tries the next name.
pub async fn create(
    client: &Client,
    owner: &Manager,
    revision: &ControllerRevision,
    collisions: &mut i32,
) -> Result<ControllerRevision, Status> {
    let mut revision = revision.clone();
    loop {
        let hash = template_hash::hash(&revision.data.0, Some(*collisions));
        revision.metadata.name = name(owner, &hash);
        revision.metadata.labels.insert(HASH_LABEL.into(), hash);
        match client.create(&revision).await {
            Err(status) if status.is_already_exists() => {
                let known: ControllerRevision =
                    client.get(&revision.metadata.namespace, &revision.metadata.name).await?;
                if known.data == revision.data {
                    return Ok(known);
                }
                *collisions += 1;
            }
            other => return other,
        }
    }
}

/// Gives a revision a new number.
pub async fn renumber(
    client: &Client,
    mut revision: ControllerRevision,
    number: i64,
) -> Result<ControllerRevision, Status> {
    if revision.revision == number {
        return Ok(revision);
    }
    revision.revision = number;
    client.update(&revision).await
}

/// Deletes the oldest revisions that are not in use, so that `limit` of those remain.
pub async fn truncate(
    client: &Client,
    revisions: &[ControllerRevision],
    limit: Option<i32>,
    in_use: impl Fn(&ControllerRevision) -> bool,
) -> Result<(), Status> {
    let idle: Vec<&ControllerRevision> = revisions.iter().filter(|r| !in_use(r)).collect();
    let keep = limit.map_or(10, |n| n.max(0) as usize);
    for revision in &idle[..idle.len().saturating_sub(keep)] {
        let (namespace, name) = (&revision.metadata.namespace, &revision.metadata.name);
        match client.delete::<ControllerRevision>(namespace, name).await {
            Err(status) if !status.is_not_found() => return Err(status),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn collisions_take_the_next_name() {
        let backend = testkit::FakeBackend::new();
        let client = backend.client();
        let mut owner = Manager::default();
        (owner.subject.name, owner.subject.namespace) = ("web".into(), "a".into());
        let first = revision(&owner, &BTreeMap::new(), data(&PodTemplateSpec::default()), 1, Some(0));
        let mut collisions = 0;
        let stored = create(&client, &owner, &first, &mut collisions).await.unwrap();
        assert_eq!((stored.metadata.name, collisions), (first.metadata.name.clone(), 0));
        // The same again is found, not made.
        create(&client, &owner, &first, &mut collisions).await.unwrap();
        assert_eq!(collisions, 0);
        let mut other = first.clone();
        other.data = RawExtension(Value::Null);
        other.metadata.name = first.metadata.name.clone();
        client.update(&other).await.unwrap();
        let stored = create(&client, &owner, &first, &mut collisions).await.unwrap();
        assert_eq!(collisions, 1);
        assert_ne!(stored.metadata.name, first.metadata.name);
    }

    #[test]
    fn a_revision_gives_its_template_back() {
        let mut kept = PodTemplateSpec::default();
        kept.spec.hostname = "h".into();
        kept.spec.containers = vec![api::core::pod::container::Container::default()];
        let revision = revision(&Manager::default(), &BTreeMap::new(), data(&kept), 1, None);
        assert_eq!(revision.data.0.str_at(&["spec", "template", "$patch"]), Some("replace"));
        assert_eq!(template(&revision).unwrap(), kept);
        let containers = revision.data.0.at(&["spec", "template", "spec", "containers"]).and_then(Value::as_list);
        assert!(containers.unwrap()[0].get("resources").is_some_and(Value::is_map));
    }

    #[test]
    fn numbers_go_up() {
        let numbered = |n| ControllerRevision { revision: n, ..ControllerRevision::default() };
        assert_eq!(next_number(&[]), 1);
        assert_eq!(next_number(&[numbered(4), numbered(2)]), 5);
    }
}
