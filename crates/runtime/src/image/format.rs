//! The documents of an image: index, manifest, configuration, as OCI and Docker write them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::image::content::Digest;
use crate::{Error, Result};

/// The largest index, manifest or configuration that is read.
pub const MAX_DOCUMENT: u64 = 8 << 20;
/// How many layers an image may have; overlayfs allows 500.
pub const MAX_LAYERS: usize = 127;

/// Media types that name an index.
pub const INDEX_TYPES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
/// Media types that name a manifest.
pub const MANIFEST_TYPES: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];

/// Points to a blob.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length.
    #[serde(default)]
    pub size: u64,
    /// Remarks.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What it runs on, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// What an image runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `amd64`, `arm64` and so on.
    #[serde(default)]
    pub architecture: String,
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// `v8` and so on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// An index or a manifest: which one, its fields say.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// 2.
    #[serde(default)]
    pub schema_version: u32,
    /// What this is.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The configuration, in a manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Descriptor>,
    /// The layers from the lowest, in a manifest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Descriptor>,
    /// The manifests, in an index.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub manifests: Vec<Descriptor>,
}

/// What an image says about itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ImageConfig {
    /// `amd64`, `arm64` and so on.
    #[serde(default)]
    pub architecture: String,
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// How its containers are run.
    #[serde(default)]
    pub config: Option<Defaults>,
    /// Its layers.
    pub rootfs: RootFs,
}

/// Digests of the unpacked layers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RootFs {
    /// From the lowest.
    #[serde(default)]
    pub diff_ids: Vec<Digest>,
}

/// How an image's containers are run unless told otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Defaults {
    /// `user[:group]` by name or number.
    #[serde(deserialize_with = "nullable")]
    pub user: String,
    /// `NAME=value`.
    #[serde(deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// Command.
    #[serde(deserialize_with = "nullable")]
    pub entrypoint: Vec<String>,
    /// Arguments.
    #[serde(deserialize_with = "nullable")]
    pub cmd: Vec<String>,
    /// Working directory.
    #[serde(deserialize_with = "nullable")]
    pub working_dir: String,
    /// Labels.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// Folders that are volumes.
    #[serde(deserialize_with = "nullable")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    /// The signal that asks it to stop.
    #[serde(deserialize_with = "nullable")]
    pub stop_signal: String,
}

fn nullable<'de, D: serde::Deserializer<'de>, T: Default + Deserialize<'de>>(
    from: D,
) -> std::result::Result<T, D::Error> {
    Ok(Option::<T>::deserialize(from)?.unwrap_or_default())
}

/// Reads a document.
pub fn read<T: for<'de> Deserialize<'de>>(what: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| Error::Corrupt(format!("{what}: {e}")))
}

impl Document {
    /// Whether it lists manifests of several platforms.
    pub fn is_index(&self) -> bool {
        INDEX_TYPES.contains(&self.media_type.as_str()) || (self.config.is_none() && !self.manifests.is_empty())
    }

    /// The manifest for this host.
    pub fn choose(&self) -> Result<&Descriptor> {
        let runs_here = |descriptor: &&Descriptor| match &descriptor.platform {
            Some(platform) => platform.os == "linux" && platform.architecture == host_architecture(),
            None => false,
        };
        let mut candidates = self.manifests.iter().filter(runs_here);
        let unlabelled = || match self.manifests.as_slice() {
            [only] if only.platform.as_ref().is_none_or(|p| p.os.is_empty()) => Some(only),
            _ => None,
        };
        candidates
            .next()
            .or_else(unlabelled)
            .ok_or_else(|| Error::Invalid(format!("the image has no variant for linux/{}", host_architecture())))
    }
}

/// This host's architecture in the words of images.
pub fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// The identity of a stack of layers: that of what is below and the top one's digest, hashed.
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff in diff_ids {
        let id = match chain.last() {
            None => diff.clone(),
            Some(below) => Digest::of(format!("{below} {diff}").as_bytes()),
        };
        chain.push(id);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_gives_the_hosts_manifest() {
        let entry = |architecture: &str, fill: char| {
            let digest = fill.to_string().repeat(64);
            serde_json::json!({"mediaType": MANIFEST_TYPES[0], "digest": format!("sha256:{digest}"), "size": 1,
                "platform": {"os": "linux", "architecture": architecture}})
        };
        let index = serde_json::json!({"schemaVersion": 2, "manifests":
            [entry("s390x", 'a'), entry(host_architecture(), 'b'), entry("unknown", 'c')]});
        let index: Document = serde_json::from_value(index).unwrap();
        assert!(index.is_index());
        assert_eq!(index.choose().unwrap().digest.hex(), "b".repeat(64));
        let foreign = Document { manifests: index.manifests[..1].to_vec(), ..index };
        assert!(foreign.choose().is_err());
    }

    #[test]
    fn null_lists_are_empty() {
        let config: ImageConfig =
            read("configuration", br#"{"rootfs":{"type":"layers","diff_ids":[]},"config":{"Env":null,"Cmd":["a"]}}"#)
                .unwrap();
        assert_eq!(config.config.unwrap().cmd, ["a"]);
    }
}
