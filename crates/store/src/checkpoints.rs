//! Checkpoints on disk: taken, checked, listed, pruned, and how one becomes a store again.
//!
//! ```text
//! folder/<seconds since 1970>-r<revision>/   a checkpoint that was read whole after it was taken
//! folder/.new-<...>/                         one that is being taken
//! ```
//!
//! # Why
//! A checkpoint shares its tables with the store by hard links: it costs no room and no time, and holds against what a
//! program does to the store. It does not hold against a disk that loses a shared table: so each is read again before
//! it is offered, and a backup on another disk is the answer to the rest.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::contract::{Store, Verified};
use crate::disk::Disk;
use crate::error::Error;

/// By how much numbering moves on when a store is restored: more than a cluster can have given since the copy.
pub const RESTORE_GAP: i64 = 1_000_000_000;

/// Reads a closed store or a checkpoint, all of it with every checksum, and changes nothing.
///
/// # Errors
/// `Corrupt`, `NewerFormat` or `Io`.
pub fn check(folder: &Path) -> Result<Verified, Error> {
    Disk::check(folder)
}

/// Makes a closed copy of a store fit to take the store's place: numbering goes on [`RESTORE_GAP`] above the copy, and
/// reads and watches of any revision that clients may remember are `Compacted`. Answers with the new revision.
///
/// # Errors
/// `Locked`, `Corrupt`, `NewerFormat` or `Io`.
pub fn revive(folder: &Path) -> Result<i64, Error> {
    Disk::advance(folder, RESTORE_GAP)
}

/// A checkpoint that was good when it was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub folder: PathBuf,
    pub taken: SystemTime,
    pub revision: i64,
}

/// The checkpoints of one folder.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
}

fn io(what: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    move |error| Error::Io(format!("{}: {error}", what.display()))
}

impl Checkpoints {
    /// Uses a folder on the file system of the store; it is made when the first is taken.
    pub fn new(folder: impl Into<PathBuf>) -> Checkpoints {
        Checkpoints { folder: folder.into() }
    }

    /// Takes a checkpoint and reads all of it before it counts.
    ///
    /// # Errors
    /// Those of the store and of the disk. What was begun is removed.
    pub async fn take(&self, store: &dyn Store, now: SystemTime) -> Result<Checkpoint, Error> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder).map_err(io(&self.folder))?;
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let new = self.folder.join(format!(".new-{seconds}-{}", std::process::id()));
        let taken = async {
            store.checkpoint(new.clone()).await?;
            let path = new.clone();
            let checked = tokio::task::spawn_blocking(move || check(&path)).await.map_err(|_| Error::Closed)??;
            let mut folder = self.folder.join(format!("{seconds}-r{}", checked.revision));
            // Two within a second of the same revision are the same.
            if folder.exists() {
                folder = self.folder.join(format!("{seconds}-r{}.{}", checked.revision, std::process::id()));
            }
            fs::rename(&new, &folder).map_err(io(&folder))?;
            fs::File::open(&self.folder).and_then(|f| f.sync_all()).map_err(io(&self.folder))?;
            let taken = UNIX_EPOCH + Duration::from_secs(seconds);
            Ok(Checkpoint { folder, taken, revision: checked.revision })
        }
        .await;
        if taken.is_err() {
            let _ = fs::remove_dir_all(&new);
        }
        taken
    }

    /// All that are there, the newest first. A folder that cannot be read holds none.
    pub fn list(&self) -> Vec<Checkpoint> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut found: Vec<Checkpoint> = entries.filter_map(|entry| parse(entry.path())).collect();
        found.sort_by_key(|kept| std::cmp::Reverse((kept.taken, kept.revision)));
        found
    }

    /// The newest one that is good now: each is read whole.
    pub fn last_good(&self) -> Option<Checkpoint> {
        self.list().into_iter().find(|checkpoint| match check(&checkpoint.folder) {
            Ok(_) => true,
            Err(error) => {
                tracing::warn!(%error, checkpoint = %checkpoint.folder.display(), "a checkpoint is not usable");
                false
            }
        })
    }

    /// Removes all but the newest ones.
    ///
    /// # Errors
    /// `Io` when one cannot be removed.
    pub fn prune(&self, keep: usize) -> Result<(), Error> {
        for checkpoint in self.list().into_iter().skip(keep) {
            fs::remove_dir_all(&checkpoint.folder).map_err(io(&checkpoint.folder))?;
        }
        Ok(())
    }

    /// Removes what was begun and never finished. Not while one is being taken.
    pub fn tidy(&self) {
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(".new-") {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

fn parse(folder: PathBuf) -> Option<Checkpoint> {
    let name = folder.file_name()?.to_str()?;
    let (seconds, revision) = name.split_once("-r")?;
    let revision = revision.split('.').next()?.parse().ok()?;
    let taken = UNIX_EPOCH.checked_add(Duration::from_secs(seconds.parse().ok()?))?;
    Some(Checkpoint { folder, taken, revision })
}
