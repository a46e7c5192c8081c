//! Unpacked layers, and the writable layer of each container on top of them, joined by overlayfs.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::image::content::{ContentStore, Digest, replace_file};
use crate::image::unpack;
use crate::{Error, Result};

/// The kernel's limit for the options of a mount.
const MAX_OPTIONS: usize = 4095;

/// An unpacked layer's record, `meta.json` beside it; it is there only once the layer is complete.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Layer {
    /// The identity of this layer and all below.
    pub chain: Digest,
    /// Bytes of its files.
    pub bytes: u64,
    /// Number of its files.
    pub inodes: u64,
}

/// The folder of layers, named by the start of their chain identity so that many fit into a mount's options.
#[derive(Debug)]
pub struct LayerStore {
    root: PathBuf,
    /// One layer at a time: unpacking is bound by the disk, and the same layer must not be unpacked twice.
    unpacking: Mutex<()>,
    next: AtomicU64,
}

impl LayerStore {
    /// Opens the folder; layers that were not completed go.
    pub fn open(root: &Path) -> Result<Self> {
        fs::create_dir_all(root).map_err(Error::file(root))?;
        for entry in fs::read_dir(root).map_err(Error::file(root))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with("new-") {
                unmount(&entry.path().join("merged"))?;
                remove_tree(&entry.path())?;
            }
        }
        Ok(Self { root: root.to_owned(), unpacking: Mutex::new(()), next: AtomicU64::new(0) })
    }

    fn folder(&self, chain: &Digest) -> PathBuf {
        self.root.join(&chain.hex()[..20])
    }

    /// The record of a layer, if it is unpacked.
    pub fn get(&self, chain: &Digest) -> Option<Layer> {
        let bytes = fs::read(self.folder(chain).join("meta.json")).ok()?;
        serde_json::from_slice::<Layer>(&bytes).ok().filter(|layer| layer.chain == *chain)
    }

    /// Unpacks the layer `chain[at]` from a blob, if it is not there yet.
    pub fn unpack(
        &self,
        content: &ContentStore,
        chain: &[Digest],
        at: usize,
        diff: &Digest,
        blob: &Digest,
    ) -> Result<Layer> {
        let _one = self.unpacking.lock();
        if let Some(layer) = self.get(&chain[at]) {
            return Ok(layer);
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let folder = self.root.join(format!("new-{}-{number}", std::process::id()));
        let made = self.unpack_into(&folder, content, chain, at, diff, blob);
        if made.is_err() {
            let _ = unmount(&folder.join("merged"));
            let _ = remove_tree(&folder);
        }
        made
    }

    fn unpack_into(
        &self,
        folder: &Path,
        content: &ContentStore,
        chain: &[Digest],
        at: usize,
        diff: &Digest,
        blob: &Digest,
    ) -> Result<Layer> {
        let files = folder.join("fs");
        fs::create_dir_all(&files).map_err(Error::file(&files))?;
        set_mode(&files, 0o755)?;
        let archive = content.open_blob(blob)?;
        let applied = if at == 0 {
            unpack::apply(archive, &files, diff)?
        } else {
            // On top of what is below, so that links resolve and overlayfs itself writes the whiteouts.
            let (work, merged) = (folder.join("work"), folder.join("merged"));
            for made in [&work, &merged] {
                fs::create_dir(made).map_err(Error::file(made))?;
            }
            self.mount(&chain[..at], Some((&files, &work)), &merged)?;
            let applied = unpack::apply(archive, &merged, diff);
            unmount(&merged)?;
            remove_tree(&work)?;
            remove_tree(&merged)?;
            applied?
        };
        let layer = Layer { chain: chain[at].clone(), bytes: applied.bytes, inodes: applied.inodes };
        let opened = fs::File::open(folder).map_err(Error::file(folder))?;
        rustix::fs::syncfs(&opened).map_err(Error::io("cannot flush a layer to disk"))?;
        let record = serde_json::to_vec(&layer).map_err(|e| Error::Internal(e.to_string()))?;
        replace_file(&folder.join("meta.json"), &record)?;
        let home = self.folder(&chain[at]);
        if home.exists() {
            remove_tree(&home)?;
        }
        fs::rename(folder, &home).map_err(Error::file(home))?;
        Ok(layer)
    }

    /// Joins layers (lowest first) at `target`: writable with an upper and a work folder, else read-only.
    pub fn mount(&self, chain: &[Digest], writable: Option<(&Path, &Path)>, target: &Path) -> Result<()> {
        let folders: Vec<String> =
            chain.iter().rev().map(|c| self.folder(c).join("fs").display().to_string()).collect();
        let (kind, source, mut flags, options) = match (folders.as_slice(), writable) {
            ([], _) => return Err(Error::Corrupt("an image has no layers".to_owned())),
            ([only], None) => ("bind", only.clone(), MsFlags::MS_BIND, String::new()),
            (_, None) => ("overlay", "overlay".to_owned(), MsFlags::empty(), format!("lowerdir={}", folders.join(":"))),
            (_, Some((upper, work))) => {
                let options =
                    format!("lowerdir={},upperdir={},workdir={}", folders.join(":"), upper.display(), work.display());
                ("overlay", "overlay".to_owned(), MsFlags::empty(), options)
            }
        };
        if options.len() > MAX_OPTIONS {
            return Err(Error::Invalid("the image has too many layers for one overlay mount".to_owned()));
        }
        let failed = |e: nix::Error| match e {
            nix::Error::ENODEV => Error::Unavailable("the kernel has no overlayfs: load the module overlay".to_owned()),
            e => Error::Io { what: format!("cannot mount {}", target.display()), source: e.into() },
        };
        mount(Some(source.as_str()), target, Some(kind), flags, Some(options.as_str())).map_err(failed)?;
        if writable.is_none() {
            if flags.contains(MsFlags::MS_BIND) {
                flags |= MsFlags::MS_BIND;
            }
            flags |= MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_BIND;
            mount(None::<&str>, target, None::<&str>, flags, None::<&str>).map_err(failed)?;
        }
        // What happens below must not travel to other mount namespaces.
        mount(None::<&str>, target, None::<&str>, MsFlags::MS_PRIVATE, None::<&str>).map_err(failed)
    }

    /// Removes every layer that `keep` does not name.
    pub fn retain(&self, keep: impl Fn(&Digest) -> bool) -> Result<()> {
        let _one = self.unpacking.lock();
        for entry in fs::read_dir(&self.root).map_err(Error::file(&self.root))?.flatten() {
            let meta = fs::read(entry.path().join("meta.json")).ok();
            let layer = meta.and_then(|bytes| serde_json::from_slice::<Layer>(&bytes).ok());
            if layer.is_some_and(|layer| keep(&layer.chain)) {
                continue;
            }
            // Renamed first: a crash halfway must not leave a layer that looks whole.
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let grave = self.root.join(format!("new-gone-{}-{number}", std::process::id()));
            fs::rename(entry.path(), &grave).map_err(Error::file(entry.path()))?;
            remove_tree(&grave)?;
        }
        Ok(())
    }

    /// Bytes and files of all layers.
    pub fn usage(&self) -> (u64, u64) {
        let mut total = (0, 0);
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let meta = fs::read(entry.path().join("meta.json")).ok();
            if let Some(layer) = meta.and_then(|bytes| serde_json::from_slice::<Layer>(&bytes).ok()) {
                total = (total.0 + layer.bytes, total.1 + layer.inodes);
            }
        }
        total
    }
}

pub(crate) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(Error::file(path))
}

/// Unmounts whatever is at a path, if something is.
pub(crate) fn unmount(path: &Path) -> Result<()> {
    loop {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(nix::Error::EINVAL | nix::Error::ENOENT) => return Ok(()),
            Err(e) => return Err(Error::Io { what: format!("cannot unmount {}", path.display()), source: e.into() }),
        }
    }
}

/// Removes a tree, if it is there.
pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::File { path: path.to_owned(), source: e }),
        _ => Ok(()),
    }
}

/// Bytes on disk and number of the files of a tree.
pub(crate) fn measure(path: &Path) -> (u64, u64) {
    use std::os::unix::fs::MetadataExt;
    let mut total = (0, 0);
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            total = (total.0 + meta.blocks() * 512, total.1 + 1);
            if meta.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    total
}
