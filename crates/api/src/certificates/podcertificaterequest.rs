//! PodCertificateRequest: asks a signer for a certificate of a pod.

use std::collections::BTreeMap;

use crate::certificates::certificatesigningrequest::signer_name;
use crate::checks::{immutable, name};
use apimachinery::meta::{Condition, ObjectMeta};
use apimachinery::validation::{dns_subdomain, require};
use apimachinery::{Api, Bytes, Errors, Kind, Path, Rules, RulesCx, Time, Value};

use crate::cells::{items, labels, str_of, text};
use crate::served::served;

/// PodCertificateRequest: asks a signer for a certificate of a pod.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.certificates.v1.PodCertificateRequest")]
pub struct PodCertificateRequest {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub spec: PodCertificateRequestSpec,
    #[api(3, omitempty)]
    pub status: PodCertificateRequestStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.certificates.v1.PodCertificateRequestSpec")]
pub struct PodCertificateRequestSpec {
    #[api(1, required)]
    pub signer_name: String,
    #[api(2, required)]
    pub pod_name: String,
    #[api(3, json = "podUID", required)]
    pub pod_uid: String,
    #[api(4, required)]
    pub service_account_name: String,
    #[api(5, json = "serviceAccountUID", required)]
    pub service_account_uid: String,
    #[api(6, required)]
    pub node_name: String,
    #[api(7, json = "nodeUID", required)]
    pub node_uid: String,
    #[api(8, omitempty, default = "86400")]
    pub max_expiration_seconds: Option<i32>,
    #[api(12, json = "stubPKCS10Request", required)]
    pub stub_pkcs10_request: Bytes,
    #[api(11, omitempty)]
    pub unverified_user_annotations: BTreeMap<String, String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.certificates.v1.PodCertificateRequestStatus")]
pub struct PodCertificateRequestStatus {
    #[api(1, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<Condition>,
    #[api(2, omitempty)]
    pub certificate_chain: String,
    #[api(4, omitempty)]
    pub not_before: Option<Time>,
    #[api(5, omitempty)]
    pub begin_refresh_at: Option<Time>,
    #[api(6, omitempty)]
    pub not_after: Option<Time>,
}

pub fn kind() -> Kind {
    Kind::namespaced::<PodCertificateRequest>("certificates.k8s.io", "v1", "podcertificaterequests")
        .status()
        .selectable(&["spec.signerName", "spec.podName", "spec.nodeName"])
        .code_column("PodName", "string", |o, _| text(o, &["spec", "podName"]))
        .code_column("ServiceAccountName", "string", |o, _| text(o, &["spec", "serviceAccountName"]))
        .code_column("NodeName", "string", |o, _| text(o, &["spec", "nodeName"]))
        .code_column("SignerName", "string", |o, _| text(o, &["spec", "signerName"]))
        .code_column("State", "string", state_cell)
        .wide_code_column("UnverifiedUserAnnotations", "string", |o, _| {
            labels(o, &["spec", "unverifiedUserAnnotations"])
        })
        .conditional_update()
        .status_keeps_metadata()
        .example(
            r#"{"metadata": {"name": "web-1"}, "spec": {"signerName": "example.com/signer",
            "podName": "web", "podUID": "0a0b0c0d-0000-4000-8000-000000000001", "serviceAccountName": "robot",
            "serviceAccountUID": "0a0b0c0d-0000-4000-8000-000000000001", "nodeName": "node-1",
            "nodeUID": "0a0b0c0d-0000-4000-8000-000000000001", "maxExpirationSeconds": 86400,
            "stubPKCS10Request": "MIHHMHACAQAwDjEMMAoGA1UEAwwDYW5uMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8Mta/4r7cSogWZ6v0J/Epto+Qpi9aXm0xrKVQs/7628z9MTTRwGO4CxOlT8YpH08cl5aVhcke+ccV32GpdAgzaAAMAoGCCqGSM49BAMCA0cAMEQCIEaxA7h2qMRImxsy4GYZ9fph9Lfvpzuuxt8BCuRkhwKBAiA4H5bsSqFVRgK/GercJjBqh7Hf+VZM4yQmGzT9P8gU8A=="}}"#,
        )
}

served!(PodCertificateRequest, "certificates.k8s.io", "v1", "podcertificaterequests", true);

impl Rules for PodCertificateRequest {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let path = Path::new("spec");
        let spec = &self.spec;
        signer_name(errors, &path.child("signerName"), &spec.signer_name);
        for (field, value) in [
            ("podName", &spec.pod_name),
            ("serviceAccountName", &spec.service_account_name),
            ("nodeName", &spec.node_name),
        ] {
            require(errors, &path.child(field), value, dns_subdomain);
        }
        for (field, value) in
            [("podUID", &spec.pod_uid), ("serviceAccountUID", &spec.service_account_uid), ("nodeUID", &spec.node_uid)]
        {
            if value.is_empty() {
                errors.required(&path.child(field), "");
            } else if value.len() > 128 {
                errors.too_long(&path.child(field), 128);
            }
        }
        let seconds = path.child("maxExpirationSeconds");
        match spec.max_expiration_seconds {
            None => errors.required(&seconds, "must be set"),
            Some(value) if value < 3600 => {
                errors.invalid(&seconds, value, "must be in the range [3600, 7862400]");
            }
            Some(value) if value > 7_862_400 => {
                errors.invalid(&seconds, value, "must be in the range [3600, 7862400]");
            }
            Some(_) => {}
        }
        if spec.stub_pkcs10_request.0.is_empty() {
            errors.required(&path.child("stubPKCS10Request"), "");
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        immutable(errors, &Path::new("spec"), &self.spec, &old.spec);
    }
}

fn state_cell(object: &Value, _now: i64) -> Value {
    let conditions = items(object, &["status", "conditions"]).iter().map(|c| str_of(c, &["type"]));
    conditions.rev().find(|t| matches!(*t, "Issued" | "Denied" | "Failed")).unwrap_or("Pending").into()
}
