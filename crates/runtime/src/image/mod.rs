//! Images: content by digest, names, unpacked layers, and the collection of what nothing needs any more.
//!
//! ```text
//! images/
//!   content/sha256/<hex>     blobs: indexes, manifests, configurations (layers only until they are unpacked)
//!   content/ingest/          blobs being written
//!   layers/<chain>/fs        one layer unpacked, meta.json beside it once complete
//!   images.json              names -> image, image -> manifest, configuration, layers
//! ```

pub mod archive;
pub mod content;
pub mod format;
pub mod layers;
pub mod reference;
pub mod registry;
mod unpack;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{Error, Result};
use archive::Found;
use content::{ContentStore, Digest, replace_file};
use format::{Defaults, Document, ImageConfig, MAX_DOCUMENT, MAX_LAYERS};
use layers::LayerStore;
use reference::Reference;

/// The version of `images.json` that this build writes.
const VERSION: u32 = 1;

/// An image that is here, ready to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Image {
    /// Its identity: the digest of its configuration.
    pub id: Digest,
    /// The manifest it came by.
    pub manifest: Digest,
    /// Indexes that led to the manifest.
    pub targets: BTreeSet<Digest>,
    /// Bytes of its layers as transferred, with manifest and configuration.
    pub size: u64,
    /// Its layers from the lowest, by chain identity.
    pub chain: Vec<Digest>,
    /// How its containers are run.
    pub defaults: Defaults,
    /// Never collected.
    pub pinned: bool,
}

/// An image with its names.
#[derive(Debug, Clone)]
pub struct Named {
    /// The image.
    pub image: Image,
    /// Names by tag.
    pub tags: Vec<String>,
    /// Names by digest.
    pub digests: Vec<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Index {
    version: u32,
    names: BTreeMap<String, Digest>,
    images: BTreeMap<Digest, Image>,
}

/// Bytes and files used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Bytes.
    pub bytes: u64,
    /// Files.
    pub inodes: u64,
}

/// The images of a node. Its methods block.
#[derive(Debug)]
pub struct ImageStore {
    root: PathBuf,
    content: ContentStore,
    layers: LayerStore,
    index: Mutex<Index>,
    /// How many bring images in; who collects garbage keeps it locked meanwhile.
    arriving: Mutex<usize>,
    /// Layers that containers stand on, by holder.
    held: Mutex<HashMap<String, Vec<Digest>>>,
}

impl ImageStore {
    /// Opens the folder, making it where missing.
    pub fn open(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).map_err(Error::file(root))?;
        let path = root.join("images.json");
        let index = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice::<Index>(&bytes)
                .map_err(|e| Error::Corrupt(format!("{}: {e}", path.display())))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Index { version: VERSION, ..Index::default() },
            Err(e) => return Err(Error::File { path, source: e }),
        };
        if index.version > VERSION {
            let found = index.version;
            return Err(Error::Unavailable(format!("{} has version {found}, newer than this build", path.display())));
        }
        Ok(Self {
            content: ContentStore::open(&root.join("content"))?,
            layers: LayerStore::open(&root.join("layers"))?,
            root: root.to_owned(),
            index: Mutex::new(index),
            arriving: Mutex::new(0),
            held: Mutex::new(HashMap::new()),
        })
    }

    /// Where images are.
    pub fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn content(&self) -> &ContentStore {
        &self.content
    }

    pub(crate) fn layers(&self) -> &LayerStore {
        &self.layers
    }

    /// Brings the images of an archive in; returns them in its order.
    pub fn import(&self, archive: fs::File, pinned: bool) -> Result<Vec<Named>> {
        let arrived = {
            let _arrival = Arrival::new(self);
            archive::read(&self.content, archive)
                .and_then(|found| found.iter().map(|found| self.admit(found, pinned)).collect::<Result<Vec<Digest>>>())
        };
        // Also after a failure: what came in for nothing goes.
        self.collect()?;
        Ok(arrived?.iter().filter_map(|id| self.get(id)).collect())
    }

    /// Runs a download, during which nothing it stores is collected, then takes up what it found.
    pub(crate) async fn arrive<F>(&self, download: F) -> Result<Digest>
    where
        F: Future<Output = Result<Found>>,
    {
        let arrival = Arrival::new(self);
        let id = match download.await {
            Ok(found) => tokio::task::block_in_place(|| self.admit(&found, false)),
            Err(error) => Err(error),
        };
        drop(arrival);
        // Also after a failure: what came in for nothing goes.
        tokio::task::block_in_place(|| self.collect())?;
        id
    }

    /// Makes an image whose blobs are here ready: unpacks its layers, then records it and its names.
    fn admit(&self, found: &Found, pinned: bool) -> Result<Digest> {
        let manifest: Document = format::read("manifest", &self.content.read(&found.manifest, MAX_DOCUMENT)?)?;
        let config = manifest.config.ok_or_else(|| Error::Corrupt("a manifest has no configuration".to_owned()))?;
        let document = self.content.read(&config.digest, MAX_DOCUMENT)?;
        let parsed: ImageConfig = format::read("configuration", &document)?;
        if !parsed.os.is_empty() && parsed.os != "linux" {
            return Err(Error::Invalid(format!("the image is for {}, not for linux", parsed.os)));
        }
        let diffs = &parsed.rootfs.diff_ids;
        if diffs.len() != manifest.layers.len() || diffs.len() > MAX_LAYERS {
            let (said, are) = (diffs.len(), manifest.layers.len());
            return Err(Error::Corrupt(format!(
                "the configuration names {said} layers, the manifest {are} (at most {MAX_LAYERS})"
            )));
        }
        let chain = format::chain_ids(diffs);
        let mut size = document.len() as u64 + self.content.size(&found.manifest).unwrap_or(0);
        for (at, (diff, layer)) in diffs.iter().zip(&manifest.layers).enumerate() {
            size += layer.size;
            self.layers.unpack(&self.content, &chain, at, diff, &layer.digest)?;
        }
        let mut index = self.index.lock();
        let image = index.images.entry(config.digest.clone()).or_insert_with(|| Image {
            id: config.digest.clone(),
            manifest: found.manifest.clone(),
            targets: BTreeSet::new(),
            size,
            chain,
            defaults: parsed.config.unwrap_or_default(),
            pinned: false,
        });
        image.pinned |= pinned;
        image.targets.insert(found.target.clone());
        for name in &found.names {
            let reference = Reference::parse(name)?;
            if let Some(tagged) = reference.tagged() {
                index.names.insert(tagged, config.digest.clone());
            }
            if found.original {
                index.names.insert(reference.digested(&found.target), config.digest.clone());
            }
        }
        self.save(&index)?;
        Ok(config.digest)
    }

    fn save(&self, index: &Index) -> Result<()> {
        let bytes = serde_json::to_vec(index).map_err(|e| Error::Internal(e.to_string()))?;
        replace_file(&self.root.join("images.json"), &bytes)
    }

    /// All images.
    pub fn list(&self) -> Vec<Named> {
        let index = self.index.lock();
        index.images.values().map(|image| named(&index, image)).collect()
    }

    fn get(&self, id: &Digest) -> Option<Named> {
        let index = self.index.lock();
        index.images.get(id).map(|image| named(&index, image))
    }

    /// Finds an image by identity (with or without `sha256:`), by a unique start of it, or by any of its names.
    pub fn find(&self, name: &str) -> Option<Named> {
        let index = self.index.lock();
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        let short = (4..=64).contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit());
        let full = Reference::parse(name).ok().and_then(|r| {
            let exact = match &r.digest {
                // A name with both is found by the digest: tags move.
                Some(digest) => index.names.get(&r.digested(digest)),
                None => index.names.get(&r.to_string()),
            };
            exact.cloned()
        });
        let id = full.or_else(|| {
            let mut candidates = index.images.keys().filter(|id| short && id.hex().starts_with(hex));
            candidates.next().filter(|_| candidates.next().is_none()).cloned()
        })?;
        index.images.get(&id).map(|image| named(&index, image))
    }

    /// The configuration document of an image.
    pub fn config_of(&self, id: &Digest) -> Result<Vec<u8>> {
        self.content.read(id, MAX_DOCUMENT)
    }

    /// Gives an image another name.
    pub fn tag(&self, name: &str, new: &str) -> Result<()> {
        let found = self.find(name).ok_or_else(|| Error::NotFound { what: "image", id: name.to_owned() })?;
        let reference = Reference::parse(new)?;
        let mut index = self.index.lock();
        index.names.insert(reference.to_string(), found.image.id);
        self.save(&index)
    }

    /// Removes an image with all its names; one that is not here is fine.
    pub fn remove(&self, name: &str) -> Result<()> {
        let Some(found) = self.find(name) else { return Ok(()) };
        {
            let mut index = self.index.lock();
            index.names.retain(|_, id| *id != found.image.id);
            index.images.remove(&found.image.id);
            self.save(&index)?;
        }
        self.collect()
    }

    /// Keeps layers for a holder until it lets go, whatever becomes of their image.
    pub fn hold(&self, holder: &str, chain: &[Digest]) {
        self.held.lock().insert(holder.to_owned(), chain.to_vec());
    }

    /// Lets a holder's layers go.
    pub fn release(&self, holder: &str) -> Result<()> {
        let Some(chain) = self.held.lock().remove(holder) else { return Ok(()) };
        let needed = {
            let index = self.index.lock();
            index.images.values().any(|image| image.chain.last() == chain.last())
        };
        if needed { Ok(()) } else { self.collect() }
    }

    /// Removes blobs and layers that no image and no container needs, unless an image is arriving: then who brings it
    /// collects.
    pub fn collect(&self) -> Result<()> {
        let arriving = self.arriving.lock();
        if *arriving > 0 {
            return Ok(());
        }
        let (mut blobs, mut chains) = (HashSet::new(), HashSet::new());
        {
            let index = self.index.lock();
            for image in index.images.values() {
                blobs.extend([image.id.clone(), image.manifest.clone()]);
                blobs.extend(image.targets.iter().cloned());
                chains.extend(image.chain.iter().cloned());
            }
        }
        for chain in self.held.lock().values() {
            chains.extend(chain.iter().cloned());
        }
        self.content.retain(|digest| blobs.contains(digest))?;
        self.layers.retain(|chain| chains.contains(chain))
    }

    /// What images take.
    pub fn usage(&self) -> Usage {
        let (bytes, inodes) = self.layers.usage();
        let (blob_bytes, blob_inodes) = layers::measure(&self.root.join("content"));
        Usage { bytes: bytes + blob_bytes, inodes: inodes + blob_inodes }
    }
}

fn named(index: &Index, image: &Image) -> Named {
    let names = index.names.iter().filter(|(_, id)| **id == image.id).map(|(name, _)| name.clone());
    let (digests, tags) = names.partition(|name: &String| name.contains('@'));
    Named { image: image.clone(), tags, digests }
}

/// Somebody brings an image in: nothing is collected until this is dropped.
struct Arrival<'a>(&'a ImageStore);

impl<'a> Arrival<'a> {
    fn new(store: &'a ImageStore) -> Self {
        *store.arriving.lock() += 1;
        Self(store)
    }
}

impl Drop for Arrival<'_> {
    fn drop(&mut self) {
        *self.0.arriving.lock() -= 1;
    }
}
