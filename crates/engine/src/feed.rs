//! The feed: one watch on the store that fills the cache of every prefix and says how far it is.

use std::collections::HashMap;
use std::sync::Arc;

use apimachinery::{SmolStr, Status};
use parking_lot::RwLock;
use store::{RangeRequest, Store, WatchRequest};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::cache::{Cache, Entry};
use crate::cx::Sealer;
use crate::stored::Body;

/// Everything that the API stores is below this.
const ROOT: &str = "/registry/";

struct Shared {
    caches: RwLock<HashMap<SmolStr, Arc<Cache>>>,
    published: watch::Sender<i64>,
    sealer: Arc<dyn Sealer>,
    /// Storage prefixes of more than one part.
    prefixes: Vec<SmolStr>,
}

/// Owns the task that follows the store.
pub(crate) struct Feed {
    shared: Arc<Shared>,
    task: AbortHandle,
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Feed {
    /// Reads what exists and follows from there.
    pub async fn start(
        store: Arc<dyn Store>,
        sealer: Arc<dyn Sealer>,
        mut prefixes: Vec<SmolStr>,
    ) -> Result<Feed, Status> {
        prefixes.retain(|p| p.contains('/'));
        let range = store
            .range(RangeRequest::between(ROOT.into(), store::prefix_end(ROOT.as_bytes())))
            .await
            .map_err(crate::store_error)?;
        let revision = range.revision;
        let shared = Arc::new(Shared {
            caches: RwLock::new(HashMap::new()),
            published: watch::channel(revision).0,
            sealer,
            prefixes,
        });
        for kv in range.kvs {
            let Some((prefix, below)) = split(&kv.key, &shared.prefixes) else { continue };
            let body = Body::open(&kv.key, &kv.value, &*shared.sealer)?;
            shared.cache(prefix, revision).load(Entry::new(below.into(), kv.mod_revision, body)?);
        }
        let watch = store
            .watch(WatchRequest::between(ROOT.into(), store::prefix_end(ROOT.as_bytes())).after(revision))
            .await
            .map_err(crate::store_error)?;
        let task = tokio::spawn(follow(shared.clone(), watch)).abort_handle();
        Ok(Feed { shared, task })
    }

    /// The cache of a prefix, made empty when nothing is stored there yet.
    pub fn cache(&self, prefix: &str) -> Arc<Cache> {
        self.shared.cache(prefix, self.revision())
    }

    pub fn revision(&self) -> i64 {
        *self.shared.published.borrow()
    }

    /// Follows the newest revision that the caches show.
    pub fn published(&self) -> watch::Receiver<i64> {
        self.shared.published.subscribe()
    }
}

impl Shared {
    fn cache(&self, prefix: &str, floor: i64) -> Arc<Cache> {
        if let Some(cache) = self.caches.read().get(prefix) {
            return cache.clone();
        }
        // Nothing was stored here up to `floor`, or the follower would have made it.
        self.caches.write().entry(prefix.into()).or_insert_with(|| Arc::new(Cache::new(floor))).clone()
    }
}

/// Takes a store key apart. `prefixes` are the known ones of two parts; besides them a first part with a dot is a
/// group and the second its resource (custom resources), and any other first part is the prefix.
fn split<'a>(key: &'a [u8], prefixes: &[SmolStr]) -> Option<(&'a str, &'a str)> {
    let below = std::str::from_utf8(key).ok()?.strip_prefix(ROOT)?;
    let known = prefixes.iter().find(|p| below.strip_prefix(p.as_str()).is_some_and(|rest| rest.starts_with('/')));
    if let Some(prefix) = known {
        return Some((&below[..prefix.len()], &below[prefix.len() + 1..]));
    }
    let first = below.find('/')?;
    if below[..first].contains('.') {
        let second = first + 1 + below[first + 1..].find('/')?;
        return Some((&below[..second], &below[second + 1..]));
    }
    Some((&below[..first], &below[first + 1..]))
}

async fn follow(shared: Arc<Shared>, mut watch: store::Watch) {
    while let Some(batch) = watch.next().await {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => {
                // Without the feed every list would be old for ever: better no answers than wrong ones.
                tracing::error!(%error, "the store's watch ended; lists and watches stop being served");
                return;
            }
        };
        for event in &batch.events {
            let Some((prefix, below)) = split(&event.kv.key, &shared.prefixes) else { continue };
            let cache = shared.cache(prefix, batch.revision - 1);
            let new = if event.is_delete() {
                None
            } else {
                match Body::open(&event.kv.key, &event.kv.value, &*shared.sealer)
                    .and_then(|body| Entry::new(below.into(), event.kv.mod_revision, body))
                {
                    Ok(entry) => Some(entry),
                    Err(status) => {
                        tracing::error!(%status, key = below, "a stored value cannot be shown");
                        continue;
                    }
                }
            };
            cache.apply(event.kv.mod_revision, below, new);
        }
        shared.published.send_replace(batch.revision);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_apart_by_prefix() {
        let prefixes = ["services/specs".into(), "services/endpoints".into()];
        let cases = [
            ("/registry/pods/default/web", Some(("pods", "default/web"))),
            ("/registry/namespaces/default", Some(("namespaces", "default"))),
            ("/registry/services/specs/default/web", Some(("services/specs", "default/web"))),
            ("/registry/services/endpoints/default/web", Some(("services/endpoints", "default/web"))),
            ("/registry/example.com/widgets/ns/a.b", Some(("example.com/widgets", "ns/a.b"))),
            ("/registry/x", None),
            ("/other/x/y", None),
        ];
        for (key, wanted) in cases {
            assert_eq!(split(key.as_bytes(), &prefixes), wanted, "{key}");
        }
    }
}
