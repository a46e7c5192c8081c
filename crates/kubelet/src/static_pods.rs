//! Pods from manifests in a folder of the node: they run without the API, which only gets a mirror of each.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use api::core::node::Node;
use api::core::pod::Pod;
use api::core::pod::spec::PodSpec;
use apimachinery::meta::OwnerReference;
use apimachinery::{Api, Status, Value};
use client::Client;
use parking_lot::Mutex;

use crate::folder_watch::FolderWatch;
use crate::hash::fnv;
use crate::node_agent::{Config, Shared};
use crate::worker::Desired;

/// Marks a mirror; its value is the hash of the manifest.
pub const MIRROR: &str = "kubernetes.io/config.mirror";
const HASH: &str = "kubernetes.io/config.hash";
const SOURCE: &str = "kubernetes.io/config.source";
const SEEN: &str = "kubernetes.io/config.seen";
/// Manifests above this are no manifests.
const MAX_MANIFEST: u64 = 1 << 20;
const RETRY: Duration = Duration::from_secs(2);

/// Whether a pod comes from a file of this node; its mirror, which the API has, does not count.
pub fn is_static(pod: &Pod) -> bool {
    let notes = &pod.metadata.annotations;
    notes.get(SOURCE).is_some_and(|source| source == "file") && !notes.contains_key(MIRROR)
}

/// Starts the pods of all manifests and follows the folder; answers with the uids of those there are now.
pub fn start(shared: Arc<Shared>, config: &Config) -> HashSet<String> {
    let (folder, node) = (config.static_pods.clone(), config.node.name.to_string());
    let known = shared.statics.clone();
    look(&shared, &folder, &node, &known);
    let uids = known.lock().values().map(|pod: &Arc<Pod>| pod.metadata.uid.clone()).collect();
    tokio::spawn(follow(shared, folder, node, known));
    uids
}

/// The pods of manifests, by file.
pub type Known = Arc<Mutex<BTreeMap<PathBuf, Arc<Pod>>>>;

/// Makes a mirror again that somebody has deleted, or is deleting, while its original runs on.
pub fn restore_mirror(shared: &Arc<Shared>, mirrored: &Pod) {
    let Some(hash) = mirrored.metadata.annotations.get(MIRROR) else { return };
    let original = shared.statics.lock().values().find(|pod| pod.metadata.uid == *hash).cloned();
    if let Some(original) = original {
        let node = shared.facts.name.to_string();
        tokio::spawn(mirror(shared.clone(), original, node));
    }
}

async fn follow(shared: Arc<Shared>, folder: PathBuf, node: String, known: Known) {
    use nix::sys::inotify::AddWatchFlags;
    let flags = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_DELETE;
    let watch = std::fs::create_dir_all(&folder).and_then(|()| FolderWatch::new(&folder, flags));
    let watch = match watch {
        Ok(watch) => watch,
        Err(error) => {
            tracing::error!(folder = %folder.display(), %error, "manifests of static pods are not followed");
            return;
        }
    };
    loop {
        look(&shared, &folder, &node, &known);
        if watch.changed().await.is_err() {
            return;
        }
    }
}

/// Compares the folder with what runs.
fn look(shared: &Arc<Shared>, folder: &Path, node: &str, known: &Known) {
    let mut found: BTreeMap<PathBuf, Arc<Pod>> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        let manifest = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if hidden || !manifest || entry.metadata().is_ok_and(|m| !m.is_file() || m.len() > MAX_MANIFEST) {
            continue;
        }
        let read = std::fs::read(&path).map_err(|e| e.to_string()).and_then(|text| parse(&text, node));
        match read {
            Ok(pod) => drop(found.insert(path, Arc::new(pod))),
            Err(error) => tracing::error!(file = %path.display(), error, "a manifest is no pod"),
        }
    }
    let mut known = known.lock();
    for (path, old) in known.iter() {
        if found.get(path).is_none_or(|new| new.metadata.uid != old.metadata.uid) {
            shared.end_static(&old.metadata.uid);
            tokio::spawn(remove_mirror(shared.client.clone(), old.clone()));
        }
    }
    let fresh =
        found.iter().filter(|(path, new)| known.get(*path).is_none_or(|old| old.metadata.uid != new.metadata.uid));
    let fresh: Vec<Arc<Pod>> = fresh.map(|(_, new)| new.clone()).collect();
    *known = found;
    drop(known);
    for new in fresh {
        shared.set(Desired { pod: new.clone(), gone: false, is_static: true });
        tokio::spawn(mirror(shared.clone(), new, node.to_owned()));
    }
}

/// A pod out of a manifest, with defaults, bound to this node. Its uid changes with its contents.
fn parse(text: &[u8], node: &str) -> Result<Pod, String> {
    let tree = apimachinery::codec::yaml::parse_reporting(text, &mut Vec::new()).map_err(|e| e.to_string())?;
    if tree.str_at(&["kind"]) != Some("Pod") || tree.str_at(&["apiVersion"]) != Some("v1") {
        return Err("it is not of apiVersion v1 and kind Pod".to_owned());
    }
    let mut tree = tree;
    let kind = api::core::pod::kind();
    apimachinery::codec::normalize(&mut tree, &kind.schema).map_err(|e| e.to_string())?;
    apimachinery::defaults::set_defaults(&mut tree, &kind.schema);
    if let Some(defaults) = kind.hooks.set_defaults {
        defaults(&mut tree).map_err(|e| e.to_string())?;
    }
    let mut pod = Pod::from_value(&tree).map_err(|e| e.to_string())?;
    if pod.metadata.name.is_empty() {
        return Err("it has no metadata.name".to_owned());
    }
    let hash = format!("{:016x}{:016x}", fnv(&[text, node.as_bytes()]), fnv(&[node.as_bytes(), text]));
    pod.metadata.name = format!("{}-{node}", pod.metadata.name);
    if pod.metadata.namespace.is_empty() {
        pod.metadata.namespace = "default".into();
    }
    pod.metadata.uid = hash.clone();
    pod.metadata.annotations.insert(HASH.into(), hash);
    pod.metadata.annotations.insert(SOURCE.into(), "file".into());
    pod.metadata.annotations.insert(SEEN.into(), crate::now_text());
    pod.spec.node_name = node.to_owned();
    // It cannot have what only the API gives.
    pod.spec.service_account_name.clear();
    pod.spec.automount_service_account_token = Some(false);
    pod.spec.tolerations = every_taint();
    Ok(pod)
}

fn every_taint() -> Vec<api::core::nodeselector::Toleration> {
    vec![api::core::nodeselector::Toleration {
        operator: "Exists".into(),
        effect: "NoExecute".into(),
        ..Default::default()
    }]
}

/// Makes the mirror, in place of an older one.
async fn mirror(shared: Arc<Shared>, pod: Arc<Pod>, node: String) {
    loop {
        // Its manifest may have gone meanwhile.
        if !shared.statics.lock().values().any(|known| known.metadata.uid == pod.metadata.uid) {
            return;
        }
        match make_mirror(&shared, &pod, &node).await {
            Ok(()) => return shared.retell(&pod.metadata.uid),
            Err(status) => tracing::info!(pod = pod.metadata.name, %status, "a static pod has no mirror yet"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn make_mirror(shared: &Shared, pod: &Pod, node: &str) -> Result<(), Status> {
    let (meta, client) = (&pod.metadata, &shared.client);
    let hash = meta.annotations.get(HASH).cloned().unwrap_or_default();
    // A node may not ask for pods that are not there, but it follows all of its own.
    if let Some(known) = shared.mirror(&meta.namespace, &meta.name) {
        if known.metadata.annotations.get(MIRROR) == Some(&hash) && known.metadata.deletion_timestamp.is_none() {
            return Ok(());
        }
        let mut options = match Client::only_uid(&known.metadata.uid) {
            Value::Map(map) => map,
            _ => apimachinery::Map::new(),
        };
        options.insert("gracePeriodSeconds", 0i64);
        match client.delete_with::<Pod>(&meta.namespace, &meta.name, Value::Map(options)).await {
            Err(status) if !status.is_not_found() && !status.is_conflict() => return Err(status),
            _ => {}
        }
    }
    let owner: Node = client.get("", node).await?;
    let mut mirror = Pod { spec: PodSpec { ..pod.spec.clone() }, metadata: meta.clone(), ..Pod::default() };
    mirror.metadata.uid.clear();
    mirror.metadata.annotations.insert(MIRROR.into(), hash);
    mirror.metadata.owner_references = vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: node.into(),
        uid: owner.metadata.uid,
        controller: Some(true),
        ..OwnerReference::default()
    }];
    client.create(&mirror).await.map(drop)
}

async fn remove_mirror(client: Client, pod: Arc<Pod>) {
    let mut options = apimachinery::Map::new();
    options.insert("gracePeriodSeconds", 0i64);
    let deleted = client.delete_with::<Pod>(&pod.metadata.namespace, &pod.metadata.name, Value::Map(options)).await;
    if let Err(status) = deleted
        && !status.is_not_found()
    {
        tracing::warn!(pod = pod.metadata.name, %status, "the mirror of a static pod could not be deleted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_becomes_a_pod() {
        let text = b"apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: a, image: i}]}\n";
        let pod = parse(text, "n1").unwrap();
        assert_eq!((pod.metadata.name.as_str(), pod.metadata.namespace.as_str()), ("web-n1", "default"));
        assert_eq!(pod.spec.containers[0].termination_message_path, "/dev/termination-log");
        assert_eq!(pod.metadata.uid.len(), 32);
        assert_ne!(parse(text, "n2").unwrap().metadata.uid, pod.metadata.uid);
        assert!(parse(b"kind: Service\napiVersion: v1\n", "n1").is_err());
        assert!(parse(b"{", "n1").is_err());
    }
}
