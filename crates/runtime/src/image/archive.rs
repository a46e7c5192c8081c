//! Reads image archives: OCI layouts and what `docker save` writes, plain or compressed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Component, Path};

use serde::Deserialize;
use tar::EntryType;

use crate::image::content::{ContentStore, Digest};
use crate::image::format::{self, Descriptor, Document, ImageConfig, MANIFEST_TYPES, MAX_DOCUMENT};
use crate::image::reference::Reference;
use crate::image::unpack::decompress;
use crate::{Error, Result};

const MAX_ENTRIES: usize = 100_000;
const MAX_BLOB: u64 = 64 << 30;
/// How deep indexes may point to indexes.
const MAX_DEPTH: usize = 4;

/// An image found in an archive, its blobs in the content store.
#[derive(Debug, Clone)]
pub struct Found {
    /// What names point to: an index or a manifest.
    pub target: Digest,
    /// The manifest for this host.
    pub manifest: Digest,
    /// Its names.
    pub names: Vec<String>,
    /// Whether the digest is the one registries know, so that `repository@digest` is a true name.
    pub original: bool,
}

/// Stores the blobs of an archive and says which images it holds.
pub fn read(content: &ContentStore, archive: File) -> Result<Vec<Found>> {
    let mut files = Files::default();
    let mut tar = tar::Archive::new(decompress(archive)?);
    let broken = |e: std::io::Error| Error::Corrupt(format!("cannot read the archive: {e}"));
    for (number, entry) in tar.entries().map_err(broken)?.enumerate() {
        if number >= MAX_ENTRIES {
            return Err(Error::Corrupt(format!("the archive has more than {MAX_ENTRIES} files")));
        }
        let mut entry = entry.map_err(broken)?;
        let path = inside(Path::new(""), &entry.path().map_err(broken)?)?;
        match entry.header().entry_type() {
            EntryType::Directory | EntryType::XGlobalHeader => {}
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let mut writer = content.writer()?;
                writer.copy_from(&mut entry, MAX_BLOB)?;
                let promised = path.strip_prefix("blobs/sha256/").map(|hex| Digest::parse(&format!("sha256:{hex}")));
                let digest = writer.commit(promised.transpose()?.as_ref())?;
                files.digests.insert(path, digest);
            }
            // Old `docker save` archives share layers by links.
            EntryType::Symlink => {
                let link = entry.link_name().map_err(broken)?.unwrap_or_default().into_owned();
                let folder = Path::new(&path).parent().unwrap_or(Path::new("")).to_owned();
                files.links.insert(path, inside(&folder, &link)?);
            }
            EntryType::Link => {
                let link = entry.link_name().map_err(broken)?.unwrap_or_default().into_owned();
                files.links.insert(path, inside(Path::new(""), &link)?);
            }
            other => return Err(Error::Corrupt(format!("{path} is of kind {other:?}, which images do not have"))),
        }
    }
    // A compressed archive that was cut shows it only after what the last file needs.
    std::io::copy(&mut tar.into_inner(), &mut std::io::sink()).map_err(broken)?;
    let found = if files.digests.contains_key("index.json") {
        files.layout(content)?
    } else if files.digests.contains_key("manifest.json") {
        files.docker(content)?
    } else {
        return Err(Error::Invalid("the archive has neither index.json nor manifest.json: it is no image".to_owned()));
    };
    if found.is_empty() {
        return Err(Error::Invalid("the archive holds no image".to_owned()));
    }
    Ok(found)
}

/// A path of the archive relative to one of its folders; one that leads outside is refused.
fn inside(folder: &Path, path: &Path) -> Result<String> {
    let outside = || Error::Corrupt(format!("{} leads out of the archive", path.display()));
    let mut parts: Vec<String> = Vec::new();
    for part in folder.components().chain(path.components()) {
        match part {
            Component::Normal(name) => parts.push(name.to_str().ok_or_else(outside)?.to_owned()),
            Component::CurDir => {}
            Component::ParentDir => {
                parts.pop().ok_or_else(outside)?;
            }
            Component::RootDir | Component::Prefix(_) => return Err(outside()),
        }
    }
    Ok(parts.join("/"))
}

#[derive(Default)]
struct Files {
    digests: BTreeMap<String, Digest>,
    links: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl Files {
    fn find(&self, path: &str) -> Result<&Digest> {
        let mut path = path.to_owned();
        for _ in 0..8 {
            if let Some(digest) = self.digests.get(&path) {
                return Ok(digest);
            }
            match self.links.get(&path) {
                Some(next) => path = next.clone(),
                None => break,
            }
        }
        Err(Error::Corrupt(format!("the archive lacks {path}")))
    }

    fn document<T: for<'de> Deserialize<'de>>(&self, content: &ContentStore, path: &str) -> Result<T> {
        format::read(path, &content.read(self.find(path)?, MAX_DOCUMENT)?)
    }

    fn layout(&self, content: &ContentStore) -> Result<Vec<Found>> {
        let index: Document = self.document(content, "index.json")?;
        // Newer `docker save` writes both; only its own document has the names in full.
        let docker: Vec<DockerImage> = if self.digests.contains_key("manifest.json") {
            self.document(content, "manifest.json")?
        } else {
            Vec::new()
        };
        let mut found = Vec::new();
        for descriptor in &index.manifests {
            let Some(manifest) = manifest_of(content, descriptor, 0)? else { continue };
            let mut names = BTreeSet::new();
            let annotated = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
            for name in annotated.iter().filter_map(|key| descriptor.annotations.get(*key)) {
                // A bare tag names no repository.
                if (name.contains('/') || name.contains(':'))
                    && let Ok(reference) = Reference::parse(name)
                {
                    names.insert(reference.to_string());
                }
            }
            let document: Document = format::read("manifest", &content.read(&manifest, MAX_DOCUMENT)?)?;
            for image in &docker {
                let config = self.find(&image.config)?;
                if document.config.as_ref().is_some_and(|c| c.digest == *config) {
                    names.extend(docker_names(image)?);
                }
            }
            let names = names.into_iter().collect();
            found.push(Found { target: descriptor.digest.clone(), manifest, names, original: true });
        }
        Ok(found)
    }

    fn docker(&self, content: &ContentStore) -> Result<Vec<Found>> {
        let images: Vec<DockerImage> = self.document(content, "manifest.json")?;
        let mut found = Vec::new();
        for image in images {
            let descriptor = |media_type: &str, path: &str| -> Result<Descriptor> {
                let digest = self.find(path)?.clone();
                let size = content.size(&digest).unwrap_or(0);
                let media_type = media_type.to_owned();
                Ok(Descriptor { media_type, digest, size, annotations: BTreeMap::new(), platform: None })
            };
            let config = descriptor("application/vnd.oci.image.config.v1+json", &image.config)?;
            let _: ImageConfig = format::read("configuration", &content.read(&config.digest, MAX_DOCUMENT)?)?;
            let layer = |path: &String| descriptor("application/vnd.oci.image.layer.v1.tar", path);
            let manifest = Document {
                schema_version: 2,
                media_type: MANIFEST_TYPES[0].to_owned(),
                config: Some(config),
                layers: image.layers.iter().map(layer).collect::<Result<_>>()?,
                manifests: Vec::new(),
            };
            let bytes = serde_json::to_vec(&manifest).map_err(|e| Error::Internal(e.to_string()))?;
            let digest = content.put(&bytes)?;
            found.push(Found {
                target: digest.clone(),
                manifest: digest,
                names: docker_names(&image)?,
                original: false,
            });
        }
        Ok(found)
    }
}

fn docker_names(image: &DockerImage) -> Result<Vec<String>> {
    let tags = image.repo_tags.iter().flatten();
    tags.map(|tag| Reference::parse(tag).map(|reference| reference.to_string())).collect()
}

/// The manifest for this host that a descriptor leads to; `None` if what it points to is no image.
fn manifest_of(content: &ContentStore, descriptor: &Descriptor, depth: usize) -> Result<Option<Digest>> {
    if depth > MAX_DEPTH {
        return Err(Error::Corrupt("indexes point to indexes too deep".to_owned()));
    }
    let document: Document = format::read("index or manifest", &content.read(&descriptor.digest, MAX_DOCUMENT)?)?;
    if document.is_index() {
        return manifest_of(content, document.choose()?, depth + 1);
    }
    Ok(document.config.is_some().then(|| descriptor.digest.clone()))
}
