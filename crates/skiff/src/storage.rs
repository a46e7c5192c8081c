//! The server's store: how it is opened, what is said when it is damaged, and the checkpoints taken of it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow, ensure};
use nix::fcntl::Flock;
use parking_lot::Mutex;
use store::{Checkpoints, LocalStore, Store};

/// How long a server without a checkpoint runs before it takes the first: clusters that live for a test take none.
const FIRST: Duration = Duration::from_secs(600);

/// The options of `skiff server` about its store.
#[derive(clap::Args, Clone, Debug)]
#[group(skip)]
pub struct Options {
    /// Take a checkpoint of the store so often, as 30m or 6h; 0 for never.
    #[arg(long, env = "SKIFF_CHECKPOINT_EVERY", value_name = "TIME", default_value = "6h", value_parser = duration)]
    pub checkpoint_every: Duration,
    /// Keep so many checkpoints.
    #[arg(long, env = "SKIFF_CHECKPOINT_KEEP", value_name = "NUMBER", default_value_t = 4)]
    pub checkpoint_keep: usize,
}

/// Reads a length of time: a number and s, m, h or d.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no length of time, such as 90s, 30m, 6h or 2d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let unit = match &text[digits.len()..] {
        "" if number == 0 => 1,
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    number.checked_mul(unit).map(Duration::from_secs).ok_or_else(wrong)
}

/// Where the store of a data folder lies.
pub fn folder(data: &Path) -> PathBuf {
    data.join("store")
}

/// The checkpoints of a data folder.
pub fn checkpoints(data: &Path) -> Checkpoints {
    Checkpoints::new(data.join("checkpoints"))
}

/// A folder for a checkpoint that is no part of the schedule, removed with this.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Chooses a folder, which is not made yet, on the file system of the store.
    pub fn new(data: &Path) -> anyhow::Result<Scratch> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let folder = data.join("checkpoints");
        pki::file::private_dir(&folder)?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let seconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        Ok(Scratch(folder.join(format!(".new-{seconds}-{}-{number}", std::process::id()))))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        match std::fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, folder = %self.0.display(), "a checkpoint could not be removed");
            }
            _ => {}
        }
    }
}

/// Leases of nodes and the tail of events live in memory with snapshots: flash cards last, and a crash costs seconds.
fn settings() -> store::Config {
    store::Config {
        volatile: ["/registry/leases/kube-node-lease/", "/registry/events/"].map(|p| p.into()).to_vec(),
        ..store::Config::default()
    }
}

/// Refuses a data folder whose store a newer version wrote, or into which a restore was interrupted; touches nothing.
pub fn check(data: &Path) -> anyhow::Result<()> {
    let unfinished = [crate::backup::RESTORING, crate::backup::REPLACEMENT].map(|name| data.join(name));
    ensure!(
        !unfinished.iter().any(|path| path.exists()),
        "a restore into {} was interrupted: run the same `skiff restore` again",
        data.display()
    );
    Ok(LocalStore::check_format(&folder(data))?)
}

/// Opens the store of a data folder, which this process has for itself. When it is damaged the error names the last good
/// checkpoint and ends with the command that puts it into place.
pub fn open(data: &Path) -> anyhow::Result<LocalStore> {
    match LocalStore::open(&folder(data), settings()) {
        Ok(store) => {
            checkpoints(data).tidy();
            Ok(store)
        }
        Err(error @ store::Error::Corrupt(_)) => {
            let data_dir = data.display();
            Err(match checkpoints(data).last_good() {
                Some(good) => {
                    let age = spoken(SystemTime::now().duration_since(good.taken).unwrap_or_default());
                    let folder = good.folder.display();
                    anyhow!(
                        "{error}: the newest is {age} old, take it with: skiff restore {folder} --data-dir {data_dir}"
                    )
                }
                None => anyhow!(
                    "{error}: there is no good checkpoint, so move {data_dir} away and restore a backup with: \
                     skiff restore FILE --data-dir {data_dir}"
                ),
            })
        }
        Err(error) => Err(error.into()),
    }
}

fn spoken(age: Duration) -> String {
    match age.as_secs() / 60 {
        minutes @ 0..120 => format!("{minutes} minutes"),
        minutes if minutes < 48 * 60 => format!("{} hours", minutes / 60),
        minutes => format!("{} days", minutes / (24 * 60)),
    }
}

/// Takes checkpoints on schedule, each read whole after it was taken, and keeps the newest.
pub async fn keep_checkpoints(data: PathBuf, store: Arc<LocalStore>, options: Options) {
    if options.checkpoint_every.is_zero() {
        return;
    }
    let checkpoints = checkpoints(&data);
    loop {
        let wait = match checkpoints.list().first() {
            None => FIRST.min(options.checkpoint_every),
            // A clock that was set back must not stop the schedule.
            Some(last) => match SystemTime::now().duration_since(last.taken) {
                Ok(age) => options.checkpoint_every.saturating_sub(age),
                Err(_) => options.checkpoint_every,
            },
        };
        tokio::time::sleep(wait).await;
        match checkpoints.take(&*store, SystemTime::now()).await {
            Ok(taken) => {
                tracing::info!(folder = %taken.folder.display(), revision = taken.revision, "checkpoint taken")
            }
            Err(error) => {
                tracing::error!(%error, "no checkpoint could be taken");
                // Not at once again: the cause, such as a full disk, takes time to go.
                tokio::time::sleep(options.checkpoint_every.min(Duration::from_secs(600))).await;
                continue;
            }
        }
        if let Err(error) = checkpoints.prune(options.checkpoint_keep.max(1)) {
            tracing::warn!(%error, "an old checkpoint could not be removed");
        }
    }
}

/// What was given to the log of a store before today, so that what was written today can be told.
#[derive(Debug)]
pub struct Today {
    /// Since when, and how much before that.
    begin: Mutex<(SystemTime, u64)>,
}

impl Today {
    /// Begins with a store that was just opened.
    pub fn new() -> Today {
        Today { begin: Mutex::new((SystemTime::now(), 0)) }
    }

    /// Bytes that were written today, or since the store was opened, and since when; of the bytes since it was opened.
    pub fn written(&self, logged: u64) -> (u64, SystemTime) {
        let (since, before) = *self.begin.lock();
        (logged.saturating_sub(before), since)
    }

    /// Begins anew at every midnight of UTC.
    pub async fn keep(self: Arc<Today>, store: Arc<dyn Store>) {
        loop {
            tokio::time::sleep(until_midnight(SystemTime::now())).await;
            if let Ok(stats) = store.stats().await {
                *self.begin.lock() = (SystemTime::now(), stats.logged_bytes);
            }
        }
    }
}

fn until_midnight(now: SystemTime) -> Duration {
    const DAY: u64 = 86_400;
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    Duration::from_secs(DAY - seconds % DAY)
}

/// A checkpoint of the store of a data folder, for a backup: of the running server, or of the closed store.
pub struct Snapshot {
    folder: PathBuf,
    _kept: Kept,
}

/// What a snapshot lasts as long as.
enum Kept {
    /// The running server removes it when the connection ends.
    Server { _answer: crate::control::Answer },
    /// The lock keeps servers from starting; it goes last.
    Here { _scratch: Scratch, _lock: Flock<File> },
}

impl Snapshot {
    /// Takes one of the store of a data folder.
    pub async fn take(data: &Path) -> anyhow::Result<Snapshot> {
        if let Some(answer) = crate::control::ask(data, "checkpoint")? {
            let folder = answer.value.get("folder").and_then(serde_json::Value::as_str);
            let folder = folder.context("the server named no folder")?.into();
            return Ok(Snapshot { folder, _kept: Kept::Server { _answer: answer } });
        }
        crate::datastore::check_own(data)?;
        ensure!(folder(data).join("FORMAT").exists(), "{} holds no store to back up", data.display());
        let lock = crate::folder::lock(data, 1)?;
        check(data)?;
        let store = open(data)?;
        let scratch = Scratch::new(data)?;
        let taken = store.checkpoint(scratch.path().to_owned()).await;
        tokio::task::spawn_blocking(move || store.close()).await.context("the store did not close")?;
        taken.context("no checkpoint can be taken")?;
        Ok(Snapshot { folder: scratch.path().to_owned(), _kept: Kept::Here { _scratch: scratch, _lock: lock } })
    }

    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_time_are_read() {
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("2d"), Ok(Duration::from_secs(172_800)));
        for wrong in ["", "6", "h", "6x", "-1h", "6 h", "99999999999999999999d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(until_midnight(at(10 * 86_400)), Duration::from_secs(86_400));
        assert_eq!(until_midnight(at(10 * 86_400 - 1)), Duration::from_secs(1));
        assert_eq!(spoken(Duration::from_secs(3 * 3600)), "3 hours");
    }
}
