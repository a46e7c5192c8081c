//! The image service of the protocol.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cri::v1::{self, ImageSpec};

use crate::error::blocking;
use crate::image::{ImageStore, Named, layers};
use crate::record::now;
use crate::{Error, Result, Runtime};

impl Runtime {
    /// All images, or the one that the filter names.
    pub async fn list_images(&self, request: v1::ListImagesRequest) -> Result<v1::ListImagesResponse> {
        let name = request.filter.and_then(|filter| filter.image).map(|image| image.image).unwrap_or_default();
        let store = self.images();
        let found = if name.is_empty() { store.list() } else { store.find(&name).into_iter().collect() };
        Ok(v1::ListImagesResponse { images: found.into_iter().map(message).collect() })
    }

    /// One image; none where it is not here.
    pub async fn image_status(&self, request: v1::ImageStatusRequest) -> Result<v1::ImageStatusResponse> {
        let name = spec_name(request.image)?;
        let store = self.images().clone();
        let found = store.find(&name);
        let mut info = std::collections::HashMap::new();
        if let (true, Some(found)) = (request.verbose, &found) {
            let id = found.image.id.clone();
            let chain = found.image.chain.iter().map(ToString::to_string).collect::<Vec<_>>();
            let document = blocking(move || store.config_of(&id)).await?;
            let document: serde_json::Value = crate::image::format::read("configuration", &document)?;
            info.insert("info".to_owned(), serde_json::json!({"chain": chain, "imageSpec": document}).to_string());
        }
        Ok(v1::ImageStatusResponse { image: found.map(message), info })
    }

    /// Downloads an image.
    pub async fn pull_image(&self, request: v1::PullImageRequest) -> Result<v1::PullImageResponse> {
        let name = spec_name(request.image)?;
        let id = self.registries().pull(self.images(), &name, request.auth.as_ref()).await?;
        Ok(v1::PullImageResponse { image_ref: id.to_string() })
    }

    /// Removes an image with all its names.
    pub async fn remove_image(&self, request: v1::RemoveImageRequest) -> Result<v1::RemoveImageResponse> {
        let name = spec_name(request.image)?;
        let store = self.images().clone();
        blocking(move || store.remove(&name)).await?;
        Ok(v1::RemoveImageResponse {})
    }

    /// What images and containers take on disk.
    pub async fn image_fs_info(&self, _: v1::ImageFsInfoRequest) -> Result<v1::ImageFsInfoResponse> {
        let (store, containers) = (self.images().clone(), self.config().root.join("containers"));
        blocking(move || {
            let usage = store.usage();
            let written = written(&containers);
            Ok(v1::ImageFsInfoResponse {
                image_filesystems: vec![filesystem(store.root(), usage.bytes, usage.inodes)],
                container_filesystems: vec![filesystem(&containers, written.0, written.1)],
            })
        })
        .await
    }

    /// Brings the images of an archive in, for commands and the folder of pre-loaded images.
    pub async fn import_archive(&self, archive: PathBuf, pinned: bool) -> Result<Vec<Named>> {
        let store: Arc<ImageStore> = self.images().clone();
        blocking(move || {
            let file = std::fs::File::open(&archive).map_err(Error::file(&archive))?;
            store.import(file, pinned)
        })
        .await
    }
}

fn written(containers: &Path) -> (u64, u64) {
    let mut total = (0, 0);
    for entry in std::fs::read_dir(containers).into_iter().flatten().flatten() {
        let one = layers::measure(&entry.path().join("upper"));
        total = (total.0 + one.0, total.1 + one.1);
    }
    total
}

pub(crate) fn filesystem(mountpoint: &Path, bytes: u64, inodes: u64) -> v1::FilesystemUsage {
    v1::FilesystemUsage {
        timestamp: now(),
        fs_id: Some(v1::FilesystemIdentifier { mountpoint: mountpoint.display().to_string() }),
        used_bytes: Some(v1::UInt64Value { value: bytes }),
        inodes_used: Some(v1::UInt64Value { value: inodes }),
    }
}

fn spec_name(spec: Option<ImageSpec>) -> Result<String> {
    let name = spec.map(|spec| spec.image).unwrap_or_default();
    if name.is_empty() { Err(Error::Invalid("the request names no image".to_owned())) } else { Ok(name) }
}

fn message(named: Named) -> v1::Image {
    // The protocol tells users by number or by name.
    let user = named.image.defaults.user.split(':').next().unwrap_or_default();
    let (uid, username) = match user.parse() {
        Ok(value) => (Some(v1::Int64Value { value }), String::new()),
        Err(_) => (None, user.to_owned()),
    };
    v1::Image {
        id: named.image.id.to_string(),
        spec: Some(ImageSpec { image: named.image.id.to_string(), ..ImageSpec::default() }),
        size: named.image.size,
        repo_tags: named.tags,
        repo_digests: named.digests,
        uid,
        username,
        pinned: named.image.pinned,
    }
}
