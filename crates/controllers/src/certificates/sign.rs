//! Signs the requests that were approved, for the signers of this cluster.

use std::time::{Duration, UNIX_EPOCH};

use api::certificates::certificatesigningrequest::{
    CertificateSigningRequest, CertificateSigningRequestCondition, CertificateSigningRequestSpec,
};
use apimachinery::{Bytes, Status};
use client::Outcome;
use pki::Csr;
use pki::issue::{KeyUsage, Validity};

use super::{Authorities, Signer, condition, is};
use crate::Context;
use crate::workload::now;

/// The longest life of a certificate, and the shortest, whatever is asked for (upstream's defaults).
const LONGEST: Duration = Duration::from_secs(365 * 86_400);
const SHORTEST: Duration = Duration::from_secs(600);
/// How far the beginning is put back for clocks that run late; lives from `SHORT` on end so much sooner, too.
const BACKDATE: Duration = Duration::from_secs(300);
const SHORT: Duration = Duration::from_secs(8 * 3600);

/// Why no certificate was made.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    /// The signer does not sign such requests; it never will.
    #[error("{0}")]
    Never(String),
    #[error("the request cannot be signed: {0}")]
    Failed(#[from] pki::Error),
}

/// From when until when a certificate holds that is signed at `now`, in seconds since 1970.
fn validity(seconds: Option<i32>, now: i64) -> Validity {
    let now = UNIX_EPOCH + Duration::from_secs(now.max(0) as u64);
    let asked = seconds.map_or(LONGEST, |s| Duration::from_secs(s.max(0) as u64));
    let life = asked.clamp(SHORTEST, LONGEST);
    let until = if life < SHORT { now + life } else { now + life - BACKDATE };
    Validity { from: now - BACKDATE, until }
}

/// The certificate that a request gets, as PEM.
fn certificate(
    spec: &CertificateSigningRequestSpec,
    signer: Signer,
    authorities: &Authorities,
    now: i64,
) -> Result<String, Refusal> {
    let csr = Csr::from_pem(&spec.request.0)?;
    signer.check(&csr, &spec.usages).map_err(Refusal::Never)?;
    let usages: Vec<KeyUsage> = spec.usages.iter().filter_map(|usage| KeyUsage::from_api(usage)).collect();
    let validity = validity(spec.expiration_seconds, now);
    let at = UNIX_EPOCH + Duration::from_secs(now.max(0) as u64);
    let signed = signer.authority(authorities).sign_csr_within(&csr, &usages, &validity, at)?;
    Ok(pki::cert::to_pem(&signed))
}

/// Runs the controller.
pub async fn run(cx: Context) {
    super::for_each(cx, reconcile).await;
}

async fn reconcile(cx: Context, mut request: CertificateSigningRequest) -> Result<Outcome, Status> {
    let Some(signer) = Signer::of(&request.spec.signer_name) else { return Ok(Outcome::Done) };
    let open = is(&request, "Approved") && !is(&request, "Denied") && !is(&request, "Failed");
    if !open || !request.status.certificate.0.is_empty() {
        return Ok(Outcome::Done);
    }
    let now = now(&cx);
    match certificate(&request.spec, signer, &cx.config.authorities, now.0) {
        Ok(pem) => request.status.certificate = Bytes(pem.into_bytes()),
        Err(Refusal::Never(message)) => {
            let failed = condition("Failed", "SignerValidationFailure", message);
            request.status.conditions.push(CertificateSigningRequestCondition { last_update_time: now, ..failed });
        }
        Err(error) => return Err(Status::internal(error)),
    }
    cx.client.update_status(&request).await.map(|_| Outcome::Done)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{object, request};
    use super::*;
    use crate::context::tests::{context, eventually};
    use apimachinery::resource::Resource;
    use base64::Engine as _;
    use pki::Leaf;

    #[test]
    fn lives_have_bounds() {
        let length = |seconds| {
            let v = validity(seconds, 1_000_000);
            v.until.duration_since(v.from).unwrap().as_secs()
        };
        assert_eq!(length(None), 365 * 86_400);
        assert_eq!(length(Some(i32::MAX)), 365 * 86_400);
        assert_eq!(length(Some(1)), 600 + 300);
        assert_eq!(length(Some(3600)), 3600 + 300);
        assert_eq!(length(Some(86_400)), 86_400);
    }

    #[tokio::test]
    async fn what_was_approved_is_signed() {
        let cluster = testkit::FakeBackend::new();
        let requests = CertificateSigningRequest::resource();
        let approved = r#"{"conditions":[{"type":"Approved","status":"True"}]}"#;
        let ann = request(&Leaf::client("ann", &["people"]));
        let usages = r#"["digital signature","client auth"]"#;
        let people = "kubernetes.io/kube-apiserver-client";
        cluster.put(&requests, &object("waits", people, &ann, usages, "{}"));
        cluster.put(&requests, &object("others", "example.com/signer", &ann, usages, approved));
        cluster.put(&requests, &object("bad", "kubernetes.io/kubelet-serving", &ann, usages, approved));
        cluster.put(&requests, &object("good", people, &ann, usages, approved));
        let cx = context(&cluster);
        let authority = cx.config.authorities.clients.clone();
        let task = tokio::spawn(run(cx));
        let status = |name: &str, path: &[&str]| {
            let request = cluster.get(&requests, "", name).unwrap();
            request.get("status").and_then(|s| s.at(path)).cloned()
        };
        eventually(|| status("good", &["certificate"]).is_some()).await;
        eventually(|| status("bad", &["conditions"]).is_some_and(|c| c.as_list().unwrap().len() == 2)).await;
        let text = status("good", &["certificate"]).unwrap();
        let pem = base64::engine::general_purpose::STANDARD.decode(text.as_str().unwrap()).unwrap();
        let certs = pki::cert::certs_from_pem(std::str::from_utf8(&pem).unwrap()).unwrap();
        let now = UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let info = authority.chain().verify(&certs, pki::Usage::Client, now).unwrap();
        assert_eq!((info.common_name.as_str(), info.organizations), ("ann", vec!["people".to_owned()]));
        let conditions = status("bad", &["conditions"]).unwrap();
        let last = conditions.as_list().unwrap().last().unwrap().clone();
        assert_eq!(last.str_at(&["message"]), Some("subject organization is not system:nodes"));
        assert!(status("waits", &["certificate"]).is_none() && status("others", &["certificate"]).is_none());
        task.abort();
    }
}
