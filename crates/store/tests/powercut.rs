//! Power cuts: a recorded run is cut anywhere, with any of what was not synced missing, and what a machine would find
//! afterwards is opened and compared with what was acknowledged.
//!
//! A cut keeps a prefix of the record. Of a file, everything before its last sync is there; of what was written later,
//! each sector of 512 bytes may be there or not. Of a folder, everything before its last sync is there; of later
//! changes a prefix. `SKIFF_POWER_RUNS`, `SKIFF_POWER_CUTS` (of each run) and `SKIFF_POWER_SEED` say how many and which;
//! a failure keeps its record and prints what cuts it again. Needs root and /dev/fuse; left out without, unless `SKIFF_POWER_REQUIRED`.

mod fuse;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fuse::{Mounted, Op};
use store::{Config, Error, KeyRange, LocalStore, Op as Step, RangeRequest, Store, Txn, WatchRequest};

/// The folder that a child works in; tells a child from a test.
const FOLDER: &str = "SKIFF_POWER_FOLDER";
/// Where the first run begins.
const SEED: &str = "SKIFF_POWER_SEED";
/// A recorded run that is cut instead of new ones.
const RECORD: &str = "SKIFF_POWER_RECORD";
const SECTOR: usize = 512;
const WRITERS: u64 = 4;

/// A small generator whose whole state is its seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
}

fn config() -> Config {
    Config {
        volatile: vec![Bytes::from_static(b"v/")],
        snapshot_every: Duration::from_millis(30),
        value_budget: 50_000,
        ceiling_block: 20,
        history: 0,
        ..Config::default()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Runs one of the children below in a mount namespace of its own. Nothing when that cannot be done here.
fn in_namespace(child: &str, settings: &[(&str, &str)]) -> Option<(ExitStatus, String)> {
    let root = nix::unistd::geteuid().is_root() && Path::new("/dev/fuse").exists();
    if !root {
        assert!(std::env::var_os("SKIFF_POWER_REQUIRED").is_none(), "power cuts need root and /dev/fuse");
        println!("LEFT OUT: power cuts need root and /dev/fuse");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]).arg(std::env::current_exe().unwrap());
    command.args(["--exact", child, "--nocapture"]).env(FOLDER, folder.path()).envs(settings.iter().copied());
    let output = command.output().expect("unshare of util-linux");
    let text = [output.stdout, output.stderr].concat();
    Some((output.status, String::from_utf8_lossy(&text).into_owned()))
}

/// Where a child works: in memory, as what is tried there waits for no disk. Nothing in an ordinary test.
fn workplace() -> Option<PathBuf> {
    let folder = PathBuf::from(std::env::var_os(FOLDER)?);
    nix::mount::mount(Some("tmpfs"), &folder, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>).unwrap();
    Some(folder)
}

#[test]
fn no_cut_loses_what_was_acknowledged() {
    let Some((status, output)) = in_namespace("child_with_syncs", &[]) else { return };
    println!("{output}");
    assert!(status.success(), "a power cut did harm");
    assert!(output.contains("cuts did no harm"), "nothing was tried");
}

#[test]
fn a_store_without_its_fsync_is_caught() {
    let Some((status, output)) = in_namespace("child_without_syncs", &[]) else { return };
    println!("{output}");
    assert!(status.success() && output.contains("caught after"), "a store that does not sync was not caught");
}

#[test]
fn bad_disks_are_survived() {
    let Some((status, output)) = in_namespace("child_on_a_bad_disk", &[]) else { return };
    println!("{output}");
    assert!(status.success() && output.contains("bad disks were survived"));
}

/// Cuts as many times as is asked for. Does nothing as an ordinary test.
#[test]
fn child_with_syncs() {
    let Some(folder) = workplace() else { return };
    let (mut runs, cuts) = (number("SKIFF_POWER_RUNS", 3), number("SKIFF_POWER_CUTS", 15));
    let first = number(SEED, 1);
    // The order in which threads ran is no part of a seed: a run that did harm is kept, and cut again as it was.
    let kept =
        std::env::var_os(RECORD).map(|path| std::fs::read_to_string(path).unwrap().lines().map(parsed).collect());
    if kept.is_some() {
        runs = 1;
    }
    for seed in first..first + runs {
        let record: Vec<Op> = kept.clone().unwrap_or_else(|| run(&folder, seed, false));
        for n in 0..cuts {
            if let Err(harm) = cut(&record, seed, n, &folder) {
                let kept = std::env::temp_dir().join(format!("power-cut-{seed}.record"));
                std::fs::write(&kept, record.iter().map(written).collect::<String>()).unwrap();
                panic!("seed {seed}, cut {n}: {harm}; again with {RECORD}={} {SEED}={seed}", kept.display());
            }
        }
        println!("seed {seed}: {} steps recorded, {cuts} cuts did no harm", record.len());
    }
}

#[test]
fn child_without_syncs() {
    let Some(folder) = workplace() else { return };
    let mut tried = 0;
    for seed in 1..=20 {
        let record = run(&folder, seed, true);
        for n in 0..10 {
            tried += 1;
            if let Err(harm) = cut(&record, seed, n, &folder) {
                println!("caught after {tried} cuts: {harm}");
                return;
            }
        }
    }
    panic!("{tried} cuts of a store that does not sync were not noticed");
}

#[test]
fn child_on_a_bad_disk() {
    let Some(folder) = workplace() else { return };
    let mount = folder.join("disk");
    std::fs::create_dir(&mount).unwrap();
    let disk = Mounted::new(&mount);
    let path = mount.join("data");
    runtime().block_on(async {
        let store = Arc::new(LocalStore::open(&path, config()).unwrap());
        let first = store.put("d/a".into(), "1".into()).await.unwrap();

        // A sync stalls: the write waits, reads do not.
        disk.faults.stall.store(3000, Ordering::SeqCst);
        let begun = Instant::now();
        let waiting = tokio::spawn({
            let store = store.clone();
            async move { store.put("d/a".into(), "2".into()).await }
        });
        let mut reads = 0;
        while !waiting.is_finished() {
            let a = store.get(b"d/a").await.unwrap().unwrap();
            assert!(a.value == "1" || waiting.is_finished() || a.mod_revision > first);
            reads += 1;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        waiting.await.unwrap().unwrap();
        assert!(begun.elapsed() >= Duration::from_secs(3), "the write was acknowledged before its sync");
        assert!(reads > 1, "reads waited for the disk");
        disk.faults.stall.store(0, Ordering::SeqCst);

        // No room: writers are told, reads go on, and it heals by itself.
        disk.faults.full.store(true, Ordering::SeqCst);
        let refused = store.put("d/b".into(), "1".into()).await.unwrap_err();
        assert!(matches!(refused, Error::NoSpace { .. }), "{refused}");
        assert_eq!(store.get(b"d/a").await.unwrap().unwrap().value, "2");
        disk.faults.full.store(false, Ordering::SeqCst);
        store.put("d/b".into(), "1".into()).await.unwrap();

        // A failed sync: nothing is acknowledged any more until the store is opened again.
        disk.faults.fail_syncs.store(true, Ordering::SeqCst);
        let failed = store.put("d/c".into(), "1".into()).await.unwrap_err();
        assert!(matches!(failed, Error::ReadOnly(_)), "{failed}");
        disk.faults.fail_syncs.store(false, Ordering::SeqCst);
        assert_eq!(store.put("d/d".into(), "1".into()).await.unwrap_err(), failed, "a failed sync was tried again");
        assert_eq!(store.get(b"d/b").await.unwrap().unwrap().value, "1");
        drop(store);
        let store = LocalStore::open(&path, config()).unwrap();
        store.verify().await.unwrap();
        assert_eq!(store.get(b"d/b").await.unwrap().unwrap().value, "1");
        assert_eq!(store.get(b"d/d").await.unwrap(), None);
        store.put("d/d".into(), "1".into()).await.unwrap();
    });
    drop(disk);
    println!("bad disks were survived");
}

/// A store under load on a recording disk; the record has a note for each acknowledgement.
fn run(folder: &Path, seed: u64, without_syncs: bool) -> Vec<Op> {
    let mount = folder.join(format!("disk-{seed}"));
    std::fs::create_dir(&mount).unwrap();
    let disk = Arc::new(Mounted::new(&mount));
    disk.faults.ignore_log_syncs.store(without_syncs, Ordering::SeqCst);
    let path = mount.join("data");
    let mut random = Random(seed);
    let sessions = 1 + random.below(3);
    for session in 0..sessions {
        let count = 10 + random.below(40);
        // Large values make the log roll over into tables.
        let size = [100, 3000, 200_000][random.below(3)];
        let seeds: Vec<u64> = (0..WRITERS).map(|_| random.next()).collect();
        runtime().block_on(async {
            let store = Arc::new(LocalStore::open(&path, config()).unwrap());
            let writers = seeds.into_iter().enumerate().map(|(n, seed)| {
                let (store, disk) = (store.clone(), disk.clone());
                tokio::spawn(load(store, disk, n, session, count, size, Random(seed)))
            });
            for writer in writers.collect::<Vec<_>>() {
                writer.await.unwrap();
            }
            if let Ok(store) = Arc::try_unwrap(store) {
                store.close();
            }
        });
    }
    let record = disk.record();
    drop(disk);
    std::fs::remove_dir(&mount).unwrap();
    record
}

async fn load(
    store: Arc<LocalStore>,
    disk: Arc<Mounted>,
    writer: usize,
    session: usize,
    count: usize,
    size: usize,
    mut random: Random,
) {
    for n in 0..count {
        let prefix = if writer == 0 { "v" } else { "d" };
        let (key, twin) = (format!("{prefix}/{writer}/{}", random.below(5)), format!("{prefix}/{writer}/twin"));
        let mut value = format!("{session}-{writer}-{n}-").into_bytes();
        let length = value.len() + random.below(size);
        value.resize_with(length, || b'a' + (random.next() % 26) as u8);
        let value = Bytes::from(value);
        let put = |key: &str| Step::put(key.to_owned().into(), value.clone());
        let revision = store.txn(Txn::new().then(put(&key)).then(put(&twin))).await.unwrap().revision;
        let mark = String::from_utf8_lossy(&value[..value.len().min(40)]).into_owned();
        disk.note(format!("{revision} {key} {} {mark}", value.len()));
        if writer == 1 && n % 9 == 8 {
            let _ = store.compact(revision - 5).await;
        }
        if writer == 2 && n % 13 == 12 {
            let copy = format!("{}-copy-{session}-{n}", store_folder(&disk));
            store.checkpoint(copy.into()).await.unwrap();
        }
    }
}

fn store_folder(disk: &Mounted) -> String {
    disk.folder().join("data").display().to_string()
}

/// A step of a record as a line of text.
fn written(op: &Op) -> String {
    let hex = |data: &[u8]| data.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match op {
        Op::Create { parent, name, ino, folder } => format!("create {parent} {name} {ino} {folder}\n"),
        Op::Remove { parent, name } => format!("remove {parent} {name}\n"),
        Op::Rename { parent, name, to, new } => format!("rename {parent} {name} {to} {new}\n"),
        Op::Link { ino, parent, name } => format!("link {ino} {parent} {name}\n"),
        Op::Truncate { ino, size } => format!("truncate {ino} {size}\n"),
        Op::Write { ino, offset, data } => format!("write {ino} {offset} {}\n", hex(data)),
        Op::Sync { ino } => format!("sync {ino}\n"),
        Op::Note(text) => format!("note {text}\n"),
    }
}

fn parsed(line: &str) -> Op {
    let (kind, rest) = line.split_once(' ').unwrap();
    let words: Vec<&str> = rest.split(' ').collect();
    let number = |n: usize| words[n].parse::<u64>().unwrap();
    let text = |n: usize| words[n].to_owned();
    let bytes =
        |hex: &str| (0..hex.len() / 2).map(|n| u8::from_str_radix(&hex[2 * n..2 * n + 2], 16).unwrap()).collect();
    match kind {
        "create" => Op::Create { parent: number(0), name: text(1), ino: number(2), folder: words[3] == "true" },
        "remove" => Op::Remove { parent: number(0), name: text(1) },
        "rename" => Op::Rename { parent: number(0), name: text(1), to: number(2), new: text(3) },
        "link" => Op::Link { ino: number(0), parent: number(1), name: text(2) },
        "truncate" => Op::Truncate { ino: number(0), size: number(1) },
        "write" => Op::Write { ino: number(0), offset: number(1), data: bytes(words[2]) },
        "sync" => Op::Sync { ino: number(0) },
        _ => Op::Note(rest.to_owned()),
    }
}

/// A file's or folder's content as it is being put together again.
#[derive(Clone, Default)]
struct Content {
    data: Vec<u8>,
    entries: BTreeMap<String, u64>,
    folder: bool,
}

/// What a machine finds after a cut.
fn found(record: &[Op], random: &mut Random) -> (usize, BTreeMap<u64, Content>) {
    let end = 1 + random.below(record.len());
    let record = &record[..end];
    // How careless the disk was this time: keeps nothing, a part, or all of what it need not keep.
    let (keep_data, keep_names) = ([0, 30, 50, 80, 100][random.below(5)], [0, 50, 100][random.below(3)]);
    let mut synced: BTreeMap<u64, usize> = BTreeMap::new();
    for (at, op) in record.iter().enumerate() {
        if let Op::Sync { ino } = op {
            synced.insert(*ino, at);
        }
    }
    let is_synced = |ino: u64, at: usize| synced.get(&ino).is_some_and(|sync| at < *sync);
    // Of a folder's later changes a prefix is there.
    let mut ended: BTreeSet<u64> = BTreeSet::new();
    let mut contents: BTreeMap<u64, Content> = BTreeMap::new();
    contents.insert(1, Content { folder: true, ..Content::default() });
    for (at, op) in record.iter().enumerate() {
        let mut named = |parent: u64, random: &mut Random| {
            if is_synced(parent, at) {
                return true;
            }
            if !ended.contains(&parent) && random.below(100) >= keep_names {
                ended.insert(parent);
            }
            !ended.contains(&parent)
        };
        match op {
            Op::Create { parent, name, ino, folder } => {
                contents.insert(*ino, Content { folder: *folder, ..Content::default() });
                if named(*parent, random) {
                    contents.entry(*parent).or_default().entries.insert(name.clone(), *ino);
                }
            }
            Op::Link { ino, parent, name } => {
                if named(*parent, random) {
                    contents.entry(*parent).or_default().entries.insert(name.clone(), *ino);
                }
            }
            Op::Remove { parent, name } => {
                if named(*parent, random) {
                    contents.entry(*parent).or_default().entries.remove(name);
                }
            }
            Op::Rename { parent, name, to, new } => {
                // One change, also between two folders.
                if named(*parent, random)
                    && let Some(ino) = contents.entry(*parent).or_default().entries.remove(name)
                {
                    contents.entry(*to).or_default().entries.insert(new.clone(), ino);
                }
            }
            Op::Truncate { ino, size } => {
                if is_synced(*ino, at) || random.below(100) < keep_data {
                    contents.entry(*ino).or_default().data.resize(*size as usize, 0);
                }
            }
            Op::Write { ino, offset, data } => {
                let file = &mut contents.entry(*ino).or_default().data;
                let mut start = 0;
                while start < data.len() {
                    let at_byte = *offset as usize + start;
                    // Sectors of the disk, not of the write.
                    let length = (SECTOR - at_byte % SECTOR).min(data.len() - start);
                    if is_synced(*ino, at) || random.below(100) < keep_data {
                        if file.len() < at_byte + length {
                            file.resize(at_byte + length, 0);
                        }
                        file[at_byte..at_byte + length].copy_from_slice(&data[start..start + length]);
                    }
                    start += length;
                }
            }
            Op::Sync { .. } | Op::Note(_) => {}
        }
    }
    (end, contents)
}

fn lay_out(contents: &BTreeMap<u64, Content>, ino: u64, path: &Path) {
    let Some(content) = contents.get(&ino) else { return };
    if !content.folder {
        std::fs::write(path, &content.data).unwrap();
        return;
    }
    std::fs::create_dir_all(path).unwrap();
    for (name, child) in &content.entries {
        lay_out(contents, *child, &path.join(name));
    }
}

/// What was acknowledged: revision, key, length and beginning of the value.
type Told = BTreeMap<i64, (String, usize, String)>;

fn told(record: &[Op]) -> Told {
    let notes = record.iter().filter_map(|op| match op {
        Op::Note(text) => {
            let words: Vec<&str> = text.split(' ').collect();
            Some((words[0].parse().unwrap(), (words[1].to_owned(), words[2].parse().unwrap(), words[3].to_owned())))
        }
        _ => None,
    });
    notes.collect()
}

/// One cut; an error says what harm it did.
fn cut(record: &[Op], seed: u64, n: u64, folder: &Path) -> Result<(), String> {
    let mut random = Random(seed.wrapping_mul(0x1000_0001).wrapping_add(n));
    let (end, contents) = found(record, &mut random);
    let told = told(&record[..end]);
    let place = folder.join("found");
    lay_out(&contents, 1, &place);
    let harm = runtime().block_on(look(&place.join("data"), &told));
    std::fs::remove_dir_all(&place).unwrap();
    harm.map_err(|harm| format!("cut at step {end} of {}: {harm}", record.len()))
}

async fn look(path: &Path, told: &Told) -> Result<(), String> {
    let store = LocalStore::open(path, config()).map_err(|error| format!("it does not open: {error}"))?;
    store.verify().await.map_err(|error| format!("it does not hold together: {error}"))?;
    let newest = store.read_revision().await.unwrap();
    let last = told.last_key_value().map_or(0, |(revision, _)| *revision);
    if newest < last {
        return Err(format!("it is at revision {newest}, {last} was given"));
    }
    let mut latest: BTreeMap<&str, i64> = BTreeMap::new();
    let durable = told.iter().filter(|(_, (key, ..))| key.starts_with("d/"));
    for (revision, (key, ..)) in durable.clone() {
        latest.insert(key, *revision);
    }
    let matches = |value: &[u8], wanted: &(String, usize, String)| {
        value.len() == wanted.1 && value.starts_with(wanted.2.as_bytes())
    };
    for (key, revision) in latest {
        let Some(kv) = store.get(key.as_bytes()).await.unwrap() else {
            return Err(format!("{key} of revision {revision} is lost"));
        };
        if kv.mod_revision < revision {
            return Err(format!("{key} fell back to revision {} from {revision}", kv.mod_revision));
        }
        if kv.mod_revision == revision && !matches(&kv.value, &told[&revision]) {
            return Err(format!("{key} has another value than revision {revision} gave it"));
        }
    }
    for writer in 1..WRITERS {
        let own = store.range(RangeRequest::prefix(format!("d/{writer}/").into())).await.unwrap();
        let twin = own.kvs.iter().find(|kv| kv.key.ends_with(b"twin"));
        let has_partner = |twin: &store::KeyValue| {
            own.kvs
                .iter()
                .any(|kv| kv.key != twin.key && kv.mod_revision == twin.mod_revision && kv.value == twin.value)
        };
        if twin.is_some_and(|twin| !has_partner(twin)) {
            return Err(format!("a transaction of writer {writer} is there by half"));
        }
    }
    // The kept history has no gap.
    let compacted = store.stats().await.unwrap().compacted;
    let range = KeyRange::prefix(Bytes::from_static(b"d/"));
    let mut watch = store.watch(WatchRequest::over(range).from(compacted.max(1))).await.unwrap();
    let mut seen: BTreeMap<i64, Vec<Bytes>> = BTreeMap::new();
    loop {
        let batch = watch.next().await.unwrap().map_err(|error| format!("its history ends: {error}"))?;
        if batch.events.is_empty() {
            break;
        }
        seen.insert(batch.revision, batch.events.iter().map(|e| e.kv.value.clone()).collect());
        if batch.revision >= newest {
            break;
        }
    }
    for (revision, wanted) in durable.filter(|(revision, _)| **revision > compacted) {
        match seen.get(revision) {
            Some(values) if values.iter().any(|value| matches(value, wanted)) => {}
            _ => return Err(format!("the event of revision {revision} is lost")),
        }
    }
    let next = store.put("d/after".into(), "1".into()).await.map_err(|e| format!("it takes no write: {e}"))?;
    if next <= last {
        return Err(format!("revision {next} is given a second time, {last} was given before the cut"));
    }
    // A watch may still have to read the log: it holds the folder.
    drop(watch);
    store.close();
    LocalStore::open(path, config()).map(drop).map_err(|error| format!("it does not open a second time: {error}"))
}
