//! The log on disk: RocksDB, kept small, and not trusted.
//!
//! ```text
//! folder/LOCK      held while a process has the store open
//! folder/FORMAT    the version of everything here
//! folder/db/       RocksDB
//! ```
//!
//! # Why
//! RocksDB's recovery takes the first damaged record for the end of its log. `wal` reads the log first: damage with
//! valid records behind it is a hole in what was synced, and refused. Keys are ordered by revision, so the tree's
//! levels hardly overlap and flash is written little.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRecoveryMode, Direction, IteratorMode, LogLevel, Options,
    ReadOptions, WriteBatch, WriteOptions, checkpoint::Checkpoint,
};

use crate::contract::Verified;
use crate::error::Error;
use crate::index::{Index, Place, Version};
use crate::lease::Leases;
use crate::local::{Config, Loaded, State};
use crate::medium::Batch;
use crate::record;
use crate::wal;

/// The format that this version writes, and the newest it reads.
const FORMAT: u32 = 1;
/// Room that must stay free on the disk: enough for RocksDB to flush and compact what it has accepted.
const RESERVE: u64 = 32 << 20;

/// An open folder.
pub(crate) struct Disk {
    db: DB,
    folder: PathBuf,
    /// Held as long as the store is open; absent when it is only looked at.
    #[expect(dead_code, reason = "held, not read")]
    lock: Option<File>,
}

fn io(what: &Path) -> impl FnOnce(std::io::Error) -> Error + '_ {
    move |error| Error::Io(format!("{}: {error}", what.display()))
}

fn rocks(error: rocksdb::Error) -> Error {
    match error.kind() {
        rocksdb::ErrorKind::Corruption => Error::Corrupt(error.into_string()),
        _ => Error::Io(error.into_string()),
    }
}

impl Disk {
    /// Opens a folder, checks it, and reads all of it.
    pub fn open(folder: &Path, config: &Config) -> Result<(Disk, Loaded), Error> {
        make_folder(folder)?;
        let disk = Disk::attach(folder)?;
        let loaded = disk.load(config)?;
        Ok((disk, loaded))
    }

    /// Takes a folder for this process and opens its log, without reading it.
    fn attach(folder: &Path) -> Result<Disk, Error> {
        let lock = lock(folder)?;
        let path = folder.join("db");
        check_format(folder, !path.join("CURRENT").exists())?;
        // RocksDB would make it and not sync the folder that it lies in: everything could be lost with its name.
        make_folder(&path)?;
        wal::check(&path)?;
        let db = DB::open(&options(), &path).map_err(rocks)?;
        Ok(Disk { db, folder: folder.to_owned(), lock: Some(lock) })
    }

    /// Reads all of a folder that no process has open, with every checksum, and changes nothing.
    pub fn check(folder: &Path) -> Result<Verified, Error> {
        let path = folder.join("db");
        if !path.join("CURRENT").exists() {
            return Err(Error::Corrupt(format!("{} holds no store", folder.display())));
        }
        check_format(folder, false)?;
        wal::check(&path)?;
        let db = DB::open_for_read_only(&options(), &path, false).map_err(rocks)?;
        let disk = Disk { db, folder: folder.to_owned(), lock: None };
        let mut verified = Verified { revision: disk.newest()?, ..Verified::default() };
        let mut live = HashSet::new();
        for item in disk.scan(record::CHANGES) {
            let (key, bytes) = item?;
            record::parse_change_key(&key)
                .ok_or_else(|| Error::Corrupt("a key of the log does not parse".to_owned()))?;
            let found = record::decode(&bytes)?;
            verified.versions += 1;
            verified.bytes += found.value.len() as u64;
            match found.version {
                0 => live.remove(&found.key),
                _ => live.insert(found.key),
            };
        }
        for item in disk.scan(record::SNAPSHOT) {
            let (_, found) = snapshot(&item?.1)?;
            verified.versions += 1;
            verified.bytes += found.value.len() as u64;
            live.insert(found.key);
        }
        verified.keys = live.len();
        disk.leases(&Config::default())?;
        disk.gaps()?;
        Ok(verified)
    }

    /// Moves numbering on by so much in a folder that no process has open, and compacts up to there: what anybody saw
    /// of the store's other life is answered `Compacted`. Answers with the revision.
    pub fn advance(folder: &Path, by: i64) -> Result<i64, Error> {
        let disk = Disk::attach(folder)?;
        let to = disk.newest()?.saturating_add(by.max(1));
        let mut batch = Batch::default();
        for name in [record::COMPACTED, record::CEILING, record::CLEAN] {
            batch.put(name, record::encode_numbers([to]));
        }
        batch.put(record::GAPS, Vec::new());
        disk.write(batch)?;
        disk.sync()?;
        Ok(to)
    }

    /// The newest revision that may have been given.
    fn newest(&self) -> Result<i64, Error> {
        let mut newest = 1;
        let last = self.db.iterator(IteratorMode::From(&[record::CHANGES + 1], Direction::Reverse)).next();
        if let Some(item) = last
            && let Some((revision, _)) = record::parse_change_key(&item.map_err(rocks)?.0)
        {
            newest = newest.max(revision);
        }
        for item in self.scan(record::SNAPSHOT) {
            newest = newest.max(snapshot(&item?.1)?.0);
        }
        // Only a clean stop leaves an exact number; else everything up to the ceiling may have been given.
        let known = match self.number(record::CLEAN)? {
            Some(clean) => Some(clean),
            None => self.number(record::CEILING)?,
        };
        Ok(newest.max(known.unwrap_or(0)).max(self.number(record::COMPACTED)?.unwrap_or(0)))
    }

    pub fn value(&self, revision: i64, sub: u32) -> Result<Option<Bytes>, Error> {
        match self.db.get_pinned(record::change_key(revision, sub)).map_err(rocks)? {
            Some(bytes) => Ok(Some(record::decode(&bytes)?.value)),
            None => Ok(None),
        }
    }

    pub fn write(&self, batch: Batch) -> Result<(), Error> {
        let mut out = WriteBatch::default();
        for (key, value) in &batch.puts {
            out.put(key, value);
        }
        for key in &batch.deletes {
            out.delete(key);
        }
        self.db.write_opt(out, &WriteOptions::default()).map_err(rocks)
    }

    pub fn sync(&self) -> Result<(), Error> {
        self.db.flush_wal(true).map_err(rocks)
    }

    pub fn check_room(&self) -> Result<(), Error> {
        let stat = rustix::fs::statvfs(&self.folder).map_err(|e| Error::Io(format!("the data folder: {e}")))?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free < RESERVE { Err(Error::NoSpace { free, wanted: RESERVE }) } else { Ok(()) }
    }

    pub fn bytes(&self) -> u64 {
        let entries = fs::read_dir(self.folder.join("db")).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.metadata().ok()).map(|m| m.len()).sum()
    }

    pub fn checkpoint(&self, folder: &Path) -> Result<(), Error> {
        fs::DirBuilder::new().mode(0o700).create(folder).map_err(io(folder))?;
        let checkpoint = Checkpoint::new(&self.db).map_err(rocks)?;
        checkpoint.create_checkpoint(folder.join("db")).map_err(rocks)?;
        write_format(folder)?;
        sync_folder(folder)?;
        match folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => sync_folder(parent),
            None => Ok(()),
        }
    }

    /// Reads the log into an index, and settles what an unclean stop left.
    fn load(&self, config: &Config) -> Result<Loaded, Error> {
        let compacted = self.number(record::COMPACTED)?.unwrap_or(0);
        let clean = self.number(record::CLEAN)?;
        let ceiling = self.number(record::CEILING)?;
        let mut gaps = self.gaps()?;
        let mut opening = Batch::default();

        let mut index = Index::default();
        let mut leases = self.leases(config)?;
        let mut resident = VecDeque::new();
        let mut resident_bytes = 0;
        let mut newest = 1;
        let mut turned_volatile: BTreeMap<Bytes, Version> = BTreeMap::new();
        for item in self.scan(record::CHANGES) {
            let (key, bytes) = item?;
            let (revision, sub) = record::parse_change_key(&key)
                .ok_or_else(|| Error::Corrupt("a key of the log does not parse".to_owned()))?;
            let found = record::decode(&bytes)?;
            newest = newest.max(revision);
            let length = found.value.len();
            let (key, version) = version(found, revision, sub);
            if config.is_volatile(&key) {
                // The prefix was durable in an earlier run.
                opening.delete(record::change_key(revision, sub));
                turned_volatile.insert(key, version);
                continue;
            }
            resident_bytes += length;
            if length > 0 {
                resident.push_back((key.clone(), revision));
            }
            resident_bytes -= index.push(&key, version, true);
            while resident_bytes > config.value_budget
                && let Some((key, revision)) = resident.pop_front()
            {
                resident_bytes -= index.evict(&key, revision);
            }
        }
        let mut position = u32::MAX;
        for item in self.scan(record::SNAPSHOT) {
            let (stored, bytes) = item?;
            let (revision, found) = snapshot(&bytes)?;
            newest = newest.max(revision);
            let length = found.value.len();
            let (key, mut version) = version(found, revision, 0);
            let ended = version.lease != 0 && leases.get(version.lease).is_none();
            if ended {
                // The lease ended after the snapshot.
                opening.delete(stored.to_vec());
                continue;
            }
            if turned_volatile.get(&key).is_some_and(|v| v.mod_revision > revision) {
                continue;
            }
            turned_volatile.remove(&key);
            if !config.is_volatile(&key) {
                // The prefix was volatile in an earlier run: the key joins the others in the log.
                opening.delete(stored.to_vec());
                if index.newest(&key).is_some_and(|(_, v)| v.mod_revision >= revision) {
                    continue;
                }
                version.sub = position;
                position -= 1;
                if let Place::Memory(value) = &version.value {
                    opening.put(record::change_key(revision, version.sub), record::encode(&key, &version, value));
                }
            }
            resident_bytes += length;
            resident_bytes -= index.push(&key, version, false);
        }
        for (key, version) in turned_volatile {
            let Place::Memory(value) = &version.value else { continue };
            if version.is_deletion() {
                continue;
            }
            let mut bytes = version.mod_revision.to_be_bytes().to_vec();
            bytes.extend_from_slice(&record::encode(&key, &version, value));
            opening.put(record::snapshot_key(&key), bytes);
            resident_bytes += value.len();
            index.push(&key, version, false);
        }
        for (key, versions) in index.entries(&crate::contract::KeyRange::all()) {
            if let Some(last) = versions.last().filter(|v| v.lease != 0) {
                leases.attach(last.lease, key);
            }
        }

        let mut leftover = Vec::new();
        while !index.compact(compacted, usize::MAX, &mut leftover).1 {}

        // A clean stop left the exact revision; after another, what was given above the newest record is unknown.
        let revision = match clean {
            Some(clean) => clean.max(newest),
            None => ceiling.unwrap_or(newest).max(newest),
        };
        if clean.is_none() && revision > newest {
            gaps.push((newest, revision));
        }
        gaps.retain(|(_, high)| *high > compacted);
        let ceiling = revision.saturating_add(config.ceiling_block);
        opening.put(record::CEILING, record::encode_numbers([ceiling]));
        opening.put(record::GAPS, record::encode_numbers(gaps.iter().flat_map(|(low, high)| [*low, *high])));
        opening.delete(record::CLEAN);
        self.check_room()?;
        self.write(opening)?;
        self.sync()?;

        let state = State {
            index,
            revision,
            compacted,
            gaps,
            volatile_since: if config.volatile.is_empty() { 0 } else { revision },
            volatile: config.volatile.clone(),
            failed: None,
        };
        Ok(Loaded { state, leases, resident, resident_bytes, ceiling, leftover })
    }

    fn leases(&self, config: &Config) -> Result<Leases, Error> {
        let mut leases = Leases::default();
        let now = config.clock.now();
        for item in self.scan(record::LEASES) {
            let (key, value) = item?;
            let (Ok(id), Ok(seconds)) = (<[u8; 8]>::try_from(&key[1..]), <[u8; 8]>::try_from(&value[..])) else {
                return Err(Error::Corrupt("a lease of the log does not parse".to_owned()));
            };
            // How much had passed is not known: a holder gets its whole time again, never less.
            leases.insert(i64::from_be_bytes(id), Duration::from_secs(u64::from_be_bytes(seconds)), now);
        }
        Ok(leases)
    }

    /// All pairs whose key begins with a byte, in order, their checksums verified.
    fn scan(&self, kind: u8) -> impl Iterator<Item = Result<(Box<[u8]>, Box<[u8]>), Error>> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(vec![kind + 1]);
        options.set_verify_checksums(true);
        options.fill_cache(false);
        options.set_readahead_size(1 << 20);
        let mode = IteratorMode::From(&[kind], Direction::Forward);
        self.db.iterator_opt(mode, options).map(|item| item.map_err(rocks))
    }

    fn number(&self, key: &[u8]) -> Result<Option<i64>, Error> {
        match self.db.get(key).map_err(rocks)? {
            Some(bytes) => Ok(record::numbers(&bytes)?.first().copied()),
            None => Ok(None),
        }
    }

    fn gaps(&self) -> Result<Vec<(i64, i64)>, Error> {
        let numbers = match self.db.get(record::GAPS).map_err(rocks)? {
            Some(bytes) => record::numbers(&bytes)?,
            None => Vec::new(),
        };
        Ok(numbers.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect())
    }
}

/// A volatile key as of a snapshot: when it was last changed, and how it was.
fn snapshot(bytes: &[u8]) -> Result<(i64, record::Record), Error> {
    let damaged = || Error::Corrupt("a snapshot record does not parse".to_owned());
    let (revision, rest) = bytes.split_first_chunk::<8>().ok_or_else(damaged)?;
    Ok((i64::from_be_bytes(*revision), record::decode(rest)?))
}

fn version(found: record::Record, revision: i64, sub: u32) -> (Bytes, Version) {
    let version = Version {
        mod_revision: revision,
        sub,
        create_revision: found.create_revision,
        version: found.version,
        lease: found.lease,
        value: Place::Memory(found.value),
    };
    (found.key, version)
}

/// RocksDB for small machines: little memory, no statistics timers, and an error rather than a guess.
fn options() -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(&Cache::new_lru_cache(4 << 20));
    blocks.set_block_size(16 << 10);
    blocks.set_cache_index_and_filter_blocks(true);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_paranoid_checks(true);
    // `wal::check` has already told a torn tail from a hole; what is left to cut is the tail.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_recycle_log_file_num(0);
    options.set_write_buffer_size(4 << 20);
    options.set_max_write_buffer_number(2);
    options.set_target_file_size_base(8 << 20);
    options.set_max_bytes_for_level_base(32 << 20);
    options.set_max_background_jobs(2);
    options.set_max_open_files(64);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_block_based_table_factory(&blocks);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_skip_stats_update_on_db_open(true);
    options.set_periodic_compaction_seconds(0);
    options.set_ttl(0);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    options.set_max_manifest_file_size(1 << 20);
    options
}

/// Takes the folder for this process.
fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("LOCK");
    let file = File::options().create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(io(&path))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked(folder.display().to_string())),
        Err(error) => Err(io(&path)(error.into())),
    }
}

fn check_format(folder: &Path, fresh: bool) -> Result<(), Error> {
    match read_format(folder)? {
        Some(_) => Ok(()),
        None if fresh => write_format(folder),
        None => Err(Error::Corrupt(format!("{} is missing", folder.join("FORMAT").display()))),
    }
}

/// The format of a folder, if it says one, which this version can read.
pub(crate) fn read_format(folder: &Path) -> Result<Option<u32>, Error> {
    let path = folder.join("FORMAT");
    match fs::read_to_string(&path) {
        Ok(text) => match text.trim().parse::<u32>() {
            Ok(found) if found <= FORMAT => Ok(Some(found)),
            Ok(found) => Err(Error::NewerFormat { found: found.to_string(), known: FORMAT }),
            Err(_) => Err(Error::Corrupt(format!("{} holds no format number", path.display()))),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io(&path)(error)),
    }
}

/// Writes the format's number so that it is there whole or not at all.
fn write_format(folder: &Path) -> Result<(), Error> {
    use std::io::Write;
    let (path, next) = (folder.join("FORMAT"), folder.join("FORMAT.new"));
    let mut file =
        File::options().create(true).truncate(true).write(true).mode(0o600).open(&next).map_err(io(&next))?;
    writeln!(file, "{FORMAT}").and_then(|()| file.sync_all()).map_err(io(&next))?;
    fs::rename(&next, &path).map_err(io(&path))?;
    sync_folder(folder)
}

/// Makes a folder that is there after a power cut: its name is synced too.
fn make_folder(folder: &Path) -> Result<(), Error> {
    if folder.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io(folder))?;
    match folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => sync_folder(parent),
        None => sync_folder(Path::new(".")),
    }
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|dir| dir.sync_all()).map_err(io(folder))
}
