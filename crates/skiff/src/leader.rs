//! Which of several servers runs the controllers and the scheduler: the one whose lease is on a key of the datastore.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use store::{Compare, Error, Grant, KeyRange, Op, OpResponse, RangeRequest, Store, Txn, WatchRequest};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The key whose holder leads.
const LEADER: &[u8] = b"/skiff/leader";
/// How long a server that says nothing keeps its place.
pub const LEASE: Duration = Duration::from_secs(15);
/// How long it works without having been heard: less, so that two never lead at once.
const SURE: Duration = Duration::from_secs(10);
/// How often it says that it is there.
pub const BEAT: Duration = Duration::from_secs(4);

/// A server's part in choosing who leads.
pub struct Leadership {
    store: Arc<dyn Store>,
    name: String,
    /// The lease that this server has now; 0 for none.
    lease: Mutex<i64>,
}

/// A lease, and when the datastore was last asked to keep it, successfully: its time began no earlier.
#[derive(Clone, Copy)]
struct Kept {
    lease: i64,
    asked: Instant,
}

impl Leadership {
    pub fn new(store: Arc<dyn Store>, name: String) -> Leadership {
        Leadership { store, name, lease: Mutex::new(0) }
    }

    /// Leads whenever nobody else does: `begin` starts the work in a set of tasks, which ends when the place is lost,
    /// before the lease does.
    pub async fn run(&self, begin: impl Fn(&mut JoinSet<()>)) {
        loop {
            match self.acquire().await {
                Ok(kept) => {
                    tracing::info!(name = self.name, "leading: controllers and scheduler run here");
                    let mut tasks = JoinSet::new();
                    begin(&mut tasks);
                    self.hold(kept).await;
                    tasks.shutdown().await;
                    tracing::warn!(name = self.name, "another server may lead: controllers and scheduler ended here");
                }
                Err(error) => {
                    tracing::debug!(%error, "not leading");
                    tokio::time::sleep(BEAT).await;
                }
            }
        }
    }

    /// Lets the next server lead at once. Only when nothing of the work runs any more.
    pub async fn resign(&self) {
        let lease = std::mem::take(&mut *self.lease.lock());
        if lease != 0
            && let Err(error) = self.store.revoke(lease).await
        {
            tracing::debug!(%error, "the next server leads once the lease has ended");
        }
    }

    /// Waits until the place is free and takes it.
    async fn acquire(&self) -> Result<Kept, Error> {
        // What is left of an earlier try ends by itself, but sooner so.
        self.resign().await;
        let key = Bytes::from_static(LEADER);
        let mut kept = Kept { lease: 0, asked: Instant::now() };
        kept.lease = self.store.grant(Grant { id: 0, ttl: LEASE }).await?;
        *self.lease.lock() = kept.lease;
        let lease = kept.lease;
        let take = || Op::put_with_lease(key.clone(), self.name.clone().into(), lease);
        let look = || Op::range(RangeRequest::key(key.clone()));
        let mut txn = Txn::new().when(Compare::absent(key.clone())).then(take()).otherwise(look());
        loop {
            let answer = self.store.txn(txn).await?;
            if answer.succeeded {
                return Ok(kept);
            }
            let holder = match answer.responses.into_iter().next() {
                Some(OpResponse::Range(found)) => found.kvs.into_iter().next(),
                _ => None,
            };
            txn = match holder {
                // A write whose answer was lost leaves our own lease on the key.
                Some(holder) if holder.lease == kept.lease => return Ok(kept),
                // This server's earlier life: it is over, as the data folder and the address are ours.
                Some(holder) if holder.value == self.name => Txn::new()
                    .when(Compare::mod_revision(key.clone(), holder.mod_revision))
                    .then(take())
                    .otherwise(look()),
                _ => {
                    self.await_end(&key, answer.revision, &mut kept).await?;
                    Txn::new().when(Compare::absent(key.clone())).then(take()).otherwise(look())
                }
            };
        }
    }

    /// Waits until another server's place is free, and keeps the own lease meanwhile.
    async fn await_end(&self, key: &Bytes, revision: i64, kept: &mut Kept) -> Result<(), Error> {
        let held = WatchRequest::over(KeyRange::key(key.clone())).after(revision);
        let mut watch = self.store.watch(held.without_progress()).await?;
        loop {
            tokio::select! {
                batch = watch.next() => match batch {
                    Some(Ok(batch)) if batch.events.iter().any(|event| event.is_delete()) => return Ok(()),
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(error),
                    None => return Err(Error::Closed),
                },
                () = tokio::time::sleep_until(kept.asked + BEAT) => {
                    let asked = Instant::now();
                    self.store.keep_alive(kept.lease).await?;
                    kept.asked = asked;
                }
            }
        }
    }

    /// Keeps the place until it cannot be sure of it any more.
    async fn hold(&self, kept: Kept) {
        let mut sure_until = kept.asked + SURE;
        loop {
            let asked = Instant::now();
            match tokio::time::timeout_at(sure_until, self.store.keep_alive(kept.lease)).await {
                Ok(Ok(_)) => sure_until = asked + SURE,
                Ok(Err(Error::LeaseNotFound(_))) | Err(_) => return,
                Ok(Err(error)) => tracing::debug!(%error, "the leader's lease could not be renewed yet"),
            }
            if Instant::now() >= sure_until {
                return;
            }
            tokio::time::sleep_until((asked + BEAT).min(sure_until)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use store::{LocalStore, ManualClock};

    use super::*;

    #[tokio::test]
    async fn one_server_leads_and_the_next_one_follows() {
        let clock = Arc::new(ManualClock::default());
        let local = Arc::new(LocalStore::memory(store::Config { clock: clock.clone(), ..Default::default() }));
        let store: Arc<dyn Store> = local.clone();
        let leading = Arc::new(AtomicUsize::new(0));
        let begin = |name: &str| {
            let leadership = Arc::new(Leadership::new(store.clone(), name.into()));
            let (runs, leading) = (leadership.clone(), leading.clone());
            let task = tokio::spawn(async move {
                let work = |tasks: &mut JoinSet<()>| {
                    leading.fetch_add(1, Ordering::SeqCst);
                    tasks.spawn(std::future::pending());
                };
                runs.run(work).await;
            });
            (leadership, task)
        };
        // Waits until so many have led; the last of them has this name.
        let until = async |name: &str, count: usize| {
            let waited = async {
                while leading.load(Ordering::SeqCst) < count {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(Duration::from_secs(120), waited).await.expect("a leader");
            assert_eq!(leading.load(Ordering::SeqCst), count, "each leads once");
            assert_eq!(store.get(LEADER).await.unwrap().unwrap().value, name);
        };
        let (_, first) = begin("first");
        until("first", 1).await;
        let (second, task) = begin("second");
        // It waits: its lease is there, and the place is not its own.
        while *second.lease.lock() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(store.get(LEADER).await.unwrap().unwrap().value, "first");
        // One that dies is followed when its lease ends, and one that resigns at once.
        first.abort();
        clock.advance(LEASE);
        local.tick().await.unwrap();
        until("second", 2).await;
        let (third, last) = begin("third");
        task.abort();
        let _ = task.await;
        second.resign().await;
        until("third", 3).await;
        // One that died and comes back need not wait for its own earlier life.
        last.abort();
        let _ = last.await;
        let (third_again, last) = begin("third");
        until("third", 4).await;
        assert_ne!(*third.lease.lock(), *third_again.lease.lock());
        last.abort();
        let _ = last.await;
        third_again.resign().await;
        assert!(store.get(LEADER).await.unwrap().is_none());
    }
}
