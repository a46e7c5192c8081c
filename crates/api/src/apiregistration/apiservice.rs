//! APIService: registers a server for a group and version.

use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Bytes, Kind, Rules, Time, Value};

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
