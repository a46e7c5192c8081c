//! Rules that say which requests a webhook or policy sees.

use apimachinery::meta::LabelSelector;
use apimachinery::{Api, Value};

use crate::cells::{selector_text, str_of};

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.Rule")]
pub struct Rule {
    #[api(1, omitempty, list = "atomic")]
    pub api_groups: Vec<String>,
    #[api(2, omitempty, list = "atomic")]
    pub api_versions: Vec<String>,
    #[api(3, omitempty, list = "atomic")]
    pub resources: Vec<String>,
    #[api(4, omitempty, enumeration("*", "Cluster", "Namespaced"))]
    pub scope: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.ParamKind", atomic)]
pub struct ParamKind {
    #[api(1, omitempty)]
    pub api_version: String,
    #[api(2, omitempty)]
    pub kind: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.Variable", atomic)]
pub struct Variable {
    #[api(1, required)]
    pub name: String,
    #[api(2, required)]
    pub expression: String,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.ParamRef", atomic)]
pub struct ParamRef {
    #[api(1, omitempty)]
    pub name: String,
    #[api(2, omitempty)]
    pub namespace: String,
    #[api(3, omitempty)]
    pub selector: Option<LabelSelector>,
    #[api(4, omitempty)]
    pub parameter_not_found_action: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.MatchResources", atomic)]
pub struct MatchResources {
    #[api(1, omitempty)]
    pub namespace_selector: Option<LabelSelector>,
    #[api(2, omitempty)]
    pub object_selector: Option<LabelSelector>,
    #[api(3, omitempty, list = "atomic")]
    pub resource_rules: Vec<NamedRuleWithOperations>,
    #[api(4, omitempty, list = "atomic")]
    pub exclude_resource_rules: Vec<NamedRuleWithOperations>,
    #[api(7, omitempty, enumeration("Equivalent", "Exact"))]
    pub match_policy: Option<String>,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.NamedRuleWithOperations", atomic)]
pub struct NamedRuleWithOperations {
    #[api(1, omitempty, list = "atomic")]
    pub resource_names: Vec<String>,
    #[api(2, inline)]
    pub rule_with_operations: RuleWithOperations,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.RuleWithOperations")]
pub struct RuleWithOperations {
    #[api(1, omitempty, list = "atomic")]
    pub operations: Vec<String>,
    #[api(2, inline)]
    pub rule: Rule,
}

#[derive(Api, Clone, Debug, Default, PartialEq)]
#[api(name = "io.k8s.api.admissionregistration.v1.MatchCondition")]
pub struct MatchCondition {
    #[api(1, required)]
    pub name: String,
    #[api(2, required)]
    pub expression: String,
}

impl Rule {
    pub(crate) fn set_defaults(&mut self) {
        self.scope.get_or_insert_with(|| "*".into());
    }
}

impl MatchResources {
    pub(crate) fn set_defaults(&mut self) {
        self.match_policy.get_or_insert_with(|| "Equivalent".into());
        self.namespace_selector.get_or_insert_default();
        self.object_selector.get_or_insert_default();
        for rule in self.resource_rules.iter_mut().chain(&mut self.exclude_resource_rules) {
            rule.rule_with_operations.rule.set_defaults();
        }
    }
}

/// The parameter kind of a policy as a cell.
pub(crate) fn param_kind(object: &Value) -> Value {
    match object.at(&["spec", "paramKind"]) {
        Some(kind) => format!("{}/{}", str_of(kind, &["apiVersion"]), str_of(kind, &["kind"])).into(),
        None => "<unset>".into(),
    }
}

/// The parameters of a binding as a cell.
pub(crate) fn param_ref(object: &Value) -> Value {
    let Some(param) = object.at(&["spec", "paramRef"]) else { return "<unset>".into() };
    match (str_of(param, &["namespace"]), str_of(param, &["name"]), param.get("selector")) {
        ("", "", Some(selector)) => selector_text(selector).into(),
        (_, "", _) => "<unset>".into(),
        ("", name, _) => format!("*/{name}").into(),
        (namespace, name, _) => format!("{namespace}/{name}").into(),
    }
}
