//! Evaluates transactions in order over the published state and what the same group commit has staged so far.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;

use crate::contract::{
    Compare, CompareOp, CompareTarget, KeyRange, KeyValue, Op, OpResponse, Put, RangeRequest, RangeResponse, Txn,
    TxnResponse,
};
use crate::error::Error;
use crate::index::{Place, Version};
use crate::lease::{Leases, MAX_TTL};
use crate::local::State;
use crate::medium::Medium;

/// The longest key.
pub(crate) const MAX_KEY: usize = 4 << 10;
/// The largest value: an object of 1.5 MiB, sealed, with room to spare.
pub(crate) const MAX_VALUE: usize = 2 << 20;
/// The most operations and compares of one transaction.
const MAX_OPS: usize = 8192;
/// The largest transaction.
const MAX_TXN: usize = 16 << 20;
/// How deep transactions nest.
const MAX_DEPTH: usize = 4;

/// A staged change.
pub(crate) struct Change {
    pub key: Bytes,
    pub version: Version,
    pub prev: Option<KeyValue>,
}

/// What a group commit is going to change.
pub(crate) struct Staged<'a> {
    state: &'a State,
    leases: &'a Leases,
    medium: &'a Medium,
    /// The newest revision, staged ones included.
    pub revision: i64,
    /// Per revision, in order.
    pub changes: Vec<(i64, Vec<Change>)>,
    overlay: BTreeMap<Bytes, Vec<Version>>,
    /// Granted with their time to live, or ended.
    pub leases_changed: BTreeMap<i64, Option<Duration>>,
    /// A mistake to make, for tests of the tests: some revisions are given twice.
    pub repeats: bool,
}

/// Which way a transaction goes, and the ways of those within it.
struct Branch {
    succeeded: bool,
    inner: Vec<Branch>,
}

impl<'a> Staged<'a> {
    pub fn new(state: &'a State, leases: &'a Leases, medium: &'a Medium) -> Staged<'a> {
        Staged {
            state,
            leases,
            medium,
            revision: state.revision,
            changes: Vec::new(),
            overlay: BTreeMap::new(),
            leases_changed: BTreeMap::new(),
            repeats: false,
        }
    }

    /// Evaluates one transaction; an error leaves nothing of it staged.
    pub fn txn(&mut self, txn: &Txn, refuse: Option<&Error>) -> Result<TxnResponse, Error> {
        check(txn, 0)?;
        let mut changes = Vec::new();
        let branch = self.branch(txn)?;
        match self.run(txn, &branch, &mut changes) {
            Ok(mut response) => {
                self.finish(changes, refuse)?;
                let given_twice = self.repeats && self.revision % 20 == 0;
                set_revision(&mut response, self.revision - i64::from(given_twice));
                Ok(response)
            }
            Err(error) => {
                self.undo(&changes);
                Err(error)
            }
        }
    }

    /// Stages a grant.
    pub fn grant(&mut self, id: i64, ttl: Duration, refuse: Option<&Error>) -> Result<i64, Error> {
        let seconds = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        if !(1..=MAX_TTL).contains(&seconds) {
            return Err(Error::LeaseTtl { asked: seconds, max: MAX_TTL });
        }
        if let Some(refuse) = refuse {
            return Err(refuse.clone());
        }
        if self.lease_exists(id) {
            return Err(Error::LeaseExists(id));
        }
        self.leases_changed.insert(id, Some(ttl));
        Ok(id)
    }

    /// Stages the end of a lease and of its keys.
    pub fn revoke(&mut self, id: i64, refuse: Option<&Error>) -> Result<i64, Error> {
        let staged = self.leases_changed.get(&id).copied();
        let exists = staged.map_or(self.leases.get_any(id).is_some(), |change| change.is_some());
        if !exists {
            return Err(Error::LeaseNotFound(id));
        }
        if let Some(refuse) = refuse {
            return Err(refuse.clone());
        }
        let mut keys: BTreeSet<Bytes> = self.leases.get_any(id).map(|l| l.keys.clone()).unwrap_or_default();
        keys.extend(self.overlay.keys().cloned());
        keys.retain(|key| self.newest(key).is_some_and(|v| !v.is_deletion() && v.lease == id));
        let mut changes = Vec::new();
        for key in keys {
            if let Err(error) = self.delete_key(key, &mut changes) {
                self.undo(&changes);
                return Err(error);
            }
        }
        self.finish(changes, None)?;
        self.leases_changed.insert(id, None);
        Ok(self.revision)
    }

    fn finish(&mut self, changes: Vec<Change>, refuse: Option<&Error>) -> Result<(), Error> {
        if changes.is_empty() {
            return Ok(());
        }
        if let Some(refuse) = refuse {
            self.undo(&changes);
            return Err(refuse.clone());
        }
        self.revision += 1;
        self.changes.push((self.revision, changes));
        Ok(())
    }

    fn undo(&mut self, changes: &[Change]) {
        for change in changes {
            if let Some(versions) = self.overlay.get_mut(&change.key) {
                versions.pop();
                if versions.is_empty() {
                    self.overlay.remove(&change.key);
                }
            }
        }
    }

    /// Decides all branches, those of inner transactions too, before anything is changed: a compare sees what was
    /// there before the whole transaction, as etcd has it.
    fn branch(&self, txn: &Txn) -> Result<Branch, Error> {
        let mut succeeded = true;
        for compare in &txn.compares {
            if !self.holds(compare)? {
                succeeded = false;
                break;
            }
        }
        let mut inner = Vec::new();
        for op in if succeeded { &txn.success } else { &txn.failure } {
            if let Op::Txn(txn) = op {
                inner.push(self.branch(txn)?);
            }
        }
        Ok(Branch { succeeded, inner })
    }

    fn run(&mut self, txn: &Txn, branch: &Branch, changes: &mut Vec<Change>) -> Result<TxnResponse, Error> {
        let succeeded = branch.succeeded;
        let mut inner = branch.inner.iter();
        let mut responses = Vec::new();
        for op in if succeeded { &txn.success } else { &txn.failure } {
            responses.push(match op {
                Op::Put(put) => self.put(put, changes)?,
                Op::Delete { range, prev } => self.delete(range, *prev, changes)?,
                Op::Range(request) => OpResponse::Range(self.range(request)?),
                Op::Txn(txn) => {
                    let branch = inner.next().ok_or(Error::Unsupported("a branch that was not decided"))?;
                    OpResponse::Txn(self.run(txn, branch, changes)?)
                }
            });
        }
        Ok(TxnResponse { succeeded, revision: 0, responses })
    }

    fn newest(&self, key: &[u8]) -> Option<&Version> {
        match self.overlay.get(key) {
            Some(versions) => versions.last(),
            None => self.state.index.newest(key).map(|(_, version)| version),
        }
    }

    /// Every key of a range as of a revision, with the overlay laid over the index.
    fn current(&self, range: &KeyRange, at: i64) -> Vec<(Bytes, Version)> {
        if range.is_single() && at == i64::MAX {
            let version = self.newest(&range.start).filter(|v| !v.is_deletion());
            return version.map(|v| (range.start.clone(), v.clone())).into_iter().collect();
        }
        let mut found: BTreeMap<Bytes, Version> =
            self.state.index.range(range, at).map(|(key, version)| (key.clone(), version.clone())).collect();
        for (key, versions) in self.overlay.iter().filter(|(key, _)| range.contains(key)) {
            match versions.iter().rev().find(|v| v.mod_revision <= at) {
                Some(version) if version.is_deletion() => {
                    found.remove(key);
                }
                Some(version) => {
                    found.insert(key.clone(), version.clone());
                }
                None => {}
            }
        }
        found.into_iter().collect()
    }

    fn load(&self, key: &Bytes, version: &Version) -> Result<KeyValue, Error> {
        let value = match &version.value {
            Place::Memory(bytes) => bytes.clone(),
            Place::Disk => self
                .medium
                .value(version.mod_revision, version.sub)?
                .ok_or_else(|| Error::Corrupt(format!("the record of revision {} is missing", version.mod_revision)))?,
        };
        Ok(KeyValue { value, ..version.head(key) })
    }

    fn holds(&self, compare: &Compare) -> Result<bool, Error> {
        let wants_value = matches!(compare.target, CompareTarget::Value(_));
        let keys = self.current(&compare.range, i64::MAX);
        if keys.is_empty() {
            return Ok(!wants_value && compare_one(compare, &KeyValue::default()));
        }
        for (key, version) in &keys {
            let kv = if wants_value { self.load(key, version)? } else { version.head(key) };
            if !compare_one(compare, &kv) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn lease_exists(&self, id: i64) -> bool {
        match self.leases_changed.get(&id) {
            Some(change) => change.is_some(),
            None => self.leases.get(id).is_some(),
        }
    }

    fn put(&mut self, put: &Put, changes: &mut Vec<Change>) -> Result<OpResponse, Error> {
        let revision = self.revision + 1;
        let newest = self.newest(&put.key);
        if newest.is_some_and(|v| v.mod_revision == revision) {
            return Err(Error::DuplicateKey);
        }
        let prev = match newest.filter(|v| !v.is_deletion()) {
            Some(version) => Some(self.load(&put.key, version)?),
            None => None,
        };
        if prev.is_none() && (put.ignore_value || put.ignore_lease) {
            return Err(Error::KeyNotFound);
        }
        let value = match &prev {
            Some(prev) if put.ignore_value => prev.value.clone(),
            _ => put.value.clone(),
        };
        let lease = match &prev {
            Some(prev) if put.ignore_lease => prev.lease,
            _ => put.lease,
        };
        if lease != 0 && !self.lease_exists(lease) {
            return Err(Error::LeaseNotFound(lease));
        }
        let version = Version {
            mod_revision: revision,
            sub: changes.len() as u32,
            create_revision: prev.as_ref().map_or(revision, |p| p.create_revision),
            version: prev.as_ref().map_or(1, |p| p.version + 1),
            lease,
            value: Place::Memory(value),
        };
        self.overlay.entry(put.key.clone()).or_default().push(version.clone());
        let answer = if put.prev { prev.clone() } else { None };
        changes.push(Change { key: put.key.clone(), version, prev });
        Ok(OpResponse::Put { prev: answer })
    }

    fn delete(&mut self, range: &KeyRange, prev: bool, changes: &mut Vec<Change>) -> Result<OpResponse, Error> {
        let before = changes.len();
        for (key, _) in self.current(range, i64::MAX) {
            self.delete_key(key, changes)?;
        }
        let deleted = changes.len() - before;
        let prev = match prev {
            true => changes[before..].iter().filter_map(|c| c.prev.clone()).collect(),
            false => Vec::new(),
        };
        Ok(OpResponse::Delete { deleted, prev })
    }

    fn delete_key(&mut self, key: Bytes, changes: &mut Vec<Change>) -> Result<(), Error> {
        let revision = self.revision + 1;
        let Some(version) = self.newest(&key) else { return Ok(()) };
        if version.mod_revision == revision {
            return Err(Error::DuplicateKey);
        }
        let prev = Some(self.load(&key, version)?);
        let version = Version {
            mod_revision: revision,
            sub: changes.len() as u32,
            create_revision: 0,
            version: 0,
            lease: 0,
            value: Place::Memory(Bytes::new()),
        };
        self.overlay.entry(key.clone()).or_default().push(version.clone());
        changes.push(Change { key, version, prev });
        Ok(())
    }

    fn range(&self, request: &RangeRequest) -> Result<RangeResponse, Error> {
        if request.revision > self.revision {
            return Err(Error::FutureRevision { asked: request.revision, current: self.revision });
        }
        self.state.check_readable(&request.range, request.revision)?;
        let at = if request.revision > 0 { request.revision } else { i64::MAX };
        let keys = self.current(&request.range, at);
        let count = keys.len();
        let mut response = RangeResponse { revision: 0, kvs: Vec::new(), count, more: false };
        if request.count_only {
            return Ok(response);
        }
        let limit = if request.limit > 0 { request.limit } else { usize::MAX };
        response.more = count > limit;
        for (key, version) in keys.iter().take(limit) {
            response.kvs.push(if request.keys_only { version.head(key) } else { self.load(key, version)? });
        }
        Ok(response)
    }
}

/// All parts of an answer carry the revision that the transaction ended at.
fn set_revision(response: &mut TxnResponse, revision: i64) {
    response.revision = revision;
    for part in &mut response.responses {
        match part {
            OpResponse::Range(range) => range.revision = revision,
            OpResponse::Txn(inner) => set_revision(inner, revision),
            OpResponse::Put { .. } | OpResponse::Delete { .. } => {}
        }
    }
}

fn compare_one(compare: &Compare, kv: &KeyValue) -> bool {
    let order = match &compare.target {
        CompareTarget::ModRevision(wanted) => kv.mod_revision.cmp(wanted),
        CompareTarget::CreateRevision(wanted) => kv.create_revision.cmp(wanted),
        CompareTarget::Version(wanted) => kv.version.cmp(wanted),
        CompareTarget::Lease(wanted) => kv.lease.cmp(wanted),
        CompareTarget::Value(wanted) => kv.value.cmp(wanted),
    };
    match compare.op {
        CompareOp::Equal => order.is_eq(),
        CompareOp::NotEqual => order.is_ne(),
        CompareOp::Greater => order.is_gt(),
        CompareOp::Less => order.is_lt(),
    }
}

/// Whether a request is within the limits.
pub(crate) fn check(txn: &Txn, depth: usize) -> Result<usize, Error> {
    let over = |what, size: usize, limit| {
        if size > limit { Err(Error::TooLarge { what, size, limit }) } else { Ok(()) }
    };
    over("a depth", depth, MAX_DEPTH)?;
    over("a number of compares", txn.compares.len(), MAX_OPS)?;
    over("a number of operations", txn.success.len().max(txn.failure.len()), MAX_OPS)?;
    let mut bytes = 0;
    let mut keys = HashMap::new();
    for compare in &txn.compares {
        check_range(&compare.range)?;
    }
    for (branch, op) in txn.success.iter().map(|op| (true, op)).chain(txn.failure.iter().map(|op| (false, op))) {
        match op {
            Op::Put(put) => {
                check_range(&KeyRange::key(put.key.clone()))?;
                over("a value", put.value.len(), MAX_VALUE)?;
                if keys.insert((branch, put.key.clone()), ()).is_some() {
                    return Err(Error::DuplicateKey);
                }
                bytes += put.key.len() + put.value.len();
            }
            Op::Delete { range, .. } => check_range(range)?,
            Op::Range(request) => check_range(&request.range)?,
            Op::Txn(inner) => bytes += check(inner, depth + 1)?,
        }
    }
    over("a transaction", bytes, MAX_TXN)?;
    Ok(bytes)
}

pub(crate) fn check_range(range: &KeyRange) -> Result<(), Error> {
    if range.start.is_empty() {
        return Err(Error::EmptyKey);
    }
    for key in [&range.start, &range.end] {
        if key.len() > MAX_KEY {
            return Err(Error::TooLarge { what: "a key", size: key.len(), limit: MAX_KEY });
        }
    }
    Ok(())
}
