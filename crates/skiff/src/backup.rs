//! Backups: one encrypted file with everything that makes a cluster, and how a machine becomes that cluster again.
//!
//! ```text
//! vault ▸ tar ▸ manifest.json | store/… (a checkpoint) | pki/*.pem | token | sealing-keys
//! ```
//! `restore` unpacks into `<data>/restoring`, makes the store fit (numbering moves on, so that no watcher is fooled),
//! syncs, and moves everything to its place, the store last. A server does not start while that folder is there.

use std::fs::{self, DirBuilder, File};
use std::io::{self, BufReader, BufWriter, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};
use pki::file::private_dir;
use pki::vault::{Reader, Secret, Stretch, Writer};
use serde::{Deserialize, Serialize};

use crate::folder;

/// The format that this version writes, and the newest it reads.
const FORMAT: u32 = 1;
const MANIFEST: &str = "manifest.json";
/// Where a restore works until it is done.
pub const RESTORING: &str = "restoring";
/// A checkpoint's copy that is about to take the store's place, whole and synced; and the same while it is copied.
pub const REPLACEMENT: &str = "store.new";
const PARTIAL: &str = "store.partial";
/// What a backup holds of the data folder besides the store. Of `pki` only the keys: the rest is issued again.
const SECRETS: [&str; 3] = ["pki", "token", "sealing-keys"];
/// The largest file besides the store's, when it is held in memory.
const MOST_SECRET: u64 = 1 << 20;

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub format: u32,
    /// The version that wrote it.
    pub skiff: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The store's revision.
    pub revision: i64,
    pub keys: usize,
    /// Every file, the manifest left out.
    pub files: Vec<String>,
}

/// The keys and tokens of a data folder, sealed, to be kept in a store that several servers share.
pub fn pack_secrets(data: &Path, secret: &Secret) -> anyhow::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Writer::new(Vec::new(), secret, Stretch::default())?);
    for (name, path) in secret_files(data)? {
        let content = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        append(&mut tar, &name, &mut content.as_slice(), None)?;
    }
    Ok(tar.into_inner()?.finish()?)
}

/// Puts shared keys and tokens into a data folder. One that is there already must be the same, or nothing is written.
pub fn unpack_secrets(sealed: &[u8], secret: &Secret, data: &Path) -> anyhow::Result<()> {
    let mut vault = Reader::open(sealed, secret)?;
    let mut secrets = Vec::new();
    for entry in tar::Archive::new(&mut vault).entries()? {
        let mut entry = entry?;
        secrets.push((plain_name(&entry)?, read_secret(&mut entry)?));
    }
    io::copy(&mut vault, &mut io::sink())?;
    check_secrets(&secrets)?;
    let mut missing = Vec::new();
    for (name, content) in &secrets {
        let path = data.join(name);
        match pki::file::read(&path)? {
            Some(own) => ensure!(own == *content, "{} is of another cluster: use an empty data folder", path.display()),
            None => missing.push((path, content)),
        }
    }
    for (path, content) in missing {
        private_dir(parent(&path))?;
        pki::file::write_private(&path, content.as_bytes(), pki::file::Durability::Synced)?;
    }
    Ok(())
}

/// Every file of keys and tokens, leaving out what can be issued again.
fn secret_files(data: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut files = Vec::new();
    for name in SECRETS {
        let path = data.join(name);
        if path.exists() {
            collect(&path, name, &mut files)?;
        }
    }
    files.retain(|(name, _)| name.strip_prefix("pki/").is_none_or(is_key));
    Ok(files)
}

/// Whether a file of `pki` is the key of an authority or the like, which cannot be issued again.
fn is_key(name: &str) -> bool {
    !name.contains('/') && (name.ends_with(".pem") || name.ends_with(".key"))
}

/// The name of an archive's file, which must lie below where it is unpacked.
fn plain_name<R: Read>(entry: &tar::Entry<'_, R>) -> anyhow::Result<String> {
    let path = entry.path()?.into_owned();
    let plain = path.components().all(|c| matches!(c, Component::Normal(_)));
    let name = path.to_str().filter(|_| plain && entry.header().entry_type().is_file());
    Ok(name.with_context(|| format!("it holds {}, which no backup has", path.display()))?.to_owned())
}

/// Writes a backup of a data folder and of a checkpoint of its store. The file appears when it is complete.
pub fn write(
    data: &Path,
    checkpoint: &Path,
    file: &Path,
    secret: &Secret,
    stretch: Stretch,
) -> anyhow::Result<Manifest> {
    let checked = store::check(checkpoint)?;
    let mut files = Vec::new();
    collect(checkpoint, "store", &mut files)?;
    files.extend(secret_files(data)?);
    let manifest = Manifest {
        format: FORMAT,
        skiff: env!("CARGO_PKG_VERSION").to_owned(),
        created: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        revision: checked.revision,
        keys: checked.keys,
        files: files.iter().map(|(name, _)| name.clone()).collect(),
    };
    let partial = beside(file)?;
    let written = (|| {
        let out = File::options().write(true).create_new(true).mode(0o600).open(&partial)?;
        let mut tar = tar::Builder::new(Writer::new(BufWriter::new(out), secret, stretch)?);
        append(&mut tar, MANIFEST, &mut serde_json::to_vec_pretty(&manifest)?.as_slice(), None)?;
        for (name, path) in &files {
            let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            let length = file.metadata()?.len();
            append(&mut tar, name, &mut BufReader::new(file), Some(length))?;
        }
        let out = tar.into_inner()?.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
        out.sync_all()?;
        fs::rename(&partial, file)?;
        sync_folder(parent(file))?;
        anyhow::Ok(())
    })();
    if let Err(error) = written {
        let _ = fs::remove_file(&partial);
        return Err(error.context(format!("cannot write the backup {}", file.display())));
    }
    Ok(manifest)
}

fn append<W: io::Write>(
    tar: &mut tar::Builder<W>,
    name: &str,
    content: &mut dyn Read,
    length: Option<u64>,
) -> anyhow::Result<()> {
    let mut whole = Vec::new();
    let (length, content): (u64, &mut dyn Read) = match length {
        Some(length) => (length, content),
        None => {
            content.read_to_end(&mut whole)?;
            (whole.len() as u64, &mut whole.as_slice())
        }
    };
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o600);
    header.set_size(length);
    // A file that shrank meanwhile must not silently shift what follows.
    let mut exact = content.take(length);
    tar.append_data(&mut header, name, &mut exact)?;
    ensure!(exact.limit() == 0, "{name} changed while it was read");
    Ok(())
}

/// Every file below a path, under names that begin with `name`, in order.
fn collect(path: &Path, name: &str, files: &mut Vec<(String, PathBuf)>) -> anyhow::Result<()> {
    let read = |error| anyhow::Error::from(error).context(format!("cannot read {}", path.display()));
    if !fs::symlink_metadata(path).map_err(read)?.is_dir() {
        files.push((name.to_owned(), path.to_owned()));
        return Ok(());
    }
    let mut entries = fs::read_dir(path).map_err(read)?.collect::<Result<Vec<_>, _>>().map_err(read)?;
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let Some(last) = entry.file_name().to_str().map(str::to_owned) else { continue };
        // The lock of a store, and files that were being written.
        if last == "LOCK" || last.starts_with('.') {
            continue;
        }
        collect(&entry.path(), &format!("{name}/{last}"), files)?;
    }
    Ok(())
}

/// Opens a backup, gives each file to `each`, and answers when everything that the manifest names was there, to the
/// last byte.
fn read(
    file: &Path,
    secret: &Secret,
    mut each: impl FnMut(&str, &mut dyn Read) -> anyhow::Result<()>,
) -> anyhow::Result<Manifest> {
    let mut open = || -> anyhow::Result<Manifest> {
        let mut vault = Reader::open(BufReader::new(File::open(file)?), secret)?;
        let mut archive = tar::Archive::new(&mut vault);
        let mut manifest: Option<Manifest> = None;
        let mut left = Vec::new();
        for entry in archive.entries()? {
            let mut entry = entry?;
            let name = plain_name(&entry)?;
            if manifest.is_none() {
                ensure!(name == MANIFEST, "it begins with {name} where its manifest should be");
                let mut text = Vec::new();
                (&mut entry).take(64 << 20).read_to_end(&mut text)?;
                let found: Manifest = serde_json::from_slice(&text).context("its manifest cannot be read")?;
                ensure!(
                    found.format <= FORMAT,
                    "it has format {}, this version reads up to {FORMAT}: use a newer version",
                    found.format
                );
                left = found.files.iter().rev().cloned().collect();
                manifest = Some(found);
                continue;
            }
            ensure!(
                left.pop().as_deref() == Some(name.as_str()),
                "it holds {name}, which its manifest does not name there"
            );
            each(&name, &mut entry)?;
        }
        let manifest = manifest.context("it is empty")?;
        ensure!(left.is_empty(), "{} is missing in it", left.join(", "));
        // What follows the archive's end is padding, but the vault's own end must have been seen.
        io::copy(&mut vault, &mut io::sink())?;
        Ok(manifest)
    };
    open().with_context(|| format!("the backup {} cannot be used", file.display()))
}

/// Reads all of a backup: every byte is authentic, the store opens and holds together, and the keys can be used.
/// Unpacks the store below `scratch` meanwhile, where only the owner can read it.
pub fn verify(file: &Path, secret: &Secret, scratch: &Path) -> anyhow::Result<Manifest> {
    let folder = scratch.join(format!("skiff-verify-{}", unique()?));
    // Not one that is there: others may make folders beside it.
    let made = DirBuilder::new().mode(0o700).create(&folder);
    made.with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let verified = (|| {
        let mut secrets = Vec::new();
        let manifest = read(file, secret, |name, content| {
            if name.starts_with("store/") {
                return write_file(&folder, name, content);
            }
            secrets.push((name.to_owned(), read_secret(content)?));
            Ok(())
        })?;
        check_secrets(&secrets)?;
        let checked = store::check(&folder.join("store"))?;
        ensure!(
            (checked.revision, checked.keys) == (manifest.revision, manifest.keys),
            "the store in it holds {} keys at revision {}, its manifest says {} at {}",
            checked.keys,
            checked.revision,
            manifest.keys,
            manifest.revision,
        );
        Ok(manifest)
    })();
    fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    verified
}

/// A key or token of a backup.
fn read_secret(content: &mut dyn Read) -> anyhow::Result<String> {
    let mut text = String::new();
    content.take(MOST_SECRET).read_to_string(&mut text)?;
    Ok(text)
}

/// The keys and tokens of a backup parse, and none is missing.
fn check_secrets(secrets: &[(String, String)]) -> anyhow::Result<()> {
    let text = |name: &str| {
        let found = secrets.iter().find(|(n, _)| n == name).map(|(_, text)| text.as_str());
        found.with_context(|| format!("{name} is missing in it"))
    };
    for authority in pki::Authority::ALL {
        let name = format!("pki/{}.pem", authority.name());
        pki::Ca::from_pem(text(&name)?).with_context(|| format!("{name} in it cannot be used"))?;
    }
    pki::PrivateKey::from_pem(text("pki/service-account.pem")?)
        .context("pki/service-account.pem in it cannot be used")?;
    pki::seal::Keyring::parse(text("sealing-keys")?).context("sealing-keys in it cannot be used")?;
    pki::token::JoinToken::parse(text("token")?).context("token in it cannot be used")?;
    Ok(())
}

fn write_file(folder: &Path, name: &str, content: &mut dyn Read) -> anyhow::Result<()> {
    let path = folder.join(name);
    private_dir(parent(&path))?;
    let mut write = || -> io::Result<()> {
        let mut out = File::options().write(true).create_new(true).mode(0o600).open(&path)?;
        io::copy(content, &mut out)?;
        out.sync_all()
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

/// A data folder that no daemon has while a restore works in it.
struct Place {
    data: PathBuf,
    /// Whether it was made for the restore, and nothing is in it yet.
    is_new: bool,
    _lock: nix::fcntl::Flock<File>,
}

impl Place {
    fn take(data: &Path) -> anyhow::Result<Place> {
        let is_new = !data.exists();
        private_dir(data)?;
        Ok(Place { data: data.to_owned(), is_new, _lock: folder::lock(data, 1)? })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_new {
            let _ = fs::remove_file(self.data.join(folder::LOCK));
            let _ = fs::remove_dir(&self.data);
        }
    }
}

/// Makes an empty data folder the cluster of a backup. Answers with the manifest and the revision it goes on at.
/// What fails leaves nothing; what is interrupted lets no server start until it is done again.
pub fn restore(file: &Path, data: &Path, secret: &Secret) -> anyhow::Result<(Manifest, i64)> {
    let mut place = Place::take(data)?;
    let work = data.join(RESTORING);
    let parts: Vec<&str> = SECRETS.into_iter().chain(["store"]).collect();
    if work.exists() {
        // An earlier restore was interrupted: what it had put into place is its own.
        for path in parts.iter().map(|name| data.join(name)).filter(|path| path.exists()) {
            remove(&path)?;
        }
        remove(&work)?;
    }
    let others = ["checkpoints", REPLACEMENT];
    if let Some(taken) = parts.iter().copied().chain(others).map(|name| data.join(name)).find(|path| path.exists()) {
        bail!("{} is there: restore into an empty folder, or move this one away first", taken.display());
    }
    private_dir(&work)?;
    let mut secrets = Vec::new();
    let unpacked = read(file, secret, |name, content| {
        if name.starts_with("store/") {
            return write_file(&work, name, content);
        }
        let text = read_secret(content)?;
        write_file(&work, name, &mut text.as_bytes())?;
        secrets.push((name.to_owned(), text));
        Ok(())
    })
    .and_then(|manifest| {
        check_secrets(&secrets)?;
        store::check(&work.join("store"))?;
        let revision = store::revive(&work.join("store"))?;
        sync_tree(&work)?;
        Ok((manifest, revision))
    });
    let (manifest, revision) = match unpacked {
        Ok(done) => done,
        Err(error) => {
            remove(&work)?;
            return Err(error);
        }
    };
    place.is_new = false;
    for name in parts {
        move_to(&work.join(name), &data.join(name))?;
    }
    sync_folder(data)?;
    remove(&work)?;
    sync_folder(data)?;
    Ok((manifest, revision))
}

/// Lets a checkpoint take the store's place in its data folder; the store that was there is kept beside it.
/// Answers with where that is and the revision it goes on at.
pub fn restore_checkpoint(checkpoint: &Path, data: &Path) -> anyhow::Result<(Option<PathBuf>, i64)> {
    store::check(checkpoint).with_context(|| format!("the checkpoint {} cannot be used", checkpoint.display()))?;
    ensure!(data.join("sealing-keys").exists(), "{} holds no cluster that a checkpoint could be of", data.display());
    let _place = Place::take(data)?;
    let (store, replacement, partial) = (data.join("store"), data.join(REPLACEMENT), data.join(PARTIAL));
    for left in [&replacement, &partial] {
        if left.exists() {
            remove(left)?;
        }
    }
    let copied = copy_checkpoint(checkpoint, data, &partial);
    let revision = match copied {
        Ok(revision) => revision,
        Err(error) => {
            let _ = fs::remove_dir_all(&partial);
            return Err(error);
        }
    };
    // While the replacement has this name no server starts: it would find no store and make an empty one.
    move_to(&partial, &replacement)?;
    sync_folder(data)?;
    let mut aside = None;
    if store.exists() {
        let path = data.join(format!("store.damaged-{}", unique()?));
        move_to(&store, &path)?;
        aside = Some(path);
    }
    move_to(&replacement, &store)?;
    sync_folder(data)?;
    Ok((aside, revision))
}

fn copy_checkpoint(checkpoint: &Path, data: &Path, partial: &Path) -> anyhow::Result<i64> {
    let mut files = Vec::new();
    collect(checkpoint, PARTIAL, &mut files)?;
    for (name, path) in &files {
        // Copied, not linked: what happens to the store from here on must not reach the checkpoint.
        write_file(data, name, &mut File::open(path).with_context(|| format!("cannot read {}", path.display()))?)?;
    }
    let revision = store::revive(partial)?;
    sync_tree(partial)?;
    Ok(revision)
}

fn move_to(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::rename(from, to).with_context(|| format!("cannot move {} to {}", from.display(), to.display()))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A name in the folder of a file for what will become that file.
fn beside(file: &Path) -> anyhow::Result<PathBuf> {
    let name = file.file_name().with_context(|| format!("{} is no name of a file", file.display()))?;
    Ok(parent(file).join(format!(".{}.{}", name.to_string_lossy(), unique()?)))
}

/// Letters that nobody guesses and nothing else has.
fn unique() -> anyhow::Result<String> {
    Ok(pki::hex(&pki::vault::new_key()?[..6]))
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

fn sync_folder(folder: &Path) -> anyhow::Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).with_context(|| format!("cannot sync {}", folder.display()))
}

/// Syncs a folder and all folders below it; the files are synced as they are written.
fn sync_tree(folder: &Path) -> anyhow::Result<()> {
    let read = || format!("cannot read {}", folder.display());
    for entry in fs::read_dir(folder).with_context(read)? {
        let entry = entry.with_context(read)?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        }
    }
    sync_folder(folder)
}

#[cfg(test)]
mod tests;
