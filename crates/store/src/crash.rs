//! Crash tests: children of this test binary are killed under load, or die at a fail point, and what they leave is
//! opened and compared with what they were told.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::contract::{KeyRange, Op, RangeRequest, Store, Txn, WatchRequest};
use crate::error::Error;
use crate::failpoint::{self, armed};
use crate::local::{Config, LocalStore};

/// The folder that a child is to load; tells a child from a test.
const FOLDER: &str = "SKIFF_STORE_CHILD_FOLDER";
/// How often the load is killed.
const KILLS: &str = "SKIFF_STORE_KILLS";
/// Writers of a child.
const WRITERS: usize = 6;

fn config() -> Config {
    Config {
        volatile: vec![Bytes::from_static(b"v/")],
        snapshot_every: Duration::from_millis(20),
        value_budget: 10_000,
        ceiling_block: 50,
        history: 0,
        ..Config::default()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// The load that a child runs until it dies. Does nothing as an ordinary test.
#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    runtime().block_on(async {
        let store = Arc::new(LocalStore::open(Path::new(&folder), config()).unwrap());
        let tasks: Vec<_> = (0..WRITERS).map(|n| tokio::spawn(load(store.clone(), n))).collect();
        for task in tasks {
            task.await.unwrap();
        }
    });
}

async fn load(store: Arc<LocalStore>, writer: usize) {
    let begun = Instant::now();
    // Bounded, should nobody kill it.
    for n in 0u64.. {
        if begun.elapsed() > Duration::from_secs(60) {
            return;
        }
        let volatile = writer == 0;
        let prefix = if volatile { "v" } else { "d" };
        let (key, twin) = (format!("{prefix}/{writer}/{}", n % 7), format!("{prefix}/{writer}/twin"));
        let value = Bytes::from(format!("{:x}-{n}", std::process::id()));
        // Two keys at one revision: they must come back together.
        let txn = Txn::new().then(Op::put(key.clone().into(), value.clone())).then(Op::put(twin.into(), value.clone()));
        let revision = store.txn(txn).await.unwrap().revision;
        let line = format!("\nack {revision} {key} {}\n", std::str::from_utf8(&value).unwrap());
        std::io::stdout().write_all(line.as_bytes()).unwrap();
        if writer == 1 && n % 40 == 39 {
            let _ = store.compact(revision - 20).await;
        }
    }
}

/// What was acknowledged, by all children so far.
#[derive(Default)]
struct Told {
    /// Durable writes: revision to key and value.
    durable: BTreeMap<i64, (String, String)>,
    revisions: BTreeSet<i64>,
}

/// Runs a child on a folder. It is killed after `life`, or dies by itself.
fn run(folder: &Path, told: &mut Told, life: Option<Duration>, die_at: Option<&str>) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "crash::child", "--nocapture"]).env(FOLDER, folder);
    if let Some(point) = die_at {
        command.env(armed::DIE_AT, point);
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let reader = std::thread::spawn(move || output.lines().map_while(Result::ok).collect::<Vec<_>>());
    if let Some(life) = life {
        std::thread::sleep(life);
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    assert!(!status.success(), "the child ended by itself: {status}");
    let before = told.revisions.last().copied().unwrap_or(0);
    let mut acknowledged = 0;
    for line in reader.join().unwrap() {
        let words: Vec<&str> = line.split(' ').collect();
        let ["ack", revision, key, value] = words[..] else { continue };
        let revision: i64 = revision.parse().unwrap();
        assert!(revision > before, "revision {revision} was given before the crash at {before}");
        assert!(told.revisions.insert(revision), "revision {revision} was given twice");
        if key.starts_with("d/") {
            told.durable.insert(revision, (key.to_owned(), value.to_owned()));
        }
        acknowledged += 1;
    }
    println!("{status}: {acknowledged} acknowledged, newest {:?}", told.revisions.last());
}

/// Opens what a child left and compares.
fn check(folder: &Path, told: &Told) {
    runtime().block_on(async {
        let store = LocalStore::open(folder, config()).unwrap();
        store.verify().await.unwrap();
        let newest = store.read_revision().await.unwrap();
        let last_told = told.revisions.last().copied().unwrap_or(0);
        assert!(newest >= last_told, "the store is at {newest}, {last_told} was given");
        let all = store.range(RangeRequest::prefix(Bytes::from_static(b"d/"))).await.unwrap();
        let now: BTreeMap<&str, _> = all.kvs.iter().map(|kv| (std::str::from_utf8(&kv.key).unwrap(), kv)).collect();
        let mut last: BTreeMap<&str, (i64, &str)> = BTreeMap::new();
        for (revision, (key, value)) in &told.durable {
            last.insert(key, (*revision, value));
        }
        for (key, (revision, value)) in &last {
            let kv = now.get(key).unwrap_or_else(|| panic!("{key} of revision {revision} is lost"));
            assert!(kv.mod_revision >= *revision, "{key} fell back to {} from {revision}", kv.mod_revision);
            if kv.mod_revision == *revision {
                assert_eq!(kv.value, value.as_bytes());
            }
        }
        // Both keys of a transaction, or neither.
        for writer in 1..WRITERS {
            let Some(twin) = now.get(format!("d/{writer}/twin").as_str()) else { continue };
            let partner = (0..7).filter_map(|n| now.get(format!("d/{writer}/{n}").as_str()));
            assert!(partner.into_iter().any(|kv| kv.mod_revision == twin.mod_revision && kv.value == twin.value));
        }
        // The kept history holds every acknowledged write at its revision.
        let compacted = store.stats().await.unwrap().compacted;
        let mut watch = store
            .watch(WatchRequest::over(KeyRange::prefix(Bytes::from_static(b"d/"))).from(compacted.max(1)))
            .await
            .unwrap();
        let mut seen: BTreeMap<i64, Vec<(Bytes, Bytes)>> = BTreeMap::new();
        loop {
            let batch = watch.next().await.unwrap().unwrap();
            if batch.events.is_empty() {
                break;
            }
            let last = batch.revision == newest;
            assert!(seen.last_key_value().is_none_or(|(last, _)| *last < batch.revision));
            seen.insert(batch.revision, batch.events.iter().map(|e| (e.kv.key.clone(), e.kv.value.clone())).collect());
            // No mark follows an event at the newest revision: it tells as much.
            if last {
                break;
            }
        }
        for (revision, (key, value)) in told.durable.range(compacted + 1..) {
            let events = seen.get(revision).unwrap_or_else(|| panic!("the event of revision {revision} is lost"));
            assert!(events.contains(&(key.clone().into(), value.clone().into())), "revision {revision}");
        }
        // Inside the gap that the crash left nothing can be followed: what was seen there may be lost.
        let durable = KeyRange::prefix(Bytes::from_static(b"d/"));
        for (low, high) in store.gaps() {
            for from in [low + 2, high].into_iter().filter(|from| (low + 2..=high).contains(from)) {
                let inside = store.watch(WatchRequest::over(durable.clone()).from(from)).await;
                assert!(inside.err().is_some_and(|e| e.is_compacted()), "{from} within {low}..{high}");
            }
        }
        // Of volatile keys only the present is known.
        let volatile = KeyRange::prefix(Bytes::from_static(b"v/"));
        let past = store.watch(WatchRequest::over(volatile.clone()).from(newest)).await;
        assert_eq!(past.err(), Some(Error::Compacted { revision: newest + 1 }));
        store.watch(WatchRequest::over(volatile).after(newest)).await.unwrap();
    });
}

#[test]
fn kills_under_load_lose_nothing() {
    let kills = std::env::var(KILLS).ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut told = Told::default();
    for n in 0..kills {
        run(&data, &mut told, Some(Duration::from_millis(120 + 37 * (n % 9))), None);
        check(&data, &told);
        if told.durable.len() > 30_000 {
            told.durable = told.durable.split_off(&(told.revisions.last().unwrap() - 20_000));
        }
    }
    assert!(told.durable.len() > kills as usize, "there was load");
}

#[test]
fn death_at_every_durable_step_loses_nothing() {
    for point in armed::ALL {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        let mut told = Told::default();
        for passes in [0, 1, 3, 17] {
            run(&data, &mut told, None, Some(&format!("{point}:{passes}")));
            check(&data, &told);
        }
    }
}

/// A failed step of a group commit: nothing more is acknowledged, reads go on, and opening again heals.
#[test]
fn a_failed_write_or_sync_makes_the_store_read_only_until_reopened() {
    for point in [failpoint::BEFORE_WRITE, failpoint::AFTER_WRITE, failpoint::BEFORE_SYNC, failpoint::AFTER_SYNC] {
        let folder = tempfile::tempdir().unwrap();
        runtime().block_on(async {
            let store = LocalStore::open(folder.path(), config()).unwrap();
            store.put("d/a".into(), "1".into()).await.unwrap();
            let mut watch = store.watch(WatchRequest::over(KeyRange::all())).await.unwrap();
            armed::arm(store.writer_thread(), point, 0);
            let error = store.put("d/a".into(), "2".into()).await.unwrap_err();
            assert!(matches!(error, Error::ReadOnly(_)), "{error}");
            // The next write would succeed if it were tried: it is not.
            let again = store.put("d/b".into(), "1".into()).await.unwrap_err();
            assert_eq!(again, error);
            assert!(store.stats().await.unwrap().read_only.is_some());
            assert_eq!(store.get(b"d/a").await.unwrap().unwrap().value, "1");
            assert_eq!(
                store.txn(Txn::new().then(Op::range(RangeRequest::key("d/a".into())))).await.unwrap().revision,
                2
            );
            assert!(watch.try_next().is_none(), "an event left before its sync");
            drop(store);
            let store = LocalStore::open(folder.path(), config()).unwrap();
            assert!(store.read_revision().await.unwrap() > 3, "numbering goes on above what may have been given");
            let a = store.get(b"d/a").await.unwrap().unwrap();
            assert!(a.value == "1" || a.value == "2");
            assert_eq!(store.get(b"d/b").await.unwrap(), None);
            store.put("d/b".into(), "1".into()).await.unwrap();
            store.verify().await.unwrap();
        });
    }
}
