//! Certificates by request: approves what nodes may have, signs what was approved, and takes old requests away.
//!
//! Upstream's four signers of `kubernetes.io` are here: [`Signer`] says for each what a request may ask for and which
//! authority vouches. Requests for other signers are others' business.

pub mod approve;
pub mod clean;
pub mod publish;
pub mod sign;

use std::sync::Arc;

use api::certificates::certificatesigningrequest::{CertificateSigningRequest, CertificateSigningRequestCondition};
use apimachinery::resource::Resource;
use apimachinery::{Api, SmolStr, Status};
use client::{Informer, Outcome, Queue, Scope, run_workers};
use pki::{Ca, Csr};

use crate::Context;

/// Who signs what is requested.
#[derive(Clone, Debug)]
pub struct Authorities {
    /// Vouches for clients of the API server.
    pub clients: Arc<Ca>,
    /// Vouches for servers, kubelets among them.
    pub servers: Arc<Ca>,
}

/// A signer that this cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    /// Clients of the API server that a person approved.
    Client,
    /// Nodes as clients of the API server.
    KubeletClient,
    /// Nodes as servers.
    KubeletServing,
    /// What was asked for before signers had names. Nobody has to trust it, so it is signed by the authority whose
    /// certificates are nobody's identity towards the API server.
    LegacyUnknown,
}

const NODE: &str = "system:node:";

impl Signer {
    /// The signer of a name.
    pub fn of(name: &str) -> Option<Signer> {
        Some(match name {
            "kubernetes.io/kube-apiserver-client" => Signer::Client,
            "kubernetes.io/kube-apiserver-client-kubelet" => Signer::KubeletClient,
            "kubernetes.io/kubelet-serving" => Signer::KubeletServing,
            "kubernetes.io/legacy-unknown" => Signer::LegacyUnknown,
            _ => return None,
        })
    }

    fn authority(self, all: &Authorities) -> &Ca {
        match self {
            Signer::Client | Signer::KubeletClient => &all.clients,
            Signer::KubeletServing | Signer::LegacyUnknown => &all.servers,
        }
    }

    /// Why a request is not one that this signer signs (upstream's rules and words).
    pub fn check(self, csr: &Csr, usages: &[String]) -> Result<(), String> {
        match self {
            Signer::LegacyUnknown => Ok(()),
            Signer::Client => {
                let allowed = |usage: &&String| {
                    matches!(usage.as_str(), "digital signature" | "key encipherment" | "client auth")
                };
                if let Some(usage) = usages.iter().find(|usage| !allowed(usage)) {
                    return Err(format!("invalid usage for client certificate: {usage}"));
                }
                if !usages.iter().any(|usage| usage == "client auth") {
                    return Err("missing required usage for client certificate: client auth".into());
                }
                Ok(())
            }
            Signer::KubeletClient => {
                of_nodes(csr)?;
                let names = &csr.names;
                let refused = [
                    ("DNS", names.dns_names.is_empty()),
                    ("Email", names.emails.is_empty()),
                    ("IP", names.ips.is_empty()),
                    ("URI", names.uris.is_empty()),
                ];
                no_names(&refused)?;
                of_node(csr)?;
                exact_usages(usages, "client auth")
            }
            Signer::KubeletServing => {
                of_nodes(csr)?;
                if csr.names.dns_names.is_empty() && csr.names.ips.is_empty() {
                    return Err("DNS or IP subjectAltName is required".into());
                }
                no_names(&[("Email", csr.names.emails.is_empty()), ("URI", csr.names.uris.is_empty())])?;
                exact_usages(usages, "server auth")?;
                of_node(csr)
            }
        }
    }
}

fn of_nodes(csr: &Csr) -> Result<(), String> {
    match csr.organizations.as_slice() {
        [one] if one == "system:nodes" => Ok(()),
        _ => Err("subject organization is not system:nodes".into()),
    }
}

fn of_node(csr: &Csr) -> Result<(), String> {
    match csr.common_name.starts_with(NODE) {
        true => Ok(()),
        false => Err(format!("subject common name does not begin with {NODE}")),
    }
}

fn no_names(refused: &[(&str, bool)]) -> Result<(), String> {
    match refused.iter().find(|(_, none)| !none) {
        Some((sort, _)) => Err(format!("{sort} subjectAltNames are not allowed")),
        None => Ok(()),
    }
}

/// Exactly the usages that a kubelet's certificate has; only RSA keys encipher.
fn exact_usages(usages: &[String], main: &str) -> Result<(), String> {
    let has = |usage: &str| usages.iter().any(|u| u == usage);
    let known = |usage: &String| matches!(usage.as_str(), "digital signature" | "key encipherment") || usage == main;
    if has("digital signature") && has(main) && usages.iter().all(known) {
        return Ok(());
    }
    let mut wanted = ["digital signature", "key encipherment", main];
    wanted.sort_unstable();
    Err(format!("usages did not match [{}]", wanted.join(" ")))
}

/// Whether a condition of a request is true.
fn is(request: &CertificateSigningRequest, condition: &str) -> bool {
    request.status.conditions.iter().any(|c| c.type_ == condition && c.status == "True")
}

/// Gives every request that changes to a reconciler. It is read afresh: it may have been decided since.
async fn for_each<F>(cx: Context, reconcile: fn(Context, CertificateSigningRequest) -> F)
where
    F: Future<Output = Result<Outcome, Status>> + Send + 'static,
{
    let resource = CertificateSigningRequest::resource();
    let requests = Informer::start(&cx.watcher, resource, Scope::default(), |tree| {
        CertificateSigningRequest::from_value(tree).ok()
    });
    requests.synced().await;
    let queue: Queue<SmolStr> = Queue::new();
    let to = queue.clone();
    requests.on_change(move |change| {
        if change.new.is_some() {
            to.add(change.key.name.clone());
        }
    });
    run_workers("certificate-controller", queue, 1, move |name: SmolStr| {
        let cx = cx.clone();
        async move {
            match cx.client.try_get::<CertificateSigningRequest>("", &name).await? {
                Some(request) => reconcile(cx, request).await,
                None => Ok(Outcome::Done),
            }
        }
    })
    .await;
}

/// A condition that holds from now on.
fn condition(type_: &str, reason: &str, message: String) -> CertificateSigningRequestCondition {
    CertificateSigningRequestCondition {
        type_: type_.into(),
        status: "True".into(),
        reason: reason.into(),
        message,
        ..CertificateSigningRequestCondition::default()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use base64::Engine as _;
    use pki::{Leaf, PrivateKey};

    use super::*;

    pub(crate) fn request(leaf: &Leaf) -> String {
        Csr::create(leaf, &PrivateKey::generate().unwrap()).unwrap()
    }

    /// A request as the API has it.
    pub(crate) fn object(name: &str, signer: &str, pem: &str, usages: &str, status: &str) -> String {
        let request = base64::engine::general_purpose::STANDARD.encode(pem);
        format!(
            r#"{{"metadata":{{"name":"{name}","uid":"{name}","creationTimestamp":"2025-12-31T23:00:00Z"}},
            "spec":{{"signerName":"{signer}","request":"{request}","usages":{usages},"username":"system:node:n"}},
            "status":{status}}}"#
        )
    }

    fn check(signer: Signer, leaf: &Leaf, usages: &[&str]) -> Result<(), String> {
        let csr = Csr::from_pem(request(leaf).as_bytes()).unwrap();
        let usages: Vec<String> = usages.iter().map(|u| (*u).to_owned()).collect();
        signer.check(&csr, &usages)
    }

    #[test]
    fn each_signer_takes_its_own() {
        let node = Leaf::client("system:node:n", &["system:nodes"]);
        let usages = ["digital signature", "client auth"];
        assert_eq!(check(Signer::KubeletClient, &node, &usages), Ok(()));
        assert_eq!(
            check(Signer::KubeletClient, &node, &["client auth"]).unwrap_err(),
            "usages did not match [client auth digital signature key encipherment]"
        );
        let other = Leaf::client("ann", &["system:nodes"]);
        assert_eq!(
            check(Signer::KubeletClient, &other, &usages).unwrap_err(),
            "subject common name does not begin with system:node:"
        );
        let mut named = node.clone();
        named.dns_names = vec!["n".into()];
        assert_eq!(check(Signer::KubeletClient, &named, &usages).unwrap_err(), "DNS subjectAltNames are not allowed");
        let serving = ["digital signature", "key encipherment", "server auth"];
        assert_eq!(check(Signer::KubeletServing, &named, &serving), Ok(()));
        assert_eq!(check(Signer::KubeletServing, &node, &serving).unwrap_err(), "DNS or IP subjectAltName is required");
        let ann = Leaf::client("ann", &["people"]);
        assert_eq!(check(Signer::Client, &ann, &usages), Ok(()));
        assert!(check(Signer::Client, &ann, &["server auth"]).unwrap_err().starts_with("invalid usage"));
        assert!(check(Signer::Client, &ann, &[]).unwrap_err().starts_with("missing required usage"));
        assert_eq!(
            check(Signer::KubeletServing, &ann, &serving).unwrap_err(),
            "subject organization is not system:nodes"
        );
        assert_eq!(check(Signer::LegacyUnknown, &ann, &[]), Ok(()));
    }
}
