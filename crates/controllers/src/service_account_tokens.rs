//! Fills Secrets of type `kubernetes.io/service-account-token` with a token that lasts, and deletes them with their
//! service account.
//!
//! The token is bound to its Secret and ends with it. It is asked for like a pod's, so that no key is needed here;
//! upstream's controller signs one of an older form instead.

use std::sync::Arc;

use api::core::secret::Secret;
use api::core::serviceaccount::ServiceAccount;
use apimachinery::{Bytes, GroupVersionResource, Map, Status, Value};
use client::{Client, Informer, Key, Outcome, Queue, Scope, run_workers};

use crate::Context;

const TYPE: &str = "kubernetes.io/service-account-token";
/// Annotations of the Secret: whose token it holds.
const ACCOUNT_NAME: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const TOKEN: &str = "token";
const ROOT_CA: &str = "ca.crt";
const NAMESPACE: &str = "namespace";
/// The longest life that the API grants, in seconds: 136 years.
const LIFE: i64 = 1 << 32;

/// Runs the controller. It acts as `system:kube-controller-manager`, whom upstream's roles allow this.
pub async fn run(cx: Context) {
    let core = |resource| GroupVersionResource::new("", "v1", resource);
    let ours = Scope { field_selector: format!("type={TYPE}"), ..Scope::default() };
    // Only whose they are is kept, not what they hold.
    let secrets = Informer::start(&cx.watcher, core("secrets"), ours, |tree| {
        let name = tree.at(&["metadata", "annotations", ACCOUNT_NAME]).and_then(Value::as_str)?;
        (tree.str_at(&["type"]) == Some(TYPE)).then(|| name.to_owned())
    });
    let accounts = Informer::start(&cx.watcher, core("serviceaccounts"), Scope::default(), |tree| {
        tree.str_at(&["metadata", "uid"]).map(str::to_owned)
    });
    secrets.synced().await;
    accounts.synced().await;
    let queue: Queue<Key> = Queue::new();
    let to = queue.clone();
    secrets.on_change(move |change| to.add(change.key.clone()));
    let (to, of) = (queue.clone(), secrets.clone());
    accounts.on_change(move |change| {
        let named = |key: &Key, name: &String| key.namespace == change.key.namespace && change.key.name == *name;
        of.filter(named).into_iter().for_each(|(key, _)| to.add(key));
    });
    run_workers("tokens-controller", queue, 2, move |key| {
        let (cx, secrets) = (cx.clone(), secrets.clone());
        async move {
            match secrets.by_key(&key) {
                Some(account) => settle(&cx, &key, account).await.map(|()| Outcome::Done),
                None => Ok(Outcome::Done),
            }
        }
    })
    .await;
}

async fn settle(cx: &Context, key: &Key, account: Arc<String>) -> Result<(), Status> {
    let client = &cx.watcher;
    let Some(secret) = client.try_get::<Secret>(&key.namespace, &key.name).await? else { return Ok(()) };
    let annotation = |name: &str| secret.metadata.annotations.get(name).map(String::as_str).unwrap_or_default();
    if secret.type_ != TYPE || annotation(ACCOUNT_NAME) != *account || secret.metadata.deletion_timestamp.is_some() {
        return Ok(());
    }
    let found = client.try_get::<ServiceAccount>(&key.namespace, &account).await?;
    let bound = annotation(ACCOUNT_UID);
    let Some(found) = found.filter(|found| bound.is_empty() || bound == found.metadata.uid) else {
        let gone =
            client.delete_with::<Secret>(&key.namespace, &key.name, Client::only_uid(&secret.metadata.uid)).await;
        return match gone {
            Err(status) if status.is_not_found() || status.is_conflict() => Ok(()),
            other => other,
        };
    };
    let mut filled = secret.clone();
    filled.metadata.annotations.insert(ACCOUNT_UID.into(), found.metadata.uid.clone());
    filled.data.insert(NAMESPACE.into(), bytes(&key.namespace));
    if !cx.config.root_ca.is_empty() {
        filled.data.insert(ROOT_CA.into(), bytes(&cx.config.root_ca));
    }
    if filled.data.get(TOKEN).is_none_or(|token| token.0.is_empty()) {
        filled.data.insert(TOKEN.into(), bytes(&token(client, &found, &secret).await?));
    }
    if filled == secret {
        return Ok(());
    }
    match client.update(&filled).await {
        Err(status) if status.is_not_found() || crate::ends(&status) => Ok(()),
        other => other.map(drop),
    }
}

fn bytes(text: &str) -> Bytes {
    Bytes(text.as_bytes().to_vec())
}

/// Asks for a token that is bound to a Secret.
async fn token(client: &Client, account: &ServiceAccount, secret: &Secret) -> Result<String, Status> {
    let mut reference = Map::new();
    for (key, value) in [("apiVersion", "v1"), ("kind", "Secret")] {
        reference.insert(key, value);
    }
    reference.insert("name", secret.metadata.name.as_str());
    reference.insert("uid", secret.metadata.uid.as_str());
    let mut spec = Map::new();
    spec.insert("audiences", Vec::<Value>::new());
    spec.insert("expirationSeconds", LIFE);
    spec.insert("boundObjectRef", reference);
    let mut body = Map::new();
    body.insert("apiVersion", "authentication.k8s.io/v1");
    body.insert("kind", "TokenRequest");
    body.insert("spec", spec);
    let (namespace, name) = (account.metadata.namespace.as_str(), account.metadata.name.as_str());
    let answer = client.create_subresource::<ServiceAccount>(namespace, name, "token", Value::Map(body)).await?;
    let token = answer.str_at(&["status", "token"]).filter(|token| !token.is_empty());
    token.map(str::to_owned).ok_or_else(|| Status::internal("the API gave no token"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::{context, eventually};

    #[tokio::test]
    async fn secrets_go_with_their_account() {
        let cluster = testkit::FakeBackend::new();
        let core = |resource| GroupVersionResource::new("", "v1", resource);
        let secret = |name: &str, account: &str, uid: &str, data: &str| {
            format!(
                r#"{{"kind":"Secret","type":"{TYPE}","metadata":{{"name":"{name}","namespace":"n","uid":"{name}","annotations":{{
                "{ACCOUNT_NAME}":"{account}","{ACCOUNT_UID}":"{uid}"}}}},"data":{{{data}}}}}"#
            )
        };
        cluster.put(&core("serviceaccounts"), r#"{"metadata":{"name":"a","namespace":"n","uid":"1"}}"#);
        cluster.put(&core("secrets"), &secret("mine", "a", "1", r#""token":"dA==""#));
        cluster.put(&core("secrets"), &secret("of-nobody", "b", "", ""));
        cluster.put(&core("secrets"), &secret("of-the-last", "a", "0", ""));
        let task = tokio::spawn(run(context(&cluster)));
        eventually(|| cluster.get(&core("secrets"), "n", "of-nobody").is_none()).await;
        eventually(|| cluster.get(&core("secrets"), "n", "of-the-last").is_none()).await;
        // What is lacking is filled in, and the token that is there stays.
        let filled = |path: &str| {
            let secret = cluster.get(&core("secrets"), "n", "mine").unwrap();
            secret.str_at(&["data", path]).map(str::to_owned)
        };
        eventually(|| filled(NAMESPACE).as_deref() == Some("bg==")).await;
        assert_eq!(filled(TOKEN).as_deref(), Some("dA=="));
        cluster.remove(&core("serviceaccounts"), "n", "a");
        eventually(|| cluster.get(&core("secrets"), "n", "mine").is_none()).await;
        task.abort();
    }
}
