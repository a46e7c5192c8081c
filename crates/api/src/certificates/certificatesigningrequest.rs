//! CertificateSigningRequest: asks a signer for a certificate.

use std::collections::BTreeMap;

use apimachinery::kind::{Action, Verbs};
use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Bytes, Kind, Rules, Time, Value};

use crate::cells::{duration, items, str_of, text, text_or};
use crate::served::served;

/// CertificateSigningRequest: asks a signer for a certificate.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.certificates.v1.CertificateSigningRequest")]
pub struct CertificateSigningRequest {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, required)]
    pub spec: CertificateSigningRequestSpec,
    #[api(3, omitempty)]
    pub status: CertificateSigningRequestStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.certificates.v1.CertificateSigningRequestSpec")]
pub struct CertificateSigningRequestSpec {
    #[api(1, required)]
    pub request: Bytes,
    #[api(7, required)]
    pub signer_name: String,
    #[api(8, omitempty)]
    pub expiration_seconds: Option<i32>,
    #[api(5, omitempty, list = "atomic")]
    pub usages: Vec<String>,
    #[api(2, omitempty)]
    pub username: String,
    #[api(3, omitempty)]
    pub uid: String,
    #[api(4, omitempty, list = "atomic")]
    pub groups: Vec<String>,
    #[api(6, omitempty)]
    pub extra: BTreeMap<String, Vec<String>>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.certificates.v1.CertificateSigningRequestStatus")]
pub struct CertificateSigningRequestStatus {
    #[api(1, omitempty, list = "map", keys("type"))]
    pub conditions: Vec<CertificateSigningRequestCondition>,
    #[api(2, omitempty)]
    pub certificate: Bytes,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.certificates.v1.CertificateSigningRequestCondition")]
pub struct CertificateSigningRequestCondition {
    #[api(1, required)]
    pub type_: String,
    #[api(6, required)]
    pub status: String,
    #[api(2, omitempty)]
    pub reason: String,
    #[api(3, omitempty)]
    pub message: String,
    #[api(4, omitempty)]
    pub last_update_time: Time,
    #[api(5, omitempty)]
    pub last_transition_time: Time,
}

pub fn kind() -> Kind {
    Kind::cluster::<CertificateSigningRequest>("certificates.k8s.io", "v1", "certificatesigningrequests")
        .short(&["csr"])
        .status()
        .subresource(
            "approval",
            Verbs::GET.with(Verbs::UPDATE).with(Verbs::PATCH),
            Action::Fields(&["status.conditions"]),
        )
        .selectable(&["spec.signerName"])
        .age()
        .code_column("SignerName", "string", |o, _| text_or(o, &["spec", "signerName"], "<none>"))
        .code_column("Requestor", "string", |o, _| text(o, &["spec", "username"]))
        .code_column("RequestedDuration", "string", duration_cell)
        .code_column("Condition", "string", condition_cell)
        .example(
            r#"{"metadata": {"name": "ann"}, "spec": {"request": "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURSBSRVFVRVNULS0tLS0KTUlISE1IQUNBUUF3RGpFTU1Bb0dBMVVFQXd3RFlXNXVNRmt3RXdZSEtvWkl6ajBDQVFZSUtvWkl6ajBEQVFjRApRZ0FFOE10YS80cjdjU29nV1o2djBKL0VwdG8rUXBpOWFYbTB4cktWUXMvNzYyOHo5TVRUUndHTzRDeE9sVDhZCnBIMDhjbDVhVmhja2UrY2NWMzJHcGRBZ3phQUFNQW9HQ0NxR1NNNDlCQU1DQTBjQU1FUUNJRWF4QTdoMnFNUkkKbXhzeTRHWVo5ZnBoOUxmdnB6dXV4dDhCQ3VSa2h3S0JBaUE0SDVic1NxRlZSZ0svR2VyY0pqQnFoN0hmK1ZaTQo0eVFtR3pUOVA4Z1U4QT09Ci0tLS0tRU5EIENFUlRJRklDQVRFIFJFUVVFU1QtLS0tLQo=",
            "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]}}"#,
        )
}

served!(CertificateSigningRequest, "certificates.k8s.io", "v1", "certificatesigningrequests", false);

impl Rules for CertificateSigningRequest {}

fn duration_cell(object: &Value, _now: i64) -> Value {
    match object.at(&["spec", "expirationSeconds"]).and_then(Value::as_i64) {
        Some(seconds) => duration(seconds).into(),
        None => "<none>".into(),
    }
}

fn condition_cell(object: &Value, _now: i64) -> Value {
    let has = |wanted: &str| items(object, &["status", "conditions"]).iter().any(|c| str_of(c, &["type"]) == wanted);
    let mut text = match () {
        _ if has("Denied") => "Denied".to_string(),
        _ if has("Approved") => "Approved".to_string(),
        _ => "Pending".to_string(),
    };
    if has("Failed") {
        text.push_str(",Failed");
    }
    if !str_of(object, &["status", "certificate"]).is_empty() {
        text.push_str(",Issued");
    }
    text.into()
}
