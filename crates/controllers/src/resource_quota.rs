//! Counts what namespaces use of their quotas. Writes book what they add by themselves; this finds what was given back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::core::resourcequota::ResourceQuota;
use api::quota::{self, Amounts};
use apimachinery::{Api, GroupVersionResource, Quantity, SmolStr, Status, Value};
use client::{Body, Client, Informer, Key, Outcome, Query, Queue, Request, Scope, Served, Verb, run_workers};
use parking_lot::Mutex;

use crate::Context;

/// Follows resources that quotas limit, each once.
#[derive(Clone)]
struct Followed {
    watcher: Client,
    queue: Queue<Key>,
    quotas: Informer<Value>,
    informers: Arc<Mutex<BTreeMap<GroupVersionResource, Informer<u64>>>>,
}

impl Followed {
    /// Starts following a resource: whatever happens to its objects, the quotas of their namespace are counted anew.
    fn follow(&self, resource: &GroupVersionResource) {
        let mut informers = self.informers.lock();
        if informers.contains_key(resource) {
            return;
        }
        let of = resource.clone();
        let informer = Informer::start(&self.watcher, resource.clone(), Scope::default(), move |tree| {
            Some(fingerprint(&of, tree))
        });
        let (quotas, to) = (self.quotas.clone(), self.queue.clone());
        informer.on_change(move |change| {
            if change.old.map(AsRef::as_ref) == change.new.map(AsRef::as_ref) {
                return;
            }
            let namespace = &change.key.namespace;
            quotas.filter(|key, _| key.namespace == *namespace).into_iter().for_each(|(key, _)| to.add(key));
        });
        informers.insert(resource.clone(), informer);
    }
}

/// Changes when what an object uses may have changed.
fn fingerprint(resource: &GroupVersionResource, tree: &Value) -> u64 {
    use std::hash::{Hash, Hasher};
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    let usage = quota::usage(&resource.group, &resource.resource, tree, 0);
    for (name, amount) in &usage {
        (name, amount).hash(&mut hasher);
    }
    // Scopes look at these.
    tree.str_at(&["status", "phase"]).hash(&mut hasher);
    tree.at(&["metadata", "deletionTimestamp"]).is_some().hash(&mut hasher);
    tree.at(&["spec", "activeDeadlineSeconds"]).and_then(Value::as_i64).hash(&mut hasher);
    hasher.finish()
}

/// Runs the controller.
pub async fn run(cx: Context) {
    let quotas: Informer<Value> =
        Informer::start(&cx.watcher, GroupVersionResource::new("", "v1", "resourcequotas"), Scope::default(), |tree| {
            Some(tree.clone())
        });
    quotas.synced().await;
    let queue: Queue<Key> = Queue::new();
    let to = queue.clone();
    quotas.on_change(move |change| {
        if change.new.is_some() {
            to.add(change.key.clone());
        }
    });
    let followed = Followed {
        watcher: cx.watcher.clone(),
        queue: queue.clone(),
        quotas: quotas.clone(),
        informers: Arc::default(),
    };
    run_workers("resourcequota-controller", queue, 2, move |key| {
        let (cx, quotas, followed) = (cx.clone(), quotas.clone(), followed.clone());
        async move {
            let Some(tree) = quotas.by_key(&key) else { return Ok(Outcome::Done) };
            sync(&cx, &followed, &key, &tree).await.map(|()| Outcome::Done)
        }
    })
    .await;
}

async fn sync(cx: &Context, followed: &Followed, key: &Key, tree: &Value) -> Result<(), Status> {
    let hard = quota::amounts(tree.at(&["spec", "hard"]));
    let served = cx.client.resources().await?;
    let counted: Vec<&Served> = served
        .iter()
        .filter(|s| s.namespaced && s.collectable)
        .filter(|s| hard.keys().any(|name| quota::limits(&s.resource.group, &s.resource.resource, name)))
        .collect();
    let mut used: Amounts = hard.keys().map(|name| (name.clone(), Quantity::default())).collect();
    for served in counted {
        // First followed, then counted: what happens in between brings the key back.
        followed.follow(&served.resource);
        count(cx, &served.resource, key, tree, &mut used).await?;
    }
    let Ok(mut quota) = ResourceQuota::from_value(tree) else { return Ok(()) };
    let of = |amounts: &Amounts| -> BTreeMap<String, Quantity> {
        amounts.iter().map(|(name, amount)| (name.to_string(), *amount)).collect()
    };
    let (hard, used) = (of(&hard), of(&used));
    if quota.status.hard == hard && quota.status.used == used {
        return Ok(());
    }
    (quota.status.hard, quota.status.used) = (hard, used);
    match cx.client.update_status(&quota).await {
        // What was booked meanwhile counts more than what we counted: the newer version comes through the informer.
        Err(status) if status.is_not_found() => Ok(()),
        other => other.map(drop),
    }
}

async fn count(
    cx: &Context,
    resource: &GroupVersionResource,
    key: &Key,
    quota_tree: &Value,
    used: &mut Amounts,
) -> Result<(), Status> {
    let request = Request {
        verb: Verb::List,
        resource: resource.clone(),
        namespace: key.namespace.clone(),
        name: SmolStr::default(),
        subresource: SmolStr::default(),
        query: Query::default(),
        body: Body::None,
    };
    let list = cx.watcher.send_tree(request).await?;
    let (group, name) = (resource.group.as_str(), resource.resource.as_str());
    let limited: BTreeSet<SmolStr> = used.keys().filter(|limit| quota::limits(group, name, limit)).cloned().collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    for object in list.get("items").and_then(Value::as_list).unwrap_or_default() {
        if !quota::in_scope(quota_tree, group, name, object) {
            continue;
        }
        for (limit, amount) in quota::usage(group, name, object, now.as_secs() as i64) {
            if limited.contains(&limit)
                && let Some(sum) = used.get_mut(&limit)
            {
                sum.add(amount);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::{context, eventually};

    #[tokio::test]
    async fn what_is_used_is_counted() {
        let cluster = testkit::FakeBackend::new();
        let core = |resource| GroupVersionResource::new("", "v1", resource);
        cluster.put(&core("configmaps"), r#"{"kind":"ConfigMap","metadata":{"name":"a","namespace":"n"}}"#);
        cluster.put(
            &core("resourcequotas"),
            r#"{"kind":"ResourceQuota","metadata":{"name":"q","namespace":"n"},"spec":{"hard":{"configmaps":"5","pods":"3"}}}"#,
        );
        let task = tokio::spawn(run(context(&cluster)));
        let used = |name: &str| {
            let quota = cluster.get(&core("resourcequotas"), "n", "q")?;
            quota.str_at(&["status", "used", name]).map(str::to_owned)
        };
        eventually(|| used("configmaps").as_deref() == Some("1")).await;
        assert_eq!(used("pods").as_deref(), Some("0"));
        cluster.remove(&core("configmaps"), "n", "a");
        eventually(|| used("configmaps").as_deref() == Some("0")).await;
        task.abort();
    }
}
