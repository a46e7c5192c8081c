//! Expectations: which of its own writes a controller has not seen in its cache yet.
//!
//! A controller that counts pods in a cache right after it created some would create them again. So the uids of what
//! it created and deleted are kept until the cache shows them; until then it does not act.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use apimachinery::SmolStr;
use client::{Change, Informer, Key};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::shared::PodView;

/// After this long a write that was never seen is given up, as upstream does.
pub const TIMEOUT: Duration = Duration::from_secs(300);

#[derive(Default)]
struct Pending {
    /// Uid to key.
    created: HashMap<SmolStr, Key>,
    deleted: HashMap<SmolStr, Key>,
    /// Uids that came and went before the answer to their creation did.
    gone: HashSet<SmolStr>,
    since: Option<Instant>,
}

/// The writes of one controller that it still expects to see, by owner.
#[derive(Default)]
pub struct Expectations {
    pending: Mutex<HashMap<Key, Pending>>,
}

impl Expectations {
    /// Opens the books of an owner before writes start, so that what happens meanwhile is noticed.
    pub fn open(&self, owner: &Key) {
        let mut pending = self.pending.lock();
        pending.entry(owner.clone()).or_default().since = Some(Instant::now());
    }

    /// A pod was created.
    pub fn created(&self, owner: &Key, pod: Key, uid: &str) {
        let mut pending = self.pending.lock();
        let books = pending.entry(owner.clone()).or_default();
        if !books.gone.remove(uid) {
            books.created.insert(uid.into(), pod);
        }
    }

    /// A pod is about to be deleted.
    pub fn deleting(&self, owner: &Key, pod: Key, uid: &str) {
        self.pending.lock().entry(owner.clone()).or_default().deleted.insert(uid.into(), pod);
    }

    /// A deletion failed: nothing is to be seen.
    pub fn not_deleted(&self, owner: &Key, uid: &str) {
        if let Some(books) = self.pending.lock().get_mut(owner) {
            books.deleted.remove(uid);
        }
    }

    /// The cache changed.
    pub fn observe(&self, owner: &Key, change: &Change<'_, PodView>) {
        let mut pending = self.pending.lock();
        let Some(books) = pending.get_mut(owner) else { return };
        match change.new {
            Some(pod) => {
                books.created.remove(&pod.uid);
                if pod.deleting {
                    books.deleted.remove(&pod.uid);
                }
            }
            None => {
                if let Some(pod) = change.old
                    && books.created.remove(&pod.uid).is_none()
                    && books.deleted.remove(&pod.uid).is_none()
                {
                    books.gone.insert(pod.uid.clone());
                }
            }
        }
    }

    /// Whether the cache shows all writes of the owner; if not, how long to wait at most.
    pub fn satisfied(&self, owner: &Key, cache: &Informer<PodView>) -> Result<(), Duration> {
        let mut pending = self.pending.lock();
        let Some(books) = pending.get_mut(owner) else { return Ok(()) };
        books.created.retain(|uid, key| cache.by_key(key).is_none_or(|pod| pod.uid != *uid));
        books.deleted.retain(|uid, key| cache.by_key(key).is_some_and(|pod| pod.uid == *uid && !pod.deleting));
        let age = books.since.map_or(TIMEOUT, |since| since.elapsed());
        if (books.created.is_empty() && books.deleted.is_empty()) || age >= TIMEOUT {
            pending.remove(owner);
            return Ok(());
        }
        Err(TIMEOUT - age)
    }

    /// Forgets an owner that is gone.
    pub fn forget(&self, owner: &Key) {
        self.pending.lock().remove(owner);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn change<'a>(key: &'a Key, old: Option<&'a Arc<PodView>>, new: Option<&'a Arc<PodView>>) -> Change<'a, PodView> {
        Change { key, old, new }
    }

    #[tokio::test(start_paused = true)]
    async fn own_writes_are_waited_for() {
        let backend = testkit::FakeBackend::new();
        let shared = crate::Shared::new(backend.client());
        let cache = shared.pods();
        cache.synced().await;
        let (owner, pod) = (Key::new("a", "web"), Key::new("a", "web-1"));
        let view = |deleting| Arc::new(PodView { uid: "1".into(), deleting, ..PodView::default() });
        let books = Expectations::default();
        assert!(books.satisfied(&owner, cache).is_ok());

        books.open(&owner);
        books.created(&owner, pod.clone(), "1");
        assert!(books.satisfied(&owner, cache).is_err());
        books.observe(&owner, &change(&pod, None, Some(&view(false))));
        assert!(books.satisfied(&owner, cache).is_ok());

        // A pod that came and went before the answer arrived is not waited for.
        books.open(&owner);
        books.observe(&owner, &change(&pod, Some(&view(false)), None));
        books.created(&owner, pod.clone(), "1");
        assert!(books.satisfied(&owner, cache).is_ok());

        books.open(&owner);
        books.created(&owner, pod.clone(), "2");
        assert!(books.satisfied(&owner, cache).is_err());
        tokio::time::advance(TIMEOUT).await;
        assert!(books.satisfied(&owner, cache).is_ok());
    }
}
