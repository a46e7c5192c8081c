//! Approves the requests of nodes for client certificates, where the requester may have one.

use api::authorization::subjectaccessreview::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use api::certificates::certificatesigningrequest::{CertificateSigningRequest, CertificateSigningRequestSpec};
use apimachinery::Status;
use client::Outcome;
use pki::Csr;

use super::{Signer, condition, is};
use crate::Context;

/// A permission that makes a request approved by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Way {
    subresource: &'static str,
    message: &'static str,
}

const SELF: Way = Way {
    subresource: "selfnodeclient",
    message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
};
const NODE: Way =
    Way { subresource: "nodeclient", message: "Auto approving kubelet client certificate after SubjectAccessReview." };

/// The permissions by which a request may be approved, in the order in which they are tried.
fn ways(spec: &CertificateSigningRequestSpec) -> Result<Vec<Way>, pki::Error> {
    if Signer::of(&spec.signer_name) != Some(Signer::KubeletClient) {
        return Ok(Vec::new());
    }
    let csr = Csr::from_pem(&spec.request.0)?;
    if Signer::KubeletClient.check(&csr, &spec.usages).is_err() {
        return Ok(Vec::new());
    }
    Ok(if csr.common_name == spec.username { vec![SELF, NODE] } else { vec![NODE] })
}

/// Runs the controller.
pub async fn run(cx: Context) {
    super::for_each(cx, reconcile).await;
}

async fn reconcile(cx: Context, mut request: CertificateSigningRequest) -> Result<Outcome, Status> {
    if !request.status.certificate.0.is_empty() || is(&request, "Approved") || is(&request, "Denied") {
        return Ok(Outcome::Done);
    }
    let ways = match ways(&request.spec) {
        Ok(ways) => ways,
        Err(error) => {
            tracing::debug!(request = request.metadata.name, %error, "a request for a certificate cannot be read");
            return Ok(Outcome::Done);
        }
    };
    for way in ways {
        if !allowed(&cx, &request.spec, way).await? {
            continue;
        }
        request.status.conditions.push(condition("Approved", "AutoApproved", way.message.into()));
        cx.client.update_subresource(&request, "approval").await?;
        break;
    }
    Ok(Outcome::Done)
}

/// Whether the requester may have such certificates approved.
async fn allowed(cx: &Context, spec: &CertificateSigningRequestSpec, way: Way) -> Result<bool, Status> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: spec.username.clone(),
            uid: spec.uid.clone(),
            groups: spec.groups.clone(),
            extra: spec.extra.clone(),
            resource_attributes: Some(ResourceAttributes {
                group: "certificates.k8s.io".into(),
                version: "*".into(),
                resource: "certificatesigningrequests".into(),
                subresource: way.subresource.into(),
                verb: "create".into(),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    Ok(cx.client.create(&review).await?.status.allowed)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{object, request};
    use super::*;
    use apimachinery::Api;
    use pki::Leaf;

    fn ways_of(signer: &str, leaf: &Leaf) -> Vec<Way> {
        let text = object("a", signer, &request(leaf), r#"["digital signature","client auth"]"#, "{}");
        let tree = apimachinery::codec::json::parse(text.as_bytes()).unwrap();
        ways(&CertificateSigningRequest::from_value(&tree).unwrap().spec).unwrap()
    }

    #[test]
    fn nodes_may_ask_for_themselves() {
        let kubelets = "kubernetes.io/kube-apiserver-client-kubelet";
        assert_eq!(ways_of(kubelets, &Leaf::client("system:node:n", &["system:nodes"])), [SELF, NODE]);
        assert_eq!(ways_of(kubelets, &Leaf::client("system:node:other", &["system:nodes"])), [NODE]);
        assert_eq!(ways_of(kubelets, &Leaf::client("ann", &["system:nodes"])), []);
        let people = "kubernetes.io/kube-apiserver-client";
        assert_eq!(ways_of(people, &Leaf::client("system:node:n", &["system:nodes"])), []);
    }
}
