//! The node's lease: the heartbeat by which others see that it lives.

use std::time::Duration;

use api::coordination::lease::{Lease, LeaseSpec};
use apimachinery::meta::OwnerReference;
use apimachinery::{MicroTime, ObjectMeta, SmolStr, Status};
use client::Client;

const NAMESPACE: &str = "kube-node-lease";
/// After this without renewal a node is given up (upstream's default).
const DURATION: Duration = Duration::from_secs(40);
const RENEW: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(1);

/// Renews the lease until the task is aborted.
pub async fn run(client: Client, node: SmolStr, uid: String) {
    let mut held: Option<Lease> = None;
    loop {
        match renew(&client, &node, &uid, held.take()).await {
            Ok(lease) => {
                held = Some(lease);
                tokio::time::sleep(RENEW).await;
            }
            Err(status) => {
                tracing::debug!(%status, "the node's lease could not be renewed, trying again");
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

async fn renew(client: &Client, node: &str, uid: &str, held: Option<Lease>) -> Result<Lease, Status> {
    let now = MicroTime(crate::nanos() / 1000);
    let known = match held {
        Some(held) => Some(held),
        None => client.try_get::<Lease>(NAMESPACE, node).await?,
    };
    match known {
        Some(mut lease) => {
            lease.spec.renew_time = Some(now);
            lease.spec.holder_identity = Some(node.to_owned());
            client.update(&lease).await
        }
        None => {
            let owner = OwnerReference {
                api_version: "v1".into(),
                kind: "Node".into(),
                name: node.into(),
                uid: uid.into(),
                ..OwnerReference::default()
            };
            let lease = Lease {
                metadata: ObjectMeta {
                    name: node.into(),
                    namespace: NAMESPACE.into(),
                    owner_references: vec![owner],
                    ..ObjectMeta::default()
                },
                spec: LeaseSpec {
                    holder_identity: Some(node.into()),
                    lease_duration_seconds: Some(DURATION.as_secs() as i32),
                    renew_time: Some(now),
                    ..LeaseSpec::default()
                },
            };
            client.create(&lease).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use apimachinery::GroupVersionResource;

    #[tokio::test]
    async fn a_lease_is_made_and_renewed() {
        let cluster = testkit::FakeBackend::new();
        let client = cluster.client();
        let first = renew(&client, "n", "u", None).await.unwrap();
        let leases = GroupVersionResource::new("coordination.k8s.io", "v1", "leases");
        let stored = cluster.get(&leases, NAMESPACE, "n").unwrap();
        assert_eq!(stored.str_at(&["spec", "holderIdentity"]), Some("n"));
        let second = renew(&client, "n", "u", None).await.unwrap();
        assert!(second.spec.renew_time >= first.spec.renew_time);
    }
}
