//! Walks over pod trees that several plugins take.

use apimachinery::Value;

use crate::tree::{list, text};

/// Marks a pod that a node made out of a file of its own.
pub const MIRROR: &str = "kubernetes.io/config.mirror";

/// The three lists of containers, in the order in which messages name them.
pub const LISTS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

pub fn is_mirror(pod: &Value) -> bool {
    crate::tree::annotation(pod, MIRROR).is_some()
}

/// Every container with its list and index.
pub fn containers(spec: &Value) -> impl Iterator<Item = (&'static str, usize, &Value)> {
    LISTS.into_iter().flat_map(move |name| list(spec, &[name]).iter().enumerate().map(move |(i, c)| (name, i, c)))
}

/// The paths, below one volume, at which a Secret is named, ConfigMaps likewise.
const VOLUME_SECRETS: [&[&str]; 13] = [
    &["secret", "secretName"],
    &["azureFile", "secretName"],
    &["cephfs", "secretRef", "name"],
    &["cinder", "secretRef", "name"],
    &["flexVolume", "secretRef", "name"],
    &["rbd", "secretRef", "name"],
    &["scaleIO", "secretRef", "name"],
    &["iscsi", "secretRef", "name"],
    &["storageos", "secretRef", "name"],
    &["csi", "nodePublishSecretRef", "name"],
    &["glusterfs", "secretRef", "name"],
    &["quobyte", "secretRef", "name"],
    &["photonPersistentDisk", "secretRef", "name"],
];

/// The names of objects of one kind that a pod reads: by pull secrets, environment, volumes.
fn names<'a>(pod: &'a Value, from: &str, key: &str, projected: &str) -> Vec<&'a str> {
    let mut names = Vec::new();
    let Some(spec) = pod.get("spec") else { return names };
    for (_, _, container) in containers(spec) {
        names.extend(list(container, &["envFrom"]).iter().filter_map(|e| e.str_at(&[from, "name"])));
        names.extend(list(container, &["env"]).iter().filter_map(|e| e.str_at(&["valueFrom", key, "name"])));
    }
    for volume in list(spec, &["volumes"]) {
        let sources = list(volume, &["projected", "sources"]);
        names.extend(sources.iter().filter_map(|s| s.str_at(&[projected, "name"])));
    }
    names
}

/// Every Secret that a pod reads.
pub fn secrets(pod: &Value) -> Vec<&str> {
    let mut names = names(pod, "secretRef", "secretKeyRef", "secret");
    names.extend(list(pod, &["spec", "imagePullSecrets"]).iter().map(|s| text(s, &["name"])));
    for volume in list(pod, &["spec", "volumes"]) {
        names.extend(VOLUME_SECRETS.iter().filter_map(|path| volume.str_at(path)));
    }
    names.retain(|n| !n.is_empty());
    names
}

/// Every ConfigMap that a pod reads.
pub fn config_maps(pod: &Value) -> Vec<&str> {
    let mut names = names(pod, "configMapRef", "configMapKeyRef", "configMap");
    names.extend(list(pod, &["spec", "volumes"]).iter().filter_map(|v| v.str_at(&["configMap", "name"])));
    names.retain(|n| !n.is_empty());
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tree;
    use serde_json::json;

    #[test]
    fn every_way_to_read_a_secret_is_seen() {
        let pod = tree(json!({"spec": {
            "imagePullSecrets": [{"name": "pull"}],
            "initContainers": [{"envFrom": [{"secretRef": {"name": "from"}}]}],
            "containers": [{"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}]}],
            "volumes": [
                {"secret": {"secretName": "volume"}},
                {"projected": {"sources": [{"secret": {"name": "projected"}}, {"configMap": {"name": "map"}}]}},
                {"csi": {"nodePublishSecretRef": {"name": "csi"}}},
            ],
        }}));
        let mut names = secrets(&pod);
        names.sort_unstable();
        assert_eq!(names, ["csi", "env", "from", "projected", "pull", "volume"]);
        assert_eq!(config_maps(&pod), ["map"]);
    }
}
