//! Random histories against a small model: whatever is done, store and model answer alike, now and in the past.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use store::{
    Compare, Config, Error, Event, KeyRange, KeyValue, LocalStore, Op, RangeRequest, Store, Txn, WatchRequest,
};

/// What a history is made of.
#[derive(Clone, Debug)]
enum Step {
    Put {
        key: u8,
        value: u8,
    },
    /// From one key on, so many.
    Delete {
        key: u8,
        count: u8,
    },
    /// Puts two keys if the first is at the revision that the model says, or at a wrong one.
    Swap {
        key: u8,
        other: u8,
        value: u8,
        right: bool,
    },
    /// So far back from the newest revision.
    Compact {
        back: u8,
    },
    /// Reads everything, so far back.
    Range {
        back: u8,
        limit: u8,
    },
    /// Follows everything from so far back until now.
    Watch {
        back: u8,
    },
    Reopen {
        clean: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0u8..6;
    prop_oneof![
        6 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Step::Put { key, value }),
        2 => (key.clone(), 0u8..4).prop_map(|(key, count)| Step::Delete { key, count }),
        3 => (key.clone(), key.clone(), any::<u8>(), any::<bool>())
            .prop_map(|(key, other, value, right)| Step::Swap { key, other, value, right }),
        1 => (0u8..12).prop_map(|back| Step::Compact { back }),
        3 => (0u8..20, 0u8..4).prop_map(|(back, limit)| Step::Range { back, limit }),
        2 => (0u8..20).prop_map(|back| Step::Watch { back }),
        1 => any::<bool>().prop_map(|clean| Step::Reopen { clean }),
    ]
}

fn name(key: u8) -> Bytes {
    Bytes::from(format!("k{key}"))
}

/// The whole truth, kept for ever: each key's versions, a deletion being a version 0.
#[derive(Default)]
struct Model {
    keys: BTreeMap<Bytes, Vec<KeyValue>>,
    revision: i64,
    compacted: i64,
    /// Revisions that a crash skipped.
    gaps: Vec<(i64, i64)>,
}

impl Model {
    fn at(&self, key: &[u8], revision: i64) -> Option<&KeyValue> {
        let kv = self.keys.get(key)?.iter().rev().find(|kv| kv.mod_revision <= revision)?;
        (kv.version > 0).then_some(kv)
    }

    fn now(&self, key: &[u8]) -> Option<&KeyValue> {
        self.at(key, i64::MAX)
    }

    fn put(&mut self, revision: i64, key: Bytes, value: Bytes) {
        let (create_revision, version) =
            self.now(&key).map_or((revision, 1), |kv| (kv.create_revision, kv.version + 1));
        let kv = KeyValue { key: key.clone(), value, create_revision, mod_revision: revision, version, lease: 0 };
        self.keys.entry(key).or_default().push(kv);
    }

    fn delete(&mut self, revision: i64, key: &Bytes) {
        let kv = KeyValue { key: key.clone(), mod_revision: revision, ..KeyValue::default() };
        self.keys.entry(key.clone()).or_default().push(kv);
    }

    fn skipped(&self, revision: i64) -> bool {
        self.gaps.iter().any(|(low, high)| *low < revision && revision < *high)
    }

    /// Every event from a revision on: what is now, and what was before.
    fn events(&self, from: i64) -> BTreeMap<i64, Vec<(KeyValue, Option<KeyValue>)>> {
        let mut events: BTreeMap<i64, Vec<_>> = BTreeMap::new();
        for versions in self.keys.values() {
            for (n, kv) in versions.iter().enumerate().filter(|(_, kv)| kv.mod_revision >= from) {
                let prev = n.checked_sub(1).map(|n| versions[n].clone()).filter(|kv| kv.version > 0);
                events.entry(kv.mod_revision).or_default().push((kv.clone(), prev));
            }
        }
        events
    }
}

fn config() -> Config {
    Config { history: 0, value_budget: 20, ring_bytes: 700, ceiling_block: 5, ..Config::default() }
}

/// What a machine that lost its process finds: the files as they are, without a clean end.
fn crash_copy(from: &Path, to: &Path) {
    // The store tidies in the background: what vanishes between listing and copying was no part of one moment.
    while let Err(error) = copy_folder(from, to) {
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{error}");
        std::fs::remove_dir_all(to).unwrap();
    }
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy_folder(&entry.path(), &target)?,
            false => drop(std::fs::copy(entry.path(), target)?),
        }
    }
    Ok(())
}

async fn run(steps: &[Step], disk: bool) {
    let folder = tempfile::tempdir().unwrap();
    let mut generation = 0;
    let path = |generation: usize| folder.path().join(generation.to_string());
    let mut store = match disk {
        true => LocalStore::open(&path(0), config()).unwrap(),
        false => LocalStore::memory(config()),
    };
    let mut model = Model { revision: 1, ..Model::default() };
    for step in steps {
        match step {
            Step::Put { key, value } => {
                let value = Bytes::from(vec![*value; usize::from(*value % 9)]);
                model.revision += 1;
                model.put(model.revision, name(*key), value.clone());
                assert_eq!(store.put(name(*key), value).await.unwrap(), model.revision);
            }
            Step::Delete { key, count } => {
                let gone: Vec<_> = (*key..key + count).map(name).filter(|k| model.now(k).is_some()).collect();
                let range = KeyRange::between(name(*key), name(key + count));
                let answer = store.txn(Txn::new().then(Op::delete_range(range.clone()))).await.unwrap();
                if range.start < range.end && !gone.is_empty() {
                    model.revision += 1;
                    for key in &gone {
                        model.delete(model.revision, key);
                    }
                }
                assert_eq!(answer.revision, model.revision);
            }
            Step::Swap { key, other, value, right } => {
                let at = model.now(&name(*key)).map_or(0, |kv| kv.mod_revision) + i64::from(!right);
                let value = Bytes::from(vec![*value; 3]);
                let mut txn = Txn::new()
                    .when(Compare::mod_revision(name(*key), at))
                    .then(Op::put(name(*key), value.clone()))
                    .otherwise(Op::range(RangeRequest::key(name(*key))));
                if key != other {
                    txn = txn.then(Op::put(name(*other), value.clone()));
                }
                let answer = store.txn(txn).await.unwrap();
                assert_eq!(answer.succeeded, *right);
                if *right {
                    model.revision += 1;
                    model.put(model.revision, name(*key), value.clone());
                    if key != other {
                        model.put(model.revision, name(*other), value);
                    }
                }
                assert_eq!(answer.revision, model.revision);
            }
            Step::Compact { back } => {
                let at = model.revision - i64::from(*back);
                match store.compact(at).await {
                    Ok(()) => {
                        assert!(at > model.compacted);
                        model.compacted = at;
                        model.gaps.retain(|(_, high)| *high > at);
                    }
                    Err(error) => assert!(error.is_compacted() && at <= model.compacted, "{error}"),
                }
            }
            Step::Range { back, limit } => {
                let at = (model.revision - i64::from(*back)).max(1);
                let request = RangeRequest::over(KeyRange::all()).at(at).limit(usize::from(*limit));
                match store.range(request).await {
                    Ok(answer) => {
                        assert!(at >= model.compacted && !model.skipped(at));
                        let all: Vec<_> = model.keys.keys().filter_map(|k| model.at(k, at)).cloned().collect();
                        assert_eq!((answer.count, answer.revision), (all.len(), model.revision));
                        let limit = if *limit > 0 { usize::from(*limit) } else { usize::MAX };
                        assert_eq!(answer.more, all.len() > limit);
                        assert_eq!(answer.kvs, all[..all.len().min(limit)]);
                    }
                    Err(error) => {
                        assert!(error.is_compacted() && (at < model.compacted || model.skipped(at)), "{error}");
                    }
                }
            }
            Step::Watch { back } => {
                let from = (model.revision - i64::from(*back)).max(1);
                match store.watch(WatchRequest::over(KeyRange::all()).from(from)).await {
                    Ok(mut watch) => {
                        assert!(from >= model.compacted && !model.skipped(from - 1));
                        let wanted = model.events(from);
                        for (revision, wanted) in wanted {
                            let batch = watch.next().await.unwrap().unwrap();
                            assert_eq!(batch.revision, revision);
                            let mut events: Vec<Arc<Event>> = batch.events;
                            events.sort_by(|a, b| a.kv.key.cmp(&b.kv.key));
                            assert_eq!(events.len(), wanted.len());
                            for (event, (kv, prev)) in events.iter().zip(wanted) {
                                assert_eq!(event.kv, kv);
                                assert_eq!(event.is_delete(), kv.version == 0);
                                // What is older than the compaction may be forgotten.
                                if event.prev.is_some() || prev.as_ref().is_some_and(|_| revision > model.compacted) {
                                    assert_eq!(event.prev, prev);
                                }
                            }
                        }
                        let rest = watch.try_next();
                        assert!(rest.is_none_or(|mark| mark.unwrap().events.is_empty()));
                    }
                    Err(error) => {
                        let wanted = from < model.compacted || model.skipped(from - 1);
                        assert!(error.is_compacted() && wanted, "{error} at {from}");
                    }
                }
            }
            Step::Reopen { clean } if disk => {
                let before = path(generation);
                if *clean {
                    store.close();
                } else {
                    generation += 1;
                    crash_copy(&before, &path(generation));
                    drop(store);
                }
                store = LocalStore::open(&path(generation), config()).unwrap();
                let revision = store.read_revision().await.unwrap();
                if *clean {
                    assert_eq!(revision, model.revision);
                } else {
                    assert!(revision >= model.revision);
                    let low = model.keys.values().flatten().map(|kv| kv.mod_revision).max().unwrap_or(1);
                    model.gaps.push((low, revision));
                }
                model.revision = revision;
            }
            Step::Reopen { .. } => {}
        }
        for key in (0..6).map(name) {
            assert_eq!(store.get(&key).await.unwrap().as_ref(), model.now(&key), "after {step:?}");
        }
    }
    let missing: Option<Error> = store.verify().await.err();
    assert_eq!(missing, None);
}

fn check(steps: &[Step], disk: bool) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(steps, disk));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn memory_is_like_the_model(steps in prop::collection::vec(step(), 1..60)) {
        check(&steps, false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn disk_is_like_the_model(steps in prop::collection::vec(step(), 1..60)) {
        check(&steps, true);
    }
}
