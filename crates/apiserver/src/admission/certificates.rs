//! CertificateApproval, CertificateSigning, ClusterTrustBundleAttest and CertificateSubjectRestriction: who may have a
//! signer's name on a certificate, and that nobody gets a master's certificate by request.

use apimachinery::{Status, Value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::{Attributes, Operation};

use super::{Plugin, Step, World, forbidden, is};
use crate::authz::Decision;
use crate::request::RequestInfo;
use crate::tree::text;

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";
const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";
const MASTERS: &[u8] = b"system:masters";

pub(crate) const APPROVAL: Plugin = Plugin {
    name: "CertificateApproval",
    handles: |a| is(a, GROUP, REQUESTS) && a.subresource == "approval" && a.operation == Operation::Update,
    mutate: Step::Nothing,
    validate: Step::Later(|world, a| Box::pin(approve(world, a))),
};

pub(crate) const SIGNING: Plugin = Plugin {
    name: "CertificateSigning",
    handles: |a| is(a, GROUP, REQUESTS) && a.subresource == "status" && a.operation == Operation::Update,
    mutate: Step::Nothing,
    validate: Step::Later(|world, a| Box::pin(sign(world, a))),
};

pub(crate) const ATTEST: Plugin = Plugin {
    name: "ClusterTrustBundleAttest",
    handles: |a| is(a, GROUP, "clustertrustbundles") && matches!(a.operation, Operation::Create | Operation::Update),
    mutate: Step::Nothing,
    validate: Step::Later(|world, a| Box::pin(attest(world, a))),
};

pub(crate) const SUBJECT: Plugin = Plugin {
    name: "CertificateSubjectRestriction",
    handles: |a| is(a, GROUP, REQUESTS) && a.subresource.is_empty() && a.operation == Operation::Create,
    mutate: Step::Nothing,
    validate: Step::Now(restrict),
};

/// Whether the user may `verb` for a signer, by its name or for all of its domain.
async fn may(world: &World, a: &Attributes<'_>, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    for name in [signer.to_string(), format!("{domain}/*")] {
        let info = RequestInfo {
            verb: verb.into(),
            is_resource: true,
            group: GROUP.into(),
            version: "*".into(),
            resource: "signers".into(),
            name: name.into(),
            ..RequestInfo::default()
        };
        if world.authorizer.authorize(&a.cx.user, &info).await == Decision::Allow {
            return true;
        }
    }
    false
}

/// The signer of the request as it was: who changes it must hold the old one.
fn signer(a: &Attributes<'_>) -> String {
    a.old.map(|old| text(old, &["spec", "signerName"]).to_string()).unwrap_or_default()
}

async fn approve(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    let signer = signer(a);
    if may(world, a, "approve", &signer).await {
        return Ok(());
    }
    Err(forbidden(a, format!("user not permitted to approve requests with signerName {signer:?}")))
}

async fn sign(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    let changed = ["certificate", "conditions"].iter().any(|key| {
        let path = ["status", key];
        a.old.and_then(|old| old.at(&path)) != a.object.at(&path)
    });
    let signer = signer(a);
    if !changed || may(world, a, "sign", &signer).await {
        return Ok(());
    }
    Err(forbidden(a, format!("user not permitted to sign requests with signerName {signer:?}")))
}

async fn attest(world: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    let signer = text(a.object, &["spec", "signerName"]).to_string();
    if signer.is_empty() || a.old.is_some_and(|old| old.get("spec") == a.object.get("spec")) {
        return Ok(());
    }
    if may(world, a, "attest", &signer).await {
        return Ok(());
    }
    Err(forbidden(a, format!("user not permitted to attest for signerName {signer:?}")))
}

fn restrict(_: &World, a: &mut Attributes<'_>) -> Result<(), Status> {
    if text(a.object, &["spec", "signerName"]) == CLIENT_SIGNER && asks_for_masters(a.object) {
        let why = format!("use of {CLIENT_SIGNER} signer with system:masters group is not allowed");
        return Err(forbidden(a, why));
    }
    Ok(())
}

/// Whether the request's bytes hold the masters' name anywhere. It is looked for as bytes of the DER form and not in
/// the parsed subject alone: what no honest request contains needs no exact place.
fn asks_for_masters(object: &Value) -> bool {
    let pem = STANDARD.decode(text(object, &["spec", "request"])).unwrap_or_default();
    let text = String::from_utf8_lossy(&pem);
    let body: String =
        text.lines().map(str::trim).filter(|line| !line.starts_with("-----") && !line.contains(':')).collect();
    let der = STANDARD.decode(body).unwrap_or_default();
    der.windows(MASTERS.len()).any(|window| window == MASTERS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::tree;
    use serde_json::json;

    fn request(subject: &[u8]) -> Value {
        let pem = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            STANDARD.encode(subject)
        );
        tree(json!({"spec": {"signerName": CLIENT_SIGNER, "request": STANDARD.encode(pem)}}))
    }

    #[test]
    fn masters_are_not_made_by_request() {
        assert!(asks_for_masters(&request(b"0..system:masters..")));
        assert!(!asks_for_masters(&request(b"0..system:nodes..")));
        assert!(!asks_for_masters(&tree(json!({"spec": {"request": "%%"}}))));
    }

    #[test]
    fn only_what_signs_is_asked_about() {
        let mut write = crate::admission::testing::Write::new(
            api::certificates::certificatesigningrequest::kind(),
            Operation::Update,
            Value::Null,
        );
        assert!(!(APPROVAL.handles)(&write.attributes()));
        write.subresource = "approval";
        assert!((APPROVAL.handles)(&write.attributes()) && !(SIGNING.handles)(&write.attributes()));
    }
}
