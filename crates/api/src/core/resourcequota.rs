//! ResourceQuota: limits what a namespace may use in sum.

use std::collections::BTreeMap;

use apimachinery::meta::ObjectMeta;
use apimachinery::{Api, Kind, Quantity, Rules, Value};

use crate::served::served;

/// ResourceQuota: limits what a namespace may use in sum.
#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ResourceQuota")]
pub struct ResourceQuota {
    #[api(1, omitempty)]
    pub metadata: ObjectMeta,
    #[api(2, omitempty)]
    pub spec: ResourceQuotaSpec,
    #[api(3, omitempty)]
    pub status: ResourceQuotaStatus,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ResourceQuotaSpec")]
pub struct ResourceQuotaSpec {
    #[api(1, omitempty)]
    pub hard: BTreeMap<String, Quantity>,
    #[api(2, omitempty, list = "atomic")]
    pub scopes: Vec<String>,
    #[api(3, omitempty)]
    pub scope_selector: Option<ScopeSelector>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ScopeSelector", atomic)]
pub struct ScopeSelector {
    #[api(1, omitempty, list = "atomic")]
    pub match_expressions: Vec<ScopedResourceSelectorRequirement>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ScopedResourceSelectorRequirement")]
pub struct ScopedResourceSelectorRequirement {
    #[api(
        1,
        required,
        enumeration(
            "BestEffort",
            "CrossNamespacePodAffinity",
            "NotBestEffort",
            "NotTerminating",
            "PriorityClass",
            "Terminating",
            "VolumeAttributesClass"
        )
    )]
    pub scope_name: String,
    #[api(2, required, enumeration("DoesNotExist", "Exists", "In", "NotIn"))]
    pub operator: String,
    #[api(3, omitempty, list = "atomic")]
    pub values: Vec<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.core.v1.ResourceQuotaStatus")]
pub struct ResourceQuotaStatus {
    #[api(1, omitempty)]
    pub hard: BTreeMap<String, Quantity>,
    #[api(2, omitempty)]
    pub used: BTreeMap<String, Quantity>,
}

pub fn kind() -> Kind {
    Kind::namespaced::<ResourceQuota>("", "v1", "resourcequotas")
        .short(&["quota"])
        .status()
        .code_column("Request", "string", |o, _| usage(o, false))
        .code_column("Limit", "string", |o, _| usage(o, true))
        .age()
        .example(r#"{"metadata":{"name":"team"},"spec":{"hard":{"pods":"10","requests.cpu":"4"}}}"#)
}

served!(ResourceQuota, "", "v1", "resourcequotas", true);

impl Rules for ResourceQuota {}

fn usage(object: &Value, limits: bool) -> Value {
    let Some(hard) = object.at(&["status", "hard"]).and_then(Value::as_map) else { return "".into() };
    let used = object.at(&["status", "used"]);
    let parts: Vec<String> = hard
        .iter()
        .filter(|(name, _)| name.starts_with("limits.") == limits)
        .map(|(name, hard)| {
            let used = used.and_then(|u| u.str_at(&[name])).unwrap_or("0");
            format!("{name}: {used}/{}", hard.as_str().unwrap_or("0"))
        })
        .collect();
    parts.join(", ").into()
}
