//! An etcd cluster of three as a store, while members are killed, frozen and started again.

mod etcd;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use store::{Compare, Error, KeyRange, Op, RangeRequest, Store, Txn, WatchRequest};

/// How long the cluster may take to go on after a member is gone.
const PATIENCE: Duration = Duration::from_secs(120);

/// Adds one to a counter, unless nobody answers. What was sent and not answered may have happened.
async fn count(store: &dyn Store, key: &str) -> Result<(u64, i64), Error> {
    let key = Bytes::from(key.to_owned());
    let found = store.range(RangeRequest::key(key.clone())).await?;
    let (at, n) = found
        .kvs
        .first()
        .map_or((0, 0), |kv| (kv.mod_revision, std::str::from_utf8(&kv.value).unwrap().parse().unwrap()));
    let next = n + 1;
    let txn = Txn::new().when(Compare::mod_revision(key.clone(), at)).then(Op::put(key, next.to_string().into()));
    let answer = store.txn(txn).await?;
    match answer.succeeded {
        true => Ok((next, answer.revision)),
        // Only an earlier attempt of this very writer can have been before.
        false => Err(Error::Unavailable("an earlier write happened after all".into())),
    }
}

#[test]
fn one_member_of_three_may_go_and_clients_go_on() {
    let Some(program) = etcd::program() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut cluster = etcd::Cluster::start(&program, 3);
    runtime.block_on(async {
        let store: Arc<dyn Store> = Arc::new(cluster.connect(16 << 20).await);
        let mut watch = store.watch(WatchRequest::over(KeyRange::prefix("n/".into()))).await.unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..3)
            .map(|n| {
                let (store, stop) = (store.clone(), stop.clone());
                tokio::spawn(async move {
                    let key = format!("n/{n}");
                    let mut acknowledged: BTreeMap<i64, u64> = BTreeMap::new();
                    let mut seen = 0;
                    while !stop.load(Ordering::Relaxed) {
                        match count(&*store, &key).await {
                            Ok((value, revision)) => {
                                assert!(revision > seen, "revision {revision} after {seen}");
                                seen = revision;
                                acknowledged.insert(revision, value);
                            }
                            Err(Error::Unavailable(_)) => {}
                            Err(error) => panic!("{error}"),
                        }
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                    acknowledged
                })
            })
            .collect();
        // Each member goes in turn, killed or without a word, and comes back.
        for n in 0..3 {
            for frozen in [false, true] {
                if frozen {
                    cluster.freeze(n, true);
                } else {
                    cluster.kill(n);
                }
                let begun = Instant::now();
                let mut went_on = 0;
                while went_on < 3 {
                    assert!(begun.elapsed() < PATIENCE, "nothing is acknowledged without member {n}");
                    went_on += usize::from(count(&*store, "n/probe").await.is_ok());
                }
                if frozen {
                    cluster.freeze(n, false);
                } else {
                    cluster.begin(n);
                    // It must be back before the next one goes, or there is no majority.
                    tokio::time::sleep(Duration::from_secs(4)).await;
                }
            }
        }
        stop.store(true, Ordering::Relaxed);
        let mut acknowledged = BTreeMap::new();
        for writer in writers {
            acknowledged.extend(writer.await.unwrap());
        }
        assert!(acknowledged.len() > 20, "there was load: {}", acknowledged.len());
        // Reads see everything that was acknowledged, and the watch showed all of it, once and in order.
        let begun = Instant::now();
        let newest = loop {
            match store.read_revision().await {
                Ok(newest) => break newest,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
        };
        assert!(newest >= *acknowledged.last_key_value().unwrap().0);
        let (mut last, mut values) = (0, BTreeMap::<Bytes, u64>::new());
        let mut shown = BTreeMap::new();
        while last < newest {
            let batch =
                tokio::time::timeout(PATIENCE, watch.next()).await.expect("the watch goes on").unwrap().unwrap();
            assert!(batch.revision > last || batch.events.is_empty(), "{} after {last}", batch.revision);
            last = batch.revision;
            for event in &batch.events {
                let value: u64 = std::str::from_utf8(&event.kv.value).unwrap().parse().unwrap();
                let before = values.insert(event.kv.key.clone(), value).unwrap_or(0);
                assert_eq!(value, before + 1, "an event of {:?} is missing or came twice", event.kv.key);
                shown.insert(batch.revision, value);
            }
        }
        for (revision, value) in acknowledged {
            assert_eq!(shown.get(&revision), Some(&value), "revision {revision}");
        }
    });
}
