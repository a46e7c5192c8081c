//! The ConfigMaps and Secrets that pods use: each is watched once, as long as a pod uses it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use api::core::pod::Pod;
use api::core::pod::container::Container;
use apimachinery::{GroupVersionResource, Value};
use base64::Engine as _;
use client::{Client, Informer, Scope};
use parking_lot::Mutex;

use super::Changed;
use crate::spec::env::Objects;

/// How long a pod's start waits for the first sight of an object.
const FIRST_SIGHT: Duration = Duration::from_secs(5);

type Data = BTreeMap<String, Vec<u8>>;

/// Which object: whether a Secret, its namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    secret: bool,
    namespace: String,
    name: String,
}

struct Entry {
    informer: Informer<Data>,
    users: Arc<Mutex<HashSet<String>>>,
    /// After the first sight, changes are told.
    seen: Arc<AtomicBool>,
}

/// The objects in use.
pub struct Watched {
    client: Client,
    changed: Changed,
    entries: Mutex<HashMap<Reference, Entry>>,
}

/// Every ConfigMap and Secret that a pod names.
fn references(pod: &Pod) -> HashSet<Reference> {
    let namespace = pod.metadata.namespace.as_str();
    let mut all = HashSet::new();
    let mut add = |secret: bool, name: &str| {
        if !name.is_empty() {
            all.insert(Reference { secret, namespace: namespace.to_owned(), name: name.to_owned() });
        }
    };
    let ephemeral = crate::status::ephemeral_containers(pod);
    let containers: Vec<&Container> =
        pod.spec.init_containers.iter().chain(&pod.spec.containers).chain(&ephemeral).collect();
    for container in containers {
        for source in &container.env_from {
            if let Some(map) = &source.config_map_ref {
                add(false, &map.local_object_reference.name);
            }
            if let Some(secret) = &source.secret_ref {
                add(true, &secret.local_object_reference.name);
            }
        }
        for source in container.env.iter().filter_map(|v| v.value_from.as_ref()) {
            if let Some(map) = &source.config_map_key_ref {
                add(false, &map.local_object_reference.name);
            }
            if let Some(secret) = &source.secret_key_ref {
                add(true, &secret.local_object_reference.name);
            }
        }
    }
    for volume in &pod.spec.volumes {
        let source = &volume.volume_source;
        if let Some(map) = &source.config_map {
            add(false, &map.local_object_reference.name);
        }
        if let Some(secret) = &source.secret {
            add(true, &secret.secret_name);
        }
        for part in source.projected.iter().flat_map(|p| &p.sources) {
            if let Some(map) = &part.config_map {
                add(false, &map.local_object_reference.name);
            }
            if let Some(secret) = &part.secret {
                add(true, &secret.local_object_reference.name);
            }
        }
    }
    all
}

/// The contents of an object by key.
fn read(secret: bool, tree: &Value) -> Data {
    let decode = |value: &Value| base64::engine::general_purpose::STANDARD.decode(value.as_str()?).ok();
    let members = |key: &str| tree.get(key).and_then(Value::as_map).into_iter().flat_map(|map| map.iter());
    if secret {
        return members("data").filter_map(|(k, v)| Some((k.to_string(), decode(v)?))).collect();
    }
    let plain = members("data").filter_map(|(k, v)| Some((k.to_string(), v.as_str()?.as_bytes().to_vec())));
    plain.chain(members("binaryData").filter_map(|(k, v)| Some((k.to_string(), decode(v)?)))).collect()
}

impl Watched {
    pub fn new(client: Client, changed: Changed) -> Watched {
        Watched { client, changed, entries: Mutex::default() }
    }

    /// Watches whatever a pod names, and waits until it has been looked at. As long as it has not, nobody can say
    /// that something is missing: what is optional must not vanish because the API is slow.
    pub async fn follow(&self, pod: &Pod) -> Result<(), String> {
        let uid = &pod.metadata.uid;
        let mut fresh = Vec::new();
        {
            let mut entries = self.entries.lock();
            for reference in references(pod) {
                let entry = entries.entry(reference.clone()).or_insert_with(|| self.start(&reference));
                entry.users.lock().insert(uid.clone());
                if !entry.seen.load(Ordering::Relaxed) {
                    fresh.push((reference.secret, entry.informer.clone(), entry.seen.clone()));
                }
            }
        }
        let end = tokio::time::Instant::now() + FIRST_SIGHT;
        for (secret, informer, seen) in fresh {
            if tokio::time::timeout_at(end, informer.synced()).await.is_err() {
                let sort = if secret { "secret" } else { "configmap" };
                return Err(format!("failed to sync {sort} cache: timed out waiting for the condition"));
            }
            seen.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    fn start(&self, reference: &Reference) -> Entry {
        let secret = reference.secret;
        let resource = GroupVersionResource::new("", "v1", if secret { "secrets" } else { "configmaps" });
        let scope = Scope {
            namespace: reference.namespace.as_str().into(),
            field_selector: format!("metadata.name={}", reference.name),
            ..Scope::default()
        };
        let name = reference.name.clone();
        let informer = Informer::start(&self.client, resource, scope, move |tree| {
            (tree.str_at(&["metadata", "name"]) == Some(name.as_str())).then(|| read(secret, tree))
        });
        let users: Arc<Mutex<HashSet<String>>> = Arc::default();
        let seen = Arc::new(AtomicBool::new(false));
        let (told, known, changed) = (users.clone(), seen.clone(), self.changed.clone());
        informer.on_change(move |change| {
            if known.load(Ordering::Relaxed) && change.old != change.new {
                told.lock().iter().for_each(|uid| changed(uid));
            }
        });
        Entry { informer, users, seen }
    }

    /// A pod is gone: what only it used is watched no more.
    pub fn forget(&self, uid: &str) {
        self.entries.lock().retain(|_, entry| {
            let mut users = entry.users.lock();
            users.remove(uid);
            !users.is_empty()
        });
    }

    fn get(&self, secret: bool, namespace: &str, name: &str) -> Option<Data> {
        let reference = Reference { secret, namespace: namespace.to_owned(), name: name.to_owned() };
        let entries = self.entries.lock();
        entries.get(&reference)?.informer.get(namespace, name).map(|data| (*data).clone())
    }
}

impl Objects for Watched {
    fn config_map(&self, namespace: &str, name: &str) -> Option<Data> {
        self.get(false, namespace, name)
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<Data> {
        self.get(true, namespace, name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::tests::pod;

    #[tokio::test]
    async fn what_a_pod_names_is_followed() {
        let cluster = testkit::FakeBackend::new();
        let maps = GroupVersionResource::new("", "v1", "configmaps");
        let map = |color: &str| {
            format!(
                r#"{{"metadata":{{"name":"m","namespace":"n"}},"data":{{"color":"{color}"}},"binaryData":{{"b":"AAE="}}}}"#
            )
        };
        cluster.put(&maps, &map("blue"));
        let (sender, mut told) = tokio::sync::mpsc::unbounded_channel();
        let changed: Changed = Arc::new(move |uid: &str| drop(sender.send(uid.to_owned())));
        let watched = Watched::new(cluster.client(), changed);
        let pod = pod(r#"{"metadata":{"name":"p","namespace":"n","uid":"u"},"spec":{"containers":[{"name":"a",
            "envFrom":[{"configMapRef":{"name":"m"}}]}],"volumes":[{"name":"v","secret":{"secretName":"s"}}]}}"#);
        watched.follow(&pod).await.unwrap();
        let data = watched.config_map("n", "m").unwrap();
        assert_eq!((data["color"].as_slice(), data["b"].as_slice()), (&b"blue"[..], &[0u8, 1][..]));
        assert_eq!(watched.secret("n", "s"), None);
        cluster.put(&maps, &map("red"));
        assert_eq!(told.recv().await.unwrap(), "u");
        assert_eq!(watched.config_map("n", "m").unwrap()["color"], b"red");
        watched.forget("u");
        assert_eq!(watched.config_map("n", "m"), None);
    }
}
