//! The folder on disk: what leaves when, what comes back, and what is refused with which words.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use store::{
    Config, Error, Grant, KeyRange, LocalStore, ManualClock, Op, RangeRequest, Store, SyncObserver, Txn, WatchRequest,
};

/// Knows up to which revision a sync has succeeded.
#[derive(Default)]
struct Synced {
    covered: AtomicI64,
    syncs: AtomicU64,
}

impl SyncObserver for Synced {
    fn begins(&self, _revision: i64) {}

    fn ended(&self, revision: i64) {
        // The disk is slow here, so that an answer that did not wait would be far ahead.
        std::thread::sleep(Duration::from_millis(1));
        self.covered.fetch_max(revision, Ordering::SeqCst);
        self.syncs.fetch_add(1, Ordering::SeqCst);
    }
}

fn config() -> Config {
    Config { volatile: vec![Bytes::from_static(b"v/")], history: 0, ..Config::default() }
}

fn open(folder: &Path) -> LocalStore {
    LocalStore::open(folder, config()).unwrap()
}

/// What a machine that lost its process finds.
fn crash_copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => crash_copy(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

/// The log with the newest records.
fn newest_log(folder: &Path) -> std::path::PathBuf {
    let entries = std::fs::read_dir(folder.join("db")).unwrap();
    let logs = entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "log"));
    logs.filter(|p| p.metadata().unwrap().len() > 0).max().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_and_no_event_leaves_before_the_sync_that_covers_it() {
    let folder = tempfile::tempdir().unwrap();
    let synced = Arc::new(Synced::default());
    let settings = Config { observer: Some(synced.clone()), ..config() };
    let store = Arc::new(LocalStore::open(folder.path(), settings).unwrap());
    let mut watch = store.watch(WatchRequest::over(KeyRange::all()).without_progress()).await.unwrap();
    let begun = synced.syncs.load(Ordering::SeqCst);
    let writers: Vec<_> = (0..1000)
        .map(|n| {
            let (store, synced) = (store.clone(), synced.clone());
            tokio::spawn(async move {
                let revision = store.put(format!("d/{n}").into(), Bytes::from_static(b"x")).await.unwrap();
                let covered = synced.covered.load(Ordering::SeqCst);
                assert!(covered >= revision, "answered {revision} when {covered} was synced");
                let read = store.read_revision().await.unwrap();
                assert!(read >= revision);
            })
        })
        .collect();
    for _ in 0..1000 {
        let batch = watch.next().await.unwrap().unwrap();
        let covered = synced.covered.load(Ordering::SeqCst);
        assert!(covered >= batch.revision, "showed {} when {covered} was synced", batch.revision);
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let syncs = synced.syncs.load(Ordering::SeqCst) - begun;
    println!("1000 writes in {syncs} syncs");
    assert!(syncs < 500, "writes that wait share a sync: {syncs}");
}

#[tokio::test]
async fn volatile_keys_cost_no_sync_and_durable_ones_one() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let syncs = async || store.stats().await.unwrap().syncs;
    let before = syncs().await;
    for _ in 0..100 {
        store.put("v/a".into(), "1".into()).await.unwrap();
    }
    assert_eq!(syncs().await, before);
    store.put("d/a".into(), "1".into()).await.unwrap();
    assert_eq!(syncs().await, before + 1);
    let both = Txn::new().then(Op::put("v/a".into(), "2".into())).then(Op::put("d/a".into(), "2".into()));
    store.txn(both).await.unwrap();
    assert_eq!(syncs().await, before + 2);
}

#[tokio::test]
async fn volatile_keys_outlive_a_clean_stop_and_fall_back_to_a_snapshot_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
    let store = open(&data);
    store.put("v/a".into(), "1".into()).await.unwrap();
    store.put("v/gone".into(), "1".into()).await.unwrap();
    store.put("d/a".into(), "1".into()).await.unwrap();
    let revision = store.delete("v/gone".into()).await.unwrap();
    store.close();
    let store = open(&data);
    assert_eq!(store.read_revision().await.unwrap(), revision);
    let a = store.get(b"v/a").await.unwrap().unwrap();
    assert_eq!((a.value, a.mod_revision, a.version), (Bytes::from("1"), 2, 1));
    assert_eq!(store.get(b"v/gone").await.unwrap(), None);

    store.put("v/a".into(), "2".into()).await.unwrap();
    let seen = store.put("v/b".into(), "1".into()).await.unwrap();
    crash_copy(&data, &copy);
    let store = open(&copy);
    assert_eq!(store.get(b"v/a").await.unwrap().unwrap().value, "1");
    assert_eq!(store.get(b"v/b").await.unwrap(), None);
    assert_eq!(store.get(b"d/a").await.unwrap().unwrap().value, "1");
    // The revisions that were seen are never given again, and who saw them must start anew.
    let newest = store.read_revision().await.unwrap();
    assert!(newest > seen);
    for range in [KeyRange::prefix("v/".into()), KeyRange::prefix("d/".into())] {
        let watch = store.watch(WatchRequest::over(range).after(seen)).await;
        assert!(watch.err().is_some_and(|e| e.is_compacted()));
    }
    // The durable past can be followed without a gap.
    let durable = WatchRequest::over(KeyRange::prefix("d/".into())).from(2);
    let batch = store.watch(durable).await.unwrap().next().await.unwrap().unwrap();
    assert_eq!((batch.revision, batch.events.len()), (4, 1));
}

#[tokio::test]
async fn a_prefix_may_change_its_durability_class() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    store.put("v/a".into(), "1".into()).await.unwrap();
    store.put("v/a".into(), "2".into()).await.unwrap();
    store.put("w/a".into(), "1".into()).await.unwrap();
    store.put("w/b".into(), "1".into()).await.unwrap();
    store.close();
    let other = Config { volatile: vec![Bytes::from_static(b"w/")], history: 0, ..Config::default() };
    for _ in 0..2 {
        let store = LocalStore::open(folder.path(), other.clone()).unwrap();
        for (key, version) in [("v/a", 2), ("w/a", 1)] {
            assert_eq!(store.get(key.as_bytes()).await.unwrap().unwrap().version, version);
        }
        store.verify().await.unwrap();
        store.delete("w/b".into()).await.unwrap();
        store.close();
    }
    let store = LocalStore::open(folder.path(), Config { volatile: vec![], ..other }).unwrap();
    assert_eq!(store.get(b"w/b").await.unwrap(), None, "a deleted key came back");
    assert_eq!(store.range(RangeRequest::over(KeyRange::all())).await.unwrap().count, 2);
    store.verify().await.unwrap();
}

#[tokio::test]
async fn leases_outlive_a_restart_with_their_whole_time() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::default());
    let settings = Config { clock: clock.clone(), ..config() };
    let store = LocalStore::open(folder.path(), settings.clone()).unwrap();
    let ttl = Duration::from_secs(100);
    let lease = store.grant(Grant { id: 7, ttl }).await.unwrap();
    store.txn(Txn::new().then(Op::put_with_lease("d/a".into(), "1".into(), lease))).await.unwrap();
    clock.advance(Duration::from_secs(60));
    store.close();
    let store = LocalStore::open(folder.path(), settings).unwrap();
    let status = store.lease(7).await.unwrap();
    assert_eq!((status.remaining, status.keys), (ttl, vec![Bytes::from("d/a")]));
    clock.advance(ttl);
    store.tick().await.unwrap();
    assert_eq!(store.get(b"d/a").await.unwrap(), None);
}

#[tokio::test]
async fn a_checkpoint_opens_as_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("data"));
    let revision = store.put("d/a".into(), "1".into()).await.unwrap();
    store.put("v/a".into(), "1".into()).await.unwrap();
    let copy = folder.path().join("copy");
    store.checkpoint(copy.clone()).await.unwrap();
    assert!(matches!(store.checkpoint(copy.clone()).await, Err(Error::Io(_))));
    store.put("d/a".into(), "2".into()).await.unwrap();
    let copy = open(&copy);
    assert_eq!(copy.get(b"d/a").await.unwrap().unwrap().mod_revision, revision);
    assert_eq!(copy.get(b"v/a").await.unwrap().unwrap().value, "1");
    copy.verify().await.unwrap();
}

#[tokio::test]
async fn values_beyond_the_budget_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let settings = Config { value_budget: 100_000, ..config() };
    let store = LocalStore::open(folder.path(), settings.clone()).unwrap();
    let value = |n: u32| Bytes::from(n.to_string().repeat(1000));
    for n in 0..300 {
        store.put(format!("d/{n:03}").into(), value(n)).await.unwrap();
    }
    for store in [store, LocalStore::open(&folder.path().join("other"), settings.clone()).unwrap()] {
        assert!(store.stats().await.unwrap().resident_bytes <= 100_000);
    }
    let store = LocalStore::open(folder.path(), settings).unwrap();
    assert!(store.stats().await.unwrap().resident_bytes <= 100_000);
    let all = store.range(RangeRequest::prefix("d/".into())).await.unwrap();
    for (n, kv) in (0..300).zip(&all.kvs) {
        assert_eq!(kv.value, value(n));
    }
}

#[tokio::test]
async fn history_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::open(folder.path(), Config { history: 100, ..config() }).unwrap();
    for n in 0..1000 {
        store.put("d/a".into(), n.to_string().into()).await.unwrap();
    }
    let stats = store.stats().await.unwrap();
    assert!(stats.versions <= 102, "{} versions are kept", stats.versions);
    assert!(stats.compacted > 800);
    store.verify().await.unwrap();
}

#[tokio::test]
async fn a_folder_belongs_to_one() {
    let folder = tempfile::tempdir().unwrap();
    let _store = open(folder.path());
    let error = LocalStore::open(folder.path(), config()).err().unwrap();
    assert_eq!(error, Error::Locked(folder.path().display().to_string()));
}

#[tokio::test]
async fn a_newer_or_missing_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    open(folder.path()).close();
    let path = folder.path().join("FORMAT");
    for (text, wanted) in [
        ("2\n", Error::NewerFormat { found: "2".into(), known: 1 }),
        ("x\n", Error::Corrupt(format!("{} holds no format number", path.display()))),
    ] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(LocalStore::open(folder.path(), config()).err(), Some(wanted));
    }
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(LocalStore::open(folder.path(), config()), Err(Error::Corrupt(_))));
}

#[tokio::test]
async fn a_torn_tail_is_cut_and_a_hole_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store = open(&data);
    let value = Bytes::from(vec![7; 200]);
    let mut lengths = Vec::new();
    for n in 0..20 {
        store.put(format!("d/{n:02}").into(), value.clone()).await.unwrap();
        lengths.push(newest_log(&data).metadata().unwrap().len() as usize);
    }
    let cases = [5usize, 60, 150, lengths[19] - lengths[18] - 1];
    for (at, cut) in cases.into_iter().enumerate() {
        let copy = folder.path().join(format!("torn-{at}"));
        crash_copy(&data, &copy);
        let log = newest_log(&copy);
        let bytes = std::fs::read(&log).unwrap();
        std::fs::write(&log, &bytes[..lengths[18] + cut]).unwrap();
        let store = open(&copy);
        assert_eq!(store.range(RangeRequest::prefix("d/".into())).await.unwrap().count, 19, "cut after {cut}");
        store.verify().await.unwrap();
        store.put("d/new".into(), value.clone()).await.unwrap();
        store.close();
        open(&copy).verify().await.unwrap();
    }
    // One bit in any earlier write.
    for write in [0usize, 7, 18] {
        let copy = folder.path().join(format!("hole-{write}"));
        crash_copy(&data, &copy);
        let log = newest_log(&copy);
        let mut bytes = std::fs::read(&log).unwrap();
        bytes[lengths[write] - 100] ^= 4;
        std::fs::write(&log, &bytes).unwrap();
        let error = LocalStore::open(&copy, config()).err().unwrap();
        assert!(matches!(&error, Error::Corrupt(text) if text.contains("hole")), "write {write}: {error}");
        // Nothing was changed by trying.
        assert_eq!(std::fs::read(&log).unwrap(), bytes);
    }
}

#[tokio::test]
async fn a_flipped_bit_in_a_table_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store = open(&data);
    for n in 0..500u32 {
        let noise: Vec<u8> = (0..400u32).map(|i| (n.wrapping_mul(2654435761).wrapping_add(i * i) >> 3) as u8).collect();
        store.put(format!("d/{n:03}").into(), noise.into()).await.unwrap();
    }
    // A checkpoint has everything in tables.
    let copy = folder.path().join("copy");
    store.checkpoint(copy.clone()).await.unwrap();
    let entries = std::fs::read_dir(copy.join("db")).unwrap().map(|e| e.unwrap().path());
    let table =
        entries.filter(|p| p.extension().is_some_and(|e| e == "sst")).max_by_key(|p| p.metadata().unwrap().len());
    let table = table.unwrap();
    let mut bytes = std::fs::read(&table).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    // Not through the hard link, which the open store shares.
    std::fs::remove_file(&table).unwrap();
    std::fs::write(&table, &bytes).unwrap();
    let error = LocalStore::open(&copy, config()).err().unwrap();
    assert!(matches!(error, Error::Corrupt(_)), "{error}");
    store.verify().await.unwrap();
}

#[tokio::test]
async fn a_copy_that_takes_the_stores_place_fools_no_watcher() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let store = open(&data);
    store.put("d/a".into(), "1".into()).await.unwrap();
    store.put("v/a".into(), "1".into()).await.unwrap();
    store.delete("d/a".into()).await.unwrap();
    let kept = store.put("d/b".into(), "1".into()).await.unwrap();
    let checkpoints = store::Checkpoints::new(folder.path().join("checkpoints"));
    let copy = checkpoints.take(&store, std::time::SystemTime::now()).await.unwrap();
    assert!(copy.revision >= kept);
    // The store's other life, which the copy knows nothing of.
    let mut seen = 0;
    for n in 0..50 {
        seen = store.put("d/b".into(), n.to_string().into()).await.unwrap();
    }
    drop(store);
    let revived = store::revive(&copy.folder).unwrap();
    assert!(revived > seen);
    for _ in 0..2 {
        let store = open(&copy.folder);
        assert_eq!(store.read_revision().await.unwrap(), revived);
        let b = store.get(b"d/b").await.unwrap().unwrap();
        assert_eq!((b.value, b.mod_revision), (Bytes::from("1"), kept));
        assert_eq!(store.get(b"v/a").await.unwrap().unwrap().value, "1");
        assert_eq!(store.get(b"d/a").await.unwrap(), None);
        for from in [2, kept, kept + 1, seen, seen + 1, revived - 1] {
            let watch = store.watch(WatchRequest::over(KeyRange::all()).from(from)).await;
            assert!(watch.err().is_some_and(|e| e.is_compacted()), "a watch from {from}");
            let read = store.range(RangeRequest::over(KeyRange::all()).at(from)).await;
            assert!(read.err().is_some_and(|e| e.is_compacted()), "a read at {from}");
        }
        store.verify().await.unwrap();
        store.close();
    }
    let store = open(&copy.folder);
    let mut watch = store.watch(WatchRequest::over(KeyRange::all()).after(revived)).await.unwrap();
    assert_eq!(store.put("d/c".into(), "1".into()).await.unwrap(), revived + 1);
    assert_eq!(watch.next().await.unwrap().unwrap().events.len(), 1);
}

#[tokio::test]
async fn checkpoints_are_pruned_and_the_last_good_one_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("data"));
    let checkpoints = store::Checkpoints::new(folder.path().join("checkpoints"));
    assert_eq!(checkpoints.last_good(), None);
    let start = std::time::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    for n in 0..5u32 {
        let noise: Vec<u8> = (0..20_000u32).map(|i| (n.wrapping_mul(2654435761) ^ i.wrapping_mul(i)) as u8).collect();
        store.put(format!("d/{n}").into(), noise.into()).await.unwrap();
        let taken = checkpoints.take(&store, start + Duration::from_secs(60 * u64::from(n))).await.unwrap();
        assert_eq!(store::check(&taken.folder).unwrap().keys, n as usize + 1);
        checkpoints.prune(3).unwrap();
    }
    let listed = checkpoints.list();
    assert_eq!(
        listed.iter().map(|c| c.taken).collect::<Vec<_>>(),
        [4, 3, 2].map(|n| start + Duration::from_secs(60 * n))
    );
    assert_eq!(checkpoints.last_good(), Some(listed[0].clone()));
    // The newest table of the newest one loses a bit; older ones do not have it.
    let tables = std::fs::read_dir(listed[0].folder.join("db")).unwrap().map(|e| e.unwrap().path());
    let newest = tables.filter(|p| p.extension().is_some_and(|e| e == "sst")).max().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::remove_file(&newest).unwrap();
    std::fs::write(&newest, &bytes).unwrap();
    assert!(matches!(store::check(&listed[0].folder), Err(Error::Corrupt(_))));
    assert_eq!(checkpoints.last_good(), Some(listed[1].clone()));
}
