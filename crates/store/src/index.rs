//! The index: every key's versions since the last compaction, always in memory.
//!
//! ```text
//! "a" ─▶ [ 4 put, 9 put, 12 deleted ]      versions in rising order, the newest last
//! "b" ─▶ [ 7 put ]
//! superseded: (9,"a") (12,"a")              what a compaction must look at, by the revision that made it look
//!
//! compact(9):   "a" ─▶ [ 9, 12 ]           what is newest at 9 stays, what is older goes
//! compact(12):  "a" ─▶ [ 12 deleted ]      a deletion at just this revision stays: a watch may begin at it
//! compact(13):  "a" is gone
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use bytes::Bytes;

use crate::contract::{KeyRange, KeyValue};

/// Where a version's value is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Memory(Bytes),
    /// In the log, under the version's revision and position.
    Disk,
}

/// One version of a key.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub mod_revision: i64,
    /// The change's position within its revision.
    pub sub: u32,
    pub create_revision: i64,
    /// 0 for a deletion.
    pub version: i64,
    pub lease: i64,
    pub value: Place,
}

impl Version {
    pub fn is_deletion(&self) -> bool {
        self.version == 0
    }

    /// The version as a key and value, the value left empty.
    pub fn head(&self, key: &Bytes) -> KeyValue {
        KeyValue {
            key: key.clone(),
            value: Bytes::new(),
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
        }
    }
}

/// A version taken out of the index whose record in the log is of no more use.
pub(crate) type Dropped = (i64, u32);

/// All keys.
#[derive(Default)]
pub(crate) struct Index {
    keys: BTreeMap<Bytes, Vec<Version>>,
    superseded: VecDeque<(i64, Bytes)>,
    /// Keys whose newest version is not a deletion.
    live: usize,
    versions: usize,
}

impl Index {
    pub fn live(&self) -> usize {
        self.live
    }

    pub fn versions(&self) -> usize {
        self.versions
    }

    /// How many versions a compaction at the newest revision would drop, at most.
    pub fn superseded(&self) -> usize {
        self.superseded.len()
    }

    /// The revision to compact at so that about `keep` superseded versions stay.
    pub fn revision_keeping(&self, keep: usize) -> Option<i64> {
        let cut = self.superseded.len().checked_sub(keep)?;
        self.superseded.get(cut.checked_sub(1)?).map(|(revision, _)| *revision)
    }

    /// Adds a version newer than all of its key. A superseded value is let go from memory if the log has it.
    /// Answers with how many value bytes that freed.
    pub fn push(&mut self, key: &Bytes, version: Version, logged: bool) -> usize {
        self.versions += 1;
        let deletion = version.is_deletion();
        let revision = version.mod_revision;
        let Some(versions) = self.keys.get_mut(key) else {
            self.live += usize::from(!deletion);
            self.keys.insert(key.clone(), vec![version]);
            if deletion {
                self.superseded.push_back((revision, key.clone()));
            }
            return 0;
        };
        let mut freed = 0;
        let mut was_live = false;
        if let Some(last) = versions.last_mut() {
            was_live = !last.is_deletion();
            if logged && let Place::Memory(bytes) = &last.value {
                freed = bytes.len();
                last.value = Place::Disk;
            }
        }
        self.live = self.live + usize::from(!deletion) - usize::from(was_live);
        versions.push(version);
        self.superseded.push_back((revision, key.clone()));
        freed
    }

    /// The newest version, a deletion too.
    pub fn newest(&self, key: &[u8]) -> Option<(&Bytes, &Version)> {
        let (key, versions) = self.keys.get_key_value(key)?;
        Some((key, versions.last()?))
    }

    /// Every key of a range with the version that was current at a revision, deletions left out.
    pub fn range<'a>(&'a self, range: &'a KeyRange, revision: i64) -> impl Iterator<Item = (&'a Bytes, &'a Version)> {
        self.entries(range).filter_map(move |(key, versions)| {
            let version = versions.iter().rev().find(|v| v.mod_revision <= revision)?;
            (!version.is_deletion()).then_some((key, version))
        })
    }

    /// Every key of a range with all its versions.
    pub fn entries<'a>(&'a self, range: &'a KeyRange) -> impl Iterator<Item = (&'a Bytes, &'a [Version])> {
        let start = Bound::Included(&range.start[..]);
        let single = Bound::Included(&range.start[..]);
        let end = match () {
            () if range.is_single() => single,
            () if range.is_open() => Bound::Unbounded,
            // An end at or before the start holds nothing; BTreeMap would panic on it.
            () if range.end <= range.start => Bound::Excluded(&range.start[..]),
            () => Bound::Excluded(&range.end[..]),
        };
        let empty = matches!(end, Bound::Excluded(end) if end <= &range.start[..]);
        let found = (!empty).then(|| self.keys.range::<[u8], _>((start, end)));
        found.into_iter().flatten().map(|(key, versions)| (key, versions.as_slice()))
    }

    /// Lets a value in memory go if it is still where the caller thinks. Answers with how many bytes that freed.
    pub fn evict(&mut self, key: &[u8], revision: i64) -> usize {
        let found = self.keys.get_mut(key).and_then(|v| v.iter_mut().rev().find(|v| v.mod_revision == revision));
        let Some(version) = found else { return 0 };
        let Place::Memory(bytes) = &version.value else { return 0 };
        let freed = bytes.len();
        version.value = Place::Disk;
        freed
    }

    /// Drops what was superseded at or before a revision; at most `steps` keys are looked at.
    /// Answers with how many value bytes that freed, and whether all is done.
    pub fn compact(&mut self, revision: i64, steps: usize, dropped: &mut Vec<Dropped>) -> (usize, bool) {
        let mut freed = 0;
        for _ in 0..steps {
            match self.superseded.front() {
                Some((at, _)) if *at < revision => {}
                _ => {
                    freed += self.compact_last(revision, dropped);
                    return (freed, true);
                }
            }
            let Some((_, key)) = self.superseded.pop_front() else { break };
            freed += self.prune(&key, revision, dropped);
        }
        (freed, false)
    }

    /// The part of a compaction at its very revision. Deletions there are kept and must be found again next time.
    fn compact_last(&mut self, revision: i64, dropped: &mut Vec<Dropped>) -> usize {
        let mut freed = 0;
        let end = self.superseded.partition_point(|(at, _)| *at <= revision);
        let last: Vec<(i64, Bytes)> = self.superseded.drain(..end).collect();
        for (at, key) in last.into_iter().rev() {
            freed += self.prune(&key, revision, dropped);
            let first = self.keys.get(&key).and_then(|versions| versions.first());
            if first.is_some_and(|v| v.is_deletion() && v.mod_revision == at) {
                self.superseded.push_front((at, key));
            }
        }
        freed
    }

    fn prune(&mut self, key: &[u8], revision: i64, dropped: &mut Vec<Dropped>) -> usize {
        let Some(versions) = self.keys.get_mut(key) else { return 0 };
        let Some(kept) = versions.iter().rposition(|v| v.mod_revision <= revision) else { return 0 };
        let gone = versions[kept].is_deletion() && versions[kept].mod_revision < revision;
        let mut freed = 0;
        for version in versions.drain(..kept + usize::from(gone)) {
            self.versions -= 1;
            if let Place::Memory(bytes) = &version.value {
                freed += bytes.len();
            }
            dropped.push((version.mod_revision, version.sub));
        }
        if versions.is_empty() {
            self.keys.remove(key);
        } else if versions.capacity() > 4 * versions.len() {
            versions.shrink_to_fit();
        }
        freed
    }
}
