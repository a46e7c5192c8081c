//! Leases: who lives how long, and which keys live by whom.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;

/// The longest time to live, as etcd has it.
pub(crate) const MAX_TTL: i64 = 9_000_000_000;

/// One lease.
pub(crate) struct Lease {
    pub ttl: Duration,
    pub deadline: Duration,
    pub keys: BTreeSet<Bytes>,
    /// The writer is about to end it: it cannot be kept alive any more.
    pub ending: bool,
}

/// All leases, and when they end.
#[derive(Default)]
pub(crate) struct Leases {
    by_id: BTreeMap<i64, Lease>,
    deadlines: BTreeSet<(Duration, i64)>,
}

impl Leases {
    pub fn get(&self, id: i64) -> Option<&Lease> {
        self.by_id.get(&id).filter(|lease| !lease.ending)
    }

    /// The lease even when it is just ending.
    pub fn get_any(&self, id: i64) -> Option<&Lease> {
        self.by_id.get(&id)
    }

    pub fn ids(&self) -> Vec<i64> {
        self.by_id.iter().filter(|(_, lease)| !lease.ending).map(|(id, _)| *id).collect()
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    pub fn insert(&mut self, id: i64, ttl: Duration, now: Duration) {
        let deadline = now + ttl;
        self.by_id.insert(id, Lease { ttl, deadline, keys: BTreeSet::new(), ending: false });
        self.deadlines.insert((deadline, id));
    }

    pub fn remove(&mut self, id: i64) {
        if let Some(lease) = self.by_id.remove(&id) {
            self.deadlines.remove(&(lease.deadline, id));
        }
    }

    pub fn keep_alive(&mut self, id: i64, now: Duration) -> Option<Duration> {
        let lease = self.by_id.get_mut(&id).filter(|lease| !lease.ending)?;
        self.deadlines.remove(&(lease.deadline, id));
        lease.deadline = now + lease.ttl;
        self.deadlines.insert((lease.deadline, id));
        Some(lease.ttl)
    }

    /// Lets a lease that could not be ended end later.
    pub fn postpone(&mut self, id: i64, until: Duration) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.deadline = until;
            self.deadlines.insert((until, id));
        }
    }

    pub fn attach(&mut self, id: i64, key: &Bytes) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.keys.insert(key.clone());
        }
    }

    pub fn detach(&mut self, id: i64, key: &[u8]) {
        if let Some(lease) = self.by_id.get_mut(&id) {
            lease.keys.remove(key);
        }
    }

    /// When the next lease ends.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// Marks the leases whose time is up as ending and answers with them.
    pub fn take_expired(&mut self, now: Duration) -> Vec<i64> {
        let mut expired = Vec::new();
        while let Some((at, id)) = self.deadlines.first().copied() {
            if at > now {
                break;
            }
            self.deadlines.pop_first();
            if let Some(lease) = self.by_id.get_mut(&id) {
                lease.ending = true;
                expired.push(id);
            }
        }
        expired
    }
}
