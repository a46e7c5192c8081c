//! Publishes whom to trust as the API server, as a ClusterTrustBundle that pods can have projected.

use api::certificates::clustertrustbundle::{ClusterTrustBundle, ClusterTrustBundleSpec};
use apimachinery::resource::Resource;
use apimachinery::{Api, ObjectMeta, SmolStr, Status};
use client::{Informer, Outcome, Queue, Scope, run_workers};

use crate::Context;

const SIGNER: &str = "kubernetes.io/kube-apiserver-serving";

/// The name of the bundle of these certificates: one name never has two contents.
fn bundle_name(pem: &str) -> String {
    format!("{}:{}", SIGNER.replace('/', ":"), pki::hex(&pki::sha256(pem.as_bytes())[..12]))
}

/// Runs the controller.
pub async fn run(cx: Context) {
    let ours = Scope { field_selector: format!("spec.signerName={SIGNER}"), ..Scope::default() };
    let bundles = Informer::start(&cx.watcher, ClusterTrustBundle::resource(), ours, |tree| {
        ClusterTrustBundle::from_value(tree).ok().filter(|bundle| bundle.spec.signer_name == SIGNER)
    });
    bundles.synced().await;
    let queue: Queue<SmolStr> = Queue::new();
    queue.add(SmolStr::default());
    let to = queue.clone();
    bundles.on_change(move |_| to.add(SmolStr::default()));
    run_workers("kube-apiserver-serving-clustertrustbundle-publisher", queue, 1, move |_| {
        let (cx, bundles) = (cx.clone(), bundles.clone());
        async move { reconcile(&cx, &bundles).await.map(|()| Outcome::Done) }
    })
    .await;
}

async fn reconcile(cx: &Context, bundles: &Informer<ClusterTrustBundle>) -> Result<(), Status> {
    let pem = &cx.config.root_ca;
    let name = bundle_name(pem);
    match bundles.get("", &name) {
        Some(known) if known.spec.trust_bundle == *pem => {}
        Some(known) => {
            let mut bundle = (*known).clone();
            bundle.spec.trust_bundle.clone_from(pem);
            cx.client.update(&bundle).await?;
        }
        None => {
            let bundle = ClusterTrustBundle {
                metadata: ObjectMeta { name: name.clone(), ..ObjectMeta::default() },
                spec: ClusterTrustBundleSpec { signer_name: SIGNER.into(), trust_bundle: pem.clone() },
            };
            match cx.client.create(&bundle).await {
                Err(status) if !status.is_already_exists() => return Err(status),
                _ => {}
            }
        }
    }
    // Those of earlier authorities.
    for (key, _) in bundles.all().into_iter().filter(|(key, _)| key.name != name) {
        match cx.client.delete::<ClusterTrustBundle>("", &key.name).await {
            Err(status) if !status.is_not_found() => return Err(status),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::tests::{context, eventually};

    #[tokio::test]
    async fn the_bundle_is_there_alone() {
        let cluster = testkit::FakeBackend::new();
        let resource = ClusterTrustBundle::resource();
        let put = |name: &str, signer: &str| {
            let text =
                format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{{"signerName":"{signer}","trustBundle":"x"}}}}"#);
            cluster.put(&resource, &text);
        };
        put("kubernetes.io:kube-apiserver-serving:old", SIGNER);
        put("example.com:signer:a", "example.com/signer");
        let task = tokio::spawn(run(context(&cluster)));
        let name = bundle_name("");
        eventually(|| {
            cluster.get(&resource, "", &name).is_some()
                && cluster.get(&resource, "", "kubernetes.io:kube-apiserver-serving:old").is_none()
        })
        .await;
        assert_eq!(cluster.count(&resource), 2);
        assert_eq!(name, "kubernetes.io:kube-apiserver-serving:e3b0c44298fc1c149afbf4c8");
        task.abort();
    }
}
