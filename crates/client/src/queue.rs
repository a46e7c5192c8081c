//! A work queue of keys: each key waits once, is worked on by one worker at a time, and comes back later when it failed.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// First and longest delay of a key that fails again and again.
const FIRST_RETRY: Duration = Duration::from_millis(5);
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// A shared queue; clones are handles to the same one.
pub struct Queue<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Queue<K> {
    fn clone(&self) -> Self {
        Queue { shared: self.shared.clone() }
    }
}

struct Shared<K> {
    state: Mutex<State<K>>,
    /// Woken when something may have become ready, or sooner than the sleeper thought.
    wake: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    /// Keys in `ready`, so that each waits once.
    waiting: HashSet<K>,
    /// Keys being worked on; the value says whether they were added again meanwhile.
    working: HashMap<K, bool>,
    /// Keys that become ready at a time; the counter keeps equal times apart.
    later: BTreeMap<(Instant, u64), K>,
    later_of: HashMap<K, (Instant, u64)>,
    failures: HashMap<K, u32>,
    counter: u64,
}

impl<K: Clone + Eq + Hash> Default for Queue<K> {
    fn default() -> Self {
        Queue::new()
    }
}

impl<K: Clone + Eq + Hash> Queue<K> {
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            waiting: HashSet::new(),
            working: HashMap::new(),
            later: BTreeMap::new(),
            later_of: HashMap::new(),
            failures: HashMap::new(),
            counter: 0,
        };
        Queue { shared: Arc::new(Shared { state: Mutex::new(state), wake: Notify::new() }) }
    }

    /// Makes a key ready now. A key that waits already is not added twice; one being worked on comes back after.
    pub fn add(&self, key: K) {
        if self.shared.state.lock().make_ready(key) {
            self.shared.wake.notify_one();
        }
    }

    /// Makes a key ready after a delay; of several delays the soonest counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let mut state = self.shared.state.lock();
        let at = Instant::now() + delay;
        if let Some(old) = state.later_of.get(&key).copied() {
            if old.0 <= at {
                return;
            }
            state.later.remove(&old);
        }
        state.counter += 1;
        let slot = (at, state.counter);
        let first = state.later.keys().next().is_none_or(|soonest| slot < *soonest);
        state.later.insert(slot, key.clone());
        state.later_of.insert(key, slot);
        drop(state);
        if first {
            self.shared.wake.notify_one();
        }
    }

    /// Makes a key ready after a delay that doubles with each failure since [`Queue::forget`].
    pub fn retry(&self, key: K) {
        let delay = {
            let mut state = self.shared.state.lock();
            let failures = state.failures.entry(key.clone()).or_insert(0);
            *failures = failures.saturating_add(1);
            FIRST_RETRY.saturating_mul(1 << (*failures - 1).min(20)).min(LONGEST_RETRY)
        };
        self.add_after(key, delay);
    }

    /// Forgets a key's failures.
    pub fn forget(&self, key: &K) {
        self.shared.state.lock().failures.remove(key);
    }

    /// How often a key has failed since it was last forgotten.
    pub fn failures(&self, key: &K) -> u32 {
        self.shared.state.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// The next ready key, marked as being worked on until [`Queue::done`].
    pub async fn next(&self) -> K {
        loop {
            let sleep_until = {
                let mut state = self.shared.state.lock();
                state.promote(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.waiting.remove(&key);
                    state.working.insert(key.clone(), false);
                    // Another worker may sleep while more is ready.
                    if !state.ready.is_empty() || !state.later.is_empty() {
                        self.shared.wake.notify_one();
                    }
                    return key;
                }
                state.later.keys().next().map(|(at, _)| *at)
            };
            let woken = self.shared.wake.notified();
            match sleep_until {
                Some(at) => {
                    tokio::select! {
                        _ = woken => {}
                        _ = tokio::time::sleep_until(at) => {}
                    }
                }
                None => woken.await,
            }
        }
    }

    /// Ends the work on a key; if it was added meanwhile it is ready again.
    pub fn done(&self, key: &K) {
        let mut state = self.shared.state.lock();
        if state.working.remove(key) == Some(true) && state.make_ready(key.clone()) {
            drop(state);
            self.shared.wake.notify_one();
        }
    }

    /// Keys that are ready or delayed.
    pub fn len(&self) -> usize {
        let state = self.shared.state.lock();
        state.ready.len() + state.later.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    /// Returns whether the key went into `ready`.
    fn make_ready(&mut self, key: K) -> bool {
        if let Some(slot) = self.later_of.remove(&key) {
            self.later.remove(&slot);
        }
        if let Some(again) = self.working.get_mut(&key) {
            *again = true;
            return false;
        }
        if !self.waiting.insert(key.clone()) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    fn promote(&mut self, now: Instant) {
        while let Some(entry) = self.later.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let key = entry.remove();
            self.later_of.remove(&key);
            self.make_ready(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_returns_when_added_during_work() {
        let queue = Queue::new();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        assert_eq!(queue.len(), 0, "a key being worked on is not ready");
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
        queue.done(&"a");
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn delays_keep_order_and_the_soonest_counts() {
        let queue = Queue::new();
        let start = Instant::now();
        queue.add_after("slow", Duration::from_secs(10));
        queue.add_after("fast", Duration::from_secs(20));
        queue.add_after("fast", Duration::from_secs(1));
        assert_eq!(queue.next().await, "fast");
        assert_eq!(start.elapsed().as_secs(), 1);
        assert_eq!(queue.next().await, "slow");
        assert_eq!(start.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_double_the_delay() {
        let queue = Queue::new();
        let start = Instant::now();
        for _ in 0..3 {
            queue.retry("k");
            let key = queue.next().await;
            queue.done(&key);
        }
        assert_eq!(start.elapsed().as_millis(), 5 + 10 + 20);
        queue.forget(&"k");
        assert_eq!(queue.failures(&"k"), 0);
    }
}
