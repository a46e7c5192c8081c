//! CertificateSigningRequest: asks a signer for a certificate.

use std::collections::BTreeMap;

use crate::checks::name;
use apimachinery::kind::{Action, Verbs};
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{dns_subdomain, path_segment};
use apimachinery::{Api, Bytes, Errors, Kind, Path, Rules, RulesCx, Time, Value};

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
            Action::Fields(&["status.conditions", "metadata.annotations", "metadata.labels"]),
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

impl Rules for CertificateSigningRequest {
    fn prepare_create(&mut self, cx: &RulesCx<'_>) {
        // Who asks is what the server knows, not what the client says.
        let spec = &mut self.spec;
        spec.username = cx.user.into();
        spec.uid = cx.user_uid.into();
        spec.groups = cx.user_groups.iter().map(|group| group.to_string()).collect();
        let values = |values: &[apimachinery::SmolStr]| values.iter().map(|v| v.to_string()).collect();
        spec.extra = cx.user_extra.iter().map(|(key, list)| (key.to_string(), values(list))).collect();
        self.status = CertificateSigningRequestStatus::default();
    }

    fn prepare_update(&mut self, old: &Self, cx: &RulesCx<'_>) {
        self.spec.clone_from(&old.spec);
        match cx.subresource {
            "status" => self.keep_decision(old),
            "approval" => self.status.certificate.clone_from(&old.status.certificate),
            _ => self.status.clone_from(&old.status),
        }
        if !cx.subresource.is_empty() {
            self.stamp_conditions(old, cx.now.0);
        }
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, path_segment);
        let path = Path::new("spec");
        let spec = &self.spec;
        let pem = std::str::from_utf8(&spec.request.0).unwrap_or("");
        if !pem.trim_start().starts_with("-----BEGIN CERTIFICATE REQUEST-----") {
            let message = "PEM block type must be CERTIFICATE REQUEST";
            let shown = match spec.request.0.len() {
                0 => Value::Null,
                _ => apimachinery::Api::to_value(&spec.request),
            };
            errors.invalid(&path.child("request"), shown, message);
        }
        let usages = path.child("usages");
        if spec.usages.is_empty() {
            errors.required(&usages, "");
        }
        for (i, usage) in spec.usages.iter().enumerate() {
            if !USAGES.contains(&usage.as_str()) {
                errors.not_supported(&usages.index(i), usage.as_str(), &USAGES);
            }
            if spec.usages[..i].contains(usage) {
                errors.duplicate(&usages.index(i), usage.as_str());
            }
        }
        signer_name(errors, &path.child("signerName"), &spec.signer_name);
        if let Some(seconds) = spec.expiration_seconds.filter(|seconds| *seconds < 600) {
            let message = "may not specify a duration less than 600 seconds (10 minutes)";
            errors.invalid(&path.child("expirationSeconds"), seconds, message);
        }
        self.condition_rules(errors);
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        self.kept_conditions(old, errors);
    }

    fn validate_status_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        self.condition_rules(errors);
        self.kept_conditions(old, errors);
        let status = Path::new("status");
        let conditions = status.child("conditions");
        for type_ in ["Approved", "Denied"] {
            if self.condition(type_).is_some() && old.condition(type_).is_none() {
                errors.forbidden(&conditions, format!("updates may not add a condition of type {type_:?}"));
            }
        }
        if !old.status.certificate.0.is_empty() && self.status.certificate != old.status.certificate {
            let message = "updates may not modify existing certificate content";
            errors.forbidden(&status.child("certificate"), message);
        }
    }
}

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

impl CertificateSigningRequest {
    fn condition(&self, type_: &str) -> Option<&CertificateSigningRequestCondition> {
        self.status.conditions.iter().find(|c| c.type_ == type_)
    }

    /// A write of the status leaves the decision as it was.
    fn keep_decision(&mut self, old: &Self) {
        for condition in &mut self.status.conditions {
            if matches!(condition.type_.as_str(), "Approved" | "Denied")
                && let Some(before) = old.condition(&condition.type_)
            {
                condition.clone_from(before);
            }
        }
    }

    fn stamp_conditions(&mut self, old: &Self, now: i64) {
        let now = Time(now);
        for condition in &mut self.status.conditions {
            if condition.last_update_time == Time::default() {
                condition.last_update_time = now;
            }
            if condition.last_transition_time == Time::default() {
                let same = old.condition(&condition.type_).filter(|before| before.status == condition.status);
                let before = same.map(|before| before.last_transition_time).filter(|time| *time != Time::default());
                condition.last_transition_time = before.unwrap_or(now);
            }
        }
    }

    fn condition_rules(&self, errors: &mut Errors) {
        let status = Path::new("status");
        let conditions = status.child("conditions");
        for (i, condition) in self.status.conditions.iter().enumerate() {
            let path = conditions.index(i);
            let field = path.child("status");
            match (condition.type_.as_str(), condition.status.as_str()) {
                ("", _) => errors.required(&path.child("type"), ""),
                (_, "") => errors.required(&field, ""),
                ("Approved" | "Denied" | "Failed", other) if other != "True" => {
                    errors.not_supported(&field, other, &["True"]);
                }
                (_, "True" | "False" | "Unknown") => {}
                (_, other) => errors.not_supported(&field, other, &["False", "True", "Unknown"]),
            }
            if self.status.conditions[..i].iter().any(|other| other.type_ == condition.type_) {
                errors.duplicate(&path.child("type"), condition.type_.as_str());
            }
        }
        if self.condition("Approved").is_some() && self.condition("Denied").is_some() {
            let message = "Approved and Denied conditions are mutually exclusive";
            errors.invalid(&conditions, "Denied", message);
        }
    }

    fn kept_conditions(&self, old: &Self, errors: &mut Errors) {
        let status = Path::new("status");
        for type_ in ["Approved", "Denied", "Failed"] {
            if old.condition(type_).is_some() && self.condition(type_).is_none() {
                let message = format!("updates may not remove a condition of type {type_:?}");
                errors.forbidden(&status.child("conditions"), message);
            }
        }
    }
}

/// The name of a signer: a domain of two parts or more, a slash, a path of names.
pub(crate) fn signer_name(errors: &mut Errors, path: &Path<'_>, name: &str) {
    let Some((domain, signer)) = name.split_once('/') else {
        if name.is_empty() {
            errors.required(path, "");
        } else {
            let message = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
            errors.invalid(path, name, message);
        }
        return;
    };
    let faults = dns_subdomain(domain);
    if !faults.is_empty() {
        for fault in faults {
            errors.invalid(path, name, format!("validating label {domain:?}: {fault}"));
        }
    } else if !domain.contains('.') {
        errors.invalid(path, name, "should be a domain with at least two segments separated by dots");
    }
    for part in signer.split('.') {
        for fault in dns_subdomain(part) {
            errors.invalid(path, name, format!("validating label {part:?}: {fault}"));
        }
    }
    if name.len() > 571 {
        errors.too_long(path, 571);
    }
}

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

#[cfg(test)]
mod tests {
    use crate::tests::refuses;

    #[test]
    fn usages_and_signers_have_names() {
        refuses(
            &super::kind(),
            &[("spec.usages", "[\"magic\"]"), ("spec.usages", "[]")],
            &["spec.usages: Required value"],
        );
        refuses(
            &super::kind(),
            &[("spec.signerName", "\"plain\"")],
            &[
                "spec.signerName: Invalid value: \"plain\": must be a fully qualified domain and path of the form 'example.com/signer-name'",
            ],
        );
    }
}
