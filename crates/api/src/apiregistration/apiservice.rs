//! APIService: registers a server for a group and version.

use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{check, dns_subdomain, dns1035_label, port_number};
use apimachinery::{Api, Bytes, Errors, Kind, Path, Rules, RulesCx, Time, Value};

use crate::cells::{items, str_of};
use crate::served::served;

/// APIService: registers a server for a group and version.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIService")]
pub struct APIService {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: APIServiceSpec,
    #[api(3, omitempty)]
    pub status: APIServiceStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.ServiceReference")]
pub struct ServiceReference {
    #[api(1, omitempty)]
    pub namespace: String,
    #[api(2, omitempty)]
    pub name: String,
    #[api(3, omitempty)]
    pub port: Option<i32>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIServiceSpec")]
pub struct APIServiceSpec {
    #[api(1, omitempty)]
    pub service: Option<ServiceReference>,
    #[api(2, omitempty)]
    pub group: String,
    #[api(3, omitempty)]
    pub version: String,
    #[api(4, json = "insecureSkipTLSVerify", omitempty)]
    pub insecure_skip_tls_verify: bool,
    #[api(5, omitempty, list = "atomic")]
    pub ca_bundle: Bytes,
    #[api(7, required)]
    pub group_priority_minimum: i32,
    #[api(8, required)]
    pub version_priority: i32,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIServiceCondition")]
pub struct APIServiceCondition {
    #[api(1, required)]
    pub type_: String,
    #[api(2, required)]
    pub status: String,
    #[api(3, omitempty)]
    pub last_transition_time: Time,
    #[api(4, omitempty)]
    pub reason: String,
    #[api(5, omitempty)]
    pub message: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.APIServiceStatus")]
pub struct APIServiceStatus {
    #[api(1, omitempty, list = "map", keys("type"), patch = "merge", merge_key = "type")]
    pub conditions: Vec<APIServiceCondition>,
}

pub fn kind() -> Kind {
    Kind::cluster::<APIService>("apiregistration.k8s.io", "v1", "apiservices")
        .category(&["api-extensions"])
        .stored_under("apiregistration.k8s.io/apiservices")
        .status()
        .code_column("Service", "string", service_cell)
        .code_column("Available", "string", available_cell)
        .age()
        .conditional_update()
        .example(
            r#"{"metadata": {"name": "v1.metrics.example.com"}, "spec": {"group": "metrics.example.com",
            "version": "v1", "service": {"namespace": "default", "name": "metrics"},
            "insecureSkipTLSVerify": true, "groupPriorityMinimum": 100, "versionPriority": 100}}"#,
        )
}

served!(APIService, "apiregistration.k8s.io", "v1", "apiservices", false);

impl Rules for APIService {
    fn set_defaults(&mut self) {
        if let Some(service) = &mut self.spec.service {
            service.port.get_or_insert(443);
        }
    }

    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let (metadata, path) = (Path::new("metadata"), Path::new("spec"));
        let spec = &self.spec;
        let required = format!("{}.{}", spec.version, spec.group);
        if self.metadata.name.is_empty() {
            errors.required(&metadata.child("name"), "name or generateName is required");
        } else if self.metadata.name != required {
            let message = format!("must be `spec.version+\".\"+spec.group`: {required:?}");
            errors.invalid(&metadata.child("name"), self.metadata.name.as_str(), message);
        }
        if spec.group.is_empty() {
            if spec.version != "v1" {
                let message = "only v1 may have an empty group and it better be legacy kube";
                errors.required(&path.child("group"), message);
            }
        } else {
            check(errors, &path.child("group"), &spec.group, dns_subdomain);
        }
        check(errors, &path.child("version"), &spec.version, dns1035_label);
        if !(1..=20_000).contains(&spec.group_priority_minimum) {
            let message = "must be positive and less than 20000";
            errors.invalid(&path.child("groupPriorityMinimum"), spec.group_priority_minimum, message);
        }
        if !(1..=1000).contains(&spec.version_priority) {
            let message = "must be positive and less than 1000";
            errors.invalid(&path.child("versionPriority"), spec.version_priority, message);
        }
        let insecure = path.child("insecureSkipTLSVerify");
        let bundle = spec.ca_bundle.0.len();
        let Some(service) = &spec.service else {
            if bundle != 0 {
                let message = "local APIServices may not have a caBundle";
                errors.invalid(&path.child("caBundle"), format!("{bundle} bytes"), message);
            }
            if spec.insecure_skip_tls_verify {
                errors.invalid(&insecure, true, "local APIServices may not have insecureSkipTLSVerify");
            }
            return;
        };
        let field = path.child("service");
        for (part, value) in [("namespace", &service.namespace), ("name", &service.name)] {
            if value.is_empty() {
                errors.required(&field.child(part), "");
            }
        }
        if let Some(fault) = port_number(i64::from(service.port.unwrap_or(443))) {
            let port = service.port.unwrap_or(443);
            errors.invalid(&field.child("port"), port, format!("port is not valid: {fault}"));
        }
        if spec.insecure_skip_tls_verify && bundle != 0 {
            errors.invalid(&insecure, true, "may not be true if caBundle is present");
        }
    }

    fn validate_status_update(&self, _old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let status = Path::new("status");
        let conditions = status.child("conditions");
        for (i, condition) in self.status.conditions.iter().enumerate() {
            let words = ["False", "True", "Unknown"];
            if !words.contains(&condition.status.as_str()) {
                errors.not_supported(&conditions.index(i).child("status"), condition.status.as_str(), &words);
            }
        }
    }
}

fn service_cell(object: &Value, _now: i64) -> Value {
    match object.at(&["spec", "service"]) {
        Some(service) => format!("{}/{}", str_of(service, &["namespace"]), str_of(service, &["name"])).into(),
        None => "Local".into(),
    }
}

fn available_cell(object: &Value, _now: i64) -> Value {
    let conditions = items(object, &["status", "conditions"]);
    let Some(condition) = conditions.iter().find(|c| str_of(c, &["type"]) == "Available") else {
        return "Unknown".into();
    };
    match (str_of(condition, &["status"]), str_of(condition, &["reason"])) {
        (status, "") | (status @ "True", _) => status.into(),
        (status, reason) => format!("{status} ({reason})").into(),
    }
}
