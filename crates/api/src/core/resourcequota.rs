//! ResourceQuota: limits what a namespace may use in sum.

use std::collections::BTreeMap;

use crate::checks::{immutable, name};
use crate::quantities::resource_value;
use apimachinery::meta::ObjectMeta;
use apimachinery::validation::{check, dns_subdomain, qualified_name};
use apimachinery::{Api, Errors, Kind, Path, Quantity, Rules, RulesCx, Value};

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
        .returns_deleted()
        .example(r#"{"metadata":{"name":"team"},"spec":{"hard":{"pods":"10","requests.cpu":"4"}}}"#)
}

served!(ResourceQuota, "", "v1", "resourcequotas", true);

impl Rules for ResourceQuota {
    fn validate(&self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        name(errors, &self.metadata, dns_subdomain);
        let spec = Path::new("spec");
        let hard = spec.child("hard");
        for (resource, quantity) in &self.spec.hard {
            let path = hard.key(resource);
            check(errors, &path, resource, qualified_name);
            if !resource.contains('/') && !is_quota_resource(resource) {
                errors.invalid(&path, resource.as_str(), "must be a standard resource for quota");
            }
            resource_value(errors, &path, resource, quantity);
        }
        let scopes = spec.child("scopes");
        for scope in self.spec.scopes.iter().filter(|scope| !SCOPES.contains(&scope.as_str())) {
            errors.invalid(&scopes, scope.as_str(), "unsupported scope");
        }
        for (one, other) in [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")] {
            let has = |wanted: &str| self.spec.scopes.iter().any(|scope| scope == wanted);
            if has(one) && has(other) {
                let shown: Vec<Value> = self.spec.scopes.iter().map(|s| s.as_str().into()).collect();
                errors.invalid(&scopes, shown, "conflicting scopes");
            }
        }
        let selector = spec.child("scopeSelector");
        let list = selector.child("matchExpressions");
        let expressions = self.spec.scope_selector.iter().flat_map(|s| &s.match_expressions);
        for (i, expression) in expressions.enumerate() {
            let path = list.index(i);
            if !SCOPES.contains(&expression.scope_name.as_str()) {
                errors.invalid(&path.child("scopeName"), expression.scope_name.as_str(), "unsupported scope");
            }
            let values = path.child("values");
            match expression.operator.as_str() {
                "In" | "NotIn" if expression.values.is_empty() => {
                    errors.required(
                        &values,
                        "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
                    );
                }
                "Exists" | "DoesNotExist" if !expression.values.is_empty() => {
                    errors.invalid(
                        &values,
                        Value::List(expression.values.iter().map(|v| v.as_str().into()).collect()),
                        "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
                    );
                }
                "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
                other => errors.invalid(&path.child("operator"), other, "not a valid selector operator"),
            }
        }
    }

    fn validate_update(&self, old: &Self, _cx: &RulesCx<'_>, errors: &mut Errors) {
        let spec = Path::new("spec");
        immutable(errors, &spec.child("scopes"), &self.spec.scopes, &old.spec.scopes);
    }
}

const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// Whether a name without a slash is one that quota can count.
fn is_quota_resource(resource: &str) -> bool {
    const COMPUTE: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "storage"];
    const COUNTED: [&str; 11] = [
        "limits.cpu",
        "limits.memory",
        "limits.ephemeral-storage",
        "pods",
        "resourcequotas",
        "services",
        "replicationcontrollers",
        "secrets",
        "configmaps",
        "persistentvolumeclaims",
        "services.nodeports",
    ];
    let plain = resource.strip_prefix("requests.").unwrap_or(resource);
    COMPUTE.contains(&plain)
        || COUNTED.contains(&resource)
        || resource == "services.loadbalancers"
        || plain.starts_with("hugepages-")
        || resource.starts_with("count/")
}

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
