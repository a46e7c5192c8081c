//! Recorded histories of concurrent clients, checked for linearizability and for nine guarantees of watches; and five
//! seeded bugs, to show that the checks bite.
//!
//! Every answer carries the store's revision, so no search is needed: writes are put in the order of their revisions,
//! a model is built from them, every answer must be what the model says at its revision, and revisions must agree with
//! real time: what began after something had ended must not lie before it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;

use crate::contract::{
    Compare, KeyRange, KeyValue, Op, OpResponse, RangeRequest, Store, Txn, WatchBatch, WatchRequest,
};
use crate::error::Error;
use crate::failpoint::Bug;
use crate::local::{Config, LocalStore};

/// Seeds to try; each is a history.
const SEEDS: &str = "SKIFF_STORE_HISTORIES";
const CLIENTS: u64 = 4;
const STEPS: usize = 60;
const KEYS: usize = 6;

/// What a client asked for.
#[derive(Clone, Debug)]
enum Asked {
    /// Puts one or two keys, if the first is still at a revision.
    Put {
        keys: Vec<Bytes>,
        value: Bytes,
        at: Option<i64>,
    },
    Delete {
        key: Bytes,
    },
    /// Everything, now or at a revision.
    Read {
        at: i64,
    },
    Compact {
        at: i64,
    },
}

#[derive(Clone, Debug)]
enum Answered {
    /// Whether something changed.
    Written(bool),
    Read(Vec<KeyValue>),
    Compacted,
    Done,
}

/// A request with its answer, and when it began and ended on a clock that all clients share.
#[derive(Clone, Debug)]
struct Entry {
    begun: u64,
    ended: u64,
    asked: Asked,
    answered: Answered,
    /// 0 where the answer has none.
    revision: i64,
}

/// Everything that was seen of a store.
struct History {
    entries: Vec<Entry>,
    watches: Vec<Seen>,
}

/// A watch of a prefix and what it showed.
struct Seen {
    prefix: Bytes,
    from: i64,
    /// The newest revision when it was read to its end.
    until: i64,
    batches: Vec<WatchBatch>,
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % bound
    }
}

fn key(n: usize) -> Bytes {
    Bytes::from(format!("{}/{n}", if n.is_multiple_of(2) { "even" } else { "odd" }))
}

async fn ask(store: &LocalStore, asked: &Asked) -> (Answered, i64) {
    let written = |answer: crate::contract::TxnResponse| match &answer.responses[..] {
        [OpResponse::Delete { deleted, .. }] => (Answered::Written(*deleted > 0), answer.revision),
        _ => (Answered::Written(answer.succeeded), answer.revision),
    };
    match asked {
        Asked::Put { keys, value, at } => {
            let txn = keys.iter().fold(Txn::new(), |txn, key| txn.then(Op::put(key.clone(), value.clone())));
            let txn = match at {
                Some(at) => txn.when(Compare::mod_revision(keys[0].clone(), *at)),
                None => txn,
            };
            written(store.txn(txn).await.unwrap())
        }
        Asked::Delete { key } => written(store.txn(Txn::new().then(Op::delete(key.clone()))).await.unwrap()),
        Asked::Read { at } => match store.range(RangeRequest::over(KeyRange::all()).at(*at)).await {
            Ok(answer) => (Answered::Read(answer.kvs), answer.revision),
            Err(Error::Compacted { .. }) => (Answered::Compacted, 0),
            // A number that was heard of elsewhere may be new here.
            Err(error) => panic!("{error}"),
        },
        Asked::Compact { at } => match store.compact(*at).await {
            Ok(()) => (Answered::Done, 0),
            Err(Error::Compacted { .. }) => (Answered::Compacted, 0),
            Err(error) => panic!("{error}"),
        },
    }
}

async fn client(store: Arc<LocalStore>, clock: Arc<AtomicU64>, entries: Arc<Mutex<Vec<Entry>>>, mut random: Random) {
    let mut newest = 1;
    let mut heads: BTreeMap<Bytes, i64> = BTreeMap::new();
    for n in 0..STEPS {
        let first = random.below(KEYS);
        let asked = match random.below(20) {
            0..10 => {
                let mut keys = vec![key(first)];
                if random.below(3) == 0 {
                    keys.push(key((first + 1) % KEYS));
                }
                let at = (random.below(2) == 0).then(|| heads.get(&keys[0]).copied().unwrap_or(0));
                Asked::Put { keys, value: format!("{}-{n}", random.0).into(), at }
            }
            10..13 => Asked::Delete { key: key(first) },
            13..16 => Asked::Read { at: 0 },
            16..19 => Asked::Read { at: (newest - random.below(12) as i64).max(1) },
            _ => Asked::Compact { at: (newest - random.below(8) as i64).max(1) },
        };
        let begun = clock.fetch_add(1, Ordering::SeqCst);
        let (answered, revision) = ask(&store, &asked).await;
        let ended = clock.fetch_add(1, Ordering::SeqCst);
        newest = newest.max(revision);
        if let Answered::Read(kvs) = &answered {
            heads = kvs.iter().map(|kv| (kv.key.clone(), kv.mod_revision)).collect();
        }
        entries.lock().push(Entry { begun, ended, asked, answered, revision });
        tokio::task::yield_now().await;
    }
}

async fn record(store: LocalStore, seed: u64) -> History {
    let store = Arc::new(store);
    let (clock, entries) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let mut watches = Vec::new();
    for prefix in ["even/", "odd/", ""] {
        let request = WatchRequest::over(match prefix {
            "" => KeyRange::all(),
            prefix => KeyRange::prefix(prefix.into()),
        });
        watches.push((Bytes::from(prefix), 2, store.watch(request.from(2)).await.unwrap()));
    }
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| {
            let random = Random(seed.wrapping_mul(1009).wrapping_add(n));
            tokio::spawn(client(store.clone(), clock.clone(), entries.clone(), random))
        })
        .collect();
    // Watches that begin in the midst of it, in the past and in the future.
    let mut random = Random(seed ^ 0x5555);
    for _ in 0..6 {
        tokio::task::yield_now().await;
        let from = (store.read_revision().await.unwrap() + 6 - random.below(12) as i64).max(1);
        if let Ok(watch) = store.watch(WatchRequest::prefix("odd/".into()).from(from)).await {
            watches.push(("odd/".into(), from, watch));
        }
    }
    for client in clients {
        client.await.unwrap();
    }
    // Above the newest in any case, so that a watch without an end is seen to be one.
    let until = store.read_revision().await.unwrap();
    let mut seen = Vec::new();
    for (prefix, from, mut watch) in watches {
        let mut batches = Vec::new();
        while let Some(Ok(batch)) = watch.try_next_or_backlog().await {
            let last = batch.revision;
            batches.push(batch);
            if last >= until {
                break;
            }
        }
        seen.push(Seen { prefix, from, until, batches });
    }
    let entries = entries.lock().clone();
    History { entries, watches: seen }
}

/// The truth that follows from the writes: each key's versions; a deletion is a version 0.
struct Model {
    versions: BTreeMap<Bytes, Vec<KeyValue>>,
    newest: i64,
}

impl Model {
    fn at(&self, key: &[u8], revision: i64) -> Option<&KeyValue> {
        let kv = self.versions.get(key)?.iter().rev().find(|kv| kv.mod_revision <= revision)?;
        (kv.version > 0).then_some(kv)
    }

    fn all(&self, revision: i64) -> Vec<KeyValue> {
        self.versions.keys().filter_map(|key| self.at(key, revision)).cloned().collect()
    }

    /// Builds it from writes; an error when they contradict each other.
    fn of(entries: &[Entry]) -> Result<Model, String> {
        let mut writes: Vec<&Entry> =
            entries.iter().filter(|e| matches!(e.answered, Answered::Written(true))).collect();
        writes.sort_by_key(|entry| entry.revision);
        let mut model = Model { versions: BTreeMap::new(), newest: 1 };
        for entry in writes {
            if entry.revision != model.newest + 1 {
                return Err(format!("revision {} was given after {}", entry.revision, model.newest));
            }
            model.newest = entry.revision;
            match &entry.asked {
                Asked::Put { keys, value, at } => {
                    let before = model.at(&keys[0], entry.revision - 1).map_or(0, |kv| kv.mod_revision);
                    if at.is_some_and(|at| at != before) {
                        return Err(format!("a condition held at {} that was wrong", entry.revision));
                    }
                    for key in keys {
                        let before = model.at(key, entry.revision - 1);
                        let (create_revision, version) =
                            before.map_or((entry.revision, 1), |kv| (kv.create_revision, kv.version + 1));
                        let (key, value) = (key.clone(), value.clone());
                        let kv =
                            KeyValue { key, value, create_revision, mod_revision: entry.revision, version, lease: 0 };
                        model.versions.entry(kv.key.clone()).or_default().push(kv);
                    }
                }
                Asked::Delete { key } => {
                    let kv = KeyValue { key: key.clone(), mod_revision: entry.revision, ..KeyValue::default() };
                    model.versions.entry(key.clone()).or_default().push(kv);
                }
                _ => {}
            }
        }
        Ok(model)
    }

    /// The events of a prefix from a revision on: what is then, and what was before.
    fn events(&self, prefix: &[u8], from: i64) -> BTreeMap<(i64, Bytes), (KeyValue, Option<KeyValue>)> {
        let mut events = BTreeMap::new();
        for (key, versions) in self.versions.iter().filter(|(key, _)| key.starts_with(prefix)) {
            for (n, kv) in versions.iter().enumerate().filter(|(_, kv)| kv.mod_revision >= from) {
                let before = n.checked_sub(1).map(|n| versions[n].clone()).filter(|kv| kv.version > 0);
                events.insert((kv.mod_revision, key.clone()), (kv.clone(), before));
            }
        }
        events
    }
}

/// Whether revisions agree with real time.
fn in_real_time(entries: &[Entry]) -> Result<(), String> {
    let mut moments: Vec<(u64, &Entry)> = entries.iter().flat_map(|e| [(e.begun, e), (e.ended, e)]).collect();
    moments.sort_by_key(|(at, _)| *at);
    let (mut ended, mut known) = (0, BTreeMap::new());
    for (at, entry) in moments.into_iter().filter(|(_, entry)| entry.revision > 0) {
        if at == entry.begun {
            known.insert(entry.begun, ended);
            continue;
        }
        let floor = known[&entry.begun];
        let changed = matches!(entry.answered, Answered::Written(true));
        if entry.revision < floor || (changed && entry.revision == floor) {
            return Err(format!("{entry:?} lies before revision {floor}, which had been answered already"));
        }
        ended = ended.max(entry.revision);
    }
    Ok(())
}

/// Whether every answer is what the model says at its revision.
fn answers(entries: &[Entry], model: &Model) -> Result<(), String> {
    for entry in entries {
        let differs = |what: &str| Err(format!("{what}: {entry:?}"));
        match (&entry.asked, &entry.answered) {
            (Asked::Read { at }, Answered::Read(kvs)) => {
                let at = if *at > 0 { *at } else { entry.revision };
                if *kvs != model.all(at) {
                    return differs(&format!("a read differs from {:?}", model.all(at)));
                }
            }
            (Asked::Read { at: 0 }, Answered::Compacted) => return differs("the present was compacted"),
            (Asked::Put { keys, at: Some(at), .. }, Answered::Written(false))
                if model.at(&keys[0], entry.revision).map_or(0, |kv| kv.mod_revision) == *at =>
            {
                return differs("a condition failed that held");
            }
            (Asked::Put { at: None, .. }, Answered::Written(false)) => return differs("a put did nothing"),
            (Asked::Delete { key }, Answered::Written(false)) if model.at(key, entry.revision).is_some() => {
                return differs("a deletion found nothing");
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether a read is refused exactly when what it asks for was compacted.
fn compactions(entries: &[Entry]) -> Result<(), String> {
    let done = |entry: &&Entry| matches!((&entry.asked, &entry.answered), (Asked::Compact { .. }, Answered::Done));
    let compacted = |entry: &Entry| if let Asked::Compact { at } = entry.asked { at } else { 0 };
    for entry in entries {
        let Asked::Read { at } = entry.asked else { continue };
        let before = entries.iter().filter(done).filter(|c| c.ended < entry.begun).map(compacted).max().unwrap_or(0);
        let perhaps = entries.iter().filter(done).filter(|c| c.begun < entry.ended).map(compacted).max().unwrap_or(0);
        match entry.answered {
            Answered::Read(_) if at > 0 && at < before => {
                return Err(format!("{entry:?} lies before compaction {before}"));
            }
            Answered::Compacted if at >= perhaps => {
                return Err(format!("{entry:?} was refused, compaction is {perhaps}"));
            }
            _ => {}
        }
    }
    Ok(())
}

type Guarantee = fn(&Seen, &Model) -> Result<(), String>;

/// What a watch promises, each by its name.
const GUARANTEES: [(&str, Guarantee); 9] = [
    ("filter: only what was asked for", |seen, _| {
        let stray = events(seen).find(|(_, event)| !event.kv.key.starts_with(&seen.prefix));
        stray.map_or(Ok(()), |(_, event)| Err(format!("{:?}", event.kv.key)))
    }),
    ("bookmarkable: nothing comes that a mark said was seen", |seen, _| {
        let mut marked = seen.from - 1;
        for batch in &seen.batches {
            if !batch.events.is_empty() && batch.revision <= marked {
                return Err(format!("revision {} after mark {marked}", batch.revision));
            }
            marked = marked.max(if batch.events.is_empty() { batch.revision } else { 0 });
        }
        Ok(())
    }),
    ("ordered: revisions rise", |seen, _| {
        let revisions: Vec<i64> = events(seen).map(|(_, event)| event.kv.mod_revision).collect();
        if revisions.is_sorted() { Ok(()) } else { Err(format!("{revisions:?}")) }
    }),
    ("unique: no event comes twice", |seen, _| {
        let mut known = BTreeSet::new();
        let twice = events(seen).find(|(_, e)| !known.insert((e.kv.mod_revision, e.kv.key.clone())));
        twice.map_or(Ok(()), |(_, event)| Err(format!("{event:?}")))
    }),
    ("atomic: a revision comes in one piece", |seen, _| {
        let mut known = BTreeSet::new();
        let with_events = seen.batches.iter().filter(|batch| !batch.events.is_empty());
        let split = with_events.clone().find(|batch| !known.insert(batch.revision));
        let mixed = with_events.clone().find(|b| b.events.iter().any(|e| e.kv.mod_revision != b.revision));
        split.or(mixed).map_or(Ok(()), |batch| Err(format!("{batch:?}")))
    }),
    ("reliable: no event is missing", |seen, model| {
        let shown: BTreeSet<(i64, Bytes)> = events(seen).map(|(_, e)| (e.kv.mod_revision, e.kv.key.clone())).collect();
        let wanted = model.events(&seen.prefix, seen.from);
        let missing =
            wanted.keys().find(|(revision, key)| *revision <= seen.until && !shown.contains(&(*revision, key.clone())));
        missing.map_or(Ok(()), |missing| Err(format!("{missing:?}")))
    }),
    ("resumable: it begins where it was told to", |seen, model| {
        let wanted = model.events(&seen.prefix, seen.from);
        let first = events(seen).next().map(|(_, event)| event.kv.mod_revision);
        let wanted = wanted.keys().next().map(|(revision, _)| *revision).filter(|revision| *revision <= seen.until);
        if first == wanted { Ok(()) } else { Err(format!("{first:?} instead of {wanted:?}")) }
    }),
    ("previous values: an event says what was before", |seen, model| {
        let wanted = model.events(&seen.prefix, seen.from);
        for (_, event) in events(seen) {
            let Some((kv, before)) = wanted.get(&(event.kv.mod_revision, event.kv.key.clone())) else {
                return Err(format!("{event:?} never happened"));
            };
            // What lies before a compaction may be forgotten, but not wrong.
            if event.kv != *kv || (event.prev.is_some() && event.prev != *before) {
                return Err(format!("{event:?} instead of {kv:?} after {before:?}"));
            }
        }
        Ok(())
    }),
    ("creation: the first version of a key is told from later ones", |seen, model| {
        for (_, event) in events(seen).filter(|(_, event)| !event.is_delete()) {
            let made = model.at(&event.kv.key, event.kv.mod_revision - 1).is_none();
            if made != (event.kv.create_revision == event.kv.mod_revision) || made != (event.kv.version == 1) {
                return Err(format!("{event:?}"));
            }
        }
        Ok(())
    }),
];

fn events(seen: &Seen) -> impl Iterator<Item = (i64, &Arc<crate::contract::Event>)> {
    seen.batches.iter().flat_map(|batch| batch.events.iter().map(|event| (batch.revision, event)))
}

fn check(history: &History) -> Result<(), String> {
    in_real_time(&history.entries)?;
    let model = Model::of(&history.entries)?;
    answers(&history.entries, &model)?;
    compactions(&history.entries)?;
    for seen in &history.watches {
        for (name, guarantee) in GUARANTEES {
            guarantee(seen, &model).map_err(|why| format!("a watch from {} broke {name:?}: {why}", seen.from))?;
        }
    }
    Ok(())
}

fn config(bug: Option<Bug>) -> Config {
    Config { history: 0, value_budget: 60, ring_bytes: 2000, bug, ..Config::default() }
}

fn histories(disk: bool, seeds: u64, bug: Option<Bug>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for seed in 1..=seeds {
        let folder = tempfile::tempdir().unwrap();
        let store = match disk {
            true => LocalStore::open(folder.path(), config(bug)).unwrap(),
            false => LocalStore::memory(config(bug)),
        };
        let history = runtime.block_on(record(store, seed));
        check(&history).map_err(|why| format!("seed {seed}: {why}"))?;
    }
    Ok(())
}

#[test]
fn histories_of_concurrent_clients_are_linearizable() {
    let seeds = std::env::var(SEEDS).ok().and_then(|n| n.parse().ok()).unwrap_or(40);
    histories(false, seeds, None).unwrap();
    histories(true, seeds.div_ceil(4), None).unwrap();
}

#[test]
fn every_seeded_bug_is_caught() {
    for bug in Bug::ALL {
        let caught = histories(false, 50, Some(bug)).expect_err(&format!("{bug:?} was not caught"));
        println!("{bug:?} is caught, {}", caught.split(": ").take(2).collect::<Vec<_>>().join(": "));
    }
}
