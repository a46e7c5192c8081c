//! `etcdctl snapshot save`: the store's keys and history as a file that a real etcd starts from, the way from one
//! machine to three.
//!
//! What is written is what the contract shows: the oldest state that can still be read, and every change after it.

use std::sync::Arc;

use prost::Message;
use sha2::{Digest, Sha256};

use super::bolt::Bolt;
use super::proto::mvccpb;
use super::{VERSION, convert};
use crate::contract::{KeyRange, RangeRequest, Store, WatchRequest};
use crate::error::Error;

/// The buckets of an etcd, besides those that are filled here.
const EMPTY: [&str; 7] = ["alarm", "auth", "authRoles", "authUsers", "cluster", "members", "members_removed"];

/// A lease as etcd stores it.
#[derive(Clone, PartialEq, prost::Message)]
struct Lease {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
}

/// One change as etcd's key bucket has it.
fn change(revision: i64, sub: usize, kv: mvccpb::KeyValue, deletion: bool) -> (Vec<u8>, Vec<u8>) {
    let mut key = revision.to_be_bytes().to_vec();
    key.push(b'_');
    key.extend_from_slice(&(sub as u64).to_be_bytes());
    let kv = match deletion {
        true => {
            key.push(b't');
            mvccpb::KeyValue { key: kv.key, ..Default::default() }
        }
        false => kv,
    };
    (key, kv.encode_to_vec())
}

/// What the key bucket is made of, and from which revision on it is complete.
struct History {
    changes: Vec<(Vec<u8>, Vec<u8>)>,
    compacted: i64,
    newest: i64,
}

/// The state at a revision and what changed since, up to `newest`.
async fn history(store: &dyn Store, from: i64, newest: i64) -> Result<History, Error> {
    let mut base = store.range(RangeRequest::over(KeyRange::all()).at(from)).await?.kvs;
    base.sort_by(|a, b| (a.mod_revision, &a.key).cmp(&(b.mod_revision, &b.key)));
    let mut changes = Vec::new();
    let mut last = (0, 0);
    let mut add = |revision: i64, kv: mvccpb::KeyValue, deletion: bool| {
        last = if last.0 == revision { (revision, last.1 + 1) } else { (revision, 0) };
        changes.push(change(revision, last.1, kv, deletion));
    };
    for kv in base {
        add(kv.mod_revision, convert::kv(kv), false);
    }
    let mut reached = from;
    if from < newest {
        let mut watch = store.watch(WatchRequest::over(KeyRange::all()).after(from)).await?;
        while reached < newest {
            let batch = watch.next().await.ok_or(Error::Closed)??;
            reached = batch.revision;
            for event in batch.events.iter().filter(|_| batch.revision <= newest) {
                add(batch.revision, convert::kv(event.kv.clone()), event.is_delete());
            }
        }
    }
    Ok(History { changes, compacted: from, newest: last.0 })
}

/// The whole file, with the checksum that etcd's tools expect behind it.
pub(super) async fn write(store: &Arc<dyn Store>) -> Result<Vec<u8>, Error> {
    let newest = store.read_revision().await?;
    let mut from = store.stats().await?.compacted.max(1);
    let history = loop {
        match history(&**store, from, newest).await {
            // Numbers that an unclean stop skipped, or a compaction meanwhile: what is older cannot be shown.
            Err(Error::Compacted { revision }) if revision > from => from = revision.min(newest),
            // The newest revisions changed nothing that is still there: only a compaction up to it says the number.
            Ok(found) if found.newest < newest && from < newest => from = newest,
            other => break other?,
        }
    };
    let mut leases = Vec::new();
    for id in store.leases().await? {
        match store.lease(id).await {
            Ok(lease) => leases.push(Lease { id, ttl: lease.granted.as_secs() as i64 }),
            Err(Error::LeaseNotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    leases.sort_by_key(|lease| lease.id.to_be_bytes());
    let built = tokio::task::spawn_blocking(move || build(history, leases));
    built.await.map_err(|_| Error::Closed)
}

fn build(history: History, leases: Vec<Lease>) -> Vec<u8> {
    let mut bolt = Bolt::new();
    bolt.bucket("key", history.changes.into_iter());
    bolt.bucket("lease", leases.iter().map(|lease| (lease.id.to_be_bytes().to_vec(), lease.encode_to_vec())));
    let one = || 1u64.to_be_bytes().to_vec();
    let mut meta = vec![
        (b"consistent_index".to_vec(), one()),
        (b"storageVersion".to_vec(), VERSION.as_bytes().to_vec()),
        (b"term".to_vec(), one()),
    ];
    if history.compacted > 1 {
        // A revision as a key of etcd's: main and sub.
        let revision = [&history.compacted.to_be_bytes()[..], b"_", &[0; 8]].concat();
        meta.push((b"finishedCompactRev".to_vec(), revision.clone()));
        meta.push((b"scheduledCompactRev".to_vec(), revision));
    }
    meta.sort();
    bolt.bucket("meta", meta.into_iter());
    for name in EMPTY {
        bolt.bucket(name, std::iter::empty());
    }
    let mut file = bolt.finish();
    let checksum = Sha256::digest(&file);
    file.extend_from_slice(&checksum);
    file
}
