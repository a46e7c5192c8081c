//! The loop that every reconciler runs in.

use std::fmt::Debug;
use std::future::Future;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::Status;
use futures::FutureExt;
use tokio::task::JoinSet;

use crate::queue::Queue;

/// What a reconcile leaves to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// Look again after this long, because the behaviour is about time.
    After(Duration),
}

/// Runs `workers` reconcilers over a queue until the task is aborted.
///
/// A reconcile takes a key and nothing else. An error puts the key back with growing delay; a panic is logged, counts
/// as an error and ends that one reconcile only.
pub async fn run_workers<K, F, Fut>(name: &'static str, queue: Queue<K>, workers: usize, reconcile: F)
where
    K: Clone + Debug + Eq + Hash + Send + Sync + 'static,
    F: Fn(K) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<Outcome, Status>> + Send,
{
    let reconcile = Arc::new(reconcile);
    let mut tasks = JoinSet::new();
    for _ in 0..workers {
        let (queue, reconcile) = (queue.clone(), reconcile.clone());
        tasks.spawn(async move {
            loop {
                let key = queue.next().await;
                match AssertUnwindSafe(async { reconcile(key.clone()).await }).catch_unwind().await {
                    Ok(Ok(Outcome::Done)) => queue.forget(&key),
                    Ok(Ok(Outcome::After(delay))) => {
                        queue.forget(&key);
                        queue.add_after(key.clone(), delay);
                    }
                    Ok(Err(status)) => {
                        // A conflict means that our view was old; the newer one is on its way.
                        if status.is_conflict() {
                            tracing::debug!(controller = name, ?key, %status, "reconcile met a newer object");
                        } else {
                            tracing::warn!(controller = name, ?key, %status, "reconcile failed");
                        }
                        queue.retry(key.clone());
                    }
                    Err(_) => {
                        tracing::error!(controller = name, ?key, "reconcile panicked");
                        queue.retry(key.clone());
                    }
                }
                queue.done(&key);
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}
