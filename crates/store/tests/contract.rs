//! The contract suite: every case runs on every backend: in memory, on disk, and on an etcd cluster.

#[cfg(feature = "grpc")]
mod etcd;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use store::{
    Compare, CompareOp, CompareTarget, Config, Error, Grant, KeyRange, KeyValue, LocalStore, ManualClock, Op,
    OpResponse, Put, RangeRequest, Store, Txn, Watch, WatchBatch, WatchRequest,
};

/// One store under test, with the clock of its leases if that can be moved.
struct Bench {
    store: Arc<dyn Store>,
    clock: Option<(Arc<LocalStore>, Arc<ManualClock>)>,
}

impl Bench {
    fn local(store: LocalStore, clock: Arc<ManualClock>) -> Bench {
        let store = Arc::new(store);
        Bench { store: store.clone(), clock: Some((store, clock)) }
    }
}

/// What may wait for one watcher.
const WATCHER_BYTES: usize = 1 << 20;

fn config() -> (Config, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    let config = Config {
        clock: clock.clone(),
        history: 0,
        // Small enough that values and events are read back from disk in every case.
        value_budget: 64,
        ring_bytes: 600,
        watcher_bytes: WATCHER_BYTES,
        ..Config::default()
    };
    (config, clock)
}

/// Runs a case on each backend.
fn each<F: Future<Output = ()>>(case: impl Fn(Bench) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (settings, clock) = config();
    runtime.block_on(case(Bench::local(LocalStore::memory(settings), clock)));
    let (settings, clock) = config();
    let folder = tempfile::tempdir().unwrap();
    let bench = Bench::local(LocalStore::open(&folder.path().join("data"), settings).unwrap(), clock);
    let store = bench.store.clone();
    runtime.block_on(async {
        case(bench).await;
        store.verify().await.unwrap();
    });
    drop(store);
    #[cfg(feature = "grpc")]
    if let Some(program) = etcd::program() {
        let cluster = etcd::Cluster::start(&program, 1);
        runtime.block_on(async {
            let store: Arc<dyn Store> = Arc::new(cluster.connect(WATCHER_BYTES).await);
            case(Bench { store: store.clone(), clock: None }).await;
            store.verify().await.unwrap();
        });
    }
}

fn b(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn range(start: &str, end: &str) -> RangeRequest {
    RangeRequest::between(b(start), b(end))
}

fn keys(kvs: &[KeyValue]) -> Vec<String> {
    kvs.iter().map(|kv| String::from_utf8(kv.key.to_vec()).unwrap()).collect()
}

async fn put(store: &Arc<dyn Store>, key: &str, value: &str) -> i64 {
    store.put(b(key), b(value)).await.unwrap()
}

async fn next(watch: &mut Watch) -> Result<WatchBatch, Error> {
    tokio::time::timeout(Duration::from_secs(60), watch.next()).await.expect("a batch in time").expect("a batch")
}

/// The next batch with events, as `put key=value (prev)`.
async fn events(watch: &mut Watch) -> (i64, Vec<String>) {
    loop {
        let batch = next(watch).await.unwrap();
        if batch.events.is_empty() {
            continue;
        }
        let show = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let lines = batch.events.iter().map(|e| {
            assert_eq!(e.kv.mod_revision, batch.revision);
            let prev = e.prev.as_ref().map(|p| format!(" ({})", show(&p.value))).unwrap_or_default();
            match e.is_delete() {
                true => format!("delete {}{prev}", show(&e.kv.key)),
                false => format!("put {}={}{prev}", show(&e.kv.key), show(&e.kv.value)),
            }
        });
        return (batch.revision, lines.collect());
    }
}

#[test]
fn a_key_has_three_numbers() {
    each(|bench| async move {
        let store = &bench.store;
        assert_eq!(store.read_revision().await.unwrap(), 1);
        assert_eq!(put(store, "a", "1").await, 2);
        assert_eq!(put(store, "b", "1").await, 3);
        assert_eq!(put(store, "a", "2").await, 4);
        let a = store.get(b"a").await.unwrap().unwrap();
        let wanted = KeyValue { key: b("a"), value: b("2"), create_revision: 2, mod_revision: 4, version: 2, lease: 0 };
        assert_eq!(a, wanted);
        assert_eq!(store.delete(b("a")).await.unwrap(), 5);
        assert_eq!(store.get(b"a").await.unwrap(), None);
        // Made anew, its history begins anew.
        assert_eq!(put(store, "a", "3").await, 6);
        let a = store.get(b"a").await.unwrap().unwrap();
        assert_eq!((a.create_revision, a.mod_revision, a.version), (6, 6, 1));
    });
}

#[test]
fn a_delete_of_nothing_takes_no_revision() {
    each(|bench| async move {
        assert_eq!(bench.store.delete(b("nothing")).await.unwrap(), 1);
        assert_eq!(bench.store.read_revision().await.unwrap(), 1);
    });
}

#[test]
fn ranges_are_ordered_limited_and_counted() {
    each(|bench| async move {
        let store = &bench.store;
        for key in ["b/1", "a/2", "a/1", "a/3", "c"] {
            put(store, key, key).await;
        }
        let all = store.range(RangeRequest::over(KeyRange::all())).await.unwrap();
        assert_eq!(keys(&all.kvs), ["a/1", "a/2", "a/3", "b/1", "c"]);
        let page = store.range(RangeRequest::prefix(b("a/")).limit(2)).await.unwrap();
        assert_eq!((keys(&page.kvs), page.count, page.more), (vec!["a/1".into(), "a/2".into()], 3, true));
        assert_eq!(page.kvs[1].value, b("a/2"));
        let rest = store.range(range("a/2\0", "a0").limit(2)).await.unwrap();
        assert_eq!((keys(&rest.kvs), rest.count, rest.more), (vec!["a/3".into()], 1, false));
        let heads = store.range(range("a", "c").keys_only()).await.unwrap();
        assert_eq!(heads.kvs.len(), 4);
        assert!(heads.kvs.iter().all(|kv| kv.value.is_empty()));
        let count = store.range(range("a", "c").count_only().limit(1)).await.unwrap();
        assert_eq!((count.kvs.len(), count.count, count.more), (0, 4, false));
        assert_eq!(store.range(range("c", "a")).await.unwrap().count, 0);
        let from = store.range(range("b", "\0")).await.unwrap();
        assert_eq!(keys(&from.kvs), ["b/1", "c"]);
        assert_eq!(store.range(RangeRequest::key(Bytes::new())).await, Err(Error::EmptyKey));
    });
}

#[test]
fn the_past_can_be_read_until_it_is_compacted() {
    each(|bench| async move {
        let store = &bench.store;
        let first = put(store, "a", "1").await;
        let second = put(store, "a", "2").await;
        put(store, "b", "1").await;
        let deleted = store.delete(b("a")).await.unwrap();
        let at = |revision| store.range(range("a", "c").at(revision));
        assert_eq!(at(first).await.unwrap().kvs[0].value, b("1"));
        assert_eq!(at(second).await.unwrap().kvs[0].value, b("2"));
        assert_eq!(keys(&at(deleted - 1).await.unwrap().kvs), ["a", "b"]);
        assert_eq!(keys(&at(deleted).await.unwrap().kvs), ["b"]);
        // The answer tells of the present too.
        assert_eq!(at(first).await.unwrap().revision, deleted);
        assert_eq!(at(deleted + 1).await, Err(Error::FutureRevision { asked: deleted + 1, current: deleted }));

        store.compact(second).await.unwrap();
        assert_eq!(at(second).await.unwrap().kvs[0].value, b("2"));
        let error = at(first).await.unwrap_err();
        assert_eq!(error, Error::Compacted { revision: second });
        assert!(error.is_compacted());
        assert_eq!(store.compact(second).await, Err(Error::Compacted { revision: second }));
        assert!(matches!(store.compact(deleted + 1).await, Err(Error::FutureRevision { .. })));
        store.compact(deleted).await.unwrap();
        assert_eq!(keys(&at(deleted).await.unwrap().kvs), ["b"]);
        // What is newest is never compacted away, and a deletion at the very revision can still be watched.
        let mut watch = store.watch(WatchRequest::over(KeyRange::all()).from(deleted)).await.unwrap();
        let (revision, lines) = events(&mut watch).await;
        // What was there before lies before the compaction: it may or may not still be known.
        assert!(revision == deleted && lines[0].starts_with("delete a"), "{lines:?}");
        put(store, "c", "1").await;
        let newest = store.read_revision().await.unwrap();
        store.compact(newest).await.unwrap();
        // etcd does not count its versions.
        if bench.clock.is_some() {
            assert_eq!(store.stats().await.unwrap().versions, 2);
        }
    });
}

#[test]
fn transactions_compare_then_do_all_or_nothing() {
    each(|bench| async move {
        let store = &bench.store;
        let create = Txn::new()
            .when(Compare::absent(b("a")))
            .then(Op::put(b("a"), b("1")))
            .then(Op::put(b("b"), b("1")))
            .otherwise(Op::range(RangeRequest::key(b("a"))));
        let made = store.txn(create.clone()).await.unwrap();
        assert_eq!((made.succeeded, made.revision), (true, 2));
        let again = store.txn(create).await.unwrap();
        assert_eq!((again.succeeded, again.revision), (false, 2));
        let OpResponse::Range(found) = &again.responses[0] else { panic!("a range") };
        assert_eq!((found.kvs[0].mod_revision, found.kvs[0].value.clone()), (2, b("1")));
        // Both changes share the revision.
        assert_eq!(store.get(b"b").await.unwrap().unwrap().mod_revision, 2);

        let stale = Txn::new().when(Compare::mod_revision(b("a"), 1)).then(Op::delete(b("a")));
        assert!(!store.txn(stale).await.unwrap().succeeded);
        let fresh = Txn::new().when(Compare::mod_revision(b("a"), 2)).then(Op::Put(Put {
            key: b("a"),
            value: b("2"),
            prev: true,
            ..Put::default()
        }));
        let answer = store.txn(fresh).await.unwrap();
        let OpResponse::Put { prev: Some(prev) } = &answer.responses[0] else { panic!("a put with prev") };
        assert_eq!((answer.revision, prev.value.clone()), (3, b("1")));

        // A read in a transaction sees the writes before it, a compare only what was there before the whole of it; a
        // nested one takes part in the same revision.
        let unseen = Txn::new().when(Compare::value(b("c"), b("3"))).then(Op::put(b("x"), b("4")));
        let inner = Txn::new().when(Compare::value(b("a"), b("2"))).then(Op::put(b("d"), b("4")));
        let txn = Txn::new()
            .then(Op::put(b("c"), b("3")))
            .then(Op::range(RangeRequest::prefix(b("c"))))
            .then(Op::Txn(Box::new(unseen)))
            .then(Op::Txn(Box::new(inner)))
            .then(Op::Delete { range: KeyRange::between(b("a"), b("c")), prev: true });
        let answer = store.txn(txn).await.unwrap();
        assert_eq!(answer.revision, 4);
        let OpResponse::Range(found) = &answer.responses[1] else { panic!("a range") };
        assert_eq!((found.kvs[0].value.clone(), found.revision), (b("3"), 4));
        let OpResponse::Txn(unseen) = &answer.responses[2] else { panic!("a transaction") };
        assert!(!unseen.succeeded && unseen.responses.is_empty());
        let OpResponse::Delete { deleted, prev } = &answer.responses[4] else { panic!("a delete") };
        assert_eq!((*deleted, keys(prev)), (2, vec!["a".to_owned(), "b".to_owned()]));
        assert_eq!(keys(&store.range(RangeRequest::over(KeyRange::all())).await.unwrap().kvs), ["c", "d"]);
    });
}

#[test]
fn compares_follow_etcd() {
    each(|bench| async move {
        let store = &bench.store;
        put(store, "a", "5").await;
        put(store, "a", "5").await;
        put(store, "b", "6").await;
        let one = |key: &str, op, target| Compare { range: KeyRange::key(b(key)), op, target };
        let both = |op, target| Compare { range: KeyRange::between(b("a"), b("c")), op, target };
        let cases = [
            (one("a", CompareOp::Equal, CompareTarget::Version(2)), true),
            (one("a", CompareOp::Greater, CompareTarget::Version(2)), false),
            (one("a", CompareOp::Less, CompareTarget::ModRevision(4)), true),
            (one("a", CompareOp::Equal, CompareTarget::CreateRevision(2)), true),
            (one("a", CompareOp::NotEqual, CompareTarget::Value(b("5"))), false),
            (one("a", CompareOp::Greater, CompareTarget::Value(b("4"))), true),
            (one("x", CompareOp::Equal, CompareTarget::Version(0)), true),
            (one("x", CompareOp::Equal, CompareTarget::Lease(0)), true),
            // No value compares to that of a missing key, not even as different.
            (one("x", CompareOp::NotEqual, CompareTarget::Value(b("5"))), false),
            (both(CompareOp::Greater, CompareTarget::Version(0)), true),
            (both(CompareOp::Equal, CompareTarget::Version(2)), false),
        ];
        for (compare, wanted) in cases {
            let answer = store.txn(Txn::new().when(compare.clone())).await.unwrap();
            assert_eq!(answer.succeeded, wanted, "{compare:?}");
        }
    });
}

#[test]
fn a_transaction_changes_a_key_once_and_a_refused_one_leaves_nothing() {
    each(|bench| async move {
        let store = &bench.store;
        put(store, "a", "1").await;
        let before = store.read_revision().await.unwrap();
        let refused = [
            (Txn::new().then(Op::put(b("b"), b("1"))).then(Op::put(b("b"), b("2"))), Error::DuplicateKey),
            (Txn::new().then(Op::put(b("a"), b("1"))).then(Op::delete(b("a"))), Error::DuplicateKey),
            (
                Txn::new().then(Op::put(b("b"), b("1"))).then(Op::put_with_lease(b("c"), b("1"), 77)),
                Error::LeaseNotFound(77),
            ),
            (
                Txn::new().then(Op::put(b("b"), b("1"))).then(Op::Put(Put {
                    key: b("x"),
                    ignore_value: true,
                    ..Put::default()
                })),
                Error::KeyNotFound,
            ),
            (Txn::new().then(Op::put(Bytes::new(), b("1"))), Error::EmptyKey),
        ];
        for (txn, error) in refused {
            assert_eq!(store.txn(txn).await, Err(error));
        }
        let huge = Bytes::from(vec![0; 3 << 20]);
        assert!(matches!(store.put(b("b"), huge).await, Err(Error::TooLarge { .. })));
        let all = store.range(RangeRequest::over(KeyRange::all())).await.unwrap();
        assert_eq!((keys(&all.kvs), all.revision), (vec!["a".to_owned()], before));
        assert_eq!(put(store, "b", "1").await, before + 1);
    });
}

#[test]
fn watches_give_every_change_once_in_order_with_what_was_there() {
    each(|bench| async move {
        let store = &bench.store;
        put(store, "a", "1").await;
        let mut live = store.watch(WatchRequest::prefix(b("a"))).await.unwrap();
        put(store, "a", "2").await;
        put(store, "b", "1").await;
        let both = Txn::new().then(Op::put(b("a1"), b("1"))).then(Op::delete(b("a"))).then(Op::delete(b("b")));
        store.txn(both).await.unwrap();
        put(store, "a", "3").await;
        let wanted = [
            (2, vec!["put a=1"]),
            (3, vec!["put a=2 (1)"]),
            (5, vec!["put a1=1", "delete a (2)"]),
            (6, vec!["put a=3"]),
        ];
        for (revision, lines) in &wanted[1..] {
            assert_eq!(events(&mut live).await, (*revision, lines.iter().map(|l| l.to_string()).collect()));
        }
        // From the past, whether the ring reaches that far or not.
        for from in 0..wanted.len() {
            let mut past = store.watch(WatchRequest::prefix(b("a")).from(wanted[from].0)).await.unwrap();
            for (revision, lines) in &wanted[from..] {
                assert_eq!(events(&mut past).await, (*revision, lines.iter().map(|l| l.to_string()).collect()));
            }
        }
        // From the future: nothing before it.
        let mut future = store.watch(WatchRequest::prefix(b("a")).from(8)).await.unwrap();
        put(store, "a", "4").await;
        put(store, "a", "5").await;
        assert_eq!(events(&mut future).await, (8, vec!["put a=5 (4)".into()]));
    });
}

#[test]
fn a_watch_before_the_compaction_is_refused() {
    each(|bench| async move {
        let store = &bench.store;
        for value in ["1", "2", "3", "4"] {
            put(store, "a", value).await;
        }
        store.compact(4).await.unwrap();
        let watch = |from| store.watch(WatchRequest::prefix(b("a")).from(from));
        assert_eq!(watch(3).await.err(), Some(Error::Compacted { revision: 4 }));
        let mut at = watch(4).await.unwrap();
        assert_eq!(events(&mut at).await.0, 4);
        assert_eq!(events(&mut at).await, (5, vec!["put a=4 (3)".into()]));
    });
}

#[test]
fn progress_tells_of_changes_elsewhere() {
    each(|bench| async move {
        let store = &bench.store;
        let mut watch = store.watch(WatchRequest::prefix(b("a")).after(1)).await.unwrap();
        let mut quiet = store.watch(WatchRequest::prefix(b("a")).without_progress()).await.unwrap();
        put(store, "b", "1").await;
        let newest = put(store, "b", "2").await;
        loop {
            let mark = next(&mut watch).await.unwrap();
            assert!(mark.events.is_empty());
            if mark.revision == newest {
                break;
            }
        }
        assert!(quiet.try_next().is_none());
        put(store, "a", "1").await;
        assert_eq!(next(&mut quiet).await.unwrap().events.len(), 1);
        // A mark never overtakes an event.
        assert_eq!(events(&mut watch).await.0, newest + 1);
    });
}

#[test]
fn a_slow_watcher_is_cut_off_and_others_are_not() {
    each(|bench| async move {
        let store = &bench.store;
        let mut slow = store.watch(WatchRequest::prefix(b("a"))).await.unwrap();
        let mut other = store.watch(WatchRequest::prefix(b("b"))).await.unwrap();
        let large = Bytes::from(vec![1; 300_000]);
        for _ in 0..5 {
            store.put(b("a"), large.clone()).await.unwrap();
        }
        put(store, "b", "1").await;
        let error = loop {
            match next(&mut slow).await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(error, Error::SlowWatcher { limit: 1 << 20 });
        assert!(slow.next().await.is_none());
        assert_eq!(events(&mut other).await.1, ["put b=1"]);
        drop((slow, other));
        assert_eq!(store.stats().await.unwrap().watchers, 0);
    });
}

#[test]
fn leases_take_their_keys_along() {
    each(|bench| async move {
        let store = &bench.store;
        // Without a clock that can be moved, only what is left to die is short-lived.
        let ttl = Duration::from_secs(if bench.clock.is_some() { 10 } else { 100 });
        let lease = store.grant(Grant { id: 0, ttl }).await.unwrap();
        assert!(lease > 0);
        assert_eq!(store.grant(Grant { id: lease, ttl }).await, Err(Error::LeaseExists(lease)));
        assert!(matches!(store.grant(Grant { id: 5, ttl: Duration::ZERO }).await, Err(Error::LeaseTtl { .. })));
        let second = store.grant(Grant { id: 42, ttl: ttl * 2 }).await.unwrap();
        let txn = ["a", "b", "c"].iter().fold(Txn::new(), |t, k| t.then(Op::put_with_lease(b(k), b("1"), lease)));
        store.txn(txn).await.unwrap();
        // One key leaves the lease, one changes to another.
        put(store, "b", "2").await;
        store.txn(Txn::new().then(Op::put_with_lease(b("c"), b("2"), second))).await.unwrap();
        let status = store.lease(lease).await.unwrap();
        assert_eq!((status.granted, status.keys), (ttl, vec![b("a")]));
        assert!(status.remaining <= ttl && !status.remaining.is_zero());
        assert_eq!(store.lease(second).await.unwrap().keys, [b("c")]);

        let mut watch = store.watch(WatchRequest::over(KeyRange::all())).await.unwrap();
        if let Some((local, clock)) = &bench.clock {
            assert_eq!(status.remaining, ttl);
            clock.advance(ttl - Duration::from_secs(1));
            assert_eq!(store.keep_alive(lease).await.unwrap(), ttl);
            clock.advance(Duration::from_secs(5));
            local.tick().await.unwrap();
            assert!(store.get(b"a").await.unwrap().is_some(), "kept alive");
            assert_eq!(store.lease(lease).await.unwrap().remaining, Duration::from_secs(5));
            clock.advance(Duration::from_secs(5));
            local.tick().await.unwrap();
            assert_eq!(events(&mut watch).await.1, ["delete a (1)"]);
        } else {
            assert_eq!(store.keep_alive(lease).await.unwrap(), ttl);
            let short = store.grant(Grant { id: 43, ttl: Duration::from_secs(2) }).await.unwrap();
            store.txn(Txn::new().then(Op::put_with_lease(b("s"), b("1"), short))).await.unwrap();
            assert_eq!(events(&mut watch).await.1, ["put s=1"]);
            assert_eq!(events(&mut watch).await.1, ["delete s (1)"]);
            assert_eq!(store.keep_alive(short).await, Err(Error::LeaseNotFound(short)));
            store.revoke(lease).await.unwrap();
            assert_eq!(events(&mut watch).await.1, ["delete a (1)"]);
        }
        assert_eq!(store.keep_alive(lease).await, Err(Error::LeaseNotFound(lease)));
        assert_eq!(store.leases().await.unwrap(), [second]);

        let revision = store.read_revision().await.unwrap();
        assert_eq!(store.revoke(second).await.unwrap(), revision + 1);
        assert_eq!(events(&mut watch).await.1, ["delete c (2)"]);
        assert_eq!(store.revoke(second).await, Err(Error::LeaseNotFound(second)));
        let left = store.range(RangeRequest::over(KeyRange::all())).await.unwrap();
        assert_eq!(keys(&left.kvs), ["b"]);
    });
}

#[test]
fn concurrent_writers_never_lose_an_update() {
    each(|bench| async move {
        let store = bench.store.clone();
        put(&store, "n", "0").await;
        let mut watch = store.watch(WatchRequest::prefix(b("n"))).await.unwrap();
        let writers: Vec<_> = (0..8)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    for _ in 0..10 {
                        loop {
                            let kv = store.get(b"n").await.unwrap().unwrap();
                            let n: u32 = std::str::from_utf8(&kv.value).unwrap().parse().unwrap();
                            let txn = Txn::new()
                                .when(Compare::mod_revision(b("n"), kv.mod_revision))
                                .then(Op::put(b("n"), b(&(n + 1).to_string())));
                            if store.txn(txn).await.unwrap().succeeded {
                                break;
                            }
                        }
                    }
                })
            })
            .collect();
        for writer in writers {
            writer.await.unwrap();
        }
        for n in 1..=80 {
            assert_eq!(events(&mut watch).await.1, [format!("put n={n} ({})", n - 1)]);
        }
    });
}
